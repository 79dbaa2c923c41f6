"""The circuit constants of a Layout: stored, compared, used by runs, named in reports."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import nir_dynapse as nd
from nir_dynapse.chip.device import Circuit
from nir_dynapse.circuit.closed_form import to_params
from nir_dynapse.circuit.params_file import load_params, save_params
from nir_dynapse.errors import ConfigurationError
from nir_dynapse.layout.decoding import as_params
from nir_dynapse.layout.layout import Layout
from nir_dynapse.network.network import Network

RECORDED = nd.DYNAPSE2.with_circuit("recorded2026")


@pytest.fixture(scope="module")
def net(networks: ModuleType) -> Network:
    return networks.recurrent(4, 10, 20, 6)


@pytest.fixture(scope="module")
def layouts(net: Network) -> tuple[Layout, Layout]:
    return nd.compile(net), nd.compile(net, device=RECORDED)


def refractory(thing: Layout, **options: nd.Device) -> np.ndarray:
    params = as_params(thing, **options)
    return params.circuit.width("i_ref", params.per_neuron("i_ref"))


def test_another_set_keeps_times_by_other_codes(layouts: tuple[Layout, Layout]) -> None:
    """The refractory period that a network asks for is met with either set; with the wrong one it is 2.36 times off."""
    old, new = layouts
    assert np.abs(refractory(new) / refractory(old) - 1).max() < 0.02
    wrong = refractory(old, device=RECORDED) / refractory(old)
    assert wrong == pytest.approx(np.full(len(wrong), 2.36))


def test_a_layout_knows_its_set(layouts: tuple[Layout, Layout], tmp_path: Path) -> None:
    old, new = layouts
    assert (old.circuit.name, new.circuit.name) == ("published", "recorded2026")
    assert "circuit" not in old.to_dict()
    assert old.to_dict()["version"] == 5, "as before"
    assert new.to_dict()["circuit"] == "recorded2026"
    assert replace(new, circuit=Circuit.published) != new
    for layout in (old, new, replace(new, circuit=Circuit(c_mem=7.7e-12, buffer_offset=-0.2))):
        layout.save(tmp_path / "layout.json")
        assert Layout.load(tmp_path / "layout.json") == layout
        assert Layout.load(tmp_path / "layout.json").circuit == layout.circuit


@pytest.mark.parametrize("circuit", ["unheard", 3, {"c_mem": 3e-12}, {**vars(Circuit()), "c_ref": -1.0}])
def test_a_set_that_nobody_knows_is_refused(layouts: tuple[Layout, Layout], circuit: object) -> None:
    data = json.loads(json.dumps({**layouts[1].to_dict(), "circuit": circuit}))
    with pytest.raises(ConfigurationError, match=r"(?i)circuit"):
        Layout.from_dict(data)


def test_runs_use_the_set_of_the_layout_unless_one_is_chosen(layouts: tuple[Layout, Layout]) -> None:
    old, new = layouts
    assert as_params(new).circuit == Circuit.recorded2026, "nobody chose another"
    assert not [f for f in as_params(new, RECORDED).findings if f.code == "circuit"]
    found = [f for f in as_params(old, RECORDED).findings if f.code == "circuit"]
    assert [f.severity for f in found] == ["warning"]
    assert "'published'" in found[0].what
    assert as_params(old, RECORDED).circuit == Circuit.recorded2026


def test_params_and_a_device_of_another_set_contradict_each_other(net: Network, tmp_path: Path) -> None:
    params = to_params(net, RECORDED)
    assert nd.compile(net, params=params).circuit == Circuit.recorded2026
    with pytest.raises(ConfigurationError, match="'published', the device has 'recorded2026'"):
        nd.compile(net, params=to_params(net), device=RECORDED)
    for circuit in (Circuit.recorded2026, Circuit(buffer_gain=0.9, buffer_offset=-0.3)):
        save_params(replace(params, circuit=circuit), tmp_path / "params.npz")
        assert load_params(tmp_path / "params.npz").circuit == circuit


def test_reports_name_the_set(layouts: tuple[Layout, Layout]) -> None:
    for layout, name in zip(layouts, ("published", "recorded2026"), strict=True):
        made = nd.report(layout)
        assert made.provenance["circuit constants"] == name
        assert f"circuit constants  {name}" in made.text()
    assert nd.report(layouts[0], device=RECORDED).provenance["circuit constants"] == "recorded2026"


def test_configurations_with_names_keep_the_set(layouts: tuple[Layout, Layout]) -> None:
    new = layouts[1]
    assert nd.from_samna(nd.to_samna(new)) == new
