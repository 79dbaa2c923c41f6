"""CAM capacity: every incoming synapse of a neuron takes a row; too many are refused or the weakest are dropped."""

from __future__ import annotations

import numpy as np

from nir_dynapse.chip.device import Device
from nir_dynapse.circuit.closed_form import event_charge, row_numbers
from nir_dynapse.circuit.params import Params
from nir_dynapse.errors import Finding
from nir_dynapse.quant.sharing import keep_synapses

__all__ = ["limit_fan_in"]

TRAIN = "fine_tune (deploy --train TRAIN.npz) keeps as many as fit and chooses them by that data"


def limit_fan_in(
    params: Params,
    device: Device,
    fan_in: str,
    importance: np.ndarray | None = None,
    limit: np.ndarray | None = None,
) -> tuple[Params, np.ndarray | None, list[Finding]]:
    """At most `device.cam_rows` synapses per neuron (or `limit` (N,), of a chip with bad rows), rows renumbered from 0.

    `fan_in="refuse"` returns an error finding per NIR node; `"prune"` drops the rows with the smallest `importance` (S,),
    or the smallest charge per event where none is given, and says in a warning per node what it dropped. Also returns the
    importance of what is left.
    """
    t = params.topology
    rows = np.full(t.n_neurons, device.cam_rows) if limit is None else limit
    count = np.bincount(t.post, minlength=t.n_neurons)
    if (count <= rows).all():
        return params, importance, []
    keep = _strongest(params, rows, importance)
    findings = []
    which = "weakest" if importance is None else "least important"
    for name, part in t.slices().items():
        over = part.start + np.flatnonzero(count[part] > rows[part])
        if len(over):
            findings.append(
                _finding(params, name, part.start, over, count, rows, keep if fan_in == "prune" else None, which)
            )
    if fan_in == "prune":
        params = keep_synapses(params, keep)
        importance = None if importance is None else importance[keep]
    return params, importance, findings


def _finding(
    params: Params,
    name: str,
    first: int,
    over: np.ndarray,
    count: np.ndarray,
    rows: np.ndarray,
    keep: np.ndarray | None,
    which: str,
) -> Finding:
    """What is wrong with the neurons `over` of a node, or what was dropped where `keep` (S,) says what stays."""
    t = params.topology
    excess = count[over] - rows[over]
    worst = int(over[np.argmax(excess)])
    most, limit = int(count[worst]), int(rows[worst])
    several = len(over) > 1
    room = f"{limit} CAM rows" if (rows[over] == limit).all() else "their CAM rows"
    if keep is not None:
        charge = params.row_currents() * event_charge(params)
        lost = ~keep & np.isin(t.post, over)
        share = np.bincount(t.post, charge * lost, minlength=t.n_neurons) / np.bincount(
            t.post, charge, minlength=t.n_neurons
        ).clip(1e-300)
        what = (
            f"the {which} {int(excess.sum())} synapses were dropped to fit {room}; {'each' if several else 'it'} loses "
            f"up to {100 * share[over].max():.2g} % of the sum of its weights."
        )
        hint = f"Where there is training data, choose them by training: {TRAIN}."
    else:
        tonic = bool(((t.post == worst) & (t.pre == t.tonic)).any())
        incoming = ("up to " if several else "") + (
            f"{most - 1} incoming synapses and a constant input ({most} CAM rows)"
            if tonic
            else f"{most} incoming synapses"
        )
        what = f"{incoming}, a DYNAP-SE2 neuron stores {limit}."
        hint = f'With training data {TRAIN}; without, fan_in="prune" (--fan-in prune) drops the weakest {most - limit}.'
    severity = "error" if keep is None else "warning"
    place = {**t.where(worst), "count": len(np.unique((over - first) // t.copies_of[name]))}
    return Finding(severity, "fan-in", what, **place, used=most, limit=limit, hint=hint)


def _strongest(params: Params, rows: np.ndarray, importance: np.ndarray | None) -> np.ndarray:
    """Boolean (S,): the `rows` (N,) most important synapses of each neuron (the tonic input always counts as such)."""
    t = params.topology
    strength = params.row_currents() * event_charge(params) if importance is None else importance
    order = np.argsort(-np.where(t.pre == t.tonic, np.inf, strength), kind="stable")
    keep = np.zeros(t.n_synapses, bool)
    keep[order[row_numbers(t.post[order]) < rows[t.post[order]]]] = True
    return keep
