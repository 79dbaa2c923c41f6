"""Fuzzing of every file that the package reads.

    python3 -m uv run python tests/fuzz/run.py --format all --cases 10000 --seed 0 [--guided]

Damaged files are read one after another in a guarded process: at most 20 s and 1 GiB each, a crash ends one case only. A
case must give an object that comes back when it is written and read again, or one of the package's errors that names the
file. Everything else is a failure: printed with its number, its input saved. A case is fixed by format, seed and number
(--guided: and by the cases before it, whose inputs are damaged further where they reached new branches of the readers).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from fuzz_cases import NAMES, Job, Summary, results, run_cases

HEAD = "format         cases  valid refused failed branches  kept    MiB      s"


def row(s: Summary) -> str:
    counts = f"{s.cases:>6} {s.valid:>6} {s.refused:>7} {len(s.failures):>6} {s.branches:>8} {s.kept:>5}"
    return f"{s.format:<13} {counts} {s.grown:>6.0f} {s.seconds:>6.0f}"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--format", choices=[*NAMES, "all"], default="all")
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--guided", action="store_true", help="damage further what reached new branches")
    parser.add_argument("--save", type=Path, default=Path("out/fuzz"), help="folder for inputs that failed")
    parser.add_argument("--replay", type=Path, help="read this file instead, and say what that gives")
    args = parser.parse_args(argv)
    names = NAMES if args.format == "all" else (args.format,)
    if args.replay is not None:
        with tempfile.TemporaryDirectory() as folder:
            for result in results(Job(names[0], 0, 0, 1, False, folder, str(args.replay.resolve()))):
                print(result["outcome"], f"({result['grown'] / 2**20:.0f} MiB)")
        return 0
    failed = 0
    print(HEAD, flush=True)
    for name in names:
        summary = run_cases(name, args.cases, args.seed, guided=args.guided, first=args.first, save=args.save)
        print(row(summary), flush=True)
        for case, what, outcome, file in summary.failures:
            print(json.dumps({"case": case, "what": what, "outcome": outcome, "file": file}), flush=True)
        failed += len(summary.failures)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
