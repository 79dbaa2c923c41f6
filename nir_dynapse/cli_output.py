"""What the command line prints: results on stdout as text or JSON, progress and errors on stderr."""

from __future__ import annotations

import io
import json
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from nir_dynapse.conversion_table import conversion_dict
from nir_dynapse.errors import DynapseError

__all__ = ["Output", "accuracy_text", "node_rates", "rates_text", "table"]

MOST_FINDINGS = 20
"""Findings of one error that are printed; --json has them all."""
LINE_STEP = 0.1
"""How far one stage must get before its progress is worth another line."""


def _as_options(text: str) -> str:
    """A remedy that speaks of keywords, such as time_unit="ms", in the words of the command line."""
    text = re.sub(r'\b(time_unit|frontend|reset)="(\w+)"', lambda m: f"--{m[1].replace('_', '-')} {m[2]}", text)
    return re.sub(r"\b(time_scale|dt)=(?=[\w.(])", lambda m: f"--{m[1].replace('_', '-')} ", text)


class Output:
    """One command's way of speaking: `json` puts one JSON value on stdout and nothing else, `quiet` drops progress."""

    def __init__(self, json: bool = False, quiet: bool = False, verbose: bool = False) -> None:
        self.as_json, self.quiet, self.verbose = json, quiet, verbose

    def result(self, data: Any, text: str) -> None:
        """The result, once: `data` with --json, else `text`."""
        sys.stdout.write(json.dumps(data, indent=1) + "\n" if self.as_json else text.rstrip("\n") + "\n")

    def text(self, text: str) -> None:
        """Text that has no place in JSON."""
        if not self.as_json:
            sys.stdout.write(text.rstrip("\n") + "\n")

    def note(self, line: str) -> None:
        """A line on stderr that -q drops."""
        if not self.quiet:
            sys.stderr.write(f"{line}\n")

    def urgent(self, line: str) -> None:
        """A line on stderr that -q keeps."""
        sys.stderr.write(f"nir-dynapse: {line}\n")

    def error(self, error: DynapseError) -> None:
        """Every finding as one paragraph on stderr, worst first; with --json also all of them as data on stdout."""
        shown = [str(finding) for finding in error.findings[:MOST_FINDINGS]]
        if len(error.findings) > MOST_FINDINGS:
            shown.append(f"... and {len(error.findings) - MOST_FINDINGS} more; --json lists them all.")
        sys.stderr.write("".join(f"nir-dynapse: {_as_options(' '.join(line.split()))}\n" for line in shown))
        if self.as_json:
            findings = [finding.to_dict() for finding in error.findings]
            data: dict[str, Any] = {"error": str(error), "type": type(error).__name__, "findings": findings}
            if error.conversion:
                data["conversion"] = conversion_dict(error.conversion)
            sys.stdout.write(json.dumps(data, indent=1) + "\n")

    @contextmanager
    def progress(self) -> Iterator[Callable[[str, float], None]]:
        """A callback (stage, fraction): a bar on a terminal, lines elsewhere (per stage or tenth of it), none with -q."""
        if self.quiet:
            yield lambda stage, fraction: None
        elif sys.stderr.isatty():
            with _bar() as tell:
                yield tell
        else:
            yield self._lines()

    def _lines(self) -> Callable[[str, float], None]:
        start, last = time.monotonic(), ("", 0.0)

        def tell(stage: str, fraction: float) -> None:
            nonlocal last
            if stage == last[0] and fraction < min(last[1] + LINE_STEP, 1.0):
                return
            last = stage, fraction
            took = f"  {time.monotonic() - start:.1f} s" if self.verbose else ""
            self.note(f"{100 * fraction:3.0f} %  {stage}{took}")

        return tell


@contextmanager
def _bar() -> Iterator[Callable[[str, float], None]]:
    """A progress bar that leaves nothing behind."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:<14}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=1.0)
        yield lambda stage, fraction: bar.update(task, description=stage, completed=fraction)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Rows as text, wrapped to the terminal's width (100 where there is none)."""
    from rich.console import Console
    from rich.table import Table

    grid = Table(*header, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for row in rows:
        grid.add_row(*row)
    stream = io.StringIO()
    width = max(60, shutil.get_terminal_size((100, 24)).columns)
    Console(file=stream, width=width, color_system=None, markup=False, highlight=False).print(grid)
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines())


def node_rates(spikes: Mapping[str, np.ndarray], bin_width: float) -> dict[str, dict[str, Any]]:
    """What the neurons of every node did, from counts (batch, time, neuron) in bins of `bin_width` s."""
    return {
        node: {
            "neurons": counts.shape[2],
            "spikes": int(counts.sum(dtype=np.int64)),
            "rate_hz": float(counts.mean(dtype=np.float64) / bin_width) if counts.size else 0.0,
            "silent_neurons": int((~counts.any((0, 1))).sum()),
        }
        for node, counts in spikes.items()
    }


def rates_text(nodes: Mapping[str, Mapping[str, Any]]) -> str:
    """`node_rates` as a table."""
    rows = [(node, *(f"{value:g}" for value in values.values())) for node, values in nodes.items()]
    return table(("node", "neurons", "spikes", "rate/Hz", "silent neurons"), rows)


def accuracy_text(accuracy: Mapping[str, Any] | None) -> str:
    """An accuracy (fields of `reporting.Accuracy`) as a line."""
    if accuracy is None:
        return "No accuracy: the classes of the data are not those of the output."
    share = 100 * accuracy["correct"] / accuracy["total"]
    return (
        f"Accuracy ({accuracy['name']}): {share:.1f} %, {accuracy['correct']} of {accuracy['total']}; "
        f"{accuracy['ties']} ties, {accuracy['silent']} silent"
    )
