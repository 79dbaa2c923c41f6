"""The verbs of the pipeline: each calls the library and hands the result to `Output`; returns the exit code."""

from __future__ import annotations

import argparse
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from nir_dynapse.chip.device import DYNAPSE2
from nir_dynapse.cli.exchange import activity, check_places, device_of, loaded, mapping, pruned, reading, spread_of
from nir_dynapse.cli.output import Output, accuracy_text, node_rates, rates_text
from nir_dynapse.errors import CapacityError, ConfigurationError, DynapseError, Finding

__all__ = ["check", "compile_", "deploy", "evaluate", "simulate"]

DONE = 0


def deploy(args: argparse.Namespace, out: Output) -> int:
    from nir_dynapse.circuit.params_file import load_params
    from nir_dynapse.data.data import Data
    from nir_dynapse.deployment.files import FILES, TRAINING_FILES

    options = _training(args)
    check_places(args, (*FILES, *(TRAINING_FILES if options else ())))
    data = Data.load(args.data)
    device = device_of(args)
    options |= {"fan_in": args.fan_in, "seed": args.seed, "device": device, "board": args.board}
    options |= {
        "options": mapping(args),
        "bit_file": args.bit_file,
        "fit": args.fit,
        "pool": args.pool,
        "decide": args.decide,
    }
    for option, path, load in (
        ("activity_data", args.activity, Data.load),
        ("train", args.train, Data.load),
        ("params", args.params, load_params),
    ):
        if path is not None:
            options[option] = load(path)
    from nir_dynapse.deployment.deploy import deploy as deploy_  # JAX, once what is read was read

    resumable = out.resumable(args.checkpoint, "training") if args.train is not None else nullcontext()
    with resumable, out.progress() as tell:
        result = deploy_(args.model, data, progress=tell, **options, **reading(args))
    files = [str(path) for path in result.write(args.out)] if args.out is not None else []
    written = f"\nWritten: {', '.join(files)}" if files else "\nNothing was written: give a folder with -o."
    out.result({**result.report.to_dict(), "files": files}, result.report.text() + written)
    return DONE


def _training(args: argparse.Namespace) -> dict[str, Any]:
    """The options of `deploy` about training, none where there is none; ConfigurationError for those without effect."""
    asked = {"--train-steps": args.train_steps, "--train-minutes": args.train_minutes}
    asked |= {"--train-devices": args.train_devices, "--checkpoint": args.checkpoint, "--delays": args.delays}
    asked = {} if args.train is not None else asked
    if args.train is None and args.params is None:
        asked |= {"--uniform": args.uniform, "--compare": args.compare}
    useless = [option for option, value in asked.items() if value is not None]
    if useless:
        raise ConfigurationError(f"{', '.join(useless)}: nothing is trained. Give the data with --train TRAIN.npz.")
    if args.train is None and args.params is None:
        return {}
    keywords = {"steps": args.train_steps, "minutes": args.train_minutes}
    keywords |= {"devices": args.train_devices, "mismatch": spread_of(args)}
    if args.checkpoint is not None:
        keywords["checkpoint"] = args.checkpoint
    if args.delays is not None:
        from nir_dynapse.training.options import TrainingOptions

        keywords["options"] = TrainingOptions(delays=args.delays)
    options: dict[str, Any] = {"training": {key: value for key, value in keywords.items() if value is not None}}
    return options if args.compare is None else {**options, "compare": args.compare}


