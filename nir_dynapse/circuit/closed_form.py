"""The closed-form map from a Network to the analog circuit that does the same: `to_params`.

v/v_threshold of a LIF neuron is I_mem/I_spkthr of a DPI neuron in its linear regime (I_gain ≪ I_spkthr). Everything is
equated at the network's own step dt, where its NIR semantics are exact:

* decay per step: e^(−dt/τ_circuit) = 1 − dt/τ, for membrane and synapse;
* charge per spike: a spike with weight w moves v by k·w/(v_threshold − v_reset) of the threshold in all, where
  k = r·dt/τ_mem for LIF and r·w_in·dt/τ_mem for CubaLIF, so the synaptic current jumps by
  ΔI = k·w/(v_threshold − v_reset) · (I_spkthr/I_gain) · C_mem·U_T/(κ·τ_syn). A LIF gets a synapse of τ_syn = dt/5;
* refractory period: a clocked neuron fires at most once per step of dt and only at its end; a free one also needs time
  to charge after the pause, so the pause is `REFRACTORY` of dt (the rates then agree best, see there);
* inhibition lasts longer: I_mem cannot fall below its reset level, where v goes on falling and stays inhibited while it
  climbs back. The GABA synapse carries the same charge over `INHIBITION_STRETCH` times the time (see there);
* delays: two values per core and a flag of each synapse, the nearest to what was asked for (`circuit.delays`);
* constant input: DC where all neurons of a population have the same positive one, else events on the tonic channel.

The weight current of an event follows from ΔI = (I_gain,s/I_τ,s)·I_w·(1 − e^(−t_pulse/τ_syn)), with the gain of each
dendrite chosen so that the largest weight of its bias group is `device.weight_top`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from nir_dynapse.chip.biasgen import reach
from nir_dynapse.chip.device import AMPA, CURRENTS, DELAYS, DENDRITES, DYNAPSE2, GABA, PARAMETERS, Circuit, Device
from nir_dynapse.circuit.approximations import approximations
from nir_dynapse.circuit.delays import delay_findings, one_each, share_delays
from nir_dynapse.circuit.params import Params, Topology, latch_bits
from nir_dynapse.errors import Finding, ParameterRangeError, raise_if_errors
from nir_dynapse.network.network import Network
from nir_dynapse.network.population import STEPPING

__all__ = [
    "FAST_SYNAPSE",
    "MEMORYLESS_PEAK",
    "charge_per_ampere",
    "counted_up",
    "decode_tau",
    "effective_tau",
    "event_charge",
    "index_places",
    "is_memoryless",
    "row_numbers",
    "to_params",
]

FAST_SYNAPSE = 0.2
"""Time constant of the synapse that stands for the instantaneous input of a LIF neuron, in units of dt."""
MEMORYLESS_PEAK = float(np.exp(-1))
"""Peak of a membrane of `FAST_SYNAPSE` behind a synapse as fast, in units of the kick that a lasting membrane would get."""
INHIBITION_STRETCH = 1.25
"""Time constant of GABA in units of τ_syn: makes up for the membrane's floor at the reset level."""
REFRACTORY = 0.6
"""Refractory period in units of dt. This and `INHIBITION_STRETCH` were chosen on three networks together (accuracy of the
two examples, cosine on Braille; `tests/benchmarks/mapping.py`): 1.0 and 1.0 cost the examples 1 to 3 points."""


def effective_tau(tau: np.ndarray, dt: float) -> np.ndarray:
    """Continuous time constant with the decay per step of forward Euler: −dt/ln(1 − dt/τ); dt/5 where dt ≥ τ."""
    decay = 1 - dt / np.maximum(np.asarray(tau, float), 1e-3 * dt)
    safe = np.where(decay > np.exp(-1 / FAST_SYNAPSE), decay, np.exp(-1 / FAST_SYNAPSE))
    return -dt / np.log(safe)


def is_memoryless(membrane: np.ndarray, dt: float) -> np.ndarray:
    """Whether a membrane of this time constant on the circuit forgets within a step, as its synapse does."""
    return np.asarray(membrane) < 1.1 * FAST_SYNAPSE * dt


def decode_tau(tau: np.ndarray, dt: float) -> np.ndarray:
    """The inverse of `effective_tau`: τ = dt/(1 − e^(−dt/τ_circuit))."""
    return -dt / np.expm1(-dt / np.asarray(tau, float))


