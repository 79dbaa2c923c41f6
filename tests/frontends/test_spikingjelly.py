"""SpikingJelly: real models run there, exported by SpikingJelly, read and run here, spike for spike."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest

import nir_dynapse as nd
from frontend_models import SIZES, Draw, assert_active, assert_same, framework, input_spikes, read_back

torch = framework("torch")
layer = framework("spikingjelly.activation_based.layer")
neuron = framework("spikingjelly.activation_based.neuron")
functional = framework("spikingjelly.activation_based.functional")
exchange = framework("spikingjelly.activation_based.nir_exchange")
Sequential = torch.nn.Sequential

KINDS: dict[str, Callable[..., Any]] = {
    "IF": lambda **kw: neuron.IFNode(**kw),
    "LIF": lambda **kw: neuron.LIFNode(tau=3.7, **kw),
    "LIF, input not decayed": lambda **kw: neuron.LIFNode(tau=5.3, decay_input=False, **kw),
    "ParametricLIF": lambda **kw: neuron.ParametricLIFNode(init_tau=2.9, **kw),
    "ParametricLIF, input not decayed": lambda **kw: neuron.ParametricLIFNode(init_tau=2.9, decay_input=False, **kw),
    "CUBALIF": lambda **kw: neuron.CUBALIFNode(c_decay=0.6, v_decay=0.8, **kw),
}
DRIVE = {"LIF": 6.0, "ParametricLIF": 5.0, "ParametricLIF, input not decayed": 1.5, "CUBALIF": 0.5}


def linear(draw: Draw, n_in: int, n_out: int, drive: float = 1.0, bias: bool = True) -> Any:
    made = layer.Linear(n_in, n_out, bias=bias)
    made.weight.data = torch.from_numpy(draw.weight(n_out, n_in, drive))
    if bias:
        made.bias.data = torch.from_numpy(draw.between(-0.1, 0.1, n_out))
    return made


def stack(kind: str, sizes: tuple[int, ...], bias: bool = True, seed: int = 0, **values: Any) -> Any:
    draw, found = Draw(seed), []
    for n_in, n_out in pairwise(sizes):
        found += [linear(draw, n_in, n_out, DRIVE.get(kind, 1.0), bias), KINDS[kind](**values)]
    return Sequential(*found)


def run(net: Any, x: np.ndarray) -> dict[str, np.ndarray]:
    """Spikes (batch, time, n) of every neuron layer by the name that torch.fx gives it."""
    rows: dict[str, list[np.ndarray]] = {}
    hooks = []
    for name, module in net.named_modules():
        if isinstance(module, neuron.BaseNode):
            node = name.replace(".", "_")
            row = rows[f"_{node}" if node[0].isdigit() else node] = []
            hooks.append(module.register_forward_hook(lambda m, i, out, row=row: row.append(out.numpy().copy())))
    functional.reset_net(net)
    with torch.no_grad():
        for t in range(x.shape[1]):
            net(torch.from_numpy(x[:, t]))
    for hook in hooks:
        hook.remove()
    functional.reset_net(net)
    return {name: np.stack(row, 1) for name, row in rows.items()}


def exported(net: Any, *shape: int, **options: Any) -> nir.NIRGraph:
    return exchange.export_to_nir(net, torch.zeros(1, *shape), **options)


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_every_layer_spikes_as_in_spikingjelly(kind: str, sizes: tuple[int, ...], tmp_path: Path) -> None:
    values: dict[str, Any] = {"v_threshold": 0.9, "v_reset": -0.2} if sizes == SIZES[1] else {}
    net = stack(kind, sizes, bias=sizes != SIZES[0], **values)
    x = input_spikes(sizes[0])
    trains = run(net, x)
    read = read_back(exported(net, sizes[0]), tmp_path / "model.nir", "spikingjelly", dt=1e-3)
    assert read.dt == 1e-3
    assert_same(read, x, trains)


@pytest.mark.parametrize("dt", [None, 1e-4, 1e-3, 1 / 300, 7e-3])
@pytest.mark.parametrize("step", [None, 1e-3, 1 / 3000])
def test_the_real_length_of_a_step_does_not_matter(step: float | None, dt: float | None, tmp_path: Path) -> None:
    """Nor does the exporter's, where the gains tell it (of an IF, a CubaLIF or decay_input=False)."""
    draw, x = Draw(3), input_spikes(12, steps=100)
    net = Sequential(linear(draw, 12, 9, 3.0), KINDS["LIF"](), linear(draw, 9, 5), KINDS["IF"]())
    graph = exported(net, 12) if step is None else exported(net, 12, dt=step)
    read = read_back(graph, tmp_path / "model.nir", "spikingjelly", dt=dt)
    assert read.dt == pytest.approx(dt or step or 1e-4, rel=1e-12)
    assert_same(read, x, run(net, x))


