"""`Rewriter`: other weights and biases in the rows of a Layout that is on a board already.

Places, tags, routing and the number of CAM rows stay; what is written anew are the bias codes of the cores and the masks
and dendrites of the rows. Training in the loop does this after every step, so that nothing is placed again.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from nir_dynapse.chip.biasgen import nearest_codes
from nir_dynapse.chip.device import BASE_WEIGHTS, COLUMN, DELAYS, DENDRITES, DYNAPSE2, PARAMETERS, Device
from nir_dynapse.circuit.params import Params, Topology
from nir_dynapse.errors import ConfigurationError, Finding
from nir_dynapse.layout.decoding import core_scales, matches
from nir_dynapse.layout.layout import Layout

__all__ = ["OF_BITS", "Rewriter"]

EXACT, SATURATED = 1e-6, 0.1
"""Relative errors of a current up to which its code is taken as exact, and above which it is a warning."""
OF_BITS = ("bias-rounding", "bias-saturation", "weight-precision", "weight-rounding", "weight-vanished")
OF_DELAYS = ("delays", "delay-range", "delay-spread", "delays-shared")
"""Codes of findings on how weights and biases were rounded: they go where the bits are written anew."""
ANEW = "Compile anew (compile(net, params=params))."


class Rows(NamedTuple):
    """CAM rows and synapses that belong together (S,): synapse `order[k]` is in `row[k]` of `neuron[k]`."""

    neuron: np.ndarray
    row: np.ndarray
    order: np.ndarray


class Rewriter:
    """Makes Layouts like `layout` with other bits: places, tags, rows and routing stay as they are.

    The synapses of `topology` are matched once to the CAM rows, by source and neuron, and among parallel ones in the order
    of `row`. ConfigurationError where they, their delay flags, or the latches are not those of the layout. `device` says
    what was measured of the chips.
    """

    def __init__(self, layout: Layout, topology: Topology, device: Device = DYNAPSE2) -> None:
        self._layout, self._topology, self._device = layout, topology, device
        self._rows = _matched(layout, topology)
        # What `compile` found of weights and biases that are no longer there.
        self._findings = tuple(f for f in layout.findings if f.code not in (*OF_BITS, *OF_DELAYS))

    def layout(self, params: Params) -> Layout:
        """The layout with the biases, base currents, masks and dendrites of `params`, currents as the nearest codes.

        A finding says where a current is not on the grid; `weight_errors` and `delays` are empty. ConfigurationError where
        the synapses are not those of the layout, the neurons of a core have different currents, or sources that share a
        tag different rows; ParameterRangeError for impossible currents and masks.
        """
        params = params.numpy().check()
        t = params.topology
        if t.mask is None:
            raise ConfigurationError(
                "Rewriter: the synapses have weights, needed are masks and base currents. Quantise them first, by "
                "compile or by the training."
            )
        rows = self._rows if _wired_alike(t, self._topology) else _matched(self._layout, t)
        cores, codes, found = _codes(self._layout, params, self._device)
        written = self._layout.codes.copy()
        written[cores] = codes
        cam = _cam(self._layout, rows, t.dendrite[rows.order], t.mask[rows.order])
        return replace(
            self._layout, cam=cam, codes=written, findings=(*found, *self._findings), weight_errors={}, delays={}
        )


def _wired_alike(t: Topology, other: Topology) -> bool:
    """Whether two topologies are the same but for dendrites, masks and bias groups."""
    names = ("populations", "inputs", "tonic_period")
    arrays = ("pre", "post", "row", "delay", "latches")
    return all(getattr(t, name) == getattr(other, name) for name in names) and all(
        np.array_equal(getattr(t, name), getattr(other, name)) for name in arrays
    )


def _check_neurons(layout: Layout, t: Topology) -> None:
    """The populations, inputs, latches and tonic events are those of the layout (ConfigurationError)."""
    for what, got, have in (
        ("the neurons", t.populations, tuple(layout.sizes.items())),
        ("the input channels", [(p.name, p.size) for p in t.inputs], [(p.name, p.size) for p in layout.inputs]),
        ("the period of the tonic events in s", t.tonic_period, layout.tonic_period),
    ):
        if got != have:
            raise ConfigurationError(f"Rewriter: {what} are {got}, the layout has {have}. {ANEW}")
    if (other := t.latches != layout.latches).any():
        n = int(np.argmax(other))
        raise ConfigurationError(
            f"Rewriter: {layout.place_of(n)}: the latches are {t.latches[n]}, the layout has {layout.latches[n]}. "
            f"{ANEW}"
        )


def _matched(layout: Layout, t: Topology) -> Rows:
    """The CAM rows that the synapses of `t` are in (ConfigurationError if they are not those of the layout)."""
    _check_neurons(layout, t)
    source, neuron, row = matches(layout)
    have, want = np.lexsort((row, neuron, source)), np.lexsort((t.row, t.post, t.pre))
    key = source[have].astype(np.int64) * layout.n_neurons + neuron[have]
    asked = t.pre[want].astype(np.int64) * layout.n_neurons + t.post[want]
    if not np.array_equal(key, asked):
        raise _other_synapses(layout, key, asked)
    neuron, row = neuron[have], row[have]
    delay = np.zeros(t.n_synapses, int) if t.delay is None else t.delay[want]
    now = layout.cam["flags"][neuron, row] >> 1
    if (other := now != delay).any():
        k = int(np.argmax(other))
        raise ConfigurationError(
            f"Rewriter: {_place(layout, neuron[k], row[k])}: the delay flags are {delay[k]} (bits {', '.join(DELAYS)}), "
            f"the layout has {now[k]}. {ANEW}"
        )
    return Rows(neuron, row, want)


def _cam(layout: Layout, rows: Rows, dendrite: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The CAM of `layout` with `dendrite` and `mask` (S,) in `rows` (ConfigurationError where sources share one)."""
    cam, places = layout.cam.copy(), (rows.neuron, rows.row)
    cam["dendrite"][places], cam["mask"][places] = dendrite, mask
    now = cam[places]
    # Several sources may share a tag, and with it the rows.
    if (other := (now["dendrite"] != dendrite) | (now["mask"] != mask)).any():
        k = int(np.argmax(other))
        raise ConfigurationError(
            f"Rewriter: {_place(layout, rows.neuron[k], rows.row[k])}: several sources share this row, and ask for "
            f"{DENDRITES[dendrite[k]]} with mask {mask[k]} and {DENDRITES[now['dendrite'][k]]} with mask "
            f"{now['mask'][k]}. Give them equal ones, or compile with share_tags=False."
        )
    return cam


