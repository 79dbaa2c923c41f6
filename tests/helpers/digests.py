"""Digests of what the package writes for the example networks and of a short training, to which a change of code that is
not meant to change them is held.

    python3 -m uv run python tests/helpers/digests.py            # which bytes are not those of tests/golden/digests.json
    python3 -m uv run python tests/helpers/digests.py --write    # after a change that is meant

Rounding differs between processors and versions of JAX, so `machine` says for which the digests are.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import platform
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import h5py
import nir
import numpy as np

import nir_dynapse as nd
from places import EXAMPLES, GOLDEN

NETWORKS = ("yin_yang", "digits_recurrent")
STORED = GOLDEN / "digests.json"


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def of_arrays(arrays: dict[str, np.ndarray]) -> str:
    """Digest of named arrays: names, types, shapes and bytes."""
    parts = [f"{name} {value.dtype.str} {value.shape}".encode() + value.tobytes() for name, value in arrays.items()]
    return sha(b"\n".join(parts))


def of_npz(path: Path) -> str:
    """Digest of an .npz without the dates of its members."""
    with zipfile.ZipFile(path) as archive:
        return sha(b"".join(name.encode() + archive.read(name) for name in sorted(archive.namelist())))


def of_nir(graph: nir.NIRGraph) -> str:
    """Digest of the file that nir writes of a graph, without its version."""
    buffer = io.BytesIO()
    nir.write(buffer, graph)  # pyright: ignore[reportArgumentType]
    found: dict[str, np.ndarray] = {}
    with h5py.File(buffer, "r") as file:

        def visit(name: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset) and name != "version":
                value = np.asarray(item[()])
                found[name] = value if value.dtype != object else np.array(value.tolist(), bytes)

        file.visititems(visit)
    return of_arrays(found)


def of_file(path: Path) -> str:
    if path.suffix == ".npz":
        return of_npz(path)
    content = path.read_bytes()
    return sha(gzip.decompress(content) if path.suffix == ".gz" else content)


def deployed(name: str) -> Iterator[tuple[str, str]]:
    network = nd.from_nir(EXAMPLES / "networks" / f"{name}.nir")
    test = nd.Data.load(EXAMPLES / "data" / f"{name}_test.npz")
    some = nd.Data(test.x[:40], test.y[:40], test.dt)
    params = nd.to_params(network)
    made = nd.deploy(EXAMPLES / "networks" / f"{name}.nir", some, board="virtual:7", fit=False)
    yield "network.nir", of_nir(nd.to_nir(network))
    yield "layout.nir", of_nir(nd.to_nir(made.layout))
    with tempfile.TemporaryDirectory() as folder:
        nd.save_params(params, path := Path(folder) / "params.npz")
        yield "params.npz", of_file(path)
        for path in made.write(Path(folder) / "out"):
            yield path.name, of_file(path)
    chip = nd.simulate(made.layout, some.x, mismatch=nd.Mismatch(), key=3, record=("spikes", "i_mem"))
    for kind, nodes in {"spikes": chip.spikes, "i_mem": chip.states["i_mem"]}.items():
        yield kind, of_arrays({node: np.asarray(value) for node, value in nodes.items()})
    evaluated = nd.evaluate(made.layout, some, devices=5, key=2)
    yield "evaluation", of_arrays({"accuracy": np.asarray(evaluated.accuracy)})


def trained(steps: int = 20) -> Iterator[tuple[str, str]]:
    network = nd.from_nir(EXAMPLES / "networks" / "yin_yang.nir")
    train = nd.Data.load(EXAMPLES / "data" / "yin_yang_train.npz")
    params = nd.fine_tune(network, train, steps=steps, key=0).numpy()
    with tempfile.TemporaryDirectory() as folder:
        nd.save_params(params, path := Path(folder) / "tuned.npz")
        yield "tuned.npz", of_file(path)
        nd.compile(network, params=params).save(path := Path(folder) / "tuned.json")
        yield "tuned.json", of_file(path)


def digests() -> dict[str, str]:
    """Every digest by name."""
    found = {f"{name}: {what}": digest for name in NETWORKS for what, digest in deployed(name)}
    return found | {f"training of 20 steps: {what}": digest for what, digest in trained()}


def machine() -> dict[str, str]:
    """What rounding depends on: the processor, and the versions of Python and of the packages that compute."""
    about = Path("/proc/cpuinfo")
    lines = about.read_text(encoding="utf-8").splitlines() if about.is_file() else []
    processor = next((line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "flags"))), "")
    flags = next((line for line in lines if line.startswith("flags")), "")
    packages = ("nir", "numpy", "jax", "numba", "optax", "scipy", "h5py")
    return {
        "processor": f"{platform.machine()} {processor} {sha(flags.encode())[:8]}",
        "python": platform.python_version(),
        "flags": os.environ.get("XLA_FLAGS", ""),
        **{name: version(name) for name in packages},
    }


def compare(now: dict[str, str]) -> list[str]:
    """Names of the digests that are no longer those stored."""
    before = json.loads(STORED.read_text())["digests"]
    return sorted(name for name in {*before, *now} if before.get(name) != now.get(name))


if __name__ == "__main__":
    found = digests()
    if "--write" in sys.argv:
        STORED.write_text(json.dumps({"machine": machine(), "digests": found}, indent=1) + "\n")
        sys.exit(0)
    changed = compare(found)
    sys.stdout.write("".join(f"changed: {name}\n" for name in changed))
    sys.stdout.write(f"{len(found) - len(changed)} of {len(found)} the same\n")
    sys.exit(bool(changed))
