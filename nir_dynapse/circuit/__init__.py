"""`Params`: a network as an analog circuit, currents in amperes; the closed form that makes it from a Network, and its
file.

May import what `network` may, and `network`; all of it NumPy (`params` tells JAX of its PyTree once JAX is loaded).
"""
