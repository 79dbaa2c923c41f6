"""What the bits of a Layout do: `layout_to_params` (the circuit on the chip) and `to_network` (back to a Network)."""

from __future__ import annotations

import numpy as np

from nir_dynapse.chip import biasgen
from nir_dynapse.chip.device import (
    AMPA,
    BASE_WEIGHTS,
    COLUMN,
    CURRENTS,
    DEAD_THRESHOLD,
    DENDRITES,
    DYNAPSE2,
    GABA,
    Circuit,
    Device,
)
from nir_dynapse.circuit.closed_form import (
    INHIBITION_STRETCH,
    MEMORYLESS_PEAK,
    counted_up,
    decode_tau,
    event_charge,
    is_memoryless,
    to_params,
)
from nir_dynapse.circuit.copies import mean
from nir_dynapse.circuit.params import Params, Topology
from nir_dynapse.errors import ConfigurationError, Finding
from nir_dynapse.layout.layout import Layout
from nir_dynapse.network.delays import rounded
from nir_dynapse.network.network import Network, Population, Projection

__all__ = ["as_params", "core_currents", "core_scales", "layout_to_params", "to_network"]


SAME_TAU = 0.03
"""Relative difference up to which the time constants of AMPA and GABA may differ because their codes are rounded."""


def destinations(layout: Layout) -> tuple[np.ndarray, np.ndarray]:
    """(source, key) of every core that an event reaches, key = (chip·4 + core)·2048 + tag.

    Sources are numbered as in `params.Topology`. An SRAM row with a core bit sends to chip + x_hop in the row of chips;
    rows that point outside the stack leave it (monitoring).
    """
    neuron, row = np.nonzero(layout.sram["cores"])
    sram = layout.sram[neuron, row]
    chip = layout.chip[neuron].astype(np.int64) + sram["x_hop"]
    inside = (chip >= 0) & (chip < layout.n_chips) & (sram["y_hop"] == 0)
    rows = layout.input_rows
    source = np.r_[layout.n_channels + 1 + neuron[inside], rows["channel"].astype(np.int64)]
    chip = np.r_[chip[inside], rows["chip"]].astype(np.int64)
    cores = np.r_[sram["cores"][inside], rows["cores"]].astype(np.int64)
    tag = np.r_[sram["tag"][inside], rows["tag"]].astype(np.int64)
    which, core = np.nonzero((cores[:, None] >> np.arange(4)) & 1)
    return source[which], (chip[which] * 4 + core) * 2048 + tag[which]


