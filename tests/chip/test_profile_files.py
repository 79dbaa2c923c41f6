"""Files of chip profiles: JSON as the labs write it, CSV lists of defects, and messages for damaged ones."""

from __future__ import annotations

import contextlib
import gzip
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chip_profiles import changed
from nir_dynapse.chip import profile_files
from nir_dynapse.chip.profile import ChipProfile, load_profiles
from nir_dynapse.errors import ConfigurationError, DynapseError, ParameterRangeError
from shortened import shortened

quick = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
HEADER = "core,neuron,cam,tag\n"
GOOD_CORE = json.dumps(np.zeros((256, 64, 2), int).tolist())


def from_csv(tmp_path: Path, lines: str, header: str = HEADER) -> ChipProfile:
    (tmp_path / "chip.csv").write_text(header + lines, encoding="utf-8")
    return ChipProfile.load(tmp_path / "chip.csv")


def lab_json(**keys) -> dict:
    return {"prob": [[0.0] * 4] * 2, "cams": np.zeros((4, 256, 64, 2)).tolist(), **keys}


def write(path: Path, data) -> Path:
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


# -- CSV --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("2,17,,", {"neurons": [(2, 17)]}),
        ("2,17,*,*", {"neurons": [(2, 17)]}),
        ("2,17,,0-2047", {"neurons": [(2, 17)]}),
        (' "2" , 17 , , ', {"neurons": [(2, 17)]}),
        ("2,,,", {"neurons": [(2,)]}),
        (",17,,", {"neurons": [(slice(None), 17)]}),
        ("2,17-20,,", {"neurons": [(2, slice(17, 21))]}),
        ("2,17,5,", {"rows": [(2, 17, 5)]}),
        ("2,17,5,0-1023", {"rows": [(2, 17, 5, 0)]}),
        ("2,17,5,1024-2047", {"rows": [(2, 17, 5, 1)]}),
        ("2,17,,1024-2047", {"rows": [(2, 17, slice(None), 1)]}),
        ("2,,5,", {"rows": [(2, slice(None), 5)]}),
        (",,5,0 - 1023", {"rows": [(slice(None), slice(None), 5, 0)]}),
        ("2,,,1040", {"tags": [(2, 1040)]}),
        ("2,,,1000-1100", {"tags": [(2, slice(1000, 1101))]}),
        ("*,*,*,1040", {"tags": [(slice(None), 1040)]}),
        ("2,17,5,1040", {"pairs": [(2, 17, 5, 1040)]}),
        ("2,17,,1040", {"pairs": [(2, 17, row, 1040) for row in range(64)]}),
        ("2,,5,1040", {"pairs": [(2, neuron, 5, 1040) for neuron in range(256)]}),
        (",17,5,1040", {"pairs": [(core, 17, 5, 1040) for core in range(4)]}),
        ("2,17,5,1000-1030", {"pairs": [(2, 17, 5, tag) for tag in range(1000, 1031)]}),
        ("2,17,5,0-1025", {"rows": [(2, 17, 5, 0)], "pairs": [(2, 17, 5, 1024), (2, 17, 5, 1025)]}),
    ],
)
def test_csv_lines(tmp_path, line, expected):
    p = from_csv(tmp_path, line)
    assert p == changed(**expected)
    assert p.name == "chip"


def test_csv_columns_comments_and_gzip(tmp_path):
    text = "\ufeff# measured in May\r\n\r\nTag, CAM, neuron,core\r\n# a tag\r\n1040,,,2\r\n,5,17,2\r\n  \r\n"
    (tmp_path / "chip.txt").write_text(text, encoding="utf-8")
    (tmp_path / "chip.csv.gz").write_bytes(gzip.compress(text.encode()))
    expected = changed(tags=[(2, 1040)], rows=[(2, 17, 5)])
    assert ChipProfile.load(tmp_path / "chip.txt") == ChipProfile.load(tmp_path / "chip.csv.gz") == expected
    assert from_csv(tmp_path, "").flawless


