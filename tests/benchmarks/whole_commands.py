"""How long whole commands take, cold (no byte code, kernels or programs of XLA are kept yet) and warm, at two commits.

    python3 -m uv run python tests/benchmarks/whole_commands.py [deploy finetune ...] [--against COMMIT] [--repeat 3]

Commands of README.md on its Yin-Yang network (deploy is its first one); evaluate has 10 chips, finetune 200 steps. The
commits take turns, process by process. Prints medians of wall and CPU seconds (of all processes that a command starts) and
the median ratio this / that.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
from commits import ROOT, at, environment

WORK = ("--devices", "16", "--batch", "16")  # said, so that commits with other defaults do the same
TRAIN = "examples/data/yin_yang_train.npz"
MODEL, TEST = ("examples/networks/yin_yang.nir", "examples/data/yin_yang_test.npz")
COMMANDS = {
    "check": ["check", MODEL],
    "simulate": ["simulate", MODEL, "--data", TEST],
    "calibrate": ["calibrate", "--board", "virtual:7", "-o", "profile.json"],
    "deploy": ["deploy", MODEL, "--data", TEST, "--board", "virtual:7", "-o", "out"],
    "evaluate": ["evaluate", MODEL, "--data", TEST, "--devices", "10"],
    "finetune": ["finetune", MODEL, "--train", TRAIN, "--steps", "200", *WORK, "-o", "out.npz"],
}
FIRST = {"PYTHONPYCACHEPREFIX": "bytes", "NUMBA_CACHE_DIR": "kernels", "XDG_CACHE_HOME": "cache"}
"""Variables that lead to what is kept, and folders for it."""


def seconds(words: list[str], tree: Path, caches: Path) -> tuple[float, float]:
    """Wall and CPU seconds of a command."""
    kept = {name: value for name, value in environment(tree).items() if not name.startswith("JAX_COMPILATION")}
    kept |= {name: str(caches / folder) for name, folder in FIRST.items()}
    words = [str(ROOT / word) if word.startswith("examples/") else word for word in words]
    with tempfile.TemporaryDirectory() as place:
        before, began = os.times(), time.perf_counter()
        command = [sys.executable, "-m", "nir_dynapse", *words]
        subprocess.run(command, check=True, capture_output=True, env=kept, cwd=place)
        after = os.times()
        cpu = after.children_user + after.children_system - before.children_user - before.children_system
        return time.perf_counter() - began, cpu


def main() -> None:
    parser = argparse.ArgumentParser(description="Time whole commands, cold and warm.")
    parser.add_argument("names", nargs="*", default=["deploy", "finetune"], metavar="COMMAND")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--against", metavar="COMMIT")
    args = parser.parse_args()
    with at(args.against) if args.against else nullcontext() as other:
        trees = {"this": ROOT, **({args.against: other} if other else {})}
        for name in args.names:
            took = np.zeros((args.repeat, 2, len(trees), 2))
            for turn in took:
                for k, tree in enumerate(trees.values()):
                    with tempfile.TemporaryDirectory() as caches:
                        for cell in turn:  # cold, then warm
                            cell[k] = seconds(COMMANDS[name], tree, Path(caches))
            for state, found in zip(("cold", "warm"), took.swapaxes(0, 1), strict=True):
                for k, tree in enumerate(trees):
                    wall, cpu = np.median(found[:, k], axis=0)
                    print(f"{name:9} {state} {tree:10} wall {wall:6.2f} s  CPU {cpu:6.2f} s")
                if other:
                    wall, cpu = np.median(found[:, 0] / found[:, 1], axis=0)
                    print(f"{name:9} {state} ratio      wall {wall:6.2f}    CPU {cpu:6.2f}")


if __name__ == "__main__":
    main()
