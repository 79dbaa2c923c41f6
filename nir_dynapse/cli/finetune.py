"""The verb `finetune`: train a network in the model of the circuits and write its weights and biases."""

from __future__ import annotations

import argparse
import shlex
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from nir_dynapse.cli.exchange import check_places, device_of, loaded, spread_of
from nir_dynapse.cli.output import Output
from nir_dynapse.errors import ConfigurationError, Finding
from nir_dynapse.network.network import Network

__all__ = ["finetune"]

KEYWORDS = ("devices", "steps", "minutes", "loss", "checkpoint", "log", "spend")
"""Options that are keywords of `fine_tune` by the same name, and of `TrainingOptions`; who leaves them out gets theirs."""
OPTIONS = ("batch", "rate", "dropout", "worst", "patience", "check_every", "gradient", "delays")


def finetune(args: argparse.Namespace, out: Output) -> int:
    from nir_dynapse.data.data import Data

    begun = time.monotonic()
    check_places(args)
    labels = not args.teacher
    data = Data.load(args.train, labels=labels)
    validation = None if args.validation is None else Data.load(args.validation, labels=labels)
    thing = loaded(args)
    if args.best_layout is not None and args.board is None:
        raise ConfigurationError("--layout: no board says which Layout runs best on it. Give --board, or use compile.")
    if args.teacher and not isinstance(thing, Network):
        raise ConfigurationError(f"'{args.model}' has no ideal run that --teacher could follow. Give MODEL.nir.")
    findings = out.warned(thing)

    from nir_dynapse.backend import open_board  # JAX, once there is something to compute
    from nir_dynapse.circuit.params_file import save_params
    from nir_dynapse.deployment.deploy import silicon_of
    from nir_dynapse.deployment.stages import fine_tuned
    from nir_dynapse.training.fine_tune import USUAL

    keywords = _keywords(args)
    if isinstance(thing, Network) and args.fan_in in ("prune", "refuse"):
        keywords["teacher"] = thing if args.teacher else None
        thing = _limited(thing, data, keywords["device"], args)
    if validation is not None:
        keywords["validation"] = validation
    device = keywords["device"]
    board = nullcontext()
    if args.board is not None:
        board = open_board(args.board, device=silicon_of(device), bit_file=args.bit_file)
    amount = f"{keywords.get('steps', USUAL.steps)} steps at most"
    if args.minutes is not None:
        amount = f"as many steps as fit in {args.minutes:g} min"
    out.note(f"compiling, then {amount}, with checks on held-out chips; the time is told after the second step")
    with out.resumable(args.checkpoint, "training"), out.progress() as tell, board as chip:
        params, log = fine_tuned(thing, data, {**keywords, "board": chip}, tell)
        save_params(params, args.out)
        if args.best_layout is not None and chip is not None and chip.layout is not None:
            chip.layout.save(args.best_layout)
    if args.plot is not None:
        log.plot(args.plot, title=f"Fine-tuning of {Path(args.model).name}")
    logged = args.log if args.log is not None and Path(args.log).exists() else None
    named = (args.out, args.best_layout, logged, args.plot)
    files = [str(path) for path in named if path is not None]
    result = {**_summary(log), "rows": params.topology.n_synapses, "seconds": round(time.monotonic() - begun, 3)}
    findings += [finding.to_dict() for finding in params.findings]
    result |= {"next": following(args), "files": files, "findings": findings}
    out.result(result, _text(result, args, params.findings))
    return 0


def _limited(network: Network, data: Any, device: Any, args: argparse.Namespace) -> Any:
    """The circuit of `network` with as many synapses as the chip has rows, before any training, where it has more."""
    from nir_dynapse.deployment.pruning import Pruning

    prune = Pruning(network, data, device)
    if args.fan_in == "refuse":
        prune.refuse()
    return network if prune.fits() else prune()


