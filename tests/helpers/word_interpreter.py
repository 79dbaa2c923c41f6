"""Who hears whom on a stack of chips, from its CAM and SRAM words alone. Shares no code with nir_dynapse.

A CAM word holds tag 0–10, dendrite one-hot 11–14, mask 15–18 and flags 19–21; an SRAM word tag 0–10, core mask 11–14 and
hops 15–18 and 19–22 in two's complement. Facts: shared/facts/samna_dynapse2_contract.md.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

Place = tuple[int, int, int]
"""Chip, core, slot."""


def synapses(
    places: Sequence[Place],
    cam: Sequence[Sequence[int]],
    sram: Sequence[Sequence[int]],
    inputs: Iterable[tuple[int, int, int, int]],
    chips: int,
) -> list[tuple[str, int, int, int]]:
    """(kind, source, target, dendrite) of every CAM row that an event meets: kind "neuron" or "channel".

    `inputs` are (channel, chip, core mask, tag). Targets and sources are numbers in `places`.
    """
    listeners: dict[tuple[int, int, int], list[tuple[int, int]]] = defaultdict(list)
    for target, ((chip, core, _), words) in enumerate(zip(places, cam, strict=True)):
        for word in words:
            on = [k for k in range(4) if word >> 11 + k & 1]
            if on:
                (dendrite,) = on
                listeners[chip, core, word & 2047].append((target, dendrite))
    sent = [("channel", channel, chip, cores, tag) for channel, chip, cores, tag in inputs]
    for source, ((chip, _, _), words) in enumerate(zip(places, sram, strict=True)):
        for word in words:
            x, y = (hop - 16 if hop > 7 else hop for hop in (word >> 15 & 15, word >> 19 & 15))
            if word >> 11 & 15 and y == 0 and 0 <= chip + x < chips:
                sent.append(("neuron", source, chip + x, word >> 11 & 15, word & 2047))
    return sorted(
        (kind, source, target, dendrite)
        for kind, source, chip, cores, tag in sent
        for core in range(4)
        if cores >> core & 1
        for target, dendrite in listeners[chip, core, tag]
    )


def rows_in_use(words: Iterable[int]) -> int:
    """CAM rows that listen."""
    return sum(1 for word in words if word >> 11 & 15)
