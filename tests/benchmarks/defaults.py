"""The search that the defaults of training were chosen by: which settings bring most within the same time.

    python3 -m uv run python tests/benchmarks/defaults.py [--rung 0] [--write] [--list]

Networks: those of `_frontend_tasks.SEARCH`, trained in snnTorch and Norse. Every setting trains each of them from the same
fitted circuit on 80 % of its training data for as many seconds of processor time in steps (measured first, per number of
chips and samples, so that a busy machine changes nothing), and is judged by the rest on virtual chips of 20 % (every analog
element) that it was not trained on; test data are not looked at. Successive halving: rung 0 changes one thing at a time, on
four networks and for 8 s; what is 3 points worse than the usual setting after two networks stops there. Rung 1 takes what
was best, together, to other networks for 20 s.

Every run is kept in defaults.json beside this file, and not repeated; --write puts the tables into docs/fine_tuning.md.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import nir_dynapse as nd
from nir_dynapse.files.whole import write_atomically
from nir_dynapse.fitting.fit import fit_to_data
from nir_dynapse.sim.surrogate import Surrogate
from nir_dynapse.training.losses import Counts, MaxOverTime
from nir_dynapse.training.options import TrainingOptions

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(Path(__file__).parent))
from _frontend_tasks import SEARCH, divided  # noqa: E402

KEPT = Path(__file__).with_suffix(".json")
PAGE = ROOT / "docs" / "fine_tuning.md"
BEGIN, END = "<!-- search of tests/benchmarks/defaults.py -->", "<!-- end of search -->"
SPREAD = nd.Mismatch.uniform(0.2)
SECONDS = (8.0, 20.0)
CHECKS, CHIPS, SAMPLES = 4, 8, 200
WORSE = 0.03
FIRST = ("yin_yang", "dense_vowels", "conv", "waves")
"""The networks of rung 0."""
SECOND = ("dense_digits", "noise", "digits_recurrent")
"""Those of rung 1."""

USUAL: dict[str, Any] = {"chips": 2, "batch": 8, "rate": 0.02, "ramp": 0.2, "loss": "ratio 4", "slope": 10.0}
USUAL |= {"distil": 0.5, "bias_rate": 0.3, "spend": "chip"}
ONE: dict[str, dict[str, Any]] = {
    "usual": {},
    "rate 0.01": {"rate": 0.01},
    "rate 0.04": {"rate": 0.04},
    "no ramp": {"ramp": 0.0},
    "ramp 0.5": {"ramp": 0.5},
    "4 chips": {"chips": 4},
    "1 chip, 16 samples": {"chips": 1, "batch": 16},
    "8 chips, 8 samples": {"chips": 8},
    "counts, ratio 2": {"loss": "ratio 2"},
    "max over time": {"loss": "max"},
    "surrogate twice as wide": {"slope": 5.0},
    "no copies, 2 x 8": {"spend": "none"},
    "no copies, 16 x 16": {"spend": "none", "chips": 16, "batch": 16},
}
"""Rung 0: what each setting changes."""
LATER: dict[str, dict[str, Any]] = {
    "usual": {},
    "rate 0.01, surrogate twice as wide": {"rate": 0.01, "slope": 5.0},
}
"""Rung 1."""
CHOSEN = "rate 0.01, surrogate twice as wide"
"""What the defaults are."""

Row = dict[str, Any]


class Enough(Exception):
    """Ends a training that only measures."""


@cache
def prepared(name: str) -> tuple[nd.Network, nd.Data, nd.Data, nd.Params]:
    """Network, both parts of its training data, and the circuit that all of its trainings start from."""
    network = SEARCH[name].network()
    train, rest = divided(SEARCH[name].sets()[0])
    return network, train, rest, fit_to_data(network, train, key=0, tried=1, own_rows=False)[0]


def loss_of(setting: Row, dt: float, readout: bool) -> Any:
    kind, _, value = setting["loss"].partition(" ")
    if kind == "max":
        return MaxOverTime(dt=dt)
    if setting["loss"] == "ratio 4":
        return None  # what fine_tune takes
    return None if readout else Counts(dt=dt, ratio=float(value))


def tuned(name: str, setting: Row, steps: int, checks: int, tell: Any) -> nd.Params:
    network, train, rest, start = prepared(name)
    options = TrainingOptions(
        **{key: setting[key] for key in ("batch", "rate", "ramp", "distil", "bias_rate")},
        surrogate=Surrogate(slope=setting["slope"]),
        check_every=-(-steps // checks),
        held_out=CHIPS,
        validation_size=SAMPLES,
    )
    return nd.fine_tune(
        network,
        train,
        start=start,
        validation=rest,
        mismatch=SPREAD,
        devices=setting["chips"],
        steps=steps,
        loss=loss_of(setting, network.dt, bool(network.readout)),
        spend=setting["spend"],
        options=options,
        progress=tell,
        key=0,
    )


def cost(rows: list[Row], name: str, setting: Row) -> float:
    """s of processor time of a step, measured once for each network, number of chips and of samples."""
    which = {"cost": name, **{key: setting[key] for key in ("chips", "batch", "spend")}}
    for row in rows:
        if all(row.get(key) == value for key, value in which.items()):
            return row["seconds"]
    times: list[float] = []

    def tell(what: str, share: float) -> None:
        if what.startswith("step"):
            times.append(time.process_time())
        if len(times) == 4:  # after steps 2, 6, 12 and 18
            raise Enough

    network, train, rest, start = prepared(name)
    options = TrainingOptions(batch=setting["batch"], check_every=6, held_out=1, validation_size=1)
    with suppress(Enough):
        nd.fine_tune(
            network, train, start=start, validation=rest, mismatch=SPREAD, devices=setting["chips"], steps=1000,
            spend=setting["spend"], options=options, progress=tell,
        )  # fmt: skip
    rows.append({**which, "seconds": round((times[3] - times[1]) / 12, 5)})
    save(rows)
    return rows[-1]["seconds"]


def measured(rows: list[Row], rung: int, label: str, name: str, changes: Row) -> Row:
    """The row of one setting on one network."""
    for row in rows:
        if (row.get("rung"), row.get("setting"), row.get("task")) == (rung, label, name):
            return row
    setting = {**USUAL, **changes}
    steps = max(8, int(SECONDS[rung] / cost(rows, name, setting)))
    found: list[float] = []

    def tell(what: str, share: float) -> None:
        if "held out" in what:
            found.append(float(what.split("held out ")[1].split(" %")[0]))

    tuned(name, setting, steps, CHECKS, tell)
    row = {"rung": rung, "setting": label, "task": name, "steps": steps, "held_out": max(found[1:]), "checks": found}
    rows.append(row)
    save(rows)
    print(row, flush=True)
    return row


def save(rows: list[Row]) -> None:
    write_atomically(KEPT, ("[\n" + ",\n".join(json.dumps(r) for r in rows) + "\n]\n").encode())


def search(rows: list[Row], rung: int) -> None:
    names = FIRST if rung == 0 else SECOND
    settings = ONE if rung == 0 else LATER
    for label, changes in settings.items():
        lost = 0.0
        for k, name in enumerate(names):
            mine = measured(rows, rung, label, name, changes)
            usual = measured(rows, rung, "usual", name, {})
            lost += (usual["held_out"] - mine["held_out"]) / 100
            if rung == 0 and k == 1 and lost / 2 > WORSE:
                break


def table(rows: list[Row]) -> str:
    """Markdown: accuracy on held-out chips in %, by setting, rung and network."""
    lines = []
    for rung in range(len(SECONDS)):
        mine = [r for r in rows if r.get("rung") == rung]
        names = [name for name in SEARCH if any(r["task"] == name for r in mine)]
        labels = list(dict.fromkeys(r["setting"] for r in mine))
        if not mine:
            continue
        part = {(r["setting"], r["task"]): r["held_out"] for r in mine}
        means = {s: np.mean([part[s, n] for n in names]) for s in labels if all((s, n) in part for n in names)}
        order = sorted(labels, key=lambda s: -means.get(s, -1.0))
        lines += ["", f"{SECONDS[rung]:.0f} s:", "", f"| setting | {' | '.join(names)} | mean |"]
        lines.append("|" + " --- |" * (len(names) + 2))
        for s in order:
            cells = [f"{part[s, n]:.1f}" if (s, n) in part else "–" for n in names]
            lines.append(f"| {s} | {' | '.join(cells)} | {f'{means[s]:.1f}' if s in means else 'stopped'} |")
    return "\n".join(lines[1:])


def write(rows: list[Row]) -> None:
    text = PAGE.read_text(encoding="utf-8")
    head, _, rest = text.partition(BEGIN)
    write_atomically(PAGE, f"{head}{BEGIN}\n{table(rows)}\n{END}{rest.partition(END)[2]}".encode())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rung", type=int, action="append", help="which rungs to run (default: all)")
    parser.add_argument("--write", action="store_true", help="only put the tables into the page")
    parser.add_argument("--list", action="store_true", help="only print the tables")
    args = parser.parse_args()
    rows: list[Row] = json.loads(KEPT.read_text()) if KEPT.exists() else []
    if not args.list and not args.write:
        for rung in args.rung or range(len(SECONDS)):
            search(rows, rung)
    print(table(rows))
    if args.write:
        write(rows)


if __name__ == "__main__":
    main()
