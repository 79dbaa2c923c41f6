"""The report: counts from the bits, accuracy, text and JSON."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from nir_dynapse.chip.biasgen import current
from nir_dynapse.chip.device import BASE_WEIGHTS, DYNAPSE2, PARAMETERS
from nir_dynapse.errors import ConfigurationError, Finding
from nir_dynapse.evaluation.checks import losses, score
from nir_dynapse.evaluation.evaluate import Evaluation
from nir_dynapse.layout.layout import Layout
from nir_dynapse.network.network import Network, Population, Port, Projection
from nir_dynapse.quant.compiler import compile
from nir_dynapse.reporting.report import Accuracy, Report, report
from nir_dynapse.reporting.tables import points

DT = 1e-3


def population(name: str, n: int, kind: str = "CubaLIF", tau: float = 20e-3, v_leak: float = 0.0) -> Population:
    cuba = kind == "CubaLIF"
    return Population(
        name,
        "CubaLIF" if cuba else "LIF",
        tau_mem=np.full(n, tau),
        r=np.full(n, tau / DT),
        v_leak=np.full(n, v_leak),
        v_threshold=np.ones(n),
        v_reset=np.zeros(n),
        tau_syn=np.full(n, 5e-3) if cuba else None,
        w_in=np.full(n, 5.0) if cuba else None,
    )


def network(hidden: int = 6, **options) -> Network:
    rng = np.random.default_rng(0)
    return Network(
        (population("hidden", hidden, **options), population("out", 2, **options)),
        (
            Projection.from_dense("in", "hidden", rng.normal(0.4, 0.3, (hidden, 3)), nodes=("fc1",)),
            Projection.from_dense("hidden", "out", rng.normal(0.0, 0.3, (2, hidden)), nodes=("fc2",)),
        ),
        (Port("in", (3,)),),
        (Port("output", (2,), "out"),),
        DT,
        {"source": "tiny.nir", "sha256": "0" * 64},
    )


@pytest.fixture(scope="module")
def layout() -> Layout:
    return compile(network(), seed=5)


@pytest.fixture(scope="module")
def made(layout: Layout) -> Report:
    return report(layout)


def test_core_counts_are_those_of_the_bits(layout: Layout, made: Report) -> None:
    (core,) = made.cores
    assert (core.chip, core.core, core.nodes) == (0, 0, {"hidden": 6, "out": 2})
    assert core.neurons == (8, 256)
    rows = int((layout.cam["dendrite"] >= 0).sum())
    assert rows > 3 * 6 + 6 * 2  # spare rows make weights finer
    assert core.cam_rows == (rows, 8 * 64)
    assert core.fan_in == (6, 64)
    assert core.sram_rows == (6 + 2, 8 * 4)
    assert core.tags == (3 + 6, 2048)
    assert core.bias_group == 0
    used = np.bitwise_or.reduce(layout.cam["mask"].ravel())
    assert set(core.base_currents) == {name for bit, name in enumerate(BASE_WEIGHTS) if used >> bit & 1}
    for name, amperes in core.base_currents.items():
        assert amperes == current(name, *layout.codes[0, list(PARAMETERS).index(name)])


def test_nodes_projections_and_chips(made: Report) -> None:
    assert [(n.name, n.neurons, n.fan_in.used, n.cores) for n in made.nodes] == [
        ("hidden", 6, 3, ("0.0",)),
        ("out", 2, 6, ("0.0",)),
    ]
    assert made.projections == (("fc1", "in", "hidden", 18), ("fc2", "hidden", "out", 12))
    (chip,) = made.chips
    assert (chip.cores, chip.neurons, chip.bias_groups) == ((1, 4), (8, 1024), (1, 4))
    assert chip.cam_rows == (made.cores[0].cam_rows.used, 1024 * 64)


def test_bias_groups_and_two_chips() -> None:
    net = network()
    slow = population("out", 2, tau=50e-3)
    made = report(compile(Network((net["hidden"], slow), net.projections, net.inputs, net.outputs, DT)))
    assert [core.bias_group for core in made.cores] == [0, 1]
    assert made.chips[0].bias_groups == (2, 4)

    many = compile(network(260), fan_in="prune", device=DYNAPSE2.stack(2))
    made = report(many, device=DYNAPSE2.stack(2))
    assert len(made.chips) == 2
    assert [core.neurons.used for core in made.cores] == [256, 6]
    assert made.cores[1].nodes == {"hidden": 4, "out": 2}
    assert any(f.code == "fan-in" for f in made.approximations)


def test_provenance(made: Report, layout: Layout) -> None:
    origin = made.provenance
    assert origin["source"] == "tiny.nir"
    assert origin["sha256"] == "0" * 64
    assert origin["seed"] == 5
    assert origin["device"] == "DYNAP-SE2, 1 chip"
    assert origin["network"] == layout.origin["network"]
    assert all(origin[name] for name in ("nir_dynapse", "python", "jax", "numpy", "nir"))


def test_standing_approximations_are_what_the_layout_meets() -> None:
    codes = {f.code for f in report(compile(network())).approximations}
    assert {"refractory", "inhibition", "weight-rounding"} <= codes
    assert not {"fast-synapse", "dc", "tonic"} & codes
    lif = report(compile(network(kind="LIF", v_leak=0.5)))
    assert {"fast-synapse", "dc"} <= {f.code for f in lif.approximations}
    biased = network()
    bias = np.linspace(0.0, 0.1, 6)
    first = biased.projections[0]
    tonic = Projection(first.source, first.target, first.pre, first.post, first.weight, bias, first.nodes)
    net = Network(biased.populations, (tonic, biased.projections[1]), biased.inputs, biased.outputs, DT)
    made = report(compile(net))
    assert "tonic" in {f.code for f in made.approximations}
    assert ("constant input", "tonic", "hidden", 5) in made.projections


def test_warnings_are_approximations_and_infos_are_notes(layout: Layout) -> None:
    extra = (Finding("warning", "odd", "something odd."), Finding("info", "several-outputs", "two outputs."))
    made = report(layout, findings=extra)
    assert extra[0] in made.approximations
    assert extra[1] in made.notes
    assert set(made.findings) == {*layout.findings, *extra}


def test_report_of_a_network_has_no_cores() -> None:
    made = report(network(70))
    assert made.cores == ()
    assert [n.fan_in.used for n in made.nodes] == [3, 70]
    assert "nothing has been mapped" in report(network()).text()


def test_report_of_a_network_says_that_it_would_not_fit_and_the_ways_out() -> None:
    (finding,) = (f for f in report(network(70)).approximations if f.code == "fan-in")
    assert (finding.node, finding.used, finding.limit) == ("out", 70, 64)
    for words in ("up to 70 synapses", "stores 64", "as it is", "--train", "--fan-in prune"):
        assert words in str(finding)
    assert not any(f.code == "fan-in" for f in report(network(64)).findings)


def test_score_ties_and_silence() -> None:
    counts = np.array([[3, 1, 0], [2, 2, 0], [0, 0, 0], [0, 1, 4], [0, 5, 5]])
    ideal = np.array([[3, 1, 0], [0, 9, 0], [1, 0, 0], [0, 0, 4], [0, 0, 1]])
    row = score("circuit", counts, np.array([0, 1, 0, 2, 2]), ideal)
    assert (row.correct, row.total, row.ties, row.silent) == (3, 5, 2, 1)
    assert row.share == pytest.approx(0.6)
    assert row.agreement == pytest.approx(0.6)
    assert row.rate == pytest.approx(counts.mean())


def test_json_and_text(layout: Layout) -> None:
    row = Accuracy("ideal", 9, 10, 1.0, 0, 1, 2.5)
    made = report(layout, accuracy=(row,), checks=("all is well.",), provenance={"board": "virtual:7"})
    data = json.loads(json.dumps(made.to_dict(), allow_nan=False))
    assert (data["format"], data["version"]) == ("nir_dynapse.report", 1)
    assert data["accuracy"][0]["accuracy"] == pytest.approx(0.9)
    assert data["cores"][0]["neurons"] == {"used": 8, "available": 256}
    assert data["cores"][0]["base_currents"]
    assert data["findings"] == [f.to_dict() for f in layout.findings]
    text = made.text()
    assert str(made) == text
    for part in (
        "90.0 %",
        "9/10",
        "8/256",
        f"{made.cores[0].cam_rows.used}/512",
        "6/64",
        "9/2048",
        "fc1",
        "SYAM_W0_P",
        "all is well.",
        "virtual:7",
    ):
        assert part in text
    narrow = report(layout).text(width=60)
    sentences = narrow[narrow.index("Approximations") : narrow.index("Nodes")]
    assert max(map(len, sentences.splitlines())) <= 60


# --- many virtual chips -----------------------------------------------------------------------------------------------


def evaluation(accuracy: np.ndarray, first: int = 0, nominal: float = 0.9) -> Evaluation:
    n = len(accuracy)
    return Evaluation(accuracy, first + np.arange(n), np.zeros(n), np.zeros(n), 200, nominal)


@pytest.fixture(scope="module")
def runs() -> dict[str, Evaluation]:
    rng = np.random.default_rng(0)
    before = rng.normal(0.6, 0.1, 100).clip(0, 1).round(3)
    gains = np.r_[np.full(90, 0.2), np.zeros(4), np.full(6, -0.05)]
    return {"before": evaluation(before), "after": evaluation((before + gains).clip(0, 1))}


def test_virtual_chips_in_text_and_json(layout: Layout, runs: dict[str, Evaluation]) -> None:
    given = {name: run.to_dict() for name, run in runs.items()}
    made = report(layout, virtual_chips=given)
    data = json.loads(json.dumps(made.to_dict(), allow_nan=False))
    assert data["virtual_chips"] == json.loads(json.dumps(given))
    assert list(data["virtual_chips"]) == ["before", "after"]
    text = made.text()
    section = text[text.index("On 100 virtual chips\n") : text.index("Nodes\n")]
    rows = {line.split()[0]: line for line in section.splitlines() if line.strip() and "against" not in line}
    for name, run in runs.items():
        numbers = (run.median, *run.quartiles, run.quantile(0.05), run.minimum, run.nominal)
        for value in numbers:
            assert f"{100 * value:.1f} %" in rows[name]
        assert f"{100 * run.minimum:.1f} %" in rows["minimum"]
    gain = 100 * (runs["after"].median - runs["before"].median)
    assert f"after against before: median {gain:+.1f}, 5 % quantile" in section
    assert "of 100 chips 90 are better, 6 worse, 4 equal" in section
    assert "▇" in section
    assert max(map(len, section.splitlines())) <= 100


def test_virtual_chips_of_a_network_and_of_other_chips(runs: dict[str, Evaluation]) -> None:
    other = evaluation(runs["after"].accuracy[:50], first=1000)
    text = report(network(), virtual_chips={"before": runs["before"].to_dict(), "after": other.to_dict()}).text()
    assert "On virtual chips\n" in text
    assert "after against before: median" in text
    assert "are better" not in text, "not the same chips"
    one = report(network(), virtual_chips={"nominal only": evaluation(np.array([0.5])).to_dict()}).text()
    assert "On 1 virtual chip\n" in one
    assert "against" not in one
    none = report(network())
    assert none.to_dict()["virtual_chips"] == {}
    assert "virtual chip" not in none.text()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"median": None}, "'before' lacks median"),
        ({"accuracy": [0.5, 70.0], "seeds": [0, 1], "devices": 2}, "are 0.5 to 70, allowed are 0 to 1"),
        ({"accuracy": [0.5, float("nan")], "seeds": [0, 1], "devices": 2}, "allowed are 0 to 1"),
        ({"devices": 99}, "accuracies of shape"),
        ({"accuracy": [], "seeds": [], "devices": 0}, "accuracies of shape"),
    ],
)
def test_virtual_chips_that_are_refused(runs: dict[str, Evaluation], change: dict[str, Any], words: str) -> None:
    given = {**runs["before"].to_dict(), **change}
    given = {key: value for key, value in given.items() if value is not None}
    with pytest.raises(ConfigurationError, match=words) as caught:
        report(network(), virtual_chips={"before": given})
    assert "Give what Evaluation.to_dict returns" in str(caught.value)
    with pytest.raises(ConfigurationError, match="lacks"):
        report(network(), virtual_chips={"before": runs["before"]})  # type: ignore[dict-item]


def test_what_a_stage_costs_is_said_with_what_helps() -> None:
    def row(name: str, correct: int) -> Accuracy:
        return Accuracy(name, correct, 1000, agreement=1.0, ties=0, silent=0, rate=1.0)

    rows = [row("ideal", 900), row("untrained circuit", 300), row("circuit", 640), row("quantised", 635)]
    (mapping,) = losses(rows, trained=False)
    assert mapping.severity == "warning"
    assert "90.0% (ideal) to 64.0% (circuit)" in mapping.what
    assert "--train" in mapping.hint
    assert "resets to zero" in mapping.hint
    mapping, chip = losses([*rows, row("on this chip", 500)], trained=True)
    assert "mismatch of this chip" in chip.what
    assert "More steps" in chip.hint
    assert losses([row("ideal", 900), row("circuit", 851)], trained=False) == ()
    rows = [row("ideal", 900), row("circuit", 890), row("pruned", 700), row("quantised", 600)]
    pruning, rounding = losses(rows, trained=False)
    assert "pruning alone" in pruning.what
    assert "89.0% (circuit) to 70.0% (pruned)" in pruning.what
    assert pruning.what.endswith("No other step costs more.")
    assert "--train TRAIN.npz (deploy(train=...)) trains onto the rows that the chip has" in pruning.hint
    assert "70.0% (pruned) to 60.0% (quantised)" in rounding.what
    (little,) = losses([row("circuit", 890), row("pruned", 880)], trained=False)
    assert (little.severity, little.code) == ("info", "pruning")


def test_accuracy_goes_step_by_step() -> None:
    def row(name: str, correct: int) -> Accuracy:
        return Accuracy(name, correct, 100, agreement=1.0, ties=0, silent=0, rate=1.0)

    names = ("ideal", "untrained circuit", "untrained, pruned", "circuit", "quantised", "on this chip")
    rows = [row(name, correct) for name, correct in zip(names, (90, 80, 50, 88, 87, 89), strict=True)]
    assert {name: (before, round(step, 9)) for name, (before, step) in points(rows).items()} == {
        "untrained circuit": ("ideal", -10.0),
        "untrained, pruned": ("untrained circuit", -30.0),
        "circuit": ("ideal", -2.0),
        "quantised": ("circuit", -1.0),
        "on this chip": ("quantised", 2.0),
    }
    made = report(network(), accuracy=rows)
    assert made.to_dict()["accuracy"][2]["before"] == "untrained circuit"
    assert made.to_dict()["accuracy"][2]["points"] == pytest.approx(-30.0)
    assert "before" not in made.to_dict()["accuracy"][0]
    assert "-30.0" in made.text()
    assert "-30.0" in made.html()
    few = [Accuracy(name, correct, 20, 1.0, 0, 0, 1.0) for name, correct in (("ideal", 18), ("circuit", 16))]
    assert losses(few, trained=False) == ()  # two samples of twenty: chance