def _charge_to_current(circuit: Circuit, threshold: Any, gain: Any, tau_syn: np.ndarray) -> np.ndarray:
    """ΔI in A of the synaptic current that moves I_mem by one I_spkthr in all: (I_spkthr/I_gain)·C·U_T/(κ·τ_syn)."""
    return threshold / gain * circuit.c_mem * circuit.u_t / (circuit.kappa * np.asarray(tau_syn))


def charge_per_ampere(circuit: Circuit, bias: dict[str, np.ndarray]) -> np.ndarray:
    """Threshold fractions that an event moves I_mem by in all, per A of weight current: (4 dendrites, groups).

    (I_gain,s/I_τ,s)·(1 − e^(−t_pulse/τ_s)) over the ΔI of a whole threshold, for bias currents (groups,) in A.
    """
    tau = np.stack([circuit.tau(f"i_tau_{name}", bias[f"i_tau_{name}"]) for name in DENDRITES])
    ratio = np.stack([bias[f"i_gain_{name}"] / bias[f"i_tau_{name}"] for name in DENDRITES])
    pulse = -np.expm1(-circuit.width("i_pulse", bias["i_pulse"]) / tau)
    return ratio * pulse / _charge_to_current(circuit, bias["i_spkthr"], bias["i_gain_mem"], tau)


def event_charge(params: Params) -> np.ndarray:
    """`charge_per_ampere` of each synapse (S,)."""
    t = params.topology
    bias = {name: np.asarray(value, float) for name, value in params.bias.items()}
    return charge_per_ampere(params.circuit, bias)[t.dendrite, t.group[t.post]]


@dataclass
class _Neurons:
    """Flat per-neuron quantities of the whole network (N,)."""

    tau_mem: np.ndarray
    tau_syn: np.ndarray
    gain: np.ndarray  # k/(v_threshold − v_reset): threshold fractions per unit of weight
    dc: np.ndarray  # constant input that becomes DC, as the fraction of the threshold that it would settle at
    tonic: np.ndarray  # constant input that becomes events, in units of weight per step


