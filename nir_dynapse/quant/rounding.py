"""Rounding: the weights of all cores to base currents, gain codes and CAM rows, and how far off that leaves them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from nir_dynapse.chip.device import BASE_WEIGHTS, GABA, WEIGHT_GAINS, Device
from nir_dynapse.circuit.closed_form import charge_per_ampere
from nir_dynapse.circuit.params import Params, Topology
from nir_dynapse.errors import Finding
from nir_dynapse.quant.core_weights import CoreProblem, importance_of, quantise_core

__all__ = ["BINS", "Rounded", "Rounding", "gain_units", "round_weights", "rounding_findings", "weight_errors"]

BINS = np.linspace(-0.26, 0.26, 14)
"""Borders of the histograms of errors, in units of the RMS weight of the core; what is beyond counts in the last bins."""

IMPRECISE = 0.2
"""RMS error over RMS weight of a core from which it is a warning."""
OF_RESETS = 10.0
"""How much more than that of other weights the error of a synapse counts that does the reset of its neuron."""


class Rounded(NamedTuple):
    """CAM rows of all cores: row k makes a part of synapse `which[k]` through `dendrite[k]` with `mask[k]`.

    `base` (cores, 4) in A as it flows, `gain_codes[core][dendrite]` = (coarse, fine), `values` (S,) the charge per event
    that each synapse gets.
    """

    which: np.ndarray
    dendrite: np.ndarray
    mask: np.ndarray
    base: np.ndarray
    gain_codes: dict[int, dict[int, tuple[int, int]]]
    values: np.ndarray


def gain_units(params: Params, bias: dict[str, np.ndarray]) -> np.ndarray:
    """Charge per event per A of weight current and A of gain current, (4, groups), with the currents `bias` (groups,)."""
    unity = {**bias, **dict.fromkeys(WEIGHT_GAINS, np.ones(len(bias["i_tau_mem"])))}
    return charge_per_ampere(params.circuit, unity)


class Rounding(NamedTuple):
    """Weights to round: `charge` (S,) per event of the synapses of `topology`, on `core` (N,), counted over all chips.

    `spare` (N,) are free CAM rows, `unit` (4, groups) as from `gain_units`; `importance` (S,) replaces the default,
    `second_range` (groups,) allows AMPA weights the NMDA dendrite; `key` seeds the starts.
    """

    topology: Topology
    charge: np.ndarray
    core: np.ndarray
    spare: np.ndarray
    unit: np.ndarray
    importance: np.ndarray | None = None
    second_range: np.ndarray | None = None
    key: int = 0


def round_weights(problem: Rounding, device: Device) -> Rounded:
    """Base currents, gain codes and CAM rows of all cores, core by core."""
    t, charge, core, spare = problem.topology, problem.charge, problem.core, problem.spare
    importance, second_range = problem.importance, problem.second_range
    where = core[t.post]
    order = np.argsort(where, kind="stable")
    base = np.zeros((device.n_cores, len(BASE_WEIGHTS)))
    codes: dict[int, dict[int, tuple[int, int]]] = {}
    values = np.zeros(t.n_synapses)
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    base_scale, gain_scale = (np.stack([device.scale(n) for n in names], 1) for names in (BASE_WEIGHTS, WEIGHT_GAINS))
    present, first = np.unique(where[order], return_index=True)
    for c, rows in zip(
        present.tolist(), np.split(order, first[1:]), strict=False
    ):  # without synapses there is one empty part
        neurons, local = np.unique(t.post[rows], return_inverse=True)
        group = int(t.group[neurons[0]])
        here = CoreProblem(
            charge[rows],
            t.dendrite[rows],
            local.reshape(-1),
            _importance(t, charge, rows) if importance is None else importance[rows],
            spare[neurons],
            problem.unit[:, group],
            second_range is not None and bool(second_range[group]),
            base_scale[c],
            gain_scale[c],
        )
        result = quantise_core(here, device, problem.key)
        base[c], codes[c], values[rows] = result.base, result.gain_codes, result.values
        parts.append((rows[result.which], result.dendrite, result.mask))
    which, dendrite, mask = (
        np.concatenate([np.zeros(0, int), *(part[k] for part in parts)]).astype(int) for k in range(3)
    )
    by_synapse = np.argsort(which, kind="stable")
    return Rounded(which[by_synapse], dendrite[by_synapse], mask[by_synapse], base, codes, values)


def _importance(t: Topology, charge: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Default importance of the weights `rows` of a core; more where every neuron inhibits itself at each spike.

    That is its reset (`fitting.scales`): an error of it counts at each spike of the neuron, and all of them err alike.
    """
    found = importance_of(charge[rows])
    own = (t.pre[rows] == t.tonic + 1 + t.post[rows]) & (t.dendrite[rows] == GABA)
    every = len(np.unique(t.post[rows][own])) == len(np.unique(t.post[rows]))
    return np.where(own & every, OF_RESETS * found, found)


