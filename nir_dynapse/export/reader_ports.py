"""A `Network` with the ports that readers take: one input, one output, and no readout that they do not know."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from nir_dynapse.export.reader_neurons import Notes
from nir_dynapse.network.network import Network, Population, Port, Projection, Readout

__all__ = ["one_input", "one_output", "without_readouts"]


def without_readouts(network: Network, known: frozenset[str], notes: Notes) -> Network:
    """Without the readouts of another kind than `known`: an output that read one reads the spikes behind it."""
    readout = network.readout
    gone = {p.name: p for p in readout.populations if p.kind not in (*known, "Linear")}
    for q in readout.projections:  # what reads one of those cannot stay, either
        if q.source in gone and q.target not in gone:
            gone[q.target] = next(p for p in readout.populations if p.name == q.target)
    if not gone:
        return network
    behind: dict[str, list[str]] = {}
    for p in readout.populations:  # in order of evaluation
        feeding = dict.fromkeys(q.source for q in readout.projections if q.target == p.name)
        behind[p.name] = list(dict.fromkeys(s for a in feeding for s in (behind[a] if a in gone else [a])))
    for name, p in gone.items():
        spikes = ", ".join(map(repr, behind[name])) or "nothing"
        what = f"{notes.reader} has no {p.kind}: it is left out, and the file ends with the spikes of {spikes}."
        hint = "Compute it from those spikes, or read out by a spiking layer."
        notes.warning("readout", what, name, hint)
    outputs = []
    for port in network.outputs:
        sources = behind[str(port.source)] if port.source in gone else [str(port.source)]
        sizes = {p.name: p for p in (*network.populations, *readout.populations)}
        for source in sources:
            name = port.name if len(sources) == 1 else f"{port.name}_{source}"
            shape = port.shape if port.source == source else sizes[source].shape
            outputs.append(Port(name, shape, source))
    unique = {port.source: port for port in reversed(outputs)}
    kept = tuple(p for p in readout.populations if p.name not in gone)
    links = tuple(q for q in readout.projections if q.target not in gone)
    ports = tuple(port for port in outputs if unique[port.source] is port)
    return replace(network, outputs=ports, readout=Readout(kept, links))


def one_input(network: Network, notes: Notes) -> Network:
    """With one input port, whose channels are those of all ports one after the other, as in the data of an ideal run."""
    if len(network.inputs) < 2:
        return network
    first, names = network.input_offsets(), {p.name for p in (*network.populations, *network.readout.populations)}
    name = next(n for n in ("input", "inputs", "all_inputs") if n not in names)
    listed = ", ".join(f"{port.name!r} ({port.size})" for port in network.inputs)
    notes.info("inputs", f"the inputs {listed} are one input {name!r}, channels one after the other.")

    def moved(q: Projection) -> Projection:
        if q.source not in first:
            return q
        bias, nodes = q.bias, (f"{q.source}_to_{q.nodes[-1] if q.nodes else q.target}",)
        return Projection(
            name, q.target, q.pre + first[q.source], q.post, q.weight, bias, nodes, q.dendrite, delay=q.delay
        )

    return replace(
        network,
        inputs=(Port(name, (network.n_inputs,)),),
        projections=tuple(moved(q) for q in network.projections),
        readout=replace(network.readout, projections=tuple(moved(q) for q in network.readout.projections)),
    )


def one_output(network: Network, notes: Notes) -> Network:
    """With one output port, whose values are those of all ports one after the other."""
    if len(network.outputs) < 2:
        return network
    parts = {p.name: p for p in (*network.populations, *network.readout.populations)}
    sizes = [parts[str(port.source)].size for port in network.outputs]
    total, first = sum(sizes), np.cumsum([0, *sizes])
    listed = ", ".join(f"{port.name!r} ({n})" for port, n in zip(network.outputs, sizes, strict=True))
    taken = {*parts, *(port.name for port in network.inputs)}
    name = next(n for n in ("outputs", "all_outputs", "output_sum") if n not in taken)
    notes.info("outputs", f"the outputs {listed} are one output 'output', values one after the other.")
    links, gone = [], set()
    for port, n, start in zip(network.outputs, sizes, first, strict=False):
        source = parts[str(port.source)]
        if source.kind == "Linear" and all(q.source != source.name for q in network.readout.projections):
            gone.add(source.name)
            for q in network.readout.projections:
                if q.target == source.name:
                    bias = None if q.bias is None else np.pad(q.bias, (start, total - start - n))
                    made = Projection(q.source, name, q.pre, q.post + start, q.weight, bias, (q.name,), delay=q.delay)
                    links.append(made)
        else:
            index = np.arange(n)
            links.append(Projection(source.name, name, index, index + start, np.ones(n), nodes=(f"{port.name}_part",)))
    kept = tuple(p for p in network.readout.populations if p.name not in gone)
    rest = tuple(q for q in network.readout.projections if q.target not in gone)
    ones, zeros = np.ones(total), np.zeros(total)
    end = Population(name, "Linear", zeros, ones, zeros, np.full(total, np.inf), zeros)
    port = Port("output", (total,), name)
    return replace(network, outputs=(port,), readout=Readout((*kept, end), (*rest, *links)))
