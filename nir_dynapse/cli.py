"""The command `nir-dynapse`: exit codes, and how errors and interrupts end; the verbs are in `cli_verbs`.

Nothing heavy is imported before a verb runs, so that --help and usage errors answer at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from nir_dynapse.cli_interrupt import interruptible
from nir_dynapse.cli_options import FRONTENDS
from nir_dynapse.cli_parser import parser

__all__ = ["FRONTENDS", "main", "parser"]

FAULT, MISSING, INTERRUPTED = 1, 3, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 1 model or data, 2 usage, 3 something missing, 130 interrupted."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # pyright: ignore[reportAttributeAccessIssue]
    try:
        with interruptible():
            code = _run(argv)
            sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        sys.stderr.write("nir-dynapse: interrupted; every file is complete, old or new.\n")
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
        what = f"the Python package {error.name!r} is missing. Run 'nir-dynapse doctor'."
        out.error(NotInstalledError(what))
        return MISSING
