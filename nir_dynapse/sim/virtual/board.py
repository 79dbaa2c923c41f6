"""The virtual board: a Board that runs what the bits say, on the silicon of its number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from nir_dynapse.board.link import CUT, LinkedBoard, Timing, monitored
from nir_dynapse.chip.device import DYNAPSE2, Device, Mismatch, check_mismatch
from nir_dynapse.circuit.params import Params
from nir_dynapse.data.counts import check_counts
from nir_dynapse.data.data import Events
from nir_dynapse.data.images import flattened
from nir_dynapse.data.recording import Recording
from nir_dynapse.errors import ParameterRangeError
from nir_dynapse.files.numbers import DURATION, SEED, STEP
from nir_dynapse.layout.decoding import layout_to_params
from nir_dynapse.layout.layout import Layout
from nir_dynapse.sim.circuit import Disturbance
from nir_dynapse.sim.mismatch import fabricate
from nir_dynapse.sim.simulation import run_circuit
from nir_dynapse.sim.virtual.chip import VirtualChip
from nir_dynapse.sim.virtual.link import VirtualLink

__all__ = ["VirtualBoard"]

MOST_ELEMENTS = 1 << 29
"""Most bins of a run times input destinations: they are made at once."""


class VirtualBoard(LinkedBoard):
    """Virtual board number `seed`: `apply` writes CAM words, SRAM words and bias codes, `run` does what they say.

    The mismatch factors belong to places on silicon: the same Layout on the same number always behaves alike. What the
    profiles of `device` call bad does not work here, and their scales of the biases hold. `step` is the time resolution in
    s (default: the step of the Layout); with `mismatch=Mismatch.none()` the chip is nominal. A run takes the way of a real
    board: events one per µs, markers, a clock of 32 bits.
    """

    def __init__(
        self,
        seed: int = 0,
        device: Device = DYNAPSE2,
        mismatch: Mismatch | None = None,
        step: float | None = None,
        timing: Timing | None = None,
    ) -> None:
        self.seed = SEED.check("virtual board", "seed", seed, "Give the number of a virtual chip.")
        self.device = device
        self.step = None if step is None else STEP.check("virtual board", "step", step, "Give seconds.")
        check_mismatch("virtual board", mismatch)
        self.mismatch = device.mismatch if mismatch is None else mismatch
        chip = VirtualChip(self.seed, device, self.mismatch)
        super().__init__(VirtualLink(chip, device.max_stack, f"virtual:{self.seed}", self.step), timing)
        self._params: Params | None = None

    def __repr__(self) -> str:
        return f"VirtualBoard({self.seed}; {self.device!r})"

    def apply(self, layout: Layout) -> None:
        """Write `layout` as words and codes (HardwareError for what no chip can hold)."""
        self._params = None
        super().apply(layout)

    def run(self, events: Events, duration: float, *, echo: bool = False) -> Events:
        """As `LinkedBoard.run`; ParameterRangeError also for a run of too many steps to be simulated at once."""
        layout, duration = self._applied(), DURATION.check("run", "duration", duration, CUT)
        bins, step = duration / (layout.dt if self.step is None else self.step), self.step or layout.dt
        if bins * (len(layout.input_rows) + layout.n_neurons + 1) > MOST_ELEMENTS:
            raise ParameterRangeError(
                f"run: duration is {duration:g} s, {bins:.0f} steps of {step:g} s for {layout.n_neurons} neurons and "
                f"{len(layout.input_rows)} destinations of inputs are too many to simulate at once. {CUT}"
            )
        return super().run(events, duration, echo=echo)

    def run_batch(self, x: np.ndarray, dt: float, *, record: Sequence[str] = ()) -> Recording:
        """Many samples at once: counts (batch, time, channel) in bins of `dt` s, every sample from silence.

        The spikes of `run` without its bus: nothing waits for its turn. Only what the chip would report is in the
        Recording: nodes with monitored neurons, the other neurons silent. `record=("v_mem",)` adds the voltages in V at
        the ends of bins of the membranes that the Layout shows to the outside (`Layout.membranes`, one per core), what an
        oscilloscope at the monitor pins sees, NaN for all others; ParameterRangeError for anything else, or if there is
        none.
        """
        layout = self._applied()
        if strange := [name for name in record if name not in ("spikes", "v_mem")]:
            raise ParameterRangeError(
                f"run_batch: no pin of the chip shows {strange[0]!r}. Record 'v_mem', or simulate."
            )
        shown = layout.membranes[layout.core_index] == layout.slot
        if "v_mem" in record and not shown.any():
            raise ParameterRangeError(
                "run_batch: v_mem was asked for, but the Layout shows no membrane to the outside. Compile with "
                "membranes=[(node, index)], one per core at most."
            )
        if self._params is None:
            self._params = fabricate(layout_to_params(layout, self.device), self.mismatch, self.seed)
        dt = STEP.check("run_batch", "dt", dt, "Give the width of a bin of x in seconds.")
        x = flattened(x, layout.inputs)
        counts = check_counts(x, [(port.name, port.size) for port in layout.inputs])
        disturbance = Disturbance.of(self.mismatch, self.seed)
        recording = run_circuit(self._params, counts, dt, tuple(record), disturbance=disturbance)
        spikes = {node: recording.spikes[node] * mask for node, mask in monitored(layout).items()}
        copies = {node: c for node, c in recording.copies.items() if node in spikes}
        parts = self._params.topology.slices()
        states = {
            name: {
                node: np.where(shown[parts[node]], v, np.nan) for node, v in held.items() if shown[parts[node]].any()
            }
            for name, held in recording.states.items()
        }
        return replace(recording, spikes=spikes, states=states, copies=copies)
