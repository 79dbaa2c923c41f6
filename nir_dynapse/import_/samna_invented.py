"""Names for the bits of a configuration where nobody knows them: populations, channels, outputs and a step by place."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from nir_dynapse.chip import biasgen
from nir_dynapse.chip.device import COLUMN, DENDRITES, DYNAPSE2, PARAMETERS
from nir_dynapse.circuit.closed_form import FAST_SYNAPSE, INHIBITION_STRETCH, REFRACTORY
from nir_dynapse.errors import Finding, ParameterRangeError
from nir_dynapse.import_.samna_findings import all_findings
from nir_dynapse.import_.samna_rows import CHIPS, CORES, NEURONS, Bits
from nir_dynapse.layout.layout import Layout
from nir_dynapse.layout.rows import INPUT_DTYPE, monitor_rows
from nir_dynapse.network.network import Port

__all__ = ["invented"]

Code = tuple[int, ...]

MOST_CORES, TAGS = CHIPS * CORES, 2048
USUAL_DT = 1e-3
"""Step in s where there is no neuron whose refractory time could tell."""
FLOOR = {"i_tau_mem": FAST_SYNAPSE, **{f"i_tau_{name}": FAST_SYNAPSE for name in DENDRITES}}
FLOOR["i_tau_gaba"] *= INHIBITION_STRETCH
"""The shortest time constant that a clocked network can ask for, in units of its step."""


def invented(bits: Bits, dt: float | None = None) -> Layout:
    """A Layout of all neurons that have rows or a monitored membrane, with names made from their places."""
    if dt is not None and not 0 < dt < np.inf:
        raise ParameterRangeError(f"from_samna: dt is {dt} s, allowed are finite numbers above 0. Give seconds.")
    flat = np.flatnonzero(bits.exists() | bits.shown())
    core_of, slot = flat // NEURONS, flat % NEURONS
    chip, core = core_of // CORES, core_of % CORES
    cam, sram = bits.cam[chip, core, slot], bits.sram[chip, core, slot]
    used = np.bincount(core_of, minlength=bits.n_chips * CORES)
    populations = {i: (f"core_{i // CORES}_{i % CORES}", int(used[i])) for i in np.flatnonzero(used).tolist()}
    monitored = core_of[monitor_rows(sram, chip).any(axis=1)]
    listening, sending = _listening(core_of, cam), _sending(core_of, sram, bits.n_chips)
    rows = _input_rows(listening, sending)
    channels = int(rows["channel"].max()) + 1 if len(rows) else 0
    layout = Layout(
        n_chips=bits.n_chips,
        populations=tuple((name, "CubaLIF", (size,)) for name, size in populations.values()),
        chip=chip,
        core=core,
        slot=slot,
        latches=bits.latches[chip, core, slot],
        cam=cam,
        sram=sram,
        codes=bits.codes_of(used > 0),
        used_cores=used > 0,
        inputs=(Port("input", (channels,)),) if channels else (),
        outputs=tuple(
            Port(f"output_{populations[i][0]}", (populations[i][1],), populations[i][0])
            for i in np.unique(monitored).tolist()
        ),
        input_rows=rows,
        projections=_projections({i: name for i, (name, _) in populations.items()}, listening, sending, rows),
        dt=USUAL_DT,
        origin={"source": "samna configuration"},
        membranes=bits.membranes[: bits.n_chips * CORES],
    )
    layout = replace(layout, dt=_step(layout) if dt is None else float(dt))
    what = "populations, input channels and outputs are named by place"
    if dt is None:
        what += f", and the step of {layout.dt:g} s is a guess from their refractory and other time constants"
    finding = Finding(
        "warning",
        "names-invented",
        f"the configuration comes without names: {what}.",
        hint="Give the layout.json that belongs to it as names" + (", or a dt." if dt is None else "."),
    )
    return replace(layout, findings=(finding, *all_findings(layout, bits)))


def _step(layout: Layout) -> float:
    """The step in s for which `compile` gives most neurons the refractory time that they have.

    Not so long that a time constant in use would have to be shorter than a clocked network can have. Of the steps that
    lead to the same codes, one with few digits.
    """
    if not layout.n_neurons:
        return USUAL_DT
    codes, count = np.unique(layout.codes[layout.core_index, COLUMN["i_ref"]], axis=0, return_counts=True)
    code = tuple(codes[int(np.argmax(count))].tolist())
    step = _time("i_ref", code) / REFRACTORY
    leaks = _leaks_in_use(layout)
    longest = min(_time(*leak) / FLOOR[leak[0]] for leak in leaks)
    few_digits = [float(f"{step:.{digits}e}") for digits in range(3)]
    for trial in (*few_digits, *np.geomspace(step, longest, 33).tolist()):
        if _code("i_ref", REFRACTORY * trial) == code and _keeps(leaks, trial):
            return trial
    return longest


def _keeps(leaks: set[tuple[str, Code]], step: float) -> bool:
    """Whether time constants that are too short at `step` still have their codes when they are made as long as needed."""
    return all(
        _time(name, code) >= FLOOR[name] * step or _code(name, FLOOR[name] * step) == code for name, code in leaks
    )


def _leaks_in_use(layout: Layout) -> set[tuple[str, Code]]:
    """(name, code) of the leaks of membranes, and of dendrites that a row with weight uses."""
    neuron, row = np.nonzero((layout.cam["dendrite"] >= 0) & (layout.cam["mask"] > 0))
    pairs = _distinct([layout.cam["dendrite"][neuron, row], layout.core_index[neuron]], [len(DENDRITES), MOST_CORES])
    names = {("i_tau_mem", i) for i in np.unique(layout.core_index).tolist()}
    names |= {(f"i_tau_{DENDRITES[d]}", i) for d, i in pairs.tolist()}
    return {(name, tuple(layout.codes[i, COLUMN[name]].tolist())) for name, i in names}


def _time(name: str, code: Code) -> float:
    """Time constant or width in s that a bias code makes."""
    circuit, amperes = DYNAPSE2.circuit, float(biasgen.current(name, *code))
    return circuit.width(name, amperes) if PARAMETERS[name].kind == "pulse" else circuit.tau(name, amperes)


def _code(name: str, time: float) -> Code:
    """The bias code nearest to a time constant or width in s."""
    circuit = DYNAPSE2.circuit
    amperes = circuit.width(name, time) if PARAMETERS[name].kind == "pulse" else circuit.tau(name, time)
    return tuple(int(part) for part in biasgen.nearest_codes(name, amperes)[:2])


# -- who sends and who listens ----------------------------------------------------------------------------------------


def _listening(core_of: np.ndarray, cam: np.ndarray) -> np.ndarray:
    """(core, tag) of every address that a CAM row with a dendrite waits for, sorted, (n, 2)."""
    neuron, row = np.nonzero(cam["dendrite"] >= 0)
    return _distinct([core_of[neuron], cam["tag"][neuron, row]], [MOST_CORES, TAGS])


def _sending(core_of: np.ndarray, sram: np.ndarray, n_chips: int) -> np.ndarray:
    """(source core, core, tag) of every address that events of on-chip neurons reach, sorted, (n, 3)."""
    neuron, row = np.nonzero(sram["cores"])
    found = sram[neuron, row]
    chip = core_of[neuron] // CORES + found["x_hop"]
    inside = (chip >= 0) & (chip < n_chips) & (found["y_hop"] == 0)
    which, core = np.nonzero((found["cores"][inside][:, None] >> np.arange(CORES)) & 1)
    columns = [core_of[neuron][inside][which], chip[inside][which] * CORES + core, found["tag"][inside][which]]
    return _distinct(columns, [MOST_CORES, MOST_CORES, TAGS])


def _distinct(columns: list[np.ndarray], sizes: list[int]) -> np.ndarray:
    """The different rows of `columns` (n,), numbers below `sizes`, sorted, (m, columns): a sort of numbers, not of rows."""
    keys = np.unique(np.ravel_multi_index(columns, sizes)) if len(columns[0]) else np.zeros(0, np.int64)
    return np.stack(np.unravel_index(keys, sizes), axis=1)


def _input_rows(listening: np.ndarray, sending: np.ndarray) -> np.ndarray:
    """One input channel per (chip, tag) that cores listen to and no neuron sends there, of INPUT_DTYPE."""
    served = set(map(tuple, sending[:, 1:].tolist()))
    cores: dict[tuple[int, int], int] = {}
    for i, tag in listening.tolist():
        if (i, tag) not in served:
            key = i // CORES, tag
            cores[key] = cores.get(key, 0) | 1 << i % CORES
    rows = [(channel, chip, cores[chip, tag], tag) for channel, (chip, tag) in enumerate(sorted(cores))]
    return np.array(rows, INPUT_DTYPE)


def _projections(
    names: dict[int, str], listening: np.ndarray, sending: np.ndarray, rows: np.ndarray
) -> tuple[tuple[str, str, str], ...]:
    """(source, target, name) of every pair of populations, or input and population, that is connected."""
    waiting = set(map(tuple, listening.tolist()))
    pairs = {("input", names[chip * CORES + i]) for _, chip, cores, _ in rows.tolist() for i in _cores(cores)}
    pairs |= {(names[source], names[i]) for source, i, tag in sending.tolist() if (i, tag) in waiting}
    return tuple((source, target, f"{source}_to_{target}") for source, target in sorted(pairs))


def _cores(mask: int) -> list[int]:
    return [i for i in range(CORES) if mask >> i & 1]
