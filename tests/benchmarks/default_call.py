"""What the default call makes of networks that the defaults were not chosen by: accuracy on chips it has never seen.

    python3 -m uv run python tests/benchmarks/default_call.py [--tasks rows ...] [--steps N] [--write] [--list]

Networks: the six of `_frontend_tasks.OTHERS`, trained in snnTorch and Norse. Each is trained as `deploy --train` does
without further options, `fine_tune(network, train, spend="chip")`, compiled, and run from the bits of the Layout on 100
virtual chips with the device's own mismatch. --steps gives the trainings another length than by default; the table says so.

Every run is kept in default_call.json beside this file and not repeated; --write puts the table into docs/fine_tuning.md.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import nir_dynapse as nd
from nir_dynapse.files.whole import write_atomically

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(Path(__file__).parent))
from _frontend_tasks import OTHERS  # noqa: E402

KEPT = Path(__file__).with_suffix(".json")
PAGE = ROOT / "docs" / "fine_tuning.md"
BEGIN, END = "<!-- default call of tests/benchmarks/default_call.py -->", "<!-- end of default call -->"
CHIPS, FIRST_CHIP = 100, 1
NEAR = 0.03

Row = dict[str, Any]


def run(name: str, steps: int | None) -> Row:
    network, (train, test) = OTHERS[name].network(), OTHERS[name].sets()
    ideal = nd.simulate(network, test.x, ideal=True).accuracy(test.y)
    before = nd.evaluate(nd.compile(network, fan_in="prune"), test, devices=CHIPS, key=FIRST_CHIP)
    begun, cpu, told = time.monotonic(), time.process_time(), []

    def tell(what: str, share: float) -> None:
        told.append(what)
        print(f"{name}: {what}", flush=True)

    length: Row = {} if steps is None else {"steps": steps}
    params = nd.fine_tune(network, train, spend="chip", progress=tell, **length)
    took = {"seconds": round(time.monotonic() - begun), "cpu": round(time.process_time() - cpu)}
    after = nd.evaluate(nd.compile(network, params=params), test, devices=CHIPS, key=FIRST_CHIP)
    return {
        "task": name,
        "steps": steps,
        "ideal": ideal,
        "untrained": before.median,
        "nominal": after.nominal,
        "median": after.median,
        "q5": after.quantile(0.05),
        **took,
        "findings": [finding.to_dict() for finding in params.findings],
    }


def table(rows: list[Row]) -> str:
    """Markdown, in %."""
    lines = ["| network | what it is | ideal | untrained | nominal | median (5 %) | off the ideal | steps | CPU |"]
    lines.append("|" + " --- |" * 9)
    for name, task in OTHERS.items():
        for r in (r for r in rows if r["task"] == name):
            values = [f"{100 * r[key]:.1f}" for key in ("ideal", "untrained", "nominal")]
            median = f"{100 * r['median']:.1f} ({100 * r['q5']:.1f})"
            off = f"{100 * (r['median'] - r['ideal']):+.1f}"
            cells = (name, task.about, *values, median, off, str(r["steps"] or "default"), f"{r['cpu']} s")
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", nargs="+", choices=OTHERS, default=list(OTHERS))
    parser.add_argument("--steps", type=int, help="of every training (default: those of fine_tune)")
    parser.add_argument("--write", action="store_true", help="only put the table into the page")
    parser.add_argument("--list", action="store_true", help="only print the table")
    args = parser.parse_args()
    rows: list[Row] = json.loads(KEPT.read_text()) if KEPT.exists() else []
    for name in () if args.list or args.write else args.tasks:
        if not any((r["task"], r["steps"]) == (name, args.steps) for r in rows):
            rows.append(run(name, args.steps))
            write_atomically(KEPT, ("[\n" + ",\n".join(json.dumps(r) for r in rows) + "\n]\n").encode())
    print(table(rows))
    near = sum(r["median"] >= r["ideal"] - NEAR for r in rows)
    print(f"{near} of {len(rows)} within {100 * NEAR:.0f} points of the ideal accuracy")
    if args.write:
        head, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
        write_atomically(PAGE, f"{head}{BEGIN}\n{table(rows)}\n{END}{rest.partition(END)[2]}".encode())


if __name__ == "__main__":
    main()
