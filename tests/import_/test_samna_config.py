"""What `from_samna` makes of configurations without names, with other names, and of impossible or damaged ones."""

from __future__ import annotations

import gzip
import json
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nir_dynapse.errors import ConfigurationError
from nir_dynapse.export import configuration
from nir_dynapse.export.configuration import Dynapse2Configuration, Dynapse2Synapse
from nir_dynapse.export.samna_config import names_of, to_samna, write_config_json
from nir_dynapse.import_ import json_stream
from nir_dynapse.import_.samna_config import from_samna
from nir_dynapse.layout.layout import MONITOR_HOP
from shortened import shortened

quick = settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])


# -- names ------------------------------------------------------------------------------------------------------------


def test_names_are_invented(fake_samna):
    """Two cores: input tags 1030 and 1031, core 0 drives core 1, one neuron of core 1 is monitored."""
    config = fake_samna.Dynapse2Configuration()

    def listen(core, slot, *tags):
        rows = []
        for tag in tags:
            row = fake_samna.Dynapse2Synapse()
            row.tag, row.dendrite, row.weight = tag, fake_samna.Dendrite.ampa, [True, False, False, True]
            rows.append(row)
        neuron = config.chips[0].cores[core].neurons[slot]
        neuron.synapses = rows + [fake_samna.Dynapse2Synapse()] * (64 - len(rows))
        return neuron

    def send(core_mask, tag, x_hop=0):
        row = fake_samna.Dynapse2Destination()
        row.core, row.tag, row.x_hop = core_mask, tag, x_hop
        return [row] + [fake_samna.Dynapse2Destination()] * 3

    listen(0, 5, 1030, 1031).destinations = send([False, True, False, False], 1500)
    listen(0, 9, 1030, 1030).destinations = send([False, True, False, False], 1501)
    listen(1, 0, 1500, 1031).destinations = send([True] * 4, 3, MONITOR_HOP)
    listen(1, 1, 1501, 1500)
    layout = from_samna(config)
    assert layout.n_chips == 4
    assert layout.populations == (("core_0_0", "CubaLIF", (2,)), ("core_0_1", "CubaLIF", (2,)))
    assert layout.neuron_map["core_0_0", 1] == (0, 0, 9)
    assert layout.input_rows.tolist() == [(0, 0, 0b0001, 1030), (1, 0, 0b0011, 1031)]
    assert [(port.name, port.size) for port in layout.inputs] == [("input", 2)]
    assert [(port.name, port.size, port.source) for port in layout.outputs] == [("output_core_0_1", 2, "core_0_1")]
    assert layout.output_map == {(0, 3): ("core_0_1", 0)}
    assert layout.projections == (
        ("core_0_0", "core_0_1", "core_0_0_to_core_0_1"),
        ("input", "core_0_0", "input_to_core_0_0"),
        ("input", "core_0_1", "input_to_core_0_1"),
    )
    assert [(f.severity, f.code) for f in layout.findings] == [
        ("warning", "names-invented"),
        ("warning", "not-linear"),
        ("info", "refractory"),
        ("info", "other-biases"),
    ]
    assert from_samna(to_samna(layout)) == layout


def test_a_row_without_weight_is_kept():
    """Tag 0 at AMPA without a weight listens, and so is a row; a tag alone or a flag alone are rows, too."""
    config = Dynapse2Configuration(1)
    neurons = config.chips[0].cores[0].neurons
    ampa = configuration.Dendrite.ampa
    for slot, row in enumerate([Dynapse2Synapse(0, ampa), Dynapse2Synapse(tag=5), Dynapse2Synapse(stp=True)]):
        neurons[slot].synapses = [*[Dynapse2Synapse()] * 60, row, *[Dynapse2Synapse()] * 3]
    neurons[3].synapses = [Dynapse2Synapse(0, ampa)] * 64
    neurons[4].latch_so_dc = True
    layout = from_samna(config)
    assert layout.slot.tolist() == [0, 1, 2, 3]
    assert layout.cam[:3, 60].tolist() == [(0, 0, 0, 0), (5, -1, 0, 0), (0, -1, 0, 1)]
    assert set(layout.cam[3].tolist()) == {(0, 0, 0, 0)}
    assert layout.input_rows.tolist() == [(0, 0, 1, 0)]