def test_csv_of_a_stack(tmp_path):
    path = tmp_path / "stack.csv"
    path.write_text("chip," + HEADER + "2,0,1,,\n0,3,,,1040\n", encoding="utf-8")
    profiles = load_profiles(path)
    assert profiles == (changed(tags=[(3, 1040)]), ChipProfile.perfect(), changed(neurons=[(0, 1)]))
    assert [p.name for p in profiles] == ["stack chip 0", "stack chip 1", "stack chip 2"]
    with pytest.raises(ConfigurationError, match=r"stack.csv: profiles of 3 chips, needed is one. Read the file with"):
        ChipProfile.load(path)
    path.write_text("chip," + HEADER + ",0,1,,\n", encoding="utf-8")
    assert load_profiles(path) == (changed(neurons=[(0, 1)]),) * 8
    path.write_text("chip," + HEADER + "0,0,1,,\n", encoding="utf-8")
    assert ChipProfile.load(path) == changed(neurons=[(0, 1)])


@pytest.mark.parametrize(
    ("header", "lines", "text"),
    [
        (HEADER, ",,,", "line 2: every field is empty, which names the whole chip"),
        (HEADER, "0,1,,\n*,*,*,*", "line 3: every field is empty"),
        ("chip," + HEADER, "3,,,,", "line 2: every field is empty"),
        ("chip," + HEADER, "8,1,,,", "line 2: chip is '8', allowed are 0 to 7"),
        (
            HEADER,
            "4,1,,",
            "line 2: core is '4', allowed are 0 to 3. Write a number, a range as 0-7, or nothing for all.",
        ),
        (HEADER, "0,-1,,", "neuron is '-1', allowed are 0 to 255"),
        (HEADER, "0,1,64,", "cam is '64', allowed are 0 to 63"),
        (HEADER, "0,1,2,2048", "tag is '2048', allowed are 0 to 2047"),
        (HEADER, "0,1,2,20-10", "tag is '20-10'"),
        (HEADER, "0,1,2,٣", "tag is '٣'"),
        (HEADER, "0,1.5,2,3", "neuron is '1.5'"),
        (HEADER, "0,1", "line 2: 2 fields, the header names 4"),
        (HEADER, "0,1,2,3,4", "5 fields, the header names 4"),
        (HEADER, ",3-200,5,0-1022\n,,6,0-1022", "line 3: more than 1048576 failures of single tags"),
        (
            "core,neuron,cam\n",
            "0,1,2",
            "line 1: the header is 'core,neuron,cam', needed are the columns core,neuron,cam,tag",
        ),
        ("core,core,neuron,cam,tag\n", "", "the header is"),
        ("0,1,2,3\n", "", "line 1: the header is '0,1,2,3'"),
        ("", "", "the header is nothing"),
        (HEADER, "\r" * (1 << 20), "more than 524288 lines"),
    ],
)
def test_wrong_csv(tmp_path, header, lines, text):
    with pytest.raises(ConfigurationError) as error:
        from_csv(tmp_path, lines, header)
    assert text in str(error.value)
    assert "chip.csv" in str(error.value)


# -- JSON -------------------------------------------------------------------------------------------------------------


def test_lab_json(tmp_path):
    cams = np.zeros((4, 256, 64, 2))
    cams[2, 17, 5] = 0.1, 0.25
    tags = [[list(range(1024)), list(range(1024, 2048))] for _ in range(4)]
    tags[1][0] = list(range(512, 1024))
    path = write(tmp_path / "green.json", lab_json(cams=cams.tolist(), tags=tags, camera="ignored"))
    p = ChipProfile.load(path)
    assert p == changed(rows=[(2, 17, 5, 1)], tags=[(1, slice(0, 512))])
    assert p.name == "green"
    assert ChipProfile.load(path, max_failure=0.25) == changed(tags=[(1, slice(0, 512))])
    assert ChipProfile.load(path, max_failure=0) == changed(rows=[(2, 17, 5)], tags=[(1, slice(0, 512))])
    more = lab_json(neurons=[[], [3, 4], [], []], pairs=[[2, 17, 5, 1040]])
    expected = changed(neurons=[(1, 3), (1, 4)], pairs=[(2, 17, 5, 1040)])
    assert ChipProfile.load(write(tmp_path / "more.json", more)) == expected
    stack = write(tmp_path / "stack.json", {"chips": [None, more]})
    assert load_profiles(stack) == (ChipProfile.perfect(), expected)
    with pytest.raises(ConfigurationError, match="profiles of 2 chips"):
        ChipProfile.load(stack)


