"""What runs for each verb of the command line, loaded when it is called."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from importlib import import_module

from nir_dynapse.cli_output import Output

__all__ = ["VERBS"]

Verb = Callable[[argparse.Namespace, Output], int]


def _verb(module: str, name: str) -> Verb:
    """`name` of a module that is imported by the call only: no verb waits for what another one needs."""

    def run(args: argparse.Namespace, out: Output) -> int:
        return getattr(import_module(f"nir_dynapse.{module}"), name)(args, out)

    return run


VERBS: dict[str, Verb] = {
    "deploy": _verb("cli_pipeline", "deploy"),
    "check": _verb("cli_pipeline", "check"),
    "compile": _verb("cli_pipeline", "compile_"),
    "import": _verb("cli_exchange", "import_"),
    "export": _verb("cli_exchange", "export"),
    "finetune": _verb("cli_finetune", "finetune"),
    "simulate": _verb("cli_pipeline", "simulate"),
    "run": _verb("cli_run", "run"),
    "calibrate": _verb("cli_calibrate", "calibrate"),
    "evaluate": _verb("cli_pipeline", "evaluate"),
    "show": _verb("cli_show", "show"),
    "doctor": _verb("cli_doctor", "doctor"),
    "schema": _verb("cli_schemas", "schema"),
    "completion": _verb("cli_completion", "completion"),
}
"""What runs for each verb of `cli_parser.parser`; returns the exit code."""
