"""How long the command line keeps one waiting: `--help`, and `check` on the NIR paper's Braille network, warm.

    python3 -m uv run python tests/benchmarks/startup.py [FOLDER] [--repeat 11]

FOLDER holds braille_noDelay_bias_zero.nir (default: ../shared/data/nir_reference beside the repository). Prints the median
and the range over whole processes, in seconds; one more, before them, fills the caches.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

DEFAULT = Path(__file__).resolve().parents[3] / "shared" / "data" / "nir_reference"
COMMAND = Path(sys.executable).with_name("nir-dynapse")


def seconds(*words: str) -> float:
    began = time.perf_counter()
    subprocess.run([COMMAND, *words], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the start of the command line.")
    parser.add_argument("folder", type=Path, nargs="?", default=DEFAULT)
    parser.add_argument("--repeat", type=int, default=11)
    args = parser.parse_args()
    braille = str(args.folder / "braille_noDelay_bias_zero.nir")
    verbs = {"--help": ["--help"], "check": ["check", braille, "--dt", "1e-4", "--time-scale", "50"]}
    for name, words in verbs.items():
        seconds(*words)
        took = [seconds(*words) for _ in range(args.repeat)]
        print(f"{name:8} median {np.median(took):.2f} s ({min(took):.2f} to {max(took):.2f}) of {args.repeat}")


if __name__ == "__main__":
    main()
