"""Files of event cameras and structured arrays: every event is there or counted, damaged files say so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import nir_dynapse as nd
from event_recordings import EVENT, FORMATS, aedat4, dat, evt2, evt3, random_events, rows, write_shd
from nir_dynapse.data.data import Data, Events
from nir_dynapse.data.event_files import events_to_data, from_structured, read_data, read_events
from nir_dynapse.network.network import Port
from places import EXAMPLES

NEEDS = {"evt3": "evt3", "aedat4": "aedat"}
ALL = pytest.mark.parametrize("name", FORMATS)


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, np.ndarray], Path]:
    """Writes events in a format; skips where its reader is not installed."""

    def written(name: str, events: np.ndarray) -> Path:
        if name in NEEDS:
            pytest.importorskip(NEEDS[name])
        path = tmp_path / f"recording.{name}"
        path.write_bytes(FORMATS[name](events))
        return path

    return written


def expected(events: np.ndarray, size: tuple[int, int] = (640, 480)) -> np.ndarray:
    """Channels by (polarity, y, x)."""
    return np.ravel_multi_index((events["p"], events["y"], events["x"]), (2, size[1], size[0]))


def same(events: Events, of: np.ndarray, origin: int) -> None:
    """The same events in the same order of time (of those at one time, of channel)."""
    wanted = np.stack([of["t"] - origin, expected(of)])
    got = np.stack([events.time, events.index])
    np.testing.assert_array_equal(got[:, np.lexsort(got[::-1])], wanted[:, np.lexsort(wanted[::-1])])


# -- what is in a file is read ----------------------------------------------------------------------------------------

SMALL = np.array(
    [(1, 0, 0, 0), (1, 5, 0, 1), (2, 639, 479, 1), (63, 3, 4, 0), (64, 3, 4, 1), (4095, 9, 9, 1), (4096, 9, 9, 0)],
    EVENT,
)
CONTENTS = {
    "corners and edges of time": SMALL,
    "random": random_events(5000, 2_000_000),
    "late": random_events(2000, 500_000, start=123_456_789),
    "gaps of 20 s": np.array([(10, 1, 2, 1), (20_000_000, 3, 4, 0), (40_000_000, 5, 6, 1)], EVENT),
    "past 2^24 µs": random_events(3000, 2_000_000, start=2**24 - 1_000_000),
    "past 2^32 µs": random_events(3000, 2_000_000, start=2**32 - 1_000_000),
    "rows": rows(60),
    "one pixel, one time": np.array([(100, 1, 1, 1)] * 3 + [(100, 1, 1, 0)], EVENT),
    "none": np.zeros(0, EVENT),
}


@ALL
@pytest.mark.parametrize("content", CONTENTS)
def test_every_event_is_read(name: str, content: str, write: Callable[[str, np.ndarray], Path]) -> None:
    held = CONTENTS[content]
    events = read_events(write(name, held))
    same(events, held, int(held["t"].min(initial=1 << 62)) if len(held) else 0)
    assert {finding.code for finding in events.findings} <= {"time-origin"}


def test_times_wrap_where_the_format_does(tmp_path: Path) -> None:
    path = tmp_path / "long.raw"
    late = np.array([(2**34 - 70, 1, 2, 1), (2**34 + 5, 3, 4, 0)], EVENT)  # 28 bits and 6 bits
    path.write_bytes(evt2(late))
    assert read_events(path).time.tolist() == [0, 75]


def test_events_out_of_order_keep_their_times(tmp_path: Path) -> None:
    held = np.array([(1000, 1, 2, 1), (1070, 1, 2, 1), (1062, 3, 4, 0), (1200, 1, 1, 1)], EVENT)
    for name in ("dat", "evt2"):
        (tmp_path / name).write_bytes(FORMATS[name](held))
        assert read_events(tmp_path / name).time.tolist() == [0, 62, 70, 200]


def test_older_dat_files_and_headers_without_a_size(tmp_path: Path) -> None:
    path = tmp_path / "td.dat"
    path.write_bytes(dat(SMALL, kind=0))
    same(read_events(path), SMALL, 1)
    head, _, rest = dat(SMALL).partition(b"% Height 480\n% Width 640\n")
    path.write_bytes(head + rest)
    same(read_events(path, crop=(0, 0, 640, 480)), SMALL, 1)
    with pytest.raises(
        nd.ConfigurationError, match=r"size of the sensor is stated neither.*crop=\(0, 0, width, height\)"
    ):
        read_events(path)


def test_events_before_the_first_time_are_counted(tmp_path: Path) -> None:
    pytest.importorskip("evt3")
    words = {
        "evt2": ("<u4", [1 << 28 | 5, 8 << 28 | 9, 1 << 28 | 7]),
        "evt3": ("<u2", [0x2801, 0x3800, 0x5003, 0x8001, 0x6001, 0x2802]),
    }
    for (name, (kind, held)), lost in zip(words.items(), (1, 3), strict=True):
        path = tmp_path / name
        path.write_bytes(FORMATS[name](SMALL[:0]) + np.array(held, kind).tobytes())
        events = read_events(path)
        assert len(events) == 1
        (left,) = [f for f in events.findings if f.code == "events-left-out"]
        assert (left.used, left.limit) == (lost, lost + 1)
        assert f"{lost} before the first time in the file" in left.what


def test_packed_aedat4(tmp_path: Path) -> None:
    """Frames as Zstandard and LZ4 write them, without their packages: blocks that are stored as they are."""
    pytest.importorskip("aedat")
    plain = aedat4(SMALL)
    length = int.from_bytes(plain[14:18], "little")
    head, body = bytearray(plain[: 18 + length]), plain[18 + length + 8 :]
    frames = {
        1: b"\x04\x22\x4d\x18\x40\x40\xc0" + (len(body) | 1 << 31).to_bytes(4, "little") + body + bytes(4),
        3: b"\x28\xb5\x2f\xfd\x20" + bytes([len(body) & 0xFF]) + (len(body) << 3 | 1).to_bytes(3, "little") + body,
    }
    assert len(body) < 256
    for kind, frame in frames.items():
        head[18 + 28 : 18 + 32] = kind.to_bytes(4, "little")
        (tmp_path / "packed.aedat4").write_bytes(bytes(head) + bytes(4) + len(frame).to_bytes(4, "little") + frame)
        same(read_events(tmp_path / "packed.aedat4"), SMALL, 1)


# -- what of it goes to the network -----------------------------------------------------------------------------------


def test_crop_pool_and_polarity(tmp_path: Path) -> None:
    held = random_events(4000, 900_000)
    (tmp_path / "r.dat").write_bytes(dat(held))
    view = {"crop": (100, 50, 320, 160), "pool": 10}
    inside = (held["x"] >= 100) & (held["x"] < 420) & (held["y"] >= 50) & (held["y"] < 210)
    place = (held["y"].astype(int) - 50) // 10 * 32 + (held["x"].astype(int) - 100) // 10
    for polarity, chosen, index, shape in (
        ("both", inside, place + held["p"] * 512, (2, 16, 32)),
        ("merge", inside, place, (1, 16, 32)),
        ("on", inside & (held["p"] == 1), place, (16, 32)),
        ("off", inside & (held["p"] == 0), place, (512,)),
    ):
        events = read_events(tmp_path / "r.dat", polarity=polarity, shape=shape, **view)
        np.testing.assert_array_equal(np.bincount(events.index, minlength=1), np.bincount(index[chosen], minlength=1))
        (left,) = [f for f in events.findings if f.code == "events-left-out"]
        assert (left.used, left.limit) == (4000 - chosen.sum(), 4000)
        assert f"{4000 - inside.sum()} outside of the crop" in left.what
    assert len(read_events(tmp_path / "r.dat", shape=(1, 16, 32), **view)) == inside.sum()  # one channel: merged


def test_time_window(tmp_path: Path) -> None:
    held = random_events(3000, 1_000_000, start=5_000_000)
    (tmp_path / "r.raw").write_bytes(evt2(held))
    events = read_events(tmp_path / "r.raw", start=5.2, duration=0.5)
    kept = (held["t"] >= 5_200_000) & (held["t"] < 5_700_000)
    same(events, held[kept], 5_200_000)
    (left,) = events.findings
    early, late = (held["t"] < 5_200_000).sum(), (held["t"] >= 5_700_000).sum()
    assert left.what.endswith(
        f"{early + late} of 3000 events are left out: {early} before the start, {late} after 0.5 s."
    )


def test_another_shape_than_the_input(tmp_path: Path) -> None:
    (tmp_path / "r.dat").write_bytes(dat(SMALL))
    with pytest.raises(
        nd.ConfigurationError, match=r"shape \(2, 24, 32\), 1536 in all; input node 'in' has the shape \(2, 34, 34\)"
    ):
        read_events(tmp_path / "r.dat", node="in", shape=(2, 34, 34), pool=20)
    with pytest.raises(nd.ConfigurationError, match=r"shape \(2, 24, 32\).*shape \(2, 32, 24\)"):
        read_events(tmp_path / "r.dat", shape=(2, 32, 24), pool=20)  # as many, turned around


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"crop": (0, 0, 10)}, "crop is"),
        ({"crop": (0, 0, 10, 0)}, "crop is"),
        ({"pool": 0}, "pool is 0"),
        ({"polarity": "up"}, "polarity is 'up'"),
        ({"start": float("nan")}, "start is nan"),
        ({"duration": -1.0}, r"duration is -1\.0 s"),
        ({"sample": 3}, "no sample 3"),
    ],
)
def test_options_that_mean_nothing(options: dict, says: str, tmp_path: Path) -> None:
    (tmp_path / "r.dat").write_bytes(dat(SMALL))
    with pytest.raises(nd.ConfigurationError, match=says):
        read_events(tmp_path / "r.dat", **options)


# -- structured arrays ------------------------------------------------------------------------------------------------


def test_structured_arrays() -> None:
    held = random_events(500, 40_000, size=(34, 34))[np.random.default_rng(1).permutation(500)]  # in any order
    events = Events.from_structured(held, shape=(2, 34, 34), node="in")
    assert events.nodes == ("in",)
    assert events.findings == ()
    np.testing.assert_array_equal(np.sort(events.time), np.sort(held["t"]))
    np.testing.assert_array_equal(
        np.bincount(events.index, minlength=2312), np.bincount(expected(held, (34, 34)), minlength=2312)
    )
    signed = np.array([(5, 1, 2, -1), (6, 1, 2, 1)], [("ts", "u8"), ("x", "i4"), ("y", "i4"), ("polarity", "i1")])
    assert from_structured(signed, shape=(2, 3, 3)).index.tolist() == [7, 16]


def test_arrays_of_one_row() -> None:
    """As tonic gives SHD: t, x, p, of which p is always 1."""
    held = np.array([(30, 699, 1), (10, 0, 1), (-5, 3, 1)], [("t", "i8"), ("x", "i8"), ("p", "i1")])
    events = from_structured(held, shape=(700,))
    assert (events.time.tolist(), events.index.tolist()) == ([10, 30], [0, 699])
    assert "1 of 3 events are left out: 1 before the start" in events.findings[0].what
    assert from_structured(held, shape=(70,), pool=10).index.tolist() == [0, 69]
    with pytest.raises(nd.ConfigurationError, match=r"1 of 3 events lie outside of \(600, 1\) pixels"):
        from_structured(held, shape=(600,))
    assert len(from_structured(held, crop=(0, 600), start=-1.0)) == 2
    seconds = np.array([(0.25, 3)], [("t", "f4"), ("x", "i8")])
    assert from_structured(seconds, time_unit="s").time.tolist() == [250_000]


@pytest.mark.parametrize(
    "array",
    [
        np.zeros(3),
        np.zeros(3, [("t", "i8"), ("y", "i8")]),
        np.array([(np.nan, 1)], [("t", "f8"), ("x", "i8")]),
        np.array([(1.0, 0.5)], [("t", "f8"), ("x", "f8")]),
        np.array([(1, "a")], [("t", "i8"), ("x", "U3")]),
        np.array([(1e300, 1)], [("t", "f8"), ("x", "i8")]),
    ],
)
def test_arrays_that_are_none(array: np.ndarray) -> None:
    with pytest.raises(nd.ConfigurationError, match="array"):
        from_structured(array)


# -- bins -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dt", [1e-3, 1e-4, 1 / 300, 5e-3, 1 / 3000])
def test_every_event_is_in_its_bin(dt: float) -> None:
    held = random_events(4000, 300_000, size=(4, 3))
    data = events_to_data(from_structured(held, shape=(2, 3, 4)), [Port("input", (2, 3, 4))], dt)
    wanted = np.zeros(data.x.shape, int)
    np.add.at(wanted[0], ((held["t"] / (dt * 1e6) + 1e-9).astype(int), expected(held, (4, 3))), 1)
    np.testing.assert_array_equal(data.x, wanted)
    assert data.x.sum() == 4000
    assert data.findings == ()


def test_what_bins_leave_out_is_counted() -> None:
    inputs = [Port("a", (2,)), Port("b", (3,))]
    events = Events(np.array([0, 999, 1000, 5000]), np.array([0, 1, 2, 1]), np.array([1, 2, 0, 0]), ("a", "b", "c"))
    data = events_to_data([events, events], inputs, 1e-3, duration=2e-3, y=[1, 0])
    assert data.x.shape == (2, 2, 5)
    assert np.argwhere(data.x[0]).tolist() == [[0, 1], [0, 4]]
    (left,) = data.findings
    assert (left.used, left.limit) == (4, 8)
    assert "2 outside of 0 to 0.002 s, 2 of nodes that are no inputs" in left.what
    with pytest.raises(
        nd.ConfigurationError, match=r"node 'b': 1 events are of channels that it has not, one of 2; it has 2"
    ):
        events_to_data(events, [Port("b", (2,))], 1e-3)
    with pytest.raises(nd.ConfigurationError, match=r"bins of 1e-09 s"):
        events_to_data(events, inputs, 1e-9, duration=10.0)


# -- data sets --------------------------------------------------------------------------------------------------------


@pytest.fixture
def digits() -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)
    return [(np.sort(rng.uniform(0, 0.8, n)), rng.integers(0, 700, n)) for n in (300, 0, 250)]


@pytest.mark.parametrize("options", [{}, {"chunks": (2,)}])
def test_spiking_heidelberg_digits(options: dict, digits: list, tmp_path: Path) -> None:
    write_shd(tmp_path / "shd.h5", digits, [3, 0, 19], **options)
    data = read_data(tmp_path / "shd.h5", [Port("input", (70,))], 1e-2, pool=10)
    assert (data.x.shape, data.y.tolist()) == ((3, 80, 70), [3, 0, 19])
    for x, (times, units) in zip(data.x, digits, strict=True):
        wanted = np.zeros((80, 70), int)
        np.add.at(wanted, ((times.astype(np.float32) / 1e-2).astype(int), units // 10), 1)
        assert np.abs(x - wanted).sum() <= 2  # µs round a time at the edge of a bin
        assert x.sum() == len(times)
    part = read_data(tmp_path / "shd.h5", [Port("input", (70,))], 1e-2, pool=10, samples=slice(2, None), duration=0.4)
    assert (part.x.shape, part.y.tolist()) == ((1, 40, 70), [19])
    assert part.findings[0].used == (digits[2][0].astype(np.float32) >= 0.4).sum()
    assert len(read_events(tmp_path / "shd.h5", sample=2)) == 250


def test_a_file_without_classes(digits: list, tmp_path: Path) -> None:
    write_shd(tmp_path / "shd.h5", digits, None)
    assert not read_data(tmp_path / "shd.h5", [Port("input", (700,))], 1e-2, labels=False).y.any()
    with pytest.raises(nd.ConfigurationError, match="no classes, which an accuracy needs"):
        read_data(tmp_path / "shd.h5", [Port("input", (700,))], 1e-2)
    write_shd(tmp_path / "packed.h5", digits, None, compression="gzip", chunks=(2,))
    with pytest.raises(nd.ConfigurationError, match="h5repack -f NONE"):
        read_events(tmp_path / "packed.h5")


# -- damaged files ----------------------------------------------------------------------------------------------------


@ALL
def test_files_that_end_early(name: str, write: Callable[[str, np.ndarray], Path]) -> None:
    path = write(name, CONTENTS["random"])
    whole = path.read_bytes()
    refused = 0
    for cut in [*range(0, 900, 7), *range(900, len(whole), len(whole) // 40)]:
        path.write_bytes(whole[:cut])
        try:
            found = len(read_events(path, crop=(0, 0, 640, 480)))
        except nd.ConfigurationError as error:
            found = 0
            refused += str(path) in str(error)
        assert found < 5000
    assert refused > 30


def test_other_files(tmp_path: Path) -> None:
    path = tmp_path / "some.raw"
    for content, says in (
        (b"", "cannot be read: it begins with b''"),
        (b"version https://git-lfs.github.com/spec/v1\n", "it is a Git LFS pointer.*git lfs pull"),
        (b"#!AER-DAT3.1\r\n", "which is none of these"),
        (b"% evt 2.1\n% end\n", r"encoded as EVT2\.1"),
        (b"% evt 4.0\n% end\n", "encoded as EVT4"),
        (b"% Version 1\n\x00\x08", "DAT of version 1"),
        (b"% Version 2\n\x0e\x08", "bytes 0e 08"),
        (b"% never ends", "does not end"),
        (dat(SMALL)[:-3], "not whole"),
        (evt2(SMALL) + b"\0", "not whole"),
        (dat(SMALL, size=(100, 100)), "1 events lie outside of the sensor of 100 x 100 pixels"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "cannot be read as a file of events"),
        (aedat4(SMALL)[:200], "header is"),
        (aedat4(SMALL)[:14] + b"\xff" * 4, "its header is 4294967295 bytes long"),
    ):
        path.write_bytes(content)
        with pytest.raises(nd.ConfigurationError, match=says) as caught:
            read_events(path)
        assert str(path) in str(caught.value)
    with pytest.raises(nd.ConfigurationError, match="No such file"):
        read_events(tmp_path / "none.raw")


def test_several_cameras(tmp_path: Path) -> None:
    pytest.importorskip("aedat")
    (tmp_path / "stereo.aedat4").write_bytes(aedat4(SMALL, streams=2))
    with pytest.raises(nd.ConfigurationError, match="2 streams of events, one is read"):
        read_events(tmp_path / "stereo.aedat4")


def test_packets_that_would_become_too_large(tmp_path: Path) -> None:
    pytest.importorskip("aedat")
    head = aedat4(SMALL[:0])
    block = (1 << 17 << 3 | 2).to_bytes(3, "little") + b"\0"  # Zstandard: one byte, 128 KiB times
    frame = b"\x28\xb5\x2f\xfd\x00\x58" + block * 600
    (tmp_path / "bomb.aedat4").write_bytes(head + bytes(4) + len(frame).to_bytes(4, "little") + frame)
    with pytest.raises(nd.ConfigurationError, match="may become 78643200 bytes"):
        read_events(tmp_path / "bomb.aedat4")


def test_a_reader_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package, content in (("evt3", evt3(SMALL)), ("aedat", aedat4(SMALL))):
        monkeypatch.setitem(__import__("sys").modules, package, None)
        (tmp_path / "r").write_bytes(content)
        with pytest.raises(nd.NotInstalledError, match=rf"{package}, which is not installed.*nir-dynapse\[events\]"):
            read_events(tmp_path / "r")


# -- our own ----------------------------------------------------------------------------------------------------------


def test_names_in_node(tmp_path: Path) -> None:
    path = tmp_path / "events.npz"
    np.savez(path, time_us=[3, 1, 2], node=["b", "a", "b"], index=[0, 1, 2], nodes=["a", "b"])
    events = Events.load(path)
    assert ([events.nodes[i] for i in events.node], events.nodes) == (["b", "a", "b"], ("a", "b"))
    np.savez(path, time_us=[3, 1, 2], node=["b", "a", "b"], index=[0, 1, 2])
    events = Events.load(path)
    assert ([events.nodes[i] for i in events.node], events.nodes) == (["b", "a", "b"], ("b", "a"))
    data = read_data(path, [Port("a", (2,)), Port("b", (3,))], 1e-6, labels=False)
    assert np.argwhere(data.x[0]).tolist() == [[1, 1], [2, 4], [3, 2]]
    np.savez(path, time_us=[3], node=["c"], index=[0], nodes=["a", "b"])
    with pytest.raises(nd.ConfigurationError, match="events of node 'c', nodes has 'a', 'b'"):
        Events.load(path)
    np.savez(path, time_us=[3], node=[0], index=[0])
    with pytest.raises(nd.ConfigurationError, match="lacks nodes"):
        Events.load(path)


def test_samples_in_an_npz_are_read_as_ever(tmp_path: Path) -> None:
    Data(np.ones((2, 3, 4), np.uint8), np.array([0, 1]), 1e-3).save(tmp_path / "x.npz")
    assert read_data(tmp_path / "x.npz", [Port("input", (4,))], 1e-3).y.tolist() == [0, 1]
    with pytest.raises(nd.ConfigurationError, match="leave crop, pool, polarity and start out"):
        read_data(tmp_path / "x.npz", [Port("input", (4,))], 1e-3, pool=2)


def test_the_recordings_in_examples_are_what_the_helper_writes() -> None:
    held = random_events(300, 200_000, start=1_000_000, size=(40, 30))
    for name, suffix in (("dat", "dat"), ("evt2", "evt2.raw"), ("evt3", "evt3.raw"), ("aedat4", "aedat4")):
        content = (EXAMPLES / "data" / f"events.{suffix}").read_bytes()
        assert content == FORMATS[name](held, size=(40, 30))
