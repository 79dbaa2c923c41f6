"""A dt and gains that tell of different steps: a warning, and remedies that leave the gains right."""

from __future__ import annotations

from typing import Any

import nir
import numpy as np
import pytest

import nir_dynapse as nd
from nir_dynapse.data.data import Data
from nir_dynapse.errors import DynapseError, ParameterRangeError
from nir_dynapse.evaluation.checks import check_data
from nir_dynapse.import_.nir_graph import from_nir
from nir_dynapse.network.primitives import graph
from nir_graphs import cubalif, lif, linear, port_in, port_out, refused, small


def stepped(dt: float, steps: float = 5.0, **values: Any) -> nir.NIRGraph:
    """A network whose gains are 1 per step of `dt`, with time constants from `steps` steps on."""
    tau = np.array([1.0, 1.2, 1.5, 2.0]) * steps * dt
    return plain(small(hidden=lif(4, tau=tau, r=tau / dt, **values)))


def plain(graph: Any) -> nir.NIRGraph:
    graph.metadata = {}
    return graph


def contradictions(network: nd.Network) -> list[nd.Finding]:
    return [f for f in network.findings if f.code == "dt" and f.severity == "warning"]


def data(dt: float) -> Data:
    return Data(np.zeros((2, 5, 3), np.uint8), np.array([0, 1]), dt)


def told(graph: nir.NIRGraph, bins: float, **options: Any) -> str:
    with pytest.raises(ParameterRangeError, match="must be the same time") as caught:
        check_data(data(bins), from_nir(graph, **options))
    return str(caught.value)


def test_a_step_that_the_gains_contradict_is_a_warning_with_profile_and_both_numbers() -> None:
    (found,) = contradictions(from_nir(stepped(1e-4, 20), dt=1e-3))
    assert (found.used, found.limit, found.unit) == (1e-3, pytest.approx(1e-4), "s")
    for word in ("0.001 s", "0.0001 s", "snntorch", "profile 'spec'", "factor of 10"):
        assert word in found.what
    assert 'frontend="snntorch", and dt=0.001' in found.hint
    assert "contradict" in refused(stepped(1e-4, 20), ParameterRangeError, dt=1e-3, strict=True)


@pytest.mark.parametrize(
    "options", [{}, {"dt": 1e-4}, {"dt": 1e-3, "frontend": "snntorch"}, {"dt": 1e-4, "time_scale": 10.0}], ids=str
)
def test_steps_that_agree_are_no_warning(options: dict[str, Any]) -> None:
    assert not contradictions(from_nir(stepped(1e-4), **options))


def test_the_remedies_of_the_warning_leave_the_gains_right() -> None:
    """Gains of another step than snnTorch's: the time scale stretches step and time constants alike."""
    (found,) = contradictions(from_nir(stepped(2e-3), dt=5e-3, time_scale=2.0))
    assert "Leave dt out, and pass time_scale=5 " in found.hint
    again = from_nir(stepped(2e-3), time_scale=5.0)
    assert again.dt == pytest.approx(2 * 5e-3)
    np.testing.assert_allclose(again["hidden"].step_gains(again.dt).gain, 1.0)
    noted = stepped(2e-3)
    noted.metadata = {"dt": 5e-3}
    (found,) = contradictions(from_nir(noted))
    assert found.what.startswith("metadata dt is 0.005 s")
    assert "Pass dt=0.002, and pass time_scale=2.5 " in found.hint
    again = from_nir(noted, dt=0.002, time_scale=2.5)
    assert not contradictions(again)
    assert again.dt == pytest.approx(5e-3)


def test_synaptic_gains_count_as_well() -> None:
    graph = plain(small(hidden=cubalif(4, tau_mem=0.02, tau_syn=0.01, r=20.0, w_in=10.0)))
    assert not contradictions(from_nir(graph, dt=1e-3))
    assert len(contradictions(from_nir(graph, dt=1e-4))) == 1


def test_gains_that_may_be_chance_contradict_nothing() -> None:
    assert not contradictions(from_nir(plain(small(hidden=lif(4, tau=0.02, r=3.3))), dt=1e-3))
    assert not contradictions(from_nir(plain(small(hidden=lif(4, tau=0.02, r=1.0))), dt=1e-4))


def test_a_frontend_whose_step_is_real_time_is_held_to_its_gains() -> None:
    """Rockpool writes r = (tau/dt)·exp(−dt/tau), from which its step follows."""
    tau = np.array([5e-3, 8e-3, 1e-2, 2e-2])
    graph = plain(small(hidden=lif(4, tau=tau, r=tau / 1e-3 * np.exp(-1e-3 / tau))))
    assert not contradictions(from_nir(graph, frontend="rockpool", dt=1e-3))
    (found,) = contradictions(from_nir(graph, frontend="rockpool", dt=2e-3))
    assert "rockpool" in found.what


def test_data_with_other_bins_never_leads_to_a_bare_dt() -> None:
    """dt alone would be read with gains of another step, and give plausible numbers."""
    what = told(stepped(1e-4), 1e-3)
    assert 'frontend="snntorch" and dt=0.001' in what
    assert "time_scale" not in what  # the reset would be another
    what = told(stepped(2e-3), 1e-2)
    assert "time_scale=5 and no dt" in what
    assert "dt=" not in what
    check_data(data(1e-2), from_nir(stepped(2e-3), time_scale=5.0))
    assert "dt=0.002" in told(stepped(2e-3), 2e-3, dt=5e-3)  # what the gains tell
    nodes = {"input_1": port_in(3), "_0": linear(4, 3), "_1": lif(4), "output": port_out(4)}
    jelly = graph(nodes, [("input_1", "_0"), ("_0", "_1"), ("_1", "output")])
    assert 'frontend="spikingjelly" and dt=0.01' in told(jelly, 1e-2)  # its names tell, where its gains do not
    for file in (stepped(1e-4), stepped(2e-3)):
        assert "dt=0.01, the real length of a step" in told(file, 1e-2, frontend="snntorch")
    assert "dt=0.01 if that is the step" in told(plain(small()), 1e-2)


@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_times_out_of_reach_keep_the_step_that_the_gains_tell(factor: float) -> None:
    """time_unit with a dt beside it would change the gains; time_scale alone does not."""
    for dt in (1e-3, None):
        text = refused(stepped(1e-3 * factor), ParameterRangeError, dt=dt)
        assert "time_unit=" not in text
        assert f"leave dt out, and pass time_scale={1 / factor:g}" in text
    assert from_nir(stepped(1e-3 * factor), time_scale=1 / factor).dt == pytest.approx(1e-3)


def test_a_long_time_constant_of_snntorch_leads_to_its_profile() -> None:
    tau = np.array([2.0, 3.0, 5.0, 7.0])
    graph = plain(small(hidden=lif(4, tau=tau, r=tau / 1e-4)))
    assert 'frontend="snntorch"' in refused(graph, ParameterRangeError, dt=1e-4)


def test_an_overshooting_step_is_not_mended_by_another_dt() -> None:
    with pytest.raises(DynapseError) as caught:
        from_nir(stepped(5e-4), dt=2e-2)
    (found,) = [f for f in caught.value.findings if f.severity == "error"]
    assert "leave dt out" in found.hint
    assert "Pass the dt" not in found.hint
