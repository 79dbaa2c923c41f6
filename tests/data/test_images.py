"""Counts in the shape of images: flattened where that is the input's, refused with how to reshape them elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import nir_dynapse as nd
from nir_dynapse.data.data import Data
from nir_dynapse.evaluation.checks import check_data
from nir_dynapse.network.primitives import graph
from nir_graphs import lif, linear, port_in, port_out, read

DT = 1e-3


@pytest.fixture(scope="module")
def net() -> nd.Network:
    nodes = {"in": port_in(2, 3, 4), "w": linear(2, 24), "n": lif(2), "out": port_out(2)}
    return read(
        graph({**nodes, "flat": flatten()}, [("in", "flat"), ("flat", "w"), ("w", "n"), ("n", "out")], {"dt": DT})
    )


def flatten() -> object:
    import nir

    return nir.Flatten(input_type={"input": np.array([2, 3, 4])}, start_dim=0, end_dim=-1)


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    return np.random.default_rng(0).poisson(3.0, (4, 20, 24)).astype(np.uint8)


def test_images_run_as_flat_counts_do(net: nd.Network, x: np.ndarray) -> None:
    expected = nd.simulate(net, x, ideal=True).output
    assert expected.sum() > 5
    np.testing.assert_array_equal(nd.simulate(net, x.reshape(4, 20, 2, 3, 4), ideal=True).output, expected)
    np.testing.assert_array_equal(nd.simulate(net, x[0].reshape(20, 2, 3, 4), ideal=True).output, expected[:1])
    with pytest.raises(nd.ConfigurationError, match=r"shape \(2, 3, 4\).*\(sample, time, 24\): x\.reshape"):
        nd.simulate(net, x.reshape(4, 20, 4, 3, 2), ideal=True)


def test_data_of_images(net: nd.Network, x: np.ndarray, tmp_path: Path) -> None:
    data = Data(x.reshape(4, 20, 2, 3, 4), np.array([0, 1, 0, 1]), DT)
    np.testing.assert_array_equal(data.x, x)
    assert (data.shape, data[1:].shape) == ((2, 3, 4), (2, 3, 4))
    check_data(data, net)
    data.save(tmp_path / "x.npz")
    back = Data.load(tmp_path / "x.npz")
    assert back.shape == data.shape
    np.testing.assert_array_equal(back.x, x)
    turned = Data(x.reshape(4, 20, 3, 4, 2), data.y, DT)
    with pytest.raises(
        nd.ConfigurationError, match=r"images of shape \(3, 4, 2\).*'in' has the shape \(2, 3, 4\).*np\.transpose"
    ):
        check_data(turned, net)
    with pytest.raises(nd.ConfigurationError, match=r"x has 24 channels\. Leave shape out"):
        Data(x, data.y, DT, shape=(5, 5))


def test_axes_of_length_one_do_not_matter(x: np.ndarray) -> None:
    from nir_dynapse.data.images import flattened
    from nir_dynapse.network.network import Port

    one = [Port("in", (1, 6, 4))]
    for shape in ((4, 20, 24), (4, 20, 6, 4), (4, 20, 1, 6, 4), (4, 20, 6, 4, 1)):
        np.testing.assert_array_equal(flattened(x.reshape(shape), one), x)
    np.testing.assert_array_equal(flattened(x[0].reshape(20, 6, 4), one), x[0])
    with pytest.raises(nd.ConfigurationError, match=r"several input nodes, 'a' \(4\), 'b' \(6\)"):
        flattened(np.zeros((1, 2, 2, 5)), [Port("a", (4,)), Port("b", (6,))])


def test_what_trains_and_evaluates_takes_images(net: nd.Network, x: np.ndarray) -> None:
    images = Data(x.reshape(4, 20, 2, 3, 4), np.array([0, 1, 0, 1]), DT)
    circuit = nd.to_params(net)
    (start,) = {check_data(images, thing) for thing in (net, circuit, nd.compile(net))}
    assert start == ()
    assert 0 <= nd.evaluate(circuit, images, devices=1).nominal <= 1
    turned = Data(x.reshape(4, 20, 4, 3, 2), images.y, DT)
    for work in (nd.evaluate, nd.fine_tune):
        with pytest.raises(nd.ConfigurationError, match=r"images of shape \(4, 3, 2\)"):
            work(circuit, turned)
