"""The compiled kernels that run and train on CPUs: `build` puts formulas and the text of `kernels` together for
`front` (Numba) and `machine` (LLVM), `run` calls them from JAX, `play` from NumPy.

May import what `sim` may; `kernels` holds text to be compiled, not modules.
"""
