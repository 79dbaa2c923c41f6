"""`nir-dynapse doctor`: what this machine has, and what to do about what it lacks. Nothing optional is imported."""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

__all__ = ["Item", "examine", "find_samna", "text"]

MARKER = "PYPI_SAMNA"
"""Text by which the placeholder that PyPI carries under the name samna is recognised."""
REMEDY = (
    "Only a real board needs samna. PyPI's package of that name is a placeholder that runs pip when it is imported: "
    "uninstall it if you have it, and install the real one from SynSense's own index as its documentation says."
)
REQUIRED = ("numpy", "scipy", "h5py", "nir", "jax", "jaxlib", "rich")
State = Literal["ok", "missing", "placeholder"]


@dataclass(frozen=True)
class Item:
    """One thing looked at: `need` is "required" or "optional"; `detail` a version or place; `remedy` what to do."""

    name: str
    state: State
    need: Literal["required", "optional"]
    detail: str = ""
    remedy: str = ""


def find_samna() -> tuple[State, str]:
    """Whether samna is there, the real one or PyPI's placeholder, and in which file; it is never imported."""
    try:
        spec = find_spec("samna")
    except (ImportError, ValueError):
        spec = None
    if spec is None:
        return "missing", ""
    places = (
        [spec.origin] if spec.origin else [str(Path(p) / "__init__.py") for p in spec.submodule_search_locations or ()]
    )
    for place in places:
        try:
            marked = MARKER.encode() in Path(place).read_bytes()
        except OSError:
            continue
        if marked:
            return "placeholder", place
    return "ok", str(places[0]) if places else ""


def examine() -> list[Item]:
    """Everything `doctor` reports: Python, required packages, JAX devices, Numba, Lava, samna."""
    items = [
        Item("python", "ok", "required", f"{platform.python_version()} ({platform.system()} {platform.machine()})")
    ]
    items.append(_package("nir-dynapse", "required", "Install nir_dynapse with pip or uv."))
    items += [_package(name, "required", f"Install {name}, or nir_dynapse again.") for name in REQUIRED]
    items.append(_jax_devices())
    numba = "Without it simulation for training runs several times slower on CPUs: install numba."
    items.append(_package("numba", "optional", numba))
    lava = "Lava 0.10 needs Python 3.10; install nir-dynapse[lava] to run networks as Lava processes."
    items.append(_package("lava-nc", "optional", lava))
    state, place = find_samna()
    items.append(Item("samna", state, "optional", place, "" if state == "ok" else REMEDY))
    items.append(Item("virtual board", "ok", "optional", "virtual:0, virtual:1, ... need nothing else"))
    return items


def _package(name: str, need: Literal["required", "optional"], remedy: str) -> Item:
    try:
        return Item(name, "ok", need, version(name))
    except PackageNotFoundError:
        return Item(name, "missing", need, "", remedy)


def _jax_devices() -> Item:
    try:
        import jax

        devices = ", ".join(str(device) for device in jax.devices())
    except (ImportError, RuntimeError) as error:
        return Item(
            "jax devices", "missing", "required", " ".join(str(error).split()), "Install a JAX that fits the machine."
        )
    return Item("jax devices", "ok", "required", devices)


def text(items: list[Item]) -> str:
    """The report as lines, followed by what to do."""
    width = max(len(item.name) for item in items)
    lines = [f"  {item.name:<{width}}  {_word(item):<11}  {item.detail}".rstrip() for item in items]
    remedies = [f"  - {item.name}: {item.remedy}" for item in items if item.remedy]
    return "\n".join(["nir-dynapse doctor", *lines, *(["", "What to do", *remedies] if remedies else [])])


def _word(item: Item) -> str:
    return "absent" if item.state == "missing" and item.need == "optional" else item.state


def to_dict(items: list[Item]) -> dict[str, Any]:
    """JSON-ready: the items, and whether everything required is there."""
    return {"ok": healthy(items), "items": [asdict(item) for item in items]}


def healthy(items: list[Item]) -> bool:
    """Whether nothing that is required is missing."""
    return all(item.state == "ok" for item in items if item.need == "required")
