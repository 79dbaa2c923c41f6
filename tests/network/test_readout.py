"""Readouts on the host: behind the chip, in a Layout and its files, through a deployment."""

from __future__ import annotations

import itertools
import json
from typing import Any

import nir
import numpy as np
import pytest

import nir_dynapse as nd
from nir_dynapse.deployment.deploy import deploy
from nir_dynapse.network.primitives import graph
from nir_dynapse.network.readout import ReadoutStepper, run_readout
from nir_graphs import affine, cubalif, linear, port_in, port_out
from shortened import shortened

RNG = np.random.default_rng(2)
X = (RNG.random((6, 80, 3)) < 0.4).astype(np.float32)


def with_readout(*names: str) -> Any:
    """in(3) → fc → hidden(8) → ro → `names` of LI, sum, CubaLI, I … → out(2)."""
    nodes: dict[str, Any] = {
        "in": port_in(3),
        "fc": nir.Linear(np.abs(RNG.normal(0.5, 0.2, (8, 3)))),
        "hidden": cubalif(8),
        "ro": affine(2, 8),
        "li": nir.LI(tau=np.full(2, 0.03), r=np.full(2, 2.0), v_leak=np.array([0.1, -0.2])),
        "cuba": nir.CubaLI(
            tau_syn=np.full(2, 0.005), tau_mem=np.full(2, 0.02), r=np.ones(2), v_leak=np.zeros(2), w_in=np.full(2, 3.0)
        ),
        "i": nir.I(r=np.full(2, 5.0)),
        "fc2": linear(2, 2),
        "out": port_out(2),
    }
    chain = ["in", "fc", "hidden", "ro", *names, "out"]
    return graph({name: nodes[name] for name in chain}, list(itertools.pairwise(chain)), {"dt": 1e-3})


CHAINS = [(), ("li",), ("cuba",), ("i",), ("li", "fc2"), ("fc2", "li", "i")]


@pytest.mark.parametrize("names", CHAINS, ids=lambda names: "-".join(names) or "linear")
def test_the_same_values_from_the_same_spikes_wherever_they_come_from(names: tuple[str, ...]) -> None:
    net = nd.from_nir(with_readout(*names))
    ideal = nd.simulate(net, X, ideal=True)
    assert ideal.output.shape == (6, 80, 2)
    assert ideal.spikes["hidden"].sum() > 50
    by_host = run_readout(net.readout, ideal.spikes, net.dt)
    np.testing.assert_allclose(by_host[str(net.outputs[0].source)], ideal.output, rtol=1e-4, atol=1e-4)

    layout = nd.compile(net)
    assert len(layout.output_map) == 8  # the spikes that the host needs
    chip = nd.simulate(layout, X)
    expected = run_readout(layout.readout, chip.spikes, net.dt)[str(net.outputs[0].source)]
    np.testing.assert_array_equal(chip.output, expected)
    np.testing.assert_allclose(chip.counts(), expected.sum(1))
    with nd.open_board("virtual:1", mismatch=nd.Mismatch.none()) as board:
        board.apply(layout)
        np.testing.assert_array_equal(board.run_batch(X, 1e-3).output, expected)


@pytest.mark.parametrize("names", CHAINS, ids=lambda names: "-".join(names) or "linear")
def test_other_bins_give_the_same_readout_of_the_same_spikes(names: tuple[str, ...]) -> None:
    net = nd.from_nir(with_readout(*names))
    last = str(net.outputs[0].source)
    spikes = {"hidden": (RNG.random((2, 50, 8)) < 0.2).astype(np.uint8)}
    own = run_readout(net.readout, spikes, 1e-3)[last]
    fine = {"hidden": np.zeros((2, 198, 8), np.uint8)}
    fine["hidden"][:, 1::4] = spikes["hidden"][:, :50]
    quarter = run_readout(net.readout, fine, 1e-3, 0.25e-3)[last]
    np.testing.assert_allclose(quarter[:, 3::4], own[:, :49], rtol=1e-12, atol=1e-12)  # where a step is over
    assert quarter.shape == (2, 198, 2)
    np.testing.assert_array_equal(quarter[:, 4:7], np.repeat(quarter[:, 3:4], 3, 1))  # and held till the next one is
    every_third = {"hidden": np.zeros((2, 50, 8), np.uint8)}
    every_third["hidden"][:, ::3] = spikes["hidden"][:, ::3]
    coarse = run_readout(net.readout, {"hidden": every_third["hidden"][:, ::3]}, 1e-3, 3e-3)[last]
    np.testing.assert_allclose(coarse[:, :16], run_readout(net.readout, every_third, 1e-3)[last][:, 2::3][:, :16])
    with pytest.raises(nd.ParameterRangeError, match="divide the step"):
        run_readout(net.readout, spikes, 1e-3, 0.7e-3)


def test_edges_of_runs() -> None:
    net = nd.from_nir(with_readout("li"))
    assert nd.simulate(net, X[:0]).output.shape == (0, 80, 2)
    assert nd.simulate(net, X[:, :0]).output.shape == (6, 0, 2)
    with pytest.raises(nd.ConfigurationError, match="Known output nodes: 'out'"):
        nd.simulate(net, X).of("nope")


