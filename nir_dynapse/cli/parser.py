"""The verbs of the command line: purpose, options, examples; nothing heavy is imported, so that --help answers at once."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from nir_dynapse.cli.options import (
    READERS,
    Parser,
    board_option,
    common_options,
    decide_option,
    limited,
    mapping_options,
    model_options,
    pool_option,
    positive,
    silicon_option,
    tuned_options,
)
from nir_dynapse.cli.sensor_options import sensor_options
from nir_dynapse.cli.training_options import finetune_options, training_options
from nir_dynapse.files import numbers

__all__ = ["SHELLS", "parser"]

EXIT_CODES = (
    "exit codes: 0 done, 1 the model or the data is at fault, 2 wrong usage, 3 something optional is missing, "
    "130 interrupted (143 by SIGTERM)"
)
SHELLS = ("bash", "zsh", "fish")
SHOWN = ("device", "parameters", "constants", "primitives", "frontends", "readers")
RECORDED_ON_BOARD = ("v_mem",)
RECORDED = ("i_mem", "i_ampa", "i_nmda", "i_gaba", "i_shunt", "i_ahp", "v_mem", "v", "i_syn")
THING = "MODEL.nir|PARAMS.npz|LAYOUT.json"
THING_HELP = "the network, what finetune wrote, or what compile wrote"
DATA_HELP = "an .npz with x (sample, time, channel), y (sample,) and dt in seconds"
DIGITS, DIGITS_TEST = "examples/networks/digits_recurrent.nir", "examples/data/digits_recurrent_test.npz"
YIN_YANG, YIN_YANG_DATA = "examples/networks/yin_yang.nir", "examples/data/yin_yang_{}.npz"
INSTALL = """install, once (the script is complete: no key starts Python):
  bash  nir-dynapse completion bash > ~/.local/share/bash-completion/completions/nir-dynapse
  zsh   nir-dynapse completion zsh > ~/.zfunc/_nir-dynapse
        with 'fpath+=~/.zfunc; autoload -Uz compinit; compinit' in ~/.zshrc
  fish  nir-dynapse completion fish > ~/.config/fish/completions/nir-dynapse.fish
