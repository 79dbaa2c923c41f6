"""Full chips, 1 024 neurons with 64 CAM rows each: seconds to compile, write and read back, and peak memory.

Written are our plain configuration object, a fake of samna's that checks and copies like the real one, and JSON text; the
second table has a random word in every row, so that no two are alike.

    python3 -m uv run python tests/benchmarks/full_chip.py [--growth | --stack [--against COMMIT] [--turns 3] [STEP ...]]

`--growth` compiles 1, 2, 4 and 8 full chips instead (neighbours within 600 neurons, so that no neuron reaches more chips
than it has SRAM rows), after one small compile for the imports. `--stack` takes 8 of those chips step by step, in turn with
a commit of ours if one is given, and says whether the results are equal.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

import nir_dynapse as nd
from nir_dynapse.export.samna_config import quiet_codes, write_config_json
from nir_dynapse.layout.layout import CAM_DTYPE, SRAM_DTYPE, Layout
from nir_dynapse.network.network import Network, Population, Port, Projection

sys.path.insert(0, str(Path(__file__).parent.parent / "helpers"))
from against import answer, compare

import fake_samna

FAN_IN = 64


def network(n: int, reach: int) -> Network:
    """`n` recurrent neurons with 63 synapses from neighbours at most `reach`/2 away on a ring, and one input each."""
    rng = np.random.default_rng(0)
    one = np.ones(n)
    neurons = Population("p", "CubaLIF", 0.02 * one, 20 * one, 0 * one, one, 0 * one, 0.005 * one, 5 * one)
    near = np.argsort(rng.random((n, reach)), axis=1)[:, : FAN_IN - 1] - reach // 2
    pre = ((np.arange(n)[:, None] + near) % n).ravel()
    post = np.repeat(np.arange(n), FAN_IN - 1)
    recurrent = Projection("p", "p", pre, post, rng.normal(0, 0.02, len(pre)), nodes=("w_rec",))
    inputs = Projection("in", "p", rng.integers(0, 64, n), np.arange(n), 0.1 * one, nodes=("fc",))
    # No more outputs than the seven chips from which events can be recorded hold.
    outputs = (Port("out", (n,), "p"),) if n <= 7168 else ()
    return Network((neurons,), (inputs, recurrent), (Port("in", (64,)),), outputs, 1e-3)


def timed(name: str, work: Callable[[], Any]) -> Any:
    start = time.perf_counter()
    result = work()
    print(f"{name:34} {time.perf_counter() - start:6.2f} s", flush=True)
    return result


def peak() -> float:
    """Peak memory of this process in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def random_rows(layout: Layout) -> Layout:
    """The same places with random bits in every CAM and SRAM row."""
    rng = np.random.default_rng(1)
    cam, sram = np.zeros(layout.cam.shape, CAM_DTYPE), np.zeros(layout.sram.shape, SRAM_DTYPE)
    for name, (low, high) in {"tag": (0, 2048), "dendrite": (0, 4), "mask": (0, 16), "flags": (0, 8)}.items():
        cam[name] = rng.integers(low, high, cam.shape)
    for name, (low, high) in {"tag": (0, 2048), "cores": (1, 16), "x_hop": (-7, 8), "y_hop": (-7, 8)}.items():
        sram[name] = rng.integers(low, high, sram.shape)
    return replace(layout, cam=cam, sram=sram, latches=rng.integers(0, 16, layout.n_neurons))


def one_row_changed(layout: Layout) -> Layout:
    cam = np.array(layout.cam)
    cam["mask"][500, 0] ^= 1
    return replace(layout, cam=cam)


def written_and_read(layout: Layout) -> None:
    config = timed("configuration object written", lambda: nd.to_samna(layout))
    same = [timed("configuration object read", lambda: nd.from_samna(config)) == layout]
    fake = fake_samna.Dynapse2Configuration()
    timed("fake samna object written", lambda: nd.to_samna(layout, fake))
    same.append(timed("fake samna object read", lambda: nd.from_samna(fake, names=layout)) == layout)
    changed, quiet = one_row_changed(layout), quiet_codes(layout)
    for name, now, before in (
        ("nothing changed", layout, layout),
        ("one row changed", changed, layout),
        ("quieted", quiet, changed),
        ("back again", layout, quiet),
    ):
        timed(f"fake, previous, {name}", lambda now=now, before=before: nd.to_samna(now, fake, previous=before))
        same.append(nd.from_samna(fake, names=now) == now)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.json.gz"
        timed("config.json.gz written", lambda: write_config_json(layout, path))
        same.append(timed("config.json.gz read", lambda: nd.from_samna(path, names=layout)) == layout)
        timed("config.json.gz read, no names", lambda: nd.from_samna(path))
        print(f"{'size of config.json.gz':34} {path.stat().st_size / 2**20:6.2f} MiB")
    print(f"all read back equal: {all(same)}; peak memory {peak():.2f} GiB")


