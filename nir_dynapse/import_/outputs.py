"""What leaves the network: Output nodes, and the nodes without threshold behind the last spikes (the host's readout)."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np

from nir_dynapse.errors import Finding
from nir_dynapse.import_.flatten import FlatGraph
from nir_dynapse.import_.fold import Folder
from nir_dynapse.import_.shapes import Shapes, noted
from nir_dynapse.network.linear import Shape, parameter
from nir_dynapse.network.network import Population, Port, Readout

__all__ = ["Outputs", "check_hosts", "find_outputs", "read_readout"]


@dataclass(frozen=True)
class Outputs:
    """Ports, and for those that read linear nodes or a sum: port name → name of the implied Linear readout."""

    ports: tuple[Port, ...]
    implied: dict[str, str]


def check_hosts(flat: FlatGraph, findings: list[Finding]) -> None:
    """Refuse nodes without threshold anywhere but between spikes and outputs: only spikes travel on the chip."""

    def find(name: str, what: str, hint: str) -> None:
        findings.append(Finding("error", "readout", what, node=name, hint=hint))

    quiet = ("linear", "wire", "host")
    for name in flat.of("host"):
        kind = getattr(flat.nodes[name].entry, "name", "LI")
        ahead = flat.reach([name], flat.after, quiet)
        behind = flat.reach([name], flat.before, quiet)
        spiking = sorted(n for n in ahead if flat.nodes[n].role == "population")
        inputs = sorted(n for n in behind if flat.nodes[n].role == "input")
        if name in ahead:
            find(name, f"this {kind} is part of a cycle without neurons.", "Put a spiking population into the cycle.")
        elif spiking:
            target = flat.nodes[spiking[0]]
            what = f"the voltage of this {kind} drives {spiking[0]!r}; between neurons of the chip only spikes travel."
            if target.entry is not None and target.entry.name == "Threshold":
                hint = "A Threshold behind an integrator never resets it, which no neuron of the chip can: use a LIF."
            elif kind == "LI" and spiking[0] in flat.after(name) and not _leaks_away(flat, name):
                hint = f"A LI in front of a LIF is a CubaLIF (tau_syn = tau, w_in = r): write {spiking[0]!r} as one."
            else:
                hint = "Use a LIF or CubaLIF in its place, or end the graph here and go on computing on the host."
            find(name, what, hint)
        elif inputs:
            what = f"this {kind} integrates {inputs[0]!r} without a neuron between them: nothing of it is on the chip."
            find(name, what, "Put a spiking population in front of it, or compute it on the host beforehand.")


def _leaks_away(flat: FlatGraph, name: str) -> bool:
    """Whether a node has a v_leak other than 0."""
    v_leak = parameter(flat.nodes[name].node, "v_leak")
    return v_leak is not None and bool(np.any(v_leak != 0))


def find_outputs(flat: FlatGraph, shapes: Shapes, findings: list[Finding]) -> Outputs:
    """One port for each Output node, which reads a population or a readout; linear nodes before it imply a readout."""
    ports, implied, failed = [], {}, False
    last: dict[str, str] = {}
    for name in flat.of("output"):
        sources, linear, raw = _read_by(flat, name)
        inputs = sorted(n for n in flat.reach([name], flat.before, ("linear", "wire")) if flat.nodes[n].role == "input")
        what, severity, hint = None, "error", "Connect it to a spiking population, or remove it."
        if not sources and not raw:
            what, severity = "it reads no population; it was left out.", "warning"
        elif inputs and not raw:
            what = f"it reads {inputs[0]!r} besides {sources[0]!r}: input events do not leave the chip."
            hint = "Give it populations only."
        if what:
            failed = failed or severity == "error"
            findings.append(Finding(severity, "output", what, node=name, hint=hint))  # pyright: ignore
        elif raw:
            failed = True  # it reads a refused node, about which enough was said
        elif linear or len(sources) > 1:
            last[name] = linear[0] if len(linear) == 1 else name
        else:
            ports.append(Port(name, shapes.before.get(name) or (), sources[0]))
    shared = {node for node, n in Counter(last.values()).items() if n > 1}
    for name, node in last.items():
        implied[name] = name if node in shared or node in flat.of("input", "population", "host") else node
        ports.append(Port(name, shapes.before.get(name) or (), implied[name]))
    if flat.of("output") and not ports and not failed:
        hint = "Connect a spiking population to an Output node."
        findings.append(Finding("error", "output", "no output reads a spiking population.", hint=hint))
    order = {name: i for i, name in enumerate(flat.of("output"))}
    return Outputs(tuple(sorted(ports, key=lambda port: order[port.name])), implied)


def _read_by(flat: FlatGraph, output: str) -> tuple[list[str], list[str], list[str]]:
    """What an Output reads: populations and readouts, the linear nodes nearest to it that are no Flatten, refused ones."""
    sources, linear, refused = set(), set(), set()
    todo, seen = [(name, True) for name in flat.before(output)], set()
    while todo:
        name, near = todo.pop()
        node = flat.nodes[name]
        if (name, near) in seen:
            continue
        seen.add((name, near))
        if node.role in ("population", "host"):
            sources.add(name)
        elif node.role == "refused":
            refused.add(name)
        elif node.role == "wire" or (node.entry is not None and node.entry.name == "Flatten"):
            todo += [(n, near) for n in flat.before(name)]
        elif node.role == "linear":
            if near:
                linear.add(name)
            todo += [(n, False) for n in flat.before(name)]
    order = {name: i for i, name in enumerate(flat.nodes)}
    return (
        sorted(sources, key=order.__getitem__),
        sorted(linear, key=order.__getitem__),
        sorted(refused, key=order.__getitem__),
    )


def read_readout(flat: FlatGraph, folder: Folder, hosts: dict[str, Population], outputs: Outputs) -> Readout:
    """The nodes without threshold in order of signal flow, then the implied Linear ones."""
    ordered, todo = [], list(hosts)
    while todo:
        for name in todo:
            behind = flat.reach([name], flat.before, ("linear", "wire"))
            if not any(n in todo for n in behind if n != name):
                ordered.append(name)
                todo.remove(name)
                break
        else:
            break  # a cycle, which was refused
    links = folder.all_into(ordered)
    populations = [hosts[name] for name in ordered]
    for port, name in outputs.implied.items():
        shape = folder.shapes.before.get(port) or ()
        size = math.prod(shape)
        populations.append(_sum(name, noted(flat, port, shape)))
        links += folder.into(port, name, size)
    return Readout(tuple(populations), tuple(links))


def _sum(name: str, shape: Shape) -> Population:
    """A readout that is the sum of what comes in, step by step."""
    one, zero = np.ones(math.prod(shape)), np.zeros(math.prod(shape))
    return Population(name, "Linear", zero, one, zero, np.full(len(one), np.inf), zero, shape=shape)
