"""What keeps a training from getting on, as findings with what helps: silence, saturation, numbers that are none.

`Run` looks at the first check and at what it returns; who trains in a loop of one's own calls `watched`.
"""

from __future__ import annotations

import numpy as np

from nir_dynapse.circuit.params import Params
from nir_dynapse.errors import Finding
from nir_dynapse.reporting.training_log import TrainingLog
from nir_dynapse.sim.simulation import simulate
from nir_dynapse.training.model import Trainable
from nir_dynapse.training.trainable import Latent

__all__ = ["SAMPLES", "course_findings", "watched"]

SAMPLES = 64
"""Samples that are looked at, evenly chosen."""
FULL = 0.9
"""A neuron is at its maximal rate in a sample with so much of the spikes that its refractory period allows."""
MOST_FULL, MOST_TOP = 0.1, 0.25
"""Share of the samples and neurons at the maximal rate, and of the rows at the largest weight, that is worth a finding."""
END = 0.03
"""How near to an end of its range, relative, a bias is at that end: a code or two."""
RISING = 0.01
"""What the held-out accuracy won in the last quarter of a training that could have gone on."""
GAINS = ("i_gain_ampa", "i_gain_gaba")
WIDER = "TrainingOptions(surrogate=Surrogate(slope=2)), finetune --slope 2"


def watched(model: Trainable, numbers: Latent, x: np.ndarray, pre: np.ndarray | None = None) -> tuple[Finding, ...]:
    """Findings of what `numbers` stand for on event counts `x` (B, T, channels), on the nominal chip.

    "silent": populations without a spike whose sources do send events; "saturated": neurons at the rate that their
    refractory period allows, n ≥ 0.9·T·dt/t_ref spikes in a sample, rows at the largest weight of their core, biases at an
    end of the range that is trained. `pre` (R,) as in `Trainable.params`.
    """
    params = model.params(numbers, pre)
    x = x[np.linspace(0, len(x) - 1, min(len(x), SAMPLES)).astype(int)]
    found = simulate(params, x)
    counts = {name: np.asarray(found.spikes[name]).sum(1) / params.topology.copies_of[name] for name in found.spikes}
    return (
        *_silent(params, x, counts),
        *_fast(params, x.shape[1], counts),
        *_rows_at_the_top(model, params),
        *_biases_at_an_end(model, params),
    )


def _silent(params: Params, x: np.ndarray, counts: dict[str, np.ndarray]) -> list[Finding]:
    """Populations that nothing makes fire though something could: not those behind them."""
    t, found = params.topology, []
    channels = [*x.any((0, 1)), bool(t.tonic_period)]
    neurons = [np.repeat(counts[name].any(0), t.copies_of[name]) for name in counts]
    sends = np.concatenate([np.asarray(channels, bool), *neurons])
    for name, part in t.slices().items():
        into = (t.post >= part.start) & (t.post < part.stop)
        if counts[name].any() or not sends[t.pre[into]].any():
            continue
        what = f"no spikes in {len(x)} samples: no neuron comes near its threshold, where gradients would be large."
        hint = f"Give the surrogate a wider reach ({WIDER}), or scale the weights that lead there up before training."
        found.append(Finding("warning", "silent", what, name, hint=hint))
    if not x.any():
        what = f"no events in {len(x)} samples of the data: nothing can be learnt."
        found = [Finding("warning", "silent", what, hint="Check how the data was encoded.")]
    return found


def _fast(params: Params, bins: int, counts: dict[str, np.ndarray]) -> list[Finding]:
    t, found = params.topology, []
    outputs = {str(port.source) for port in t.outputs}
    refractory = params.circuit.width("i_ref", np.asarray(params.bias["i_ref"], float))[t.group]
    for name, part in t.slices().items():
        each = t.copies_of[name]
        most = bins * t.dt / np.maximum(refractory[part].reshape(-1, each).mean(1), 1e-9)
        full = counts[name] >= FULL * np.maximum(most, 1)
        if name in outputs:  # the answer may fire as fast as it can, two of them cannot be told apart
            full &= (full.sum(1) > 1)[:, None]
        if not full.size or full.mean() < MOST_FULL:
            continue
        rate = 1 / float(refractory[part].mean())
        what = (
            f"saturated: {full.mean():.0%} of its neurons and samples are at the maximal rate, {rate:.0f} spikes a second, "
            "where more input changes nothing."
        )
        hint = (
            "Let spikes cost something (TrainingOptions(penalty=Penalty(sparsity=0.001)), finetune --sparsity 0.001)."
        )
        worst = int(full.mean(0).argmax())
        found.append(Finding("warning", "saturated", what, name, worst, hint=hint, count=int(full.any(0).sum())))
    return found


