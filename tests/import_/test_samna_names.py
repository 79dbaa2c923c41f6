"""Names that `from_samna` finds beside a file, monitored membranes, and the step of a network without names."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nir_dynapse as nd
from cli_models import fails, graph, write
from nir_dynapse.cli.exchange import import_
from nir_dynapse.cli.output import Output
from nir_dynapse.errors import CapacityError, ConfigurationError, ParameterRangeError
from nir_dynapse.export.configuration import Dendrite, Dynapse2Configuration, Dynapse2Synapse
from nir_dynapse.export.samna_config import to_samna, write_config_json
from nir_dynapse.import_.samna_config import from_samna
from nir_dynapse.layout.layout import Layout
from random_networks import build
from shortened import shortened

Maker = Callable[..., Layout]


def codes_of(layout: Layout) -> list[str]:
    return [finding.code for finding in layout.findings]


# -- the file beside --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", shortened(["config.json", "config.json.gz"]))
@pytest.mark.parametrize("side", ["layout.json", "config.layout.json"])
def test_the_layout_beside_a_file_gives_the_names(random_layout: Maker, tmp_path: Path, name: str, side: str) -> None:
    layout = random_layout(1, 2, 60)
    write_config_json(layout, tmp_path / name)
    layout.save(tmp_path / side)
    assert from_samna(tmp_path / name) == layout
    assert from_samna(str(tmp_path / name)) == layout
    without = from_samna(tmp_path / name, names=False)
    assert codes_of(without)[0] == "names-invented"
    assert without.populations[0][0].startswith("core_0_")


def test_the_nearer_name_comes_first(random_layout: Maker, tmp_path: Path) -> None:
    layout = random_layout(1, 1, 20)
    write_config_json(layout, tmp_path / "a.json.gz")
    replace(layout, dt=0.5).save(tmp_path / "layout.json")
    layout.save(tmp_path / "a.layout.json")
    assert from_samna(tmp_path / "a.json.gz") == layout
    random_layout(2, 1, 20).save(tmp_path / "a.layout.json")  # of something else: the other one is taken
    assert from_samna(tmp_path / "a.json.gz") == replace(layout, dt=0.5)


def test_biases_and_weights_may_have_been_changed_since(random_layout: Maker, tmp_path: Path) -> None:
    layout = random_layout(1, 1, 20)
    cam = np.array(layout.cam)
    cam["mask"][cam["dendrite"] >= 0] ^= 5
    codes = np.where(layout.used_cores[:, None, None], layout.codes ^ 1, 0)
    codes[..., 0] = np.minimum(codes[..., 0], 5)
    tuned = replace(layout, cam=cam, codes=codes, latches=layout.latches ^ 1)
    write_config_json(tuned, tmp_path / "config.json")
    layout.save(tmp_path / "layout.json")
    assert from_samna(tmp_path / "config.json") == tuned


@pytest.mark.parametrize(
    "what", shortened(["other", "one tag", "one destination", "fewer", "no layout", "no text", "more chips"], 3)
)
def test_a_file_that_does_not_fit_is_said(random_layout: Maker, tmp_path: Path, what: str) -> None:
    layout = random_layout(1, 1, 20)
    cam, sram = np.array(layout.cam), np.array(layout.sram)
    if what == "one tag":
        cam["tag"][tuple(np.argwhere(cam["dendrite"] >= 0)[0])] ^= 1
    elif what == "one destination":
        sram["tag"][tuple(np.argwhere(sram["cores"] > 0)[0])] ^= 1
    elif what == "fewer":
        cam[0], sram[0] = (0, -1, 0, 0), (0, 0, 0, 0)
    config, side = tmp_path / "config.json.gz", tmp_path / "layout.json"
    write_config_json(replace(layout, cam=cam, sram=sram), config)
    if what in ("no layout", "no text"):
        side.write_bytes(b"{}" if what == "no layout" else b"\xff\0")
    elif what in ("other", "more chips"):
        random_layout(*((2, 1, 20) if what == "other" else (1, 2, 20))).save(side)
    else:
        layout.save(side)
    read = from_samna(config)
    assert codes_of(read)[:2] == ["names-unfit", "names-invented"]
    assert read.findings[0].severity == "warning"
    assert "layout.json (" in str(read.findings[0])
    assert replace(read, findings=read.findings[1:]) == from_samna(config, names=False)


def test_names_of_an_object_can_be_left_aside(random_layout: Maker) -> None:
    layout = random_layout(1, 1, 20)
    config = to_samna(layout)
    assert from_samna(config) == layout
    assert codes_of(from_samna(config, names=False))[0] == "names-invented"


def test_a_killed_neuron_is_said_even_with_names(random_layout: Maker) -> None:
    """The chip then does something else than the Layout says, so what is read is not equal to it."""
    layout = random_layout(1, 1, 20)
    config = to_samna(layout)
    for slot in range(256):  # also those that are not used
        config.chips[0].cores[int(layout.core[0])].neurons[slot].latch_soif_kill = True
    read = from_samna(config)
    found = [finding for finding in read.findings if finding not in layout.findings]
    assert [finding.code for finding in found] == ["other-latch"]
    here = int((layout.core == layout.core[0]).sum())
    assert str(found[0]).startswith(f"{here} neurons are killed")
    assert replace(read, findings=layout.findings) == layout


def test_import_takes_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from nir_dynapse.cli.main import main

    model = write(tmp_path / "model.nir", graph())
    layout, config = tmp_path / "layout.json", tmp_path / "other" / "config.json.gz"
    config.parent.mkdir()
    assert main(["compile", model, "-o", str(layout), "--config", str(config), "-q"]) == 0
    out = tmp_path / "again.json"

    def run(**options: Any) -> Layout:
        given = {
            "source": str(config),
            "out": str(out),
            "frontend": "spec",
            "reset": None,
            "dt": None,
            "chips": 1,
            "circuit": None,
        }
        arguments = type("Arguments", (), {**given, "strict": False, **options})
        assert import_(arguments, Output(False, True, False)) == 0  # type: ignore[arg-type]
        return Layout.load(out)

    assert run(names=str(layout)) == Layout.load(layout)
    assert run(dt=0.25).dt == 0.25
    assert codes_of(run())[0] == "names-invented"
    with pytest.raises(ConfigurationError, match="comes without names"):
        run(strict=True)
    assert run(names=str(layout), strict=True) == Layout.load(layout)
    with pytest.raises(ConfigurationError, match="is no chip configuration: --names"):
        run(source=model, names=str(layout))
    capsys.readouterr()
    fails(capsys, ["import", str(config), "-o", str(out), "--reset", "none"], "say nothing about it")


# -- membranes --------------------------------------------------------------------------------------------------------


def test_compile_monitors_membranes(tmp_path: Path) -> None:
    net = build("layered", 1, 300)
    a, b = net.populations[0].name, net.populations[-1].name
    last = net.populations[-1].size - 1  # on another core
    layout = nd.compile(net, membranes=[(a, 3), (b, last), (a, 3)])
    for name in ((a, 3), (b, last)):
        chip, core, slot = layout.neuron_map[name]
        assert layout.membranes[chip * 4 + core] == slot
    assert (layout.membranes >= 0).sum() == 2
    assert nd.compile(net) == replace(layout, membranes=None)  # type: ignore[arg-type]
    config = to_samna(layout)
    chip, core, slot = layout.neuron_map[a, 3]
    monitored = config.chips[chip].cores[core]
    assert (monitored.neuron_monitoring_on, monitored.monitored_neuron) == (True, slot)
    assert from_samna(config) == layout
    write_config_json(layout, tmp_path / "c.json")
    assert from_samna(tmp_path / "c.json", names=layout) == layout


def test_compile_refuses_membranes_that_no_core_can_show() -> None:
    net = build("sparse", 1, 30)
    name = net.populations[0].name
    with pytest.raises(CapacityError) as caught:
        nd.compile(net, membranes=[(name, 3), (name, 7)])
    text = str(caught.value)
    assert f"node {name!r}, neuron 7" in text
    assert f"node {name!r}, neuron 3" in text
    assert "same seed" in text
    with pytest.raises(ParameterRangeError, match=f"node 'x', allowed are {name!r}"):
        nd.compile(net, membranes=[("x", 0)])
    for index in (30, -1):
        with pytest.raises(ParameterRangeError, match=f"node {name!r}, neuron {index}: .* allowed are neurons 0 to 29"):
            nd.compile(net, membranes=[(name, index)])


def test_a_membrane_needs_a_used_core(random_layout: Maker) -> None:
    layout = random_layout(1, 8, 3)
    membranes = np.full(32, -1)
    membranes[int(np.argmin(layout.used_cores))] = 3
    for wrong in (membranes, np.full(4, -1)):
        with pytest.raises(ConfigurationError, match="membrane is monitored in a core"):
            to_samna(replace(layout, membranes=wrong))


def test_a_neuron_whose_membrane_is_shown_counts() -> None:
    """Also where it has no rows, as one that only DC drives."""
    config = Dynapse2Configuration(2)
    core = config.chips[1].cores[2]
    core.neuron_monitoring_on, core.monitored_neuron = True, 77
    config.chips[0].cores[0].monitored_neuron = 5  # off
    layout = from_samna(config)
    assert layout.names == (("core_1_2", 0),)
    assert (layout.chip.tolist(), layout.core.tolist(), layout.slot.tolist()) == ([1], [2], [77])
    assert layout.membranes.tolist() == [-1] * 6 + [77, -1]
    assert from_samna(to_samna(layout)) == layout


@pytest.mark.parametrize(
    ("on", "slot", "message"),
    [(2, 0, "neuron_monitoring_on is"), (True, 256, "monitored_neuron is 256"), (False, -1, "monitored_neuron is -1")],
)
def test_impossible_monitoring_is_refused(on: Any, slot: int, message: str) -> None:
    config = Dynapse2Configuration(1)
    config.chips[0].cores[3].neuron_monitoring_on, config.chips[0].cores[3].monitored_neuron = on, slot
    with pytest.raises(ConfigurationError, match=f"chip 0, core 3: {message}"):
        from_samna(config)


def test_text_of_older_versions_is_read(random_layout: Maker, tmp_path: Path) -> None:
    """Without what a core monitors and without the latches that are not ours: both are off."""
    layout = replace(random_layout(3, 1, 30), membranes=None)  # type: ignore[arg-type]
    write_config_json(layout, tmp_path / "c.json")
    data = json.loads((tmp_path / "c.json").read_text())
    for core in data["value0"]["chips"][0]["cores"].values():
        del core["neuronMonitoringOn"], core["monitoredNeuron"]
        for neuron in core["neurons"].values():
            for key in [key for key in neuron if key.startswith("latch")]:
                if key not in ("latchSoDc", "latchSoAdaptation", "latchDenmNmda", "latchSoifType"):
                    del neuron[key]
    (tmp_path / "old.json.gz").write_bytes(gzip.compress(json.dumps(data).encode()))
    assert from_samna(tmp_path / "old.json.gz", names=layout) == layout


# -- the step ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dt", [1e-4, 5e-4, 1e-3, 2e-3, 0.01234])
def test_the_step_of_what_compile_made_is_found(dt: float) -> None:
    net = build("sparse", 1, 30)
    scale = dt / net.dt
    populations = tuple(
        replace(p, tau_mem=p.tau_mem * scale, tau_syn=None if p.tau_syn is None else p.tau_syn * scale)
        for p in net.populations
    )
    layout = nd.compile(replace(net, populations=populations, dt=dt))
    read = from_samna(to_samna(layout), names=False)
    assert read.dt == pytest.approx(dt, rel=0.01)
    assert (read.dt == dt) == (dt != 0.01234)
    assert from_samna(to_samna(layout), names=False, dt=0.02).dt == 0.02


def test_without_neurons_the_step_is_the_usual_one() -> None:
    assert from_samna(Dynapse2Configuration(1)).dt == 1e-3
    for wrong in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ParameterRangeError, match="from_samna: dt is"):
            from_samna(Dynapse2Configuration(1), dt=wrong)


def test_the_step_keeps_time_constants() -> None:
    """A refractory time much longer than an AMPA time constant: the step is no longer than what AMPA allows."""
    config = Dynapse2Configuration(1)
    core = config.chips[0].cores[0]
    for name, codes in {"SOIF_REFR_N": (0, 50), "SOIF_LEAK_N": (0, 50), "DEAM_ETAU_P": (2, 30)}.items():
        core.parameters[name].coarse_value, core.parameters[name].fine_value = codes
    core.neurons[0].synapses = [Dynapse2Synapse(5, Dendrite.ampa, [True] * 4)] * 64
    layout = from_samna(config)
    assert layout.dt == pytest.approx(5 * 10.29e-3, rel=0.01)
    assert "refractory" in codes_of(layout)
