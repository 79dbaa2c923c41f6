"""The FPGA of a virtual board: a 32-bit clock, events sent when their time has come, markers that bounce."""

from __future__ import annotations

import numpy as np

from nir_dynapse.board.address_events import in_order, joined, unwrapped
from nir_dynapse.data.bins import bin_of
from nir_dynapse.layout.layout import Layout
from nir_dynapse.layout.rows import leaves_west
from nir_dynapse.sim.virtual.chip import VirtualChip

__all__ = ["VirtualLink"]

WRAP = 1 << 32


class VirtualLink:
    """A Link to `chip` whose time passes only when somebody waits; the chips start from silence at each configuration.

    Events act in bins of `step` s, counted from the first event with a time after a configuration.
    """

    poll_interval = float("inf")

    def __init__(self, chip: VirtualChip, n_chips: int, name: str, step: float | None = None) -> None:
        self.chip, self.n_chips, self.name, self.step = chip, n_chips, name, step
        self.now = 0.0
        """µs since the board was opened."""
        self._offset = 0.0
        self._bin = 1e-3
        self._silenced()

    def _silenced(self) -> None:
        self._answers: list[np.ndarray] = []
        self._told = -1
        self._past: list[np.ndarray] = []
        """What was sent and had its time, in one piece where there is any."""
        self._queue: list[np.ndarray] = []
        """What was sent and waits, with times on a clock that does not wrap."""
        self._latest = -1

    def configure(self, layout: Layout, quiet: bool) -> None:
        """Write the bits; a quiet chip is not simulated, so only the others start anew."""
        self.chip.write(layout)
        self._bin = layout.dt if self.step is None else self.step
        self._silenced()

    def send(self, events: np.ndarray) -> None:
        """Queue events; those with time 0 go at once, and come back at once if they leave to the west."""
        now, waits = int(self.now - self._offset), events["time"] != 0
        if not waits.all():
            at_once = events[~waits]
            at_once["time"] = now + np.arange(len(at_once))
            self._answers.append(self._bounced(at_once))
        later = events[waits]
        later["time"] = np.maximum(unwrapped(later["time"], now), now)
        self.enqueue(later)

    def enqueue(self, events: np.ndarray) -> None:
        """Queue events whose times are on the clock that does not wrap."""
        if len(events):
            self._queue.append(events)
            self._latest = max(self._latest, int(events["time"].max()))

    def waiting(self) -> np.ndarray:
        """The events whose time has not come, as `enqueue` takes them."""
        queue = joined(*self._queue)
        return queue[queue["time"] > self.now - self._offset]

    def receive(self) -> np.ndarray:
        """Answers to what went at once; bounced events and spikes once the time of everything that was sent has come."""
        parts, self._answers = self._answers, []
        if self._queue and self._latest <= self.now - self._offset:  # a marker must not overtake spikes
            fresh, self._queue = joined(*self._queue), []
            self._past = [joined(*self._past, fresh)]
            parts = [*parts, self._bounced(fresh), self._spikes(self._past[0])]
        answer = in_order(joined(*parts))
        answer["time"] &= WRAP - 1
        return answer

    def _spikes(self, sent: np.ndarray) -> np.ndarray:
        """What the chips sent up to the last event of `sent`, all that they were sent, as far as nobody was told of it."""
        origin, last = int(sent["time"][0]), int(sent["time"][-1])
        if last <= self._told:
            return sent[:0]
        events = sent.copy()
        events["time"] -= origin
        bins = int(bin_of(max(last - origin - 1, 0), self._bin)) + 1
        spikes = self.chip.run(events, bins, self._bin)
        spikes["time"] += origin
        first, stop = np.searchsorted(np.ascontiguousarray(spikes["time"]), (self._told, last), "right")
        self._told = last
        return spikes[first:stop]

    @staticmethod
    def _bounced(events: np.ndarray) -> np.ndarray:
        """Those of `events` that leave chip 0 to the west, as they come back."""
        west, x_hop = leaves_west(events)
        answer = events[west].copy()
        answer["x_hop"] = x_hop[west]
        return answer

    def time(self) -> float:
        """s since the board was opened."""
        return self.now * 1e-6

    def wait(self, seconds: float) -> None:
        self.now += seconds * 1e6

    def restart_clock(self) -> None:
        """The clock starts at 0, and what was waiting is dropped."""
        self._offset = self.now
        self._silenced()

    def faults(self) -> list[str]:
        return []

    def close(self) -> None:
        return None
