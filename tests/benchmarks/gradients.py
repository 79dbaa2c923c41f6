"""Value and gradient of a run here and at an earlier commit, one step of each in turn (see `against`).

    python3 -m uv run python tests/benchmarks/gradients.py [--against COMMIT] [--turns 7] [STEP ...]

Steps: `chips`, 60 -> 64 recurrent neurons, 500 bins, 16 virtual chips of 32 samples, to weights and all bias currents;
`weights`, the same to the weights; `closed`, `chips` with the refractory period of the closed form; `one`, 32 samples on
one chip; `large`, 4 096 neurons with 64 synapses each, 200 bins, 2 samples, to the weights. The first turn compiles. Then,
in processes of their own, how much memory the first two grow a process by (MB). Values differ where a commit's steps do.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from against import answer, compare
from commits import ROOT, at, environment

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "helpers"))

STEPS = ("chips", "weights", "closed", "one", "large")


def _call(loss: Callable[..., Any], arguments: tuple[Any, ...], wanted: tuple[int, ...]) -> Callable[[], Any]:
    import jax

    step = jax.jit(jax.value_and_grad(loss, wanted))
    return lambda: np.asarray(jax.block_until_ready(step(*arguments))[0])


@cache
def step_of(name: str) -> Callable[[], Any]:
    import jax
    import jax.numpy as jnp
    from dynapsim_arms import Ours, Setting

    from nir_dynapse.circuit.closed_form import to_params
    from nir_dynapse.sim.circuit import internal_step
    from nir_dynapse.sim.engine import spike_counts
    from small_networks import recurrent

    rng = np.random.default_rng(0)
    if name == "large":
        params = to_params(recurrent(0, 256, 4096, 8, fan_in=32))
        x, unit = jnp.asarray(rng.random((2, 200, 256)) < 0.05, jnp.float32), float(np.abs(params.weight).max())
        weight = jnp.asarray(np.asarray(params.weight) / unit, jnp.float32)
        steps = internal_step(params, params.topology.dt)
        loss: Any = lambda w: (spike_counts(replace(params, weight=w * unit), x, substeps=steps).sum(1) ** 2).sum()  # noqa: E731
        return _call(loss, (weight,), (0,))
    arm = Ours(Setting(60, 64, 500, 32, chips=1 if name == "one" else 16))
    arm.build()
    params, x = arm.params, jnp.asarray(rng.random((32, 500, 60)) < 0.03, jnp.float32)
    shorter = {"i_ref": 2.0 if name == "closed" else 1.0}  # 0.5 ms
    bias = {k: shorter.get(k, 1.0) * v for k, v in params.bias.items()}
    steps = internal_step(replace(params, bias={k: np.asarray(v) for k, v in bias.items()}), 1e-3)

    def run(weight: Any, bias: Any) -> Any:
        return spike_counts(replace(params, weight=weight, bias=bias), x, 1e-3, substeps=steps)

    def total(weight: Any, factors: Any) -> Any:
        if name == "one":
            return ((run(weight, {k: bias[k] * factors[k] for k in bias}) - 0.03) ** 2).mean()
        chips = {k: arm.chips["bias"][k] * shorter.get(k, 1.0) * factors[k] for k in bias}
        return ((jax.vmap(run)(weight * arm.chips["weight"], chips) - 0.03) ** 2).mean()

    factors = {k: jnp.ones(v.shape[-1]) for k, v in bias.items()}
    return _call(total, (params.weight * 80, factors), (0,) if name == "weights" else (0, 1))


def grown(name: str) -> float:
    """MB that the largest resident set grows by with one step."""
    step_of(name)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    step_of(name)()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def memory(commit: str | None) -> None:
    def of(tree: Path, name: str) -> float:
        call = [sys.executable, __file__, "--grown", name]
        return float(subprocess.run(call, env=environment(tree), check=True, capture_output=True, text=True).stdout)

    for name in STEPS[:2]:
        here = of(ROOT, name)
        with at(commit or "HEAD") as tree:
            print(f"{name}: a process grows by {here:.0f} MB" + (f", there by {of(tree, name):.0f}" if commit else ""))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("steps", nargs="*", help=", ".join(STEPS))
    parser.add_argument("--against", metavar="COMMIT")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--answer", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--grown", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.grown:
        print(grown(given.grown))
    elif given.answer:
        works: dict[str, Callable[[], Any]] = {name: lambda name=name: step_of(name)() for name in STEPS}
        answer(works | {"nothing": lambda: b""})
    else:
        compare(__file__, given.against, given.steps or STEPS, given.turns)
        memory(given.against)


if __name__ == "__main__":
    main()
