"""`nir-dynapse doctor`: what this machine has, and what to do about what it lacks.

Nothing optional is imported but a real samna, which alone knows its boards.
"""

from __future__ import annotations

import argparse
import os
import platform
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

from nir_dynapse.cli.output import Output
from nir_dynapse.errors import DynapseError
from nir_dynapse.export.samna_board import BIT_FILE_VARIABLE, INSTALL, State, find_samna, list_boards

__all__ = ["Item", "caches", "doctor", "examine", "text"]

MISSING = 3
PLACEHOLDER = "PyPI's samna runs pip when it is imported and drives no board. Remove it: python -m pip uninstall samna."
REQUIRED = ("numpy", "scipy", "h5py", "nir", "jax", "jaxlib", "rich")


@dataclass(frozen=True)
class Item:
    """One thing looked at: `need` is "required" or "optional"; `detail` a version or place; `remedy` what to do."""

    name: str
    state: State
    need: Literal["required", "optional"]
    detail: str = ""
    remedy: str = ""


def doctor(args: argparse.Namespace, out: Output) -> int:
    if args.compile:
        _compile()
    items, cached = examine(), caches()
    out.result(to_dict(items) | {"cached": cached}, text([*items, *_cache_items(cached)]))
    return 0 if healthy(items) else MISSING


def _compile() -> None:
    """Compile the kernels that are not kept, beside each other; where there is no compiler, nothing."""
    from nir_dynapse.sim.native import ahead

    ahead.start(*ahead.WHATS)
    from nir_dynapse.sim.native.build import prepared

    with suppress(ImportError):
        for what in ahead.WHATS:
            prepared(what, "float32")


def examine() -> list[Item]:
    """Everything `doctor` reports: Python, packages, JAX devices, samna and its boards."""
    items = [
        Item("python", "ok", "required", f"{platform.python_version()} ({platform.system()} {platform.machine()})")
    ]
    items.append(_package("nir-dynapse", "required", "Install nir_dynapse with pip or uv."))
    items += [_package(name, "required", f"Install {name}, or nir_dynapse again.") for name in REQUIRED]
    items.append(_jax_devices())
    llvm = "Without it training runs several times slower on CPUs, and long simulations do: install numba, which brings it."
    items.append(_package("llvmlite", "optional", llvm))
    items.append(_package("numba", "optional", "Writes the kernels of training in float64: install numba."))
    lava = (
        "Runs networks as Lava processes: install nir-dynapse[lava] on Python 3.10; on 3.11 and 3.12 see docs/lava.md."
    )
    items.append(_package("lava-nc", "optional", lava))
    for name, kind in (("aedat", "AEDAT4"), ("evt3", "EVT3")):
        items.append(_package(name, "optional", f"Reads {kind} files of event cameras: install nir-dynapse[events]."))
    items += _samna()
    items.append(Item("virtual board", "ok", "optional", "virtual:0, virtual:1, ... need nothing else"))
    return items


def caches() -> dict[str, Any]:
    """What is compiled and kept on disk: the folder of ours, the kernels in it for this machine, and JAX's programs."""
    from nir_dynapse.files.kept import cache_folder, is_writable
    from nir_dynapse.sim.native import ahead

    folder = cache_folder()
    found = {"folder": str(folder), "writable": is_writable(folder), "kernels": list(ahead.built())}
    try:
        from nir_dynapse.sim.programs import held

        place, number, size = held()
    except ImportError:
        place, number, size = None, 0, 0
    return found | {"programs": {"folder": place, "number": number, "megabytes": round(size / 1e6, 1)}}


def _cache_items(cached: dict[str, Any]) -> list[Item]:
    """The same as lines of the report."""
    programs = cached["programs"]
    kernels = ", ".join(cached["kernels"]) or "none compiled yet"
    remedy = (
        f"{cached['folder']} cannot be written, so every process compiles anew: set XDG_CACHE_HOME to a place that can."
    )
    kept = f"{programs['number']} ({programs['megabytes']:g} MB) in {programs['folder']}"
    return [
        Item("kernels", "ok", "optional", f"{kernels}; in {cached['folder']}")
        if cached["writable"]
        else Item("kernels", "missing", "optional", "", remedy),
        Item("JAX programs", "ok", "optional", kept)
        if programs["folder"]
        else Item("JAX programs", "missing", "optional", "not kept"),
    ]


def _samna() -> list[Item]:
    """Which samna there is, and the boards that a real one sees."""
    state, place = find_samna()
    if state != "ok":
        remedy = f"Only a real board needs samna. {INSTALL}"
        return [
            Item("samna", state, "optional", place, f"{PLACEHOLDER} {remedy}" if state == "placeholder" else remedy)
        ]
    try:
        place = f"{version('samna')} in {place}"
    except PackageNotFoundError:
        place = f"of unknown version in {place}"
    items = [Item("samna", "ok", "optional", place)]
    try:
        boards = list_boards()
    except DynapseError as error:
        return [*items, Item("boards", "missing", "optional", "", " ".join(str(error).split()))]
    if not boards:
        return [
            *items,
            Item("boards", "missing", "optional", "", "Connect one, and check its power and your USB rights."),
        ]
    bit_file = os.environ.get(BIT_FILE_VARIABLE)
    items += [Item("board", "ok", "optional", board) for board in boards]
    hint = f"A board needs one: --bit-file, or {BIT_FILE_VARIABLE}."
    return [
        *items,
        Item("bit file", "ok" if bit_file else "missing", "optional", bit_file or "", "" if bit_file else hint),
    ]


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
