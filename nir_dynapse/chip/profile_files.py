"""Files of chip profiles: which neurons, CAM rows and tags work (JSON as the labs write it, CSV lists), measured currents.

A file is material from outside: its size is bounded before it is parsed, and every shape and number is checked before it
becomes an array, so that a damaged file ends in a sentence. `profile.ChipProfile` is what the rest of the package uses.
"""

from __future__ import annotations

import gzip
import io
import itertools
import json
import os
import re
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nir_dynapse.errors import ConfigurationError
from nir_dynapse.files.bounds import LINE_ENDS, UnreadableError, parse_json
from nir_dynapse.files.numbers import PART
from nir_dynapse.files.whole import write_atomically

__all__ = ["CORES", "HALF", "HALVES", "NEURONS", "ROWS", "TAGS", "Defects", "read_defects", "write_defects"]

CORES, NEURONS, ROWS, TAGS, HALVES, CHIPS = 4, 256, 64, 2048, 2, 8
"""Cores of a chip, neurons of a core, CAM rows of a neuron, tags, halves of the tags, chips of the longest stack."""
HALF = TAGS // HALVES
"""Tags of each half: half h holds the tags h·1024 to h·1024 + 1023."""
MOST_PAIRS = 1 << 20
"""Single (core, neuron, CAM row, tag) failures that a profile may list; more than that are failures of whole rows."""
MOST_BYTES, MOST_LINES = 1 << 26, 1 << 19
REMEDY = "Write the file again, or measure the chip again."
FURTHER = ("scales", "factors", "measured")
"""Keys of a JSON file that `profile.ChipProfile` checks."""
# Columns of a CSV file and how many values each can take, in the order of a defect.
COLUMNS = {"chip": CHIPS, "core": CORES, "neuron": NEURONS, "cam": ROWS, "tag": TAGS}


class Defects(NamedTuple):
    """What a file says of one chip: `neurons` (4, 256), `rows` (4, 256, 64, 2), `tags` (4, 2048) bool, true where usable.

    `pairs`: (core, neuron, CAM row, tag) combinations that fail one by one. `further`: the values of `FURTHER` that the
    file has, as they stand there.
    """

    name: str
    neurons: np.ndarray
    rows: np.ndarray
    tags: np.ndarray
    pairs: list[tuple[int, ...]]
    further: dict[str, Any]


def _no_defects(name: str) -> Defects:
    """A chip on which everything works."""
    neurons, rows = np.ones((CORES, NEURONS), bool), np.ones((CORES, NEURONS, ROWS, HALVES), bool)
    return Defects(name, neurons, rows, np.ones((CORES, TAGS), bool), [], {})


def read_defects(path: str | os.PathLike[str], max_failure: float) -> list[Defects]:
    """The chips of a JSON or CSV file (either may be gzip): one, or as many as the file names (ConfigurationError).

    `max_failure` is the largest failure frequency (0 to 1) at which a CAM row of a JSON file counts as usable.
    """
    max_failure = PART.check("profile", "max_failure", max_failure, "Give a fraction of failures, e.g. 0.1.")
    text = _text(path)
    names = Path(path).name.lower().removesuffix(".gz")
    if text.lstrip().startswith(("{", "[")) or names.endswith(".json"):
        return _Json(str(path), max_failure).chips(text, _printable(Path(path).name.split(".")[0]))
    return _from_csv(str(path), text, _printable(Path(path).name.split(".")[0]))