def matches(layout: Layout) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(source, neuron, CAM row) of every synapse: each CAM row listens to its tag among the events of its core."""
    neuron, row = np.nonzero(layout.cam["dendrite"] >= 0)
    listening = layout.core_index[neuron] * 2048 + layout.cam["tag"][neuron, row]
    order = np.argsort(listening, kind="stable")
    source, key = destinations(layout)
    first = np.searchsorted(listening[order], key, "left")
    count = np.searchsorted(listening[order], key, "right") - first
    which = np.repeat(np.arange(len(key)), count)
    hit = order[first[which] + counted_up(count)]
    return source[which], neuron[hit], row[hit]


def core_currents(layout: Layout, name: str, cores: np.ndarray, device: Device = DYNAPSE2) -> np.ndarray:
    """Current in A of parameter `name` that flows in `cores` (numbers chip·4 + core): of their codes, as measured."""
    return biasgen.current(name, *layout.codes[cores, COLUMN[name]].T) * core_scales(layout, name, cores, device)


def core_scales(layout: Layout, name: str, cores: np.ndarray, device: Device = DYNAPSE2) -> np.ndarray:
    """Current of parameter `name` that flows in `cores` (numbers chip·4 + core) over the nominal one of its code."""
    scale = np.ones(max(device.n_cores, len(layout.used_cores)))  # a Layout may have more chips than the device
    scale[: device.n_cores] = device.scale(name)
    return scale[cores]


def circuit_of(layout: Layout, device: Device = DYNAPSE2) -> Circuit:
    """The constants that a Layout runs with: those that it was made for, unless somebody chose others for the device."""
    return layout.circuit if device.circuit == DYNAPSE2.circuit else device.circuit


def as_params(thing: Network | Params | Layout, device: Device = DYNAPSE2) -> Params:
    """The analog circuit of a Network (closed form), of a Layout (from its bits), or a Params as it is."""
    if isinstance(thing, Params):
        if device.circuit not in (thing.circuit, DYNAPSE2.circuit):
            raise ConfigurationError(
                f"the Params have the circuit constants {thing.circuit.name!r}, the device has {device.circuit.name!r}. "
                "Leave the device's out, or map the network for that device."
            )
        return thing
    if not isinstance(thing, (Network, Layout)):
        raise ConfigurationError(f"a {type(thing).__name__} is no network. Give a Network, Params or a Layout.")
    return to_params(thing, device) if isinstance(thing, Network) else layout_to_params(thing, device)


def layout_to_params(layout: Layout, device: Device = DYNAPSE2) -> Params:
    """The circuit that the bits of a Layout configure: codes to amperes, tags to synapses. One bias group per used core.

    On chips with a profile the currents are those measured, and what is bad has no effect: synapses that need it are left
    out, neurons get a threshold that no membrane reaches (one more bias group for those of a core). A warning counts them.
    """
    source, neuron, row = matches(layout)
    silent, deaf = _bad(layout, device, neuron, row)
    findings = list(layout.findings)
    findings += _told(layout, device, "neurons do not work and never spike", np.flatnonzero(silent))
    unheard = "synapses sit in CAM rows or listen to tags that do not work, and deliver nothing"
    findings += _told(layout, device, unheard, neuron[deaf], row[deaf])
    source, neuron, row = source[~deaf], neuron[~deaf], row[~deaf]
    cam = layout.cam[neuron, row]
    used = np.flatnonzero(layout.used_cores)
    group = np.searchsorted(used, layout.core_index)
    amperes = {name: core_currents(layout, name, used, device) for name in COLUMN}
    if silent.any():
        alike = np.unique(group[silent])  # whose biases the new groups have
        group = np.where(silent, len(used) + np.searchsorted(alike, group), group)
        amperes = {name: np.r_[value, value[alike]] for name, value in amperes.items()}
        amperes["i_spkthr"][len(used) :] = DEAD_THRESHOLD
    topology = Topology(
        inputs=layout.inputs,
        populations=tuple(layout.sizes.items()),
        outputs=layout.outputs,
        dt=layout.dt,
        group=group,
        latches=layout.latches,
        place=np.stack([layout.chip, layout.core, layout.slot], 1),
        pre=source,
        post=neuron,
        dendrite=cam["dendrite"],
        row=row,
        mask=cam["mask"],
        tonic_period=layout.tonic_period,
        readout=layout.readout,
        kinds=tuple(kind for _, kind, _ in layout.populations),
        shapes=tuple(shape for _, _, shape in layout.populations),
        projections=layout.projections,
        delay=cam["flags"] >> 1,
        copies=layout.copies,
    )
    if (plastic := cam["flags"] & 1 == 1).any():
        findings.append(
            Finding(
                "warning",
                "row-flags",
                f"{int(plastic.sum())} CAM rows ask for short-term plasticity; they are simulated without.",
                hint="Clear the flag, or expect other amplitudes than on the chip.",
            )
        )
    bias = {name: amperes[name] for name in CURRENTS}
    base = np.stack([amperes[name] for name in BASE_WEIGHTS], 1)
    circuit = circuit_of(layout, device)
    if circuit != layout.circuit:
        findings.append(
            Finding(
                "warning",
                "circuit",
                f"the Layout was made for the circuit constants {layout.circuit.name!r} and is run with {circuit.name!r}.",
                hint="Compile the network for this device, or expect other time constants.",
            )
        )
    return Params(bias, None, base, topology, circuit, tuple(findings))


def _bad(layout: Layout, device: Device, neuron: np.ndarray, row: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Boolean (N,) neurons and (S,) synapses in `row` of `neuron` that the profiles of the chips call bad."""
    silent, deaf = np.zeros(layout.n_neurons, bool), np.zeros(len(neuron), bool)
    for chip in range(layout.n_chips):
        if (profile := device.profile(chip)) is None or profile.flawless:
            continue
        here = np.flatnonzero(layout.chip == chip)
        silent[here] = ~profile.neurons[layout.core[here], layout.slot[here]]
        at = np.flatnonzero((layout.chip[neuron] == chip) & ~silent[neuron])
        n, r = neuron[at], row[at]
        deaf[at] = profile.hits(layout.core[n], layout.slot[n], r, layout.cam["tag"][n, r])
    return silent, deaf


