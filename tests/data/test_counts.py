"""Event counts: every way in refuses the same, in the same words; what it takes comes back without NaN."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nir_dynapse as nd
from nir_dynapse.board.link import LinkedBoard
from nir_dynapse.data.counts import LARGEST, check_values
from nir_dynapse.data.encoders import reconstruct
from nir_dynapse.evaluation.checks import check_data
from nir_dynapse.sim.mismatch import fabricate
from places import EXAMPLES

YIN_YANG = EXAMPLES / "networks" / "yin_yang.nir"
GOOD = np.ones((2, 6, 5))
DT = 1e-3


def changed(value: Any, dtype: Any = None) -> np.ndarray:
    """Counts of which one, in sample 1, bin 2, channel 3, is `value`."""
    x = GOOD.astype(dtype or np.result_type(GOOD, np.asarray(value)))
    x[1, 2, 3] = value
    return x


WRONG: dict[str, tuple[Any, str]] = {
    "negative": (changed(-1.0), "bin 2, channel 3 .*holds -1 events, allowed are 0 to 16777216.* Clean the data"),
    "negative whole": (changed(-1, np.int8), "holds -1 events, allowed are 0 to 16777216"),
    "nan": (changed(np.nan), "bin 2, channel 3 .*holds nan events"),
    "infinite": (changed(np.inf), "holds inf events"),
    "beyond float32": (changed(1e308), r"holds 1e\+308 events, allowed are 0 to 16777216.* finer bins"),
    "within float32": (changed(1e38, np.float32), r"holds 9\.99\d+e\+37 events, allowed are 0 to 16777216"),
    "first gap of float32": (changed(LARGEST + 1), "holds 16777217 events"),
    "of 64 bits": (changed(2**63, np.uint64), r"holds 9223372036854775808 events"),
    "complex": (GOOD + 1j, "complex128 .* are real numbers"),
    "complex without imaginary part": (GOOD.astype(np.complex64), "complex64"),
    "text": (GOOD.astype(str), "<U32"),
    "objects": (GOOD.astype(object), "type object"),
    "dates": (GOOD.astype(np.int64).astype("M8[s]"), "datetime64"),
    "structured": (np.zeros((2, 6, 5), [("t", "i8"), ("p", "?")]), "are real numbers"),
    "masked": (np.ma.masked_equal(changed(7.0), 7.0), "1 values of a masked array are masked"),
    "ragged": ([[[1, 2], [3]]], "no array of numbers"),
    "nothing": (None, "type object"),
}
FRACTIONS = changed(1.5)
WHOLE = r"bin 2, channel 3 .*holds 1\.5 events, a circuit receives whole events.* Encode the values"


@pytest.fixture(scope="module")
def network() -> nd.Network:
    return nd.from_nir(YIN_YANG)


@pytest.fixture(scope="module")
def layout(network: nd.Network) -> nd.Layout:
    return nd.compile(network)


@pytest.fixture(scope="module")
def ways(network: nd.Network, layout: nd.Layout) -> dict[str, Callable[[Any], Any]]:
    """Every way in that takes counts, as a function of them; those that take one sample get the one that was changed."""
    board = nd.open_board("virtual:3")
    board.apply(layout)
    assert isinstance(board, LinkedBoard)

    def second(x: Any) -> Any:
        return x[1] if getattr(x, "ndim", 0) == 3 else x

    def recording(x: Any) -> Any:
        return nd.to_nir_data(nd.Recording({"input": x}, DT), events=True)

    return {
        "simulate a circuit": lambda x: nd.simulate(network, x, backend="numpy"),
        "simulate a Layout": lambda x: nd.simulate(layout, x, mismatch=nd.Mismatch(), key=1, backend="numpy"),
        "run_batch": lambda x: board.run_batch(x, DT),
        "run_batch of a board": lambda x: LinkedBoard.run_batch(board, x, DT),
        "evaluate": lambda x: nd.evaluate(layout, nd.Data(x, np.zeros(2, int), DT), devices=1),
        "fine_tune": lambda x: nd.fine_tune(network, nd.Data(x, np.zeros(2, int), DT), steps=1),
        "check_data": lambda x: check_data(nd.Data(x, np.zeros(2, int), DT), network),
        "events": lambda x: nd.Events.from_counts(second(x), DT, "input"),
        "recording": recording,
    }


TAKE_VALUES = {
    "simulate ideally": lambda network, x: nd.simulate(network, x, ideal=True, backend="numpy"),
    "Data": lambda network, x: nd.Data(x, np.zeros(2, int), DT),
    "reconstruct": lambda network, x: reconstruct(np.concatenate([x, x], 2), 1.0),
}
"""Ways in that take what NIR takes: values, not only whole events."""


@pytest.mark.parametrize("wrong", WRONG)
def test_every_way_in_refuses_what_is_no_count(
    wrong: str, ways: dict[str, Callable[[Any], Any]], network: nd.Network
) -> None:
    x, words = WRONG[wrong]
    for way, run in ways.items():
        with pytest.raises(nd.ConfigurationError, match=f"(?s){words}"):
            pytest.fail(f"{way} took it: {run(x)}")
    for way, take in TAKE_VALUES.items():
        if way == "reconstruct" and not isinstance(x, np.ndarray):
            continue
        if way == "reconstruct" and isinstance(x, np.ma.MaskedArray):
            continue  # numpy.concatenate drops the mask
        with pytest.raises(nd.ConfigurationError, match=f"(?s){words}"):
            pytest.fail(f"{way} took it: {take(network, x)}")


def test_circuits_and_boards_receive_whole_events(ways: dict[str, Callable[[Any], Any]], network: nd.Network) -> None:
    for way, run in ways.items():
        with pytest.raises(nd.ConfigurationError, match=f"(?s){WHOLE}"):
            pytest.fail(f"{way} took it: {run(FRACTIONS)}")
    for take in TAKE_VALUES.values():
        take(network, FRACTIONS)


def test_the_message_names_node_place_limit_and_remedy(network: nd.Network) -> None:
    for record in ((), ("v",)):
        with pytest.raises(nd.ConfigurationError) as caught:
            nd.simulate(network, changed(1e30), ideal=True, record=("spikes", *record))
        (finding,) = caught.value.findings
        assert str(finding) == (
            "node 'input': sample 1, bin 2, channel 3 of the data holds 1e+30 events, allowed are 0 to 16777216, which "
            "float32 counts exactly. Scale the data, or give it finer bins."
        )
        assert (finding.node, finding.used, finding.limit) == ("input", 1e30, LARGEST)


def test_channels_are_counted_within_their_node() -> None:
    x = np.zeros((1, 2, 7))
    x[0, 1, 5] = -2
    with pytest.raises(nd.ConfigurationError, match="node 'right': sample 0, bin 1, channel 2 of the data holds -2"):
        check_values("input", x, (("left", 3), ("right", 4)))


@pytest.mark.parametrize(
    "dtype", [np.bool_, np.uint8, np.int8, np.int64, np.uint64, np.float16, np.float32, np.float64]
)
def test_all_types_of_numbers_give_the_same_spikes(dtype: Any, network: nd.Network) -> None:
    x = (np.random.default_rng(0).random((2, 20, 5)) < 0.3).astype(dtype)
    for ideal in (True, False):
        got = nd.simulate(network, x, backend="numpy", ideal=ideal)
        wanted = nd.simulate(network, x.astype(np.float64), backend="numpy", ideal=ideal)
        assert np.array_equal(got.output, wanted.output)


@pytest.mark.parametrize("backend", ["numpy", "jax"])
def test_the_largest_counts_come_back_without_nan(backend: Any, network: nd.Network, layout: nd.Layout) -> None:
    x = np.full((1, 20, 5), LARGEST)
    runs = [nd.simulate(network, x, ideal=True, record=("spikes", "v"), backend=backend)]
    runs += [nd.simulate(thing, x, record=("spikes", "i_mem"), backend=backend) for thing in (network, layout)]
    runs += [nd.simulate(layout, x, mismatch=nd.Mismatch.uniform(0.5), key=2, record=("i_mem",), backend=backend)]
    for run in runs:
        for by_node in run.states.values():
            assert all(np.isfinite(values).all() for values in by_node.values())
    chip = fabricate(nd.to_params(layout), nd.Mismatch(), 1)
    assert nd.evaluate(chip, nd.Data(x, np.zeros(1, int), DT), devices=1).samples == 1


def test_a_file_of_complex_counts_is_named(tmp_path: Path) -> None:
    path = tmp_path / "complex.npz"
    np.savez(path, x=GOOD + 1j, y=np.zeros(2, int), dt=DT)
    with pytest.raises(nd.ConfigurationError, match=r"complex\.npz: Data: x: values of type complex128"):
        nd.Data.load(path)


def test_recordings_have_one_shape_and_a_step() -> None:
    for recording, words in (
        (lambda: nd.Recording({"a": np.zeros((1, 5, 2)), "b": np.zeros((1, 4, 2))}, DT), "node 'b': .*(1, 4, 2)"),
        (lambda: nd.Recording({"a": np.zeros((5, 2))}, DT), "node 'a': .*needed is"),
        (lambda: nd.Recording({"a": np.zeros((1, 5, 2))}, float("inf")), "Recording: dt is inf"),
    ):
        with pytest.raises(nd.ConfigurationError, match=words):
            recording()
