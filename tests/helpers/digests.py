"""Digests of what the package writes for the example networks and of a short training, to hold a change of code to.

    python tests/helpers/digests.py > before.json      # then change the code
    python tests/helpers/digests.py before.json        # which bytes changed

Bytes are compared as they are on one machine; `stable` leaves out what other machines may round otherwise.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import nir
import numpy as np

import nir_dynapse as nd

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
NETWORKS = ("yin_yang", "digits_recurrent")
VERSIONS = ("nir_dynapse", "nir_version", "versions", "created", "date")
"""Entries of reports and Layouts that may differ while the rest is the same."""


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
    nir.write(buffer, graph)
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
    made = nd.deploy(EXAMPLES / "networks" / f"{name}.nir", some, board="virtual:7")
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


if __name__ == "__main__":
    now = digests()
    if len(sys.argv) > 1:
        before = json.loads(Path(sys.argv[1]).read_text())
        changed = [name for name in {*before, *now} if before.get(name) != now.get(name)]
        sys.stdout.write("".join(f"changed: {name}\n" for name in sorted(changed)))
        sys.stdout.write(f"{len(now) - len(changed)} of {len(now)} the same\n")
        sys.exit(bool(changed))
    sys.stdout.write(json.dumps(now, indent=1) + "\n")
