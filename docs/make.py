"""What the pages take from the package: the tables of primitives, frontends and readers, and the picture of a report.

    python3 -m uv run python docs/make.py
    python3 -m uv run --with playwright python docs/make.py --picture [--browser /usr/bin/chromium]

The first line writes the tables between their markers (a test compares them); the second one runs README's first command
and photographs the top of its report.html with Chromium, by Playwright, which brings its own (`playwright install
chromium`) where --browser names none.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from nir_dynapse.export.readers import READERS
from nir_dynapse.files.whole import write_atomically
from nir_dynapse.import_.frontends import PROFILES
from nir_dynapse.network.primitives import PRIMITIVES

DOCS = Path(__file__).resolve().parent
README = DOCS.parent / "README.md"
PICTURE = DOCS / "report.png"
WIDTH, HEIGHT = 1000, 1150
"""Of the picture in pixels: the page's head, the accuracies and the floor plan."""
BECOMES = {
    "native": "neurons of the chip",
    "folded": "synapses",
    "host": "read out by the host, behind the last spikes",
    "port": "itself, flattened",
    "refused": "refused",
}
UNITS = {"time": "seconds", "steps": "steps"}


def row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def table(header: list[str], rows: list[list[str]]) -> str:
    return "\n".join([row(header), row(["---"] * len(header)), *map(row, rows)])


def primitives() -> str:
    """NIR primitives against what becomes of them and the exporters that write them."""
    exporters = [profile for profile in PROFILES.values() if profile.release]
    rows = []
    for name, entry in PRIMITIVES.items():
        if entry.verdict == "port" and name != "NIRGraph":
            continue
        written = ["●" if name in profile.writes else "" for profile in exporters]
        becomes = "late synapses, two delays per core" if name == "Delay" else BECOMES[entry.verdict]
        rows.append([f"`{name}`", becomes, *written])
    return table(["primitive", "becomes", *(profile.release for profile in exporters)], rows)


def frontends() -> str:
    """What each exporter's files leave open, as the reader fills it in."""
    rows = []
    for p in PROFILES.values():
        if p.release:
            step = "the real length of a step" if p.clock == "steps" else f"the exporter's ({p.default_step:g} s)"
            rows.append([f'`"{p.name}"`', p.release, UNITS[p.clock], p.gains, p.default_reset, step, p.assumed])
    return table(
        ["`frontend=`", "measured with", "unit of time", "r", "resets", "`dt=`", "what its files leave open"], rows
    )


def readers() -> str:
    """What a file for each reader holds, and what it cannot do."""
    rows = [[f'`"{r.name}"`', r.release, f"`{r.call}`", r.unit, r.file, r.lacks] for r in READERS.values() if r.release]
    return table(["`reader=`", "measured with", "reads by", "times in", "a file for it holds", "cannot be had"], rows)


TABLES = {
    "primitives": (README, primitives),
    "frontends": (DOCS / "frontends.md", frontends),
    "readers": (DOCS / "readers.md", readers),
}


def filled(path: Path) -> str:
    """The text of a page with its tables made anew between their markers."""
    text = path.read_text(encoding="utf-8")
    for name, (page, make) in TABLES.items():
        if page == path:
            pattern = rf"(<!-- {name}: docs/make.py -->\n).*?(\n<!-- end of {name} -->)"
            text, found = re.subn(pattern, lambda m, make=make: m[1] + make() + m[2], text, flags=re.S)
            if found != 1:
                raise SystemExit(f"{path.name}: the markers of the table {name!r} are there {found} times, not once.")
    return text


def first_command(out: Path) -> None:
    """README's first command, with its report in `out`."""
    line = next(text for text in README.read_text().splitlines() if "nir-dynapse deploy examples" in text)
    words = line.split("nir-dynapse ", 1)[1].split()
    words[-1] = str(out)
    subprocess.run([sys.executable, "-m", "nir_dynapse", *words, "-q"], cwd=DOCS.parent, check=True)


def photograph(page: Path, browser: str | None) -> bytes:
    from playwright.sync_api import sync_playwright

    # One process without GPU and sandbox: it runs in containers, and the page is our own.
    arguments = ["--single-process", "--no-zygote", "--no-sandbox", "--in-process-gpu", "--use-angle=swiftshader"]
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=arguments if browser else [])
        shown = chromium.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        shown.goto(page.as_uri())
        content = shown.screenshot()
        chromium.close()
    return content


def main() -> None:
    parser = argparse.ArgumentParser(description="Write what the pages take from the package.")
    parser.add_argument("--picture", action="store_true", help="photograph a report, too")
    parser.add_argument("--browser", help="Chromium to use (default: Playwright's)")
    args = parser.parse_args()
    for page in {page for page, _ in TABLES.values()}:
        write_atomically(page, filled(page).encode())
    if args.picture:
        with tempfile.TemporaryDirectory() as folder:
            first_command(Path(folder))
            write_atomically(PICTURE, photograph(Path(folder) / "report.html", args.browser))


if __name__ == "__main__":
    main()
