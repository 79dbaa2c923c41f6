"""From nothing to a report on a network of one's own: README's steps in a fresh clone, timed.

    python3 tests/wheel/first_hour.py --export PYTHON

Clones the repository into a temporary folder and, with nothing in uv's cache, does what README says, as it says it: the
first command, the export (with PYTHON, which has snnTorch; a training on the Yin-Yang data stands in for the reader's),
`check` and `deploy`. Prints what each step took, and what a person takes to read the section (200 words per minute) and to
type its command lines (200 characters per minute); the export is the reader's own program, not counted as typing.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "helpers"))

from own_network import commands, export_program, section_words  # noqa: E402

WORDS, CHARACTERS = 200, 200
"""Per minute: of reading, and of typing."""


def main() -> None:
    parser = argparse.ArgumentParser(description="Do what README says in a fresh clone, and time it.")
    parser.add_argument("--export", required=True, metavar="PYTHON", help="a Python with snnTorch, nir and numpy")
    args = parser.parse_args()
    took: dict[str, float] = {}
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    first = next(line for line in readme.splitlines() if "nir-dynapse deploy examples" in line)
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder, "clone")
        bare = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")}
        bare["UV_CACHE_DIR"] = str(Path(folder, "cache"))

        def step(name: str, command: list[str] | str, **environment: str) -> None:
            began = time.monotonic()
            subprocess.run(
                command,
                shell=isinstance(command, str),
                cwd=folder if name == "clone" else clone,
                env=bare | environment,
                check=True,
            )
            took[name] = time.monotonic() - began

        step("clone", ["git", "clone", "-q", str(ROOT), "clone"])
        step("first command, with its installation", first)
        step("export, with a training", [args.export, "-W", "ignore", "-c", export_program(clone)])
        found = f"{clone / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"
        for command in commands():
            step(command[1], command, PATH=found)
        report = clone / "mine" / "report.html"
        if not report.is_file():
            raise SystemExit("first_hour: there is no mine/report.html")
    typed = [first, "source .venv/bin/activate", *(" ".join(command) for command in commands())]
    took["reading"] = 60 * section_words() / WORDS
    took["typing"] = 60 * sum(map(len, typed)) / CHARACTERS
    for name, seconds in took.items():
        sys.stdout.write(f"{seconds:6.0f} s  {name}\n")
    sys.stdout.write(f"{sum(took.values()):6.0f} s  all of it\n")


if __name__ == "__main__":
    main()
