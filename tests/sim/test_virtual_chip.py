"""The virtual chip runs bits: what it does is what the network's circuit does with the currents of the codes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import nir_dynapse as nd
from nir_dynapse.board.address_events import GRID_DTYPE
from nir_dynapse.board.link import stimuli
from nir_dynapse.chip.device import DYNAPSE2, Mismatch
from nir_dynapse.chip.profile import ChipProfile
from nir_dynapse.circuit.closed_form import to_params
from nir_dynapse.circuit.params import Params
from nir_dynapse.data.data import Events
from nir_dynapse.errors import ConfigurationError, HardwareError
from nir_dynapse.layout.decoding import layout_to_params
from nir_dynapse.layout.layout import Layout
from nir_dynapse.network.network import Network, Projection
from nir_dynapse.sim.virtual.chip import VirtualChip
from random_networks import build
from shortened import shortened

CASES = [
    ("sparse", 60, 1, {}),
    ("layered", 80, 1, {}),
    ("recurrent", 60, 2, {}),
    ("convolution", 70, 1, {}),
    ("blocks", 60, 2, {"share_tags": True}),
    ("parallel", 40, 1, {}),
]


def small_cores(n_chips: int):
    """A stack that spreads even a small network over all its cores."""
    return replace(DYNAPSE2.stack(n_chips), neurons_per_core=256 if n_chips == 1 else 12)


def lively(family: str, seed: int, n: int) -> Network:
    """A network whose neurons fire: mostly excitation, and three times as much."""
    net = build(family, seed, n)
    return replace(
        net,
        projections=tuple(
            replace(q, weight=np.where(q.weight < 0, 1.0, 3.0) * np.abs(q.weight) * _signs(q)) for q in net.projections
        ),
    )


def _signs(q: Projection) -> np.ndarray:
    """Every fifth connection inhibits, equal weights alike."""
    return np.where(np.unique(q.weight, return_inverse=True)[1].reshape(-1) % 5 == 4, -1.0, 1.0)


def counts_of(net: Network, seed: int = 0, bins: int = 80, samples: int = 2) -> np.ndarray:
    return np.random.default_rng(seed).poisson(1.5, (samples, bins, net.n_inputs))


def with_currents_of(params: Params, layout: Layout) -> Params:
    """`params` of a network, every bias and every weight replaced by what the bits of `layout` make of it."""
    real = layout_to_params(layout)
    a, b = params.topology, real.topology
    n = a.n_neurons

    def key(t, pre, post, dendrite):
        return (pre.astype(np.int64) * n + post) * 4 + dendrite

    mine, bits = key(a, a.pre, a.post, a.dendrite), key(b, b.pre, b.post, b.dendrite)
    names, where = np.unique(bits, return_inverse=True)
    total = np.bincount(where.reshape(-1), real.row_currents())
    assert set(mine.tolist()) == set(names.tolist()), "no synapse is lost and none is added"
    weight = total[np.searchsorted(names, mine)]
    repeated = np.bincount(np.searchsorted(names, mine), minlength=len(names))[np.searchsorted(names, mine)]
    bias = {name: real.per_neuron(name) for name in params.bias}
    return replace(params, bias=bias, weight=weight / repeated, topology=replace(a, group=np.arange(n)))


@pytest.mark.parametrize(
    ("family", "n", "n_chips", "options", "leak"),
    # Neurons with different biases have no equal sources that could share tags.
    shortened([(*case, leak) for case in CASES for leak in ("none", "tonic") if leak == "none" or not case[3]], 3),
)
def test_the_board_does_what_the_circuit_of_the_network_does(
    family: str, n: int, n_chips: int, options: dict, leak: str
) -> None:
    """Without mismatch, at the precision of the codes: the spikes of every neuron in every bin.

    The circuit is wired by the network, the board by the bits; only the currents are taken from the codes.
    """
    net = lively(family, 3, n)
    if leak == "tonic":
        rng = np.random.default_rng(1)
        net = replace(
            net,
            populations=tuple(replace(p, v_leak=p.v_threshold * rng.uniform(0, 0.5, p.size)) for p in net.populations),
        )
    layout = nd.compile(net, device=small_cores(n_chips), monitor="all", **options)
    x = counts_of(net)
    circuit = nd.simulate(with_currents_of(to_params(net), layout), x)
    with nd.open_board("virtual:0", mismatch=Mismatch.none()) as board:
        board.apply(layout)
        batch = board.run_batch(x, net.dt)
        run = board.run(stimuli(layout, x[0], net.dt), x.shape[1] * net.dt)
    assert sum(int(s.sum()) for s in circuit.spikes.values()) > 100
    for node, spikes in circuit.spikes.items():
        np.testing.assert_array_equal(batch.spikes[node], spikes)
        seen = run.to_counts(node, spikes.shape[2], net.dt, x.shape[1] * net.dt)
        np.testing.assert_array_equal(seen, spikes[0])


@pytest.mark.parametrize(("family", "n", "n_chips", "options"), shortened(CASES, 1))
def test_board_and_simulation_with_one_fingerprint(family: str, n: int, n_chips: int, options: dict) -> None:
    net = lively(family, 4, n)
    layout = nd.compile(net, device=small_cores(n_chips), monitor="all", **options)
    x = counts_of(net, 1)
    mismatch = Mismatch(noise=0.02, spike_loss=0.05)
    same = nd.simulate(layout, x[:1], mismatch=mismatch, key=7)
    with nd.open_board("virtual:7", mismatch=mismatch) as board:
        board.apply(layout)
        run = board.run(stimuli(layout, x[0], net.dt), x.shape[1] * net.dt)
    for node, spikes in same.spikes.items():
        assert (run.to_counts(node, spikes.shape[2], net.dt, x.shape[1] * net.dt) == spikes[0]).all(), node


def test_what_a_profile_calls_bad_does_not_work() -> None:
    """Bad rows, tags and neurons of the silicon, whether the Layout knows of them or not; simulate agrees."""
    net = lively("layered", 2, 80)
    layout = nd.compile(net, monitor="all")
    x = counts_of(net, 2)
    neuron, row = np.nonzero(layout.cam["dendrite"] >= 0)
    rows, neurons, tags = np.ones((4, 256, 64, 2), bool), np.ones((4, 256), bool), np.ones((4, 2048), bool)
    bad = np.random.default_rng(0).random(len(neuron)) < 0.2
    rows[layout.core[neuron[bad]], layout.slot[neuron[bad]], row[bad], 1] = False
    neurons[layout.core[5], layout.slot[5]] = False
    tags[:, layout.cam["tag"][neuron[0], row[0]]] = False
    worn = DYNAPSE2.with_profiles(ChipProfile("worn", neurons, rows, tags))
    with nd.open_board("virtual:7", device=worn) as board, nd.open_board("virtual:7") as healthy:
        board.apply(layout)
        healthy.apply(layout)
        events = stimuli(layout, x[0], net.dt)
        seen, whole = board.run(events, 0.08), healthy.run(events, 0.08)
    same = nd.simulate(layout, x, mismatch=Mismatch(), key=7, device=worn)
    for node, spikes in same.spikes.items():
        assert (seen.to_counts(node, spikes.shape[2], net.dt, 0.08) == spikes[0]).all()
    assert 0 < len(seen) < len(whole)
    name, index, *_ = layout.names[5]
    assert not len([1 for t, i in zip(seen.node, seen.index, strict=True) if (seen.nodes[t], i) == (name, index)])
    # Compiled for the chip as it is, nothing bad is used, and only the dead neuron of the other Layout is missed.
    around = nd.compile(net, device=worn, monitor="all")
    assert not any(f.code == "bad-rows" for f in nd.to_params(around, device=worn).findings)
    assert any(f.code == "bad-rows" for f in nd.to_params(layout, device=worn).findings)


# -- raw events -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def layout() -> Layout:
    return nd.compile(lively("recurrent", 3, 40), device=small_cores(1), monitor="all")


@pytest.fixture
def chip(layout: Layout) -> VirtualChip:
    made = VirtualChip(7, DYNAPSE2, Mismatch())
    made.write(layout)
    return made


def burst(layout: Layout, cores: int = 15, tag: int | None = None, chip: int = 0) -> np.ndarray:
    """Events for all channels in turn, ten in each ms."""
    events = np.zeros(600, GRID_DTYPE)
    events["time"], events["x_hop"], events["cores"] = 100 * np.arange(600), chip, cores
    events["tag"] = layout.input_rows["tag"][np.arange(600) % len(layout.input_rows)] if tag is None else tag
    return events


def test_events_reach_the_cores_that_they_name(layout: Layout, chip: VirtualChip) -> None:
    used = sum(1 << int(c) for c in np.unique(layout.core))
    everywhere = chip.run(burst(layout), 60, 1e-3)
    assert len(everywhere) > 50
    assert (chip.run(burst(layout, cores=used), 60, 1e-3) == everywhere).all()
    assert len(chip.run(burst(layout, cores=0), 60, 1e-3)) == 0
    assert len(chip.run(burst(layout, cores=15 ^ used), 60, 1e-3)) == 0
    unheard = int(np.setdiff1d(np.arange(2048), layout.cam["tag"])[0])
    assert len(chip.run(burst(layout, tag=unheard), 60, 1e-3)) == 0
    assert len(chip.run(burst(layout, chip=-1), 60, 1e-3)) == 0, "what leaves to the west reaches nobody"
    with pytest.raises(HardwareError, match="for chip 1, the stack has 1"):
        chip.run(burst(layout, chip=1), 60, 1e-3)


def test_without_kernels_the_same_events(layout: Layout, chip: VirtualChip, monkeypatch: pytest.MonkeyPatch) -> None:
    from nir_dynapse.sim.native import run

    fast = chip.run(burst(layout), 60, 1e-3)
    monkeypatch.setattr(run, "available", lambda: False)
    assert (chip.run(burst(layout), 60, 1e-3) == fast).all()


def test_what_leaves_one_by_one(layout: Layout, chip: VirtualChip) -> None:
    """Several spikes of a neuron in a bin, several rows that leave, neurons that nobody hears, places in any order."""
    rng, sram = np.random.default_rng(0), np.array(layout.sram)
    sram[::3, 1] = (77, 15, -7, 2)
    sram[1::5] = np.zeros((), sram.dtype)
    heard = replace(layout, sram=sram, slot=layout.slot[::-1])
    spikes = rng.integers(0, 3, (20, layout.n_neurons)).astype(np.uint8)
    west = (sram["cores"] > 0) & (sram["x_hop"].astype(int) + heard.chip[:, None] < 0)
    expected, last = [], -1
    for bin_, row in enumerate(spikes):
        sent = [
            (int(sram["tag"][n, r]), int(sram["y_hop"][n, r]))
            for n in np.argsort(heard.core_index * 256 + heard.slot)
            for _ in range(row[n])
            for r in np.flatnonzero(west[n])
        ]
        for k, address in enumerate(sent):
            last = max(last + 1, int((bin_ + (k + 1) / (len(sent) + 1)) * 1e-3 * 1e6))
            expected.append((last, *address))
    found = chip._leaving(heard, spikes, 1e-3)
    assert [tuple(row) for row in found[["time", "tag", "y_hop"]].tolist()] == expected
    assert len(expected) > 500


def test_spikes_wait_their_turn_on_the_bus(layout: Layout, chip: VirtualChip) -> None:
    """One event per µs, in order; a bin of 10 µs cannot hold all spikes and the rest comes later."""
    out = chip.run(burst(layout), 60, 1e-3)
    assert (np.diff(out["time"]) >= 1).all()
    assert (out["x_hop"] == -6).all()
    busy = chip._leaving(layout, np.ones((3, layout.n_neurons), np.uint8), 1e-5)
    assert len(busy) == 3 * layout.n_neurons > 30
    assert (np.diff(busy["time"]) >= 1).all()
    assert busy["time"][-1] >= len(busy) - 1


def test_what_no_chip_can_hold_is_refused(layout: Layout) -> None:
    chip = VirtualChip(7, DYNAPSE2, Mismatch())
    with pytest.raises(HardwareError, match="no configuration"):
        chip.run(burst(layout), 3, 1e-3)
    changes = {
        "tag": ("cam", 2048),
        "mask": ("cam", 16),
        "flags": ("cam", 8),
        "x_hop": ("sram", 9),
        "cores": ("sram", 31),
    }
    for name, (array, value) in changes.items():
        rows = getattr(layout, array).copy()
        rows[name][3, 2] = value
        with pytest.raises(HardwareError, match=f"asks for {'a CAM' if array == 'cam' else 'an SRAM'} row"):
            chip.write(replace(layout, **{array: rows}))
    codes = layout.codes.copy()
    codes[layout.core_index[0], 0, 0] = 6
    slot = layout.slot.copy()
    slot[:2] = slot[0]
    for changed, what in (
        (replace(layout, codes=codes), "a coarse code"),
        (replace(layout, slot=slot, core=np.zeros_like(layout.core)), "a place"),
        (replace(layout, chip=layout.chip + 1), "a place"),
    ):
        with pytest.raises(HardwareError, match=what):
            chip.write(changed)
    board = nd.open_board("virtual:1")
    with board, pytest.raises(HardwareError, match="tags to 2047"):
        board.apply(replace(layout, codes=codes))
    with pytest.raises(HardwareError, match="closed"):
        board.apply(layout)


def test_the_board_needs_events_in_time(layout: Layout) -> None:
    channel = layout.inputs[0].name
    with nd.open_board("virtual:1") as board:
        board.apply(layout)
        for time in (-1, 50_000):
            with pytest.raises(ConfigurationError, match="outside the run"):
                board.run(Events(np.array([time]), np.zeros(1), np.zeros(1), (channel,)), 0.05)
        # Unsorted events are put in order; a mistake in the call leaves the board open.
        times = np.array([30_000, 10_000, 20_000])
        echo = board.run(Events(times, np.zeros(3), np.zeros(3), (channel,)), 0.05, echo=True)
        mine = echo.time[echo.node == echo.nodes.index(channel)]
        assert np.abs(mine - np.sort(times)).max() < 20
