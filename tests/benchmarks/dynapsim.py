"""Speed and memory beside Rockpool's DynapSim, both arms in one run, turn by turn.

    python tests/benchmarks/dynapsim.py [--quick] [--settings 1,2,3,4,5,6,linear] [--device cpu|gpu] [--xla]
    python tests/benchmarks/dynapsim.py --batch --device gpu --peak-bandwidth 4.8e12

In an environment with jax and optax (and rockpool, else ours alone is printed) and this repository on PYTHONPATH.
Forward: spikes of all bins. Train: value and gradient of a mean-square loss to all weights (of
settings 6 to all bias currents of every neuron, too, of each arm all that it has) and Adam's update. Times are
the best of several turns in ms; `speed` is the peer's time over ours. `temp` is what XLA's plan takes for a call, `rss`
how much a process of its own grows by building, compiling and running it once.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import dynapsim_arms
import jax
import numpy as np
from dynapsim_arms import ARMS, Arm, Missing, Setting

BASE = Setting(60, 64, 500, 32)
CLOSED = replace(BASE, chips=16, biases=True, refractory=0.5e-3)
LINES: dict[str, list[tuple[str, Setting]]] = {
    "1": [
        ("60-64 recurrent, 500 steps, 32 rows", BASE),
        ("the same, signed AMPA/GABA", replace(BASE, signed=True)),
        ("the same, 32 samples x 16 chips", replace(BASE, chips=16)),
        ("the same, 512 plain rows", replace(BASE, rows=512)),
    ],
    "2": [("64-256 recurrent, 1000 steps, 8 rows", Setting(64, 256, 1000, 8))],
    "6": [
        ("60-64 recurrent, 32 rows, to all bias currents, too", replace(BASE, biases=True)),
        ("the same, 32 samples x 16 chips", replace(BASE, chips=16, biases=True)),
        ("the same, ours with the refractory period of the closed form", CLOSED),
    ],
    "3": [("1024 neurons of 64 rows, 500 steps, 4 rows", Setting(64, 1024, 500, 4, fan_in=64))],
}
YIN_YANG = Setting(5, 63, 60, 32, recurrent=False)
DRIVEN = Setting(60, 64, 500, 8, recurrent=False, excitatory=True)
DEMO = Setting(60, 2, 500, 2, recurrent=False)


@dataclass
class Program:
    """A compiled call of one arm and what is known of it."""

    arm: Arm
    call: Any
    arguments: tuple[Any, ...]
    compile_s: float
    temp: int
    bytes_accessed: float
    best: float = float("inf")

    def run(self) -> Any:
        start = time.perf_counter()
        result = jax.block_until_ready(self.call(*self.arguments))
        self.best = min(self.best, time.perf_counter() - start)
        return result


def program(arm: Arm, kind: str) -> Program:
    arguments = arm.arguments(kind)
    start = time.perf_counter()
    call = jax.jit(arm.function(kind)).lower(*arguments).compile()
    compile_s = time.perf_counter() - start
    memory, cost = call.memory_analysis(), call.cost_analysis()
    cost = cost[0] if isinstance(cost, list) else cost or {}
    temp = int(getattr(memory, "temp_size_in_bytes", 0)) + int(getattr(memory, "output_size_in_bytes", 0))
    return Program(arm, call, arguments, compile_s, temp, float(cost.get("bytes accessed", 0.0)))


def turns(programs: list[Program], seconds: float, least: int = 3, most: int = 30) -> None:
    """Run them in turn (A B A B) after one run each to warm up: `least` turns, then until `seconds` are over."""
    for item in programs:
        item.run()
        item.best = float("inf")
    start = time.perf_counter()
    for turn in range(most):
        if turn >= least and time.perf_counter() - start > seconds:
            break
        for item in programs:
            item.run()


def arms(setting: Setting) -> list[Arm]:
    """Those that can run here."""
    found = []
    for kind in ARMS.values():
        try:
            found.append(place(kind(setting)))
        except Missing as error:
            if str(error) not in TOLD:
                TOLD.add(str(error))
                print(f"\n{error} Its columns stay empty.\n", flush=True)
    return found


TOLD: set[str] = set()


def place(arm: Arm) -> Arm:
    """Rows of the input over all devices."""
    devices = jax.devices()
    if len(devices) > 1 and arm.setting.rows % len(devices) == 0:
        mesh = jax.sharding.Mesh(np.array(devices), ("rows",))
        arm.x = jax.device_put(arm.x, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("rows")))
    return arm


def rss(name: str, setting: Setting, kind: str, scale: float) -> float:
    """MB by which the peak memory of a process of its own grows."""
    request = json.dumps([name, asdict(setting), kind, scale])
    way = ["--xla"] if dynapsim_arms.NATIVE is False else []
    done = subprocess.run(
        [sys.executable, __file__, *way, "--probe", request], capture_output=True, text=True, check=False
    )
    return float(done.stdout.split()[-1]) if done.returncode == 0 and done.stdout.split() else float("nan")


def probe(request: str) -> None:
    name, setting, kind, scale = json.loads(request)
    ARMS[name](replace(DEMO, rows=1, steps=2), 1.0)  # everything is imported before the first look
    jax.block_until_ready(jax.numpy.ones(3) + 1)
    before = peak()
    program(ARMS[name](Setting(**setting), scale), kind).run()
    print((peak() - before) / 1024)


def peak() -> int:
    """Peak memory of this process in kB; ru_maxrss would begin with that of the process that started it."""
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0])
    except (OSError, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def row(*cells: Any) -> None:
    print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)


def head(*cells: str) -> None:
    print()
    row(*cells)
    row(*("---" for _ in cells))


def pair(values: dict[str, Any], form: str = "{:.2f}") -> list[str]:
    return [form.format(values[name]) if name in values else "" for name in ARMS]


def ratio(times: dict[str, float]) -> str:
    return f"{times['peer'] / times['ours']:.1f} x" if len(times) == 2 else ""


def compare(label: str, setting: Setting, options: argparse.Namespace, peer_refine: int = 1) -> None:
    """The lines of one setting, forward and train. `peer_refine`: the peer takes that many steps per bin of ours."""
    found = arms(setting)
    if peer_refine > 1:
        found = [a for a in found if a.name == "ours"]
        found += [a for a in arms(replace(setting, refine=peer_refine)) if a.name == "peer"]
    for kind in ("forward", "train"):
        programs = {arm.name: program(arm, kind) for arm in found}
        rates = {}
        for name, item in programs.items():
            if kind == "forward":
                rates[name] = 100 * float(np.asarray(item.run()).mean()) * item.arm.setting.refine
        turns(list(programs.values()), options.seconds)
        times = {name: 1e3 * item.best for name, item in programs.items()}
        memory = {}
        if not options.quick and kind == "train":
            memory = {name: rss(name, item.arm.setting, kind, item.arm.scale) for name, item in programs.items()}
        row(
            label,
            kind,
            *pair(times),
            ratio(times),
            *pair({name: item.compile_s for name, item in programs.items()}),
            *pair({name: item.temp / 2**20 for name, item in programs.items()}, "{:.1f}"),
            *pair(memory, "{:.0f}"),
            *pair(rates, "{:.1f}"),
        )


COLUMNS = ("ms", "compile s", "temp MB", "rss MB", "spikes per 100 ms")


def speed_head() -> None:
    cells = [f"{name} {column}" for column in COLUMNS for name in ARMS]
    head("setting", "", *cells[:2], "speed", *cells[2:])


def accuracy() -> None:
    """Counts of a driven population at 1 ms and 0.1 ms beside 10 µs, of each arm."""
    head("counts of a driven population", "step", "spikes", "all together", "per neuron, mean", "per neuron, worst")
    for name in ARMS:
        counts, scale = {}, None
        for refine in (100, 10, 1):
            try:
                arm = ARMS[name](replace(DRIVEN, refine=refine), scale)
            except Missing:
                break
            scale = arm.scale
            counts[refine] = np.asarray(jax.jit(arm.counts)(*arm.arguments("forward"))).sum(1).astype(float)
            exact = counts[100]
            if refine < 100:
                error = np.abs(counts[refine] - exact) / np.maximum(exact, 1)
                total = counts[refine].sum() / exact.sum() - 1
                row(
                    name,
                    f"{1 / refine:g} ms",
                    int(counts[refine].sum()),
                    f"{total:+.2%}",
                    f"{error.mean():.2%}",
                    f"{error.max():.2%}",
                )


def demo(options: argparse.Namespace) -> None:
    """Training of 60 → 2 as one program."""
    epochs = 20 if options.quick else 100
    programs = {arm.name: program(arm, f"loop:{epochs}") for arm in arms(DEMO)}
    turns(list(programs.values()), options.seconds)
    steps = epochs * DEMO.rows * DEMO.steps
    rates = {name: steps / item.best for name, item in programs.items()}
    head("60-2, two samples of 500 steps, training loop", *(f"{name} sample-steps/s" for name in ARMS), "speed")
    times = {name: item.best for name, item in programs.items()}
    row(f"{epochs} epochs in one program", *pair(rates, "{:.3g}"), ratio(times))


def linear(options: argparse.Namespace) -> None:
    """Cost against chips, steps and synapses for a network of Yin-Yang's size."""
    head(
        "Yin-Yang's size (5-63, 60 steps), train",
        *(f"{name} ms" for name in ARMS),
        *(f"{name} µs per unit" for name in ARMS),
    )
    few = (1, 4) if options.quick else (1, 2, 4, 8, 16)
    lines = [(f"{c} chips", replace(YIN_YANG, chips=c), c) for c in few]
    lines += [(f"{60 * c} steps", replace(YIN_YANG, steps=60 * c), c) for c in few]
    lines += [(f"{5 * 63 * c} synapses", replace(YIN_YANG, n_in=5 * c), c) for c in (*few, 4 * few[-1])]
    for label, setting, units in lines:
        programs = [program(arm, "train") for arm in arms(setting)]
        turns(programs, options.seconds / 4)
        times = {item.arm.name: 1e3 * item.best for item in programs}
        row(label, *pair(times), *pair({name: 1e3 * t / units for name, t in times.items()}, "{:.0f}"))


