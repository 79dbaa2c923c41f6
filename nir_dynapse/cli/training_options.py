"""Options about training, of finetune and deploy."""

from __future__ import annotations

import argparse

from nir_dynapse.cli.options import board_option, limited, spend_option, tuned_options
from nir_dynapse.files import numbers
from nir_dynapse.files.numbers import Whole

__all__ = ["finetune_options", "training_options"]


def training_options(verb: argparse.ArgumentParser) -> None:
    """What deploy is told about training."""
    group = verb.add_argument_group("fine-tuning")
    group.add_argument("--train", metavar="TRAIN.npz", help="fine-tune the network on this data before it is compiled")
    amount = group.add_mutually_exclusive_group()
    amount.add_argument(
        "--train-steps",
        type=limited(numbers.STEPS),
        metavar="N",
        help="steps of training (default 3000)",
    )
    amount.add_argument(
        "--train-minutes",
        type=limited(numbers.MINUTES),
        metavar="X",
        help="as many steps of training as fit in that time",
    )
    group.add_argument(
        "--train-devices",
        type=limited(numbers.PER_STEP),
        metavar="N",
        help="virtual chips per step (default 2)",
    )
    _delays(group)
    _uniform(group, "of training and of the comparison")
    group.add_argument(
        "--compare",
        type=limited(numbers.COMPARED),
        metavar="N",
        help="virtual chips to compare before and after on (default 100, 0: none)",
    )
    tuned_options(group)
    group.add_argument(
        "--checkpoint", metavar="FILE.npz", help="the training so far; the same command goes on from it, bit for bit"
    )


def _delays(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--delays",
        choices=("keep", "none", "inputs", "all"),
        metavar="WHICH",
        help="keep those of the network (default), none, or train them: inputs (of rows that hear input channels), or all",
    )


def finetune_options(verb: argparse.ArgumentParser) -> None:
    """What finetune is told."""
    group = verb.add_argument_group("what is learnt")
    group.add_argument("--validation", metavar="V.npz", help="data of the checks (default: that of --train)")
    kind = group.add_mutually_exclusive_group()
    kind.add_argument(
        "--loss",
        choices=("counts", "first-spike", "first-spike-time", "max-over-time"),
        metavar="NAME",
        help="what answers the class: counts (most spikes; default), first-spike, first-spike-time (within a bin, too), "
        "max-over-time (highest filtered trace)",
    )
    kind.add_argument(
        "--teacher", action="store_true", help="no labels: all spikes follow those of the network's own ideal run"
    )
    group.add_argument(
        "--gradient",
        choices=("surrogate", "spike-times"),
        metavar="NAME",
        help="through whether neurons fire, by a surrogate (default), or exactly through when they fire: spike-times",
    )
    _delays(group)
    group.add_argument(
        "--slope",
        type=limited(numbers.SLOPE),
        metavar="K",
        help="of the surrogate: 2 reaches far below the threshold, where a population has no spikes (default 5)",
    )
    group.add_argument(
        "--bits",
        type=limited(Whole(0, 4)),
        choices=range(5),
        metavar="N",
        help="bits of a weight, 1 to 4, or 0 to leave rounding to compile (default 4)",
    )

    group = verb.add_argument_group("on which chips")
    group.add_argument(
        "--devices",
        type=limited(numbers.PER_STEP),
        metavar="N",
        help="virtual chips per step (default 2)",
    )
    spend_option(group, "none")
    _uniform(group, "of training and checks")
    group.add_argument(
        "--worst",
        type=limited(numbers.WORST),
        metavar="SHARE",
        help="share of the chips, the worst ones, that counts (default 1)",
    )
    group.add_argument(
        "--adversarial",
        type=limited(numbers.SIZE),
        nargs="?",
        const=True,
        metavar="SIZE",
        help="also against the worst currents within SIZE, relative (default 0.1)",
    )
    group.add_argument(
        "--dropout",
        type=limited(numbers.DROPOUT),
        metavar="SHARE",
        help="share of hidden neurons that is silent (default 0)",
    )
    board_option(group, None)
    group.add_argument(
        "--profile", metavar="FILE", help="what calibrate measured of the chips, or what is bad on them (CSV or JSON)"
    )

    group = verb.add_argument_group("steps")
    amount = group.add_mutually_exclusive_group()
    amount.add_argument("--steps", type=limited(numbers.STEPS), metavar="N", help="how many (default 3000)")
    amount.add_argument(
        "--minutes", type=limited(numbers.MINUTES), metavar="X", help="as many steps as fit in that time, all included"
    )
    group.add_argument(
        "--batch",
        type=limited(numbers.BATCH),
        metavar="N",
        help="samples per chip and step (default 8)",
    )
    group.add_argument(
        "--rate", type=limited(numbers.LEARNING_RATE), metavar="X", help="learning rate at the start (default 0.01)"
    )
    group.add_argument(
        "--sparsity", type=limited(numbers.WEIGHT), metavar="X", help="cost of squared spike counts (default 0)"
    )
    group.add_argument(
        "--operations",
        type=limited(numbers.WEIGHT),
        metavar="X",
        help="cost of synaptic operations: events that a CAM row hears in a sample (default 0)",
    )
    group.add_argument(
        "--check-every",
        type=limited(numbers.STEPS),
        metavar="N",
        help="steps between two checks (default 300)",
    )
    group.add_argument(
        "--patience", type=limited(numbers.STEPS), metavar="N", help="stop after N checks without a better one"
    )

    group = verb.add_argument_group("files")
    group.add_argument("-o", "--out", required=True, metavar="TUNED.npz", help="where to write what was trained")
    group.add_argument(
        "--checkpoint", metavar="FILE.npz", help="the training so far; the same command goes on from it, bit for bit"
    )
    group.add_argument(
        "--layout",
        dest="best_layout",
        metavar="LAYOUT.json",
        help="the bits that ran best on the board, in their places: what runs on it next (with --board)",
    )
    group.add_argument("--log", metavar="LOG.csv", help="loss and accuracies at every check")
    group.add_argument("--plot", metavar="LOG.svg", help="the same as a picture")


def _uniform(group: argparse._ArgumentGroup, of: str) -> None:
    group.add_argument(
        "--uniform",
        type=limited(numbers.CV),
        metavar="CV",
        help=f"std/mean of every analog element {of}, e.g. 0.2 (default: the measured ones)",
    )
