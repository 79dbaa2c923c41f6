"""`Board`, the protocol of real and virtual chips; `link`, all that both do alike; address events on the buses.

May import `layout` and what that may; the boards themselves are in `sim.virtual` and `export.samna_board`.
"""
