"""What the rates of probes say about the biases of their core: the circuit model's response at the working points.

For every window of every experiment the model gives g = ln(rate + `SLOPE`), its mean over an ensemble of neurons with the
expected mismatch (rates are not linear in currents, so the mean of many neurons is not the rate of the mean one), and the
slopes dg/dx by the logarithm x of each bias scale. A calibration sets the codes by what it believes of the scales, measures
and moves x by the least squares step

    minimise rᵀN⁻¹r + Σ_p x_p²/`PRIOR`²,    r_w = g_w − ḡ_w − Σ_p S_wp·(x_p − x_p,old + δ_wp),

N being the covariance of the mean of so many neurons (of what is not linear in their differences, and `FLOOR`), δ what
rounding to codes left over, until the core answers like the model. What rates cannot tell stays at 1, with the uncertainty
of the prior. What a single neuron's factors are is learnt from the ensemble, by regression of them on g.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import ndtri

from nir_dynapse.calibration.design import DRIVE, STEP, Experiment, experiments, off_currents
from nir_dynapse.chip.device import BASE_WEIGHTS, CURRENTS, DELAYS, DENDRITES, LATCHES, PARAMETERS, Device, Mismatch
from nir_dynapse.circuit.params import Params, Topology
from nir_dynapse.files.kept_arrays import kept_arrays
from nir_dynapse.network.network import Port
from nir_dynapse.sim.native.play import cpus, expect
from nir_dynapse.sim.simulation import run_circuit

__all__ = ["FITTED", "FLOOR", "PRIOR", "Response", "log_scales", "measure", "response"]

SLOPE = 2.0
"""Rate in Hz below which ln(rate + SLOPE) is nearly linear: silent probes count, too."""
PRIOR = 1.0
"""Standard deviation of the logarithm of a scale before anything is measured."""
FLOOR = 0.003
"""Standard error of every measured g: what the model itself may be off by."""
STEP_IN_X = 0.1
FARTHEST = 0.6
"""Largest change of a log scale in one step."""
MEMBERS = 192
MANY = 10.0
"""Seconds that the runs of an ensemble would take in NumPy, at least."""
RIDGE = 1e-3

FITTED: tuple[str, ...] = tuple(n for n in PARAMETERS if n not in (*DELAYS, "i_w0", "i_w_ahp"))
"""What is fitted. Only products of gains and weights show in spikes, so i_w0 and i_w_ahp count as exact meanwhile; the
delays are not measured."""


def measure(counts: np.ndarray, width: float) -> np.ndarray:
    """g = ln(rate + SLOPE) of spike counts in a window of `width` s."""
    return np.log(counts / width + SLOPE)


def log_scales(x: np.ndarray) -> dict[str, np.ndarray]:
    """Log scale of every parameter (…,) from fitted values (…, len(FITTED)); 0 for what is not fitted."""
    return {name: x[..., FITTED.index(name)] if name in FITTED else np.zeros(x.shape[:-1]) for name in PARAMETERS}


def affects(name: str, experiment: Experiment) -> bool:
    """Whether parameter `name` matters in an experiment."""
    drive, latches = experiment.drive, experiment.latches
    if name in BASE_WEIGHTS:
        return drive is not None and bool(drive.mask >> BASE_WEIGHTS.index(name) & 1)
    if name == "i_pulse":
        return drive is not None
    for dendrite, label in enumerate(DENDRITES):
        if name in (f"i_tau_{label}", f"i_gain_{label}"):
            return drive is not None and drive.dendrite == dendrite
    for latch, names in LATCHED.items():
        if name in names:
            return bool(latches >> LATCHES.index(latch) & 1)
    return True


LATCHED = {
    "dc": ("i_dc",),
    "adaptation": tuple(name for name in CURRENTS if name.endswith("_ahp")),
    "nmda_gate": ("i_f_nmda",),
}
"""Parameters that matter only with a latch."""


def _factors(mismatch: Mismatch, members: int) -> dict[str, np.ndarray]:
    """Log-normal factors (members,) of each parameter, their logarithms with exact mean and spread, uncorrelated."""
    names = (*CURRENTS, *BASE_WEIGHTS)
    rng = np.random.default_rng(20261126)
    levels = ndtri((np.arange(members) + 0.5) / members)
    draws = np.stack([rng.permutation(levels) for _ in names], 1)
    draws -= draws.mean(0)
    basis, triangle = np.linalg.qr(draws)
    z = basis * np.sign(np.diag(triangle)) * np.sqrt(members)
    cv = {**dict(mismatch.cv), **dict.fromkeys(BASE_WEIGHTS, mismatch.synapse)}
    sigma = np.array([np.sqrt(np.log1p(cv.get(name, 0.0) ** 2)) for name in names])
    return dict(zip(names, np.exp(z * sigma - sigma**2 / 2).T, strict=True))


class _Alike:
    """Experiments with equal dendrite and latches, run as one circuit: a neuron per experiment and member."""

    def __init__(self, experiments: Sequence[Experiment], members: int, device: Device) -> None:
        self.experiments, self.device = experiments, device
        self.shape = len(experiments), members
        off = off_currents()
        self.currents = {name: np.array([{**off, **x.currents}[name] for x in experiments]) for name in PARAMETERS}
        drives = [x.drive for x in experiments]
        driven = np.flatnonzero([drive is not None for drive in drives])
        channel = np.repeat(np.arange(len(driven)), members)
        n = len(experiments) * members
        self.topology = Topology(
            inputs=(Port(DRIVE, (max(len(driven), 1),)),),
            populations=(("probe", n),),
            outputs=(),
            dt=STEP,
            group=np.arange(n),
            latches=np.repeat([x.latches for x in experiments], members),
            place=np.zeros((n, 3), int),
            pre=channel,
            post=np.arange(n).reshape(self.shape)[driven].ravel(),
            dendrite=np.array([drive.dendrite for drive in drives if drive], int)[channel],
            row=np.zeros(len(channel), int),
        )
        masks = np.array([drive.mask for drive in drives if drive], int)[channel]
        self.bits = (masks[:, None] >> np.arange(len(BASE_WEIGHTS))) & 1
        steps = round(max(x.duration for x in experiments) / STEP)
        self.counts = np.zeros((1, steps, max(len(driven), 1)), np.float32)
        for k, e in enumerate(driven):
            np.add.at(self.counts[0, :, k], np.floor(experiments[e].times() / (STEP * 1e6) + 1e-9).astype(int), 1)

    def answers(self, x: np.ndarray, factors: dict[str, np.ndarray]) -> list[np.ndarray]:
        """g (members,) of every window for log scales x (experiments, P) and factors (members,) of each parameter."""
        scale = {name: np.exp(value) for name, value in log_scales(x).items()}
        real = {name: ((self.currents[name] * scale[name])[:, None] * factors[name]).ravel() for name in PARAMETERS}
        weight = np.zeros(self.topology.n_synapses)
        for bit, name in enumerate(BASE_WEIGHTS):
            weight += self.bits[:, bit] * real[name][self.topology.post]
        params = Params({name: real[name] for name in CURRENTS}, weight, None, self.topology, self.device.circuit)
        spikes = run_circuit(params, self.counts, STEP, ("spikes",)).spikes["probe"][0]
        spikes = spikes.reshape(len(spikes), *self.shape)
        return [
            measure(spikes[round(begin / STEP) : round(end / STEP), e].sum(0, dtype=np.int64), end - begin)
            for e, experiment in enumerate(self.experiments)
            for begin, end in experiment.windows
        ]


@dataclass(frozen=True)
class Response:
    """What probes at the working points answer: g (windows,), slopes (windows, len(FITTED)), which experiment each window
    belongs to, and `scatter` (windows, windows), the covariance of what slopes and factors do not explain of a neuron's g.

    The logarithms of a neuron's own factors follow from its g: linear in `_features`, with `told` (len(FITTED),), the part
    of their variance that g explains.
    """

    g: np.ndarray
    slopes: np.ndarray
    owner: np.ndarray
    inverse: np.ndarray
    told: np.ndarray
    scatter: np.ndarray

    def factors(self, g: np.ndarray) -> np.ndarray:
        """Log factors (..., len(FITTED)) of neurons that answered with g (..., windows)."""
        return _features(g - self.g) @ self.inverse

    def step(
        self, measured: np.ndarray, count: np.ndarray, x: np.ndarray, rest: np.ndarray, windows: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Log scales after `measured` g (cores, windows), means of `count` neurons each, at codes set by x (cores, P).

        `rest` (cores, windows, P) is what rounding left over; only `windows` count. Returns them, their covariance, and the
        misfit: the root mean square of what is left, in standard errors.
        """
        slopes = self.slopes[windows]
        found, wide, misfit = x.copy(), np.zeros((*x.shape, x.shape[1])), np.zeros(len(x))
        for c in range(len(x)):
            residual = (measured[c] - self.g - np.einsum("wp,wp->w", self.slopes, rest[c]))[windows]
            noise = self.scatter[np.ix_(windows, windows)] / count[c] + FLOOR**2 * np.eye(len(slopes))
            weighted = np.linalg.solve(noise, slopes).T
            wide[c] = np.linalg.inv(weighted @ slopes + np.eye(x.shape[1]) / PRIOR**2)
            change = wide[c] @ (weighted @ residual - x[c] / PRIOR**2)
            found[c] += np.clip(change, -FARTHEST, FARTHEST)
            left = residual - slopes @ (found[c] - x[c])
            misfit[c] = np.sqrt(left @ np.linalg.solve(noise, left) / len(left))
        return found, wide, misfit


