"""`compile`: the pipeline from a Network to a Layout, as a list of stage calls."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import version
from typing import Literal

import numpy as np

from nir_dynapse import biasgen
from nir_dynapse.closed_form import event_charge, to_params
from nir_dynapse.decoding import to_network
from nir_dynapse.device import BASE_WEIGHTS, COLUMN, DYNAPSE2, PARAMETERS, Device
from nir_dynapse.errors import (
    CapacityError,
    ConfigurationError,
    Finding,
    ParameterRangeError,
    raise_if_errors,
    sort_findings,
    strictly,
)
from nir_dynapse.layout import Layout
from nir_dynapse.network import Network
from nir_dynapse.params import Params
from nir_dynapse.quant.biases import encode_biases, merge_groups
from nir_dynapse.quant.fan_in import limit_fan_in
from nir_dynapse.quant.placement import place
from nir_dynapse.quant.routing import route
from nir_dynapse.quant.rules import check_layout, check_wiring
from nir_dynapse.quant.weights import quantise_weights

__all__ = ["compile", "to_network"]


def compile(
    net: Network,
    *,
    params: Params | None = None,
    device: Device = DYNAPSE2,
    fan_in: Literal["refuse", "prune"] = "refuse",
    monitor: Literal["outputs", "all"] = "outputs",
    seed: int = 0,
    strict: bool = False,
) -> Layout:
    """Group, quantise, place and route `net` (with trained `params`, where given) into a Layout for `device`.

    `fan_in="prune"` drops the weakest synapses of neurons with more than 64; `monitor="all"` also records the neurons
    that are not outputs. `strict=True` turns every approximation (warning) into an error. Deterministic for a `seed`.
    Raises CapacityError, ParameterRangeError or ConfigurationError with all findings.
    """
    if fan_in not in ("refuse", "prune"):
        raise ParameterRangeError(f"compile: fan_in is {fan_in!r}. Choose 'refuse' or 'prune'.")
    if monitor not in ("outputs", "all"):
        raise ParameterRangeError(f"compile: monitor is {monitor!r}. Choose 'outputs' or 'all'.")
    asked = to_params(net, device) if params is None else params.numpy().check()
    findings = list(asked.findings)

    asked, found = limit_fan_in(asked, device, fan_in)
    findings += found
    capacity = [f for f in found if f.severity == "error"]
    try:
        grouped, found = merge_groups(asked, device)
        findings += found
        places = place(grouped.topology.group, device)
    except CapacityError as error:
        raise CapacityError([*capacity, *error.findings]) from None
    raise_if_errors(capacity, CapacityError)

    codes, got, found = encode_biases(grouped)
    findings += found
    target = _weights_for(asked, grouped.topology.group, got)
    topology = replace(grouped.topology, place=places)

    core = places[:, 0] * device.cores_per_chip + places[:, 1]
    masks, base, found = _quantise(asked, core, target, device, seed)
    findings += found
    routing = route(topology, masks, _monitored(net, topology.n_neurons, monitor), device)

    all_codes = np.zeros((device.n_cores, len(PARAMETERS), 2), np.uint8)
    group_of_core = dict(zip(core.tolist(), grouped.topology.group.tolist(), strict=True))
    for c, g in group_of_core.items():
        all_codes[c] = codes[g]
        for bit, name in enumerate(BASE_WEIGHTS):
            coarse, fine, _ = biasgen.nearest_codes(name, base[c, bit])
            all_codes[c, COLUMN[name]] = coarse, fine

    raise_if_errors(strictly(findings) if strict else (), ParameterRangeError)
    layout = Layout(
        n_chips=device.n_chips,
        populations=tuple((p.name, p.kind, tuple(int(v) for v in p.shape)) for p in net.populations),
        chip=places[:, 0],
        core=places[:, 1],
        slot=places[:, 2],
        latches=topology.latches,
        cam=routing.cam,
        sram=routing.sram,
        codes=all_codes,
        used_cores=np.isin(np.arange(device.n_cores), core),
        inputs=net.inputs,
        outputs=net.outputs,
        input_rows=routing.input_rows,
        projections=tuple(dict.fromkeys((q.source, q.target, q.name) for q in net.projections)),
        dt=net.dt,
        tonic_period=topology.tonic_period,
        device=device.name,
        origin={**net.origin, "network": net.digest(), "nir_dynapse": version("nir-dynapse"), "seed": seed},
        findings=sort_findings(findings),
        readout=net.readout,
    )
    violations = (*check_layout(layout, device), *check_wiring(layout, topology))
    raise_if_errors(violations, ConfigurationError)
    return layout


def _weights_for(asked: Params, group: np.ndarray, got: dict[str, np.ndarray]) -> np.ndarray:
    """Weight currents that keep the asked charge per event with the biases that the codes really give."""
    return asked.row_currents() * event_charge(asked) / event_charge(asked, got, group)


def _quantise(
    asked: Params, core: np.ndarray, target: np.ndarray, device: Device, seed: int
) -> tuple[np.ndarray, np.ndarray, list[Finding]]:
    """Masks (S,) and base currents (cores, 4), with what the rounding costs as findings."""
    t = asked.topology
    masks = np.zeros(t.n_synapses, int)
    base = np.zeros((device.n_cores, len(BASE_WEIGHTS)))
    grid = np.unique(biasgen.grid(BASE_WEIGHTS[0]))
    findings = []
    for c in np.unique(core):
        rows = np.flatnonzero(core[t.post] == c)
        if not len(rows):
            continue
        # Relative and absolute error in one: with absolute errors alone a few large weights take all the levels.
        importance = 1 / (target[rows] + 0.02 * target[rows].max())
        result = quantise_weights(target[rows], importance=importance, grid=grid, key=seed)
        masks[rows], base[c] = result.masks, result.base
        chip, index = divmod(int(c), device.cores_per_chip)
        error = result.nrmse(target[rows])
        findings.append(
            Finding(
                "info",
                "weight-rounding",
                f"chip {chip}, core {index}: {len(rows)} weights rounded to the sums of four base currents, "
                f"RMS error {100 * error:.1f} % of the RMS weight.",
                used=error,
            )
        )
    findings += _vanished(asked, masks)
    return masks, base, findings


def _vanished(asked: Params, masks: np.ndarray) -> list[Finding]:
    """A finding per population whose connections were rounded to nothing (they keep their CAM row)."""
    t = asked.topology
    found = []
    for name, part in t.slices().items():
        lost = (masks == 0) & (t.post >= part.start) & (t.post < part.stop)
        if lost.any():
            total = int(((t.post >= part.start) & (t.post < part.stop)).sum())
            found.append(
                Finding(
                    "info",
                    "weight-vanished",
                    f"{int(lost.sum())} of {total} incoming weights are nearer to zero than to the smallest level; they "
                    "keep their CAM row with no weight.",
                    node=name,
                    used=int(lost.sum()),
                    limit=total,
                )
            )
    return found


def _monitored(net: Network, n: int, monitor: str) -> np.ndarray:
    """Boolean (N,): which neurons get a monitoring row."""
    if monitor == "all":
        return np.ones(n, bool)
    wanted = np.zeros(n, bool)
    offsets = net.offsets()
    for source in net.read_out:
        wanted[offsets[source] : offsets[source] + net[source].size] = True
    return wanted
