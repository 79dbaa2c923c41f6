"""The E/I network of `silicon.py`: 200 excitatory and 50 inhibitory neurons at recorded codes that sustain themselves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

import nir_dynapse as nd
from nir_dynapse.chip import biasgen
from nir_dynapse.chip.device import AMPA, BASE_WEIGHTS, CURRENTS, NMDA, PARAMETERS, SHUNT, Circuit, Mismatch
from nir_dynapse.circuit.params import Params, Topology
from nir_dynapse.network.network import Port
from nir_dynapse.sim.mismatch import fabricate

N_E, N_I, IN_E, IN_I = 200, 50, 20, 5
"""Neurons, and how many of each a neuron hears."""
TARGET = (20.0, 40.0)
"""Hz of E and I on the chip."""
BOTH = {
    "i_tau_ampa": (2, 30), "i_gain_ampa": (2, 35), "i_tau_nmda": (1, 60), "i_gain_nmda": (1, 130),
    "i_tau_gaba": (1, 50), "i_tau_shunt": (2, 16), "i_gain_shunt": (1, 90),
    "i_pulse": (3, 200), "i_delay_precise": (5, 250), "i_delay_mismatched": (1, 80),
}  # fmt: skip
CODES = (
    BOTH
    | {"i_tau_mem": (2, 4), "i_gain_mem": (3, 40), "i_ref": (2, 45), "i_spkthr": (3, 40), "i_gain_gaba": (1, 50)}
    | {"i_w0": (5, 26), "i_w1": (3, 189), "i_w2": (4, 99)},
    BOTH
    | {"i_tau_mem": (2, 10), "i_gain_mem": (3, 60), "i_ref": (2, 85), "i_spkthr": (3, 60), "i_gain_gaba": (1, 70)}
    | {"i_w1": (4, 58), "i_w2": (3, 126)},
)
"""Bias codes of the cores of E and I, with the weights at which the laboratory's learning ended."""
DT, SECONDS, KICK = 1e-3, 1.1, 5
"""Bin and length of a run in s, and the events of the kick, 10 ms apart."""


@dataclass(frozen=True)
class Change:
    """Factors on what the recordings leave open: capacitors of membranes and of the refractory period, the weight from E to
    E, the AMPA gain of the inhibitory neurons, and the weight from I to E."""

    c_mem: float = 1.0
    c_ref: float = 1.0
    wee: float = 1.0
    pv_gain: float = 1.0
    wei: float = 1.0


def network(circuit: Circuit, change: Change = Change(), seed: int = 0) -> Params:
    """The network with `change`; who hears whom is drawn with `seed`."""
    rng = np.random.default_rng(seed)
    n = N_E + N_I
    pre, post, dendrite, mask, delay = [], [], [], [], []

    def connect(source: int, target: int, kind: int, bit: int, late: int = 0) -> None:
        pre.append(source)
        post.append(target)
        dendrite.append(kind)
        mask.append(1 << bit)
        delay.append(late)

    for k in rng.choice(N_E, round(0.8 * N_E), replace=False).tolist():
        connect(0, k, AMPA, 0, 2)
    for k in range(n):
        excited = np.setdiff1d(np.arange(N_E), [k])
        inhibited = np.setdiff1d(np.arange(N_E, n), [k])
        for source in rng.choice(excited, IN_E, replace=False).tolist():
            connect(2 + source, k, NMDA if k < N_E else AMPA, 1)
        for source in rng.choice(inhibited, IN_I, replace=False).tolist():
            connect(2 + source, k, SHUNT, 2)
    order = np.argsort(post, kind="stable")
    post_ = np.array(post)[order]
    row = np.arange(len(post_)) - np.searchsorted(post_, post_)
    place = [(0, 2, k) if k < N_E else (0, 1, k - N_E) for k in range(n)]
    group = np.repeat([0, 1], [N_E, N_I])
    topology = Topology(
        (Port("kick", (1,)),), (("E", N_E), ("I", N_I)), (), DT, group, np.zeros(n), np.array(place),
        np.array(pre)[order], post_, np.array(dendrite)[order], row, np.array(mask)[order], delay=np.array(delay)[order],
    )  # fmt: skip

    def flowing(name: str, codes: dict[str, tuple[int, int]]) -> float:
        return float(biasgen.current(name, *codes[name])) if name in codes else PARAMETERS[name].off

    bias = {name: np.array([flowing(name, codes) for codes in CODES]) for name in CURRENTS}
    bias["i_gain_ampa"][1] *= change.pv_gain
    base = np.array([[flowing(name, codes) for name in BASE_WEIGHTS] for codes in CODES])
    base[0, 1] *= change.wee
    base[0, 2] *= change.wei
    made = replace(circuit, c_mem=circuit.c_mem * change.c_mem, c_ref=circuit.c_ref * change.c_ref)
    return Params(bias, None, base, topology, made).check()


