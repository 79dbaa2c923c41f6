"""The options that verbs of the command line share, and the parser that makes them; nothing heavy is imported here."""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, NoReturn

from nir_dynapse.chip.constants import SETS
from nir_dynapse.files import numbers
from nir_dynapse.files.numbers import Real, Whole

__all__ = [
    "FRONTENDS",
    "READERS",
    "USAGE",
    "Parser",
    "WrongUsage",
    "board_option",
    "common_options",
    "limited",
    "mapping_options",
    "model_options",
    "pool_option",
    "positive",
    "silicon_option",
    "spend_option",
    "tuned_options",
]

USAGE = 2
FRONTENDS = ("spec", "snntorch", "norse", "sinabs", "spyx", "rockpool", "spikingjelly")
READERS = ("spec", "norse", "snntorch", "spikingjelly", "sinabs", "spyx", "jaxsnn")


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Sentences wrapped to the terminal; what is indented (examples) stays one line that can be copied."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        lines = (line if line.startswith("  ") else textwrap.fill(line, width) for line in text.splitlines())
        return "\n".join(indent + line for line in lines)

    def add_argument(self, action: argparse.Action) -> None:
        super().add_argument(action)
        if isinstance(action, argparse._SubParsersAction):  # argparse forgets that verbs are indented once more
            self._action_max_length += self._indent_increment


class Parser(argparse.ArgumentParser):
    """argparse that names the nearest valid word for a wrong verb, choice or option.

    `is_verb` makes it refuse what it does not know itself, so that its own options are the ones suggested.
    """

    is_verb = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("formatter_class", _Formatter)
        super().__init__(*args, allow_abbrev=False, **kwargs)
        self._words: list[str] = []

    def parse_known_args(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, args: Any = None, namespace: Any = None
    ) -> Any:
        self._words = [str(word) for word in (sys.argv[1:] if args is None else args)]
        known, unknown = super().parse_known_args(args, namespace)
        if self.is_verb and unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return known, unknown

    def format_help(self) -> str:
        if self.is_verb and self.usage is None:  # the options follow in groups
            self.usage = " ".join(
                ["%(prog)s", *(_needed(action) for action in self._actions if action.required), "[options]"]
            )
        return super().format_help()

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            raise argparse.ArgumentError(action, f"unknown value {value!r}. {_nearest(str(value), action.choices)}")

    def error(self, message: str) -> NoReturn:
        if message.startswith(("unrecognized arguments", "the following arguments are required")):
            known = [option for action in self._actions for option in action.option_strings]
            options = [word.split("=")[0] for word in self._words if word.startswith("--") and word != "--"]
            long = [option for option in known if option.startswith("--")]
            hints = [f"{word}: {_nearest(word, long)}" for word in options if word not in known] if self.is_verb else []
            message = " ".join([f"{message}.", *hints])
        hint = f"Try '{self.prog} --help'."
        with suppress(OSError):  # stderr on a full disk must not hide that the usage was wrong
            sys.stderr.write(f"nir-dynapse: {message}\n{hint}\n")
        raise WrongUsage(message, hint)


