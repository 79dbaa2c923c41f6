"""`Params` in a file: a versioned .npz without pickles; what is an array is stored as one, the rest as one JSON text."""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict
from typing import Any

import numpy as np

from nir_dynapse.chip.device import BASE_WEIGHTS, CURRENTS, LATCHES, MAY_BE_ZERO, Circuit
from nir_dynapse.circuit.params import Params, Topology
from nir_dynapse.errors import ConfigurationError, DynapseError, Finding
from nir_dynapse.files.bounds import UnreadableError, parse_json, read_arrays
from nir_dynapse.files.numbers import STEP, Real
from nir_dynapse.files.whole import write_arrays
from nir_dynapse.network.network import Port, check_readout
from nir_dynapse.network.readout import readout_from_dict, readout_to_dict

__all__ = ["load_params", "save_params"]

NAME, READABLE = "nir_dynapse.params", ("1", "2")
"""Version 2 has copies; Params without are written as version 1."""
FORMATS = tuple(f"{NAME} {version}" for version in READABLE)
REMEDY = "Give a file that save_params wrote."

NEURON = {"group": (), "latches": (), "place": (3,)}
SYNAPSE = {"pre": (), "post": (), "dendrite": (), "row": (), "mask": (), "delay": ()}
OPTIONAL = ("mask", "delay")
"""Arrays of a Topology that may be None."""
OF_THE_BUFFER = ("buffer_gain", "buffer_offset")
LEAVES = ("weight", "base", "delay_factor")
LEAST_AMPERES, MOST_AMPERES = 1e-22, 10.0
"""What a bias current may be: less than any leak times the smallest factor of a virtual chip, more than any threshold. Far
beyond, float32 ends."""
FACTORS = (1e-9, 1e9)
"""What a delay may be multiplied by on a virtual chip."""
BROKEN = (ValueError, KeyError, TypeError, AttributeError, OverflowError, IndexError, RecursionError)
"""What arrays and a text of other shapes than those of Params raise."""


def save_params(params: Params, path: str | os.PathLike[str]) -> None:
    """Write all of `params`, currents in A with their own precision (float32 or float64), complete or not at all.

    Raises ConfigurationError where arrays do not fit the topology, as with several chips in one Params, or the file
    cannot be written.
    """
    try:
        arrays = _packed(params)
        made = _unpacked(arrays)  # nothing is written that load_params would refuse
        if made.topology.readout.digest() != params.topology.readout.digest():
            raise ValueError("its readout on the host has infinite values where a file cannot hold them")
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, DynapseError) as error:
        raise ConfigurationError(
            f"{path}: these Params cannot be saved ({_reason(error)}). Save one circuit at a time, as to_params makes it."
        ) from error
    write_arrays(path, **arrays)


def load_params(path: str | os.PathLike[str]) -> Params:
    """What `save_params` wrote, bit for bit, with NumPy arrays; anything else is a ConfigurationError."""
    try:
        arrays = read_arrays(path)
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read ({error.strerror or error}). Check the path.") from error
    except UnreadableError as error:
        raise ConfigurationError(f"{path}: not a file of Params, or damaged ({_reason(error)}). {REMEDY}") from error
    written = str(arrays.get("format", "")) if "format" in arrays else None
    if written is None or not written.startswith(f"{NAME} "):
        what = (
            "it has no format"
            if written is None
            else f"its format is {written[:60]!r}, needed is {' or '.join(map(repr, FORMATS))}"
        )
        raise ConfigurationError(f"{path}: not a file of Params ({what}). {REMEDY}")
    if written not in FORMATS:
        raise ConfigurationError(
            f"{path}: its format is {written[:60]!r}, this package reads {' and '.join(map(repr, FORMATS))}. "
            "Install the version of nir_dynapse that wrote it, or save the Params again with this one."
        )
    try:
        return _unpacked(arrays)
    except (*BROKEN, DynapseError) as error:
        raise ConfigurationError(f"{path}: these Params are damaged ({_reason(error)}). Save them again.") from error


def _packed(params: Params) -> dict[str, np.ndarray]:
    """The arrays of the file by name; "text" is everything else."""
    t = params.topology
    arrays = {f"bias.{name}": np.asarray(value) for name, value in params.bias.items()}
    arrays |= {name: np.asarray(value) for name in LEAVES if (value := getattr(params, name)) is not None}
    parts = ((name, getattr(t, name)) for name in (*NEURON, *SYNAPSE))
    arrays |= {f"topology.{name}": value for name, value in parts if value is not None}
    text = {
        "arrays": list(arrays),
        "inputs": [[port.name, list(port.shape), port.source] for port in t.inputs],
        "populations": [list(item) for item in t.populations],
        "outputs": [[port.name, list(port.shape), port.source] for port in t.outputs],
        "dt_s": t.dt,
        "tonic_period_s": t.tonic_period,
        "kinds": list(t.kinds),
        "shapes": [list(shape) for shape in t.shapes],
        "projections": [list(names) for names in t.projections],
        "readout": readout_to_dict(t.readout),
        "circuit": _constants(params.circuit),
        "findings": [
            {k: v for k, v in asdict(finding).items() if k not in ("count", "copy") or v is not None}
            for finding in params.findings
        ],
        **({"copies": list(t.copies)} if t.copies else {}),
    }
    return {"format": np.array(FORMATS[bool(t.copies)]), "text": np.array(json.dumps(text, default=_plain)), **arrays}


