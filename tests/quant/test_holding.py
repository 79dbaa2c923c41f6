"""Every network is on the chips, or refused with the number of chips that would hold it, or with why none would."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from nir_dynapse.chip.device import DYNAPSE2, Device
from nir_dynapse.errors import CapacityError
from nir_dynapse.network.network import Network, Port, Projection
from nir_dynapse.quant.compiler import compile
from nir_dynapse.quant.rules import check_layout
from small_networks import feed_forward, population

SMALL = replace(DYNAPSE2, neurons_per_core=3, cam_rows=12, n_tags=24, first_tag=12)
"""12 neurons and, a core, 36 CAM rows for 24 tags."""


def layers(sizes: list[int], seed: int, fan_in: int | None = None) -> Network:
    """Feed-forward layers of `sizes`, the first one the inputs, dense or with `fan_in` synapses of each neuron."""
    rng = np.random.default_rng(seed)
    names = ["in", *(f"layer{k}" for k in range(1, len(sizes)))]
    links = []
    for k in range(1, len(sizes)):
        weight = rng.uniform(0.1, 1.0, (sizes[k], sizes[k - 1])) * 2 / np.sqrt(sizes[k - 1])
        if fan_in is not None:
            for row in weight:
                row[rng.permutation(sizes[k - 1])[fan_in:]] = 0
        links.append(Projection.from_dense(names[k - 1], names[k], weight))
    populations = tuple(population(name, size) for name, size in zip(names[1:], sizes[1:], strict=True))
    return Network(populations, tuple(links), (Port("in", (sizes[0],)),), (Port("out", (sizes[-1],), names[-1]),), 1e-3)


def holds_or_says_how_many(net: Network, device: Device) -> str:
    """Compiles `net`; where it is refused, on as many chips as the error says. Returns what happened in a word."""
    try:
        layout = compile(net, device=device, fan_in="prune", spare_rows=False, budget=0.5)
    except CapacityError as error:
        said = str(error)
    else:
        assert not check_layout(layout, device)
        return "fits"
    if found := re.search(r"(\d+) chips would hold it: .*--chips (\d+)", said):
        chips = int(found[1])
        assert chips == int(found[2]) > device.n_chips
        layout = compile(net, device=device.stack(chips), fan_in="prune", spare_rows=False, budget=10.0)
        assert not check_layout(layout, device.stack(chips))
        return "more chips"
    if found := re.search(r"not even (\d) chips would hold it: \S+", said, re.IGNORECASE):  # fewer where time ran out
        with pytest.raises(CapacityError):
            compile(net, device=device.stack(int(found[1])), fan_in="prune", spare_rows=False, budget=0.5)
        return "no stack"
    found = re.search(r"the neurons alone take (\d+) chips", said)
    assert found, said
    assert int(found[1]) > device.max_stack
    return "too large"


@pytest.mark.long
@settings(max_examples=30, deadline=None, phases=[Phase.generate])
@given(
    sizes=st.lists(st.integers(1, 40), min_size=2, max_size=3),
    seed=st.integers(0, 99),
    fan_in=st.one_of(st.none(), st.integers(1, 12)),
    chips=st.integers(1, 3),
)
def test_small_chips(sizes: list[int], seed: int, fan_in: int | None, chips: int) -> None:
    holds_or_says_how_many(layers(sizes, seed, fan_in), SMALL.stack(chips))


@pytest.mark.parametrize(("sizes", "chips"), [([30, 20, 8], 1), ([40, 9], 1), ([6, 60, 60], 2), ([9, 30], 3)])
def test_some_shapes(sizes: list[int], chips: int) -> None:
    holds_or_says_how_many(layers(sizes, 0, 5), SMALL.stack(chips))


@pytest.mark.long
@settings(max_examples=8, deadline=None, phases=[Phase.generate])
@given(
    sizes=st.tuples(st.integers(1, 2000), st.integers(1, 1000), st.integers(1, 1000)),
    seed=st.integers(0, 99),
    fan_in=st.one_of(st.none(), st.integers(1, 64)),
)
def test_the_chip(sizes: tuple[int, int, int], seed: int, fan_in: int | None) -> None:
    """Any 1 to 2 000 inputs and layers of up to 1 000 neurons."""
    holds_or_says_how_many(layers(list(sizes), seed, fan_in), DYNAPSE2)


@pytest.mark.parametrize(("sizes", "chips"), [([3, 13], 2), ([3, 20, 20], 4)])
def test_neurons_say_how_many_chips(sizes: list[int], chips: int) -> None:
    net = layers(sizes, 0, 1)
    with pytest.raises(CapacityError, match=rf"\b{chips} chips would hold it.*--chips {chips}"):
        compile(net, device=SMALL)
    compile(net, device=SMALL.stack(chips))


def test_tags_say_how_many_chips() -> None:
    """12 neurons with 12 channels each of their own: 3 neurons of a core listen to 36, a core tells 24 apart."""
    weight = np.random.default_rng(0).uniform(0.1, 0.2, (12, 12))
    net = feed_forward((np.eye(12)[:, :, None] * weight[:, None]).reshape(12, -1))
    with pytest.raises(CapacityError, match=r"24 tags apart.* 3 chips would hold it: .*--chips 3"):
        compile(net, device=SMALL)
    layout = compile(net, device=SMALL.stack(3))
    assert set(layout.chip.tolist()) == {0, 1, 2}


def test_what_no_stack_holds_says_why() -> None:
    """One neuron that must be heard by every core of 8 chips has 4 SRAM rows."""
    sizes = {"first": 1, "second": 80}
    links = (
        Projection.from_dense("in", "first", np.full((1, 1), 0.1)),
        Projection.from_dense("first", "second", np.full((sizes["second"], 1), 0.1)),
    )
    net = Network(
        tuple(population(name, n) for name, n in sizes.items()),
        links,
        (Port("in", (1,)),),
        (Port("o", (1,), "first"),),
        1e-3,
    )
    with pytest.raises(CapacityError, match=r"ot even 8 chips would hold it: .*SRAM rows"):
        compile(net, device=SMALL.stack(2))


def test_too_many_synapses_are_too_many_on_any_stack() -> None:
    with pytest.raises(CapacityError, match="13 incoming synapses") as caught:
        compile(feed_forward(np.full((20, 13), 0.1)), device=SMALL)
    assert "ith 12 synapses a neuron 2 chips would hold it" in str(caught.value)
