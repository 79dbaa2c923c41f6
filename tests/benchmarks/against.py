"""One benchmark in two trees at once: this one and a commit of ours, one step of each in turn.

A benchmark names its steps in a table `WORK` of functions that return what is to stay equal (arrays, bytes, text) and calls
`compare`. For each tree a process of its own answers; the other one's package is a git worktree in a temporary folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from commits import ROOT, at, environment

__all__ = ["answer", "compare", "digest"]

Work = Mapping[str, Callable[[], Any]]


def digest(thing: Any) -> str:
    """A hash of arrays, bytes and text, nested in tuples, lists and dicts."""
    sum_ = hashlib.sha256()

    def add(part: Any) -> None:
        if isinstance(part, dict):
            part = sorted(part.items())
        if isinstance(part, (tuple, list)):
            for piece in part:
                add(piece)
        elif isinstance(part, np.ndarray):
            sum_.update(f"{part.dtype}{part.shape}".encode() + np.ascontiguousarray(part).tobytes())
        else:
            sum_.update(part if isinstance(part, bytes) else repr(part).encode())

    add(thing)
    return sum_.hexdigest()[:16]


def answer(work: Work) -> None:
    """Do the steps that are asked for on the standard input; seconds, CPU seconds and digest of each as a line of JSON."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        began, used = time.perf_counter(), time.process_time()
        made = work[line.strip()]()
        took = time.perf_counter() - began, time.process_time() - used
        print(json.dumps([*took, digest(made)]), file=out, flush=True)


@contextmanager
def _process(script: str, tree: Path) -> Iterator[Callable[[str], list[Any]]]:
    with subprocess.Popen(
        [sys.executable, script, "--answer"],
        env=environment(tree),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("the process has no pipes")
        asked, said = process.stdin, process.stdout

        def ask(step: str) -> list[Any]:
            print(step, file=asked, flush=True)
            line = said.readline()
            if not line:
                raise RuntimeError(f"{tree}: the step {step!r} failed")
            return json.loads(line)

        yield ask
        asked.close()


def compare(script: str, commit: str | None, steps: Iterable[str], turns: int, only_here: Iterable[str] = ()) -> None:
    """Print seconds of each step here (median of `turns`) and, with `commit`, there; the median ratio, and what differs.

    `only_here` names steps that the commit cannot do in any useful time.
    """
    with ExitStack() as stack:
        here = stack.enter_context(_process(script, ROOT))
        there = stack.enter_context(_process(script, stack.enter_context(at(commit)))) if commit else None
        print("| step | here s | CPU s | there s | there/here | result |\n|---|---|---|---|---|---|")
        for step in steps:
            both = there is not None and step not in only_here
            for ask in (here, *([there] if there is not None and both else [])):
                ask("nothing")  # imports and what all steps need
            mine, other = [], []
            for _ in range(turns):
                mine.append(here(step))
                if there is not None and both:
                    other.append(there(step))
            seconds, cpu = np.median([[m[0], m[1]] for m in mine], axis=0)
            row = f"| {step} | {seconds:.3f} | {cpu:.3f} |"
            if other:
                ratio = np.median([o[0] / m[0] for m, o in zip(mine, other, strict=True)])
                equal = {m[2] for m in mine} == {o[2] for o in other}
                row += f" {np.median([o[0] for o in other]):.3f} | {ratio:.2f} | {'equal' if equal else 'DIFFERS'} |"
            else:
                row += f" - | - | {mine[0][2]} |"
            print(row, flush=True)