def check(args: argparse.Namespace, out: Output) -> int:
    from nir_dynapse.import_.nir_graph import from_nir
    from nir_dynapse.reporting.conversion_table import conversion_text
    from nir_dynapse.reporting.report import report

    try:
        network = from_nir(args.model, **reading(args))
    except DynapseError as error:
        if error.conversion:
            out.text("Conversion\n" + conversion_text(error.conversion))
        raise
    if args.pool is not None:
        from nir_dynapse.network.pooling import pool_channels

        network = pool_channels(network, args.pool)
    device = device_of(args)
    out.note(f"fan-in of the neuron with the most, constant inputs counted: {_rows(network, device)}")
    fits = "the network fits the device."
    try:
        if args.fan_in == "train":
            args.fan_in = "prune"
            fits = "the network fits the device once --train has chosen its synapses; here the weakest were left out."
        layout = _compiled(network, device, args, out)
    except DynapseError as error:
        out.text(report(network, device=device).text())
        raise _with_way_out(error, network, device, args, out) from None
    fits = (fits,)
    result = report(layout, device=device, checks=fits, conversion=network.conversion)
    out.result(result.to_dict(), result.text())
    return DONE


def _with_way_out(
    error: DynapseError, network: Any, device: Any, args: argparse.Namespace, out: Output
) -> DynapseError:
    """The error of `check`, and where too many synapses are all that is wrong, that what training leaves would fit."""
    if not isinstance(error, CapacityError) or {f.code for f in error.findings} != {"fan-in"}:
        return error
    try:
        layout = _compiled(
            network, device, argparse.Namespace(**{**vars(args), "fan_in": "prune", "strict": False}), out
        )
    except DynapseError as other:
        what = f"with {device.cam_rows} synapses a neuron it would still not fit: {other.findings[0].what}"
        return CapacityError([*error.findings, replace(other.findings[0], severity="info", what=what)])
    what = (
        f"as it is the network does not fit. With {device.cam_rows} synapses a neuron, which deploy --train TRAIN.npz "
        f"chooses by that data, or with --fan-in prune, it fits and takes {int(layout.used_cores.sum())} of "
        f"{device.n_cores} cores."
    )
    return CapacityError([*error.findings, Finding("info", "fits-pruned", what)])


def _rows(network: Any, device: Any) -> str:
    """The CAM rows that the neurons of each node need, before anything is placed."""
    from nir_dynapse.layout.utilisation import network_nodes

    return ", ".join(
        f"{node.name!r} {node.fan_in}"
        + (f" ({node.fan_in.used - node.tonic} synapses and a constant input)" if node.tonic else "")
        + (" is too many" if node.fan_in.used > node.fan_in.available else "")
        for node in network_nodes(network, device)
    )


def _compiled(
    network: Any, device: Any, args: argparse.Namespace, out: Output, params: Any = None, data: Any = None
) -> Any:
    """The Layout of `network` (fitted to `data`), or of its trained `params`, with the options of the command line."""
    from nir_dynapse.fitting.compiler import compile

    options = {"fan_in": args.fan_in or "refuse", "seed": args.seed, "strict": args.strict, **mapping(args)}
    options |= activity(args, network)
    if args.fan_in == "prune" and args.activity is not None:  # what the data says of each synapse
        params = pruned(args, network, device, params)
    with out.progress() as tell:
        return compile(network, params=params, data=data, device=device, progress=tell, **options)


def compile_(args: argparse.Namespace, out: Output) -> int:
    from nir_dynapse.export.samna_config import write_config_json
    from nir_dynapse.import_.nir_graph import from_nir
    from nir_dynapse.reporting.report import report, report_suffix

    files = [Path(path) for path in (args.out, args.config, args.report) if path is not None]
    check_places(args)
    if Path(args.out).suffix != ".json":
        raise ConfigurationError(f"'{args.out}': the result is a Layout. Name it LAYOUT.json.")
    if args.report is not None:
        report_suffix(args.report)
    network = from_nir(args.model, **reading(args))
    device = device_of(args)
    params = None
    if args.params is not None:
        from nir_dynapse.circuit.params_file import load_params
        from nir_dynapse.evaluation.checks import check_params

        params = load_params(args.params)
        check_params(params, network)
    data = None
    if args.data is not None:
        from nir_dynapse.data.data import Data

        data = Data.load(args.data)
    layout = _compiled(network, device, args, out, params, data)
    if args.config is not None:
        write_config_json(layout, args.config)
    layout.save(args.out)
    asked = network if params is None else params
    result = report(layout, device=device, conversion=network.conversion, asked=asked)
    if args.report is not None:
        result.save(args.report)
    written = [str(path) for path in files]
    out.result({**result.to_dict(), "files": written}, result.text() + f"\nWritten: {', '.join(written)}")
    return DONE


