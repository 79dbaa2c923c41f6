"""Tags: which tag the events of a source carry to which cores, so that no core confuses two of its sources.

All cores of one destination (one SRAM row, or one entry of the input map) get the same tag. Colouring goes chip by chip,
the largest sets of cores first: what four cores need together takes a tag from all of them, two disjoint pairs may share
one, single cores fill the gaps. Without defects this uses as few tags as there can be. Where 2 048 do not suffice,
sources split their destination: different tags for different cores of a chip, an SRAM row each.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

import numpy as np

from nir_dynapse.chip.device import Device
from nir_dynapse.circuit.closed_form import counted_up
from nir_dynapse.errors import CapacityError, Finding
from nir_dynapse.quant.slots import BadPlace

__all__ = ["Destinations", "assign_tags"]


class Destinations(NamedTuple):
    """Where events go: `source`, `chip`, `cores` (4-bit mask) and `tag` of each destination (D,), by source and chip."""

    source: np.ndarray
    chip: np.ndarray
    cores: np.ndarray
    tag: np.ndarray

    def tag_at(self, source: np.ndarray, core: np.ndarray, n_cores: int, cores_per_chip: int) -> np.ndarray:
        """Tag that `source` (n,) carries to `core` (n,), counted over all chips."""
        which, bit = np.nonzero((self.cores[:, None] >> np.arange(cores_per_chip)) & 1)
        key = self.source[which].astype(np.int64) * n_cores + self.chip[which] * cores_per_chip + bit
        order = np.argsort(key)
        wanted = np.asarray(source, np.int64) * n_cores + core
        return self.tag[which[order[np.searchsorted(key[order], wanted)]]]

    def shared(self, alias: np.ndarray) -> Destinations:
        """The destinations of all sources where source s has those of `alias[s]` (sources,)."""
        first = np.searchsorted(self.source, alias)
        count = np.searchsorted(self.source, alias, "right") - first
        source = np.repeat(np.arange(len(alias)), count)
        which = np.repeat(first, count) + counted_up(count)
        return Destinations(source, self.chip[which], self.cores[which], self.tag[which])


def assign_tags(
    reached: np.ndarray, spare: np.ndarray, weight: np.ndarray, usable: np.ndarray, device: Device
) -> Destinations:
    """Destinations of all sources: `reached` (sources, cores) bool, one tag for each chip where possible.

    `spare` (sources,) is how many destinations more than its chips a source may have (SRAM rows), `usable` (cores, tags)
    which tags work; sources with a larger `weight` (sources,) get the preferred tags. CapacityError names the core.
    """
    order = device.tag_order()
    spare = spare.copy()
    found: list[tuple[np.ndarray, int, int, np.ndarray]] = []
    for chip in range(device.n_chips):
        cores = slice(chip * device.cores_per_chip, (chip + 1) * device.cores_per_chip)
        here = reached[:, cores]
        free = usable[cores].copy()
        masks = (here * (1 << np.arange(device.cores_per_chip))).sum(1)
        left: list[int] = []
        for mask in sorted(range(1, 1 << device.cores_per_chip), key=lambda m: (-m.bit_count(), m)):
            sources = np.flatnonzero(masks == mask)
            if not len(sources):
                continue
            sources = sources[np.argsort(-weight[sources], kind="stable")]
            members = _members(mask, device)
            tags = order[free[members].all(0)[order]][: len(sources)]
            free[np.ix_(members, tags)] = False
            found.append((sources[: len(tags)], chip, mask, tags))
            left += sources[len(tags) :].tolist()
        for source in left:
            parts = _split(int(masks[source]), int(spare[source]), free, order, device)
            if parts is None:
                raise _exhausted(source, chip, here, usable[cores], bool(spare[source]), device)
            spare[source] -= len(parts) - 1
            for mask, tag in parts:
                free[_members(mask, device), tag] = False
                found.append((np.array([source]), chip, mask, np.array([tag])))
    source = np.concatenate([np.zeros(0, int), *(s for s, _, _, _ in found)])
    lengths = [len(sources) for sources, _, _, _ in found]
    chip = np.repeat([chip for _, chip, _, _ in found], lengths).astype(int)
    cores = np.repeat([mask for _, _, mask, _ in found], lengths).astype(int)
    tag = np.concatenate([np.zeros(0, int), *(t for _, _, _, t in found)])
    by_source = np.lexsort((cores, chip, source))
    return Destinations(source[by_source], chip[by_source], cores[by_source], tag[by_source])


def _members(mask: int, device: Device) -> list[int]:
    return [core for core in range(device.cores_per_chip) if mask >> core & 1]


def _split(mask: int, spare: int, free: np.ndarray, order: np.ndarray, device: Device) -> list[tuple[int, int]] | None:
    """Cores of `mask` in as few parts as possible, each with a free tag: [(mask, tag)]; None where there is no way."""
    for parts in _partitions(_members(mask, device), spare + 1):
        tags = []
        for part in parts:
            candidates = free[part].all(0)[order]
            first = int(np.argmax(candidates))
            if not candidates[first]:
                break
            tags.append((sum(1 << core for core in part), int(order[first])))
        else:
            return tags
    return None


def _partitions(members: list[int], most: int) -> Iterator[list[list[int]]]:
    """Partitions of `members` into 2 to `most` parts, fewest parts first."""
    for n in range(2, min(most, len(members)) + 1):
        for labels in product(range(n), repeat=len(members)):
            first = [labels.index(k) if k in labels else -1 for k in range(n)]
            if -1 not in first and first == sorted(first):  # each partition once
                yield [[m for m, label in zip(members, labels, strict=True) if label == k] for k in range(n)]


def _exhausted(
    source: int, chip: int, here: np.ndarray, usable: np.ndarray, could_split: bool, device: Device
) -> CapacityError:
    """Why there is no tag left: the core where they are scarcest."""
    room = usable.sum(1) - here.sum(0)
    crowded = int(np.argmin(np.where(here[source], room, np.iinfo(int).max)))
    sources, tags = int(here[:, crowded].sum()), int(usable[crowded].sum())
    what = f"core {crowded} of chip {chip} is reached by {sources} sources, "
    if tags < device.n_tags:
        what += f"a core tells {device.n_tags} tags apart and the chip profile leaves {tags} of them."
    else:
        what += f"a core tells {device.n_tags} tags apart."
    if sources <= tags:
        what += " Sources that reach several cores of a chip need one that is free in all of them"
        what += ", and have no SRAM row left to split." if not could_split else "."
    finding = Finding(
        "error",
        "tags",
        what,
        used=sources,
        limit=tags,
        hint="Use fewer input channels, sparser connections between the populations, or more chips.",
    )
    return BadPlace(finding, (chip, crowded)) if tags < device.n_tags else CapacityError(finding)
