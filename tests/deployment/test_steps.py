"""The steps of `deploy`, each with what it costs: pruning by measured importance, and training onto the rows."""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nir_dynapse as nd
from cli_models import DT, cuba, fails, write
from nir_dynapse.circuit.closed_form import event_charge, to_params
from nir_dynapse.cli.main import main
from nir_dynapse.deployment import deploy as deployment
from nir_dynapse.deployment.activity import measured_activity, measured_charge
from nir_dynapse.deployment.pruning import Pruning, worth
from nir_dynapse.deployment.stages import AFTER, BEFORE, Stages
from nir_dynapse.errors import CapacityError, ConfigurationError, ParameterRangeError
from nir_dynapse.reporting.training_log import TrainingLog
from nir_dynapse.sim.importance import taylor_importance
from small_networks import feed_forward

CHANNELS, HIDDEN = 90, 4


def weights() -> np.ndarray:
    """(hidden, channel): the first 60 channels weigh most, the last 20 least."""
    rng = np.random.default_rng(3)
    strength = np.repeat([0.06, 0.05, 0.04], [60, 10, 20])
    return strength * rng.uniform(0.9, 1.0, (HIDDEN, CHANNELS))


def counts(samples: int = 8) -> np.ndarray:
    """The first 20 channels, which weigh most, never send an event."""
    x = np.random.default_rng(4).poisson(0.05, (samples, 30, CHANNELS)).astype(np.uint8)
    x[..., :20] = 0
    return x


@pytest.fixture(scope="module")
def data() -> nd.Data:
    return nd.Data(counts(), np.arange(8) % HIDDEN, DT)


@pytest.fixture(scope="module")
def network() -> nd.Network:
    return feed_forward(weights())


def test_charge_is_measured_by_what_the_sources_send(network: nd.Network, data: nd.Data) -> None:
    params = to_params(network, nd.DYNAPSE2)
    found = measured_charge(params, network, data)
    rate = measured_activity(network, data)["in"]
    expected = params.row_currents() * event_charge(params) * rate[params.topology.pre]
    np.testing.assert_allclose(found, expected)
    assert not found[params.topology.pre < 20].any()


def test_importance_is_the_effect_on_the_answers(network: nd.Network, data: nd.Data) -> None:
    params = to_params(network, nd.DYNAPSE2)
    found, how = worth(params, network, data)
    assert "8 samples" in how
    t = params.topology
    assert found.shape == (t.n_synapses,)
    assert not found[t.pre < 20].any()  # nothing depends on them
    assert (found[t.pre >= 20] > 0).any()
    assert np.isfinite(taylor_importance(params, data.x, data.y)).all()


@pytest.mark.long
def test_taylor_is_the_derivative_of_the_loss() -> None:
    """Against a difference quotient on a smoothed model: two outputs that compete, one synapse moved."""
    import jax

    from nir_dynapse.sim.circuit import internal_step
    from nir_dynapse.sim.engine import spike_counts

    net = feed_forward(np.array([[0.5, 0.3], [0.2, 0.4]]))
    params = to_params(net, nd.DYNAPSE2)
    x = np.random.default_rng(0).poisson(0.4, (4, 40, 2)).astype(np.float32)
    y = np.array([0, 1, 0, 1])
    steps = internal_step(params, DT)

    def loss(scale: Any) -> Any:
        from dataclasses import replace

        there = replace(params, weight=jax.numpy.asarray(params.row_currents()) * scale)
        logits = 4 * jax.numpy.log(1 + spike_counts(there, x, substeps=steps).sum(1))
        return -jax.nn.log_softmax(logits)[np.arange(4), y].sum()

    expected = np.abs(jax.grad(loss)(jax.numpy.ones(params.topology.n_synapses)))
    np.testing.assert_allclose(taylor_importance(params, x, y), expected, rtol=1e-4)


def test_pruning_is_a_step_of_its_own(network: nd.Network, data: nd.Data, tmp_path: Path) -> None:
    made = deployment.deploy(nd.to_nir(network), data, dt=DT, fan_in="prune", fit=False)
    names = ["ideal", "circuit", "pruned", "quantised", "on this chip"]
    assert [row.name for row in made.accuracy] == names
    pruned = Pruning(made.network, data, nd.DYNAPSE2)()
    t = pruned.topology
    assert (np.bincount(t.post) == 64).all()
    assert (made.counts["pruned"] == nd.simulate(pruned, data.x).counts()).all()
    assert (made.counts["circuit"] == nd.simulate(made.network, data.x).counts()).all()
    heard = {channel for (_, channel), where in made.layout.input_map.items() if where}
    assert heard == set(np.unique(t.pre).tolist())
    told = [f for f in made.layout.findings if f.code == "fan-in"]
    assert len(told) == 1
    assert "depend on" in told[0].what
    assert [row.get("before") for row in made.report.to_dict()["accuracy"]] == [None, *names[:-1]]
    assert "pruned" in made.report.html()
    assert "pruned" in made.report.samples


def test_nothing_is_pruned_where_all_fits(data: nd.Data) -> None:
    narrow = nd.to_nir(feed_forward(weights()[:, :60]))
    made = deployment.deploy(narrow, nd.Data(data.x[..., :60], data.y, DT), dt=DT, fan_in="prune", fit=False)
    assert "pruned" not in made.counts
    assert made.layout == nd.compile(made.network)


