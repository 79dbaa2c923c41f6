"""`ChipProfile`: which neurons, CAM rows and tags of one chip work, and what its currents are. Equal by content.

On silicon a part of the CAM rows fails, and fails differently for tags below 1024 and from 1024 upwards (`half` 0 and 1,
half = tag >> 10): published profiles of six boards have 1–30 % bad rows in the high half and 4–100 % in the low half.
Currents differ from those of the nominal bias generator too, by a scale of each core and a factor of each neuron.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from nir_dynapse.chip.measured import checked_ratios, json_ready, range_of
from nir_dynapse.chip.profile_files import (
    CORES,
    HALF,
    HALVES,
    NEURONS,
    ROWS,
    TAGS,
    Defects,
    read_defects,
    write_defects,
)
from nir_dynapse.errors import ConfigurationError, ParameterRangeError

__all__ = ["BOARDS", "ChipProfile", "load_profiles", "save_profiles"]


class Board(NamedTuple):
    """% of bad rows per core for tags of the low and of the high half, and how evenly neurons share the bad rows.

    `evenness` is a + b of the Beta distribution of a neuron's failure probability: small where few neurons fail much.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    evenness: tuple[float, ...]


# Percentages: own statistics of the profiles that the labs published for their boards. Evenness: fitted so that median and
# worst of the binomial numbers of usable rows (high half, 256 neurons) come closest to those of the same profiles, within
# 1 and 4 rows (the worst neuron of core 0 of the board red: 8).
BOARDS: dict[str, Board] = {
    "green": Board((29, 22, 100, 30), (8, 11, 5, 20), (10.6, 11.7, 9.6, 35.7)),
    "orange": Board((64, 37, 23, 13), (30, 10, 5, 6), (11.7, 5.8, 15.9, 19.4)),
    "pink": Board((19, 75, 100, 42), (13, 24, 11, 4), (9.6, 3.8, 15.9, 4.7)),
    "purple": Board((59, 11, 100, 16), (21, 7, 2, 6), (6.4, 11.7, 48.4, 21.5)),
    "red": Board((51, 31, 100, 43), (24, 20, 9, 6), (1.5, 39.5, 3.1, 0.8)),
    "dev": Board((4, 100, 100, 24), (1, 6, 16, 2), (270.0, 8.6, 5.2, 3.8)),
}
"""Statistics of published profiles by the name of the board."""

# In the parts looked at of two published profiles (green, orange) nearly every row that fails for high tags fails for low
# tags too. Nothing is published on neurons: their share is an assumption.
LOW_FAILS_TOO = 0.98
BAD_NEURONS = 0.005

RATIOS: dict[str, tuple[int, ...]] = {"scales": (CORES,), "factors": (CORES, NEURONS)}
"""Fields of a profile that hold ratios of measured currents, and their shapes."""

_NEURONS, _ROWS, _TAGS = (CORES, NEURONS), (CORES, NEURONS, ROWS, HALVES), (CORES, TAGS)


