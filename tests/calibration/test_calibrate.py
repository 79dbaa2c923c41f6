"""Calibration: a virtual board with planted scales, bad rows, bad neurons and dead tags is measured by its spikes alone."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import nir_dynapse as nd
from nir_dynapse.board.link import LinkedBoard
from nir_dynapse.calibration import rows
from nir_dynapse.calibration.calibrate import NOT_MEASURED, _Bench, calibrate
from nir_dynapse.calibration.design import codes_for, experiments, probe_layout
from nir_dynapse.calibration.fit import FITTED, log_scales, response
from nir_dynapse.calibration.rows import find_working, map_tags
from nir_dynapse.chip.biasgen import reach
from nir_dynapse.chip.device import BASE_WEIGHTS, COLUMN, CURRENTS, DYNAPSE2, PARAMETERS, WEIGHT_GAINS, Device
from nir_dynapse.chip.profile import ChipProfile
from nir_dynapse.cli.main import main
from nir_dynapse.errors import HardwareError, ParameterRangeError
from nir_dynapse.layout.rows import CAM_DTYPE, UNUSED_CAM
from nir_dynapse.sim.mismatch import as_measured, factors

SEED = 3


def silicon(seed: int, board: str = "green") -> ChipProfile:
    """A chip whose biases are off by up to a half, with bad rows, bad neurons and tags that do not reach a core."""
    rng = np.random.default_rng(seed)
    scales = {
        name: np.exp(rng.uniform(np.log(0.65), np.log(1.55), 4)) for name in PARAMETERS if name not in NOT_MEASURED
    }
    return replace(ChipProfile.synthetic(seed, board=board, restrict_tags=True), scales=scales)


@pytest.fixture(scope="module")
def hidden() -> ChipProfile:
    return silicon(SEED)


@pytest.fixture(scope="module")
def measured(hidden: ChipProfile) -> ChipProfile:
    with nd.open_board(f"virtual:{SEED}", device=DYNAPSE2.with_profiles(hidden)) as board:
        (profile,) = calibrate(board, rounds=5)  # two fewer than usual: quicker, and close enough
    return profile


@pytest.mark.long
def test_scales_are_found(hidden: ChipProfile, measured: ChipProfile) -> None:
    """Within 5 %, base weights and gains with the mean weight at 1 (only their products show in spikes)."""
    assert set(measured.scales) == set(PARAMETERS) - set(NOT_MEASURED)
    common = np.mean([np.log(hidden.scales[name]) for name in BASE_WEIGHTS], 0)
    off = {}
    for name, found in measured.scales.items():
        true = np.log(hidden.scales[name]) + common * (name in WEIGHT_GAINS) - common * (name in BASE_WEIGHTS)
        off[name] = np.abs(np.log(found) - true)
    assert max(v.max() for v in off.values()) < 0.05, off
    assert np.mean([np.log(measured.scales[name]) for name in BASE_WEIGHTS], 0) == pytest.approx(np.zeros(4), abs=1e-4)
    planted = np.abs([np.log(hidden.scales[name]) for name in measured.scales]).mean()
    assert np.mean(list(off.values())) < 0.1 * planted


@pytest.mark.long
def test_bad_rows_neurons_and_tags_are_found(hidden: ChipProfile, measured: ChipProfile) -> None:
    assert (measured.neurons == hidden.neurons).mean() > 0.998
    both = measured.neurons & hidden.neurons
    planted, found = ~hidden.rows[both], ~measured.rows[both]
    assert planted.mean() > 0.2
    assert found[planted].mean() >= 0.95
    assert found[~planted].mean() <= 0.01
    assert not (hidden.tags & ~measured.tags).any(), "a tag that works is never called dead"
    assert (~measured.tags & ~hidden.tags).sum() > 100


@pytest.mark.long
def test_factors_of_single_neurons_are_found(hidden: ChipProfile, measured: ChipProfile) -> None:
    place = np.stack(np.meshgrid([0], np.arange(4), np.arange(256), indexing="ij"), -1).reshape(-1, 3)
    here = measured.neurons & hidden.neurons
    for name, least in {"i_ref": 0.95, "i_dc": 0.9, "i_tau_mem": 0.8, "i_tau_ampa": 0.8, "i_gain_mem": 0.75}.items():
        true = factors(SEED, place, CURRENTS.index(name), PARAMETERS[name].cv).reshape(4, 256)
        found = measured.factors[name]
        assert found[here].mean() == pytest.approx(1.0, abs=0.01)
        assert np.corrcoef(np.log(true[here]), np.log(found[here]))[0, 1] > least, name
        assert np.std(np.log(true[here] / found[here])) < np.std(np.log(true[here])), name


@pytest.mark.long
def test_what_is_said_of_the_measurement(measured: ChipProfile, tmp_path: Any) -> None:
    said = measured.measured
    assert said["board"] == f"virtual:{SEED}"
    assert set(said["errors"]) == set(measured.scales)
    assert set(said["not_measured"]) == {"i_delay_precise", "i_delay_mismatched", "i_w_ahp"}
    assert max(said["misfit"]) < 1.5
    assert all(0 < e < 0.1 for errors in said["errors"].values() for e in errors)
    nd.save_profiles(tmp_path / "stack.json.gz", (measured, ChipProfile.perfect()))
    again = nd.load_profiles(tmp_path / "stack.json.gz")
    assert again == (measured, ChipProfile.perfect())
    assert again[0].measured == said


@pytest.mark.long
def test_a_compiled_network_works_better_with_the_profile(
    hidden: ChipProfile, measured: ChipProfile, networks: Any
) -> None:
    """Compiled for what was measured, a network comes closer to the ideal chip than compiled for a nominal one."""
    net = networks.recurrent(4, 10, 100, 6)
    x = np.random.default_rng(0).poisson(0.5, (4, 200, 10))
    ideal = nd.simulate(net, x).counts()
    # Rows and neurons alike, so that scales alone make the difference.
    plain = DYNAPSE2.with_profiles(replace(measured, scales={}, factors={}))
    real = DYNAPSE2.with_profiles(hidden)
    off = {}
    for name, device in {"nominal": plain, "measured": DYNAPSE2.with_profiles(measured)}.items():
        layout = nd.compile(net, device=device)
        with nd.open_board(f"virtual:{SEED}", device=real, mismatch=nd.Mismatch.none()) as board:
            board.apply(layout)
            off[name] = np.abs(board.run_batch(x, net.dt).counts() - ideal).sum() / ideal.sum()
    assert off["measured"] < 0.15
    assert off["measured"] < 0.4 * off["nominal"], off


@pytest.mark.long
def test_the_measured_twin_predicts_the_chip(hidden: ChipProfile, measured: ChipProfile, networks: Any) -> None:
    """`as_measured`, what fine-tuning would train against, is nearer to the chip than the circuit without mismatch."""
    net = networks.feed_forward(np.random.default_rng(1).uniform(0.02, 0.12, (200, 10)))
    x = np.random.default_rng(0).poisson(0.4, (4, 300, 10))
    device = DYNAPSE2.with_profiles(measured)
    layout = nd.compile(net, device=device)
    with nd.open_board(f"virtual:{SEED}", device=DYNAPSE2.with_profiles(hidden)) as board:
        board.apply(layout)
        chip = board.run_batch(x, net.dt).counts()
    params = nd.to_params(layout, device=device)
    twin = nd.simulate(as_measured(params, device), x).counts()
    plain = nd.simulate(params, x).counts()

    def error(counts: np.ndarray) -> float:
        return float(np.sqrt(((counts - chip) ** 2).mean()) / chip.mean())

    assert chip.mean() > 3
    assert error(twin) < 0.75 * error(plain), (error(twin), error(plain))


@pytest.mark.long
def test_a_stack_is_asked_chip_by_chip() -> None:
    chips = silicon(1, "dev"), silicon(2, "purple")
    logs = log_scales(np.zeros((8, len(FITTED))))
    with nd.open_board("virtual:1", device=DYNAPSE2.stack(2).with_profiles(*chips)) as board:
        found = find_working(board, 2, logs)
    for chip, profile in enumerate(chips):
        part = slice(4 * chip, 4 * chip + 4)
        both = found.neurons[part] & profile.neurons
        assert (found.neurons[part] != profile.neurons).mean() < 0.02
        wrong = found.rows[part][both] != profile.rows[both]
        assert wrong.mean() < 0.005
        assert not (profile.tags & ~found.tags[part]).any()


def test_every_tag_can_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """With `all_tags` the tags that do not reach a core are exactly those found; here on two blocks of 64."""
    profile = silicon(1)
    device = DYNAPSE2.with_profiles(profile)
    logs = log_scales(np.zeros((4, len(FITTED))))
    everything = rows.Working(profile.neurons, profile.rows, np.ones((4, 2048), bool), np.zeros((4, 2048), bool))
    monkeypatch.setattr(rows, "TAGS", 128)
    with nd.open_board("virtual:1", device=device) as board:
        found = map_tags(board, 1, logs, everything)
    reachable = profile.tags & profile.rows[..., 0].any((1, 2))[:, None]
    usable = profile.rows[..., 0].any((1, 2))
    assert (found.tags[usable, :128] == reachable[usable, :128]).all()
    assert (found.proven[:, :128] == reachable[:, :128]).all()


def test_codes_are_set_by_what_is_known() -> None:
    logs = {name: np.full(4, np.log(1.3)) for name in PARAMETERS}
    asked = {"i_tau_mem": 5e-12, "i_spkthr": 1e-9}
    codes, rest = codes_for(asked, logs)
    device: Device = DYNAPSE2.with_profiles(ChipProfile(scales={name: np.full(4, 1.3) for name in PARAMETERS}))
    layout = probe_layout(1, codes, 0, np.full((1024, 64), UNUSED_CAM, CAM_DTYPE), np.zeros((0, 4), int))
    params = nd.to_params(layout, device=device)
    for name, value in asked.items():
        given = params.per_neuron(name)[0]
        assert given == pytest.approx(value, rel=0.06)
        assert np.log(given / value) == pytest.approx(rest[name][0], abs=1e-9)
    assert (codes[:, COLUMN["i_dc"]] == codes[0, COLUMN["i_dc"]]).all()


@pytest.mark.long
def test_few_probes_make_little_noise(measured: ChipProfile) -> None:
    """Only probes spike and are heard; the others neither get the current nor count."""
    with nd.open_board("virtual:1") as board:
        bench = _Bench(board, 1, 8, response(DYNAPSE2, DYNAPSE2.mismatch), lambda stage, share: None)
        assert np.flatnonzero(bench.probes).tolist() == list(range(0, 256, 32))
        chosen = np.array([3])  # a strong constant current
        last = bench.measured(np.zeros((4, len(FITTED))), chosen, lambda share: None)
        assert isinstance(board, LinkedBoard)
        assert board.last is not None
        assert 32 * 50 < board.last.heard < 32 * 500
    window = np.flatnonzero(bench.answer.owner == 3)[0]
    assert (np.isfinite(last.g[:, window]) == bench.probes).all()
    mean, count = bench.means(last.g)
    assert (count == 8).all()
    assert np.abs(mean[:, window] - bench.answer.g[window]).max() < 0.5
    assert measured.measured["probes"] == 256


def test_all_experiments_ask_for_what_a_bias_can_do() -> None:
    for experiment in experiments():
        for name, value in experiment.currents.items():
            low, high = reach(name)
            assert 1.7 * low <= value <= high / 1.7 or value == PARAMETERS[name].off, (experiment.name, name)


@pytest.mark.long
def test_mistakes_and_silent_boards_are_told() -> None:
    with nd.open_board("virtual:1") as board:
        with pytest.raises(ParameterRangeError, match="chips is 8, allowed are whole numbers from 1 to 7"):
            calibrate(board, chips=8)
        with pytest.raises(ParameterRangeError, match="rounds is 0"):
            calibrate(board, rounds=0)
        with pytest.raises(ParameterRangeError, match="probes is 300, allowed are whole numbers from 1 to 256"):
            calibrate(board, probes=300)
    silent = ChipProfile(neurons=np.repeat([[True], [True], [False], [True]], 256, axis=1))
    board = nd.open_board("virtual:1", device=DYNAPSE2.with_profiles(silent))
    with board, pytest.raises(HardwareError, match="chip 0, core 2: no neuron"):
        calibrate(board, rows=False, rounds=1)


def test_command_line(tmp_path: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    profile = replace(
        ChipProfile.synthetic(1),
        scales={"i_ref": np.array([1.0, 1.1, 0.9, 1.2])},
        measured={"board": "virtual:1", "errors": {"i_ref": [0.01] * 4}, "misfit": [0.2] * 4},
    )
    asked: dict[str, Any] = {}

    def fake(board: Any, **options: Any) -> tuple[ChipProfile, ...]:
        asked.update(options)
        options["progress"]("rows", 0.5)
        return (profile,)

    monkeypatch.setattr("nir_dynapse.calibration.calibrate.calibrate", fake)
    out = tmp_path / "chip.json"
    assert main(["calibrate", "--board", "virtual:1", "--no-rows", "--all-tags", "-o", str(out), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["files"] == [str(out)]
    assert result["chips"][0]["scales"] == {"i_ref": [1.0, 1.1, 0.9, 1.2]}
    assert (asked["rows"], asked["all_tags"], asked["chips"]) == (False, True, 1)
    assert nd.load_profiles(out) == (profile,)
    assert main(["calibrate", "--board", "virtual:1", "-o", str(out)]) == 0
    text = capsys.readouterr().out
    assert "1.100 ± 1.0 %" in text
    assert "bad CAM rows" in text
    assert main(["calibrate", "-o", str(tmp_path / "no" / "chip.json")]) == 1
