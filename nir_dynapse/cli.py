"""The command `nir-dynapse`: arguments, exit codes and how errors end; the verbs are in `cli_verbs`.

Nothing heavy is imported before a verb runs, so that --help and usage errors answer at once.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

from nir_dynapse.cli_options import (
    FRONTENDS,
    Parser,
    board_option,
    common_options,
    count,
    finetune_options,
    mapping_options,
    model_options,
    positive,
    silicon_option,
    spread,
    training_options,
    tuned_options,
    whole,
)

__all__ = ["FRONTENDS", "main", "parser"]

FAULT, MISSING, INTERRUPTED = 1, 3, 130
EXIT_CODES = "exit codes: 0 done, 1 the model or the data is at fault, 2 wrong usage, 3 something optional is missing"


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *args: Any, **kwargs: Any) -> None:
        from importlib.metadata import version

        sys.stdout.write(f"nir-dynapse {version('nir-dynapse')}\n")
        parser.exit(0)


def parser() -> argparse.ArgumentParser:
    """The argument parser with all verbs."""
    top = Parser(
        prog="nir-dynapse",
        description="From a NIR graph to a verified DYNAP-SE2 configuration.",
        epilog="example: nir-dynapse deploy model.nir --data test.npz --board virtual:7 -o out\n" + EXIT_CODES,
    )
    top.add_argument("--version", action=_Version, nargs=0, help="print the version")
    verbs = top.add_subparsers(dest="verb", metavar="VERB", required=True, title="verbs")
    common, model, mapping = common_options(), model_options(), mapping_options()

    def verb(name: str, purpose: str, example: str, *parents: Parser) -> Parser:
        epilog = f"example: nir-dynapse {name} {example}".rstrip() + "\n" + EXIT_CODES
        return verbs.add_parser(name, help=purpose, description=purpose, epilog=epilog, parents=[*parents, common])

    thing = "MODEL.nir|PARAMS.npz|LAYOUT.json"
    data = "an .npz with x (sample, time, channel), y (sample,) and dt in seconds"
    example = "model.nir --data test.npz --board virtual:7 -o out"
    p = verb("deploy", "Do it all: read, check, compile, verify, run a test set, write.", example, model, mapping)
    p.add_argument("model", metavar="MODEL.nir", help="the network")
    p.add_argument("--data", required=True, metavar="TEST.npz", help=data)
    board_option(p)
    training_options(p)
    p.add_argument(
        "-o",
        "--out",
        metavar="OUT",
        help="folder for layout.json, config.json.gz, report.json and report.txt, and what training made",
    )

    purpose = "Say whether a network can be read and fits, and what is approximated."
    p = verb("check", purpose, "model.nir", model, mapping)
    p.add_argument("model", metavar="MODEL.nir", help="the network")

    p = verb(
        "import",
        "Read a network of any frontend, or a chip configuration, and write it as plain NIR.",
        "model.nir --frontend norse -o network.nir",
        model,
    )
    p.add_argument(
        "source", metavar="MODEL.nir|CONFIG.json[.gz]", help="what a frontend wrote, or a chip configuration"
    )
    p.add_argument(
        "-o",
        "--out",
        required=True,
        metavar="OUT.nir|LAYOUT.json",
        help="NIR in seconds with NIR's own gains; a configuration can also become a Layout (.json)",
    )
    p.add_argument(
        "--names",
        metavar="LAYOUT.json",
        help="the Layout that a configuration belongs to (default: layout.json beside it, where it fits)",
    )

    p = verb("export", "Write what a Layout computes as NIR, for other tools.", "layout.json -o network.nir", model)
    p.add_argument(
        "source", metavar="LAYOUT.json|MODEL.nir", help="what compile wrote; a NIR file is mapped to circuits first"
    )
    p.add_argument("-o", "--out", required=True, metavar="OUT.nir", help="where to write the NIR file")

    p = verb(
        "compile",
        "Place, route and quantise a network.",
        "model.nir -o layout.json --config config.json.gz",
        model,
        mapping,
    )
    p.add_argument("model", metavar="MODEL.nir", help="the network")
    p.add_argument("-o", "--out", required=True, metavar="LAYOUT.json", help="where to write the Layout")
    p.add_argument("--config", metavar="CONFIG.json.gz", help="where to write the chip configuration")
    tuned_options(p)

    p = verb(
        "finetune",
        "Train a network in the model of the circuits, so that it works on chips that it has never seen.",
        "model.nir --train train.npz --steps 2000 --checkpoint so_far.npz -o tuned.npz",
        model,
    )
    p.add_argument("model", metavar=thing, help="the network, what finetune wrote, or what compile wrote")
    p.add_argument("--train", required=True, metavar="TRAIN.npz", help=data)
    finetune_options(p)

    p = verb(
        "simulate", "Run a network or a Layout on data.", "layout.json --data test.npz --chip 7 -o spikes.npz", model
    )
    p.add_argument("model", metavar=thing, help="the network, what finetune wrote, or what compile wrote")
    p.add_argument("--data", required=True, metavar="X.npz", help=data)
    kind = p.add_mutually_exclusive_group()
    kind.add_argument("--ideal", action="store_true", help="NIR's equations instead of the circuits")
    kind.add_argument("--chip", type=whole, metavar="SEED", help="with the mismatch of this virtual chip")
    p.add_argument("-o", "--out", metavar="SPIKES.npz", help="where to write the spikes of every node")

    p = verb(
        "run", "Run a Layout on a board, events in, spikes out.", "layout.json --board virtual:7 --input x.npz -o y.npz"
    )
    p.add_argument("layout", metavar="LAYOUT.json", help="what compile wrote")
    p.add_argument(
        "--input",
        required=True,
        metavar="X.npz",
        help="samples: x (sample, time, channel) and dt in seconds (y is optional); or an event list: time_us, node, index "
        "and nodes (names of input nodes)",
    )
    board_option(p)
    silicon_option(p)
    p.add_argument("--echo", action="store_true", help="record the stimuli, too, when they are really sent")
    p.add_argument(
        "--duration",
        type=positive,
        metavar="S",
        help="length of each run in seconds (default: that of a sample; of an event list 0.1 s after its last event)",
    )
    p.add_argument(
        "-o", "--out", metavar="SPIKES.npz", help="where to write the spikes: counts per node, or an event list"
    )

    p = verb(
        "calibrate",
        "Measure the biases, the mismatch and the bad rows of a board, for --profile of compile and deploy.",
        "--board virtual:7 -o chip.json",
    )
    board_option(p)
    silicon_option(p)
    p.add_argument(
        "--probes",
        type=count,
        default=256,
        metavar="N",
        help="neurons of each core to ask for its biases (default 256)",
    )
    p.add_argument("--no-rows", action="store_true", help="leave out the search for bad CAM rows")
    p.add_argument("--all-tags", action="store_true", help="try all 2 048 tags on every core (32 more runs)")
    p.add_argument(
        "-o", "--out", required=True, metavar="CHIP.json", help="where to write the profile (.json, .json.gz)"
    )

    p = verb(
        "evaluate",
        "Accuracy on many virtual chips: median, quartiles, worst twentieth, minimum, mean.",
        "layout.json --data test.npz --devices 100 --checkpoint chips.npz",
        model,
    )
    p.add_argument("model", metavar=thing, help="the network, what finetune wrote, or what compile wrote")
    p.add_argument("--data", required=True, metavar="TEST.npz", help=data)
    p.add_argument(
        "--devices",
        type=count,
        default=100,
        metavar="N",
        help="virtual chips, numbered from --seed on: virtual:SEED to virtual:SEED+N-1 (default 100)",
    )
    p.add_argument(
        "--uniform",
        type=spread,
        metavar="CV",
        help="std/mean of every analog element, e.g. 0.2 (default: the measured ones)",
    )
    p.add_argument(
        "--checkpoint", metavar="CHIPS.npz", help="file with the chips so far; the same command goes on from it"
    )

    p = verb(
        "show", "Print the limits of the device, its parameters, or what becomes of each NIR primitive.", "primitives"
    )
    p.add_argument("what", choices=("device", "parameters", "primitives"), metavar="device|parameters|primitives")

    verb("doctor", "Say what this machine has and lacks.", "")
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code (0 done, 1 model or data, 2 usage, 3 something optional missing)."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # pyright: ignore[reportAttributeAccessIssue]
    try:
        code = _run(argv)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        sys.stderr.write("nir-dynapse: interrupted.\n")
        return INTERRUPTED


def _run(argv: Sequence[str] | None) -> int:
    try:
        args = parser().parse_args(argv)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0
    from nir_dynapse.cli_output import Output
    from nir_dynapse.errors import DynapseError, NotInstalledError

    out = Output(args.json, args.quiet, args.verbose)
    try:
        from nir_dynapse.cli_verbs import VERBS

        return VERBS[args.verb](args, out)
    except DynapseError as error:
        out.error(error)
        return MISSING if isinstance(error, NotInstalledError) else FAULT
    except ModuleNotFoundError as error:
        sys.stderr.write(f"nir-dynapse: the Python package {error.name!r} is missing. Run 'nir-dynapse doctor'.\n")
        return MISSING
