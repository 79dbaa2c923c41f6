"""The verbs `import` and `export`: NIR files of any frontend, configurations and Layouts turned into plain NIR."""

from __future__ import annotations

import argparse
import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nir_dynapse.chip.device import DYNAPSE2, Circuit, Device, Mismatch
from nir_dynapse.chip.profile import load_profiles
from nir_dynapse.cli.output import Output
from nir_dynapse.errors import (
    ConfigurationError,
    ParameterRangeError,
    UnsupportedGraphError,
    raise_if_errors,
    strictly,
)
from nir_dynapse.files.places import check_apart
from nir_dynapse.network.network import Network

__all__ = [
    "activity",
    "check_places",
    "device_of",
    "export",
    "import_",
    "loaded",
    "mapping",
    "pruned",
    "reading",
    "run_with",
    "spread_of",
]

WRITTEN = {f"--{name}": name for name in ("out", "config", "report", "checkpoint", "log", "plot")}
WRITTEN |= {"--layout": "best_layout"}
"""Options that name files that are written. A checkpoint is read, too: it is its own."""
READ = {"the network": "model", "what is read": "source", "the Layout": "layout"}
READ |= {
    f"--{name}": name for name in ("data", "train", "validation", "activity", "params", "profile", "names", "input")
}
READ |= {"--bit-file": "bit_file"}
"""Arguments and options that name files that are read."""


def reading(args: argparse.Namespace) -> dict[str, Any]:
    """The options of `from_nir`."""
    keys = ("dt", "time_unit", "time_scale", "frontend", "reset", "reset_delay", "strict")
    return {key: getattr(args, key) for key in keys}


def device_of(args: argparse.Namespace) -> Device:
    """The stack that the options ask for, with circuit constants, and profiles of its chips where a file gives them."""
    device = DYNAPSE2.stack(args.chips)
    if args.circuit is not None:
        device = device.with_circuit(args.circuit)
    if getattr(args, "profile", None) is None:
        return device
    return device.with_profiles(*load_profiles(args.profile)[: device.n_chips])


def spread_of(args: argparse.Namespace) -> Mismatch | None:
    """The mismatch that --uniform asks for, None for that of the device."""
    return None if args.uniform is None else Mismatch.uniform(args.uniform)


def loaded(args: argparse.Namespace) -> Any:
    """What MODEL.nir|PARAMS.npz|LAYOUT.json holds, told apart by name and, Params, by their format."""
    from nir_dynapse.circuit.params_file import load_params
    from nir_dynapse.import_.nir_graph import from_nir
    from nir_dynapse.layout.layout import Layout

    if str(args.model).endswith(".json"):
        return run_with(Layout.load(args.model), args)
    if str(args.model).endswith(".npz") or zipfile.is_zipfile(args.model):
        params = load_params(args.model)
        if args.circuit not in (None, params.circuit.name):
            raise ConfigurationError(
                f"{args.model}: these Params have the circuit constants {params.circuit.name!r}, --circuit asks for "
                f"{args.circuit!r}. Leave it out, or train with it."
            )
        return params
    return from_nir(args.model, **reading(args))


def run_with(layout: Any, args: argparse.Namespace) -> Any:
    """The Layout `layout` with the circuit constants of --circuit, where it is given: what it is run with."""
    return layout if args.circuit is None else replace(layout, circuit=Circuit.named(args.circuit))


def mapping(args: argparse.Namespace) -> dict[str, Any]:
    """The options of `compile` that say how to place and round."""
    options: dict[str, Any] = {"spare_rows": not args.no_spare_rows, "second_range": args.second_range}
    options["share_tags"] = True if args.share_tags else None
    for key, value in (("tolerance", args.tolerance), ("budget", args.place_seconds), ("spend", args.spend)):
        if value is not None:
            options[key] = value
    return options


def activity(args: argparse.Namespace, network: Network) -> dict[str, Any]:
    """Option `activity` of `compile`: what the data of --activity makes the network do."""
    if args.activity is None:
        return {}
    from nir_dynapse.data.data import Data
    from nir_dynapse.deployment.activity import measured_activity
    from nir_dynapse.evaluation.checks import check_data

    data = Data.load(args.activity)
    check_data(data, network, labels=False)
    return {"activity": measured_activity(network, data)}


def pruned(args: argparse.Namespace, network: Network, device: Device, params: Any = None) -> Any:
    """`params` (None: the closed-form circuit) with as many synapses as fit, by what the data of --activity says."""
    from nir_dynapse.data.data import Data
    from nir_dynapse.deployment.pruning import Pruning

    prune = Pruning(network, Data.load(args.activity, labels=False), device, mapping(args))
    return params if prune.fits(params) else prune(params)