def batches(options: argparse.Namespace) -> None:
    """Rows doubled until memory is full; XLA counts the body of a loop once, so bytes are per step times steps."""
    devices = len(jax.devices())
    head("rows", "arm", "forward ms", "train ms", "train samples/s", "temp MB", "GB/s", "share of peak")
    for name, kind in ARMS.items():
        rows, scale = BASE.rows * devices, None
        while rows <= options.most_rows:
            try:
                arm = place(kind(replace(BASE, rows=rows), scale))
                scale = arm.scale
                forward, train = program(arm, "forward"), program(arm, "train")
                turns([forward, train], options.seconds)
            except Missing as error:
                print(error)
                break
            except jax.errors.JaxRuntimeError as error:
                print(f"{name}: {rows} rows: {str(error).splitlines()[0][:120]}")
                break
            rate = train.bytes_accessed * loop_share(arm, train.bytes_accessed) / train.best / devices
            share = f"{rate / options.peak_bandwidth:.1%}" if options.peak_bandwidth else ""
            times = (f"{1e3 * forward.best:.2f}", f"{1e3 * train.best:.2f}", f"{rows / train.best:.0f}")
            row(rows, name, *times, f"{train.temp / 2**20:.0f}", f"{rate / 1e9:.1f}", share)
            rows *= 2


