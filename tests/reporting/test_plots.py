"""SVG pictures: well-formed, complete, within their frame; histograms as text: the numbers add up."""

from __future__ import annotations

import re
from collections.abc import Mapping
from xml.etree import ElementTree

import numpy as np
import pytest

from nir_dynapse.errors import ParameterRangeError
from nir_dynapse.reporting.plots import Panel, distribution_svg, distribution_text, lines_svg
from nir_dynapse.reporting.svg import clean, cut, multiples, number, round_step

SVG = "{http://www.w3.org/2000/svg}"
RNG = np.random.default_rng(0)
BEFORE = np.clip(RNG.normal(0.62, 0.11, 100).round(3), 0, 1)
AFTER = RNG.beta(40, 4, 100).round(3)

SERIES: dict[str, dict[str, np.ndarray]] = {
    "two": {"before": BEFORE, "after": AFTER},
    "one chip": {"a": np.array([0.973])},
    "all alike": {"a": np.ones(100), "b": np.zeros(3)},
    "best": {"a": np.ones(40)},
    "worst": {"a": np.zeros(40)},
    "close": {"a": 0.9 + 1e-4 * RNG.random(50)},
    "many chips": {"a": RNG.random(20_000)},
    "many series": {f"series {k} <&> " + "W" * 80: RNG.random(9) for k in range(9)},
    "odd names": {"a\x00\n\ud800": AFTER, "]]>&amp;": BEFORE, "": AFTER},
}


def parsed(text: str) -> ElementTree.Element:
    root = ElementTree.fromstring(text)
    assert root.tag == f"{SVG}svg"
    return root


def letters(root: ElementTree.Element) -> list[str]:
    """All texts, those shown on hovering too."""
    return ["".join(node.itertext()) for node in root.iter() if node.tag in (f"{SVG}text", f"{SVG}title")]


def check_within(root: ElementTree.Element) -> None:
    """Every mark lies in the view box, and so does every text at 0.6 of its size per letter."""
    left, top, width, height = map(float, root.attrib["viewBox"].split())
    assert (left, top) == (0, 0)
    assert (float(root.attrib["width"]), float(root.attrib["height"])) == (width, height)

    def inside(x: float, y: float) -> None:
        assert 0 <= x <= width, x
        assert 0 <= y <= height, y

    for node in root.iter():
        a = {key: float(v) for key, v in node.attrib.items() if re.fullmatch(r"-?[\d.]+", v)}
        if node.tag == f"{SVG}circle":
            inside(a["cx"] - a["r"], a["cy"] - a["r"])
            inside(a["cx"] + a["r"], a["cy"] + a["r"])
        elif node.tag == f"{SVG}line":
            inside(a["x1"], a["y1"])
            inside(a["x2"], a["y2"])
        elif node.tag == f"{SVG}rect":
            inside(a.get("x", 0) + a["width"], a.get("y", 0) + a["height"])
        elif node.tag == f"{SVG}polyline":
            for point in node.attrib["points"].split():
                inside(*map(float, point.split(",")))
        elif node.tag == f"{SVG}text":
            tips = "".join(child.text or "" for child in node)
            wide = 0.6 * a["font-size"] * len("".join(node.itertext()).removeprefix(tips))
            shift = {"start": 0.0, "middle": wide / 2, "end": wide}[node.attrib["text-anchor"]]
            if "transform" in node.attrib:
                inside(a["x"] - a["font-size"], a["y"] - wide + shift)
                inside(a["x"], a["y"] + shift)
            else:
                inside(a["x"] - shift, a["y"] - a["font-size"])
                inside(a["x"] - shift + wide, a["y"])


