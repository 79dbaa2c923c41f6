"""Yin-Yang with 30 hidden neurons, with delays that are trained and without any.

    python3 -m uv run python tests/benchmarks/trained_delays.py [--arms delays without] [--keys 3]

Every run is kept in examples/results/trained_delays.json and not repeated (--again does); a training that was stopped goes
on from its checkpoint in `out/trained_delays`. --write puts the table of all that are there into docs/delays.md.

5 → 30 → 3 neurons with random weights, trained in two stages. First as they are: 10 000 steps of 2 chips with 10 % mismatch
and 64 samples on each, weights not rounded. Then with as many copies as a chip holds (25 and 85) and 4 bits: 2000 steps of
2 chips of 9 to 30 % mismatch (`mixed`) and 8 samples, 0.75 of the learning rate, flags as they are. Arms: `delays`, rows of
inputs are plain or late, flags and delays of the four cores are trained; `without`, none is late, all else is the same.
Both run from the bits of the Layout, on the test set and 100 virtual chips per level that no training has seen, everything
perturbed. `seconds` are those of the stages that were not on the disk already.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import nir_dynapse as nd
from nir_dynapse.circuit.params_file import load_params, save_params
from nir_dynapse.files.whole import write_atomically
from nir_dynapse.training.losses import Counts
from nir_dynapse.training.options import TrainingOptions
from nir_dynapse.training.rewiring import Rewiring

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
sys.path.insert(0, str(EXAMPLES))
import _networks  # noqa: E402
import _tasks  # noqa: E402

RESULTS = EXAMPLES / "results" / "trained_delays.json"
PAGE = ROOT / "docs" / "delays.md"
BEGIN, END = "<!-- trained delays of tests/benchmarks/trained_delays.py -->", "<!-- end of trained delays -->"
ARMS = {"delays": "inputs", "without": "none"}
LEVELS, CHIPS, FIRST_CHIP = (0.2, 0.3), 100, 1
FIRST, THEN = 10_000, 2000
Row = dict[str, Any]


def run(arm: str, key: int, work: Path, say: Any) -> Row:
    task = _tasks.yin_yang()
    layers = [_networks.Layer(30, 0.3, 0.6), _networks.Layer(3, 0.05, 0.3)]
    network = nd.from_nir(_networks.stacked(5, layers, 3, key), dt=_networks.DT)
    work.mkdir(parents=True, exist_ok=True)
    given: Row = {"validation": task.validation, "loss": Counts(_networks.DT, ratio=4.0), "key": key, "devices": 2}
    shared: Row = {"delays": ARMS[arm], "validation_size": 300}
    began = time.monotonic()

    def store(stage: str) -> Path:
        return work / f"{arm}_{key}_{stage}.npz"

    if not store("start").exists():
        start = nd.fine_tune(
            network,
            task.train,
            mismatch=nd.Mismatch.uniform(0.1),
            steps=FIRST,
            bits=None,
            checkpoint=store("first"),
            progress=lambda what, _: say(f"first, {what}"),
            options=TrainingOptions(batch=64, check_every=500, held_out=8, rate=0.02, **shared),
            **given,
        )
        save_params(start, store("start"))
    params = nd.fine_tune(
        network,
        task.train,
        start=load_params(store("start")),
        mismatch=nd.Mismatch.uniform(0.3),
        steps=THEN,
        spend="chip",
        checkpoint=store("then"),
        progress=lambda what, _: say(f"copies, {what}"),
        options=TrainingOptions(
            batch=8, check_every=300, held_out=6, rate=0.01, mixed=0.7, reflagging=Rewiring("none"), **shared
        ),
        **given,
    )
    layout = nd.compile(network, params=params)
    row: Row = {
        "arm": arm,
        "key": key,
        "seconds": round(time.monotonic() - began),
        "cores": layout.delays.get("cores", {}),
    }
    return {**row, **measured(layout, task.test)}


def measured(layout: nd.Layout, test: nd.Data) -> Row:
    """Accuracy without mismatch, and median and 5 % quantile over the chips of each level."""
    row: Row = {}
    for level in LEVELS:
        found = nd.evaluate(layout, test, devices=CHIPS, mismatch=nd.Mismatch.uniform(level), key=FIRST_CHIP)
        row["nominal"] = found.nominal
        row[f"{level:g}"] = {"median": found.median, "q5": float(found.quantile(0.05))}
    return row


def load(results: Path) -> list[Row]:
    return json.loads(results.read_text()) if results.exists() else []


def keep(results: Path, row: Row) -> None:
    rows = [r for r in load(results) if (r["arm"], r["key"]) != (row["arm"], row["key"])] + [row]
    lines = [json.dumps(r) for r in sorted(rows, key=lambda r: (r["arm"], r["key"]))]
    write_atomically(results, ("[\n" + ",\n".join(lines) + "\n]\n").encode())


def table(rows: list[Row], names: dict[str, str] | None = None) -> str:
    """Markdown: nominal, then median and 5 % quantile over the chips, in %, each the median over the keys."""
    lines = ["| | nominal | 20 % | 30 % | keys |", "|---" * 5 + "|"]
    for arm, name in (names or {"delays": "delays trained", "without": "no delays"}).items():
        here = [r for r in rows if r["arm"] == arm]
        if not here:
            continue
        cells = [f"{100 * float(np.median([r['nominal'] for r in here])):.1f}"]
        for level in LEVELS:
            median, low = (100 * float(np.median([r[f"{level:g}"][what] for r in here])) for what in ("median", "q5"))
            cells.append(f"{median:.1f} ({low:.1f})")
        lines.append(f"| {name} | {' | '.join(cells)} | {len(here)} |")
    return "\n".join(lines)


def write(text: str, page: Path = PAGE, marks: tuple[str, str] = (BEGIN, END)) -> None:
    """Put a table between its markers."""
    before, begin, rest = page.read_text().partition(marks[0])
    _, end, after = rest.partition(marks[1])
    if not (begin and end):
        sys.exit(f"{page.name} lacks the markers {marks[0]} and {marks[1]}")
    write_atomically(page, f"{before}{begin}\n{text}\n{end}{after}".encode())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--keys", type=int, default=3, help="training keys 0, 1, ... (default 3)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="file that keeps the rows")
    parser.add_argument("--work", type=Path, default=ROOT / "out" / "trained_delays", help="folder of the checkpoints")
    parser.add_argument("--again", action="store_true", help="repeat what is there already")
    parser.add_argument("--write", action="store_true", help="only write the table into docs/delays.md")
    args = parser.parse_args()
    if args.write:
        write(table(load(args.results)))
        return
    done = set() if args.again else {(row["arm"], row["key"]) for row in load(args.results)}
    for key in range(args.keys):
        for arm in args.arms:
            if (arm, key) not in done:
                row = run(arm, key, args.work, lambda line, a=arm, k=key: sys.stderr.write(f"{a}, key {k}: {line}\n"))
                keep(args.results, row)
    print(table(load(args.results)))


if __name__ == "__main__":
    main()