def test_an_empty_configuration_is_an_empty_layout():
    layout = from_samna(Dynapse2Configuration(2))
    assert (layout.n_chips, layout.n_neurons, layout.inputs, layout.populations) == (2, 0, (), ())


def test_names_and_bits_must_agree(random_layout, tmp_path):
    layout = random_layout(1, 1, 30)
    config = to_samna(layout)
    n = int(np.flatnonzero((layout.cam["dendrite"] >= 0).any(axis=1))[0])
    place = f"chip 0, core {layout.core[n]}, neuron {layout.slot[n]}"
    neuron = config.chips[0].cores[layout.core[n]].neurons[layout.slot[n]]
    synapses, destinations = neuron.synapses, neuron.destinations
    neuron.synapses, neuron.destinations = [Dynapse2Synapse()] * 64, [configuration.Dynapse2Destination()] * 4
    with pytest.raises(ConfigurationError, match=f"{place}: this neuron is without rows but in the names"):
        from_samna(config)
    neuron.synapses, neuron.destinations = synapses, destinations
    free = next(s for s in range(256) if (layout.core[n], s) not in set(zip(layout.core, layout.slot, strict=True)))
    other = config.chips[0].cores[layout.core[n]].neurons[free]
    other.synapses = synapses
    with pytest.raises(ConfigurationError, match=f"neuron {free}: this neuron is in the configuration but not in"):
        from_samna(config, names=layout)
    with pytest.raises(ConfigurationError, match="names are for 2 chips"):
        from_samna(to_samna(layout), names=random_layout(1, 2, 30))
    with pytest.raises(ConfigurationError, match="cannot be read"):
        from_samna(config, names=tmp_path / "no.json")


@pytest.mark.parametrize(
    "damage",
    [
        {"neurons": None},
        {"neurons": [[0, 0, "x"]]},
        {"used_cores": [99]},
        {"used_cores": []},
        {"used_cores": "all"},
        {"silent": [10**6]},
        {"silent": 3},
        {"version": 99},
        {"dt_s": "fast"},
        {"populations": [["a", "LIF", [3]]]},
    ],
)
def test_damaged_names_are_refused(random_layout, damage):
    layout = random_layout(1)
    config = to_samna(layout)
    with pytest.raises(ConfigurationError):
        from_samna(config, names={**names_of(layout), **damage})
    for names in ({}, 5, []):
        with pytest.raises(ConfigurationError):
            from_samna(config, names=names)


# -- refusals of the importer -----------------------------------------------------------------------------------------


def _neuron(config):
    return config.chips[0].cores[2].neurons[17]


def _synapse(**fields):
    return lambda config: setattr(_neuron(config), "synapses", [Dynapse2Synapse(**fields)] * 64)


