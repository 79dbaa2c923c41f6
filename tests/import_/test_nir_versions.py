"""Files of every version of nir, read and written with whichever nir is installed (`.ci/run` also takes the oldest).

Nodes are written with h5py as the versions wrote them, so that nothing here depends on nir's constructors.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import h5py
import nir
import numpy as np
import pytest

import nir_dynapse as nd
from places import REFERENCE

N = 3
LIF = {"tau": np.full(N, 0.02), "r": np.full(N, 20.0), "v_leak": np.zeros(N), "v_threshold": np.ones(N)}
CUBA = {"tau_mem": LIF["tau"], "tau_syn": np.full(N, 0.005), **{k: LIF[k] for k in ("r", "v_leak", "v_threshold")}}


def store(path: Path, neurons: dict[str, Any], kind: str, version: str, **groups: dict[str, Any]) -> Path:
    """input(2) → w → n(3) → output as an HDF5 file of nir `version`."""
    nodes: dict[str, tuple[str, dict[str, Any]]] = {
        "input": ("Input", {"shape": np.array([2])}),
        "w": ("Affine", {"weight": np.full((N, 2), 0.7), "bias": np.zeros(N)}),
        "n": (kind, neurons),
        "output": ("Output", {"shape": np.array([N])}),
    }
    with h5py.File(path, "w") as h5:
        h5["version"] = version
        root = h5.create_group("node")
        root["type"] = "NIRGraph"
        root["edges"] = [["input", "w"], ["w", "n"], ["n", "output"]]
        for name, (cls, fields) in nodes.items():
            group = root.create_group(f"nodes/{name}")
            group["type"] = cls
            for key, value in fields.items():
                group[key] = value
        for name, fields in groups.items():
            for key, value in fields.items():
                root.create_group(name)[key] = value
    return path


@pytest.mark.parametrize("version", ["0.1.1", "0.2.0", "1.0.4", "1.0.5", "1.0.8", "1.0.9.dev3+g1234"])
@pytest.mark.parametrize(("kind", "fields"), [("LIF", LIF), ("CubaLIF", CUBA)])
def test_old_and_new_files(version: str, kind: str, fields: dict[str, Any], tmp_path: Path) -> None:
    new = version > "1.0.4"
    fields = {**fields, "v_reset": np.full(N, 0.0)} if new else fields
    extra = {"metadata": {"dt": 1e-3}} if new else {}
    net = nd.from_nir(store(tmp_path / "a.nir", fields, kind, version, **extra), dt=1e-3)
    assert net.origin["file_version"] == version
    assert net["n"].kind == kind
    repaired = {f.what.split(",")[0] for f in net.findings if f.code == "repair"}
    assert (f"{kind} without v_reset" in repaired) == (not new)
    x = np.ones((1, 40, 2))
    spikes = nd.simulate(net, x, ideal=True).output
    assert spikes.sum() > 5

    nir.write(tmp_path / "b.nir", nd.to_nir(net))
    back = nd.from_nir(tmp_path / "b.nir", dt=1e-3)
    assert back.digest() == net.digest()
    np.testing.assert_array_equal(nd.simulate(back, x, ideal=True).output, spikes)


def test_what_an_old_nir_cannot_hold_is_said(tmp_path: Path) -> None:
    fields = {**LIF, "v_reset": np.full(N, 0.2)}
    net = nd.from_nir(store(tmp_path / "a.nir", fields, "LIF", "1.0.8"), dt=1e-3)
    if "v_reset" not in inspect.signature(nir.LIF).parameters:
        with pytest.raises(nd.UnsupportedGraphError, match=r"nir 1\.0\.\d cannot hold"):
            nd.to_nir(net)
    else:
        node: Any = nd.to_nir(net).nodes["n"]
        np.testing.assert_array_equal(np.asarray(node.v_reset), 0.2)


@pytest.mark.skipif(not REFERENCE.exists(), reason="the reference files are not here")
@pytest.mark.parametrize(
    "name", ["braille_noDelay_bias_zero", "braille_noDelay_bias_zero_subgraph", "lif_rockpool", "cnn_sinabs"]
)
def test_reference_files_survive_the_way_out_and_back(name: str, tmp_path: Path) -> None:
    net = nd.from_nir(REFERENCE / f"{name}.nir", dt=1e-4)
    nir.write(tmp_path / "b.nir", nd.to_nir(net))
    assert nd.from_nir(tmp_path / "b.nir", dt=1e-4).digest() == net.digest()
