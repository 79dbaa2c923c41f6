"""Recordings on the disk: what reads them, and what is said of damaged ones."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from nir_dynapse.data import recording_folder
from nir_dynapse.data.data import Events
from nir_dynapse.data.event_files import file_kind, read_data, read_events
from nir_dynapse.data.recording_folder import RecordingFolder, Stretch, write_recording
from nir_dynapse.errors import ConfigurationError
from nir_dynapse.network.network import Port

DT = 1e-3
COUNTS = {
    "a": np.random.default_rng(0).poisson(0.3, (3, 40, 5)).astype(np.uint8),
    "b": np.random.default_rng(1).poisson(0.5, (3, 40, 2)).astype(np.uint8),
}
CURRENT = np.random.default_rng(2).uniform(0, 1e-9, (3, 40, 7)).astype(np.float32)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Written in three stretches, read some events at a time."""
    monkeypatch.setattr(recording_folder, "PIECE", 11)
    parts = [
        Stretch(
            {node: counts[:, part] for node, counts in COUNTS.items()},
            {"i_mem": {"a": CURRENT[:, part, :5], "b": CURRENT[:, part, 5:]}},
        )
        for part in (slice(0, 1), slice(1, 30), slice(30, 40))
    ]
    write_recording(tmp_path / "run", parts, DT, ("i_mem",), {"out": "b"})
    return tmp_path / "run"


def test_events_are_those_of_the_counts(folder: Path) -> None:
    held = RecordingFolder.load(folder)
    assert (held.samples, held.bins, held.sizes, held.duration) == (3, 40, {"a": 5, "b": 2}, pytest.approx(0.04))
    for k, events in enumerate(held.samples_of_events()):
        assert (np.diff(events.time) >= 0).all()
        one = read_events(folder, sample=k)
        for name in ("time", "node", "index"):
            np.testing.assert_array_equal(getattr(one, name), getattr(events, name))
        for node, counts in COUNTS.items():
            mine = events.node == events.nodes.index(node)
            alone = Events(events.time[mine], 0 * events.node[mine], events.index[mine], (node,))
            made = Events.from_counts(counts[k], DT, node)
            assert sorted(zip(alone.time, alone.index, strict=True)) == sorted(zip(made.time, made.index, strict=True))


def test_columns_are_plain_arrays(folder: Path) -> None:
    """Other tools read them without this package."""
    columns = {path.stem: np.load(path, mmap_mode="r") for path in folder.glob("*.npy")}
    counts = np.zeros((3, 40, 5), np.uint8)
    mine = columns["node"] == 0
    np.add.at(counts, (columns["sample"][mine], columns["time_us"][mine] // 1000, columns["index"][mine]), 1)
    np.testing.assert_array_equal(counts, COUNTS["a"])
    np.testing.assert_array_equal(columns["i_mem"], CURRENT.swapaxes(0, 1))


def test_a_stretch_of_it(folder: Path) -> None:
    held = RecordingFolder.load(folder)
    part = held.cut(0.012, 0.02)
    for node, counts in COUNTS.items():
        np.testing.assert_array_equal(part.spikes[node], counts[:, 12:32])
    np.testing.assert_array_equal(part.states["i_mem"]["b"], CURRENT[:, 12:32, 5:])
    np.testing.assert_array_equal(held.states["i_mem"]["a"], CURRENT[:, :, :5])
    events = read_events(folder, sample=1, start=0.012, duration=0.02)
    np.testing.assert_array_equal(events.to_counts("a", 5, DT, 0.02), COUNTS["a"][1, 12:32])
    assert held.cut(0.03, 5.0).spikes["a"].shape == (3, 10, 5)
    assert held.cut(7.0).spikes["a"].shape == (3, 0, 5)


def test_as_the_input_of_another_network(folder: Path) -> None:
    assert file_kind(folder) == "recording"
    data = read_data(folder, [Port("b", (2,))], DT, labels=False, samples=slice(1, 3))
    np.testing.assert_array_equal(data.x, COUNTS["b"][1:])
    assert [f.code for f in data.findings] == ["events-left-out"]
    data = read_data(folder, [Port("a", (5,)), Port("b", (2,))], DT, labels=False, start=0.01)
    np.testing.assert_array_equal(data.x, np.concatenate([*COUNTS.values()], 2)[:, 10:])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda f: read_events(f, sample=3), "it has no sample 3"),
        (lambda f: read_events(f, pool=2), "leave crop, pool and polarity out"),
        (lambda f: read_data(f, [Port("b", (2,))], DT), "it has no classes"),
        (lambda f: read_data(f, [Port("b", (1,))], DT, labels=False), "events are of channels that it has not"),
        (lambda f: read_data(f, [Port("b", (2,))], DT, labels=False, samples=slice(5, 6)), "none of its samples"),
    ],
)
def test_wrong_calls(call: object, message: str, folder: Path) -> None:
    with pytest.raises(ConfigurationError, match=message):
        call(folder)  # type: ignore[operator]


