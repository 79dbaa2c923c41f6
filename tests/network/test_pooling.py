"""Input channels that the host adds up: events and weights that belong together."""

from __future__ import annotations

import numpy as np
import pytest

import nir_dynapse as nd
from nir_dynapse.data.pooling import pool_data
from nir_dynapse.deployment import deploy as deployment
from nir_dynapse.errors import ParameterRangeError
from nir_dynapse.network.network import Network, Port
from nir_dynapse.network.pooling import pool_channels, pooled_channel
from small_networks import feed_forward


def test_channels_of_an_image() -> None:
    where, shape = pooled_channel(15, 2, (3, 5))
    assert shape == (2, 3)
    assert where.tolist() == [0, 0, 1, 1, 2, 0, 0, 1, 1, 2, 3, 3, 4, 4, 5]
    where, shape = pooled_channel(8, 2, (2, 2, 2))  # the last two axes
    assert (where.tolist(), shape) == ([0, 0, 0, 0, 1, 1, 1, 1], (2, 1, 1))
    where, shape = pooled_channel(5, 2)
    assert (where.tolist(), shape) == ([0, 0, 1, 1, 2], (3,))


def test_no_event_is_lost_and_weights_are_means() -> None:
    rng = np.random.default_rng(0)
    data = nd.Data(rng.poisson(3.0, (4, 10, 15)).astype(np.uint8), np.zeros(4, int), 1e-3)
    pooled = pool_data(data, 2, shape=(3, 5))
    assert pooled.x.shape == (4, 10, 6)
    assert (pooled.x.sum(2) == data.x.sum(2)).all()
    assert (pooled.x[..., 0] == data.x[..., [0, 1, 5, 6]].sum(2)).all()
    weight = rng.normal(size=(3, 15))
    net = pool_channels(feed_forward(weight), 2, shape=(3, 5))
    assert net.inputs[0].shape == (2, 3)
    np.testing.assert_allclose(net.projections[0].dense(6, 3)[:, 0], weight[:, [0, 1, 5, 6]].mean(1))
    np.testing.assert_allclose(net.projections[0].dense(6, 3)[:, 5], weight[:, 14])
    (finding,) = (f for f in net.findings if f.code == "pooled-channels")
    assert str(finding).startswith("node 'in': 15 channels are added up into 6 on the host")


def test_the_same_where_neighbours_weigh_alike() -> None:
    rng = np.random.default_rng(1)
    net = feed_forward(np.repeat(rng.uniform(0.05, 0.3, (5, 4)), 3, axis=1))
    data = nd.Data(rng.poisson(0.3, (6, 40, 12)).astype(np.uint8), np.zeros(6, int), 1e-3)
    whole = nd.simulate(net, data.x, ideal=True).counts()
    assert whole.any()
    assert (nd.simulate(pool_channels(net, 3), pool_data(data, 3).x, ideal=True).counts() == whole).all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"factor": 2, "shape": (4, 4)}, "shape is \\(4, 4\\), there are 15 channels"),
        ({"factor": 0}, "factor is 0, allowed are whole numbers from 1"),
        ({"factor": (2, 2)}, "factor is \\(2, 2\\)"),
        ({"factor": 2, "port": "image"}, "port is 'image', the input nodes are in"),
    ],
)
def test_what_is_refused(options: dict, words: str) -> None:
    with pytest.raises(ParameterRangeError, match=words):
        pool_channels(feed_forward(np.ones((2, 15))), **options)


def test_deploy_says_what_pooling_costs() -> None:
    rng = np.random.default_rng(2)
    net = feed_forward(rng.uniform(0.0, 0.1, (4, 100)))
    image = Network(net.populations, net.projections, (Port("in", (10, 10)),), net.outputs, net.dt)
    data = nd.Data(rng.poisson(0.1, (6, 30, 100)).astype(np.uint8), np.arange(6) % 4, 1e-3)
    made = deployment.deploy(nd.to_nir(image), data, dt=1e-3, pool=2, fit=False)
    assert [row.name for row in made.accuracy] == ["ideal", "pooled", "circuit", "quantised", "on this chip"]
    assert made.network.inputs[0].shape == (5, 5)
    assert (made.counts["ideal"] == nd.simulate(image, data.x, ideal=True).counts()).all()
    pooled = nd.simulate(pool_channels(image, 2), pool_data(data, 2, shape=(10, 10)).x, ideal=True)
    assert (made.counts["pooled"] == pooled.counts()).all()
    assert any(f.code == "pooled-channels" for f in made.report.findings)
