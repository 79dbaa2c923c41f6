"""Files from outside: one case of each kind of failure that fuzzing found."""

from __future__ import annotations

import gzip
import io
import json
import resource
import struct
import zipfile
from pathlib import Path
from typing import Any

import h5py
import nir
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fuzz_npz
import fuzz_seeds
import nir_dynapse as nd
from nir_dynapse.chip import profile_files
from nir_dynapse.chip.profile import ChipProfile
from nir_dynapse.data import data as events_module
from nir_dynapse.data.data import Data, Events
from nir_dynapse.errors import ConfigurationError, Finding
from nir_dynapse.evaluation import evaluate as evaluation
from nir_dynapse.export.samna_text import write_config_json
from nir_dynapse.files import bounds as outside
from nir_dynapse.files.bounds import UnreadableError, parse_json, read_arrays
from nir_dynapse.import_ import nir_file
from nir_dynapse.import_.samna_config import from_samna
from nir_dynapse.layout import checks as layout_checks
from nir_dynapse.layout.layout import Layout
from nir_dynapse.reporting import training_log
from nir_dynapse.reporting.training_log import TrainingLog
from random_layouts import random_layout

quick = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


# --- arrays that lie ----------------------------------------------------------------------------------------------------


def npz(path: Path, method: int = zipfile.ZIP_DEFLATED, /, **members: Any) -> Path:
    """An .npz of arrays, or of bytes as they are."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, value in members.items():
            buffer = io.BytesIO()
            if not isinstance(value, bytes):
                np.lib.format.write_array(buffer, value, allow_pickle=True)
            archive.writestr(f"{name}.npy", value if isinstance(value, bytes) else buffer.getvalue())
    return path


def header(shape: str, descr: str = "'<f8'", data: bytes = b"") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


LIES: dict[str, tuple[bytes | np.ndarray, str]] = {
    "announced": (header("(1099511627776,)"), "of shape (1099511627776,)"),
    "little more": (header("(1000000,)"), "8000000 bytes, but has 0"),
    "short": (header("(3,)", data=bytes(16)), "24 bytes, but has 16"),
    "long": (header("(3,)", data=bytes(32)), "24 bytes, but has 32"),
    "objects": (np.array([{}], object), "a pickle; it is not loaded"),
    "objects inside": (np.zeros(1, [("a", "O")]), "a pickle; it is not loaded"),
    "negative": (header("(-1,)"), "of shape (-1,)"),
    "empty": (header("(0, 4611686018427387904)"), "of shape (0, 4611686018427387904)"),
    "empty text": (header("(0,)", "'<U268435456'"), "of shape (0,)"),
    "nothing": (header("(4611686018427387904,)", "'<U0'"), "numbers and text are read"),
    "dates": (np.zeros(1, "M8[s]"), "numbers and text are read"),
    "no Python": (header("(((((("), ""),
    "parser": (header("(" + "-" * 9000 + "1,)"), ""),
    "digits": (header("(" + "9" * 5000 + ",)"), ""),
    "version": (b"\x93NUMPY\x07\x00" + bytes(100), ""),
    "text": (np.array([0xD800, 1], "<u4").view("<U2"), "characters that do not exist"),
    "no text": (header("(1,)", "'<U1'", b"\xff\xff\xff\xff"), "characters that do not exist"),
    "bytes": (b"hello", ""),
}


@pytest.fixture
def little_memory() -> Any:
    """256 MiB more of address space than there is now."""
    size = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmSize"))
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, ((int(size.split()[1]) << 10) + (256 << 20), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.usefixtures("little_memory")
def test_lying_headers_are_refused_before_anything_is_allocated(tmp_path: Path, lie: str) -> None:
    content, words = LIES[lie]
    path = npz(tmp_path / "lie.npz", x=content, dt=np.array(1e-3))
    with pytest.raises(UnreadableError) as wrong:
        read_arrays(path)
    assert words in str(wrong.value)
    with pytest.raises(ConfigurationError) as caught:
        Data.load(path, labels=False)
    assert str(caught.value).startswith(f"{path}: cannot be read (")


@pytest.mark.usefixtures("little_memory")
def test_bombs_are_refused_before_they_are_unpacked(tmp_path: Path) -> None:
    """A file of 1.2 MB that says, truly, that it holds 1.2 GB."""
    raw, check, total = fuzz_npz._deflated(header("(1258291200,)", "'|u1'"), 1200)
    path = tmp_path / "bomb.npz"
    path.write_bytes(fuzz_npz._appended(b"", "x.npy", raw, check, total))
    with pytest.raises(ConfigurationError, match=r"bytes unpacked from .* times smaller"):
        Data.load(path)


def test_what_is_not_compressed_may_be_larger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outside, "FREE_BYTES", 1000)
    x = np.zeros((1, 1000, 1000), np.uint8)
    Data(x, np.zeros(1, int), 1e-3).save(tmp_path / "packed.npz")
    with pytest.raises(ConfigurationError, match=r"numpy\.savez"):
        Data.load(tmp_path / "packed.npz")
    np.savez(tmp_path / "stored.npz", x=x, y=np.zeros(1, int), dt=1e-3)
    assert Data.load(tmp_path / "stored.npz").x.shape == x.shape


def test_a_directory_that_lies_about_itself(tmp_path: Path) -> None:
    """zipfile would make a buffer of 4 GB for it."""
    path = npz(tmp_path / "x.npz", x=np.zeros(3))
    content = bytearray(path.read_bytes())
    end = content.rfind(b"PK\x05\x06")
    content[end + 12 : end + 16] = b"\xf0\xff\xff\xff"
    path.write_bytes(content)
    with pytest.raises(UnreadableError):
        read_arrays(path)


@pytest.mark.parametrize(
    ("numbers", "log", "words"),
    [
        ([np.inf, 0, 0, 0, 0], [], "step is inf"),
        ([1.5, 0, 0, 0, 0], [], "step is 1.5"),
        ([np.nan, 0, 0, 0, 0], [], "step is nan"),
        ([1.0, 0, 0], [], "numbers are float64 of shape (3,)"),
        (np.zeros(5, complex), [], "numbers are complex128"),
        ([1.0, 0, 0, 0, 0], [[np.nan] * 8], "a table with step nan"),
        ([1.0, 0, 0, 0, 0], [[2.0**60] * 8], "a table with step 1.15"),
    ],
)
def test_checkpoints_with_impossible_numbers(tmp_path: Path, numbers: Any, log: Any, words: str) -> None:
    checkpoint, state = fuzz_seeds.training(tmp_path / "c.npz")
    checkpoint.save(state)
    members = dict(read_arrays(checkpoint.path))
    members |= {"numbers": np.array(numbers), "log": np.array(log, float).reshape(-1, 8)}
    npz(checkpoint.path, zipfile.ZIP_DEFLATED, **members)
    with pytest.raises(ConfigurationError) as caught:
        checkpoint.load(state)
    assert str(caught.value).startswith(f"{checkpoint.path}: a checkpoint that is damaged (")
    assert words in str(caught.value)


def test_an_array_alone_is_no_checkpoint_of_evaluate(tmp_path: Path) -> None:
    np.save(tmp_path / "c.npy", np.zeros(3))
    with pytest.raises(ConfigurationError, match=r"c\.npy: not a checkpoint of evaluate"):
        evaluation._load(tmp_path / "c.npy", fuzz_seeds.DIGESTS, 5, evaluation.COLUMNS)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_methods_of_compression_are_refused(tmp_path: Path, method: int) -> None:
    with pytest.raises(UnreadableError, match="stores or deflates"):
        read_arrays(npz(tmp_path / "x.npz", method, x=np.zeros(3)))


def test_arrays_come_as_they_were(tmp_path: Path) -> None:
    made: dict[str, Any] = {"a": np.arange(6.0).reshape(2, 3).T, "b": np.array("\u2603"), "c": np.array(3, ">i2")}
    made |= {"d": np.zeros((0, 4), bool), "e": np.array([b"xy"]), "f": np.array(["", "ab"], ">U2")}
    path = npz(tmp_path / "x.npz", **made)
    got = read_arrays(path)
    assert list(got) == list(made)
    for name, value in made.items():
        assert got[name].dtype == value.dtype
        assert got[name].shape == value.shape
        assert got[name].tobytes() == value.tobytes()
    assert list(read_arrays(path, {"b", "z"})) == ["b"]


def test_too_many_arrays_and_names_twice(tmp_path: Path) -> None:
    with pytest.raises(UnreadableError, match="5000 arrays, at most 4096"):
        read_arrays(npz(tmp_path / "x.npz", zipfile.ZIP_STORED, **dict.fromkeys((f"m{k}" for k in range(5000)), b"")))
    with zipfile.ZipFile(tmp_path / "y.npz", "w") as archive:
        archive.writestr("x", b"")
        archive.writestr("x.npy", b"")
    with pytest.raises(UnreadableError, match="'x' stands twice"):
        read_arrays(tmp_path / "y.npz")


def test_events_are_counted_before_they_grow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events_module, "MOST_EVENTS", 5)
    time = np.arange(6, dtype=np.int8)
    Events(time, time * 0, time, ("a",)).save(tmp_path / "e.npz")
    with pytest.raises(ConfigurationError, match=r"e\.npz: 6 events, at most 5 are read\. Split the file"):
        Events.load(tmp_path / "e.npz")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"dt": np.array("x")}, "dt has shape () and type <U1"),
        ({"dt": np.array(np.nan)}, "Data: dt is nan, allowed are numbers from 1e-09 up to 1000 s"),
        ({"x": np.zeros(3)}, "Data: x has shape (3,)"),
        ({"y": np.array([1.5, 2])}, "Data: y has shape (2,)"),
    ],
)
def test_what_is_wrong_with_data_names_the_file(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    sound = {"x": np.zeros((2, 3, 1)), "y": np.zeros(2, int), "dt": np.array(1e-3)}
    path = npz(tmp_path / "d.npz", **{**sound, **change})
    with pytest.raises(ConfigurationError) as caught:
        Data.load(path)
    assert str(caught.value).startswith(f"{path}: {words}")


# --- text -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 65 + "]" * 65, "more than 64 levels: 65"),
        ("[" * 100_000, "more than 64 levels"),
        ('{"a":' * 100_000, "more than 64 levels"),
        ("[" + "[]," * (1 << 22) + "[]]", "more than 4194304 lists"),
        ("[" + "0," * (1 << 23) + "0]", "more than 8388608 values"),
        ("{" + '"":0,' * (1 << 20) + '"":0}', "more than 1048576 members"),
        ("9" * 5000, "4300"),
        ("[", ""),
        ('"\\', ""),
    ],
)
def test_json_is_counted_before_it_is_parsed(text: str, words: str) -> None:
    with pytest.raises(UnreadableError) as wrong:
        parse_json(text)
    assert words in str(wrong.value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@pytest.mark.long
@quick
@given(json_values, st.booleans())
def test_any_json_is_parsed(value: Any, ascii_only: bool) -> None:
    """Brackets and quotes in strings do not count."""
    text = json.dumps(value, ensure_ascii=ascii_only)
    assert parse_json(text) == json.loads(text)
    assert parse_json(json.dumps(["[" * 1000, '"' + "\\" * 7, text])) == ["[" * 1000, '"' + "\\" * 7, text]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"dt_s": float("nan")}, "dt_s is nan, allowed are numbers from 1e-09 up to 1000 s"),
        ({"dt_s": -1}, "dt_s is -1"),
        ({"tonic_period_s": 0}, "tonic_period_s is 0"),
        ({"n_chips": 10**4000}, "n_chips is 1000000"),
        ({"inputs": [["in", [10**12]]]}, "at most 1048576 entries"),
        ({"inputs": [["in", [-1]]]}, "allowed are whole numbers"),
        ({"inputs": [["in", [1 << 20]], ["b", [2]]]}, "1048578 input channels, at most 1048576"),
        ({"outputs": [["x" * 2000, [1], "a"]]}, "allowed is text of at most 1000 characters"),
        ({"findings": [{"severity": "bad", "code": "a", "what": "b"}]}, "severity of a finding is 'bad'"),
        ({"findings": [{"severity": "info", "code": 3, "what": "b"}]}, "code of a finding is '3'"),
        ({"findings": [{"severity": "info", "code": "a", "what": "b", "used": 10**400}]}, "1329 bits"),
        ({"version": [[0] * 5000]}, "Layout version"),
    ],
)
def test_impossible_layouts_are_refused_in_few_words(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    path = tmp_path / "l.json"
    path.write_text(json.dumps({**random_layout(0).to_dict(), **change}))
    with pytest.raises(ConfigurationError) as caught:
        Layout.load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert words in str(caught.value)
    assert len(str(caught.value)) < 600


def test_an_error_that_names_no_node_names_the_file(tmp_path: Path, model: str) -> None:
    path = tmp_path / "m.nir"
    for name, words in (("edges", "a NIRGraph without nodes or edges"), ("type", "it has no group /node with a type")):
        path.write_bytes(Path(model).read_bytes())
        with h5py.File(path, "r+") as h5:
            del h5[f"node/{name}"]
        with pytest.raises(nd.UnsupportedGraphError, match=r"file '.*m\.nir'") as caught:
            nd.from_nir(path)
        assert words in str(caught.value)
    nir.write(path, nir.NIRGraph({}, [], type_check=False))
    with pytest.raises(nd.UnsupportedGraphError, match=r"file '.*m\.nir'.*: .*empty"):
        nd.from_nir(path)


def test_findings_without_words_come_back() -> None:
    found = Finding("info", "", "")
    assert Finding.from_dict(found.to_dict()) == found


def test_a_layout_without_neurons_has_a_report() -> None:
    assert "Rounding" in nd.report(random_layout(5, 1, 0)).text()


def test_configurations_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    write_config_json(random_layout(0), path)
    path.write_text(path.read_text().replace('"tag":0', '"tag":-1', 1))
    with pytest.raises(ConfigurationError) as caught:
        from_samna(path, names=False)
    assert str(caught.value).startswith(f"{path}: chip 0, core 0, neuron 0: the tag of a CAM row is -1")
    path.write_text("[")
    with pytest.raises(ConfigurationError, match=r"c\.json: ") as caught:
        from_samna(path, names=False)
    assert caught.value.__cause__ is not caught.value
    assert str(caught.value).count(str(path)) == 1


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("[" + "[]," * 2000 + "[]]", "more than 1000 entries beside chips"),
        ('{"chips":[{"cores":{"value0":{"neurons":' + "[" + "1.5," * 2000 + "0]", "neuron 0: not shaped like"),
        ('{"chips":[{"cores":{"value0":{"parameters":[{"key":3,"value":1}]', "a bias is named 3"),
    ],
)
def test_impossible_configurations_end_soon(tmp_path: Path, value: str, words: str) -> None:
    path = tmp_path / "c.json"
    path.write_text(f'{{"value0":{value}')
    with pytest.raises(ConfigurationError) as caught:
        from_samna(path, names=False)
    assert words in str(caught.value)


@pytest.mark.usefixtures("little_memory")
def test_long_values_are_refused_before_they_fill_the_memory(tmp_path: Path) -> None:
    path = tmp_path / "c.json.gz"
    path.write_bytes(gzip.compress(b'{"value0":{"x":[' + b'{"":0},' * 5_000_000 + b"0]}}", 1))
    with pytest.raises(ConfigurationError, match=r"c\.json\.gz: the unknown entry .x. has more than 2097152"):
        from_samna(path, names=False)


@pytest.mark.parametrize("mark", ["\n", "\r", "\x0b", "\u2028"])
def test_lines_are_counted_however_they_end(tmp_path: Path, mark: str) -> None:
    log, chip = tmp_path / "log.csv", tmp_path / "chip.csv"
    log.write_text(mark * (training_log.MOST_STEPS + 1), encoding="utf-8", newline="")
    with pytest.raises(ConfigurationError, match=r"log\.csv: .*lines, at most 262144 are read"):
        TrainingLog.load(log)
    chip.write_text("core,neuron,cam,tag" + f"{mark}5,,," * (profile_files.MOST_LINES + 1), "utf-8", newline="")
    with pytest.raises(ConfigurationError, match=r"chip\.csv: more than 524288 lines"):
        ChipProfile.load(chip)


def test_single_failures_of_a_stack_are_counted_together(tmp_path: Path) -> None:
    path = tmp_path / "chip.csv"
    path.write_text("chip,core,neuron,cam,tag\n0,,0-127,0-15,0-99\n1,,0-127,0-15,0-99\n")
    with pytest.raises(ConfigurationError, match=r"line 3: more than 1048576 failures of single tags"):
        nd.load_profiles(path)


def test_files_that_are_too_large(tmp_path: Path) -> None:
    path = tmp_path / "l.json"
    with path.open("wb") as stream:
        stream.truncate((1 << 26) + 1)
    with pytest.raises(ConfigurationError, match=r"l\.json: not a JSON file \(more than 64 MiB\)"):
        Layout.load(path)
    with pytest.raises(ConfigurationError, match=r"l\.json: not a CSV file in UTF-8 \(more than 16 MiB\)"):
        TrainingLog.load(path)


def test_constant_weights_are_counted_before_they_become_connections(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    """640 kB of ones became 2 GB of connections; zeros, and what is stored as it is, may be many."""
    monkeypatch.setattr(nir_file, "MAX_FREE", 1000)
    monkeypatch.setattr(nir_file, "MAX_PACKED", 1)
    path = tmp_path / "m.nir"
    gzipped: dict[str, Any] = {"compression": "gzip"}
    for value, options, refused in ((1.0, gzipped, True), (0.0, gzipped, False), (1.0, {}, False)):
        path.write_bytes(Path(model).read_bytes())
        with h5py.File(path, "r+") as h5:
            del h5["node/nodes/fc1/weight"]
            h5.create_dataset("node/nodes/fc1/weight", data=np.full((4, 30_000), value), **options)
        with pytest.raises(nd.DynapseError) as caught:  # it no longer fits its neighbours, at the least
            nd.from_nir(path)
        text = str(caught.value)
        assert ("120000 weights other than 0 in" in text) == refused
        assert text.startswith(f"file '{path}'") == refused


def test_limits_leave_room_for_the_largest_stack() -> None:
    """Eight chips whose neurons use all CAM and SRAM rows."""
    rows = 8 * 1024 * (64 + 4 + 1)
    assert 2 * rows < outside.MOST_LISTS
    assert 7 * rows + 200_000 < outside.MOST_VALUES
    assert layout_checks.MOST_NEURONS > 8 * 4 * 2048


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n",
            ("a Git LFS pointer", "git lfs pull"),
        ),
        (b"<!doctype html><title>404</title>", ("an HTML page", "Download the file itself")),
    ],
)
def test_what_is_handed_in_for_a_file_of_ours_is_named(tmp_path: Path, content: bytes, words: tuple[str, ...]) -> None:
    loads = {
        "data.npz": nd.Data.load,
        "events.npz": nd.Events.load,
        "tuned.npz": nd.load_params,
        "layout.json": nd.Layout.load,
        "chip.json": nd.load_profiles,
        "log.csv": nd.TrainingLog.load,
    }
    for name, load in loads.items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(nd.DynapseError) as caught:
            load(path)
        assert all(word in str(caught.value) for word in words), (name, str(caught.value))