class WrongUsage(SystemExit):
    """The exit of a command that is wrong, with `message` and what to try."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(USAGE)
        self.message, self.hint = message, hint


def _needed(action: argparse.Action) -> str:
    """A required argument or option as usage shows it."""
    return " ".join([*action.option_strings[-1:], str(action.metavar)])


def _nearest(word: str, choices: Iterable[Any]) -> str:
    from nir_dynapse.errors import nearest

    return nearest(word, choices)


def common_options() -> Parser:
    """Options that every verb has."""
    common = Parser(add_help=False)
    group = common.add_argument_group("common options")
    group.add_argument("--json", action="store_true", help="one JSON document on stdout (see schema), no progress")
    group.add_argument(
        "--seed", type=limited(numbers.SEED), default=0, metavar="N", help="seed of everything random (default 0)"
    )
    loudness = group.add_mutually_exclusive_group()
    loudness.add_argument("-q", "--quiet", action="store_true", help="no progress")
    loudness.add_argument("-v", "--verbose", action="store_true", help="progress with times, with --json too")
    group.add_argument("--strict", action="store_true", help="turn every approximation into an error")
    group.add_argument(
        "--chips",
        type=limited(Whole(1, 8)),
        choices=range(1, 9),
        default=1,
        metavar="N",
        help="chips in the stack, 1 to 8",
    )
    group.add_argument(
        "--circuit",
        choices=tuple(SETS),
        metavar="NAME",
        help=f"constants of the circuits: {', '.join(SETS)} (default: those of the Layout, else published; show constants)",
    )
    return common


def model_options() -> Parser:
    """Options that say how a NIR file is read and mapped."""
    model = Parser(add_help=False)
    group = model.add_argument_group("reading and mapping the network")
    group.add_argument(
        "--dt",
        type=limited(numbers.STEP),
        metavar="S",
        help="step of the source framework in seconds, before --time-scale",
    )
    group.add_argument(
        "--time-unit", choices=("s", "ms", "us"), default="s", help="unit of the file's times (default s)"
    )
    group.add_argument(
        "--time-scale",
        type=limited(numbers.TIME_SCALE),
        default=1.0,
        metavar="X",
        help="real seconds per second of the file (default 1)",
    )
    group.add_argument(
        "--frontend",
        choices=FRONTENDS,
        default="spec",
        metavar="NAME",
        help=f"whose exporter wrote the file: {', '.join(FRONTENDS)} (default spec)",
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
        choices=("train", "prune", "refuse"),
        help="neurons with more than 64 synapses: choose them by training (default with --train), drop the least "
        "important, or refuse (default without)",
    )
    return model


def pool_option(verb: argparse._ActionsContainer) -> None:
    """How many input channels become one."""
    verb.add_argument(
        "--pool",
        type=limited(Whole(2, 1024)),
        metavar="N",
        help="add up N neighbouring input channels (of an image N × N) into one before they are sent",
    )


def mapping_options() -> Parser:
    """Options that say how a network is put on chips."""
    mapping = Parser(add_help=False)
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
        type=limited(numbers.TOLERANCE),
        metavar="PART",
        help="largest relative change of a bias that sharing a core may cause (default 0.25)",
    )
    group.add_argument(
        "--place-seconds",
        type=limited(numbers.PLACE_SECONDS),
        metavar="S",
        help="most time for finding better places (default 60)",
    )
    spend_option(group, "none; where the network is trained: chip")
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


def spend_option(verb: argparse._ActionsContainer, default: str) -> None:
    """How many neurons of the chip stand for one of the network."""
    verb.add_argument(
        "--spend",
        type=copies,
        metavar="COPIES",
        help=f"neurons of the chip for each of the network: a number, chip (as many as fit) or none (default {default})",
    )


def decide_option(verb: argparse._ActionsContainer, usual: str = "") -> None:
    """What chooses a class."""
    verb.add_argument(
        "--decide",
        choices=("counts", "first-spike"),
        metavar="NAME",
        help=f"first-spike: also the accuracy where the first spike decides, beside that of the counts{usual}",
    )


def board_option(verb: argparse._ActionsContainer, default: str | None = "virtual:0") -> None:
    """Options that say on which board; `default` None: only where asked."""
    said = "virtual:0" if default else "none: virtual chips that change with every step"
    verb.add_argument(
        "--board",
        default=default,
        metavar="BOARD",
        help=f"virtual:SEED, a virtual chip; samna, the real board; samna:SERIAL, one of several (default {said})",
    )
    verb.add_argument(
        "--bit-file", metavar="FILE.bit", help="for the FPGA of a real board (default: $NIR_DYNAPSE_BIT_FILE)"
    )


def silicon_option(verb: argparse.ArgumentParser) -> None:
    """Options that say what a virtual board is made of."""
    verb.add_argument(
        "--profile", metavar="FILE", help="what is broken or off on the chips of a virtual board (CSV or JSON)"
    )


def limited(limit: Whole | Real) -> Callable[[str], Any]:
    """A converter for argparse: a number that `limit` allows, refused in the words of calls from Python."""
    kind = int if isinstance(limit, Whole) else float

    def convert(text: str) -> Any:
        with suppress(ValueError):
            if limit.holds(value := kind(text)):
                return value
        raise argparse.ArgumentTypeError(f"is {text[:40]}, allowed are {limit}.")

    return convert


def copies(text: str) -> int | str:
    """A converter for argparse: what `compile` can spend neurons on."""
    return text if text in ("chip", "none") else limited(numbers.COPIES)(text)


def positive(text: str) -> float:
    """A converter for argparse: a finite number above 0, whose upper limit depends on more than itself."""
    with suppress(ValueError):
        if 0 < (value := float(text)) < float("inf"):
            return value
    raise argparse.ArgumentTypeError(f"is {text[:40]}, allowed are finite numbers above 0.")


def tuned_options(verb: argparse._ActionsContainer) -> None:
    """Where currents that were trained come from."""
    verb.add_argument("--params", metavar="TUNED.npz", help="trained weights and biases, as finetune wrote them")
