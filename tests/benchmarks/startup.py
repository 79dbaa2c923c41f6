"""How long the package keeps one waiting: its import, `--help`, and `check` on the NIR paper's Braille network, warm.

    python3 -m uv run python tests/benchmarks/startup.py [FOLDER] [--repeat 11] [--against COMMIT]

FOLDER holds braille_noDelay_bias_zero.nir (default: ../shared/data/nir_reference beside the repository). Prints the median
and the range over whole processes, in seconds; one more, before them, fills the caches. With --against the package of that
commit takes turns with this one, and the median of the ratios (this / that) is printed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
from commits import ROOT, at, environment

DEFAULT = ROOT.parent / "shared" / "data" / "nir_reference"


def seconds(words: list[str], tree: Path) -> float:
    began = time.perf_counter()
    command = [sys.executable, *words]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment(tree))
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the start of the package and its command line.")
    parser.add_argument("folder", type=Path, nargs="?", default=DEFAULT)
    parser.add_argument("--repeat", type=int, default=11)
    parser.add_argument("--against", metavar="COMMIT")
    args = parser.parse_args()
    braille = str(args.folder / "braille_noDelay_bias_zero.nir")
    command = ["-m", "nir_dynapse"]
    cases = {
        "import": ["-c", "import nir_dynapse"],
        "--help": [*command, "--help"],
        "check": [*command, "check", braille, "--dt", "1e-4", "--time-scale", "50"],
    }
    with at(args.against) if args.against else nullcontext() as other:
        trees = {"this": ROOT, **({args.against: other} if other else {})}
        for name, words in cases.items():
            for tree in trees.values():
                seconds(words, tree)
            took = np.array([[seconds(words, tree) for tree in trees.values()] for _ in range(args.repeat)])
            for tree, own in zip(trees, took.T, strict=True):
                print(f"{name:8} {tree:10} median {np.median(own):.2f} s ({own.min():.2f} to {own.max():.2f})")
            if other:
                print(f"{name:8} ratio {np.median(took[:, 0] / took[:, 1]):.2f}")


if __name__ == "__main__":
    main()
