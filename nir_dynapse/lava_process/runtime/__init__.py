"""Making Lava importable, choosing models, and running a Lava process so that nothing hangs or is left behind."""
