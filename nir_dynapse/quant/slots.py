"""Inside a chip: which core a bias group gets and which slot a neuron, around the bad neurons and CAM rows of a profile.

The slots of a core differ in how many of their CAM rows work. Neurons with many inputs get slots with many good rows: the
k-th neediest neuron the k-th best slot, which succeeds whenever anything does.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import product

import numpy as np

from nir_dynapse.chip.device import Device
from nir_dynapse.chip.profile import ChipProfile
from nir_dynapse.errors import CapacityError, Finding

__all__ = [
    "BadPlace",
    "ChipRoom",
    "fits_tags",
    "good_rows",
    "legal_start",
    "place_slots",
    "spare_rows",
    "unplaceable",
    "unplaceable_tags",
]


class BadPlace(CapacityError):
    """Cores, or neurons of them, that turned out unfit once the tags were known: `where` holds (chip, core[, slot])."""

    def __init__(self, finding: Finding, *where: tuple[int, ...]) -> None:
        super().__init__(finding)
        self.where = where


@lru_cache(maxsize=32)
def good_rows(profile: ChipProfile, either: bool = False) -> np.ndarray:
    """CAM rows that a neuron in each slot can use (cores, slots): those good for the preferred tags, from 1024.

    With `either`, those good for the half of the tags for which more are.
    """
    rows = np.array(profile.usable_rows(1))
    rows = np.maximum(rows, profile.usable_rows(0)) if either else rows
    rows.flags.writeable = False
    return rows


class ChipRoom:
    """What one chip can hold; asked again and again in the search for places.

    `blocked` (cores, slots): what must stay empty; `either`: see `good_rows`.
    """

    def __init__(
        self, profile: ChipProfile | None, device: Device, blocked: np.ndarray | None = None, either: bool = False
    ) -> None:
        self.profile, self.device = profile, device
        rows = np.full((device.cores_per_chip, device.neurons_per_core), device.cam_rows)
        rows = rows if profile is None else good_rows(profile, either)
        self.rows = rows if blocked is None else np.where(blocked, 0, rows)
        self.whole = profile is None and (blocked is None or not blocked.any())
        # How many slots of each core have at least r good rows: what a set of neurons needs is compared with this.
        steps = np.arange(device.cam_rows + 1)
        self.slots = (np.maximum(self.rows, 0)[:, :, None] >= np.maximum(steps, 1)).sum(1)
        subsets = (np.arange(1 << device.cores_per_chip)[:, None] >> np.arange(device.cores_per_chip)) & 1
        self.together = subsets @ self.slots  # of every set of cores

    def labels(self, need: np.ndarray, group: np.ndarray) -> np.ndarray | None:
        """Bias group of each core (-1: none), of as few cores as possible; None if nothing fits.

        `need` (n,) CAM rows and `group` (n,) of the neurons.
        """
        cores = self.device.cores_per_chip
        groups, where = np.unique(group, return_inverse=True)
        if len(groups) > cores:
            return None
        width = self.device.cam_rows + 1
        count = np.bincount(where * width + np.minimum(need, width - 1), minlength=len(groups) * width)
        wanted = np.cumsum(count.reshape(len(groups), width)[:, ::-1], axis=1)[:, ::-1]  # neurons with r rows or more
        if (wanted.sum(0) > self.slots.sum(0)).any():
            return None
        enough = (wanted[:, None] <= self.together).all(2)
        ways, sets = _ways(cores, len(groups))
        good = enough[np.arange(len(groups)), sets].all(1)
        first = int(np.argmax(good))
        return np.append(groups, -1)[ways[first]] if good[first] else None

    def fill(self, need: np.ndarray, group: np.ndarray, wish: np.ndarray | None = None) -> np.ndarray | None:
        """(n, 2) core and slot of neurons with `need` (n,) CAM rows in groups `group` (n,); None if they do not fit.

        Neighbours in index order share cores where that fits, and the best slots of a core go to its neediest neurons. With
        `wish` (n,) the best slots of all cores of a group go to those with the largest wishes.
        """
        labels = self.labels(need, group)
        if labels is None:
            return None
        place = np.zeros((len(need), 2), int)
        for g in np.unique(group):
            members, cores = np.flatnonzero(group == g), np.flatnonzero(labels == g)
            if self.whole:
                core, place[members, 1] = np.divmod(np.arange(len(members)), self.device.neurons_per_core)
                place[members, 0] = cores[core]
                continue
            parts = self._in_order(need, members, cores) if wish is None else None
            for part, chosen in parts or [(members, cores)]:
                rows = self.rows[chosen]
                core, slot = np.divmod(np.argsort(-rows.ravel(), kind="stable")[: len(part)], rows.shape[1])
                neediest = part[np.argsort(-(need if wish is None else wish)[part], kind="stable")]
                place[neediest, 0], place[neediest, 1] = chosen[core], slot
        return place

    def _in_order(
        self, need: np.ndarray, members: np.ndarray, cores: np.ndarray
    ) -> list[tuple[np.ndarray, np.ndarray]] | None:
        """`members` cut in index order, a part for each of `cores` as large as its working slots.

        Neurons that find no slot with enough good rows change places with one of another core; None where that fails.
        """
        ends = np.cumsum(self.slots[cores, 0])
        parts = [part.tolist() for part in np.split(members, np.minimum(ends[:-1], len(members)))]
        slots, levels = self.slots[cores], np.arange(self.device.cam_rows + 1)
        wanted = np.array([(need[part][:, None] >= levels).sum(0) for part in parts])
        for _ in range(2 * len(members)):
            short = np.argwhere(wanted > slots)
            if not len(short):
                return [(np.array(part, int), cores[[k]]) for k, part in enumerate(parts)]
            here, level = (int(v) for v in short[0])
            if not self._swap(need, parts, wanted, slots, here, level):
                return None
        return None

    def _swap(
        self, need: np.ndarray, parts: list[list[int]], wanted: np.ndarray, slots: np.ndarray, here: int, level: int
    ) -> bool:
        """One neuron of part `here` with `level` rows or more out of it, into a part that can hold it; a small one back."""
        needy = min((n for n in parts[here] if need[n] >= level), key=lambda n: (need[n], n))
        levels = np.arange(wanted.shape[1])
        step = (need[needy] >= levels).astype(int)
        for there in sorted(range(len(parts)), key=lambda k: (abs(k - here), k)):
            if there == here:
                continue
            back = min(parts[there], key=lambda n: (need[n], n), default=None)
            full = wanted[there, 0] >= slots[there, 0]
            change = step - (need[back] >= levels) if full and back is not None else step
            if (full and (back is None or need[back] >= level)) or (wanted[there] + change > slots[there]).any():
                continue
            wanted[there] += change
            wanted[here] -= change
            parts[here].remove(needy)
            parts[there].append(needy)
            if full and back is not None:
                parts[there].remove(back)
                parts[here].append(back)
            return True
        return False


@lru_cache(maxsize=8)
def _ways(cores: int, groups: int) -> tuple[np.ndarray, np.ndarray]:
    """All ways (W, cores) to give each core one of the groups or none (-1), those with few cores first.

    Also the set of cores, a bit each, that every group gets: (W, groups).
    """
    ways = np.array(sorted(product((*range(groups), -1), repeat=cores), key=lambda way: cores - way.count(-1)))
    sets = ((ways[:, None, :] == np.arange(groups)[:, None]) << np.arange(cores)).sum(2)
    return ways, sets


def legal_start(need: np.ndarray, group: np.ndarray, rooms: list[ChipRoom]) -> np.ndarray | None:
    """Chip (N,) of neurons with `need` (N,) CAM rows in bias groups `group` (N,) such that all fit; None if none is found.

    Group by group, those with the neediest neurons first, each into the cores that take most of its neurons. For a single
    group that is as good as can be.
    """
    chip = np.full(len(need), -1)
    cores = [(c, np.sort(room.rows[core])[::-1]) for c, room in enumerate(rooms) for core in range(len(room.rows))]
    groups = sorted(np.unique(group).tolist(), key=lambda g: (-int(need[group == g].max()), -int((group == g).sum())))
    if len(groups) == 1:
        slots = np.concatenate([rows for _, rows in cores])
        owner = np.repeat([c for c, _ in cores], [len(rows) for _, rows in cores])
        best, neediest = np.argsort(-slots, kind="stable")[: len(need)], np.argsort(-need, kind="stable")
        if len(best) < len(need) or (slots[best] < np.maximum(need[neediest], 1)).any():
            return None
        chip[neediest] = owner[best]
        return chip
    for g in groups:
        members = np.flatnonzero(group == g)
        members = members[np.argsort(-need[members], kind="stable")]
        while len(members) and cores:
            taken = [_take(need[members], rows) for _, rows in cores]
            best = max(range(len(cores)), key=lambda k: (taken[k].sum(), -k))
            if not taken[best].any():
                break
            chip[members[taken[best]]] = cores[best][0]
            members = members[~taken[best]]
            del cores[best]
        if len(members):
            return None
    return chip


def _take(need: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Boolean (n,): which neurons of descending `need` a core with slots of descending `rows` takes, one slot each."""
    taken = np.zeros(len(need), bool)
    slot = 0
    for n, wanted in enumerate(np.maximum(need, 1).tolist()):
        if slot < len(rows) and rows[slot] >= wanted:
            taken[n] = True
            slot += 1
    return taken


