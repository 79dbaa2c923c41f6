"""snnTorch: real models run there, exported by snnTorch, read and run here, spike for spike; and the other way."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest

import nir_dynapse as nd
from frontend_models import (
    SIZES,
    STEPS,
    Draw,
    assert_same,
    assert_same_but_for_rounding,
    framework,
    input_spikes,
    read_back,
)

torch = framework("torch")
snn = framework("snntorch")
export_to_nir = framework("snntorch.export_nir").export_to_nir
import_from_nir = framework("snntorch.import_nir").import_from_nir

pytestmark = pytest.mark.filterwarnings("ignore:nirtorch.extract_nir_graph is being deprecated:DeprecationWarning")

KINDS = ["Leaky", "Synaptic", "RLeaky", "RSynaptic"]
DRIVE = {"Leaky": 1.6, "Synaptic": 0.8, "RLeaky": 1.6, "RSynaptic": 0.8}


def neurons(kind: str, shape: tuple[int, ...], draw: Draw, **options: Any) -> Any:
    """A layer with beta, threshold (and alpha) of each neuron."""
    n = int(np.prod(shape))
    values = {"beta": draw.between(0.6, 0.95, *shape), "threshold": draw.between(0.7, 1.3, *shape)}
    if "Synaptic" in kind:
        values["alpha"] = draw.between(0.3, 0.8, *shape)
    if kind.startswith("R") and options.get("all_to_all", True):
        options["linear_features"] = n
    elif kind.startswith("R"):
        options["V"] = torch.tensor(draw.between(-0.5, 0.5, n))
    values = {key: torch.tensor(value) for key, value in values.items()}
    layer = getattr(snn, kind)(init_hidden=True, **values, **options)
    if kind.startswith("R") and options.get("all_to_all", True):
        layer.recurrent.weight.data = torch.tensor(draw.recurrent(n, 0.3))
        layer.recurrent.bias.data = torch.tensor(draw.between(-0.05, 0.05, n))
    return layer


def linear(n_in: int, n_out: int, draw: Draw, drive: float, bias: bool) -> Any:
    layer = torch.nn.Linear(n_in, n_out, bias=bias)
    layer.weight.data = torch.tensor(draw.weight(n_out, n_in, drive))
    if bias:
        layer.bias.data = torch.tensor(draw.between(-0.1, 0.1, n_out))
    return layer


def stack(kind: str, sizes: tuple[int, ...], seed: int = 0, bias: bool = True, **options: Any) -> Any:
    draw, layers = Draw(seed), []
    for n_in, n_out in pairwise(sizes):
        layers += [linear(n_in, n_out, draw, DRIVE[kind], bias), neurons(kind, (n_out,), draw, **options)]
    return torch.nn.Sequential(*layers)


def run(net: Any, x: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Spikes and membranes (batch, time, ...) of every layer, by the name that the exporter gives it."""
    layers = {}
    for name, layer in net.named_children():
        if hasattr(layer, "reset_mem"):
            layer.reset_mem()
            layers[f"{name}.lif" if hasattr(layer, "recurrent") else name] = layer
    rows: dict[str, list[Any]] = {name: [] for name in layers}
    hooks = [
        layer.register_forward_hook(
            lambda layer, _, spikes, to=rows[name]: to.append((spikes.clone(), layer.mem.clone()))
        )
        for name, layer in layers.items()
    ]
    with torch.no_grad():
        for t in range(x.shape[1]):
            net(torch.tensor(x[:, t]))
    for hook in hooks:
        hook.remove()
    spikes, v = (
        {name: torch.stack([row[k] for row in kept], 1).numpy() for name, kept in rows.items()} for k in (0, 1)
    )
    return spikes, v


def exported(net: Any, *shape: int) -> nir.NIRGraph:
    return export_to_nir(net, torch.zeros(1, *shape), ignore_dims=[0])


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_every_layer_spikes_as_in_snntorch(kind: str, sizes: tuple[int, ...], tmp_path: Path) -> None:
    net = stack(kind, sizes, bias=sizes != SIZES[0])
    x = input_spikes(sizes[0])
    trains, _ = run(net, x)
    read = read_back(exported(net, sizes[0]), tmp_path / "model.nir", "snntorch", dt=1e-3)
    assert {p.reset for p in read.populations} == {"subtract-late"}
    assert_same(read, x, trains)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("made", "told"),
    [
        ({"reset_mechanism": "zero"}, {"reset": "value"}),
        ({"reset_delay": False}, {"reset_delay": False}),
        ({"reset_mechanism": "zero", "reset_delay": False}, {"reset": "value", "reset_delay": False}),
    ],
    ids=["zero", "at once", "zero at once"],
)
def test_other_resets(kind: str, made: dict[str, Any], told: dict[str, Any], tmp_path: Path) -> None:
    net = stack(kind, SIZES[1], seed=1, **made)
    x = input_spikes(SIZES[1][0])
    if kind == "RSynaptic" and "reset_delay" in made:
        # snnTorch 1.0.0: RSynaptic.forward reads the local `spk` where it means `self.spk`.
        with pytest.raises(TypeError, match="unsupported operand"):
            run(net, x)
        return
    trains, _ = run(net, x)
    assert_same(read_back(exported(net, SIZES[1][0]), tmp_path / "model.nir", "snntorch", dt=1e-3, **told), x, trains)


