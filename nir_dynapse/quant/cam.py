"""CAM rows: rounded weights written into the rows of each neuron, around the bad ones of a chip profile."""

from __future__ import annotations

import numpy as np

from nir_dynapse.chip.device import Device
from nir_dynapse.circuit.closed_form import row_numbers
from nir_dynapse.circuit.params import Topology
from nir_dynapse.errors import Finding
from nir_dynapse.layout.rows import UNUSED_CAM
from nir_dynapse.quant.rounding import Rounded, Rounding, round_weights
from nir_dynapse.quant.slots import BadPlace

__all__ = ["round_to_rows", "write_given"]


def round_to_rows(
    problem: Rounding, places: np.ndarray, tags: np.ndarray, device: Device
) -> tuple[Rounded, np.ndarray]:
    """Rounded weights and CAM rows (N, 64) of neurons at `places` (N, 3), synapses with `tags` (S,).

    With fewer further rows where single bad rows leave no place for them; CapacityError where they leave too few.
    """
    t = problem.topology
    if device.profiles:  # before anything is rounded: is there a row for every tag?
        lost = np.bincount(t.post[_rows(t.post, tags, places, device) < 0], minlength=t.n_neurons)
        if lost.any():
            raise _no_row(t, np.flatnonzero(lost), places, device)
    while True:
        rounded = round_weights(problem, device)
        neuron, tag = t.post[rounded.which], tags[rounded.which]
        row = _rows(neuron, tag, places, device)
        lost = np.bincount(neuron[row < 0], minlength=t.n_neurons)
        if not lost.any():
            break
        further = np.bincount(neuron, minlength=t.n_neurons) - np.bincount(t.post, minlength=t.n_neurons)
        if (lost > further).any():
            raise _no_row(t, np.flatnonzero(lost > further), places, device)
        problem = problem._replace(spare=np.where(lost > 0, further - lost, problem.spare))
    return rounded, _written(t, rounded, row, tag, device)


def write_given(t: Topology, rounded: Rounded, places: np.ndarray, tags: np.ndarray, device: Device) -> np.ndarray:
    """CAM rows (N, 64) of `rounded` with a row for each synapse of `t`, in the order of `t.row` within each neuron.

    On chips with bad rows in that order among parallel ones. CapacityError where bad rows leave too few.
    """
    order = np.lexsort((t.row, t.post))
    row = np.empty(t.n_synapses, int)
    row[order] = _rows(t.post[order], tags[order], places, device)
    if (row < 0).any():
        raise _no_row(t, np.unique(t.post[row < 0]), places, device)
    if device.profiles:  # rows with one tag may change places
        by_asked, by_row = (np.lexsort((key, tags, t.post)) for key in (t.row, row))
        row[by_asked] = row[by_row]
    return _written(t, rounded, row, tags, device)


def _written(t: Topology, rounded: Rounded, row: np.ndarray, tag: np.ndarray, device: Device) -> np.ndarray:
    neuron = t.post[rounded.which]
    cam = np.full((t.n_neurons, device.cam_rows), UNUSED_CAM)
    cam["tag"][neuron, row] = tag
    cam["dendrite"][neuron, row] = rounded.dendrite
    cam["mask"][neuron, row] = rounded.mask
    if t.delay is not None:
        cam["flags"][neuron, row] = t.delay[rounded.which] << 1
    return cam


def _rows(neuron: np.ndarray, tag: np.ndarray, places: np.ndarray, device: Device) -> np.ndarray:
    """CAM row of each entry: the first ones, or those that work for its tag where the chip has a profile (-1: none)."""
    row = row_numbers(neuron)
    if not device.profiles:
        return row
    order = np.argsort(neuron, kind="stable")
    start = np.searchsorted(neuron[order], np.arange(len(places) + 1))
    for n in np.flatnonzero(np.diff(start)).tolist():
        profile = device.profile(int(places[n, 0]))
        if profile is not None:
            mine = order[start[n] : start[n + 1]]
            row[mine] = profile.matching(int(places[n, 1]), int(places[n, 2]), tag[mine])
    return row


def _no_row(t: Topology, neurons: np.ndarray, places: np.ndarray, device: Device) -> BadPlace:
    neuron = int(neurons[0])
    chip, core, slot = places[neuron].tolist()
    profile = device.profile(chip)
    what = (
        f"on chip {chip}, core {core}, neuron {slot} the CAM rows that profile '{profile.name if profile else ''}' leaves "
        f"cannot hold the {int((t.post == neuron).sum())} tags that it listens to, one each."
    )
    hint = "Choose another seed, use more chips, or list the whole CAM row as bad so that the neuron goes elsewhere."
    finding = Finding("error", "bad-rows", what, **t.where(neuron), hint=hint)
    return BadPlace(finding, *(tuple(place) for place in places[neurons].tolist()))