def to_params(network: Network, device: Device = DYNAPSE2) -> Params:
    """The circuit of a Network, one bias group per distinct set of analog parameters (ParameterRangeError if none fits).

    The bias currents are exact (not yet codes), the weight currents too (no masks): quantisation comes with `compile`.
    """
    findings: list[Finding] = []
    if (steps := network.stepping) != STEPPING:
        what = f"spikes act as {steps} in ideal runs; on the chip they act at once, from rest."
        findings.append(Finding("warning", "stepping", what, hint="Compare the ideal with the circuit run."))
    neurons = _neurons(network, findings)
    threshold, mem_gain = PARAMETERS["i_spkthr"].off, PARAMETERS["i_gain_mem"].off
    circuit = device.circuit
    dc_current = neurons.dc * threshold / mem_gain * circuit.tau("i_tau_mem", neurons.tau_mem)

    group, first = _groups(neurons.tau_mem, neurons.tau_syn, dc_current)
    pre, post, weight, dendrite, wanted = _synapses(network)
    late = flags = None
    if wanted.any():
        late = share_delays(wanted, np.abs(weight) * neurons.gain[post], post, group, device)
        group, first = late.group, np.unique(late.group, return_index=True)[1]
        findings += delay_findings(network, wanted, late.got(post), late.flags)
        pre, post, weight, dendrite, flags = one_each(pre, post, weight, dendrite, late.flags, wanted > 0)
    stretch = np.where(np.arange(len(DENDRITES)) == GABA, INHIBITION_STRETCH, 1.0)
    tau_syn = stretch[:, None] * neurons.tau_syn
    swing = _charge_to_current(circuit, threshold, mem_gain, tau_syn)
    jump = np.abs(weight) * neurons.gain[post] * swing[dendrite, post]

    tonic_neuron = np.flatnonzero(neurons.tonic)
    period = None
    if len(tonic_neuron):
        sign = np.where(neurons.tonic[tonic_neuron] > 0, AMPA, GABA)
        tonic_jump = np.abs(neurons.tonic * neurons.gain)[tonic_neuron] * swing[sign, tonic_neuron]
        steps = _tonic_steps(jump, tonic_jump, float(neurons.tau_syn[tonic_neuron].min()), network.dt)
        period = steps * network.dt
        pre = np.r_[pre, np.full(len(tonic_neuron), network.n_inputs)]
        post = np.r_[post, tonic_neuron]
        dendrite = np.r_[dendrite, sign]
        jump = np.r_[jump, tonic_jump * steps]
        flags = None if flags is None else np.r_[flags, np.zeros(len(tonic_neuron), int)]

    bias = {name: np.full(len(first), row.off) for name, row in PARAMETERS.items() if name in CURRENTS}
    bias["i_tau_mem"] = circuit.tau("i_tau_mem", neurons.tau_mem[first])
    bias["i_ref"] = circuit.width("i_ref", np.full(len(first), REFRACTORY * network.dt))
    bias["i_dc"] = dc_current[first]
    if late is not None:
        for k, name in enumerate(DELAYS):
            width = np.where(late.delay[:, k] > 0, late.delay[:, k], circuit.width(name, bias[name]))
            bias[name] = circuit.width(name, width)
    kick = np.zeros((len(DENDRITES), len(first)))
    for d, name in enumerate(DENDRITES):
        tau = tau_syn[d, first]
        in_use = np.bincount(group[post[dendrite == d]], minlength=len(first)) > 0
        leak = circuit.tau(f"i_tau_{name}", tau)
        pulse = -np.expm1(-circuit.width("i_pulse", bias["i_pulse"]) / tau)
        largest = np.zeros(len(first))
        np.maximum.at(largest, group[post[dendrite == d]], jump[dendrite == d])
        low, high = reach(f"i_gain_{name}")
        gain = np.clip(largest / (device.weight_top * pulse) * leak, low, high)
        bias[f"i_tau_{name}"] = np.where(in_use, leak, bias[f"i_tau_{name}"])
        bias[f"i_gain_{name}"] = np.where(in_use, gain, bias[f"i_gain_{name}"])
        kick[d] = gain / leak * pulse
    current = jump / kick[dendrite, group[post]]

    row, place = row_numbers(post), index_places(network.n_neurons, device)
    topology = Topology(
        inputs=network.inputs,
        populations=tuple((p.name, p.size) for p in network.populations),
        outputs=network.outputs,
        dt=network.dt,
        group=group,
        latches=np.where(dc_current > 0, latch_bits(dc=True), 0),
        place=place,
        pre=pre,
        post=post,
        dendrite=dendrite,
        row=row,
        tonic_period=period,
        readout=network.readout,
        kinds=tuple(p.kind for p in network.populations),
        shapes=tuple(tuple(int(n) for n in p.shape) for p in network.populations),
        projections=tuple(dict.fromkeys((q.source, q.target, q.name) for q in network.projections)),
        delay=flags,
    )
    findings += _range_findings(network, topology, bias, current)
    raise_if_errors(findings, ParameterRangeError)
    return Params(bias, current, None, topology, circuit, (*network.findings, *findings)).check()


def _neurons(network: Network, findings: list[Finding]) -> _Neurons:
    """Flat arrays of all neurons, with a finding for everything that is approximated."""
    parts = []
    longest = float(DYNAPSE2.circuit.tau("i_tau_mem", reach("i_tau_mem")[0]))
    for p in network.populations:
        swing = p.v_threshold - p.v_reset
        gains = p.step_gains(network.dt)
        tau_mem = effective_tau(np.full(p.size, longest) if p.kind == "IF" else p.tau_mem, network.dt)
        leak = -np.expm1(-network.dt / tau_mem) if p.kind == "IF" else gains.leak
        step_gain, tau_syn = gains.gain, np.full(p.size, FAST_SYNAPSE * network.dt)
        if p.tau_syn is not None and gains.syn_gain is not None and gains.syn_leak is not None:
            tau_syn = effective_tau(p.tau_syn, network.dt)
            step_gain = step_gain * gains.syn_gain / gains.syn_leak
        # Per step a constant input moves v by step_gain·bias and the leak by leak·(v_leak − v): as a weight, and settled.
        tonic = network.bias(p.name) + (p.v_leak - p.v_reset) * gains.leak / step_gain
        steady = tonic * step_gain / (leak * swing)
        as_dc = bool(np.ptp(steady) <= 1e-9 * max(1.0, float(np.abs(steady).max())) and steady[0] > 0)
        parts.append(
            (
                tau_mem,
                tau_syn,
                step_gain / swing / np.where(is_memoryless(tau_mem, network.dt), MEMORYLESS_PEAK, 1.0),
                steady if as_dc else np.zeros(p.size),
                np.zeros(p.size) if as_dc else np.where(np.abs(steady) > 1e-9, tonic, 0.0),
            )
        )
        findings += approximations(p, network.dt, steady, FAST_SYNAPSE * network.dt)
    return _Neurons(*(np.concatenate([part[k] for part in parts]) for k in range(5)))


