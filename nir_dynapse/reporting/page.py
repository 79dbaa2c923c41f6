"""A report as one HTML page: no script, nothing that is loaded; to read on a phone, in print, by day and night."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from nir_dynapse.chip.device import Device
from nir_dynapse.circuit.closed_form import to_params
from nir_dynapse.circuit.copies import with_copies
from nir_dynapse.circuit.params import Params
from nir_dynapse.data.recording import Recording
from nir_dynapse.errors import Finding, sort_findings
from nir_dynapse.layout.layout import Layout
from nir_dynapse.layout.utilisation import ChipUse, CoreUse, NodeUse
from nir_dynapse.network.network import Conversion, Network
from nir_dynapse.reporting.chips_table import chips_change, chips_table, chips_title
from nir_dynapse.reporting.conversion_table import Table, conversion_notes, conversion_table
from nir_dynapse.reporting.delay_table import core_delays, delay_table
from nir_dynapse.reporting.page_figures import bias_section, floor_section, raster_section, use_section, weight_section
from nir_dynapse.reporting.page_parts import STYLE, badge, html_table, items, picture, section, words
from nir_dynapse.reporting.plots import distribution_svg
from nir_dynapse.reporting.rounding_table import projection_table
from nir_dynapse.reporting.svg import cut
from nir_dynapse.reporting.tables import Accuracy, accuracy_table, node_table

__all__ = ["Reported", "html_page"]

HEAD = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
"""
ORIGIN = ("source", "device", "board", "seed", "sha256", "nir_dynapse")
"""What of the provenance stands below the title."""
MOST = 32
"""Letters of each of them there; the table at the end has all."""


class Reported(Protocol):
    """What a page is made from: a `reporting.Report`."""

    @property
    def title(self) -> str: ...
    @property
    def provenance(self) -> dict[str, Any]: ...
    @property
    def nodes(self) -> tuple[NodeUse, ...]: ...
    @property
    def projections(self) -> tuple[tuple[str, str, str, int], ...]: ...
    @property
    def accuracy(self) -> tuple[Accuracy, ...]: ...
    @property
    def cores(self) -> tuple[CoreUse, ...]: ...
    @property
    def chips(self) -> tuple[ChipUse, ...]: ...
    @property
    def approximations(self) -> tuple[Finding, ...]: ...
    @property
    def findings(self) -> tuple[Finding, ...]: ...
    @property
    def checks(self) -> tuple[str, ...]: ...
    @property
    def conversion(self) -> tuple[Conversion, ...]: ...
    @property
    def weight_errors(self) -> dict[str, Any]: ...
    @property
    def delays(self) -> dict[str, Any]: ...
    @property
    def virtual_chips(self) -> Mapping[str, Mapping[str, Any]]: ...
    @property
    def layout(self) -> Layout | None: ...
    @property
    def device(self) -> Device | None: ...
    @property
    def asked(self) -> Network | Params | None: ...
    @property
    def samples(self) -> Mapping[str, Recording]: ...


def html_page(report: Reported) -> str:
    """The whole page; sections without content are left out, and the same report gives the same text."""
    sections = [(key, title, body) for key, title, body in _sections(report) if body]
    links = "".join(f'<li><a href="#{key}">{words(title)}</a></li>' for key, title, _ in sections)
    origin = report.provenance
    known = [(name, cut(str(origin[name]), MOST)) for name in ORIGIN if origin.get(name) is not None]
    lead = " · ".join(f"{name} {value}" if name != "source" else value for name, value in known)
    cards = "".join(section(key, title, body) for key, title, body in sections)
    return (
        f"{HEAD}<title>{words(report.title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f'<header><h1>{words(report.title)}</h1><p class="quiet">{words(lead)}</p></header>\n<main>\n'
        f'<section aria-label="summary">{_summary(report)}</section>\n'
        f'<nav aria-label="sections"><ul>{links}</ul></nav>\n{cards}</main>\n'
        "<footer><p>Made by nir_dynapse.</p></footer>\n"
        "</body>\n</html>\n"
    )


