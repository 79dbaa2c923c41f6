"""In the loop: what a chip is taken for by its spikes, and what it is left with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import nir_dynapse as nd
from nir_dynapse.chip.device import CURRENTS, DYNAPSE2
from nir_dynapse.layout.decoding import layout_to_params
from nir_dynapse.sim.engine import spike_counts
from nir_dynapse.training.losses import Counts
from nir_dynapse.training.model import Trainable
from nir_dynapse.training.options import TRAINED
from nir_dynapse.training.start import start_of
from nir_dynapse.training.steps import Recipe
from nir_dynapse.training.trainable import Factors, chart_of, draw, latent_of, nominal, on_chip, quantised
from nir_dynapse.training.twin import new_twin, observed
from tuning_cases import DT, data, network, same, shared_compilation, short

HIDDEN = nd.Mismatch.uniform(0.3)


@pytest.fixture(scope="module", autouse=True)
def compiled_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with shared_compilation(tmp_path_factory.mktemp("compiled")):
        yield


def test_spikes_tell_what_a_chip_is_like() -> None:
    """Recordings of a chip with hidden factors: the twin's spikes are nearer to the chip's than those of the nominal one,
    on samples that it has not seen, too."""
    params = nd.to_params(network(2, scale=2.0))
    begun = start_of(params, DYNAPSE2, 2, 0, 1.5e-3, 4)
    names = tuple(name for name in TRAINED if name not in ("weight", "base"))
    chart = chart_of(begun.params, begun.free, names, 4, DYNAPSE2.weight_top, {})
    latent = latent_of(chart, begun.params, begun.base, begun.weight)
    mismatch = nd.Mismatch(cv=(("i_spkthr", 0.5), ("i_tau_mem", 0.3)), synapse=0.3)
    recipe = Recipe(Trainable(chart, latent, begun.params, mismatch, 1), Counts(DT), ((6, 8),))
    chip = draw(chart, jax.random.key(5), mismatch)

    def spikes(factors: Factors, x: np.ndarray) -> np.ndarray:
        return np.asarray(spike_counts(on_chip(chart, quantised(chart, latent), factors), x, substeps=1))

    twin = new_twin(chart)
    for k in range(60):
        x = data(64, seed=k, bins=40).x
        twin = observed(twin, latent, x, spikes(chip, x), recipe=recipe)
    x = data(200, seed=999, bins=40).x
    wanted = spikes(chip, x).sum(1)
    assert wanted.sum() > 1000
    off = {
        name: float(np.abs(spikes(factors, x).sum(1) - wanted).mean())
        for name, factors in (("twin", twin.factors), ("nominal", nominal(chart)))
    }
    assert off["twin"] < 0.4 * off["nominal"], off
    still = [k for k, name in enumerate(CURRENTS) if name not in ("i_spkthr", "i_tau_mem")]
    assert not np.any(np.asarray(twin.factors.bias)[still])
    assert float(twin.samples) == 60 * 64


def looped(board: nd.Board, **changes: Any) -> nd.Params:
    options = short(batch=8, rate=0.05, validation_size=16, **changes.pop("options", {}))
    return nd.fine_tune(network(2), data(), board=board, key=1, **{"steps": 4, "options": options, **changes})


@pytest.mark.long
def test_the_board_is_left_with_the_best_and_a_training_goes_on_bit_for_bit(tmp_path: Path) -> None:
    path, plain = tmp_path / "so_far.npz", tmp_path / "nominal.npz"

    def stop(what: str, fraction: float) -> None:
        if "step 2," in what and "left" in what and "loss" in what:
            raise KeyboardInterrupt

    with nd.open_board("virtual:3", mismatch=HIDDEN) as board:
        assert board.layout is None
        tuned = looped(board)
        assert board.layout is not None
        held = layout_to_params(board.layout)
        looped(board, checkpoint=plain, options={"twin": False})
        with pytest.raises(KeyboardInterrupt):
            looped(board, checkpoint=path, progress=stop)
        assert same(tuned, looped(board, checkpoint=path))
    assert held.topology.mask is not None
    assert tuned.topology.mask is not None
    assert np.array_equal(np.sort(held.topology.mask), np.sort(tuned.topology.mask))
    for name in CURRENTS:
        np.testing.assert_allclose(held.per_neuron(name), tuned.per_neuron(name), rtol=1e-9, err_msg=name)
    with np.load(path) as with_twin, np.load(plain) as without:
        weights = next(name for name in without if without[name].shape == (tuned.topology.n_synapses,))
        assert not np.array_equal(with_twin[weights], without[weights])
