"""`PRIMITIVES`: how each NIR node is read and written, or why it is not.

One entry per class of nir 1.0.8. A spiking node becomes a `Population`, a linear one a `LinearMap` that is folded into
a projection, a node with a state but no threshold a part of the `Readout`, an Input or Output a port; a refused one says
why and what to use instead. A new primitive is one entry.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from types import SimpleNamespace
from typing import Any, Literal

import nir
import numpy as np

from nir_dynapse.network.delays import delay_shape, fold_delay
from nir_dynapse.network.linear import (
    LinearMap,
    Shape,
    as_array,
    conv_shape,
    fields_of,
    fold_conv,
    fold_identity,
    fold_matrix,
    fold_pool,
    fold_scale,
    make_node,
    matrix_shape,
    misfit,
    parameter,
    pool_shape,
    shown,
)
from nir_dynapse.network.network import LinearNode, Population
from nir_dynapse.network.neurons import NEURONS, elementwise, read_neuron

__all__ = [
    "PRIMITIVES",
    "LinearMap",
    "Primitive",
    "as_array",
    "flatten_shape",
    "fold_node",
    "graph",
    "linear_node",
    "nearest",
    "parameter",
    "port_shape",
    "primitive_of",
    "supported",
    "write_linear",
]

Verdict = Literal["native", "folded", "host", "port", "refused"]


@dataclass(frozen=True)
class Primitive:
    """One NIR class: what becomes of it, which fields it has, and the functions that read it.

    `fields` must be there, `optional` maps the others to the value that a missing one means; `whole` are those that are
    sizes and options, not parameters. `shape(node, name, incoming)` gives the node's input and output shape (None while
    unknown) from what is known to come in; `read(node, name, shape, seconds)` gives a `Population`, `seconds` being real
    seconds per time unit of the node; `fold(node, shape_in)` gives a `LinearMap`.
    """

    name: str
    verdict: Verdict
    meaning: str
    fields: tuple[str, ...] = ()
    optional: Mapping[str, Any] = field(default_factory=dict)
    whole: tuple[str, ...] = ()
    reason: str = ""
    alternative: str = ""
    shape: Callable[[Any, str, Shape | None], tuple[Shape | None, Shape | None]] | None = None
    read: Callable[[Any, str, Shape, float], Population] | None = None
    fold: Callable[[Any, Shape], LinearMap] | None = None


def primitive_of(node: Any) -> Primitive | None:
    """The table's entry for a node, by the name of its class or of the nearest base class; None if there is none."""
    for cls in type(node).__mro__:
        if cls.__name__ in PRIMITIVES:
            return PRIMITIVES[cls.__name__]
    return None


def supported() -> tuple[str, ...]:
    """Names of the primitives that are read today."""
    return tuple(name for name, entry in PRIMITIVES.items() if entry.verdict != "refused")


def nearest(kind: str) -> str:
    """A sentence that names the known types nearest to `kind` and all supported ones."""
    by_lower = {name.lower(): name for name in PRIMITIVES}
    close = [by_lower[match] for match in get_close_matches(kind.lower(), by_lower, n=3, cutoff=0.5)]
    guess = f"Did you mean {' or '.join(close)}? " if close else ""
    return f"{guess}Supported types: {', '.join(supported())}."


def graph(nodes: dict[str, Any], edges: list[tuple[str, str]], metadata: dict[str, Any] | None = None) -> nir.NIRGraph:
    """A `nir.NIRGraph` that is left as given: without nir's type check, which would add nodes or raise."""
    try:
        return nir.NIRGraph(nodes=nodes, edges=edges, metadata=metadata or {}, type_check=False)
    except TypeError:  # nir 1.0.4 has no such argument, and no such check
        return nir.NIRGraph(nodes=nodes, edges=edges, metadata=metadata or {})


# --- ports and Flatten -----------------------------------------------------------------------------------------------


def port_shape(node: Any, name: str) -> Shape | None:
    """Declared shape of an Input, Output or Flatten under whatever key the exporter chose; None if there is none.

    Raises `UnsupportedGraphError` for a shape that is not made of positive whole numbers.
    """
    output = isinstance(node, nir.Output)
    types = getattr(node, "output_type" if output else "input_type", None)
    if isinstance(types, Mapping):
        types = next(iter(types.values()), None)
    if types is None:
        return None
    raw = np.atleast_1d(as_array(types))
    if raw.dtype.kind not in "iuf" or raw.ndim != 1 or not np.all((raw >= 1) & (raw == np.floor(raw)) & (raw < 2**53)):
        raise misfit(name, f"its shape is {shown(raw)}.", "A shape is a list of whole numbers from 1 on.")
    return tuple(int(n) for n in raw)


