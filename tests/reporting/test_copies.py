"""Reports, floor plans and NIR files of networks with copies speak of the network's neurons."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import nir_dynapse as nd
from nir_dynapse.circuit.copies import with_copies
from nir_dynapse.deployment.deploy import deploy
from nir_dynapse.layout.decoding import to_network
from nir_dynapse.reporting.floor_plan import core_svg
from small_networks import recurrent


def test_a_row_of_a_node_says_its_neurons_and_copies(tmp_path: Path) -> None:
    net = recurrent(0, 8, 6, 3)
    layout = nd.compile(net, spend={"output": 4})
    report = nd.report(layout, asked=net)
    data = report.to_dict()
    assert [(node["name"], node["neurons"], node.get("copies")) for node in data["nodes"]] == [
        ("hidden", 6, None),
        ("output", 3, 4),
    ]
    assert "3 × 4" in report.text()
    assert "18 neurons for 9 in 1 core(s)" in report.text()
    report.save(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "3 × 4" in page
    assert "9, 18 of the chip" in page
    assert "output[2] copy 3" in core_svg(layout, nd.DYNAPSE2, 0, 0)
    assert "hidden[5]: slot" in core_svg(layout, nd.DYNAPSE2, 0, 0)


def test_a_nir_file_has_the_networks_neurons() -> None:
    net = recurrent(0, 8, 6, 3)
    layout = nd.compile(net, spend=3)
    read = nd.from_nir(nd.to_nir(layout), dt=net.dt)
    assert {p.name: p.size for p in read.populations} == {"hidden": 6, "output": 3}
    back = to_network(layout)
    plain = to_network(nd.compile(net))
    for a, b in zip(plain.projections, back.projections, strict=True):
        ends = {p.name: p.size for p in (*net.inputs, *net.populations)}
        want, got = (q.dense(ends[q.source], ends[q.target]) for q in (a, b))
        np.testing.assert_allclose(got, want, atol=0.05 * np.abs(want).max())


def test_deploying_with_copies(tmp_path: Path) -> None:
    net = recurrent(0, 6, 8, 3)
    x = (np.random.default_rng(1).random((6, 30, 6)) < 0.4).astype(np.uint8)
    done = deploy(nd.to_nir(net), nd.Data(x, np.arange(6) % 3, net.dt), dt=net.dt, options={"spend": 3}, fit=False)
    assert done.layout.copies == (3, 3)
    total = {name: float(counts.sum()) for name, counts in done.counts.items()}
    assert 0.4 < total["on this chip"] / total["circuit"] < 2.5, "counts are comparable: means over the copies"
    assert all(np.isfinite(row.rate) for row in done.accuracy)
    names = [row.name for row in done.accuracy]
    assert names == ["ideal", "circuit", "copied", "quantised", "on this chip"], "what copies cost has a row of its own"
    copies = with_copies(nd.to_params(net), {"hidden": 3, "output": 3})
    assert np.array_equal(done.counts["copied"], nd.simulate(copies, x).counts())
    done.write(tmp_path / "out")
