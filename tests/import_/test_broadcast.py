"""Parameters with fewer axes than their layer, cycles under snnTorch's profile, and resets that use no v_reset."""

from __future__ import annotations

from typing import Any

import nir
import numpy as np
import pytest

import nir_dynapse as nd
from nir_dynapse.errors import ParameterRangeError
from nir_dynapse.import_.nir_graph import from_nir
from nir_dynapse.network.primitives import graph
from nir_graphs import affine, codes, lif, linear, port_in, port_out, read, refused, small

LAYER = (4, 5, 6)
FIELDS = ("tau", "r", "v_leak", "v_threshold", "v_reset")


def behind_convolution(spread: bool = False, **shapes: tuple[int, ...]) -> nir.NIRGraph:
    """A LIF whose parameters have the given shapes behind a convolution of shape `LAYER`; `spread`: the same by hand."""
    rng = np.random.default_rng(2)
    kernel = rng.normal(size=(4, 2, 3, 3))
    values = {
        "tau": rng.uniform(3e-3, 9e-3, shapes.get("tau", LAYER)),
        "r": rng.uniform(3, 9, shapes.get("r", LAYER)),
        "v_leak": rng.uniform(0, 0.1, shapes.get("v_leak", LAYER)),
        "v_threshold": rng.uniform(0.5, 1.0, shapes.get("v_threshold", LAYER)),
        "v_reset": rng.uniform(0, 0.2, shapes.get("v_reset", LAYER)),
    }
    node = lif(1)
    for key, value in values.items():
        bare = np.reshape(value, np.shape(value)[-3:])  # axes in front have size 1
        setattr(node, key, np.broadcast_to(bare, LAYER).copy() if spread else value)
    conv = nir.Conv2d((5, 6), kernel, 1, 1, 1, 1, np.zeros(4))
    nodes = {"in": port_in(2, 5, 6), "conv": conv, "lif": node, "out": port_out(*LAYER)}
    return graph(nodes, [("in", "conv"), ("conv", "lif"), ("lif", "out")])


@pytest.mark.parametrize(
    "shapes",
    [
        *(
            dict.fromkeys(FIELDS, shape)
            for shape in ((4, 1, 1), (1, 5, 6), (5, 6), (6,), (5, 1), (1, 4, 1, 1), (1,), ())
        ),
        {"v_threshold": (4, 1, 1)},
        {"tau": (), "r": (1,), "v_threshold": (4, 1, 1), "v_reset": (1, 5, 6)},
    ],
    ids=str,
)
def test_parameters_are_broadcast_as_torch_does(shapes: dict[str, tuple[int, ...]]) -> None:
    net, whole = (read(behind_convolution(by_hand, **shapes)) for by_hand in (False, True))
    assert net.digest() == whole.digest()
    x = (np.random.default_rng(0).random((1, 30, 60)) < 0.4).astype(int)
    spikes = nd.simulate(net, x, ideal=True).output
    np.testing.assert_array_equal(spikes, nd.simulate(whole, x, ideal=True).output)
    assert 50 < spikes.sum() < spikes.size / 2
    said = [f.what for f in net.findings if f.node == "lif"]
    for key, shape in shapes.items():
        if np.prod(shape) > 1:
            assert any(key in what and f"shape {shape} was broadcast to the {LAYER}" in what for what in said)
        elif key != "v_reset":  # an optional one, which may be a number by itself
            assert any(key in what and "one value for all 120 neurons" in what for what in said)


def test_a_shape_that_does_not_broadcast_is_refused_with_both_shapes_and_the_remedy() -> None:
    for shape in ((4,), (3, 1, 1), (4, 1)):
        text = refused(behind_convolution(**dict.fromkeys(FIELDS, shape)))
        assert f"its shape {shape} does not broadcast to {LAYER}" in text
        assert f"shape {LAYER}, or (4, 1, 1) for one value per channel" in text
    text = refused(behind_convolution(tau=(4, 1, 1), r=(3, 1, 1)))
    assert "node 'lif': its parameters have different shapes" in text
    assert "(4, 1, 1)" in text
    assert "(3, 1, 1)" in text
    node = lif(4)
    node.v_threshold = np.ones((4, 1))  # beside (4,) it would make a matrix
    assert "different shapes: tau (4,)" in refused(small(hidden=node))