def test_another_dt_of_the_exporter_that_no_gain_tells(tmp_path: Path) -> None:
    """It is asked for where it may be meant, and metadata["dt"] says it."""
    net, x = stack("LIF", SIZES[1]), input_spikes(12, steps=100)
    graph = exported(net, 12, dt=1e-3)
    read = read_back(graph, tmp_path / "model.nir", "spikingjelly", dt=1e-3)
    (asked,) = [f for f in read.findings if f.severity == "warning"]
    assert "37 steps" in asked.what
    assert "that is 3.7 steps" in asked.hint
    graph.metadata["dt"] = 1e-3
    read = read_back(graph, tmp_path / "model.nir", "spikingjelly", dt=5e-3)
    assert not [f for f in read.findings if f.severity == "warning"]
    assert_same(read, x, run(net, x))


@pytest.mark.parametrize("backend", ["numpy", "jax"])
@pytest.mark.parametrize("kind", ["IF", "LIF", "LIF, input not decayed", "CUBALIF"])
def test_a_threshold_that_is_met_exactly_fires(kind: str, backend: Any, tmp_path: Path) -> None:
    """Weights in eighths and decays in halves: float32 is exact, and many membranes meet their threshold."""
    rng = np.random.default_rng(1)
    low, high = {"LIF": (-3, 8), "CUBALIF": (-4, 5)}.get(kind, (-2, 5))
    make: dict[str, Callable[[], Any]] = {
        "IF": lambda: neuron.IFNode(),
        "LIF": lambda: neuron.LIFNode(tau=2.0),
        "LIF, input not decayed": lambda: neuron.LIFNode(tau=2.0, decay_input=False, v_threshold=0.5),
        "CUBALIF": lambda: neuron.CUBALIFNode(c_decay=0.5, v_decay=0.5),
    }
    net, x = Sequential(), input_spikes(12)
    for n_in, n_out in pairwise(SIZES[1]):
        fc = layer.Linear(n_in, n_out, bias=False)
        fc.weight.data = torch.from_numpy(rng.integers(low, high, (n_out, n_in)).astype(np.float32) / 8)
        net += Sequential(fc, make[kind]())
    trains, graph = run(net, x), exported(net, 12)
    read = read_back(graph, tmp_path / "model.nir", "spikingjelly", dt=1e-3)
    for network in (read, nd.from_nir(nd.to_nir(read))):
        found = nd.simulate(network, x, ideal=True, backend=backend).spikes
        assert_active(found)
        for name, train in trains.items():
            np.testing.assert_array_equal(found[name], train)
    strict = nd.simulate(nd.from_nir(tmp_path / "model.nir", dt=1e-4), x, ideal=True, backend=backend).spikes
    assert any((strict[name] != train).any() for name, train in trains.items())
    assert [f.code for f in read.findings if "v ≥ v_threshold" in f.what] == ["threshold"]


class Block(torch.nn.Module):
    def __init__(self, draw: Draw, n: int) -> None:
        super().__init__()
        self.fc = linear(draw, n, n, 1.5)
        self.lif = KINDS["LIF, input not decayed"]()

    def forward(self, x: Any) -> Any:
        return self.lif(self.fc(x))


class Residual(torch.nn.Module):
    """Nested modules, a sum around one of them, and a Sequential of them."""

    def __init__(self, draw: Draw, n_in: int, n: int, n_out: int) -> None:
        super().__init__()
        self.fc, self.lif = linear(draw, n_in, n, 3.0), KINDS["LIF"]()
        self.around = Block(draw, n)
        self.block = Sequential(Block(draw, n), Block(draw, n))
        self.out, self.fire = linear(draw, n, n_out), KINDS["IF"]()

    def forward(self, x: Any) -> Any:
        x = self.lif(self.fc(x))
        return self.fire(self.out(self.block(x + self.around(x))))


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_residual_and_nested(sizes: tuple[int, int, int], tmp_path: Path) -> None:
    net, x = Residual(Draw(4), *sizes), input_spikes(sizes[0])
    graph = exported(net, sizes[0])
    assert {"x", "around_lif", "block_0_lif", "block_1_lif"} <= set(graph.nodes)
    assert_same(read_back(graph, tmp_path / "model.nir", "spikingjelly", dt=1e-3), x, run(net, x))


