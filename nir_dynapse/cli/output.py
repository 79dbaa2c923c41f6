"""What the command line prints: results on stdout as text or JSON, progress and errors on stderr."""

from __future__ import annotations

import io
import json
import math
import re
import shutil
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nir_dynapse.errors import DynapseError, Finding

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Output", "accuracy_text", "node_rates", "rates_text", "table", "write_usage"]

MISREAD = ("dt", "gain", "recurrence")
"""Codes of warnings under which a network may not be the one that was meant."""
MOST_FINDINGS = 20
"""Findings of one error that are printed; --json has them all."""
LINE_STEP = 0.1
"""How far one stage must get before its progress is worth another line."""
LINE_SECONDS = 1.0
"""How long one stage must take for that."""
NARROW = 60
"""Columns of a terminal below which tables become lists."""


def _write_json(data: Any) -> None:
    """One JSON document on stdout; numbers that JSON does not know (NaN, infinity) are null."""
    sys.stdout.write(json.dumps(_finite(data), indent=1, allow_nan=False) + "\n")


def write_usage(message: str, hint: str) -> None:
    """Wrong usage as a document on stdout, of the same form as other errors; stderr has it in words already."""
    finding = Finding("error", "usage", " ".join(message.split()), hint=hint)
    _write_json({"error": str(finding), "type": "WrongUsage", "findings": [finding.to_dict()]})


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    return [_finite(each) for each in value] if isinstance(value, (list, tuple)) else value


def _as_options(text: str) -> str:
    """A remedy that speaks of keywords, such as time_unit="ms", in the words of the command line."""
    text = re.sub(r'\b(time_unit|frontend|reset)="(\w+)"', lambda m: f"--{m[1].replace('_', '-')} {m[2]}", text)
    return re.sub(r"\b(time_scale|dt)=(?=[\w.(])", lambda m: f"--{m[1].replace('_', '-')} ", text)


