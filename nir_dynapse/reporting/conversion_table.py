"""The conversion report as text and as JSON, and the aligned tables that reports are made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

from nir_dynapse.network.network import Conversion

__all__ = ["Table", "conversion_dict", "conversion_notes", "conversion_table", "conversion_text", "table"]

ON_CHIP = {
    "neurons": "circuits (approximate)",
    "readout on the host": "host (exact)",
    "input port": "events (exact)",
    "output port": "events (exact)",
    "wire": "wire (exact)",
    "nothing": "unsupported",
}


class Table(NamedTuple):
    """Cells of text under a `header`; `align` holds < or > for each column."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    align: str

    @property
    def text(self) -> str:
        """The table as aligned lines."""
        return table(self.header, self.rows, self.align)


def on_chip(row: Conversion) -> str:
    """What runs on the chip for a node."""
    return ON_CHIP.get(row.becomes, "4-bit rows (approximate)")


def conversion_table(rows: Iterable[Conversion]) -> Table:
    """A line per node and per value that reading looked at; further lines of a node leave its columns empty.

    The column "ideal" says whether an ideal run does what the frontend does, "on the chip" what runs there.
    """
    cells = []
    for row in rows:
        first = (row.node, row.kind, row.becomes, row.verdict, on_chip(row))
        for k, change in enumerate(row.changes or (("", "", ""),)):
            name, before, after = change
            after = after.split(":")[0] if name == "reset" else after
            cells.append((*(first if k == 0 else ("",) * 5), name, before, after))
    header = ("node", "type", "becomes", "ideal", "on the chip", "value", "in the file", "here")
    return Table(header, tuple(cells), "<<<<<<<<")


def conversion_notes(rows: Iterable[Conversion]) -> tuple[str, ...]:
    """The notes behind the table."""
    return tuple(f"{row.node}: {row.note}" for row in rows if row.note)


def conversion_text(rows: Iterable[Conversion]) -> str:
    """The table as text, and the notes below it."""
    rows = tuple(rows)
    return "\n".join([conversion_table(rows).text, *(f"  {note}" for note in conversion_notes(rows))])


def conversion_dict(rows: Iterable[Conversion]) -> list[dict[str, Any]]:
    """The same as JSON-ready values: `changes` holds {"value", "before", "after"}."""
    result = []
    for row in rows:
        changes = [dict(zip(("value", "before", "after"), change, strict=True)) for change in row.changes]
        result.append({**asdict(row), "on_chip": on_chip(row), "changes": changes})
    return result


def table(header: Sequence[str], rows: Iterable[Sequence[str]], align: str) -> str:
    """Rows of text as an indented table; `align` holds < or > for each column."""
    lines = [list(header), *map(list, rows)] if header else [list(row) for row in rows]
    widths = [max(len(line[k]) for line in lines) for k in range(len(align))] if lines else []
    return "\n".join(
        "  " + "  ".join(f"{cell:{side}{w}}" for cell, side, w in zip(line, align, widths, strict=True)).rstrip()
        for line in lines
    )
