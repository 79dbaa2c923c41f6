"""The virtual chip: a Board that runs what the bits say, on the silicon of its number."""

from __future__ import annotations

from dataclasses import replace
from types import TracebackType

import numpy as np

from nir_dynapse.board import Events
from nir_dynapse.decoding import layout_to_params
from nir_dynapse.device import DYNAPSE2, Device, Mismatch
from nir_dynapse.errors import ConfigurationError, HardwareError
from nir_dynapse.layout import Layout
from nir_dynapse.params import Params
from nir_dynapse.rows import cam_from_words, cam_words, sram_from_words, sram_words
from nir_dynapse.sim.circuit import Disturbance
from nir_dynapse.sim.mismatch import fabricate
from nir_dynapse.sim.recording import Recording
from nir_dynapse.sim.simulation import check_input, run_circuit

__all__ = ["VirtualBoard"]


class VirtualBoard:
    """Virtual chip number `seed`: `apply` writes CAM words, SRAM words and bias codes, `run` does what they say.

    The mismatch factors belong to places on silicon: the same Layout on the same number always behaves alike. `step` is
    the time resolution of `run` in s (events are binned to it); with `mismatch=Mismatch.none()` the chip is nominal.
    """

    def __init__(
        self, seed: int = 0, device: Device = DYNAPSE2, mismatch: Mismatch | None = None, step: float = 1e-3
    ) -> None:
        self.seed, self.device, self.step = seed, device, step
        self.mismatch = device.mismatch if mismatch is None else mismatch
        self._layout: Layout | None = None
        self._params: Params | None = None
        self._closed = False

    def apply(self, layout: Layout) -> None:
        """Write `layout` as words and codes, and read back what the chip then is (HardwareError if it is too large)."""
        self._open()
        if layout.n_chips > self.device.max_stack:
            raise HardwareError(
                f"the Layout is for {layout.n_chips} chips, a stack holds {self.device.max_stack}. Compile for fewer."
            )
        written = replace(
            layout,
            cam=cam_from_words(cam_words(layout.cam)),
            sram=sram_from_words(sram_words(layout.sram)),
        )
        self._layout = written
        self._params = fabricate(layout_to_params(written, self.device), self.mismatch, self.seed)

    def run(self, events: Events, duration: float) -> Events:
        """Run `events` for `duration` s from silence; the decoded output spikes, one time step of resolution."""
        layout, _ = self._applied()
        known = {port.name for port in layout.inputs}
        for name in {events.nodes[i] for i in np.unique(events.node)}:
            if name not in known:
                raise ConfigurationError(
                    f"events for node {name!r}, the Layout's input nodes are {', '.join(sorted(known))}. Rename the node."
                )
        for i in np.unique(events.node):
            port = next(port for port in layout.inputs if port.name == events.nodes[i])
            highest = int(events.index[events.node == i].max())
            if highest >= port.size:
                raise ConfigurationError(
                    f"node {port.name!r}: an event names channel {highest}, it has {port.size} channels. Check the data."
                )
        counts = [events.to_counts(port.name, port.size, self.step, duration) for port in layout.inputs]
        recording = self.run_batch(np.concatenate(counts, axis=1)[None], self.step)
        return self._decode(recording)

    def run_batch(self, x: np.ndarray, dt: float) -> Recording:
        """Many samples at once: counts (batch, time, channel) in bins of `dt` s, every sample from silence.

        Only what the chip would report is in the Recording: nodes with monitored neurons, the other neurons silent.
        """
        layout, params = self._applied()
        counts = check_input(x, [(port.name, port.size) for port in layout.inputs])
        disturbance = Disturbance.of(self.mismatch, self.seed)
        recording = run_circuit(params, counts, dt, ("spikes",), disturbance=disturbance)
        heard = {node: np.zeros(value.shape[2], bool) for node, value in recording.spikes.items()}
        for node, index in layout.output_map.values():
            heard[node][index] = True
        spikes = {node: recording.spikes[node] * mask for node, mask in heard.items() if mask.any()}
        return replace(recording, spikes=spikes)

    def close(self) -> None:
        self._closed = True

    def __enter__(self) -> VirtualBoard:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self) -> None:
        if self._closed:
            raise HardwareError(f"virtual:{self.seed} is closed. Open the board again.")

    def _applied(self) -> tuple[Layout, Params]:
        self._open()
        if self._layout is None or self._params is None:
            raise HardwareError(f"virtual:{self.seed} has no configuration yet. Call apply(layout) first.")
        return self._layout, self._params

    @staticmethod
    def _decode(recording: Recording) -> Events:
        """The spikes of the first sample as events, in order of time."""
        names = tuple(recording.spikes)
        parts = [Events.from_counts(recording.spikes[name][0], recording.dt, name) for name in names]
        time, index = (np.concatenate([np.zeros(0), *(getattr(p, key) for p in parts)]) for key in ("time", "index"))
        node = np.repeat(np.arange(len(parts)), [len(p) for p in parts])
        order = np.argsort(time, kind="stable")
        return Events(time[order], node[order], index[order], names)
