"""Layout: JSON, words and equality."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nir_dynapse.chip import biasgen
from nir_dynapse.chip.device import COLUMN, DELAYS, PARAMETERS
from nir_dynapse.errors import ConfigurationError, Finding
from nir_dynapse.files.whole import write_atomically
from nir_dynapse.layout.layout import (
    CAM_DTYPE,
    MONITOR_HOP,
    SRAM_DTYPE,
    Layout,
    cam_from_words,
    cam_words,
    monitor_rows,
    sram_from_words,
    sram_words,
)
from nir_dynapse.quant.compiler import to_network
from places import GOLDEN

quick = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
seeds = st.integers(0, 2**32 - 1)


@quick
@given(seeds, st.integers(1, 8), st.integers(0, 60))
def test_json_is_the_identity(random_layout, seed, n_chips, n_neurons):
    layout = random_layout(seed, n_chips, n_neurons)
    data = layout.to_dict()
    again = Layout.from_dict(json.loads(json.dumps(data)))
    assert again == layout
    assert hash(again) == hash(layout)
    assert again.to_dict() == data
    for name in ("cam", "sram", "chip", "core", "slot", "latches", "used_cores", "input_rows", "membranes"):
        np.testing.assert_array_equal(getattr(again, name), getattr(layout, name))
    np.testing.assert_array_equal(again.codes[again.used_cores], layout.codes[layout.used_cores])


@pytest.mark.parametrize(("n_chips", "n_neurons"), [(1, 0), (1, 1), (1, 256), (1, 1024), (2, 2048)])
def test_files_are_the_identity(random_layout, tmp_path, n_chips, n_neurons):
    layout = random_layout(7, n_chips, n_neurons)
    layout.save(tmp_path / "layout.json")
    assert Layout.load(tmp_path / "layout.json") == layout
    assert [p.name for p in tmp_path.iterdir()] == ["layout.json"]


def test_equality_sees_every_bit(random_layout):
    layout = random_layout(1)
    for key, name in (("cam", "tag"), ("cam", "mask"), ("cam", "flags"), ("sram", "tag"), ("sram", "cores")):
        changed = np.array(getattr(layout, key))
        row = tuple(np.argwhere(changed[name] > 0)[0])
        changed[name][row] ^= 1
        assert Layout(**{**vars_of(layout), key: changed}) != layout
    assert layout != "layout"


def vars_of(layout: Layout) -> dict:
    return {name: getattr(layout, name) for name in Layout.__dataclass_fields__}


@quick
@given(st.lists(st.tuples(st.integers(0, 2047), st.integers(-1, 3), st.integers(0, 15), st.integers(0, 7)), min_size=1))
def test_cam_words_are_the_identity(rows):
    cam = np.array(rows, CAM_DTYPE)
    words = cam_words(cam)
    assert words.max() < 1 << 22
    np.testing.assert_array_equal(cam_from_words(words), cam)


@quick
@given(st.lists(st.tuples(st.integers(0, 2047), st.integers(0, 15), *[st.integers(-7, 7)] * 2), min_size=1))
def test_sram_words_are_the_identity(rows):
    sram = np.array(rows, SRAM_DTYPE)
    words = sram_words(sram)
    assert words.max() < 1 << 23
    np.testing.assert_array_equal(sram_from_words(words), sram)


def test_two_dendrites_in_a_word_are_refused():
    with pytest.raises(ConfigurationError, match="0011 as dendrite bits"):
        cam_from_words(np.array([0b0011 << 11], np.uint32))


def test_maps(random_layout):
    layout = random_layout(3, 2, 100)
    assert len(layout.neuron_map) == 100
    for n, (name, place) in enumerate(layout.neuron_map.items()):
        assert name == layout.names[n]
        assert place == (layout.chip[n], layout.core[n], layout.slot[n])
    assert sum(map(len, layout.input_map.values())) == len(layout.input_rows)
    leave = layout.sram["cores"] > 0
    leave &= layout.chip[:, None].astype(int) + layout.sram["x_hop"] < 0
    ours = layout.sram["x_hop"] == MONITOR_HOP
    assert int((leave & ours).sum()) == int(ours.sum()) == 50
    assert set(layout.output_map) == {
        (int(layout.chip[n]), int(layout.sram["tag"][n, row])) for n, row in np.argwhere(leave)
    }
    for n in np.flatnonzero(ours.any(axis=1)).tolist():
        tag = int(layout.sram["tag"][n][ours[n]][0])
        assert layout.output_map[int(layout.chip[n]), tag] == layout.names[n]


@pytest.mark.parametrize(
    ("chip", "x_hop", "y_hop", "leaves"),
    [(0, -7, 0, True), (0, -1, 0, True), (1, -1, 0, False), (1, -2, -7, True), (6, -7, 3, True), (7, -7, 0, False)],
)
def test_monitoring_rows_leave_to_the_west(chip, x_hop, y_hop, leaves):
    sram = np.zeros((1, 4), SRAM_DTYPE)
    sram[0, 2] = (5, 0b0010, x_hop, y_hop)
    sram[0, 3] = (5, 0, x_hop, y_hop)  # no core bit: nothing is sent
    assert monitor_rows(sram, np.array([chip], "u1")).tolist() == [[False, False, leaves, False]]


def test_membranes(random_layout):
    layout = random_layout(3)
    assert (replace(layout, membranes=None).membranes == -1).all()
    none = replace(layout, membranes=np.full(4, -1))
    assert "membranes" not in none.to_dict()
    data = layout.to_dict()
    assert set(data["membranes"]) == {str(i) for i in np.flatnonzero(layout.membranes >= 0)} != set()
    assert none != layout == Layout.from_dict(json.loads(json.dumps(data)))
    for wrong in ({"4": 0}, {"-1": 0}, {"0": 256}, {"0": -1}, {"x": 0}, {"0": "x"}, {"0": None}, [[0, 1]], None):
        with pytest.raises(ConfigurationError):
            Layout.from_dict({**data, "membranes": wrong})


def _paths(value, path=()):
    """Every place in nested JSON values."""
    yield path
    if isinstance(value, dict):
        for key, child in value.items():
            yield from _paths(child, (*path, key))
    elif isinstance(value, list):
        for index, child in enumerate(value):
            yield from _paths(child, (*path, index))


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([2048, 256, 255, 16, 8, 7, -1, -7, -8, 2**31, 2**63, 2**64])
    | st.floats()
    | st.text(max_size=5),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=5), children, max_size=4),
    max_leaves=6,
)


@pytest.mark.long
@settings(quick, max_examples=300)
@given(st.data())
def test_damaged_values_are_configuration_errors(random_layout, data):
    content = json.loads(json.dumps(random_layout(5, 1, 8).to_dict()))
    path = data.draw(st.sampled_from(sorted(filter(None, _paths(content)), key=str)))
    parent = content
    for key in path[:-1]:
        parent = parent[key]
    if data.draw(st.booleans()):
        parent[path[-1]] = data.draw(json_values)
    else:
        del parent[path[-1]]
    _refuses_or_usable(lambda: Layout.from_dict(content))


@settings(quick, max_examples=100)
@given(st.binary(max_size=8), st.floats(0, 1), st.integers(0, 8))
def test_damaged_bytes_are_configuration_errors(random_layout, tmp_path, patch, where, cut):
    text = json.dumps(random_layout(5, 1, 3).to_dict()).encode()
    at = int(where * len(text))
    path = tmp_path / "layout.json"
    path.write_bytes(text[:at] + patch + text[at + cut :])
    _refuses_or_usable(lambda: Layout.load(path))


def _refuses_or_usable(read):
    """A mutation is a ConfigurationError, or still a Layout, which can be written and read again."""
    try:
        layout = read()
    except ConfigurationError:
        return
    data = json.loads(json.dumps(layout.to_dict()))
    assert json.dumps(Layout.from_dict(data).to_dict()) == json.dumps(data)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a JSON file"),
        (b"{", "not a JSON file"),
        (b"\xff\xfe", "not a JSON file"),
        (b"[" * 200000, "not a JSON file"),
        (b"[]", "this is not a Layout"),
        (b'{"format":"nir_dynapse.layout","version":99}', "version 99"),
        (b'{"format":"nir_dynapse.layout","version":1}', "damaged"),
    ],
)
def test_other_files_are_refused(tmp_path, content, message):
    path = tmp_path / "layout.json"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=message):
        Layout.load(path)


def test_missing_files_are_refused(tmp_path):
    for path in (tmp_path / "no.json", tmp_path, "a\0b"):
        with pytest.raises(ConfigurationError):
            Layout.load(path)


@pytest.mark.parametrize("key", ["-1", "4", "x"])
def test_cores_outside_the_chips_are_refused(random_layout, key):
    data = random_layout(2).to_dict()
    data["cores"][key] = next(iter(data["cores"].values()))
    with pytest.raises(ConfigurationError):
        Layout.from_dict(data)


def test_two_neurons_in_one_place_are_refused(random_layout):
    data = random_layout(2).to_dict()
    data["neurons"][3][:3] = data["neurons"][4][:3]
    with pytest.raises(ConfigurationError, match="share one place"):
        Layout.from_dict(data)


def test_saving_is_atomic(random_layout, tmp_path, monkeypatch):
    layout, path = random_layout(2), tmp_path / "layout.json"
    layout.save(path)
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(ConfigurationError, match="No space left"):
        random_layout(3).save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["layout.json"]
    with pytest.raises(ConfigurationError, match="cannot be written"):
        write_atomically(Path(tmp_path / "no" / "x"), b"")


def test_findings_and_origin_travel(random_layout):
    layout = random_layout(4)
    again = Layout.from_dict(json.loads(json.dumps(layout.to_dict())))
    assert again.findings == layout.findings
    assert isinstance(again.findings[0], Finding)
    assert again.origin == layout.origin


def test_files_of_older_versions_are_read(networks) -> None:
    """`golden/layout_v*.json` hold one network as each version wrote it; version 1 is version 2 without a readout."""
    path = GOLDEN / "layout_v2.json"
    layout, third, fourth, fifth = (Layout.load(GOLDEN / f"layout_v{v}.json") for v in (2, 3, 4, 5))
    for name in DELAYS:
        assert layout.codes[0, COLUMN[name]].tolist() == list(biasgen.off_codes(name))
        assert biasgen.current(name, *layout.codes[0, COLUMN[name]]) == pytest.approx(PARAMETERS[name].off, rel=0.02)
    for name in ("cam", "sram", "codes", "used_cores", "input_rows"):
        assert (getattr(layout, name) == getattr(third, name)).all(), name
    # Weights are rounded better since version 4: other bits, the same network.
    assert third.weight_errors == {}
    assert fourth.weight_errors["cores"]["0.0"]["weights"] == 6
    assert fourth.membranes.tolist() == [-1] * 4
    assert fifth.membranes.tolist() == [fifth.slot[1], -1, -1, -1]
    assert replace(fifth, membranes=None) == fourth
    weights = np.array([[0.5, -0.3, 0.2], [0.1, 0.4, -0.6]])
    for old, precise in ((layout, 0.02), (third, 0.02), (fourth, 0.006)):
        (projection,) = to_network(old).projections
        decoded = projection.dense(3, 2)  # each neuron in units of its own synaptic time constant
        np.testing.assert_allclose(decoded / decoded[:, :1], weights / weights[:, :1], rtol=precise)
    content = json.loads(path.read_text())
    assert content["version"] == 2
    assert Layout.from_dict({**content, "version": 1}) == layout
    assert layout.to_dict()["version"] == 5
    assert Layout.from_dict(layout.to_dict()) == layout


def test_the_newest_version_needs_its_delays(random_layout) -> None:
    data = random_layout(2).to_dict()
    del next(iter(data["cores"].values()))["i_delay_precise"]
    with pytest.raises(ConfigurationError, match="i_delay_precise"):
        Layout.from_dict(data)
