"""Pruning as a step of its own: the circuit with only the synapses that the chip has rows for, by measured importance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from nir_dynapse.chip.device import Device
from nir_dynapse.circuit.closed_form import to_params
from nir_dynapse.circuit.params import Params, Topology
from nir_dynapse.data.data import Data
from nir_dynapse.deployment.activity import measured_charge
from nir_dynapse.errors import CapacityError, ConfigurationError, Finding, ParameterRangeError, raise_if_errors
from nir_dynapse.evaluation.checks import check_data
from nir_dynapse.network.network import Network
from nir_dynapse.quant.fan_in import limit_fan_in
from nir_dynapse.quant.sharing import merge_parallel
from nir_dynapse.reporting.tables import Accuracy

__all__ = ["FAN_IN", "Pruning", "fan_in_of", "rows_chosen", "worth"]

FAN_IN = ("train", "prune", "refuse")
"""What to do with neurons that have more synapses than CAM rows: choose them by training, drop the rest, or refuse."""
MOST_SAMPLES = 256
"""Samples that importance is measured on at most."""


def fan_in_of(fan_in: str | None, train: Data | None) -> str:
    """`fan_in`, where None "train" with training data and "refuse" without (ParameterRangeError, ConfigurationError)."""
    if fan_in is None:
        return "refuse" if train is None else "train"
    if fan_in not in FAN_IN:
        raise ParameterRangeError(f"deploy: fan_in is {fan_in!r}. Choose one of {', '.join(map(repr, FAN_IN))}.")
    if fan_in == "train" and train is None:
        raise ConfigurationError(
            "deploy: fan_in is 'train', but there is nothing to train with. Give train=Data(x, y, dt) (--train TRAIN.npz), "
            'or fan_in="prune" (--fan-in prune).'
        )
    return fan_in


class Pruning:
    """Prunes circuits of `network` to the CAM rows of `device`, by what each synapse does with `data` (see `worth`).

    `options` are those of `compile`. The classes of `data` are not looked at: they may be what accuracy is measured on.
    """

    def __init__(self, network: Network, data: Data, device: Device, options: Mapping[str, Any] | None = None) -> None:
        self.network, self.data, self.device = network, data, device
        self.merges = (options or {}).get("spare_rows", True)

    def fits(self, params: Params | None = None) -> bool:
        """Whether every neuron of the closed-form circuit, or of `params`, has as few synapses as CAM rows."""
        t = self._merged(params).topology
        return int(np.bincount(t.post, minlength=1).max()) <= self.device.cam_rows

    def refuse(self, params: Params | None = None) -> None:
        """CapacityError, with a finding for each NIR node, where they do not fit."""
        _, _, found = limit_fan_in(self._merged(params), self.device, "refuse")
        raise_if_errors(found, CapacityError)

    def __call__(self, params: Params | None = None) -> Params:
        """The closed-form circuit, or `params`, with the synapses that fit, exact currents, and a finding per node."""
        check_data(self.data, self.network, labels=False)
        merged = self._merged(params)
        importance, how = worth(merged, self.network, self.data)
        kept, _, found = limit_fan_in(merged, self.device, "prune", importance)
        told = (replace(finding, what=f"{finding.what} {how}") for finding in found)
        return replace(kept, findings=(*kept.findings, *told))

    def _merged(self, params: Params | None) -> Params:
        asked = to_params(self.network, self.device) if params is None else params.numpy()
        if asked.topology.mask is None and self.merges:
            asked, _ = merge_parallel(asked, None)  # as compile does
        return asked


def worth(params: Params, network: Network, data: Data) -> tuple[np.ndarray, str]:
    """What each synapse of `params` is worth on `data`, (S,) from 0, and in words how it was measured.

    To first order what the circuit's answers lose without it (`sim.importance`); charge times measured rate where a readout
    on the host gives the answers, and among synapses without such an effect.
    """
    some = np.random.default_rng(0).permutation(len(data))[:MOST_SAMPLES]
    few = Data(data.x[some], data.y[some], data.dt)
    charge = measured_charge(params, network, few)
    charge /= charge.max(initial=0.0) or 1.0
    if params.topology.outputs[0].source not in params.topology.slices():
        return charge, f"Important is what brings much charge per second, on {len(few)} samples."
    from nir_dynapse.sim.importance import taylor_importance  # JAX, where something is pruned

    taylor = taylor_importance(params, few.x)
    taylor /= taylor.max(initial=0.0) or 1.0
    how = f"Important is what the circuit's answers to {len(few)} samples depend on (first order)."
    return taylor + 1e-9 * charge, how


def rows_chosen(params: Params | None, prune: Pruning, accuracy: Sequence[Accuracy]) -> tuple[Finding, ...]:
    """What training onto the rows of the chip kept, beside what pruning alone would have given."""
    if params is None:
        return ()
    asked = to_params(prune.network, prune.device).topology
    kept, there = (len(np.unique(_connections(each), axis=1).T) for each in (params.topology, asked))
    share = {row.name: row.share for row in accuracy}
    what = (
        f"training kept {kept} of {there} connections, at most {prune.device.cam_rows} of a neuron: {share['circuit']:.1%} "
        f"as a circuit, where pruning alone gives {share['untrained, pruned']:.1%}."
    )
    return (Finding("info", "rows-trained", what, used=kept, limit=there),)


def _connections(t: Topology) -> np.ndarray:
    """(2, S): source and neuron of the network that each synapse connects, whichever of their copies it leads to."""
    first, neuron = 0, []
    for name, size in t.node_sizes.items():
        neuron.append(np.repeat(first + np.arange(size), t.copies_of[name]))
        first += size
    own = np.concatenate(neuron)
    inner = t.pre > t.tonic
    return np.stack([np.where(inner, t.tonic + 1 + own[np.where(inner, t.pre - t.tonic - 1, 0)], t.pre), own[t.post]])
