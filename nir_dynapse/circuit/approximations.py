"""What a circuit does differently from the neurons of a Network, as findings."""

from __future__ import annotations

import numpy as np

from nir_dynapse.chip.biasgen import reach
from nir_dynapse.chip.device import DYNAPSE2
from nir_dynapse.errors import Finding
from nir_dynapse.network.network import Population

__all__ = ["approximations"]


def approximations(p: Population, dt: float, steady: np.ndarray, shortest: float) -> list[Finding]:
    """What of population `p` the circuit does differently.

    `dt` is the step of the network, `steady` (n,) what the constant input of each neuron settles at, in units of the
    threshold, and `shortest` in s the time constant of a membrane that forgets within a step.
    """
    found = []
    below = p.v_leak - p.v_reset < 0
    if below.any():
        n = int(np.argmax(np.where(below, p.v_reset - p.v_leak, -np.inf)))
        found.append(
            Finding(
                "warning",
                "leak-below-reset",
                f"v_leak is {_down(below)}{p.v_leak[n]:g}, below v_reset {p.v_reset[n]:g}; I_mem cannot fall below its "
                "reset level, so the membrane rests there.",
                node=p.name,
                index=n,
                used=float(p.v_leak[n]),
                limit=float(p.v_reset[n]),
                hint="Train with v_leak ≥ v_reset, or compare the ideal with the circuit run.",
                count=int(below.sum()),
            )
        )
    if p.reset != "value":
        found.append(
            Finding(
                "warning",
                "reset",
                f"it resets by {p.reset!r} in the framework; a neuron of the chip always resets to its reset level, and "
                "what v had above the threshold is lost.",
                node=p.name,
                hint="Train with a reset to zero, or compare the ideal with the circuit run.",
            )
        )
    if p.kind == "IF":
        longest = float(DYNAPSE2.circuit.tau("i_tau_mem", reach("i_tau_mem")[0]))
        found.append(
            Finding(
                "warning",
                "no-leak",
                f"an IF does not leak; its membrane gets the longest time constant of the chip, {longest:.3g} s.",
                node=p.name,
                used="no leak",
                limit=longest,
                unit="s",
                hint="Train with a LIF, or keep samples short against it.",
            )
        )
    fast = (p.tau_mem <= dt) & (p.kind != "IF")
    if fast.any():
        n = int(np.argmin(np.where(fast, p.tau_mem, np.inf)))
        found.append(
            Finding(
                "warning",
                "tau-below-step",
                f"tau_mem is {_down(fast)}{p.tau_mem[n]:g} s, not above the step of {dt:g} s; it forgets within a "
                f"step and gets the shortest membrane of {shortest:g} s.",
                node=p.name,
                index=n,
                used=float(p.tau_mem[n]),
                limit=dt,
                unit="s",
                hint="Check dt and time_unit.",
                count=int(fast.sum()),
            )
        )
    if (firing := steady >= 1).any():
        n = int(np.argmax(steady))
        up = "up to " if firing.sum() > 1 else ""
        found.append(
            Finding(
                "info",
                "self-firing",
                f"constant input settles at {up}{steady[n]:.3g} of the threshold, which fires without events.",
                node=p.name,
                index=n,
                used=float(steady[n]),
                limit=1.0,
                count=int(firing.sum()),
            )
        )
    return found


def _down(several: np.ndarray) -> str:
    """Words before the lowest value of the neurons marked True."""
    return "down to " if several.sum() > 1 else ""
