"""Runs on a virtual board: seconds for so many events over so long, which should grow with both and no faster; and chips.

    python3 -m uv run python tests/benchmarks/boards.py [--against COMMIT] [--turns 3] [--long] [STEP ...]

`--against` measures a commit of ours in turn with this tree and says whether events and logs are equal. `--long` adds runs
that a commit with a quadratic board would not finish. The network is the recurrent digits example, virtual:7.
"""

from __future__ import annotations

import argparse
import resource
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import numpy as np
from against import ROOT, answer, compare

import nir_dynapse as nd
from nir_dynapse.sim.mismatch import fabricate

TABLE = {"1e4/s, 1 s": (1e4, 1), "1e4/s, 2 s": (1e4, 2), "1e4/s, 4 s": (1e4, 4)}
SPARSE = {"3/s, 20 s": (3, 20)}
LONG = {"1e4/s, 10 s": (1e4, 10), "1e4/s, 30 s": (1e4, 30), "1e4/s, 100 s": (1e4, 100), "3/s, 100 s": (3, 100)}


@lru_cache
def layout() -> nd.Layout:
    return nd.compile(nd.from_nir(ROOT / "examples" / "networks" / "digits_recurrent.nir"))


@lru_cache
def stimulus(rate: float, seconds: float) -> nd.Events:
    """`rate` events per s in all, at random times on random channels."""
    rng = np.random.default_rng(3)
    n = int(rate * seconds)
    port = layout().inputs[0]
    time = np.sort(rng.integers(0, int(seconds * 1e6), n))
    return nd.Events(time, np.zeros(n, int), rng.integers(0, port.size, n), (port.name,))


def run(rate: float, seconds: float, echo: bool = False) -> Any:
    with nd.open_board("virtual:7") as board:
        board.apply(layout())
        heard = board.run(stimulus(rate, seconds), seconds, echo=echo)
        log = board.last
    return heard.time, heard.node, heard.index, heard.nodes, vars(log)


@lru_cache
def yin_yang() -> nd.Params:
    return nd.to_params(nd.compile(nd.from_nir(ROOT / "examples" / "networks" / "yin_yang.nir")))


def chips(count: int) -> Any:
    """Bias currents and weights of `count` virtual chips."""
    made = [fabricate(yin_yang(), nd.DYNAPSE2.mismatch, number) for number in range(count)]
    return [[dict(chip.bias), chip.weight] for chip in made]


def calibration() -> Any:
    with nd.open_board("virtual:7") as board:
        (profile,) = nd.calibrate(board)
    return profile.neurons, profile.rows, profile.tags, dict(profile.scales), dict(profile.factors), profile.measured


WORK: dict[str, Callable[[], Any]] = {
    "nothing": lambda: None,
    **{name: partial(run, *sizes) for name, sizes in {**TABLE, **SPARSE, **LONG}.items()},
    "1e4/s, 1 s, echo": partial(run, 1e4, 1, echo=True),
    "100 chips made": partial(chips, 100),
    "calibrate": calibration,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("steps", nargs="*", metavar="STEP", help=f"of {'; '.join(WORK)}")
    parser.add_argument("--against", metavar="COMMIT")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--answer", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.answer:
        answer(WORK)
        return
    steps = args.steps or [*TABLE, *SPARSE, "1e4/s, 1 s, echo", "100 chips made", *(LONG if args.long else ())]
    compare(__file__, args.against, steps, args.turns, only_here=LONG)
    print(f"peak memory of a process: {resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20:.2f} GiB")


if __name__ == "__main__":
    main()
