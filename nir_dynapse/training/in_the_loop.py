"""In the loop: the samples of a step run on a board with the bits of that step."""

from __future__ import annotations

from typing import Any

import numpy as np

from nir_dynapse.board.board import Board
from nir_dynapse.chip.device import Device
from nir_dynapse.errors import ConfigurationError
from nir_dynapse.layout.decoding import to_network
from nir_dynapse.layout.rewriting import Rewriter
from nir_dynapse.network.network import Network
from nir_dynapse.quant.compiler import compile
from nir_dynapse.sim.readout import values_of
from nir_dynapse.training.task import read_spikes
from nir_dynapse.training.trainable import Chart, Latent, settled

__all__ = ["InTheLoop"]


class InTheLoop:
    """A board that holds the network of a training: placed once, its bits rewritten for every step."""

    def __init__(self, board: Board, thing: Any, chart: Chart, first: Latent, device: Device) -> None:
        self.board, self.chart = board, chart
        if not chart.bits:
            raise ConfigurationError("fine_tune: a board needs weights with bits. Leave bits at 4.")
        params = settled(chart, first)
        network = thing if isinstance(thing, Network) else to_network(params)
        layout = compile(network, params=params, device=device, monitor="all", share_tags=False)
        self.rewriter = Rewriter(layout, params.topology, device)

    def run(self, latent: Latent, x: np.ndarray) -> np.ndarray:
        """Spikes (B, T, N) that the board sends with the bits of `latent` for counts `x` (B, T, C), of every copy."""
        t = self.chart.rows
        self.board.apply(self.rewriter.layout(settled(self.chart, latent)).single())
        recording = self.board.run_batch(x, t.dt)
        return np.concatenate([recording.spikes[name] for name, _ in t.populations], axis=2).astype(np.float32)

    def leave(self, latent: Latent) -> None:
        """The board holds the bits of `latent` from now on, and its outputs are read out."""
        self.board.apply(self.rewriter.layout(settled(self.chart, latent)))

    def score(self, latent: Latent, x: np.ndarray, y: np.ndarray, task: Any) -> float:
        """Share of right answers on the board (minus the loss, for trajectories)."""
        spikes = self.run(latent, x)
        read = read_spikes(spikes, task.read, task.copies)
        out = values_of(self.chart.rows, spikes) if task.readout else np.concatenate(read, axis=-1)
        if task.loss.supervised == "classes":
            return float((np.asarray(task.loss.answer(out)) == np.asarray(task.loss.label(y))).mean())
        return -float(np.mean(task.loss(out, y)))