def _text(path: str | os.PathLike[str]) -> str:
    """The text of a file of bounded size, unpacked where it is gzip."""
    try:
        with Path(path).open("rb") as stream:
            content = stream.read(MOST_BYTES + 1)
        if content[:2] == b"\x1f\x8b":
            with gzip.GzipFile(fileobj=io.BytesIO(content)) as stream:
                content = stream.read(MOST_BYTES + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ConfigurationError(f"{path}: a damaged gzip file ({error}). {REMEDY}") from error
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL character
        reason = getattr(error, "strerror", None) or error
        raise ConfigurationError(f"{path}: cannot be read ({reason}). Check the path.") from error
    if len(content) > MOST_BYTES:
        raise ConfigurationError(
            f"{path}: more than {MOST_BYTES >> 20} MiB, the limit for a chip profile (the labs' files have 1 MiB a chip). "
            "Give a profile of one stack."
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigurationError(
            f"{path}: not a text file (byte {error.start} is not UTF-8). Give a chip profile in JSON or CSV."
        ) from error


def _printable(text: str) -> str:
    """A name that fits on a line of text."""
    return "".join(c if c.isprintable() else "?" for c in text)[:80] or "profile"


# -- JSON -------------------------------------------------------------------------------------------------------------


class _Json(NamedTuple):
    """Reads one JSON file: `path` for messages, `max_failure` for its frequencies."""

    path: str
    max_failure: float

    def chips(self, text: str, name: str) -> list[Defects]:
        try:
            data = parse_json(text)
        except UnreadableError as error:
            raise ConfigurationError(f"{self.path}: not a JSON file ({error}). {REMEDY}") from error
        if isinstance(data, dict) and "chips" in data:
            chips = data["chips"]
            if not isinstance(chips, list) or not 1 <= len(chips) <= CHIPS:
                got = f"{len(chips)} entries" if isinstance(chips, list) else _short(chips)
                raise self.error("chips", f"{got}, allowed is a list of 1 to {CHIPS} profiles (null: no defects)")
            return [
                _no_defects(f"{name} chip {i}") if c is None else self.chip(c, f"{name} chip {i}", f"chips[{i}].")
                for i, c in enumerate(chips)
            ]
        return [self.chip(data, name, "")]

    def chip(self, data: Any, name: str, prefix: str) -> Defects:
        if not isinstance(data, dict) or "cams" not in data:
            keys = f"the keys {_short(sorted(data))}" if isinstance(data, dict) else _short(data)
            raise self.error(prefix[:-1], f"{keys}, needed is an object with the key 'cams'")
        chip = _no_defects(_printable(name if not isinstance(data.get("name"), str) else data["name"]))
        failure = self.frequencies(data["cams"], f"{prefix}cams", chip.rows.shape)
        chip.rows[...] = failure <= self.max_failure
        if "prob" in data:
            # Not used: the shape alone says that the file is whole.
            self.items(data["prob"], f"{prefix}prob", (HALVES, CORES))
        if "tags" in data:
            chip.tags[...] = False
            lists = self.items(data["tags"], f"{prefix}tags", (CORES, HALVES))
            for i, tags in enumerate(lists):
                core, half = divmod(i, HALVES)
                low, key = half * HALF, f"{prefix}tags[{core}][{half}]"
                chip.tags[core, self.integers(tags, key, low, low + HALF)] = True
        if "neurons" in data:
            for core, bad in enumerate(self.items(data["neurons"], f"{prefix}neurons", (CORES,))):
                chip.neurons[core, self.integers(bad, f"{prefix}neurons[{core}]", 0, NEURONS)] = False
        if "pairs" in data:
            chip.pairs.extend(self.pairs(data["pairs"], f"{prefix}pairs"))
        chip.further.update({key: data[key] for key in FURTHER if key in data})
        return chip

    def error(self, key: str, what: str) -> ConfigurationError:
        return ConfigurationError(f"{self.path}{f', {key}' if key else ''}: {what}. {REMEDY}")

    def items(self, value: Any, key: str, shape: tuple[int, ...]) -> list[Any]:
        """The entries of nested lists of the given shape, flat; the first list that differs is an error."""
        flat = [value]
        for depth, length in enumerate(shape):
            for i, entry in enumerate(flat):
                if not isinstance(entry, list) or len(entry) != length:
                    got = f"{len(entry)} entries" if isinstance(entry, list) else _short(entry)
                    where = key + _indices(i, shape[:depth])
                    raise self.error(where, f"{got}, needed is a list of {length}")
            flat = [child for entry in flat for child in entry]
        return flat

    def frequencies(self, value: Any, key: str, shape: tuple[int, ...]) -> np.ndarray:
        flat = self.items(value, key, shape)
        for i, x in enumerate(flat):
            if type(x) not in (int, float) or not 0 <= x <= 1:  # a NaN is neither
                raise self.error(key + _indices(i, shape), f"{_short(x)}, allowed are failure frequencies 0 to 1")
        return np.array(flat, float).reshape(shape)

    def integers(self, value: Any, key: str, low: int, high: int) -> list[int]:
        if not isinstance(value, list):
            raise self.error(key, f"{_short(value)}, needed is a list of integers")
        for i, x in enumerate(value):
            if type(x) is not int or not low <= x < high:
                raise self.error(f"{key}[{i}]", f"{_short(x)}, allowed are {low} to {high - 1}")
        return value

    def pairs(self, value: Any, key: str) -> list[tuple[int, ...]]:
        if not isinstance(value, list) or len(value) > MOST_PAIRS:
            got = f"{len(value)} entries" if isinstance(value, list) else _short(value)
            raise self.error(key, f"{got}, allowed is a list of up to {MOST_PAIRS} [core, neuron, cam, tag]")
        limits = tuple(COLUMNS.values())[1:]
        for i, entry in enumerate(value):
            for x, limit in zip(self.items(entry, f"{key}[{i}]", (4,)), limits, strict=True):
                if type(x) is not int or not 0 <= x < limit:
                    most = ", ".join(str(v - 1) for v in limits)
                    raise self.error(f"{key}[{i}]", f"{_short(entry)}, allowed are 0 to {most}")
        return [tuple(entry) for entry in value]


def _short(value: Any) -> str:
    """A value as it may appear in a message."""
    if isinstance(value, (list, dict)) and len(value) > 8:
        return f"{'a list' if isinstance(value, list) else 'an object'} of {len(value)} entries"
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an integer of thousands of digits, or lists in lists
        return f"a value of type {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:57]}..."


def _indices(i: int, shape: tuple[int, ...]) -> str:
    return "".join(f"[{k}]" for k in np.unravel_index(i, shape)) if shape else ""


def _to_json(chip: Defects) -> dict[str, Any]:
    """What `read_defects` reads: `cams` is 0 for usable rows and 1 for bad ones."""
    return {
        "name": chip.name,
        "cams": (~chip.rows).astype(int).tolist(),
        "tags": [
            [(np.flatnonzero(half) + h * HALF).tolist() for h, half in enumerate(core.reshape(2, -1))]
            for core in chip.tags
        ],
        "neurons": [np.flatnonzero(~core).tolist() for core in chip.neurons],
        "pairs": [list(pair) for pair in chip.pairs],
        **chip.further,
    }


# -- CSV --------------------------------------------------------------------------------------------------------------


def _from_csv(path: str, text: str, name: str) -> list[Defects]:
    advice = "List rows, halves of the tags (0-1023, 1024-2047) or tags of a core instead of single failures."
    if max(text.count(mark) for mark in LINE_ENDS) > MOST_LINES:
        raise ConfigurationError(f"{path}: more than {MOST_LINES} lines, the limit for a chip profile. {advice}")
    header: list[str] = []
    chips: list[Defects] = []
    free = MOST_PAIRS  # of all chips together: eight lists of so many would fill the memory
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        fields = [field.strip().strip('"').strip() for field in line.split(",", 2 * len(COLUMNS))]
        if not header:
            header = _header(f"{path}, line {number}", fields)
            continue
        defect = _defect(f"{path}, line {number}", header, fields)
        for i in defect["chip"]:
            while len(chips) <= i:
                chips.append(_no_defects(f"{name} chip {len(chips)}" if "chip" in header else name))
            free -= _mark(chips[i], defect, free)
            if free < 0:
                raise ConfigurationError(
                    f"{path}, line {number}: more than {MOST_PAIRS} failures of single tags, the limit for a profile. "
                    f"{advice}"
                )
    if not header:
        _header(path, [])
    return chips or [_no_defects(name)]


def _header(where: str, fields: list[str]) -> list[str]:
    """The columns that the first line names."""
    header = [field.lower() for field in fields]
    if len(set(header)) != len(header) or set(header) - {"chip"} != set(COLUMNS) - {"chip"}:
        got = _short(",".join(header)) if fields else "nothing"
        raise ConfigurationError(
            f"{where}: the header is {got}, needed are the columns core,neuron,cam,tag (and chip for a stack). "
            "Write them in the first line, or give a JSON profile."
        )
    return header


def _defect(where: str, header: list[str], fields: list[str]) -> dict[str, range]:
    """The cores, neurons, CAM rows and tags that a line names, as ranges."""
    if len(fields) != len(header):
        raise ConfigurationError(
            f"{where}: {len(fields)} fields, the header names {len(header)}. Write one field for each column, an empty "
            "one for all."
        )
    defect = {"chip": range(1 if "chip" not in header else CHIPS)}
    for column, field in zip(header, fields, strict=True):
        limit = COLUMNS[column]
        if field in ("", "*"):
            defect[column] = range(limit)
            continue
        match = re.fullmatch(r"([0-9]{1,9})(?:\s*-\s*([0-9]{1,9}))?", field)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (-1, -1)
        if not 0 <= first <= last < limit:
            raise ConfigurationError(
                f"{where}: {column} is {_short(field)}, allowed are 0 to {limit - 1}. Write a number, a range as 0-7, or "
                "nothing for all."
            )
        defect[column] = range(first, last + 1)
    if all(len(defect[column]) == limit for column, limit in COLUMNS.items() if column != "chip"):
        raise ConfigurationError(
            f"{where}: every field is empty, which names the whole chip. Name a core, neuron, CAM row or tag, or remove "
            "the line."
        )
    return defect


def _mark(chip: Defects, defect: dict[str, range], free: int) -> int:
    """Mark a defect; how many single failures that adds, which are not made where they are more than `free`."""
    cores, neurons, rows, tags = (defect[column] for column in COLUMNS if column != "chip")
    core, neuron, row = (slice(r.start, r.stop) for r in (cores, neurons, rows))
    if len(rows) == ROWS and len(tags) == TAGS:
        chip.neurons[core, neuron] = False
    elif len(rows) == ROWS and len(neurons) == NEURONS:
        chip.tags[core, tags.start : tags.stop] = False
    else:
        added = 0
        for half in range(HALVES):
            part = range(max(tags.start, half * HALF), min(tags.stop, (half + 1) * HALF))
            if len(part) == HALF:
                chip.rows[core, neuron, row, half] = False
                continue
            added += len(cores) * len(neurons) * len(rows) * len(part)
            if added > free:
                return added
            chip.pairs.extend(itertools.product(cores, neurons, rows, part))
        return added
    return 0


# -- Writing ----------------------------------------------------------------------------------------------------------


def write_defects(path: str | os.PathLike[str], *chips: Defects) -> None:
    """Write as JSON (gzip where the name ends in .gz), complete or not at all (ConfigurationError).

    Several chips become a stack: an object with the key "chips".
    """
    each = [_to_json(chip) for chip in chips]
    content = json.dumps(each[0] if len(each) == 1 else {"chips": each}, separators=(",", ":")).encode()
    if os.fspath(path).lower().endswith(".gz"):
        content = gzip.compress(content, mtime=0)
    write_atomically(path, content)