def loop_share(arm: Arm, bytes_accessed: float) -> float:
    """By what the bytes of `cost_analysis` are to be multiplied: steps where it has counted loops once, else 1."""
    s = arm.setting
    short = type(arm)(replace(s, steps=s.steps // 2), arm.scale)
    return s.steps if program(short, "train").bytes_accessed > 0.75 * bytes_accessed else 1.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer turns, no processes for memory")
    parser.add_argument("--settings", default="1,2,3,4,5,6,linear")
    parser.add_argument("--device", choices=("cpu", "gpu"), default=None)
    parser.add_argument("--batch", action="store_true", help="double the rows until memory is full")
    parser.add_argument("--most-rows", type=int, default=1 << 20)
    parser.add_argument("--peak-bandwidth", type=float, default=0.0, help="bytes/s of one device")
    parser.add_argument("--xla", action="store_true", help="ours by XLA alone, without the compiled kernels")
    parser.add_argument("--probe", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.seconds = 1.0 if options.quick else 4.0
    if options.device:
        os.environ["JAX_PLATFORMS"] = {"cpu": "cpu", "gpu": "cuda"}[options.device]
        jax.config.update("jax_platforms", os.environ["JAX_PLATFORMS"])
    if options.xla:
        dynapsim_arms.NATIVE = False
    if options.probe:
        return probe(options.probe)
    print(f"jax {jax.__version__}, {len(jax.devices())} x {jax.devices()[0].device_kind}, {os.cpu_count()} CPUs")
    if options.batch:
        return batches(options)
    wanted = options.settings.split(",")
    lines = [line for key in wanted for line in LINES.get(key, [])]
    if lines or "4" in wanted:
        speed_head()
    for label, setting in lines:
        compare(label, setting, options)
    if "4" in wanted:
        compare("60-64, 32 rows; the peer in steps of 0.1 ms", BASE, options, peer_refine=10)
        accuracy()
    if "5" in wanted:
        demo(options)
    if "linear" in wanted:
        linear(options)
    return None


if __name__ == "__main__":
    main()