@dataclass(frozen=True, eq=False)
class ChipProfile:
    """What of one chip can be used (true is usable), and what a calibration measured.

    `neurons` (4, 256); `rows` (4, 256, 64, 2): CAM row for tags of each half; `tags` (4, 2048): tags by which a core can be
    reached; `pairs` (P, 4): single (core, neuron, CAM row, tag) that fail although the row works for the rest of that half
    (sorted, without repetitions and without those of rows that fail anyway).

    `scales`, name of a parameter (`device.PARAMETERS`) -> (4,): the current that really flows over the nominal current of
    the code, mean of the neurons of each core; `factors`, name -> (4, 256): that of each neuron over the mean of its core.
    A parameter that is missing is as it should be. Both are rounded to six digits.

    Arrays are read-only copies; `name` and `measured` (free form, JSON-ready: where the numbers come from) do not take part
    in equality. Wrong shapes and values are a ConfigurationError.
    """

    name: str = "profile"
    neurons: np.ndarray = field(default_factory=lambda: np.ones(_NEURONS, bool), repr=False)
    rows: np.ndarray = field(default_factory=lambda: np.ones(_ROWS, bool), repr=False)
    tags: np.ndarray = field(default_factory=lambda: np.ones(_TAGS, bool), repr=False)
    pairs: np.ndarray = field(default_factory=lambda: np.zeros((0, 4), np.int64), repr=False)
    scales: dict[str, np.ndarray] = field(default_factory=dict, repr=False)
    factors: dict[str, np.ndarray] = field(default_factory=dict, repr=False)
    measured: dict[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.isprintable():
            raise ConfigurationError(
                f"ChipProfile: name is {self.name!r}, needed is printable text. Choose another name."
            )
        for key, shape in {"neurons": _NEURONS, "rows": _ROWS, "tags": _TAGS}.items():
            value = np.array(getattr(self, key))
            if value.shape != shape or value.dtype != bool:
                raise ConfigurationError(
                    f"ChipProfile {self.name}: {key} is {value.dtype} of shape {value.shape}, needed is bool of shape "
                    f"{shape}. Pass True where the chip works."
                )
            self._set(key, value)
        self._set("pairs", self._checked_pairs(np.array(self.pairs)))
        for key, shape in RATIOS.items():
            ratios = checked_ratios(f"ChipProfile {self.name}: {key}", getattr(self, key), shape)
            object.__setattr__(self, key, ratios)
        object.__setattr__(self, "measured", json_ready(f"ChipProfile {self.name}: measured", self.measured))

    def _set(self, key: str, value: np.ndarray) -> None:
        value.flags.writeable = False
        object.__setattr__(self, key, value)

    def _checked_pairs(self, pairs: np.ndarray) -> np.ndarray:
        if pairs.size == 0:
            return np.zeros((0, 4), np.int64)
        limits = (CORES, NEURONS, ROWS, TAGS)
        if pairs.ndim != 2 or pairs.shape[1] != 4 or pairs.dtype.kind not in "iu":
            raise ConfigurationError(
                f"ChipProfile {self.name}: pairs is {pairs.dtype} of shape {pairs.shape}, needed are integers of shape "
                "(P, 4). Pass core, neuron, CAM row and tag of each."
            )
        bad = ((pairs < 0) | (pairs >= np.array(limits))).any(1)
        if bad.any():
            raise ConfigurationError(
                f"ChipProfile {self.name}: pairs holds {pairs[bad][0].tolist()}, allowed are 0 to "
                f"{', '.join(str(v - 1) for v in limits)}. Pass core, neuron, CAM row and tag of each."
            )
        core, neuron, row, tag = np.unravel_index(
            np.unique(np.ravel_multi_index(tuple(pairs.T.astype(np.int64)), limits)), limits
        )
        return np.stack([core, neuron, row, tag], axis=1)[self.rows[core, neuron, row, tag // HALF]]

    @classmethod
    def perfect(cls, name: str = "perfect") -> ChipProfile:
        """A chip without defects."""
        return cls(name)

    # -- Identity -----------------------------------------------------------------------------------------------------

    @cached_property
    def digest(self) -> str:
        """A hexadecimal SHA-256 of the content that counts for equality, the same on every machine."""
        content = hashlib.sha256()
        for flags in (self.neurons, self.rows, self.tags):
            content.update(np.packbits(flags).tobytes())
        content.update(self.pairs.astype("<i8").tobytes())
        for key in RATIOS:
            for name, value in getattr(self, key).items():
                content.update(f"{key} {name} ".encode() + value.astype("<f8").tobytes())
        return content.hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ChipProfile) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __reduce__(self) -> tuple[Any, ...]:
        # Through the constructor: NumPy forgets on the way that an array is read-only.
        arrays = self.neurons, self.rows, self.tags, self.pairs
        return type(self), (self.name, *arrays, self.scales, self.factors, self.measured)

    @property
    def flawless(self) -> bool:
        """Whether nothing is bad; currents may differ all the same."""
        return bool(self.neurons.all() and self.rows.all() and self.tags.all() and not len(self.pairs))

    def describe(self) -> str:
        """One line: bad neurons, % of bad rows (low/high half) and usable tags per core, single failures, currents."""
        bad = 100 * (1 - self.rows.mean(axis=(1, 2)))
        rows = ", ".join(f"{low:.0f}/{high:.0f}" for low, high in bad)
        tags = ", ".join(str(n) for n in self.tags.sum(1))
        parts = (
            f"{self.name}: {(~self.neurons).sum()} bad neurons",
            f"bad CAM rows for tags below/from {HALF}: {rows} %",
            f"usable tags: {tags}",
            f"{len(self.pairs)} single failures",
            range_of("bias scales", self.scales),
            range_of("factors", self.factors),
        )
        return "; ".join(filter(None, parts))

    # -- What a placer asks ---------------------------------------------------------------------------------------------

    def usable_rows(self, half: int) -> np.ndarray:
        """(4, 256) number of CAM rows that are good for tags of `half` (0 or 1); 0 for bad neurons."""
        if half not in (0, 1):
            raise ParameterRangeError(f"half is {half!r}, allowed are 0 (tags below {HALF}) and 1. Pass tag >> 10.")
        return self.rows[..., half].sum(-1) * self.neurons

    def row_kinds(self) -> np.ndarray:
        """(4, 256, 3) number of CAM rows that are good for low tags only, high tags only, both; 0 for bad neurons."""
        low, high = self.rows[..., 0], self.rows[..., 1]
        return (
            np.stack([(low & ~high).sum(-1), (high & ~low).sum(-1), (low & high).sum(-1)], -1) * self.neurons[..., None]
        )

    def allowed(self, core: int, slot: int, tags: np.ndarray) -> np.ndarray:
        """(64, n): which CAM row of a neuron may listen to which of `tags` (n,), everything considered."""
        tags = np.asarray(tags, np.int64)
        result = self.rows[core, slot][:, tags // HALF] & (self.tags[core, tags] & self.neurons[core, slot])
        pairs = self._pairs_of(core, slot)
        if len(pairs):
            good = np.ones((ROWS, TAGS), bool)
            good[pairs[:, 2], pairs[:, 3]] = False
            result &= good[:, tags]
        return result

    def matching(self, core: int, slot: int, tags: np.ndarray) -> np.ndarray:
        """(n,) a CAM row for each of `tags` (n,), -1 where none is left; as many as possible.

        A tag that is listed twice gets two rows. Rows that fit one half only are taken first, low numbers first.
        """
        tags = np.asarray(tags, np.int64)
        half, result = tags // HALF, np.full(len(tags), -1, np.int64)
        wanted = self.tags[core, tags] & self.neurons[core, slot]
        good = self.rows[core, slot]
        rest = wanted.copy()
        # Rows of one kind are interchangeable, so taking those of one half before the others loses none.
        for h in range(HALVES):
            entries, rows = np.flatnonzero(wanted & (half == h)), np.flatnonzero(good[:, h] & ~good[:, 1 - h])
            n = min(len(entries), len(rows))
            result[entries[:n]], rest[entries[:n]] = rows[:n], False
        entries, rows = np.flatnonzero(rest), np.flatnonzero(good.all(1))
        n = min(len(entries), len(rows))
        result[entries[:n]] = rows[:n]
        # A single failure counts only where it meets this choice.
        used = np.flatnonzero(result >= 0)
        if len(self._pairs_of(core, slot)) and self.hits(core, slot, result[used], tags[used]).any():
            from scipy.sparse import csr_array  # scipy takes longer to import than all else here
            from scipy.sparse.csgraph import maximum_bipartite_matching

            graph = csr_array(self.allowed(core, slot, tags).T)
            result = maximum_bipartite_matching(graph, perm_type="column").astype(np.int64)
        return result

    def hits(self, core: Any, slot: Any, row: Any, tag: Any) -> np.ndarray:
        """Which of the used (core, neuron, CAM row, tag) are bad: four arrays that broadcast, bool of their shape."""
        core, slot, row, tag = np.broadcast_arrays(*(np.asarray(v, np.int64) for v in (core, slot, row, tag)))
        bad = ~(self.neurons[core, slot] & self.rows[core, slot, row, tag // HALF] & self.tags[core, tag])
        return bad | np.isin(_code(core, slot, row, tag), self._codes) if len(self.pairs) else bad

    @cached_property
    def _codes(self) -> np.ndarray:
        """`pairs` as one number each, in ascending order."""
        return _code(*self.pairs.T)

    def _pairs_of(self, core: int, slot: int) -> np.ndarray:
        first = _code(core, slot, 0, 0)
        return self.pairs[slice(*np.searchsorted(self._codes, [first, first + ROWS * TAGS]))]

    # -- Files ----------------------------------------------------------------------------------------------------------

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, max_failure: float = 0.1) -> ChipProfile:
        """The profile of one chip from a JSON or CSV file, gzip or not (ConfigurationError where it is none).

        JSON as the labs write it: "cams" [4][256][64][2] failure frequency of each CAM row for each half of the tags,
        usable where it is at most `max_failure`; optional "tags" [core][half] lists of usable tags, "neurons" [core] lists
        of bad neurons, "pairs" list of bad [core, neuron, cam, tag], "scales" {parameter: [4]}, "factors" {parameter:
        [4][256]} and an object "measured". CSV, for defects only: a header `core,neuron,cam,tag`, then one line for each
        defect, in which an empty field or `*` means all and `a-b` a range.
        """
        profiles = load_profiles(path, max_failure=max_failure)
        if len(profiles) != 1:
            raise ConfigurationError(
                f"{path}: profiles of {len(profiles)} chips, needed is one. Read the file with load_profiles."
            )
        return profiles[0]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write JSON that `load` reads (gzip where the name ends in .gz), never half a file (ConfigurationError)."""
        save_profiles(path, (self,))

    def _defects(self) -> Defects:
        pairs = [tuple(pair) for pair in self.pairs.tolist()]
        ratios = {key: {name: x.tolist() for name, x in getattr(self, key).items()} for key in RATIOS}
        further = {key: value for key, value in {**ratios, "measured": self.measured}.items() if value}
        return Defects(self.name, self.neurons, self.rows, self.tags, pairs, further)

    # -- Made up --------------------------------------------------------------------------------------------------------

    @classmethod
    def synthetic(cls, key: int, board: str = "green", *, restrict_tags: bool = False) -> ChipProfile:
        """A made-up chip with the statistics of a published board: green, orange, pink, purple, red or dev.

        `key` (an integer from 0) selects the chip. Bad CAM rows cluster in neurons and most that fail for high tags fail
        for low ones; about one neuron of a core is bad (an assumption). `restrict_tags` adds the restrictions of the lab
        code to cores 1 to 3. Source: own statistics of the profiles in Maryada-27/dynapse_homeostasis (CAMs/profiles); the
        tags are those of lib/dynapse2_network.py there.
        """
        if board not in BOARDS:
            raise ParameterRangeError(f"board is {board!r}, known are {', '.join(BOARDS)}. Choose one of them.")
        if isinstance(key, bool) or not isinstance(key, (int, np.integer)) or key < 0:
            raise ParameterRangeError(f"key is {key!r}, allowed are integers from 0. Pass a number, e.g. 0.")
        rng = np.random.default_rng([int(key), zlib.crc32(board.encode())])
        rows = np.empty((CORES, NEURONS, ROWS, HALVES), bool)
        for core, (low, high, evenness) in enumerate(zip(*BOARDS[board], strict=True)):
            low, high = low / 100, high / 100
            too = max(LOW_FAILS_TOO, low)  # on some cores every row fails for low tags
            bad_high = rng.random((NEURONS, ROWS)) < _probabilities(rng, high, evenness)
            more = rng.random((NEURONS, ROWS)) < _probabilities(rng, (low - too * high) / (1 - high), evenness)
            rows[core, :, :, 1] = ~bad_high
            rows[core, :, :, 0] = ~np.where(bad_high, rng.random((NEURONS, ROWS)) < too, more)
        tags = np.ones((CORES, TAGS), bool)
        if restrict_tags:
            tag = np.arange(TAGS)
            tags[1] = tag >= 512
            tags[2] = (tag >= 1032) & (tag % 16 >= 8)  # 1032 + 16·i + {0..7}
            tags[3] = (tag < 1024) | (tag >= 1280)
        return cls(f"{board} {key}", rng.random((CORES, NEURONS)) >= BAD_NEURONS, rows, tags)


def load_profiles(path: str | os.PathLike[str], *, max_failure: float = 0.1) -> tuple[ChipProfile, ...]:
    """The profiles of the chips of a stack from one file, from chip 0 upwards; a file for one chip gives a tuple of one.

    JSON {"chips": [profile or null, ...]} or CSV with a further column `chip` (0 to 7; empty: all eight); a chip without a
    profile is perfect, and so are those after the last one named. Formats and errors as in `ChipProfile.load`.
    """
    return tuple(_of_file(path, defects) for defects in read_defects(path, max_failure))


def _of_file(path: str | os.PathLike[str], d: Defects) -> ChipProfile:
    try:
        return ChipProfile(d.name, d.neurons, d.rows, d.tags, np.array(d.pairs, np.int64), **d.further)
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from error


def save_profiles(path: str | os.PathLike[str], profiles: Sequence[ChipProfile]) -> None:
    """Write the profiles of chips 0, 1, … of a stack as one JSON file that `load_profiles` reads (ConfigurationError)."""
    write_defects(path, *(profile._defects() for profile in profiles))


def _code(core: Any, slot: Any, row: Any, tag: Any) -> Any:
    return ((core * NEURONS + slot) * ROWS + row) * TAGS + tag


def _probabilities(rng: np.random.Generator, mean: float, evenness: float) -> np.ndarray:
    """(256, 1) failure probabilities of neurons: a Beta distribution, one draw in each 256th of it, in random order."""
    if mean >= 1:
        return np.ones((NEURONS, 1))
    from scipy.special import betaincinv

    quantile = (rng.permutation(NEURONS) + rng.random(NEURONS)) / NEURONS
    return betaincinv(evenness * mean, evenness * (1 - mean), quantile)[:, None]
