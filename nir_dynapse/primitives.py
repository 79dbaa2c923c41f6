"""`PRIMITIVES`: how each NIR node is read and written, or why it is not.

One entry per class of nir 1.0.8. A spiking node becomes a `Population`, a linear one a `LinearMap` that is folded into
a projection, an Input or Output a port; a refused one says why and what to use instead. A new primitive is one entry.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Literal

import nir
import numpy as np

from nir_dynapse.errors import Finding, UnsupportedGraphError
from nir_dynapse.network import Population

__all__ = ["PRIMITIVES", "LinearMap", "Primitive", "as_array", "graph", "nearest", "primitive_of", "supported"]

Shape = tuple[int, ...]
Verdict = Literal["native", "folded", "port", "refused"]


@dataclass(frozen=True)
class LinearMap:
    """y = matrix·x + bias on flat features: matrix (out, in), None for the identity; bias (out,) or None."""

    matrix: np.ndarray | None = None
    bias: np.ndarray | None = None


@dataclass(frozen=True)
class Primitive:
    """One NIR class: what becomes of it, which fields it has, and the functions that read and write it.

    `fields` must be there, `optional` maps the others to the value that a missing one means. `shape(node, name,
    incoming)` gives the node's input and output shape (None while unknown) from what is known to come in; `read(node,
    name, shape, seconds)` gives a `Population`, `seconds` being real seconds per time unit of the node; `fold(node,
    shape_in)` gives a `LinearMap`; `write` makes the NIR node from a `Population`, or from a matrix and a bias.
    """

    name: str
    verdict: Verdict
    meaning: str
    fields: tuple[str, ...] = ()
    optional: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""
    alternative: str = ""
    shape: Callable[[Any, str, Shape | None], tuple[Shape | None, Shape | None]] | None = None
    read: Callable[[Any, str, Shape, float], Population] | None = None
    fold: Callable[[Any, Shape], LinearMap] | None = None
    write: Callable[..., Any] | None = None


def as_array(value: Any) -> np.ndarray:
    """A NumPy array of whatever a frontend left in a node: torch tensors and parameters, scalars, lists."""
    for step in ("detach", "cpu"):
        convert = getattr(value, step, None)
        if callable(convert):
            value = convert()
    return np.asarray(value)


def parameter(node: Any, name: str, default: Any = None) -> np.ndarray | None:
    """Field `name` of a node as an array; `default` where it is missing or None (None stays None)."""
    value = getattr(node, name, None)
    value = default if value is None else value
    return None if value is None else as_array(value)


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


def _misfit(name: str, what: str, hint: str) -> UnsupportedGraphError:
    return UnsupportedGraphError(Finding("error", "shape", what, node=name, hint=hint))


# --- element-wise nodes: spiking populations and Scale ---------------------------------------------------------------

_NEURON_HINT = "Give every parameter one value per neuron, or one scalar for all."


def _common_shape(shapes: Mapping[str, Shape], name: str) -> Shape | None:
    """Shape that all parameters share; a parameter of one element counts for all; None if all are 0-d."""
    full = {key: shape for key, shape in shapes.items() if math.prod(shape) != 1}
    if len(set(full.values())) > 1:
        listed = ", ".join(f"{key} {shape}" for key, shape in full.items())
        raise _misfit(name, f"its parameters have different shapes: {listed}.", _NEURON_HINT)
    shape = next(iter(full.values()), max(shapes.values(), key=len))
    if 0 in shape:
        raise _misfit(name, f"its parameters have shape {shape}, that is no element at all.", _NEURON_HINT)
    return shape or None


def _elementwise(fields: Mapping[str, Any]):
    def shape(node: Any, name: str, incoming: Shape | None) -> tuple[Shape | None, Shape | None]:
        values = {key: parameter(node, key, default) for key, default in fields.items()}
        own = _common_shape({key: value.shape for key, value in values.items() if value is not None}, name) or incoming
        return own, own

    return shape


_LIF = {"tau": None, "r": None, "v_leak": None, "v_threshold": None, "v_reset": 0.0}
_CUBALIF = {
    "tau_syn": None,
    "tau_mem": None,
    "r": None,
    "v_leak": None,
    "v_threshold": None,
    "v_reset": 0.0,
    "w_in": 1.0,
}


def _values(node: Any, fields: Mapping[str, Any], size: int) -> dict[str, np.ndarray]:
    return {
        key: np.broadcast_to(np.ravel(np.asarray(parameter(node, key, default), float)), (size,))
        for key, default in fields.items()
    }


def _read_lif(node: Any, name: str, shape: Shape, seconds: float) -> Population:
    values = _values(node, _LIF, math.prod(shape))
    return Population(name, "LIF", tau_mem=values.pop("tau") * seconds, shape=shape, **values)


def _read_cubalif(node: Any, name: str, shape: Shape, seconds: float) -> Population:
    values = _values(node, _CUBALIF, math.prod(shape))
    for key in ("tau_mem", "tau_syn"):
        values[key] = values[key] * seconds
    return Population(name, "CubaLIF", shape=shape, **values)


def _shape_note(shape: Shape) -> dict[str, Any]:
    """NIR's Linear speaks of flat features only, so a population is written flat and its shape is noted beside it."""
    return {"shape": np.array(shape)} if len(shape) > 1 else {}


def _write_lif(population: Population) -> Any:
    p = population
    return nir.LIF(
        tau=p.tau_mem.copy(),
        r=p.r.copy(),
        v_leak=p.v_leak.copy(),
        v_threshold=p.v_threshold.copy(),
        v_reset=p.v_reset.copy(),
        metadata=_shape_note(p.shape),
    )


def _write_cubalif(population: Population) -> Any:
    p = population
    tau_syn = np.full(p.size, np.nan) if p.tau_syn is None else p.tau_syn
    w_in = np.ones(p.size) if p.w_in is None else p.w_in
    return nir.CubaLIF(
        tau_syn=tau_syn.copy(),
        tau_mem=p.tau_mem.copy(),
        r=p.r.copy(),
        v_leak=p.v_leak.copy(),
        v_threshold=p.v_threshold.copy(),
        v_reset=p.v_reset.copy(),
        w_in=w_in.copy(),
        metadata=_shape_note(p.shape),
    )


# --- linear maps -----------------------------------------------------------------------------------------------------


def _matrix_shape(node: Any, name: str, incoming: Shape | None) -> tuple[Shape, Shape]:
    weight, bias = as_array(node.weight), parameter(node, "bias")
    if weight.ndim != 2 or 0 in weight.shape:
        raise _misfit(name, f"weight has shape {weight.shape}, expected (out, in).", "Store a two-dimensional matrix.")
    if bias is not None and bias.ndim and bias.shape != weight.shape[:1]:
        raise _misfit(
            name,
            f"bias has shape {bias.shape}, the weight {weight.shape} delivers {weight.shape[0]} values.",
            f"Store a bias of shape ({weight.shape[0]},), one value per row of the weight.",
        )
    return weight.shape[1:], weight.shape[:1]


def _fold_matrix(node: Any, shape_in: Shape) -> LinearMap:
    weight, bias = np.asarray(as_array(node.weight), float), parameter(node, "bias")
    if bias is not None:
        bias = np.broadcast_to(np.asarray(bias, float), weight.shape[:1])
    return LinearMap(weight, bias)


def _fold_scale(node: Any, shape_in: Shape) -> LinearMap:
    scale = np.ravel(np.asarray(as_array(node.scale), float))
    return LinearMap(np.diag(np.broadcast_to(scale, (math.prod(shape_in),))))


def _write_matrix(matrix: np.ndarray, bias: np.ndarray | None = None, metadata: dict[str, Any] | None = None) -> Any:
    if bias is None:
        return nir.Linear(weight=np.array(matrix), metadata=metadata or {})
    return nir.Affine(weight=np.array(matrix), bias=np.array(bias), metadata=metadata or {})


def _flatten_shape(node: Any, name: str, incoming: Shape | None) -> tuple[Shape | None, Shape | None]:
    declared = port_shape(node, name)
    if incoming is None and declared is None:
        return None, None
    if incoming is not None and declared is not None and math.prod(incoming) != math.prod(declared):
        raise _misfit(
            name,
            f"it is declared for shape {declared}, but shape {incoming} arrives.",
            "A Flatten must keep the number of elements: correct its input_type.",
        )
    shape = incoming or declared
    return shape, (math.prod(shape or ()),)


def _fold_identity(node: Any, shape_in: Shape) -> LinearMap:
    return LinearMap()


# --- ports -----------------------------------------------------------------------------------------------------------


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
        raise _misfit(name, f"its shape is {raw.tolist()!r}.", "A shape is a list of whole numbers from 1 on.")
    return tuple(int(n) for n in raw)


def _port(node: Any, name: str, incoming: Shape | None) -> tuple[Shape | None, Shape | None]:
    shape = port_shape(node, name) or incoming
    return shape, shape


# --- the table -------------------------------------------------------------------------------------------------------


def _native(name: str, fields: Mapping[str, Any], read, write, meaning: str) -> Primitive:
    return Primitive(
        name,
        "native",
        meaning,
        fields=tuple(key for key, default in fields.items() if default is None),
        optional={key: default for key, default in fields.items() if default is not None},
        shape=_elementwise(fields),
        read=read,
        write=write,
    )


def _folded(name: str, meaning: str, shape, fold, write=None, **fields: Any) -> Primitive:
    return Primitive(name, "folded", meaning, shape=shape, fold=fold, write=write, **fields)


def _refused(name: str, meaning: str, reason: str, alternative: str, fields: tuple[str, ...], **optional) -> Primitive:
    return Primitive(name, "refused", meaning, fields, optional, reason, alternative)


_CONV = ("weight", "stride", "padding", "dilation", "groups")
_POOL = ("kernel_size", "stride", "padding")
_NOT_YET = "is not folded into synapses yet"
_AS_LINEAR = "Write it as the Linear matrix that it stands for."
_READOUT = "it does not spike, and a readout must end in a spiking population for now"
_SPIKING = "Use a LIF or CubaLIF in its place, or end the graph at the last spiking node and read out on the host."

PRIMITIVES: dict[str, Primitive] = {
    entry.name: entry
    for entry in (
        Primitive("Input", "port", "where events enter", optional={"shape": None}, shape=_port),
        Primitive("Output", "port", "the population that is read out", optional={"shape": None}, shape=_port),
        Primitive("NIRGraph", "port", "a nested graph: its nodes become outer.inner, its ports wires"),
        _folded("Linear", "y = W·x", _matrix_shape, _fold_matrix, _write_matrix, fields=("weight",)),
        _folded(
            "Affine",
            "y = W·x + b",
            _matrix_shape,
            _fold_matrix,
            _write_matrix,
            fields=("weight",),
            optional={"bias": None},
        ),
        _folded("Scale", "y = s·x, from nir.Scale(s)", _elementwise({"scale": None}), _fold_scale, fields=("scale",)),
        _folded(
            "Flatten",
            "y = x as a flat list, from nir.Flatten(input_type, start_dim, end_dim)",
            _flatten_shape,
            _fold_identity,
            optional={"input_type": None, "start_dim": 1, "end_dim": -1},
        ),
        _native(
            "LIF", _LIF, _read_lif, _write_lif, "τ·dv/dt = (v_leak − v) + r·I; a spike at v > v_threshold resets v"
        ),
        _native(
            "CubaLIF",
            _CUBALIF,
            _read_cubalif,
            _write_cubalif,
            "LIF whose input current decays: τ_syn·dI/dt = −I + w_in·S",
        ),
        _refused("Conv1d", "convolution", f"a Conv1d {_NOT_YET}", _AS_LINEAR, _CONV, input_shape=None, bias=None),
        _refused("Conv2d", "convolution", f"a Conv2d {_NOT_YET}", _AS_LINEAR, _CONV, input_shape=None, bias=None),
        _refused("SumPool2d", "sum of a window", f"a SumPool2d {_NOT_YET}", _AS_LINEAR, _POOL),
        _refused("AvgPool2d", "mean of a window", f"an AvgPool2d {_NOT_YET}", _AS_LINEAR, _POOL),
        _refused(
            "Delay",
            "y(t) = x(t − delay)",
            "the chip has no delay line, only two delay flags per synapse",
            "Remove the Delay, or train without delays.",
            ("delay",),
        ),
        _refused(
            "Threshold",
            "1 where v > threshold",
            "a threshold without a membrane has no circuit on the chip",
            "Use a LIF in place of the Threshold and the node before it.",
            ("threshold",),
        ),
        _refused(
            "I",
            "dv/dt = r·I",
            "an integrator without leak drifts on an analog chip, and it does not spike",
            "Use a LIF with a long tau.",
            ("r",),
        ),
        _refused("LI", "τ·dv/dt = (v_leak − v) + r·I", _READOUT, _SPIKING, ("tau", "r", "v_leak")),
        _refused(
            "IF",
            "dv/dt = r·I with threshold and reset",
            "a membrane of the chip always leaks",
            "Use a LIF with a tau that is long against the input, at most 0.3 s.",
            ("r", "v_threshold"),
            v_reset=0.0,
        ),
        _refused(
            "CubaLI",
            "LI whose input current decays",
            _READOUT,
            _SPIKING,
            ("tau_syn", "tau_mem", "r", "v_leak"),
            w_in=1.0,
        ),
    )
}
"""Every primitive of nir 1.0.8 by class name; `nir-dynapse show primitives` prints it."""