def _features(off: np.ndarray) -> np.ndarray:
    """1, g − ḡ and its square (..., 1 + 2·windows), large ones cut off."""
    off = np.clip(off, -2.0, 2.0)
    return np.concatenate([np.ones((*off.shape[:-1], 1)), off, off**2], -1)


def _inverse(off: np.ndarray, logs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ridge regression of log factors (members, P) on g − ḡ (members, windows), and the variance explained (P,).

    The second half of the ensemble says how much a regression on the first half explains.
    """
    features, target = _features(off), logs - logs.mean(0)

    def solve(f: np.ndarray, t: np.ndarray) -> np.ndarray:
        return np.linalg.solve(f.T @ f + RIDGE * len(f) * np.eye(f.shape[1]), f.T @ t)

    half = len(off) // 2
    rest = target[half:] - features[half:] @ solve(features[:half], target[:half])
    variance = np.maximum((target[half:] ** 2).mean(0), 1e-12)
    return solve(features, target), 1 - (rest**2).mean(0) / variance


@lru_cache(maxsize=4)
def response(device: Device, mismatch: Mismatch, members: int = MEMBERS) -> Response:
    """The response of the circuit model to all experiments; slopes by central differences.

    It depends on no board, so the user's cache keeps it.
    """
    expect(MANY)  # of this, or of the board that is to be calibrated
    said = f"{device.circuit} {mismatch} {members}"
    return Response(**kept_arrays("response", said, lambda: vars(_computed(device, mismatch, members))))


def _computed(device: Device, mismatch: Mismatch, members: int) -> Response:
    """`response`; parameters that share no window are moved together."""
    plan = experiments()
    owner = np.array([e for e, x in enumerate(plan) for _ in x.windows])
    touches = np.array([[affects(name, plan[e]) for name in FITTED] for e in owner])
    kinds: dict[tuple[int, int], list[int]] = {}
    for e, x in enumerate(plan):
        kinds.setdefault((-1 if x.drive is None else x.drive.dendrite, x.latches), []).append(e)

    def ensemble(size: int) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
        """A function from log scales (experiments, P) and which windows are wanted to g (windows, size)."""
        factors = _factors(mismatch, size)
        groups = [
            (np.flatnonzero(np.isin(owner, numbers)), numbers, _Alike([plan[e] for e in numbers], size, device))
            for numbers in kinds.values()
        ]

        def answers(x: np.ndarray, touched: np.ndarray) -> np.ndarray:
            found = np.zeros((len(owner), size))
            wanted = [part for part in groups if touched[part[0]].any()]
            with ThreadPoolExecutor(cpus()) as pool:  # each is one sample, which one thread runs
                answered = pool.map(lambda part: part[2].answers(x[part[1]], factors), wanted)
                for (windows, _, _), g in zip(wanted, answered, strict=True):
                    found[windows] = g
            return found

        return answers

    many, nowhere, everything = 8 * members, np.zeros((len(plan), len(FITTED))), np.ones(len(owner), bool)
    single = ensemble(many)(nowhere, everything).T
    factors = _factors(mismatch, many)
    logs = np.stack([np.log(factors[name]) for name in FITTED], 1)
    inverse, told = _inverse(single - single.mean(0), logs)
    run = ensemble(members)
    slopes = np.zeros(touches.shape)
    waiting = list(range(len(FITTED)))
    while waiting:
        together: list[int] = []
        touched = np.zeros(len(owner), bool)
        for k in waiting:
            if not (touched & touches[:, k]).any():
                together.append(k)
                touched |= touches[:, k]
        x = nowhere.copy()
        x[:, together] = STEP_IN_X
        change = (run(x, touched) - run(-x, touched)).mean(1) / (2 * STEP_IN_X)
        slopes[:, together] = np.where(touches[:, together], change[:, None], 0.0)
        waiting = [k for k in waiting if k not in together]
    scatter = np.cov((single - single.mean(0) - (logs - logs.mean(0)) @ slopes.T).T)
    return Response(single.mean(0), slopes, owner, inverse, told, scatter)