def _told(
    layout: Layout, device: Device, what: str, neuron: np.ndarray, row: np.ndarray | None = None
) -> list[Finding]:
    """A warning that says how many are bad (`neuron` and, of synapses, `row` of each) and where the first one is."""
    if not len(neuron):
        return []
    n = int(neuron[0])
    profile = device.profile(int(layout.chip[n]))
    place = f"chip {layout.chip[n]}, core {layout.core[n]}, neuron {layout.slot[n]}"
    place += "" if row is None else f", CAM row {row[0]}, tag {layout.cam['tag'][n, row[0]]}"
    what = f"{len(neuron)} {what}, the first on {place} (profile '{profile.name if profile else ''}')."
    hint = "Compile for this chip (device=DYNAPSE2.with_profiles(profile), --profile)."
    return [Finding("warning", "bad-rows", what, **layout.where(n), used=len(neuron), limit=0, hint=hint)]


def to_network(thing: Layout | Params, device: Device = DYNAPSE2) -> Network:
    """The Network that a Layout or Params computes, the inverse of the closed-form map, in normalised units.

    v_threshold 1, v_reset 0, r = τ_mem/dt, w_in = τ_syn/dt (per-step gains of 1), weights in fractions of the threshold.
    A constant input becomes v_leak, the delay of a CAM row that of its connection, in s. What NIR cannot express (shunt,
    adaptation, NMDA gate) is a warning. Copies become one neuron again, which hears what its copies b hear on average of
    all copies a of a source: W[j, i] = mean over b of Σ over a of w[b, a], and their mean constants.
    """
    params = layout_to_params(thing, device) if isinstance(thing, Layout) else thing.numpy()
    t, circuit = params.topology, params.circuit
    dt = t.dt
    threshold, gain = params.per_neuron("i_spkthr"), params.per_neuron("i_gain_mem")
    membrane = circuit.tau("i_tau_mem", params.per_neuron("i_tau_mem"))
    tau_mem = decode_tau(membrane, dt)
    tau = np.stack([circuit.tau(f"i_tau_{d}", params.per_neuron(f"i_tau_{d}")) for d in DENDRITES])
    # What an event moves v by in all, as a fraction of the threshold: k·w of the closed form, with k = w_in for CubaLIF.
    sign = np.array([1.0, 1.0, -1.0, -1.0])[t.dendrite]
    charge = sign * params.row_currents() * event_charge(params)
    charge = charge * np.where(is_memoryless(membrane, dt), MEMORYLESS_PEAK, 1.0)[t.post]

    findings = list(params.findings)
    latches = {
        "adaptation": "spike-frequency adaptation",
        "nmda_gate": "NMDA gating",
        "exponential": "the exponential soma",
    }
    for latch, what in latches.items():
        if t.has_latch(latch).any():
            findings.append(
                Finding("warning", "no-nir-counterpart", f"{what} has no counterpart in NIR and is left out.")
            )
    if (t.dendrite == DENDRITES.index("shunt")).any():
        findings.append(Finding("warning", "no-nir-counterpart", "shunting inhibition is written as negative weights."))

    steady = params.per_neuron("i_dc") * t.has_latch("dc") * gain / params.per_neuron("i_tau_mem") / threshold
    is_tonic = t.pre == t.tonic
    if t.tonic_period:
        per_step = np.bincount(t.post[is_tonic], charge[is_tonic], minlength=t.n_neurons) * dt / t.tonic_period
        steady = steady + per_step * tau_mem / dt
    tau_syn = _synaptic_tau(params, tau, np.abs(charge))

    slices = t.slices()
    kinds = dict(zip(slices, t.kinds or ["CubaLIF"] * len(slices), strict=True))
    shapes = dict(zip(slices, t.shapes or [()] * len(slices), strict=True))
    populations = []
    w_in = np.ones(t.n_neurons)
    for name, part in slices.items():
        cuba, copies = kinds[name] == "CubaLIF", t.copies_of[name]
        synapse = decode_tau(tau_syn[part], dt) if cuba else None
        if synapse is not None:
            w_in[part] = synapse / dt
            synapse = mean(synapse, copies)
        tau, none = mean(tau_mem[part], copies), np.zeros(t.node_sizes[name])
        populations.append(
            Population(
                name,
                "CubaLIF" if cuba else "LIF",
                tau_mem=tau,
                r=tau / dt,
                v_leak=mean(steady[part], copies),
                v_threshold=none + 1,
                v_reset=none,
                tau_syn=synapse,
                w_in=None if synapse is None else synapse / dt,
                shape=shapes[name],
            )
        )
    late = None if t.delay is None else rounded(params.row_delays())
    projections = _projections(t, charge / w_in[t.post], is_tonic, late)
    origin = {**thing.origin, "from": "layout"} if isinstance(thing, Layout) else {"from": "params"}
    return Network(
        tuple(populations),
        projections,
        t.inputs,
        t.outputs,
        dt,
        origin,
        {},
        tuple(findings),
        readout=t.readout,
    )


