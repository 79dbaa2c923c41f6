"""Networks with more inputs per neuron than CAM rows: pruned, trained after pruning, and trained as they are.

    python3 -m uv run python tests/benchmarks/dense_networks.py [--tasks dense_digits ...] [--arms default ...] [--keys 3]

Every run is kept in examples/results/dense_networks.json and not repeated (--again does). --write puts the table of all
that are there into docs/fits.md, --list says what there is to run. With --steps, trainings are shorter than by
default; give another file then (--results).

Arms: `ideal`, the network as NIR defines it; `pruned`, `compile(fan_in="prune")` without training; `pruned, trained`, that
Layout fine-tuned; `default`, what `deploy --train` does without further options: `fine_tune(network, train, mismatch=,
key=, spend="chip")`, then `compile(network, params=)`. All but the first one run from the bits of the Layout, on 100
virtual chips that no training has seen. The Yin-Yang network, which needs no pruning, has the last arm only.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import nir_dynapse as nd
from nir_dynapse.files.whole import write_atomically

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
sys.path.insert(0, str(EXAMPLES))
from _dense import DENSE  # noqa: E402

RESULTS = EXAMPLES / "results" / "dense_networks.json"
PAGE = ROOT / "docs" / "fits.md"
BEGIN, END = "<!-- dense networks of tests/benchmarks/dense_networks.py -->", "<!-- end of dense networks -->"
CHIPS, FIRST_CHIP = 100, 1  # as in examples/_arms.py
TRAINED = ("pruned, trained", "default")
ARMS = ("ideal", "pruned", *TRAINED)
YIN_YANG = "yin_yang"

Row = dict[str, Any]


class Job(NamedTuple):
    """One row of the results: mismatch `level` (CV), training `key` (0 where nothing is trained)."""

    task: str
    arm: str
    level: float
    key: int

    @classmethod
    def of(cls, row: Row) -> Job:
        return cls(*(row[name] for name in cls._fields))


def jobs(tasks: list[str], arms: list[str], keys: int) -> list[Job]:
    found = []
    for key in range(keys):
        for task in tasks:
            for arm in arms:
                levels = (0.2, 0.3) if task == YIN_YANG else (0.2,)
                if (arm in TRAINED or key == 0) and (task != YIN_YANG or arm in ("ideal", "default")):
                    found += [Job(task, arm, level, key) for level in (levels if arm != "ideal" else levels[:1])]
    return found


def read(task: str) -> tuple[nd.Network, nd.Data, nd.Data]:
    """Network, training and test data."""
    if task in DENSE:
        return DENSE[task].network(), DENSE[task].data("train"), DENSE[task].data("test")
    network = nd.from_nir(EXAMPLES / "networks" / f"{task}.nir")
    train, test = (nd.Data.load(EXAMPLES / "data" / f"{task}_{part}.npz") for part in ("train", "test"))
    return network, train, test


def run(job: Job, steps: int | None, say: Any) -> Row:
    network, train, test = read(job.task)
    row: Row = job._asdict()
    if job.arm == "ideal":
        return {**row, "nominal": nd.simulate(network, test.x, ideal=True).accuracy(test.y)}
    mismatch = nd.Mismatch.uniform(job.level)
    began = time.monotonic()
    if job.arm == "default":
        start: nd.Network | nd.Layout = network
    else:
        start = nd.compile(network, fan_in="prune")
    if job.arm in TRAINED:
        options: dict[str, Any] = {} if steps is None else {"steps": steps}
        options |= {"spend": "chip"} if job.arm == "default" else {}
        params = nd.fine_tune(
            start, train, mismatch=mismatch, key=job.key, progress=lambda what, share: say(what), **options
        )
        row["seconds"] = round(time.monotonic() - began)
        layout = nd.compile(network, params=params)
    else:
        layout = start
    found = nd.evaluate(layout, test, devices=CHIPS, mismatch=mismatch, key=FIRST_CHIP)
    return {**row, "nominal": found.nominal, "median": found.median, "q5": float(found.quantile(0.05))}


def load(results: Path) -> list[Row]:
    return json.loads(results.read_text()) if results.exists() else []


def keep(results: Path, row: Row) -> None:
    rows = [r for r in load(results) if Job.of(r) != Job.of(row)] + [row]
    lines = [json.dumps(r) for r in sorted(rows, key=lambda r: tuple(map(str, Job.of(r))))]
    write_atomically(results, ("[\n" + ",\n".join(lines) + "\n]\n").encode())


def table(rows: list[Row]) -> str:
    """Markdown: nominal, then median and 5 % quantile over the chips, in %, each the median over the keys."""
    lines = ["| network | mismatch | ideal | " + " | ".join(ARMS[1:]) + " | keys | training |", "|---" * 8 + "|"]
    for task in (*DENSE, YIN_YANG):
        mine = [r for r in rows if r["task"] == task]
        ideal = next((f"{100 * r['nominal']:.1f}" for r in mine if r["arm"] == "ideal"), "–")
        for level in sorted({r["level"] for r in mine if r["arm"] != "ideal"}):
            here = [r for r in mine if r["level"] == level]
            cells = [_cell([r for r in here if r["arm"] == arm]) for arm in ARMS[1:]]
            keys = max((r["key"] + 1 for r in here), default=0)
            seconds = [r["seconds"] for r in here if r["arm"] == "default"]
            took = f"{np.median(seconds):.0f} s" if seconds else "–"
            lines.append(f"| {task} | {100 * level:.0f} % | {ideal} | {' | '.join(cells)} | {keys} | {took} |")
    return "\n".join(lines)


def _cell(rows: list[Row]) -> str:
    if not rows:
        return "–"
    nominal, median, low = (100 * float(np.median([r[what] for r in rows])) for what in ("nominal", "median", "q5"))
    return f"{nominal:.1f}; {median:.1f} ({low:.1f})"


def write(rows: list[Row]) -> None:
    before, begin, rest = PAGE.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        sys.exit(f"{PAGE.name} lacks the markers {BEGIN} and {END}")
    write_atomically(PAGE, f"{before}{BEGIN}\n{table(rows)}\n{END}{after}".encode())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=[*DENSE, YIN_YANG], default=[*DENSE, YIN_YANG])
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--keys", type=int, default=3, help="training keys 0, 1, ... (default 3)")
    parser.add_argument("--steps", type=int, help="of training (default: that of fine_tune)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="file that keeps the rows")
    parser.add_argument("--again", action="store_true", help="repeat what is there already")
    parser.add_argument("--list", action="store_true", help="only say what there is to run")
    parser.add_argument("--write", action="store_true", help="only write the table into docs/fits.md")
    args = parser.parse_args()
    if args.steps is not None and args.results == RESULTS:
        parser.error("--steps: these are not the results of the default call; name another file with --results")
    if args.write:
        write(load(args.results))
        return
    done = set() if args.again else {Job.of(row) for row in load(args.results)}
    todo = [job for job in jobs(args.tasks, args.arms, args.keys) if job not in done]
    for number, job in enumerate(todo):

        def say(
            line: str, head: str = f"[{number + 1}/{len(todo)}] {job.task}, {job.arm}, {job.level:g}, key {job.key}"
        ) -> None:
            sys.stderr.write(f"{head}: {line}\n")

        if args.list:
            print(f"{job.task} | {job.arm} | {job.level:g} | key {job.key}")
            continue
        try:
            row = run(job, args.steps, say)
        except nd.CapacityError as refused:  # nothing to keep: what refuses it today may take it tomorrow
            say(f"refused: {refused}")
            continue
        keep(args.results, row)
        say(", ".join(f"{name} {row[name]:.4g}" for name in ("nominal", "median", "q5", "seconds") if name in row))
    if not args.list:
        print(table(load(args.results)))


if __name__ == "__main__":
    main()
