"""What events do in a run of one virtual chip: which there are, and the rows of the weights that they add.

`lines` are the rows of the weights: what an event of one source adds to one kind of dendrite of every neuron, as a matrix
(line, neuron) or, where few neurons get anything, as a list (line's targets and values).

Below the ruler is the text of what is compiled before that of `run.py`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nir_dynapse.sim.native.kernels.run import kind
from nir_dynapse.sim.native.memory import fused, loop, lowest, marks
from nir_dynapse.sim.native.names import U
from nir_dynapse.sim.native.vectors import add_16, add_32, add_64, prefetch

# ----------------------------------------------------------------------------------------------------------------------


@loop
def unfold(word: Any, first: Any, found: Any, count: Any) -> Any:
    """Places of the bits of a word that are set, from `first` on, added to the `count` found before."""
    while word != 0:
        found[U(count)] = first + lowest(word)
        word &= word - 1
        count += 1
    return count


@loop
def listed(spikes: Any, size: Any, sent: Any) -> Any:
    """Which of the first `size` cells fired, in `sent`, and how many; bytes of cells come in `PADDED`s."""
    count = 0
    for k in range(0, size, 64):
        count = unfold(marks(spikes, k), k, sent, count)
    while count > 0 and sent[U(count - 1)] >= size:
        count -= 1
    return count


@loop
def heard(row: Any, seen: Any) -> Any:
    """Which input channels sent events, in `seen`, and how many; by words of 64 flags."""
    count, inputs = 0, row.shape[0]
    whole = inputs // 16 * 16
    for first in range(0, inputs, 64):
        word, after = 0, min(first + 64, whole)
        for i in range(first, after, 16):
            word |= marks(row, i) << (i - first)
        if whole < inputs and inputs < first + 64:
            if whole > 0:  # the last 16, without those that were in a word before
                word |= marks(row, inputs - 16) >> (16 - inputs + whole) << (whole - first)
            for i in range(0, inputs if whole == 0 else 0):
                word |= np.int64(row[U(i)] != 0) << i
        count = unfold(word, first, seen, count)
    return count


@fused
def soon(values: Any, b: Any, place: Any) -> None:
    """Ask for values[b, place] (if it is there): samples lie too far apart for the processor to foresee it."""
    for k in range(0, values.shape[2], 16):
        prefetch(values, b, place, k)


@fused
def add_line(target: Any, row: Any, at: Any, n: Any, source: Any, line: Any, by: Any, first: Any) -> None:
    """target[row, at + m] += by·source[line, first + m], m < n; the last vector may overlap with the one before."""
    if n >= 64:
        whole = n // 64 * 64
        for k in range(0, whole, 64):
            add_64(target, row, at + k, source, line, first + k, by, 0)
        if whole < n:
            add_64(target, row, at + n - 64, source, line, first + n - 64, by, 64 - n + whole)
    elif n >= 32:
        whole = n // 32 * 32
        for k in range(0, whole, 32):
            add_32(target, row, at + k, source, line, first + k, by, 0)
        if whole < n:
            add_32(target, row, at + n - 32, source, line, first + n - 32, by, 32 - n + whole)
    elif n >= 16:
        whole = n // 16 * 16
        for k in range(0, whole, 16):
            add_16(target, row, at + k, source, line, first + k, by, 0)
        if whole < n:
            add_16(target, row, at + n - 16, source, line, first + n - 16, by, 16 - n + whole)
    else:
        for m in range(n):
            target[U(row), U(at + m)] += by * source[U(line), U(first + m)]


@fused
def by_list(cells: Any, g: Any, base: Any, w: Any, line: Any, by: Any, wires: Any, back: Any) -> None:
    """The same where the line is a list of targets; or back."""
    for k in range(U(wires.ends[U(line)]), U(wires.ends[U(line + 1)])):
        place = U(base) + U(wires.post[k])
        if back:
            w[0, k] += by * cells[U(g), place]
        else:
            cells[U(g), place] += by * w[0, k]


@fused
def sends(source: Any, by: Any, base: Any, wires: Any, w: Any, cells: Any, back: Any) -> None:
    """Add what `by` events of a source do to the `cells` of a sample; or, of adjoints `cells`, to those of the weights."""
    for q in range(U(wires.first[U(source)]), U(wires.first[U(source + 1)])):
        line = np.int64(wires.lines[q])
        g = np.int64(wires.group[U(line)])
        if wires.sparse:
            by_list(cells, g, base, w, line, by, wires, back)
        elif back:
            add_line(w, line, 0, wires.n, cells, g, by, base)
        else:
            add_line(cells, g, base, wires.n, w, line, by, 0)


@loop
def exchange(
    low: Any,
    high: Any,
    x: Any,
    place: Any,
    afresh: Any,
    spikes: Any,
    sent: Any,
    count: Any,
    wires: Any,
    w: Any,
    seen: Any,
    cells: Any,
    back: Any,
) -> None:
    """Add what the input events of a bin (`afresh`) and the spikes of the first `count` cells in `sent` do to `cells`
    (groups, cells); or, of the adjoints `cells`, to those of the weights, `w`."""
    done, n = 0, wires.n
    for b in range(low, high):
        base = (b - low) * n
        if afresh:
            soon(x, b, place - 1 if back else place + 1)
            row = x[b, place]
            for j in range(heard(row, seen)):
                sends(seen[U(j)], row[U(seen[U(j)])], base, wires, w, cells, back)
        while done < count and sent[U(done)] < base + n:
            k = sent[U(done)]
            sends(wires.inputs + k - base, kind(spikes[U(k)]), base, wires, w, cells, back)
            done += 1
