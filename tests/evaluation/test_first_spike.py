"""Who spikes first decides: times of first spikes, the accuracy by them beside that of the counts, and who is told so."""

from __future__ import annotations

import json
from pathlib import Path

import nir
import numpy as np
import pytest

import nir_dynapse as nd
from nir_dynapse.cli.main import main
from nir_dynapse.data.recording import Recording, first_times
from nir_dynapse.deployment.stages import decision_of
from nir_dynapse.evaluation.checks import earliest, score
from nir_dynapse.training.losses import FirstSpike, FirstSpikeTime
from tuning_cases import data, network, with_readout

X = np.zeros((3, 10, 2), np.uint8)
X[0, 4, 0], X[0, 6:, 1] = 1, 1  # the first to spike, the one with more spikes
X[1, 3, :] = 1
X[1, 5, 1] = 1
"""Sample 2 is silent."""


def test_times_of_first_spikes() -> None:
    assert np.array_equal(first_times(X, 1e-3), 1e-3 * np.array([[4, 6], [3, 3], [10, 10]]))
    # Of three copies two must have spiked.
    assert np.array_equal(first_times(X, 1e-3, copies=3), 1e-3 * np.array([[10, 7], [10, 5], [10, 10]]))


def test_the_first_spike_decides_and_among_several_the_most_spikes() -> None:
    recording = Recording({"out": X}, 1e-3, {"output": "out"})
    times, counts = recording.first_spikes(), recording.counts()
    assert earliest(times, counts).tolist() == [0, 1, 0]
    row = score("x", counts, np.array([0, 1, 1]), first=times)
    assert (row.correct, row.first_spike) == (1, 2)
    assert score("x", counts, np.array([0, 1, 1])).first_spike is None


def test_evaluate_tells_both() -> None:
    d = data()
    plain, both = (nd.evaluate(network(2), d, devices=5, key=3, decide=how) for how in ("counts", "first-spike"))  # type: ignore[arg-type]
    assert np.array_equal(plain.accuracy, both.accuracy)
    assert plain.first_spike is None
    assert both.first_spike is not None
    for k in range(5):
        found = nd.simulate(network(2), d.x, mismatch=nd.DYNAPSE2.mismatch, key=3 + k)
        assert both.first_spike[k] == (earliest(found.first_spikes(), found.counts()) == d.y).mean()
    assert "first spike" in str(both)
    assert "first spike" not in str(plain)
    assert both.to_dict()["first_spike"]["accuracy"] == both.first_spike.tolist()


def test_a_checkpoint_belongs_to_what_decides(tmp_path: Path) -> None:
    path = tmp_path / "chips.npz"
    nd.evaluate(network(2), data(), devices=2, checkpoint=path)
    with pytest.raises(nd.ConfigurationError, match="another decide"):
        nd.evaluate(network(2), data(), devices=2, checkpoint=path, decide="first-spike")


def test_a_readout_on_the_host_has_no_first_spike() -> None:
    with pytest.raises(nd.ConfigurationError, match=r"'sum' is a readout on the host.*Let counts decide"):
        nd.evaluate(with_readout(), data(), devices=1, decide="first-spike")
    with pytest.raises(nd.ConfigurationError, match="has no first spike"):
        nd.simulate(with_readout(), data().x).first_spikes()
    with pytest.raises(nd.ConfigurationError, match=r"decide is 'last'\. Choose one of counts, first-spike"):
        nd.evaluate(network(2), data(), devices=1, decide="last")  # type: ignore[arg-type]


def test_the_loss_says_what_decides() -> None:
    net = network(2)
    assert decision_of(None, None, net) == decision_of(None, "counts", net) == "counts"
    for loss in ("first-spike", "first-spike-time", FirstSpike(), FirstSpikeTime()):
        assert decision_of(None, loss, net) == "first-spike"
        assert decision_of("counts", loss, net) == "counts"
    assert decision_of(None, FirstSpike(), with_readout()) == "counts"


def test_deploy_and_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:

    nir.write(tmp_path / "net.nir", nd.to_nir(network(2)))
    data().save(tmp_path / "test.npz")
    made = nd.deploy(tmp_path / "net.nir", data(), decide="first-spike", fit=False)
    assert all(row.first_spike is not None for row in made.accuracy)
    assert "by first spike" in made.report.text()
    made.layout.save(tmp_path / "layout.json")
    common = ["--data", str(tmp_path / "test.npz"), "--decide", "first-spike", "--json"]
    assert main(["evaluate", str(tmp_path / "layout.json"), "--devices", "2", *common]) == 0
    assert len(json.loads(capsys.readouterr().out)["first_spike"]["accuracy"]) == 2
    common[0] = "--input"
    assert main(["run", str(tmp_path / "layout.json"), *common]) == 0
    (row,) = (r for r in made.accuracy if r.name == "on this chip")
    assert json.loads(capsys.readouterr().out)["accuracy"]["first_spike"] == row.first_spike
