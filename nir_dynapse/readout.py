"""The readout on the host: what it computes from counted spikes, and its JSON form in a Layout."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from nir_dynapse.errors import ConfigurationError, DynapseError
from nir_dynapse.network import Population, Projection, Readout

__all__ = ["readout_from_dict", "readout_to_dict", "run_readout"]

_FIELDS = ("tau_mem", "r", "v_leak", "v_reset", "tau_syn", "w_in")
_KINDS = ("LI", "CubaLI", "I", "Linear")


def run_readout(
    readout: Readout, spikes: Mapping[str, np.ndarray], dt: float, bin_width: float | None = None
) -> dict[str, np.ndarray]:
    """Voltages of every population of `readout`, shape (batch, time, n), at the end of each bin; they start at v_reset.

    `spikes[node]` (batch, time, neuron) are counts in bins of `bin_width` s (default: the network's step `dt`). One bin of
    length m·dt decays like m Euler steps of `dt`, (1 − leak)^m; a spike adds what it adds in one step.
    """
    m = 1.0 if bin_width is None else bin_width / dt
    values: dict[str, np.ndarray] = {}
    for p in readout.populations:
        x: Any = 0.0
        for q in readout.projections:
            if q.target == p.name:
                source = np.asarray(spikes[q.source] if q.source in spikes else values[q.source], float)
                x = x + source @ q.dense(source.shape[2], p.size).T
                x = x if q.bias is None else x + m * q.bias
        values[p.name] = _filtered(p, np.asarray(x, float), dt, m)
    return values


def _filtered(p: Population, x: np.ndarray, dt: float, m: float) -> np.ndarray:
    gains = p.step_gains(dt)
    keep = (1 - gains.leak) ** m
    drift = (1 - keep) * p.v_leak
    v, out = np.broadcast_to(p.v_reset, (len(x), p.size)), np.empty_like(x)
    current = np.zeros(v.shape)
    for t in range(x.shape[1]):
        if gains.syn_leak is None or gains.syn_gain is None:
            current = x[:, t]
        else:
            current = (1 - gains.syn_leak) ** m * current + gains.syn_gain * x[:, t]
        v = keep * v + drift + gains.gain * current
        out[:, t] = v
    return out


def readout_to_dict(readout: Readout) -> dict[str, Any]:
    """JSON-ready values; numbers that a kind does not have (an infinite τ) are left out."""
    populations = []
    for p in readout.populations:
        values = {key: getattr(p, key) for key in _FIELDS}
        finite = {key: v.tolist() for key, v in values.items() if v is not None and np.all(np.isfinite(v))}
        populations.append({"name": p.name, "kind": p.kind, "shape": list(p.shape), **finite})
    projections = [
        {
            "source": q.source,
            "target": q.target,
            "nodes": list(q.nodes),
            "pre": q.pre.tolist(),
            "post": q.post.tolist(),
            "weight": q.weight.tolist(),
            **({} if q.bias is None else {"bias": q.bias.tolist()}),
        }
        for q in readout.projections
    ]
    return {"populations": populations, "projections": projections}


def readout_from_dict(data: Any) -> Readout:
    """The inverse of `readout_to_dict`; ConfigurationError for anything else."""
    try:
        populations = tuple(_population(item) for item in data["populations"])
        projections = tuple(
            Projection(
                str(item["source"]),
                str(item["target"]),
                item["pre"],
                item["post"],
                item["weight"],
                bias=item.get("bias"),
                nodes=tuple(str(node) for node in item["nodes"]),
            )
            for item in data["projections"]
        )
    except DynapseError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ConfigurationError(
            f"Layout: its readout is damaged ({type(error).__name__}: {error}). Compile the network again."
        ) from error
    sizes = {p.name: p.size for p in populations}
    for q in projections:
        lengths = {len(q.pre), len(q.post), len(q.weight)}
        size = sizes.get(q.target, 0)
        outside = len(lengths) > 1 or (len(q.post) and not 0 <= q.post.min() <= q.post.max() < size)
        if outside or (len(q.pre) and q.pre.min() < 0) or (q.bias is not None and len(q.bias) != size):
            raise ConfigurationError(
                f"Layout: projection {q.name!r} of the readout does not fit its target. Compile the network again."
            )
    return Readout(populations, projections)


def _population(item: dict[str, Any]) -> Population:
    kind, shape = str(item["kind"]), tuple(int(n) for n in item["shape"])
    size = int(np.prod(shape, dtype=object))
    if kind not in _KINDS or not 0 < size < 2**20:
        raise ValueError(f"a readout of kind {kind!r} and shape {shape}")
    memory = 0.0 if kind == "Linear" else np.inf
    values: dict[str, Any] = {"tau_mem": np.full(size, memory), "r": np.ones(size), "v_leak": np.zeros(size)}
    values["v_reset"] = np.zeros(size)
    values |= {key: np.asarray(item[key], float) for key in _FIELDS if key in item}
    if any(v.shape != (size,) or not np.all(np.isfinite(v) | (v == np.inf)) for v in values.values()):
        raise ValueError(f"values of {item['name']!r} that are not {size} numbers")
    never = np.full(size, np.inf)
    return Population(str(item["name"]), kind, v_threshold=never, shape=shape, **values)  # pyright: ignore
