"""Delays that are trained: what they begin with, their gradients, flags that move, a task that only delays solve, the way
to the chip and back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nir_dynapse as nd
from nir_dynapse.chip.device import DELAYS, DYNAPSE2, Mismatch
from nir_dynapse.layout.decoding import layout_to_params
from nir_dynapse.network.network import Network, Port, Projection
from nir_dynapse.sim.engine import spike_counts
from nir_dynapse.sim.mismatch import fabricate
from nir_dynapse.sim.surrogate import Surrogate
from nir_dynapse.training.late_rows import reflagged
from nir_dynapse.training.losses import Counts
from nir_dynapse.training.options import TrainingOptions
from nir_dynapse.training.rewiring import Rewiring
from precision import double_precision
from small_networks import population
from tuning_cases import SPREAD, data, network, same, shared_compilation

LATE = TrainingOptions(delays="inputs", batch=8, check_every=10, held_out=2, validation_size=32)
APART, DT = 10, 1e-3


@pytest.fixture(scope="module", autouse=True)
def compiled_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with shared_compilation(tmp_path_factory.mktemp("compiled")):
        yield


def model(net: Network | None = None, **options: Any) -> nd.Trainable:
    return nd.trainable(network() if net is None else net, data(), mismatch=SPREAD, options=replace(LATE, **options))


def flags_of(thing: nd.Trainable | nd.Params) -> np.ndarray:
    found = thing.topology.delay
    assert found is not None
    return found


def movable(made: nd.Trainable) -> np.ndarray:
    assert made.chart.late is not None
    return made.chart.late


# --- the beginning ----------------------------------------------------------------------------------------------------


def test_rows_of_inputs_begin_with_flags_in_turn_and_cores_with_delays_of_their_own() -> None:
    made = model()
    t, start = made.topology, made.params(made.start)
    np.testing.assert_array_equal(movable(made), t.pre < t.tonic)
    flags = flags_of(made)
    assert set(np.unique(flags[t.pre < t.tonic])) == {0, 1, 2}
    assert not flags[t.pre > t.tonic].any()
    for post, pre in {(int(a), int(b)) for a, b in zip(t.post, t.pre, strict=True) if b < t.tonic}:
        count = np.bincount(flags[(t.post == post) & (t.pre == pre)], minlength=3)
        assert count.max() - count.min() <= 1
    cores = np.unique(t.group[:6])
    assert len(cores) == DYNAPSE2.cores_per_chip - 1, "all cores of the chip, of which one is the output's"
    seconds = np.stack([start.circuit.width(name, start.bias[name])[cores] for name in DELAYS])
    assert (np.diff(seconds[0]) > 0.5e-3).all()
    assert (seconds[0] > seconds[1]).all(), "what spreads more is shorter"
    assert seconds.max() <= 0.2 * 20 * DT * 1.02


def test_all_rows_or_none() -> None:
    every = model(delays="all")
    assert movable(every).all()
    layout = nd.compile(network(), params=model().params(model().start))
    kept = nd.trainable(layout, data(), options=replace(LATE, delays="keep"))
    none = nd.trainable(layout, data(), options=replace(LATE, delays="none"))
    assert kept.topology.delay is not None
    assert kept.start.flag is None
    assert none.topology.delay is None
    again = nd.trainable(layout, data(), options=LATE)
    np.testing.assert_array_equal(flags_of(again), flags_of(kept))  # from what it has


def test_wrong_options_are_refused() -> None:
    with pytest.raises(nd.ParameterRangeError, match="delays is 'some', allowed are keep, none, inputs, all"):
        TrainingOptions(delays="some")  # type: ignore[arg-type]
    with pytest.raises(nd.ParameterRangeError, match=r"reflagging\.method is 'deep', allowed are gradient, none"):
        TrainingOptions(reflagging=Rewiring("deep"))
    with pytest.raises(nd.ParameterRangeError, match="longest_delay is 0"):
        TrainingOptions(longest_delay=0.0)
    plain = model(delays="keep")
    with pytest.raises(nd.ConfigurationError, match="no row may change its delay"):
        plain.offer(plain.start)


# --- chips and gradients ----------------------------------------------------------------------------------------------


def test_chips_of_training_have_the_delays_of_fabricated_ones() -> None:
    """Nominal ones exactly; drawn ones with the spread of each circuit, row by row."""
    made = model()
    params = made.params(made.start)
    wanted = params.row_delays()
    got = made.on_chip(made.start)
    twice = made.chart.twice
    np.testing.assert_allclose(got.row_delays(), wanted[twice], rtol=1e-5)
    mismatch = Mismatch(((DELAYS[0], 0.1), (DELAYS[1], 0.5)), synapse=0.0)
    chips = jax.vmap(lambda key: made.on_chip(made.start, made.chip(key, mismatch)).row_delays(jnp))(
        jax.random.split(jax.random.key(0), 200)
    )
    real = np.stack([fabricate(params, mismatch, seed).row_delays() for seed in range(200)])
    for flag, cv in ((1, 0.1), (2, 0.5)):
        rows = params.topology.delay == flag
        for found in (np.asarray(chips)[:, : len(rows)][:, rows], real[:, rows]):
            ratio = found / wanted[rows]
            assert abs(ratio.mean() - 1) < 0.02
            assert abs(ratio.std() - cv) < 0.03
    assert (np.asarray(chips)[:, : len(wanted)][:, wanted == 0] == 0).all()


def smooth(made: nd.Trainable) -> nd.Trainable:
    """Without rounding and resets, so that differences of the loss are those of a differentiable function."""
    return replace(made, rounded=False, surrogate=Surrogate(slope=3.0, smooth=True, timing=True))


def test_gradients_of_delays_and_offers_are_those_of_finite_differences() -> None:
    made = smooth(model())
    with double_precision():
        numbers = jax.tree_util.tree_map(lambda leaf: jnp.asarray(leaf, float), made.start)
        off = {name: numbers.bias[name] + 0.03 for name in DELAYS}  # of whole steps, at which there is a kink
        numbers = numbers._replace(bias={**numbers.bias, **off})
        x = jnp.asarray(data(8).x, float)
        weigh = np.random.default_rng(2).normal(size=(8, 20, made.topology.n_neurons))

        @jax.jit
        def loss(numbers: Any, offer: Any = None) -> Any:
            given = {"substeps": 1, "surrogate": made.surrogate, "longest_delay": made.longest_delay}
            counts = spike_counts(made.on_chip(numbers, None, offer), x, dtype=jnp.float64, **given)
            return (counts * weigh).sum()

        def by(leaf: Any, at: Any, put: Any, step: float = 1e-6) -> float:
            return (float(loss(*put(leaf.at[at].add(step)))) - float(loss(*put(leaf.at[at].add(-step))))) / (2 * step)

        slope = jax.grad(loss)(numbers)
        for name in DELAYS:
            for g in range(3):
                put = lambda moved, name=name: (numbers._replace(bias={**numbers.bias, name: moved}),)  # noqa: E731
                wanted = by(numbers.bias[name], g, put)
                assert abs(wanted) > 1e-6
                assert float(slope.bias[name][g]) == pytest.approx(wanted, rel=1e-4)
        offer = made.offer(numbers).astype(float)
        assert float(loss(numbers, offer)) == pytest.approx(float(loss(numbers)), rel=1e-9)
        by_offer = np.asarray(jax.grad(loss, 1)(numbers, offer))
        for at in ((0, 0), (7, 1), (30, 2), (31, 0)):
            wanted = by(offer, at, lambda moved: (numbers, moved))
            assert abs(wanted) > 1e-6
            assert by_offer[at] == pytest.approx(wanted, rel=1e-4)


def test_rows_that_would_lower_the_loss_most_get_another_flag() -> None:
    made = model()
    flag = np.asarray(made.start.flag).astype(int)
    slopes = np.zeros((len(flag), 3))
    chosen = np.flatnonzero(movable(made))[[3, 11, 20]]
    for rank, row in enumerate(chosen):
        slopes[row, (flag[row] + 1) % 3] = -1.0 - rank
    state = {"mu": jnp.ones(len(flag))}
    share = 2 / int(movable(made).sum())
    numbers, left = reflagged(made.chart, made.start, state, slopes, share)
    moved = np.flatnonzero(np.asarray(numbers.flag) != flag)
    np.testing.assert_array_equal(moved, np.sort(chosen[1:]))
    np.testing.assert_array_equal(np.asarray(numbers.flag)[moved], (flag[moved] + 1) % 3)
    np.testing.assert_array_equal(numbers.weight, made.start.weight)
    np.testing.assert_array_equal(np.flatnonzero(np.asarray(left["mu"]) == 0), moved)
    assert (reflagged(made.chart, made.start, state, np.abs(slopes) * 0, 1.0)[0].flag == made.start.flag).all()


# --- trainings --------------------------------------------------------------------------------------------------------


def order_net() -> Network:
    """Two inputs, two neurons with short memories: an event is forgotten after 10 ms."""
    return Network(
        (population("out", 2, tau_mem=3e-3, tau_syn=1e-3),),
        (Projection.from_dense("in", "out", np.array([[1.3, 1.2], [1.2, 1.3]]), nodes=("fc",)),),
        (Port("in", (2,)),),
        (Port("output", (2,), "out"),),
        DT,
    )


def order_data(samples: int, seed: int) -> nd.Data:
    """Class 0: input 0 is 10 ms before input 1; class 1: the other way round; three such pairs."""
    rng = np.random.default_rng(seed)
    y = np.arange(samples) % 2
    x = np.zeros((samples, 90, 2), np.uint8)
    for k in range(3):
        first = rng.integers(0, 10, samples) + 28 * k
        x[np.arange(samples), first, y] = 1
        x[np.arange(samples), first + APART, 1 - y] = 1
    return nd.Data(x, y, DT)


@pytest.mark.parametrize(("delays", "solved"), [("inputs", True), pytest.param("keep", False, marks=pytest.mark.long)])
def test_the_order_of_two_events_needs_delays(delays: Any, solved: bool) -> None:
    """24 copies of each neuron; nothing coincides at the delays that they begin with."""
    options = TrainingOptions(
        delays=delays,
        longest_delay=16e-3,
        trained=("weight", "base"),
        batch=32,
        check_every=25,
        held_out=4,
        validation_size=64,
        reflagging=Rewiring(every=10, share=0.05),
    )
    given = {"mismatch": Mismatch.uniform(0.1), "devices": 2, "loss": Counts(DT, ratio=4.0), "options": options}
    params = nd.fine_tune(order_net(), order_data(256, 0), steps=250, spend={"out": 24}, key=1, **given)
    layout = nd.compile(order_net(), params=params)
    found = nd.evaluate(layout, order_data(200, 1), devices=10, mismatch=Mismatch.uniform(0.1), key=5)
    if not solved:
        assert abs(found.nominal - 0.5) < 0.1
        assert found.median < 0.6
        return
    assert found.nominal > 0.94
    assert found.median > 0.92


def test_a_training_of_delays_goes_on_from_its_checkpoint_and_arrives_on_the_chip(tmp_path: Path) -> None:
    net, options = network(), replace(LATE, reflagging=Rewiring(every=3, share=0.1))
    given: dict[str, Any] = {"mismatch": SPREAD, "devices": 2, "steps": 20, "key": 2, "options": options}
    whole = nd.fine_tune(net, data(), **given)
    store = tmp_path / "c.npz"

    def stop(what: str, fraction: float) -> None:
        if fraction >= 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        nd.fine_tune(net, data(), checkpoint=store, progress=stop, **given)
    again = nd.fine_tune(net, data(), checkpoint=store, **given)
    same(again, whole)
    np.testing.assert_array_equal(flags_of(again), flags_of(whole))
    begun = model().params(model().start)
    assert (flags_of(whole) != flags_of(begun)).any(), "flags moved"

    layout = nd.compile(net, params=whole)
    wanted, got = whole.row_delays(), layout_to_params(layout).row_delays()
    np.testing.assert_allclose(np.unique(got.round(7)), np.unique(wanted.round(7)), rtol=1e-3)
    assert layout.delays["cores"]
    text = str(nd.report(layout))
    assert "Delays" in text
    x = data(12).x
    np.testing.assert_array_equal(nd.simulate(layout, x).output, nd.simulate(whole, x).output)
    read = nd.from_nir(nd.to_nir(layout), dt=DT)
    lags = np.concatenate([q.delay for q in read.projections if q.delay is not None])
    assert np.isclose(np.unique(lags[lags > 0])[:, None], np.unique(got[got > 0])[None], rtol=1e-6).any(0).all()