def fits_tags(low: np.ndarray, high: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    """Boolean (n, slots): where `low` (n,) and `high` (n,) rows for tags of each half find good ones.

    `kinds` (slots, 3): rows that are good for tags below 1024 only, from 1024 only, for both.
    """
    only_low, only_high, both = kinds.T
    lacking = np.maximum(low[:, None] - only_low, 0) + np.maximum(high[:, None] - only_high, 0)
    return (lacking <= both) & (kinds.sum(1) > 0)


def place_slots(low: np.ndarray, high: np.ndarray, slot: np.ndarray, kinds: np.ndarray) -> np.ndarray | None:
    """Slots (n,) for the neurons of one core with `low` and `high` rows: `slot` (n,) where that fits, else a matching.

    None where there is no way.
    """
    fits = fits_tags(low, high, kinds)
    if fits[np.arange(len(slot)), slot].all():
        return slot
    # Of all matchings the one that leaves neurons with many rows the most to spare.
    spare = np.minimum(kinds.sum(1) - (low + high)[:, None], 64)
    from scipy.optimize import linear_sum_assignment  # takes longer to import than most networks to compile

    row, column = linear_sum_assignment(np.where(fits, 64 - spare, 10**6))
    return column if fits[row, column].all() else None


def spare_rows(low: np.ndarray, high: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    """CAM rows (n,) left for second rows of any weight; `kinds` (n, 3) those of the slot of each neuron."""
    only_low, only_high, both = kinds.T
    left = both - np.maximum(low - only_low, 0) - np.maximum(high - only_high, 0)
    left = left + np.where(low == 0, np.maximum(only_high - high, 0), 0)
    left = left + np.where((high == 0) & (low > 0), np.maximum(only_low - low, 0), 0)
    return np.maximum(left, 0)


def unplaceable(need: np.ndarray, profile: ChipProfile | None, chip: int) -> CapacityError:
    """Why neurons with `need` rows find no place on a chip with this profile."""
    profile = profile or ChipProfile.perfect()
    rows = np.sort(good_rows(profile).ravel())[::-1]
    wanted = np.sort(need)[::-1]
    short = np.flatnonzero(
        np.maximum(wanted, 1) > np.r_[rows, np.zeros(max(0, len(wanted) - len(rows)), int)][: len(wanted)]
    )
    if len(short):
        k = int(short[0])
        working = int((rows >= wanted[k]).sum())
        what = (
            f"{k + 1} neurons have {int(wanted[k])} incoming synapses or more, chip {chip} with profile "
            f"'{profile.name}' has {working} neurons with as many good CAM rows ({profile.describe()})."
        )
    else:
        what = (
            f"{len(need)} neurons with up to {int(wanted[0])} incoming synapses fit on chip {chip} with profile "
            f"'{profile.name}', but not with one bias group per core ({profile.describe()})."
        )
    hint = 'Pass fan_in="prune" (--fan-in prune), use more chips, or make the layers sparser.'
    return CapacityError(
        Finding("error", "bad-rows", what, used=int(wanted[0]) if len(wanted) else 0, limit=int(rows[0]), hint=hint)
    )


def unplaceable_tags(
    low: np.ndarray, high: np.ndarray, kinds: np.ndarray, profile: ChipProfile, chip: int, core: int
) -> BadPlace:
    """Why neurons with `low` and `high` rows for tags of each half find no slots in a core."""
    places = fits_tags(low, high, kinds).sum(1)
    worst = int(np.argmin(places))
    what = (
        f"core {core} of chip {chip}: its neurons listen to up to {int(low.max())} tags below 1024 and "
        f"{int(high.max())} from 1024; one with {int(low[worst])} and {int(high[worst])} finds the good CAM rows in "
        f"{int(places[worst])} neurons, and {len(low)} need a place each (profile '{profile.name}': {profile.describe()})."
    )
    hint = "Use more chips or sparser layers: with at most 1024 sources per core all tags are from 1024."
    finding = Finding("error", "bad-rows", what, used=int(low.max()), limit=int(kinds.sum(1).max()), hint=hint)
    return BadPlace(finding, (chip, core))
