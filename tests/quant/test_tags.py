"""Tags: no core confuses two sources, few are used, and what happens when 2 048 run short."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nir_dynapse.chip.device import DYNAPSE2
from nir_dynapse.errors import CapacityError
from nir_dynapse.layout.decoding import matches
from nir_dynapse.network.network import Network, Port, Projection
from nir_dynapse.quant.compiler import compile
from nir_dynapse.quant.tags import Destinations, assign_tags

FEW = replace(DYNAPSE2, n_tags=24, first_tag=12)


def everything(device=FEW) -> np.ndarray:
    return np.ones((device.n_cores, device.n_tags), bool)


def check(found: Destinations, reached: np.ndarray, usable: np.ndarray) -> None:
    """Each source reaches its cores, each with a usable tag that no other source has there."""
    got = np.zeros_like(reached)
    seen: set[tuple[int, int]] = set()
    for source, chip, cores, tag in zip(*(column.tolist() for column in found), strict=True):
        for bit in range(4):
            if cores >> bit & 1:
                core = chip * 4 + bit
                assert not got[source, core]
                got[source, core] = True
                assert usable[core, tag]
                assert (core, tag) not in seen
                seen.add((core, tag))
    assert (got == reached).all()


@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.floats(0.05, 0.9), st.booleans())
def test_every_core_tells_its_sources_apart(seed: int, n: int, share: float, defects: bool) -> None:
    rng = np.random.default_rng(seed)
    device = FEW.stack(int(rng.integers(1, 4)))
    reached = rng.random((n, device.n_cores)) < share
    usable = everything(device)
    if defects:
        usable &= rng.random(usable.shape) < 0.9
    spare = np.full(n, 3)
    # Refused only where a core is short, or where sources that reach several cores cannot split.
    full = (reached.sum(0) > usable.sum(1)).any()
    with pytest.raises(CapacityError) if full else nullcontext():
        found = assign_tags(reached, spare, reached.sum(1), usable, device)
    if full:
        return
    check(found, reached, usable)
    chips = reached.reshape(n, -1, 4).any(2).sum(1)
    destinations = np.bincount(found.source, minlength=n)
    assert (destinations <= chips + spare).all()
    source, core = np.nonzero(reached)
    tags = found.tag_at(source, core, device.n_cores, 4)
    for s, c, tag in zip(source.tolist(), core.tolist(), tags.tolist(), strict=True):
        hit = (found.source == s) & (found.chip == c // 4) & (found.cores >> c % 4 & 1 == 1)
        assert found.tag[hit].tolist() == [tag]


def test_as_few_tags_as_there_can_be() -> None:
    """Disjoint sets of cores share tags: 10 + 2 tags do for what would be 31 sources."""
    masks = [0b1111] * 2 + [0b0011] * 10 + [0b1100] * 6 + [0b0100] * 2 + [0b1000] * 3 + [0b0100] * 2
    reached = np.array([[mask >> core & 1 for core in range(4)] for mask in masks], bool)
    found = assign_tags(reached, np.zeros(len(masks), int), np.ones(len(masks)), everything(), FEW)
    check(found, reached, everything())
    assert len(np.unique(found.tag)) == reached.sum(0).max() == 12
    assert found.tag.min() >= FEW.first_tag  # the reliable half first


def test_sources_split_their_destination_where_pairs_collide() -> None:
    """Three sets of pairs in a triangle: 24 sources at each core, but 36 tags if none is split."""
    masks = [0b0011] * 12 + [0b0110] * 12 + [0b0101] * 12
    reached = np.array([[mask >> core & 1 for core in range(4)] for mask in masks], bool)
    found = assign_tags(reached, np.ones(36, int), np.ones(36), everything(), FEW)
    check(found, reached, everything())
    with pytest.raises(CapacityError, match=r"24 sources.*24 tags apart.*no SRAM row left to split"):
        assign_tags(reached, np.zeros(36, int), np.ones(36), everything(), FEW)


def test_a_full_core_says_which_and_why() -> None:
    reached = np.zeros((25, 4), bool)
    reached[:, 2] = True
    with pytest.raises(CapacityError, match="core 2 of chip 0 is reached by 25 sources, a core tells 24 tags apart"):
        assign_tags(reached, np.ones(25, int), np.ones(25), everything(), FEW)
    usable = everything()
    usable[2, :4] = False
    with pytest.raises(CapacityError, match=r"25 sources.*the chip profile leaves 20 of them"):
        assign_tags(reached, np.ones(25, int), np.ones(25), usable, FEW)
    assign_tags(reached[:20], np.ones(20, int), np.ones(20), usable, FEW)


def pooled(networks: ModuleType, channels: int, equal: bool, neurons: int = 100) -> Network:
    """`neurons` neurons, each with the events of channels of its own, all alike where `equal`."""
    per = channels // neurons
    rng = np.random.default_rng(1)
    weight = np.full(channels, 0.05) if equal else rng.uniform(0.05, 0.06, channels)
    pooling = Projection("in", "p", np.arange(channels), np.arange(channels) // per, weight, nodes=("pool",))
    return Network(
        (networks.population("p", neurons),),
        (pooling,),
        (Port("in", (channels,)),),
        (Port("out", (neurons,), "p"),),
        1e-3,
    )


def test_sources_with_the_same_targets_share_a_tag_where_tags_run_short(networks: ModuleType) -> None:
    net = pooled(networks, 3000, equal=True)
    layout = compile(net)
    source, neuron, _ = matches(layout)
    assert set(zip(source.tolist(), neuron.tolist(), strict=True)) == {(c, c // 30) for c in range(3000)}
    assert len(np.unique(layout.cam["tag"][layout.cam["dendrite"] >= 0])) == 100
    for spread in (compile(net, share_tags=False), compile(pooled(networks, 3000, equal=False))):
        assert len(np.unique(spread.core)) == 2  # no core hears more than it can tell apart
        assert len(matches(spread)[0]) >= 3000
    with pytest.raises(CapacityError, match="sources, a core tells 2048 tags apart"):
        compile(pooled(networks, 9000, equal=False, neurons=1000))
    assert (
        len(np.unique(compile(pooled(networks, 9000, equal=True, neurons=1000)).input_rows["tag"])) == 256
    )  # cores tell them apart
    few = pooled(networks, 300, equal=True)
    assert len(np.unique(compile(few).input_rows["tag"])) == 300
    assert len(np.unique(compile(few, share_tags=True).input_rows["tag"])) == 100


def test_sharing_saves_cam_rows_and_the_board_sees_every_event(networks: ModuleType) -> None:
    """80 equal inputs of one neuron: refused row by row, one row where their tags may be shared."""
    import nir_dynapse as nd

    net = networks.feed_forward(np.full((1, 80), 0.02))
    with pytest.raises(CapacityError, match="80 incoming synapses"):
        compile(net)
    layout = compile(net, share_tags=True)
    assert nd.from_samna(nd.to_samna(layout)) == layout
    x = np.zeros((1, 50, 80))
    x[0, np.arange(50), np.arange(50) % 80] = 1
    x[0, ::5] = 1
    alone = networks.feed_forward(np.full((1, 1), 0.02))
    single = nd.simulate(compile(alone), x.sum(2, keepdims=True)).output
    assert single.sum() > 3
    assert (nd.simulate(layout, x).output == single).all()
