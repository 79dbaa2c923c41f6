"""Networks to put on chips, and the fewest events between chips that any partition of a small one can have."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
from scipy import sparse
from scipy.optimize import Bounds, LinearConstraint, milp

from nir_dynapse.chip.device import DYNAPSE2, Device
from nir_dynapse.quant.partition import Wiring

__all__ = ["FAMILIES", "fewest_events", "layered", "small_case", "small_world", "wiring"]

FAMILIES = ("window", "columns", "blocks", "map")


def wiring(n, pre, post, *, group=None, monitored=None, activity=None, inputs=0) -> Wiring:
    """Nets 0…n-1 belong to the neurons, n…n+inputs-1 are inputs."""
    return Wiring(
        n_neurons=n,
        group=np.zeros(n, int) if group is None else group,
        monitored=np.zeros(n, bool) if monitored is None else monitored,
        pre=np.asarray(pre, int),
        post=np.asarray(post, int),
        owner=np.concatenate([np.arange(n), np.full(inputs, -1)]),
        activity=np.ones(n + inputs, np.int64) if activity is None else np.asarray(activity, np.int64),
    )


def shuffled(w: Wiring, seed: int) -> Wiring:
    """The same network with its neurons renumbered at random; nets keep their numbers."""
    new = np.random.default_rng(seed).permutation(w.n_neurons)
    old = np.argsort(new)
    owner = np.where(w.owner >= 0, new[np.maximum(w.owner, 0)], -1)
    return replace(w, group=w.group[old], monitored=w.monitored[old], post=new[w.post], owner=owner)


def small_world(n: int, degree: int, seed: int, *, rewired: float = 0.1) -> Wiring:
    """A ring with `degree` neighbours each, some rewired, renumbered at random."""
    rng = np.random.default_rng(seed)
    pre = np.repeat(np.arange(n), degree)
    post = (pre + np.tile(np.delete(np.arange(degree + 1) - degree // 2, degree // 2), n)) % n
    anywhere = rng.random(len(pre)) < rewired
    post[anywhere] = rng.integers(0, n, anywhere.sum())
    return shuffled(wiring(n, pre, post), seed)


def layered(
    family: str,
    sizes: tuple[int, ...],
    *,
    seed: int = 0,
    shuffle: bool = False,
    uneven: bool = False,
    grouped: bool = True,
) -> Wiring:
    """A feed-forward network: layer 0 has inputs, the last layer is monitored; `grouped`: a bias group per layer.

    `window` 1-D convolution, `map` 2-D convolution 3×3, `columns` eight columns with 2 % of the synapses between them,
    `blocks` all-to-all in blocks; `uneven`: log-normal activities.
    """
    rng = np.random.default_rng(seed)
    pre, post = [], []
    first = np.concatenate([[0], np.cumsum(sizes)])
    for layer, (a, b) in enumerate(pairwise(sizes)):
        i, j = _layer(family, a, b, rng)
        pre.append(first[layer] + i)
        post.append(first[layer + 1] + j)
    n, inputs = sum(sizes), sizes[0]
    pre.append(n + np.arange(inputs))
    post.append(np.arange(inputs))
    layer = np.repeat(np.arange(len(sizes)), sizes)
    w = wiring(
        n,
        np.concatenate(pre),
        np.concatenate(post),
        group=layer if grouped else None,
        monitored=layer == len(sizes) - 1,
        activity=rng.lognormal(3, 1.2, n + inputs) if uneven else None,
        inputs=inputs,
    )
    return shuffled(w, seed) if shuffle else w


def _layer(family: str, a: int, b: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    if family == "window":
        i, offset = np.repeat(np.arange(a), 12), np.tile(np.arange(-6, 6), a)
        j = i * b // a + offset
        inside = (j >= 0) & (j < b)
        return i[inside], j[inside]
    if family == "map":
        wide, narrow = int(a**0.5), int(b**0.5)
        i, offset = np.repeat(np.arange(wide**2), 9), np.tile(np.arange(9), wide**2)
        y = i // wide * narrow // wide + offset // 3 - 1
        x = i % wide * narrow // wide + offset % 3 - 1
        inside = (y >= 0) & (y < narrow) & (x >= 0) & (x < narrow)
        return i[inside], (y * narrow + x)[inside]
    if family == "columns":
        i = np.repeat(np.arange(a), 12)
        column = i * 8 // a
        low, high = -(-column * b // 8), -(-(column + 1) * b // 8)
        j = low + (rng.random(len(i)) * (high - low)).astype(int)
        return i, np.where(rng.random(len(i)) < 0.02, rng.integers(0, b, len(i)), j)
    blocks = max(a, b) // 32
    i, j = np.divmod(np.arange(a * b), b)
    together = i * blocks // a == j * blocks // b
    return i[together], j[together]


def small_case(seed: int) -> tuple[Wiring, Device]:
    """A random, layered or clustered network of at most 26 neurons on 2 to 4 chips of 4 cores with 2 or 3 neurons."""
    rng = np.random.default_rng(seed)
    while True:
        chips, per_core, n_groups = int(rng.integers(2, 5)), int(rng.integers(2, 4)), int(rng.integers(1, 4))
        device = replace(DYNAPSE2, neurons_per_core=per_core, n_chips=chips)
        n = min(26, int(device.n_neurons * rng.uniform(0.5, 0.8 if chips == 4 else 1.0)))
        group = np.unique(rng.integers(0, n_groups, n), return_inverse=True)[1]
        if (-(-np.bincount(group) // per_core)).sum() <= device.n_cores:
            break
    kind = seed % 3
    if kind == 0:
        pre, post = rng.integers(0, n, (2, int(n * rng.uniform(1.5, 3))))
    elif kind == 1:
        pre = np.repeat(np.arange(n - n // 3), 2)
        post = np.clip(pre + n // 3 + rng.integers(-1, 2, len(pre)), 0, n - 1)
    else:
        cluster = rng.integers(0, chips + 1, n)
        pre, post = np.nonzero(rng.random((n, n)) < np.where(cluster[:, None] == cluster, 0.4, 0.04))
    pre, post = np.concatenate([pre, n + rng.integers(0, 3, 5)]), np.concatenate([post, rng.integers(0, n, 5)])
    activity = rng.integers(0, 20, n + 3) if rng.random() < 0.5 else None
    return shuffled(wiring(n, pre, post, group=group, activity=activity, inputs=3), seed), device


def fewest_events(w: Wiring, device: Device, *, limit: float = 60.0) -> int | None:
    """The least events between chips of any partition that fits (exact, HiGHS); None where `limit` s do not suffice.

    x[neuron, chip] places, y[group, chip] cores, z[net, chip] ≥ x[target, chip] - x[owner, chip] events. SRAM rows and
    the FPGA's reach play no part.
    """
    n, k, n_groups = w.n_neurons, device.n_chips, w.n_groups
    pairs = sorted(
        {(int(e), int(t)) for e, t in zip(w.pre, w.post, strict=True) if w.owner[e] >= 0 and w.owner[e] != t}
    )
    nets = sorted({e for e, _ in pairs})
    entries: list[tuple[int, int, float]] = []
    low: list[float] = []
    high: list[float] = []

    def row(terms: list[tuple[int, float]], least: float, most: float) -> None:
        entries.extend((len(low), column, value) for column, value in terms)
        low.append(least)
        high.append(most)

    for v in range(n):
        row([(v * k + c, 1) for c in range(k)], 1, 1)
    for c in range(k):
        cores = [((n + g) * k + c, 1.0) for g in range(n_groups)]
        row(cores, 0, device.cores_per_chip)
        for g in range(n_groups):
            members = [(int(v) * k + c, 1.0) for v in np.flatnonzero(w.group == g)]
            row([*members, (cores[g][0], -device.neurons_per_core)], -np.inf, 0)
        for e, t in pairs:
            z = (n + n_groups + nets.index(e)) * k + c
            row([(t * k + c, 1), (int(w.owner[e]) * k + c, -1), (z, -1)], -np.inf, 0)
    i, j, value = zip(*entries, strict=True)
    columns = (n + n_groups + len(nets)) * k
    objective, upper = np.zeros(columns), np.ones(columns)
    objective[(n + n_groups) * k :] = np.repeat(w.activity[nets], k)
    upper[n * k : (n + n_groups) * k] = device.cores_per_chip
    upper[1:k] = 0  # chips are alike: neuron 0 is on chip 0
    matrix = sparse.csr_matrix((value, (i, j)), shape=(len(low), columns))
    result = milp(
        objective,
        integrality=np.arange(columns) < (n + n_groups) * k,
        bounds=Bounds(0, upper),  # pyright: ignore[reportArgumentType]
        constraints=LinearConstraint(matrix, low, high),  # pyright: ignore[reportArgumentType]
        options={"time_limit": limit},
    )
    return round(result.fun) if result.status == 0 else None
