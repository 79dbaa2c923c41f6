"""The verb `show`: the tables behind the device, the primitives, the frontends and the readers."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from nir_dynapse.chip.biasgen import reach
from nir_dynapse.chip.constants import RECORDED_NOISE, SETS, Constant
from nir_dynapse.chip.device import PARAMETERS
from nir_dynapse.cli.exchange import device_of
from nir_dynapse.cli.output import Output, table

__all__ = ["show"]


def show(args: argparse.Namespace, out: Output) -> int:
    tables = {"device": _show_device, "parameters": _show_parameters, "primitives": _show_primitives}
    tables |= {"constants": _show_constants}
    tables |= {"frontends": _show_frontends, "readers": _show_readers}
    out.result(*tables[args.what](args))
    return 0


def _show_device(args: argparse.Namespace) -> tuple[Any, str]:
    device = device_of(args)
    limits = {
        "name": device.name,
        "chips": device.n_chips,
        "cores per chip": device.cores_per_chip,
        "neurons per core": device.neurons_per_core,
        "neurons": device.n_neurons,
        "CAM rows per neuron (fan-in)": device.cam_rows,
        "SRAM rows per neuron (destinations)": device.sram_rows,
        "tags per core": device.n_tags,
        "chips in a stack": device.max_stack,
        "bias groups (one per core)": device.n_cores,
        "base weight currents per core": 4,
        "coarse x fine codes of a bias": f"{device.coarse_codes} x {device.fine_codes}",
    }
    data = asdict(device) | {"n_neurons": device.n_neurons, "n_cores": device.n_cores}
    return data, table(("limit", "value"), [(key, str(value)) for key, value in limits.items()])


def _show_parameters(args: argparse.Namespace) -> tuple[Any, str]:
    data, rows = [], []
    for name, row in PARAMETERS.items():
        low, high = reach(name)
        data.append({**asdict(row), "lowest_a": low, "highest_a": high})
        rows.append((name, row.bias, row.kind, f"{low:.2g}", f"{high:.2g}", f"{row.cv:g}", row.meaning))
    return data, table(("parameter", "bias", "kind", "from/A", "to/A", "CV", "meaning"), rows)


def _rows(name: str) -> tuple[Constant, ...]:
    """The constants of a set, with the noise that goes with it."""
    return (*SETS[name].values(), *((RECORDED_NOISE,) if name == "recorded2026" else ()))


def _show_constants(args: argparse.Namespace) -> tuple[Any, str]:
    if args.circuit is not None:
        data = [{**asdict(row), "set": args.circuit} for row in _rows(args.circuit)]
    else:
        data = [{**asdict(row), "set": name} for name in SETS for row in _rows(name)]
        first = {(d["name"], d["value"]): d for d in reversed(data)}  # a later set repeats what it does not change
        data = [d for d in data if first[d["name"], d["value"]] is d]
    header = ("constant", "set", "value", "certainty", "meaning", "source")
    rows = [
        (d["name"], d["set"], f"{d['value']:.4g} {d['unit']}", d["certainty"], d["meaning"], d["source"]) for d in data
    ]
    return data, table(header, rows)


def _show_primitives(args: argparse.Namespace) -> tuple[Any, str]:
    from nir_dynapse.network.primitives import PRIMITIVES

    keys = ("verdict", "meaning", "reason", "alternative")
    data = {name: {key: getattr(entry, key) for key in keys} for name, entry in PRIMITIVES.items()}
    rows = [
        (name, entry.verdict, f"{entry.reason}. {entry.alternative}" if entry.reason else entry.meaning)
        for name, entry in PRIMITIVES.items()
    ]
    return data, table(("primitive", "verdict", "meaning, or why not and what instead"), rows)


def _show_frontends(args: argparse.Namespace) -> tuple[Any, str]:
    from nir_dynapse.import_.frontends import PROFILES

    data = [
        {
            "name": profile.name,
            "release": profile.release,
            "unit": profile.clock,
            "gains": profile.gains,
            "reset": profile.default_reset,
            "writes": list(profile.writes),
            "left_open": profile.assumed,
        }
        for profile in PROFILES.values()
        if profile.release
    ]
    header = ("frontend", "measured with", "unit of time", "reset by default", "writes")
    rows = [(d["name"], d["release"], d["unit"], d["reset"], ", ".join(d["writes"])) for d in data]
    return data, table(header, rows)


def _show_readers(args: argparse.Namespace) -> tuple[Any, str]:
    from nir_dynapse.export.readers import READERS

    keys = ("name", "release", "call", "unit", "file", "lacks")
    data = [{key: getattr(reader, key) for key in keys} for reader in READERS.values() if reader.release]
    rows = [(d["name"], d["release"], d["unit"], d["file"], d["lacks"]) for d in data]
    return data, table(("reader", "measured with", "unit of time", "a file for it holds", "cannot be had"), rows)
