"""`Link`: how a chip is reached, and `LinkedBoard`: a Board over any Link, silicon or not.

What a run is, is written once here: quiet, read the clock, schedule events in the future, markers before and after, poll,
unwrap the 32-bit clock, quiet again. A Link only carries: a configuration there, events there and back, and time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Protocol

import numpy as np

from nir_dynapse.board.address_events import (
    CLOCK,
    END,
    GRID_DTYPE,
    START,
    Heard,
    from_grid,
    is_marker,
    joined,
    markers,
    monitored,
    parted,
    to_grid,
    unheard,
    unwrapped,
)
from nir_dynapse.data.bins import first_us
from nir_dynapse.data.counts import check_counts
from nir_dynapse.data.data import Events
from nir_dynapse.data.images import flattened
from nir_dynapse.data.recording import Recording
from nir_dynapse.errors import ConfigurationError, HardwareError, ParameterRangeError
from nir_dynapse.files.numbers import DURATION, STEP, Real, Whole
from nir_dynapse.layout.layout import Layout
from nir_dynapse.network.readout import run_readout

__all__ = ["Link", "LinkedBoard", "NoAnswer", "RunLog", "Timing", "monitored", "stimuli"]

WRAP = 1 << 32
CUT = "Cut the run into several."
LATE = 100
"""µs by which the marker at the beginning may be late before a run counts as late."""
START_COPIES = 2
"""Markers at the beginning of a run: they cost its first µs."""
PIECE = 4096
"""Events handed over at once at most: between pieces the host reads what has come back."""
BLOCKS = 8
"""Parts of the horizon: what becomes due within one of them is handed over together."""
POLL, GRACE = 10e-3, 2e-3
"""s between looks for an end marker that is due, and s for events that it has overtaken."""
DRAIN = 100
"""Reads at most of what is left of earlier: a chip may never fall silent."""


class Link(Protocol):
    """A way to a stack of chips. Whatever goes wrong in it is a HardwareError.

    Times of events are µs of the FPGA's clock as 32-bit numbers; an event with time 0 goes at once. `poll_interval` in s is
    how often `receive` must be called so that nothing is lost (infinite where nothing ever is).
    """

    name: str
    n_chips: int
    poll_interval: float

    def configure(self, layout: Layout, quiet: bool) -> None:
        """Make the chips hold `layout`; while `quiet`, with biases that silence them."""
        ...

    def send(self, events: np.ndarray) -> None:
        """Hand over events of GRID_DTYPE in order of time."""
        ...

    def receive(self) -> np.ndarray:
        """What has come back since the last call, of GRID_DTYPE."""
        ...

    def time(self) -> float:
        """Seconds on the host's clock."""
        ...

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        ...

    def restart_clock(self) -> None:
        """Set the FPGA's clock back to about 0."""
        ...

    def faults(self) -> list[str]:
        """What the board reported as wrong since the last call."""
        ...

    def close(self) -> None:
        """Give the board back; never raises."""
        ...


@dataclass(frozen=True)
class Timing:
    """How a run is paced: s from reading the clock to the first event (`lead`), s that events are handed over ahead of
    their time (`horizon`), s without an answer after which a board counts as lost (`patience`), markers sent at once
    (`copies`), and how often a late run (with four times the lead) or an unanswered question is tried (`attempts`).
    """

    lead: float = 0.1
    horizon: float = 0.5
    patience: float = 5.0
    copies: int = 8
    attempts: int = 3

    def __post_init__(self) -> None:
        for name in ("lead", "horizon", "patience"):
            Real(0, 3600, "s", above=True).check("Timing", name, getattr(self, name), "Give seconds.")
        for name in ("copies", "attempts"):
            Whole(1, 1000).check("Timing", name, getattr(self, name))


@dataclass(frozen=True)
class RunLog:
    """What the last run met: `start` in µs of the FPGA's clock, events `sent`, spikes and echoes `heard`, events that
    nobody in the Layout sends (`unknown`), tries (`attempts`), markers that came back of those sent, and stimuli that were
    not sent because no neuron hears their channel (`unsent`).
    """

    start: int
    sent: int
    heard: int
    unknown: np.ndarray
    attempts: int
    markers: tuple[int, int]
    unsent: int = 0


class NoAnswer(HardwareError):
    """The board takes what it is sent, and nothing comes back."""


class _Late(Exception):
    """Events were handed over after their time."""


