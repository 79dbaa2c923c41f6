"""Placement: neurons to (chip, core, slot), bias group by bias group, in index order."""

from __future__ import annotations

import numpy as np

from nir_dynapse.device import Device
from nir_dynapse.errors import CapacityError, Finding
from nir_dynapse.quant.biases import cores_needed

__all__ = ["place"]


def place(group: np.ndarray, device: Device) -> np.ndarray:
    """Places (N, 3) = chip, core, slot of neurons with bias groups `group` (N,): each group fills cores of its own.

    CapacityError where the device has too few neurons or cores; it says how many chips it would take.
    """
    needed = cores_needed(group, device)
    chips = -(-needed // device.cores_per_chip)
    if needed > device.n_cores:
        more = (
            f"Use device=DYNAPSE2.stack({chips}) (--chips {chips})."
            if chips <= device.max_stack
            else f"A stack holds at most {device.max_stack} chips: make the network smaller."
        )
        raise CapacityError(
            Finding(
                "error",
                "neurons",
                f"{len(group)} neurons in {int(group.max()) + 1} bias group(s) take {needed} cores, {device.n_chips} "
                f"chip(s) have {device.n_cores} cores of {device.neurons_per_core} neurons ({device.n_neurons} in all); "
                f"it would take {chips} chips.",
                used=len(group),
                limit=device.n_neurons,
                hint=more,
            )
        )
    places = np.zeros((len(group), 3), int)
    core = 0
    for g in range(int(group.max()) + 1 if len(group) else 0):
        members = np.flatnonzero(group == g)
        offset, slot = np.divmod(np.arange(len(members)), device.neurons_per_core)
        places[members, 0], places[members, 1] = np.divmod(core + offset, device.cores_per_chip)
        places[members, 2] = slot
        core += int(offset.max()) + 1 if len(members) else 0
    return places
