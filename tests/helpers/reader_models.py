"""Networks to write for other readers of NIR files, and each reader's own importer run on what was written."""

from __future__ import annotations

import contextlib
import io
import logging
from itertools import pairwise
from pathlib import Path
from typing import Any

import nir
import numpy as np

import nir_dynapse as nd
from frontend_models import Draw, framework
from nir_dynapse.backend import written_for

DT = 1e-3
DRIVE = {"LIF": 8.0, "CubaLIF": 1.4, "IF": 0.8, "Threshold": 3.0}
"""Size of the summed input: a LIF here has r = 2, and τ between 4 and 20 ms."""


def neuron(kind: str, n: int | tuple[int, ...], draw: Draw, one: bool = False, **values: Any) -> Any:
    """A node of `n` neurons (or of a shape); `one`: the same time constants in all of them, as SpikingJelly takes them."""
    shape = (n,) if isinstance(n, int) else n
    tau, syn, theta = (draw.between(low, high, *shape) for low, high in ((4e-3, 2e-2), (3e-3, 1e-2), (0.7, 1.3)))
    if one:
        tau, syn = np.full(shape, 12e-3), np.full(shape, 5e-3)
    fields = {"v_threshold": theta, "v_reset": np.zeros(shape)}
    if kind == "Threshold":
        return nir.Threshold(threshold=theta)
    if kind == "IF":
        return nir.IF(**{"r": np.full(shape, 1 / DT), **fields, **values})
    fields |= {"v_leak": np.zeros(shape), "r": np.full(shape, 2.0)}
    if kind == "LIF":
        return nir.LIF(**{"tau": tau, **fields, **values})
    return nir.CubaLIF(**{"tau_mem": tau, "tau_syn": syn, "w_in": syn / DT / 2, **fields, **values})


def matrix(n: int, n_in: int, draw: Draw, drive: float, bias: bool = False) -> Any:
    weight = draw.weight(n, n_in, drive)
    return nir.Affine(weight, draw.between(-0.1, 0.1, n) * drive / 2) if bias else nir.Linear(weight)


def port(n: Any, out: bool = False) -> Any:
    shape = np.ravel(n)
    return nir.Output(output_type={"output": shape}) if out else nir.Input(input_type={"input": shape})


def read(nodes: dict[str, Any], edges: list[tuple[str, str]]) -> nd.Network:
    return nd.from_nir(nir.NIRGraph(nodes, edges), dt=DT)


def layers(
    kind: str, recurrent: bool = False, bias: bool = False, seed: int = 0, one: bool = False, **values: Any
) -> nd.Network:
    """12 inputs, 38 and 7 neurons."""
    draw = Draw(seed)
    nodes: dict[str, Any] = {"input": port(12)}
    edges, before = [], "input"
    for name, n_in, n in (("l1", 12, 38), ("l2", 38, 7)):
        nodes[f"fc_{name}"] = matrix(n, n_in, draw, DRIVE[kind], bias)
        nodes[name] = neuron(kind, n, draw, one, **{key: make(n, draw) for key, make in values.items()})
        edges += [(before, f"fc_{name}"), (f"fc_{name}", name)]
        if recurrent:
            weight = draw.recurrent(n, DRIVE[kind] / 3)
            offset = draw.between(-0.1, 0.1, n) * DRIVE[kind]
            nodes[f"{name}_rec"] = nir.Affine(weight, offset) if bias else nir.Linear(weight)
            edges += [(name, f"{name}_rec"), (f"{name}_rec", name)]
        before = name
    nodes["output"] = port(7, out=True)
    return read(nodes, [*edges, (before, "output")])


def skip(kind: str = "LIF", one: bool = False) -> nd.Network:
    """Layers with connections past one of them, one of them a plain edge, and two linear nodes in a row."""
    draw = Draw(3)
    nodes = {"in": port(12), "fc1": matrix(20, 12, draw, DRIVE[kind]), "l1": neuron(kind, 20, draw, one)}
    nodes |= {"fc2": matrix(12, 20, draw, DRIVE[kind]), "l2": neuron(kind, 12, draw, one)}
    nodes |= {"fc3": matrix(7, 12, draw, DRIVE[kind]), "l3": neuron(kind, 7, draw, one)}
    nodes |= {"past1": matrix(9, 12, draw, 1.0), "past2": matrix(7, 9, draw, DRIVE[kind] / 2), "out": port(7, out=True)}
    edges = [("in", "fc1"), ("fc1", "l1"), ("l1", "fc2"), ("fc2", "l2"), ("l2", "fc3"), ("fc3", "l3"), ("l3", "out")]
    edges += [("in", "past1"), ("past1", "past2"), ("past2", "l3"), ("in", "l2")]
    return read(nodes, edges)


