"""The public `compile`: that of `quant`, after the circuit was fitted to data where some is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from nir_dynapse.chip.device import DYNAPSE2, Device
from nir_dynapse.circuit.params import Params
from nir_dynapse.errors import ConfigurationError
from nir_dynapse.layout.layout import Layout
from nir_dynapse.network.network import Network
from nir_dynapse.quant import compiler
from nir_dynapse.quant.groups import TOLERANCE
from nir_dynapse.quant.spending import Spend

__all__ = ["compile"]

Progress = Callable[[str, float], None]


def compile(
    net: Network,
    *,
    params: Params | None = None,
    data: Any = None,
    device: Device = DYNAPSE2,
    fan_in: Literal["refuse", "prune"] = "refuse",
    spend: Spend = "none",
    monitor: Literal["outputs", "all"] = "outputs",
    seed: int = 0,
    strict: bool = False,
    importance: np.ndarray | None = None,
    activity: Mapping[str, Any] | None = None,
    spare_rows: bool = True,
    second_range: bool = False,
    share_tags: bool | None = None,
    tolerance: float = TOLERANCE,
    budget: float = 60.0,
    membranes: Sequence[tuple[str, int] | tuple[str, int, int]] = (),
    progress: Progress | None = None,
) -> Layout:
    """Group, place, quantise and route `net` into a Layout for `device`, its circuit fitted to `data` where it is given.

    `data` is `Data`, whose labels are not used, or event counts (batch, time, channel): the closed-form circuit (or
    `params`, where they are not quantised) is corrected first, so that its spikes follow the ideal run of that data (see
    `fitting.fit.fit_to_data`); infos of the Layout say what was fitted.

    Where the synapses of `params` have masks, each one becomes a CAM row as it is, and the currents the nearest codes.
    `fan_in="prune"` drops the weakest synapses of neurons with more than they have CAM rows; `monitor="all"` also records
    the neurons that are not outputs. `importance` (S,), one value per synapse of `params` (of `to_params(net)` where none
    are given), weighs the rounding errors and decides what is pruned. `activity` maps node names to events per second, one
    number or one per neuron or channel; placement keeps the busiest connections within a chip. `spare_rows=False` gives
    each weight one CAM row even where more are free, `second_range=True` lets excitatory weights use the NMDA dendrite
    (without its gate) as a second range. `share_tags=True` lets sources whose targets coincide share tags and CAM rows,
    None only where tags run short. `tolerance` is the largest relative change of a bias current that sharing a core may
    cause. `budget` in s caps the search for places, which normally ends long before; `progress(stage, fraction)` tells how
    far it is. `membranes` names neurons (node, index) whose membrane the chip shows to the outside, at most one per core.

    `spend` is how many neurons of the chip stand for each one of the network, whose spikes the host adds: a number, one for
    each node, or "chip", as many as fit. Each copy hears what its neuron hears, from one copy of each source, so that the
    errors of single neurons average out; copies of neurons with too many synapses share those where `fan_in` is "prune".
    `params` with copies bring theirs. A membrane is that of copy 0, or of (node, index, copy).
    `strict=True` turns every approximation (warning) into an error. Deterministic for a `seed`. Raises
    CapacityError, ParameterRangeError or ConfigurationError with all findings.
    """
    if data is not None:
        for what, thing, kind in (("net", net, Network), ("device", device, Device)):
            if not isinstance(thing, kind):
                raise ConfigurationError(f"compile: {what} is a {type(thing).__name__}. Give a {kind.__name__}.")
        from nir_dynapse.fitting.fit import fit_to_data  # JAX, where there is something to simulate

        params, _ = fit_to_data(net, data, params=params, device=device, key=seed, progress=progress)
    return compiler.compile(
        net,
        params=params,
        device=device,
        fan_in=fan_in,
        spend=spend,
        monitor=monitor,
        seed=seed,
        strict=strict,
        importance=importance,
        activity=activity,
        spare_rows=spare_rows,
        second_range=second_range,
        share_tags=share_tags,
        tolerance=tolerance,
        budget=budget,
        membranes=membranes,
        progress=progress,
    )
