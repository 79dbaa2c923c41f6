"""The command line's options for placing and rounding (--profile, --activity, …): what they do, what they refuse."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest

from cli_models import DT, cuba, fails, graph, save, write
from nir_dynapse.chip.device import DYNAPSE2
from nir_dynapse.chip.profile import ChipProfile
from nir_dynapse.cli.main import main
from nir_dynapse.data.data import Data
from nir_dynapse.deployment.deploy import measured_activity
from nir_dynapse.import_.nir_graph import from_nir
from nir_dynapse.layout.layout import Layout
from nir_dynapse.quant.compiler import compile

BAD_CSV = "core,neuron,cam,tag\n0,0-19,,\n,,0-9,\n"
"""Neurons 0 to 19 of core 0 do not work, nor do the CAM rows 0 to 9 of any neuron."""


@pytest.fixture
def profile(tmp_path: Path) -> str:
    path = tmp_path / "board.csv"
    path.write_text(BAD_CSV)
    return str(path)


def many(taus: np.ndarray) -> nir.NIRGraph:
    """A neuron with its own membrane per time constant, in a chain of two layers."""
    n = len(taus)
    layer: dict[str, Any] = {"tau_mem": taus, "r": taus / DT}
    rng = np.random.default_rng(3)
    nodes = {
        "in": nir.Input({"input": np.array([3])}),
        "fc1": nir.Linear(rng.uniform(0.3, 0.9, (n, 3))),
        "hidden": cuba(n, **layer),
        "fc2": nir.Linear(rng.normal(0.3, 0.4, (2, n))),
        "out": cuba(2),
        "output": nir.Output({"output": np.array([2])}),
    }
    return nir.NIRGraph(nodes, list(pairwise(nodes)), metadata={"dt": DT}, type_check=False)


def compiled(tmp_path: Path, model: str, *argv: str) -> Layout:
    path = tmp_path / "layout.json"
    assert main(["compile", model, "-o", str(path), "-q", *argv]) == 0
    return Layout.load(path)


def avoids(layout: Layout) -> bool:
    """Whether a Layout uses nothing of what `BAD_CSV` says."""
    used = layout.cam["dendrite"] >= 0
    return not used[:, :10].any() and not ((layout.core == 0) & (layout.slot < 20)).any()


# --- profiles --------------------------------------------------------------------------------------------------------


def test_profile_as_csv_and_json(model: str, profile: str, tmp_path: Path) -> None:
    ChipProfile.load(profile).save(tmp_path / "board.json.gz")
    plain = "--no-spare-rows"
    assert not avoids(compiled(tmp_path, model, plain))
    layouts = [
        compiled(tmp_path, model, plain, "--profile", path) for path in (profile, str(tmp_path / "board.json.gz"))
    ]
    assert avoids(layouts[0])
    assert layouts[0] == layouts[1]


def test_profiles_of_a_stack_by_chip(tmp_path: Path) -> None:
    """Only chip 1 works, or only chip 0; a line without chip is for all of them."""
    model = write(tmp_path / "tiny.nir", graph())
    path = tmp_path / "stack.csv"
    for dead, alive in ((0, 1), (1, 0)):
        path.write_text(f"chip,core,neuron,cam,tag\n{dead},0-2,,,\n{dead},3,,,\n,,0-9,,\n")
        layout = compiled(tmp_path, model, "--profile", str(path), "--chips", "2", "--no-spare-rows")
        assert set(layout.chip.tolist()) == {alive}
        assert layout.slot.min() >= 10


def test_deploy_and_check_heed_the_profile(
    model: str, data: str, profile: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    argv = ["deploy", model, "--data", data, "--profile", profile, "-o", str(out), "-q", "--json"]
    assert main([*argv, "--no-spare-rows", "--no-fit"]) == 0
    assert avoids(Layout.load(out / "layout.json"))
    assert json.loads(capsys.readouterr().out)["weight_errors"]["cores"]
    dead = tmp_path / "dead.csv"
    dead.write_text("core,neuron,cam,tag\n0-2,,,\n3,,,\n")
    for argv in (["deploy", model, "--data", data, "--no-fit"], ["compile", model, "-o", str(tmp_path / "l.json")]):
        fails(capsys, [*argv, "--profile", str(dead)], "chip 0 with profile 'dead'", "has 0 neurons", "--fan-in prune")
    assert main(["check", model, "--profile", str(dead), "-q"]) == 1
    assert "profile 'dead'" in capsys.readouterr().err
    assert not (tmp_path / "l.json").exists()


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("gone.csv", None, ("gone.csv",)),
        ("odd.csv", "core,neuron\n0,0\n", ("odd.csv", "header")),
        ("far.csv", "core,neuron,cam,tag\n4,,,\n", ("far.csv", "core", "4")),
        ("odd.json", '{"cams": [[1]]}', ("odd.json", "cams")),
        ("cut.json", '{"cams": [', ("cut.json",)),
    ],
)
def test_bad_profiles_are_refused(
    name: str, text: str | None, words: tuple[str, ...], model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / name, tmp_path / "layout.json"
    if text is not None:
        path.write_text(text)
    fails(capsys, ["compile", model, "--profile", str(path), "-o", str(out)], *words)
    assert not out.exists()


# --- the other options -----------------------------------------------------------------------------------------------


def test_tolerance(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "taus.nir", many(np.geomspace(4e-3, 100e-3, 12)))
    assert main(["check", path, "-q"]) == 1
    assert "allowed are 25 %" in capsys.readouterr().err
    assert main(["check", path, "-q", "--tolerance", "2", "--no-spare-rows"]) == 0
    assert "allowed are 200 %" in " ".join(capsys.readouterr().out.split())
    fails(capsys, ["compile", path, "-o", str(tmp_path / "l.json"), "--tolerance", "0.1"], "allowed are 10 %")
    for wrong in ("-0.1", "nan", "inf", "much"):
        assert main(["check", path, f"--tolerance={wrong}"]) == 2
        assert "--tolerance" in capsys.readouterr().err
    assert main(["check", path, "--place-seconds", "0"]) == 2


def test_rows_and_ranges(tmp_path: Path) -> None:
    weight = np.exp(np.random.default_rng(0).normal(0, 1, (6, 3)))
    model = write(tmp_path / "weights.nir", graph(6, weight))
    spare = compiled(tmp_path, model)
    plain = compiled(tmp_path, model, "--no-spare-rows")
    second = compiled(tmp_path, model, "--second-range")
    rows = [int((layout.cam["dendrite"] >= 0).sum()) for layout in (spare, plain)]
    assert rows[1] == 6 * 3 + 2 * 6 < rows[0]
    nmda = [(layout.cam["dendrite"] == 1).any() for layout in (spare, plain, second)]
    assert nmda == [False, False, True]
    worst = [max(core["nrmse"] for core in layout.weight_errors["cores"].values()) for layout in (spare, plain)]
    assert worst[0] < worst[1]


def test_share_tags(tmp_path: Path) -> None:
    plain = "--no-spare-rows"
    model = write(tmp_path / "equal.nir", graph(4, np.full((4, 3), 0.5)))
    tags = [
        {tag for where in layout.input_map.values() for *_, tag in where}
        for layout in (compiled(tmp_path, model, plain), compiled(tmp_path, model, plain, "--share-tags"))
    ]
    assert [len(t) for t in tags] == [3, 1]


@pytest.mark.long
def test_activity_of_the_data_decides_where_neurons_go(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On two chips: what compile does with the rates of the ideal run; deploy takes its test set by itself."""
    model, data = write(tmp_path / "two.nir", many(np.geomspace(4e-3, 100e-3, 5))), save(tmp_path / "busy.npz")
    network, device = from_nir(model), DYNAPSE2.stack(2)
    expected = compile(network, device=device, activity=measured_activity(network, Data.load(data)), spare_rows=False)
    stack = "--chips", "2", "--no-spare-rows"
    layout = compiled(tmp_path, model, *stack, "--activity", data)
    assert layout == expected
    assert set(layout.chip.tolist()) == {0, 1}
    plain = compiled(tmp_path, model, *stack)
    events = [next(f.used for f in one.findings if f.code == "placement") for one in (layout, plain)]
    assert events[0] != events[1]
    capsys.readouterr()
    argv = ["deploy", model, "--data", data, *stack, "--no-fit", "-q"]
    for further in ([], ["--activity", data]):
        assert main([*argv, *further, "-o", str(tmp_path / "out")]) == 0
        assert np.array_equal(Layout.load(tmp_path / "out" / "layout.json").chip, expected.chip)


