"""Simulation: the circuits' equations in NumPy and JAX, NIR semantics (`reference`), mismatch; kernels in `native`,
virtual chips in `virtual`.

May import nouns (`board`, `reporting` and all before them), no other arrow; `dynamics`, `circuit`, `wiring`,
`disturbance` and `mismatch` without JAX.
"""
