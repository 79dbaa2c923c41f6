"""The formats that the package reads: sound files of each, how they are damaged, read, and written and read again."""

from __future__ import annotations

import gzip
import json
import tempfile
from collections.abc import Callable, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import nir_dynapse as nd
from fuzz_bytes import Damage
from fuzz_csv import damage_csv
from fuzz_json import damage_json
from fuzz_npz import damage_npz
from nir_dynapse.data.data import Data, Events
from nir_dynapse.data.recording_folder import RecordingFolder, Stretch, write_recording
from nir_dynapse.errors import DynapseError
from nir_dynapse.layout.layout import Layout

__all__ = ["FORMATS", "Format"]


class Format(NamedTuple):
    """`seeds(folder)` are sound files by name, `damage` is done to them; `read` gives an object or a DynapseError.

    `again(object, path)`: whether writing it to `path` and reading that gives the same object. `places` are words that an
    error may name instead of the file (a node of a graph).
    """

    suffix: str
    seeds: Callable[[Path], dict[str, bytes]]
    damage: Damage
    read: Callable[[Path], Any]
    again: Callable[[Any, Path], bool]
    places: tuple[str, ...] = ()


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


# --- NIR --------------------------------------------------------------------------------------------------------------


def _damage_nir(content: bytes, rng: np.random.Generator, others: Sequence[bytes]) -> tuple[bytes, str]:
    from fuzz_nir import damage_nir  # here and below: what other formats do not need takes seconds to import

    return damage_nir(content, rng, others)


def _nir_seeds(folder: Path) -> dict[str, bytes]:
    from fuzz_nir import write_seeds

    return {path.name: path.read_bytes() for path in write_seeds(folder)}


def _nir_again(network: Any, path: Path) -> bool:
    from nir_dynapse.export.nir_graph import to_nir

    nodes = (*network.populations, *network.inputs, *network.outputs, *network.readout.populations)
    linear = (name for q in (*network.projections, *network.readout.projections) for name in q.nodes)
    slashed = any("/" in name for name in (*(node.name for node in nodes), *linear))  # is written as '_'
    return nd.from_nir(to_nir(network)).digest() == network.digest() or slashed


# --- Layouts and configurations -----------------------------------------------------------------------------------------


def _layouts() -> dict[str, Layout]:
    """Small ones: random bits on one and two chips, compiled with delays, with a readout on the host, empty."""
    import small_networks as networks
    from fuzz_seeds import random_layout

    return {
        "random": random_layout(0, 1, 12),
        "chips": random_layout(3, 2, 14),
        "empty": random_layout(5, 1, 0),
        "compiled": nd.compile(networks.recurrent(1, 4, 6, 3, fan_in=3), budget=0.1),
        "readout": nd.compile(networks.with_readout(), budget=0.1),
    }


def _layout_seeds(folder: Path) -> dict[str, bytes]:
    for name, layout in _layouts().items():
        layout.save(folder / f"{name}.json")
    return _contents(folder)


def _layout_again(layout: Layout, path: Path) -> bool:
    layout.save(path)
    with suppress(DynapseError):
        nd.report(layout).text()
    return Layout.load(path) == layout


SHORT = 4
"""Neurons of a core in the small configurations: those of a whole chip have 11 MB of text."""


@contextmanager
def _cores_of(neurons: int) -> Any:
    """Reading and writing configurations of cores with fewer neurons."""
    from nir_dynapse.export import samna_bits, samna_text
    from nir_dynapse.import_ import samna_config, samna_invented, samna_names, samna_rows

    modules: tuple[Any, ...] = (samna_bits, samna_text, samna_config, samna_invented, samna_names, samna_rows)
    before = samna_rows.NEURONS
    try:
        for module in modules:
            module.NEURONS = neurons
        yield
    finally:
        for module in modules:
            module.NEURONS = before


def _config_seeds(folder: Path) -> dict[str, bytes]:
    from fuzz_seeds import random_layout
    from nir_dynapse.export.samna_text import write_config_json

    with _cores_of(SHORT):
        for name, (seed, chips, neurons) in {"one": (0, 1, 9), "two": (1, 2, 20), "none": (2, 1, 0)}.items():
            write_config_json(random_layout(seed, chips, neurons, slots=SHORT), folder / f"{name}.json")
        write_config_json(random_layout(3, 1, 12, slots=SHORT), folder / "packed.json.gz")
    write_config_json(random_layout(4, 1, 20), folder / "whole.json")
    return _contents(folder)


def _config_read(path: Path) -> Any:
    from nir_dynapse.import_.samna_config import from_samna

    content = path.read_bytes()[: 1 << 24]
    whole = len(content) > 1 << 22 and content[:2] != b"\x1f\x8b"
    with _cores_of(256 if whole else SHORT):
        return from_samna(path, names=False), 256 if whole else SHORT