@pytest.mark.parametrize("series", SERIES.values(), ids=SERIES)
def test_distributions_are_complete(series: Mapping[str, np.ndarray]) -> None:
    root = parsed(distribution_svg(series, title="Digits <before> & after", unit="accuracy on a chip"))
    check_within(root)
    words = letters(root)
    assert {"Digits <before> & after", "accuracy on a chip"} <= set(words)
    for name, values in series.items():
        assert any(clean(name) in text for text in words)
        low5, low, median, high = (100 * np.quantile(values, q) for q in (0.05, 0.25, 0.5, 0.75))
        parts = (
            f"median {median:.1f} % · quartiles {low:.1f} to {high:.1f} % · 5 % quantile {low5:.1f} %",
            f"minimum {100 * values.min():.1f} % · {len(values)} chip",
        )
        assert any(all(part in text for part in parts) for text in words)
    dots = [len(group) for group in root.iter(f"{SVG}g")]
    assert dots == [min(len(values), 2000) for values in series.values()]
    assert len(list(root.iter(f"{SVG}polyline"))) == len(series)


def test_background_is_white_and_nothing_is_loaded() -> None:
    text = distribution_svg(SERIES["two"], title="t")
    ground = next(node for node in parsed(text) if node.tag == f"{SVG}rect")
    assert ground.attrib["fill"] == "#ffffff"
    assert not re.search(r"href|script|url\(|@import", text)
    assert text == distribution_svg(SERIES["two"], title="t"), "the same picture every time"


def test_cumulative_curves_go_from_0_to_all() -> None:
    root = parsed(distribution_svg({"a": np.array([0.5, 0.5, 0.6, 0.9])}, title="t"))
    (line,) = root.iter(f"{SVG}polyline")
    points = [tuple(map(float, p.split(","))) for p in line.attrib["points"].split()]
    x, y = np.array(points).T
    assert (np.diff(x) >= 0).all()
    assert (np.diff(y) <= 0).all()
    shares = sorted({round((y[0] - v) / (y[0] - y[-1]), 2) for v in y})
    assert shares == [0.0, 0.5, 0.75, 1.0]


@pytest.mark.parametrize("series", SERIES.values(), ids=SERIES)
def test_histograms_add_up(series: Mapping[str, np.ndarray]) -> None:
    text = distribution_text(series)
    assert max(map(len, text.splitlines())) <= 100
    assert all(line == line.rstrip() for line in text.splitlines())
    chips: list[int] = []
    for block in text.split("\n\n"):
        rows = [line for line in block.splitlines() if re.match(r" *[\d.]+ to ", line)]
        assert 5 <= len(rows) <= 14
        bars = [re.findall(r"(\d+)(?:  (▇+))?(?= |$)", row.split("%")[1]) for row in rows]
        assert all((int(count) > 0) == bool(bar) for row in bars for count, bar in row)
        chips += np.sum([[int(count) for count, _ in row] for row in bars], 0).tolist()
        assert [line.split("  ")[-1] for line in block.splitlines() if "minimum" in line]
    assert chips == [len(values) for values in series.values()]


def test_histogram_as_it_is() -> None:
    before, after = np.array([0.57, 0.6, 0.61, 0.7]), np.array([0.7, 0.71, 0.715, 0.9])
    assert distribution_text({"before": before, "after": after}).splitlines() == [
        "      accuracy   chips  before        chips  after",
        "    85 to 90 %       0                    1  ▇▇▇▇▇▇",
        "    80 to 85 %       0                    0",
        "    75 to 80 %       0                    0",
        "    70 to 75 %       1  ▇▇▇▇▇▇            3  ▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇",
        "    65 to 70 %       0                    0",
        "    60 to 65 %       2  ▇▇▇▇▇▇▇▇▇▇▇       0",
        "    55 to 60 %       1  ▇▇▇▇▇▇            0",
        "        median  60.5 %               71.2 %",
        "  5 % quantile  57.5 %               70.2 %",
        "       minimum  57.0 %               70.0 %",
    ]


@pytest.mark.parametrize(
    ("series", "words"),
    [
        ({}, "no series"),
        ({"a": []}, "'a' is empty"),
        ({"a": [0.5], "b": [0.5, 71.0]}, "'b' holds 71"),
        ({"a": [np.nan]}, "'a' holds nan"),
        ({"a": [-0.1]}, "'a' holds -0.1"),
    ],
)
def test_what_is_no_accuracy(series: dict[str, np.ndarray], words: str) -> None:
    for call in (distribution_text, lambda s: distribution_svg(s, title="t")):
        with pytest.raises(ParameterRangeError, match=words):
            call(series)