@pytest.mark.parametrize("kind", ["RLeaky", "RSynaptic"])
def test_one_to_one_recurrence(kind: str, tmp_path: Path) -> None:
    net = stack(kind, SIZES[1], all_to_all=False)
    x = input_spikes(SIZES[1][0])
    trains, _ = run(net, x)
    read = read_back(exported(net, SIZES[1][0]), tmp_path / "model.nir", "snntorch", dt=1e-3)
    assert_same(read, x, trains)
    assert all(len(q.weight) == read[q.target].size for q in read.projections if q.source == q.target)


@pytest.mark.parametrize("kind", ["RLeaky", "RSynaptic"])
def test_scalar_parameters_of_recurrent_layers(kind: str, tmp_path: Path) -> None:
    """The exporter repeats them for each neuron."""
    net = stack(kind, SIZES[1])
    for layer in (net[1], net[3]):
        layer.beta, layer.threshold = torch.tensor(0.85), torch.tensor(1.1)
        if kind == "RSynaptic":
            layer.alpha = torch.tensor(0.6)
    x = input_spikes(SIZES[1][0])
    trains, _ = run(net, x)
    assert_same(read_back(exported(net, SIZES[1][0]), tmp_path / "model.nir", "snntorch", dt=1e-3), x, trains)


def test_convolution_and_pooling(tmp_path: Path) -> None:
    draw = Draw(3)
    conv = torch.nn.Conv2d(2, 4, 3, padding=1, stride=1)
    conv.weight.data = torch.tensor(draw.weight(4, 18, 1.0).reshape(4, 2, 3, 3))
    conv.bias.data = torch.tensor(draw.between(-0.1, 0.1, 4))
    net = torch.nn.Sequential(
        conv,
        neurons("Leaky", (4, 8, 8), draw),
        torch.nn.AvgPool2d(2),
        torch.nn.Flatten(),
        linear(64, 10, draw, 1.0, True),
        neurons("Synaptic", (10,), draw),
    )
    x = input_spikes(2 * 8 * 8).reshape(4, STEPS, 2, 8, 8)
    trains, _ = run(net, x)
    assert_same(read_back(exported(net, 2, 8, 8), tmp_path / "model.nir", "snntorch", dt=1e-3), x, trains)


def test_parameters_per_channel_are_broadcast_as_in_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """snnTorch runs and exports (C, 1, 1); nir's type check alone would not let it pass."""
    monkeypatch.setattr(nir.NIRGraph, "infer_types", lambda graph: None)
    draw = Draw(5)
    conv = torch.nn.Conv2d(2, 8, 3, padding=1)
    conv.weight.data = torch.tensor(draw.weight(8, 18, 1.0).reshape(8, 2, 3, 3))
    net = torch.nn.Sequential(conv, neurons("Leaky", (8, 1, 1), draw))
    x = input_spikes(2 * 6 * 6).reshape(4, STEPS, 2, 6, 6)
    trains, _ = run(net, x)
    read = nd.from_nir(exported(net, 2, 6, 6), frontend="snntorch", dt=1e-3)
    assert read["1"].shape == (8, 6, 6)
    assert any("shape (8, 1, 1) was broadcast to the (8, 6, 6)" in f.what for f in read.findings)
    assert_same(read, x, trains)


class Twice(torch.nn.Module):
    """One neuron layer, called a second time behind a matrix."""

    def __init__(self) -> None:
        super().__init__()
        draw = Draw(6)
        self.fc1, self.fc2, self.fc3 = (linear(n, 5, draw, 1.6, True) for n in (6, 5, 5))
        self.lif1, self.lif2 = neurons("Leaky", (5,), draw), neurons("Leaky", (5,), draw)

    def forward(self, x: Any) -> Any:
        return self.lif2(self.fc3(self.lif1(self.fc2(self.lif1(self.fc1(x))))))


def test_a_module_that_is_used_twice_is_a_warning() -> None:
    """The exporter merges both uses into one node: a cycle, which no file tells from recurrence."""
    (found,) = [
        f for f in nd.from_nir(exported(Twice(), 6), frontend="snntorch", dt=1e-3).findings if f.severity == "warning"
    ]
    assert found.code == "recurrence"
    assert "'fc2', 'lif1'" in found.what
    assert "copy.deepcopy" in found.hint
    recurrent = nd.from_nir(exported(stack("RLeaky", SIZES[1]), SIZES[1][0]), frontend="snntorch", dt=1e-3)
    assert not [f for f in recurrent.findings if f.severity == "warning"]