def test_too_many_for_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording_folder, "MOST_EVENTS", 20)
    monkeypatch.setattr(recording_folder, "MOST_ELEMENTS", 20 * 7)
    held = RecordingFolder.load(folder)
    with pytest.raises(ConfigurationError, match=r"more than 20 events.*Give start and duration"):
        held.events(0)
    with pytest.raises(ConfigurationError, match="more than 140 counts"):
        held.cut()
    assert len(held.events(0, 0.0, 0.003)) < 20


def test_damaged_folders(folder: Path) -> None:
    whole = {path.name: path.read_bytes() for path in folder.iterdir()}
    said = json.loads(whole["recording.json"])
    other = np.zeros(3, np.float32)

    def manifest(**changes: object) -> bytes:
        return json.dumps(said | changes).encode()

    damages = {
        "recording.json": [
            b"",
            b"{}",
            b"[1]",
            manifest(version=2),
            manifest(bins=41),
            manifest(events=7),
            manifest(dt=-1),
        ],
        "time_us.npy": [b"", whole["time_us.npy"][:-8], whole["index.npy"], b"\x93NUMPY\x01\x00" + b"\xff" * 200],
        "i_mem.npy": [whole["i_mem.npy"][:200], whole["time_us.npy"]],
    }
    damages["recording.json"] += [
        manifest(sizes=[["a", -5]]), manifest(traces={"../x": {"dtype": "<f4", "sizes": []}}), manifest(wide="bad"),
        manifest(sizes=1), manifest(traces=3), manifest(samples="many"), manifest(traces={"i_mem": {"dtype": "O"}}),
    ]  # fmt: skip
    for name, contents in damages.items():
        for content in contents:
            (folder / name).write_bytes(content)
            with pytest.raises(ConfigurationError, match="cannot be read as a recording"):
                RecordingFolder.load(folder)
        (folder / name).unlink()
        with pytest.raises(ConfigurationError, match="cannot be read as a recording"):
            RecordingFolder.load(folder)
        (folder / name).write_bytes(whole[name])
    np.save(folder / "i_mem.npy", other)
    with pytest.raises(ConfigurationError, match=r"i_mem\.npy holds float32 of shape"):
        RecordingFolder.load(folder)
    (folder / "i_mem.npy").write_bytes(whole["i_mem.npy"])
    strange = np.load(folder / "index.npy")
    strange[-1] = 1000
    np.save(folder / "index.npy", strange)
    for look in (
        RecordingFolder.cut,
        RecordingFolder.totals,
        RecordingFolder.events,
        RecordingFolder.samples_of_events,
    ):
        with pytest.raises(ConfigurationError, match="events of no neuron"):
            look(RecordingFolder.load(folder), *(() if look is not RecordingFolder.events else (0,)))
