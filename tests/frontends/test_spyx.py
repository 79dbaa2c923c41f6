"""Spyx: real models run there, exported by Spyx, read and run here, spike for spike."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import jax
import nir
import numpy as np
import pytest

import nir_dynapse as nd
from frontend_models import (
    SIZES,
    Draw,
    assert_active,
    assert_same,
    assert_same_but_for_rounding,
    framework,
    input_spikes,
    read_back,
)

nnx = framework("flax.nnx")
snn = framework("spyx.nn")
spyx_nir = framework("spyx.nir")

KINDS = ["IF", "LIF", "CuBaLIF", "RIF", "RLIF", "RCuBaLIF"]
DRIVE = {"IF": 0.7, "LIF": 1.4, "CuBaLIF": 0.8}


def neurons(kind: str, n: int, draw: Draw, seed: int) -> Any:
    layer = getattr(snn, kind)((n,), threshold=1.1, rngs=nnx.Rngs(seed))
    for name, (low, high) in {"alpha": (0.3, 0.8), "beta": (0.6, 0.95)}.items():
        if hasattr(layer, name):
            getattr(layer, name)[...] = draw.between(low, high, n)
    if hasattr(layer, "recurrent_w"):
        layer.recurrent_w[...] = draw.recurrent(n, 0.3)
    return layer


def layers(kind: str, sizes: tuple[int, ...], seed: int = 0, bias: bool = True) -> list[Any]:
    draw, found = Draw(seed), []
    for n_in, n_out in pairwise(sizes):
        linear = nnx.Linear(n_in, n_out, use_bias=bias, rngs=nnx.Rngs(seed))
        linear.kernel[...] = draw.weight(n_out, n_in, DRIVE[kind.removeprefix("R")]).T
        if bias:
            linear.bias[...] = draw.between(-0.1, 0.1, n_out)
        found += [linear, neurons(kind, n_out, draw, seed)]
    return found


def node_name(kind: str, k: int) -> str:
    return f"layer_{k}.layer_{k}.lif" if kind.startswith("R") else f"layer_{k}"


def run(kind: str, model: list[Any], x: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Spikes of every layer and the membranes that it compared with its threshold (as the step before left them).

    Both are (batch, time, n), by the name that the exporter gives the layer.
    """
    linears, cells = model[::2], model[1::2]

    def step(states: list[Any], y: Any) -> tuple[list[Any], list[Any]]:
        after, rows = [], []
        for linear, cell, state in zip(linears, cells, states, strict=True):
            y, new = cell(linear(y), state)
            after.append(new)
            rows.append((y, state[..., : y.shape[-1]]))
        return after, rows

    _, rows = jax.lax.scan(step, [cell.initial_state(len(x)) for cell in cells], x.swapaxes(0, 1))
    names = [node_name(kind, 2 * k + 1) for k in range(len(cells))]
    trains, v = (
        {name: np.asarray(row[k]).swapaxes(0, 1) for name, row in zip(names, rows, strict=True)} for k in (0, 1)
    )
    return trains, v


def exported(model: list[Any], n_in: int, n_out: int, dt: float) -> nir.NIRGraph:
    return spyx_nir.to_nir(snn.Sequential(*model), {"input": np.array([n_in])}, {"output": np.array([n_out])}, dt=dt)


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_every_layer_spikes_as_in_spyx(kind: str, sizes: tuple[int, ...], tmp_path: Path) -> None:
    model = layers(kind, sizes, bias=sizes != SIZES[0])
    x = input_spikes(sizes[0])
    step = 1 if sizes != SIZES[2] else 1e-3  # the exporter's default, and seconds
    read = read_back(exported(model, sizes[0], sizes[-1], step), tmp_path / "model.nir", "spyx", dt=1e-3)
    assert read.dt == 1e-3
    trains, _ = run(kind, model, x)
    assert_same(read, x, trains)


