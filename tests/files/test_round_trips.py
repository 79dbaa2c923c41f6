"""Anything sound comes back from its file as it was: Data, Events, Layouts, Params, profiles."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

import fuzz_seeds
import nir_dynapse as nd
from nir_dynapse.chip.profile import ChipProfile
from nir_dynapse.data.counts import LARGEST, LONGEST_TIME
from nir_dynapse.data.data import Data, Events
from nir_dynapse.errors import Finding
from nir_dynapse.layout.layout import Layout
from random_layouts import random_layout

quick = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
names = st.text(st.characters(codec="utf-8"), max_size=20)
seconds = st.floats(1e-9, 1e3)


@quick
@given(data=st.data())
def test_data(tmp_path: Path, data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from([np.uint8, np.int64, np.float32, np.bool_, np.uint16]))
    most = {np.uint8: 255, np.uint16: 65535, np.int64: LARGEST, np.float32: float(LARGEST)}
    x = data.draw(
        arrays(
            dtype,
            array_shapes(min_dims=3, max_dims=3, min_side=0, max_side=5),
            elements=None if dtype is np.bool_ else {"min_value": 0, "max_value": most[dtype]},
        )
    )
    if np.issubdtype(dtype, np.floating):
        x = np.where(np.isfinite(x), x, 0).astype(dtype)
    classes = arrays(np.int64, len(x))
    paths = arrays(np.float64, (len(x), 2, 3), elements=st.floats(-1e9, 1e9))
    first = Data(x, data.draw(st.one_of(classes, paths)), data.draw(seconds))
    first.save(tmp_path / "d.npz")
    again = Data.load(tmp_path / "d.npz")
    assert again.dt == first.dt
    for a, b in ((again.x, first.x), (again.y, first.y)):
        assert a.dtype == b.dtype
        assert np.array_equal(a, b)


@quick
@given(data=st.data())
def test_events(tmp_path: Path, data: st.DataObject) -> None:
    nodes = tuple(data.draw(st.lists(names.filter(lambda n: not n.endswith("\0")), max_size=4, unique=True)))
    count = data.draw(st.integers(0, 30)) if nodes else 0
    time = arrays(np.int64, count, elements=st.integers(-LONGEST_TIME, LONGEST_TIME))
    index = arrays(np.int64, count, elements=st.integers(0, 2**31))
    node = arrays(np.int64, count, elements=st.integers(0, max(len(nodes) - 1, 0)))
    first = Events(data.draw(time), data.draw(node), data.draw(index), nodes)
    first.save(tmp_path / "e.npz")
    again = Events.load(tmp_path / "e.npz")
    assert again.nodes == nodes
    assert all(np.array_equal(getattr(again, name), getattr(first, name)) for name in ("time", "node", "index"))


finding = st.builds(
    Finding,
    st.sampled_from(["info", "warning", "error"]),
    names,
    names,
    st.none() | names,
    st.none() | st.integers(0, 9999),
    st.none() | names | st.floats() | st.integers(-(2**60), 2**60),
    st.none() | names | st.floats(),
    names,
    names,
)


@quick
@given(st.integers(0, 2**32), st.integers(1, 8), st.integers(0, 40), st.lists(finding, max_size=3), seconds)
def test_layouts(tmp_path: Path, seed: int, chips: int, neurons: int, findings: list[Finding], dt: float) -> None:
    first = replace(random_layout(seed, chips, neurons), findings=tuple(findings), dt=dt)
    first.save(tmp_path / "l.json")
    again = Layout.load(tmp_path / "l.json")
    assert again == first
    assert hash(again) == hash(first)


def test_layouts_with_nan_in_a_finding(tmp_path: Path) -> None:
    nan = Finding("info", "fit", "nothing to divide by", used=float("nan"), limit=float("nan"))
    first = replace(random_layout(0, 1, 3), findings=(nan,))
    first.save(tmp_path / "l.json")
    again = Layout.load(tmp_path / "l.json")
    assert again == first
    assert hash(again) == hash(first)
    assert again != replace(first, findings=(replace(nan, limit=1.0),))


@pytest.mark.long
@quick
@given(st.sampled_from(sorted(fuzz_seeds.params())), st.floats(0.1, 10), st.lists(finding, max_size=2), st.booleans())
def test_params(tmp_path: Path, which: str, factor: float, findings: list[Finding], single: bool) -> None:
    dtype = np.float32 if single else np.float64
    made = fuzz_seeds.params()[which]
    bias = {name: (np.asarray(value) * factor).astype(dtype) for name, value in made.bias.items()}
    first = replace(made, bias=bias, findings=tuple(findings))
    nd.save_params(first, tmp_path / "p.npz")
    again = nd.load_params(tmp_path / "p.npz")
    assert repr(again.findings) == repr(first.findings)  # a NaN in one equals none
    assert again.topology == first.topology
    assert all(np.array_equal(again.bias[name], value) for name, value in bias.items())


@pytest.mark.long
@settings(quick, max_examples=8)
@given(data=st.data())
def test_profiles(tmp_path: Path, data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    flags = [rng.random(shape) < data.draw(st.floats(0, 1)) for shape in ((4, 256), (4, 256, 64, 2), (4, 2048))]
    pairs = np.stack([rng.integers(0, n, 20) for n in (4, 256, 64, 2048)], 1)
    ratios = {"i_tau_mem": np.exp(rng.normal(0, 0.3, 4))}, {"i_gain_mem": np.exp(rng.normal(0, 0.3, (4, 256)))}
    measured = data.draw(st.dictionaries(names, st.none() | names | st.integers(-(2**62), 2**62) | st.lists(names)))
    name = "".join(c for c in data.draw(names) if c.isprintable()) or "x"
    neurons, rows, tags = flags
    first = ChipProfile(name, neurons, rows, tags, pairs, *ratios, measured)
    for suffix in (".json", ".json.gz"):
        first.save(tmp_path / f"chip{suffix}")
        again = ChipProfile.load(tmp_path / f"chip{suffix}")
        assert again == first
        assert (again.name, again.measured) == (first.name, first.measured)
