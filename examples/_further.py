"""Experiments beside the arms: in the loop on a hidden chip, dead neurons, a network of the same size as an ANN, a teacher
without labels, and the ADS network. Each takes a key and returns one row of results."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import _arms
import _tasks
import ads
import jax
import jax.numpy as jnp
import numpy as np
import optax

import nir_dynapse as nd
from nir_dynapse.chip.device import CURRENTS, DEAD_THRESHOLD
from nir_dynapse.network.redundancy import copies_mean, replicate
from nir_dynapse.training.losses import Counts, Trajectory
from nir_dynapse.training.options import TrainingOptions

Say = Callable[[str], None]
LOOP, DEAD, ANN, BRAILLE, ADS = (
    "Yin-Yang, in the loop",
    "digits, dead neurons",
    "digits, ANN",
    "Braille, teacher without labels",
    "temporal XOR, ADS",
)


def in_the_loop(key: int, say: Say) -> dict[str, Any]:
    """Weight transfer onto a virtual chip with hidden mismatch of 30 %, and `EPOCHS` in the loop on it.

    From the network trained without mismatch and from the ensemble's; each key has a chip of its own.
    """
    task, mismatch = _tasks.yin_yang(), nd.Mismatch.uniform(0.3)
    epochs, batch, test = EPOCHS, 50, task.test
    result: dict[str, Any] = {"task": LOOP, "arm": "further", "key": key, "epochs": epochs}
    for arm in ("none", "ensemble"):
        network, params, _ = _arms.trained("Yin-Yang", arm, key, say)
        result[f"{arm}, nominal"] = _right(nd.simulate(params, test.x).counts(), test.y)
        with nd.open_board(f"virtual:{500 + key}", mismatch=mismatch) as board:
            board.apply(nd.compile(network, params=params, monitor="all", share_tags=False))
            result[f"{arm}, transferred"] = _right(board.run_batch(test.x, test.dt).counts(), test.y)
            began = time.monotonic()
            nd.fine_tune(  # leaves the best on the board
                params,
                task.train,
                validation=task.validation[:500],
                board=board,
                steps=epochs * len(task.train) // batch,
                loss=Counts(test.dt, ratio=4.0),
                key=key,
                options=TrainingOptions(batch=batch, rate=0.01, ramp=0.0, check_every=100),
                progress=lambda what, fraction, arm=arm: say(f"{LOOP} after {arm}, key {key}: {what}"),
            )
            result[f"{arm}, seconds"] = round(time.monotonic() - began, 1)
            result[f"{arm}, in the loop"] = _right(board.run_batch(test.x, test.dt).counts(), test.y)
    return result


def dead_neurons(key: int, say: Say) -> dict[str, Any]:
    """Error on the nominal chip with 15 % of the hidden neurons dead (50 draws), trained without and with dropout.

    Both are trained for as many steps.
    """
    task, draws, share = _tasks.digits(), 50, 0.15
    result: dict[str, Any] = {"task": DEAD, "arm": "further", "key": key}
    for name, dropout in (("plain", 0.0), ("dropout", 0.5)):
        _, params, seconds = _arms.trained("digits", "ensemble", key, say, steps=1500, dropout=dropout)
        whole = 1 - _right(nd.simulate(params, task.test.x).counts(), task.test.y)
        chips = [_with_dead(params, "lif0", share, (key, n)) for n in range(draws)]
        errors = [1 - _right(nd.simulate(chip, task.test.x).counts(), task.test.y) for chip in chips]
        result |= {f"{name}, error": whole, f"{name}, error with dead": float(np.mean(errors))}
        result |= {f"{name}, growth": float(np.mean(errors) / whole - 1), f"{name}, seconds": round(seconds, 1)}
    return result


def _with_dead(params: nd.Params, node: str, share: float, key: tuple[int, int]) -> nd.Params:
    """The circuit with a share of the neurons of a population that never spike."""
    t = params.topology
    part = t.slices()[node]
    n = part.stop - part.start
    dead = part.start + np.random.default_rng(key).permutation(n)[: round(share * n)]
    bias = {name: params.per_neuron(name).copy() for name in CURRENTS}
    bias["i_spkthr"][dead] = DEAD_THRESHOLD
    topology = replace(t, group=np.arange(t.n_neurons), mask=None)
    return replace(params, bias=bias, weight=params.row_currents(), base=None, topology=topology)


def ann(key: int, say: Say) -> dict[str, Any]:
    """A multilayer perceptron 64-120-10 on the same split of the same pixels."""
    task = _tasks.digits()
    # Pixels (sample, 64) from 0 to 1, as coarse as the spikes that the chip gets.
    parts = [(part.x.sum(1).astype(np.float32) / 4, part.y) for part in (task.train, task.validation, task.test)]
    (x, y), (vx, vy), (tx, ty) = parts
    rng = np.random.default_rng(key)
    params = [
        (jnp.asarray(rng.normal(0, np.sqrt(2 / a), (a, b)), jnp.float32), jnp.zeros(b))
        for a, b in ((64, 120), (120, 10))
    ]

    def logits(params: Any, x: Any) -> Any:
        (w, b), (v, c) = params
        return jax.nn.relu(x @ w + b) @ v + c

    tx_ = optax.adam(1e-3)

    @jax.jit
    def step(params: Any, state: Any, x: Any, y: Any) -> Any:
        def loss(p: Any) -> Any:
            return optax.softmax_cross_entropy_with_integer_labels(logits(p, x), y).mean()

        change, state = tx_.update(jax.grad(loss)(params), state)
        return optax.apply_updates(params, change), state

    state, best = tx_.init(params), (-1.0, 0.0)
    for _ in range(100):
        order = rng.permutation(len(x))
        for first in range(0, len(x) - 31, 32):
            index = order[first : first + 32]
            params, state = step(params, state, x[index], y[index])
        now = _right(np.asarray(logits(params, vx)), vy)
        if now >= best[0]:
            best = now, _right(np.asarray(logits(params, tx)), ty)
    say(f"{ANN}, key {key}: {100 * best[1]:.1f} %")
    return {"task": ANN, "arm": "further", "key": key, "nominal": best[1]}


def braille(key: int, say: Say) -> dict[str, Any]:
    """The NIR paper's Braille network follows its own ideal run on generated inputs; measured on the published sample."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data" / "nir_reference"
    x = np.load(folder / "braille_bias_zero_golden.npz")["input_256x12"].astype(np.uint8)
    teacher = nd.from_nir(folder / "braille_noDelay_bias_zero.nir", dt=1e-4, time_scale=50)
    student = replicate(teacher, COPIES)
    rng = np.random.default_rng((key, 3))
    inputs = [nd.Data(taps(x, n, rng), np.zeros(n, int), teacher.dt) for n in (3000, 16)]
    began = time.monotonic()
    tuned = nd.fine_tune(
        student,
        inputs[0],
        validation=inputs[1],
        teacher=teacher,
        mismatch=nd.Mismatch.uniform(0.1),  # less than in the test: more of it costs the nominal chip its accuracy
        devices=4,
        steps=1000,
        # Hidden and output neurons count alike, though the second fire far more.
        loss=Trajectory(teacher.dt, tau=1.0, parts=((0, 38), (38, 45))),
        key=key,
        options=TrainingOptions(batch=4, ramp=0.1, mixed=1.0, check_every=100, held_out=4),
        progress=lambda what, fraction: say(f"{BRAILLE}, key {key}: {what}"),
    )
    result: dict[str, Any] = {"task": BRAILLE, "arm": "further", "key": key, "copies": COPIES}
    result["seconds"] = round(time.monotonic() - began, 1)
    ideal = nd.simulate(teacher, x[None], ideal=True).spikes["lif1.lif"][0].mean(0)
    for name, thing in (("closed form", nd.to_params(teacher)), ("tuned", nd.compile(student, params=tuned))):
        copies = COPIES if name == "tuned" else 1
        result[f"{name}, nominal"] = _cosine(_activity(thing, x, copies, 0.0, 0), ideal)
        for level in (0.1, 0.2):
            found = [_cosine(_activity(thing, x, copies, level, chip), ideal) for chip in range(1, 101)]
            result[f"{name}, {level:g}"] = {"median": float(np.median(found)), "q5": float(np.quantile(found, 0.05))}
    return result