def _destination(**fields):
    row = configuration.Dynapse2Destination(**fields)
    return lambda config: setattr(_neuron(config), "destinations", [row] * 4)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_synapse(tag=2048), "chip 0, core 2, neuron 17: the tag of a CAM row is 2048"),
        (_synapse(tag=-1), "is -1"),
        (_synapse(tag=1.5), "is 1.5"),
        (_synapse(tag=True), "is True"),
        (_synapse(tag=10**5000), "CAM row is"),
        (_synapse(tag=None), "is None"),
        (_synapse(dendrite=384), "the dendrite of a CAM row is 384"),
        (_synapse(dendrite=[]), "dendrite of a CAM row"),
        (_synapse(weight=[True] * 5), "weight of a CAM row"),
        (_synapse(weight=[2, 0, 0, 0]), "weight of a CAM row"),
        (_synapse(weight="yes!"), "weight of a CAM row"),
        (_synapse(weight=None), "neuron 17: not shaped like"),
        (_synapse(stp="no"), "flags"),
        (_destination(tag=4000), "the tag of an SRAM row is 4000"),
        (_destination(x_hop=8), "x_hop of an SRAM row is 8"),
        (_destination(y_hop=-8), "y_hop of an SRAM row is -8"),
        (_destination(core=[True] * 3), "core mask of an SRAM row"),
        (lambda c: setattr(_neuron(c), "latch_so_dc", 2), "latch_so_dc is 2, allowed|latch_so_dc is "),
        (lambda c: _neuron(c).synapses.pop(), "neuron 17: the number of synapses is 63, allowed: exactly 64"),
        (lambda c: _neuron(c).destinations.append(1), "the number of destinations is 5"),
        (lambda c: setattr(_neuron(c), "synapses", [3] * 64), "neuron 17: not shaped like"),
        (lambda c: setattr(_neuron(c), "synapses", None), "neuron 17: not shaped like"),
        (lambda c: c.chips[0].cores[2].neurons.pop(), "chip 0, core 2: the number of neurons is 255"),
        (lambda c: c.chips[0].cores.pop(), "chip 0: the number of cores is 3"),
        (lambda c: c.chips.clear(), "the number of chips is 0"),
        (lambda c: c.chips.extend(c.chips * 8), "the number of chips is 9"),
        (lambda c: setattr(c.chips[0].cores[2], "parameters", None), "core 2: not shaped like"),
        (lambda c: c.chips[0].cores[2].parameters.update(SOIF_DC_P=3), "core 2: not shaped like"),
        (
            lambda c: setattr(c.chips[0].cores[2].parameters["SOIF_DC_P"], "coarse_value", 6),
            "core 2: the coarse value of bias SOIF_DC_P is 6, allowed: integers from 0 to 5",
        ),
        (
            lambda c: setattr(c.chips[0].cores[2].parameters["SOIF_DC_P"], "fine_value", 256),
            "the fine value of bias SOIF_DC_P is 256",
        ),
    ],
)
def test_impossible_content_is_refused(spoil, message):
    config = Dynapse2Configuration(1)
    spoil(config)
    with pytest.raises(ConfigurationError, match=message):
        from_samna(config)


def test_a_used_core_needs_its_biases(random_layout):
    layout = random_layout(1, 1, 40)
    config = to_samna(layout)
    core = int(layout.core[0])
    del config.chips[0].cores[core].parameters["SYAM_W3_P"]
    with pytest.raises(ConfigurationError, match=f"chip 0, core {core}: the configuration has no bias 'SYAM_W3_P'"):
        from_samna(config)


@pytest.mark.parametrize("thing", [None, 5, object(), SimpleNamespace(chips=None), SimpleNamespace(chips=[1])])
def test_other_objects_are_refused(thing):
    with pytest.raises(ConfigurationError, match="not shaped like samna's configuration"):
        from_samna(thing)


@pytest.fixture(scope="module")
def text(random_layout, tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("text") / "c.json"
    write_config_json(random_layout(3, 1, 30), path)
    return path.read_text()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    shortened(
        [
            ('"tag":0', '"tag":2048', "the tag of a CAM row is 2048"),
            ('"tag":0', '"tag":1e3', "the tag of a CAM row is 1000.0"),
            ('"tag":0', '"tag":NaN', "the tag of a CAM row is nan"),
            ('"tag":0', '"tag":' + "9" * 5000, "a number is too long"),
            ('"tag":0', '"tga":0', "not shaped like"),
            ('"dendrite":0', '"dendrite":3', "the dendrite of a CAM row is 3"),
            ('"weight":{', '"weight":[{', "neurons|expecting|Expecting"),
            ('"weight":{"value0":false,', '"weight":{', "weight of a CAM row|not shaped like"),
            ('"value63":{', '"value64":{', "neuron 0: not shaped like"),
            ('"neurons":{"value0":', '"neurons":{"value256":', "entry 'value256' of neurons"),
            ('"neurons":{"value0":', '"neurons":{"value1":', "entry 'value1' of neurons"),
            ('"neurons":', '"nerves":', "neurons is missing"),
            ('"parameters":', '"neurons":', "'neurons' stands twice"),
            ('"parameters":', '"parameters":{"a":', "Expecting|where one of|not shaped"),
            ('"key":', '"kay":', "core . not shaped|not shaped like"),
            ('"coarseValue":', '"coarseValue":77', "the coarse value of bias SOIF_LEAK_N is 77"),
            ('"cores":{', '"cores":[', "where one of|key"),
            ('{"value0":{"chips":[', '{"value0":{"chips":[[', "the unknown entry 'value0' has more than 2097152"),
            ('{"value0"', '["value0"', "where one of|missing"),
            ('{"value0"', '{"value1"', "the unknown entry 'value1' has more than 2097152"),
            ('{"value0"', "{0", "a key of an object is '0'"),
            ("]}}\n", "]}}\n{}", "text follows after the end"),
            ("]}}\n", "]}", "the text ends too early"),
        ],
        10,
    ),
)
def test_damaged_text_is_refused(tmp_path, text, old, new, message):
    path = tmp_path / "c.json"
    spoilt = text.replace(old, new, 1) if "\n" not in old else text.replace(old, new)
    assert spoilt != text
    path.write_text(spoilt)
    with pytest.raises(ConfigurationError, match=message):
        from_samna(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x1f\x8b",
        b"\x1f\x8b" + b"x" * 100,
        b"\x89HDF\r\n\x1a\n",
        b'{"value0":',
        b"[" * 10**6,
        b"\xff" * 9,
        b"0" * 9999,
        b"null",
        b'"',
        b"\0" * 100,
        b'{"value0":{"chips":[]}}',
        b'{"value0":{"chips":[1]}}',
        b'{"value0":{"chips":[{"cores":{}}]}}',
        b'{"value0":{"chips":{"value1":{"cores":{"value0":{}}}}}}',
        b'{"value0":{"x":' + b"[" * 10**5,
    ],
)
@pytest.mark.parametrize("name", ["c.json", "c.json.gz"])
def test_other_files_are_refused(tmp_path, content, name):
    path = tmp_path / name
    path.write_bytes(gzip.compress(content) if name.endswith("gz") and content[:1] != b"\x1f" else content)
    with pytest.raises(ConfigurationError):
        from_samna(path)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9, 0.999])
