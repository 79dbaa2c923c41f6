"""From the IR of a call (`front`) to machine code for this processor and its address in this process: LLVM, no Numba."""

from __future__ import annotations

import ctypes
from functools import cache
from importlib import import_module
from typing import Any

from llvmlite import binding

__all__ = ["loaded", "translated"]

BLAS = ("gemm", "gemv", "dot")
_ENGINES: list[Any] = []
"""With the code of the calls, so that it stays."""


@cache
def _machine() -> Any:
    """This processor, as LLVM knows it."""
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    target = binding.Target.from_triple(binding.get_process_triple())
    reloc = "static" if target.name.startswith("x86") else "default"
    return target.create_target_machine(
        cpu=binding.get_host_cpu_name(),
        features=binding.get_host_cpu_features().flatten(),
        opt=3,
        reloc=reloc,
        codemodel="jitdefault",
        jit=True,
    )


def _passes(speed: int, vectors: bool) -> Any:
    options = binding.create_pipeline_tuning_options(speed_level=speed)
    options.loop_vectorization, options.slp_vectorization = vectors, False
    return binding.create_pass_builder(_machine(), options)


def translated(text: str) -> bytes:
    """Machine code of a call, as an object file: by the passes that Numba runs, in its order."""
    machine = _machine()
    module = binding.parse_assembly(text)
    module.triple, module.data_layout = binding.get_process_triple(), str(machine.target_data)
    module.verify()
    builder = _passes(3, True)
    for function in module.functions:
        functions = builder.getFunctionPassManager()
        functions.add_refprune_pass()
        functions.run(function, builder)
    builder = _passes(0, False)
    inlined = builder.getModulePassManager()
    inlined.add_loop_rotate_pass()
    inlined.add_instruction_combine_pass()
    inlined.add_jump_threading_pass()
    inlined.add_refprune_pass()
    inlined.run(module, builder)
    builder = _passes(3, True)
    whole = builder.getModulePassManager()
    whole.add_refprune_pass()
    whole.run(module, builder)
    return machine.emit_object(module)


def loaded(code: bytes, entry: str) -> int:
    """Address of the function `entry` of an object file, for good."""
    if b"nir_dynapse_sgemm" in code or b"nir_dynapse_dgemm" in code:
        _products()
    engine = binding.create_mcjit_compiler(binding.parse_assembly(""), _machine())
    engine.add_object_file(binding.ObjectFileRef.from_data(code))
    engine.finalize_object()
    _ENGINES.append(engine)
    return engine.get_function_address(entry)


@cache
def _products() -> None:
    """Tell LLVM where BLAS is: that of SciPy."""
    found = import_module("scipy.linalg.cython_blas")
    named, pointer = ctypes.pythonapi.PyCapsule_GetName, ctypes.pythonapi.PyCapsule_GetPointer
    named.argtypes, named.restype = [ctypes.py_object], ctypes.c_char_p
    pointer.argtypes, pointer.restype = [ctypes.py_object, ctypes.c_char_p], ctypes.c_void_p
    for kind in "sd":
        for name in BLAS:
            capsule = found.__pyx_capi__[f"{kind}{name}"]
            binding.add_symbol(f"nir_dynapse_{kind}{name}", pointer(capsule, named(capsule)))
