"""Figures: every spike, slot and chip is there, with labels and units; what does not fit is refused; nothing leaks."""

from __future__ import annotations

import copy
import io
import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import nir_dynapse as nd
from figure_cases import NETWORK, X, a_layout, busy, circuit_run, ideal_run, labelled, the_params, written
from nir_dynapse import figures
from nir_dynapse.chip.device import DYNAPSE2
from nir_dynapse.data.recording import Recording
from nir_dynapse.errors import ConfigurationError, NotInstalledError, ParameterRangeError
from nir_dynapse.figures.parts import si
from nir_dynapse.layout.layout import Layout
from nir_dynapse.reporting.floor_plan import passing
from nir_dynapse.sim.mismatch import fabricate
from shortened import shortened

matplotlib = pytest.importorskip("matplotlib", reason="the extra `plot` is not installed")


def made(counts: dict[str, Any], dt: float = 1e-3) -> Recording:
    return Recording({name: np.asarray(values) for name, values in counts.items()}, dt)


def segments(ax: Any) -> dict[str, np.ndarray]:
    """Marks (n, 2, 2) of a raster by node."""
    return {c.get_label(): np.array(c.get_segments()) for c in ax.collections if not c.get_label().startswith("_")}


# --- what all have in common ------------------------------------------------------------------------------------------

MAKERS: dict[str, Callable[..., Any]] = {
    "raster": lambda **to: figures.raster(circuit_run(), **to),
    "membranes": lambda **to: figures.membranes(circuit_run(), thing=NETWORK, **to),
    "floor_plan": lambda **to: figures.floor_plan(a_layout(), **to),
    "devices": lambda **to: figures.devices({"before": np.array([0.5, 0.6]), "after": np.array([0.9, 0.8])}, **to),
    "through_a_spike": lambda **to: figures.through_a_spike(the_params(), X[0], ("hidden", busy()), step=1e-4, **to),
}


@pytest.mark.parametrize("make", shortened(MAKERS.values(), 3), ids=MAKERS)
def test_figures_and_axes(make: Callable[..., Any]) -> None:
    from matplotlib.figure import Figure

    figure: Any = make()
    assert isinstance(figure, Figure)
    shown = figure._repr_png_()  # pyright: ignore[reportAttributeAccessIssue] - what a notebook asks for
    assert shown.startswith(b"\x89PNG")
    assert len(shown) > 2000
    assert shown == make()._repr_png_(), "the same picture every time"
    own = Figure()
    axes = own.add_subplot()
    assert make(ax=axes) is axes
    own.savefig(io.BytesIO(), format="png")


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_nothing_is_clipped(make: Callable[..., Any]) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure = make()
    drawn = FigureCanvasAgg(figure)
    drawn.draw()
    everything = figure.get_tightbbox(drawn.get_renderer())
    width, height = figure.get_size_inches()
    assert everything.x0 >= -0.01
    assert everything.y0 >= -0.01
    assert everything.x1 <= width + 0.01
    assert everything.y1 <= height + 0.01


def test_figures_can_be_stored_and_copied() -> None:
    figure = figures.raster(circuit_run())
    again = pickle.loads(pickle.dumps(figure))
    assert again._repr_png_() == figure._repr_png_()
    copy.copy(figure)


