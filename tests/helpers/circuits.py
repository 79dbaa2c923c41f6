"""Circuits of a few neurons in which everything is used, and how far gradients differ."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import numpy as np

import small_networks
from nir_dynapse.circuit.closed_form import to_params
from nir_dynapse.circuit.params import Params, latch_bits

__all__ = ["circuits", "relative"]


def circuits(
    *latches: str,
    dendrites: bool = True,
    delays: bool = False,
    scale: float = 0.7,
    refractory: float = 0.6e-3,
    **size: Any,
) -> Params:
    """A recurrent network, 6-10-4 unless `size` says else, with all four dendrites in use."""
    shape = {"n_in": 6, "n_hidden": 10, "n_out": 4, "fan_in": 4} | size
    params = to_params(small_networks.recurrent(0, **shape))
    t, rng = params.topology, np.random.default_rng(0)
    bias = {name: np.array(value, float) for name, value in params.bias.items()}
    for name in ("nmda", "gaba", "shunt"):
        bias[f"i_tau_{name}"] = bias["i_tau_ampa"] * 1.3
        bias[f"i_gain_{name}"] = bias["i_gain_ampa"] * (1e-2 if name == "shunt" else 1)
    slow = float(params.circuit.tau("i_tau_ahp", 0.1))
    values = {"i_tau_ahp": slow, "i_gain_ahp": 50 * slow, "i_w_ahp": 1e-10, "i_pulse_ahp": 3.5e-9, "i_f_nmda": 1e-9}
    values["i_ref"] = params.circuit.width("i_ref", refractory)
    values["i_dc"] = 100 * float(bias["i_tau_mem"][0])
    values["i_delay_precise"] = params.circuit.width("i_delay_precise", 2.3e-3)
    values["i_delay_mismatched"] = params.circuit.width("i_delay_mismatched", 3.6e-3)
    bias.update({name: np.full_like(bias["i_ref"], value) for name, value in values.items()})
    bits = latch_bits(**dict.fromkeys(latches, True))
    t = replace(
        t,
        latches=t.latches | bits,
        dendrite=rng.integers(0, 4, t.n_synapses) if dendrites else t.dendrite,
        delay=rng.integers(0, 4, t.n_synapses) if delays else None,
    )
    return replace(params, bias=bias, weight=np.asarray(params.weight) * scale, topology=t)


def relative(a: Any, b: Any) -> float:
    """Largest deviation over the leaves, of the norm of `b`."""
    pairs = zip(jax.tree_util.tree_leaves(a), jax.tree_util.tree_leaves(b), strict=True)
    found = [np.linalg.norm(np.asarray(x) - np.asarray(y)) / (np.linalg.norm(np.asarray(y)) + 1e-30) for x, y in pairs]
    return float(max(found))
