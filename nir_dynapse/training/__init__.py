"""`fine_tune` and all that only it needs: losses, rounding with gradients, steps, checkpoints, boards in the loop.

May import `evaluation`, the arrows and what they may; optax here only.
"""
