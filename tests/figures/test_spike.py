"""One neuron through a spike: the close-up agrees with `simulate`, the figure names what it shows and refuses the rest."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import nir_dynapse as nd
from figure_cases import X, a_layout, busy, labelled, the_params, written
from nir_dynapse import figures
from nir_dynapse.circuit.params import latch_bits
from nir_dynapse.errors import ConfigurationError, ParameterRangeError
from nir_dynapse.reporting.svg import colour_of
from nir_dynapse.sim.closeup import closeup

pytest.importorskip("matplotlib", reason="the extra `plot` is not installed")


def spike_of(thing: Any = None, **options: Any) -> Any:
    return figures.through_a_spike(thing or the_params(), X[0], ("hidden", busy()), **options).axes[0]


def test_closeup_converges_to_what_simulate_does() -> None:
    fine, usual = closeup(the_params().numpy(), X[0], busy(), step=2e-5, after=0.1)
    same = nd.simulate(the_params(), X[0], record=("i_mem",), backend="numpy")
    parts = len(usual.time) // len(X[0])
    np.testing.assert_allclose(
        usual.currents["i_mem"][parts - 1 :: parts], same.states["i_mem"]["hidden"][0, :, busy()], rtol=1e-5
    )
    assert len(usual.spikes) == same.spikes["hidden"][0, :, busy()].sum() > 0
    np.testing.assert_array_equal(
        np.bincount((usual.spikes / 1e-3).astype(int), minlength=len(X[0])), same.spikes["hidden"][0, :, busy()]
    )
    assert abs(fine.spikes[0] - usual.spikes[0]) < usual.step
    first = fine.time > fine.spikes[0]
    held = first & (fine.time < fine.spikes[0] + fine.refractory - fine.step)
    np.testing.assert_allclose(fine.currents["i_mem"][held], fine.floor, rtol=1e-5)
    assert held.sum() == pytest.approx(fine.refractory / fine.step, abs=2)
    assert fine.currents["i_mem"][~first][-2] < fine.threshold


def test_closeup_in_the_same_steps_is_the_same() -> None:
    t = the_params().topology
    slow = np.random.default_rng(0).integers(0, 2, t.n_synapses)
    for params in (the_params(), replace(the_params(), topology=replace(t, delay=slow))):
        _, usual = closeup(params.numpy(), X[0], busy())
        fine, again = closeup(params.numpy(), X[0], busy(), step=usual.step, after=1.0)
        np.testing.assert_array_equal(again.currents["i_mem"], usual.currents["i_mem"])
        assert all(np.array_equal(fine.currents[name], usual.currents[name]) for name in usual.currents)
        np.testing.assert_array_equal(fine.spikes, usual.spikes)


def test_closeup_gets_what_the_neuron_gets_in_simulate() -> None:
    for neuron in range(15):
        try:
            fine, usual = closeup(the_params().numpy(), X[0], neuron, step=5e-5, after=1.0)
        except ConfigurationError:
            continue
        assert len(fine.spikes) == len(usual.spikes)
        np.testing.assert_allclose(fine.spikes, usual.spikes, atol=2e-4)
        parts = round(usual.step / fine.step)
        ends = {name: current[parts - 1 :: parts] for name, current in fine.currents.items()}
        for name in ("i_ampa", "i_gaba"):
            np.testing.assert_allclose(ends[name], usual.currents[name], rtol=1e-4, atol=1e-15)


def test_through_a_spike_is_labelled() -> None:
    ax = spike_of(step=5e-5)
    found = labelled(ax)
    assert {
        "$I_{mem}$, membrane",
        "$I_{AMPA}$, fast excitation",
        "$I_{spkthr}$, threshold",
        "$I_o$, reset level",
    } <= set(found)
    assert any(name.startswith("refractory, ") for name in found)
    assert ax.get_yscale() == "log"
    assert ax.get_xlabel() == "time in ms"
    assert any(label.get_text().endswith(" pA") for label in ax.get_yticklabels())
    fine, _ = closeup(the_params().numpy(), X[0], busy(), step=5e-5)
    assert f"spike 0 at {1e3 * fine.spikes[0]:.3f} ms" in ax.get_title()
    np.testing.assert_allclose(found["$I_{spkthr}$, threshold"].get_ydata(), fine.threshold)
    curves = [
        line.get_color() for line in found.values() if hasattr(line, "get_marker") and line.get_linestyle() == "-"
    ]
    assert len(set(curves)) == len(curves) >= 2
    assert colour_of(1) in curves


def test_through_a_spike_of_chips_and_latches() -> None:
    nominal, chip = spike_of(step=1e-4), spike_of(step=1e-4, mismatch=nd.Mismatch(), key=5)
    thresholds = [labelled(ax)["$I_{spkthr}$, threshold"].get_ydata()[0] for ax in (nominal, chip)]
    assert thresholds[0] != thresholds[1]
    assert "positive feedback" not in written(nominal.figure)
    latches = the_params().topology.latches | latch_bits(exponential=True)
    other = replace(the_params(), topology=replace(the_params().topology, latches=latches))
    assert "positive feedback" in written(spike_of(other, step=1e-4).figure)
    assert "spike 0" in spike_of(a_layout(), step=1e-4).get_title()


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"neuron": ("hiden", 0)}, ConfigurationError, r"no node 'hiden' with neurons. Did you mean hidden\?"),
        ({"neuron": ("hidden", 12)}, ParameterRangeError, r"'hidden', neuron is 12.*from 0 to 11"),
        ({"neuron": 3}, ParameterRangeError, r"neuron is 3. Give the node and the index"),
        ({"spike": 999}, ConfigurationError, r"neuron \d+: spike 999 was asked for, but there (are|is) \d+ in 40 ms"),
        ({"spike": -1}, ParameterRangeError, r"spike is -1"),
        ({"before": 0}, ParameterRangeError, r"before is 0 s"),
        ({"after": np.nan}, ParameterRangeError, r"after is nan s"),
        ({"step": 0.0}, ParameterRangeError, r"step is 0.0 s; it must be positive and at most"),
        ({"step": 1.0}, ParameterRangeError, r"step is 1.0 s.*at most"),
        ({"step": 1e-7}, ParameterRangeError, r"400000 steps.*allowed are 200000"),
        ({"x": X}, ConfigurationError, r"x holds 2 samples"),
        ({"x": X[0, :, :3]}, ConfigurationError, r"expects \(batch, time, 6\)"),
    ],
)
def test_through_a_spike_refuses(options: dict[str, Any], error: type[Exception], words: str) -> None:
    given = {"x": X[0], "neuron": ("hidden", busy()), "step": 1e-4, **options}
    with pytest.raises(error, match=words):
        figures.through_a_spike(the_params(), given.pop("x"), given.pop("neuron"), **given)
