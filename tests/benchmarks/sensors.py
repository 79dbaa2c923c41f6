"""Recorded sensors on unseen chips: speech (Japanese Vowels) and activity (a smartwatch), beside a GRU and an ANN.

    UV_FIND_LINKS=... UV_PROJECT_ENVIRONMENT=.venv-frontends python3 -m uv run --python 3.11 --no-default-groups \
        --group frontends python tests/benchmarks/sensors.py [--tasks vowels ...] [--arms default ...] [--keys 3]

(``UV_FIND_LINKS``: a folder or page with the CPU build of torch; leave it out to take torch from the default index.)

Every run is kept in examples/results/sensors.json and not repeated (--again does); the table of all that are there is then
written into docs/fine_tuning.md (--write does only that), --list says what there is to run. With --steps the trainings for
the chip have another length than by default; the table says which.

Arms, each with 128 hidden units and the same varied recordings: `gru` (its last state is read out, of the watch the mean)
and `ann` (ReLU units that see 20 frames at once) on the signals; `ideal`, a layer of CubaLIF neurons between events and a
neuron per class, trained in snnTorch, exported by it, read here; `default`, what `deploy --train` does with that file
without further options (but `steps`): `fine_tune(network, train, mismatch=, key=, spend="chip")`, then
`compile(network, params=)`, from the bits of the Layout, on 100 virtual chips that no training has seen.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import nir_dynapse as nd
from nir_dynapse.files.whole import write_atomically

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
sys.path.insert(0, str(EXAMPLES))
import _sensors  # noqa: E402
from _sensors import DT, SENSORS, Sensor, Signals, data, encoded, limits, resampled  # noqa: E402

RESULTS = EXAMPLES / "results" / "sensors.json"
PAGE = ROOT / "docs" / "fine_tuning.md"
BEGIN, END = "<!-- sensors of tests/benchmarks/sensors.py -->", "<!-- end of sensors -->"
CHIPS, FIRST_CHIP, LEVEL = 100, 1, 0.2  # as in examples/_arms.py
ARMS = ("gru", "ann", "ideal", "default")
HIDDEN, FRAMES, BATCH = 128, 20, 64
MORE = {"vowels": 8, "watch": 2}  # varied samples of each one that the chip is trained on

Row = dict[str, Any]


class Job(NamedTuple):
    """One row of the results."""

    task: str
    arm: str
    key: int

    @classmethod
    def of(cls, row: Row) -> Job:
        return cls(*(row[name] for name in cls._fields))


# --- yardsticks ------------------------------------------------------------------------------------------------------


def trained(parameters: list[Any], votes: Callable, fresh: Callable, y: np.ndarray, epochs: int, rate: float, rng: Any):
    """Trains by AdamW: `fresh()` makes the samples of an epoch, `votes(samples)` logits (and a penalty) of some of them."""
    import torch

    n = len(y) // BATCH * BATCH
    optimiser = torch.optim.AdamW(parameters, rate, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=epochs * n // BATCH, pct_start=0.1)
    for _ in range(epochs):
        samples = fresh()
        for index in rng.permutation(len(y))[:n].reshape(-1, BATCH):
            target = torch.from_numpy(y[index])
            logits, penalty = votes([samples[i] for i in index], target)
            loss = torch.nn.functional.cross_entropy(logits, target, label_smoothing=0.05) + penalty
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
            schedule.step()


def yardstick(sensor: Sensor, kind: str, key: int) -> float:
    """Accuracy on the test data of a GRU or an ANN with as many hidden units."""
    import torch

    torch.set_num_threads(1)  # layers this small only wait for each other on more
    torch.manual_seed(key)
    recorded, rng = sensor.recorded(), np.random.default_rng(key)
    all_frames, y = np.concatenate(recorded.train), recorded.train_y
    middle, spread, channels = all_frames.mean(0), all_frames.std(0), all_frames.shape[1]
    inputs = channels if kind == "gru" else FRAMES * channels
    first = torch.nn.GRU(inputs, HIDDEN, batch_first=True) if kind == "gru" else torch.nn.Linear(inputs, HIDDEN)
    last = torch.nn.Linear(HIDDEN, int(y.max()) + 1)

    def votes(signals: Signals, target: Any = None) -> tuple[Any, float]:
        if kind == "ann":
            signals = [resampled(s, np.linspace(0, len(s) - 1, FRAMES)) for s in signals]
        lengths = [len(s) for s in signals]
        x, share = (
            np.zeros((len(signals), max(lengths), channels), "f4"),
            np.zeros((len(signals), max(lengths), 1), "f4"),
        )
        for k, (signal, n) in enumerate(zip(signals, lengths, strict=True)):
            x[k, :n] = (signal - middle) / spread
            share[k, :n, 0] = np.arange(1, n + 1) == n if LAST[sensor.name] else 1 / n
        values = torch.from_numpy(x)
        if target is not None:
            values = values + NOISE * (torch.randn(len(x), 1, channels) + 0.5 * torch.randn(values.shape))
        if kind == "gru":
            hidden = (first(values)[0] * torch.from_numpy(share)).sum(1)
        else:
            hidden = torch.relu(first(values.flatten(1)))
        return last(torch.nn.functional.dropout(hidden, 0.3, target is not None)), 0.0

    def fresh() -> Signals:
        return [x for _ in range(sensor.times) for x in sensor.varied(recorded.train, rng)]

    parameters = [*first.parameters(), *last.parameters()]
    trained(parameters, votes, fresh, np.tile(y, sensor.times), EPOCHS[kind, sensor.name], 2e-3, rng)
    with torch.no_grad():
        return float((votes(recorded.test)[0].argmax(1).numpy() == recorded.test_y).mean())


NOISE = 0.3  # of the yardsticks' inputs, in standard deviations: an offset, and half of it for each frame
LAST = {
    "vowels": True,
    "watch": False,
}  # which hidden state of the GRU is read out: that of the last frame, or the mean
EPOCHS = {("gru", "vowels"): 30, ("ann", "vowels"): 30, ("gru", "watch"): 25, ("ann", "watch"): 25}


# --- the spiking network ---------------------------------------------------------------------------------------------


def network_file(sensor: Sensor, key: int) -> Path:
    return _sensors.KEPT / f"{sensor.name}_{key}.nir"


def spiking(sensor: Sensor, key: int) -> float:
    """Trains a network in snnTorch and lets it write its file; accuracy there.

    Rates are asked to stay moderate, and membranes not far below reset, where a circuit cannot follow.
    """
    import nir
    import snntorch
    import torch
    from snntorch.export_nir import export_to_nir

    torch.set_num_threads(1)  # layers this small only wait for each other on more
    torch.manual_seed(key)
    recorded, rng = sensor.recorded(), np.random.default_rng(key)
    low, high = limits(recorded.train)
    test, y = encoded(sensor, recorded.test, low, high), recorded.train_y

    def neurons(n: int) -> snntorch.Synaptic:
        return snntorch.Synaptic(
            torch.full((n,), 1 - DT / 10e-3),  # of synapses, then of membranes
            torch.full((n,), 1 - DT / 20e-3),
            threshold=torch.ones(n),
            init_hidden=True,
            reset_mechanism="zero",
            spike_grad=snntorch.surrogate.fast_sigmoid(slope=4),
        )

    def linear(n_in: int, n_out: int, mean: float) -> torch.nn.Linear:
        layer = torch.nn.Linear(n_in, n_out, bias=False)
        torch.nn.init.normal_(layer.weight, mean, 0.02)
        return layer

    classes = int(y.max()) + 1
    net = torch.nn.Sequential(
        linear(test.shape[2], HIDDEN, 0.002), neurons(HIDDEN), linear(HIDDEN, classes, 0.0), neurons(classes)
    )
    cells = (net[1], net[3])

    def run(x: np.ndarray) -> tuple[list[Any], list[Any]]:
        """Spikes and membranes (time, sample, neuron) of each layer."""
        for cell in cells:
            cell.reset_mem()
        spikes, membranes = ([], []), ([], [])
        for now in net[0](torch.from_numpy(x).float()).transpose(0, 1):
            spikes[0].append(cells[0](now))
            spikes[1].append(cells[1](net[2](spikes[0][-1])))
            for k, cell in enumerate(cells):
                membranes[k].append(cell.mem)
        return [torch.stack(s) for s in spikes], [torch.stack(v) for v in membranes]

    def votes(x: list[np.ndarray], target: Any) -> tuple[Any, Any]:
        spikes, membranes = run(np.stack(x))
        counts, mean = spikes[1].sum(0), spikes[0].sum(0).mean(0)
        penalty = (0.1 * torch.relu(mean - 10) ** 2 + torch.relu(1.5 - mean) ** 2).mean()
        penalty = penalty + 0.02 * sum(torch.relu(s.sum(0) - 25).square().mean() for s in spikes)
        penalty = penalty + 0.02 * torch.relu(8 - counts.gather(1, target[:, None])).square().mean()
        return 0.5 * counts, 0.3 * penalty + 0.05 * sum(torch.relu(-0.5 - v).square().mean() for v in membranes)

    def fresh() -> np.ndarray:
        samples = [x for _ in range(sensor.times) for x in sensor.varied(recorded.train, rng)]
        return encoded(sensor, samples, low, high)

    trained(list(net.parameters()), votes, fresh, np.tile(y, sensor.times), sensor.epochs, 5e-3, rng)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of what the exporter is built on
        graph = export_to_nir(net, torch.zeros(1, test.shape[2]), ignore_dims=[0])
    network_file(sensor, key).parent.mkdir(parents=True, exist_ok=True)
    nir.write(network_file(sensor, key), graph)
    with torch.no_grad():
        parts = np.array_split(np.arange(len(test)), -(-len(test) // 500))
        counts = np.concatenate([run(test[part])[0][1].sum(0).numpy() for part in parts])
    return float((counts.argmax(1) == recorded.test_y).mean())


# --- rows ------------------------------------------------------------------------------------------------------------


def run(job: Job, steps: int | None, say: Callable[[str], None]) -> Row:
    sensor, row, began = SENSORS[job.task], job._asdict(), time.monotonic()
    if job.arm in ("gru", "ann"):
        return {**row, "nominal": yardstick(sensor, job.arm, job.key), "seconds": round(time.monotonic() - began)}
    if job.arm == "ideal" or not network_file(sensor, job.key).exists():
        row["framework"] = spiking(sensor, job.key)
    row["seconds"] = round(time.monotonic() - began)
    network = nd.from_nir(network_file(sensor, job.key), frontend="snntorch", dt=DT, reset="value")
    train, test = data(sensor, sensor.recorded(), MORE[job.task], job.key)
    if job.arm == "ideal":
        return {**row, "nominal": nd.simulate(network, test.x, ideal=True).accuracy(test.y)}
    row.pop("framework", None)
    mismatch, began = nd.Mismatch.uniform(LEVEL), time.monotonic()
    options: dict[str, Any] = {} if steps is None else {"steps": steps}
    store = network_file(sensor, job.key).with_suffix(f".{steps}.npz")  # an interrupted run goes on
    resumed = store.exists()
    params = nd.fine_tune(
        network,
        train,
        mismatch=mismatch,
        key=job.key,
        spend="chip",
        progress=lambda what, _: say(what),
        checkpoint=store,
        **options,
    )
    row |= {"seconds": None if resumed else round(time.monotonic() - began), "steps": steps}
    found = nd.evaluate(nd.compile(network, params=params), test, devices=CHIPS, mismatch=mismatch, key=FIRST_CHIP)
    store.unlink()
    return {**row, "nominal": found.nominal, "median": found.median, "q5": float(found.quantile(0.05))}


def load(results: Path) -> list[Row]:
    return json.loads(results.read_text()) if results.exists() else []


def keep(results: Path, row: Row) -> None:
    rows = [r for r in load(results) if Job.of(r) != Job.of(row)] + [row]
    lines = [json.dumps(r) for r in sorted(rows, key=lambda r: tuple(map(str, Job.of(r))))]
    write_atomically(results, ("[\n" + ",\n".join(lines) + "\n]\n").encode())


def table(rows: list[Row]) -> str:
    """Markdown, in %, each the median over the keys."""
    lines = [
        f"| sensor | GRU | ANN | ideal | nominal | {100 * LEVEL:.0f} % | steps | keys | training |",
        "|" + " --- |" * 9,
    ]
    for task in SENSORS:
        mine = {arm: [r for r in rows if (r["task"], r["arm"]) == (task, arm)] for arm in ARMS}
        cells = [_percent(mine[arm], "nominal") for arm in ARMS]
        tuned = mine["default"]
        chips = f"{_percent(tuned, 'median')} ({_percent(tuned, 'q5')})"
        seconds = [r["seconds"] for r in tuned if r["seconds"] is not None]  # of runs that nothing interrupted
        took = f"{np.median(seconds):.0f} s" if seconds else "–"
        steps = ", ".join(sorted({"default" if r["steps"] is None else str(r["steps"]) for r in tuned})) or "–"
        lines.append(f"| {task} | {' | '.join(cells)} | {chips} | {steps} | {len(tuned)} | {took} |")
    return "\n".join(lines)


def _percent(rows: list[Row], what: str) -> str:
    return f"{100 * float(np.median([r[what] for r in rows])):.1f}" if rows else "–"


def write(rows: list[Row]) -> None:
    before, begin, rest = PAGE.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        sys.exit(f"{PAGE.name} lacks the markers {BEGIN} and {END}")
    write_atomically(PAGE, f"{before}{BEGIN}\n{table(rows)}\n{END}{after}".encode())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=SENSORS, default=list(SENSORS))
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--keys", type=int, default=3, help="training keys 0, 1, ... (default 3)")
    parser.add_argument("--steps", type=int, help="of training for the chip (default: that of fine_tune)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="file that keeps the rows")
    parser.add_argument("--again", action="store_true", help="repeat what is there already")
    parser.add_argument("--list", action="store_true", help="only say what there is to run")
    parser.add_argument("--write", action="store_true", help="only write the table anew from what is there")
    args = parser.parse_args()
    done = set() if args.again else {Job.of(row) for row in load(args.results)}
    jobs = [Job(task, arm, key) for key in range(args.keys) for task in args.tasks for arm in args.arms]
    for job in [job for job in jobs if job not in done and not args.write]:
        name = f"{job.task}, {job.arm}, key {job.key}"
        if args.list:
            print(name)
            continue
        row = run(job, args.steps, lambda line, name=name: print(f"{name}: {line}", file=sys.stderr))
        keep(args.results, row)
        print(name, {what: value for what, value in row.items() if what not in Job._fields}, file=sys.stderr)
    if args.list:
        return
    print(table(load(args.results)))
    if args.results == RESULTS:
        write(load(args.results))


if __name__ == "__main__":
    main()
