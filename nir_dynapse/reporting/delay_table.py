"""What the delays of a network became on the chip, as tables: delay by delay, and the two of each core."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nir_dynapse.reporting.conversion_table import Table

__all__ = ["core_delays", "delay_table", "delays_text"]


def delay_table(delays: Mapping[str, Any]) -> Table:
    """A line for each delay of each NIR node, in ms: asked for, on the chip on average, largest error, spread over rows."""
    header = ("node", "delay (ms)", "connections", "on the chip (ms)", "largest error (ms)", "spread (ms)")
    lines = [
        (node, f"{1e3 * asked:.4g}", str(n), f"{1e3 * got:.3g}", f"{1e3 * error:.2g}", f"{1e3 * spread:.2g}")
        for node, rows in delays["nodes"].items()
        for asked, n, got, error, spread in rows
    ]
    return Table(header, tuple(lines), "<>>>>>")


def core_delays(delays: Mapping[str, Any]) -> Table:
    """The precise and the mismatched delay of each core, in ms."""
    lines = [
        (core, *("-" if seconds is None else f"{1e3 * seconds:.3g}" for seconds in pair))
        for core, pair in delays["cores"].items()
    ]
    return Table(("chip.core", "precise (ms)", "mismatched (ms)"), tuple(lines), "<>>")


def delays_text(delays: Mapping[str, Any]) -> str:
    """Both tables, and what they count."""
    lost = f"  {delays['lost']} late connections have no CAM row.\n" if delays["lost"] else ""
    said = "  (spread: standard deviation over the CAM rows of a chip, by the assumed mismatch of the delay circuits)"
    return "\n".join((delay_table(delays).text, "", core_delays(delays).text)) + f"\n{lost}{said}"
