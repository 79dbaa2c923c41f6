"""Random networks of many shapes for the compiler, from one neuron to eight chips, and hypothesis strategies on top.

`build(family, seed, n, …)` is one Network; `obstacles(net, …)` says, without the compiler, why a Network may not fit.
Weights are drawn as charges (fractions of the threshold per event); connections are local in index order, so that a large
network reaches few chips from each neuron.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st

from nir_dynapse.network.network import Network, Population, Port, Projection

__all__ = ["FAMILIES", "Case", "build", "cases", "charge_per_weight", "groups_of", "obstacles"]

DT = 1e-3
TAU_MEM, TAU_SYN = (20e-3, 60e-3), (5e-3, 10e-3)
"""Of the first and the second bias group: too far apart to share a core."""
CORE, CHIP, ROWS, TAGS, DESTINATIONS = 256, 1024, 64, 2048, 4

Edges = tuple[str, str, np.ndarray, np.ndarray]


class Shape(NamedTuple):
    """Sizes of the populations, number of input channels, edges (source, target, pre, post); `equal` gives all
    connections of a projection one weight, else `kernel` numbers the connections that share one."""

    sizes: dict[str, int]
    channels: int
    edges: list[Edges]
    equal: bool = False
    kernel: list[np.ndarray] | None = None


def near(rng: np.random.Generator, n_pre: int, n_post: int, k: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Up to `k` different sources of each target, at most `width` from the place that corresponds to its own."""
    post = np.repeat(np.arange(n_post), k)
    pre = post * n_pre // n_post + rng.integers(-width, width + 1, len(post))
    inside = (pre >= 0) & (pre < n_pre)
    post, pre = np.divmod(np.unique(post[inside] * n_pre + pre[inside]), n_pre)
    return pre, post


def full(n_pre: int, n_post: int) -> tuple[np.ndarray, np.ndarray]:
    post, pre = np.divmod(np.arange(n_pre * n_post), n_pre)
    return pre, post


