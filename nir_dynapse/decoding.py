"""What the bits of a Layout do: `layout_to_params` (the circuit on the chip) and `to_network` (back to a Network)."""

from __future__ import annotations

import numpy as np

from nir_dynapse import biasgen
from nir_dynapse.closed_form import MEMORYLESS_PEAK, counted_up, decode_tau, event_charge, is_memoryless
from nir_dynapse.device import BASE_WEIGHTS, COLUMN, CURRENTS, DENDRITES, DYNAPSE2, Device
from nir_dynapse.errors import Finding
from nir_dynapse.layout import Layout
from nir_dynapse.network import Network, Population, Projection
from nir_dynapse.params import Params, Topology

__all__ = ["layout_to_params", "to_network"]


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


def layout_to_params(layout: Layout, device: Device = DYNAPSE2) -> Params:
    """The circuit that the bits of a Layout configure: codes to amperes, tags to synapses. One bias group per used core."""
    source, neuron, row = matches(layout)
    cam = layout.cam[neuron, row]
    used = np.flatnonzero(layout.used_cores)
    group = np.searchsorted(used, layout.core_index)
    amperes = {name: biasgen.current(name, *layout.codes[used, k].T) for name, k in COLUMN.items()}
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
    )
    findings = list(layout.findings)
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
    return Params(bias, None, base, topology, device.circuit, tuple(findings))


def to_network(thing: Layout | Params, device: Device = DYNAPSE2) -> Network:
    """The Network that a Layout or Params computes, the inverse of the closed-form map, in normalised units.

    v_threshold 1, v_reset 0, r = τ_mem/dt, w_in = τ_syn/dt (per-step gains of 1), weights in fractions of the threshold.
    A constant input becomes v_leak. What NIR cannot express (shunt, adaptation, NMDA gate, delays of single
    synapses) is a warning.
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
    for latch, what in (("adaptation", "spike-frequency adaptation"), ("nmda_gate", "NMDA gating")):
        if t.has_latch(latch).any():
            findings.append(
                Finding("warning", "no-nir-counterpart", f"{what} has no counterpart in NIR and is left out.")
            )
    if (t.dendrite == DENDRITES.index("shunt")).any():
        findings.append(Finding("warning", "no-nir-counterpart", "shunting inhibition is written as negative weights."))
    if t.delay is not None:
        what = f"delays of {int((t.delay > 0).sum())} synapses have no counterpart in NIR and are left out."
        findings.append(Finding("warning", "no-nir-counterpart", what))

    steady = params.per_neuron("i_dc") * t.has_latch("dc") * gain / params.per_neuron("i_tau_mem") / threshold
    is_tonic = t.pre == t.tonic
    if t.tonic_period:
        per_step = np.bincount(t.post[is_tonic], charge[is_tonic], minlength=t.n_neurons) * dt / t.tonic_period
        steady = steady + per_step * tau_mem / dt
    # One synaptic time constant per neuron in NIR: that of the dendrite which carries the most charge.
    share = np.zeros((len(DENDRITES), t.n_neurons))
    np.add.at(share, (t.dendrite, t.post), np.abs(charge))
    tau_syn = tau[np.argmax(share, 0), np.arange(t.n_neurons)]

    slices = t.slices()
    kinds = dict(zip(slices, t.kinds or ["CubaLIF"] * len(slices), strict=True))
    shapes = dict(zip(slices, t.shapes or [()] * len(slices), strict=True))
    populations = []
    w_in = np.ones(t.n_neurons)
    for name, part in slices.items():
        cuba = kinds[name] == "CubaLIF"
        synapse = decode_tau(tau_syn[part], dt) if cuba else None
        if synapse is not None:
            w_in[part] = synapse / dt
        populations.append(
            Population(
                name,
                "CubaLIF" if cuba else "LIF",
                tau_mem=tau_mem[part],
                r=tau_mem[part] / dt,
                v_leak=steady[part],
                v_threshold=np.ones(part.stop - part.start),
                v_reset=np.zeros(part.stop - part.start),
                tau_syn=synapse,
                w_in=None if synapse is None else synapse / dt,
                shape=shapes[name],
            )
        )
    projections = _projections(t, charge / w_in[t.post], is_tonic)
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


def _projections(t: Topology, weight: np.ndarray, is_tonic: np.ndarray) -> tuple[Projection, ...]:
    """Synapses sorted into projections between named populations; parallel rows of one connection add."""
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
            flat = (t.pre[inside] - start) * t.n_neurons + (t.post[inside] - part.start)
            unique, where = np.unique(flat, return_inverse=True)
            total = np.bincount(where.reshape(-1), weight[inside])
            pre, post = np.divmod(unique, t.n_neurons)
            node = nodes.get((source, target), f"{source}_to_{target}")
            result.append(Projection(source, target, pre, post, total, nodes=(node,)))
    there = {(q.source, q.target) for q in result}
    none = np.zeros(0)
    missing = {(a, b): node for a, b, node in t.projections if (a, b) not in there}  # all of its weights are zero
    return (*result, *(Projection(a, b, none, none, none, nodes=(node,)) for (a, b), node in missing.items()))
