"""What a configuration holds that a Layout or NIR cannot say, that nobody can hear, or that can only be guessed.

Each function makes findings of (Layout, …) with counts and one place as an example.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nir_dynapse.chip import biasgen
from nir_dynapse.chip.device import COLUMN, DENDRITES, DYNAPSE2, GABA
from nir_dynapse.circuit.closed_form import INHIBITION_STRETCH, REFRACTORY
from nir_dynapse.errors import Finding, Severity, sort_findings
from nir_dynapse.import_.samna_rows import OTHER_LATCHES, Bits, where
from nir_dynapse.layout.layout import Layout
from nir_dynapse.layout.rows import UNUSED_CAM, leaves_west

__all__ = ["all_findings", "latch_findings"]

MEANING: dict[str, str] = {
    "latch_soif_kill": "are killed and never spike on the chip; they are simulated as if they were not",
    "latch_coho_ca_mem": "show another signal to the monitor and to homeostasis; this is left out",
    "latch_ho_enable": "have homeostasis; gains are simulated as fixed",
    "latch_ho_active": "have homeostasis running; gains are simulated as fixed",
    "latch_ho_so_de": "have the target of homeostasis chosen; gains are simulated as fixed",
    "latch_deam_ampa": "have an option of the AMPA dendrite; it is simulated without",
    "latch_de_conductance": "have conductance-based dendrites; they are simulated as current-based",
    "latch_deam_alpha": "have alpha-shaped AMPA currents; they are simulated as exponentials",
    "latch_denm_alpha": "have alpha-shaped NMDA currents; they are simulated as exponentials",
    "latch_de_mux": "have their dendrites switched by the multiplexer; they are simulated without",
}
"""What neurons with each of `OTHER_LATCHES` do, and what becomes of it."""
LINEAR = 0.1
"""Largest membrane gain, as a fraction of the threshold, at which a neuron is called linear."""
ALIKE = 0.05
"""Relative difference from which on a refractory time counts as another one."""
NAMED = 6
"""Most neurons that one finding names."""


def all_findings(layout: Layout, bits: Bits) -> tuple[Finding, ...]:
    """All findings of a Layout that was read without names, warnings first."""
    others = bits.others[layout.chip, layout.core, layout.slot]
    found = (
        latch_findings(layout, others),
        _rows(layout),
        _seen_alike(layout),
        _inputs(layout),
        _analog(layout),
        _biases(bits),
    )
    return sort_findings(f for part in found for f in part)


def _example(layout: Layout, neuron: int) -> str:
    return f"e.g. {where((int(layout.chip[neuron]), int(layout.core[neuron]), int(layout.slot[neuron])))}"


def _finding(severity: Severity, code: str, layout: Layout, which: Sequence[int] | np.ndarray, what: str, hint: str):
    """A finding about the neurons `which` (one entry each, or one per row of theirs)."""
    return Finding(severity, code, f"{len(which)} {what} ({_example(layout, int(which[0]))}).", hint=hint)


def latch_findings(layout: Layout, others: np.ndarray) -> list[Finding]:
    """Latches that a Layout does not hold, `others` (N,) in the order of `OTHER_LATCHES`."""
    found = []
    for bit, name in enumerate(OTHER_LATCHES):
        which = np.flatnonzero(others >> bit & 1)
        if len(which):
            severity: Severity = "info" if name == "latch_coho_ca_mem" else "warning"
            hint = f"Clear {name}, or expect the chip to do something else than the simulation."
            found.append(_finding(severity, "other-latch", layout, which, f"neurons {MEANING[name]}", hint))
    return found


def _rows(layout: Layout) -> list[Finding]:
    """Rows with short-term plasticity, rows without effect, destinations where nobody is."""
    cam, sram, chip = layout.cam, layout.sram, layout.chip.astype(int)
    found = []
    there = chip[:, None] + sram["x_hop"]
    nowhere = (sram["cores"] > 0) & (there >= 0) & ((there >= layout.n_chips) | (sram["y_hop"] != 0))
    rows: tuple[tuple[Severity, str, np.ndarray, str, str], ...] = (
        (
            "warning",
            "stp",
            (cam["dendrite"] >= 0) & (cam["flags"] & 1 == 1),
            "CAM rows have short-term plasticity; they are simulated without",
            "Clear the flag, or expect other amplitudes than on the chip.",
        ),
        (
            "warning",
            "nowhere",
            nowhere,
            f"SRAM rows send events out of the stack of {layout.n_chips} chip(s) to the east, north or south, where nobody "
            "is",
            "Correct their hops, or give the configuration of the whole stack.",
        ),
        (
            "info",
            "inert-rows",
            (cam["dendrite"] < 0) & (cam != UNUSED_CAM),
            "CAM rows have a tag, a weight or a flag but no dendrite, and do nothing",
            "Give them a dendrite if they are meant to do something.",
        ),
    )
    for severity, code, mask, what, hint in rows:
        which = np.nonzero(mask)[0]
        if len(which):
            found.append(_finding(severity, code, layout, which, what, hint))
    return found


def _seen_alike(layout: Layout) -> list[Finding]:
    """Monitored neurons whose events look the same to the host."""
    west, x_hop = leaves_west(layout.sram, layout.chip[:, None])
    neuron, row = np.nonzero(west)
    sent = layout.sram[neuron, row]
    seen = np.stack([x_hop[neuron, row], sent["y_hop"].astype(int), sent["tag"].astype(int), neuron], 1)
    seen = np.unique(seen, axis=0)  # a neuron may send the same twice
    group = np.unique(seen[:, :3], axis=0, return_inverse=True)[1].reshape(-1)
    alike = seen[np.bincount(group)[group] > 1] if len(seen) else seen
    if not len(alike):
        return []
    names = [f"{layout.place_of(n)} (tag {tag})" for _, _, tag, n in alike[:NAMED].tolist()]
    more = f" and {len(alike) - NAMED} more" if len(alike) > NAMED else ""
    return [
        _finding(
            "warning",
            "seen-alike",
            layout,
            alike[:, 3],
            f"monitored neurons share what the host sees of their events: {', '.join(names)}{more}; their spikes cannot be "
            "told apart",
            "Give each of them a tag of its own in its monitoring row.",
        )
    ]


def _inputs(layout: Layout) -> list[Finding]:
    """Input channels whose tag neurons also send to other cores of the same chip."""
    neuron, row = np.nonzero(layout.sram["cores"])
    sent = layout.sram[neuron, row]
    chip = layout.chip[neuron].astype(int) + sent["x_hop"]
    inside = (chip >= 0) & (sent["y_hop"] == 0)
    rows = layout.input_rows
    asked = rows["chip"].astype(int) * 2048 + rows["tag"]
    both = np.isin(asked, chip[inside] * 2048 + sent["tag"][inside])
    if not both.any():
        return []
    first = rows[both][0]
    listens = (layout.chip == first["chip"]) & (first["cores"] >> layout.core & 1 == 1)
    listens &= ((layout.cam["dendrite"] >= 0) & (layout.cam["tag"] == first["tag"])).any(axis=1)
    what = (
        f"{int(both.sum())} input channels have a tag that neurons of the chips send to other cores of the same chip "
        f"(tag {first['tag']}, {_example(layout, int(np.argmax(listens)))} listens); whether the host is meant to send it "
        "cannot be told."
    )
    return [Finding("info", "ambiguous-inputs", what, hint="Give names, or tags of their own to inputs.")]


def _analog(layout: Layout) -> list[Finding]:
    """What of the analog circuit a network of NIR's neurons does not have; simulations of the Layout do."""
    found = []
    gain, threshold, pause = (
        biasgen.current(name, *layout.codes[layout.core_index, COLUMN[name]].T)
        for name in ("i_gain_mem", "i_spkthr", "i_ref")
    )
    strong = np.flatnonzero(gain > LINEAR * threshold)
    if len(strong):
        worst = float((gain / threshold).max())
        what = f"neurons have a membrane gain of up to {worst:.3g} of their threshold; NIR's LIF is a description only"
        what += f" below {LINEAR:g}"
        hint = "Simulate the Layout, which follows the circuit, instead of the NIR graph."
        found.append(_finding("warning", "not-linear", layout, strong, what, hint))
    tau = _synaptic_taus(layout)
    spread = np.nanmax(tau, axis=0, initial=0.0) / np.nanmin(tau, axis=0, initial=np.inf)
    several = np.flatnonzero(spread > 1 + ALIKE)
    if len(several):
        low, high = np.nanmin(tau[:, several]), np.nanmax(tau[:, several])
        what = f"neurons have dendrites of different time constants ({low:.3g} to {high:.3g} s); in NIR each has one,"
        what += " that of the dendrite which carries the most charge"
        hint = "Simulate the Layout, which has all of them, instead of the NIR graph."
        found.append(_finding("warning", "several-taus", layout, several, what, hint))
    time = DYNAPSE2.circuit.width("i_ref", pause)
    other = np.flatnonzero(np.abs(time / (REFRACTORY * layout.dt) - 1) > ALIKE)
    if len(other):
        low, high = time[other].min(), time[other].max()
        what = f"neurons have a refractory time of {low:.3g} to {high:.3g} s; NIR has none, and compile gives"
        what += f" {REFRACTORY * layout.dt:.3g} s at a step of {layout.dt:g} s"
        hint = "Give another dt, or simulate the Layout, which keeps it."
        found.append(_finding("info", "refractory", layout, other, what, hint))
    return found


def _synaptic_taus(layout: Layout) -> np.ndarray:
    """Time constants in s of the network's synapses that each dendrite stands for (4, N); NaN where no row uses it."""
    rows = layout.cam["dendrite"][None] == np.arange(len(DENDRITES))[:, None, None]
    used = (rows & (layout.cam["mask"] > 0)).any(axis=2)
    stretch = np.where(np.arange(len(DENDRITES)) == GABA, INHIBITION_STRETCH, 1.0)
    codes = layout.codes[layout.core_index]
    names = [f"i_tau_{name}" for name in DENDRITES]
    tau = [DYNAPSE2.circuit.tau(name, biasgen.current(name, *codes[:, COLUMN[name]].T)) for name in names]
    return np.where(used, np.stack(tau) / stretch[:, None], np.nan)


def _biases(bits: Bits) -> list[Finding]:
    """Biases that no Layout holds."""
    if not bits.biases:
        return []
    what = (
        f"{len(bits.biases)} biases of each core ({', '.join(sorted(bits.biases)[:3])}, …) have no counterpart here; they "
        "are not read, and to_samna leaves them as they are in the object."
    )
    return [Finding("info", "other-biases", what)]
