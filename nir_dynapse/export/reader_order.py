"""Names and order of nodes: which node an importer steps first, and so which connection acts one step late in it.

Importers make programs of graphs, and none of them asks where a cycle begins. Three ways are in use:

    queue   nirtorch.nir_to_torch (SpikingJelly, snnTorch): nodes by name; one waits until its inputs are there, but for
            those that come back to it, of which it then takes what they were a step ago
    depth   nirtorch.load (Norse, Sinabs): depth first from the input along the edges as listed; whatever is not there yet
            is taken from the step before, even where nothing comes back
    chain   Spyx: the first edge out of each node, from "input" to "output"
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from itertools import chain, count, pairwise

from nir_dynapse.network.network import Network

__all__ = ["Edge", "Order", "depth_first", "gaps", "named", "queued"]

Edge = tuple[str, str]
_TORCH = """
T_destination add_module add_submodule apply bfloat16 buffers call_super_init children clear code compile cpu
cuda delete_all_unused_submodules delete_submodule double dump_patches eval execution_order extra_repr float
forward get_buffer get_execution_order get_extra_state get_input_nodes get_parameter get_submodule graph half
instantiate_modules ipu items keys load_state_dict meta modules mtia named_buffers named_children
named_modules named_parameters parameters pop print_readable recompile register_module requires_grad_
return_state set_extra_state set_submodule shape_env share_memory state state_dict stateful_modules to
to_empty to_folder train training type update values xpu zero_grad
"""
RESERVED = frozenset(_TORCH.split())
"""What torch's modules call parts of their own: no node can have one of these names there (torch 2.13.0)."""


def named(network: Network, fixed: Iterable[str] = ()) -> tuple[Network, dict[str, str]]:
    """`network` with names that torch takes for modules, and what was renamed (old name -> new one).

    A name has letters, digits and '_' only; two that differ by other characters alone stay two. `fixed` are names that
    no node may have but the ports: "input" and "output" for Spyx.
    """
    fixed = tuple(fixed)
    ports = {port.name: new for port, new in zip((*network.inputs[:1], *network.outputs[:1]), fixed, strict=False)}
    parts = [p.name for p in (*network.inputs, *network.populations, *network.readout.populations, *network.outputs)]
    links = (*network.projections, *network.readout.projections)
    taken, new = set(fixed), {}
    for name in dict.fromkeys([*parts, *(n for q in links for n in q.nodes)]):
        if name in ports:
            new[name] = ports[name]
            continue
        clean = re.sub(r"\W", "_", name, flags=re.ASCII) or "node"
        free = chain([clean], (f"{clean}_{k}" for k in count(1)))
        new[name] = next(n for n in free if n not in taken and n not in RESERVED)
        taken.add(new[name])
    changed = {old: n for old, n in new.items() if old != n}
    if not changed:
        return network, {}

    def link(q):
        nodes = tuple(new[n] for n in q.nodes)
        via = tuple(made.setdefault(id(node), replace(node, name=new[node.name])) for node in q.via)
        return replace(q, source=new[q.source], target=new[q.target], nodes=nodes, via=via)

    made: dict = {}
    readout = network.readout
    renamed = replace(
        network,
        populations=tuple(replace(p, name=new[p.name]) for p in network.populations),
        projections=tuple(link(q) for q in network.projections),
        inputs=tuple(replace(port, name=new[port.name]) for port in network.inputs),
        outputs=tuple(replace(p, name=new[p.name], source=new[str(p.source)]) for p in network.outputs),
        readout=replace(
            readout,
            populations=tuple(replace(p, name=new[p.name]) for p in readout.populations),
            projections=tuple(link(q) for q in readout.projections),
        ),
    )
    return renamed, changed