def weight_errors(problem: Rounding, rounded: Rounded, device: Device) -> dict[str, Any]:
    """How far off the weights are, JSON-ready: RMS error over RMS weight per core, projection and neuron, and histograms.

    `cores["chip.core"]`: weights, rows, lost (rounded to nothing), nrmse, bins (counts of errors between `BINS`, in units
    of the core's RMS weight). `projections`: [source node, target node, weights, lost, nrmse]. `neurons`: nrmse of each.
    `borders`: `BINS`.
    """
    t, charge, core = problem.topology, problem.charge, problem.core
    off, power = (rounded.values - charge) ** 2, charge**2
    lost = (rounded.values == 0) & (charge > 0)
    rows = np.bincount(rounded.which, minlength=t.n_synapses)
    where = core[t.post]
    cores: dict[str, Any] = {}
    for c in np.unique(where).tolist():
        here = where == c
        chip, index = divmod(c, device.cores_per_chip)
        rms = float(np.sqrt(power[here].mean())) or 1.0
        error = np.clip((rounded.values - charge)[here] / rms, BINS[0], BINS[-1])
        cores[f"{chip}.{index}"] = {
            "weights": int(here.sum()),
            "rows": int(rows[here].sum()),
            "lost": int(lost[here].sum()),
            "nrmse": _ratio(off[here].sum(), power[here].sum()),
            "bins": np.histogram(error, BINS)[0].tolist(),
        }
    owner = np.repeat(np.arange(len(t.inputs)), [port.size for port in t.inputs])
    names = [*(port.name for port in t.inputs), "tonic", *(name for name, _ in t.populations)]
    sizes = [size for _, size in t.populations]
    node = np.r_[owner, len(t.inputs), len(t.inputs) + 1 + np.repeat(np.arange(len(sizes)), sizes)].astype(int)
    pair = node[t.pre] * len(names) + node[t.post + t.tonic + 1]
    projections = []
    for p in np.unique(pair).tolist():
        here = pair == p
        source, target = divmod(p, len(names))
        nrmse = _ratio(off[here].sum(), power[here].sum())
        projections.append([names[source], names[target], int(here.sum()), int(lost[here].sum()), nrmse])
    sums = (np.bincount(t.post, value, minlength=t.n_neurons) for value in (off, power))
    neurons = [_ratio(a, b) for a, b in zip(*sums, strict=True)]
    borders = [round(float(border), 3) for border in BINS]
    return {"cores": cores, "projections": projections, "neurons": neurons, "borders": borders}


def _ratio(off: float, power: float) -> float:
    """√(off/power) to four digits (0 where nothing was asked for)."""
    return float(f"{np.sqrt(off / power):.4g}") if power > 0 else 0.0


def rounding_findings(errors: dict[str, Any]) -> list[Finding]:
    """What rounding costs, in words: a finding per core, and one per projection that lost connections."""
    found = []
    for name, core in errors["cores"].items():
        chip, index = name.split(".")
        more = core["rows"] - core["weights"]
        finer = f" ({more} further CAM rows make them finer)" if more else ""
        found.append(
            Finding(
                "info",
                "weight-rounding",
                f"chip {chip}, core {index}: {core['weights']} weights rounded to the sums of four base currents{finer}, "
                f"RMS error {100 * core['nrmse']:.1f} % of the RMS weight.",
                used=core["nrmse"],
            )
        )
        if core["nrmse"] > IMPRECISE:
            found.append(
                Finding(
                    "warning",
                    "weight-precision",
                    f"chip {chip}, core {index}: the weights are off by {100 * core['nrmse']:.0f} % of their RMS; they "
                    "differ too much for the sums of four base currents, or are out of reach.",
                    used=core["nrmse"],
                    limit=IMPRECISE,
                    hint="Give neurons fewer synapses (spare CAM rows make weights finer), or pass second_range=True "
                    "(--second-range).",
                )
            )
    for source, target, weights, lost, _ in errors["projections"]:
        if lost:
            found.append(
                Finding(
                    "info",
                    "weight-vanished",
                    f"{lost} of {weights} weights from {source!r} are nearer to zero than to the smallest level; they keep "
                    "their CAM row with no weight.",
                    node=target,
                    used=lost,
                    limit=weights,
                )
            )
    return found
