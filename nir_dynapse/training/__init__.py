"""`trainable` and `Trainable` (`begin`, `model`), what any training loop is made of: chips, rounding with gradients, losses
(`losses`, a class each); `fine_tune`, the loop of the package: steps, checkpoints, boards in the loop.

May import what `evaluation` may, and `evaluation`, `calibration`; JAX, and optax here only.
"""