@pytest.mark.parametrize("name", ["p.json", "p.json.gz", "no_suffix"])
def test_files_are_the_identity(tmp_path, name):
    for p in (
        ChipProfile.perfect(),
        changed(neurons=[(3, 255)], tags=[(0, 2047)], pairs=[(1, 2, 3, 4)]),
        ChipProfile.synthetic(1, "red", restrict_tags=True),
    ):
        p.save(tmp_path / name)
        again = ChipProfile.load(tmp_path / name)
        assert again == p
        assert again.name == p.name
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "p.json"
    changed(neurons=[(0, 0)]).save(path)
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(profile_files.os, "replace", full)
    with pytest.raises(ConfigurationError, match=r"p.json: cannot be written \(No space left on device\)"):
        ChipProfile.perfect().save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["p.json"]
    with pytest.raises(ConfigurationError, match="cannot be written"):
        ChipProfile.perfect().save(tmp_path / "missing" / "p.json")


def damaged(change) -> dict:
    data = lab_json()
    change(data)
    return data


def put(place: tuple, value):
    def change(data):
        *path, last = place
        for step in path:
            data = data[step]
        data[last] = value

    return change


@pytest.mark.parametrize(
    ("place", "value", "text"),
    shortened(
        [
            (("cams",), 3, "cams: 3, needed is a list of 4"),
            (("cams",), [[]] * 4, "cams[0]: 0 entries, needed is a list of 256"),
            (("cams", 2, 17), [[0, 0]] * 63, "cams[2][17]: 63 entries, needed is a list of 64"),
            (("cams", 2, 17, 5), "ab", "cams[2][17][5]: 'ab', needed is a list of 2"),
            (("cams", 2, 17, 5, 1), 1.5, "cams[2][17][5][1]: 1.5, allowed are failure frequencies 0 to 1"),
            (("cams", 2, 17, 5, 1), -1, "cams[2][17][5][1]: -1"),
            (("cams", 2, 17, 5, 1), float("nan"), "cams[2][17][5][1]: nan"),
            (("cams", 2, 17, 5, 1), None, "cams[2][17][5][1]: None"),
            (("cams", 2, 17, 5, 1), True, "cams[2][17][5][1]: True"),
            (("cams", 2, 17, 5, 1), 10**400, "cams[2][17][5][1]: 1000"),
            (("cams", 2, 17, 5, 1), [0, 0], "cams[2][17][5][1]: [0, 0]"),
            (("prob",), [[0, 0, 0, 0]], "prob: 1 entries, needed is a list of 2"),
            (("tags",), [[[], []]] * 3, "tags: 3 entries, needed is a list of 4"),
            (("tags",), [[[1024], []]] * 4, "tags[0][0][0]: 1024, allowed are 0 to 1023"),
            (("tags",), [[[], [1024.0]]] * 4, "tags[0][1][0]: 1024.0, allowed are 1024 to 2047"),
            (("tags",), [[[], 7]] * 4, "tags[0][1]: 7, needed is a list of integers"),
            (("neurons",), [[], [256], [], []], "neurons[1][0]: 256, allowed are 0 to 255"),
            (("neurons",), {}, "neurons: {}, needed is a list of 4"),
            (("pairs",), [[0, 0, 0, 0], [0, 0, 64, 0]], "pairs[1]: [0, 0, 64, 0], allowed are 0 to 3, 255, 63, 2047"),
            (("pairs",), [[0, 0, 0]], "pairs[0]: 3 entries, needed is a list of 4"),
            (("pairs",), "all", "pairs: 'all', allowed is a list of up to 1048576"),
            (("chips",), [], "chips: 0 entries, allowed is a list of 1 to 8 profiles"),
            (("chips",), [None] * 9, "chips: 9 entries"),
            (("chips",), 4, "chips: 4, allowed"),
            (("chips",), [None, 4], "chips[1]: 4, needed is an object with the key 'cams'"),
            (("chips",), [None, {"cams": 4}], "chips[1].cams: 4, needed is a list of 4"),
        ],
        8,
    ),
)
def test_wrong_json(tmp_path, place, value, text):
    path = write(tmp_path / "chip.json", damaged(put(place, value)))
    with pytest.raises(ConfigurationError) as error:
        load_profiles(path)
    assert text in str(error.value)
    assert str(error.value).startswith(f"{path}, ")
    assert str(error.value).endswith(profile_files.REMEDY)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "not a JSON file"),
        (b"{", "not a JSON file"),
        (b"{}", "the keys [], needed is an object with the key 'cams'"),
        (b"[1, 2]", "[1, 2], needed is an object with the key 'cams'"),
        (b'{"cam": []}', "the keys ['cam']"),
        (b"[" * 100_000, "not a JSON file"),
        (b'{"cams":' * 100_000, "not a JSON file"),
        (b"[" * (1 << 23), "more than 4194304 lists"),
        (b"9" * 100_000, ""),
        (b"\x80\x81", "not a text file (byte 0 is not UTF-8)"),
        (b" " * ((1 << 26) + 1), "more than 64 MiB"),
        (gzip.compress(b" " * ((1 << 26) + 1), mtime=0), "more than 64 MiB"),
        (gzip.compress(b"{}" * 1000, mtime=0)[:30], "a damaged gzip file"),
        (b"\x1f\x8b" + b"x" * 50, "a damaged gzip file"),
    ],
)
def test_damaged_files(tmp_path, content, text):
    path = tmp_path / "chip.json"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError) as error:
        ChipProfile.load(path)
    assert text in str(error.value)