class Order:
    """The order of signal flow of a graph's nodes: `rank` of each population, -1 for inputs, that of the last source else.

    `names` lists all nodes, each behind those that it needs in the same step; `late` are the edges against this order,
    which act in the next one; `mixed` linear nodes that a population reads for both.
    """

    def __init__(self, edges: list[Edge], inputs: list[str], populations: list[str], outputs: list[str]) -> None:
        self.edges = edges
        ranks = {name: k for k, name in enumerate(populations)} | dict.fromkeys(inputs, -1)
        before: dict[str, list[str]] = defaultdict(list)
        for a, b in edges:
            before[b].append(a)
        others = [n for n in dict.fromkeys(n for edge in edges for n in edge) if n not in ranks]
        key = {name: (rank, 0) for name, rank in ranks.items()}
        lowest = dict(ranks)
        for _ in others:  # linear nodes and readouts have no cycles of their own
            for name in others:
                known = [key[a] for a in before[name] if a in key]
                if known and len(known) == len(before[name]):
                    key[name] = (max(rank for rank, _ in known), 1 + max(place for _, place in known))
                    lowest[name] = min(lowest[a] for a in before[name])
        last = len(edges) + 2
        key |= {name: (key.get(name, (0, 0))[0], last) for name in outputs}
        end = {name: (len(populations), 0) for name in outputs}
        self.names = sorted(key, key=lambda n: (end.get(n, key[n]), n))
        spiking = set(populations)
        self.late = {(a, b) for a, b in edges if b in spiking and key.get(a, (-1, 0))[0] >= ranks[b]}
        self.mixed = sorted({a for a, b in self.late if a not in spiking and lowest.get(a, -1) < ranks[b]})

    def leading(self, ends: list[str]) -> set[str]:
        """The nodes that lead to one of `ends` within a step."""
        before: dict[str, list[str]] = defaultdict(list)
        for a, b in self.edges:
            if (a, b) not in self.late:
                before[b].append(a)
        return {*ends, *(a for end in ends for a in _reached(end, before))}


def queued(names: Iterable[str], edges: list[Edge], inputs: list[str], outputs: list[str]) -> set[Edge] | None:
    """Which edges are a step late where nodes wait in a queue in the order of `names`; None where it never ends.

    What stands before the input goes to the end of the queue first.
    """
    names = list(names)
    first = min(names.index(name) for name in inputs)
    names = [*names[first:], *names[:first]]
    before: dict[str, list[str]] = defaultdict(list)
    after: dict[str, list[str]] = defaultdict(list)
    for a, b in edges:
        before[b].append(a)
        after[a].append(b)
    reach = {name: _reached(name, after) for name in names}
    waiting = [n for n in names if n not in (*inputs, *outputs)]
    done, late, idle = set(inputs), set(), 0
    while waiting and idle <= len(waiting):
        name = waiting.pop(0)
        missing = {a for a in before[name] if a not in done}
        back = {a for a in missing if len(before[name]) > 1 and (a in reach[name] or a in after[name])}
        if missing - back:
            waiting.append(name)
            idle += 1
            continue
        late |= {(a, name) for a in back}
        done.add(name)
        idle = 0
    return None if waiting else late


def _reached(name: str, after: dict[str, list[str]]) -> set[str]:
    seen: set[str] = set()
    todo = [name]
    while todo:
        for b in after[todo.pop()]:
            if b not in seen:
                seen.add(b)
                todo.append(b)
    return seen


def depth_first(start: str, edges: list[Edge]) -> list[str]:
    """Nodes in the order in which a search, depth first along `edges` as listed, meets them."""
    after: dict[str, list[str]] = defaultdict(list)
    for a, b in edges:
        after[a].append(b)
    order: dict[str, None] = {}
    todo = [start]
    while todo:
        name = todo.pop()
        if name not in order:
            order[name] = None
            todo += [b for b in reversed(after[name]) if b not in order]
    return list(order)


def gaps(order: list[str], edges: list[Edge]) -> list[Edge]:
    """The pairs of neighbours in `order` that no edge connects."""
    there = set(edges)
    return [pair for pair in pairwise(order) if pair not in there]
