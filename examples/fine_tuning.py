"""Train, test and tabulate: the results in README and docs, in one command.

    python3 -m uv run python examples/fine_tuning.py [--tasks "Yin-Yang" …] [--arms ensemble …] [--keys 5]

Every run is kept in results/fine_tuning.json beside this script and not repeated (--again does); the tables between the
markers of README.md and docs/fine_tuning.md are then written from all that are there. --list shows what there is to run,
--write only writes the tables.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import _arms
import _further
from _results import tables, tasks

from nir_dynapse.files.whole import write_atomically

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "fine_tuning.json"
README = HERE.parent / "README.md"
PAGE = HERE.parent / "docs" / "fine_tuning.md"


def load() -> list[dict[str, Any]]:
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else []


def keep(result: dict[str, Any]) -> None:
    same = ("task", "arm", "key")
    others = [r for r in load() if any(r[k] != result[k] for k in same)]
    rows = [json.dumps(r) for r in sorted([*others, result], key=lambda r: tuple(str(r[k]) for k in same))]
    write_atomically(RESULTS, ("[\n" + ",\n".join(rows) + "\n]\n").encode())


def write_pages() -> None:
    """The first table into README, all of them into the page on fine-tuning."""
    fill(README, "tasks", tasks(load()))
    fill(PAGE, "results", tables(load()))


def fill(page: Path, name: str, content: str) -> None:
    begin, end = f"<!-- {name} of examples/fine_tuning.py -->", f"<!-- end of {name} -->"
    before, _, rest = page.read_text().partition(begin)
    _, _, after = rest.partition(end)
    if not after:
        sys.exit(f"{page.name} lacks the markers {begin} and {end}")
    write_atomically(page, f"{before}{begin}\n{content}\n{end}{after}".encode())


def planned(args: argparse.Namespace) -> list[tuple[str, str, int]]:
    jobs = []
    for key in range(args.keys):
        for task in _arms.SETTINGS:
            for arm in (*_arms.ARMS, "float, no mismatch"):
                jobs.append((task, arm, key))
        jobs += [(task, "further", key) for task in _further.FURTHER]
    return [
        (task, arm, key)
        for task, arm, key in jobs
        if (not args.tasks or task in args.tasks) and (not args.arms or arm in args.arms)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="*", choices=[*_arms.SETTINGS, *_further.FURTHER])
    parser.add_argument("--arms", nargs="*", choices=[*_arms.ARMS, "float, no mismatch", "further"])
    parser.add_argument("--keys", type=int, default=5, help="training keys 0, 1, … (default 5)")
    parser.add_argument("--again", action="store_true", help="repeat what is there already")
    parser.add_argument("--list", action="store_true", help="only say what there is to run")
    parser.add_argument("--write", action="store_true", help="only write the tables anew from what is there")
    args = parser.parse_args()
    if args.write:
        write_pages()
        return
    done = set() if args.again else {(r["task"], r["arm"], r["key"]) for r in load()}
    jobs = [job for job in planned(args) if job not in done]
    if args.list:
        sys.stdout.writelines(f"{task} | {arm} | key {key}\n" for task, arm, key in jobs)
        return
    for number, (task, arm, key) in enumerate(jobs):
        began = time.monotonic()

        def say(line: str, number: int = number) -> None:
            sys.stderr.write(f"[{number + 1}/{len(jobs)}] {line}\n")

        if arm == "further":
            result = _further.FURTHER[task](key, say)
        elif arm == "float, no mismatch":
            result = _arms.float_nominal(task, key, say)
        else:
            result = _arms.run(task, arm, key, say)
        keep(result)
        say(f"{task}, {arm}, key {key}: {time.monotonic() - began:.0f} s")
    write_pages()


if __name__ == "__main__":
    main()
