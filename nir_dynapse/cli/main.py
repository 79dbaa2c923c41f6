"""The command `nir-dynapse`: exit codes, and how errors and interrupts end; the verbs are in `verbs`.

Nothing heavy is imported before a verb runs, so that --help and usage errors answer at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress

from nir_dynapse.cli.interrupt import Ended, interruptible
from nir_dynapse.cli.options import FRONTENDS
from nir_dynapse.cli.parser import parser

__all__ = ["FRONTENDS", "main", "parser"]

FAULT, MISSING, INTERRUPTED, SIGNALLED = 1, 3, 130, 128


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 1 model or data, 2 usage, 3 something missing, 130 interrupted.

    As shells do it, 128 and its number for another signal.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # pyright: ignore[reportAttributeAccessIssue]
    try:
        with interruptible():
            code = _run(argv)
            sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader, such as head, has seen enough
        _discard_output()
        return 0
    except KeyboardInterrupt as stop:
        with suppress(OSError):
            sys.stderr.write("nir-dynapse: interrupted; every file is complete, old or new.\n")
        return SIGNALLED + stop.number if isinstance(stop, Ended) else INTERRUPTED
    except OSError as error:  # stdout on a full disk; files of ours have errors of their own
        _discard_output()
        what = error.filename or "the output"
        with suppress(OSError):
            sys.stderr.write(
                f"nir-dynapse: {what}: cannot be read or written ({error.strerror or error}). Check the disk.\n"
            )
        return FAULT


def _discard_output() -> None:
    """What is left of the output goes nowhere, instead of failing once more at the end of Python."""
    with suppress(OSError, ValueError):  # ValueError: a stream without a file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(argv: Sequence[str] | None) -> int:
    try:
        args = parser().parse_args(argv)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0
    from nir_dynapse.cli.output import Output
    from nir_dynapse.errors import DynapseError, NotInstalledError

    out = Output(args.json, args.quiet, args.verbose)
    try:
        from nir_dynapse.cli.verbs import VERBS

        return VERBS[args.verb](args, out)
    except DynapseError as error:
        out.error(error)
        return MISSING if isinstance(error, NotInstalledError) else FAULT
    except ModuleNotFoundError as error:
        what = f"the Python package {error.name!r} is missing. Run 'nir-dynapse doctor'."
        out.error(NotInstalledError(what))
        return MISSING
