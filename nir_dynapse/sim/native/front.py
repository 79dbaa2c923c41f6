"""From the text of a call (`build.source`) to LLVM's intermediate representation (IR), for no processor: what needs Numba.

Numba infers types and writes IR in Python, which takes longer than LLVM needs for machine code. So that is done once: the
IR of all calls in float32 comes with the package (`portable`), where `tests/helpers/portable.py` writes it.
"""

from __future__ import annotations

import linecache
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from llvmlite import binding

from nir_dynapse.sim.native.build import ENTRY, source

__all__ = ["made", "module_of", "written"]

FRAMES = {"play_all": "play"}
"""Functions of the text whose names are not those of the calls."""
KINDS = {"float32": {"KIND": "s", "FLOAT": "float"}, "float64": {"KIND": "d", "FLOAT": "double"}}
"""What `runtime.ll` leaves open."""
FORWARDED = """
declare i64 @"{to}"(i64)
define i64 @{name}(i64 %word) {{
  %found = call i64 @"{to}"(i64 %word)
  ret i64 %found
}}
"""
ADDRESS = """
define i64 @{name}_address() {{
  ret i64 ptrtoint (ptr @{name} to i64)
}}
"""
SETTINGS = {"NUMBA_OPT": "0", "PYTHONHASHSEED": "0"}
"""Numba optimises nothing, as `machine` does that once for all; and the same text gives the same IR."""
CHILD = (
    "import gc, sys; sys.path[:] = sys.argv[3:]; gc.disable(); "
    "from nir_dynapse.sim.native.front import written; sys.stdout.buffer.write(written(*sys.argv[1:3]).encode())"
)


def made(what: str, kind: str) -> str:
    """IR of the call, written in a process of its own with settings of its own; ImportError where Numba does not work."""
    command = [sys.executable, "-c", CHILD, what, kind, *(path or os.getcwd() for path in sys.path)]
    found = subprocess.run(command, capture_output=True, env=os.environ | SETTINGS)
    if found.returncode:
        raise ImportError(
            f"Numba cannot compile the kernels of {what} in {kind}: {found.stderr.decode(errors='replace')[-2000:]}"
        )
    return found.stdout.decode()


def written(what: str, kind: str) -> str:
    """IR of the call, by Numba in this process."""
    import numba
    from numba.core.callconv import CPUCallConv

    stating: Any = CPUCallConv.set_static_user_exc

    def nowhere(
        self: Any, builder: Any, exc: Any, exc_args: Any = None, loc: Any = None, func_name: Any = None
    ) -> None:
        stating(self, builder, exc, exc_args=exc_args)  # a place in Numba's text would be one of this machine

    CPUCallConv.set_static_user_exc = nowhere  # pyright: ignore[reportAttributeAccessIssue]
    module = module_of(source(what, kind))
    frame, share = module.__dict__[f"{FRAMES.get(what, what)}_frame"], module.__dict__.get(f"{what}_share")
    text = (Path(__file__).parent / "kernels" / "runtime.ll").read_text(encoding="utf-8")
    for name, value in KINDS[kind].items():
        text = text.replace(name, value)
    text += FORWARDED.format(name=ENTRY, to=frame.native_name)
    if share is not None:
        text += FORWARDED.format(name=module.SHARE, to=share.native_name) + ADDRESS.format(name=module.SHARE)
    whole = binding.parse_assembly(text)
    for part in (frame,) if share is None else (frame, share):
        other = binding.parse_assembly(part.inspect_llvm())
        for function in other.functions:
            if not function.is_declaration:
                function.linkage = "weak_odr"  # in both: the same
        whole.link_in(other)
    for each in (*whole.functions, *whole.global_variables):
        if not each.is_declaration and each.name != ENTRY:
            each.linkage = "internal"
    _tidy(whole)
    whole.verify()
    version = ".".join(map(str, sys.version_info[:2]))
    return f"; Numba {numba.__version__}, Python {version}\n{_plain(str(whole))}"


def module_of(text: str) -> ModuleType:
    """The text as a module; its file has no place, which would get into the IR through the errors that it raises."""
    name = "kernels.py"
    linecache.cache[name] = len(text), None, text.splitlines(True), name  # Numba reads sources from there
    module = ModuleType("kernels")
    module.__file__ = name
    sys.modules[module.__name__] = module
    exec(compile(text, name, "exec"), module.__dict__)
    return module


def _tidy(module: Any) -> None:
    """Values in registers instead of memory, and nothing that is not called: what holds for every processor."""
    target = binding.Target.from_triple(module.triple or binding.get_process_triple())
    options = binding.create_pipeline_tuning_options(speed_level=0)
    builder = binding.create_pass_builder(target.create_target_machine(opt=1), options)
    passes = binding.create_new_module_pass_manager()
    passes.add_global_dead_code_eliminate_pass()
    passes.add_sroa_pass()
    passes.add_instruction_combine_pass()
    passes.add_simplify_cfg_pass()
    passes.add_refprune_pass()
    passes.add_global_dead_code_eliminate_pass()
    passes.run(module, builder)


def _plain(text: str) -> str:
    """The text without the machine that it was written on, functions numbered instead of named."""
    lines = [line for line in text.splitlines() if not line.startswith(("target ", "source_filename", "; "))]
    text = "\n".join(lines) + "\n"
    found = dict.fromkeys(re.findall(r'@("[^"]+"|[-\w.$]+)', text))
    short = {name: f"f{k}" for k, name in enumerate(n for n in found if "_ZN" in n or ".const." in n)}
    return re.sub(r'@("[^"]+"|[-\w.$]+)', lambda name: f"@{short.get(name[1], name[1])}", text)
