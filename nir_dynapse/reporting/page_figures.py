"""The sections of a report's page that are drawn: floor plan, use of each resource, spikes, weights, bias currents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from nir_dynapse.chip.device import PARAMETERS, Device
from nir_dynapse.circuit.params import Params
from nir_dynapse.data.recording import Recording
from nir_dynapse.layout.decoding import circuit_of
from nir_dynapse.layout.layout import Layout
from nir_dynapse.layout.utilisation import ChipUse, CoreUse, Use
from nir_dynapse.reporting.conversion_table import Table
from nir_dynapse.reporting.floor_plan import SHADES, core_svg, crossings, links_svg
from nir_dynapse.reporting.page_parts import bar, figure, html_table, picture, scrolled, words
from nir_dynapse.reporting.rasters import raster_svg
from nir_dynapse.reporting.tables import amperes
from nir_dynapse.reporting.weight_figures import bias_currents, core_weights, time_of, weights_svg

__all__ = ["bias_section", "floor_section", "raster_section", "use_section", "weight_section"]

MOST_NODES = 6
"""Nodes that are named below a core."""
MOST_NEURONS, MOST_MARKS = 128, 12_000
"""Neurons of a raster, and marks of all of them together: the page stays small enough to send."""


def floor_section(layout: Layout, device: Device, cores: Sequence[CoreUse]) -> str:
    """Every core of every chip as a grid of slots, and what crosses between chips."""
    used = {(core.chip, core.core): core for core in cores}
    parts = [_legend(device)]
    for chip in range(layout.n_chips):
        profile = device.profile(chip)
        parts.append(f"<h3>Chip {chip}</h3>")
        if profile is not None:
            parts.append(f'<p class="quiet">Profile {words(profile.describe())}</p>')
        figures = (
            figure(core_svg(layout, device, chip, k), _caption(chip, k, used.get((chip, k)), device))
            for k in range(device.cores_per_chip)
        )
        parts.append(f'<div class="cores">{"".join(figures)}</div>')
    if layout.n_chips > 1:
        parts.append("<h3>Between the chips</h3>")
        parts.append(figure(links_svg(layout), ("tags that cross, also on their way further; monitoring left out",)))
        rows = tuple(
            (f"{c.source} to {c.target}", *map(str, (c.neurons, c.tags, c.connections))) for c in crossings(layout)
        )
        header = ("chips", "sending neurons", "tags", "connections")
        body = html_table(Table(header, rows, "<>>>"), "what goes from chip to chip") if rows else ""
        parts.append(body or "<p>No neuron sends to another chip.</p>")
    return "".join(parts)


def _legend(device: Device) -> str:
    """What the colours of the slots mean."""

    def key(drawn: str, text: str) -> str:
        return f'<span><svg viewBox="0 0 11 11" aria-hidden="true">{drawn}</svg>{text}</span>'

    def square(kind: str) -> str:
        return f'<rect class="{kind}" x="1" y="1" width="9" height="9"/>'

    step = device.cam_rows // SHADES
    shades = (key(square(f"s{k}"), f"{(k - 1) * step + 1} to {k * step}") for k in range(1, SHADES + 1))
    broken = (p is not None and not p.neurons.all() for p in device.profiles)
    bad = key('<path class="bad" d="M2 2l7 7m0 -7l-7 7"/>', "does not work") if any(broken) else ""
    names = key(square("free"), "unused"), key(square("s0"), "no CAM row"), *shades, bad
    return f'<p class="legend"><span>Slots by CAM rows in use:</span>{"".join(names)}</p>'


def _caption(chip: int, core: int, use: CoreUse | None, device: Device) -> tuple[str, ...]:
    """What stands below a core."""
    profile, bad = device.profile(chip), ""
    if profile is not None:
        share = 100 * (1 - profile.rows[core].mean())
        dead = int((~profile.neurons[core]).sum())
        bad = f"{dead} bad neuron{'s' * (dead != 1)}, {share:.0f} % bad CAM rows"
    if use is None:
        return f"core {chip}.{core}: unused", bad
    named = [f"{name} ({n})" for name, n in use.nodes.items()]
    more = f" and {len(named) - MOST_NODES} more" if len(named) > MOST_NODES else ""
    head = f"core {chip}.{core}: {use.neurons} neurons, bias group {use.bias_group}"
    return head, ", ".join(named[:MOST_NODES]) + more, bad


# --- resources --------------------------------------------------------------------------------------------------------


def use_section(cores: Sequence[CoreUse], chips: Sequence[ChipUse]) -> str:
    """How much of each resource is used: of all chips, of each chip where there are several, of each used core."""
    if not chips:
        return ""
    kinds = ("cores", "neurons", "cam_rows", "sram_rows", "bias_groups")
    total = {kind: _sum([getattr(chip, kind) for chip in chips]) for kind in kinds}
    total["bias_groups"] = Use(len({core.bias_group for core in cores}), total["cores"].available)
    whole: list[tuple[str, str, Use]] = [(_label(kind), "all chips", use) for kind, use in total.items()]
    for label, kind in (("tags", "tags"), ("fan-in", "fan_in")):
        if cores:
            top = max(cores, key=lambda core: getattr(core, kind).used)
            whole.append((label, f"fullest, {top.chip}.{top.core}", getattr(top, kind)))
    lines = (
        f'<tr><th scope="row">{name}</th><td>{where}</td><td class="share">{use}{bar(use)}</td></tr>'
        for name, where, use in whole
    )
    head = "".join(f'<th scope="col">{name}</th>' for name in ("resource", "where", "used/limit"))
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
    parts = [scrolled(table, "use of each resource")]
    if len(chips) > 1:
        names = tuple(f"chip {chip.chip}" for chip in chips)
        parts += ["<h3>By chip</h3>", _bars(names, [{k: getattr(c, k) for k in kinds} for c in chips], "use by chip")]
    kinds = ("neurons", "cam_rows", "fan_in", "sram_rows", "tags")
    names = tuple(f"core {core.chip}.{core.core}" for core in cores)
    parts += ["<h3>By core</h3>", _bars(names, [{k: getattr(c, k) for k in kinds} for c in cores], "use by core")]
    how = "Fan-in: the most connections to one neuron. CAM and SRAM rows of a core: of the neurons in use."
    return f'{"".join(parts)}<p class="quiet">{how}</p>'


def _sum(uses: Sequence[Use]) -> Use:
    return Use(sum(use.used for use in uses), sum(use.available for use in uses))


def _label(kind: str) -> str:
    return {"cam_rows": "CAM rows", "sram_rows": "SRAM rows"}.get(
        kind, kind.replace("_", " ").replace("fan in", "fan-in")
    )


def _bars(names: Sequence[str], uses: Sequence[Mapping[str, Use]], label: str) -> str:
    """A line per place, a column with used/limit and a bar per resource."""
    head = "".join(f'<th scope="col">{_label(kind)}</th>' for kind in uses[0])
    lines = []
    for name, row in zip(names, uses, strict=True):
        cells = "".join(f"<td>{use}{bar(use)}</td>" for use in row.values())
        lines.append(f'<tr><th scope="row">{name}</th>{cells}</tr>')
    body = f'<table><thead><tr><th scope="col">place</th>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table>'
    return scrolled(body, label)


# --- spikes -----------------------------------------------------------------------------------------------------------


def raster_section(samples: Mapping[str, Recording]) -> str:
    """Spikes of the first sample of each run, a picture per node."""
    nodes: dict[str, dict[str, np.ndarray]] = {}
    for run, recording in samples.items():
        for node, spikes in recording.spikes.items():
            if len(spikes) and spikes.shape[-1]:
                nodes.setdefault(node, {})[run] = spikes[0]
    parts = []
    for node, runs in nodes.items():
        dt = next(recording.dt for recording in samples.values())
        n = next(iter(runs.values())).shape[-1]
        some = f", neurons 0 to {MOST_NEURONS - 1} of {n}" if n > MOST_NEURONS else ""
        first = {run: counts[:, :MOST_NEURONS] for run, counts in runs.items()}
        svg = raster_svg(first, dt=dt, title=f"{node}{some}", most=max(1000, MOST_MARKS // len(nodes)))
        parts.append(picture(svg, f"spikes of {node} in the first sample"))
    return "".join(parts)


# --- weights and biases -----------------------------------------------------------------------------------------------


def weight_section(layout: Layout, device: Device, asked: Params | None) -> str:
    """A histogram of the weights of each core."""
    cores = core_weights(layout, device, asked)
    if not cores:
        return ""
    drawn = "".join(figure(weights_svg(core), ()) for core in cores)
    filled = "Filled: asked for. " if asked is not None else ""
    how = f"{filled}Line: given. Ticks below: what one CAM row can make; several rows of one connection add."
    return f'<div class="weights">{drawn}</div><p class="quiet">{how}</p>'


def bias_section(layout: Layout, device: Device, asked: Params | None) -> str:
    """A table of the biases that are not off, core by core."""
    lines, last, circuit = [], "", circuit_of(layout, device)
    for row in bias_currents(layout, device, asked):
        parameter = PARAMETERS[row.parameter]
        if row.core != last:
            last = row.core
            lines.append(f'<tr class="group"><th scope="rowgroup" colspan="7">core {last}</th></tr>')
        wanted = "-"
        if row.asked is not None:
            low, high = (amperes(value) for value in row.asked)
            wanted = low if low == high else f"{low} to {high}"
        time = time_of(circuit, row.parameter, row.given)
        cells = (
            wanted,
            amperes(row.given),
            "-" if row.error is None else f"{100 * row.error:+.1f} %",
            "-" if time is None else f"{1e3 * time:.3g} ms" if time > 1e-4 else f"{1e6 * time:.3g} us",
            f"{row.code[0]}, {row.code[1]}",
        )
        numbers = "".join(f'<td class="n">{words(cell)}</td>' for cell in cells)
        lines.append(f'<tr><th scope="row">{parameter.meaning}</th><td>{parameter.bias}</td>{numbers}</tr>')
    names = (
        *(("meaning", ""), ("bias", "")),
        *((n, ' class="n"') for n in ("asked", "given", "error", "time", "code")),
    )
    head = "".join(f'<th scope="col"{kind}>{name}</th>' for name, kind in names)
    body = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
    how = "Code: coarse, fine. Biases that are off are left out. A core fits what has no asked current to its own weights."
    return scrolled(body, "bias currents") + f'<p class="quiet">{how}</p>' if lines else ""