def _rows_at_the_top(model: Trainable, params: Params) -> list[Finding]:
    """Rows that cannot grow, where the gains, by which weights are measured, cannot either."""
    t, found = params.topology, []
    fixed = [gain for gain in GAINS if gain not in model.chart.ranges]
    if t.mask is None or not fixed:
        return found
    top = t.mask == (1 << model.chart.bits) - 1
    for name, part in t.slices().items():
        mine = (t.post >= part.start) & (t.post < part.stop)
        share = float(top[mine].mean()) if mine.any() else 0.0
        if share >= MOST_TOP:
            what = f"saturated: {share:.0%} of the CAM rows are at the largest weight, and cannot grow."
            hint = f"Train the gains, too (TrainingOptions(trained=(..., {', '.join(map(repr, fixed))}))."
            found.append(Finding("warning", "saturated", what, name, used=round(share, 3), limit=MOST_TOP, hint=hint))
    return found


def _biases_at_an_end(model: Trainable, params: Params) -> list[Finding]:
    t, chart, found = params.topology, model.chart, []
    named = {int(t.group[part.start]): name for name, part in reversed(t.slices().items()) if part.stop > part.start}
    for name, (low, high) in chart.ranges.items():
        grid = chart.grids[name]
        inside = grid[(grid >= low * (1 - 1e-6)) & (grid <= high * (1 + 1e-6))]
        values = np.asarray(params.bias[name], float)
        for group, node in named.items():
            upper, lower = values[group] >= inside[-1] * (1 - END), values[group] <= inside[0] * (1 + END)
            if not upper and not lower:
                continue
            which = "upper" if upper else "lower"
            what = f"saturated: {name} is at the {which} end of its range, {1e12 * values[group]:.3g} pA."
            found.append(Finding("info", "saturated", what, node, hint=_way_out(name, upper, model)))
    return found


def _way_out(name: str, upper: bool, model: Trainable) -> str:
    """What lets a bias leave the end of its range."""
    if name == "i_tau_mem" and upper:
        return (
            f"Shorter membranes need shorter internal steps (TrainingOptions(substeps={2 * model.substeps}), or a network "
            "read with a smaller dt)."
        )
    if "gain" in name and upper:
        return "Larger weights need more rows (TrainingOptions(rows=...), spend='chip', --spend chip)."
    if "tau" in name:
        how, scale = ("slower", "above") if upper else ("faster", "below")
        return f"Play the data {how} (time_scale {scale} 1, with its dt): time constants scale with it."
    return ""


def course_findings(
    log: TrainingLog, best_step: int, kept: bool, steps: int, finite: bool = True
) -> tuple[Finding, ...]:
    """Findings of how a training of `steps` went: `kept` is whether something better than the start was found, `finite`
    whether what was trained stayed numbers."""
    found: list[Finding] = []
    strange = ~np.isfinite(log.loss) | (not finite and log.step == log.step[-1])
    if strange.any():
        where = f"at {int(strange.sum())} of {len(log)} checks, first at step {log.step[strange][0]}."
        what = (
            f"not a number: the loss {where}" if finite else f"not a number: what is trained, {where} It ended there."
        )
        hint = "Lower the rate (TrainingOptions(rate=...), finetune --rate), and check numbers of the loss and of the data."
        found.append(Finding("warning", "not-finite", what, hint=hint))
    if len(log) and not kept:
        what = "no state of the training was better than its start on held-out chips: the start is what is returned."
        hint = "Give it more time (steps, minutes, --minutes), or a lower rate (TrainingOptions(rate=...), --rate)."
        found.append(Finding("warning", "not-better", what, hint=hint))
    known = np.isfinite(log.score)
    if kept and known.sum() >= 4 and best_step == log.step[-1] and not strange.any():
        late = log.score[known & (log.step > 0.75 * steps)]
        before = log.score[known & (log.step <= 0.75 * steps)]
        won = late.max() - before.max() if late.size and before.size else 0.0
        if won > RISING * max(abs(before.max()), 1e-9):
            share = 0 <= before.max() <= 1
            what = "still rising: the best state on held-out chips is the last one"
            what += f", {100 * won:.1f} points above that of three quarters of the steps." if share else "."
            hint = "More time wins more (minutes, --minutes, or steps)."
            found.append(Finding("info", "unfinished", what, used=round(float(log.score[known][-1]), 4), hint=hint))
    return tuple(found)
