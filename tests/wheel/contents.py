"""What the distributions hold: the wheel the package alone, the sdist what makes the same wheel again.

    python3 -m uv run python tests/wheel/contents.py

Builds both in a temporary folder, and a second wheel from the unpacked sdist; prints their sizes, raises where one holds
something that it should not, or lacks something.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# `uv run` names itself; its environment lacks the module.
UV = [os.environ["UV"]] if "UV" in os.environ else [sys.executable, "-m", "uv"]
PACKAGE = "nir_dynapse"
NEEDED = ("py.typed", "chip/biasgen_currents.csv", "cli/main.py", "sim/dynamics.py", "sim/native/kernels/run.py")
FOLDERS = ("tests", "examples", "docs", "findings")
AT_THE_TOP = ("README.md", "CHANGELOG.md", "CITATION.cff", "LICENSE", "pyproject.toml", "PKG-INFO", ".gitignore")
STRAY = re.compile(r"(^|/)(\.(?!gitignore)|__pycache__|.*\.(pyc|pyo|so|tmp|log|orig|rej|lock)$)")
ENTRY_POINTS = ("nir-dynapse = nir_dynapse.cli.main:main", "dynapse2 = nir_dynapse.backend:dynapse2")


def demand(fine: bool, what: str) -> None:
    if not fine:
        raise SystemExit(f"contents: {what}")


def build(source: Path, out: Path, *kinds: str) -> None:
    subprocess.run([*UV, "build", "-q", *kinds, "-o", str(out), str(source)], check=True)


def files_of(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def check_wheel(files: dict[str, bytes]) -> None:
    info = next(name.split("/")[0] for name in files if ".dist-info/" in name)
    for name in files:
        demand(name.split("/")[0] in (PACKAGE, info), f"{name} has no place in the wheel")
        demand(not STRAY.search(name), f"{name} is left over from something")
    for name in NEEDED:
        demand(f"{PACKAGE}/{name}" in files, f"the wheel lacks {PACKAGE}/{name}")
    here = {str(path.relative_to(ROOT)) for path in (ROOT / PACKAGE).rglob("*.py")}
    demand(
        here == {name for name in files if name.endswith(".py")},
        "the modules of the wheel are not those of the package",
    )
    text = files[f"{info}/entry_points.txt"].decode()
    for line in ENTRY_POINTS:
        demand(line in text, f"the wheel lacks the entry point {line}")
    demand(f"{info}/licenses/LICENSE" in files, "the wheel lacks the licence")


def check_sdist(names: list[str]) -> None:
    for name in names:
        inside = name.split("/", 1)[1]
        demand(
            inside.split("/")[0] in (PACKAGE, "tests", "examples", "docs", "findings") or inside in AT_THE_TOP,
            f"{name} is stray",
        )
        demand(not STRAY.search(inside), f"{name} is left over from something")


def check_citation() -> None:
    """The version of CITATION.cff is that of the package."""
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.M)
    cited = re.search(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.M)
    demand(version is not None and cited is not None and version[1] == cited[1], "CITATION.cff has another version")


def main() -> None:
    check_citation()
    with tempfile.TemporaryDirectory() as folder:
        first, second = Path(folder, "first"), Path(folder, "second")
        build(ROOT, first, "--sdist")
        build(ROOT, first, "--wheel")
        (sdist,), (wheel,) = first.glob("*.tar.gz"), first.glob("*.whl")
        with tarfile.open(sdist) as archive:
            check_sdist([member.name for member in archive.getmembers() if member.isfile()])
            archive.extractall(folder, filter="data") if hasattr(tarfile, "data_filter") else archive.extractall(folder)
        files = files_of(wheel)
        check_wheel(files)
        build(Path(folder, sdist.name.removesuffix(".tar.gz")), second, "--wheel")
        (again,) = second.glob("*.whl")
        demand(files_of(again) == files, "the wheel from the sdist is another one")
        sys.stdout.write(f"wheel {wheel.stat().st_size // 1024} KiB, {len(files)} files; ")
        sys.stdout.write(f"sdist {sdist.stat().st_size // 1024} KiB; the sdist makes the same wheel.\n")


if __name__ == "__main__":
    main()
