"""`fit_to_data`: the circuit of a Network, corrected so that its spikes on data follow the ideal run.

The closed form equates single neurons at small inputs. What it leaves out (a membrane current that cannot fall below its
reset level, charge that a reset does not clear, synapses with a memory) adds up in a network, most of all in a recurrent
one. A few numbers per population (`scales`) are moved by Adam (Kingma and Ba 2015) along the surrogate gradient of the
distance (`distance`) between circuit and ideal run, closed loop, from the best of several starts. With mismatch
the samples are spread over a few chips, the same in every step. Other samples judge what is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from nir_dynapse.chip.device import CURRENTS, DYNAPSE2, Device, Mismatch, check_mismatch
from nir_dynapse.circuit.closed_form import to_params
from nir_dynapse.circuit.params import Params
from nir_dynapse.data.counts import check_counts
from nir_dynapse.data.data import Data
from nir_dynapse.data.images import flattened
from nir_dynapse.data.nir_data import input_counts, is_nir_data
from nir_dynapse.errors import ConfigurationError
from nir_dynapse.evaluation.checks import check_data, check_params
from nir_dynapse.files.numbers import SEED, Whole
from nir_dynapse.fitting.distance import distance, output_weights
from nir_dynapse.fitting.result import FitResult, PopulationFit
from nir_dynapse.fitting.scales import FACTORS, PLAIN, RESET, Scales
from nir_dynapse.network.network import NO_READOUT, Network
from nir_dynapse.quant.compiler import finds_places
from nir_dynapse.sim.circuit import internal_step
from nir_dynapse.sim.mismatch import fabricate
from nir_dynapse.sim.simulation import simulate

__all__ = ["TRIED", "fit_to_data"]

CHIPS = 3
"""Chips that the samples are spread over where there is mismatch: the nominal one and two others."""
FIRST_CHIP = 1 << 40
"""Seed of the first chip with mismatch: none that anybody evaluates on."""
MOST_SAMPLES, MOST_STEPS = 48, 256
"""Samples of the fit and of the judgement, and bins of each, at most."""
WORK = 600_000
"""Samples times bins times neurons of one step of the fit, at most (but at least one sample per chip)."""
STEPS, RATE = 100, 0.06
"""Steps of Adam from a start, and the first of its rates, which fall as a cosine."""
FEW_STEPS, SMALL_RATE = 80, 0.03
"""The same from starts whose synapses remember: nearer from the beginning, and steeper."""
TRIED = 2
"""Starts that are followed unless it is said: those with the smallest distances."""
FINALISTS = 4
"""Circuits of each start that are judged on the held-out samples."""
NEAR = 0.45
"""A circuit with a distance up to this, and the rates of its populations within `RATES`, follows already."""
RATES = 0.1
MUCH_NEARER = 0.6
"""A circuit whose classes agree less often with the ideal ones than before must be nearer by this factor."""
ROW_PAYS = 0.7
"""A circuit that spends rows on resets must be nearer than others by this factor."""
ENOUGH = 0.08
"""A held-out distance up to this ends the search: further starts are not followed."""
MISSED = 0.2
"""Held-out distance from which on rows are spent on resets at all: under mismatch they make a circuit worse that is near
without them (docs/mapping.md)."""
STARTS = (
    {},
    {"excitation": 1.1, "inhibition": 1.4, "tau_inh": 1.5},
    {"excitation": 1.2, "inhibition": 2.0, "tau_exc": 1.5, "tau_inh": 2.0},
    {"excitation": 1.1, "inhibition": 1.3, "tau_exc": 4.0, "tau_inh": 4.0},
    {"excitation": 1.5, "inhibition": 1.7, "tau_exc": 18.0, "tau_inh": 15.0},
    {"excitation": 1.5, "inhibition": 1.7, "tau_mem": 0.5, "tau_exc": 25.0, "tau_inh": 22.0},
    {"excitation": 2.0, "inhibition": 2.2, "tau_mem": 0.4, "tau_exc": 50.0, "tau_inh": 40.0},
    {"inhibition": 1.5, "tau_mem": 1.5, "tau_inh": 1.5, "refractory": 1.35, "tonic": 0.5},
)
"""Where the search may begin: what helped networks of several kinds (`tests/benchmarks/fitted_mapping.py`)."""

REMEMBERING = ((1.1, 1.1),)
"""Factors of excitation and inhibition of further starts, whose synapses remember (`Scales.remembering`)."""

Progress = Callable[[str, float], None]


def fit_to_data(
    network: Network,
    data: Any,
    *,
    params: Params | None = None,
    device: Device = DYNAPSE2,
    mismatch: Mismatch | None = None,
    key: int = 0,
    tried: int = TRIED,
    own_rows: bool = True,
    progress: Progress | None = None,
) -> tuple[Params, FitResult]:
    """The circuit of `network` whose spikes on `data` follow those of its ideal run, and what was fitted.

    `data` is `Data` (its labels are not used), event counts (batch, time, channel), (time, channel), or one of NIR's data
    containers; of much data a part is taken, evenly. `params` is the circuit to begin with (None: the closed form), not
    quantised. `mismatch` is what two of three chips have that the samples are spread over (None: all on the nominal
    chip, which the measurements in docs/mapping.md prefer, on chips with mismatch, too). `tried` of eight starts are
    followed at most, the nearest ones. Where all of them miss and with `own_rows`, neurons may spend a CAM row each on a
    synapse onto themselves, which does the reset (`scales`), where they have one free, it pays, and chips still hold the
    network. The circuit is never farther from the ideal run than the one it began with, on samples that the fit did not
    see (with a single sample, on that one): else that one is returned. `progress("fit", fraction)` is called at every
    step. Deterministic for a `key`. The findings of the result are among those of the Params. Raises ConfigurationError
    or ParameterRangeError where the data does not fit the network, or `params` are quantised.
    """
    tell = progress or (lambda stage, fraction: None)
    key = SEED.check("fit_to_data", "key", key)
    check_mismatch("fit_to_data", mismatch)
    x = _counts(network, data)
    begin = to_params(network, device) if params is None else params.numpy().check()
    if params is not None:
        _check_circuit(begin, network)
    if begin.topology.mask is not None:
        raise ConfigurationError(
            "fit_to_data: the weights of params are quantised; a fit needs exact currents. Give the Params before compile."
        )
    problem = _Problem(network, Scales.of(begin, device, own_rows), x, mismatch, key, device)
    numbers, reason = problem.best(tell, Whole(1, len(STARTS)).check("fit_to_data", "tried", tried))
    fitted = begin if numbers is None else problem.scales.settled(numbers)
    result = problem.result(begin, fitted, numbers, reason)
    tell("fit", 1.0)
    return replace(fitted, findings=(*begin.findings, *result.findings)), result


def _check_circuit(params: Params, network: Network) -> None:
    """ConfigurationError where `params` are not the circuit of `network`, however many copies its neurons have."""
    t = params.topology
    if not t.copies:
        check_params(params, network)
    elif (got := list(t.node_sizes.items())) != (needed := [(p.name, p.size) for p in network.populations]):
        raise ConfigurationError(
            f"the Params have populations {got}, the network has {needed}. Give the network that they belong to."
        )


def _counts(network: Network, data: Any) -> np.ndarray:
    """Whole event counts (batch, time, channel), of `MOST_STEPS` bins at most (ConfigurationError)."""
    if isinstance(data, Data):
        check_data(data, network, labels=False)
        x = data.x
    else:
        x = input_counts(data, network.inputs, network.dt) if is_nir_data(data) else data
        x = check_counts(flattened(x, network.inputs), [(port.name, port.size) for port in network.inputs])
    if not x.size:
        raise ConfigurationError(
            f"fit_to_data: the data is empty, of shape {x.shape}. Give at least one sample and one bin, or no data."
        )
    if not network.outputs:
        raise ConfigurationError("fit_to_data: the network has no output node. Mark a population as output.")
    return x[:, :MOST_STEPS].astype(np.float32)


class _Problem:
    """The samples, their ideal spikes, the chips, and the distance as a function of the numbers."""

    def __init__(
        self, network: Network, scales: Scales, x: np.ndarray, mismatch: Mismatch | None, key: int, device: Device
    ) -> None:
        self.network, self.scales, self.device, self.key = network, scales, device, key
        self.params = scales.with_tonic()
        t = self.params.topology
        count = 1 if mismatch is None else CHIPS
        room = WORK // max(1, x.shape[1] * t.n_neurons)
        each = int(np.clip(min(room, -(-len(x) // 2)) // count, 1, MOST_SAMPLES // count))
        chosen = np.unique(np.linspace(0, len(x) - 1, min(len(x), 2 * count * each)).round().astype(int))
        train, held = (chosen[0::2], chosen[1::2]) if len(chosen) > 1 else (chosen, chosen)
        self.samples, self.held = len(train), x[held]
        self.parts = tuple(t.slices().values())
        each_output = [np.repeat(w, t.copies_of[name], axis=0) for name, w in output_weights(network).items()]
        self.output = np.concatenate(each_output).astype(np.float32)
        self.ideal = self._ideal(self.held)
        self.silent = not self._ideal(x[train]).any() and not self.ideal.any()
        self.batches = tuple(self._batch(x[np.resize(part, count * each)], count) for part in (train, held))
        unit = replace(self.params, bias={name: np.ones(t.n_groups) for name in CURRENTS})
        chips = [Mismatch.none(), *([] if mismatch is None else [mismatch] * (count - 1))]
        made = [fabricate(unit, of, FIRST_CHIP + CHIPS * key + k) for k, of in enumerate(chips)]
        late, self.longest = None, None
        if t.delay is not None:
            each_row = np.ones(t.n_synapses)
            late = np.stack([each_row if m.delay_factor is None else m.delay_factor for m in made]).astype(np.float32)
            self.longest = float(np.max(late * np.asarray(self.params.row_delays())))
        self.chips = (
            {name: np.stack([m.bias[name] for m in made]).astype(np.float32) for name in CURRENTS},
            np.stack([m.row_currents() for m in made]),
            late,
        )
        self.topology = made[0].topology
        self.substeps = internal_step(self.params, t.dt)

    def _ideal(self, x: np.ndarray) -> np.ndarray:
        """Ideal spikes (batch, time, N); every copy of a neuron has those of its neuron."""
        run = simulate(self.network, x, ideal=True).spikes
        copies = self.params.topology.copies_of
        parts = [np.repeat(run[name], copies[name], axis=-1) for name in copies]
        return np.concatenate(parts, -1).astype(np.float32)

    def _batch(self, x: np.ndarray, count: int) -> tuple[Any, Any]:
        """Samples and ideal spikes (chips, batch, time, …)."""
        shape = (count, len(x) // count, *x.shape[1:2], -1)
        return x.reshape(shape), self._ideal(x).reshape(shape)

    @cached_property
    def gradient(self) -> Any:
        """The distance and its slopes by the numbers; loads JAX, where the circuit does not follow already."""
        import jax

        from nir_dynapse.sim import programs as _programs  # noqa: F401 - before any program is compiled

        self.chips, self.batches = jax.device_put((self.chips, self.batches))
        return jax.jit(jax.value_and_grad(self._distance))

    def _distance(self, numbers: Any, chips: Any, batch: tuple[Any, Any]) -> Any:
        import jax
        import jax.numpy as jnp

        from nir_dynapse.sim.engine import spike_counts

        bias = self.scales.bias(numbers, jnp)
        group, circuit = self.params.topology.group, self.params.circuit

        def one(factor: Any, weight: Any, late: Any, x: Any) -> Any:
            here = {name: bias[name][group] * factor[name] for name in CURRENTS}
            params = Params(here, weight, None, self.topology, circuit, delay_factor=late)
            return spike_counts(params, x, substeps=self.substeps, longest_delay=self.longest)

        factors, weights, late = chips
        weights = jax.vmap(lambda weight: self.scales.weights(numbers, weight, jnp))(weights)
        spikes, ideal = jax.vmap(one)(factors, weights, late, batch[0]), batch[1]
        spikes, ideal = (a.reshape(-1, *a.shape[2:]) for a in (spikes, ideal))
        return distance(spikes, ideal, self.parts, self.output, jnp)

    def starts(self) -> list[np.ndarray]:
        """`STARTS` as numbers, inside the limits."""
        rows, made = len(self.scales.low), []
        for start in STARTS:
            row = [start.get(name, 0.0) if name in PLAIN else np.log(start.get(name, 1.0)) for name in FACTORS]
            made.append(np.clip(np.tile(row, (rows, 1)), self.scales.low, self.scales.high))
        return made

    def remembering(self) -> list[np.ndarray]:
        """Starts with rows that do the reset: none where they are not wanted, or no neuron has one free."""
        found = (self.scales.remembering(*factors) for factors in REMEMBERING)
        return [numbers for numbers in found if numbers is not None]

    def best(self, tell: Progress, tried: int) -> tuple[np.ndarray | None, str]:
        """The numbers that are nearest on the held-out samples, or None and why the closed form is kept."""
        if self.silent:
            return None, "no neuron spikes in the ideal run of this data, so there is nothing to follow"
        before = self.judge(self.scales.plain)
        if before[0] <= NEAR and self._rates_agree(self.scales.plain):
            return None, f"it follows the ideal run already (distance {before[0]:.2f})"
        gradient, (train, held) = self.gradient, self.batches
        starts, more = self.starts(), self.remembering()
        total = len(starts) + (tried + len(more)) * (STEPS + FINALISTS)
        values = []
        for k, start in enumerate(starts):
            values.append(float(gradient(start, self.chips, train)[0]))
            tell("fit", k / total)
        found: list[tuple[float, float, Params, np.ndarray]] = []
        order = np.argsort(np.nan_to_num(values, nan=np.inf), kind="stable")[:tried]
        for n, start in enumerate([*(starts[which] for which in order), *more]):
            nearest = min((far for far, *_ in found), default=np.inf)
            if nearest <= (ENOUGH if n < len(order) else MISSED):
                break
            done = len(starts) + n * (STEPS + FINALISTS)
            path = self._descend(start, train, lambda k, done=done: tell("fit", (done + k) / total))
            judged = [(float(gradient(numbers, self.chips, held)[0]), k) for k, numbers in enumerate(path)]
            for numbers in (path[k] for _, k in sorted(judged)[:2]):
                params = self.scales.settled(numbers)
                found.append((*self.judge(params), params, numbers))
        return self._chosen(before, found)

    def _chosen(
        self, before: tuple[float, float], found: list[tuple[float, float, Params, np.ndarray]]
    ) -> tuple[np.ndarray | None, str]:
        """The numbers of the nearest circuit, with rows for resets only where they pay and there is room."""
        far, agreed = before
        better = [f for f in found if f[0] < far * (1.0 if f[1] >= agreed else MUCH_NEARER)]
        better.sort(key=lambda f: f[0] / (ROW_PAYS if f[3][:, RESET].any() else 1.0))
        places: dict[bool, bool] = {False: True}
        for _, _, params, numbers in better:
            spends = bool(numbers[:, RESET].any())
            if spends not in places:
                places[spends] = self._has_places(params)
            if places[spends]:
                return numbers, ""
        if better:
            return None, "there are no places for the synapses of neurons onto themselves that a nearer circuit has"
        return None, "on samples that the fit did not see it is as near to the ideal run as any circuit found"

    def _has_places(self, params: Params) -> bool:
        """Whether the chips hold `params`, if they hold the circuit that the fit began with."""
        holds = [finds_places(self.network, each, self.device, self.key) for each in (params, self.scales.plain)]
        return holds[0] or not holds[1]

    def _descend(self, start: np.ndarray, batch: Any, tell: Callable[[int], None]) -> list[np.ndarray]:
        """The `FINALISTS` nearest numbers on the way of Adam from `start`."""
        z, (low, high) = np.array(start), self.scales.around(start)
        m, v, seen = np.zeros_like(z), np.zeros_like(z), []
        steps, rate = (FEW_STEPS, SMALL_RATE) if start[:, RESET].any() else (STEPS, RATE)
        for k in range(steps):
            value, slope = (np.asarray(a, float) for a in self.gradient(z, self.chips, batch))
            if not np.isfinite(value) or not np.isfinite(slope).all():
                break
            seen.append((float(value), k, z.copy()))
            m, v = 0.9 * m + 0.1 * slope, 0.98 * v + 0.02 * slope**2
            move = m / (1 - 0.9 ** (k + 1)) / (np.sqrt(v / (1 - 0.98 ** (k + 1))) + 1e-8)
            z = np.clip(z - rate * 0.5 * (1 + np.cos(np.pi * k / steps)) * move, low, high)
            tell(k)
        return [numbers for _, _, numbers in sorted(seen, key=lambda item: item[:2])[:FINALISTS]] or [start]

    def _run(self, params: Params) -> np.ndarray:
        t = params.topology
        if t.copies:  # each one's own spikes, not those of its neuron
            params = replace(params, topology=replace(t, copies=(), shapes=(), outputs=(), readout=NO_READOUT))
        spikes = simulate(params, self.held).spikes
        return np.concatenate([spikes[name] for name, _ in params.topology.populations], -1).astype(np.float32)

    def _rates_agree(self, params: Params) -> bool:
        spikes = self._run(params)
        pairs = [(float(spikes[..., part].mean()), float(self.ideal[..., part].mean())) for part in self.parts]
        return all(abs(got - wanted) <= RATES * wanted for got, wanted in pairs)

    def judge(self, params: Params) -> tuple[float, float]:
        """Distance from the ideal run on the held-out samples, and the share of them with its class."""
        return self._judged(self._run(params))

    def _judged(self, spikes: np.ndarray) -> tuple[float, float]:
        far = float(distance(spikes, self.ideal, self.parts, self.output, np))
        chosen, due = ((s.sum(1) @ self.output).argmax(-1) for s in (spikes, self.ideal))
        return far, float((chosen == due).mean())

    def result(self, begin: Params, fitted: Params, numbers: np.ndarray | None, reason: str) -> FitResult:
        """What became of it, on the held-out samples."""
        runs = [self._run(begin)] + ([] if numbers is None else [self._run(fitted)])
        (far, agreed), (near, agrees) = self._judged(runs[0]), self._judged(runs[-1])
        rows = np.zeros_like(self.scales.low) if numbers is None else numbers
        found = []
        for name, part in self.params.topology.slices().items():
            row = next(k for k, names in enumerate(self.scales.owners) if name in names)
            factors = {
                key: float(value if key in PLAIN else np.exp(value))
                for key, value in zip(FACTORS, rows[row], strict=True)
            }
            rates = [s[..., part].mean((0, 1)) / self.network.dt for s in (self.ideal, runs[0], runs[-1])]
            means = [float(r.mean()) for r in rates]
            found.append(PopulationFit(name, factors, *means, *(_correlation(rates[0], r) for r in rates[1:])))
        kept, shape = numbers is not None, self.held.shape
        return FitResult(tuple(found), kept, self.samples, shape[0], shape[1], far, near, agreed, agrees, reason)


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])