class Output:
    """One command's way of speaking: `json` puts one JSON value on stdout and nothing else, `quiet` drops progress."""

    def __init__(self, json: bool = False, quiet: bool = False, verbose: bool = False) -> None:
        self.as_json, self.verbose = json, verbose
        self.silent = quiet or (json and not verbose)

    def result(self, data: Any, text: str) -> None:
        """The result, once: `data` with --json, else `text`."""
        if self.as_json:
            _write_json(data)
        else:
            self.text(text)

    def text(self, text: str) -> None:
        """Text that has no place in JSON."""
        if not self.as_json:
            sys.stdout.write(text.rstrip("\n") + "\n")

    def note(self, line: str) -> None:
        """A line on stderr about how far the work is; -q and --json (unless with -v) drop it."""
        if not self.silent:
            with suppress(OSError):  # a full disk must not end hours of work for a line about it
                sys.stderr.write(f"{line}\n")

    def warned(self, thing: Any) -> list[dict[str, Any]]:
        """Warnings about how `thing` was read, on stderr even with -q, and as data for --json.

        Of a Network all of them; what is known of Params and Layouts was said when they were made, but for what makes
        every later number wrong.
        """
        from nir_dynapse.network.network import Network

        whole = isinstance(thing, Network)
        found = [f for f in thing.findings if f.severity == "warning" and (whole or f.code in MISREAD)]
        if not self.as_json:
            shown = [f"warning: {f}" for f in found[:MOST_FINDINGS]]
            if len(found) > MOST_FINDINGS:
                shown.append(f"... and {len(found) - MOST_FINDINGS} more warnings; check lists them all.")
            sys.stderr.write("".join(f"nir-dynapse: {_as_options(' '.join(line.split()))}\n" for line in shown))
        return [f.to_dict() for f in found]

    @contextmanager
    def resumable(self, checkpoint: str | None, work: str) -> Iterator[None]:
        """What an interrupt of `work` says on stderr, even with -q: how to go on from `checkpoint`, or how to have one."""
        try:
            yield
        except KeyboardInterrupt:
            if checkpoint is None:
                line = f"the {work} so far is lost; with --checkpoint FILE.npz the same command could go on."
            elif Path(checkpoint).exists():
                line = f"the {work} so far is in {checkpoint}; give the same command again to go on."
            else:
                line = f"the {work} had not come to a first checkpoint; the same command begins anew."
            with suppress(OSError):
                sys.stderr.write(f"nir-dynapse: {line}\n")
            raise

    def error(self, error: DynapseError) -> None:
        """Every finding as one paragraph on stderr, worst first; with --json also all of them as data on stdout."""
        shown = [str(finding) for finding in error.findings[:MOST_FINDINGS]]
        if len(error.findings) > MOST_FINDINGS:
            shown.append(f"... and {len(error.findings) - MOST_FINDINGS} more; --json lists them all.")
        with suppress(OSError):  # a full disk under stderr must not cost the document on stdout
            sys.stderr.write("".join(f"nir-dynapse: {_as_options(' '.join(line.split()))}\n" for line in shown))
        if self.as_json:
            findings = [finding.to_dict() for finding in error.findings]
            data: dict[str, Any] = {"error": str(error), "type": type(error).__name__, "findings": findings}
            if error.conversion:
                from nir_dynapse.reporting.conversion_table import conversion_dict

                data["conversion"] = conversion_dict(error.conversion)
            _write_json(data)

    @contextmanager
    def progress(self) -> Iterator[Callable[[str, float], None]]:
        """A callback (stage, fraction): a bar on a terminal, lines elsewhere (see `_lines`), nothing where silent."""
        if self.silent:
            yield lambda stage, fraction: None
        elif sys.stderr.isatty():
            with _bar() as tell:
                yield tell
        else:
            yield self._lines()

    def _lines(self) -> Callable[[str, float], None]:
        """A line for every stage, and for every tenth in a stage, but not two in one second."""
        start, last, said = time.monotonic(), ("", 0.0), 0.0

        def tell(stage: str, fraction: float) -> None:
            nonlocal last, said
            now = time.monotonic()
            far = fraction >= min(last[1] + LINE_STEP, 1.0) and now - said >= LINE_SECONDS
            if stage == last[0] and not far and not (fraction >= 1.0 > last[1]):
                return
            last, said = (stage, fraction), now
            took = f"  {now - start:.1f} s" if self.verbose else ""
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
    """Rows as text, wrapped to the terminal's width (100 where there is none); a list where that is narrow."""
    width = shutil.get_terminal_size((100, 24)).columns
    if width < NARROW:
        return _listed(header, rows, max(width, 20))
    from rich.console import Console
    from rich.table import Table

    grid = Table(*header, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for row in rows:
        grid.add_row(*row)
    stream = io.StringIO()
    Console(file=stream, width=width, color_system=None, markup=False, highlight=False).print(grid)
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines())


def _listed(header: Sequence[str], rows: Iterable[Sequence[str]], width: int) -> str:
    """A paragraph per row: its first cell, then the others with what they are."""
    fill = textwrap.TextWrapper(width, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False)
    lines = []
    for first, *others in rows:
        lines += textwrap.wrap(first, width) or [first]
        lines += [fill.fill(f"{name}: {cell}") for name, cell in zip(header[1:], others, strict=True)]
    return "\n".join(lines)


def node_rates(
    spikes: Mapping[str, np.ndarray], bin_width: float, copies: Mapping[str, int] | None = None
) -> dict[str, dict[str, Any]]:
    """What the neurons of every node did, from counts (batch, time, neuron) in bins of `bin_width` s.

    Where counts are those of `copies[node]` neurons of the chip, the rate is that of one of them.
    """
    copies = copies or {}
    return {
        node: {
            "neurons": counts.shape[2],
            "spikes": int(counts.sum(dtype="int64")),
            "rate_hz": float(counts.mean(dtype="float64") / bin_width) / copies.get(node, 1) if counts.size else 0.0,
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
    share, by_time = 100 * accuracy["correct"] / accuracy["total"], accuracy.get("first_spike")
    return (
        f"Accuracy ({accuracy['name']}): {share:.1f} %, {accuracy['correct']} of {accuracy['total']}; "
        f"{accuracy['ties']} ties, {accuracy['silent']} silent"
        + ("" if by_time is None else f"; by first spike {100 * by_time / accuracy['total']:.1f} %")
    )
