"""From the kernels and the formulas to a module per call and precision, compiled by Numba and kept on disk, for XLA.

Numba's cache does not notice when a function in another file has changed. So all that is compiled is written into one file,
under a name made of its text, in the user's cache directory (`NUMBA_CACHE_DIR` or `XDG_CACHE_HOME`).
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import sys
import tempfile
import threading
from functools import cache
from pathlib import Path
from types import ModuleType

from nir_dynapse.files.kept import cache_folder, is_writable
from nir_dynapse.files.whole import write_atomically
from nir_dynapse.sim import derivatives, dynamics
from nir_dynapse.sim.native import ahead, memory, names, scalar, vectors

__all__ = ["compiled", "register", "source"]

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
PLAY_TYPES = (
    "void(int32[::1], int32[::1], float32[::1], float32[:,::1], int64[::1], int64[::1], int64[::1], float32[::1], "
    "int64[::1], int32[::1], float32[::1], uint32[::1], int32[::1], float32[:,:,::1], int32[:,::1], uint8[:,:,::1], "
    "float32[:,:,:,::1], int64, int64)"
)
"""What NumPy's calls hand over: compiled with the module, not at the first call."""
LOG = logging.getLogger(__name__)
RULER = "\n# " + "-" * 118 + "\n"


def _text(path: str) -> str:
    return (Path(__file__).parent / f"{path}.py").read_text(encoding="utf-8")


# The files of `kernels` are text to be compiled, not a package. Read when their tools are imported, so that both are of one
# time.
KERNELS, EVENTS, ADJOINT, FRAMES, FIRED, PLAY = (
    _text(f"kernels/{part}") for part in ("run", "events", "adjoint", "frames", "fired", "play")
)
TOOLS = "".join(_text(module.__name__.rpartition(".")[2]) for module in (memory, names, scalar, vectors))


@cache
def register(what: str, name: str) -> str:
    """Name of XLA's call "run" or "back" (its adjoint) in "float32" or "float64"; compiled at the first use."""
    import jax  # not needed by what NumPy calls

    handler = getattr(compiled(what, name), f"{what}_frame")
    call = f"nir_dynapse_{what}_{name}"
    jax.ffi.register_ffi_target(call, jax.ffi.pycapsule(handler.ctypes), platform="cpu")
    return call


def source(what: str, name: str) -> str:
    """Text of the module with the call `what`: XLA's "run" or "back", or NumPy's "play" and "play_all" (float32
    only; see `kernels.play`)."""
    _, events = EVENTS.split(RULER)
    _, kernels = KERNELS.split(RULER)
    _, fired = FIRED.split(RULER)
    _, play = PLAY.split(RULER)
    _, adjoint = ADJOINT.split(RULER)
    _, shared, run, back = FRAMES.split(RULER)
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
        *(f"@fused\n{scalar.source_of(function)}" for function in FORMULAS),
        *(
            (f"ALL = {what == 'play_all'}", events, kernels, fired, play, f"play.compile({PLAY_TYPES!r})")
            if numpys
            else (events, kernels, fired, adjoint, shared, run if what == "run" else back)
        ),
    ]
    return "\n\n".join(parts)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def compiled(what: str, name: str) -> ModuleType:
    """The module, compiled or from the cache; the same for all threads."""
    with _ALONE:
        return _compiled(what, name)


_ALONE = threading.Lock()


@cache
def _compiled(what: str, name: str) -> ModuleType:
    if ahead.is_built(what, name):
        return _loaded(what, name)
    LOG.warning("compiling the kernels of %s in %s for this machine, once: some 10 s", what, name)
    ahead.wait(what, name)
    with ahead.turn(what, name):
        module = _loaded(what, name)
        ahead.mark(what, name)
    return module


def _loaded(what: str, name: str) -> ModuleType:
    """The module, from the cache as far as it is there, or compiled into it."""
    text, folder = source(what, name), cache_folder()
    if not is_writable(folder):
        folder = Path(tempfile.mkdtemp(prefix="nir_dynapse_"))  # for this process
    path = folder / f"{what}_{name}_{_hash(text)}.py"
    if not path.is_file():
        write_atomically(path, text.encode())
    spec = importlib.util.spec_from_file_location(f"nir_dynapse_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"the kernels cannot be read from {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
