"""The FPGA of a virtual board: a 32-bit clock, events sent when their time has come, markers that bounce."""

from __future__ import annotations

import numpy as np

from nir_dynapse.board.address_events import GRID_DTYPE, unwrapped
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
        self._sent = np.zeros(0, GRID_DTYPE)
        self._answers: list[np.ndarray] = []
        self._told = -1
        self._done = 0

    def configure(self, layout: Layout, quiet: bool) -> None:
        """Write the bits; a quiet chip is not simulated, so only the others start anew."""
        self.chip.write(layout)
        self._bin = layout.dt if self.step is None else self.step
        self._silenced()

    def send(self, events: np.ndarray) -> None:
        """Queue events; those with time 0 go at once, and come back at once if they leave to the west."""
        now = int(self.now - self._offset)
        at_once = events[events["time"] == 0].copy()
        at_once["time"] = now + np.arange(len(at_once))
        self._answers.append(self._bounced(at_once))
        later = events[events["time"] != 0].copy()
        later["time"] = np.maximum(unwrapped(later["time"], now), now)
        self._sent = np.concatenate([self._sent, later])

    def receive(self) -> np.ndarray:
        """Answers to what went at once; bounced events and spikes once the time of everything that was sent has come."""
        now = self.now - self._offset
        parts, self._answers = self._answers, []
        if self._done < len(self._sent) and self._sent["time"].max() <= now:  # a marker must not overtake spikes
            parts = [*parts, self._bounced(self._sent[self._done :]), self._spikes()]
            self._done = len(self._sent)
        answer = np.concatenate([np.zeros(0, GRID_DTYPE), *parts])
        answer = answer[np.argsort(answer["time"], kind="stable")]
        answer["time"] %= WRAP
        return answer

    def _spikes(self) -> np.ndarray:
        """What the chips sent up to the last event that was sent to them, as far as nobody was told of it."""
        origin, last = int(self._sent["time"][0]), int(self._sent["time"][-1])
        if last <= self._told:
            return np.zeros(0, GRID_DTYPE)
        events = self._sent.copy()
        events["time"] -= origin
        bins = int(bin_of(max(last - origin - 1, 0), self._bin)) + 1
        spikes = self.chip.run(events, bins, self._bin)
        spikes["time"] += origin
        fresh = spikes[(spikes["time"] > self._told) & (spikes["time"] <= last)]
        self._told = last
        return fresh

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