def _config_again(thing: Any, path: Path) -> bool:
    from nir_dynapse.export.samna_text import write_config_json
    from nir_dynapse.import_.samna_config import from_samna

    layout, neurons = thing
    with _cores_of(neurons):
        write_config_json(layout, path)
        again = from_samna(path, names=False)
    return replace(again, findings=()) == replace(layout, findings=())


# --- chip profiles and logs -----------------------------------------------------------------------------------------------


def _profile_seeds(folder: Path) -> dict[str, bytes]:
    from nir_dynapse.chip.profile import ChipProfile, save_profiles

    perfect = ChipProfile.perfect()
    rng = np.random.default_rng(0)
    green = ChipProfile.synthetic(1, "green", restrict_tags=True)
    pairs = np.stack([rng.integers(0, n, 40) for n in (4, 256, 64, 2048)], 1)
    scales, factors = {"i_tau_mem": rng.uniform(0.5, 2, 4)}, {"i_gain_mem": rng.uniform(0.5, 2, (4, 256)).round(3)}
    measured = {"board": "x", "when": [1, 2.5, None, {"a": True}]}
    ChipProfile("full", green.neurons, green.rows, green.tags, pairs, scales, factors, measured).save(
        folder / "full.json"
    )
    perfect.save(folder / "perfect.json.gz")
    save_profiles(folder / "stack.json", (green, perfect))
    lab = {"prob": [[0] * 4] * 2, "cams": [[[[0, 0.5]] * 64] * 256] * 4, "tags": [[[1, 2], [1024]]] * 4}
    (folder / "lab.json").write_text(json.dumps({**lab, "neurons": [[1], [], [], [255]]}, separators=(",", ":")))
    return _contents(folder)


def _defects_seeds(folder: Path) -> dict[str, bytes]:
    one = "core,neuron,cam,tag\n2,17,,\n2,,,\n,17,,\n2,17,5,\n2,17,,1024-2047\n,,5,0-3\n*,*,*,1040\n2,17,5,1000-1030\n"
    stack = (
        "# measured\r\nTag, CAM, neuron,core,chip\r\n1040,,,2,0\r\n,5,17,2,\r\n0-1023,5,17,2,1-3\r\n\r\n5,1,1,1,7\r\n"
    )
    (folder / "one.csv").write_text(one)
    (folder / "stack.csv").write_text("\ufeff" + stack)
    (folder / "none.csv").write_text("core,neuron,cam,tag\n")
    (folder / "packed.csv.gz").write_bytes(gzip.compress(one.encode(), mtime=0))
    return _contents(folder)


def _profile_again(profiles: Any, path: Path) -> bool:
    from nir_dynapse.chip.profile import load_profiles, save_profiles

    profiles = profiles[:2]  # eight take a second
    save_profiles(path.with_suffix(".json"), profiles)
    again = load_profiles(path.with_suffix(".json"))
    same = [(a.name, a.measured) == (b.name, b.measured) for a, b in zip(again, profiles, strict=True)]
    return again == profiles and all(same)


def _profiles(path: Path) -> Any:
    from nir_dynapse.chip.profile import load_profiles

    return load_profiles(path)


def _log_seeds(folder: Path) -> dict[str, bytes]:
    from fuzz_seeds import training_log
    from nir_dynapse.reporting.training_log import TrainingLog

    training_log().save(folder / "log.csv")
    TrainingLog().save(folder / "empty.csv")
    return _contents(folder)


def _log(path: Path) -> Any:
    from nir_dynapse.reporting.training_log import TrainingLog

    return TrainingLog.load(path)


def _log_again(log: Any, path: Path) -> bool:
    log.save(path)
    return _log(path) == log


# --- arrays ---------------------------------------------------------------------------------------------------------------


def _data_seeds(folder: Path) -> dict[str, bytes]:
    rng = np.random.default_rng(0)
    x = rng.poisson(0.3, (5, 6, 3))
    Data(x.astype(np.uint8), np.arange(5) % 2, 1e-3).save(folder / "classes.npz")
    Data(x.astype(np.float32), rng.normal(size=(5, 6, 2)), 2e-3).save(folder / "paths.npz")
    Data(x[:0] > 0, np.zeros(0, int), 1e-3).save(folder / "none.npz")
    np.savez(folder / "stored.npz", x=np.asfortranarray(x), dt=np.array([1e-3]), further=np.array(["a", "b"]))
    return _contents(folder)


def _data_again(data: Any, path: Path) -> bool:
    data.save(path)
    again = Data.load(path)
    same = [np.array_equal(a, b) and a.dtype == b.dtype for a, b in ((data.x, again.x), (data.y, again.y))]
    return all(same) and data.dt == again.dt


def _events_seeds(folder: Path) -> dict[str, bytes]:
    rng = np.random.default_rng(0)
    time = np.sort(rng.integers(0, 10_000, 20))
    Events(time, rng.integers(0, 2, 20), rng.integers(0, 5, 20), ("a", "b\u2603")).save(folder / "some.npz")
    Events(time[:0], time[:0], time[:0], ()).save(folder / "none.npz")
    stored = {"time_us": time.astype("u4"), "node": time * 0, "index": time.astype(">i2"), "nodes": np.array(["x"])}
    np.savez(folder / "stored.npz", **stored)
    return _contents(folder)


