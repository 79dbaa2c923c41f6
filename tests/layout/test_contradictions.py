"""A Layout whose parts do not fit together never loads."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import nir_dynapse as nd
from places import EXAMPLES, GOLDEN

Change = Callable[[dict[str, Any]], Any]


@pytest.fixture(scope="module")
def sound() -> dict[str, Any]:
    layout = nd.compile(nd.from_nir(EXAMPLES / "networks" / "yin_yang.nir"))
    return json.loads(json.dumps(layout.to_dict()))


def _set(path: str, value: Any) -> Change:
    """Sets what `path` ("neurons.0.1") leads to."""

    def change(data: dict[str, Any]) -> None:
        *steps, last = path.split(".")
        at: Any = data
        for step in steps:
            at = at[int(step) if isinstance(at, list) else step]
        at[int(last) if isinstance(at, list) else last] = value

    return change


def _add(name: str, item: Any) -> Change:
    def change(data: dict[str, Any]) -> None:
        values = data.setdefault(name, [])
        values.append(values[0] if item is None else item)

    return change


CHANGES: dict[str, tuple[Change, str]] = {
    "core removed": (lambda d: d["cores"].pop(next(iter(d["cores"]))), "neurons are in cores without bias codes"),
    "neuron moved to a core without codes": (_set("neurons.0.1", 3), "node 'hidden', neuron 0: .*core 3 of chip 0"),
    "neuron outside its core": (_set("neurons.0.2", 256), "row 0 of 'neurons' has 256"),
    "neuron on a chip that is not there": (_set("neurons.0.0", 1), "row 0 of 'neurons' has 1"),
    "two neurons at one place": (lambda d: d["neurons"].__setitem__(1, d["neurons"][0]), "share one place"),
    "a place too few": (lambda d: d["neurons"].pop(), "62 places for 63 neurons"),
    "core that is not there": (lambda d: d["cores"].update({"4": d["cores"]["0"]}), "'cores' holds number '4'"),
    "core by another name": (lambda d: d["cores"].update({"00": d["cores"]["0"]}), "'cores' holds number '00'"),
    "negative core": (lambda d: d["cores"].update({"-1": d["cores"]["0"]}), "'cores' holds number '-1'"),
    "code removed": (lambda d: d["cores"]["0"].pop("i_ref"), "codes of core 0 are missing or added: i_ref"),
    "unknown bias": (lambda d: d["cores"]["0"].update(i_new=[0, 0]), "missing or added: i_new"),
    "coarse code too large": (lambda d: d["cores"]["0"].update(i_ref=[6, 0]), "has 6 in column 0"),
    "fine code negative": (lambda d: d["cores"]["0"].update(i_ref=[5, -1]), "has -1 in column 1"),
    "CAM row twice": (_add("cam", None), "'cam' holds row 0 of neuron 0 twice"),
    "SRAM row twice": (_add("sram", None), "'sram' holds row 0 of neuron 0 twice"),
    "CAM row of no neuron": (_set("cam.0.0", 63), "row 0 of 'cam' has 63"),
    "tag of 12 bits": (_set("cam.0.2", 2048), "row 0 of 'cam' has 2048"),
    "input events of a channel too many": (_set("input_rows.0.0", 6), "row 0 of 'input_rows' has 6"),
    "tonic events without a period": (_add("input_rows", [5, 0, 1, 1024]), "tonic events, which have no period"),
    "input named as a population": (_set("inputs.0.0", "hidden"), "two input nodes or populations have this name"),
    "input twice": (_add("inputs", None), "two input nodes or populations have this name"),
    "population twice": (_add("populations", None), "same name"),
    "unknown kind": (_set("populations.0.1", "LI"), "kind 'LI' does not spike"),
    "output reads nobody": (_set("outputs.0.2", "nobody"), "'nobody', which is no population"),
    "output of another size": (_set("outputs.0.1", [4]), "this output has 4 neurons, 'output_neurons', .*has 3"),
    "projection from nowhere": (_set("projections.0.0", "nobody"), "there is no 'nobody'"),
    "projection into the input": (_set("projections.0.1", "input"), "there is no 'input'"),
    "membrane of no core": (_set("membranes", {"7": 0}), "'membranes' holds number '7'"),
    "membrane of no neuron": (_set("membranes", {"0": 256}), "row 0 of 'membranes' has 256"),
    "step 0": (_set("dt_s", 0), "dt_s is 0, allowed are numbers from 1e-09 up to 1000 s"),
    "step NaN": (_set("dt_s", math.nan), "dt_s is nan"),
    "step infinite": (_set("dt_s", math.inf), "dt_s is inf"),
    "step tiny": (_set("dt_s", 1e-300), "dt_s is 1e-300"),
    "step huge": (_set("dt_s", 1e300), r"dt_s is 1e\+300"),
    "step text": (_set("dt_s", "1"), "dt_s is '1'"),
    "step true": (_set("dt_s", True), "dt_s is True"),
    "period negative": (_set("tonic_period_s", -1e-3), "tonic_period_s is -0.001"),
    "chips 0": (_set("n_chips", 0), "n_chips is 0"),
    "chips 1.0": (_set("n_chips", 1.0), "n_chips is 1.0"),
    "time scale text": (_set("origin.time_scale", "x"), "time_scale is 'x'"),
    "time scale 0": (_set("origin.time_scale", 0), "time_scale is '0'"),
    "origin a list": (_set("origin", [1]), "damaged"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_contradictions_never_load(name: str, sound: dict[str, Any], tmp_path: Path) -> None:
    change, words = CHANGES[name]
    data = copy.deepcopy(sound)
    change(data)
    with pytest.raises(nd.ConfigurationError, match=f"(?s){words}"):
        nd.Layout.from_dict(data)
    path = tmp_path / "layout.json"
    path.write_text(json.dumps(data))
    with pytest.raises(nd.ConfigurationError, match=r"layout\.json"):
        nd.Layout.load(path)


def test_what_is_not_changed_loads(sound: dict[str, Any]) -> None:
    assert nd.Layout.from_dict(sound).to_dict() == sound
    for path in sorted(GOLDEN.glob("layout_v*.json")):
        assert nd.Layout.load(path).n_neurons


def test_all_contradictions_are_told_at_once(sound: dict[str, Any]) -> None:
    data = copy.deepcopy(sound)
    data["neurons"][0][1] = 3
    data["outputs"][0][1] = [4]
    with pytest.raises(nd.ConfigurationError) as caught:
        nd.Layout.from_dict(data)
    assert {finding.node for finding in caught.value.findings} == {"hidden", "output"}
