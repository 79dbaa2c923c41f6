"""CAM capacity: every incoming synapse of a neuron takes a row; too many are refused or the weakest are dropped."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from nir_dynapse.closed_form import event_charge, row_numbers
from nir_dynapse.device import Device
from nir_dynapse.errors import Finding
from nir_dynapse.params import Params

__all__ = ["limit_fan_in"]


def limit_fan_in(params: Params, device: Device, fan_in: str) -> tuple[Params, list[Finding]]:
    """At most `device.cam_rows` synapses per neuron, rows renumbered from 0.

    `fan_in="refuse"` returns an error finding per NIR node, `"prune"` drops the rows with the smallest charge per
    event and says so in a warning per node.
    """
    t = params.topology
    count = np.bincount(t.post, minlength=t.n_neurons)
    findings = []
    for name, part in t.slices().items():
        over = np.flatnonzero(count[part] > device.cam_rows)
        if not len(over):
            continue
        worst = int(over[np.argmax(count[part][over])])
        most = int(count[part][worst])
        others = f" ({len(over)} neurons of this node have too many)" if len(over) > 1 else ""
        excess = int((count[part][over] - device.cam_rows).sum())
        if fan_in == "prune":
            what = f"the weakest {excess} synapses of {len(over)} neuron(s) were dropped to fit {device.cam_rows} CAM rows."
            hint = "Train with a sparser layer to choose them yourself."
        else:
            tonic = bool(((t.post == part.start + worst) & (t.pre == t.tonic)).any())
            rows = (
                f"{most - 1} incoming synapses and a constant input ({most} CAM rows)"
                if tonic
                else f"{most} incoming synapses"
            )
            what = f"{rows}, a DYNAP-SE2 neuron stores {device.cam_rows}{others}."
            hint = f'Pass fan_in="prune" (--fan-in prune) to drop the weakest {most - device.cam_rows}, or split the layer.'
        findings.append(
            Finding(
                "warning" if fan_in == "prune" else "error",
                "fan-in",
                what,
                node=name,
                index=worst,
                used=most,
                limit=device.cam_rows,
                hint=hint,
            )
        )
    if fan_in == "prune" and findings:
        params = _keep(params, _strongest(params, device))
    return params, findings


def _strongest(params: Params, device: Device) -> np.ndarray:
    """Boolean (S,): the `cam_rows` strongest synapses of each neuron (the tonic input always counts as strongest)."""
    t = params.topology
    strength = np.where(t.pre == t.tonic, np.inf, params.row_currents() * event_charge(params))
    strongest_first = np.argsort(-strength, kind="stable")
    keep = np.zeros(t.n_synapses, bool)
    keep[strongest_first[row_numbers(t.post[strongest_first]) < device.cam_rows]] = True
    return keep


def _keep(params: Params, keep: np.ndarray) -> Params:
    t = params.topology
    post = t.post[keep]
    topology = replace(
        t,
        pre=t.pre[keep],
        post=post,
        dendrite=t.dendrite[keep],
        row=row_numbers(post),
        mask=None if t.mask is None else t.mask[keep],
        delay=None if t.delay is None else t.delay[keep],
    )
    weight, factor = (None if v is None else np.asarray(v)[keep] for v in (params.weight, params.delay_factor))
    return replace(params, weight=weight, topology=topology, delay_factor=factor)
