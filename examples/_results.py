"""The tables of README.md and docs/fine_tuning.md, from the rows that `fine_tuning.py` has kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from _arms import ARMS, LEVELS, SETTINGS
from _further import ADS, ANN, BRAILLE, DEAD, LOOP

__all__ = ["tables", "tasks"]

Rows = list[dict[str, Any]]


def tables(rows: Rows) -> str:
    """Markdown of everything that has been measured."""
    found = [tasks(rows), _arms(rows), *(part(rows) for part in (_loop, _dead, _braille, _ads))]
    return "\n\n".join(text for text in found if text)


def _table(header: Sequence[str], lines: list[Sequence[str]]) -> str:
    body = [f"| {' | '.join(line)} |" for line in (header, ["---"] * len(header), *lines)]
    return "\n".join(body)


def _percent(values: Sequence[float]) -> str:
    return f"{100 * float(np.median(values)):.1f}"


def _of(rows: Rows, task: str, arm: str) -> Rows:
    return [r for r in rows if r["task"] == task and r["arm"] == arm]


def _level(rows: Rows, level: float, what: str) -> str:
    return _percent([r[f"{level:g}"][what] for r in rows])


def _cells(rows: Rows, whole: bool) -> list[str]:
    """Nominal, then per level median and 5 % quantile over the chips; each the median over the keys."""
    cells = [_percent([r["nominal"] for r in rows])]
    for level in LEVELS:
        if whole:
            cells.append(f"{_level(rows, level, 'all right')} % of chips")
        else:
            cells.append(f"{_level(rows, level, 'median')} ({_level(rows, level, 'q5')})")
    return cells


def tasks(rows: Rows) -> str:
    """The results of the ensemble, one task a row."""
    lines = []
    for task, setting in SETTINGS.items():
        if mine := _of(rows, task, "ensemble"):
            ideal = _of(rows, task, "float, no mismatch") + (_of(rows, ANN, "further") if task == "digits" else [])
            named = ", ".join(
                f"{'ANN' if r['task'] == ANN else 'float'} {100 * r['nominal']:.1f}" for r in ideal if r["key"] == 0
            )
            seconds = f"{np.median([r['seconds'] for r in mine]):.0f} s"
            lines.append([task, *_cells(mine, setting.whole), named or "–", str(len(mine)), seconds])
    header = ("task", "nominal", *(f"{100 * level:.0f} %" for level in LEVELS), "ideal", "keys", "training")
    return _table(header, lines) if lines else ""


def _arms(rows: Rows) -> str:
    lines = []
    for task, setting in SETTINGS.items():
        known = [arm for arm in ARMS if _of(rows, task, arm)]
        for arm in known if len(known) > 1 else []:
            mine = _of(rows, task, arm)
            lines.append([task, arm, *_cells(mine, setting.whole), str(len(mine))])
    if not lines:
        return ""
    header = ("task", "arm", "nominal", *(f"{100 * level:.0f} %" for level in LEVELS), "keys")
    return "The arms, with as many samples per step each:\n\n" + _table(header, lines)


def _loop(rows: Rows) -> str:
    mine = [r for r in rows if r["task"] == LOOP]
    if not mine:
        return ""
    lines = []
    for arm in ("none", "ensemble"):
        cells = [_percent([r[f"{arm}, {what}"] for r in mine]) for what in ("nominal", "transferred", "in the loop")]
        lines.append([{"none": "without mismatch", "ensemble": "ensemble"}[arm], *cells])
    header = ("trained before", "nominal chip", "weights transferred", f"{mine[0]['epochs']} epochs in the loop")
    return "Yin-Yang on a virtual chip with hidden mismatch of 30 %:\n\n" + _table(header, lines)


def _dead(rows: Rows) -> str:
    mine = [r for r in rows if r["task"] == DEAD]
    lines = [
        [name, *(_percent([r[f"{name}, {what}"] for r in mine]) for what in ("error", "error with dead", "growth"))]
        for name in ("plain", "dropout")
        if mine
    ]
    header = ("digits, trained", "error", "with 15 % of the hidden neurons dead", "relative growth")
    return "Errors in %, the mean of 50 draws:\n\n" + _table(header, lines) if lines else ""


def _braille(rows: Rows) -> str:
    mine = [r for r in rows if r["task"] == BRAILLE]
    lines = []
    for name in ("closed form", "tuned") if mine else ():
        cells = [f"{np.median([r[f'{name}, nominal'] for r in mine]):.3f}"]
        for level in (0.1, 0.2):
            both = (np.median([r[f"{name}, {level:g}"][what] for r in mine]) for what in ("median", "q5"))
            cells.append("{:.3f} ({:.3f})".format(*both))
        lines.append([name, *cells])
    header = ("Braille, cosine to the ideal run", "nominal", "10 %", "20 %")
    return _table(header, lines) if lines else ""


def _ads(rows: Rows) -> str:
    mine = [r for r in rows if r["task"] == ADS]
    if not mine:
        return ""
    lines = []
    for name, readout in (("as trained", "as trained"), ("with a gain chosen on validation data", "gain")):
        cells = [_percent([r["nominal"]["accuracy"] for r in mine])]
        for level in LEVELS:
            found = [r["levels"][f"{level:g}"][readout] for r in mine]
            cells.append(f"{_percent([f['median'] for f in found])} ({_percent([f['p5'] for f in found])})")
        lines.append([name, *cells, str(len(mine))])
    header = ("ADS network (Büchel et al. 2021)", "nominal", *(f"{100 * level:.0f} %" for level in LEVELS), "keys")
    said = "Temporal XOR by 320 neurons that do not fit a chip, in a model and with mismatch of their own:"
    return said + "\n\n" + _table(header, lines)
