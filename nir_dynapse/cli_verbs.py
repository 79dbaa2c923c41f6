"""The verbs of the command line: each calls the library and hands the result to `Output`; returns the exit code."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from nir_dynapse import cli_calibrate, cli_doctor, cli_exchange, cli_finetune, cli_run
from nir_dynapse.biasgen import reach
from nir_dynapse.cli_exchange import activity, check_file, device_of, loaded, mapping, reading, spread_of
from nir_dynapse.cli_output import Output, accuracy_text, node_rates, rates_text, table
from nir_dynapse.device import DYNAPSE2, PARAMETERS
from nir_dynapse.errors import ConfigurationError, DynapseError

__all__ = ["VERBS"]

DONE, MISSING = 0, 3


def deploy(args: argparse.Namespace, out: Output) -> int:
    from nir_dynapse import deployment
    from nir_dynapse.board import Data
    from nir_dynapse.params_file import load_params

    options = _training(args)
    if args.out is not None:
        deployment.check_output(args.out, (*deployment.FILES, *(deployment.TRAINING_FILES if options else ())))
    data = Data.load(args.data)
    device = device_of(args)
    options |= {"fan_in": args.fan_in, "seed": args.seed, "device": device, "board": args.board}
    options |= {"options": mapping(args), "bit_file": args.bit_file}
    for option, path, load in (
        ("activity_data", args.activity, Data.load),
        ("train", args.train, Data.load),
        ("params", args.params, load_params),
    ):
        if path is not None:
            options[option] = load(path)
    with out.progress() as tell:
        result = deployment.deploy(args.model, data, progress=tell, **options, **reading(args))
    files = [str(path) for path in result.write(args.out)] if args.out is not None else []
    written = f"\nWritten: {', '.join(files)}" if files else "\nNothing was written: give a folder with -o."
    out.result({**result.report.to_dict(), "files": files}, result.report.text() + written)
    return DONE


def _training(args: argparse.Namespace) -> dict[str, Any]:
    """The options of `deploy` about training, none where there is none; ConfigurationError for those without effect."""
    asked = {"--train-steps": args.train_steps, "--train-devices": args.train_devices}
    asked = {} if args.train is not None else asked
    if args.train is None and args.params is None:
        asked |= {"--uniform": args.uniform, "--compare": args.compare}
    useless = [option for option, value in asked.items() if value is not None]
    if useless:
        raise ConfigurationError(f"{', '.join(useless)}: nothing is trained. Give the data with --train TRAIN.npz.")
    if args.train is None and args.params is None:
        return {}
    keywords = {"steps": args.train_steps, "devices": args.train_devices, "mismatch": spread_of(args)}
    options: dict[str, Any] = {"training": {key: value for key, value in keywords.items() if value is not None}}
    return options if args.compare is None else {**options, "compare": args.compare}


def check(args: argparse.Namespace, out: Output) -> int:
    from nir_dynapse.conversion_table import conversion_text
    from nir_dynapse.import_.nir_graph import from_nir
    from nir_dynapse.reporting import report

    try:
        network = from_nir(args.model, **reading(args))
    except DynapseError as error:
        if error.conversion:
            out.text("Conversion\n" + conversion_text(error.conversion))
        raise
    device = device_of(args)
    try:
        layout = _compiled(network, device, args, out)
    except DynapseError:
        out.text(report(network, device=device).text())
        raise
    fits = ("the network fits the device.",)
    result = report(layout, device=device, checks=fits, conversion=network.conversion)
    out.result(result.to_dict(), result.text())
    return DONE


def _compiled(network: Any, device: Any, args: argparse.Namespace, out: Output) -> Any:
    """The Layout of `network` with the options of the command line."""
    from nir_dynapse.checks import check_params
    from nir_dynapse.compiler import compile
    from nir_dynapse.params_file import load_params

    options = {"fan_in": args.fan_in, "seed": args.seed, "strict": args.strict, **mapping(args)}
    if getattr(args, "params", None) is not None:
        options["params"] = load_params(args.params)
        check_params(options["params"], network)
    with out.progress() as tell:
        return compile(network, device=device, progress=tell, **options, **activity(args, network))


def compile_(args: argparse.Namespace, out: Output) -> int:
    from nir_dynapse.export.samna_config import write_config_json
    from nir_dynapse.import_.nir_graph import from_nir
    from nir_dynapse.reporting import report

    files = [Path(path) for path in (args.out, args.config) if path is not None]
    for path in files:
        check_file(path)
    network = from_nir(args.model, **reading(args))
    device = device_of(args)
    layout = _compiled(network, device, args, out)
    if args.config is not None:
        write_config_json(layout, args.config)
    layout.save(args.out)
    result = report(layout, device=device, conversion=network.conversion)
    written = [str(path) for path in files]
    out.result({**result.to_dict(), "files": written}, result.text() + f"\nWritten: {', '.join(written)}")
    return DONE


def simulate(args: argparse.Namespace, out: Output) -> int:
    from nir_dynapse.board import Data, write_arrays
    from nir_dynapse.checks import check_data, score
    from nir_dynapse.sim.simulation import simulate

    if args.out is not None:
        check_file(Path(args.out))
    data = Data.load(args.data)
    thing = loaded(args)
    check_data(data, thing, labels=False)
    silicon = {"mismatch": DYNAPSE2.mismatch, "key": args.chip} if args.chip is not None else {}
    out.note(f"simulating {len(data)} samples of {data.duration:g} s")
    recording = simulate(thing, data.x, ideal=args.ideal, **silicon)
    if args.out is not None:
        arrays: dict[str, Any] = {f"spikes.{node}": spikes for node, spikes in recording.spikes.items()}
        write_arrays(args.out, **arrays, y=data.y, dt=np.float64(recording.dt))
    nodes = node_rates(recording.spikes, recording.dt)
    run = "ideal" if args.ideal else "circuit" if args.chip is None else f"chip {args.chip}"
    counts = recording.counts()
    fits = data.y.ndim == 1 and 0 <= data.y.min() <= data.y.max() < counts.shape[1]
    accuracy = asdict(score(run, counts, data.y)) if fits else None
    text = f"{rates_text(nodes)}\n\n{accuracy_text(accuracy)}"
    out.result({"run": run, "samples": len(data), "nodes": nodes, "accuracy": accuracy}, text)
    return DONE


def evaluate(args: argparse.Namespace, out: Output) -> int:
    from nir_dynapse.board import Data
    from nir_dynapse.evaluation import evaluate

    if args.checkpoint is not None:
        check_file(Path(args.checkpoint))
    data = Data.load(args.data)
    thing = loaded(args)
    options = {"devices": args.devices, "key": args.seed, "mismatch": spread_of(args), "device": device_of(args)}
    try:
        with out.progress() as tell:
            result = evaluate(thing, data, progress=tell, checkpoint=args.checkpoint, **options)
    except KeyboardInterrupt:
        if args.checkpoint is not None and Path(args.checkpoint).exists():
            out.urgent(f"the chips so far are in {args.checkpoint}; give the same command again to go on.")
        raise
    out.result(result.to_dict(), str(result))
    return DONE


def show(args: argparse.Namespace, out: Output) -> int:
    data, text = {"device": _show_device, "parameters": _show_parameters, "primitives": _show_primitives}[args.what](
        args
    )
    out.result(data, text)
    return DONE


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


def _show_primitives(args: argparse.Namespace) -> tuple[Any, str]:
    from nir_dynapse.primitives import PRIMITIVES

    keys = ("verdict", "meaning", "reason", "alternative")
    data = {name: {key: getattr(entry, key) for key in keys} for name, entry in PRIMITIVES.items()}
    rows = [
        (name, entry.verdict, f"{entry.reason}. {entry.alternative}" if entry.reason else entry.meaning)
        for name, entry in PRIMITIVES.items()
    ]
    return data, table(("primitive", "verdict", "meaning, or why not and what instead"), rows)


def doctor(args: argparse.Namespace, out: Output) -> int:
    items = cli_doctor.examine()
    out.result(cli_doctor.to_dict(items), cli_doctor.text(items))
    return DONE if cli_doctor.healthy(items) else MISSING


VERBS: dict[str, Callable[[argparse.Namespace, Output], int]] = {
    "deploy": deploy,
    "check": check,
    "compile": compile_,
    "import": cli_exchange.import_,
    "export": cli_exchange.export,
    "finetune": cli_finetune.finetune,
    "simulate": simulate,
    "run": cli_run.run,
    "calibrate": cli_calibrate.calibrate,
    "evaluate": evaluate,
    "show": show,
    "doctor": doctor,
}
"""What runs for each verb of `cli.parser`."""