def _unpacked(arrays: dict[str, np.ndarray]) -> Params:
    """The inverse of `_packed`; ValueError, KeyError, TypeError or DynapseError for what contradicts itself."""
    text = parse_json(str(arrays["text"]))
    named, there = [str(name) for name in text["arrays"]], set(arrays) - {"format", "text"}
    if set(named) != there:
        raise ValueError(f"arrays missing or added: {', '.join(sorted(set(named) ^ there))[:200]}")
    topology = _topology(text, arrays)
    bias = {name.removeprefix("bias."): arrays[name] for name in named if name.startswith("bias.")}
    if set(bias) != set(CURRENTS):
        raise ValueError(f"bias currents missing or added: {', '.join(sorted(set(bias) ^ set(CURRENTS)))[:200]}")
    groups = max(topology.n_groups, len(np.atleast_1d(bias[CURRENTS[0]])))  # a core in use may have no neuron
    shapes = {"weight": (topology.n_synapses,), "base": (groups, len(BASE_WEIGHTS))}
    shapes["delay_factor"] = shapes["weight"]
    leaves = {name: _currents(name, arrays[name], shapes[name]) for name in LEAVES if name in arrays}
    for name in ("weight", "base"):  # of one synapse, of a transistor: what does not conduct is 0
        if name in leaves:
            _within(name, leaves[name], 0.0, MOST_AMPERES)
    if "delay_factor" in leaves:
        _within("delay_factor", leaves["delay_factor"], *FACTORS)
    for name, value in bias.items():
        _within(f"bias {name}", value, 0.0 if name in MAY_BE_ZERO else LEAST_AMPERES, MOST_AMPERES)
    if (needed := "weight" if topology.mask is None else "base") not in leaves:
        raise ValueError(f"{needed} is missing")
    return Params(
        {name: _currents(f"bias {name}", value, (groups,)) for name, value in bias.items()},
        leaves.get("weight"),
        leaves.get("base"),
        topology,
        _circuit(text["circuit"]),
        tuple(Finding.from_dict(item) for item in text["findings"]),
        leaves.get("delay_factor"),
    )


