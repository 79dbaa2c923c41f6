"""`trainable`: the beginning of any training, from a network to the numbers that are trained."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from nir_dynapse.chip.biasgen import reach
from nir_dynapse.chip.device import DYNAPSE2, Device, Mismatch, check_mismatch
from nir_dynapse.circuit.copies import with_copies
from nir_dynapse.circuit.params import Params
from nir_dynapse.data.data import Data
from nir_dynapse.errors import ConfigurationError, ParameterRangeError
from nir_dynapse.evaluation.checks import check_params
from nir_dynapse.files.numbers import KEY
from nir_dynapse.fitting.fit import fit_to_data
from nir_dynapse.layout.decoding import as_params
from nir_dynapse.layout.layout import Layout
from nir_dynapse.network.network import Network
from nir_dynapse.quant.groups import by_population
from nir_dynapse.quant.spending import Spend, plans
from nir_dynapse.training.first_rows import first_rows, heard_on, rows_of
from nir_dynapse.training.late_rows import begun_late, delay_ranges, kept_flags
from nir_dynapse.training.model import Trainable
from nir_dynapse.training.options import TrainingOptions
from nir_dynapse.training.rewiring import Candidates
from nir_dynapse.training.start import start_of
from nir_dynapse.training.trainable import Chart, chart_of, latent_of

__all__ = ["check_bits", "trainable"]

STEP = 1e-3
"""Longest internal step of training in s."""
MANY = 50
"""Bins of a sample where no data tells."""
LEAST_REFRACTORY, LEAST_MEMBRANE = 1.5, 2.5
"""Shortest refractory period and membrane time constant in internal steps of training."""


def trainable(
    thing: Network | Params | Layout,
    data: Data | None = None,
    *,
    mismatch: Mismatch | None = None,
    bits: int | None = 4,
    key: int = 0,
    spend: Spend = "none",
    start: Params | None = None,
    options: TrainingOptions | None = None,
    device: Device = DYNAPSE2,
) -> Trainable:
    """`thing` for a training loop of one's own: its `start`, a PyTree to be trained, and what its numbers mean.

    Begins where `fine_tune` does: a Network's circuit, fitted to `data` (labels are not looked at; without `data` the
    closed form, or `start`), with a core per population and parallel CAM rows where there is room; Params and Layouts that
    are quantised from themselves. Neurons with more synapses than CAM rows get those that let them follow the sum of all
    synapses best on `data`, which is needed then. `mismatch` is that of the chips which the training is for (None: of the
    device), `bits` the number of base currents (None: weights are not rounded), `spend` how many neurons of the chip stand
    for one. Of `options` it takes `trained` (bias currents among it are in the numbers, others are fixed), `delays`,
    `longest_delay`, `rows`, `fit`, `substeps`, `surrogate` and `rounded`. Deterministic by `key`. Raises
    ConfigurationError, ParameterRangeError or CapacityError.
    """
    options = TrainingOptions() if options is None else options
    for name, value, kind in (("thing", thing, (Network, Params, Layout)), ("options", options, TrainingOptions)):
        if not isinstance(value, kind):
            wanted = "TrainingOptions(...)" if name == "options" else "a Network, Params or a Layout"
            raise ConfigurationError(f"trainable: {name} is a {type(value).__name__}. Give {wanted}.")
    check_bits("trainable", bits)
    KEY.check("trainable", "key", key)
    check_mismatch("trainable", mismatch)
    mismatch = device.mismatch if mismatch is None else mismatch
    if data is not None and not isinstance(data, Data):
        raise ConfigurationError(f"trainable: the data is a {type(data).__name__}. Give Data(x, y, dt).")
    circuit, candidates = _on_rows(_begun(thing, start, data, device, key, options), data, device, spend, mismatch, key)

    t = circuit.topology
    width = t.dt / (options.substeps or int(np.ceil(t.dt / STEP - 1e-6)))
    begun = start_of(circuit, device, options.rows, key, LEAST_REFRACTORY * width, bits or 4)
    begun, late, longest = kept_flags(begun, options.delays), None, 0.0
    if options.delays in ("inputs", "all"):
        duration = t.dt * (MANY if data is None else data.x.shape[1])
        cores = circuit.topology.mask is None
        found = begun_late(begun, device, options.delays, width, duration, options.longest_delay, cores, key)
        begun, late, longest = found
    limits = {
        "i_tau_mem": (reach("i_tau_mem")[0], float(circuit.circuit.tau("i_tau_mem", LEAST_MEMBRANE * width))),
        "i_ref": (reach("i_ref")[0], float(circuit.circuit.width("i_ref", LEAST_REFRACTORY * width))),
    }
    names = tuple(name for name in options.moved if name not in ("weight", "base"))
    if late is not None:
        limits |= delay_ranges(circuit.circuit, width, longest)
    chart = chart_of(begun.params, begun.free, names, bits or 0, device.weight_top, limits)
    chart = chart if late is None else replace(chart, late=late)
    return Trainable(
        chart=chart,
        start=latent_of(chart, begun.params, begun.base, begun.weight),
        origin=begun.params,
        mismatch=mismatch,
        substeps=round(t.dt / width),
        surrogate=options.surrogate._replace(times=options.gradient == "spike-times"),
        longest_delay=_longest(chart, None if data is None else data.x.shape[1] * t.dt),
        rounded=options.rounded and bool(chart.bits),
        candidates=candidates,
    )


def check_bits(who: str, bits: int | None) -> None:
    """ParameterRangeError unless `bits` are what a CAM row can have, or None."""
    if bits is not None and (isinstance(bits, bool) or not isinstance(bits, int) or not 1 <= bits <= 4):
        raise ParameterRangeError(f"{who}: bits is {bits!r}, a CAM row has 4. Choose 1 to 4, or None.")


def _begun(
    thing: Any, start: Params | None, data: Data | None, device: Device, key: int, options: TrainingOptions
) -> Params:
    """The circuit that training begins with: `start`, that of `thing`, or of a Network one that follows it on `data`."""
    if start is not None:
        if not isinstance(thing, Network):
            raise ConfigurationError("start is the circuit of a Network. Give the Network, or leave start out.")
        check_params(start, thing)
        return start
    if not isinstance(thing, Network) or not options.fit or data is None:
        return as_params(thing, device)
    return fit_to_data(thing, data, device=device, key=key, tried=1, own_rows=False)[0]


def _on_rows(
    circuit: Params, data: Data | None, device: Device, spend: Spend, mismatch: Mismatch, key: int
) -> tuple[Params, tuple[Candidates, ...]]:
    """`circuit` with copies as `spend` says and no more synapses than rows, and what those rows may hear."""
    if circuit.topology.mask is not None:
        return circuit, ()
    circuit = by_population(circuit, device)
    copies = _copies(circuit, device, spend)
    made = with_copies(circuit, copies, key=key)
    t = made.topology
    limit = np.full(t.n_neurons, rows_of(device, t.n_neurons))
    count = np.bincount(t.post, minlength=t.n_neurons)
    if (count <= limit).all():
        return made, ()
    if data is None:
        node, index = t.name_of(int(count.argmax()))
        raise ConfigurationError(
            f"trainable: neuron {index} of node {node!r} has {count.max()} synapses and {limit[count.argmax()]} CAM rows. "
            "Give data, by which the rows are chosen."
        )
    spikes = heard_on(circuit, t, data.x, device)
    found = first_rows(made, limit, spikes, mismatch.synapse, key)
    return found.params, found.candidates


def _copies(circuit: Params, device: Device, spend: Spend) -> dict[str, int]:
    """Copies of each population; of those that fit the first for which every core has a tag for all that could be heard."""
    t = circuit.topology
    heard = [np.unique(t.pre[(t.post >= part.start) & (t.post < part.stop)]) for part in t.slices().values()]
    copies: dict[str, int] = {}
    for copies in plans(spend, circuit, device):
        each = np.concatenate([np.ones(t.tonic + 1, int), *(np.full(n, copies[name]) for name, n in t.populations)])
        if all(each[sources].sum() <= device.n_tags for sources in heard):
            break
    return copies


def _longest(chart: Chart, duration: float | None) -> float | None:
    """The longest delay in s that a run has to know: on the slowest row of a chip three times what it can be trained to,
    but no longer than samples of `duration` s are."""
    if not chart.flags.any():
        return None
    if chart.late is not None:
        chart = replace(chart, rows=replace(chart.rows, delay=np.where(chart.late, 1, chart.flags)))
    longest = 3.0 * float(np.max(_delays(chart)))
    return longest if duration is None else min(longest, duration)


def _delays(chart: Chart) -> np.ndarray:
    """The longest delay (R,) in s that each row can be trained to have."""
    bias = {**chart.fixed, **{name: np.full(chart.rows.n_groups, low) for name, (low, _) in chart.ranges.items()}}
    return Params(bias, np.zeros(chart.rows.n_synapses), None, chart.rows, chart.circuit).row_delays()
