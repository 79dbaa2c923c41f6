"""Recordings that go to the disk while a run goes on: the same as those in memory, bit by bit, however a run is cut."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import small_networks
from circuits import circuits
from nir_dynapse.chip.device import Mismatch
from nir_dynapse.circuit.closed_form import to_params
from nir_dynapse.circuit.copies import with_copies
from nir_dynapse.data.recording import Recording
from nir_dynapse.data.recording_folder import RecordingFolder
from nir_dynapse.errors import ConfigurationError, ParameterRangeError
from nir_dynapse.sim import streamed
from nir_dynapse.sim.circuit import RECORDABLE
from nir_dynapse.sim.native import here as native
from nir_dynapse.sim.simulation import simulate

EVERYTHING = circuits("nmda_gate", "exponential", "adaptation", "dc", delays=True, scale=1.5)


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stretches of a few bins."""
    monkeypatch.setattr(streamed, "STRETCH", 7 * 14 * 3)


def poisson(batch: int = 3, steps: int = 90, channels: int = 6, rate: float = 1.0) -> np.ndarray:
    return np.random.default_rng(batch).poisson(rate, (batch, steps, channels)).astype(np.uint8)


def same(streamed: RecordingFolder, held: Recording) -> None:
    """All of it, with types."""
    found = RecordingFolder.load(streamed.path).cut()
    assert (found.dt, found.outputs, found.copies) == (held.dt, held.outputs, held.copies)
    pairs = [(found.spikes, held.spikes), (found.values, held.values)]
    assert found.states.keys() == held.states.keys()
    pairs += [(found.states[name], held.states[name]) for name in held.states]
    for a, b in pairs:
        assert list(a) == list(b)
        for node in b:
            assert a[node].dtype == b[node].dtype
            np.testing.assert_array_equal(a[node], b[node])
    assert sum(int(v.sum()) for v in held.spikes.values()) == len(streamed) > 0
    np.testing.assert_array_equal(streamed.counts(), held.counts())
    for node, total in streamed.totals().items():
        np.testing.assert_array_equal(total, held.spikes[node].sum(1, dtype=int))


@pytest.mark.parametrize("record", [(), RECORDABLE])
@pytest.mark.parametrize("backend", ["jax", "numpy"])
def test_as_in_memory(backend: Any, record: tuple[str, ...], tmp_path: Path) -> None:
    options: dict[str, Any] = {"mismatch": Mismatch(noise=0.05, spike_loss=0.1), "key": 5, "backend": backend}
    options["record"] = record
    x = poisson()
    same(simulate(EVERYTHING, x, to=tmp_path / "run", **options), simulate(EVERYTHING, x, **options))


def test_as_in_memory_by_xla(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "available", lambda: False)
    x, record = poisson(2, 20), ("i_mem", "i_ahp")
    same(simulate(EVERYTHING, x, record=record, to=tmp_path / "run"), simulate(EVERYTHING, x, record=record))


@pytest.mark.parametrize("dt", [0.25e-3, 1e-3, 2e-3])
def test_readouts_and_copies(dt: float, tmp_path: Path) -> None:
    """Bins that are parts of a step, or several, with cuts within a step."""
    net = small_networks.with_readout()
    params = with_copies(to_params(net), {"hidden": 2})
    x = poisson(2, 50, 4)
    same(simulate(params, x, dt=dt, to=tmp_path / "run"), simulate(params, x, dt=dt))


@pytest.mark.parametrize("backend", ["jax", "numpy"])
@pytest.mark.parametrize("reset", ["value", "subtract-multiple"])
def test_ideal(reset: Any, backend: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nir_dynapse.sim.reference.COMPILING", 0.0)
    net = small_networks.with_readout()
    net = replace(net, populations=tuple(replace(p, reset=reset) for p in net.populations))
    x = poisson(2, 40, 4) * (400 if reset == "subtract-multiple" else 0.75)
    options: dict[str, Any] = {"ideal": True, "record": ("v", "i_syn"), "backend": backend}
    same(simulate(net, x, to=tmp_path / "run", **options), simulate(net, x, **options))


def test_blocks_of_any_length(tmp_path: Path) -> None:
    """Of a generator, and of a file on the disk; (time, channel) is one sample."""
    x = poisson(1, 90)
    held = simulate(EVERYTHING, x, record=("i_mem",))
    ends = (0, 1, 30, 30, 73, 90)
    blocks = (x[0, a:b] for a, b in pairwise(ends))
    same(simulate(EVERYTHING, blocks, record=("i_mem",), to=tmp_path / "run"), held)
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    same(simulate(EVERYTHING, mapped, record=("i_mem",), to=tmp_path / "run"), held)
    nothing = simulate(EVERYTHING, iter(()), to=tmp_path / "none")
    assert (nothing.samples, nothing.bins, len(nothing)) == (1, 0, 0)


def test_blocks_that_do_not_fit(tmp_path: Path) -> None:
    x = poisson(2, 10)
    with pytest.raises(ConfigurationError, match="block 1 of x has 1 samples, the first one 2"):
        simulate(EVERYTHING, iter([x, x[:1]]), to=tmp_path / "run")
    with pytest.raises(
        ConfigurationError, match="block 0 of x has 17 events of a channel in a bin, blocks may have 16"
    ):
        simulate(EVERYTHING, iter([np.full((5, 6), 17)]), to=tmp_path / "run")
    with pytest.raises(ConfigurationError, match=r"the network expects \(batch, time, 6\)"):
        simulate(EVERYTHING, iter([x, x[:, :, :5]]), to=tmp_path / "run")
    with pytest.raises(ParameterRangeError, match="cannot record 'v'"):
        simulate(EVERYTHING, x, record=("v",), to=tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_whole_or_not_there(tmp_path: Path) -> None:
    """A run that breaks leaves the recording of an earlier one as it was, and nothing of its own."""
    x, folder = poisson(1, 60), tmp_path / "run"
    first = simulate(EVERYTHING, x, to=folder)

    def broken() -> Any:
        yield x[0]
        raise RuntimeError("the camera was unplugged")

    with pytest.raises(RuntimeError, match="unplugged"):
        simulate(EVERYTHING, broken(), to=folder)
    blocks = (np.load(tmp_path / f"block_{k}.npy") for k in range(2))
    with pytest.raises(FileNotFoundError, match="block_0"):  # not that the recording could not be written
        simulate(EVERYTHING, blocks, to=folder)
    same(first, simulate(EVERYTHING, x))
    assert sorted(p.name for p in folder.iterdir()) == sorted(
        ["index.npy", "node.npy", "recording.json", "sample.npy", "time_us.npy"]
    )
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="file"):
        simulate(EVERYTHING, x, to=tmp_path / "file")


def test_a_bin_of_few_us(tmp_path: Path) -> None:
    """More spikes of a neuron than a bin has µs cannot be told as events."""
    net = small_networks.feed_forward(np.full((2, 1), 5.0), dt=2e-6)
    net = replace(net, populations=tuple(replace(p, reset="subtract-multiple") for p in net.populations))
    with pytest.raises(ConfigurationError, match=r"neuron 0: .* spikes in bin .*, which has 2 whole µs"):
        simulate(net, np.full((1, 40, 1), 10.0), ideal=True, to=tmp_path / "run")
    assert not list(tmp_path.iterdir())
