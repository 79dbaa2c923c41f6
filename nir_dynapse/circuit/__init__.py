"""`Params`: a network as an analog circuit, currents in amperes; the closed form that makes it from a Network, and its
file.

May import `errors`, `files`, `chip` and `network`, and is NumPy: `pytree` tells JAX of Params once somebody loads JAX.
"""