class LinkedBoard:
    """A Board over `link`. A HardwareError in a run closes it, so that no chip goes on unobserved."""

    def __init__(self, link: Link, timing: Timing | None = None) -> None:
        self.link, self.timing = link, timing or Timing()
        self.last: RunLog | None = None
        self.layout: Layout | None = None
        self._closed = False

    # -- the Board ------------------------------------------------------------------------------------------------------

    def apply(self, layout: Layout) -> None:
        """Write `layout` and leave the chips quiet; where one was written before, only what differs."""
        self._open()
        if not isinstance(layout, Layout):
            raise ConfigurationError(f"apply: a {type(layout).__name__} is no Layout. Make one with compile.")
        if layout.n_chips > self.link.n_chips:
            raise HardwareError(
                f"the Layout is for {layout.n_chips} chips, {self.link.name} has {self.link.n_chips}. Compile for fewer, "
                "or use a larger stack."
            )
        with self._closing():
            self.link.configure(layout, quiet=True)
        self.layout = layout

    def run(self, events: Events, duration: float, *, echo: bool = False) -> Events:
        """Send `events` (µs from the beginning) and return what monitored neurons sent within `duration` s.

        The chips are quiet before and after. Spikes are decoded by the output map, in order of time; with `echo`, stimuli
        come back as events of their input nodes at the time at which they were really sent. `last` then says how it went.
        ConfigurationError for events that do not fit the Layout; HardwareError, and the board closed, where it fails.
        """
        layout = self._applied()
        duration = DURATION.check("run", "duration", duration, CUT)
        if not isinstance(events, Events):
            raise ConfigurationError(
                f"run: the events are a {type(events).__name__}. Give Events, e.g. Events.from_counts(x, dt, node)."
            )
        span = int(first_us(1, duration))
        grid = to_grid(layout, events, span, echo=echo, first=START_COPIES)
        with self._closing():
            heard = self._tried(layout, grid, span)
        if self.last is not None:
            self.last = replace(self.last, unsent=unheard(layout, events))
        return heard.events

    def run_batch(self, x: np.ndarray, dt: float) -> Recording:
        """Many samples: counts (batch, time, channel) in bins of `dt` s, a run of its own for each.

        Only nodes with monitored neurons are in the Recording, and what the host reads out of them.
        """
        layout = self._applied()
        dt = STEP.check("run_batch", "dt", dt, "Give the width of a bin of x in seconds.")
        counts = check_counts(flattened(x, layout.inputs), [(port.name, port.size) for port in layout.inputs])
        heard = monitored(layout)
        spikes = {node: np.zeros((*counts.shape[:2], len(mask)), np.uint32) for node, mask in heard.items()}
        copies = {node: c for node, c in layout.copies_of.items() if c > 1 and node in heard}
        duration = counts.shape[1] * dt
        for b, sample in enumerate(counts):
            out = self.run(stimuli(layout, sample, dt), duration)
            for node, values in spikes.items():
                values[b] = out.to_counts(node, values.shape[2], dt, duration)
        if all(values.max(initial=0) <= 255 for values in spikes.values()):
            spikes = {node: values.astype(np.uint8) for node, values in spikes.items()}
        outputs = {port.name: str(port.source) for port in layout.outputs}
        values = run_readout(layout.readout, spikes, layout.dt, dt, copies)
        return Recording(spikes, dt, outputs, values=values, copies=copies)

    def clock(self) -> int:
        """µs of the FPGA's 32-bit clock (HardwareError where the board does not answer)."""
        self._open()
        with self._closing():
            return self._clock()[0]

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self.link.close()

    def __enter__(self):
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- a run ----------------------------------------------------------------------------------------------------------

    def _tried(self, layout: Layout, grid: np.ndarray, span: int) -> Heard:
        lead = self.timing.lead
        for attempt in range(1, self.timing.attempts + 1):
            try:
                return self._exchange(layout, grid, span, lead, attempt)
            except _Late:
                lead *= 4
        raise HardwareError(
            f"{self.link.name}: events reached the FPGA after their time {self.timing.attempts} times, at last with a lead "
            f"of {lead / 4:g} s. Send fewer events, free the host and its USB port from other work, or raise Timing.lead."
        )

    def _exchange(self, layout: Layout, grid: np.ndarray, span: int, lead: float, attempt: int) -> Heard:
        link, copies = self.link, self.timing.copies
        last = max(span, int(grid["time"][-1]) + 1 if len(grid) else 0)
        link.configure(layout, quiet=False)
        zero = self._clock()[1]
        start = int((link.time() - zero + lead) * 1e6)
        if start + last + copies >= WRAP:  # what a board does with times across the wrap is not documented
            link.restart_clock()
            link.configure(layout, quiet=False)
            zero = self._clock()[1]
            start = int((link.time() - zero + lead) * 1e6)
        schedule = joined(markers(START, 0, START_COPIES), grid, markers(END, last, copies))
        schedule["time"] += start
        received = self._stream(schedule, zero, lead)
        link.configure(layout, quiet=True)
        if faults := link.faults():
            raise HardwareError(
                f"{link.name} reports {len(faults)} error(s) during the run: {'; '.join(faults[:3])}. Its spikes are not "
                "complete and were dropped. Send fewer events, monitor fewer neurons, or open the board again."
            )
        begun, ended, rest = parted(received, start, span)
        if len(begun) and begun.min() > LATE:
            raise _Late
        heard = from_grid(layout, rest)
        back = len(begun) + len(ended), START_COPIES + copies
        self.last = RunLog(start, len(grid), len(heard.events), heard.unknown, attempt, back)
        return heard

    def _stream(self, schedule: np.ndarray, zero: float, lead: float) -> np.ndarray:
        """Hand over `schedule` piece by piece and collect what comes back until an end marker does; times unwrapped.

        `zero` is when on the host's clock the FPGA's was 0, at the earliest.
        """
        link, timing = self.link, self.timing
        horizon = max(timing.horizon, 2 * lead) * 1e6  # a host that needs a longer lead needs it all along
        start, end, due = (int(schedule["time"][i]) for i in (0, -timing.copies, -1))
        times, everything = np.ascontiguousarray(schedule["time"]), len(schedule)
        part, done, target, asked_again = np.zeros(0, GRID_DTYPE), 0, -np.inf, False
        parts = [part]
        while True:
            clock = (link.time() - zero) * 1e6
            if done < everything and clock >= target:
                stop = min(int(np.searchsorted(times, int(np.ceil(clock + horizon)))), done + PIECE)
                if stop > done:
                    piece = schedule[done:stop].copy()
                    piece["time"] %= WRAP
                    link.send(piece)
                    clock = (link.time() - zero) * 1e6
                    if times[done] < clock:
                        self._abandon()
                        raise _Late
                    done = stop
                target = due + 1 if done == everything else times[done] - horizon + 1
                if done < everything and target > clock:  # others become due meanwhile
                    target += horizon / BLOCKS
            if done == everything or np.isfinite(link.poll_interval):  # where nothing is lost, all is read at the end
                part = link.receive()
                part["time"] = unwrapped(part["time"], start)
                parts.append(part)
            if (is_marker(part, END) & (part["time"] >= end)).any():  # not one of an earlier run
                link.wait(GRACE)
                parts.append(link.receive())
                parts[-1]["time"] = unwrapped(parts[-1]["time"], start)
                return joined(*parts)
            if done == everything and clock > due + timing.patience * 1e6:
                if asked_again:
                    reports = f" It reports: {'; '.join(faults[:3])}." if (faults := link.faults()) else ""
                    raise NoAnswer(
                        f"{link.name}: none of {2 * timing.copies} end markers came back within {timing.patience:g} s "
                        f"after the run, so its spikes may not be complete and were dropped.{reports} Check cable and "
                        "power, send fewer events, and open the board again."
                    )
                # All markers of the end may be lost and the spikes be there: a later marker ends the run as well.
                asked_again = True
                again = markers(END, 0, timing.copies)
                again["time"] = 0
                link.send(again)
                zero = link.time() - due * 1e-6
            if target > clock or done == everything:
                pause = (target - clock) * 1e-6 if target > clock else POLL
                link.wait(float(min(max(pause, 1e-4), link.poll_interval)))

    def _abandon(self) -> None:
        """Quiet the chips after a failed try and drop what is still to come."""
        if self.layout is not None:
            self.link.configure(self.layout, quiet=True)
        self.link.restart_clock()
        self.link.receive()

    def _clock(self) -> tuple[int, float]:
        """µs of the FPGA's clock, and when on the host's clock (s) it was 0, at the earliest: when it was asked."""
        link, timing = self.link, self.timing
        asked_at = link.time()
        for _ in range(timing.attempts):
            left = DRAIN  # an old answer would tell an old time
            while left and len(link.receive()):
                left -= 1
            asked = markers(CLOCK, 0, timing.copies)
            asked["time"] = 0
            link.send(asked)
            until = link.time() + timing.patience / timing.attempts
            while link.time() <= until:
                link.wait(min(1e-3, link.poll_interval))
                answers = link.receive()
                answers = answers[is_marker(answers, CLOCK)]
                if len(answers):
                    now = int(answers["time"].max())
                    return now, asked_at - now * 1e-6
        raise NoAnswer(
            f"{link.name} does not answer: {timing.attempts} times {timing.copies} clock markers were sent and none came "
            f"back within {timing.patience:g} s. Check that the bit file is the one for this board, then cable and power, "
            "and open it again."
        )

    # -- state ----------------------------------------------------------------------------------------------------------

    @contextmanager
    def _closing(self) -> Iterator[None]:
        """Close the board where the block ends in anything but a mistake in the call."""
        try:
            yield
        except (ConfigurationError, ParameterRangeError):
            raise
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        if self._closed:
            raise HardwareError(f"{self.link.name} is closed. Open the board again.")

    def _applied(self) -> Layout:
        self._open()
        if self.layout is None:
            raise HardwareError(f"{self.link.name} has no configuration yet. Call apply(layout) first.")
        return self.layout


def stimuli(layout: Layout, counts: np.ndarray, dt: float) -> Events:
    """Counts (time, channel) in bins of `dt` s as events of the input nodes of `layout`, in order of time."""
    firsts = np.cumsum([0, *(port.size for port in layout.inputs)])
    parts = [
        Events.from_counts(counts[:, first : first + port.size], dt, port.name)
        for first, port in zip(firsts, layout.inputs, strict=False)
    ]
    nodes = tuple(part.nodes[0] for part in parts)
    time = np.concatenate([np.zeros(0, np.int64), *(part.time for part in parts)])
    node = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    index = np.concatenate([np.zeros(0, np.int64), *(part.index for part in parts)])
    order = np.argsort(time, kind="stable")
    return Events(time[order], node[order], index[order], nodes)
