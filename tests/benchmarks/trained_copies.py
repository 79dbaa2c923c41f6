"""Small networks trained first, then as many copies of them as a chip holds: digits, and eight frozen patterns of noise.

    python3 -m uv run python tests/benchmarks/trained_copies.py [--tasks digits "frozen noise, 8 patterns"] [--keys 3]

Every run is kept in examples/results/trained_copies.json and not repeated (--again does); --write puts the table into
docs/fine_tuning.md. In two stages: the network as it is, unrounded, on 2 chips of 10 % mismatch per step; then 4 bits, with
copies, on 2 chips of 8 to 25 % (`mixed`), or what the copies of the first stage are where that is better on held-out chips
(`fine_tune` returns the best). Both run from the bits of the Layout on the test set, and on 100 virtual chips per level
that no training has seen, everything perturbed. Digits are trained with six variations of each image (turned, sheared,
scaled and moved), as networks in frontends are.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from trained_delays import EXAMPLES, Row, keep, load, measured, table, write

import nir_dynapse as nd
from nir_dynapse.training.losses import Counts
from nir_dynapse.training.options import TrainingOptions

import _networks  # isort: skip
import _tasks  # isort: skip

RESULTS, PAGE = EXAMPLES / "results" / "trained_copies.json", EXAMPLES.parent / "docs" / "fine_tuning.md"
MARKS = "<!-- copies of tests/benchmarks/trained_copies.py -->", "<!-- end of copies -->"
VARIED = 6


class Setting(NamedTuple):
    """Channels, sizes of the two layers, classes; steps of the two stages, and samples on each chip of the first."""

    channels: int
    hidden: int
    out: int
    classes: int
    first: int
    then: int
    batch: int


SETTINGS = {
    "digits": Setting(64, 120, 20, 10, 6000, 1000, 64),
    "frozen noise, 8 patterns": Setting(60, 64, 8, 8, 1000, 300, 8),
}


def varied(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Images (n, 64) turned by some 7 degrees, sheared and scaled by some 10 %, moved by up to 0.7 pixels."""
    from scipy.ndimage import affine_transform

    middle, found = np.full(2, 3.5), []
    for image in images.reshape(-1, 8, 8):
        angle, size, shear = rng.normal(0, 0.12), 1 + rng.normal(0, 0.08), rng.normal(0, 0.1)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        matrix = turn @ np.array([[1, shear], [0, 1]]) * size
        offset = middle - matrix @ middle + rng.uniform(-0.7, 0.7, 2)
        found.append(np.clip(affine_transform(image, matrix, offset, order=1), 0, 16).ravel())
    return np.array(found)


def task_of(name: str) -> _tasks.Task:
    if name != "digits":
        return _tasks.frozen_noise(8)
    task, (images, labels) = _tasks.digits(), _tasks.digit_images()
    seen = _tasks.stratified(labels, 0)[: len(task.train)]
    rng = np.random.default_rng(1)
    x = np.concatenate([images[seen], *(varied(images[seen], rng) for _ in range(VARIED))])
    train = nd.Data(_tasks.encoded_digits(x), np.tile(labels[seen], VARIED + 1), task.train.dt)
    return task._replace(train=train)


def run(name: str, key: int, say: Any) -> Row:
    s, task = SETTINGS[name], task_of(name)
    layers = [_networks.Layer(s.hidden, 0.02, 0.15), _networks.Layer(s.out, 0.05, 0.3)]
    network = nd.from_nir(_networks.stacked(s.channels, layers, s.classes, key), dt=_networks.DT)
    given: Row = {"validation": task.validation, "loss": Counts(_networks.DT, ratio=4.0), "key": key, "devices": 2}
    began = time.monotonic()
    start = nd.fine_tune(
        network,
        task.train,
        mismatch=nd.Mismatch.uniform(0.1),
        steps=s.first,
        bits=None,
        progress=lambda what, _: say(f"first, {what}"),
        options=TrainingOptions(batch=s.batch, check_every=s.first // 10, held_out=4, rate=0.02),
        **given,
    )
    params = nd.fine_tune(
        network,
        task.train,
        start=start,
        mismatch=nd.Mismatch.uniform(0.25),
        steps=s.then,
        spend="chip",
        progress=lambda what, _: say(f"copies, {what}"),
        options=TrainingOptions(batch=8, check_every=s.then // 4, held_out=6, mixed=0.7),
        **given,
    )
    seconds = round(time.monotonic() - began)
    return {"arm": name, "key": key, "seconds": seconds, **measured(nd.compile(network, params=params), task.test)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--keys", type=int, default=3, help="training keys 0, 1, ... (default 3)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="file that keeps the rows")
    parser.add_argument("--again", action="store_true", help="repeat what is there already")
    parser.add_argument("--write", action="store_true", help="only write the table into docs/fine_tuning.md")
    args = parser.parse_args()
    names = {name: name for name in SETTINGS}
    if not args.write:
        done = set() if args.again else {(row["arm"], row["key"]) for row in load(args.results)}
        for name, key in ((name, key) for key in range(args.keys) for name in args.tasks):
            if (name, key) not in done:
                keep(
                    args.results,
                    run(name, key, lambda text, n=name, k=key: sys.stderr.write(f"{n}, key {k}: {text}\n")),
                )
    text = table(load(args.results), names)
    if args.write:
        write(text, PAGE, MARKS)
    print(text)


if __name__ == "__main__":
    main()