@pytest.mark.parametrize("names", CHAINS, ids=lambda names: "-".join(names) or "linear")
def test_it_travels_in_every_file(names: tuple[str, ...], tmp_path) -> None:
    net = nd.from_nir(with_readout(*names))
    layout = nd.compile(net)
    path = tmp_path / "layout.json"
    layout.save(path)
    assert "Infinity" not in path.read_text()
    back = nd.Layout.load(path)
    assert back == layout
    assert back.readout.digest() == layout.readout.digest()
    assert nd.from_samna(nd.to_samna(layout)) == layout
    g = nd.to_nir(layout)
    again = nd.from_nir(g)
    assert [p.kind for p in again.readout.populations] == [p.kind for p in net.readout.populations]
    spikes = {"hidden": np.ones((1, 9, 8))}
    for name, values in run_readout(net.readout, spikes, net.dt).items():
        np.testing.assert_allclose(run_readout(again.readout, spikes, net.dt)[name], values)


def test_version_1_of_the_layout_is_still_read() -> None:
    layout = nd.compile(nd.from_nir(with_readout()))
    data = json.loads(json.dumps(layout.to_dict()))
    assert data["version"] == 5
    data["version"] = 1
    del data["readout"]
    data["outputs"] = [["out", [8], "hidden"]]
    assert not nd.Layout.from_dict(data).readout


def damage(where: str, **changes: Any) -> Any:
    def apply(data: dict) -> None:
        data["readout"][where][0] |= changes

    return apply


@pytest.mark.parametrize(
    "change",
    shortened(
        [
            damage("populations", kind="LIF"),
            damage("populations", shape=[3]),
            damage("populations", shape=[10**9]),
            damage("populations", tau_mem=["x", 1]),
            damage("populations", tau_mem=[float("nan"), 1.0]),
            damage("populations", tau_mem=[0.0, 1.0]),
            damage("populations", kind="CubaLI"),
            damage("populations", name="hidden"),
            damage("projections", pre=[-1]),
            damage("projections", pre=[99] * 16),
            damage("projections", post=[99] * 16),
            damage("projections", weight=[1.0]),
            damage("projections", weight=[float("nan")] * 16),
            damage("projections", bias=[1.0]),
            damage("projections", pre="abc"),
            damage("projections", source="nobody"),
            damage("projections", source="li"),
            damage("projections", target="nobody"),
            damage("projections", dendrite="x"),
            lambda data: data.pop("readout"),
            lambda data: data.update(readout=[]),
            lambda data: data["readout"]["populations"][0].pop("tau_mem"),
            lambda data: data["readout"]["populations"].append(data["readout"]["populations"][0]),
            lambda data: data["outputs"].append(data["outputs"][0]),
            lambda data: data["outputs"][0].__setitem__(2, "nobody"),
        ],
        8,
    ),
)
def test_damaged_readouts_are_refused(change: Any) -> None:
    data = json.loads(json.dumps(nd.compile(nd.from_nir(with_readout("li"))).to_dict()))
    nd.Layout.from_dict(json.loads(json.dumps(data)))
    change(data)
    with pytest.raises(nd.ConfigurationError):
        nd.Layout.from_dict(data)


def test_a_deployment_scores_what_the_readout_says(tmp_path) -> None:
    net = nd.from_nir(with_readout("li"))
    y = nd.simulate(net, X, ideal=True).counts().argmax(1)
    result = deploy(with_readout("li"), nd.Data(X, y, 1e-3), board="virtual:3", fit=False)
    assert result.accuracy[0].share == 1.0
    assert all(row.total == 6 for row in result.accuracy)
    paths = result.write(tmp_path / "out")
    assert nd.Layout.load(paths[0]) == result.layout
    assert "readout on the host" in result.report.text()


def test_a_voltage_output_of_several_and_a_spiking_one() -> None:
    g = with_readout("li")
    g.nodes["spikes"] = port_out(8)
    g.edges.append(("hidden", "spikes"))
    net = nd.from_nir(g)
    run = nd.simulate(net, X)
    assert run.of("spikes").dtype == np.uint8
    assert run.of("out").dtype == float
    assert set(run.outputs) == {"out", "spikes"}


@pytest.mark.parametrize("bins", [1e-3, 0.25e-3, 3e-3])
@pytest.mark.parametrize("names", CHAINS)
def test_bin_by_bin_gives_the_same_values(names: tuple[str, ...], bins: float) -> None:
    net = nd.from_nir(with_readout(*names), dt=1e-3)
    spikes = {p.name: RNG.poisson(0.5, (1, 24, p.size)) for p in net.populations}
    whole = run_readout(net.readout, spikes, net.dt, bins)
    stepper = ReadoutStepper(net.readout, net.dt, bins)
    for _ in range(2):
        steps = [stepper.step({name: n[0, t] for name, n in spikes.items()}) for t in range(24)]
        for name, values in whole.items():
            np.testing.assert_array_equal([step[name] for step in steps], values[0])
        stepper.reset()
    with pytest.raises(nd.ParameterRangeError):
        ReadoutStepper(net.readout, net.dt, 0.7e-3)
