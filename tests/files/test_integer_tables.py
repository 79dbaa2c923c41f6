"""Tables of integers in JSON texts: written and read as `json` does, and everything else left to it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from nir_dynapse.files.bounds import UnreadableError, parse_json
from nir_dynapse.files.integer_tables import LEAST, json_text, parse_tables

RNG = np.random.default_rng(0)
TABLES = {
    "small": RNG.integers(0, 9, (3, 2)),
    "signed": RNG.integers(-1500, 1500, (4000, 6)),
    "one column": RNG.integers(0, 2048, (9000, 1)),
    "bytes": RNG.integers(0, 256, (5000, 5)).astype(np.uint8),
    "wide": RNG.integers(-(10**8), 10**8, (3000, 3)),
    "long": RNG.integers(-(2**60), 2**60, (3000, 3)),
    "nothing": np.zeros((0, 4), np.int64),
    "no columns": np.zeros((4, 0), np.int64),
}


def plain(data: object) -> str:
    return json.dumps(data, separators=(",", ":"), sort_keys=True)


@pytest.mark.parametrize("name", TABLES)
def test_written_and_read_like_lists(name: str) -> None:
    array = TABLES[name]
    text = json_text({"b": array, "a": "\0x\"'", "c": [1.5, None, {"table": array}]})
    assert text.decode() == plain({"b": array.tolist(), "a": "\0x\"'", "c": [1.5, None, {"table": array.tolist()}]})
    text = json_text({"t": array, "rest": ["]]", 1]}).decode()
    read = parse_tables(text, ("t",))
    assert isinstance(read["t"], np.ndarray) == (len(plain(array.tolist())) > LEAST and name != "long")
    assert np.array_equal(np.array(read["t"]).reshape(array.shape), array)
    assert read["rest"] == ["]]", 1]


TABLE = plain(TABLES["signed"].tolist())
ODD = {
    "deeper": f'{{"a":{{"t":{TABLE}}}}}',
    "in a list": f'[{{"t":{TABLE}}}]',
    "another name": f'{{"u":{TABLE}}}',
    "twice": f'{{"t":{TABLE},"t":{TABLE[:-8]}]]}}',
    "in a string": json.dumps({"a": f'"t":{TABLE}"', "t": 1}),
    "a row too long": f'{{"t":{TABLE[:-2]},7]]}}',
    "a row too short": f'{{"t":{TABLE[:-2]}],[1]]}}',
    "rows of rows": f'{{"t":[{TABLE}]}}',
    "a fraction": f'{{"t":{TABLE[:-2]}.5]]}}',
    "blanks": f'{{"t":{TABLE.replace(",", ", ")}}}',
    "minus nothing": f'{{"t":{TABLE[:-2]}],[-0,0,0,0,0,0]]}}',
}


@pytest.mark.parametrize("name", ODD)
def test_anything_else_is_what_json_makes_of_it(name: str) -> None:
    found = parse_tables(ODD[name], ("t",))
    found = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in found.items()} if name[:2] != "in" else found
    assert found == parse_json(ODD[name])


@pytest.mark.parametrize("end", ["01", "--1", "1-", "", "-", "1,", "1]", "é"])
def test_what_is_no_json_is_refused(end: str) -> None:
    with pytest.raises(UnreadableError):
        parse_tables(f'{{"t":{TABLE[:-2]}],[0,0,0,0,0,{end}]]}}', ("t",))


def test_other_things_are_refused() -> None:
    for thing in (np.zeros((2, 2)), np.zeros(3, int), object()):
        with pytest.raises(TypeError):
            json_text({"t": thing})
