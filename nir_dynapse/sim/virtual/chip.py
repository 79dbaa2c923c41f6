"""A stack of chips as bits and silicon: address events in, address events out. It knows no network."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from nir_dynapse.board.address_events import GRID_DTYPE, spaced
from nir_dynapse.chip.device import Device, Mismatch
from nir_dynapse.circuit.closed_form import counted_up
from nir_dynapse.circuit.params import Params
from nir_dynapse.data.bins import bin_of, first_us
from nir_dynapse.errors import HardwareError
from nir_dynapse.layout.decoding import layout_to_params
from nir_dynapse.layout.layout import Layout
from nir_dynapse.layout.rows import INPUT_DTYPE, leaves_west
from nir_dynapse.network.network import NO_READOUT, Port
from nir_dynapse.sim.circuit import Disturbance
from nir_dynapse.sim.mismatch import fabricate
from nir_dynapse.sim.simulation import run_events

__all__ = ["VirtualChip"]

LARGEST_CODE, NEURONS = 5, 256
CAM_LIMITS = {"tag": (0, 2047), "dendrite": (-1, 3), "mask": (0, 15), "flags": (0, 7)}
SRAM_LIMITS = {"tag": (0, 2047), "cores": (0, 15), "x_hop": (-8, 7), "y_hop": (-8, 7)}
"""What the bits of a row can say."""


class VirtualChip:
    """Virtual chip number `seed`: what CAM words, SRAM words and bias codes do on its silicon.

    The mismatch factors belong to places, the profiles of `device` say what is broken and by how much biases are off.
    """

    def __init__(self, seed: int, device: Device, mismatch: Mismatch) -> None:
        self.seed, self.device, self.mismatch = seed, device, mismatch
        self._bits: Layout | None = None
        self._made: dict[bytes, Params] = {}

    def write(self, layout: Layout) -> None:
        """Write words and codes; HardwareError for what no chip can hold."""
        if layout is self._bits:  # each run configures twice, and a circuit takes long to fabricate
            return
        place = layout.core_index * NEURONS + layout.slot
        wrong = {
            "a CAM row": _beyond(layout.cam, CAM_LIMITS),
            "an SRAM row": _beyond(layout.sram, SRAM_LIMITS),
            "a coarse code": bool(layout.codes[layout.used_cores, :, 0].max(initial=0) > LARGEST_CODE),
            "a place": len(np.unique(place)) != len(place)
            or bool((layout.core > 3).any() or (layout.chip >= layout.n_chips).any()),
        }
        for what, is_wrong in wrong.items():
            if is_wrong:
                raise HardwareError(
                    f"the Layout asks for {what} that the chip does not have (tags to 2047, hops to ±7, 4 mask bits, "
                    "coarse codes to 5, one neuron per place). Compile the network again."
                )
        self._bits, self._made = layout, {}

    def run(self, events: np.ndarray, bins: int, step: float) -> np.ndarray:
        """Run `bins` bins of `step` s from silence; `events` of GRID_DTYPE, times in µs from the beginning.

        Returns what leaves the stack to the west as the host receives it: spikes of a bin are spread over it in order of
        their place, one per µs at most. HardwareError for events to chips that are not there.
        """
        bits = self._written()
        inside = (events["cores"] > 0) & (events["y_hop"] == 0) & (events["x_hop"] >= 0)
        if (events["x_hop"][inside] >= bits.n_chips).any():
            raise HardwareError(
                f"an event is for chip {int(events['x_hop'][inside].max())}, the stack has {bits.n_chips}. Compile again."
            )
        address, params = self._addressed(events[inside])
        when = bin_of(events["time"][inside], step)
        counted = when < bins
        disturbance = Disturbance.of(self.mismatch, self.seed)
        spikes = run_events(params, when[counted], address[counted], bins, step, disturbance)
        return self._leaving(bits, spikes, step)

    def _written(self) -> Layout:
        if self._bits is None:
            raise HardwareError("the virtual chip has no configuration yet. Call apply(layout) first.")
        return self._bits

    def _addressed(self, events: np.ndarray) -> tuple[np.ndarray, Params]:
        """The number of each event's address, and the circuit with one input channel per address.

        The destinations of the Layout come first whether they are used or not, so that runs share a compiled program, and
        one for each channel that has them: equal ones take turns, as the channels would.
        """
        bits = self._written()
        mine, asked = (
            (part[chip].astype(np.int64) * 16 + part["cores"]) * 2048 + part["tag"]
            for part, chip in ((bits.input_rows, "chip"), (events, "x_hop"))
        )
        others = np.setdiff1d(asked, mine)
        table = np.r_[mine, others]
        order = np.argsort(table, kind="stable")
        first, stop = (np.searchsorted(table[order], asked, side) for side in ("left", "right"))
        turn = np.zeros(len(asked), np.int64)
        by_address = np.argsort(asked, kind="stable")
        turn[by_address] = counted_up(np.unique(asked, return_counts=True)[1])
        address = order[first + turn % np.maximum(stop - first, 1)] if len(table) else turn
        key = others.tobytes()
        if key not in self._made:
            rows = np.zeros(len(table), INPUT_DTYPE)
            rows["channel"] = np.arange(len(table))
            rows["chip"], rows["cores"], rows["tag"] = table >> 15, table >> 11 & 15, table & 2047
            inputs = (Port("events", (len(table),)),) if len(table) else ()
            view = replace(
                bits.single(),
                inputs=inputs,
                input_rows=rows,
                outputs=(),
                readout=NO_READOUT,
                tonic_period=None,
                findings=(),
            )
            self._made = {key: fabricate(layout_to_params(view, self.device), self.mismatch, self.seed)}
        return address, self._made[key]

    def _leaving(self, bits: Layout, spikes: np.ndarray, step: float) -> np.ndarray:
        """Events of the monitoring rows for spike counts (bins, N)."""
        order = np.argsort(bits.core_index * NEURONS + bits.slot, kind="stable")
        west, x_hop = leaves_west(bits.sram, bits.chip[:, None])
        sender, row = np.nonzero(west)
        rows = np.zeros(len(sender), GRID_DTYPE)
        rows["tag"], rows["y_hop"] = bits.sram["tag"][sender, row], bits.sram["y_hop"][sender, row]
        rows["x_hop"], rows["cores"] = x_hop[sender, row], bits.sram["cores"][sender, row]
        sent = np.bincount(sender, minlength=bits.n_neurons)
        first_row = np.cumsum(sent) - sent

        order = order[sent[order] > 0]  # nobody hears of the others
        turned = spikes if np.array_equal(order, np.arange(spikes.shape[1])) else np.take(spikes, order, axis=1)
        place, bins = np.flatnonzero(turned != 0), np.arange(len(spikes) + 1)
        count = np.diff(np.searchsorted(place, bins * len(order)))
        neuron = order[place - np.repeat(bins[:-1] * len(order), count)]
        if turned.max(initial=0) > 1:  # once per spike
            each = turned.reshape(-1)[place]
            count, neuron = _repeated(count, each), np.repeat(neuron, each)
        at = first_row[neuron]
        if (sent[order] > 1).any():  # and in each spike once per row
            each = sent[neuron]
            count = _repeated(count, each)
            at = np.repeat(at, each) + counted_up(each)
        grid = rows[at]
        within = (counted_up(count) + 1) / np.repeat(count + 1, count)
        edges = first_us(bins, step)
        time = np.floor((np.repeat(bins[:-1], count) + within) * step * 1e6).astype(np.int64)
        last = np.maximum(edges[1:] - 1, edges[:-1])
        grid["time"] = spaced(np.clip(time, np.repeat(edges[:-1], count), np.repeat(last, count)))
        return grid


def _beyond(rows: np.ndarray, limits: dict[str, tuple[int, int]]) -> bool:
    """Whether a field of a row holds what its bits cannot."""
    return any(
        rows[name].min(initial=0) < low or rows[name].max(initial=0) > high for name, (low, high) in limits.items()
    )


def _repeated(count: np.ndarray, each: np.ndarray) -> np.ndarray:
    """How many stand in each of the runs of `count` things where thing k stands `each[k]` times."""
    ends = np.r_[0, np.cumsum(each, dtype=np.int64)]
    return np.diff(ends[np.r_[0, np.cumsum(count)]])
