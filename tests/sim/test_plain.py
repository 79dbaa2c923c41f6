"""The kernels' twin in NumPy: the same bits, and no wait for a compiler where a run is short."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from circuits import circuits
from nir_dynapse.circuit.params import Params
from nir_dynapse.sim import simulation
from nir_dynapse.sim.circuit import RECORDABLE, Disturbance
from nir_dynapse.sim.native import ahead, build, here, plain
from nir_dynapse.sim.native import play as native_play
from nir_dynapse.sim.native import run as kernels
from nir_dynapse.sim.simulation import run_circuit

HAS_KERNELS = pytest.mark.skipif(not kernels.available(), reason="the kernels need a CPU backend and Numba")
DT = 1e-3
CURRENTS = RECORDABLE[1:]
EVERYTHING = ("nmda_gate", "exponential", "adaptation", "dc")
CASES: dict[str, tuple[Params, Disturbance]] = {
    "ampa": (circuits(dendrites=False, scale=1.5), Disturbance()),
    "gate": (circuits("nmda_gate", scale=1.5), Disturbance()),
    "soma": (circuits("exponential", scale=1.5), Disturbance()),
    "disturbed": (circuits("adaptation", scale=1.5), Disturbance(0.05, 0.3, 2**32 + 4)),
    "everything": (circuits(*EVERYTHING, delays=True, scale=1.5), Disturbance(0.05, 0.1, 5)),
}


def poisson(batch: int, steps: int, channels: int = 6) -> np.ndarray:
    return np.random.default_rng(batch).poisson(1.0, (batch, steps, channels))


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which kernels runs have loaded; each test begins with none."""
    found: list[str] = []
    compiled = build.compiled
    monkeypatch.setattr(build, "compiled", lambda what, kind: found.append(what) or compiled(what, kind))
    monkeypatch.setattr(native_play, "_KERNELS", native_play._Kernels())
    monkeypatch.setattr(ahead, "start", lambda *whats, kind="float32": None)
    return found


def both(monkeypatch: pytest.MonkeyPatch, chosen: list[str], *arguments: Any) -> tuple[Any, Any]:
    """A run in NumPy, and one by the kernel."""
    monkeypatch.setattr(native_play, "LOADING", np.inf)
    numpys = run_circuit(*arguments)
    assert not chosen
    for name in ("LOADING", "COMPILING"):
        monkeypatch.setattr(native_play, name, -1.0)
    compiled = run_circuit(*arguments)
    assert chosen
    return numpys, compiled


def same(a: Any, b: Any, most: int = 0) -> None:
    assert max(int(spikes.max()) for spikes in a.spikes.values()) > most
    for node, spikes in a.spikes.items():
        assert (spikes == b.spikes[node]).all()
    for name, nodes in a.states.items():
        for node, values in nodes.items():
            assert (values == b.states[name][node]).all(), name