def _events_again(events: Any, path: Path) -> bool:
    events.save(path)
    again = Events.load(path)
    names = ("time", "node", "index")
    return again.nodes == events.nodes and all(np.array_equal(getattr(again, n), getattr(events, n)) for n in names)


def _params_seeds(folder: Path) -> dict[str, bytes]:
    from fuzz_seeds import params

    for name, thing in params().items():
        nd.save_params(thing, folder / f"{name}.npz")
    return _contents(folder)


def _params_again(params: Any, path: Path) -> bool:
    nd.save_params(params, path)
    first = path.read_bytes()
    nd.save_params(nd.load_params(path), path)
    return path.read_bytes() == first


def _training_seeds(folder: Path) -> dict[str, bytes]:
    from fuzz_seeds import training

    checkpoint, state = training(folder / "training.npz")
    checkpoint.save(state)
    return _contents(folder)


def _training(path: Path) -> Any:
    from fuzz_seeds import training

    checkpoint, state = training(path)
    return checkpoint.load(state._replace(step=0))


def _training_again(state: Any, path: Path) -> bool:
    from fuzz_seeds import training

    checkpoint, _ = training(path)
    checkpoint.save(state)
    again = checkpoint.load(state)
    plain = [repr((s.step, s.score, s.best_step, s.waited, s.seconds)) for s in (state, again)]
    from nir_dynapse.training.trainer import leaves

    pairs = zip(leaves(state[:3]), leaves(again[:3]), strict=True)
    return plain[0] == plain[1] and state.log == again.log and all(a.tobytes() == b.tobytes() for a, b in pairs)


def _evaluation_seeds(folder: Path) -> dict[str, bytes]:
    from fuzz_seeds import DIGESTS, chips_table
    from nir_dynapse.evaluation.evaluate import _save

    for rows in (0, 1, 6):
        _save(folder / f"rows_{rows}.npz", DIGESTS, chips_table(rows))
    return _contents(folder)


def _evaluation(path: Path) -> Any:
    from fuzz_seeds import DIGESTS
    from nir_dynapse.evaluation.evaluate import COLUMNS, _load

    return _load(path, DIGESTS, 50, COLUMNS)


def _evaluation_again(table: Any, path: Path) -> bool:
    from fuzz_seeds import DIGESTS
    from nir_dynapse.evaluation.evaluate import COLUMNS, _load, _save

    _save(path, DIGESTS, table)
    return np.array_equal(_load(path, DIGESTS, 50, COLUMNS), table)


def _recording_seeds(folder: Path) -> dict[str, bytes]:
    counts = np.random.default_rng(0).poisson(0.4, (2, 9, 3)).astype(np.uint8)
    part = Stretch({"a": counts, "b": counts[..., :1]}, {"i_mem": {"a": counts * 1e-9}, "values": {"li": counts * 0.1}})
    write_recording(folder / "run", [part], 1e-3, ("i_mem", "values"), {"out": "li", "o": "a"}, {"a": 2})
    return {"recording.json": (folder / "run" / "recording.json").read_bytes()}


def _recording(path: Path) -> RecordingFolder:
    """A folder of which this file is damaged, and whatever can be asked of it."""
    with tempfile.TemporaryDirectory() as place:
        _recording_seeds(Path(place))
        Path(place, "run", "recording.json").write_bytes(path.read_bytes())
        held = RecordingFolder.load(Path(place, "run"))
        for look in (held.cut, held.totals, held.counts, held.samples_of_events):
            look()
        return held


FORMATS: dict[str, Format] = {
    "nir": Format(".nir", _nir_seeds, _damage_nir, lambda path: nd.from_nir(path), _nir_again, ("node '",)),
    "layout": Format(".json", _layout_seeds, damage_json, Layout.load, _layout_again),
    "config": Format(".json", _config_seeds, damage_json, _config_read, _config_again),
    "profile-json": Format(".json", _profile_seeds, damage_json, _profiles, _profile_again),
    "profile-csv": Format(".csv", _defects_seeds, damage_csv, _profiles, _profile_again),
    "data": Format(".npz", _data_seeds, damage_npz, lambda path: Data.load(path, labels=False), _data_again),
    "events": Format(".npz", _events_seeds, damage_npz, Events.load, _events_again),
    "recording": Format(
        ".json", _recording_seeds, damage_json, _recording, lambda held, path: held.bins == 9, ("run",)
    ),
    "params": Format(".npz", _params_seeds, damage_npz, lambda path: nd.load_params(path), _params_again),
    "training": Format(".npz", _training_seeds, damage_npz, _training, _training_again),
    "evaluation": Format(".npz", _evaluation_seeds, damage_npz, _evaluation, _evaluation_again),
    "log": Format(".csv", _log_seeds, damage_csv, _log, _log_again),
}