@pytest.mark.parametrize("size", [4, 6, 8])
def test_convolutions_and_pools(size: int, tmp_path: Path) -> None:
    torch.manual_seed(size)
    net = Sequential(
        layer.Conv2d(2, 4, 3, padding=1, bias=size == 6),
        KINDS["IF"](),
        layer.AvgPool2d(2, 2),
        layer.Conv2d(4, 3, 2, stride=1),
        KINDS["CUBALIF"](),
        layer.Flatten(),
        layer.Linear(3 * (size // 2 - 1) ** 2, 5, bias=False),
        KINDS["LIF"](),
    )
    with torch.no_grad():
        for k, drive in ((0, 1.5), (3, 1.0), (6, 5.0)):
            net[k].weight.mul_(drive).add_(0.05)
    rng = np.random.default_rng(size)
    x = (rng.random((2, 100, 2, size, size)) < 0.2).astype(np.float32)
    graph = exported(net, 2, size, size)
    read = read_back(graph, tmp_path / "model.nir", "spikingjelly", dt=1e-3)
    assert_same(read, x, run(net, x))
    nir.write(tmp_path / "again.nir", nd.to_nir(read))
    again = nir.read(tmp_path / "again.nir").nodes["_2"]
    for key, value in (("kernel_size", [2, 2]), ("stride", [2, 2]), ("padding", [0, 0])):
        np.testing.assert_array_equal(getattr(again, key), value)
    assert nd.from_nir(tmp_path / "again.nir").digest() == read.digest()


def test_several_steps_in_one_call(tmp_path: Path) -> None:
    """step_mode="m" exports as step_mode="s" does."""
    net, x = stack("LIF", SIZES[1]), input_spikes(12)
    single = exported(net, 12)
    functional.set_step_mode(net, "m")
    graph = exchange.export_to_nir(net, torch.zeros(5, 1, 12))
    assert graph.nodes.keys() == single.nodes.keys()
    functional.reset_net(net)
    with torch.no_grad():
        train = net(torch.from_numpy(x.swapaxes(0, 1))).numpy().swapaxes(0, 1)
    read = read_back(graph, tmp_path / "model.nir", "spikingjelly", dt=1e-3)
    np.testing.assert_array_equal(nd.simulate(read, x, ideal=True).output, train)


@pytest.mark.parametrize("kind", ["IF", "LIF", "CUBALIF"])
def test_recurrence_by_hand(kind: str, tmp_path: Path) -> None:
    """Its exporter writes no cycle: edges are added to what it wrote, and spikes come back a step later."""
    draw = Draw(5)
    net = Sequential(linear(draw, 12, 20, DRIVE.get(kind, 1.0)), KINDS[kind](), linear(draw, 20, 5), KINDS["IF"]())
    back, x = draw.recurrent(20, 0.5), input_spikes(12)
    graph = exported(net, 12)
    graph.nodes["back"] = nir.Linear(back)
    graph.edges += [("_1", "back"), ("back", "_1")]
    trains: dict[str, list[Any]] = {"_1": [], "_3": []}
    with torch.no_grad():
        spikes = torch.zeros(len(x), 20)
        for t in range(x.shape[1]):
            spikes = net[1](net[0](torch.from_numpy(x[:, t])) + spikes @ torch.from_numpy(back).T)
            trains["_1"].append(spikes.numpy())
            trains["_3"].append(net[3](net[2](spikes)).numpy())
    read = read_back(graph, tmp_path / "model.nir", "spikingjelly", dt=1e-3)
    assert_same(read, x, {name: np.stack(rows, 1) for name, rows in trains.items()})


def test_what_its_exporter_refuses() -> None:
    """docs/frontends.md lists these."""
    fc, lif = layer.Linear(4, 3), neuron.LIFNode
    refused: list[tuple[Any, type[Exception]]] = [
        (lif(v_reset=None), NotImplementedError),
        (neuron.KLIFNode(), ValueError),
        (neuron.QIFNode(), torch.fx.proxy.TraceError),
        (layer.LinearRecurrentContainer(lif(), 3, 3), torch.fx.proxy.TraceError),
        (layer.ElementWiseRecurrentContainer(lif(), lambda x, y: x + y), ValueError),
        (Sequential(layer.Dropout(0.5), lif()), ValueError),
    ]
    for part, error in refused:
        with pytest.raises(error):
            exported(Sequential(fc, part), 4)
    for part, error in ((layer.MaxPool2d(2), ValueError), (layer.BatchNorm2d(2), torch.fx.proxy.TraceError)):
        with pytest.raises(error):
            exported(Sequential(layer.Conv2d(1, 2, 3), part, lif()), 1, 8, 8)
    with pytest.raises(NotImplementedError):
        exported(Sequential(layer.Conv2d(2, 2, 3, groups=2), lif()), 2, 8, 8)