def split(n: int, parts: int) -> list[int]:
    """`n` as at most `parts` positive sizes."""
    parts = min(n, parts)
    return [n // parts + (k < n % parts) for k in range(parts)]


def sparse(rng: np.random.Generator, n: int) -> Shape:
    k, channels = int(rng.integers(1, 12)), int(rng.integers(1, 9))
    source = "in", "p", *near(rng, channels, n, 2, channels)
    return Shape({"p": n}, channels, [source, ("p", "p", *near(rng, n, n, k, 400))])


def layered(rng: np.random.Generator, n: int) -> Shape:
    """Layers one after another: full where the layer before is small enough, else sparse."""
    sizes = {f"layer{k}": size for k, size in enumerate(split(n, int(rng.integers(1, 5))))}
    channels = int(rng.integers(1, 33))
    edges: list[Edges] = []
    before, size = "in", channels
    for name, this in sizes.items():
        few = size <= ROWS and rng.random() < 0.7
        edges.append((before, name, *(full(size, this) if few else near(rng, size, this, 12, 200))))
        before, size = name, this
    return Shape(sizes, channels, edges)


def convolution(rng: np.random.Generator, n: int) -> Shape:
    """An image and two layers of 3x3 kernels on grids (row, column, feature), the second with a stride of two."""
    side = max(1, int(np.sqrt(n / 3)))
    features = (1, 2, 4)
    grids = [side, side, -(-side // 2)]
    sizes = {f"conv{k}": grids[k] ** 2 * features[k] for k in (1, 2)}
    edges: list[Edges] = []
    kernel = []
    for k, (source, target) in enumerate((("in", "conv1"), ("conv1", "conv2")), 1):
        a, b, stride = grids[k - 1], grids[k], (1, 2)[k - 1]
        y, x, g, dy, dx, f = np.indices((b, b, features[k], 3, 3, features[k - 1])).reshape(6, -1)
        v, u = y * stride + dy - 1, x * stride + dx - 1
        inside = (v >= 0) & (v < a) & (u >= 0) & (u < a)
        pre, post = (v * a + u) * features[k - 1] + f, (y * b + x) * features[k] + g
        edges.append((source, target, pre[inside], post[inside]))
        kernel.append((((g * 3 + dy) * 3 + dx) * features[k - 1] + f)[inside])
    return Shape(sizes, side**2, edges, kernel=kernel)


def recurrent(rng: np.random.Generator, n: int) -> Shape:
    """in -> hidden, hidden -> hidden, hidden -> out and back."""
    out = max(1, n // 8)
    sizes = {"hidden": n - out, "out": out} if n > 1 else {"out": 1}
    first, channels = next(iter(sizes)), int(rng.integers(1, 17))
    edges: list[Edges] = [("in", first, *near(rng, channels, sizes[first], 3, channels))]
    edges.append((first, first, *near(rng, sizes[first], sizes[first], 8, 300)))
    if n > 1:
        edges.append(("hidden", "out", *near(rng, n - out, out, 20, 300)))
        edges.append(("out", "hidden", *near(rng, out, n - out, 2, 30)))
    return Shape(sizes, channels, edges)


def small_world(rng: np.random.Generator, n: int) -> Shape:
    """Watts-Strogatz: a ring in which every tenth edge comes from elsewhere (not far, where the ring is large)."""
    reach = min(4, (n - 1) // 2)
    post = np.repeat(np.arange(n), 2 * reach)
    pre = (post + np.tile(np.r_[-reach:0, 1 : reach + 1], n)) % n
    moved = rng.random(len(pre)) < 0.1
    pre[moved] = (post[moved] + rng.integers(-min(n, 400), min(n, 400) + 1, int(moved.sum()))) % n
    post, pre = np.divmod(np.unique(post * n + pre), n)
    return Shape({"p": n}, 4, [("in", "p", rng.integers(0, 4, n), np.arange(n)), ("p", "p", pre, post)])


def blocks(rng: np.random.Generator, n: int) -> Shape:
    """A chain of blocks, all-to-all with one weight: every source of a block acts alike and may share a tag."""
    size, count = int(rng.integers(1, 20)), int(rng.integers(1, 4))
    parts = split(n, max(count, -(-n // 200)))
    sizes = {f"block{k}": part for k, part in enumerate(parts)}
    edges: list[Edges] = [("in", "block0", *full(size, parts[0]))]
    for k in range(1, len(parts)):
        pre, post = full(min(size, parts[k - 1]), parts[k])
        edges.append((f"block{k - 1}", f"block{k}", pre, post))
    return Shape(sizes, size, edges, equal=True)


def parallel(rng: np.random.Generator, n: int) -> Shape:
    """Several synapses between the same two neurons: doubled within a projection, and two projections side by side."""
    pre, post = near(rng, n, n, 4, 200)
    twice = rng.integers(0, max(len(pre), 1), len(pre) // 2)
    once = "p", "p", np.r_[pre, pre[twice]], np.r_[post, post[twice]]
    return Shape({"p": n}, 3, [("in", "p", *full(3, n)), once, ("p", "p", pre[twice], post[twice])])


FAMILIES: dict[str, Callable[[np.random.Generator, int], Shape]] = {
    "sparse": sparse,
    "layered": layered,
    "convolution": convolution,
    "recurrent": recurrent,
    "small_world": small_world,
    "blocks": blocks,
    "parallel": parallel,
}


def build(
    family: str,
    seed: int,
    n: int,
    *,
    weights: str = "normal",
    groups: str = "one",
    leak: str = "none",
    output: str = "last",
    zeros: float = 0.0,
    scale: float = 0.1,
) -> Network:
    """A network of about `n` neurons.

    `weights` "normal", "lognormal" or "uniform"; `groups` "one", "halves" or "interleaved" (two time constants, within
    every population); `leak` "none", "equal" (a constant input that becomes DC) or "random" (one that becomes tonic
    events); `output` "first", "last", "all" or "none"; `zeros` is the share of weights set to 0, `scale` the size of
    charges.
    """
    rng = np.random.default_rng(seed)
    shape = FAMILIES[family](rng, n)
    kinds = {name: "LIF" if rng.random() < 0.3 else "CubaLIF" for name in shape.sizes}
    populations = tuple(_population(rng, name, size, kinds[name], groups, leak) for name, size in shape.sizes.items())
    by_name = {p.name: p for p in populations}
    projections = []
    for k, (source, target, pre, post) in enumerate(shape.edges):
        charge = _charges(rng, weights, len(pre)) * scale
        if shape.equal and len(charge):
            charge[:] = charge[0]
        if shape.kernel is not None and len(charge):
            charge = charge[shape.kernel[k]] if shape.kernel[k].max() < len(charge) else charge
        charge[rng.random(len(charge)) < zeros] = 0.0
        weight = charge / charge_per_weight(by_name[target], DT)[post]
        projections.append(Projection(source, target, pre, post, weight, nodes=(f"w{k}",)))
    names = list(shape.sizes)
    read = {"first": names[:1], "last": names[-1:], "all": names, "none": []}[output]
    return Network(
        populations,
        tuple(projections),
        (Port("in", (shape.channels,)),),
        tuple(Port(f"out_{name}", (shape.sizes[name],), name) for name in read),
        DT,
    )


def _charges(rng: np.random.Generator, kind: str, n: int) -> np.ndarray:
    if kind == "normal":
        return rng.normal(0.0, 1.0, n)
    if kind == "uniform":
        return rng.choice([-1.0, 1.0], n) * rng.uniform(0.1, 2.0, n)
    return rng.choice([-1.0, 1.0, 1.0, 1.0], n) * np.exp(rng.normal(-0.3, 0.8, n))


def _population(rng: np.random.Generator, name: str, n: int, kind: str, groups: str, leak: str) -> Population:
    which = {"one": np.zeros(n, int), "halves": np.arange(n) * 2 // n, "interleaved": np.arange(n) % 2}[groups]
    tau_mem, tau_syn = np.array(TAU_MEM)[which], np.array(TAU_SYN)[which]
    cuba = kind == "CubaLIF"
    rest = {"none": np.zeros(n), "equal": np.full(n, 0.3), "random": rng.uniform(0.1, 0.5, n)}[leak]
    return Population(
        name,
        "CubaLIF" if cuba else "LIF",
        tau_mem,
        tau_mem / DT,
        rest,
        np.full(n, rng.uniform(0.5, 2.0)),
        np.zeros(n),
        tau_syn if cuba else None,
        tau_syn / DT if cuba else None,
    )


def charge_per_weight(p: Population, dt: float) -> np.ndarray:
    """Fractions of the threshold that an event of weight 1 moves each neuron by in all: k/(v_threshold - v_reset)."""
    k = p.r * dt / p.tau_mem
    return (k if p.w_in is None else k * p.w_in) / (p.v_threshold - p.v_reset)


def groups_of(net: Network) -> np.ndarray:
    """A number per neuron, equal where all analog parameters are: time constants, kind and constant current."""
    parts = []
    for p in net.populations:
        tau_syn = np.zeros(p.size) if p.tau_syn is None else p.tau_syn
        rest = (p.v_leak - p.v_reset) / (p.v_threshold - p.v_reset)
        dc = rest if np.ptp(rest) < 1e-9 and rest[0] > 0 else np.zeros(p.size)
        parts.append(np.stack([p.tau_mem, tau_syn, dc.round(9)]))
    _, first, group = np.unique(np.concatenate(parts, 1), axis=1, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[group.reshape(-1)]


def obstacles(net: Network, n_chips: int, monitor: str = "outputs") -> list[str]:
    """Reasons why `net` may not fit `n_chips`, with neurons placed in index order; empty: it fits, whoever compiles it."""
    found = []
    group = groups_of(net)
    place, used = np.zeros(len(group), int), 0
    for g in range(int(group.max()) + 1):
        members = np.flatnonzero(group == g)
        place[members] = used * CORE + np.arange(len(members))
        used += -(-len(members) // CORE)
    if used > 4 * n_chips:
        found.append("cores")
    parts = [(pre[q.weight != 0], post[q.weight != 0]) for q, pre, post in net.synapses()]
    pre, post = (np.concatenate([part[k] for part in parts]) for k in (0, 1))
    tonic = np.concatenate(
        [np.full(p.size, np.ptp(p.v_leak) > 1e-9 or p.v_leak[0] < p.v_reset[0]) for p in net.populations]
    )
    if (np.bincount(post, minlength=len(group)) + tonic > ROWS).any():
        found.append("fan-in")
    reached = np.zeros((net.n_inputs + len(group) + 1, 4 * max(n_chips, 1 + used // 4)), bool)
    reached[pre, place[post] // CORE] = True
    reached[-1, place[tonic] // CORE] = True
    if not _tags_suffice(reached[reached.any(1)]):
        found.append("tags")
    first = net.offsets()
    monitored = np.full(len(group), monitor == "all")
    for port in net.outputs:
        monitored[first[str(port.source)] :][: net[str(port.source)].size] = True
    chips = reached[net.n_inputs : -1].reshape(len(group), -1, 4).any(2).sum(1)
    if (chips + monitored > DESTINATIONS).any():
        found.append("fan-out")
    if (place[monitored] // CHIP >= 7).any():
        found.append("monitor hops")
    return found


def _tags_suffice(reached: np.ndarray) -> bool:
    """Whether one tag per source is enough, first come, first served, for sources that reach cores (sources, cores)."""
    free = np.ones((TAGS, reached.shape[1]), bool)
    for cores in map(np.flatnonzero, reached):
        tag = int(np.argmax(free[:, cores].all(1)))
        if not free[tag, cores].all():
            return False
        free[tag, cores] = False
    return True


class Case(NamedTuple):
    """A network and what to compile it with; equal cases are equal networks."""

    family: str
    seed: int
    n: int
    options: dict[str, str | float]
    n_chips: int = 1
    monitor: str = "outputs"

    def network(self) -> Network:
        return build(self.family, self.seed, self.n, **self.options)  # type: ignore[arg-type]


@st.composite
def cases(draw: st.DrawFn, families: tuple[str, ...] = tuple(FAMILIES), most: int = 300, chips: int = 1) -> Case:
    """Any family, weights, bias groups and outputs, with 1 to `most` neurons on 1 to `chips` chips."""
    options: dict[str, str | float] = {
        "weights": draw(st.sampled_from(("normal", "lognormal", "uniform"))),
        "groups": draw(st.sampled_from(("one", "halves", "interleaved"))),
        "leak": draw(st.sampled_from(("none", "none", "equal", "random"))),
        "output": draw(st.sampled_from(("last", "first", "all"))),
        "zeros": draw(st.sampled_from((0.0, 0.1))),
    }
    n = draw(st.one_of(st.integers(1, 20), st.integers(1, most)))
    return Case(
        draw(st.sampled_from(families)),
        draw(st.integers(0, 2**16)),
        n,
        options,
        draw(st.integers(1, chips)),
        draw(st.sampled_from(("outputs", "all"))),
    )
