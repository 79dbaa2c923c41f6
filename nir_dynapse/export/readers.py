"""`READERS`: the frameworks that import NIR files, and how a Network is written so that each runs it with its spikes.

No importer takes all of NIR as NIR means it: one knows a fixed step, another ignores r, a third counts time in steps.
`written_for` moves what a reader ignores to where it reads it (gains into weights, v_leak into biases, thresholds into the
scale of v), names and orders nodes so that it steps them as meant, and says what is left: a warning where it then runs
something else, an error where it cannot run the file. Forward Euler at the Network's own dt stays what is computed.

Measured against the released packages with nir 1.0.8, nirtorch 2.6 and torch 2.13.0; tests/frontends/test_readers.py
runs each of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import nir
import numpy as np

from nir_dynapse.errors import Finding, ParameterRangeError, nearest, sort_findings
from nir_dynapse.export.nir_graph import Extras, to_nir
from nir_dynapse.export.reader_graph import Drawing
from nir_dynapse.export.reader_jaxsnn import JAXSNN
from nir_dynapse.export.reader_jaxsnn import finish as _jaxsnn
from nir_dynapse.export.reader_neurons import Conventions, Notes, per_step, prepared, unit_r
from nir_dynapse.export.reader_order import named
from nir_dynapse.export.reader_ports import one_input, one_output, without_readouts
from nir_dynapse.network.linear import make_node
from nir_dynapse.network.network import LinearNode, Network, Population
from nir_dynapse.network.population import Reset, Stepping
from nir_dynapse.network.primitives import graph

__all__ = ["READERS", "Reader", "reader_of", "written_for"]

SNNTORCH_STEP = 1e-4
FORGETS = 1e-3
"""A time constant in steps of which nothing is left after one: e^−1000 is 0 in double precision."""


@dataclass(frozen=True)
class Reader:
    """One reader of NIR files.

    `release` is the package that it was measured with and `call` how it imports a file; `file` says in words what a file
    for it holds, `lacks` what it cannot do, `unit` what its times are in. `rules` are its conventions, and
    `finish(drawing, network)` makes the graph its own; None for "spec", today's NIR as it is.
    """

    name: str
    release: str = ""
    call: str = ""
    unit: str = "s"
    file: str = ""
    lacks: str = ""
    rules: Conventions | None = None
    finish: Callable[[Drawing, Network], None] = lambda drawing, network: None
    ports: tuple[str, ...] = ()


def reader_of(name: str) -> Reader:
    """The reader called `name`; ParameterRangeError for any other."""
    if not isinstance(name, str) or name not in READERS:
        what = f"reader is {name!r}, known readers are {', '.join(map(repr, READERS))}."
        raise ParameterRangeError(Finding("error", "argument", what, hint=nearest(str(name), READERS)))
    return READERS[name]


def written_for(
    network: Network, reader: str = "spec", extras: Extras | None = None
) -> tuple[nir.NIRGraph, tuple[Finding, ...]]:
    """`network` as a `nir.NIRGraph` that `reader` runs with the spikes of an ideal run, and what had to be said.

    Findings: "info" where something was moved without changing a spike, "warning" where the reader runs something else,
    "error" where it cannot run the file. Raises `UnsupportedGraphError` where nothing can be written at all, and
    `ParameterRangeError` for an unknown reader.
    """
    entry = reader_of(reader)
    if entry.rules is None:
        return to_nir(network, extras), ()
    notes = Notes(entry.release)
    network, renamed = named(network, entry.ports)
    if renamed:
        listed = ", ".join(f"{old!r} is {new!r}" for old, new in list(renamed.items())[:8])
        notes.info("names", f"nodes got names that {entry.release} takes: {listed}{'…' if len(renamed) > 8 else '.'}")
    if not network.inputs or not network.outputs:
        notes.error("ports", f"{entry.release} runs a graph with an Input and an Output only.", hint="Add them.")
        return to_nir(network, extras), tuple(notes.findings)
    network = without_readouts(network, entry.rules.readouts, notes)
    network = one_output(one_input(network, notes), notes)
    network = prepared(network, entry.rules, notes)
    drawing = Drawing(to_nir(network, extras), network, notes)
    entry.finish(drawing, network)
    made = graph(drawing.nodes, drawing.edges, drawing.metadata)
    known = {new: old for old, new in renamed.items()}
    return made, sort_findings(replace(f, node=known.get(str(f.node), f.node)) for f in dict.fromkeys(notes.findings))


# --- linear nodes ----------------------------------------------------------------------------------------------------


def _knows(*kinds: str) -> Callable[[LinearNode], bool]:
    """Whether an importer reads a node: of these kinds, no convolution with groups, no sum of a padded window."""

    def knows(node: LinearNode) -> bool:
        values = {key: np.ravel(v) for key, v in node.fields.items() if not isinstance(v, str)}
        grouped = bool(np.any(values.get("groups", np.ones(1)) != 1))
        padded = node.kind == "SumPool2d" and bool(np.any(values.get("padding", np.zeros(1)) != 0))
        return node.kind in kinds and not grouped and not padded

    return knows


# --- Norse -----------------------------------------------------------------------------------------------------------


def _norse_kind(p: Population, dt: float) -> str:
    """Only its CubaLIF takes another reset: a LIF with one is a CubaLIF whose synapse forgets after each step."""
    subtracts = p.reset == "subtract" and p.kind in ("LIF", "Threshold")
    return "CubaLIF" if subtracts else "LIF" if p.kind == "Threshold" else p.kind


def _norse(drawing: Drawing, network: Network) -> None:
    drawing.last_axes()
    drawing.depth()


# --- snnTorch, SpikingJelly ------------------------------------------------------------------------------------------


def _snntorch(drawing: Drawing, network: Network) -> None:
    """Every tau times 1e-4 s/dt, r = tau/1e-4 s."""
    for name in drawing.of(nir.LIF, nir.CubaLIF):
        node = drawing.nodes[name]
        for key, gain in (("tau", "r"), ("tau_mem", "r"), ("tau_syn", "w_in")):
            tau = getattr(node, key, None)
            if tau is not None:
                setattr(node, key, tau * (SNNTORCH_STEP / network.dt))
                setattr(node, gain, tau / network.dt)
    drawing.metadata["dt"] = SNNTORCH_STEP
    drawing.last_axes()
    drawing.one_sum()
    drawing.no_pairs()
    drawing.queue()


def _jelly_kind(p: Population, dt: float) -> str:
    """Its LIF has tau > dt; one with tau = dt is a CubaLIF whose synapse forgets after each step."""
    short = p.kind == "Threshold" or (p.kind == "LIF" and bool(np.any(p.tau_mem <= dt)))
    return "CubaLIF" if short else p.kind


def _jelly_gains(p: Population, dt: float) -> tuple[np.ndarray, np.ndarray | None]:
    return (p.r, None) if p.kind == "LIF" and np.all(p.r == 1) else per_step(p, dt)


def _just_above(drawing: Drawing, names: list[str]) -> None:
    """The next threshold in single precision: v ≥ θ there is v > θ in NIR."""
    for name in names:
        node = drawing.nodes[name]
        above = np.nextafter(np.asarray(node.v_threshold, np.float32), np.float32(np.inf))
        node.v_threshold = above.astype(float)


def _spikingjelly(drawing: Drawing, network: Network) -> None:
    _just_above(drawing, drawing.of(nir.LIF, nir.CubaLIF, nir.IF))
    drawing.one_sum()
    drawing.queue()


# --- Sinabs ----------------------------------------------------------------------------------------------------------


def _steps(tau: np.ndarray, dt: float) -> np.ndarray:
    """Time constants in steps with e^(−1/τ') = 1 − dt/τ."""
    with np.errstate(divide="ignore"):
        decay = -np.log1p(-np.minimum(dt / tau, 1.0))
    return np.where(np.isinf(decay), FORGETS, 1 / np.where(np.isinf(decay), 1, decay))


def _sinabs_kind(p: Population, dt: float) -> str:
    """Its IF has a lower bound of −threshold: an IF is a LIF that never forgets."""
    return {"IF": "LIF", "I": "LI", "Threshold": "LIF"}.get(p.kind, p.kind)


def _sinabs(drawing: Drawing, network: Network) -> None:
    """tau in steps, gains of 1 (norm_input=False), a CubaLIF as LI and LIF."""
    dt = network.dt
    exact = {p.name for p in network.populations if p.reset == "subtract-multiple"}
    _just_above(drawing, [name for name in drawing.of(nir.LIF, nir.CubaLIF) if name not in exact])
    for name in drawing.of(nir.LI, nir.LIF):
        node = drawing.nodes[name]
        node.r = node.tau / dt if isinstance(node, nir.LIF) else np.ones_like(node.r)
        node.tau = _steps(node.tau, dt)
    for name in [n for n, node in drawing.nodes.items() if type(node).__name__ in ("CubaLIF", "CubaLI")]:
        node = drawing.nodes[name]
        fields = {"tau": _steps(node.tau_mem, dt), "v_leak": np.zeros_like(node.v_leak)}
        fields["r"] = np.ones_like(node.r)
        kind = type(node).__name__[4:]
        if kind == "LIF":
            fields |= {"r": node.tau_mem / dt, "v_threshold": node.v_threshold, "v_reset": node.v_reset}
        zeros, ones = np.zeros_like(node.v_leak), np.ones_like(node.r)
        synapse = make_node("LI", None, tau=_steps(node.tau_syn, dt), r=ones, v_leak=zeros)
        drawing.split(name, synapse, make_node(kind, getattr(node, "metadata", None), **fields), "_synapse")
    drawing.affine()
    drawing.depth()


# --- Spyx ------------------------------------------------------------------------------------------------------------


def _spyx_kind(p: Population, dt: float) -> str:
    """A loop of its IF is none of its recurrent layers: an IF is a LIF that never forgets."""
    return {"IF": "LIF", "Threshold": "LIF"}.get(p.kind, p.kind)


def _spyx_reset(p: Population) -> Reset:
    return "subtract" if p.kind == "CubaLIF" else "subtract-late"


def _spyx(drawing: Drawing, network: Network) -> None:
    drawing.chain()


# --- the table -------------------------------------------------------------------------------------------------------

READERS: dict[str, Reader] = {
    reader.name: reader
    for reader in (
        Reader("spec", file="NIR's own equations, in seconds; what reads back as the same Network"),
        Reader(
            "norse",
            "Norse 1.1.0",
            "norse.torch.from_nir(nir.read(PATH), dt=DT)",
            file="r = 1 in a LIF, v_reset = 0, v_leak as a bias; matrices of zeros where layers have connections past them",
            lacks="another reset than to v_reset (a LIF and CubaLIF: by subtraction, with reset_method=); v_leak of a "
            "CubaLIF; LI and other readouts",
            rules=Conventions(
                unit_r,
                _knows("Linear", "Affine", "Conv2d", "SumPool2d", "Flatten"),
                becomes=_norse_kind,
                own_leak=lambda p: p.kind == "LIF",
                reset_hint="For 'subtract' pass reset_method=norse.torch.functional.reset.reset_subtract to from_nir.",
            ),
            finish=_norse,
        ),
        Reader(
            "snntorch",
            "snnTorch 1.0.0",
            "snntorch.import_nir.import_from_nir(nir.read(PATH))",
            unit="0.1 ms per step",
            file="every tau times 0.1 ms/dt, r = tau/dt and w_in = tau_syn/dt, one threshold per layer, v_leak as a bias, "
            "an IF as a LIF; recurrent weights as two matrices, so that they are no RLeaky",
            lacks="another reset than to 0 (by subtraction: set it in its layers after import_from_nir); v_leak of a "
            "CubaLIF; readouts",
            rules=Conventions(
                per_step,
                _knows("Linear", "Affine", "Conv2d", "AvgPool2d", "Flatten"),
                becomes=_spyx_kind,
                one=("v_threshold",),
                reset_hint="For 'subtract-late' or 'subtract-once' set of its layers after import_from_nir "
                "reset_mechanism = 'subtract', state_function = layer._base_sub and reset_delay = True or False.",
            ),
            finish=_snntorch,
        ),
        Reader(
            "spikingjelly",
            "SpikingJelly 2.0.0",
            "spikingjelly.activation_based.nir_exchange.import_from_nir(PATH, dt=DT)",
            file="r = 1 or tau/dt, w_in = tau_syn/dt, one threshold per layer (the next number above it, for it fires at "
            "v ≥ v_threshold), v_leak as a bias",
            lacks="different time constants within a layer; another reset than to v_reset; v_leak of a CubaLIF; readouts",
            rules=Conventions(
                _jelly_gains,
                _knows("Linear", "Affine", "Conv1d", "Conv2d", "AvgPool2d", "Flatten"),
                becomes=_jelly_kind,
                one=("v_threshold", "tau_mem", "tau_syn"),
            ),
            finish=_spikingjelly,
        ),
        Reader(
            "sinabs",
            "Sinabs 3.1.3",
            "sinabs.nir.from_nir(nir.read(PATH), batch_size=N)",
            unit="steps",
            file="tau in steps with e^(−1/tau) = 1 − dt/tau_mem, gains in the weights, Affine for Linear, an IF as a LIF, "
            "a CubaLIF as LI and LIF, v_leak as a bias, convolutions and pools as matrices (its LIF takes one axis only)",
            lacks="another reset than by subtraction with several spikes per step (set spike_fn and reset_fn of its layers "
            "after from_nir); v_leak of a CubaLIF",
            rules=Conventions(
                per_step,
                _knows("Linear", "Affine"),
                readouts=frozenset({"LI", "CubaLI", "I"}),
                becomes=_sinabs_kind,
                reset=lambda p: "subtract-multiple",
                reset_hint="After from_nir set spike_fn = SingleSpike and reset_fn = MembraneReset() (for 'value') of its "
                "LIFSqueeze layers.",
            ),
            finish=_sinabs,
        ),
        Reader(
            "spyx",
            "Spyx 1.0.0",
            "spyx.nir.from_nir(nir.read(PATH), X, dt=DT)",
            file='ports called "input" and "output", gains in the weights, convolutions and pools as matrices, an IF as a '
            "LIF, v_leak as a bias, no bias of recurrent weights",
            lacks="another reset than by subtraction one step late; spikes that leave in their own step; connections past "
            "layers and loops of several; v_leak of a CubaLIF; readouts",
            rules=Conventions(
                per_step,
                _knows("Linear", "Affine"),
                becomes=_spyx_kind,
                reset=_spyx_reset,
                stepping=Stepping(emission="next-step"),
            ),
            finish=_spyx,
            ports=("input", "output"),
        ),
        Reader(
            "jaxsnn",
            "jaxsnn 0.3.0",
            "jaxsnn.event.from_nir(nir.read(PATH, type_check=False), ConversionConfig(…))",
            unit="ms",
            file="weights (in, out), gains in the weights, one matrix between two populations, one threshold per layer",
            lacks="steps (it solves the equations without, so that no bin is certain); other neurons than CubaLIF with "
            "tau_mem = tau_syn or 2·tau_syn, the same in a layer; biases, v_leak; readouts; recurrence that is a step late",
            rules=JAXSNN,
            finish=_jaxsnn,
        ),
    )
}
"""Readers of NIR files by name; `nir-dynapse show readers` prints them."""
