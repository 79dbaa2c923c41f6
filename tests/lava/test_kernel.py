"""The compiled membranes give the bits of `sim.dynamics`, and a Stepper without them the same spikes."""

from __future__ import annotations

import numpy as np
import pytest

import nir_dynapse as nd

pytest.importorskip("lava.magma", reason="lava-nc is not installed")
pytest.importorskip("nir_dynapse.lava_process", reason="Lava cannot be imported here")

# isort: split
from nir_dynapse.lava_process import kernel, stepper
from nir_dynapse.sim.dynamics import Inflow, rise, settle
from small_networks import recurrent


def made(mismatch: bool = True) -> stepper.Stepper:
    params = nd.to_params(recurrent(1, 8, 60, 4)).numpy()
    if mismatch:
        from nir_dynapse.sim.mismatch import fabricate

        params = fabricate(params, nd.Mismatch(), 3).numpy()
    return stepper.Stepper(params, params.topology.dt)


def test_the_same_bits() -> None:
    s, rng = made(), np.random.default_rng(0)
    assert s.compiled
    # Refractory periods shorter than the step and longer ones.
    c, structure = s.c._replace(refractory=s.c.refractory * 0.6), s.structure._replace(again=9)
    n, spikes, further = len(c.rate), 0, 0
    for trial in range(200):
        y = c.threshold * np.exp(rng.normal(-2, 3, n)).astype(np.float32)
        v = np.where(rng.random(n) < 0.3, -rng.random(n) * 3e-3, np.maximum(y, c.floor)).astype(np.float32)[None]
        current = (rng.normal(0, 1, n) * 10 ** rng.uniform(-3, 11, n)).astype(np.float32)[None]
        leak = None if trial % 2 else (1 + 10 ** rng.uniform(-3, 11, n)).astype(np.float32)[None]
        flow = Inflow(current if trial % 3 else current[0], None, leak)
        with np.errstate(all="ignore"):
            end = rise(v, flow, c, structure, np)
            wanted, more = settle(v, end, flow, c, structure, np)
            assert more is not None
            found, sent = kernel.membranes(v, flow, kernel.fixed_rows(c), np.float32(c.h), structure.again)
        np.testing.assert_array_equal(found.view(np.int32), wanted.view(np.int32))
        np.testing.assert_array_equal(sent, more + ((end / c.threshold - 1) > 0))
        spikes, further = spikes + int(sent.sum()), further + int(more.sum())
    assert spikes > 500
    assert further > 100


def test_without_numba_the_same_spikes(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(1).poisson(0.8, (60, 8))
    fast = made()
    monkeypatch.setattr(kernel, "compiled", lambda: None)
    slow = made()
    assert fast.compiled
    assert not slow.compiled
    monkeypatch.undo()
    first, second = (np.stack([s.step(row) for row in x]) for s in (fast, slow))
    np.testing.assert_array_equal(first, second)
    assert first.sum() > 50
    for name, value in fast.states().items():
        np.testing.assert_array_equal(value, slow.states()[name])


def test_what_is_not_compiled() -> None:
    params = nd.to_params(recurrent(1, 8, 60, 4)).numpy()
    noisy = stepper.Stepper(params, params.topology.dt, stepper.Disturbance(noise=0.01))
    assert not noisy.compiled
    v, fixed, h = noisy.state.v, kernel.fixed_rows(noisy.c), np.float32(noisy.c.h)
    with pytest.raises(RuntimeError, match="do not compute"):
        kernel.membranes(v, Inflow(v, v, None), fixed, h, noisy.structure.again)
