"""What both training scripts add to a frontend so that the network survives an analog circuit.

- weights and thresholds are multiplied with log-normal noise that is redrawn for every batch, half of the weights after
  rounding to 4 bits; excitation and inhibition of a neuron have a factor each, as the two synapse circuits of a real one;
- a random half of each batch runs under the circuit's restrictions (:func:`unroll`), the other half as NIR defines it;
- negative membranes and negative net currents cost something (:func:`below`), so that the two agree;
- weights are kept within a few times their RMS (:func:`limit_outliers`), so that one scale per matrix does for 4 bits.

The neuron cells are the frontend's own; only the membrane is changed between their steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

DRAWS = 20  # noise draws per batch


def log_normal(shape: tuple[int, ...], cv: float) -> torch.Tensor:
    """Positive factors with mean 1 and this coefficient of variation."""
    sigma = math.sqrt(math.log1p(cv**2))
    return torch.exp(sigma * torch.randn(shape) - sigma**2 / 2)


def noisy_thresholds(n_samples: int, n_neurons: int, cv: float) -> torch.Tensor:
    """Thresholds around 1 (samples, neurons), the same in each of the DRAWS equal shares of the samples."""
    return log_normal((DRAWS, 1, n_neurons), cv).expand(-1, n_samples // DRAWS, -1).flatten(0, 1)


def four_bits(weight: torch.Tensor) -> torch.Tensor:
    """|w| on 16 evenly spaced levels up to the largest, zero included; the gradient passes as if nothing were rounded."""
    step = weight.detach().abs().max() / 15
    return weight + (torch.round(weight.detach() / step) * step - weight.detach())


class NoisyLinear(torch.nn.Linear):
    """A Linear layer on (..., samples, features) whose weights carry multiplicative noise while training.

    :meth:`redraw` draws it anew, once per batch: DRAWS matrices, each for an equal share of the samples, which costs
    little and gives a far steadier gradient than one draw for the whole batch. Half of the matrices are rounded to 4 bits.
    """

    noisy: torch.Tensor | None = None

    def redraw(self, cv: float, neuron_cv: float) -> None:
        shares = torch.stack([self.weight, four_bits(self.weight)]).repeat_interleave(DRAWS // 2, 0)
        per_neuron = (*shares.shape[:2], 1)
        gain = torch.where(shares > 0, log_normal(per_neuron, neuron_cv), log_normal(per_neuron, neuron_cv))
        self.noisy = (shares * gain * log_normal(shares.shape, cv)).transpose(-1, -2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training or self.noisy is None:
            return super().forward(x)
        y = _per_draw(x, self.noisy)
        return y if self.bias is None else y + self.bias


class Layer(NamedTuple):
    """Spikes, membranes before the reset and net synaptic currents of one population, each (time, samples, neurons)."""

    spikes: torch.Tensor
    membranes: torch.Tensor
    currents: torch.Tensor


@dataclass(frozen=True)
class Dynamics:
    """What a frontend's cell computes in one step.

    ``current <- alpha * current + input``, ``v <- beta * v + gain * current``, spike where v > threshold, there v <- 0.
    ``step(input, v, state)`` asks the cell for it: spikes, v before the reset, the current and the cell's next state.
    """

    alpha: float
    beta: float
    gain: float
    step: Callable[[torch.Tensor, torch.Tensor, Any], tuple[torch.Tensor, torch.Tensor, torch.Tensor, Any]]
    slope: float = 5.0  # of the surrogate gradient 1 / (1 + slope * |v - threshold|)^2


class _Unrolled(torch.autograd.Function):
    """Forward, the cell's own steps; backward, the adjoint of :class:`Dynamics`, in half of autograd's time.

    Resets carry no gradient.
    """

    @staticmethod
    def forward(
        ctx: Any,
        drive: torch.Tensor,
        recurrent: torch.Tensor | None,
        threshold: torch.Tensor,
        circuit: torch.Tensor,
        dynamics: Dynamics,
    ):
        state, v = None, torch.zeros_like(drive[0])
        spikes, membranes, currents, lifted = (torch.empty_like(drive) for _ in range(4))
        for t, now in enumerate(drive):
            z, before, current, state = dynamics.step(now, v, state)
            spikes[t], membranes[t], currents[t] = z, before, current
            # The circuit: a negative pull undone (such a step cannot fire, so afterwards is soon enough), then v >= 0.
            v = before * (1 - z)
            lifted[t] = v + dynamics.gain * torch.relu(-current)
            v = torch.lerp(v, torch.relu(lifted[t]), circuit)
        ctx.dynamics = dynamics
        ctx.save_for_backward(spikes, membranes, currents, lifted, recurrent, threshold, circuit)
        return spikes, membranes, currents

    @staticmethod
    def backward(ctx: Any, d_spikes: torch.Tensor, d_membranes: torch.Tensor, d_currents: torch.Tensor):
        spikes, membranes, currents, lifted, recurrent, threshold, circuit = ctx.saved_tensors
        d = ctx.dynamics
        surrogate = (1 + d.slope * (membranes - threshold).abs()).pow(-2)
        free = circuit * (lifted > 0)
        keep = (1 - spikes) * (1 - circuit + free)
        undone = -d.gain * free * (currents < 0)
        d_membranes = d_membranes + d_spikes * surrogate
        d_drive = torch.empty_like(d_spikes)
        to_v, to_current = torch.zeros_like(spikes[0]), torch.zeros_like(spikes[0])
        for t in range(len(spikes) - 1, -1, -1):
            d_v = torch.addcmul(d_membranes[t], to_v, keep[t])
            if recurrent is not None and t + 1 < len(spikes):
                d_v += surrogate[t] * _per_draw(to_current, recurrent.transpose(-1, -2))
            to_current = torch.addcmul(d_currents[t] + d.gain * d_v + d.alpha * to_current, to_v, undone[t])
            to_v = d.beta * d_v
            d_drive[t] = to_current
        d_recurrent = None
        if recurrent is not None:
            before, after = (x.unflatten(1, (len(recurrent), -1)) for x in (spikes[:-1], d_drive[1:]))
            d_recurrent = torch.einsum("tgbi,tgbj->gij", before, after)
        return d_drive, d_recurrent, None, None, None


def unroll(
    drive: torch.Tensor,
    threshold: torch.Tensor,
    circuit: torch.Tensor,
    dynamics: Dynamics,
    recurrent: torch.Tensor | None = None,
) -> Layer:
    """Runs a population on ``drive`` (time, samples, neurons).

    ``circuit`` (samples, 1): where it is 1, under the circuit's restrictions. ``recurrent``: the matrices (draws,
    source, target) that the cell's step applies to its own spikes, for their gradient.
    """
    return Layer(*_Unrolled.apply(drive, recurrent, threshold, circuit, dynamics))


def _per_draw(x: torch.Tensor, matrices: torch.Tensor) -> torch.Tensor:
    """x (..., samples, in) times matrices (draws, in, out), each for an equal share of the samples."""
    return (x.unflatten(-2, (len(matrices), -1)) @ matrices).flatten(-3, -2)


def below(x: torch.Tensor) -> torch.Tensor:
    """Mean squared depth below zero."""
    return torch.relu(-x).square().mean()


def above(x: torch.Tensor, limit: float) -> torch.Tensor:
    """Mean squared excess over a limit."""
    return torch.relu(x - limit).square().mean()


@torch.no_grad()
def limit_outliers(weight: torch.Tensor, times_rms: float) -> None:
    """Clips a matrix in place at this multiple of its RMS."""
    limit = float(times_rms * weight.square().mean().sqrt())
    weight.clamp_(-limit, limit)
