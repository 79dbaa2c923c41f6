"""A small network with its runs, made when first asked for, and what is written in a figure."""

from __future__ import annotations

import io
from functools import cache
from typing import Any

import numpy as np

import nir_dynapse as nd
from small_networks import recurrent

__all__ = ["NETWORK", "X", "a_layout", "busy", "circuit_run", "ideal_run", "labelled", "the_params", "written"]

NETWORK = recurrent(1, 6, 12, 3)
X = np.random.default_rng(0).poisson(0.5, (2, 40, 6)).astype(float)


@cache
def the_params() -> nd.Params:
    return nd.to_params(NETWORK)


@cache
def circuit_run() -> nd.Recording:
    return nd.simulate(NETWORK, X, record=("spikes", "i_mem"))


@cache
def ideal_run() -> nd.Recording:
    return nd.simulate(NETWORK, X, ideal=True, record=("spikes", "v"))


@cache
def a_layout() -> nd.Layout:
    return nd.compile(NETWORK)


def busy() -> int:
    """The hidden neuron with the most spikes in the first sample."""
    return int(circuit_run().spikes["hidden"][0].sum(0).argmax())


def labelled(ax: Any) -> dict[str, Any]:
    """What the legend names, by name."""
    return dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))


def written(figure: Any) -> str:
    """Everything that is written in a figure, drawn for that."""
    from matplotlib.text import Text

    figure.savefig(io.BytesIO(), format="png")
    return "\n".join(text.get_text() for text in figure.findobj(Text) if text.get_visible())
