"""Linear NIR nodes as matrices: `LinearMap`, how convolutions and pools become sparse ones, and how maps are chained.

Features are flat in C order of the node's shape (channels first). A convolution is torch's (cross-correlation with zero
padding): y[o, p] = Σ_{i, k} W[o, i, k]·x[g·Cin/groups + i, p·stride − padding + k·dilation] + b[o], g = o·groups // Cout.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import nir
import numpy as np
import scipy.sparse

from nir_dynapse.errors import Finding, UnsupportedGraphError
from nir_dynapse.network.broadcast import Shape, spread

__all__ = [
    "MAX_ELEMENTS",
    "MAX_ENTRIES",
    "LinearMap",
    "Shape",
    "as_array",
    "compose",
    "make_node",
    "misfit",
    "note_of",
    "parameter",
    "shown",
    "too_big",
]

MAX_ELEMENTS = 32 * 2**20
"""Most elements of a dense matrix: an 8-chip stack fed by 4096 channels, fully connected."""
MAX_ENTRIES = 8 * 2**20
"""Most non-zero entries of a sparse one: 16 times the synapses of an 8-chip stack."""


@dataclass(frozen=True)
class LinearMap:
    """y = matrix·x + bias on flat features, or a wire whose channels are late by `delay` (n,) in s.

    `matrix` (out, in) is a NumPy array or a scipy.sparse CSR array, None for the identity; `bias` (out,) or None.
    """

    matrix: Any = None
    bias: np.ndarray | None = None
    delay: np.ndarray | None = None


def as_array(value: Any) -> np.ndarray:
    """A NumPy array of whatever a frontend left in a node: torch tensors and parameters, scalars, lists."""
    for step in ("detach", "cpu"):
        convert = getattr(value, step, None)
        if callable(convert):
            value = convert()
    return np.asarray(value)


def parameter(node: Any, name: str, default: Any = None) -> np.ndarray | None:
    """Field `name` of a node as an array; `default` where it is missing or None (None stays None)."""
    value = getattr(node, name, None)
    value = default if value is None else value
    return None if value is None else as_array(value)


def note_of(node: Any, key: str) -> Any:
    """What a node's metadata holds under `key`, None where there is none."""
    metadata = getattr(node, "metadata", None)
    return metadata.get(key) if isinstance(metadata, dict) else None


def shown(value: Any) -> str:
    """A value as text of bounded length."""
    array = np.asarray(value)
    text = repr(array.tolist()) if array.size <= 16 else f"an array of shape {array.shape}"
    return text if len(text) <= 200 else f"{text[:200]}…"


def make_node(kind: str, metadata: Mapping[str, Any] | None = None, /, **values: Any) -> Any:
    """The NIR node of class `kind`, also with versions of nir (before 1.0.6) that know neither metadata nor v_reset.

    Raises `UnsupportedGraphError` where the installed nir cannot hold the node.
    """
    cls = getattr(nir, kind, None)
    hint = "Install nir 1.0.6 or newer to write it."
    if cls is None:
        what = f"this network has a {kind}, which nir {nir.version} does not know."
        raise UnsupportedGraphError(Finding("error", "nir", what, hint=hint))
    known = inspect.signature(cls).parameters
    if "v_reset" not in known and np.any(values.pop("v_reset", 0.0) != 0):
        what = f"this network has a {kind} with a v_reset other than 0, which nir {nir.version} cannot hold."
        raise UnsupportedGraphError(Finding("error", "nir", what, hint=hint))
    return cls(**values, **({"metadata": dict(metadata or {})} if "metadata" in known else {}))


def misfit(name: str, what: str, hint: str) -> UnsupportedGraphError:
    return UnsupportedGraphError(Finding("error", "shape", what, node=name, hint=hint))


def too_big(name: str, what: str) -> UnsupportedGraphError:
    hint = "Multiply consecutive linear nodes into one before exporting."
    return UnsupportedGraphError(Finding("error", "size", what, node=name, hint=hint))