@pytest.mark.parametrize("kind", KINDS)
def test_only_rounding_at_the_threshold_can_differ(kind: str, tmp_path: Path) -> None:
    """float32 sums in another order can flip a membrane that is on the threshold, and nothing else does.

    Over several seeds, the first bin of a sample that differs (if any) has |v − threshold| below 1e-5 of the threshold
    in snnTorch's own membrane.
    """
    flipped = 0
    for seed in range(10, 16):
        net = stack(kind, SIZES[1], seed)
        x = input_spikes(SIZES[1][0], seed, steps=300)
        trains, v = run(net, x)
        read = read_back(exported(net, SIZES[1][0]), tmp_path / "model.nir", "snntorch", dt=1e-3)
        flipped += assert_same_but_for_rounding(read, x, trains, v)
    assert flipped <= 3  # of 24 samples


def test_scalar_parameters_cannot_be_exported() -> None:
    """snnTorch 1.0.0 writes 0-d parameters beside a matrix, which nir refuses (NIR issue 176)."""
    net = torch.nn.Sequential(torch.nn.Linear(4, 3), snn.Leaky(beta=0.9, init_hidden=True))
    with pytest.raises(ValueError, match="type"):
        exported(net, 4)


# --- files of ours in snnTorch ---------------------------------------------------------------------------------------


def ours(kind: str, recurrent: bool, dt: float = 1e-4) -> nd.Network:
    """A Network with gains of 1 per step of `dt`, whose thresholds are the same within a layer: what snnTorch imports."""
    draw = Draw(7)
    nodes: dict[str, Any] = {"input": nir.Input(input_type={"input": np.array([12])})}
    edges, before = [], "input"
    for name, n_in, n in (("l1", 12, 38), ("l2", 38, 7)):
        tau, flat = dt / (1 - draw.between(0.6, 0.9, n)), np.ones(n)
        rest = {"r": tau / dt, "v_leak": 0 * flat, "v_threshold": 1.2 * flat, "v_reset": 0 * flat}
        if kind == "CubaLIF":
            syn = dt / (1 - draw.between(0.3, 0.7, n))
            nodes[name] = nir.CubaLIF(tau_mem=tau, tau_syn=syn, w_in=syn / dt, **rest)
        else:
            nodes[name] = nir.LIF(tau=tau, **rest)
        drive = 1.6 if kind == "LIF" else 0.8
        nodes[f"fc_{name}"] = nir.Affine(weight=draw.weight(n, n_in, drive), bias=draw.between(-0.1, 0.1, n))
        edges += [(before, f"fc_{name}"), (f"fc_{name}", name)]
        if recurrent:
            nodes[f"{name}.w_rec"] = nir.Linear(weight=draw.recurrent(n, 0.3))
            edges += [(name, f"{name}.w_rec"), (f"{name}.w_rec", name)]
        before = name
    nodes["output"] = nir.Output(output_type={"output": np.array([7])})
    return nd.from_nir(nir.NIRGraph(nodes, [*edges, (before, "output")]), dt=dt, time_scale=10)


def run_imported(model: Any, x: np.ndarray) -> dict[str, np.ndarray]:
    rows: dict[str, list[Any]] = {"l1": [], "l2": []}
    for name, to in rows.items():
        model.get_submodule(name).register_forward_hook(lambda _, __, spikes, to=to: to.append(spikes.clone()))
    with torch.no_grad():
        for t in range(x.shape[1]):
            model(torch.tensor(x[:, t]))
    return {name: torch.stack(kept, 1).numpy() for name, kept in rows.items()}


def opened(net: nd.Network, path: Path) -> nir.NIRGraph:
    nir.write(path, nd.to_nir(net))
    return nir.read(path)


@pytest.mark.parametrize("kind", ["LIF", "CubaLIF"])
def test_files_of_ours_run_the_same_in_snntorch(kind: str, tmp_path: Path) -> None:
    """snnTorch's importer resets to zero in the step of the spike, which is what NIR says.

    It has a fixed step of 1e-4 s, so that time constants must be written for that step: time_scale=0.1 here.
    """
    net = ours(kind, recurrent=False)
    assert net.dt == pytest.approx(1e-3)
    as_snntorch = nd.from_nir(nd.to_nir(net), dt=1e-3, time_scale=0.1)
    x = input_spikes(12)
    trains = run_imported(import_from_nir(opened(as_snntorch, tmp_path / "ours.nir")), x)
    assert_same(net, x, trains)


def test_snntorch_has_its_own_step(tmp_path: Path) -> None:
    """At gains for another step than 1e-4 s it refuses a CubaLIF (a LIF it steps at 1e-4 s, which is another model)."""
    with pytest.raises(AssertionError, match="r not supported in CubaLIF"):
        import_from_nir(opened(ours("CubaLIF", recurrent=False), tmp_path / "cuba.nir"))


@pytest.mark.parametrize("kind", ["LIF", "CubaLIF"])
def test_snntorch_cannot_import_recurrence(kind: str, tmp_path: Path) -> None:
    """snnTorch 1.0.0 with nirtorch 2.6: the subgraph that it makes reaches nirtorch as a GraphModule, without `.items`."""
    model = opened(nd.from_nir(nd.to_nir(ours(kind, True)), dt=1e-3, time_scale=0.1), tmp_path / "recurrent.nir")
    with pytest.raises(AttributeError, match="'GraphModule' object has no attribute 'items'"):
        run_imported(import_from_nir(model), input_spikes(12))
