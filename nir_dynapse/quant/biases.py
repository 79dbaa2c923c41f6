"""Bias codes: which codes set the biases of a core."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from nir_dynapse.chip.biasgen import current, nearest_codes, reach
from nir_dynapse.chip.device import BASE_WEIGHTS, COLUMN, CURRENTS, NMDA, PARAMETERS, WEIGHT_GAINS
from nir_dynapse.circuit.params import Params
from nir_dynapse.errors import Finding

__all__ = ["encode_biases", "open_second_range"]

NOTEWORTHY, SATURATED = 0.02, 0.1
"""Relative errors of a bias current above which its code is remarked on, and above which it is a warning."""
ON_GRID = 1e-6
"""Relative error up to which a current that was given as one of the grid is that one."""
ALWAYS = ("i_gain_mem", "i_spkthr", "i_pulse")
"""Parameters that matter although a network leaves them at their `off`: measured scales may move that out of reach."""


def encode_biases(
    params: Params, scales: Mapping[str, np.ndarray] | None = None
) -> tuple[np.ndarray, dict[str, np.ndarray], list[Finding]]:
    """Codes (groups, parameters, 2) nearest to the bias currents, the currents they give, and findings on rounding.

    `scales` by parameter (groups,): the current that flows over the nominal one of its code (`Device.scale`). The DC
    current is asked for relative to the leak, gain and threshold that the codes really give. Where synapses have masks,
    base currents are encoded too, every current for itself, and whatever is off the grid is remarked on.
    """
    t, given = params.topology, params.topology.mask is not None
    noteworthy = ON_GRID if given and scales is None else NOTEWORTHY
    codes = np.zeros((t.n_groups, len(PARAMETERS), 2), np.uint8)
    got: dict[str, np.ndarray] = {}
    findings: list[Finding] = []
    rounded: list[tuple[float, str]] = []
    for name in (*(n for n in CURRENTS if n != "i_dc"), "i_dc", *(BASE_WEIGHTS if given else ())):
        is_base = name in BASE_WEIGHTS
        asked = np.asarray(params.base[:, BASE_WEIGHTS.index(name)] if is_base else params.bias[name], float)
        if name == "i_dc" and not given:
            asked = asked * got["i_tau_mem"] * got["i_spkthr"] / got["i_gain_mem"]
            asked = asked * params.bias["i_gain_mem"] / (params.bias["i_tau_mem"] * np.asarray(params.bias["i_spkthr"]))
        scale = np.ones(t.n_groups) if scales is None else scales[name]
        coarse, fine, error = nearest_codes(name, asked / scale)
        got[name] = current(name, coarse, fine) * scale
        codes[:, COLUMN[name], 0], codes[:, COLUMN[name], 1] = coarse, fine
        off = PARAMETERS[name].off
        inexact = float(np.abs(error[asked != off]).max(initial=0.0))
        fitted = name in WEIGHT_GAINS and not given  # each core sets those for its own weights
        if noteworthy < inexact <= SATURATED and not fitted:
            percent = f"{100 * inexact:.1f}" if inexact >= 5e-4 else f"{100 * inexact:.1g}"
            rounded.append((inexact, f"{PARAMETERS[name].meaning} ({PARAMETERS[name].bias}) {percent} %"))
        lowest, highest = (scale * end for end in reach(name))
        matters = (asked != off) | ((name in ALWAYS) & ((asked < lowest) | (asked > highest)))
        if scales is not None and fitted:  # what the core cannot reach it makes up for with base currents
            matters[:] = False
        for g in np.flatnonzero((np.abs(error) > SATURATED) & matters):
            low, high = float(lowest[g]), float(highest[g])
            owner = t.where(int(np.argmax(t.group == g)))
            findings.append(
                Finding(
                    "warning",
                    "bias-saturation",
                    f"{PARAMETERS[name].meaning} ({PARAMETERS[name].bias}) should be {asked[g]:.3g} A and becomes "
                    f"{got[name][g]:.3g} A ({100 * error[g]:+.0f} %); in reach are {low:.3g} to {high:.3g} A.",
                    **owner,
                    used=float(asked[g]),
                    limit=high if asked[g] > high else low,
                    unit="A",
                    hint=f"Choose a {'base current' if is_base else 'time constant or gain'} inside this range.",
                )
            )
    if rounded:
        rounded.sort(reverse=True)
        what = f"nearest codes of the bias generator, largest errors: {', '.join(words for _, words in rounded)}."
        findings.append(Finding("info", "bias-rounding", what, used=rounded[0][0], limit=SATURATED))
    return codes, got, findings


def open_second_range(params: Params) -> tuple[Params, np.ndarray]:
    """`params` with the NMDA dendrite as fast as AMPA in bias groups that do not use it, and which those are (groups,)."""
    t, circuit = params.topology, params.circuit
    taken = np.bincount(t.group[t.post[t.dendrite == NMDA]], minlength=t.n_groups) > 0
    taken |= np.bincount(t.group[t.has_latch("nmda_gate")], minlength=t.n_groups) > 0
    tau = circuit.tau("i_tau_ampa", np.asarray(params.bias["i_tau_ampa"], float))
    leak = np.where(taken, params.bias["i_tau_nmda"], circuit.tau("i_tau_nmda", tau))
    return replace(params, bias={**params.bias, "i_tau_nmda": leak}), ~taken
