"""The readout on the host: what it computes from counted spikes, and its JSON form in a Layout."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy.sparse

from nir_dynapse.errors import ConfigurationError, DynapseError, Finding, ParameterRangeError
from nir_dynapse.network.delays import LONGEST, lagged, shifted
from nir_dynapse.network.network import Population, Projection, Readout

__all__ = ["ReadoutBlocks", "ReadoutStepper", "readout_from_dict", "readout_to_dict", "run_readout"]

_FIELDS = ("tau_mem", "r", "v_leak", "v_reset", "tau_syn", "w_in")
_KINDS = ("LI", "CubaLI", "I", "Linear")


def run_readout(
    readout: Readout,
    spikes: Mapping[str, np.ndarray],
    dt: float,
    bin_width: float | None = None,
    copies: Mapping[str, int] | None = None,
) -> dict[str, np.ndarray]:
    """Voltages of every population of `readout`, shape (batch, time, n), at the end of each bin; they start at v_reset.

    `spikes[node]` (batch, time, neuron) are counts in bins of `bin_width` s (default: the network's step `dt`). Shorter
    bins are gathered into steps, at whose end the values change; longer ones have their spikes in their first step. Where
    a neuron's counts are those of `copies[node]` neurons of the chip, their mean is what is read out. Raises
    ParameterRangeError where neither divides the other.
    """
    return ReadoutBlocks(readout, dt, bin_width, copies).read(spikes)


class ReadoutBlocks:
    """`run_readout` of a run that comes in blocks of bins: the same values, whatever the blocks are."""

    def __init__(
        self, readout: Readout, dt: float, bin_width: float | None = None, copies: Mapping[str, int] | None = None
    ) -> None:
        self.readout, self.dt, self.copies = readout, dt, copies or {}
        ratio = 1.0 if bin_width is None else bin_width / dt
        finer, coarser = round(1 / ratio), round(ratio)
        self.finer = finer if ratio < 1 and abs(finer * ratio - 1) < 1e-6 else 1
        self.coarser = coarser if ratio > 1 and abs(coarser - ratio) < 1e-6 * ratio else 1
        if readout and self.finer == self.coarser == 1 and abs(ratio - 1) > 1e-6:
            name = readout.names[0]
            what = f"bins of {bin_width:g} s do not fit the step of {dt:g} s at which the host reads out {name!r}."
            hint = "Choose bins that divide the step, or are a multiple of it."
            raise ParameterRangeError(Finding("error", "step", what, name, None, bin_width, dt, "s", hint))
        self._filters: dict[str, _Filter] = {}
        self._maps: dict[int, tuple[tuple[int, ...], scipy.sparse.csr_array]] = {}
        self._last = {p.name: p.v_reset for p in readout.populations}
        self._kept: dict[str, np.ndarray] = {}
        self._past: dict[int, np.ndarray] = {}
        self._done = 0

    def read(self, spikes: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The values (batch, time, n) of the next bins, with counts `spikes[node]` (batch, time, neuron)."""
        if not self.readout:
            return {}
        if self.finer > 1:
            return self._gathered(spikes)
        m = self.coarser
        found = self._steps({name: _stretched(value, m) for name, value in spikes.items()} if m > 1 else spikes)
        return {name: value[:, m - 1 :: m] for name, value in found.items()} if m > 1 else found

    def _gathered(self, spikes: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Values in bins of dt/k: those of the last step that was over. Bins of a step that is not over wait for it."""
        k, bins = self.finer, next(iter(spikes.values())).shape[1]
        gathered = {}
        for name, counts in spikes.items():
            known = counts.astype(np.int64)
            known = np.concatenate([self._kept[name], known], 1) if name in self._kept else known
            whole = known.shape[1] // k * k
            gathered[name] = known[:, :whole].reshape(len(counts), whole // k, k, counts.shape[2]).sum(2)
            self._kept[name] = known[:, whole:]
        over = (self._done + np.arange(bins) + 1) // k - self._done // k
        self._done += bins
        found = {}
        for name, value in self._steps(gathered).items():
            before = np.broadcast_to(self._last[name], (len(value), value.shape[2]))[:, None]
            everything = np.concatenate([before, value], 1)
            self._last[name] = everything[:, -1]
            found[name] = everything[:, over]
        return found

    def _steps(self, spikes: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """One bin per step of `dt`."""
        batch, steps, _ = next(iter(spikes.values())).shape
        values: dict[str, np.ndarray] = {}
        for p in self.readout.populations:
            x = np.zeros((batch, steps, p.size))
            for k, q in enumerate(self.readout.projections):
                if q.target == p.name:
                    known = q.source in spikes
                    source = _mean(spikes[q.source], self.copies.get(q.source, 1)) if known else values[q.source]
                    lags, matrix = self._known(k, q, source.shape[2], p.size)
                    source = self._late(k, source, lags)
                    x += (matrix @ source.reshape(-1, source.shape[2]).T).T.reshape(x.shape)
                    x += 0.0 if q.bias is None else q.bias
            if p.name not in self._filters:
                self._filters[p.name] = _Filter(p, batch, self.dt)
            filtered, out = self._filters[p.name], np.empty_like(x)
            for t in range(steps):
                out[:, t] = filtered.step(x[:, t])
            values[p.name] = out
        return values

    def _known(self, k: int, q: Projection, n_pre: int, n_post: int) -> tuple[tuple[int, ...], scipy.sparse.csr_array]:
        """Lags of projection k, and its matrix (n_post, n_pre for each of them); made once."""
        if k not in self._maps:
            lags, pre = lagged(q.pre, q.delay, self.dt, n_pre)
            shape = (n_post, n_pre * max(1, len(lags)))
            self._maps[k] = lags, scipy.sparse.csr_array((q.weight, (q.post, pre)), shape=shape)
        return self._maps[k]

    def _late(self, k: int, source: np.ndarray, lags: tuple[int, ...]) -> np.ndarray:
        """What projection k hears of (batch, time, n) of a source, of steps of the blocks before, too."""
        if not lags:
            return source
        before = self._past.get(k)
        known = source if before is None else np.concatenate([before, source], 1)
        self._past[k] = known[:, max(known.shape[1] - max(lags), 0) :]
        return shifted(known, lags)[:, known.shape[1] - source.shape[1] :]


def _stretched(counts: np.ndarray, m: int) -> np.ndarray:
    longer = np.zeros((counts.shape[0], counts.shape[1] * m, counts.shape[2]), counts.dtype)
    longer[:, ::m] = counts
    return longer


def _mean(counts: np.ndarray, copies: int) -> np.ndarray:
    """What a neuron of the network sent, where `copies` of the chip stand for it."""
    values = np.asarray(counts, float)
    return values if copies == 1 else values / copies


class _Filter:
    """The voltages (batch, n) of a population of the readout, from v_reset on."""

    def __init__(self, p: Population, batch: int, dt: float) -> None:
        self.p, self.gains = p, p.step_gains(dt)
        self.v = np.broadcast_to(p.v_reset, (batch, p.size))
        self.current = np.zeros(self.v.shape)

    def step(self, x: np.ndarray) -> np.ndarray:
        """After a step with input `x` (batch, n)."""
        gains = self.gains
        if gains.syn_leak is None or gains.syn_gain is None:
            self.current = x
        else:
            self.current = (1 - gains.syn_leak) * self.current + gains.syn_gain * x
        self.v = (1 - gains.leak) * self.v + gains.leak * self.p.v_leak + gains.gain * self.current
        return self.v


class ReadoutStepper:
    """`run_readout` bin by bin, for one sample: the same values (n,) at the end of each bin; errors are its own."""

    def __init__(
        self,
        readout: Readout,
        dt: float,
        bin_width: float,
        copies: Mapping[str, int] | None = None,
    ) -> None:
        self._how = (readout, dt, bin_width, copies)
        self.reset()

    def reset(self) -> None:
        """At the beginning of a sample."""
        self._blocks = ReadoutBlocks(*self._how)

    def step(self, spikes: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Values after a bin with counts `spikes[node]` (n,)."""
        found = self._blocks.read({name: np.asarray(counts)[None, None] for name, counts in spikes.items()})
        return {name: value[0, 0] for name, value in found.items()}


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
            **({} if q.dendrite is None else {"dendrite": q.dendrite}),
            **({} if q.delay is None else {"delay_s": q.delay.tolist()}),
        }
        for q in readout.projections
    ]
    return {"populations": populations, "projections": projections}