or for this shell only: eval "$(nir-dynapse completion bash)" """


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *args: Any, **kwargs: Any) -> None:
        from importlib.metadata import version

        sys.stdout.write(f"nir-dynapse {version('nir-dynapse')}\n")
        parser.exit(0)


class _Verbs:
    """Adds verbs to a parser, each with the options that all have."""

    def __init__(self, top: Parser) -> None:
        self._to = top.add_subparsers(dest="verb", metavar="VERB", required=True, title="verbs")
        self._common = common_options()
        self.names: list[str] = []

    def add(self, name: str, purpose: str, examples: Sequence[str], *parents: Parser, epilog: str = "") -> Parser:
        """A verb; `examples` are what follows its name on the command line, in a checkout of the repository."""
        lines = [f"  nir-dynapse {name} {example}".rstrip() for example in examples]
        text = "\n".join(["examples:", *lines, *(["", epilog.rstrip()] if epilog else []), "", EXIT_CODES])
        self.names.append(name)
        verb = self._to.add_parser(
            name, help=purpose, description=purpose, epilog=text, parents=[*parents, self._common]
        )
        verb.is_verb = True
        return verb


def parser() -> argparse.ArgumentParser:
    """The argument parser with all verbs."""
    example = f"  nir-dynapse deploy {DIGITS} --data {DIGITS_TEST} --board virtual:7 -o out"
    top = Parser(
        prog="nir-dynapse",
        description="From a NIR graph to a verified DYNAP-SE2 configuration.",
        epilog=f"example:\n{example}\n\nEvery verb has a --help with examples of its own.\n{EXIT_CODES}",
    )
    top.add_argument("--version", action=_Version, nargs=0, help="print the version")
    verbs = _Verbs(top)
    model, mapping = model_options(), mapping_options()
    _deploy(verbs, model, mapping)
    _check_and_compile(verbs, model, mapping)
    _exchange(verbs, model)
    _train(verbs, model)
    _simulate_and_evaluate(verbs, model)
    _boards(verbs)
    _about(verbs)
    return top


def _deploy(verbs: _Verbs, model: Parser, mapping: Parser) -> None:
    test, train = YIN_YANG_DATA.format("test"), YIN_YANG_DATA.format("train")
    examples = (
        f"{DIGITS} --data {DIGITS_TEST} --board virtual:7 -o out",
        f"{YIN_YANG} --data {test} --train {train} --train-steps 200 --checkpoint so_far.npz -o tuned",
    )
    purpose = "Do it all: read, check, compile, verify, run a test set, write."
    p = verbs.add("deploy", purpose, examples, model, mapping)
    p.add_argument("model", metavar="MODEL.nir", help="the network")
    p.add_argument("--data", required=True, metavar="TEST.npz", help=DATA_HELP)
    pool_option(p)
    board_option(p)
    p.add_argument("--no-fit", action="store_false", dest="fit", help="leave the circuit as the closed form gives it")
    training_options(p)
    decide_option(p, " (default: where such a loss was trained with)")
    p.add_argument(
        "-o",
        "--out",
        metavar="OUT",
        help="folder for layout.json, config.json.gz, the report (.json, .txt, .html) and what training made",
    )


def _check_and_compile(verbs: _Verbs, model: Parser, mapping: Parser) -> None:
    purpose = "Say whether a network can be read and fits, and what is approximated."
    p = verbs.add("check", purpose, (DIGITS, f"{YIN_YANG} --fan-in prune --json"), model, mapping)
    p.add_argument("model", metavar="MODEL.nir", help="the network")
    pool_option(p)

    examples = (f"{DIGITS} -o layout.json --config config.json.gz", f"{YIN_YANG} --second-range -o yin_yang.json")
    p = verbs.add("compile", "Place, route and quantise a network.", examples, model, mapping)
    p.add_argument("model", metavar="MODEL.nir", help="the network")
    p.add_argument("-o", "--out", required=True, metavar="LAYOUT.json", help="where to write the Layout")
    p.add_argument("--config", metavar="CONFIG.json.gz", help="where to write the chip configuration")
    p.add_argument("--report", metavar="REPORT.html", help="where to write the report: a page, .json or .txt")
    p.add_argument(
        "--data",
        metavar="X.npz",
        help="fit the circuit to what the ideal run does with this data (labels are not used)",
    )
    tuned_options(p)


def _exchange(verbs: _Verbs, model: Parser) -> None:
    purpose = "Read a network of any frontend, or a chip configuration, and write it as plain NIR."
    examples = (f"{DIGITS} -o plain.nir", "config.json.gz --names layout.json -o from_chip.nir")
    p = verbs.add("import", purpose, examples, model)
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

    examples = (
        "layout.json -o on_chip.nir",
        f"{YIN_YANG} -o circuit.nir",
        f"{DIGITS} --for norse -o for_norse.nir",
    )
    purpose = "Write what a Layout computes as NIR, for other tools, or a network as one of them reads it."
    p = verbs.add("export", purpose, examples, model)
    p.add_argument(
        "source",
        metavar="LAYOUT.json|MODEL.nir",
        help="what compile wrote; a NIR file is mapped to circuits first, with --for it stays the network that it is",
    )
    p.add_argument(
        "--for",
        dest="reader",
        choices=READERS,
        metavar="NAME",
        help=f"who reads it: {', '.join(READERS)} (default spec: NIR in seconds; docs/readers.md)",
    )
    p.add_argument("-o", "--out", required=True, metavar="OUT.nir", help="where to write the NIR file")


def _train(verbs: _Verbs, model: Parser) -> None:
    purpose = "Train a network in the model of the circuits, so that it works on chips that it has never seen."
    data = YIN_YANG_DATA.format("train")
    examples = (
        f"{YIN_YANG} --train {data} --steps 200 --checkpoint so_far.npz -o tuned.npz",
        f"{YIN_YANG} --train {data} --board virtual:7 --log log.csv --plot log.svg -o tuned.npz",
    )
    p = verbs.add("finetune", purpose, examples, model)
    p.add_argument("model", metavar=THING, help=THING_HELP)
    p.add_argument("--train", required=True, metavar="TRAIN.npz", help=DATA_HELP)
    finetune_options(p)


def _simulate_and_evaluate(verbs: _Verbs, model: Parser) -> None:
    examples = (f"{DIGITS} --data {DIGITS_TEST} --ideal", f"layout.json --data {DIGITS_TEST} --chip 7 -o spikes.npz")
    p = verbs.add("simulate", "Run a network or a Layout on data.", examples, model)
    p.add_argument("model", metavar=THING, help=THING_HELP)
    p.add_argument(
        "--data", required=True, metavar="X.npz|FILE", help=f"{DATA_HELP}; or a file of events; or a recording (--to)"
    )
    sensor_options(p)
    kind = p.add_mutually_exclusive_group()
    kind.add_argument("--ideal", action="store_true", help="NIR's equations instead of the circuits")
    kind.add_argument(
        "--chip", type=limited(numbers.SEED), metavar="SEED", help="with the mismatch of this virtual chip"
    )
    place = p.add_mutually_exclusive_group()
    place.add_argument("-o", "--out", metavar="SPIKES.npz", help="where to write the spikes of every node")
    place.add_argument(
        "--to",
        metavar="FOLDER",
        help="folder for the recording, written while it runs, spikes as events: memory does not grow with its length",
    )
    p.add_argument(
        "--record",
        action="append",
        choices=RECORDED,
        metavar="NAME",
        help=f"with --to, record this, too: {', '.join(RECORDED[:-3])} in A, v_mem in V; --ideal: v, i_syn (several times)",
    )

    purpose = "Accuracy on many virtual chips: median, quartiles, worst twentieth, minimum, mean."
    examples = (
        f"layout.json --data {DIGITS_TEST} --devices 100 --checkpoint chips.npz",
        f"{YIN_YANG} --data {YIN_YANG_DATA.format('test')} --devices 20 --uniform 0.2 --json",
    )
    p = verbs.add("evaluate", purpose, examples, model)
    p.add_argument("model", metavar=THING, help=THING_HELP)
    p.add_argument("--data", required=True, metavar="TEST.npz|FILE", help=f"{DATA_HELP}; or HDF5 as SHD, with labels")
    sensor_options(p)
    p.add_argument(
        "--devices",
        type=limited(numbers.DEVICES),
        default=100,
        metavar="N",
        help="virtual chips, numbered from --seed on: virtual:SEED to virtual:SEED+N-1 (default 100)",
    )
    p.add_argument(
        "--uniform",
        type=limited(numbers.CV),
        metavar="CV",
        help="std/mean of every analog element, e.g. 0.2 (default: the measured ones)",
    )
    p.add_argument(
        "--checkpoint", metavar="CHIPS.npz", help="file with the chips so far; the same command goes on from it"
    )
    decide_option(p)


def _boards(verbs: _Verbs) -> None:
    examples = (
        f"layout.json --board virtual:7 --input {DIGITS_TEST} -o heard.npz",
        f"layout.json --board samna --bit-file Dynapse2Stack.bit --input {DIGITS_TEST} -o heard.npz",
    )
    p = verbs.add("run", "Run a Layout on a board, events in, spikes out.", examples)
    p.add_argument("layout", metavar="LAYOUT.json", help="what compile wrote")
    p.add_argument(
        "--input",
        required=True,
        metavar="X.npz|FILE",
        help="samples: x (sample, time, channel) and dt in seconds (y is optional); an event list: time_us, node (names of "
        "input nodes) and index; a file of events; or a recording (simulate --to)",
    )
    sensor_options(p, duration=False)
    board_option(p)
    silicon_option(p)
    decide_option(p)
    p.add_argument("--echo", action="store_true", help="record the stimuli, too, when they are really sent")
    p.add_argument(
        "--record",
        action="append",
        choices=RECORDED_ON_BOARD,
        metavar="NAME",
        help="v_mem: also the voltages of the membranes that the Layout shows (samples on a virtual board), in V",
    )
    p.add_argument(
        "--duration",
        type=positive,
        metavar="S",
        help="length of each run in seconds (default: that of a sample; of an event list 0.1 s after its last event)",
    )
    p.add_argument(
        "-o", "--out", metavar="SPIKES.npz", help="where to write the spikes: counts per node, or an event list"
    )

    purpose = "Measure the biases, the mismatch and the bad rows of a board, for --profile of compile and deploy."
    examples = ("--board virtual:7 -o chip.json", "--board virtual:7 --probes 16 --no-rows -o rough.json.gz")
    p = verbs.add("calibrate", purpose, examples)
    board_option(p)
    silicon_option(p)
    p.add_argument(
        "--probes",
        type=limited(numbers.PROBES),
        default=256,
        metavar="N",
        help="neurons of each core to ask for its biases (default 256)",
    )
    p.add_argument("--no-rows", action="store_true", help="leave out the search for bad CAM rows")
    p.add_argument("--all-tags", action="store_true", help="try all 2 048 tags on every core (32 more runs)")
    p.add_argument(
        "-o", "--out", required=True, metavar="CHIP.json", help="where to write the profile (.json, .json.gz)"
    )


def _about(verbs: _Verbs) -> None:
    purpose = "Print the limits, parameters and constants of the device, or the NIR primitives, frontends and readers."
    p = verbs.add("show", purpose, ("primitives", "device --chips 2 --json"))
    p.add_argument("what", choices=SHOWN, metavar="|".join(SHOWN))

    p = verbs.add("doctor", "Say what this machine has and lacks.", ("", "--compile", "--json"))
    p.add_argument(
        "--compile",
        action="store_true",
        help="compile the kernels that are not kept yet, on all CPUs: no later command waits for them",
    )

    purpose = "Print the JSON Schema of what a verb prints with --json, or of its errors."
    p = verbs.add("schema", purpose, ("check", "error"))
    p.add_argument("of", choices=(*verbs.names, "completion", "error"), metavar="VERB|error", help="whose output")

    purpose = "Print a script that completes verbs, options, values and file names in a shell."
    p = verbs.add("completion", purpose, SHELLS, epilog=INSTALL)
    p.add_argument("shell", choices=SHELLS, metavar="|".join(SHELLS))