def _place(layout: Layout, neuron: int, row: int) -> str:
    return f"{layout.place_of(neuron)}, CAM row {row}"


def _other_synapses(layout: Layout, key: np.ndarray, asked: np.ndarray) -> ConfigurationError:
    """How many synapses differ, and the first of them."""
    both, which = np.unique(np.r_[key, asked], return_inverse=True)
    more = np.bincount(which[: len(key)], minlength=len(both)) - np.bincount(which[len(key) :], minlength=len(both))
    source, neuron = divmod(int(both[np.flatnonzero(more)[0]]), layout.n_neurons)
    sources = (*layout.channel_names, ("tonic", 0), *layout.names)
    start, target = sources[source], layout.names[neuron]
    return ConfigurationError(
        f"Rewriter: {len(asked)} synapses do not fit the {len(key)} rows of the layout: {int(more[more > 0].sum())} rows "
        f"have no synapse and {int(-more[more < 0].sum())} synapses no row, the first from {start[0]!r} ({start[1]}) to "
        f"{target[0]!r} ({target[1]}). Rows may get mask 0 but not go; otherwise {ANEW[0].lower()}{ANEW[1:]}"
    )


def _codes(layout: Layout, params: Params, device: Device) -> tuple[np.ndarray, np.ndarray, list[Finding]]:
    """The cores with neurons, their codes (cores, parameters, 2), and findings on currents that are not exact."""
    t = params.topology
    columns = {**params.bias, **dict(zip(BASE_WEIGHTS, np.asarray(params.base).T, strict=True))}
    table = np.stack([np.asarray(columns[name], float) for name in PARAMETERS], 1)
    cores, first, where = np.unique(layout.core_index, return_index=True, return_inverse=True)
    asked = table[t.group[first]]
    if (other := table[t.group] != asked[where.reshape(-1)]).any():
        n, k = (int(v) for v in np.argwhere(other)[0])
        chip, core = divmod(int(layout.core_index[n]), device.cores_per_chip)
        mine, others = table[t.group[n], k], asked[where.reshape(-1)[n], k]
        raise ConfigurationError(
            f"Rewriter: {layout.place_of(n)}: {list(PARAMETERS)[k]} is {mine:.6g} A, other neurons of core {core} "
            f"of chip {chip} have {others:.6g} A; a core has one of each. {ANEW}"
        )
    codes, off = np.zeros((len(cores), len(PARAMETERS), 2), np.uint8), np.zeros(len(PARAMETERS))
    for name, k in COLUMN.items():
        coarse, fine, error = nearest_codes(name, asked[:, k] / core_scales(layout, name, cores, device))
        codes[:, k, 0], codes[:, k, 1] = coarse, fine
        off[k] = np.abs(error[asked[:, k] != PARAMETERS[name].off]).max(initial=0.0)
    worst = int(np.argmax(off))
    if off[worst] <= EXACT:
        return cores, codes, []
    row = list(PARAMETERS.values())[worst]
    severe = off[worst] > SATURATED
    what = (
        "rewritten with the nearest codes of the bias generator: "
        f"{int((off > EXACT).sum())} parameters are off, {row.meaning} ({row.bias}) by up to {100 * off[worst]:.2g} %."
    )
    hint = "Choose currents in reach of the bias generator." if severe else ""
    code = "bias-saturation" if severe else "bias-rounding"
    finding = Finding("warning" if severe else "info", code, what, used=float(off[worst]), limit=SATURATED, hint=hint)
    return cores, codes, [finding]
