"""NIR nodes with a state ↔ `Population`: the fields of each class, how they are read and how they are written."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from nir_dynapse.errors import UnsupportedGraphError
from nir_dynapse.network.broadcast import Shape, broadcasts, spread
from nir_dynapse.network.linear import make_node, misfit, note_of, parameter
from nir_dynapse.network.population import RESETS, Kind, Population

__all__ = ["NEURONS", "elementwise", "neuron_fields", "read_neuron", "write_neuron"]

NEURONS: dict[str, dict[str, Any]] = {
    "LIF": {"tau": None, "r": None, "v_leak": None, "v_threshold": None, "v_reset": 0.0},
    "CubaLIF": {
        "tau_syn": None,
        "tau_mem": None,
        "r": None,
        "v_leak": None,
        "v_threshold": None,
        "v_reset": 0.0,
        "w_in": 1.0,
    },
    "IF": {"r": None, "v_threshold": None, "v_reset": 0.0},
    "Threshold": {"threshold": None},
    "LI": {"tau": None, "r": None, "v_leak": None},
    "CubaLI": {"tau_syn": None, "tau_mem": None, "r": None, "v_leak": None, "w_in": 1.0},
    "I": {"r": None},
}
"""Fields of each NIR class with a state; None marks those that must be there, another value what a missing one means."""

_NAMES = {"tau": "tau_mem", "threshold": "v_threshold"}
_TIMES = ("tau_mem", "tau_syn")
_HINT = (
    "Give every parameter one value per neuron, one scalar for all, or a shape that broadcasts to that of the layer."
)


def neuron_fields(kind: str) -> dict[str, str]:
    """NIR field → attribute of a Population, for NIR class `kind`."""
    return {key: _NAMES.get(key, key) for key in NEURONS.get(kind, {})}


def _common_shape(shapes: Mapping[str, Shape], name: str) -> Shape | None:
    """Shape that all parameters broadcast to; a parameter of one element counts for all; None if all are 0-d."""
    full = {key: shape for key, shape in shapes.items() if math.prod(shape) != 1}
    shape = next(iter(full.values()), max(shapes.values(), key=len))
    if len(set(full.values())) > 1:
        try:
            shape = np.broadcast_shapes(*full.values())
        except ValueError:
            raise _different(name, full) from None
    if 0 in shape:
        raise misfit(name, f"its parameters have shape {shape}, that is no element at all.", _HINT)
    return shape or None


def _different(name: str, shapes: Mapping[str, Shape], incoming: Shape | None = None) -> UnsupportedGraphError:
    listed = ", ".join(f"{key} {shape}" for key, shape in shapes.items() if math.prod(shape) != 1)
    arrives = "" if incoming is None else f", and shape {incoming} arrives"
    return misfit(name, f"its parameters have different shapes: {listed}{arrives}.", _HINT)


def elementwise(fields: Mapping[str, Any]):
    """The `shape` function of a node that works value by value."""

    def shape(node: Any, name: str, incoming: Shape | None) -> tuple[Shape | None, Shape | None]:
        values = {key: parameter(node, key, default) for key, default in fields.items()}
        shapes = {key: value.shape for key, value in values.items() if value is not None}
        own = _common_shape(shapes, name) or incoming
        if own is not None and incoming is not None and math.prod(own) == 1:  # one value counts for all
            own = incoming if math.prod(incoming) > 1 else max(own, incoming, key=len)
        elif own is not None and incoming is not None and 1 in own and broadcasts(own, incoming):
            own = incoming if math.prod(own) != math.prod(incoming) else own
        grown = own is not None and math.prod(own) > max(math.prod(shape) for shape in shapes.values())
        if grown and own != incoming and len({shape for shape in shapes.values() if math.prod(shape) != 1}) > 1:
            raise _different(name, shapes, incoming)  # (8,) beside (8, 1) is a matrix, which nobody means
        return own, own

    return shape


def read_neuron(kind: Kind):
    def read(node: Any, name: str, shape: Shape, seconds: float) -> Population:
        size = math.prod(shape)
        values = {
            _NAMES.get(key, key): spread(np.asarray(parameter(node, key, default), float), shape)
            for key, default in NEURONS[kind].items()
        }
        for key in _TIMES:
            if key in values:
                values[key] = values[key] * seconds
        if kind in ("IF", "I"):
            values["tau_mem"] = np.full(size, np.inf)
            values["r"] = values["r"] / seconds
        elif kind == "Threshold":
            values["tau_mem"] = np.zeros(size)
        nothing = {"r": np.ones(size), "v_leak": np.zeros(size), "v_reset": _noted_start(node, size)}
        nothing["v_threshold"] = np.full(size, np.inf)
        return Population(name, kind, shape=shape, **{**nothing, **values}, reset=_noted_reset(node))

    return read


def _noted_start(node: Any, size: int) -> np.ndarray:
    """What `to_nir` noted about where the v of a readout starts; NIR's have no v_reset."""
    note = note_of(node, "v_reset")
    try:
        values = np.asarray(0.0 if note is None else note, float).reshape(-1)
    except (TypeError, ValueError):
        values = np.zeros(1)
    fits = len(values) in (1, size) and bool(np.all(np.isfinite(values)))
    return np.array(np.broadcast_to(values if fits else np.zeros(1), (size,)))


def _noted_reset(node: Any) -> Any:
    """What `to_nir` noted about a reset that NIR cannot say."""
    note = note_of(node, "reset")
    note = note.decode("utf8", "replace") if isinstance(note, bytes) else note
    return note if isinstance(note, str) and note in RESETS else "value"


def write_neuron(population: Population, shape: Shape, metadata: dict[str, Any] | None = None) -> Any:
    """The NIR node of a Population with parameters of `shape`; what NIR cannot say is in its metadata."""
    p = population
    note = dict(metadata or {})
    if p.reset != "value":
        note["reset"] = p.reset
    if not p.spiking and np.any(p.v_reset != 0):
        note["v_reset"] = p.v_reset.copy()
    if shape != p.shape:
        note["shape"] = np.array(p.shape)
    values = {}
    for key, attribute in neuron_fields(p.kind).items():
        value = getattr(p, attribute)
        value = np.ones(p.size) if value is None else value
        values[key] = value.reshape(shape).copy()
    return make_node(p.kind, note, **values)
