"""What is fitted: a few logarithms of factors per population, their limits, and the bias currents that they make.

weights   I_gain,s ← factor · I_gain,s         (AMPA: excitation, GABA: inhibition; the event's charge times factor)
τ         I_τ ← I_τ / factor                   (membrane; AMPA and GABA with I_gain,s, so that the charge stays)
pause     I_ref ← I_ref / factor
tonic     I_dc ← (settled + tonic) · I_spkthr · I_τ / I_gain, the fraction of the threshold that it settles at
reset     a GABA synapse of every neuron onto itself, whose event takes factor(inhibition) · reset of the threshold

The last one spends a CAM row per neuron. With synapses as slow as the membrane was and a membrane as fast as they were
(`remembering`), the difference of the synaptic currents is v: it falls below the reset level, and remembers what a spike
took from it, as v of a LIF with a reset by subtraction does. The membrane, which is all that a spike resets on the chip,
then holds next to nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nir_dynapse.chip.biasgen import reach
from nir_dynapse.chip.device import AMPA, CURRENTS, DENDRITES, GABA, Device
from nir_dynapse.circuit.closed_form import charge_per_ampere, row_numbers
from nir_dynapse.circuit.params import Params, latch_bits
from nir_dynapse.quant.groups import by_population

__all__ = ["FACTORS", "Scales"]

FACTORS = ("excitation", "inhibition", "tau_mem", "tau_exc", "tau_inh", "refractory", "tonic", "reset")
"""The numbers of a population, in the order of a row; all but those of `PLAIN` are logarithms of factors."""
PLAIN = ("tonic", "reset")
RESET = FACTORS.index("reset")
LIMITS = {
    "excitation": (-1.5, 1.5),
    "inhibition": (-1.5, 1.8),
    "tau_mem": (-1.2, 1.2),
    "tau_exc": (-0.7, 1.1),
    "tau_inh": (-0.7, 1.1),
    "refractory": (-0.18, 1.2),
    "tonic": (0.0, 0.8),
    "reset": (0.0, 1.5),
}
"""Lowest and highest value of each; a refractory period never gets shorter than half a step."""
SLOWEST_SYNAPSE = 12.0
"""Steps up to which the time constant of a fast synapse (that of a LIF) may grow."""
FASTEST_MEMBRANE = 1.0
"""Steps below which no membrane gets faster."""
MUCH = 1.5
"""Logarithm of what the numbers of `Scales.remembering` may be changed by."""
LEAST_RESET = 0.05
"""Fraction of the threshold below which a neuron spends no row on its reset."""
NAMES = {"excitation": "ampa", "inhibition": "gaba"}


@dataclass(frozen=True, eq=False)
class Scales:
    """`params` with a bias group per population where there are cores for it; `unit` (G,) is the row of each group.

    A row of numbers is shared by all groups of a population, and by populations that share a group. `low` and `high`
    (rows, 8) are limits; `owners` names the populations of each row. The last synapses of `params`, one for each neuron
    in `own`, lead from it to itself and take a whole threshold; those of before are `plain`.
    """

    params: Params
    plain: Params
    own: np.ndarray
    unit: np.ndarray
    owners: tuple[tuple[str, ...], ...]
    low: np.ndarray
    high: np.ndarray

    @classmethod
    def of(cls, params: Params, device: Device, own_rows: bool = True) -> Scales:
        """The numbers of `params`, whose weights are not quantised; `own_rows`: with resets by synapses."""
        params = by_population(params.numpy(), device)
        t = params.topology
        owner = np.repeat(np.arange(len(t.populations)), [size for _, size in t.populations])
        unit = np.arange(t.n_groups)
        row_of = np.full(len(t.populations), -1)
        for population, group in sorted({(int(p), int(g)) for p, g in zip(owner, t.group, strict=True)}):
            if row_of[population] < 0:
                row_of[population] = unit[group]
            elif (other := unit[group]) != row_of[population]:
                row_of[row_of == other] = row_of[population]
                unit[unit == other] = row_of[population]
        rows, unit = np.unique(unit, return_inverse=True)
        unit = unit.reshape(-1)
        names = [name for name, _ in t.populations]
        owners = tuple(tuple(n for n, r in zip(names, row_of, strict=True) if r == row) for row in rows)
        low, high = _limits(params, unit, len(rows))
        # A neuron with all of its rows taken has none for itself; one with too many is pruned or trained, anyway.
        full = np.bincount(t.post, minlength=t.n_neurons) == device.cam_rows
        has = own_rows & ~np.isin(unit[t.group], unit[t.group[full]])
        high[:, RESET] = np.where(np.isin(np.arange(len(rows)), unit[t.group[has]]), high[:, RESET], 0.0)
        own = np.flatnonzero(has)
        return cls(_with_own(params, own), params, own, unit, owners, low, high)

    def bias(self, numbers: Any, xp: Any = np) -> dict[str, Any]:
        """Bias currents (G,) in A of `numbers` (rows, 8)."""
        circuit, was = self.params.circuit, self.params.bias
        number = dict(zip(FACTORS, numbers[self.unit].T, strict=True))
        factor = {name: xp.exp(value) for name, value in number.items() if name not in PLAIN}
        made = {name: xp.asarray(value) for name, value in was.items()}
        made["i_tau_mem"] = made["i_tau_mem"] / factor["tau_mem"]
        for scale, tau in (("excitation", "tau_exc"), ("inhibition", "tau_inh")):
            leak, gain = f"i_tau_{NAMES[scale]}", f"i_gain_{NAMES[scale]}"
            before, after = circuit.tau(leak, made[leak]), circuit.tau(leak, made[leak]) * factor[tau]
            pulse = circuit.width("i_pulse", made["i_pulse"])
            # Charge of an event: (I_gain/I_τ)·(1 − e^(−t_pulse/τ))·τ.
            same = xp.expm1(-pulse / before) / xp.expm1(-pulse / after)
            made[gain] = made[gain] * factor[scale] * same / factor[tau] ** 2
            made[leak] = made[leak] / factor[tau]
        made["i_ref"] = made["i_ref"] / factor["refractory"]
        settled = was["i_dc"] * was["i_gain_mem"] / was["i_tau_mem"] / was["i_spkthr"]
        per_unit = made["i_spkthr"] * made["i_tau_mem"] / made["i_gain_mem"]
        made["i_dc"] = (settled + number["tonic"]) * per_unit
        return made

    def weights(self, numbers: Any, weight: Any, xp: Any = np) -> Any:
        """`weight` (S,) of the synapses of `params`, those of neurons onto themselves times their number."""
        shares = numbers[self.unit[self.params.topology.group[self.own]], RESET]
        return weight * xp.concatenate([xp.ones(len(weight) - len(self.own)), shares])

    def with_tonic(self) -> Params:
        """`params` whose neurons all listen to their DC current, as a fit needs it."""
        t = self.params.topology
        return replace(self.params, topology=replace(t, latches=t.latches | latch_bits(dc=True)))

    def remembering(self, excitation: float, inhibition: float) -> np.ndarray | None:
        """The numbers of circuits whose synapses remember in place of their membranes, times these factors; None if none.

        Synapses get the time constant of the membrane, the membrane that of the synapses, an event as high a peak of the
        membrane as before, and a spike takes a threshold.
        """
        circuit, bias, dt = self.params.circuit, self.params.bias, self.params.topology.dt
        made = np.zeros_like(self.low)
        for row in range(len(made)):
            here = np.flatnonzero(self.unit == row)
            membrane = float(np.median(circuit.tau("i_tau_mem", bias["i_tau_mem"][here])))
            synapse = {
                name: float(np.median(circuit.tau(f"i_tau_{name}", bias[f"i_tau_{name}"][here])))
                for name in NAMES.values()
            }
            fast = max(synapse["ampa"], FASTEST_MEMBRANE * dt)
            if self.high[row, RESET] == 0 or fast > 0.5 * membrane:
                continue
            taus = [fast / membrane, membrane / synapse["ampa"], membrane / synapse["gaba"]]
            louder = [excitation * membrane / fast, inhibition * membrane / fast]
            made[row] = [*np.log([*louder, *taus]), 0.0, 0.0, 1.0]
        return made if made.any() else None

    def around(self, start: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest numbers of a descent from `start`: no resets by synapses where it has none."""
        low, high = self.low.copy(), self.high.copy()
        remembers = start[:, RESET] > 0
        high[~remembers, RESET] = 0.0
        currents = slice(FACTORS.index("refractory"))  # scales and time constants
        low[remembers, currents] = np.minimum(low, start - MUCH)[remembers, currents]
        high[remembers, currents] = np.maximum(high, start + MUCH)[remembers, currents]
        k = FACTORS.index("tau_mem")
        low[remembers, k] = start[remembers, k]
        return low, high

    def settled(self, numbers: np.ndarray) -> Params:
        """The circuit of `numbers`; what a gain cannot reach goes into the weight currents."""
        numbers = np.array(numbers, float)
        numbers[:, RESET] = np.where(numbers[:, RESET] < LEAST_RESET, 0.0, numbers[:, RESET])
        params = self.params
        t = params.topology
        bias = {name: np.asarray(value, float) for name, value in self.bias(numbers).items()}
        weight = self.weights(numbers, np.asarray(params.weight, float))
        if not (heard := weight > 0)[len(weight) - len(self.own) :].all():
            heard[: len(weight) - len(self.own)] = True
            post = t.post[heard]
            delay = None if t.delay is None else t.delay[heard]
            t = replace(t, pre=t.pre[heard], post=post, dendrite=t.dendrite[heard], row=row_numbers(post), delay=delay)
            weight = weight[heard]
            if params.delay_factor is not None:
                params = replace(params, delay_factor=np.asarray(params.delay_factor)[heard])
        for d in (AMPA, GABA):
            name = f"i_gain_{DENDRITES[d]}"
            used = np.bincount(t.group[t.post[t.dendrite == d]], minlength=t.n_groups) > 0
            kept = np.where(used, np.clip(bias[name], *reach(name)), params.bias[name])
            here = t.dendrite == d
            weight[here] *= (bias[name] / kept)[t.group[t.post[here]]]
            bias[name] = kept
            if not used.all():
                leak = f"i_tau_{DENDRITES[d]}"
                bias[leak] = np.where(used, bias[leak], params.bias[leak])
        for name in ("i_tau_mem", "i_tau_ampa", "i_tau_gaba", "i_ref"):
            bias[name] = np.clip(bias[name], *reach(name))
        lit = np.where(bias["i_dc"][t.group] > 0, latch_bits(dc=True), 0)
        topology = replace(t, latches=(t.latches & ~latch_bits(dc=True)) | lit)
        ordered = {name: bias[name] for name in CURRENTS}
        return replace(params, bias=ordered, weight=weight, topology=topology).check()


