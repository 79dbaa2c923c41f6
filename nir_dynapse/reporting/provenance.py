"""Where a Layout or Network comes from, for the end of a report."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from nir_dynapse.chip.device import Device
from nir_dynapse.layout.decoding import circuit_of
from nir_dynapse.layout.layout import Layout
from nir_dynapse.network.network import Network

__all__ = ["provenance_of"]


def provenance_of(thing: Layout | Network, device: Device) -> dict[str, Any]:
    """Source, device, seed, step and versions of what a report is about."""
    origin = dict(thing.origin)
    circuit = circuit_of(thing, device) if isinstance(thing, Layout) else device.circuit
    chips = thing.n_chips if isinstance(thing, Layout) else device.n_chips
    result = {
        "source": origin.pop("source", None),
        "sha256": origin.pop("sha256", None),
        "device": f"{device.name}, {chips} chip{'s' if chips > 1 else ''}",
        "circuit constants": circuit.name,
        "seed": origin.pop("seed", None),
        "dt_s": thing.dt,
        **origin,
    }
    result["nir_dynapse"] = origin.get("nir_dynapse") or _version("nir-dynapse")
    return {**result, "python": platform.python_version(), **{name: _version(name) for name in ("jax", "numpy", "nir")}}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
