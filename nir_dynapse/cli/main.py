"""The command `nir-dynapse`: exit codes, and how errors and interrupts end; the verbs are in `verbs`.

Nothing heavy is imported before a verb runs, so that --help and usage errors answer at once.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TextIO

from nir_dynapse.cli.interrupt import Ended, interruptible
from nir_dynapse.cli.options import FRONTENDS, USAGE, WrongUsage
from nir_dynapse.cli.parser import parser
from nir_dynapse.files.bulk import rare_collector

__all__ = ["FRONTENDS", "main", "parser"]

FAULT, MISSING, INTERRUPTED, SIGNALLED = 1, 3, 130, 128


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 1 model or data, 2 usage, 3 something missing, 130 interrupted.

    As shells do it, 128 and its number for another signal.
    """
    atexit.register(gc.freeze)  # so that Python ends without a last look through everything
    _open_streams()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # pyright: ignore[reportAttributeAccessIssue]
    try:
        return _guarded(argv)
    finally:
        _settle(sys.stderr)


def _open_streams() -> None:
    """Streams that the caller closed (>&-) lead nowhere: Python has none then, and the next file would get their number."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None or stream.closed:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - open until the process ends


def _guarded(argv: Sequence[str] | None) -> int:
    """The exit code of one command, also where it is interrupted or its output leads nowhere."""
    try:
        with interruptible(), rare_collector():
            code = _run(argv)
            sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader, such as head, has seen enough
        _discard(sys.stdout)
        return 0
    except KeyboardInterrupt as stop:
        with suppress(OSError):
            sys.stderr.write("nir-dynapse: interrupted; every file is complete, old or new.\n")
        return SIGNALLED + stop.number if isinstance(stop, Ended) else INTERRUPTED
    except OSError as error:  # stdout on a full disk; files of ours have errors of their own
        _discard(sys.stdout)
        what = error.filename or "the output"
        with suppress(OSError):
            sys.stderr.write(
                f"nir-dynapse: {what}: cannot be read or written ({error.strerror or error}). Check the disk.\n"
            )
        return FAULT


def _settle(stream: TextIO) -> None:
    """Nothing of `stream` is left that could fail at the end of Python, which would be another exit code."""
    try:
        stream.flush()
    except (OSError, ValueError):
        _discard(stream)


def _discard(stream: TextIO) -> None:
    """What is left of the output goes nowhere, instead of failing once more at the end of Python."""
    with suppress(OSError, ValueError):  # ValueError: a stream without a file
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _run(argv: Sequence[str] | None) -> int:
    try:
        args = parser().parse_args(argv)
    except WrongUsage as wrong:
        if "--json" in (sys.argv[1:] if argv is None else argv):
            from nir_dynapse.cli.output import write_usage

            write_usage(wrong.message, wrong.hint)
        return USAGE
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0
    from nir_dynapse.cli.output import Output
    from nir_dynapse.errors import ConfigurationError, DynapseError, NotInstalledError

    out = Output(args.json, args.quiet, args.verbose)
    try:
        from nir_dynapse.cli.verbs import VERBS

        return VERBS[args.verb](args, out)
    except DynapseError as error:
        out.error(error)
        return MISSING if isinstance(error, NotInstalledError) else FAULT
    except MemoryError:
        what = "the memory of this machine does not hold what this asks for."
        out.error(ConfigurationError(f"{what} Give fewer samples, bins or chips at a time, or a larger machine."))
        return FAULT
    except ModuleNotFoundError as error:
        what = f"the Python package {error.name!r} is missing. Run 'nir-dynapse doctor'."
        out.error(NotInstalledError(what))
        return MISSING
