"""Names of nodes in a NIR file: what nir can write and read back, and what other names become there."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain, count

from nir_dynapse.errors import Finding
from nir_dynapse.network.network import Network

__all__ = ["file_names", "own_names", "renamed", "writable"]


def writable(name: str) -> str:
    """`name` as HDF5 can hold it for nir: '/' would nest groups, '' and '.' mean the group itself, NUL ends a text."""
    clean = name.replace("/", "_").replace("\0", "_").encode("utf8", "replace").decode("utf8")
    return "node" if clean in ("", ".") else clean


def file_names(names: Iterable[str]) -> dict[str, str]:
    """What each of `names` is called in a file: as it is where nir can read it back, else a free name that is like it."""
    known = list(dict.fromkeys(names))
    result = {name: name for name in known if writable(name) == name}
    taken = set(result)
    for name in sorted(set(known) - taken):
        clean = writable(name)
        new = next(each for each in chain([clean], (f"{clean}_{k}" for k in count(1))) if each not in taken)
        result[name] = new
        taken.add(new)
    return result


def own_names(network: Network) -> list[str]:
    """Names of the nodes that a NIR graph of `network` has."""
    nodes = (*network.inputs, *network.populations, *network.readout.populations, *network.outputs)
    links = (*network.projections, *network.readout.projections)
    return [*(node.name for node in nodes), *(name for q in links for name in q.nodes)]


def renamed(network: Network) -> list[Finding]:
    """A finding for each node that gets another name when the network is written as NIR."""
    return [
        Finding("info", "name", f"to_nir writes it as {new!r}: nir cannot read a node of this name back.", name)
        for name, new in file_names(own_names(network)).items()
        if new != name
    ]
