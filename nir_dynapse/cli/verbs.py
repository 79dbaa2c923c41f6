"""What runs for each verb of the command line, loaded when it is called."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from importlib import import_module

from nir_dynapse.cli.output import Output

__all__ = ["VERBS"]

MANY = 50
"""Virtual chips that are sure to take longer than kernels take to be compiled, on data as test sets are."""
Verb = Callable[[argparse.Namespace, Output], int]


def _verb(module: str, name: str) -> Verb:
    """`name` of a module that is imported by the call only: no verb waits for what another one needs."""

    def run(args: argparse.Namespace, out: Output) -> int:
        if kernels := _kernels(args):
            from nir_dynapse.sim.native import ahead  # not for what runs nothing

            ahead.start(*kernels)
        return getattr(import_module(f"nir_dynapse.cli.{module}"), name)(args, out)

    return run


def _kernels(args: argparse.Namespace) -> tuple[str, ...]:
    """Kernels that the verb is sure to need: where they have not been compiled yet, that begins before all imports."""
    verb, board = args.verb, getattr(args, "board", None) or "virtual"
    if verb == "finetune" or (verb == "deploy" and args.train):
        return "run", "back"
    many = verb == "evaluate" and args.devices >= MANY
    return ("play",) if many or (verb == "calibrate" and board.startswith("virtual")) else ()


VERBS: dict[str, Verb] = {
    "deploy": _verb("pipeline", "deploy"),
    "check": _verb("pipeline", "check"),
    "compile": _verb("pipeline", "compile_"),
    "import": _verb("exchange", "import_"),
    "export": _verb("exchange", "export"),
    "finetune": _verb("finetune", "finetune"),
    "simulate": _verb("pipeline", "simulate"),
    "run": _verb("run", "run"),
    "calibrate": _verb("calibrate", "calibrate"),
    "evaluate": _verb("pipeline", "evaluate"),
    "show": _verb("show", "show"),
    "doctor": _verb("doctor", "doctor"),
    "schema": _verb("schemas", "schema"),
    "completion": _verb("completion", "completion"),
}
"""What runs for each verb of `parser.parser`; returns the exit code."""
