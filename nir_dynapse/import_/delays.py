"""What steps of an ideal run make of the delays that were read."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from nir_dynapse.circuit.delays import delay_node
from nir_dynapse.errors import Finding, UnsupportedGraphError, raise_if_errors, strictly
from nir_dynapse.network.delays import LONGEST, in_steps
from nir_dynapse.network.network import Projection

__all__ = ["check_delays"]

WHOLE = 1e-4
"""Part of a step by which a delay may miss a whole number of them without a word."""


def check_delays(links: Iterable[Projection], dt: float, strict: bool = False) -> list[Finding]:
    """A warning for each Delay node that is no whole number of steps; UnsupportedGraphError beyond `LONGEST` steps."""
    worst: dict[str, Finding] = {}
    error: dict[str, float] = {}
    for q in links:
        if q.delay is None:
            continue
        node = delay_node(q)
        steps = in_steps(q.delay, dt)
        k = int(np.argmax(q.delay))
        if steps[k] > LONGEST:
            what = f"connections are up to {q.delay[k]:.4g} s late, {steps[k]} steps of {1e3 * dt:.3g} ms."
            hint = "Check the unit of time (time_unit=, time_scale=), or read the network with a longer dt."
            limit = LONGEST * dt
            worst[node] = Finding("error", "delay", what, node, int(q.post[k]), float(q.delay[k]), limit, "s", hint)
            error[node] = np.inf  # no warning takes its place
            continue
        off = np.abs(q.delay - steps * dt)
        k = int(np.argmax(off))
        if off[k] > WHOLE * dt and off[k] > error.get(node, 0.0):
            error[node] = float(off[k])
            what = (
                f"a delay of {1e3 * q.delay[k]:.4g} ms is {steps[k]} steps of {1e3 * dt:.3g} ms in ideal runs, off by "
                f"{1e3 * off[k]:.3g} ms (the nearest whole number, a half upwards)."
            )
            hint = "Read the network with a dt that divides its delays; circuits know no steps."
            used, limit = float(q.delay[k]), float(steps[k] * dt)
            worst[node] = Finding("warning", "delay-steps", what, node, int(q.post[k]), used, limit, "s", hint)
    found = list(worst.values())
    raise_if_errors(strictly(found) if strict else found, UnsupportedGraphError)
    return found