def _with_own(params: Params, own: np.ndarray) -> Params:
    """`params` with a synapse of each neuron of `own` onto itself, whose event takes a threshold of inhibition."""
    t = params.topology
    bias = {name: np.asarray(value, float) for name, value in params.bias.items()}
    whole = 1 / charge_per_ampere(params.circuit, bias)[GABA, t.group[own]]
    post = np.r_[t.post, own]
    topology = replace(
        t,
        pre=np.r_[t.pre, t.tonic + 1 + own],
        post=post,
        dendrite=np.r_[t.dendrite, np.full(len(own), GABA)],
        row=row_numbers(post),
        delay=None if t.delay is None else np.r_[t.delay, np.zeros(len(own), int)],
    )
    factor = None if params.delay_factor is None else np.r_[np.asarray(params.delay_factor), np.ones(len(own))]
    return replace(
        params, weight=np.r_[np.asarray(params.weight, float), whole], topology=topology, delay_factor=factor
    )


def _limits(params: Params, unit: np.ndarray, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """`LIMITS` for each row, narrower where a time constant starts near what a step can resolve."""
    dt, circuit = params.topology.dt, params.circuit
    low = np.tile([LIMITS[name][0] for name in FACTORS], (rows, 1)).astype(float)
    high = np.tile([LIMITS[name][1] for name in FACTORS], (rows, 1)).astype(float)
    for row in range(rows):
        here = unit == row
        tau = circuit.tau("i_tau_mem", np.asarray(params.bias["i_tau_mem"])[here])
        slowest = circuit.tau("i_tau_mem", reach("i_tau_mem")[0])
        k = FACTORS.index("tau_mem")
        low[row, k] = max(low[row, k], min(0.0, np.log(FASTEST_MEMBRANE * dt / tau.min())))
        high[row, k] = min(high[row, k], max(0.0, np.log(slowest / tau.max())))
        if tau.min() < dt:  # without memory: nothing to fit
            high[row, k] = 0.0
        for name, dendrite in (("tau_exc", "ampa"), ("tau_inh", "gaba")):
            k = FACTORS.index(name)
            synapse = circuit.tau(f"i_tau_{dendrite}", np.asarray(params.bias[f"i_tau_{dendrite}"])[here]).max()
            high[row, k] = max(high[row, k], np.log(SLOWEST_SYNAPSE * dt / synapse))
    return low, high
