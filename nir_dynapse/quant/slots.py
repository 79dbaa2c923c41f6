"""Inside a chip: which core a bias group gets and which slot a neuron, around the bad neurons and CAM rows of a profile.

The slots of a core differ in how many of their CAM rows work. Neurons with many inputs get slots with many good rows: the
k-th neediest neuron the k-th best slot, which succeeds whenever anything does.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import product

import numpy as np
from scipy.optimize import linear_sum_assignment

from nir_dynapse.device import Device
from nir_dynapse.errors import CapacityError, Finding
from nir_dynapse.profile import ChipProfile

__all__ = [
    "fill_cores",
    "fits_chip",
    "fits_tags",
    "good_rows",
    "place_slots",
    "spare_rows",
    "unplaceable",
    "unplaceable_tags",
]


@lru_cache(maxsize=32)
def good_rows(profile: ChipProfile) -> np.ndarray:
    """CAM rows that a neuron in each slot can use (cores, slots): those good for the preferred tags, from 1024."""
    rows = np.array(profile.usable_rows(1))
    rows.flags.writeable = False
    return rows


def fits_chip(need: np.ndarray, group: np.ndarray, profile: ChipProfile | None, device: Device) -> bool:
    """Whether neurons with `need` (n,) CAM rows in bias groups `group` (n,) fit together on a chip."""
    return _labels(need, group, profile, device) is not None


def fill_cores(
    need: np.ndarray, group: np.ndarray, profile: ChipProfile | None, device: Device, wish: np.ndarray | None = None
) -> np.ndarray | None:
    """(n, 2) core and slot on a chip of neurons with `need` (n,) CAM rows in groups `group` (n,); None if they do not fit.

    The best slots go to the neurons with the largest `wish` (n,), `need` where it is not given.
    """
    wish = need if wish is None else wish
    labels = _labels(need, group, profile, device)
    if labels is None:
        return None
    place = np.zeros((len(need), 2), int)
    for g in np.unique(group):
        members, cores = np.flatnonzero(group == g), np.flatnonzero(labels == g)
        if profile is None:
            core, place[members, 1] = np.divmod(np.arange(len(members)), device.neurons_per_core)
            place[members, 0] = cores[core]
            continue
        rows = good_rows(profile)[cores]
        core, slot = np.divmod(np.argsort(-rows.ravel(), kind="stable")[: len(members)], rows.shape[1])
        neediest = members[np.argsort(-wish[members], kind="stable")]
        place[neediest, 0], place[neediest, 1] = cores[core], slot
    return place


def _labels(need: np.ndarray, group: np.ndarray, profile: ChipProfile | None, device: Device) -> np.ndarray | None:
    """Bias group of each core of a chip (-1: none), as few cores and as early ones as possible; None if nothing fits."""
    groups, sizes = np.unique(group, return_counts=True)
    if profile is None:
        cores = -(-sizes // device.neurons_per_core)
        if cores.sum() > device.cores_per_chip:
            return None
        return np.r_[np.repeat(groups, cores), np.full(device.cores_per_chip - cores.sum(), -1)]
    rows = good_rows(profile)
    sorted_need = {int(g): np.sort(need[group == g])[::-1] for g in groups}
    best: tuple[int, np.ndarray] | None = None
    for labels in product([*groups.tolist(), -1], repeat=device.cores_per_chip):
        used = device.cores_per_chip - labels.count(-1)
        if (best is None or used < best[0]) and all(
            _dominated(wanted, rows, labels, g) for g, wanted in sorted_need.items()
        ):
            best = used, np.array(labels)
    return None if best is None else best[1]


def _dominated(wanted: np.ndarray, rows: np.ndarray, labels: tuple[int, ...], group: int) -> bool:
    """Whether neurons with `wanted` rows (descending) fit into the slots of the cores with label `group`, one each."""
    slots = rows[[core for core, label in enumerate(labels) if label == group]].ravel()
    if len(slots) < len(wanted):
        return False
    best = np.sort(slots)[::-1][: len(wanted)]
    return bool((best >= np.maximum(wanted, 1)).all())  # a neuron without synapses needs a slot that works, too


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
) -> CapacityError:
    """Why neurons with `low` and `high` rows for tags of each half find no slots in a core."""
    places = fits_tags(low, high, kinds).sum(1)
    worst = int(np.argmin(places))
    what = (
        f"core {core} of chip {chip}: its neurons listen to up to {int(low.max())} tags below 1024 and "
        f"{int(high.max())} from 1024; one with {int(low[worst])} and {int(high[worst])} finds the good CAM rows in "
        f"{int(places[worst])} neurons, and {len(low)} need a place each (profile '{profile.name}': {profile.describe()})."
    )
    hint = "Use more chips or sparser layers: with at most 1024 sources per core all tags are from 1024."
    return CapacityError(
        Finding("error", "bad-rows", what, used=int(low.max()), limit=int(kinds.sum(1).max()), hint=hint)
    )