def whole_way() -> None:
    net = network(1024, 1024)
    timed("compile, first use", lambda: nd.compile(net))
    layout = timed("compile again", lambda: nd.compile(net))
    written_and_read(layout)
    print("with random rows:")
    written_and_read(random_rows(layout))


def growth() -> None:
    nd.compile(network(100, 100))
    print(
        "| chips | neurons | CAM rows | seconds | seconds per chip | events between chips, index order | found | GiB |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for chips in (1, 2, 4, 8):
        net = network(1024 * chips, 600)
        start = time.perf_counter()
        layout = nd.compile(net, device=nd.DYNAPSE2.stack(chips))
        seconds = time.perf_counter() - start
        rows = int((layout.cam["dendrite"] >= 0).sum())
        events = next(((f.limit, f.used) for f in layout.findings if f.code == "placement"), (0, 0))
        print(
            f"| {chips} | {layout.n_neurons} | {rows} | {seconds:.2f} | {seconds / chips:.2f} | {events[0]} | {events[1]} "
            f"| {peak():.2f} |",
            flush=True,
        )


# -- eight chips, in turn with another commit -------------------------------------------------------------------------

FOLDER = tempfile.TemporaryDirectory()


def kept(name: str) -> Path:
    return Path(FOLDER.name) / name


@lru_cache
def stack() -> Layout:
    return nd.compile(network(8192, 600), device=nd.DYNAPSE2.stack(8))


@lru_cache
def configured() -> Any:
    return nd.to_samna(stack())


def compiled() -> list[Any]:
    stack.cache_clear()
    configured.cache_clear()
    return hash_of(stack())


def hash_of(layout: Layout) -> list[Any]:
    return [layout.chip, layout.core, layout.slot, layout.cam.tobytes(), layout.sram.tobytes(), layout.codes]


class Unpacked:
    """A gzipped file, looked into when it is compared, after the clock has stopped; two may be packed in different ways."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __repr__(self) -> str:
        return hashlib.sha256(gzip.decompress(self.path.read_bytes())).hexdigest()


def text_written() -> Unpacked:
    write_config_json(stack(), kept("config.json.gz"))
    return Unpacked(kept("config.json.gz"))


def saved() -> bytes:
    stack().save(kept("layout.json"))
    return kept("layout.json").read_bytes()


STEPS: dict[str, Callable[[], Any]] = {
    "compile": compiled,
    "to_samna": lambda: repr(nd.to_samna(stack())),
    "to_samna, nothing changed": lambda: repr(nd.to_samna(stack(), configured(), previous=stack())),
    "from_samna": lambda: hash_of(nd.from_samna(configured())),
    "from_samna, no names": lambda: hash_of(nd.from_samna(configured(), names=False)),
    "config.json.gz written": text_written,
    "config.json.gz read": lambda: hash_of(nd.from_samna(kept("config.json.gz"), names=stack())),
    "Layout saved": saved,
    "Layout loaded": lambda: hash_of(Layout.load(kept("layout.json"))),
}
UNTIMED: dict[str, Callable[[], Any]] = {"nothing": lambda: configured() and None}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--growth", action="store_true")
    parser.add_argument("--stack", action="store_true")
    parser.add_argument("--against", metavar="COMMIT")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--answer", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("steps", nargs="*", metavar="STEP", help=f"of {'; '.join(STEPS)}")
    args = parser.parse_args()
    if args.answer:
        answer({**STEPS, **UNTIMED})
    elif args.stack:
        compare(__file__, args.against, args.steps or STEPS, args.turns)
    elif args.growth:
        growth()
    else:
        whole_way()


if __name__ == "__main__":
    main()
