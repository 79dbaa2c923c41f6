"""Rasters: every spike is drawn where it was, in well-formed SVG."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import numpy as np
import pytest

import nir_dynapse as nd
from nir_dynapse.reporting.rasters import MOST_MARKS, raster_svg

SVG = "{http://www.w3.org/2000/svg}"


def paths(svg: str) -> list[tuple[float, float]]:
    return [
        tuple(float(v) for v in p.attrib["d"].split("v")[0][1:].split())  # type: ignore[misc]
        for p in ET.fromstring(svg).iter(f"{SVG}path")
    ]


def test_a_mark_for_every_spike() -> None:
    counts = np.zeros((100, 3), int)
    counts[10, 0], counts[60, 2] = 1, 3
    svg = raster_svg({"a <b> & c": counts, "quiet": np.zeros((100, 1))}, dt=1e-3, title="Two spikes")
    (x0, y0), (x1, y1) = paths(svg)
    assert x1 - x0 == pytest.approx((800 - 84 - 68) * 0.5, abs=1)  # 50 of 100 ms
    assert y1 < y0  # neuron 0 is below
    words = " ".join(t.text or "" for t in ET.fromstring(svg).iter(f"{SVG}text"))
    assert "a <b> & c: 3 neurons, 4 spikes" in words
    assert "no spikes" in words
    assert "time in ms" in words


def test_very_many_spikes_share_marks() -> None:
    counts = np.ones((2000, 200), np.uint8)
    assert 0 < len(paths(raster_svg({"all": counts}, dt=1e-3, title="many"))) <= MOST_MARKS


@pytest.mark.parametrize(
    ("rasters", "dt"), [({}, 1e-3), ({"a": np.zeros(4)}, 1e-3), ({"a": np.zeros((2, 2))}, 0.0)], ids=str
)
def test_refusals(rasters: dict[str, np.ndarray], dt: float) -> None:
    with pytest.raises(nd.ParameterRangeError, match="plots: "):
        raster_svg(rasters, dt=dt, title="x")


def test_nothing_at_all_is_still_a_picture() -> None:
    assert "0 neurons" in raster_svg({"none": np.zeros((0, 0))}, dt=1e-3, title="empty")
