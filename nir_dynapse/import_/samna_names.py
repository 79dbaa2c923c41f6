"""Names for the bits of a configuration: from the Layout that was written, given or found beside the file."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from nir_dynapse.chip.device import PARAMETERS
from nir_dynapse.errors import ConfigurationError, Finding
from nir_dynapse.import_.samna_findings import latch_findings
from nir_dynapse.import_.samna_rows import CORES, NEURONS, SHAPE_ERRORS, Bits, where
from nir_dynapse.layout.layout import Layout
from nir_dynapse.layout.rows import has_rows

__all__ = ["beside", "files_beside", "named"]

SIDE_FILE = "layout.json"


def named(bits: Bits, names: Any) -> Layout:
    """The Layout that `names` describe, with the bits of the configuration.

    Latches that no Layout holds become findings: the chip then does something else than the Layout says.
    """
    skeleton, silent = _skeleton(names)
    if skeleton.n_chips > bits.n_chips:
        raise ConfigurationError(
            f"the names are for {skeleton.n_chips} chips, the configuration has {bits.n_chips}. "
            "Give the names that belong to this configuration."
        )
    place = skeleton.core_index * NEURONS + skeleton.slot
    exists = bits.exists()
    unnamed, expected = exists.copy(), np.ones(skeleton.n_neurons, bool)
    unnamed[place], expected[silent] = False, False
    lost = place[expected & ~exists[place]]
    for which, what in ((np.flatnonzero(unnamed), "in the configuration but not in"), (lost, "without rows but in")):
        if len(which):
            raise ConfigurationError(
                f"{where(_place(int(which[0])))}: this neuron is {what} the names ({len(which)} such neurons). "
                "Give the names that belong to this configuration, or none."
            )
    rows = (skeleton.chip, skeleton.core, skeleton.slot)
    shown = bits.membranes[: skeleton.n_chips * CORES]
    layout = replace(
        skeleton,
        latches=bits.latches[rows],
        cam=bits.cam[rows],
        sram=bits.sram[rows],
        codes=bits.codes_of(skeleton.used_cores),
        membranes=np.where(skeleton.used_cores, shown, -1),
    )
    return replace(layout, findings=(*layout.findings, *latch_findings(layout, bits.others[rows])))


def beside(path: str | os.PathLike[str], bits: Bits) -> tuple[Layout | None, list[Finding]]:
    """The Layout beside the file of a configuration (`NAME.layout.json`, then `layout.json`) that belongs to it.

    It does where its neurons are those of the configuration and send and listen to the same tags; biases and weights may
    have been changed since. Files that do not belong to it become a warning.
    """
    others = []
    for file in files_beside(path):
        try:
            layout = Layout.load(file)
            if _same_wiring(layout, named(bits, layout)):
                return layout, []
            reason = "its neurons send or listen to other tags"
        except ConfigurationError as error:
            reason = str(error).split(". ")[0]
        others.append(f"{file.name} ({reason})")
    if not others:
        return None, []
    what = f"{' and '.join(others)} beside the configuration does not belong to it and was not used for names."
    hint = "Give the Layout that was written as names, or names=False."
    return None, [Finding("warning", "names-unfit", what, hint=hint)]


def files_beside(path: str | os.PathLike[str]) -> tuple[Path, ...]:
    """The files beside the configuration `path` that may hold its names, as far as they are there."""
    config = Path(path)
    stem = config.name.removesuffix(".gz").removesuffix(".json")
    files = dict.fromkeys((config.with_name(f"{stem}.{SIDE_FILE}"), config.with_name(SIDE_FILE)))
    return tuple(file for file in files if file.is_file() and file != config)


def _same_wiring(a: Layout, b: Layout) -> bool:
    """Whether neurons at the same places have the same addresses and destinations."""
    same = [np.array_equal(a.cam[name], b.cam[name]) for name in ("tag", "dendrite")]
    return all(same) and np.array_equal(a.sram, b.sram)


def _skeleton(names: Any) -> tuple[Layout, list[int]]:
    """A Layout with the right names, places and used cores, and the neurons that have no rows."""
    if isinstance(names, (str, os.PathLike)):
        names = Layout.load(names)
    elif isinstance(names, dict) and "used_cores" not in names:
        names = Layout.from_dict(names)
    if isinstance(names, Layout):
        return names, np.flatnonzero(~has_rows(names.cam, names.sram)).tolist()
    try:
        places = [[*place, 0] for place in names["neurons"]]
        codes = dict.fromkeys(PARAMETERS, (0, 0))  # those of the configuration come later
        cores = {str(core): codes for core in names["used_cores"]}
        layout = Layout.from_dict({**names, "neurons": places, "cam": [], "sram": [], "cores": cores})
        silent = [range(layout.n_neurons)[i] for i in names["silent"]]
    except SHAPE_ERRORS as error:
        raise ConfigurationError(
            f"the names are damaged ({type(error).__name__}: {error}). Give a Layout, or the path of a layout.json."
        ) from error
    return layout, silent


def _place(flat: int) -> tuple[int, int, int]:
    return flat // (CORES * NEURONS), flat // NEURONS % CORES, flat % NEURONS
