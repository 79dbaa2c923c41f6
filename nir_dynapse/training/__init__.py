"""`fine_tune` and all that only it needs: losses (`losses`, a class each), rounding with gradients, steps, checkpoints,
boards in the loop.

May import what `evaluation` may, and `evaluation`, `calibration`; JAX, and optax here only.
"""