EPOCHS = 8
"""Passes through the training set in the loop."""
COPIES = 8
"""Neurons of the chip for each one of the Braille network."""


def taps(x: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Inputs (n, time, channel) with the rates and bursts of `x` (time, channel), but other events.

    Each burst (a run of bins with events) of `x` begins 3 bins (standard deviation) earlier or later, one in 20 is left
    out and one in 20 comes twice; then the whole is stretched by up to 5 % and shifted in a circle. So rates per channel
    and the lengths of bursts are those of `x`, and about a quarter of the events of a sample coincides with any other's.
    """
    bins, edge = len(x), np.diff(np.pad(x.astype(int), ((1, 1), (0, 0))), axis=0)
    bursts = [(np.flatnonzero(column == 1), np.flatnonzero(column == -1)) for column in edge.T]
    out = np.zeros((n, *x.shape), np.uint8)
    for sample in out:
        shift, scale = rng.integers(bins), rng.uniform(0.95, 1.05)
        for channel, (first, stop) in enumerate(bursts):
            often = rng.choice(3, len(first), p=[0.05, 0.9, 0.05])
            for begin, length in zip(np.repeat(first, often), np.repeat(stop - first, often), strict=True):
                at = round(begin * scale + 3 * rng.standard_normal()) + shift
                sample[np.arange(at, at + length) % bins, channel] = 1
    return out


def _activity(thing: Any, x: np.ndarray, copies: int, level: float, chip: int) -> np.ndarray:
    """Mean activity (38,) of the hidden neurons on a virtual chip."""
    mismatch = nd.Mismatch.uniform(level) if level else None
    spikes = nd.simulate(thing, x[None], mismatch=mismatch, key=chip).spikes["lif1.lif"][0]
    return copies_mean(spikes.mean(0), copies)


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    size = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / size if size else 0.0


def _right(counts: np.ndarray, y: np.ndarray) -> float:
    return float((counts.argmax(1) == y).mean())


def ads_network(key: int, say: Say) -> dict[str, Any]:
    """The network of Büchel et al. 2021 on temporal XOR, in its own model (it does not fit a chip)."""
    began = time.monotonic()
    found = ads.run(seed=key)
    say(f"{ADS}, key {key}: done")
    return {"task": ADS, "arm": "further", "key": key, "seconds": round(time.monotonic() - began, 1), **found}


FURTHER: dict[str, Callable[[int, Say], dict[str, Any]]] = {
    LOOP: in_the_loop,
    DEAD: dead_neurons,
    ANN: ann,
    BRAILLE: braille,
    ADS: ads_network,
}
"""The experiments by name."""
