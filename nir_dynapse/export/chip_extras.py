"""What a circuit has and NIR does not (places, bias currents, latches), as metadata beside the graph."""

from __future__ import annotations

from typing import Any

import numpy as np

from nir_dynapse.chip.device import CURRENTS, LATCHES
from nir_dynapse.circuit.params import Params
from nir_dynapse.export.nir_graph import Extras

__all__ = ["KEY", "chip_extras"]

KEY = "dynapse2"
"""Metadata key of everything that only this chip has."""


def chip_extras(params: Params, device: str) -> Extras:
    """Metadata of the graph that `to_nir` makes from a circuit.

    On the graph: the device, bias currents in A per bias group, the period of the tonic channel in s. On each population:
    chip, core, slot, bias group and latches (bit i is `device.LATCHES[i]`) of its neurons, one after the other those of
    all `copies` of each, where there are several. No tool needs it.
    """
    t = params.numpy().topology
    biases = {name: np.asarray(params.bias[name], float) for name in CURRENTS}
    whole: dict[str, Any] = {"device": device, "bias_a": biases, "latch_names": ", ".join(LATCHES)}
    if params.base is not None:
        whole["base_currents_a"] = np.asarray(params.base, float)
    if t.tonic_period is not None:
        whole["tonic_period_s"] = float(t.tonic_period)
    nodes = {}
    for name, part in t.slices().items():
        chip, core, slot = t.place[part].T
        own = {"chip": chip, "core": core, "slot": slot, "bias_group": t.group[part], "latches": t.latches[part]}
        nodes[name] = {KEY: {key: np.array(value) for key, value in own.items()}}
        if (copies := t.copies_of[name]) > 1:
            nodes[name][KEY]["copies"] = copies
    return Extras({KEY: whole}, nodes)