def ei_rates(params: Params, chip: int | None, mismatch: Mismatch) -> tuple[float, float]:
    """Mean rates in Hz of E and I in the last 0.5 s, 1 s after the kick."""
    x = np.zeros((1, round(SECONDS / DT), 1), np.uint8)
    x[0, : 10 * KICK : 10] = 1
    params = params if chip is None else fabricate(params, mismatch, chip)
    spikes = nd.simulate(params, x).spikes
    last = round(0.5 / DT)
    return tuple(float(spikes[name][0, -last:].mean() / DT) for name in ("E", "I"))  # pyright: ignore[reportReturnType]


LIMITS = {"c_mem": (1.0, 13.0), "c_ref": (1.5, 2.4), "wee": (1.0, 1.5), "pv_gain": (0.3, 1.0), "wei": (0.5, 1.0)}
"""Between which the recordings leave each of `Change` open."""
NEAR = 0.25
"""How far rates may be off those recorded, in parts of them."""


@dataclass(frozen=True)
class Found:
    """What a change does: chips that go on, those whose rates are both `NEAR` the recorded ones, medians of those that go
    on in Hz, and the mean distance of ln(rate) from what was recorded."""

    change: Change
    chips: int
    alive: int
    near: int
    e: float
    i: float
    distance: float


def found(circuit: Circuit, change: Change, chips: range, mismatch: Mismatch, seed: int = 0) -> Found:
    rates = np.array([ei_rates(network(circuit, change, seed), chip, mismatch) for chip in chips])
    alive = rates[:, 0] > 1
    near = (np.abs(rates / TARGET - 1) <= NEAR).all(1)
    e, i = np.median(rates[alive], 0) if alive.any() else (0.0, 0.0)
    distance = np.abs(np.log(np.maximum(rates, 1.0) / TARGET)).sum(1).mean()
    return Found(change, len(rates), int(alive.sum()), int(near.sum()), float(e), float(i), float(distance))


def grid() -> Iterator[Change]:
    """What `search` tries first."""
    c_mem, c_ref, wee, pv_gain, wei = (
        (1.0, 2.0, 4.0, 13.0),
        (1.5, 2.36),
        (1.0, 1.25, 1.5),
        (0.35, 0.5, 0.7, 1.0),
        (0.7, 1.0),
    )
    for values in product(c_mem, c_ref, wee, pv_gain, wei):
        yield Change(*values)


FOUND = Change(c_mem=4.156, c_ref=2.4, wee=1.0, pv_gain=0.7, wei=0.735)
"""What `search` found on 2026-12-01, from `Circuit.published`."""


def search(circuit: Circuit, mismatch: Mismatch) -> Found:
    """The change within `LIMITS` whose rates are nearest to the recorded ones on chips 0 to 19: the best of `grid` on four
    chips, then steps of 20, 10 and 5 % of one constant at a time for as long as they help."""

    def tried(change: Change, chips: int = 20) -> Found:
        return found(circuit, change, range(chips), mismatch)

    first = sorted((tried(change, 4) for change in grid()), key=lambda f: f.distance)[:5]
    best = min((tried(f.change) for f in first), key=lambda f: f.distance)
    for step in (1.2, 1.1, 1.05):
        better: Found | None = best
        while better is not None:
            best, better = better, None
            for name, (low, high) in LIMITS.items():
                for factor in (step, 1 / step):
                    value = float(np.clip(getattr(best.change, name) * factor, low, high))
                    if value == getattr(best.change, name):
                        continue
                    trial = tried(replace(best.change, **{name: value}))
                    if trial.distance < (better or best).distance:
                        better = trial
    return best
