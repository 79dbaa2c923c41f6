"""--json of every verb: one document on stdout, nothing else anywhere, as the schema of the verb describes it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from cli_models import graph, save, write
from nir_dynapse.chip.profile import ChipProfile
from nir_dynapse.cli.main import main
from nir_dynapse.cli.output import Output
from nir_dynapse.cli.schemas import SCHEMAS, schema_of
from nir_dynapse.cli.verbs import VERBS
from tuning_cases import shared_compilation

TRAINING = ("--steps", "2", "--devices", "2", "--batch", "2", "--check-every", "1", "--uniform", "0.2")
COMMANDS: dict[str, list[tuple[str, ...]]] = {
    "compile": [("m.nir", "-o", "layout.json", "--config", "config.json.gz")],
    "deploy": [
        ("m.nir", "--data", "test.npz"),
        ("m.nir", "--data", "test.npz", "-o", "out", "--board", "virtual:3", "--no-fit"),
    ],
    "check": [("m.nir",), ("wide.nir", "--fan-in", "prune", "--chips", "2")],
    "import": [("m.nir", "-o", "plain.nir"), ("config.json.gz", "-o", "again.json")],
    "export": [("layout.json", "-o", "on_chip.nir"), ("m.nir", "-o", "circuit.nir")],
    "finetune": [("m.nir", "--train", "test.npz", *TRAINING, "-o", "tuned.npz", "--log", "log.csv")],
    "simulate": [
        ("m.nir", "--data", "test.npz", "--ideal"),
        ("layout.json", "--data", "five.npz", "--chip", "1", "-o", "x.npz"),
    ],
    "run": [
        ("layout.json", "--input", "test.npz", "-o", "heard.npz"),
        ("layout.json", "--input", "events.npz", "--duration", "0.01"),
    ],
    "evaluate": [("layout.json", "--data", "test.npz", "--devices", "3")],
    "calibrate": [("--board", "virtual:1", "-o", "chip.json")],
    "show": [("device",), ("parameters",), ("constants",), ("primitives",), ("frontends",), ("readers",)],
    "doctor": [()],
    "schema": [("run",), ("error",)],
    "completion": [("fish",)],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("json")
    write(path / "m.nir", graph())
    write(path / "wide.nir", graph(hidden=70))
    save(path / "test.npz")
    save(path / "five.npz", classes=5)
    np.savez(
        path / "events.npz",
        time_us=np.array([0, 900]),
        node=np.zeros(2, int),
        index=np.array([0, 2]),
        nodes=np.array(["in"]),
    )
    return path


@pytest.fixture(scope="module", autouse=True)
def compiled_quickly(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with shared_compilation(tmp_path_factory.mktemp("compiled")):
        yield


@pytest.fixture(autouse=True)
def there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)

    def calibrate(*args: Any, **kwargs: Any) -> tuple[ChipProfile, ...]:
        measured = {"board": "virtual:1", "errors": {"i_ref": [0.01] * 4}, "misfit": [0.2] * 4}
        return (replace(ChipProfile.synthetic(1), scales={"i_ref": np.array([1.0, 1.1, 0.9, 1.2])}, measured=measured),)

    monkeypatch.setattr("nir_dynapse.calibration.calibrate.calibrate", calibrate)


def undescribed(value: Any, schema: Any, where: str = "") -> Iterator[str]:
    """Fields that an object has and its schema does not name."""
    if "anyOf" in schema:
        each = [
            list(undescribed(value, s, where))
            for s in schema["anyOf"]
            if jsonschema.Draft202012Validator(s).is_valid(value)
        ]
        yield from min(each, key=len)
    elif isinstance(value, dict) and "properties" in schema:
        for name, below in value.items():
            if name in schema["properties"]:
                yield from undescribed(below, schema["properties"][name], f"{where}.{name}")
            else:
                yield f"{where}.{name}"
    elif isinstance(value, dict) and isinstance(schema.get("additionalProperties"), dict):
        for name, below in value.items():
            yield from undescribed(below, schema["additionalProperties"], f"{where}.{name}")
    elif isinstance(value, list) and "items" in schema:
        for below in value:
            yield from undescribed(below, schema["items"], f"{where}[]")


def test_every_verb_has_a_schema() -> None:
    assert set(SCHEMAS) == {*VERBS, "error"}
    assert set(COMMANDS) == set(VERBS)
    for verb in SCHEMAS:
        jsonschema.Draft202012Validator.check_schema(schema_of(verb))


def refuse(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")


@pytest.mark.parametrize("verb", COMMANDS)
def test_output_is_what_the_schema_says(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    for argv in COMMANDS[verb]:
        assert main([verb, *argv, "--json"]) == 0
        captured = capsys.readouterr()
        assert captured.err == ""
        document = json.loads(captured.out, parse_constant=refuse)
        jsonschema.validate(document, schema_of(verb))
        if verb not in ("show", "schema"):
            assert list(undescribed(document, schema_of(verb))) == []


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (("check", "missing.nir"), 1),
        (("check", "wide.nir"), 1),
        (("check", "m.nir", "--time-unit", "us", "--strict"), 1),
        (("deploy", "m.nir", "--data", "five.npz"), 1),
        (("run", "layout.json", "--input", "test.npz", "--board", "usb"), 1),
    ],
)
def test_errors_are_what_the_schema_says(argv: tuple[str, ...], code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*argv, "--json"]) == code
    captured = capsys.readouterr()
    document = json.loads(captured.out, parse_constant=refuse)
    jsonschema.validate(document, schema_of("error"))
    assert list(undescribed(document, schema_of("error"))) == []
    assert captured.err.startswith("nir-dynapse: ")


def test_schema_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "check"]) == 0
    text = capsys.readouterr().out
    assert json.loads(text) == schema_of("check")
    assert main(["schema", "check", "--json"]) == 0
    assert capsys.readouterr().out == text


def test_a_missing_package_is_a_document_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def lacking(*args: Any) -> int:
        raise ModuleNotFoundError("No module named 'lava'", name="lava")

    monkeypatch.setitem(VERBS, "doctor", lacking)
    assert main(["doctor", "--json"]) == 3
    document = json.loads(capsys.readouterr().out)
    jsonschema.validate(document, schema_of("error"))
    assert document["type"] == "NotInstalledError"


def test_numbers_that_json_lacks_are_null(capsys: pytest.CaptureFixture[str]) -> None:
    Output(json=True).result({"a": [float("nan"), 1.5], "b": {"c": float("inf")}}, "")
    assert json.loads(capsys.readouterr().out, parse_constant=refuse) == {"a": [None, 1.5], "b": {"c": None}}
