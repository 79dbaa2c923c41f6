"""From the kernels and the formulas to a call per purpose and precision, for XLA and NumPy, kept on disk as machine code.

All that is compiled for a call is one text (`source`). Its IR comes with the package (`portable`) or, where that is of
another text or precision, from Numba (`front`); machine code for this processor is made of it (`machine`) once per machine.
No Numba and no LLVM is loaded here before they are needed.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import lzma
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path

from nir_dynapse.files.kept import is_writable
from nir_dynapse.files.whole import write_atomically
from nir_dynapse.sim import derivatives, dynamics
from nir_dynapse.sim.native import ahead
from nir_dynapse.sim.native.formulas import source_of

__all__ = ["ENTRY", "compiled", "headed", "portable", "prepared", "register", "source"]

Call = Callable[[int], int]
CALL = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)
"""A call gets an address, of XLA's frame or of a table of arrays, and gives 0 (XLA: no error)."""
ENTRY = "nir_dynapse_frame"
"""Its name in IR and machine code."""

FORMULAS = (
    dynamics.begin,
    dynamics.reach,
    dynamics.late,
    dynamics.land,
    dynamics.flowing,
    dynamics.opening,
    dynamics.fed_back,
    dynamics.halfway,
    derivatives.membrane_slopes,
    *derivatives.SHAPES.values(),
)
LOG = logging.getLogger(__name__)
RULER = "\n# " + "-" * 118 + "\n"


def _text(path: str) -> str:
    return (Path(__file__).parent / f"{path}.py").read_text(encoding="utf-8")


# The files of `kernels` are text to be compiled, not a package. Read when their tools are imported, so that both are of one
# time.
KERNELS, EVENTS, ADJOINT, FRAMES, FIRED, PLAY = (
    _text(f"kernels/{part}") for part in ("run", "events", "adjoint", "frames", "fired", "play")
)
TOOLS = "".join(_text(name) for name in ("memory", "names", "scalar", "vectors"))


@cache
def register(what: str, name: str) -> str:
    """Name of XLA's call "run" or "back" (its adjoint) in "float32" or "float64"; compiled at the first use."""
    import jax  # not needed by what NumPy calls

    call = f"nir_dynapse_{what}_{name}"
    jax.ffi.register_ffi_target(call, jax.ffi.pycapsule(compiled(what, name)), platform="cpu")
    return call


def source(what: str, name: str) -> str:
    """Text of the module with the call `what`: XLA's "run" or "back", or NumPy's "play" and "play_all" (float32
    only; see `kernels.play`)."""
    _, events = EVENTS.split(RULER)
    _, kernels = KERNELS.split(RULER)
    _, fired = FIRED.split(RULER)
    _, play = PLAY.split(RULER)
    _, adjoint = ADJOINT.split(RULER)
    _, shared, run, back, played = FRAMES.split(RULER)
    numpys = what in ("play", "play_all")
    parts = [
        f'"""Written by nir_dynapse.sim.native.build, with tools {_hash(TOOLS)}."""',
        "from typing import Any",
        "import numba",
        "import numpy as np",
        "from numba import types",
        "from nir_dynapse.sim.native.memory import *",
        "from nir_dynapse.sim.native.names import *",
        "from nir_dynapse.sim.native.scalar import absolute, bell, maximum, minimum, mixed, uniform, where",
        "from nir_dynapse.sim.native.vectors import *",
        *(["from nir_dynapse.sim.native.memory import formula as fused, rounded as loop"] if numpys else []),
        f"from nir_dynapse.sim.native.scalar import {'exp_float32 as exp' if numpys else 'exp'}",
        f"from nir_dynapse.sim.native.scalar import log_{name} as log",
        *([] if numpys else ["exp, log = fused(exp.py_func), fused(log.py_func)"]),
        f"kind = np.{name}",
        f"GABA, SHUNT, LARGEST = {dynamics.GABA}, {dynamics.SHUNT}, kind({dynamics.LARGEST})",
        f"NMDA = {dynamics.NMDA}",
        f'SHARE = "nir_dynapse_{what}_{name}_share"',
        *(f"@fused\n{source_of(function)}" for function in FORMULAS),
        *(
            (f"ALL = {what == 'play_all'}", events, kernels, fired, play, shared, played)
            if numpys
            else (events, kernels, fired, adjoint, shared, run if what == "run" else back)
        ),
    ]
    return "\n\n".join(parts)


def headed(what: str, name: str, text: str) -> str:
    """IR of the call as it is kept in the package: with what says of which text it is."""
    return f"; {_hash(source(what, name))}\n{text}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def compiled(what: str, name: str) -> Call:
    """The call, compiled or from the cache, the same for all threads; ImportError where it can be neither."""
    with _ALONE:
        return _compiled(what, name)


_ALONE = threading.Lock()


@cache
def _compiled(what: str, name: str) -> Call:
    from nir_dynapse.sim.native.machine import loaded

    return CALL(loaded(prepared(what, name), ENTRY))


def prepared(what: str, name: str) -> bytes:
    """The machine code of the call, from the cache, or compiled into it; this process or another one does that."""
    path = ahead.place(what, name)
    if not ahead.is_built(what, name):
        LOG.warning("compiling the kernels of %s in %s for this machine, once", what, name)
        ahead.wait(what, name)
        with ahead.turn(what, name):
            if not ahead.is_built(what, name):
                code = translated(what, name)
                if is_writable(path.parent):
                    write_atomically(path, code)
                return code
    return path.read_bytes()


def translated(what: str, name: str) -> bytes:
    """Machine code of the call for this processor."""
    from nir_dynapse.sim.native import machine

    text = portable(what, name)
    if text is not None:
        with suppress(RuntimeError):  # an LLVM that is older than the text
            return machine.translated(text)
    from nir_dynapse.sim.native import front

    return machine.translated(front.made(what, name))


def portable(what: str, name: str) -> str | None:
    """The IR of the call that comes with the package, if it is that of the present text."""
    path = Path(__file__).parent / "portable" / f"{what}_{name}.ll.xz"
    if not path.is_file():
        return None
    text = lzma.decompress(path.read_bytes()).decode()
    return text if text.startswith(f"; {_hash(source(what, name))}\n") else None
