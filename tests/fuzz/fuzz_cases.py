"""Runs cases in guarded processes of their own; a crash or a hang ends one case only, and names it."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

__all__ = ["EXPECTED", "NAMES", "WORKER", "Job", "Summary", "command", "results", "run_cases"]

WORKER = Path(__file__).with_name("fuzz_worker.py")
ROOT = WORKER.parents[2]
NAMES = ("nir", "layout", "config", "profile-json", "profile-csv", "data", "events", "params", "training")
NAMES += ("evaluation", "log", "recording")
START_SECONDS, CASE_SECONDS = 300, 150
"""After so long without a line the process is killed; it ends itself before, if it can."""
EXPECTED = {"valid", "UnsupportedGraphError", "ParameterRangeError", "ConfigurationError", "CapacityError"}


@dataclass(frozen=True)
class Job:
    """Cases `first` to before `last` of a format; `folder` is for the files that they read."""

    format: str
    seed: int
    first: int
    last: int
    guided: bool
    folder: str
    replay: str = ""


@dataclass
class Summary:
    """What many cases of a format gave; `failures` are (case, what was done, outcome, file or "")."""

    format: str
    cases: int
    outcomes: Counter[str]
    failures: list[tuple[int, str, str, str]]
    grown: float
    branches: int
    kept: int
    seconds: float
    done: set[str]

    @property
    def valid(self) -> int:
        return self.outcomes["valid"]

    @property
    def refused(self) -> int:
        return sum(n for name, n in self.outcomes.items() if name in EXPECTED and name != "valid")


def run_cases(
    name: str, cases: int, seed: int = 0, *, guided: bool = False, first: int = 0, save: Path | None = None
) -> Summary:
    """Read `cases` damaged files of a format from case `first` on; failures are copied to the folder `save`."""
    start = time.perf_counter()
    outcomes: Counter[str] = Counter()
    summary = Summary(name, cases, outcomes, [], 0.0, 0, 0, 0.0, set())
    with tempfile.TemporaryDirectory() as folder:
        for result in results(Job(name, seed, first, first + cases, guided, folder)):
            summary.grown = max(summary.grown, result["grown"] / 2**20)
            summary.branches += result["new"]
            summary.kept += bool(result["new"]) and guided
            summary.done |= set(result["what"].partition(" ")[2].split("+"))
            if result["outcome"] in EXPECTED:
                outcomes[result["outcome"]] += 1
                continue
            outcomes["failed"] += 1
            copy = _saved(Path(folder), save, f"{name}-{seed}{'-guided' if guided else ''}-{result['case']}")
            summary.failures.append((result["case"], result["what"], result["outcome"], copy))
    summary.seconds = time.perf_counter() - start
    return summary


def _saved(folder: Path, save: Path | None, stem: str) -> str:
    found = sorted(folder.glob("case.*"))
    if save is None or not found:
        return ""
    save.mkdir(parents=True, exist_ok=True)
    return str(shutil.copyfile(found[0], save / f"{stem}{found[0].suffix}"))


def results(job: Job, given: tuple[str, ...] = ()) -> Iterator[dict[str, Any]]:
    """One result for each case, in order; yields before the file of the case is overwritten."""
    first = job.first
    while first < job.last:
        values = {**asdict(job), "first": first}
        last, code, said = None, 0, ""
        for line in _lines([*(given or command()), json.dumps(values)]):
            if "ended" in line:
                code, said = line["ended"], line["said"]
            elif "outcome" in line:
                last = None
                first = line["case"] + 1
                yield line
            else:
                last = line["case"]
        if code == 0 and last is None:
            return
        if last is None and first >= job.last:
            what = f"ended with {code} after the last case: {said[-1500:]}"
            yield {"case": first, "what": " ", "outcome": what, "grown": 0.0, "took": 0.0, "new": 0}
            return
        if last is None:
            raise RuntimeError(f"the reading process did not start, or died between cases: {said[-3000:]}")
        how = "hung" if code in (-signal.SIGALRM, -signal.SIGPROF, -signal.SIGKILL) else f"ended with {code}"
        yield {"case": last, "what": " ", "outcome": f"{how}: {said[-1500:]}", "grown": 0.0, "took": 0.0, "new": 0}
        first = last + 1


def command() -> list[str]:
    return [
        sys.executable,
        "-X",
        "faulthandler",
        "-W",
        "error::RuntimeWarning",
        "-W",
        "error::UserWarning",
        str(WORKER),
    ]


def _lines(command: list[str]) -> Iterator[dict[str, Any]]:
    """Lines that the process writes, at last {"ended": its exit status, "said": what it wrote to stderr}.

    Each line is answered (one byte on stdin) after it was looked at, so that the file of a failed case still stands.
    """
    paths = [str(ROOT), str(ROOT / "tests" / "helpers"), str(WORKER.parent)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "JAX_PLATFORMS": "cpu"}
    with tempfile.TemporaryFile() as err:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=err, env=environment, bufsize=0
        )
        if process.stdout is None or process.stdin is None:
            raise RuntimeError("no pipes")
        rest, patience = b"", START_SECONDS
        try:
            while select.select([process.stdout], [], [], patience)[0] and (block := process.stdout.read(1 << 16)):
                *whole, rest = (rest + block).split(b"\n")
                for line in map(json.loads, whole):
                    yield line
                    if "outcome" in line and line["outcome"] not in EXPECTED:
                        process.stdin.write(b"\n")
                patience = CASE_SECONDS
            if process.poll() is None and rest == b"" and not select.select([process.stdout], [], [], 0)[0]:
                process.kill()
            code = process.wait(timeout=60)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
            process.stdin.close()
        err.seek(0)
        said = err.read().decode("utf8", "replace").partition("Extension modules:")[0]
        yield {"ended": code, "said": said}