def compose(left: Any, right: Any, name: str) -> Any:
    """left @ right, None standing for the identity; `UnsupportedGraphError` where that grows beyond all bounds."""
    if left is None or right is None:
        return right if left is None else left
    if scipy.sparse.issparse(left) and scipy.sparse.issparse(right):
        per_feature = np.diff(left.tocsc().indptr).astype(np.int64) @ np.diff(right.indptr).astype(np.int64)
        if per_feature > 4 * MAX_ENTRIES:
            raise too_big(name, f"folding it with the next linear node takes {per_feature} products, too many.")
    elif left.shape[0] * right.shape[1] > MAX_ELEMENTS:
        raise too_big(name, f"folding it gives a matrix of {left.shape[0]} × {right.shape[1]}, too large to hold.")
    product = left @ right
    if not np.all(np.isfinite(product.data if scipy.sparse.issparse(product) else product)):
        raise too_big(name, "folding it with the next linear node overflows the range of numbers.")
    return product


# --- matrices, scales, reshaping -------------------------------------------------------------------------------------


def matrix_shape(node: Any, name: str, incoming: Shape | None) -> tuple[Shape, Shape]:
    weight, bias = as_array(node.weight), parameter(node, "bias")
    if weight.ndim != 2 or 0 in weight.shape:
        raise misfit(name, f"weight has shape {weight.shape}, expected (out, in).", "Store a two-dimensional matrix.")
    _check_bias(name, bias, weight)
    return weight.shape[1:], weight.shape[:1]


def _check_bias(name: str, bias: np.ndarray | None, weight: np.ndarray) -> None:
    if bias is not None and bias.ndim and bias.shape != weight.shape[:1]:
        raise misfit(
            name,
            f"bias has shape {bias.shape}, the weight {weight.shape} delivers {weight.shape[0]} values.",
            f"Store a bias of shape ({weight.shape[0]},), one value per row of the weight.",
        )


def _bias(node: Any, n_out: int, repeat: int = 1) -> np.ndarray | None:
    bias = parameter(node, "bias")
    return None if bias is None else np.repeat(np.broadcast_to(np.asarray(bias, float), (n_out,)), repeat)


def fold_matrix(node: Any, shape_in: Shape) -> LinearMap:
    weight = np.asarray(as_array(node.weight), float)
    return LinearMap(weight, _bias(node, weight.shape[0]))


def fold_scale(node: Any, shape_in: Shape) -> LinearMap:
    scale = spread(np.asarray(as_array(node.scale), float), shape_in)
    return LinearMap(scipy.sparse.diags_array(scale, format="csr"))


def fold_identity(node: Any, shape_in: Shape) -> LinearMap:
    return LinearMap()


# --- convolutions and pools ------------------------------------------------------------------------------------------


def _integers(node: Any, key: str, name: str, rank: int, low: int, default: Any = None) -> tuple[int, ...]:
    """Field `key` as `rank` whole numbers from `low` on; one number counts for every axis."""
    value = parameter(node, key, default)
    flat = np.zeros(0) if value is None else np.ravel(value)
    whole = flat.dtype.kind in "biuf" and bool(np.all((flat >= low) & (flat < 2**31) & (flat == np.floor(flat))))
    if whole and len(flat) in (1, rank):
        return tuple(int(v) for v in np.broadcast_to(flat, (rank,)))
    several = f", or {rank}," if rank > 1 else ""
    what = f"{key} is {None if value is None else shown(value)}."
    raise misfit(name, what, f"It must be one whole number{several} from {low} on.")