def _port(node: Any, name: str, incoming: Shape | None) -> tuple[Shape | None, Shape | None]:
    shape = port_shape(node, name) or incoming
    return shape, shape


def flatten_shape(node: Any, name: str, incoming: Shape | None) -> tuple[Shape | None, Shape | None]:
    declared = port_shape(node, name)
    if incoming is None and declared is None:
        return None, None
    if incoming is not None and declared is not None and math.prod(incoming) != math.prod(declared):
        raise misfit(
            name,
            f"it is declared for shape {declared}, but shape {incoming} arrives.",
            "A Flatten must keep the number of elements: correct its input_type.",
        )
    shape: Any = incoming or declared or ()
    return shape, _flattened(node, name, shape)


def _flattened(node: Any, name: str, shape: Shape) -> Shape:
    """`shape` with the axes start_dim to end_dim as one; one axis where start_dim is that of an array with a batch."""
    ends = [parameter(node, key, default) for key, default in (("start_dim", 0), ("end_dim", -1))]
    flat = [np.ravel(end) for end in ends if end is not None]
    if any(end.size != 1 or end.dtype.kind not in "iuf" or not abs(end[0]) < 2**31 or end[0] % 1 for end in flat):
        raise misfit(name, "start_dim and end_dim must be whole numbers.", "Export the network again.")
    start, stop = (int(end[0]) for end in flat)
    start, stop = (end + len(shape) if end < 0 else end for end in (start, stop))
    if not 0 <= start <= stop < len(shape) or (start, stop) == (1, len(shape) - 1):
        return (math.prod(shape),)  # start_dim 1 is torch's default: all axes but the batch, which NIR has not
    return (*shape[:start], math.prod(shape[start : stop + 1]), *shape[stop + 1 :])


# --- linear nodes as they were read -----------------------------------------------------------------------------------


def linear_node(name: str, node: Any, shape_in: Shape, shape_out: Shape) -> LinearNode:
    """What a folded node held, so that it can be folded, or written, again."""
    entry = primitive_of(node)
    kind = "" if entry is None else entry.name
    keys = () if entry is None else (*entry.fields, *entry.optional)
    return LinearNode(name, kind, fields_of(node, keys), shape_in, shape_out)


def fold_node(node: LinearNode) -> LinearMap:
    """The map that a linear node stands for."""
    fold = PRIMITIVES[node.kind].fold
    return LinearMap() if fold is None else fold(SimpleNamespace(name=node.name, **node.fields), node.shape_in)


def write_linear(node: LinearNode, metadata: dict[str, Any] | None = None) -> Any:
    """The NIR node of a `LinearNode`, as nir can write it.

    A missing bias becomes zeros in a convolution, and an Affine without one a Linear; one number for all (of a pool's
    window, a bias or a scale), of which nir writes no file, becomes an array.
    """
    values: dict[str, Any] = {key: np.array(v) if isinstance(v, np.ndarray) else v for key, v in node.fields.items()}
    values |= _arrays(node)
    if node.kind == "Affine" and "bias" not in values:
        return make_node("Linear", metadata, **values)
    if node.kind in ("Conv1d", "Conv2d"):
        values.setdefault("bias", np.zeros(len(values["weight"])))
        for key, value in values.items():
            if key in ("stride", "padding", "dilation", "groups", "input_shape") and not isinstance(value, str):
                whole = tuple(int(v) for v in np.ravel(value))
                values[key] = whole[0] if len(whole) == 1 else whole
        size = node.shape_in[1:] if len(node.shape_in) > 1 else node.shape_in
        values["input_shape"] = math.prod(size) if node.kind == "Conv1d" else tuple(int(v) for v in size)
    if node.kind == "Flatten":
        start, stop = (int(np.ravel(values.get(key, end))[0]) for key, end in (("start_dim", 0), ("end_dim", -1)))
        n, axes = len(node.shape_in), {"input": np.array(node.shape_in)}
        first, last = (end + n if end < 0 else end for end in (start, stop))
        own = 0 <= first <= last < n and len(node.shape_out) == n - (last - first)
        start, stop = (start, stop) if own else (0, -1)  # NIR counts no batch axis
        return make_node("Flatten", metadata, input_type=axes, start_dim=start, end_dim=stop)
    return make_node(node.kind, metadata, **values)