def readout_from_dict(data: Any, dt: float) -> Readout:
    """The inverse of `readout_to_dict`; DynapseError for anything else. What it reads is checked with the Layout."""
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
                dendrite=item.get("dendrite"),
                nodes=tuple(str(node) for node in item["nodes"]),
                delay=_delays(item.get("delay_s"), dt),
            )
            for item in data["projections"]
        )
        return Readout(populations, projections)
    except DynapseError as error:
        raise ConfigurationError(f"Layout: {error} Compile the network again.") from error
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ConfigurationError(
            f"Layout: its readout is damaged ({type(error).__name__}: {str(error)[:200]}). Compile the network again."
        ) from error


def _delays(values: Any, dt: float) -> np.ndarray | None:
    """Delays in s as a file holds them, of no more steps of `dt` than are kept."""
    if values is None:
        return None
    delay = np.asarray(values, float)
    if not np.all((delay >= 0) & (delay <= LONGEST * dt)):
        raise ValueError(f"delays of a readout that are not 0 to {LONGEST} steps")
    return delay


def _population(item: dict[str, Any]) -> Population:
    kind, shape = str(item["kind"]), tuple(int(n) for n in item["shape"])
    size = int(np.prod(shape, dtype=object))
    if kind not in _KINDS or not 0 < size < 2**20:
        raise ValueError(f"a readout of kind {kind!r} and shape {shape}")
    memory = 0.0 if kind == "Linear" else np.inf
    values: dict[str, Any] = {"tau_mem": np.full(size, memory), "r": np.ones(size), "v_leak": np.zeros(size)}
    values["v_reset"] = np.zeros(size)
    values |= {key: np.asarray(item[key], float) for key in _FIELDS if key in item}
    needed = [key for key in (("tau_mem",) if kind in ("LI", "CubaLI") else ()) if key not in item]
    short = [key for key in ("tau_mem", "tau_syn") if key in item and kind != "Linear" and np.any(values[key] <= 0)]
    if needed or short:
        raise ValueError(f"a {kind} without positive {(needed + short)[0]}")
    if any(v.shape != (size,) or not np.all(np.isfinite(v) | (v == np.inf)) for v in values.values()):
        raise ValueError(f"values of {item['name']!r} that are not {size} numbers")
    never = np.full(size, np.inf)
    return Population(str(item["name"]), kind, v_threshold=never, shape=shape, **values)  # pyright: ignore