def test_batch_axes_of_an_input_are_no_reason_to_repeat_neurons() -> None:
    net = read(small(**{"in": port_in(7, 4), "fc": None}, edges=[("in", "hidden"), ("hidden", "out")]))
    assert net["hidden"].shape == (4,)


def test_scales_and_delays_per_channel() -> None:
    scale = np.array([1.0, 2.0, 3.0, 4.0]).reshape(4, 1, 1)
    nets = []
    for value in (scale, np.broadcast_to(scale, LAYER).copy()):
        nodes = {
            "in": port_in(*LAYER),
            "scale": nir.Scale(value),
            "wait": nir.Delay(0 * value),
            "lif": lif(1, LAYER),
            "out": port_out(*LAYER),
        }
        nets.append(read(graph(nodes, [("in", "scale"), ("scale", "wait"), ("wait", "lif"), ("lif", "out")])))
    assert [np.array_equal(a.weight, b.weight) for a, b in zip(*(net.projections for net in nets), strict=True)] == [
        True
    ]


# --- cycles under snnTorch's profile ----------------------------------------------------------------------------------


def snn(n: int = 4) -> Any:
    return lif(n, tau=1e-3, r=10.0)


def recurrent(names: tuple[str, str], frontend: str = "snntorch", further: str | None = None) -> nd.Network:
    layer, back = names
    nodes = {"input": port_in(3), "fc": linear(4, 3), layer: snn(), back: affine(4, 4), "output": port_out(4)}
    edges = [("input", "fc"), ("fc", layer), (layer, back), (layer, "output")]
    edges += [(back, layer)] if further is None else [(back, further), (further, layer)]
    nodes |= {} if further is None else {further: snn()}
    return from_nir(graph(nodes, edges), frontend=frontend, dt=1e-3)


def test_recurrent_layers_of_snntorch_are_no_surprise_and_other_cycles_are() -> None:
    for names in (("rec.lif", "rec.w_rec"), ("net.0.lif", "net.0.w_rec"), ("rec", "rec.w_rec")):
        assert not codes(recurrent(names))
    for names, further in ((("lif", "fc2"), None), (("a.lif", "b.w_rec"), None), (("rec.lif", "rec.w_rec"), "lif2")):
        net = recurrent(names, further=further)
        (found,) = [f for f in net.findings if f.severity == "warning"]
        assert found.code == "recurrence"
        assert all(repr(name) in found.what for name in names)
        assert "merges a module" in found.what
        assert "recurrence" not in codes(recurrent(names, "spec", further))
    nodes = {"input": port_in(4), "lif": snn(), "output": port_out(4)}
    net = from_nir(graph(nodes, [("input", "lif"), ("lif", "lif"), ("lif", "output")]), frontend="snntorch", dt=1e-3)
    assert codes(net) == {"recurrence"}


# --- a v_reset that is not used ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("reset", ["subtract", "none"])
@pytest.mark.parametrize("v_reset", [1.0, 2.5])
def test_a_v_reset_that_the_reset_does_not_use_is_no_fault(reset: Any, v_reset: float) -> None:
    file = small(hidden=lif(4, tau=0.02, r=20.0, v_reset=v_reset))
    net = read(file, reset=reset, strict=True)
    plain = read(small(hidden=lif(4, tau=0.02, r=20.0)), reset=reset)
    assert net.digest() == plain.digest()
    (found,) = [f for f in net.findings if "v_reset" in f.what]
    assert f"v_reset is {v_reset:g} (and 3 more neurons), at or above v_threshold; it was read as 0" in found.what
    assert "must be above v_reset" in refused(file, ParameterRangeError)
    assert "must be above v_reset" in refused(file, ParameterRangeError, reset="value")
    assert "must be above v_reset" in refused(file, ParameterRangeError, frontend="norse")
    assert nd.compile(net).n_neurons == 4


def test_a_threshold_at_zero_is_a_fault_whatever_the_reset() -> None:
    file = small(hidden=lif(4, v_threshold=0.0))
    for reset in ("value", "subtract", "none"):
        assert "v_threshold is 0 (and 3 more neurons), it must be above 0" in refused(
            file, ParameterRangeError, reset=reset
        )
