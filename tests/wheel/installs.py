"""The wheel in empty environments: on every Python from 3.10 on that is at hand, and once with the oldest dependencies.

    python3 tests/wheel/installs.py [--pythons 3.10 3.11 …] [--lowest 3.10]

Builds the wheel, installs it into an environment that holds nothing else (`--lowest`: with the lowest versions that its
metadata allows), and lets it deploy the Yin-Yang example with some training there, which takes all dependencies. The Layout
and the configuration must have the same bytes on every Python; trained weights may differ with JAX. The oldest
dependencies may write others: a Layout records the version of nir that read it.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# `uv run` names itself; its environment lacks the module.
UV = [os.environ["UV"]] if "UV" in os.environ else [sys.executable, "-m", "uv"]
SHOWN = ("numpy", "jax", "scipy", "h5py", "nir", "numba", "optax", "rich")
VERSIONS = f"""
import importlib.metadata as m
print(", ".join(f"{{name}} {{m.version(name)}}" for name in {SHOWN} if name in [d.name.lower() for d in m.distributions()]))
"""


def uv(*words: str) -> None:
    subprocess.run([*UV, *words], check=True)


def dependencies() -> list[str]:
    """What pyproject.toml asks for; named beside the wheel, uv takes the lowest of them."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    listed = re.search(r"^dependencies = \[\n(.*?)^\]", text, re.M | re.S)
    return re.findall(r'^ +"([^"]+)"', listed[1], re.M) if listed else []


def tried(python: str, wheel: Path, folder: Path, *, lowest: bool) -> str:
    """SHA-256 of what `deploy` writes in a new environment of that Python."""
    home = Path(tempfile.mkdtemp(dir=folder))
    name = f"{python}{', lowest' if lowest else ''}"
    uv("venv", "-q", "--clear", "--python", python, str(home))
    inside = str(home / "bin" / "python")
    oldest = ["--resolution", "lowest-direct", *dependencies()] if lowest else []
    uv("pip", "install", "-q", "--python", inside, *oldest, str(wheel))
    command = [str(home / "bin" / "nir-dynapse"), "deploy", "yin_yang.nir", "--data", "test.npz", "-q"]
    told = subprocess.run([inside, "-c", VERSIONS], check=True, capture_output=True, text=True, cwd=home).stdout.strip()
    for file in ("networks/yin_yang.nir", "data/yin_yang_test.npz", "data/yin_yang_train.npz"):
        source = ROOT / "examples" / file
        shutil.copy(source, home / source.name.replace("yin_yang_", ""))
    subprocess.run([*command, "-o", "plain"], check=True, cwd=home, stdout=subprocess.DEVNULL)
    trained = ["--train", "train.npz", "--train-steps", "2", "--compare", "0", "-o", "trained"]
    subprocess.run([*command, *trained], check=True, cwd=home, stdout=subprocess.DEVNULL)
    written = hashlib.sha256()
    for file in ("layout.json", "config.json.gz"):
        written.update((home / "plain" / file).read_bytes())
    sys.stdout.write(f"{name}: deploys and trains; {written.hexdigest()[:16]}; {told}\n")
    sys.stdout.flush()
    return written.hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description="Install the wheel in empty environments and use it there.")
    parser.add_argument("--pythons", nargs="*", default=["3.10", "3.11", "3.12", "3.13"], help="names or paths")
    parser.add_argument("--lowest", nargs="*", default=["3.10"], help="also with the oldest dependencies")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        uv("build", "-q", "--wheel", "-o", str(folder), str(ROOT))
        (wheel,) = folder.glob("*.whl")
        plan = [(python, False) for python in args.pythons] + [(python, True) for python in args.lowest]
        written = [tried(python, wheel, folder, lowest=lowest) for python, lowest in plan]
    if len({digest for digest, (_, lowest) in zip(written, plan, strict=True) if not lowest}) > 1:
        raise SystemExit("installs: the Layouts differ between the environments")


if __name__ == "__main__":
    main()
