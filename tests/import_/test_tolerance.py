"""What frontends leave in their graphs and files is read as it is meant, and every repair is a finding."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import nir
import numpy as np
import pytest

from nir_dynapse.errors import DynapseError
from nir_dynapse.export.nir_graph import to_nir
from nir_dynapse.import_.nir_graph import from_nir
from nir_dynapse.network.network import Network
from nir_dynapse.network.primitives import graph
from nir_graphs import affine, lif, linear, port_in, port_out, read, small
from nir_zoo import ZOO, conv2d


class Tensor:
    """As torch has them: an array only behind detach() and cpu()."""

    def __init__(self, value: Any, attached: bool = True, device: bool = True) -> None:
        self.value, self.attached, self.device = np.asarray(value), attached, device

    def detach(self) -> Tensor:
        return Tensor(self.value, False, self.device)

    def cpu(self) -> Tensor:
        return Tensor(self.value, self.attached, False)

    def numpy(self) -> np.ndarray:
        return self.__array__()

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        if self.attached or self.device:
            raise RuntimeError("Can't call numpy() on Tensor that requires grad or is on a device.")
        return self.value if dtype is None else self.value.astype(dtype)


class Parameter(Tensor):
    """A tensor with a gradient."""

    requires_grad = True


def wrapped(g: Any, cls: Any) -> Any:
    """Every array and every number of every node as a tensor, ports too."""
    for node in g.nodes.values():
        if isinstance(node, nir.NIRGraph):
            wrapped(node, cls)
            continue
        for key, value in vars(node).items():
            if isinstance(value, (np.ndarray, int, float, tuple)):
                setattr(node, key, cls(value))
            elif key in ("input_type", "output_type"):
                setattr(node, key, {k: v if v is None else cls(v) for k, v in value.items()})
    return g


@pytest.mark.parametrize("cls", [Tensor, Parameter])
@pytest.mark.parametrize("name", list(ZOO))
def test_tensors_everywhere(name: str, cls: Any) -> None:
    net = read(wrapped(ZOO[name](), cls))
    assert net.digest() == read(ZOO[name]()).digest()
    assert net.findings == read(ZOO[name]()).findings


def test_a_tensor_as_shape_note_and_dt() -> None:
    g = ZOO["recurrent"]()
    g.metadata["dt"] = Tensor(1e-3)
    g.nodes["rnn"].nodes["lif"].metadata["shape"] = Tensor(np.array([2, 2]))
    assert from_nir(g).digest() == from_nir(ZOO["recurrent"]()).digest()


# --- shapes ----------------------------------------------------------------------------------------------------------


def convolution(*shape: int, behind: Any = (4, 6, 5), **options: Any) -> Any:
    """Input of `shape` -> Conv2d(2 -> 4) -> LIF (4, 6, 5) -> Output of shape `behind`."""
    size = options.pop("size", (6, 5))
    weight = np.random.default_rng(3).normal(size=(4, 2, 3, 3))
    nodes = {"in": port_in(*shape), "conv": conv2d(weight, size, **{"padding": 1, **options})}
    nodes |= {"hidden": lif(120, (4, 6, 5)), "out": port_out(*behind)}
    return graph(nodes, [("in", "conv"), ("conv", "hidden"), ("hidden", "out")], {"dt": 1e-3})


def told(net: Network) -> set[tuple[str, str | None]]:
    assert all(str(f) for f in net.findings)
    return {(f.severity, f.node) for f in net.findings}


@pytest.mark.parametrize("lead", [(1,), (1, 1), (1, 1, 1)])
def test_leading_axes_before_a_convolution_and_behind_it(lead: tuple[int, ...]) -> None:
    plain = read(convolution(2, 6, 5))
    assert plain.findings == ()
    net = read(convolution(*lead, 2, 6, 5))
    assert net.digest() == plain.digest()
    assert told(net) == {("info", "in")}
    net = read(convolution(2, 6, 5, behind=(*lead, 4, 6, 5)))
    assert net.digest() == plain.digest()
    assert told(net) == {("info", "out")}


@pytest.mark.parametrize("name", ["a", "in", "z_10"])
def test_names_do_not_decide_about_shapes(name: str) -> None:
    """An input may sort before or behind what it feeds."""
    for g in (convolution(1, 2, 6, 5), small(fc=None, hidden=lif(1), edges=[("in", "hidden"), ("hidden", "out")])):
        if "conv" not in g.nodes:
            g.nodes["out"] = port_out(3)
        net = read(g)
        renamed = graph(
            {name if k == "in" else k: v for k, v in g.nodes.items()},
            [(name if a == "in" else a, b) for a, b in g.edges],
        )
        again = read(renamed)
        assert [p.shape for p in again.populations] == [p.shape for p in net.populations]
        assert again.inputs[0].shape == net.inputs[0].shape
        assert [f.what for f in again.findings] == [f.what for f in net.findings]


def test_an_input_with_an_axis_that_one_of_its_readers_takes_keeps_it() -> None:
    nodes = {"in": port_in(1, 4), "fc": linear(4, 4), "s": nir.Scale(np.ones((1, 4))), "lif": lif(4, (1, 4))}
    nodes["out"] = port_out(1, 4)
    net = read(graph(nodes, [("in", "fc"), ("fc", "lif"), ("in", "s"), ("s", "lif"), ("lif", "out")]))
    assert (net.inputs[0].shape, net["lif"].shape, net.outputs[0].shape) == ((1, 4), (1, 4), (1, 4))
    assert told(net) == {("info", "fc"), ("info", "lif")}


@pytest.mark.parametrize("key", ["input", "output", "anything"])
@pytest.mark.parametrize("port", ["in", "out"])
def test_port_types_under_any_key(key: str, port: str) -> None:
    g = convolution(2, 6, 5)
    attribute = "input_type" if port == "in" else "output_type"
    setattr(g.nodes[port], attribute, {key: next(iter(getattr(g.nodes[port], attribute).values()))})
    g.nodes["in"].output_type = {key: np.array([2, 6, 5])}
    net = read(g)
    assert net.digest() == read(convolution(2, 6, 5)).digest()
    assert net.findings == ()


def test_convolutions_without_input_shape(tmp_path: Path) -> None:
    plain = read(convolution(2, 6, 5))
    assert read(convolution(2, 6, 5, size=None)).digest() == plain.digest()
    path = tmp_path / "old.nir"
    nir.write(path, convolution(2, 6, 5))
    with h5py.File(path, "r+") as h5:
        del h5["node/nodes/conv/input_shape"]
    assert read(path).digest() == plain.digest()


def test_the_input_shape_of_a_convolution_gives_an_unknown_input_its_size() -> None:
    g = convolution(2, 6, 5)
    g.nodes["in"] = port_in(None)
    assert read(g).inputs[0].shape == (2, 6, 5)


@pytest.mark.parametrize("padding", ["same", "valid", "SAME"])
def test_padding_as_a_word_in_memory_and_in_a_file(padding: str, tmp_path: Path) -> None:
    def make(word: Any) -> Any:
        g = convolution(2, 6, 5, behind=(4, 6, 5) if padding != "valid" else (4, 4, 3))
        g.nodes["conv"].padding = word
        if padding == "valid":
            g.nodes["hidden"] = lif(48, (4, 4, 3))
        return g

    net = read(make(padding))
    assert net.digest() == read(make(0 if padding == "valid" else 1)).digest()
    for word in (padding.encode(), np.array(padding), np.array([padding])):
        assert read(make(word)).digest() == net.digest()
    for compression in ("gzip", None):
        nir.write(tmp_path / "x.nir", make(padding.lower()), compression=compression)  # pyright: ignore
        assert read(tmp_path / "x.nir").digest() == net.digest()


# --- values ----------------------------------------------------------------------------------------------------------


def full(cls: Any, shape: Any, **values: float) -> Any:
    node = object.__new__(cls)  # nir's own check refuses some of these
    node.__dict__.update({"input_type": None, "output_type": None, "metadata": {}})
    node.__dict__.update({key: np.full(shape, value) for key, value in values.items()})
    return node


SCALARS: dict[str, Callable[[Any], Any]] = {
    "IF": lambda shape: full(nir.IF, shape, r=1000.0, v_threshold=1.0, v_reset=0.0),
    "Threshold": lambda shape: full(nir.Threshold, shape, threshold=0.5),
    "CubaLIF": lambda shape: full(
        nir.CubaLIF, shape, tau_syn=5e-3, tau_mem=0.02, r=20.0, v_leak=0.0, v_threshold=1.0, v_reset=0.0, w_in=5.0
    ),
    "LI": lambda shape: full(nir.LI, shape, tau=0.02, r=20.0, v_leak=0.0),
    "CubaLI": lambda shape: full(nir.CubaLI, shape, tau_syn=5e-3, tau_mem=0.02, r=20.0, v_leak=0.0, w_in=5.0),
    "I": lambda shape: full(nir.I, shape, r=1000.0),
}


@pytest.mark.parametrize("kind", list(SCALARS))
@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_one_value_for_all(kind: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    def make(shape: tuple[int, ...]) -> Any:
        node = SCALARS[kind](shape)
        if kind in ("LI", "CubaLI", "I"):
            return small(ro=node, edges=[("in", "fc"), ("fc", "hidden"), ("hidden", "ro"), ("ro", "out")])
        return small(ro=node, hidden=None, edges=[("in", "fc"), ("fc", "ro"), ("ro", "out")])

    whole, one = read(make((4,))), read(make(shape))
    assert one.digest() == whole.digest()
    assert told(one) - told(whole) == {("info", "ro")}
    nir.write(tmp_path / "x.nir", make(shape), compression=None)  # pyright: ignore[reportArgumentType]
    assert read(tmp_path / "x.nir").digest() == whole.digest()


@pytest.mark.parametrize("kind", ["IF", "CubaLIF"])
def test_a_missing_v_reset_is_zero(kind: str, tmp_path: Path) -> None:
    node = SCALARS[kind]((4,))
    g = small(n=node, hidden=None, edges=[("in", "fc"), ("fc", "n"), ("n", "out")])
    net = read(g)
    nir.write(tmp_path / "x.nir", g)
    with h5py.File(tmp_path / "x.nir", "r+") as h5:
        del h5["node/nodes/n/v_reset"]
    again = read(tmp_path / "x.nir")
    assert again.digest() == net.digest()
    assert any("without v_reset, as older files are; read as 0" in str(f) and f.node == "n" for f in again.findings)
    for missing in (None, ...):
        node.v_reset = None
        if missing is ...:
            del node.v_reset
        assert read(g).digest() == net.digest()


def test_one_factor_and_one_bias_for_all_are_told() -> None:
    chain = [("in", "fc"), ("fc", "s"), ("s", "hidden"), ("hidden", "out")]
    net = read(small(s=nir.Scale(np.array(2.0)), edges=chain))
    assert net.digest() == read(small(s=nir.Scale(np.full(4, 2.0)), edges=chain)).digest()
    assert told(net) == {("info", "s")}
    fc = affine(4, 3)
    fc.bias = np.array(0.5)
    net = read(small(fc=fc))
    assert told(net) == {("info", "fc")}
    np.testing.assert_array_equal(net.bias("hidden"), np.full(4, 0.5))


def test_names_are_in_natural_order() -> None:
    names = [f"lif_{k}" for k in (10, 2, 1, 11)]
    nodes = {"in": port_in(3), **{name: lif(3) for name in names}, **{f"out_{n}": port_out(3) for n in names}}
    net = read(graph(nodes, [(a, b) for n in names for a, b in (("in", n), (n, f"out_{n}"))]))
    assert [p.name for p in net.populations] == ["lif_1", "lif_2", "lif_10", "lif_11"]
    assert [p.name for p in net.outputs] == ["out_lif_1", "out_lif_2", "out_lif_10", "out_lif_11"]


# --- metadata that means something, and does not --------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.ones(3), {"a": 1}, 7, b"\xff", "nonsense", np.array("shunt"), None])
def test_notes_that_make_no_sense_are_left_alone(value: Any) -> None:
    g = small()
    plain = read(g).digest()
    g.metadata |= {"recurrence": value, "emission": value}
    g.nodes["fc"].metadata = {"dendrite": value if not isinstance(value, np.ndarray) else np.ones(2)}
    g.nodes["hidden"].metadata = {"reset": value, "shape": value}
    assert read(g).digest() == plain


def test_an_affine_without_bias_is_written_as_the_linear_node_that_it_is() -> None:
    fc = affine(4, 3)
    fc.bias = None
    net = read(small(fc=fc))
    written = to_nir(net).nodes["fc"]
    assert type(written) is nir.Linear
    assert read(to_nir(net)).digest() == net.digest() == read(small(fc=nir.Linear(fc.weight))).digest()


@pytest.mark.parametrize("lead", [(7,), (5, 7), (1, 9)])
def test_axes_of_a_whole_sample_are_dropped_with_a_warning(lead: tuple[int, ...]) -> None:
    plain = read(convolution(2, 6, 5))
    for net in (read(convolution(*lead, 2, 6, 5)), read(convolution(2, 6, 5, behind=(*lead, 4, 6, 5)))):
        assert net.digest() == plain.digest()
        (finding,) = [f for f in net.findings if f.severity == "warning"]
        assert "batch or time axes" in finding.what
    net = read(small(**{"in": port_in(*lead, 3), "out": port_out(*lead, 4)}))
    assert net.digest() == read(small()).digest()
    assert [f.node for f in net.findings if f.severity == "warning"] == ["in", "out"]


def test_edges_that_snntorch_adds_behind_a_recurrent_first_layer_are_dropped() -> None:
    nodes: dict[str, Any] = {
        "input": port_in(4),
        "0.lif": lif(4),
        "0.w_rec": linear(4, 4),
        "1": linear(3, 4, 1),
        "2": lif(3),
    }
    nodes["output"] = port_out(3)
    right = [
        ("input", "0.lif"),
        ("0.lif", "0.w_rec"),
        ("0.w_rec", "0.lif"),
        ("0.lif", "1"),
        ("1", "2"),
        ("2", "output"),
    ]
    a, b = (read(graph(nodes, edges, {"dt": 1e-3})) for edges in (right, [*right, ("0.w_rec", "1")]))
    assert a.digest() == b.digest()
    assert [(f.severity, f.node) for f in b.findings if f.code == "repair"] == [("warning", "0.w_rec")]


def test_a_flatten_traced_both_ways_counts_once() -> None:
    flat = nir.Flatten({"input": np.array([4])}, 0, -1)
    nodes: dict[str, Any] = {"fc2": linear(3, 4), "h2": lif(3), "out": port_out(3), "flat": flat}
    once = [("in", "fc"), ("fc", "hidden"), ("hidden", "flat"), ("flat", "fc2"), ("fc2", "h2"), ("h2", "out")]
    a, b = (read(small(**nodes, edges=edges)) for edges in (once, [*once, ("hidden", "fc2")]))
    assert a.digest() == b.digest()
    assert [(f.severity, f.node) for f in b.findings] == [("warning", "flat")]


def test_a_module_that_the_exporter_did_not_know() -> None:
    nodes: dict[str, Any] = {"in": port_in(3), "fc": linear(4, 3), "drop": None, "hidden": lif(4), "out": port_out(4)}
    g = graph({k: v for k, v in nodes.items() if v is not None}, [], {"dt": 1e-3})
    empty: Any = None
    g.nodes["drop"] = empty
    g.edges = [("in", "fc"), ("fc", "drop"), ("drop", "hidden"), ("hidden", "out")]
    with pytest.raises(DynapseError, match="node 'drop': the exporter did not know this module"):
        from_nir(g)


@pytest.mark.parametrize("metadata", [{"layers": [[1, 2], [3]]}, {"shape": [[1], [2, 3]]}])
def test_ragged_metadata_is_no_obstacle(metadata: dict) -> None:
    g = small()
    g.metadata |= metadata
    g.nodes["hidden"].metadata = metadata
    assert read(g).populations[0].shape == (4,)


def test_which_connections_of_a_cycle_are_late_is_said() -> None:
    nodes: dict[str, Any] = {"b": lif(4), "ab": linear(4, 4, 1), "ba": linear(4, 4, 2)}
    edges = [("in", "fc"), ("fc", "hidden"), ("hidden", "ab"), ("ab", "b"), ("b", "ba"), ("ba", "hidden"), ("b", "out")]
    (finding,) = read(small(**nodes, edges=edges)).findings
    assert finding.code == "recurrence"
    assert "'b' -> 'hidden'" in finding.what


def test_a_port_that_was_cut_is_compared_again() -> None:
    for names in (("a", "z"), ("z", "a")):
        nodes: dict[str, Any] = {"in": port_in(10, 4), names[0]: linear(4, 4), names[1]: linear(4, 40)}
        edges = [("in", "a"), ("in", "z"), ("a", "hidden"), ("z", "hidden"), ("hidden", "out")]
        with pytest.raises(DynapseError, match="takes 40 values"):
            read(small(fc=None, **nodes, edges=edges))