@pytest.mark.parametrize("kind", ["LIF", "CuBaLIF", "RLIF", "RCuBaLIF"])
def test_only_rounding_at_the_threshold_can_differ(kind: str, tmp_path: Path) -> None:
    """float32 sums in another order can flip a membrane that is on the threshold, and nothing else does.

    Over several seeds, the first bin of a sample that differs (if any) has |v − threshold| below 1e-5 of the threshold
    in Spyx' own membrane, of the step before the spike.
    """
    flipped = 0
    for seed in range(10, 13):
        model = layers(kind, SIZES[1], seed)
        x = input_spikes(SIZES[1][0], seed)
        trains, v = run(kind, model, x)
        read = read_back(exported(model, 12, 7, 1), tmp_path / "model.nir", "spyx", dt=1e-3)
        flipped += assert_same_but_for_rounding(read, x, trains, v)
    assert flipped <= 3  # of 12 samples


def test_the_readout_is_not_exported(capsys: pytest.CaptureFixture[str]) -> None:
    """Spyx 1.0.0 says that it leaves an LI out, and goes on."""
    model = layers("LIF", SIZES[0])
    model[3] = snn.LI((3,), rngs=nnx.Rngs(0))
    assert "layer_3" not in exported(model, 4, 3, 1).nodes
    assert "not recognized" in capsys.readouterr().out


def test_the_emission_a_step_late_matters(tmp_path: Path) -> None:
    """Without it, the first layer is one step early."""
    model, x = layers("LIF", SIZES[1]), input_spikes(12)
    read = read_back(exported(model, 12, 7, 1), tmp_path / "model.nir", "spyx", dt=1e-3)
    early = nd.simulate(read.with_semantics(emission="same-step"), x, ideal=True).spikes["layer_1"]
    trains, _ = run("LIF", model, x)
    np.testing.assert_array_equal(early[:, :-1], trains["layer_1"][:, 1:])


# --- files of ours in Spyx -------------------------------------------------------------------------------------------


def ours(kind: str, recurrent: bool) -> nd.Network:
    draw, dt = Draw(7), 1e-3
    nodes: dict[str, Any] = {"input": nir.Input(input_type={"input": np.array([12])})}
    edges, before = [], "input"
    for name, n_in, n in (("l1", 12, 38), ("l2", 38, 7)):
        tau, syn = dt / (1 - draw.between(0.6, 0.95, n)), dt / (1 - draw.between(0.3, 0.8, n))
        rest = {"r": tau / dt, "v_leak": np.zeros(n), "v_threshold": draw.between(0.7, 1.3, n), "v_reset": np.zeros(n)}
        if kind == "CubaLIF":
            nodes[name] = nir.CubaLIF(tau_mem=tau, tau_syn=syn, w_in=syn / dt, **rest)
        else:
            nodes[name] = nir.LIF(tau=tau, **rest)
        nodes[f"fc_{name}"] = nir.Affine(
            weight=draw.weight(n, n_in, 1.4 if kind == "LIF" else 0.8), bias=draw.between(-0.1, 0.1, n)
        )
        edges += [(before, f"fc_{name}"), (f"fc_{name}", name)]
        if recurrent:
            nodes[f"{name}_rec"] = nir.Linear(weight=draw.recurrent(n, 0.3))
            edges += [(name, f"{name}_rec"), (f"{name}_rec", name)]
        before = name
    nodes["output"] = nir.Output(output_type={"output": np.array([7])})
    return nd.from_nir(nir.NIRGraph(nodes, [*edges, (before, "output")]), dt=dt)


@pytest.mark.parametrize("recurrent", [False, True])
@pytest.mark.parametrize("kind", ["LIF", "CubaLIF"])
def test_files_of_ours_run_the_same_in_spyx(kind: str, recurrent: bool, tmp_path: Path) -> None:
    """Spyx resets by subtraction and emits one step late, whatever the file says."""
    net, x = ours(kind, recurrent), input_spikes(12)
    nir.write(tmp_path / "ours.nir", nd.to_nir(net))
    _, out = spyx_nir.from_nir(nir.read(tmp_path / "ours.nir"), x.swapaxes(0, 1), dt=net.dt)
    as_spyx = net.with_semantics(reset="subtract-late" if kind == "LIF" else "subtract", emission="next-step")
    result = nd.simulate(as_spyx, x, ideal=True)
    assert_active(result.spikes)
    np.testing.assert_array_equal(result.output, np.asarray(out).swapaxes(0, 1))
