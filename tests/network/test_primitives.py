"""Linear primitives against plain loops over the definition, and what is refused of them."""

from __future__ import annotations

from itertools import product
from types import SimpleNamespace
from typing import Any

import nir
import numpy as np
import pytest

from nir_dynapse.errors import UnsupportedGraphError
from nir_dynapse.network.network import LinearNode
from nir_dynapse.network.primitives import PRIMITIVES, fold_node, graph, linear_node
from nir_graphs import lif, port_in, port_out, read, refused, small
from nir_zoo import conv1d, conv2d


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(shape).normal(size=shape)


def padding_of(padding: Any, kernel: tuple[int, ...], dilation: tuple[int, ...]) -> list[tuple[int, int]]:
    if padding == "valid":
        return [(0, 0)] * len(kernel)
    if padding == "same":
        total = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        return [(t // 2, t - t // 2) for t in total]
    return [(p, p) for p in pair(padding, len(kernel))]


def pair(value: Any, rank: int) -> tuple[int, ...]:
    return tuple(np.broadcast_to(value, (rank,)).tolist())


def convolved(x, weight, bias=None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups=1):
    """A convolution in nested loops, with the input padded by zeros."""
    rank = x.ndim - 1
    kernel, stride, dilation = weight.shape[2:], pair(stride, rank), pair(dilation, rank)
    padded = np.pad(x, [(0, 0), *padding_of(padding, kernel, dilation)])
    size = [
        (n - d * (k - 1) - 1) // s + 1 for n, k, d, s in zip(padded.shape[1:], kernel, dilation, stride, strict=True)
    ]
    out = np.zeros((weight.shape[0], *size))
    per_in, per_out = weight.shape[1], weight.shape[0] // groups
    for o in range(weight.shape[0]):
        first = (o // per_out) * per_in
        for place in np.ndindex(*size):
            for i in range(per_in):
                for tap in np.ndindex(*kernel):
                    at = tuple(p * s + t * d for p, s, t, d in zip(place, stride, tap, dilation, strict=True))
                    out[(o, *place)] += weight[(o, i, *tap)] * padded[(first + i, *at)]
        out[o] += 0 if bias is None else bias[o]
    return out


def pooled(x, kernel, stride, padding, mean):
    """A pool in nested loops; padding counts in a mean."""
    padded = np.pad(x, [(0, 0), (padding[0],) * 2, (padding[1],) * 2])
    size = [(n - k) // s + 1 for n, k, s in zip(padded.shape[1:], kernel, stride, strict=True)]
    out = np.zeros((x.shape[0], *size))
    for c, i, j in np.ndindex(*out.shape):
        for k, m in product(range(kernel[0]), range(kernel[1])):
            out[c, i, j] += padded[c, i * stride[0] + k, j * stride[1] + m]
    return out / (kernel[0] * kernel[1] if mean else 1)


def applied(node: Any, x: np.ndarray) -> np.ndarray:
    """What the node's shape function and folded map make of x."""
    entry = PRIMITIVES[type(node).__name__]
    assert entry.shape is not None
    before, after = entry.shape(node, "node", x.shape)
    assert before == x.shape
    assert after is not None
    linear = fold_node(linear_node("node", node, x.shape, after))
    y = np.ravel(x) if linear.matrix is None else linear.matrix @ np.ravel(x)
    return (y if linear.bias is None else y + linear.bias).reshape(after)


# --- convolutions ----------------------------------------------------------------------------------------------------

ONE = [
    {"stride": s, "padding": p, "dilation": d, "groups": g}
    for s, p, d, g in product((1, 2, 3), (0, 2, "valid"), (1, 2), (1, 2, 4))
] + [{"padding": "same", "dilation": d, "groups": g} for d in (1, 2, 3) for g in (1, 4)]


@pytest.mark.parametrize("kernel", [1, 2, 5])
def test_conv1d(kernel: int) -> None:
    for options in ONE:
        weight = normal(4, 4 // options["groups"], kernel)
        x = normal(4, 13)
        node = conv1d(weight, 13, **options)
        node.bias = normal(4)
        np.testing.assert_allclose(applied(node, x), convolved(x, weight, node.bias, **options), atol=1e-12)


TWO: list[dict[str, Any]] = [
    {},
    {"stride": 2},
    {"stride": (2, 1), "padding": (1, 2)},
    {"padding": 2, "dilation": (1, 2)},
    {"padding": "valid", "stride": (1, 3)},
    {"padding": "same"},
    {"padding": "same", "dilation": (2, 1)},
    {"groups": 2},
    {"groups": 4, "padding": (0, 3), "stride": 3, "dilation": 2},
    {"groups": 2, "padding": "same", "dilation": 2},
]


@pytest.mark.parametrize("options", TWO)
@pytest.mark.parametrize("kernel", [(1, 1), (3, 3), (2, 3), (3, 1)])
def test_conv2d(options: dict[str, Any], kernel: tuple[int, int]) -> None:
    weight = normal(4, 4 // options.get("groups", 1), *kernel)
    x = normal(4, 7, 6)
    node = conv2d(weight, (7, 6), **options)
    node.bias = normal(4)
    np.testing.assert_allclose(applied(node, x), convolved(x, weight, node.bias, **options), atol=1e-12)
    node.bias, node.input_shape = None, None
    np.testing.assert_allclose(applied(node, x), convolved(x, weight, **options), atol=1e-12)


def test_groups_with_several_outputs_each() -> None:
    weight, x = normal(6, 2, 2, 2), normal(6, 3, 4)
    node = conv2d(weight, (3, 4), groups=3)
    np.testing.assert_allclose(applied(node, x), convolved(x, weight, groups=3), atol=1e-12)
    weight = normal(6, 1, 3)
    np.testing.assert_allclose(
        applied(conv1d(weight, 4, groups=2), x[:2, 0]), convolved(x[:2, 0], weight, groups=2), atol=1e-12
    )


@pytest.mark.parametrize("mean", [False, True])
def test_pools(mean: bool) -> None:
    make = nir.AvgPool2d if mean else nir.SumPool2d
    x = normal(3, 7, 5)
    for kernel, stride, padding in [
        ((2, 2), (2, 2), (0, 0)),
        ((3, 2), (1, 2), (0, 1)),
        ((3, 3), (2, 1), (1, 1)),
        ((7, 5), (1, 1), (0, 0)),
        ((1, 2), (3, 3), (0, 0)),
    ]:
        node = make(np.array(kernel), np.array(stride), np.array(padding))
        np.testing.assert_allclose(applied(node, x), pooled(x, kernel, stride, padding, mean), atol=1e-12)
    node = make(2, None, 0)  # pyright: ignore[reportArgumentType]
    np.testing.assert_allclose(applied(node, x), pooled(x, (2, 2), (2, 2), (0, 0), mean), atol=1e-12)


# --- elementwise, shapes ---------------------------------------------------------------------------------------------


def test_matrices_and_scales() -> None:
    x = normal(4)
    weight, bias = normal(3, 4), normal(3)
    np.testing.assert_allclose(applied(nir.Affine(weight, bias), x), weight @ x + bias)
    np.testing.assert_allclose(applied(nir.Linear(weight), x), weight @ x)
    grid, scale = normal(2, 3, 2), normal(3, 2, 2).reshape(2, 3, 2)
    np.testing.assert_allclose(applied(nir.Scale(scale), grid), scale * grid)
    np.testing.assert_allclose(applied(nir.Scale(np.array(2.5)), grid), 2.5 * grid)
    np.testing.assert_allclose(applied(nir.Scale(np.array([2.5])), grid), 2.5 * grid)


@pytest.mark.parametrize(
    ("start", "end", "shape"),
    [
        (0, -1, (24,)),
        (1, -1, (24,)),
        (0, 1, (6, 4)),
        (1, 2, (24,)),
        (-2, -1, (24,)),
        (0, 0, (2, 3, 4)),
        (2, 2, (2, 3, 4)),
        (0, -2, (6, 4)),
        (7, -1, (24,)),
        (2, 1, (24,)),
    ],
)
def test_flatten(start: int, end: int, shape: tuple[int, ...]) -> None:
    x = normal(2, 3, 4)
    node = nir.Flatten({"input": np.array(x.shape)}, start, end)
    np.testing.assert_array_equal(applied(node, x), x.reshape(shape))


def test_a_delay_of_zero_is_a_wire_and_one_below_is_refused() -> None:
    x = normal(2, 3)
    np.testing.assert_array_equal(applied(nir.Delay(np.zeros((2, 3))), x), x)
    np.testing.assert_array_equal(applied(nir.Delay(np.array(0.0)), x), x)
    text = refused(small(wait=nir.Delay(np.array([0.0, -0.002, 0.0])), edges=WAIT))
    assert "node 'wait', neuron 1: its delay is -0.002: nothing can act before it happens" in text


WAIT = [("in", "wait"), ("wait", "fc"), ("fc", "hidden"), ("hidden", "out")]

# --- what is refused -------------------------------------------------------------------------------------------------


def through(node: Any, shape: tuple[int, ...] = (2, 6, 5)) -> Any:
    """A graph with `node` between an input of `shape` and neurons of a shape that is not known."""
    hidden = lif(1, shape=())
    nodes = {"in": port_in(*shape), "bad": node, "hidden": hidden, "out": port_out(None)}
    return graph(nodes, [("in", "bad"), ("bad", "hidden"), ("hidden", "out")], {"dt": 1e-3})


def with_fields(node: Any, **fields: Any) -> Any:
    """The node with fields that its own constructor would refuse."""
    for key, value in fields.items():
        setattr(node, key, value)
    return node


def conv(**fields: Any) -> Any:
    return with_fields(conv2d(np.ones((4, 2, 3, 3))), **fields)


def pool(**fields: Any) -> Any:
    return with_fields(nir.SumPool2d(np.array([2, 2]), np.array([2, 2]), np.zeros(2, int)), **fields)


MANY = {"in": port_in(2**21 + 1), "out": port_out(None)}

BAD: list[tuple[str, Any, str]] = [
    ("rank of a Conv2d", conv(weight=np.ones((4, 2, 3))), "expected (out, in, kernel height, kernel width)"),
    ("rank of a Conv1d", with_fields(conv1d(np.ones((4, 2, 3))), weight=np.ones((4, 2))), "expected (out, in, kernel)"),
    ("empty weight", conv(weight=np.ones((0, 2, 3, 3))), "weight has shape (0, 2, 3, 3)"),
    ("groups", conv(groups=3), "groups is 3, which does not divide its 4 output channels"),
    ("no groups", conv(groups=0), "groups is 0. It must be one whole number from 1 on"),
    ("bias", conv(bias=np.ones(3)), "bias has shape (3,), the weight (4, 2, 3, 3) delivers 4 values"),
    ("kernel", conv(weight=np.ones((4, 2, 7, 3))), "its window of 7 is larger than the input of 6"),
    ("dilation", conv(dilation=3), "its window of 7 is larger than the input of 6"),
    ("same with stride", conv(padding="same", stride=2), "padding 'same' with stride (2, 2)"),
    ("word", conv(padding="full"), "padding is"),
    ("negative stride", conv(stride=-1), "stride is"),
    ("no stride", conv(stride=(1, 0)), "stride is [1, 0]"),
    ("fraction", conv(stride=1.5), "stride is"),
    ("nan", conv(dilation=np.nan), "dilation is"),
    ("inf", conv(padding=np.inf), "padding is"),
    ("three strides", conv(stride=(1, 1, 1)), "stride is [1, 1, 1]"),
    ("negative padding", conv(padding=(0, -1)), "padding is [0, -1]"),
    ("negative input_shape", conv(input_shape=(6, -5)), "input_shape is [6, -5]"),
    ("channels", conv(weight=np.ones((4, 3, 3, 3))), "shape (2, 6, 5) arrives, it takes (3, height, width)"),
    ("channels of groups", conv(groups=2), "it takes (4, height, width)"),
    ("size", conv(input_shape=(6, 6)), "with input_shape (6, 6)"),
    ("pool kernel", pool(kernel_size=np.array([7, 2])), "its window of 7 is larger than the input of 6"),
    ("pool fraction", pool(kernel_size=np.array([1.5, 2])), "kernel_size is [1.5, 2.0]"),
    ("pool stride", pool(stride=np.array([0, 2])), "stride is [0, 2]"),
    ("pool padding", pool(padding=np.array([-1, 0])), "padding is [-1, 0]"),
    ("flatten", nir.Flatten({"input": np.array([7])}), "it is declared for shape (7,), but shape (2, 6, 5) arrives"),
    ("flatten ends", with_fields(nir.Flatten({"input": None}, 0, -1), start_dim="a"), "must be whole numbers"),  # pyright: ignore
    ("flatten nan", with_fields(nir.Flatten({"input": None}, 0, -1), end_dim=np.nan), "must be whole numbers"),  # pyright: ignore
    ("many values", conv(dilation=np.ones(99)), "dilation is an array of shape (99,)"),
    ("matrix", with_fields(nir.Linear(np.ones((2, 60))), weight=np.ones((2, 3, 60))), "expected (out, in)"),
    ("matrix size", nir.Linear(np.ones((2, 59))), "its weight (2, 59) takes 59 values, 'in' delivers 60"),
    ("matrix bias", nir.Affine(np.ones((2, 60)), np.ones(3)), "bias has shape (3,)"),
    ("scale", nir.Scale(np.ones(7)), "it takes shape (7,) (7 values), 'in' delivers (2, 6, 5) (60)"),
]


@pytest.mark.parametrize(("node", "text"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_bad_fields_are_refused_by_name(node: Any, text: str) -> None:
    found = refused(through(node), UnsupportedGraphError)
    assert "node 'bad'" in found
    assert text in found


def test_a_pool_takes_three_axes_and_an_unknown_size_is_refused() -> None:
    assert "node 'bad': shape (60,) arrives, it takes (channels, height, width)" in refused(through(pool(), (60,)))
    for node in (conv(), pool()):
        g = through(node)
        g.nodes["in"] = port_in(None)
        assert "its size is not known from any node around it" in refused(g)


def test_a_window_that_nothing_feeds_does_not_take_the_shape_behind_it() -> None:
    """Once taken for a node that keeps the shape, which made a matrix that fits nothing."""
    g = small(pool=pool(), fc=nir.Linear(np.ones((4, 8))), hidden=lif(4))
    g.nodes |= {"flat": nir.Flatten({"input": np.array([2, 2, 2])}, 0, -1), "first": lif(3)}
    g.edges = [("in", "first"), ("pool", "flat"), ("flat", "fc"), ("fc", "hidden"), ("first", "out"), ("hidden", "out")]
    g.nodes["out"] = port_out(None)
    assert "node 'pool': its size is not known" in refused(g)


def test_neurons_in_all_are_limited() -> None:
    text = refused(small(fc=None, hidden=lif(1, shape=()), edges=[("in", "hidden"), ("hidden", "out")], **MANY))
    assert "node 'hidden': its shape (2097153,) makes 2.097e+06 elements, allowed are 2097152" in text
    many = {"in": port_in(2**20), "a": lif(1), "b": lif(1), "c": lif(1), "out": port_out(None)}
    text = refused(graph(many, [("in", "a"), ("a", "b"), ("b", "c"), ("c", "out")]))
    assert "node 'c': its shape (1048576,) makes 3.146e+06 neurons with those before it" in text


def test_a_window_whose_synapses_are_too_many_is_refused() -> None:
    text = refused(through(conv2d(np.ones((64, 2, 9, 9)), padding="same"), (2, 99, 99)))
    assert "node 'bad': as synapses it would be" in text
    text = refused(through(nir.SumPool2d(np.array([90, 90]), np.array([1, 1]), np.array([50, 50])), (2, 99, 99)))
    assert "node 'bad': its window of (90, 90) is too large" in text


def test_a_linear_node_folds_again_from_what_it_held() -> None:
    node = linear_node("c", conv(padding="same"), (2, 6, 5), (4, 6, 5))
    assert (node.kind, node.fields["padding"]) == ("Conv2d", "same")
    fake = SimpleNamespace(name="c", **node.fields)
    assert set(vars(fake)) == {"name", "weight", "stride", "padding", "dilation", "groups", "bias"}
    again = fold_node(LinearNode("c", "Conv2d", node.fields, (2, 6, 5), (4, 6, 5)))
    np.testing.assert_array_equal(again.matrix.toarray(), fold_node(node).matrix.toarray())


def test_a_convolution_in_a_graph_is_a_sparse_projection() -> None:
    node = conv2d(normal(4, 2, 3, 3), (6, 5), padding=1)
    net = read(through(node))
    x = normal(2, 6, 5)
    (q,) = net.projections
    assert (q.nodes, net["hidden"].shape) == (("bad",), (4, 6, 5))
    assert len(q.weight) < 60 * 120 / 4
    y = q.dense(60, 120) @ x.ravel()
    np.testing.assert_allclose(y.reshape(4, 6, 5), convolved(x, node.weight, padding=1), atol=1e-12)
