"""Layout → configuration → Layout, through our object, a fake of samna's, and JSON text."""

from __future__ import annotations

import gzip
import json
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nir_dynapse.chip.device import DENDRITE_VALUES, DENDRITES, LATCH_NAMES, PARAMETERS
from nir_dynapse.errors import CapacityError, ConfigurationError
from nir_dynapse.export import configuration, samna_text
from nir_dynapse.export.configuration import CORE_BIASES, Dendrite, Dynapse2Configuration
from nir_dynapse.export.samna_config import names_of, to_samna, write_config_json
from nir_dynapse.import_ import samna_findings, samna_rows
from nir_dynapse.import_.samna_config import from_samna
from nir_dynapse.layout.layout import Layout
from shortened import shortened

quick = settings(deadline=None, max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
seeds = st.integers(0, 2**32 - 1)


def by_place(layout: Layout) -> dict:
    """(chip, core, slot) → all bits of the neuron, of neurons that have any rows."""
    places = zip(layout.chip.tolist(), layout.core.tolist(), layout.slot.tolist(), strict=True)
    silent = set(names_of(layout)["silent"])
    return {
        place: (int(layout.latches[n]), layout.cam[n].tolist(), layout.sram[n].tolist())
        for n, place in enumerate(places)
        if n not in silent
    }


def same_bits(invented: Layout, layout: Layout) -> None:
    """`invented`, read without names, has all bits of `layout` but neurons without rows."""
    assert by_place(invented) == by_place(layout)
    used = np.flatnonzero(invented.used_cores)
    np.testing.assert_array_equal(invented.codes[used], layout.codes[used])
    np.testing.assert_array_equal(invented.membranes, layout.membranes)


# -- identities -------------------------------------------------------------------------------------------------------


@pytest.mark.long
@quick
@given(seeds, st.integers(1, 8), st.integers(0, 80))
def test_plain_object_is_the_identity(random_layout, seed, n_chips, n_neurons):
    layout = random_layout(seed, n_chips, n_neurons)
    config = to_samna(layout)
    assert isinstance(config, Dynapse2Configuration)
    assert len(config.chips) == n_chips
    assert from_samna(config) == layout
    config.names = json.loads(json.dumps(config.names))
    assert from_samna(config) == layout
    same_bits(from_samna(config, names=False), layout)
    config.names = None
    assert from_samna(config, names=layout) == layout
    assert from_samna(config, names=layout.to_dict()) == layout
    same_bits(from_samna(config), layout)


@pytest.mark.long
@settings(quick, max_examples=5)
@given(seeds, st.integers(1, 8), st.integers(1, 80))
def test_foreign_object_is_the_identity(random_layout, fake_samna, seed, n_chips, n_neurons):
    layout = random_layout(seed, n_chips, n_neurons)
    config = fake_samna.Dynapse2Configuration()
    config.chips = [fake_samna.Dynapse2Chip() for _ in range(n_chips)]
    assert to_samna(layout, config) is config
    assert from_samna(config, names=layout) == layout
    same_bits(from_samna(config), layout)


@pytest.mark.long
@settings(quick, max_examples=5)
@given(seeds, st.integers(1, 8), st.sampled_from([0, 1, 20, 300]), st.sampled_from(["config.json", "config.json.gz"]))
def test_text_is_the_identity(random_layout, tmp_path, seed, n_chips, n_neurons, name):
    layout = random_layout(seed, n_chips, n_neurons)
    path = tmp_path / name
    write_config_json(layout, path)
    layout.save(tmp_path / "saved.json")
    assert from_samna(path, names=layout) == layout
    assert from_samna(str(path), names=tmp_path / "saved.json") == layout
    again = from_samna(path)
    same_bits(again, layout)
    assert again == from_samna(to_samna(again)), "what was invented is kept"


@pytest.mark.long
@pytest.mark.parametrize("n_neurons", shortened([255, 256, 257, 1024]))
def test_full_cores(random_layout, fake_samna, tmp_path, n_neurons):
    layout = random_layout(1, 1, n_neurons)
    order = np.arange(n_neurons)
    layout = replace(layout, core=order // 256, slot=order % 256, used_cores=np.ones(4, bool))
    assert from_samna(to_samna(layout)) == layout
    assert from_samna(to_samna(layout, fake_samna.Dynapse2Configuration()), names=layout) == layout
    write_config_json(layout, tmp_path / "c.json.gz")
    assert from_samna(tmp_path / "c.json.gz", names=layout) == layout


@pytest.mark.long
def test_an_object_can_be_written_again(random_layout, fake_samna):
    """A second Layout replaces the first where their cores meet."""
    first, second = random_layout(1, 1, 900), random_layout(2, 1, 400)
    for config in (Dynapse2Configuration(1), fake_samna.Dynapse2Configuration()):
        to_samna(first, config)
        to_samna(second, config)
        assert from_samna(config, names=second) == second


# -- what is written --------------------------------------------------------------------------------------------------


def test_only_what_we_own_is_written(random_layout, fake_samna):
    layout = random_layout(4, 1, 40)
    used = np.zeros(4, bool)
    used[[1, 3]] = True
    core, shown = np.where(layout.core < 2, 1, 3), [-1, 17, -1, -1]
    layout = replace(layout, core=core, slot=np.arange(40), used_cores=used, membranes=np.array(shown))
    config = fake_samna.Dynapse2Configuration()
    foreign = fake_samna.Dynapse2Synapse()
    foreign.tag = 77
    for core in config.chips[0].cores:
        core.neuron_monitoring_on, core.monitored_neuron = True, 9
        core.parameters["SOIF_CC_N"].coarse_value = 5
        core.neurons[3].latch_soif_kill = True
        core.neurons[200].latch_so_dc = True
        core.neurons[200].synapses = [foreign] * 64
    before = fake_samna.snapshot(config)
    to_samna(layout, config)
    cores = config.chips[0].cores
    assert cores[1].parameters["SOIF_CC_N"].coarse_value == 5
    assert (cores[1].neuron_monitoring_on, cores[1].monitored_neuron) == (True, 17)
    assert (cores[3].neuron_monitoring_on, cores[3].monitored_neuron) == (False, 0)
    assert (cores[2].neuron_monitoring_on, cores[2].monitored_neuron) == (True, 9)
    assert cores[1].neurons[3].latch_soif_kill, "other latches are not ours"
    assert not cores[1].neurons[200].latch_so_dc, "neurons of used cores that hold nothing are off"
    assert cores[1].neurons[200].synapses[0].tag == 0, "and listen to nobody"
    assert cores[0].neurons[200].synapses[0].tag == 77
    owned = {row.bias for row in PARAMETERS.values()}
    for core in (cores[1], cores[3]):
        for name, parameter in core.parameters.items():
            assert parameter.type == "P"
            if name not in owned and name != "SOIF_CC_N":
                assert (parameter.coarse_value, parameter.fine_value) == (1, 80)
    # Put the used cores back: then everything is as it was.
    fresh = fake_samna.Dynapse2Configuration()
    for i in (1, 3):
        cores[i].neuron_monitoring_on, cores[i].monitored_neuron = True, 9
        for n, neuron in enumerate(cores[i].neurons):
            neuron.synapses = [foreign] * 64 if n == 200 else fresh.chips[0].cores[i].neurons[n].synapses
            neuron.destinations = fresh.chips[0].cores[i].neurons[n].destinations
            for latch in LATCH_NAMES.values():
                setattr(neuron, latch, latch == "latch_so_dc" and n == 200)
        for name in owned:
            cores[i].parameters[name] = fake_samna.Dynapse2Parameter()
    assert fake_samna.snapshot(config) == before


def test_rows_mean_what_they_say(random_layout):
    layout = random_layout(8, 2, 50)
    config = to_samna(layout)
    for n in range(50):
        neuron = config.chips[layout.chip[n]].cores[layout.core[n]].neurons[layout.slot[n]]
        assert (len(neuron.synapses), len(neuron.destinations)) == (64, 4)
        for row, ours in zip(neuron.synapses, layout.cam[n].tolist(), strict=True):
            tag, dendrite, mask, flags = ours
            assert row.tag == tag
            assert row.dendrite.name == (DENDRITES[dendrite] if dendrite >= 0 else "none")
            assert sum(bit << i for i, bit in enumerate(row.weight)) == mask
            assert row.stp + 2 * row.precise_delay + 4 * row.mismatched_delay == flags
        for row, (tag, cores, x_hop, y_hop) in zip(neuron.destinations, layout.sram[n].tolist(), strict=True):
            assert (row.tag, row.x_hop, row.y_hop) == (tag, x_hop, y_hop)
            assert sum(bit << i for i, bit in enumerate(row.core)) == cores
        latches = (neuron.latch_so_dc, neuron.latch_so_adaptation, neuron.latch_denm_nmda, neuron.latch_soif_type)
        assert sum(bit << i for i, bit in enumerate(latches)) == layout.latches[n]


def test_the_two_sides_agree_on_names():
    assert len(CORE_BIASES) == len(set(CORE_BIASES)) == 52
    assert {row.bias for row in PARAMETERS.values()} <= set(CORE_BIASES)
    assert [Dendrite(value).name for value in DENDRITE_VALUES] == [*DENDRITES, "none"]
    assert samna_rows.OTHER_LATCHES == samna_text.OTHER_LATCHES == tuple(samna_findings.MEANING)
    assert samna_rows.DENDRITES == {1024: 0, 256: 1, 512: 2, 128: 3, 0: -1}
    assert Dendrite(1024).name == "ampa"
    assert len(configuration.Dynapse2Neuron.__dataclass_fields__) == 16


def test_text_has_the_form_of_samna(random_layout, tmp_path):
    layout = random_layout(3, 1, 30)
    write_config_json(layout, tmp_path / "c.json")
    text = (tmp_path / "c.json").read_text()
    chips = json.loads(text)["value0"]["chips"]
    assert len(chips) == 1
    n = int(np.flatnonzero((layout.cam["dendrite"] >= 0).any(axis=1))[0])
    row = int(np.flatnonzero(layout.cam["dendrite"][n] >= 0)[0])
    core = chips[layout.chip[n]]["cores"][f"value{layout.core[n]}"]
    assert list(core) == ["neurons", "neuronMonitoringOn", "monitoredNeuron", "parameters"]
    assert len(core["neurons"]) == 256
    neuron = core["neurons"][f"value{layout.slot[n]}"]
    assert len([key for key in neuron if key.startswith("latch")]) == 14
    synapse = neuron["synapses"][f"value{row}"]
    assert set(synapse) == {"tag", "dendrite", "weight", "stp", "preciseDelay", "mismatchedDelay"}
    assert synapse["tag"] == layout.cam["tag"][n, row]
    assert set(synapse["weight"]) == {"value0", "value1", "value2", "value3"}
    assert set(neuron["destinations"]["value3"]) == {"core", "xHop", "yHop", "tag"}
    bias = core["parameters"][0]
    coarse, fine = layout.codes[layout.chip[n] * 4 + layout.core[n], 0].tolist()
    shown = [(core["neuronMonitoringOn"], core["monitoredNeuron"]) for core in chips[0]["cores"].values()]
    assert shown == [(slot >= 0, max(slot, 0)) for slot in layout.membranes.tolist()]
    assert any(on for on, _ in shown)
    assert bias == {"key": "SOIF_LEAK_N", "value": {"coarseValue": coarse, "fineValue": fine, "type": ord("N")}}
    # Indented, sorted, and with arrays instead of numbered objects it is the same configuration.
    as_arrays = re.sub(r'"cores": ?\{', '"cores":{', json.dumps(json.loads(text), indent=4, sort_keys=True))
    (tmp_path / "other.json").write_text(as_arrays)
    assert from_samna(tmp_path / "other.json", names=layout) == layout


def test_text_is_deterministic_and_atomic(random_layout, tmp_path, monkeypatch):
    layout = random_layout(3, 1, 30)
    write_config_json(layout, tmp_path / "a.json.gz")
    write_config_json(Layout.from_dict(layout.to_dict()), tmp_path / "b.json.gz")
    before = (tmp_path / "a.json.gz").read_bytes()
    assert before == (tmp_path / "b.json.gz").read_bytes()
    assert before[3:8] == b"\0" * 5, "no file name, no time"
    write_config_json(layout, tmp_path / "a.json")
    assert gzip.decompress(before) == (tmp_path / "a.json").read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(ConfigurationError, match="No space left"):
        write_config_json(random_layout(4), tmp_path / "a.json.gz")
    assert (tmp_path / "a.json.gz").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 3
    for path, words in (
        (tmp_path / "no" / "c.json", "cannot be written"),
        (tmp_path, "folder"),
        ("a\0b", "be written"),
    ):
        with pytest.raises(ConfigurationError, match=words):
            write_config_json(layout, path)


# -- refusals of the exporter -----------------------------------------------------------------------------------------


def test_too_few_chips(random_layout):
    config = Dynapse2Configuration(1)
    with pytest.raises(CapacityError, match="2 chips, the configuration has 1"):
        to_samna(random_layout(1, 2), config)
    assert config == Dynapse2Configuration(1)


@pytest.mark.parametrize(
    ("where", "name"),
    [
        ((), "chips"),
        (("chips", 0), "cores"),
        (("chips", 0, "cores", 2), "neurons"),
        (("chips", 0, "cores", 2), "parameters"),
        (("chips", 0, "cores", 3, "parameters", "SOAD_W_N"), "fine_value"),
        (("chips", 0, "cores", 3, "neurons", 255), "latch_denm_nmda"),
        (("chips", 0, "cores", 3, "neurons", 255), "destinations"),
        (("chips", 0, "cores", 3, "neurons", 7), "synapses"),
    ],
)
def test_a_missing_name_stops_before_the_first_write(random_layout, fake_samna, where, name):
    layout = replace(random_layout(1, 1, 100), used_cores=np.ones(4, bool))
    config = fake_samna.Dynapse2Configuration()
    before = fake_samna.snapshot(config)
    parents, thing = [], config
    for key in where:
        parents.append((thing, key))
        thing = getattr(thing, key) if isinstance(key, str) and not isinstance(thing, dict) else thing[key]
    kept = [a for a in dir(thing) if not a.startswith("_") and a != name]
    stub = SimpleNamespace(**{a: getattr(thing, a) for a in kept})
    if parents:
        parents[-1][0][parents[-1][1]] = stub
    with pytest.raises(ConfigurationError, match=rf"{name}.*Nothing was written"):
        to_samna(layout, config if parents else stub)
    if parents:
        parents[-1][0][parents[-1][1]] = thing
    assert fake_samna.snapshot(config) == before


def test_a_missing_bias_stops_before_the_first_write(random_layout, fake_samna):
    layout = replace(random_layout(1, 1, 100), used_cores=np.ones(4, bool))
    config = fake_samna.Dynapse2Configuration()
    del config.chips[0].cores[3].parameters["SYPD_EXT_N"]
    before = fake_samna.snapshot(config)
    with pytest.raises(ConfigurationError, match="chip 0, core 3: the configuration has no bias 'SYPD_EXT_N'"):
        to_samna(layout, config)
    assert fake_samna.snapshot(config) == before


def test_a_row_without_a_field_stops_before_the_first_write(random_layout, fake_samna):
    config = Dynapse2Configuration(1)
    layout = replace(random_layout(1, 1, 100), used_cores=np.ones(4, bool))
    config.chips[0].cores[0].neurons[0].synapses = [SimpleNamespace(tag=0)] * 64  # type: ignore[list-item]
    with pytest.raises(ConfigurationError, match="dendrite"):
        to_samna(layout, config)
    assert config.chips[0].cores[1] == Dynapse2Configuration(1).chips[0].cores[1]


def test_a_refused_value_is_taken_back(random_layout, fake_samna):
    class Stubborn(fake_samna.Dynapse2Neuron):
        def __setattr__(self, name, value):
            if name == "destinations":
                raise ValueError("USB says no")
            super().__setattr__(name, value)

    config = fake_samna.Dynapse2Configuration()
    config.chips[0].cores[3].neurons[255] = Stubborn()
    before = fake_samna.snapshot(config)
    with pytest.raises(ConfigurationError, match=r"USB says no.*left as it was"):
        to_samna(replace(random_layout(1, 1, 100), used_cores=np.ones(4, bool)), config)
    assert fake_samna.snapshot(config) == before


@pytest.mark.parametrize(
    ("array", "field", "value"),
    [
        ("cam", "tag", 2048),
        ("cam", "dendrite", 4),
        ("cam", "mask", 16),
        ("cam", "flags", 8),
        ("sram", "tag", 5000),
        ("sram", "cores", 16),
        ("sram", "x_hop", 8),
        ("sram", "y_hop", -8),
        ("codes", 0, 6),
        ("chip", None, 1),
        ("core", None, 4),
        ("latches", None, 16),
        ("slot", None, None),
        ("used_cores", None, False),
        ("membranes", None, 256),
        ("membranes", None, -2),
    ],
)
def test_an_impossible_layout_is_refused(random_layout, tmp_path, array, field, value):
    layout = replace(random_layout(1), used_cores=np.ones(4, bool))
    changed = np.array(getattr(layout, array))
    if array == "slot":
        changed[0] = changed[1]
        layout = replace(layout, core=np.zeros(20, int))
    elif field is None:
        changed[0 if array != "used_cores" else ...] = value
    elif array == "codes":
        changed[0, 0, field] = value
    else:
        changed[field][3, 2] = value
    layout = replace(layout, **{array: changed})
    for arrow in (to_samna, lambda bad: write_config_json(bad, tmp_path / "c.json")):
        with pytest.raises(ConfigurationError, match="Layout: "):
            arrow(layout)
    assert not list(tmp_path.iterdir())