def test_truncated_files_are_refused(tmp_path, text, share):
    for name, content in (("c.json.gz", gzip.compress(text.encode(), 1)), ("c.json", text.encode())):
        (tmp_path / name).write_bytes(content[: int(share * len(content))])
        with pytest.raises(ConfigurationError):
            from_samna(tmp_path / name)
    damaged = bytearray(gzip.compress(text.encode(), 1))
    damaged[-6] ^= 1  # the checksum
    (tmp_path / "c.json.gz").write_bytes(damaged)
    with pytest.raises(ConfigurationError, match="damaged"):
        from_samna(tmp_path / "c.json.gz")


def test_huge_files_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(json_stream, "MAX_VALUE", 1 << 20)
    monkeypatch.setattr(json_stream, "MAX_TEXT", 1 << 23)
    path = tmp_path / "c.json.gz"
    for content in (b'{"x":"' + b"a" * (1 << 22), b" " * (1 << 24), b'{"x":[' + b"1," * (1 << 21)):
        path.write_bytes(gzip.compress(content))
        with pytest.raises(ConfigurationError, match="more than"):
            from_samna(path)


def test_blank_bombs_end_soon(tmp_path, monkeypatch):
    """Blanks are skipped by the piece: one by one, a gzip file of 2 MB kept the reader busy for minutes."""
    monkeypatch.setattr(json_stream, "MAX_TEXT", 1 << 26)
    path = tmp_path / "c.json.gz"
    path.write_bytes(gzip.compress(b" " * (1 << 24), 1) * 5)
    with pytest.raises(ConfigurationError, match=r"c\.json\.gz: the text has more than 67108864 characters"):
        from_samna(path, names=False)


def test_missing_files_are_refused(tmp_path):
    for path in (tmp_path / "no.json", tmp_path, "a\0b"):
        with pytest.raises(ConfigurationError, match="cannot be read"):
            from_samna(path)


@pytest.mark.long
@quick
@given(st.data())
def test_values_across_chunks(monkeypatch, tmp_path, data):
    """Whatever the size of the pieces that are read, a value is decoded whole."""
    monkeypatch.setattr(json_stream, "CHUNK", data.draw(st.integers(1, 5)))
    value = data.draw(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
            lambda children: (
                st.lists(children, max_size=5) | st.dictionaries(st.text(max_size=9), children, max_size=5)
            ),
        )
    )
    path = tmp_path / "v.json"
    path.write_text(json.dumps({"a": value, "b": [value, 12345]}, indent=data.draw(st.sampled_from([None, 2]))))
    with json_stream.JsonStream(path) as stream:
        found = {}
        for key in stream.members():
            found[key] = stream.value() if key == "a" else [stream.value() for _ in stream.members()]
        stream.end()
    assert found == {"a": value, "b": [value, 12345]}