def _synaptic_tau(params: Params, tau: np.ndarray, charge: np.ndarray) -> np.ndarray:
    """The one synaptic time constant that NIR has per neuron: that of the dendrite which carries the most charge.

    GABA's is `INHIBITION_STRETCH` times that of the network. Where AMPA and GABA say the same but for the rounding of
    codes, both count as the value between them that has the codes of both: a core stays one bias group.
    """
    t, circuit = params.topology, params.circuit
    tau = tau.copy()
    tau[GABA] /= INHIBITION_STRETCH
    close = np.flatnonzero(np.abs(tau[GABA] / tau[AMPA] - 1) < SAME_TAU)
    part = np.linspace(0, 1, 17)[:, None]
    between = tau[AMPA, close] ** (1 - part) * tau[GABA, close] ** part
    fits = np.ones(between.shape, bool)
    for dendrite, stretch in ((AMPA, 1.0), (GABA, INHIBITION_STRETCH)):
        name = f"i_tau_{DENDRITES[dendrite]}"
        tried, held = (
            np.stack(biasgen.nearest_codes(name, circuit.tau(name, stretch * value))[:2])
            for value in (between, tau[dendrite, close])
        )
        fits &= (tried == held[:, None]).all(0)
    tau[AMPA, close] = tau[GABA, close] = between[np.argmax(fits, 0), np.arange(len(close))]
    share, shared = np.zeros((len(DENDRITES), t.n_neurons)), np.zeros((len(DENDRITES), t.n_groups))
    np.add.at(share, (t.dendrite, t.post), charge)
    np.add.at(shared, (t.dendrite, t.group[t.post]), charge)
    share = np.where(share.any(0), share, shared[:, t.group])  # neurons without input follow the others of their group
    return tau[np.argmax(share, 0), np.arange(t.n_neurons)]


def _projections(
    t: Topology, weight: np.ndarray, is_tonic: np.ndarray, late: np.ndarray | None
) -> tuple[Projection, ...]:
    """Synapses sorted into projections between named populations; parallel rows of one connection and delay add.

    So do those from all copies of a source; over the copies of a target it is the mean.
    """
    blocks: list[tuple[str, int, int]] = []
    first = 0
    for port in t.inputs:
        blocks.append((port.name, first, first + port.size))
        first += port.size
    slices = t.slices()
    blocks += [(name, part.start + t.n_channels + 1, part.stop + t.n_channels + 1) for name, part in slices.items()]
    nodes = {(source, target): node for source, target, node in t.projections}
    result = []
    for source, start, stop in blocks:
        for target, part in slices.items():
            inside = (t.pre >= start) & (t.pre < stop) & (t.post >= part.start) & (t.post < part.stop) & ~is_tonic
            if not inside.any():
                continue
            copies = t.copies_of[target]
            before = (t.pre[inside] - start) // t.copies_of.get(source, 1)
            flat = before * t.n_neurons + (t.post[inside] - part.start) // copies
            if late is None:
                unique, where = np.unique(flat, return_inverse=True)
                delay = None
            else:
                pairs = np.stack([flat, late[inside]], 1)
                pairs, where = np.unique(pairs, axis=0, return_inverse=True)
                unique, delay = pairs[:, 0].astype(np.int64), pairs[:, 1]
            total = np.bincount(where.reshape(-1), weight[inside])
            total = total if copies == 1 else total / copies
            pre, post = np.divmod(unique, t.n_neurons)
            node = nodes.get((source, target), f"{source}_to_{target}")
            result.append(Projection(source, target, pre, post, total, nodes=(node,), delay=delay))
    there = {(q.source, q.target) for q in result}
    none = np.zeros(0)
    missing = {(a, b): node for a, b, node in t.projections if (a, b) not in there}  # all of its weights are zero
    return (*result, *(Projection(a, b, none, none, none, nodes=(node,)) for (a, b), node in missing.items()))