@HAS_KERNELS
@pytest.mark.parametrize("name", CASES)
def test_the_bits_of_the_kernels(name: str, chosen: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """With all that is recorded, and in stretches of time, whose states are carried."""
    params, disturbance = CASES[name]
    same(*both(monkeypatch, chosen, params, poisson(3, 60), DT, CURRENTS, "jax", disturbance))
    monkeypatch.setattr(simulation, "STRETCH", 3 * 6 * 11)
    monkeypatch.setattr(native_play, "_KERNELS", native_play._Kernels())
    chosen.clear()
    same(*both(monkeypatch, chosen, params, poisson(3, 60), DT, CURRENTS, "jax", disturbance))


@HAS_KERNELS
def test_several_spikes_in_a_step_and_tonic_input(chosen: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    params = circuits(dendrites=False, scale=4.0)
    tonic = np.where(params.topology.pre < 3, params.topology.tonic, params.topology.pre)
    params = replace(params, topology=replace(params.topology, pre=tonic, tonic_period=0.3e-3))
    i_ref = np.asarray(params.bias["i_ref"]) * 8
    params = replace(params, bias={**params.bias, "i_ref": i_ref})
    same(*both(monkeypatch, chosen, params, poisson(2, 50) + 3, DT, ("spikes",)), most=1)


@HAS_KERNELS
def test_lists_of_synapses(chosen: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks with few synapses of many, in tiles of which the last is not full."""
    from nir_dynapse.sim.native import synapses

    monkeypatch.setattr(synapses, "SPARSE_FROM", 0)
    monkeypatch.setattr(synapses, "SPARSE_BELOW", 2.0)
    monkeypatch.setattr(plain, "CELLS", 14 * 2)
    params, disturbance = CASES["everything"]
    same(*both(monkeypatch, chosen, params, poisson(5, 60), DT, CURRENTS, "jax", disturbance))


@HAS_KERNELS
def test_long_runs_are_the_kernels(chosen: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Once runs in NumPy have taken as long as loading one, or compiling it, would."""
    monkeypatch.setattr(ahead, "is_built", lambda what, kind: False)
    monkeypatch.setattr(ahead, "is_running", lambda what, kind: True)
    begun: list[str] = []
    monkeypatch.setattr(ahead, "start", begun.append)
    kernel = native_play._KERNELS
    assert kernel.choose("play", 0.9 * native_play.LOADING) is plain.play
    assert kernel.choose("play", 0.7 * native_play.COMPILING) is plain.play
    assert not begun
    for _ in range(2):  # while it is compiled
        assert kernel.choose("play", 0.9 * native_play.COMPILING) is plain.play
    assert set(begun) == {"play"}
    assert not chosen
    assert kernel.choose("play", 1.1 * native_play.COMPILING) is not plain.play
    assert chosen == ["play"]
    assert kernel.choose("play", 0.0) is not plain.play


@HAS_KERNELS
def test_kernels_that_are_kept_are_loaded_sooner(chosen: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "is_built", lambda what, kind: True)
    kernel = native_play._KERNELS
    assert kernel.choose("play", 0.9 * native_play.LOADING) is plain.play
    assert kernel.choose("play", 0.2 * native_play.LOADING) is not plain.play
    assert chosen == ["play"]


@HAS_KERNELS
def test_many_runs_to_come_load_a_kernel_for_the_first(chosen: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "is_built", lambda what, kind: True)
    native_play.expect(0.5 * native_play.LOADING)
    assert native_play._KERNELS.choose("play", 0.1 * native_play.LOADING) is plain.play
    native_play.expect(100.0)
    assert native_play._KERNELS.choose("play", 0.1 * native_play.LOADING) is not plain.play
    assert chosen == ["play"]


def test_without_numba_it_is_all_in_numpy(chosen: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nir_dynapse.sim.native.build", None)
    for name in ("LOADING", "COMPILING"):
        monkeypatch.setattr(native_play, name, -1.0)
    params, disturbance = CASES["ampa"]
    assert run_circuit(params, poisson(2, 40), DT, ("spikes",), "jax", disturbance).spikes
    assert set(native_play._KERNELS.loaded.values()) == {plain.play}


# --- where runs are computed ------------------------------------------------------------------------------------------


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """JAX is not loaded, nothing is said and nothing but CPUs is installed."""
    monkeypatch.delitem(sys.modules, "jax")
    for name in ("JAX_PLATFORMS", *here.CHOICES):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(here, "_plugins", lambda: False)


@pytest.mark.usefixtures("bare")
def test_cpus_for_sure(monkeypatch: pytest.MonkeyPatch) -> None:
    """JAX is loaded and asked only where it may choose something else."""
    asked: list[str] = []

    class Jax:
        @staticmethod
        def default_backend() -> str:
            asked.append("jax")
            return "gpu"

    def runs_here() -> bool:
        with monkeypatch.context() as patch:
            found = here.nothing_else()
            if not found:
                patch.setitem(sys.modules, "jax", Jax)
            return here.available()

    assert runs_here()
    monkeypatch.setattr(here, "_plugins", lambda: True)
    assert not runs_here()
    for platforms, found in (("cpu", True), ("cpu,cuda", True), ("cuda,cpu", False), ("tpu", False), ("", False)):
        monkeypatch.setenv("JAX_PLATFORMS", platforms)
        assert runs_here() == found, platforms
    assert asked == ["jax"] * 4
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setenv("JAX_PLATFORM_NAME", "gpu")
    assert not runs_here()