def check_places(
    args: argparse.Namespace, folder: Sequence[str] = (), read: Mapping[str, str | Path] | None = None
) -> None:
    """ConfigurationError where a file that the options name cannot be written, or is read, or is to be two things.

    `folder` are the files that are written into --out, where that is a folder; `read` what else is read.
    """
    from nir_dynapse.evaluation import checks

    written = {label: path for label, name in WRITTEN.items() if (path := getattr(args, name, None)) is not None}
    sources = {label: path for label, name in READ.items() if (path := getattr(args, name, None)) is not None}
    if folder and (out := written.pop("--out", None)) is not None:
        checks.check_output(out, tuple(folder))
        written = {**written, **{f"{name} of --out": Path(out) / name for name in folder}}
    for label, path in written.items():
        if not label.endswith(" of --out"):
            checks.check_file(Path(path))
    check_apart(written, {**sources, **(read or {})})


def _is_configuration(path: str) -> bool:
    return path.endswith((".json", ".json.gz"))


def _write_nir(path: Path, graph: Any) -> None:
    """A NIR file, complete or not at all."""
    import nir

    from nir_dynapse.files.whole import write_atomically

    buffer: Any = io.BytesIO()
    nir.write(buffer, graph)
    write_atomically(path, buffer.getvalue())


def import_(args: argparse.Namespace, out: Output) -> int:
    from nir_dynapse.backend import to_nir
    from nir_dynapse.import_.nir_graph import from_nir
    from nir_dynapse.import_.samna_config import from_samna
    from nir_dynapse.import_.samna_names import files_beside
    from nir_dynapse.reporting.report import report

    path = Path(args.out)
    if path.suffix not in (".nir", ".json"):
        raise ConfigurationError(f"'{path}': the result is a NIR file or a Layout. Name it OUT.nir or LAYOUT.json.")
    names = getattr(args, "names", None)
    implied = files_beside(args.source) if _is_configuration(args.source) and names is None else ()
    check_places(args, read={f"the names in '{file}'": file for file in implied})
    if _is_configuration(args.source):
        if args.frontend != "spec" or args.reset is not None:
            raise ConfigurationError(
                f"'{args.source}' is a chip configuration: --frontend and --reset say nothing about it."
            )
        thing: Any = run_with(from_samna(args.source, names=names, dt=args.dt), args)
        if args.strict:
            raise_if_errors(strictly(thing.findings), ConfigurationError)
    else:
        if names is not None:
            raise ConfigurationError(f"'{args.source}' is no chip configuration: --names says nothing about it.")
        if path.suffix == ".json":
            raise ConfigurationError(f"'{path}': a Layout is made by compile. Use: compile {args.source} -o {path}.")
        thing = from_nir(args.source, **reading(args))
    result = report(thing, device=device_of(args))
    if path.suffix == ".json":
        thing.save(path)
    else:
        _write_nir(path, to_nir(thing, device=device_of(args)))
    out.result({**result.to_dict(), "files": [str(path)]}, result.text() + f"\nWritten: {path}")
    return 0


def export(args: argparse.Namespace, out: Output) -> int:
    from nir_dynapse.backend import to_nir, to_params, written_for
    from nir_dynapse.import_.nir_graph import from_nir
    from nir_dynapse.layout.decoding import to_network
    from nir_dynapse.layout.layout import Layout
    from nir_dynapse.reporting.report import report

    path = Path(args.out)
    if path.suffix != ".nir":
        raise ConfigurationError(f"'{path}': the result is a NIR file. Name it OUT.nir.")
    check_places(args)
    device = device_of(args)
    if str(args.source).endswith(".json"):
        thing: Any = run_with(Layout.load(args.source), args)
        result = report(thing, device=device)
    elif args.reader is not None:
        thing = from_nir(args.source, **reading(args))
        result = report(thing, device=device)
    else:
        thing = to_params(from_nir(args.source, **reading(args)), device=device)
        if args.strict:
            raise_if_errors(strictly(thing.findings), ParameterRangeError)
        result = report(to_network(thing, device), device=device)
    if args.reader is None:
        graph = to_nir(thing, device=device)
    else:
        graph, findings = written_for(thing, args.reader, device=device)
        raise_if_errors(strictly(findings) if args.strict else findings, UnsupportedGraphError)
        otherwise = tuple(f for f in findings if f.severity == "warning")
        approximations = (*otherwise, *(f for f in result.approximations if f not in otherwise))
        result = replace(result, approximations=approximations, findings=(*findings, *result.findings))
    _write_nir(path, graph)
    out.result({**result.to_dict(), "files": [str(path)]}, result.text() + f"\nWritten: {path}")
    return 0