@pytest.mark.long
def test_nothing_global_changes() -> None:
    code = """
import sys
import matplotlib
before = matplotlib.rcParams.copy()
import numpy as np
from nir_dynapse import figures
from nir_dynapse.data.recording import Recording
spikes = np.ones((1, 3, 2), int)
recording = Recording({"a": spikes}, 1e-3, states={"i_mem": {"a": spikes * 1e-9}})
for figure in (figures.raster(recording), figures.rasters({"x": recording}), figures.membranes(recording),
               figures.devices({"a": np.array([0.5])})):
    figure.savefig("/dev/null", format="png")
assert dict.items(matplotlib.rcParams) == dict.items(before)
assert "matplotlib.pyplot" not in sys.modules
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("call", [MAKERS["raster"], lambda: figures.rasters({"a": circuit_run()}), *MAKERS.values()])
def test_without_matplotlib(call: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(NotInstalledError, match=r'need matplotlib.*Run `pip install "nir-dynapse\[plot\]"`'):
        call()


# --- spikes -----------------------------------------------------------------------------------------------------------


def test_raster_has_a_mark_for_every_spike() -> None:
    counts = {"a": np.zeros((2, 10, 4), int), "b": np.zeros((2, 10, 1), int)}
    counts["a"][1, 3, 2], counts["a"][1, 9, 0], counts["b"][1, 5, 0] = 3, 1, 2
    figure = figures.raster(made(counts, dt=2e-3), sample=1)
    (ax,) = figure.axes
    marks = segments(ax)
    assert {name: len(found) for name, found in marks.items()} == {"a": 4, "b": 2}
    np.testing.assert_allclose(marks["a"][:, 0, 0], [2 * (3 + 1 / 6), 7.0, 2 * (3 + 5 / 6), 19.0])
    np.testing.assert_allclose(marks["b"][:, 0, 0], [10.5, 11.5])
    third, first = marks["a"][0, :, 1].mean(), marks["a"][3, :, 1].mean()
    assert third > first, "neuron 0 is below"
    assert ax.get_xlabel() == "time in ms"
    assert ax.get_xlim() == (0, 20)
    words = written(figure)
    assert all(name in words.split("\n") for name in ("a", "b", "0", "3"))
    empty = figures.raster(made(counts, dt=2e-3), sample=0)
    assert all(len(found) == 0 for found in segments(empty.axes[0]).values())


def test_raster_of_a_run() -> None:
    figure = figures.raster(circuit_run())
    marks = segments(figure.axes[0])
    assert {name: len(found) for name, found in marks.items()} == {
        n: s[0].sum() for n, s in circuit_run().spikes.items()
    }
    colours = {tuple(c.get_colors()[0]) for c in figure.axes[0].collections if c.get_label() in circuit_run().spikes}
    assert len(colours) == len(circuit_run().spikes)
    assert list(segments(figures.raster(circuit_run(), nodes=("output",)).axes[0])) == ["output"]


def test_populations_do_not_overlap() -> None:
    marks = segments(
        figures.raster(made({name: np.ones((1, 2, n), int) for name, n in zip("abc", (1, 50, 2), strict=True)})).axes[0]
    )
    for below, above in (("a", "b"), ("b", "c")):
        assert marks[below][..., 1].max() < marks[above][..., 1].min()


def test_rasters_share_their_axes() -> None:
    part = made({"output": circuit_run().spikes["output"][:, :20]})
    figure = figures.rasters({"ideal": ideal_run(), "circuit": circuit_run(), "on chip": part})
    assert [ax.get_title() for ax in figure.axes] == [
        f"ideal: {sum(int(s[0].sum()) for s in ideal_run().spikes.values())} spikes",
        f"circuit: {sum(int(s[0].sum()) for s in circuit_run().spikes.values())} spikes",
        f"on chip: {int(part.spikes['output'][0].sum())} spikes",
    ]
    assert len({ax.get_xlim() for ax in figure.axes}) == len({ax.get_ylim() for ax in figure.axes}) == 1
    assert figure.axes[0].get_xlim() == (0, 40)
    assert "not recorded" in written(figure)
    assert set(segments(figure.axes[2])) == {"output"}


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (
            lambda: figures.raster(circuit_run(), sample=2),
            ParameterRangeError,
            r"sample is 2, allowed are whole numbers from 0 to 1",
        ),
        (lambda: figures.raster(circuit_run(), sample=-1), ParameterRangeError, r"sample is -1"),
        (lambda: figures.raster(circuit_run(), sample=0.5), ParameterRangeError, r"sample is 0.5"),  # pyright: ignore[reportArgumentType]
        (lambda: figures.raster(made({})), ParameterRangeError, r"sample is 0, but there are none"),
        (
            lambda: figures.raster(circuit_run(), nodes=("hiden",)),
            ConfigurationError,
            r"no node 'hiden'. Did you mean hidden\?",
        ),
        (lambda: figures.rasters({}), ParameterRangeError, r"no recording"),
        (
            lambda: figures.rasters({"a": circuit_run()}, nodes=("x",)),
            ConfigurationError,
            r"no node 'x'. Choose from hidden, output",
        ),
        (
            lambda: figures.rasters({"a": circuit_run(), "b": made({"output": np.zeros((1, 2, 9))})}),
            ParameterRangeError,
            r"'output' has 9 neurons in 'b' and 3 before",
        ),
        (lambda: figures.membranes(made({"a": np.zeros((1, 2, 2))})), ConfigurationError, r"no membranes.*record="),
        (lambda: figures.membranes(circuit_run(), "x"), ConfigurationError, r"no node 'x'"),
        (
            lambda: figures.membranes(circuit_run(), "output", (0, 3)),
            ParameterRangeError,
            r"neuron is 3.*0 to 2",
        ),
        (lambda: figures.membranes(circuit_run(), "output", ()), ParameterRangeError, r"no neuron"),
        (lambda: figures.membranes(circuit_run(), sample=7), ParameterRangeError, r"sample is 7"),
        (
            lambda: figures.membranes(ideal_run(), thing=the_params()),
            ParameterRangeError,
            r"Params, but the run was ideal",
        ),
        (lambda: figures.devices({}), ParameterRangeError, r"no series"),
        (lambda: figures.devices({"a": np.array([0.5, 71.0])}), ParameterRangeError, r"'a' holds 71"),
    ],
)
def test_refusals(call: Callable[[], Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        call()


# --- membranes --------------------------------------------------------------------------------------------------------


def test_membranes_of_the_circuit() -> None:
    chosen = (busy(), 0)
    figure = figures.membranes(circuit_run(), "hidden", chosen, thing=the_params())
    unit, prefix = si(float(np.max(the_params().per_neuron("i_spkthr"))))
    for ax, n in zip(figure.axes, chosen, strict=True):
        trace, level, spikes = ax.lines
        np.testing.assert_allclose(trace.get_xdata(), np.arange(1, 41))
        np.testing.assert_allclose(trace.get_ydata(), circuit_run().states["i_mem"]["hidden"][0, :, n] / unit)
        np.testing.assert_allclose(level.get_ydata(), the_params().per_neuron("i_spkthr")[n] / unit)
        assert len(spikes.get_xdata()) == circuit_run().spikes["hidden"][0, :, n].sum()
        assert ax.get_ylabel() == f"$I_{{mem}}$ in {prefix}A"
        assert ax.get_title(loc="left") == f"hidden, neuron {n}"
    assert figure.axes[-1].get_xlabel() == "time in ms"
    assert "threshold" in written(figure)


def test_membranes_of_virtual_chips_and_ideal_runs() -> None:
    run = nd.simulate(NETWORK, X, mismatch=nd.Mismatch(), key=3, record=("spikes", "i_mem"))
    figure = figures.membranes(run, "hidden", (0, 1, 2), thing=NETWORK, mismatch=nd.Mismatch(), key=3)
    levels = np.array([ax.lines[1].get_ydata()[0] for ax in figure.axes])
    chip = fabricate(the_params(), nd.Mismatch(), 3).per_neuron("i_spkthr")[:3]
    np.testing.assert_allclose(levels / levels[0], chip / chip[0])
    assert len(set(levels)) == 3
    v = figures.membranes(ideal_run(), "hidden", (busy(),), thing=NETWORK).axes[0]
    assert v.get_ylabel() == "v"
    np.testing.assert_allclose(v.lines[0].get_ydata(), ideal_run().states["v"]["hidden"][0, :, busy()])
    np.testing.assert_allclose(v.lines[1].get_ydata(), 1.0)
    assert len(figures.membranes(circuit_run()).axes[0].lines) == 2, "no threshold where nobody knows it"


@pytest.mark.parametrize(
    ("largest", "unit"),
    [
        (2e-9, (1e-9, "n")),
        (999e-12, (1e-12, "p")),
        (3e-6, (1e-6, "µ")),
        (0.0, (1.0, "")),
        (5.0, (1.0, "")),
        (1e-30, (1e-18, "a")),
    ],
)
def test_prefixes(largest: float, unit: tuple[float, str]) -> None:
    assert si(largest) == (pytest.approx(unit[0]), unit[1])


# --- chips ------------------------------------------------------------------------------------------------------------


def test_floor_plan_shows_every_neuron() -> None:
    figure = figures.floor_plan(a_layout())
    ax, bar = figure.axes
    meshes = [c for c in ax.collections if hasattr(c, "get_coordinates")]
    shown = np.ma.concatenate([np.ma.ravel(mesh.get_array()) for mesh in meshes])
    assert len(shown) == 1024
    assert shown.count() == 15
    rows = (a_layout().cam["dendrite"] >= 0).sum(1)
    assert sorted(shown.compressed()) == sorted(rows)
    at = a_layout().core.astype(int) * 256 + a_layout().slot
    np.testing.assert_array_equal(shown[at], rows)
    assert bar.get_ylabel() == "CAM rows in use, of 64"
    words = written(figure)
    assert {"hidden (12)", "output (3)", "unused slot", "chip 0", "core 3: unused"} <= set(words.split("\n"))


def test_floor_plan_of_several_chips(random_layout: Callable[..., Layout]) -> None:
    layout = random_layout(4, 6, 900)
    figure = figures.floor_plan(layout, DYNAPSE2.stack(6))
    words = written(figure).split("\n")
    counted = sorted(word for word in words if word.endswith((" tags", " tag")))
    counts = [n for pair in passing(layout) for n in pair]
    assert len(counts) == 10
    assert counted == sorted(f"{n} tag{'s' * (n != 1)}" for n in counts)
    assert [f"chip {k}" in words for k in range(6)] == [True] * 6


def test_floor_plan_marks_what_does_not_work() -> None:
    device = DYNAPSE2.with_profiles(nd.ChipProfile.synthetic(3, board="red"))
    profile = device.profile(0)
    assert profile is not None
    figure = figures.floor_plan(nd.compile(NETWORK, device=device), device)
    crosses = [line for line in figure.axes[0].lines if line.get_marker() == "x"]
    assert sum(len(line.get_xdata()) for line in crosses) == (~profile.neurons).sum() > 0
    assert "does not work" in written(figure)


# --- accuracies -------------------------------------------------------------------------------------------------------


def test_devices_shows_every_chip() -> None:
    rng = np.random.default_rng(0)
    before, after = rng.uniform(0.4, 0.8, 50), rng.uniform(0.7, 1.0, 30)
    figure = figures.devices({"before": before, "after": after})
    (ax,) = figure.axes
    dots = [line for line in ax.lines if line.get_marker() == "o"]
    np.testing.assert_allclose(np.sort(dots[0].get_xdata()), np.sort(100 * before))
    np.testing.assert_allclose(np.sort(dots[1].get_xdata()), np.sort(100 * after))
    places = np.stack([dots[0].get_xdata(), dots[0].get_ydata()], 1)
    assert len(np.unique(places.round(6), axis=0)) == 50, "no dot hides another"
    medians = [line.get_xdata()[0] for line in ax.lines if line.get_markeredgewidth() == 4]
    assert medians == pytest.approx([100 * np.median(before), 100 * np.median(after)])
    assert dots[0].get_color() != dots[1].get_color()
    words = written(figure)
    assert f"median {100 * np.median(after):.1f} %" in words
    assert f"5 % quantile {100 * np.quantile(before, 0.05):.1f} %" in words
    assert "accuracy on a virtual chip in %" in words
    assert {"a chip", "median", "quartiles", "5 % quantile"} == set(labelled(ax))


def test_devices_of_one_evaluation() -> None:
    data = nd.Data(X, np.array([0, 1]), 1e-3)
    result = nd.evaluate(NETWORK, data, devices=3, mismatch=nd.Mismatch(), key=1)
    ax = figures.devices(result).axes[0]
    nominal = labelled(ax)["without mismatch"]
    assert nominal.get_xdata()[0] == 100 * result.nominal
    low, high = ax.get_xlim()
    assert low <= 100 * result.nominal <= high + 1e-9


def test_figures_of_copies_have_the_networks_neurons() -> None:
    """A membrane is that of copy 0, and so is a spike unless another is named."""
    layout = nd.compile(NETWORK, spend=2)
    run = nd.simulate(layout, X, record=("spikes", "i_mem"))
    node = next(iter(layout.sizes))
    marks = segments(figures.raster(run).axes[0])
    assert {name: len(found) for name, found in marks.items()} == {
        name: int(spikes[0].sum()) for name, spikes in run.spikes.items() if spikes[0].any()
    }
    panel = figures.membranes(run, node, (1,), thing=layout).axes[0]
    np.testing.assert_allclose(
        panel.lines[0].get_ydata() / panel.lines[0].get_ydata().max(),
        run.states["i_mem"][node][0, :, 2] / run.states["i_mem"][node][0, :, 2].max(),
        rtol=1e-5,
    )
    with pytest.raises(ParameterRangeError, match="neuron"):
        figures.membranes(run, node, (layout.node_sizes[node],))
    with pytest.raises(ParameterRangeError, match="copy"):
        figures.through_a_spike(layout, X[0], (node, 0, 2))
    figures.floor_plan(layout)
    figures.rasters({"ideal": nd.simulate(NETWORK, X, ideal=True), "copies": run})
