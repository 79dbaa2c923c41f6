"""The verbs import and export, the conversion table of check, and the options that name a frontend."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest

import nir_dynapse as nd
from cli_models import fails, graph, write
from nir_dynapse.cli.main import main
from nir_graphs import port_in, port_out


@pytest.fixture
def norse(tmp_path: Path) -> str:
    """A file as Norse 1.1.0 writes them: τ·dt for τ, r and w_in of 1."""
    n = 4
    neurons = nir.CubaLIF(
        tau_mem=np.full(n, 1e-5), tau_syn=np.full(n, 5e-6), r=np.ones(n), v_leak=np.zeros(n), v_threshold=np.ones(n)
    )
    nodes = {
        "input": port_in(3),
        "0": nir.Affine(np.full((n, 3), 0.8), np.zeros(n)),
        "1": neurons,
        "output": port_out(n),
    }
    edges = [("input", "0"), ("0", "1"), ("1", "output")]
    return write(tmp_path / "norse.nir", nir.NIRGraph(nodes, edges))


def test_check_shows_what_became_of_each_node(norse: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", norse, "--frontend", "norse"]) == 0
    text = capsys.readouterr().out
    assert "Conversion" in text
    row = next(line for line in text.splitlines() if line.split()[:2] == ["1", "CubaLIF"])
    assert row.split()[2:4] == ["neurons", "exact"]
    lines = [line.split() for line in text.splitlines()]
    assert ["tau_mem", "1e-05", "0.01", "s"] in lines
    assert ["w_in", "1", "5"] in lines
    assert main(["check", norse, "--frontend", "norse", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["conversion"]
    assert [row["node"] for row in rows] == ["0", "1", "input", "output"]
    assert {"value": "w_in", "before": "1", "after": "5"} in rows[1]["changes"]
    assert (rows[1]["verdict"], rows[1]["on_chip"]) == ("exact", "circuits (approximate)")


def test_a_network_that_is_refused_still_shows_its_table(norse: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", norse, "-q"]) == 1
    captured = capsys.readouterr()
    assert "--frontend norse" in captured.err
    assert "unsupported" in captured.out
    assert "4-bit rows" in captured.out
    assert main(["check", norse, "--json", "-q"]) == 1
    data = json.loads(capsys.readouterr().out)
    assert {row["verdict"] for row in data["conversion"]} == {"exact", "unsupported"}


def test_import_writes_plain_nir(norse: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "plain.nir"
    assert main(["import", norse, "--frontend", "norse", "-o", str(out)]) == 0
    assert f"Written: {out}" in capsys.readouterr().out
    plain: Any = nir.read(out)
    np.testing.assert_allclose(plain.nodes["1"].tau_mem, 0.01)
    np.testing.assert_allclose(plain.nodes["1"].w_in, 5)
    assert nd.from_nir(out).digest() == nd.from_nir(norse, frontend="norse").digest()


def test_a_layout_and_a_configuration_become_nir(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = write(tmp_path / "model.nir", graph())
    layout, config = str(tmp_path / "layout.json"), str(tmp_path / "config.json.gz")
    assert main(["compile", model, "-o", layout, "--config", config, "-q"]) == 0
    outs = [str(tmp_path / f"{k}.nir") for k in range(3)]
    assert main(["export", layout, "-o", outs[0], "-q"]) == 0
    assert main(["export", model, "-o", outs[1], "-q"]) == 0
    assert main(["import", config, "-o", outs[2], "-q"]) == 0
    exact, mapped, read = (nd.from_nir(outs[k]) for k in (0, 1, 2))
    assert [p.name for p in exact.populations] == [p.name for p in mapped.populations] == ["hidden", "out"]
    np.testing.assert_allclose(exact["hidden"].tau_mem, mapped["hidden"].tau_mem, rtol=0.05)
    assert read.n_neurons == exact.n_neurons == 6
    extras = nir.read(outs[0]).nodes["hidden"].metadata["dynapse2"]
    assert extras["slot"].shape == (4,)
    capsys.readouterr()
    again = str(tmp_path / "again.json")
    assert main(["import", config, "-o", again, "--json", "-q"]) == 0
    assert json.loads(capsys.readouterr().out)["files"] == [again]
    assert nd.Layout.load(again).n_neurons == 6


def test_export_for_a_reader_translates_the_network(
    norse: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain, circuit, made = (str(tmp_path / name) for name in ("plain.nir", "circuit.nir", "made.nir"))
    assert main(["import", norse, "--frontend", "norse", "-o", plain, "-q"]) == 0
    assert main(["export", plain, "-o", circuit, "-q"]) == 0
    capsys.readouterr()
    assert main(["export", plain, "--for", "snntorch", "-o", made, "--json", "-q"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["files"] == [made]
    node: Any = nir.read(made).nodes["1"]
    np.testing.assert_allclose(node.tau_mem, 0.001)
    np.testing.assert_allclose(node.r, 10)
    assert "dynapse2" in nir.read(circuit).metadata
    assert "dynapse2" not in nir.read(made).metadata
    assert main(["export", plain, "--for", "spec", "-o", made, "-q"]) == 0
    assert nd.from_nir(made).digest() == nd.from_nir(plain).digest()


def test_what_a_reader_does_otherwise_is_reported(
    norse: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain, out = str(tmp_path / "plain.nir"), tmp_path / "made.nir"
    assert main(["import", norse, "--frontend", "norse", "-o", plain, "-q"]) == 0
    capsys.readouterr()
    command = ["export", plain, "--for", "sinabs", "-o", str(out)]
    assert main(command) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "node '1': it resets as 'value'" in text
    out.unlink()
    fails(capsys, [*command, "--strict"], "node '1'", "resets as 'value'", "MembraneReset")
    assert not out.exists()
    assert main([*command[:-3], "nose", "-o", str(out)]) == 2
    assert "Did you mean norse?" in capsys.readouterr().err


def test_wrong_names_write_nothing(norse: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(tmp_path.iterdir())
    fails(capsys, ["import", norse, "-o", str(tmp_path / "x.h5")], "OUT.nir")
    fails(capsys, ["import", norse, "-o", str(tmp_path / "x.json")], "made by compile")
    fails(capsys, ["import", norse, "-o", str(tmp_path / "no" / "x.nir")], "no folder")
    fails(capsys, ["export", str(tmp_path / "none.json"), "-o", str(tmp_path / "x.nir")], "cannot be read")
    fails(capsys, ["import", norse, "-o", str(tmp_path / "x.nir")], "--frontend norse")
    assert sorted(tmp_path.iterdir()) == before


def test_reset_options(norse: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--frontend", "norse", "--reset", "subtract", "--reset-delay"]
    assert main(["check", norse, *options, "--json", "-q"]) == 0
    data = json.loads(capsys.readouterr().out)
    change = next(c for c in data["conversion"][1]["changes"] if c["value"] == "reset")
    assert change["after"].startswith("subtract-late")
    assert any(f["code"] == "reset" for f in data["approximations"])
    assert main(["check", norse, "--reset", "zero"]) == 2
    assert "unknown value 'zero'" in capsys.readouterr().err