def test_paths_that_are_no_file(tmp_path):
    for path in (tmp_path / "missing.json", tmp_path, "with\0nul"):
        with pytest.raises(ConfigurationError, match="cannot be read"):
            ChipProfile.load(path)


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), float("inf"), "0.1", None])
def test_wrong_max_failure(tmp_path, value):
    with pytest.raises(ParameterRangeError, match="max_failure is"):
        ChipProfile.load(tmp_path / "p.csv", max_failure=value)


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@pytest.mark.long
@settings(quick, max_examples=30)
@given(
    st.sampled_from(
        ["cams", "tags", "neurons", "pairs", "prob", "name", "chips", "a core", "scales", "factors", "measured"]
    ),
    junk,
)
def test_no_value_is_a_traceback(tmp_path, key, value):
    data = {"cams": ["good core"] * 4, key: value}
    if key == "a core":
        data["cams"][1] = value
    path = tmp_path / "chip.json"
    path.write_text(json.dumps(data).replace('"good core"', GOOD_CORE), encoding="utf-8")
    try:
        profiles = load_profiles(path)
    except DynapseError:
        return
    assert all("\n" not in p.describe() for p in profiles)


@pytest.mark.long
@settings(quick, max_examples=120)
@given(
    st.binary(max_size=60)
    | st.text(alphabet='0123456789,-*#"{}[]\n\r\x0b core', max_size=60).map(lambda s: (HEADER + s).encode())
    | st.text(max_size=60).map(lambda s: (HEADER + s).encode("utf-8", "replace"))
    | st.binary(max_size=40).map(lambda b: gzip.compress(HEADER.encode() + b)),
    st.sampled_from(["p.csv", "p.json", "p"]),
)
def test_no_bytes_are_a_traceback(tmp_path, content, name):
    (tmp_path / name).write_bytes(content)
    try:
        load_profiles(tmp_path / name)
    except DynapseError as error:
        assert str(error).startswith(str(tmp_path))  # noqa: PT017


@pytest.mark.long
@settings(quick, max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_no_damaged_bit_is_a_traceback(tmp_path, seed):
    rng = np.random.default_rng(seed)
    path = tmp_path / ("p.json" if seed % 2 else "p.json.gz")
    p = changed(rows=[(0, 0, 0, 0)], pairs=[(1, 2, 3, 4)])
    replace(p, scales={"i_ref": [0.5, 1, 1, 2]}, factors={"i_w1": np.full((4, 256), 0.9)}, measured={"a": [1.5]}).save(
        path
    )
    content = bytearray(path.read_bytes())
    for place in rng.integers(0, len(content), 3).tolist():
        content[place] = int(rng.integers(256))
    path.write_bytes(content[: int(rng.integers(1, len(content) + 1))] if seed % 3 else content)
    with contextlib.suppress(DynapseError):
        load_profiles(path)
