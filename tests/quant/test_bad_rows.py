# IMPORT
# IMPORT
# IMPORT
"""Chips with bad neurons, CAM rows and tags: nothing bad is used, nothing is lost, and what fits is found.

`misuse` reads the raw arrays of the profiles and the bits of the Layout; it shares no code with the compiler.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nir_dynapse.chip.device import DYNAPSE2, Device
from nir_dynapse.chip.profile import BOARDS, ChipProfile
from nir_dynapse.errors import CapacityError
from nir_dynapse.layout.layout import Layout
from nir_dynapse.network.network import Network, Port, Projection
from nir_dynapse.quant.compiler import compile
from random_networks import build
from shortened import shortened
from small_networks import population
from synapse_check import complaints

BOUND = 0.3
"""Largest RMS error over RMS weight of a core; how far weights are off is for other tests."""


def misuse(layout: Layout, *profiles: ChipProfile | None) -> list[str]:
    """Neurons, CAM rows, tags and single (row, tag) that are used though bad; unused rows that are not empty."""
    neuron, row = np.nonzero(layout.cam["dendrite"] >= 0)
    tag = layout.cam["tag"][neuron, row].astype(int)
    found = []
    if any(bits.tolist() != (0, -1, 0, 0) for bits in layout.cam[layout.cam["dendrite"] < 0]):
        found.append("an unused row is not empty")
    for chip, profile in enumerate(profiles):
        if profile is None:
            continue
        here = layout.chip == chip
        bad = int((~profile.neurons[layout.core[here], layout.slot[here]]).sum())
        found += [f"chip {chip}: {bad} bad neurons"] if bad else []
        at = here[neuron]
        core, slot, r, t = layout.core[neuron[at]], layout.slot[neuron[at]], row[at], tag[at]
        for what, good in (("rows", profile.rows[core, slot, r, t >> 10]), ("tags", profile.tags[core, t])):
            found += [f"chip {chip}: {int((~good).sum())} bad {what}"] if not good.all() else []
        used = set(zip(core.tolist(), slot.tolist(), r.tolist(), t.tolist(), strict=True))
        if single := used & {tuple(pair) for pair in profile.pairs.tolist()}:
            found.append(f"chip {chip}: single failures {single}")
    return found


def right(net: Network, device: Device, *, spare_rows: bool = False, **options) -> Layout:
    """The Layout of `net`, which must use nothing bad and make every synapse."""
    layout = compile(net, device=device, spare_rows=spare_rows, **options)
    assert misuse(layout, *device.profiles) == []
    assert complaints(net, layout, "outputs", BOUND) == []
    return layout


def one(profile: ChipProfile | None) -> Device:
    return DYNAPSE2.with_profiles(profile)


def profile(name: str = "worn", good: dict[tuple[int, int], int] | None = None, **arrays: Any) -> ChipProfile:
    """A chip on which only the neurons `good` work, (core, slot) -> number of good CAM rows (at random places)."""
    if good is None:
        return ChipProfile(name, **arrays)
    neurons, rows = np.zeros((4, 256), bool), np.zeros((4, 256, 64, 2), bool)
    for (core, slot), n in good.items():
        neurons[core, slot] = True
        rows[core, slot, np.random.default_rng([core, slot]).choice(64, n, replace=False)] = True
    return ChipProfile(name, **{"neurons": neurons, "rows": rows, **arrays})


def only(tags: list[int]) -> np.ndarray:
    """Only these tags reach the cores."""
    usable = np.zeros((4, 2048), bool)
    usable[:, tags] = True
    return usable


def fan(*needs: np.ndarray | list[int]) -> Network:
    """A population (and bias group) per list, of neurons that listen to as many of the input channels."""
    rng = np.random.default_rng(0)
    taus = (20e-3, 60e-3, 120e-3)
    pops = tuple(population(f"p{k}", len(need), taus[k]) for k, need in enumerate(needs))
    channels = int(max(max(need) for need in needs))
    links = []
    for p, need in zip(pops, needs, strict=True):
        pre = np.concatenate([rng.choice(channels, n, replace=False) for n in need])
        post = np.repeat(np.arange(p.size), need)
        links.append(Projection("in", p.name, pre, post, rng.uniform(0.02, 0.1, len(pre)), nodes=(f"to_{p.name}",)))
    outputs = tuple(Port(f"out_{p.name}", (p.size,), p.name) for p in pops)
    return Network(pops, tuple(links), (Port("in", (channels,)),), outputs, 1e-3)


def spread(
    seed: int, n: int, channels: int, groups: int = 1, fan: tuple[int, int] = (1, 64), rec: bool = True
) -> Network:
    """Fan-in from `fan[0]` to `fan[1]`, from channels and (`rec`) neurons, of both signs; bias groups interleaved."""
    rng = np.random.default_rng(seed)
    fan_in = np.r_[fan, rng.integers(fan[0], fan[1] + 1, n - 2)]
    sources = channels + n * rec
    pre = np.concatenate([rng.choice(sources, k, replace=False) for k in fan_in])
    post = np.repeat(np.arange(n), fan_in)
    weight = rng.choice([-1, 1, 1], len(pre)) * rng.uniform(0.02, 0.1, len(pre))
    p = population("p", n)
    tau = np.array([20e-3, 60e-3])[np.arange(n) % groups]
    p = replace(p, tau_mem=tau, r=tau / 1e-3)
    own = pre >= channels
    links = [Projection("in", "p", pre[~own], post[~own], weight[~own], nodes=("fc",))]
    if rec:
        links.append(Projection("p", "p", pre[own] - channels, post[own], weight[own], nodes=("rec",)))
    return Network((p,), tuple(links), (Port("in", (channels,)),), (Port("out", (n,), "p"),), 1e-3)


# --- made-up chips with the statistics of real ones ------------------------------------------------------------------


CASES = [*((board, 120, 1, True) for board in BOARDS), *((board, 300, 2, False) for board in ("green", "pink", "red"))]


@pytest.mark.parametrize(("board", "n", "groups", "restrict"), shortened(CASES, 3))
def test_nothing_bad_is_used_and_nothing_is_lost(board: str, n: int, groups: int, restrict: bool) -> None:
    chip = ChipProfile.synthetic(n, board, restrict_tags=restrict)
    assert 0.2 < 1 - chip.rows.mean() < 0.4
    assert 0.2 < (~chip.rows.all(-1)).mean() < 0.6  # bad for one half of the tags at least
    net = spread(n, n, 40, groups)
    layout = right(net, one(chip), spare_rows=n < 200)
    # Within a core the neurons with the most inputs sit where most rows work: what is left over is for finer weights.
    need = np.bincount(np.concatenate([post for _, _, post in net.synapses()]), minlength=n)
    rows = chip.rows[layout.core, layout.slot, :, 1].sum(1)
    for core in np.unique(layout.core):
        here = np.flatnonzero(layout.core == core)
        few, many = np.array_split(here[np.argsort(need[here])], 2)
        assert rows[many].mean() > rows[few].mean() or rows[few].mean() == 64


@pytest.mark.parametrize("board", ["green", "purple", "red"])
def test_low_tags_where_the_high_ones_do_not_suffice(board: str) -> None:
    """1300 sources at one core: a fifth of the tags are low, where on these boards up to six in ten rows fail."""
    layout = right(spread(1, 200, 1300, fan=(1, 24), rec=False), one(ChipProfile.synthetic(2, board)))
    tags = np.unique(layout.cam["tag"][layout.cam["dendrite"] >= 0])
    assert (tags < 1024).sum() >= 100
    assert (tags >= 1024).sum() == 1024


@pytest.mark.long
@pytest.mark.parametrize(
    ("boards", "n", "groups"), [(("green", "purple"), 1100, "one"), (("red", "dev", "orange"), 2100, "interleaved")]
)
def test_every_chip_of_a_stack_has_its_own_bad_rows(boards: tuple[str, ...], n: int, groups: str) -> None:
    chips = [ChipProfile.synthetic(5, board) for board in boards]
    net = build("sparse", 4, n, groups=groups, scale=0.05)
    layout = right(net, DYNAPSE2.stack(len(boards)).with_profiles(*chips), budget=2.0)
    assert set(layout.chip.tolist()) == set(range(len(boards)))
    assert misuse(layout, *chips[1:], chips[0])  # which is not what would have done on the wrong chip


@pytest.mark.long
def test_a_profile_acts_on_its_chip_only() -> None:
    odd = np.ones((4, 256), bool)
    odd[:, ::2] = False
    net = build("sparse", 1, 950)
    for profiles in ((None, ChipProfile("odd", odd)), (ChipProfile("even", ~odd), ChipProfile("odd", odd))):
        layout = right(net, DYNAPSE2.stack(2).with_profiles(*profiles), budget=1.0)
        assert (layout.slot[layout.chip == 1] % 2 == 1).all()
        even = layout.slot[layout.chip == 0] % 2 == 0
        assert even.all() if profiles[0] else 0.4 < even.mean() < 0.6


# --- where a solution exists -----------------------------------------------------------------------------------------


def fits(needs: list[list[int]], good: dict[tuple[int, int], int]) -> bool:
    """Whether neurons find slots of their own with enough rows, no core with two groups: by trying everything."""
    wanted = [(g, n) for g, need in enumerate(needs) for n in need]
    for slots in permutations(good, len(wanted)):
        owner: dict[int, int] = {}
        if all(
            owner.setdefault(core, g) == g and good[core, slot] >= n
            for (core, slot), (g, n) in zip(slots, wanted, strict=True)
        ):
            return True
    return False


@st.composite
def tiny(draw: st.DrawFn) -> tuple[list[list[int]], dict[tuple[int, int], int]]:
    """Up to four neurons in up to three bias groups, up to five good slots."""
    needs = draw(st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=3), min_size=1, max_size=3))
    slots = st.tuples(st.integers(0, 3), st.integers(0, 255))
    good = draw(st.dictionaries(slots, st.integers(1, 6), min_size=1, max_size=5))
    while sum(map(len, needs)) > 4:
        needs[-1] = needs[-1][1:]
        needs = [need for need in needs if need]
    return needs, good


@pytest.mark.long
@given(tiny())
@example(([[5, 1], [1]], {(0, 0): 5, (0, 7): 1, (1, 0): 5}))
@example(([[1], [5]], {(2, 255): 5, (0, 0): 1}))
@settings(max_examples=30)
def test_a_place_is_found_exactly_where_there_is_one(case) -> None:
    needs, good = case
    net, device = fan(*needs), one(profile(good=good))
    if fits(needs, good):
        right(net, device)
    else:
        with pytest.raises(CapacityError, match=r"profile 'worn'.*(fan_in=|fewer)"):
            compile(net, device=device)


def test_exactly_as_many_good_slots_as_needed() -> None:
    """Every slot must be taken by a neuron with exactly as many inputs, in random order; one row less is refused."""
    rng = np.random.default_rng(3)
    need = rng.integers(1, 65, 200)
    slots = [divmod(int(k), 256) for k in rng.choice(1024, 200, replace=False)]
    good = dict(zip(slots, rng.permutation(need).tolist(), strict=True))
    layout = right(fan(need), one(profile(good=good)), spare_rows=True)
    assert {(c, s) for c, s in zip(layout.core.tolist(), layout.slot.tolist(), strict=True)} == set(slots)
    assert ((layout.cam["dendrite"] >= 0).sum(1) == need).all()  # and no row is left for a finer weight
    worst = max(good, key=lambda slot: good[slot])
    with pytest.raises(CapacityError, match="incoming synapses"):
        compile(fan(need), device=one(profile(good={**good, worst: good[worst] - 1})))


@pytest.mark.parametrize("core", shortened(range(4)))
def test_one_core_is_all_there_is(core: int) -> None:
    neurons = np.zeros((4, 256), bool)
    neurons[core] = True
    chip = ChipProfile("one core", neurons)
    assert set(right(fan([3] * 256), one(chip)).core.tolist()) == {core}
    for net in (fan([3] * 257), fan([3], [3])):
        with pytest.raises(CapacityError, match="profile 'one core'"):
            compile(net, device=one(chip))


def test_groups_take_the_cores_that_suit_them() -> None:
    """In index order the first group would take the only core with slots good enough for the second."""
    rows = np.zeros((4, 256, 64, 2), bool)
    for core, n in enumerate((64, 8, 8, 30)):
        rows[core, :, 64 - n :] = True
    layout = right(fan([8] * 300, [30] * 100, [64] * 50), one(ChipProfile("uneven", rows=rows)))
    assert set(layout.core[:300].tolist()) == {1, 2}
    assert set(layout.core[300:400].tolist()) == {3}
    assert set(layout.core[400:].tolist()) == {0}


def test_as_few_tags_as_there_are_sources() -> None:
    tags = [5, 77, 1023, 1024, 1500, 2047]
    layout = right(fan([6] * 8), one(profile(tags=only(tags))))
    assert set(layout.cam["tag"][layout.cam["dendrite"] >= 0].tolist()) == set(tags)
    with pytest.raises(CapacityError, match=r"7 sources.*the chip profile leaves 6 of them"):
        compile(fan([7] * 8), device=one(profile(tags=only(tags))))


def test_single_failures_leave_one_way_to_give_rows_to_tags() -> None:
    """Row k works for the last k + 1 of the tags only: the first row must take the last tag."""
    tags = list(range(1024, 1032))
    good, usable = profile(good={(0, 9): 8}), only(tags)
    rows = np.flatnonzero(good.rows[0, 9, :, 1]).tolist()
    pairs = [(0, 9, row, tag) for k, row in enumerate(rows) for tag in tags[: 7 - k]]
    chip = profile(good={(0, 9): 8}, tags=usable, pairs=np.array(pairs))
    layout = right(fan([8]), one(chip))
    assert layout.cam["tag"][0, rows].tolist() == tags[::-1]
    broken = profile(good={(0, 9): 8}, tags=usable, pairs=np.array([*pairs, (0, 9, rows[0], tags[-1])]))
    with pytest.raises(CapacityError, match=r"neuron 9.*profile 'worn'.*8 tags"):
        compile(fan([8]), device=one(broken))


def test_rows_of_each_half_and_of_both() -> None:
    """Three low and three high tags, rows 2 + 2 + 4: each half needs a row that would do for the other, too."""
    rows = np.zeros((4, 256, 64, 2), bool)
    rows[1, 3, [0, 1], 0] = rows[1, 3, [2, 3], 1] = rows[1, 3, 60:] = True
    neurons = np.zeros((4, 256), bool)
    neurons[1, 3] = True
    layout = right(fan([6]), one(ChipProfile("halves", neurons, rows, only([0, 1, 2, 1024, 1025, 1026]))))
    tag = layout.cam["tag"][0]
    assert (tag[[2, 3]] == 0).sum() + (tag[[2, 3]] >= 1024).sum() == 2


def test_another_chip_helps() -> None:
    poor = profile("poor", {(core, slot): 10 for core in range(4) for slot in range(256)})
    net = fan([20] * 30)
    dead = ChipProfile("dead", np.zeros((4, 256), bool))
    assert set(right(net, DYNAPSE2.stack(2).with_profiles(dead), budget=1.0).chip.tolist()) == {1}
    mixed = fan([20] * 30 + [5] * 300)
    assert set(right(mixed, DYNAPSE2.stack(2).with_profiles(poor), budget=1.0).chip[:30].tolist()) == {1}


# --- spare rows ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("good", "most"), [(10, 10), (12, 12), (40, 30)])
def test_spare_rows_are_good_rows(good: int, most: int) -> None:
    chip = profile(good={(core, slot): good for core in range(4) for slot in range(256)})
    used = (right(fan([10] * 100), one(chip), spare_rows=True).cam["dendrite"] >= 0).sum(1)
    assert used.max() <= most
    assert used.sum() > 1000 if good > 10 else used.sum() == 1000


def test_single_failures_cost_spare_rows_not_synapses() -> None:
    """Four rows for three tags, but the fourth row hears none of them: one row per weight, as without spare rows."""
    tags, usable = [1024, 1025, 1026], only([1024, 1025, 1026])
    row = int(np.flatnonzero(profile(good={(2, 0): 4}).rows[2, 0, :, 1])[0])
    chip = profile(good={(2, 0): 4}, tags=usable, pairs=np.array([(2, 0, row, tag) for tag in tags]))
    layout = right(fan([3]), one(chip), spare_rows=True)
    assert int((layout.cam["dendrite"] >= 0).sum()) == 3


# --- where there is none ---------------------------------------------------------------------------------------------


def test_too_few_good_slots_are_counted() -> None:
    slots = [(0, 3), (1, 200), (3, 17), (3, 18), (2, 0)]
    chip = profile(good=dict(zip(slots, (12, 12, 12, 5, 5), strict=True)))
    net = fan([10, 10, 2, 10, 10])
    with pytest.raises(CapacityError) as caught:
        compile(net, device=one(chip))
    (finding,) = caught.value.findings
    assert (finding.code, finding.used, finding.limit) == ("bad-rows", 10, 12)
    assert "4 neurons have 10 incoming synapses or more, chip 0 with profile 'worn' has 3 neurons" in finding.what
    assert 'fan_in="prune"' in finding.hint
    layout = compile(net, device=one(chip), fan_in="prune", spare_rows=False)
    assert misuse(layout, chip) == []
    (dropped,) = (f for f in layout.findings if f.code == "fan-in")
    assert dropped.severity == "warning"
    assert "weakest 5 synapses were dropped to fit 5 CAM rows; it loses" in dropped.what
    count = [len({tuple(bits[["tag", "dendrite"]]) for bits in rows[rows["dendrite"] >= 0]}) for rows in layout.cam]
    assert sorted(count) == [2, 5, 10, 10, 10]
    assert count[2] == 2


def test_too_few_good_neurons_and_groups_are_refused_even_when_pruning() -> None:
    chip = profile(good={(0, 0): 9, (0, 1): 9})
    for net, words in ((fan([2, 2, 2]), "3 neurons have 2"), (fan([2], [2]), "not with one bias group per core")):
        for fan_in in ("refuse", "prune"):
            with pytest.raises(CapacityError, match=words) as caught:
                compile(net, device=one(chip), fan_in=fan_in)  # type: ignore[arg-type]
            assert "'worn'" in str(caught.value)


# --- other cores and slots where the first ones do not suit ----------------------------------------------------------


def without(chip: ChipProfile, cores: list[int], slots: list[int] | None = None) -> ChipProfile:
    neurons = chip.neurons.copy()
    neurons[np.ix_(cores, slots or list(range(256)))] = False
    return ChipProfile(chip.name, neurons, chip.rows, chip.tags, chip.pairs)


def hard() -> dict[str, tuple[Network, ChipProfile, ChipProfile]]:
    """Networks that fit a chip, because they fit a worse one, on which nothing works that does not work on the other."""
    low_fails, tags = np.ones((4, 256, 64, 2), bool), np.ones((4, 2048), bool)
    low_fails[0, :, :, 0] = False
    tags[0] = False
    found = {}
    for board in ("green",):  # the low rows of its core 2 fail altogether
        chip, net = ChipProfile.synthetic(3, board), spread(0, 740, 1300, fan=(14, 14), rec=False)
        found[f"low tags, {board}"] = net, chip, without(chip, [2])
    chip = ChipProfile("no low rows in core 0", rows=low_fails)
    found["low tags"] = spread(0, 100, 1300, fan=(30, 30), rec=False), chip, without(chip, [0])
    chip = ChipProfile("core 0 hears nothing", tags=tags)
    found["a core without tags"] = fan([2] * 3), chip, without(chip, [0])
    chip = ChipProfile("slot 0 is deaf to 1024", pairs=np.array([(0, 0, row, 1024) for row in range(64)]))
    found["single failures of a slot"] = fan([1]), chip, without(chip, [0], [0])
    return found


HARD = hard()


@pytest.mark.parametrize("name", shortened(HARD))
def test_a_chip_holds_what_a_worse_one_does(name: str) -> None:
    net, chip, worse = HARD[name]
    assert misuse(right(net, one(worse)), chip) == []
    right(net, one(chip))


def test_rows_for_low_tags_only() -> None:
    chip = profile(good={(0, 0): 5})
    right(fan([5]), one(ChipProfile("low only", chip.neurons, chip.rows & np.array([True, False]))))


@pytest.mark.parametrize("first", shortened([True, False]))
def test_needy_neurons_go_to_the_better_chip(first: bool) -> None:
    """400 neurons with 20 inputs for a perfect chip, 800 with 5 for one with 10 good rows each."""
    poor = profile("poor", {(core, slot): 10 for core in range(4) for slot in range(256)})
    device = DYNAPSE2.stack(2).with_profiles(*((poor, None) if first else (None, poor)))
    right(fan([20, 5, 5] * 400), device, budget=1.0)


def test_too_many_sources_for_one_core() -> None:
    """256 neurons with ten channels of their own each: 2560 sources are too many for one core, not for two of four."""
    channel = np.arange(2560)
    link = Projection("in", "p", channel, channel // 10, 0.05 + 1e-5 * channel, nodes=("pool",))
    p, ports = population("p", 256), ((Port("in", (2560,)),), (Port("out", (256,), "p"),))
    right(Network((p,), (link,), *ports, 1e-3), DYNAPSE2)