def _topology(text: dict[str, Any], arrays: dict[str, np.ndarray]) -> Topology:
    populations = tuple((str(name), _count("neurons", size)) for name, size in text["populations"])
    sizes, kinds, shapes = dict(populations), _names(text["kinds"]), tuple(map(_shape, text["shapes"]))
    if len(sizes) != len(populations):
        raise ValueError("two populations have the same name")
    if len(kinds) not in (0, len(sizes)) or len(shapes) not in (0, len(sizes)):
        raise ValueError(f"{len(kinds)} kinds and {len(shapes)} shapes of {len(sizes)} populations")
    if ("copies" in text) != (str(arrays["format"]) == FORMATS[1]):
        raise ValueError(f"copies are in files of {FORMATS[1]!r} only, and in all of them")
    copies = _copies(text.get("copies"), sizes)
    nodes = {name: size // c for (name, size), c in zip(populations, copies, strict=True)}
    if shapes and [math.prod(shape) for shape in shapes] != list(nodes.values()):
        raise ValueError(f"shapes {shapes} of nodes with {list(nodes.values())} neurons")
    inputs, outputs = _ports(text["inputs"]), _ports(text["outputs"])
    readout = readout_from_dict(text["readout"], _seconds("dt_s", text["dt_s"]))
    check_readout(readout, outputs, nodes)
    projections = tuple(_names(names) for names in text["projections"])
    _check_ends(inputs, outputs, nodes, {p.name: p.size for p in readout.populations}, projections)
    neurons, synapses = sum(sizes.values()), len(np.atleast_1d(arrays["topology.pre"]))
    found: dict[str, np.ndarray] = {}
    for ends, count in ((NEURON, neurons), (SYNAPSE, synapses)):
        for name, more in ends.items():
            if name in OPTIONAL and f"topology.{name}" not in arrays:
                continue
            found[name] = _indices(name, arrays[f"topology.{name}"], (count, *more))
    tonic = None if text["tonic_period_s"] is None else _seconds("tonic_period_s", text["tonic_period_s"])
    if tonic is None and (found["pre"] == sum(port.size for port in inputs)).any():
        raise ValueError("synapses listen to tonic events, which have no period")
    return Topology(
        inputs,
        populations,
        outputs,
        _seconds("dt_s", text["dt_s"]),
        **{name: found[name] for name in (*NEURON, *SYNAPSE) if name not in OPTIONAL},
        mask=found.get("mask"),
        tonic_period=tonic,
        readout=readout,
        kinds=kinds,
        shapes=shapes,
        projections=tuple((source, target, node) for source, target, node in projections),
        delay=found.get("delay"),
        copies=copies,
    )


def _copies(given: Any, sizes: dict[str, int]) -> tuple[int, ...]:
    """Copies of every population; those of a file without any are one each."""
    if given is None:
        return (1,) * len(sizes)
    copies = tuple(_count("copies", number) for number in given)
    if len(copies) != len(sizes) or any(c < 1 or n % c for c, n in zip(copies, sizes.values(), strict=True)):
        raise ValueError(f"copies {copies} of populations with {list(sizes.values())} neurons")
    return copies


def _constants(circuit: Circuit) -> dict[str, float]:
    """All constants, those of the buffer only where somebody changed them: files of before have none."""
    usual = asdict(Circuit.published)
    return {k: v for k, v in asdict(circuit).items() if k not in OF_THE_BUFFER or v != usual[k]}


def _circuit(values: dict[str, Any]) -> Circuit:
    usual = asdict(Circuit.published)
    values = {name: usual[name] for name in OF_THE_BUFFER} | values
    if set(values) != set(usual):
        wrong = sorted(set(usual) ^ set(values))
        raise ValueError(f"constants of the circuit missing or added: {', '.join(wrong)[:200]}")
    for name, value in values.items():
        limits = (-10.0, 10.0) if name == "buffer_offset" else (usual[name] / 1e3, usual[name] * 1e3)
        Real(*limits).check("circuit", name, value, "", ValueError)
    return Circuit(**{name: float(value) for name, value in values.items()})


def _currents(name: str, value: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if value.dtype.kind != "f" or value.dtype.itemsize not in (4, 8) or value.shape != shape:
        raise ValueError(f"{name} is {value.dtype} of shape {value.shape}, needed is float32 or float64 of {shape}")
    return value


def _indices(name: str, value: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if value.dtype.kind != "i" or value.dtype.itemsize != 4 or value.shape != shape:
        raise ValueError(f"{name} is {value.dtype} of shape {value.shape}, needed is int32 of {shape}")
    highest = {"latches": (1 << len(LATCHES)) - 1, "mask": (1 << len(BASE_WEIGHTS)) - 1}.get(name, 2**31 - 1)
    if value.size and not 0 <= value.min() <= value.max() <= highest:
        raise ValueError(f"{name} holds {value.min()} to {value.max()}, allowed are 0 to {highest}")
    return value


def _ports(rows: Any) -> tuple[Port, ...]:
    return tuple(
        Port(str(name), _shape(shape), None if source is None else str(source)) for name, shape, source in rows
    )


def _names(items: Any) -> tuple[str, ...]:
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise ValueError(f"names are {items!r}"[:200])
    return tuple(items)


def _shape(items: Any) -> tuple[int, ...]:
    shape = tuple(_count("shape", item) for item in items)
    if math.prod(shape) >= 2**31:
        raise ValueError(f"shape {shape[:8]} has too many entries")
    return shape


def _count(what: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**31:
        raise ValueError(f"{what}: {value!r} is no number of things"[:200])
    return value


def _seconds(name: str, value: Any) -> float:
    return STEP.check("times", name, value, "", ValueError)


def _within(name: str, values: np.ndarray, low: float, high: float) -> None:
    """ValueError where a number is not from `low` to `high`, NaN included."""
    if values.size and not low <= values.min() <= values.max() <= high:
        wrong = float(values[~((values >= low) & (values <= high))][0])
        raise ValueError(f"{name} holds {wrong:g}, allowed are {low:g} to {high:g}")


def _check_ends(
    inputs: tuple[Port, ...],
    outputs: tuple[Port, ...],
    sizes: dict[str, int],
    hosts: dict[str, int],
    projections: tuple[tuple[str, ...], ...],
) -> None:
    """ValueError for names that stand twice, outputs of another size than what they read, and projections to nowhere."""
    names = [*(port.name for port in inputs), *sizes, *hosts]
    if len(set(names)) != len(names):
        raise ValueError("two input nodes or populations have the same name")
    for port in outputs:
        if port.size != (size := {**sizes, **hosts}[str(port.source)]):
            raise ValueError(f"output {port.name!r} has {port.size} neurons, {port.source!r}, which it reads, {size}")
    for source, target, node in projections:
        if source not in names or target not in (*sizes, *hosts):
            raise ValueError(f"projection {node!r} leads from {source!r} to {target!r}, which is not there")


def _plain(value: Any) -> Any:
    """NumPy's numbers as Python's."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a {type(value).__name__} in the findings or names, which JSON does not hold")


def _reason(error: BaseException) -> str:
    """One line; own checks speak for themselves, others need their type."""
    text = str(error).splitlines()[0] if str(error) else ""
    own = isinstance(error, (DynapseError, UnreadableError)) or type(error) is ValueError
    return text if own else f"{type(error).__name__}: {text}"