def _sections(report: Reported) -> list[tuple[str, str, str]]:
    """Key, heading and content of every section that there may be."""
    layout, device = report.layout, report.device
    drawn = dict.fromkeys(("floor", "weights", "biases"), "")
    if layout is not None and device is not None:
        asked = to_params(report.asked, device) if isinstance(report.asked, Network) else report.asked
        asked = None if asked is None else asked.numpy()
        weights = asked
        if layout.copies and asked is not None and not asked.topology.copies:
            weights = None  # which copies hear one another is not known any more
            asked = with_copies(asked, layout.copies_of) if asked.topology.mask is None else None
        drawn["floor"] = floor_section(layout, device, report.cores)
        drawn["weights"] = weight_section(layout, device, weights)
        drawn["biases"] = bias_section(layout, device, asked)
    connected = projection_table(report.projections, report.weight_errors)
    errors = '<p class="quiet">error: RMS error over RMS weight, from rounding</p>' if report.weight_errors else ""
    return [
        ("accuracy", "Accuracy", _table(accuracy_table(report.accuracy), "accuracy of each run")),
        ("virtual-chips", *_chips(report.virtual_chips)),
        ("floor-plan", "Floor plan", drawn["floor"]),
        ("use", "Use of the chip", use_section(report.cores, report.chips)),
        ("findings", "Findings", _findings(report)),
        ("spikes", "Spikes of the first sample", raster_section(report.samples)),
        ("nodes", "Nodes", _table(node_table(report.nodes), "nodes")),
        ("projections", "Projections", table + errors if (table := _table(connected, "projections")) else ""),
        ("delays", "Delays", _delays(report.delays)),
        ("weights", "Weights and the levels of each core", drawn["weights"]),
        ("biases", "Bias currents", drawn["biases"]),
        ("conversion", "Conversion of each NIR node", _conversion(report.conversion)),
        ("checks", "Checks", items(report.checks)),
        ("provenance", "Provenance", _provenance(report.provenance)),
    ]


def _table(table: Table, label: str) -> str:
    return html_table(table, label) if table.rows else ""


def _delays(delays: dict[str, Any]) -> str:
    if not delays:
        return ""
    return _table(delay_table(delays), "delays") + _table(core_delays(delays), "the delays of each core")


def _summary(report: Reported) -> str:
    """Whether it fits, how much of the device that takes, and how well it works where that is known."""
    errors = sum(f.severity == "error" for f in report.findings)
    warnings = sum(f.severity == "warning" for f in report.findings)
    neurons = sum(node.neurons for node in report.nodes)
    if errors:
        state = badge("error", "does not fit"), f"{errors} error{'s' * (errors > 1)}, see the findings."
    elif report.chips:
        used = sum(chip.neurons.used > 0 for chip in report.chips)
        cores = f"{len(report.cores)} core{'s' * (len(report.cores) != 1)}"
        state = badge("good", "fits"), f"{neurons} neurons on {cores} of {used} chip{'s' * (used != 1)}."
    else:
        state = badge("info", "not mapped"), "nothing has been mapped to the chip yet."
    own = sum(node.neurons * node.copies for node in report.nodes)
    said = str(neurons) if own == neurons else f"{neurons}, {own} of the chip"
    facts = [("neurons", said), ("warnings", str(warnings))]
    if report.chips:
        rows = [sum(getattr(chip.cam_rows, part) for chip in report.chips) for part in ("used", "available")]
        facts.insert(1, ("CAM rows", f"{rows[0]} of {rows[1]}"))
    facts += [(f"accuracy, {run.name}", f"{100 * run.share:.1f} %") for run in report.accuracy]
    for name, run in report.virtual_chips.items():
        facts.append((f"median of {run['devices']} chips, {name}", f"{100 * run['median']:.1f} %"))
    keys = "".join(f"<div><dt>{words(name)}</dt><dd>{words(value)}</dd></div>" for name, value in facts)
    return f'<p>{state[0]} {state[1]}</p><dl class="keys">{keys}</dl>'


def _findings(report: Reported) -> str:
    """Every finding with its hint, errors first, and what every mapping to this chip changes."""
    return "".join(
        (
            '<ul class="findings">',
            *map(_finding, sort_findings(dict.fromkeys((*report.findings, *report.approximations)))),
            "</ul>",
        )
        if report.findings or report.approximations
        else ()
    )


def _finding(f: Finding) -> str:
    where = f"<strong>{words(f.where)}:</strong> " if f.where else ""
    numbers = [
        f"{name} {value if isinstance(value, (str, int)) else f'{value:.4g}'} {f.unit}".rstrip()
        for name, value in (("used", f.used), ("limit", f.limit))
        if value is not None
    ]
    below = f'<p class="quiet">{words(", ".join((f.code, *numbers)))}</p>'
    hint = f"<p>What to do: {words(f.hint)}</p>" if f.hint else ""
    return f"<li><p>{badge(f.severity, f.severity)} {where}{words(f.what)}</p>{hint}{below}</li>"


def _chips(runs: Mapping[str, Mapping[str, Any]]) -> tuple[str, str]:
    """Heading and content of the comparison on virtual chips."""
    if not runs:
        return "", ""
    title, change = chips_title(runs), chips_change(runs)
    svg = distribution_svg({name: np.asarray(run["accuracy"]) for name, run in runs.items()}, title=title)
    said = f"<p>{words(change)}.</p>" if change else ""
    return title, html_table(chips_table(runs), "accuracy on virtual chips") + said + picture(svg, title)


def _conversion(rows: Sequence[Conversion]) -> str:
    return _table(conversion_table(rows), "conversion of each node") + items(conversion_notes(rows)) if rows else ""


def _provenance(origin: Mapping[str, Any]) -> str:
    rows = tuple((key, "-" if value is None else str(value)) for key, value in origin.items())
    return _table(Table(("what", "value"), rows, "<<"), "provenance")