def simulate(args: argparse.Namespace, out: Output) -> int:
    from nir_dynapse.cli.samples import left_out, samples
    from nir_dynapse.data.recording import Recording
    from nir_dynapse.data.recording_folder import files_of
    from nir_dynapse.evaluation.checks import check_data, check_output, score
    from nir_dynapse.files.whole import write_arrays

    check_places(args)
    if args.to is not None:
        check_output(args.to, files_of(args.record or ()))
    elif args.record:
        raise ConfigurationError("--record: nothing is recorded. Give the folder for it with --to.")
    thing = loaded(args)
    data, labelled = samples(args.data, thing, args, labels=False)
    check_data(data, thing, labels=False, whole=not args.ideal)
    findings = out.warned(thing)
    said, lines = left_out(data)

    from nir_dynapse.sim.simulation import simulate  # JAX, once there is something to compute

    silicon: dict[str, Any] = {"mismatch": DYNAPSE2.mismatch, "key": args.chip} if args.chip is not None else {}
    silicon["device"] = device_of(args)
    out.note(f"simulating {len(data)} samples of {data.duration:g} s")
    record = tuple(args.record or ())
    if args.to is not None:
        recording = simulate(thing, data.x, ideal=args.ideal, record=record, to=args.to, **silicon)
        nodes = node_rates({n: v[:, None] for n, v in recording.totals().items()}, data.duration, recording.copies)
    else:
        recording = simulate(thing, data.x, ideal=args.ideal, **silicon)
        nodes = node_rates(recording.spikes, recording.dt, recording.copies)
    if args.out is not None and isinstance(recording, Recording):
        arrays: dict[str, Any] = {f"spikes.{node}": spikes for node, spikes in recording.spikes.items()}
        arrays |= {"y": data.y} if labelled else {}
        write_arrays(args.out, **arrays, dt=np.float64(recording.dt))
    run = "ideal" if args.ideal else "circuit" if args.chip is None else f"chip {args.chip}"
    counts = recording.counts()
    fits = labelled and data.y.ndim == 1 and 0 <= data.y.min() <= data.y.max() < counts.shape[1]
    accuracy = asdict(score(run, counts, data.y, spikes=recording.of_spikes)) if fits else None
    text = "\n".join([rates_text(nodes), "", accuracy_text(accuracy), *lines])
    files = [path for path in (args.out, args.to) if path is not None]
    written = f"\nWritten: {files[0]}" if files else ""
    result = {
        "run": run,
        "samples": len(data),
        "nodes": nodes,
        "accuracy": accuracy,
        "files": files,
        "findings": findings + said,
    }
    out.result(result, text + written)
    return DONE


def evaluate(args: argparse.Namespace, out: Output) -> int:
    from nir_dynapse.cli.samples import left_out, samples

    check_places(args)
    thing = loaded(args)
    data, _ = samples(args.data, thing, args, labels=True)
    findings = out.warned(thing)
    said, lines = left_out(data)

    from nir_dynapse.evaluation.evaluate import evaluate  # JAX, once there is something to compute

    options = {"devices": args.devices, "key": args.seed, "mismatch": spread_of(args), "device": device_of(args)}
    options["decide"] = args.decide or "counts"
    with out.resumable(args.checkpoint, "evaluation"), out.progress() as tell:
        result = evaluate(thing, data, progress=tell, checkpoint=args.checkpoint, **options)
    out.result({**result.to_dict(), "findings": findings + said}, "\n".join([str(result), *lines]))
    return DONE
