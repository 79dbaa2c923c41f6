"""Params in a file: round trip bit for bit, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nir_dynapse as nd
from circuits import circuits
from nir_dynapse.chip.device import Circuit, Mismatch
from nir_dynapse.circuit import params_file
from nir_dynapse.circuit.params import Params
from nir_dynapse.circuit.params_file import load_params, save_params
from nir_dynapse.errors import ConfigurationError, Finding
from nir_dynapse.sim.mismatch import fabricate


def on_chip(networks: ModuleType) -> Params:
    return nd.to_params(nd.compile(networks.recurrent(1, 4, 8, 3, fan_in=3)))


def one_chip(networks: ModuleType) -> Params:
    return fabricate(circuits(delays=True), Mismatch(), 7)


def single(networks: ModuleType) -> Params:
    return jax.tree_util.tree_map(lambda leaf: jnp.asarray(leaf, jnp.float32) / 3, on_chip(networks))


def told(networks: ModuleType) -> Params:
    findings = (
        Finding("warning", "a", "τ is long.", "node", 3, float(np.float64(1 / 3)), 2, "s", "x"),
        Finding("info", "b", ""),
    )
    params = nd.to_params(networks.recurrent(0, 4, 6, 3, fan_in=3))
    topology = replace(params.topology, tonic_period=1 / 7e3)
    return replace(params, findings=findings, circuit=Circuit(kappa_n=0.7, c_mem=1 / 3e11), topology=topology)


KINDS: dict[str, Callable[[ModuleType], Params]] = {
    "network": lambda networks: nd.to_params(networks.recurrent(0, 4, 6, 3, fan_in=3)),
    "readout": lambda networks: nd.to_params(networks.with_readout()),
    "delays": lambda networks: circuits("dc", delays=True),
    **{"quantised": on_chip, "one chip": one_chip, "float32": single, "findings": told},
}


@pytest.fixture(params=KINDS)
def params(request: pytest.FixtureRequest, networks: ModuleType) -> Params:
    return KINDS[request.param](networks)


@pytest.fixture(scope="module")
def small(networks: ModuleType) -> Params:
    return on_chip(networks)


def test_round_trip_bit_for_bit(params: Params, tmp_path: Path) -> None:
    path = tmp_path / "tuned"
    save_params(params, path)
    again = load_params(str(path))
    assert again.topology == params.topology
    assert hash(again.topology) == hash(params.topology)
    assert again.topology.readout.digest() == params.topology.readout.digest()
    assert (again.circuit, again.findings) == (params.circuit, params.findings)
    assert jax.tree_util.tree_structure(again) == jax.tree_util.tree_structure(params)
    for a, b in zip(jax.tree_util.tree_leaves(again), jax.tree_util.tree_leaves(params), strict=True):
        assert isinstance(a, np.ndarray)
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        assert a.tobytes() == np.asarray(b).tobytes()
    save_params(again, tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == path.read_bytes(), "the same Params make the same file"
    assert {p.name for p in tmp_path.iterdir()} == {"tuned", "again"}, "no temporary file stays"


def test_the_package_exports_them() -> None:
    assert (nd.save_params, nd.load_params) == (save_params, load_params)


def test_the_file_has_no_pickles(small: Params, tmp_path: Path) -> None:
    save_params(small, tmp_path / "p.npz")
    with np.load(tmp_path / "p.npz", allow_pickle=False) as archive:
        assert str(archive["format"]) == "nir_dynapse.params 1"
        assert all(archive[name].dtype.kind in "Ufi" for name in archive.files)
        assert json.loads(str(archive["text"]))["dt_s"] == small.topology.dt


# --- what is refused ----------------------------------------------------------------------------------------------------


def refused(path: Path, *words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_params(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert all(word in text for word in words), text


def test_files_that_are_something_else(tmp_path: Path) -> None:
    refused(tmp_path / "none.npz", "cannot be read (No such file", "Check the path")
    refused(tmp_path, "cannot be read (Is a directory")
    for content in (b"", b"hello", b"PK\x03\x04" + bytes(100), b"\x93NUMPY\x01\x00" + bytes(20)):
        (tmp_path / "x").write_bytes(content)
        refused(tmp_path / "x", "not a file of Params", "Give a file that save_params wrote")
    np.save(tmp_path / "x.npy", np.ones(3))
    refused(tmp_path / "x.npy", "not a file of Params")
    np.savez(tmp_path / "x.npz", x=np.ones(3))
    refused(tmp_path / "x.npz", "it has no format", "Give a file that save_params wrote")
    np.savez(tmp_path / "x.npz", format=np.array("nir_dynapse.evaluation 1"))
    refused(tmp_path / "x.npz", "'nir_dynapse.evaluation 1'", "needed is 'nir_dynapse.params 1'")
    np.savez(tmp_path / "x.npz", format=np.array([{}], object))
    refused(tmp_path / "x.npz", "not a file of Params")


def changed(params: Params, path: Path, **arrays: Any) -> None:
    """Saved with other arrays; None takes one away."""
    everything = {**params_file._packed(params), **{name.replace("__", "."): v for name, v in arrays.items()}}
    np.savez(path, **{name: value for name, value in everything.items() if value is not None})


def test_newer_format(small: Params, tmp_path: Path) -> None:
    changed(small, tmp_path / "x.npz", format=np.array("nir_dynapse.params 3"))
    refused(tmp_path / "x.npz", "'nir_dynapse.params 3'", "this package reads 'nir_dynapse.params 1'", "Install")
    changed(small, tmp_path / "x.npz", format=np.array("nir_dynapse.params 2"))
    refused(tmp_path / "x.npz", "damaged", "copies are in files of 'nir_dynapse.params 2' only")


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"base": np.ones((1, 3))}, "base is float64 of shape (1, 3), needed is float32 or float64 of (1, 4)"),
        ({"base": np.ones((1, 4), complex)}, "base is complex128"),
        ({"base": None}, "arrays missing or added: base"),
        ({"topology__mask": None}, "arrays missing or added: topology.mask"),
        ({"surprise": np.ones(1)}, "arrays missing or added: surprise"),
        ({"topology__group": np.zeros(3, np.int32)}, "group is int32 of shape (3,), needed is int32 of (11,)"),
        ({"topology__place": np.zeros((11, 2), np.int32)}, "needed is int32 of (11, 3)"),
        ({"topology__place": np.zeros((11, 3))}, "place is float64"),
        ({"topology__group": np.full(11, 2, np.int32)}, "needed is float32 or float64 of (3, 4)"),
        ({"topology__latches": np.full(11, 1 << 20, np.int32)}, "latches holds 1048576"),
        ({"text": np.array("{")}, "Expecting property name"),
        ({"text": np.array("[]")}, "damaged"),
        ({"text": np.array("[" * 100_000)}, "damaged"),
    ],
)
def test_arrays_that_do_not_fit(small: Params, tmp_path: Path, arrays: dict[str, Any], words: str) -> None:
    changed(small, tmp_path / "x.npz", **arrays)
    refused(tmp_path / "x.npz", "damaged", words, "Save them again")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("dt_s", -1.0),
        ("dt_s", "1"),
        ("tonic_period_s", 0),
        ("populations", [["hidden", 8], ["hidden", 3]]),
        ("populations", [["hidden", 8.5], ["output", 3]]),
        ("populations", [["hidden", 80], ["output", 3]]),
        ("inputs", [["in", [-2], None]]),
        ("inputs", 7),
        ("outputs", [["out", [3], "nobody"]]),
        ("kinds", ["LIF"]),
        ("kinds", [1, 2]),
        ("shapes", [[8], [4]]),
        ("projections", [["a", "b"]]),
        ("readout", {"populations": 3}),
        ("circuit", {"kappa_n": 1.0}),
        ("findings", [{"nonsense": 1}]),
        ("arrays", None),
    ],
)
def test_text_that_does_not_fit(small: Params, tmp_path: Path, key: str, value: Any) -> None:
    text = json.loads(str(params_file._packed(small)["text"]))
    changed(small, tmp_path / "x.npz", text=np.array(json.dumps({**text, key: value})))
    refused(tmp_path / "x.npz", "damaged")
    del text[key]
    changed(small, tmp_path / "x.npz", text=np.array(json.dumps(text)))
    refused(tmp_path / "x.npz", "damaged", "KeyError")


def test_damaged_bytes(small: Params, tmp_path: Path) -> None:
    """Any byte: the same Params (where it does not matter) or a refusal."""
    save_params(small, tmp_path / "good")
    content, rng = (tmp_path / "good").read_bytes(), np.random.default_rng(0)
    damaged = [content[: len(content) * k // 12] for k in range(12)]
    for at in rng.integers(0, len(content), 150):
        damaged.append(content[:at] + bytes([content[at] ^ int(rng.integers(1, 256))]) + content[at + 1 :])
    kept = 0
    for bad in damaged:
        (tmp_path / "bad").write_bytes(bad)
        try:
            again = load_params(tmp_path / "bad")
        except ConfigurationError:
            continue
        kept += 1
        assert again.topology == small.topology
        assert np.array_equal(again.base, small.base)
    assert kept < len(damaged) / 2


def test_what_cannot_be_saved(small: Params, tmp_path: Path) -> None:
    several = jax.tree_util.tree_map(lambda leaf: np.stack([leaf, leaf]), small)
    for wrong, words in (
        (several, "Save one circuit at a time"),
        (replace(small, base=None), "base is missing"),
        (replace(small, base=np.ones((1, 4), int)), "int64"),
        (replace(small, bias={**small.bias, "i_dc": np.ones(3)}), "bias i_dc is float64 of shape (3,)"),
        (replace(small, bias={}), "bias currents missing"),
        (replace(small, findings=(Finding("info", "x", "y", used={1}),)), "set"),  # type: ignore[arg-type]
    ):
        with pytest.raises(ConfigurationError, match=r"these Params cannot be saved") as caught:
            save_params(wrong, tmp_path / "x")
        assert words in str(caught.value)
        assert not (tmp_path / "x").exists()
    with pytest.raises(ConfigurationError, match="cannot be written"):
        save_params(small, tmp_path / "no" / "folder")
