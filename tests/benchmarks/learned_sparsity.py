"""How the rows of a dense network are best chosen: fixed at first, moved by gradients, deep rewiring, gradual magnitude.

`python3 -m uv run python tests/benchmarks/learned_sparsity.py [--keys 3] [--steps 400] [--write]`: images 784-128-10 on one
chip with copies, 4 bits, trained at 20 % mismatch; accuracy from the bits of the Layout, nominal and of unseen chips.
Results are kept in `learned_sparsity.json` beside this file; `--write` puts the table into docs/fits.md.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import nir_dynapse as nd
from nir_dynapse.training.options import TrainingOptions
from nir_dynapse.training.rewiring import Rewiring

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "examples"))

from _dense import DENSE  # noqa: E402

SPREAD = nd.Mismatch.uniform(0.2)
KEPT = Path(__file__).with_suffix(".json")
PAGE, MARKS = ROOT / "docs" / "fits.md", ("<!-- learned sparsity -->", "<!-- end -->")
STAGES = (256, 128, 64)
"""Rows of a neuron during gradual magnitude pruning; the last is what the chip has."""
WAYS = {
    "first choice only": "none",
    "moved by gradients (RigL)": "gradient",
    "moved at random": "random",
    "deep rewiring": "deep",
    "gradual magnitude": "magnitude",
}


def trained(network: nd.Network, data: nd.Data, way: str, steps: int, key: int) -> nd.Params:
    """The Params that one way makes, all with the same number of steps, samples and chips."""
    common: dict[str, Any] = {"mismatch": SPREAD, "key": key}
    if way != "magnitude":
        options = TrainingOptions(rewiring=Rewiring(way))  # type: ignore[arg-type]
        return nd.fine_tune(network, data, spend="chip", steps=steps, options=options, **common)
    thing: Any = network
    options = TrainingOptions(rewiring=Rewiring("none"))
    for k, rows in enumerate(STAGES):
        last = rows == STAGES[-1]
        device = replace(nd.DYNAPSE2, cam_rows=rows)
        spend = "chip" if k == 0 else "none"
        if k:
            thing = strongest(thing, rows)
        part = {"steps": steps // len(STAGES), "bits": 4 if last else None, "device": device, "spend": spend}
        thing = nd.fine_tune(thing, data, options=options, **part, **common)
    return thing


def strongest(params: nd.Params, rows: int) -> nd.Params:
    """`params` with the `rows` largest weights of every neuron."""
    from nir_dynapse.quant.fan_in import limit_fan_in

    return limit_fan_in(params, replace(nd.DYNAPSE2, cam_rows=rows), "prune")[0]


def row(network: nd.Network, train: nd.Data, test: nd.Data, way: str, steps: int, key: int) -> dict[str, float]:
    begun = time.perf_counter()
    params = trained(network, train, way, steps, key)
    took = time.perf_counter() - begun
    layout = nd.compile(network, params=params)
    chips = nd.evaluate(layout, test, devices=100, mismatch=SPREAD, key=1000).to_dict()["accuracy"]
    nominal = nd.simulate(layout, test.x).accuracy(test.y)
    return {
        "nominal": nominal,
        "median": float(np.median(chips)),
        "low": float(np.quantile(chips, 0.05)),
        "seconds": took,
    }


def table(found: dict[str, dict[str, float]], task: str, ideal: float, steps: int) -> str:
    lines = [
        f"{task}, dense ideal {100 * ideal:.1f} %; {steps} steps; medians over keys, in %.",
        "",
        "| rows | nominal | median at 20 % | 5 % quantile | keys | s |",
        "|---|---|---|---|---|---|",
    ]
    for name, way in WAYS.items():
        rows = [value for label, value in found.items() if label.startswith(f"{task} {way} {steps} ")]
        if rows:
            middle: Callable[[str], float] = lambda what: float(np.median([r[what] for r in rows]))  # noqa: B023, E731
            parts = (f"{100 * middle(what):.1f}" for what in ("nominal", "median", "low"))
            lines.append(f"| {name} | {' | '.join(parts)} | {len(rows)} | {middle('seconds'):.0f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", default="dense_images", choices=sorted(DENSE))
    parser.add_argument("--keys", type=int, default=3)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--ways", nargs="+", default=list(WAYS.values()), choices=list(WAYS.values()))
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    task = DENSE[args.network]
    network, train, test = task.network(), task.data("train"), task.data("test")
    found = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    for key in range(args.keys):
        for way in args.ways:
            label = f"{args.network} {way} {args.steps} {key}"
            if label not in found:
                found[label] = row(network, train, test, way, args.steps, key)
                KEPT.write_text(json.dumps(found, indent=1, sort_keys=True))
                print(label, found[label], flush=True)
    ideal = nd.simulate(network, test.x, ideal=True).accuracy(test.y)
    text = table(found, args.network, ideal, args.steps)
    print(text)
    if args.write:
        page = PAGE.read_text(encoding="utf-8")
        head, rest = page.split(MARKS[0], 1)
        PAGE.write_text(f"{head}{MARKS[0]}\n{text}\n{MARKS[1]}{rest.split(MARKS[1], 1)[1]}", encoding="utf-8")


if __name__ == "__main__":
    main()