def loop(kind: str = "CubaLIF", one: bool = False) -> nd.Network:
    """Two populations that excite and inhibit each other, both fed by the input; named against the alphabet."""
    draw, drive = Draw(4), DRIVE[kind]
    nodes = {"x": port(12), "w1": matrix(20, 12, draw, drive), "z": neuron(kind, 20, draw, one)}
    nodes |= {"w2": matrix(9, 12, draw, drive / 2), "a": neuron(kind, 9, draw, one), "y": port(9, out=True)}
    nodes |= {"there": matrix(9, 20, draw, drive / 2), "back": nir.Linear(-np.abs(draw.weight(20, 9, drive / 3)))}
    edges = [("x", "w1"), ("w1", "z"), ("x", "w2"), ("w2", "a"), ("z", "there"), ("there", "a"), ("a", "back")]
    return read(nodes, [*edges, ("back", "z"), ("a", "y")])


def convolution(kind: str = "LIF", pool: str = "SumPool2d", one: bool = False) -> nd.Network:
    draw, drive = Draw(5), DRIVE[kind]
    weight = draw.weight(4, 18, drive).reshape(4, 2, 3, 3)
    conv = nir.Conv2d((8, 8), weight, 1, 1, 1, 1, draw.between(-0.1, 0.1, 4))
    same = {"v_threshold": np.ones((4, 8, 8))}
    pooled = getattr(nir, pool)(kernel_size=np.array([2, 2]), stride=np.array([2, 2]), padding=np.array([0, 0]))
    nodes = {"input": port((2, 8, 8)), "conv": conv, "l1": neuron(kind, (4, 8, 8), draw, one, **same), "pool": pooled}
    nodes |= {"flat": nir.Flatten({"input": np.array([4, 4, 4])}, 0, -1), "fc": matrix(10, 64, draw, drive / 2)}
    nodes |= {"l2": neuron(kind, 10, draw, one), "output": port(10, out=True)}
    names = list(nodes)
    return read(nodes, list(pairwise(names)))


def several_ports(kind: str = "LIF", one: bool = False) -> nd.Network:
    """Two inputs and two outputs, one of them a sum of spikes, names with characters that torch refuses."""
    draw, drive = Draw(6), DRIVE[kind]
    nodes = {
        "left.in": port(5),
        "right.in": port(7),
        "fc.1": matrix(20, 5, draw, drive),
        "fc_1": matrix(20, 7, draw, drive),
    }
    nodes |= {"train": neuron(kind, 20, draw, one), "sum": matrix(3, 20, draw, 1.0, bias=True)}
    nodes |= {"spikes": port(20, out=True), "values": port(3, out=True)}
    edges = [("left.in", "fc.1"), ("right.in", "fc_1"), ("fc.1", "train"), ("fc_1", "train"), ("train", "spikes")]
    return read(nodes, [*edges, ("train", "sum"), ("sum", "values")])


# --- the readers -----------------------------------------------------------------------------------------------------


def quiet(call: Any, *args: Any, **options: Any) -> Any:
    """What `call` returns, without what it prints and logs."""
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            return call(*args, **options)
    finally:
        logging.disable(logging.NOTSET)


def stepped(model: Any, x: np.ndarray) -> np.ndarray:
    """A torch module called bin by bin, its state handed on."""
    torch = framework("torch")
    rows, state = [], None
    with torch.no_grad():
        for t in range(x.shape[1]):
            out, state = model(torch.tensor(x[:, t]), state)
            rows.append(out.clone())
    return torch.stack(rows, 1).double().numpy()


def imported(reader: str, path: Path, dt: float, batch: int) -> Any:
    """The reader's own model of a file."""
    if reader == "norse":
        return quiet(framework("norse.torch").from_nir, nir.read(path), dt=dt)
    if reader == "snntorch":
        return quiet(framework("snntorch.import_nir").import_from_nir, nir.read(path))
    if reader == "spikingjelly":
        return quiet(framework("spikingjelly.activation_based.nir_exchange").import_from_nir, path, dt=dt)
    return quiet(framework("sinabs.nir").from_nir, nir.read(path), batch_size=batch)


def run(reader: str, path: Path, x: np.ndarray, dt: float = DT, change: Any = None) -> np.ndarray:
    """What `reader` makes of the file and events (batch, time, …): its output (batch, time, n).

    `change(model)` sets what a file cannot say.
    """
    if reader == "spyx":
        _, out = quiet(framework("spyx.nir").from_nir, nir.read(path), x.swapaxes(0, 1), dt=dt)
        return np.asarray(out, float).swapaxes(0, 1)
    model = imported(reader, path, dt, len(x))
    if change is not None:
        change(model)
    return stepped(model, x)


def write(network: nd.Network, reader: str, path: Path) -> tuple[Any, ...]:
    """Write `network` for `reader`; the findings."""
    graph, findings = written_for(network, reader)
    nir.write(path, graph)
    return findings


def shaped(network: nd.Network, path: Path, x: np.ndarray) -> np.ndarray:
    """Flat events (batch, time, n) with the axes of the file's input."""
    nodes = nir.read(path).nodes.values()
    (shape,) = (next(iter(node.input_type.values())) for node in nodes if isinstance(node, nir.Input))
    return x.reshape(*x.shape[:2], *(int(n) for n in shape))


def ideal(network: nd.Network, x: np.ndarray) -> np.ndarray:
    """The outputs of an ideal run side by side, (batch, time, n)."""
    result = nd.simulate(network, x, ideal=True)
    return np.concatenate([np.asarray(result.of(port.name), float) for port in network.outputs], -1)
