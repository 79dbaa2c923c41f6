"""Given bits: Params whose synapses already have masks and base currents go to the chip as they are.

Every synapse is one CAM row, parallel ones and those with mask 0 included; nothing is merged, fitted or made finer.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from nir_dynapse.chip.device import BASE_WEIGHTS, CURRENTS, Device
from nir_dynapse.circuit.closed_form import event_charge
from nir_dynapse.circuit.params import Params
from nir_dynapse.errors import CapacityError, Finding
from nir_dynapse.quant.groups import cores_needed
from nir_dynapse.quant.rounding import Rounded

__all__ = ["given_groups", "given_rows"]


def given_groups(params: Params, device: Device) -> list[Params]:
    """`params` with the bias groups that can be tried: those that have neurons, then one for all that are equal.

    What is equal only now may be meant to differ later, so that it shares cores only where nothing else fits.
    CapacityError where the cores are too few for the groups, although they would do for the neurons.
    """
    t = params.topology
    columns = [np.asarray(params.bias[name], float)[:, None] for name in CURRENTS]
    table = np.concatenate([*columns, np.asarray(params.base, float)], 1)[t.group]
    _, first, alike = np.unique(table, axis=0, return_index=True, return_inverse=True)
    equal = first[alike.reshape(-1)]  # the first neuron with the same currents
    ways = [_regrouped(params, label) for label in (t.group, equal)]
    if ways[0].topology.n_groups == ways[1].topology.n_groups:
        ways.pop()
    needed = [cores_needed(way.topology.group, device) for way in ways]
    if needed[-1] > device.n_cores >= -(-t.n_neurons // device.neurons_per_core):
        raise CapacityError(_too_many(ways[-1].topology.n_groups, needed[-1], device))
    return [way for way, n in zip(ways, needed, strict=True) if n <= device.n_cores] or ways[-1:]


def _regrouped(params: Params, label: np.ndarray) -> Params:
    """`params` with a bias group for each value of `label` (N,), whose currents are those of its first neuron."""
    t = params.topology
    _, first, group = np.unique(label, return_index=True, return_inverse=True)
    kept = t.group[first]
    bias = {name: np.asarray(value, float)[kept] for name, value in params.bias.items()}
    topology = replace(t, group=group.reshape(-1))
    return replace(params, bias=bias, base=np.asarray(params.base, float)[kept], topology=topology)


def _too_many(groups: int, needed: int, device: Device) -> Finding:
    chips = -(-needed // device.cores_per_chip)
    more = f"Use device=DYNAPSE2.stack({chips}) (--chips {chips}), or " if chips <= device.max_stack else ""
    hint = (
        f"{more}give weights in place of masks (weight=params.row_currents(), base=None, topology.mask None): groups "
        "are then merged within the tolerance, and the weights fitted to what they share."
    )
    what = (
        f"{groups} different sets of bias and base currents take {needed} cores, {device.n_chips} chip(s) have "
        f"{device.n_cores}; where synapses have masks, sets that differ are never merged."
    )
    return Finding("error", "bias-groups", what, used=needed, limit=device.n_cores, hint=hint)


def given_rows(params: Params, got: dict[str, np.ndarray], core: np.ndarray, device: Device) -> Rounded:
    """The rows of `params` as they are, and what they weigh with the currents `got` (groups,) on `core` (N,)."""
    t = params.topology
    base = np.stack([got[name] for name in BASE_WEIGHTS], 1)
    real = replace(params, bias={name: got[name] for name in CURRENTS}, base=base)
    flowing = np.zeros((device.n_cores, len(BASE_WEIGHTS)))
    flowing[core] = base[t.group]
    mask = np.zeros(t.n_synapses, int) if t.mask is None else t.mask
    values = real.row_currents() * event_charge(real)
    return Rounded(np.arange(t.n_synapses), t.dendrite, mask, flowing, {}, values)
