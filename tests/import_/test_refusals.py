"""Time units and steps, and every bad graph: what is wrong, where, and what to do."""

from __future__ import annotations

import itertools
import re

import nir
import numpy as np
import pytest

from nir_dynapse.errors import ParameterRangeError
from nir_dynapse.import_.nir_graph import from_nir
from nir_dynapse.network.primitives import PRIMITIVES, graph
from nir_graphs import (
    RECURRENT,
    affine,
    codes,
    cubalif,
    in_nested,
    lif,
    linear,
    nested,
    port_in,
    port_out,
    read,
    refused,
    small,
    values_of,
)


def test_time_unit_and_scale():
    net = from_nir(small(hidden=lif(4, tau=20.0)), dt=1e-3, time_unit="ms", time_scale=2.0)
    np.testing.assert_allclose(net["hidden"].tau_mem, 0.04)
    assert net.dt == 2e-3
    assert (net.origin["time_unit"], net.origin["time_scale"]) == ("ms", 2.0)
    net = from_nir(small(hidden=cubalif(4, tau_mem=20.0, tau_syn=5.0)), dt=1e-3, time_unit="ms", time_scale=2.0)
    np.testing.assert_allclose(net["hidden"].tau_mem, 0.04)
    np.testing.assert_allclose(values_of(net["hidden"].tau_syn), 0.01)


def test_dt_argument_beats_metadata_beats_gains_beats_default():
    g = small(hidden=cubalif(4, tau_mem=[0.02, 0.03, 0.04, 0.05], r=[4.0, 6.0, 8.0, 10.0], w_in=2.0))
    assert from_nir(g, dt=2e-3).dt == 2e-3
    assert from_nir(g).dt == 1e-3
    assert from_nir(g, time_scale=3.0).dt == pytest.approx(3e-3)
    g.metadata = {}
    net = from_nir(g)
    assert net.dt == pytest.approx(5e-3, rel=1e-12)
    assert [(f.severity, f.code) for f in net.findings] == [("info", "dt")]
    g.nodes["hidden"].w_in = np.full(4, 3.0)  # tau_syn/w_in disagrees
    net = from_nir(g)
    assert net.dt == 1e-3
    assert [(f.severity, f.code) for f in net.findings] == [("warning", "dt")]
    assert "dt=" in refused(g, ParameterRangeError, dt=None, strict=True)


@pytest.mark.parametrize("bad", [0, -1e-3, float("nan"), float("inf"), "soon", [1, 2]])
def test_bad_time_arguments(bad):
    assert "dt is" in refused(small(), ParameterRangeError, dt=bad)
    assert "time_scale is" in refused(small(), ParameterRangeError, time_scale=bad)
    net = from_nir(graph(small().nodes, small().edges, {"dt": bad}))
    assert (net.dt, codes(net)) == (1e-3, {"dt"})


def test_unknown_unit_and_frontend_list_the_known_ones():
    assert "'s', 'ms', 'us'" in refused(small(), ParameterRangeError, time_unit="steps")
    assert "'spec'" in refused(small(), ParameterRangeError, frontend="brian")


@pytest.mark.parametrize(
    ("tau", "unit", "remedy", "result"),
    [
        (20.0, "s", 'time_unit="ms"', "0.02 s"),
        (20.0, "ms", None, None),
        (2e4, "ms", 'time_unit="us"', "0.02 s"),
        (1e-5, "s", "time_scale=1000", "0.01 s"),
        (0.02, "ms", 'time_unit="s"', "0.02 s"),
        (0.002, "ms", 'time_unit="s"', "0.002 s"),
        (200.0, "us", None, None),
        (20.0, "us", 'time_unit="ms"', "0.02 s"),
        (0.5, "us", 'time_unit="ms"', "0.0005 s"),
        (5e7, "s", "time_scale=...", None),
    ],
)
def test_time_unit_off_by_a_thousand(tau, unit, remedy, result):
    g = small(hidden=lif(4, tau=[tau, 1.0, 1.0, 1.0] if tau > 1e6 else tau))
    if remedy is None:
        assert from_nir(g, dt=1e-5, time_unit=unit).n_neurons == 4
        return
    text = refused(g, ParameterRangeError, time_unit=unit, dt=1e-5)
    assert "node 'hidden', neuron 0: tau is" in text
    assert ("the chip reaches at most" in text) == (tau > 1 and unit != "us")
    assert remedy in text
    assert result is None or result in text
    suggested = re.search(r'time_unit="(\w+)"', text)
    if suggested:  # the remedy works
        assert from_nir(g, dt=1e-6, time_unit=suggested[1]).n_neurons == 4