@dataclass(frozen=True)
class _Window:
    """A sliding window over the last `rank` axes: everything that a convolution and a pool have in common."""

    kernel: Shape
    stride: Shape
    dilation: Shape
    before: Shape  # padding at the low end of each axis
    after: Shape
    spatial: Shape  # of the input

    def out(self, name: str) -> Shape:
        size = []
        for k, s, d, a, b, n in zip(
            self.kernel, self.stride, self.dilation, self.before, self.after, self.spatial, strict=True
        ):
            reach = d * (k - 1) + 1
            if n + a + b < reach:
                what = f"its window of {reach} is larger than the input of {n} with padding {a} and {b}."
                raise misfit(name, what, "Correct kernel, padding or input_shape.")
            size.append((n + a + b - reach) // s + 1)
        return tuple(size)

    def taps(self, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(kernel position, output position, input position) of every tap that falls inside the input, all flat."""
        out = self.out(name)
        total_k, total_p = np.zeros((1, 1), int), np.zeros((1, 1), int)
        inside = np.ones((1, 1), bool)
        source = np.zeros((1, 1), int)
        for axis, (k, n, p) in enumerate(zip(self.kernel, self.spatial, out, strict=True)):
            tap, place = np.arange(k), np.arange(p)
            x = place * self.stride[axis] - self.before[axis] + (tap * self.dilation[axis])[:, None]
            source = _outer(source * n, x)
            inside = _outer(inside, (x >= 0) & (x < n), np.logical_and)
            total_k = _outer(total_k * k, np.broadcast_to(tap[:, None], (k, p)))
            total_p = _outer(total_p * p, np.broadcast_to(place, (k, p)))
        return total_k[inside], total_p[inside], source[inside]


def _outer(left: np.ndarray, right: np.ndarray, combine=np.add) -> np.ndarray:
    """(a, b) and (c, d) → (a·c, b·d)."""
    both = combine(left[:, None, :, None], right[None, :, None, :])
    return both.reshape(left.shape[0] * right.shape[0], left.shape[1] * right.shape[1])


def _spatial(node: Any, name: str, incoming: Shape | None, channels: int | None, rank: int) -> Shape | None:
    """(channels, *spatial) of what comes in: from the edge, else from input_shape; None while unknown."""
    declared = None
    if parameter(node, "input_shape") is not None:
        declared = _integers(node, "input_shape", name, rank, 1)
    if incoming is not None:
        while len(incoming) > rank + 1:  # batch and time axes, about which the edge complains
            incoming = incoming[1:]
        if len(incoming) == rank + 1 and channels in (None, incoming[0]) and declared in (None, incoming[1:]):
            return incoming
        if declared is not None and channels is not None and math.prod(incoming) == channels * math.prod(declared):
            return (channels, *declared)
        if incoming and declared is None and len(incoming) == rank and channels == 1:
            return (1, *incoming)
        axes = "channels, length" if rank == 1 else "channels, height, width"
        want = f"({channels if channels is not None else 'channels'}, {axes.split(', ', 1)[1]})"
        what = f"shape {incoming} arrives, it takes {want}" + (f" with input_shape {declared}." if declared else ".")
        raise misfit(name, what, f"Give the node before it the shape ({axes}), without batch and time.")
    return None if declared is None or channels is None else (channels, *declared)


def _conv(node: Any, name: str, incoming: Shape | None, rank: int) -> tuple[Shape | None, _Window | None]:
    weight = as_array(node.weight)
    if weight.ndim != rank + 2 or 0 in weight.shape:
        axes = ", ".join(("out", "in", "kernel" if rank == 1 else "kernel height, kernel width"))
        raise misfit(name, f"weight has shape {weight.shape}, expected ({axes}).", "Store torch's layout.")
    (groups,) = _integers(node, "groups", name, 1, 1, 1)
    if weight.shape[0] % groups:
        what = f"groups is {groups}, which does not divide its {weight.shape[0]} output channels."
        raise misfit(name, what, "Correct groups.")
    _check_bias(name, parameter(node, "bias"), weight)
    kernel = weight.shape[2:]
    stride = _integers(node, "stride", name, rank, 1, 1)
    dilation = _integers(node, "dilation", name, rank, 1, 1)
    shape = _spatial(node, name, incoming, weight.shape[1] * groups, rank)
    before, after = _padding(node, name, kernel, stride, dilation)
    return shape, None if shape is None else _Window(kernel, stride, dilation, before, after, shape[1:])


def _padding(node: Any, name: str, kernel: Shape, stride: Shape, dilation: Shape) -> tuple[Shape, Shape]:
    padding = getattr(node, "padding", 0)
    word = padding.decode() if isinstance(padding, bytes) else padding
    if isinstance(word, np.ndarray) and word.dtype.kind in "SU" and word.size == 1:
        word = str(word.reshape(-1)[0])
    if isinstance(word, str) and word.lower() == "valid":
        return (0,) * len(kernel), (0,) * len(kernel)
    if isinstance(word, str) and word.lower() == "same":
        if any(s != 1 for s in stride):
            raise misfit(name, f"padding 'same' with stride {stride}.", "Use numbers for the padding, as torch asks.")
        total = tuple(d * (k - 1) for k, d in zip(kernel, dilation, strict=True))
        return tuple(t // 2 for t in total), tuple(t - t // 2 for t in total)
    both = _integers(node, "padding", name, len(kernel), 0, 0)
    return both, both


def conv_shape(rank: int):
    def shape(node: Any, name: str, incoming: Shape | None) -> tuple[Shape | None, Shape | None]:
        before, window = _conv(node, name, incoming, rank)
        return before, None if window is None else (as_array(node.weight).shape[0], *window.out(name))

    return shape


def fold_conv(rank: int):
    def fold(node: Any, shape_in: Shape) -> LinearMap:
        name = str(getattr(node, "name", type(node).__name__))
        weight = np.asarray(as_array(node.weight), float)
        before, window = _conv(node, name, shape_in, rank)
        if before is None or window is None:
            raise misfit(name, "the size of its input is not known.", "Give it an input_shape.")
        c_out, per_group = weight.shape[:2]
        groups = before[0] // per_group
        out, n_in, n_out = window.out(name), math.prod(before[1:]), math.prod(window.out(name))
        most = c_out * per_group * math.prod(window.kernel) * math.prod(out)
        if most > MAX_ENTRIES:
            raise too_big(name, f"as synapses it would be {most} connections, {MAX_ENTRIES} are taken.")
        k, p, x = window.taps(name)
        o, i = (v.reshape(-1, 1) for v in np.mgrid[:c_out, :per_group].reshape(2, -1))
        channel = (o * groups // c_out) * per_group + i
        values = weight.reshape(c_out * per_group, -1)[:, k]
        rows, columns = o * n_out + p, channel * n_in + x
        bias = _bias(node, c_out, n_out)
        bias = bias if bias is not None and np.any(bias) else None  # nir cannot write one without: zeros are none
        return LinearMap(_csr(values, rows, columns, (c_out * n_out, before[0] * n_in)), bias)

    return fold


def _csr(values: np.ndarray, rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]) -> Any:
    keep = np.ravel(values) != 0
    entries = (np.ravel(values)[keep], (np.ravel(rows)[keep], np.ravel(columns)[keep]))
    return scipy.sparse.coo_array(entries, shape=shape).tocsr()


def _pool(node: Any, name: str, incoming: Shape | None) -> tuple[Shape | None, _Window | None]:
    kernel = _integers(node, "kernel_size", name, 2, 1)
    stride = _integers(node, "stride", name, 2, 1, np.array(kernel))
    padding = _integers(node, "padding", name, 2, 0, 0)
    shape = _spatial(node, name, incoming, None, 2)
    return shape, None if shape is None else _Window(kernel, stride, (1, 1), padding, padding, shape[1:])


def pool_shape(node: Any, name: str, incoming: Shape | None) -> tuple[Shape | None, Shape | None]:
    before, window = _pool(node, name, incoming)
    return before, None if window is None or before is None else (before[0], *window.out(name))


def fold_pool(mean: bool):
    """Sum of a window, or its mean over all of the kernel (padding counts, as in torch)."""

    def fold(node: Any, shape_in: Shape) -> LinearMap:
        name = str(getattr(node, "name", type(node).__name__))
        before, window = _pool(node, name, shape_in)
        if before is None or window is None:
            raise misfit(name, "the size of its input is not known.", "Give its Input a shape.")
        n_in, n_out = math.prod(before[1:]), math.prod(window.out(name))
        if before[0] * math.prod(window.kernel) * n_out > MAX_ENTRIES:
            raise too_big(name, f"its window of {window.kernel} is too large to be written as synapses.")
        _, p, x = window.taps(name)
        c = np.arange(before[0])[:, None]
        rows, columns = c * n_out + p, c * n_in + x
        value = 1 / math.prod(window.kernel) if mean else 1.0
        shape = (before[0] * n_out, before[0] * n_in)
        return LinearMap(_csr(np.full(rows.shape, value), rows, columns, shape))

    return fold


def fields_of(node: Any, keys: tuple[str, ...]) -> Mapping[str, Any]:
    """The fields of a linear node as NumPy values and texts, those that are None left out."""
    result = {}
    for key in keys:
        value = getattr(node, key, None)
        if isinstance(value, (str, bytes)):
            result[key] = value if isinstance(value, str) else value.decode()
        elif value is not None and not isinstance(value, Mapping):
            array = np.array(as_array(value))
            result[key] = str(array.reshape(-1)[0]) if array.dtype.kind == "U" and array.size == 1 else array
    return result