def _keywords(args: argparse.Namespace) -> dict[str, Any]:
    """The keywords of `fine_tune` but for what is loaded or opened."""
    from nir_dynapse.sim.surrogate import Surrogate
    from nir_dynapse.training.losses import Penalty
    from nir_dynapse.training.options import TrainingOptions
    from nir_dynapse.training.steps import Attack

    given = {name: value for name in KEYWORDS if (value := getattr(args, name)) is not None}
    given |= {"key": args.seed, "device": device_of(args), "mismatch": spread_of(args)}
    if args.bits is not None:
        given["bits"] = args.bits or None
    if args.teacher:
        given["teacher"] = True
    options: dict[str, Any] = {name: value for name in OPTIONS if (value := getattr(args, name)) is not None}
    if args.slope is not None:
        options["surrogate"] = Surrogate(slope=args.slope)
    costs = {name: value for name in ("sparsity", "operations") if (value := getattr(args, name)) is not None}
    if costs:
        options["penalty"] = Penalty(**costs)
    if args.adversarial is not None:
        options["attack"] = Attack() if args.adversarial is True else Attack(size=args.adversarial)
    return {**given, "options": TrainingOptions(**options)}


def _summary(log: Any) -> dict[str, Any]:
    """Steps, and the last of the best checks, as JSON-ready numbers; None where nothing was checked."""
    names = ("step", "held_out", "held_out_low", "loss")
    row: dict[str, Any] = dict.fromkeys(names)
    known = np.flatnonzero(np.isfinite(log.score))[::-1]
    if len(known):
        best = known[log.score[known].argmax()]
        values = {name: float(getattr(log, name)[best]) for name in names}
        row = {name: value if np.isfinite(value) else None for name, value in values.items()}
        row["step"] = int(log.step[best])
    steps = int(log.step[-1]) if len(log) else None
    return {"steps": steps, "best_step": row["step"], **{name: row[name] for name in names[1:]}}


def _text(result: Mapping[str, Any], args: argparse.Namespace, findings: Sequence[Finding]) -> str:
    done = "Nothing was left to train" if result["steps"] is None else f"{result['steps']} steps of training"
    lines = [f"{done}; {result['rows']} CAM rows; {result['seconds']:.0f} s in all."]
    if result["held_out"] is not None:
        what = f"Best on held-out chips, at step {result['best_step']}:"
        if args.teacher:
            lines.append(f"{what} {-result['held_out']:.4g} from the teacher (mean squared distance, relative).")
        else:
            best, low = (100 * result[name] for name in ("held_out", "held_out_low"))
            lines.append(f"{what} {best:.1f} % of the samples right (5 % quantile of the chips: {low:.1f} %).")
    lines += [f"{finding.severity}: {finding}" for finding in findings]
    lines.append(f"Written: {', '.join(result['files'])}")
    lines += [f"{'Next' if k == 0 else 'or'}: {command}" for k, command in enumerate(result["next"])]
    return "\n".join(lines)


def following(args: argparse.Namespace) -> list[str]:
    """Commands that use what was written, with the options with which the network was read."""
    decide = ["--decide", "first-spike"] if str(args.loss).startswith("first-spike") else []
    if not args.model.endswith(".nir"):  # without its network nothing can be compiled
        return [shlex.join(["nir-dynapse", "evaluate", args.out, "--data", "TEST.npz", *decide])]
    if args.best_layout is not None:
        run = ["nir-dynapse", "run", args.best_layout, "--board", args.board, "--input", "TEST.npz", *decide]
        return [shlex.join(run)]
    given = {"--dt": args.dt, "--reset": args.reset}
    given |= {"--time-unit": args.time_unit} if args.time_unit != "s" else {}
    given |= {"--time-scale": args.time_scale} if args.time_scale != 1 else {}
    given |= {"--frontend": args.frontend} if args.frontend != "spec" else {}
    given |= {"--chips": args.chips} if args.chips != 1 else {}
    given |= {"--profile": getattr(args, "profile", None)}
    options = [word for option, value in given.items() if value is not None for word in (option, str(value))]
    if args.reset_delay is not None:
        options.append("--reset-delay" if args.reset_delay else "--no-reset-delay")
    tuned = [*("--params", args.out), *options]
    return [
        shlex.join(["nir-dynapse", "compile", args.model, *tuned, "-o", "layout.json"]),
        shlex.join(["nir-dynapse", "deploy", args.model, *tuned, "--data", "TEST.npz", *decide, "-o", "out"]),
    ]
