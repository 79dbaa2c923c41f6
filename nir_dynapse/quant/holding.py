"""How many chips would hold a network that does not fit: found by finding places and tags on larger and larger stacks."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from nir_dynapse.chip.device import Device
from nir_dynapse.errors import CapacityError

__all__ = ["MORE_CHIPS", "SEARCH", "Held", "chips_that_hold", "with_chips"]

MORE_CHIPS = ("neurons", "tags", "fan-out", "bias-groups", "bad-rows")
"""Codes of what more chips may help against. Against too many synapses of one neuron they never do."""
SEARCH = 0.2
"""Seconds for finding places on each stack: whether there are any is known long before the best ones."""
PATIENCE = 10.0
"""Seconds after which no larger stack is begun."""


class Held(NamedTuple):
    """`chips` that hold it (None: no stack that was tried), the largest stack `tried`, and what fails there (`why`)."""

    chips: int | None
    tried: int
    why: CapacityError | None = None


def chips_that_hold(holds: Callable[[Device], None], device: Device) -> Held:
    """The fewest chips, more than `device` has, for which `holds(device)` raises no CapacityError."""
    begun, held = time.monotonic(), Held(None, device.n_chips)
    for n in range(device.n_chips + 1, device.max_stack + 1):
        if held.why is not None and time.monotonic() - begun > PATIENCE:
            break
        try:
            holds(device.stack(n))
        except CapacityError as error:
            held = Held(None, n, error)
        else:
            return Held(n, n)
    return held


def with_chips(error: CapacityError, holds: Callable[[Device], None], device: Device) -> CapacityError:
    """`error` with the number of chips that would hold the network, or that no stack would, and what fails there."""
    helped = [f for f in error.findings if f.severity == "error" and f.code in MORE_CHIPS]
    if not helped or device.n_chips == device.max_stack:
        return error
    first, held = helped[0], chips_that_hold(holds, device)
    if held.why is not None and held.why.findings[0].code == "neurons":
        return error  # it says already how many it takes, which is more than a stack has
    if held.chips is not None:
        rows = any(f.code == "fan-in" for f in error.findings)
        only = f"with {device.cam_rows} synapses a neuron " if rows else ""
        more = f"{only}{held.chips} chips would hold it: device=DYNAPSE2.stack({held.chips}) (--chips {held.chips})."
    else:
        more = f"not even {held.tried} chips would hold it{'' if held.why is None else f': {held.why.findings[0]}'}"
    hint = "" if first.code == "neurons" else f" {first.hint}"  # whose hint is fewer chips than may hold it
    said = replace(first, hint=f"{more[:1].upper()}{more[1:]}{hint}".strip())
    return CapacityError([said if f is first else f for f in error.findings])
