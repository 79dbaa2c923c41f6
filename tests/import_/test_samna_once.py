"""Rows are decoded once each: by object, by content and by text, with the same result and the same errors as one by one."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nir_dynapse as nd
from nir_dynapse.errors import ConfigurationError
from nir_dynapse.export.samna_config import write_config_json
from nir_dynapse.import_ import json_stream, samna_rows
from nir_dynapse.layout.layout import CAM_DTYPE, SRAM_DTYPE, Layout
from random_networks import build


@pytest.fixture(scope="module")
def layout() -> Layout:
    """A few neurons with every kind of row, and one without any."""
    made = nd.compile(build("recurrent", 1, 30))
    rng = np.random.default_rng(1)
    cam, sram = np.zeros(made.cam.shape, CAM_DTYPE), np.zeros(made.sram.shape, SRAM_DTYPE)
    for name, (low, high) in {"tag": (0, 2048), "dendrite": (-1, 4), "mask": (0, 16), "flags": (0, 8)}.items():
        cam[name] = rng.integers(low, high, cam.shape)
    for name, (low, high) in {"tag": (0, 2048), "cores": (0, 16), "x_hop": (-7, 8), "y_hop": (-7, 8)}.items():
        sram[name] = rng.integers(low, high, sram.shape)
    cam[3], sram[3] = (0, -1, 0, 0), np.zeros((), SRAM_DTYPE)
    return replace(made, cam=cam, sram=sram, latches=rng.integers(0, 16, made.n_neurons))


@pytest.fixture
def text(layout: Layout, tmp_path: Path) -> str:
    write_config_json(layout, tmp_path / "c.json")
    return (tmp_path / "c.json").read_text()


def read(tmp_path: Path, text: str, **options: Any) -> Layout:
    path = tmp_path / "given.json"
    path.write_text(text)
    return nd.from_samna(path, **options)


def slowly(tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch, **options: Any) -> Layout | str:
    """The same text read value by value."""
    with monkeypatch.context() as patched:
        patched.setattr(json_stream.JsonStream, "passage", lambda self, *_: "")
        try:
            return read(tmp_path, text, **options)
        except ConfigurationError as error:
            return str(error)


def test_our_text_takes_the_short_way(layout: Layout, text: str, tmp_path: Path, monkeypatch: Any) -> None:
    taken = []
    original = samna_rows.Bits.put_text

    def put_text(self: Any, place: Any, of_neuron: str) -> bool:
        taken.append(original(self, place, of_neuron))
        return taken[-1]

    monkeypatch.setattr(samna_rows.Bits, "put_text", put_text)
    assert read(tmp_path, text, names=layout) == layout
    assert taken == [True] * 1024
    with gzip.open(tmp_path / "c.json.gz", "wt") as file:
        file.write(text)
    assert nd.from_samna(tmp_path / "c.json.gz", names=layout) == layout
    assert slowly(tmp_path, text, monkeypatch, names=layout) == layout


def test_other_spellings_of_the_same(layout: Layout, text: str, tmp_path: Path) -> None:
    data = json.loads(text)
    for spelling in (
        json.dumps(data),
        json.dumps(data, indent=1),
        json.dumps(data, separators=(",", ":"), sort_keys=True),
        text.replace('{"tag":', '{ "tag":'),
        text.replace('"stp":', '"more":{"tag":7},"stp":'),
        text.replace('"latchDeMux":false', '"latchDeMux":false,"latchNew":true'),
    ):
        assert read(tmp_path, spelling, names=layout) == layout


TAG = '{"tag":'


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (f"{TAG}", f"{TAG}2048"),
        (f"{TAG}", f"{TAG}-"),
        (f"{TAG}", f"{TAG}0"),
        (f"{TAG}", f'{TAG}true,"was":'),
        (f"{TAG}", f'{TAG}1.0,"was":'),
        (f"{TAG}", f'{TAG}null,"was":'),
        ('"dendrite":', '"dendrite":7'),
        ('"dendrite":', '"dendrites":'),
        ('"weight":{"value0":', '"weight":{"value0":1,"value4":'),
        ('"stp":', '"stp":2,"x":'),
        ('"stp":', '"tag":3,"stp":'),
        ('"stp":', '"\\u0074ag":3,"stp":'),
        ('"xHop":', '"tag":5,"xHop":'),
        ('"latchDeMux":false', '"latchDeMux":false,"destinations":{}'),
        ('"value7":{"tag"', '"value8":{"tag"'),
        ('},"value9":{"tag"', '},"value9":{"tags"'),
        ('"xHop":', '"xHop":1'),
        ('"synapses":', '"synapses":{},"synapses":'),
        ('"destinations":', '"destination":'),
        ('"latchSoDc":', '"latchSoDc":3,"x":'),
        ('"latchDeMux":false', '"latchDeMux":false,"synapses":{}'),
        ('"latchDeMux":false}', '"latchDeMux":false}]'),
        ('"latchDeMux":false', '"latchDeMux":true'),
    ],
)
def test_whatever_is_wrong_is_told_in_the_same_words(
    old: str, new: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the first neuron, and in a later one whose rows were seen before."""
    assert old in text
    for at in (text.index(old), text.index(old, len(text) // 2)):
        wrong = text[:at] + text[at:].replace(old, new, 1)
        expected = slowly(tmp_path, wrong, monkeypatch, names=False)
        try:
            found = read(tmp_path, wrong, names=False)
        except ConfigurationError as error:
            found = str(error)
        assert found == expected
        assert isinstance(found, Layout) == isinstance(expected, Layout)


def test_true_is_no_tag_though_it_equals_one(layout: Layout) -> None:
    config = nd.to_samna(layout)
    place = layout.chip[0], layout.core[0], layout.slot[0]
    rows = config.chips[place[0]].cores[place[1]].neurons[place[2]].synapses
    for tag, words in ((True, "True"), (1.0, "1.0"), (np.float64(1), "1.0")):
        one, other = type(rows[0])(tag=1), type(rows[0])(tag=tag)  # pyright: ignore[reportCallIssue]
        rows[:2] = [one, other]
        with pytest.raises(ConfigurationError, match=rf"the tag of a CAM row is (np.float64\()?{words}"):
            nd.from_samna(config)
    rows[1] = type(rows[0])(tag=np.int64(1))  # pyright: ignore[reportCallIssue]
    assert nd.from_samna(config, names=False).cam["tag"][0, 1] == 1


def test_objects_that_stand_in_many_neurons(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is forgotten meanwhile."""
    from nir_dynapse.import_ import rows_once

    config = nd.to_samna(layout)
    assert nd.from_samna(config) == layout
    monkeypatch.setattr(rows_once, "MOST_KEPT", 3)
    assert nd.from_samna(config) == layout