def test_refused_without_training_data(network: nd.Network, data: nd.Data) -> None:
    graph = nd.to_nir(network)
    with pytest.raises(CapacityError, match="90 incoming synapses"):
        deployment.deploy(graph, data, dt=DT)
    with pytest.raises(CapacityError, match="90 incoming synapses"):  # before any training
        deployment.deploy(graph, data, dt=DT, train=data, fan_in="refuse")
    with pytest.raises(ConfigurationError, match="nothing to train with"):
        deployment.deploy(graph, data, dt=DT, fan_in="train")
    with pytest.raises(ParameterRangeError, match="'train', 'prune', 'refuse'"):
        deployment.deploy(graph, data, dt=DT, fan_in="cut")  # type: ignore[arg-type]
    with pytest.raises(ParameterRangeError, match="What trains is fine_tune"):
        nd.compile(network, fan_in="train")  # type: ignore[arg-type]


@pytest.mark.parametrize("fan_in", [None, "train", "prune"])
def test_training_gets_the_network_that_fan_in_says(
    network: nd.Network, data: nd.Data, fan_in: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def trained(thing: Any, data: Any, keywords: Any, *_: Any) -> tuple[nd.Params, TrainingLog]:
        """What training onto the rows leaves: the channels that send."""
        asked.append((thing, keywords["start"], keywords["spend"]))
        return Pruning(network, data, nd.DYNAPSE2)(), TrainingLog()

    monkeypatch.setattr(deployment, "fine_tuned", trained)
    made = deployment.deploy(nd.to_nir(network), data, dt=DT, train=data, fan_in=fan_in, compare=2, fit=False)
    ((thing, start, spend),) = asked
    assert thing is made.network
    if fan_in == "prune":
        assert (np.bincount(start.topology.post) == 64).all()
        assert spend == "none"
    else:
        assert (np.bincount(start.topology.post) == CHANNELS).all()
        assert spend == "chip"
    names = ["ideal", "untrained circuit", "untrained, pruned", "circuit", "quantised", "on this chip"]
    assert [row.name for row in made.accuracy] == names
    assert set(made.report.virtual_chips) == {"before training", "after training"}
    (chosen,) = (f for f in made.report.findings if f.code == "rows-trained")
    assert (chosen.used, chosen.limit) == (HIDDEN * 64, HIDDEN * CHANNELS)


def wide(folder: Path) -> str:
    import nir

    nodes = {
        "in": nir.Input({"input": np.array([CHANNELS])}),
        "fc": nir.Linear(weights() * 20),
        "hidden": cuba(HIDDEN),
        "output": nir.Output({"output": np.array([HIDDEN])}),
    }
    names = list(nodes)
    return write(folder / "wide.nir", nir.NIRGraph(nodes, list(pairwise(names))))


def test_command_line(tmp_path: Path, data: nd.Data, capsys: pytest.CaptureFixture[str]) -> None:
    model, path = wide(tmp_path), str(tmp_path / "d.npz")
    data.save(path)
    fails(capsys, ["deploy", model, "--dt", "0.001", "--data", path], "node 'hidden'", "90", "64", "--train")
    fails(capsys, ["deploy", model, "--dt", "0.001", "--data", path, "--fan-in", "train"], "--train TRAIN.npz")
    assert main(["deploy", model, "--dt", "0.001", "--data", path, "--fan-in", "prune", "--no-fit", "-q"]) == 0
    assert "pruned" in capsys.readouterr().out
    assert main(["check", model, "--dt", "0.001"]) == 1
    said = capsys.readouterr()
    assert "as it is the network does not fit" in said.err.replace("\n", " ")
    assert main(["check", model, "--dt", "0.001", "--fan-in", "train", "-q"]) == 0
    assert "once --train has chosen" in " ".join(capsys.readouterr().out.split())
    layout = str(tmp_path / "layout.json")
    argv = ["compile", model, "--dt", "0.001", "--fan-in", "prune", "--activity", path, "-o", layout, "-q"]
    assert main(argv) == 0
    (told,) = (f for f in nd.Layout.load(layout).findings if f.code == "fan-in")
    assert "depend on" in told.what
    capsys.readouterr()
    fails(capsys, ["compile", model, "--dt", "0.001", "--fan-in", "train", "-o", layout], "--train")


def test_what_is_left_counts_what_comes_after_training(monkeypatch: pytest.MonkeyPatch) -> None:
    now, told = [0.0], []
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    stages = Stages(
        ("read", "compile untrained", BEFORE, "train", "compile", "verify", AFTER), lambda *said: told.append(said)
    )
    for name, took in (("compile untrained", 3.0), (BEFORE, 40.0), ("train", 0.0)):
        stages.begin(name)
        now[0] += took
    stages.within("train")("step 20, loss 1.2, held out 90.0 %, 12 s left", 0.1)
    stages.within("train")("node 'hidden': no spikes", 0.1)
    assert told[-2][0] == "train: step 20, loss 1.2, held out 90.0 %, 55 s left"
    assert told[-1][0] == "train: node 'hidden': no spikes"
    stages.within("compile")("12 s left", 0.5)
    assert told[-1][0] == "compile: 12 s left"