# --- curves -------------------------------------------------------------------------------------------------------------

STEPS = np.arange(600)
FALLING = np.exp(-STEPS / 100)
CURVES = {
    "log": Panel("loss", {"loss": (STEPS, FALLING)}, log=True),
    "log over many decades": Panel("loss", {"loss": (STEPS, np.exp(-STEPS / 10.0))}, log=True),
    "log of one value": Panel("loss", {"loss": (STEPS, np.full(600, 0.37))}, log=True),
    "log with zero": Panel("loss", {"loss": (STEPS, FALLING - FALLING[-1])}, log=True),
    "negative": Panel("score", {"a": (STEPS, -1e6 * FALLING), "b": (STEPS[::60], -1e6 * FALLING[::60])}),
    "share": Panel("accuracy", {"a": (STEPS, 1 - FALLING), "b": (STEPS, np.full(600, np.nan))}, percent=True),
    "constant": Panel("x", {"a": (STEPS, np.zeros(600))}),
    "tiny": Panel("x", {"a": (STEPS, 1e-9 * FALLING + 1e-12)}),
    "huge": Panel("x", {"a": (1e9 * STEPS, 1e30 * FALLING)}),
    "one point": Panel("x", {"a": ([5], [0.2])}),
    "nothing": Panel("a label that is longer than a panel is high", {"a": ([], [])}, percent=True),
    "no series": Panel("x", {}),
    "infinite": Panel("x", {"a": ([1, 2, 3], [np.inf, 1.0, np.nan])}, log=True),
    "long": Panel("x", {"a": (np.arange(50_000), RNG.random(50_000))}, percent=True),
}


@pytest.mark.parametrize("panel", CURVES.values(), ids=CURVES)
def test_curves_are_complete(panel: Panel) -> None:
    root = parsed(lines_svg([CURVES["log"], panel], title="Training", x_label="step"))
    check_within(root)
    words = letters(root)
    assert {"Training", "step", panel.label, *panel.series} <= set(words)
    assert len(list(root.iter(f"{SVG}polyline"))) == 1 + len(panel.series)
    numbers = [text for text in words if re.fullmatch(r"-?[\d.e+-]+( %)?", text)]
    assert 6 <= len(numbers) <= 34, "ticks on both axes, not too many"


def test_ticks_do_not_overlap() -> None:
    for panel in CURVES.values():
        root = parsed(lines_svg([panel], title="t", x_label="x"))
        labels = [n for n in root.iter(f"{SVG}text") if n.attrib["text-anchor"] == "end"]
        heights = np.sort([float(n.attrib["y"]) for n in labels])
        assert len(heights) >= 2
        assert np.diff(heights).min() >= 13


def test_long_curves_keep_their_extremes() -> None:
    y = np.zeros(100_000)
    y[31_415] = 1.0
    root = parsed(lines_svg([Panel("x", {"a": (np.arange(100_000), y)})], title="t", x_label="x"))
    (line,) = root.iter(f"{SVG}polyline")
    points = line.attrib["points"].split()
    assert len(points) <= 2000
    assert min(float(p.split(",")[1]) for p in points) < 70, "the single peak is there"


def test_lines_refuse_what_does_not_fit() -> None:
    with pytest.raises(ParameterRangeError, match="no panel"):
        lines_svg([], title="t", x_label="x")
    with pytest.raises(ParameterRangeError, match="'a' has 2 x and 3 y"):
        lines_svg([Panel("x", {"a": ([1, 2], [1, 2, 3])})], title="t", x_label="x")


def test_small_parts() -> None:
    assert [round_step(v, 8) for v in (8, 8.1, 17, 100)] == [1, 2, 5, 20]
    assert round_step(0.3, 7) == pytest.approx(0.05)
    assert multiples(-0.1, 0.5, 0.25) == [0, 0.25, 0.5]
    assert [number(v) for v in (0.0, -0.0, 0.30000000000000004, 1e-9, 12345.0)] == ["0", "0", "0.3", "1e-09", "12345"]
    assert (cut("before", 6), cut("before", 4), cut("before", 0)) == ("before", "bef…", "…")
