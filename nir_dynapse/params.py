"""`Params` of `currents` as a JAX PyTree: the only thing that is differentiated."""

from __future__ import annotations

import jax

from nir_dynapse.currents import Params, Topology, latch_bits

__all__ = ["Params", "Topology", "latch_bits"]

jax.tree_util.register_dataclass(Params)
