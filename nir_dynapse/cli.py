"""The command `nir-dynapse`: arguments, exit codes and how errors end; the verbs are in `cli_verbs`.

Nothing heavy is imported before a verb runs, so that --help and usage errors answer at once.
"""

from __future__ import annotations

import argparse
import difflib
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

__all__ = ["main", "parser"]

FAULT, USAGE, MISSING, INTERRUPTED = 1, 2, 3, 130
FRONTENDS = ("spec", "snntorch", "norse", "sinabs", "spyx", "rockpool")
EXIT_CODES = "exit codes: 0 done, 1 the model or the data is at fault, 2 wrong usage, 3 something optional is missing"


class _Parser(argparse.ArgumentParser):
    """argparse that names the nearest valid word for a wrong verb, choice or option."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(*args, allow_abbrev=False, **kwargs)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            raise argparse.ArgumentError(action, f"unknown value {value!r}. {_nearest(str(value), action.choices)}")

    def error(self, message: str) -> NoReturn:
        prefix = "unrecognized arguments: "
        if message.startswith(prefix):
            known = _options(self)
            wrong = [word.split("=")[0] for word in message[len(prefix) :].split() if word.startswith("-")]
            message = " ".join([message + ".", *(_nearest(word, known) for word in wrong)])
        self.exit(USAGE, f"nir-dynapse: {message}\nTry '{self.prog} --help'.\n")


def _nearest(word: str, choices: Iterable[Any]) -> str:
    """A sentence with the choices most like `word`, or with all of them where none is like it."""
    known = [str(choice) for choice in choices]
    close = difflib.get_close_matches(word, known, n=3, cutoff=0.5)
    return f"Did you mean {' or '.join(close)}?" if close else f"Choose from {', '.join(known)}."


def _options(parser: argparse.ArgumentParser) -> list[str]:
    """All long options of a parser and its verbs."""
    found: dict[str, None] = {}
    for action in parser._actions:
        found.update(dict.fromkeys(o for o in action.option_strings if o.startswith("--")))
        if isinstance(action, argparse._SubParsersAction):
            for verb in action.choices.values():
                found.update(dict.fromkeys(_options(verb)))
    return list(found)


def _common() -> _Parser:
    """Options that every verb has."""
    common = _Parser(add_help=False)
    group = common.add_argument_group("common options")
    group.add_argument("--json", action="store_true", help="one JSON value on stdout and nothing else there")
    group.add_argument("--seed", type=_whole, default=0, metavar="N", help="seed of everything random (default 0)")
    loudness = group.add_mutually_exclusive_group()
    loudness.add_argument("-q", "--quiet", action="store_true", help="no progress")
    loudness.add_argument("-v", "--verbose", action="store_true", help="progress with times")
    group.add_argument("--strict", action="store_true", help="turn every approximation into an error")
    group.add_argument(
        "--chips", type=int, choices=range(1, 9), default=1, metavar="N", help="chips in the stack, 1 to 8"
    )
    return common


def _model() -> _Parser:
    """Options that say how a NIR file is read and mapped."""
    model = _Parser(add_help=False)
    group = model.add_argument_group("reading and mapping the network")
    group.add_argument(
        "--dt", type=_positive, metavar="S", help="step of the source framework in seconds, before --time-scale"
    )
    group.add_argument(
        "--time-unit", choices=("s", "ms", "us"), default="s", help="unit of the file's times (default s)"
    )
    group.add_argument(
        "--time-scale", type=_positive, default=1.0, metavar="X", help="real seconds per second of the file (default 1)"
    )
    group.add_argument(
        "--frontend", choices=FRONTENDS, default="spec", help="whose exporter wrote the file (default spec)"
    )
    group.add_argument(
        "--reset",
        choices=("value", "subtract", "none"),
        help="how the neurons reset, which no NIR file says (default: the frontend's)",
    )
    late = group.add_mutually_exclusive_group()
    late.add_argument(
        "--reset-delay", action="store_true", default=None, dest="reset_delay", help="the reset acts one step late"
    )
    late.add_argument("--no-reset-delay", action="store_false", default=None, dest="reset_delay", help="it does not")
    group.add_argument(
        "--fan-in",
        choices=("refuse", "prune"),
        default="refuse",
        help="what to do with neurons that have more than 64 synapses (default refuse)",
    )
    return model


def _mapping() -> _Parser:
    """Options that say how a network is put on chips."""
    mapping = _Parser(add_help=False)
    group = mapping.add_argument_group("placing and rounding")
    group.add_argument(
        "--profile",
        metavar="FILE",
        help="bad neurons, CAM rows and tags of the chips (CSV core,neuron,cam,tag, or JSON)",
    )
    group.add_argument(
        "--activity", metavar="X.npz", help="data whose ideal run says which connections are busy (for several chips)"
    )
    group.add_argument(
        "--tolerance",
        type=_spread,
        metavar="PART",
        help="largest relative change of a bias that sharing a core may cause (default 0.25)",
    )
    group.add_argument(
        "--place-seconds", type=_positive, metavar="S", help="most time for finding better places (default 60)"
    )
    group.add_argument("--no-spare-rows", action="store_true", help="one CAM row per weight, even where more are free")
    group.add_argument(
        "--second-range", action="store_true", help="let excitatory weights use the NMDA dendrite too, without its gate"
    )
    group.add_argument(
        "--share-tags",
        action="store_true",
        help="one tag and CAM row for sources with the same targets and weights (default: where tags run short)",
    )
    return mapping


def _board(verb: argparse.ArgumentParser) -> None:
    """Options that say on which board."""
    verb.add_argument(
        "--board",
        default="virtual:0",
        metavar="BOARD",
        help="virtual:SEED, a virtual chip; samna, the real board; samna:SERIAL, one of several (default virtual:0)",
    )
    verb.add_argument(
        "--bit-file", metavar="FILE.bit", help="for the FPGA of a real board (default: $NIR_DYNAPSE_BIT_FILE)"
    )


def _silicon(verb: argparse.ArgumentParser) -> None:
    """Options that say what a virtual board is made of."""
    verb.add_argument(
        "--profile", metavar="FILE", help="what is broken or off on the chips of a virtual board (CSV or JSON)"
    )


def _number(kind: type[int] | type[float], allowed: str, is_allowed: Callable[[Any], bool]) -> Callable[[str], Any]:
    """A converter for argparse: a number of `kind` for which `is_allowed` holds; `allowed` says which those are."""

    def convert(text: str) -> Any:
        value = kind(text)
        if not is_allowed(value):
            raise argparse.ArgumentTypeError(f"{text} is not {allowed}")
        return value

    convert.__name__ = "whole number" if kind is int else "number"  # what argparse calls a value that does not convert
    return convert


_whole = _number(int, "a whole number from 0", lambda value: value >= 0)
_count = _number(int, "a whole number from 1", lambda value: value >= 1)
_positive = _number(float, "a finite number above 0", lambda value: 0 < value < float("inf"))
_spread = _number(float, "a finite number from 0", lambda value: 0 <= value < float("inf"))


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *args: Any, **kwargs: Any) -> None:
        from importlib.metadata import version

        sys.stdout.write(f"nir-dynapse {version('nir-dynapse')}\n")
        parser.exit(0)


def parser() -> argparse.ArgumentParser:
    """The argument parser with all verbs."""
    top = _Parser(
        prog="nir-dynapse",
        description="From a NIR graph to a verified DYNAP-SE2 configuration.",
        epilog="example: nir-dynapse deploy model.nir --data test.npz --board virtual:7 -o out\n" + EXIT_CODES,
    )
    top.add_argument("--version", action=_Version, nargs=0, help="print the version")
    verbs = top.add_subparsers(dest="verb", metavar="VERB", required=True, title="verbs")
    common, model, mapping = _common(), _model(), _mapping()

    def verb(name: str, purpose: str, example: str, *parents: _Parser) -> _Parser:
        epilog = f"example: nir-dynapse {name} {example}".rstrip() + "\n" + EXIT_CODES
        return verbs.add_parser(name, help=purpose, description=purpose, epilog=epilog, parents=[*parents, common])

    data = "an .npz with x (sample, time, channel), y (sample,) and dt in seconds"
    example = "model.nir --data test.npz --board virtual:7 -o out"
    p = verb("deploy", "Do it all: read, check, compile, verify, run a test set, write.", example, model, mapping)
    p.add_argument("model", metavar="MODEL.nir", help="the network")
    p.add_argument("--data", required=True, metavar="TEST.npz", help=data)
    _board(p)
    p.add_argument(
        "-o", "--out", metavar="OUT", help="folder for layout.json, config.json.gz, report.json and report.txt"
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

    p = verb(
        "simulate", "Run a network or a Layout on data.", "layout.json --data test.npz --chip 7 -o spikes.npz", model
    )
    p.add_argument("model", metavar="MODEL.nir|LAYOUT.json", help="the network, or what compile wrote")
    p.add_argument("--data", required=True, metavar="X.npz", help=data)
    kind = p.add_mutually_exclusive_group()
    kind.add_argument("--ideal", action="store_true", help="NIR's equations instead of the circuits")
    kind.add_argument("--chip", type=_whole, metavar="SEED", help="with the mismatch of this virtual chip")
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
    _board(p)
    _silicon(p)
    p.add_argument("--echo", action="store_true", help="record the stimuli, too, when they are really sent")
    p.add_argument(
        "--duration",
        type=_positive,
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
    _board(p)
    _silicon(p)
    p.add_argument(
        "--probes",
        type=_count,
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
    p.add_argument("model", metavar="MODEL.nir|LAYOUT.json", help="the network, or what compile wrote")
    p.add_argument("--data", required=True, metavar="TEST.npz", help=data)
    p.add_argument(
        "--devices",
        type=_count,
        default=100,
        metavar="N",
        help="virtual chips, numbered from --seed on: virtual:SEED to virtual:SEED+N-1 (default 100)",
    )
    p.add_argument(
        "--uniform",
        type=_spread,
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