def _arrays(node: LinearNode) -> dict[str, np.ndarray]:
    """Fields of a node that hold one number for all, as arrays of all."""
    found = {}
    if node.kind in ("SumPool2d", "AvgPool2d"):
        window = {**node.fields, "padding": node.fields.get("padding", np.zeros(1))}
        window["stride"] = node.fields.get("stride", node.fields["kernel_size"])
        found = {key: np.array(np.broadcast_to(np.ravel(window[key]), (2,)), int) for key in _POOL}
    for key, value in node.fields.items():
        if key in ("scale", "delay", "bias") and np.size(value) == 1:
            shape = (len(node.fields["weight"]),) if key == "bias" else node.shape_in
            found[key] = np.full(shape, np.ravel(value)[0])
    return found


# --- the table -------------------------------------------------------------------------------------------------------


def _neuron(name: str, meaning: str, verdict: Verdict = "native", reason: str = "", alternative: str = "") -> Primitive:
    fields: Mapping[str, Any] = NEURONS[name]
    return Primitive(
        name,
        verdict,
        meaning,
        fields=tuple(key for key, default in fields.items() if default is None),
        optional={key: default for key, default in fields.items() if default is not None},
        reason=reason,
        alternative=alternative,
        shape=elementwise(fields),
        read=read_neuron(name),  # pyright: ignore[reportArgumentType]
    )


def _folded(name: str, meaning: str, shape, fold, *fields: str, whole: tuple[str, ...] = (), **optional: Any):
    required = tuple(key for key in fields if key not in optional)
    return Primitive(name, "folded", meaning, required, optional, whole, shape=shape, fold=fold)


_CONV = ("weight", "stride", "padding", "dilation", "groups")
_SIZES = ("input_shape", "stride", "padding", "dilation", "groups", "kernel_size")
_FLAT = ("input_type", "start_dim", "end_dim")
_POOL = ("kernel_size", "stride", "padding")
_CONV_MEANING = "a sliding window (stride, padding, dilation, groups) as sparse synapses"
_HOST = "it does not spike, so nothing of it can be on the chip but what comes before the spikes"
_HOST_USE = "Behind the last spiking node the host computes it; between spiking nodes use a LIF or CubaLIF."

PRIMITIVES: dict[str, Primitive] = {
    entry.name: entry
    for entry in (
        Primitive("Input", "port", "where events enter", optional={"shape": None}, whole=("shape",), shape=_port),
        Primitive("Output", "port", "what is read out", optional={"shape": None}, whole=("shape",), shape=_port),
        Primitive("NIRGraph", "port", "a nested graph: its nodes become outer.inner, its ports wires"),
        _folded("Linear", "y = W·x", matrix_shape, fold_matrix, "weight"),
        _folded("Affine", "y = W·x + b", matrix_shape, fold_matrix, "weight", bias=None),
        _folded("Scale", "y = s·x, from nir.Scale(s)", elementwise({"scale": None}), fold_scale, "scale"),
        _folded(
            "Conv1d", _CONV_MEANING, conv_shape(1), fold_conv(1), *_CONV, whole=_SIZES, input_shape=None, bias=None
        ),
        _folded(
            "Conv2d", _CONV_MEANING, conv_shape(2), fold_conv(2), *_CONV, whole=_SIZES, input_shape=None, bias=None
        ),
        _folded("SumPool2d", "sum of a window", pool_shape, fold_pool(False), *_POOL, whole=_SIZES),
        _folded("AvgPool2d", "mean of a window, padding counted", pool_shape, fold_pool(True), *_POOL, whole=_SIZES),
        _folded(
            "Flatten",
            "y = x as a flat list, from nir.Flatten(input_type, start_dim, end_dim)",
            flatten_shape,
            fold_identity,
            whole=_FLAT,
            input_type=None,
            start_dim=1,
            end_dim=-1,
        ),
        _folded(
            "Delay",
            "y(t) = x(t − delay): synapses that are late; on the chip two delays per core, the nearest ones",
            delay_shape,
            fold_delay,
            "delay",
        ),
        _neuron("LIF", "τ·dv/dt = (v_leak − v) + r·I; a spike at v > v_threshold resets v"),
        _neuron("CubaLIF", "LIF whose input current decays: τ_syn·dI/dt = −I + w_in·S"),
        _neuron("IF", "dv/dt = r·I with threshold and reset; on the chip with the longest τ that it reaches"),
        _neuron("Threshold", "a spike where the input of a step > threshold: a LIF that forgets after every step"),
        _neuron("LI", "τ·dv/dt = (v_leak − v) + r·I, computed by the host behind the spikes", "host", _HOST, _HOST_USE),
        _neuron("CubaLI", "LI whose input current decays, computed by the host", "host", _HOST, _HOST_USE),
        _neuron("I", "dv/dt = r·I, computed by the host", "host", _HOST, _HOST_USE),
    )
}
"""Every primitive of nir 1.0.8 by class name; `nir-dynapse show primitives` prints it."""