def _groups(*columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Group of each neuron by equal columns (to six digits), in order of first appearance, and one member of each."""
    scale = [np.round(np.log(np.maximum(c, 1e-30)), 6) for c in columns]
    _, first, group = np.unique(np.stack(scale, 1), axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return rank[group.reshape(-1)], first[order]


def _synapses(network: Network) -> tuple[np.ndarray, ...]:
    """Source (numbered as in `Topology`), post, weight, dendrite index and delay in s of every connection."""
    parts = [(np.zeros(0, int), np.zeros(0, int), np.zeros(0), np.zeros(0, int), np.zeros(0))]
    for projection, pre, post in network.synapses():
        by_sign = np.where(projection.weight > 0, AMPA, GABA)
        fixed = None if projection.dendrite is None else DENDRITES.index(projection.dendrite)
        source = np.where(pre >= network.n_inputs, pre + 1, pre)  # the tonic channel stands between inputs and neurons
        late = np.zeros(len(pre)) if projection.delay is None else projection.delay
        own = by_sign if fixed is None else np.full(len(pre), fixed)
        parts.append((source, post, projection.weight, own, late))
    columns = [np.concatenate([part[k] for part in parts]) for k in range(5)]
    return tuple(column[columns[2] != 0] for column in columns)


def _tonic_steps(jump: np.ndarray, tonic_jump: np.ndarray, tau_syn: float, dt: float) -> float:
    """Period of the tonic events in steps: the rarer the larger their weight, so that it uses the range of the others.

    Not longer than half a synaptic time constant (the input must stay smooth), not shorter than a tenth of a step.
    """
    largest = float(jump.max(initial=0.0)) or float(tonic_jump.max())
    ratio = largest / float(tonic_jump.max())
    if ratio >= 1:
        return float(max(1, min(np.floor(ratio), np.floor(tau_syn / 2 / dt))))
    return 1.0 / min(10.0, float(np.ceil(1 / ratio)))


def counted_up(count: np.ndarray) -> np.ndarray:
    """0, 1, … count[0] − 1, 0, 1, … count[1] − 1, …: the positions within runs of these lengths (n,)."""
    return np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)


def row_numbers(post: np.ndarray) -> np.ndarray:
    """Running number of each synapse within its neuron: the CAM row it would take."""
    order = np.argsort(post, kind="stable")
    ordered = post[order]
    starts = np.searchsorted(ordered, ordered)
    row = np.empty(len(post), int)
    row[order] = np.arange(len(post)) - starts
    return row


def index_places(n: int, device: Device) -> np.ndarray:
    """Places in index order for a network that has not been placed: core after core, chip after chip."""
    index = np.arange(n)
    core, slot = np.divmod(index, device.neurons_per_core)
    chip, core = np.divmod(core, device.cores_per_chip)
    return np.stack([chip, core, slot], 1)


def _range_findings(network: Network, t: Topology, bias: dict, current: np.ndarray) -> list[Finding]:
    """Errors for bias currents and weight currents that the bias generator cannot make."""
    found = []
    owner = np.repeat([p.name for p in network.populations], [p.size for p in network.populations])
    for name in CURRENTS:
        low, high = reach(name)
        value = np.asarray(bias[name])
        bad = (value > high * 1.02) | (
            (value < low * 0.98) & (PARAMETERS[name].off != 0) & (PARAMETERS[name].off > low)
        )
        for g in np.flatnonzero(bad):
            neuron = int(np.argmax(t.group == g))
            found.append(
                Finding(
                    "error",
                    "bias-range",
                    f"{PARAMETERS[name].meaning} ({PARAMETERS[name].bias}) would need {value[g]:.3g} A, the bias generator "
                    f"reaches {low:.3g} to {high:.3g} A.",
                    node=str(owner[neuron]),
                    used=float(value[g]),
                    limit=high if value[g] > high else low,
                    unit="A",
                    hint="Check time_unit and dt: a time constant off by 1000 is the usual cause.",
                )
            )
    top = 4 * reach("i_w0")[1]
    if len(current) and current.max() > top:
        worst = int(np.argmax(current))
        found.append(
            Finding(
                "error",
                "weight-range",
                f"the largest weight would need {current[worst]:.3g} A, four base currents reach {top:.3g} A.",
                node=str(owner[t.post[worst]]),
                used=float(current[worst]),
                limit=top,
                unit="A",
                hint="Scale the weights and the threshold of this node down by the same factor.",
            )
        )
    return found
