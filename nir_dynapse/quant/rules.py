"""Rules that every Layout keeps; each is a function (Layout, Device) → Findings, all run, all violations reported."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nir_dynapse.chip.device import AMPA, NMDA, Device
from nir_dynapse.errors import Finding, sort_findings
from nir_dynapse.layout.decoding import matches
from nir_dynapse.layout.layout import Layout
from nir_dynapse.layout.rows import monitor_rows
from nir_dynapse.quant.mapping import Wired

__all__ = ["RULES", "check_layout", "check_wiring"]

Rule = Callable[[Layout, Device], list[Finding]]


def _error(
    code: str, what: str, used: float, limit: float, node: str | None = None, index: int | None = None
) -> Finding:
    return Finding(
        "error", code, what, node=node, index=index, used=used, limit=limit, hint="This is a bug: report it."
    )


def places(layout: Layout, device: Device) -> list[Finding]:
    """Every neuron has a place of its own on the device."""
    place = np.stack([layout.chip, layout.core, layout.slot], 1).astype(int)
    found = []
    if len(np.unique(place, axis=0)) != len(place):
        found.append(_error("places", "two neurons share one place.", len(place), len(np.unique(place, axis=0))))
    limits = (device.n_chips, device.cores_per_chip, device.neurons_per_core)
    for column, (name, limit) in enumerate(zip(("chip", "core", "slot"), limits, strict=True)):
        if len(place) and place[:, column].max() >= limit:
            worst = int(np.argmax(place[:, column]))
            node, index, *_ = layout.names[worst]
            found.append(
                _error("places", f"{name} {place[worst, column]}.", place[worst, column], limit - 1, node, index)
            )
    return found


def monitors(layout: Layout, device: Device) -> list[Finding]:
    """Every output neuron is monitored, and no two monitored neurons of a chip share a tag."""
    rows = int(monitor_rows(layout.sram, layout.chip).sum())
    found = []
    if rows != len(layout.output_map):
        found.append(_error("monitors", "two monitored neurons of a chip share a tag.", rows, len(layout.output_map)))
    sent = monitor_rows(layout.sram, layout.chip).any(1)
    for source in dict.fromkeys((*(str(port.source) for port in layout.outputs), *layout.readout.sources())):
        missing = [name for name, told in zip(layout.names, sent, strict=True) if name[0] == source and not told]
        if missing:
            found.append(_error("monitors", "this output neuron is not monitored.", 0, 1, *missing[0][:2]))
    return found


def sram_rows(layout: Layout, device: Device) -> list[Finding]:
    """Hops, core masks and tags are within the event word."""
    used = layout.sram["cores"] > 0
    hops = np.abs(layout.sram["x_hop"].astype(int))[used]
    found = []
    if len(hops) and hops.max() > device.max_hop:
        found.append(_error("hops", "an SRAM row asks for too many hops.", int(hops.max()), device.max_hop))
    if layout.sram["tag"].max(initial=0) >= device.n_tags or layout.cam["tag"].max(initial=0) >= device.n_tags:
        found.append(_error("tags", "a tag has more than 11 bits.", int(layout.sram["tag"].max()), device.n_tags - 1))
    return found


def bad_places(layout: Layout, device: Device) -> list[Finding]:
    """Nothing uses a neuron, a CAM row or a tag that the profile of its chip calls bad."""
    found = []
    for chip in range(layout.n_chips):
        if (profile := device.profile(chip)) is None:
            continue
        here = np.flatnonzero(layout.chip == chip)
        neuron, row = np.nonzero(layout.cam["dendrite"][here] >= 0)
        neuron = here[neuron]
        hits = profile.hits(layout.core[neuron], layout.slot[neuron], row, layout.cam["tag"][neuron, row])
        hits |= ~profile.tags[layout.core[neuron], layout.cam["tag"][neuron, row]]
        bad = int(hits.sum()) + int((~profile.neurons[layout.core[here], layout.slot[here]]).sum())
        if bad:
            found.append(_error("bad-rows", f"chip {chip} uses neurons, CAM rows or tags that do not work.", bad, 0))
    return found


def bias_groups(layout: Layout, device: Device) -> list[Finding]:
    """Every core that holds a neuron has its biases set, to codes that exist."""
    found = []
    if not layout.used_cores[layout.core_index].all():
        found.append(_error("biases", "a core with neurons has no biases.", 0, 1))
    if layout.codes[..., 0].max(initial=0) >= device.coarse_codes:
        found.append(
            _error("biases", "coarse code too large.", int(layout.codes[..., 0].max()), device.coarse_codes - 1)
        )
    return found


RULES: tuple[Rule, ...] = (places, monitors, sram_rows, bias_groups, bad_places)


def check_layout(layout: Layout, device: Device) -> tuple[Finding, ...]:
    """All violations of all rules, worst first; empty for a Layout that the chip can hold."""
    return sort_findings(finding for rule in RULES for finding in rule(layout, device))


def check_wiring(layout: Layout, asked: Wired) -> tuple[Finding, ...]:
    """The synapses that the bits make (tags matched core by core) are exactly those asked for: dendrite and delay, too.

    Where masks were asked for, every row counts, with its mask.
    """
    source, neuron, row = matches(layout)
    cam = layout.cam[neuron, row]
    mask = None if asked.mask is None else cam["mask"]
    got = _keys(source, neuron, cam["dendrite"], cam["flags"] >> 1, mask, layout.n_neurons, asked.second_range)
    want = _keys(
        asked.source, asked.neuron, asked.dendrite, asked.delay, asked.mask, layout.n_neurons, asked.second_range
    )
    if np.array_equal(got, want):
        return ()
    keys, which = np.unique(np.r_[got, want], return_inverse=True)
    more = np.bincount(which[: len(got)], minlength=len(keys)) - np.bincount(which[len(got) :], minlength=len(keys))
    lost, added = int(-more[more < 0].sum()), int(more[more > 0].sum())
    what = f"the bits lose {lost} of {len(want)} synapses and make {added} that nobody asked for."
    return (_error("wiring", what, len(got), len(want)),)


def _keys(
    source: np.ndarray,
    neuron: np.ndarray,
    dendrite: np.ndarray,
    delay: np.ndarray,
    mask: np.ndarray | None,
    n: int,
    merge: bool,
) -> np.ndarray:
    """One number for each connection (parallel rows are one) or, with masks, for each row, sorted."""
    kind = np.where(dendrite == NMDA, AMPA, dendrite) if merge else dendrite
    key = ((source.astype(np.int64) * n + neuron) * 4 + kind) * 4 + delay
    return np.unique(key) if mask is None else np.sort(key * 16 + mask)
