"""Making Lava importable, choosing models, and running a Lava process so that nothing hangs or is left behind.

May import `errors` and Lava; `shim` neither, before it has made Lava importable.
"""