def test_activity_must_fit_the_network(
    model: str, data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wide, out = save(tmp_path / "wide.npz", channels=5), str(tmp_path / "layout.json")
    words = "5 channels", "expects 3"
    fails(capsys, ["compile", model, "--activity", wide, "-o", out], *words)
    fails(capsys, ["deploy", model, "--data", data, "--chips", "2", "--activity", wide], *words)
    fails(capsys, ["compile", model, "--activity", str(tmp_path / "none.npz"), "-o", out], "none.npz")


def test_deploy_checks_activity_on_one_chip(model: str, data: str, tmp_path: Path) -> None:
    assert (
        main(
            [
                "deploy",
                model,
                "--data",
                data,
                "-q",
                "--no-spare-rows",
                "--activity",
                save(tmp_path / "wide.npz", channels=5),
            ]
        )
        == 1
    )


# --- what is said ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["check", "compile", "deploy"])
def test_rounding_is_reported(
    verb: str, model: str, data: str, profile: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [] if verb == "check" else ["--no-spare-rows"]
    more = {"check": [], "compile": ["-o", str(tmp_path / "l.json")], "deploy": ["--data", data]}[verb]
    assert main([verb, model, *more, "--profile", profile, "-q", *rows]) == 0
    text = capsys.readouterr().out
    assert "Rounding of the weights" in text
    assert "error per neuron: median" in text
    assert "RMS error" in text
    assert not re.search(r"\b(nan|inf)\b", text, re.IGNORECASE)
    assert main([verb, model, *more, "--profile", profile, "--json", "-v", *rows]) == 0
    stored = json.loads(capsys.readouterr().out, parse_constant=lambda name: pytest.fail(name))
    errors = stored["weight_errors"]
    assert len(errors["neurons"]) == 6
    assert [row[:2] for row in errors["projections"]] == [["in", "hidden"], ["hidden", "out"]]
    assert sum(core["weights"] for core in errors["cores"].values()) == 4 * 3 + 2 * 4
    for core in errors["cores"].values():
        assert f"{100 * core['nrmse']:.1f} %" in text


def test_progress_is_on_stderr_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, out = write(tmp_path / "two.nir", many(np.geomspace(4e-3, 100e-3, 5))), str(tmp_path / "layout.json")
    argv = ["compile", model, "--chips", "2", "-o", out, "--no-spare-rows"]
    captured = {}
    for name, more in {"plain": [], "quiet": ["-q"], "json": ["--json"]}.items():
        assert main([*argv, *more]) == 0
        captured[name] = capsys.readouterr()
    assert "100 %  row" in captured["plain"].err
    assert captured["quiet"].err == ""
    assert captured["plain"].out == captured["quiet"].out
    assert json.loads(captured["json"].out)["files"] == [out]
    assert captured["json"].err == ""


def test_copies(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, three = compiled(tmp_path, model), compiled(tmp_path, model, "--spend", "3")
    assert compiled(tmp_path, model, "--spend", "none") == one
    assert set(three.copies) == {3}
    assert three.node_sizes == one.sizes
    chip = compiled(tmp_path, model, "--spend", "chip")
    assert min(chip.copies) > 3
    capsys.readouterr()
    to = ["compile", model, "-o", str(tmp_path / "l.json")]
    assert main([*to, "--spend", "3", "--json", "-q"]) == 0
    nodes = json.loads(capsys.readouterr().out)["nodes"]
    assert [(node["neurons"], node["copies"]) for node in nodes] == [(n, 3) for n in one.sizes.values()]
    fails(capsys, [*to, "--spend", "1000"], "1000 copies of", "--spend ")
    assert main([*to, "--spend", "0"]) == 2
    assert "--spend: is 0, allowed are whole numbers from 1 to 1024" in capsys.readouterr().err
