"""What is fitted: a few logarithms of factors per population, their limits, and the bias currents that they make.

weights   I_gain,s ← factor · I_gain,s         (AMPA: excitation, GABA: inhibition; the event's charge times factor)
τ         I_τ ← I_τ / factor                   (membrane; AMPA and GABA with I_gain,s, so that the charge stays)
pause     I_ref ← I_ref / factor
tonic     I_dc ← (settled + tonic) · I_spkthr · I_τ / I_gain, the fraction of the threshold that it settles at
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nir_dynapse.chip.biasgen import reach
from nir_dynapse.chip.device import AMPA, CURRENTS, DENDRITES, GABA, Device
from nir_dynapse.circuit.params import Params, latch_bits
from nir_dynapse.quant.groups import by_population

__all__ = ["FACTORS", "Scales"]

FACTORS = ("excitation", "inhibition", "tau_mem", "tau_exc", "tau_inh", "refractory", "tonic")
"""The numbers of a population, in the order of a row; all but `tonic` are logarithms of factors."""
LIMITS = {
    "excitation": (-1.5, 1.5),
    "inhibition": (-1.5, 1.8),
    "tau_mem": (-1.2, 1.2),
    "tau_exc": (-0.7, 1.1),
    "tau_inh": (-0.7, 1.1),
    "refractory": (-0.18, 1.2),
    "tonic": (0.0, 0.8),
}
"""Lowest and highest value of each; a refractory period never gets shorter than half a step."""
SLOWEST_SYNAPSE = 12.0
"""Steps up to which the time constant of a fast synapse (that of a LIF) may grow."""
FASTEST_MEMBRANE = 2.0
"""Steps below which no membrane gets faster."""
NAMES = {"excitation": "ampa", "inhibition": "gaba"}


@dataclass(frozen=True, eq=False)
class Scales:
    """`params` with a bias group per population where there are cores for it; `unit` (G,) is the row of each group.

    A row of numbers is shared by all groups of a population, and by populations that share a group. `low` and `high`
    (rows, 7) are limits; `owners` names the populations of each row.
    """

    params: Params
    unit: np.ndarray
    owners: tuple[tuple[str, ...], ...]
    low: np.ndarray
    high: np.ndarray

    @classmethod
    def of(cls, params: Params, device: Device) -> Scales:
        """The numbers of `params`, whose weights are not quantised."""
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
        return cls(params, unit, owners, low, high)

    def bias(self, numbers: Any, xp: Any = np) -> dict[str, Any]:
        """Bias currents (G,) in A of `numbers` (rows, 7)."""
        circuit, was = self.params.circuit, self.params.bias
        number = dict(zip(FACTORS, numbers[self.unit].T, strict=True))
        factor = {name: xp.exp(value) for name, value in number.items() if name != "tonic"}
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

    def with_tonic(self) -> Params:
        """`params` whose neurons all listen to their DC current, as a fit needs it."""
        t = self.params.topology
        return replace(self.params, topology=replace(t, latches=t.latches | latch_bits(dc=True)))

    def settled(self, numbers: np.ndarray) -> Params:
        """The circuit of `numbers`; what a gain cannot reach goes into the weight currents."""
        t = self.params.topology
        numbers = np.clip(np.asarray(numbers, float), self.low, self.high)
        bias = {name: np.asarray(value, float) for name, value in self.bias(numbers).items()}
        weight = np.asarray(self.params.weight, float).copy()
        for d in (AMPA, GABA):
            name = f"i_gain_{DENDRITES[d]}"
            used = np.bincount(t.group[t.post[t.dendrite == d]], minlength=t.n_groups) > 0
            kept = np.where(used, np.clip(bias[name], *reach(name)), self.params.bias[name])
            here = t.dendrite == d
            weight[here] *= (bias[name] / kept)[t.group[t.post[here]]]
            bias[name] = kept
            if not used.all():
                leak = f"i_tau_{DENDRITES[d]}"
                bias[leak] = np.where(used, bias[leak], self.params.bias[leak])
        for name in ("i_tau_mem", "i_tau_ampa", "i_tau_gaba", "i_ref"):
            bias[name] = np.clip(bias[name], *reach(name))
        lit = np.where(bias["i_dc"][t.group] > 0, latch_bits(dc=True), 0)
        topology = replace(t, latches=(t.latches & ~latch_bits(dc=True)) | lit)
        ordered = {name: bias[name] for name in CURRENTS}
        return replace(self.params, bias=ordered, weight=weight, topology=topology).check()


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