def test_dt_against_tau():
    assert "forward Euler diverges" in refused(small(hidden=lif(4, tau=5e-4)), ParameterRangeError, dt=1e-3)
    assert codes(read(small(hidden=lif(4, tau=8e-4)))) == {"dt"}
    assert codes(read(small(hidden=lif(4, tau=0.2)), dt=1e-5)) == {"dt"}
    assert codes(read(small(hidden=lif(4, tau=1e-3)))) == set()


@pytest.mark.parametrize("field", ["tau_mem", "tau_syn", "r", "v_leak", "v_threshold", "v_reset", "w_in"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite_parameters(field, value):
    node = cubalif(4)
    getattr(node, field)[2:] = value
    text = refused(small(hidden=node), ParameterRangeError)
    assert f"node 'hidden', neuron 2: {field} is {value} (and 1 more" in text


def test_not_finite_weight_and_bias():
    fc = affine(4, 3)
    fc.weight[3, 1], fc.bias[0] = np.nan, np.inf
    text = refused(small(fc=fc), ParameterRangeError)
    assert "node 'fc', neuron 3: weight[3, 1] is nan, allowed are finite numbers." in text
    assert "bias is inf" in text


@pytest.mark.parametrize("field", ["tau_mem", "tau_syn", "r", "w_in"])
@pytest.mark.parametrize("value", [0.0, -0.01])
def test_not_positive_parameters(field, value):
    node = cubalif(4)
    getattr(node, field)[[1, 3]] = value
    text = refused(small(hidden=node), ParameterRangeError)
    unit = " s" if field.startswith("tau") else ""
    assert f"node 'hidden', neuron 1: {field} is {value:.4g}{unit} (and 1 more neurons), it must be above 0." in text


def test_negative_tau_is_told_in_real_seconds():
    text = refused(small(hidden=lif(4, tau=-10.0)), ParameterRangeError, time_unit="ms")
    assert "tau is -0.01 s" in text


def test_threshold_at_or_below_reset():
    text = refused(small(hidden=lif(4, v_threshold=[1, 1, 0.5, 1], v_reset=0.5)), ParameterRangeError)
    assert "node 'hidden', neuron 2: v_threshold is 0.5, it must be above v_reset, 0.5." in text


def test_only_differences_to_the_reset_count():
    """Millivolts around a negative reset are the same circuit as around 0."""
    from nir_dynapse.circuit.closed_form import to_params

    shifted = read(small(hidden=lif(4, v_reset=-65.0, v_leak=-65.0, v_threshold=-50.0)))
    plain = read(small(hidden=lif(4, v_threshold=15.0)))
    assert codes(shifted) == codes(plain) == set()
    np.testing.assert_allclose(to_params(shifted).row_currents(), to_params(plain).row_currents())


def test_weights_and_biases_that_do_not_fit():
    assert "its weight (4, 5) takes 5 values, 'in' delivers 3" in refused(small(fc=linear(4, 5)))
    assert "transposed" in refused(small(fc=linear(3, 4)))
    assert "it has 7 neurons, 'fc' delivers 4 values" in refused(small(hidden=lif(7), out=port_out(7)))
    assert "node 'out'" in refused(small(out=port_out(9)))
    fc = affine(4, 3)
    fc.bias = np.zeros(3)
    assert "bias has shape (3,)" in refused(small(fc=fc))
    fc = linear(4, 3)
    fc.weight = np.zeros(3)
    assert "weight has shape (3,), expected (out, in)" in refused(small(fc=fc))
    assert "'in' delivers" in refused(small(**{"in": port_in(3, 32)}))
    node = lif(4)
    node.r = np.ones(3)
    assert "tau (4,)" in refused(small(hidden=node))
    assert "whole numbers" in refused(small(**{"in": port_in(-3)}))
    assert "allowed are" in refused(
        small(fc=None, hidden=lif(1, shape=()), **{"in": port_in(10**9)}, edges=EDGES_DIRECT)
    )


EDGES_DIRECT = [("in", "hidden"), ("hidden", "out")]


def test_values_that_are_not_numbers():
    fc = linear(4, 3)
    fc.weight = np.array([["a", "b", "c"]] * 4)
    assert "node 'fc': weight is of type <U1, not numeric" in refused(small(fc=fc))
    node = lif(4)
    node.tau = None
    assert "node 'hidden': tau is missing" in refused(small(hidden=node))
    fc = linear(4, 3)
    fc.weight = np.full((4, 3), 1j)
    assert "complex128" in refused(small(fc=fc))


def test_empty_and_neuronless_graphs():
    assert "empty" in refused(graph({}, []))
    assert "empty" in refused(graph({"in": port_in(3), "out": port_out(3)}, [("in", "out")]))
    edges = [("in", "fc"), ("fc", "out")]
    assert "no spiking population" in refused(small(hidden=None, edges=edges))


def test_no_input_reaches_anything():
    text = refused(small(edges=[("fc", "hidden"), ("hidden", "out")]))
    assert "no input reaches any population" in text


def li(n: int):
    return nir.LI(tau=np.full(n, 0.02), r=np.ones(n), v_leak=np.zeros(n))


def test_voltages_do_not_travel_on_the_chip():
    edges = [("in", "fc"), ("fc", "hidden"), ("hidden", "ro"), ("ro", "h2"), ("h2", "out")]
    text = refused(small(ro=li(4), h2=lif(4), edges=edges))
    assert "node 'ro': the voltage of this LI drives 'h2'; between neurons of the chip only spikes travel." in text
    assert "write 'h2' as one" in text
    text = refused(small(ro=li(4), h2=nir.Threshold(threshold=np.ones(4)), edges=edges))
    assert "never resets it" in text
    edges = [("in", "fc"), ("fc", "ro"), ("ro", "out")]
    assert "no spiking population" in refused(small(ro=li(4), hidden=None, edges=edges))
    edges = [("in", "fc"), ("fc", "ro"), ("fc", "hidden"), ("hidden", "ro"), ("ro", "out")]
    assert "integrates 'in' without a neuron" in refused(small(ro=li(4), edges=edges))
    edges = [("in", "fc"), ("fc", "hidden"), ("hidden", "ro"), ("ro", "w"), ("w", "ro"), ("ro", "out")]
    assert "part of a cycle" in refused(small(ro=li(4), w=linear(4, 4), edges=edges))


def test_an_output_reads_populations_only():
    edges = [("in", "fc"), ("fc", "hidden"), ("hidden", "out"), ("fc", "out")]
    assert "node 'out': it reads 'in' besides 'hidden'" in refused(small(edges=edges))
    net = read(small(o2=port_out(3), edges=[("in", "fc"), ("fc", "hidden"), ("hidden", "out"), ("in", "o2")]))
    assert [o.name for o in net.outputs] == ["out"]
    assert "output" in codes(net)


def test_dangling_edges():
    edges = [("in", "fc"), ("fc", "hiden"), ("hidden", "out")]
    text = refused(small(edges=edges))
    assert "node 'hiden': the edge 'fc' -> 'hiden' names it, but there is no such node. Did you mean 'hidden'?" in text
    assert "not a pair" in refused(small(edges=[("in", "fc", "x")]))


def test_edges_against_the_ports():
    edges = [("in", "fc"), ("fc", "hidden"), ("hidden", "out")]
    assert "an Input is fed by 'hidden'" in refused(small(edges=[*edges, ("hidden", "in")]))
    assert "an Output feeds 'hidden'" in refused(small(edges=[*edges, ("out", "hidden")]))


def test_cycles_of_linear_nodes():
    edges = [("in", "a"), ("a", "b"), ("b", "a"), ("b", "hidden"), ("hidden", "out")]
    text = refused(small(fc=None, **{"in": port_in(4)}, a=linear(4, 4), b=linear(4, 4), edges=edges))
    assert "a cycle of linear nodes only ('a', 'b')" in text


def test_unknown_and_refused_types_name_alternatives():
    class LIFF(nir.NIRNode):
        def __init__(self):
            pass

    text = refused(small(hidden=LIFF()))
    assert "node 'hidden': unknown type 'LIFF'. Did you mean" in text
    assert "LIF" in text
    assert "CubaLIF" in text
    delay = nir.Delay(delay=-np.ones(4))
    edges = [("in", "fc"), ("fc", "hidden"), ("hidden", "d"), ("d", "h2"), ("h2", "out")]
    text = refused(small(d=delay, h2=lif(4), edges=edges))
    assert text.startswith("node 'd', neuron 0: its delay is -1: nothing can act before it happens")
    assert "no path" not in text


def test_subclasses_of_known_nodes_are_read():
    class MyLIF(nir.LIF):
        pass

    node = MyLIF(*(getattr(lif(4), key) for key in ("tau", "r", "v_leak", "v_threshold", "v_reset")))
    assert read(small(hidden=node)).digest() == read(small()).digest()


def test_all_problems_at_once_and_range_error_if_any_is_one():
    g = small(fc=linear(4, 5), hidden=lif(4, tau=-1), edges=[("in", "fc"), ("fc", "hidden"), ("hidden", "ghost")])
    with pytest.raises(ParameterRangeError) as caught:
        read(g)
    assert {"shape", "not-positive", "edge"} <= {f.code for f in caught.value.findings}


def test_warnings_about_parts_without_effect():
    edges = [
        ("in", "fc"),
        ("fc", "hidden"),
        ("hidden", "out"),
        ("alone", "hidden"),
        ("hidden", "dead"),
        ("hidden", "fd"),
    ]
    g = small(alone=lif(4), dead=lif(4), fd=linear(3, 4), spare=port_in(2), edges=edges)
    net = read(g)
    assert {(f.code, f.node) for f in net.findings} == {
        ("unreached", "alone"),
        ("unused", "dead"),
        ("unused", "fd"),
        ("unused", "spare"),
    }
    text = refused(g, strict=True)
    assert text.count("\n") == 3


def test_suspicious_gains():
    net = read(small(hidden=cubalif(4, r=1.0, w_in=1.0)))
    assert codes(net) == {"gain"}
    assert "Norse" in str(net.findings[0])
    assert "Rockpool" in str(net.findings[0])
    net = read(small(hidden=lif(4, r=0.8)))
    assert "Spyx" in str(net.findings[0])
    assert "gain" not in codes(read(small(hidden=cubalif(4))))


def test_two_nodes_of_one_flat_name():
    g = in_nested(nested(RECURRENT))
    g.nodes["rnn.lif"] = lif(4)
    assert "two nodes have this name" in refused(g)


def test_absurd_sizes_and_values_are_refused_without_warnings_from_numpy():
    big = nir.Linear(weight=np.full((4, 4), 1e300))
    edges = [("in", "a"), ("a", "b"), ("b", "hidden"), ("hidden", "out")]
    text = refused(small(fc=None, **{"in": port_in(4)}, a=big, b=big, edges=edges))
    assert "overflows" in text
    assert refused(small(hidden=lif(4, tau=1e308)), ParameterRangeError, time_scale=1e3)
    layers = {f"s{i:03}": nir.Scale(scale=np.ones(4)) for i in range(300)}
    names = ["fc", *layers, "hidden", "out"]
    edges = [("in", "fc"), *itertools.pairwise(names)]
    assert "chain of more than" in refused(small(**layers, edges=edges))


@pytest.mark.parametrize("thing", [None, 7, {"nodes": {}}, b"x.nir"])
def test_things_that_are_no_graph(thing):
    assert "from_nir cannot read a" in refused(thing)


def test_every_primitive_of_nir_is_in_the_table():
    known = {name for name in nir.ir.__all__ if isinstance(getattr(nir, name), type)} - {"NIRNode"}
    assert known == set(PRIMITIVES)
    for entry in PRIMITIVES.values():
        assert (entry.verdict in ("refused", "host")) == bool(entry.reason and entry.alternative)
        assert entry.verdict not in ("native", "host") or (entry.read and entry.shape)
        assert entry.verdict != "folded" or (entry.fold and entry.shape)
