"""`compile`: the pipeline from a Network to a Layout, as a list of stage calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from typing import Any, Literal

import numpy as np

from nir_dynapse.chip.device import DYNAPSE2, Device
from nir_dynapse.circuit.closed_form import to_params
from nir_dynapse.circuit.params import Params, Topology
from nir_dynapse.data.counts import real_array
from nir_dynapse.errors import (
    CapacityError,
    ConfigurationError,
    Finding,
    ParameterRangeError,
    raise_if_errors,
    sort_findings,
    strictly,
)
from nir_dynapse.files.numbers import PLACE_SECONDS, SEED
from nir_dynapse.files.numbers import TOLERANCE as ALLOWED
from nir_dynapse.layout.decoding import as_params, to_network
from nir_dynapse.layout.layout import Layout
from nir_dynapse.layout.rewriting import OF_BITS
from nir_dynapse.network.network import Network
from nir_dynapse.quant.activity import source_activity
from nir_dynapse.quant.delays import delay_errors
from nir_dynapse.quant.groups import TOLERANCE
from nir_dynapse.quant.holding import SEARCH, with_chips
from nir_dynapse.quant.mapping import Options, check_places, map_params
from nir_dynapse.quant.routing import core_of
from nir_dynapse.quant.rules import check_layout, check_wiring
from nir_dynapse.quant.sharing import merge_parallel, share_sources
from nir_dynapse.quant.spending import Spend, plans, spread_out

__all__ = ["compile", "copies_that_fit", "to_network"]

Progress = Callable[[str, float], None]
OF_PLACES = ("placement", "bias-scales")
"""Codes of findings on the places of the Layout that quantised Params may come from."""

OF_ROOM = ("neurons", "bias-groups", "tags", "fan-out", "bad-rows", "monitor-hops")
"""Codes of what may fit with fewer copies."""


def compile(
    net: Network,
    *,
    params: Params | None = None,
    device: Device = DYNAPSE2,
    fan_in: Literal["refuse", "prune"] = "refuse",
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
    spend: Spend = "none",
    progress: Progress | None = None,
) -> Layout:
    """Group, place, quantise and route `net` (with trained `params`, where given) into a Layout for `device`.

    The public `compile` (`fitting.compiler`), which says what the arguments are, without the fit to data. Raises
    CapacityError, ParameterRangeError or ConfigurationError with all findings.
    """
    for what, thing, kind in (("net", net, Network), ("params", params, Params), ("device", device, Device)):
        if not isinstance(thing, kind) and not (thing is None and what == "params"):
            raise ConfigurationError(f"compile: {what} is a {type(thing).__name__}. Give a {kind.__name__}.")
    if fan_in not in ("refuse", "prune"):
        trained = " What trains is fine_tune, or deploy with train=... (--train)." if fan_in == "train" else ""
        raise ParameterRangeError(f"compile: fan_in is {fan_in!r}. Choose 'refuse' or 'prune'.{trained}")
    if monitor not in ("outputs", "all"):
        raise ParameterRangeError(f"compile: monitor is {monitor!r}. Choose 'outputs' or 'all'.")
    seed = SEED.check("compile", "seed", seed)
    tolerance = ALLOWED.check("compile", "tolerance", tolerance)
    budget = PLACE_SECONDS.check("compile", "budget", budget)
    asked = to_params(net, device) if params is None else as_params(params, device).numpy().check()
    given = asked.topology.mask is not None
    findings = [f for f in asked.findings if not (given and f.code in (*OF_BITS, *OF_PLACES))]
    _check_nodes(net, asked)
    importance = _checked(importance, asked)
    if (
        spare_rows and asked.topology.mask is None
    ):  # one sum of parallel weights, which gets their rows back where that is better
        asked, importance = merge_parallel(asked, importance)
    options = Options(fan_in, spare_rows, second_range, share_tags is True, True, tolerance, seed, budget, progress)
    failed: Callable[[], CapacityError] | None = None
    for copies in plans(spend, asked, device):
        made, known, found = spread_out(asked, copies, importance, device, fan_in, seed)
        wishes = _monitored(net, made.topology, monitor), source_activity(activity, made.topology)
        watched = _watched(made.topology, membranes)
        ways = _ways(made, options, share_tags)
        try:
            mapped = _first_way(ways, partial(map_params, made, *wishes, known, device))
            break
        except CapacityError as error:  # fewer copies may fit
            failed = failed or partial(_with_chips, error, ways, partial(check_places, made, *wishes), device)
            if not any(f.code in OF_ROOM for f in error.findings) or any(f.code == "fan-in" for f in error.findings):
                raise failed() from None
    else:
        raise failed() if failed else CapacityError("compile: there is nothing to place.")
    findings += [*found, *mapped.findings]

    raise_if_errors(strictly(findings) if strict else (), ParameterRangeError)
    topology = mapped.topology
    layout = Layout(
        n_chips=device.n_chips,
        populations=tuple((p.name, p.kind, tuple(int(v) for v in p.shape)) for p in net.populations),
        chip=mapped.place[:, 0],
        core=mapped.place[:, 1],
        slot=mapped.place[:, 2],
        latches=topology.latches,
        cam=mapped.cam,
        sram=mapped.sram,
        codes=mapped.codes,
        used_cores=np.isin(np.arange(device.n_cores), core_of(mapped.place, device)),
        inputs=net.inputs,
        outputs=net.outputs,
        input_rows=mapped.input_rows,
        projections=tuple(dict.fromkeys((q.source, q.target, q.name) for q in net.projections)),
        dt=net.dt,
        tonic_period=topology.tonic_period,
        device=device.name,
        origin={**net.origin, "network": net.digest(), "nir_dynapse": version("nir-dynapse"), "seed": seed},
        findings=sort_findings(findings),
        readout=net.readout,
        weight_errors=mapped.errors,
        membranes=_membranes(watched, mapped.place, device),
        copies=topology.copies,
        circuit=made.circuit,
    )
    layout = replace(layout, delays=delay_errors(net, layout, device))
    violations = (*check_layout(layout, device), *check_wiring(layout, mapped.wired))
    raise_if_errors(violations, ConfigurationError)
    return layout


def finds_places(net: Network, params: Params, device: Device, seed: int = 0) -> bool:
    """Whether there are places and tags for `params` (without masks), of each neuron as many synapses as it has rows."""
    t = params.topology
    options = Options("prune", False, False, False, True, TOLERANCE, seed, SEARCH)
    wishes = _monitored(net, t, "outputs"), source_activity(None, t)
    try:
        _first_way(_ways(params, options, None), lambda way: check_places(params, *wishes, device, way))
    except CapacityError:
        return False
    return True


def _first_way(ways: Sequence[Options], make: Callable[[Options], Any]) -> Any:
    """What `make` makes of the first of `ways`, or of the second where tags run short in the first."""
    try:
        return make(ways[0])
    except CapacityError as error:
        if len(ways) == 1 or not any(f.code == "tags" for f in error.findings):
            raise
        return make(ways[1])


def _checked(importance: np.ndarray | None, params: Params) -> np.ndarray | None:
    """`importance` as an array, one finite value from 0 per synapse (ParameterRangeError)."""
    if importance is None:
        return None
    values = real_array("compile: importance", importance, "weights of synapses").astype(float).reshape(-1)
    if len(values) != params.topology.n_synapses or not np.isfinite(values).all() or (values < 0).any():
        raise ParameterRangeError(
            f"compile: importance has {len(values)} values, needed is a finite one from 0 for each of the "
            f"{params.topology.n_synapses} synapses. Give them in the order of params.topology (to_params(net))."
        )
    return values / (values.max(initial=0.0) or 1.0)


def _check_nodes(net: Network, params: Params) -> None:
    """ConfigurationError where `params` have other populations than `net`."""
    ours, needed = params.topology.node_sizes, {p.name: p.size for p in net.populations}
    if list(ours.items()) != list(needed.items()):
        raise ConfigurationError(
            f"compile: the params have populations {_listed(ours)}, the network {_listed(needed)}. Give the network that "
            "they come from."
        )


def _listed(sizes: dict[str, int]) -> str:
    return ", ".join(f"{name!r} ({size})" for name, size in sizes.items())


def _ways(asked: Params, options: Options, share_tags: bool | None) -> list[Options]:
    """How to map: as `options` say, then with shared tags where sharing was left open and there is something to share."""
    can_share = share_tags is None and not share_sources(asked)[1].all()
    return [replace(options, spread=not can_share), *([replace(options, share_tags=True)] if can_share else [])]


def _with_chips(error: CapacityError, ways: list[Options], places: Callable, device: Device) -> CapacityError:
    """`error` with the number of chips that would hold what `places` finds places for."""

    def holds(stack: Device) -> None:
        _first_way([replace(way, budget=min(way.budget, SEARCH)) for way in ways], partial(places, stack))

    return with_chips(error, holds, device)


def _monitored(net: Network, t: Topology, monitor: str) -> np.ndarray:
    """Boolean (N,): which neurons get a monitoring row."""
    if monitor == "all":
        return np.ones(t.n_neurons, bool)
    wanted = np.zeros(t.n_neurons, bool)
    for source in net.read_out:
        wanted[t.slices()[source]] = True
    return wanted


Named = tuple[str, int] | tuple[str, int, int]
"""A neuron: node and index, and the copy where there are several."""


def _watched(t: Topology, membranes: Sequence[Named]) -> dict[Named, int]:
    """Flat index of each neuron, named as `membranes` of `compile`, whose membrane is shown (ParameterRangeError)."""
    slices, sizes, copies = t.slices(), t.node_sizes, t.copies_of
    found = {}
    for named in membranes:
        node, index, copy = named if len(named) == 3 else (*named, 0)
        if node not in sizes:
            raise ParameterRangeError(
                f"compile: membranes asks for node {node!r}, allowed are {', '.join(map(repr, sizes))}. Name one of them."
            )
        if not 0 <= index < sizes[node]:
            raise ParameterRangeError(
                f"node {node!r}, neuron {index}: membranes asks for it, allowed are neurons 0 to {sizes[node] - 1}. "
                "Name one of them."
            )
        if not 0 <= copy < copies[node]:
            raise ParameterRangeError(
                f"node {node!r}, neuron {index}: membranes asks for its copy {copy}, allowed are 0 to {copies[node] - 1}. "
                "Name one of them."
            )
        found[named] = slices[node].start + index * copies[node] + copy
    return found


def copies_that_fit(network: Network, device: Device = DYNAPSE2, **options: Any) -> dict[str, int]:
    """Node → how many neurons of `device` can stand for each of its neurons: those of `compile(spend="chip")`.

    `options` are those of `compile`, whose errors it raises.
    """
    return compile(network, device=device, spend="chip", **options).copies_of


def _membranes(watched: dict[Named, int], place: np.ndarray, device: Device) -> np.ndarray:
    """The monitored slot of every core, -1 where there is none (CapacityError where a core should show two)."""
    slots = np.full(device.n_cores, -1)
    shown: dict[int, Named] = {}
    for named, n in watched.items():
        (node, index), copy = named[:2], next(iter(named[2:]), None)
        chip, core, slot = place[n].tolist()
        where = chip * device.cores_per_chip + core
        if where in shown:
            what = (
                f"it shares core {core} of chip {chip} with node {shown[where][0]!r}, neuron {shown[where][1]}; "
                "both membranes are to be monitored, a core shows one."
            )
            hint = "Leave one of them out, and compile again with the same seed to monitor it in another run."
            raise CapacityError(Finding("error", "membranes", what, node, index, used=2, limit=1, hint=hint, copy=copy))
        shown[where], slots[where] = named, slot
    return slots
