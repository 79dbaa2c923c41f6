"""The page of a report: well-formed, escaped, self-contained, deterministic, and drawn from the bits of the Layout."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nir_dynapse as nd
from nir_dynapse.cli.main import main
from nir_dynapse.deployment import deploy as deployment
from nir_dynapse.errors import Finding
from nir_dynapse.layout.utilisation import Use
from nir_dynapse.network.network import Network, Population, Port, Projection
from nir_dynapse.reporting.floor_plan import Crossing, core_svg, crossings, links_svg, shade
from nir_dynapse.reporting.page_figures import MOST_MARKS
from nir_dynapse.reporting.page_parts import bar, words
from nir_dynapse.reporting.report import Accuracy, Report, report
from nir_dynapse.reporting.weight_figures import bias_currents, core_weights, time_of

DT = 1e-3
ODD = "<script>&\"'"
VOID = {"meta", "link", "br"}
ALL_SECTIONS = [
    *("accuracy", "virtual-chips", "floor-plan", "use", "findings", "spikes", "nodes", "projections"),
    *("weights", "biases", "conversion", "checks", "provenance"),
]


class Page(HTMLParser):
    """Checks that tags are closed in order, and keeps what tests ask for."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.texts)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def sections(self) -> list[str]:
        return [str(a["id"]) for a in self.all("section") if "id" in a]


def pictures(page: str) -> list[ET.Element]:
    """Every SVG of the page, read as XML."""
    return [ET.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", page, re.DOTALL)]


def used_slots(svg: ET.Element) -> list[str]:
    return [str(r.get("class")) for r in svg.iter("rect") if re.fullmatch(r"s\d", r.get("class", ""))]


def population(name: str, n: int, tau: float = 20e-3) -> Population:
    return Population(
        name,
        "CubaLIF",
        tau_mem=np.full(n, tau),
        r=np.full(n, tau / DT),
        v_leak=np.zeros(n),
        v_threshold=np.ones(n),
        v_reset=np.zeros(n),
        tau_syn=np.full(n, 5e-3),
        w_in=np.full(n, 5.0),
    )


def network(hidden: int = 6, out: int = 2, first: str = "hidden", inputs: int = 3) -> Network:
    rng = np.random.default_rng(0)
    back = np.zeros((out, hidden))
    for row in back:
        row[rng.permutation(hidden)[:60]] = rng.normal(0.0, 0.3, min(hidden, 60))
    return Network(
        (population(first, hidden), population("out", out, 15e-3)),
        (
            Projection.from_dense("in", first, rng.normal(0.2, 0.3, (hidden, inputs)), nodes=("fc1",)),
            Projection.from_dense(first, "out", back, nodes=("fc2",)),
        ),
        (Port("in", (inputs,)),),
        (Port("output", (out,), "out"),),
        DT,
        {"source": f"{first}.nir", "sha256": "0" * 64},
    )


def evaluation(accuracy: np.ndarray) -> dict[str, Any]:
    n = len(accuracy)
    return nd.Evaluation(accuracy, np.arange(n), np.zeros(n), np.zeros(n), 200, 0.9).to_dict()


@pytest.fixture(scope="module")
def net() -> Network:
    return network()


@pytest.fixture(scope="module")
def layout(net: Network) -> nd.Layout:
    return nd.compile(net, seed=5)


# --- the whole page ---------------------------------------------------------------------------------------------------


@pytest.fixture
def deployed(model: str, data: str) -> deployment.Deployment:
    return deployment.deploy(model, nd.Data.load(data), board="virtual:7", fit=False)


def test_a_deployment_has_every_section_and_is_written(deployed: deployment.Deployment, tmp_path: Path) -> None:
    runs = {"before": evaluation(np.linspace(0.3, 0.8, 30)), "after": evaluation(np.linspace(0.6, 0.9, 30))}
    page = replace(deployed.report, virtual_chips=runs).html()
    read = Page(page)
    assert read.sections == ALL_SECTIONS
    assert [a["href"] for a in read.all("a")] == [f"#{key}" for key in ALL_SECTIONS]
    assert all(len(svg) for svg in pictures(page))
    for said in (
        "fits",
        "accuracy, on this chip",
        "SOIF_LEAK_N",
        "configuration verified",
        "virtual:7",
        "after against before",
    ):
        assert said in read.text
    for run in deployed.accuracy:
        assert f"{100 * run.share:.1f} %" in read.text
    deployed.write(tmp_path / "out")
    written = (tmp_path / "out" / "report.html").read_bytes()
    assert written == deployed.report.html().encode()
    assert "virtual-chips" not in Page(written.decode()).sections


def test_a_deployment_keeps_the_spikes_of_the_first_sample(
    deployed: deployment.Deployment, model: str, data: str
) -> None:
    samples = deployed.report.samples
    assert list(samples) == ["ideal", "circuit", "quantised", "on this chip"]
    x = nd.Data.load(data).x[:1]
    wanted = nd.simulate(nd.from_nir(model), x, ideal=True).spikes
    for node, spikes in wanted.items():
        assert (samples["ideal"].spikes[node] == spikes).all()
        assert samples["ideal"].spikes[node].base is None, "a view would keep every sample"
    for run, recording in samples.items():
        assert (recording.counts()[0] == deployed.counts[run][0]).all()


def test_page_is_accessible_and_fits_a_phone(deployed: deployment.Deployment) -> None:
    page = deployed.report.html()
    read = Page(page)
    assert page.startswith("<!DOCTYPE html>")
    assert read.all("html") == [{"lang": "en"}]
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in read.all("meta")
    levels = [int(tag[1]) for tag, _ in read.tags if re.fullmatch(r"h\d", tag)]
    assert levels.count(1) == 1
    assert all(below - above <= 1 for above, below in pairwise(levels))
    named = [a for a in read.all("svg") if a.get("role") == "img" or a.get("aria-hidden") == "true"]
    assert named == read.all("svg")
    for svg in pictures(page):
        if svg.get("role") == "img":
            assert svg.get("aria-label") or svg.find("title") is not None
    assert all(a.get("scope") in ("col", "row", "rowgroup") for a in read.all("th"))
    tables = page.count("<table>")
    assert tables > 5
    assert len(re.findall(r'<div class="scroll" role="region" aria-label="[^"]+" tabindex="0"><table>', page)) == tables
    ids = [a["id"] for _, a in read.tags if "id" in a]
    assert len(ids) == len(set(ids))
    for words_ in ("prefers-color-scheme:dark", "@media print"):
        assert words_ in page


def test_page_needs_nothing_else(deployed: deployment.Deployment) -> None:
    page = deployed.report.html()
    read = Page(page)
    assert not {tag for tag, _ in read.tags} & {"script", "img", "iframe", "object", "embed", "image", "use"}
    for _, attributes in read.tags:
        for name in ("src", "href", "xlink:href", "data", "action"):
            assert str(attributes.get(name, "#")).startswith(("#", "data:"))
        assert not any(name.startswith("on") for name in attributes)
    assert "url(" not in page
    assert "@import" not in page
    assert "://" not in page
    assert "default-src 'none'" in page


@pytest.mark.long
def test_same_report_same_bytes(net: Network, layout: nd.Layout) -> None:
    pages = {report(nd.compile(net, seed=5), asked=net).html(), report(layout, asked=net).html()}
    assert len(pages) == 1


def test_what_users_named_is_escaped(tmp_path: Path) -> None:
    net = network(first=ODD)
    layout = nd.compile(net)
    odd = Finding("warning", ODD, f"what {ODD}", ODD, 1, used=ODD, hint=f"hint {ODD}\x00\u202e")
    made = report(
        layout,
        asked=net,
        title=ODD,
        accuracy=(Accuracy(ODD, 1, 2, 1.0, 0, 0, 1.0),),
        checks=(ODD,),
        findings=(odd,),
        conversion=(nd.network.network.Conversion(ODD, ODD, ODD, "exact", ((ODD, ODD, ODD),), ODD),),
        provenance={"source": ODD, ODD: ODD},
        virtual_chips={ODD: evaluation(np.linspace(0, 1, 5))},
        samples={ODD: nd.simulate(net, np.ones((1, 20, 3)), ideal=True)},
    )
    page = made.html()
    read = Page(page)
    assert read.sections == ALL_SECTIONS
    assert not read.all("script")
    assert "<script" not in page
    assert "\x00" not in page
    assert "\u202e" not in page
    assert read.text.count(ODD) > 15
    for svg in pictures(page):
        assert svg is not None
    made.save(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == page


def test_words_are_safe_everywhere() -> None:
    assert words(" a <b>\n& \"c\" 'd' ") == "a &lt;b&gt; &amp; &quot;c&quot; &#x27;d&#x27;"
    assert words("\ud800\x07") == "\N{REPLACEMENT CHARACTER}" * 2


# --- less than everything ---------------------------------------------------------------------------------------------


def test_report_of_a_network() -> None:
    read = Page(report(network(70)).html())
    assert read.sections == ["nodes", "projections", "provenance"]
    assert "not mapped" in read.text


def test_report_of_a_layout_from_a_file(layout: nd.Layout, tmp_path: Path) -> None:
    layout.save(tmp_path / "layout.json")
    page = report(nd.Layout.load(tmp_path / "layout.json")).html()
    read = Page(page)
    assert {"floor-plan", "use", "weights", "biases"} <= set(read.sections)
    assert not {"accuracy", "spikes", "virtual-chips", "conversion", "checks"} & set(read.sections)
    assert "Filled: asked for" not in read.text


def test_report_without_a_layout_as_made_by_hand(layout: nd.Layout) -> None:
    made = report(layout)
    plain = Report(made.title, made.provenance, made.nodes, made.projections, cores=made.cores, chips=made.chips)
    assert Page(plain.html()).sections == ["use", "nodes", "projections", "provenance"]
    assert Page(Report("empty", {}, (), ()).html()).sections == []


def test_errors_come_first(net: Network) -> None:
    found = (
        Finding("info", "third", "third."),
        Finding("warning", "second", "second.", hint="Hint of the second."),
        Finding("error", "first", "71 synapses.", node="hidden", used=71, limit=64, unit="rows", hint="Prune."),
    )
    page = report(net, findings=found).html()
    text = Page(page).text
    assert "does not fit" in text
    places = [
        text.index(said) for said in ("71 synapses", "What to do: Prune.", "used 71 rows, limit 64 rows", "second.")
    ]
    assert places == sorted(places)
    assert text.index("What to do: Hint of the second.") < text.index("third.")


@pytest.mark.parametrize(("name", "said"), [("r.html", "<!DOCTYPE html>"), ("r.json", '"format"'), ("r.txt", "=====")])
def test_save_by_name(name: str, said: str, layout: nd.Layout, tmp_path: Path) -> None:
    report(layout).save(tmp_path / name)
    assert said in (tmp_path / name).read_text(encoding="utf-8")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_save_refuses_other_names_and_places(layout: nd.Layout, tmp_path: Path) -> None:
    with pytest.raises(nd.ConfigurationError, match=r"known are \.html, \.json, \.txt"):
        report(layout).save(tmp_path / "r.pdf")
    with pytest.raises(nd.ConfigurationError, match="cannot be written"):
        report(layout).save(tmp_path / "missing" / "r.html")


def test_compile_writes_a_report(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["compile", model, "-q", "-o", str(tmp_path / "layout.json"), "--report"]
    assert main([*argv, str(tmp_path / "report.html")]) == 0
    read = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert {"floor-plan", "weights", "biases", "conversion"} <= set(read.sections)
    assert "Filled: asked for" in read.text
    assert "report.html" in capsys.readouterr().out
    (tmp_path / "layout.json").unlink()
    assert main([*argv, str(tmp_path / "report.pdf")]) == 1
    assert "known are .html, .json, .txt" in capsys.readouterr().err
    assert not (tmp_path / "layout.json").exists()


@pytest.mark.long
def test_full_chip_stays_small() -> None:
    net = network(768, 256, inputs=64)
    layout = nd.compile(net)
    assert layout.n_neurons == 1024
    dense = nd.simulate(net, np.ones((1, 100, 64)), ideal=True)
    made = report(layout, asked=net, samples={"ideal": dense, "circuit": dense})
    page = made.html()
    assert len(page.encode()) < 1_500_000
    slots = [slot for svg in pictures(page) if svg.get("role") == "img" for slot in used_slots(svg)]
    assert len(slots) == 1024
    strokes = sum(len(re.findall("M", str(path.get("d")))) for svg in pictures(page)[-20:] for path in svg.iter("path"))
    assert strokes < 2 * MOST_MARKS + 5000


# --- floor plan -------------------------------------------------------------------------------------------------------


def test_every_neuron_is_a_slot_in_its_shade(layout: nd.Layout) -> None:
    rows = (layout.cam["dendrite"] >= 0).sum(1)
    seen = 0
    for chip, core in ((0, 0), (0, 1), (0, 2)):
        svg = ET.fromstring(core_svg(layout, nd.DYNAPSE2, chip, core))
        here = np.flatnonzero((layout.chip == chip) & (layout.core == core))
        assert Counter(used_slots(svg)) == Counter(f"s{shade(int(n), 64)}" for n in rows[here])
        (free,) = [p for p in svg.iter("path") if p.get("class") == "free"]
        assert str(free.get("d")).count("M") == 256 - len(here)
        tips = {str(t.text) for t in svg.iter("title")}
        for n in here.tolist():
            node, index = layout.names[n]
            tip = f"{node}[{index}]: slot {layout.slot[n]}, {rows[n]} of 64 CAM rows"
            assert tip in tips
        seen += len(here)
    assert seen == layout.n_neurons


@pytest.mark.parametrize(("rows", "wanted"), [(0, 0), (1, 1), (8, 1), (9, 2), (56, 7), (57, 8), (64, 8)])
def test_shades(rows: int, wanted: int) -> None:
    assert shade(rows, 64) == wanted


def test_what_a_profile_calls_bad_is_marked(net: Network) -> None:
    neurons, rows = np.ones((4, 256), bool), np.ones((4, 256, 64, 2), bool)
    neurons[0, 3] = neurons[1, 200] = False
    rows[0, 5, :7] = False
    device = nd.DYNAPSE2.with_profiles(nd.ChipProfile("worn", neurons, rows))
    layout = nd.compile(net, device=device)
    svgs = [ET.fromstring(core_svg(layout, device, 0, core)) for core in range(4)]
    bad = [[p for p in svg.iter("path") if p.get("class") == "bad"] for svg in svgs]
    assert [len(marks) for marks in bad] == [1, 1, 0, 0]
    assert bad[0][0][0].text == "slot 3 does not work"
    text = Page(report(layout, device=device).html()).text
    for said in ("does not work", "1 bad neuron, ", "Profile worn"):
        assert said in text


@pytest.mark.long
def test_links_between_chips_are_those_of_the_rows() -> None:
    net = network(1100, 40)
    device = nd.DYNAPSE2.stack(3)
    layout = nd.compile(net, device=device, budget=5)
    found = crossings(layout)
    assert found
    out = {layout.names[k]: k for k in range(layout.n_neurons)}
    made: Counter[tuple[int, int]] = Counter()
    for q in net.projections[1:]:
        for a, b in zip(q.pre.tolist(), q.post.tolist(), strict=True):
            ends = int(layout.chip[out[q.source, a]]), int(layout.chip[out[q.target, b]])
            made[ends] += ends[0] != ends[1]
    assert {(c.source, c.target): c.connections for c in found} == {ends: n for ends, n in made.items() if n}
    assert all(c.neurons > 0 and c.tags > 0 for c in found)
    east = sum(c.tags for c in found if c.source <= 0 < c.target)
    svg = links_svg(layout)
    assert f"{east} from 0 to 1" in svg
    assert len(list(ET.fromstring(svg).iter("rect"))) == 3
    assert "Between the chips" in Page(report(layout, device=device).html()).text


def test_one_chip_has_no_links(layout: nd.Layout) -> None:
    assert crossings(layout) == ()
    assert "Between the chips" not in Page(report(layout).html()).text
    two = nd.compile(network(), device=nd.DYNAPSE2.stack(2))
    assert "No neuron sends to another chip" in Page(report(two, device=nd.DYNAPSE2.stack(2)).html()).text
    assert Crossing(0, 1, 2, 3, 4).tags == 3


def test_bars() -> None:
    assert "width:max(1px,50.0%)" in bar(Use(1, 2))
    assert "width" not in bar(Use(0, 2))
    assert "bar over" in bar(Use(3, 2))


# --- weights and biases -----------------------------------------------------------------------------------------------


def test_weights_asked_and_given_are_those_of_the_errors(net: Network, layout: nd.Layout) -> None:
    for core in core_weights(layout, nd.DYNAPSE2, nd.to_params(net).numpy()):
        assert core.asked is not None
        error = np.sqrt(((core.given - core.asked) ** 2).sum() / (core.asked**2).sum())
        known = layout.weight_errors["cores"][core.core]
        assert error == pytest.approx(known["nrmse"], rel=1e-2)
        assert len(core.given) == known["weights"]
        assert core.levels.min() < 0 < core.levels.max()


def test_single_rows_are_levels(net: Network) -> None:
    layout = nd.compile(net, spare_rows=False)
    for core in core_weights(layout, nd.DYNAPSE2, None):
        assert core.asked is None
        off = np.abs(core.given[:, None] - core.levels[None]).min(1)
        assert off.max() < 1e-9 * core.levels.max()
        assert len(core.levels) == 31  # zero, 15 that excite, 15 that inhibit


def test_bias_currents_are_those_of_the_codes(net: Network, layout: nd.Layout) -> None:
    params = nd.to_params(net).numpy()
    rows = {(row.core, row.parameter): row for row in bias_currents(layout, nd.DYNAPSE2, params)}
    for neuron in (0, layout.n_neurons - 1):
        core = f"{layout.chip[neuron]}.{layout.core[neuron]}"
        row = rows[core, "i_tau_mem"]
        asked = float(params.per_neuron("i_tau_mem")[neuron])
        assert row.asked == (asked, asked)
        assert row.error == pytest.approx(row.given / asked - 1)
        assert time_of(nd.DYNAPSE2.circuit, "i_tau_mem", row.given) == pytest.approx(
            nd.DYNAPSE2.circuit.tau("i_tau_mem", row.given)
        )
        assert rows[core, "i_w3"].asked is None, "a core fits its base currents to its weights"
        assert (core, "i_tau_nmda") not in rows, "nothing uses it"
    assert time_of(nd.DYNAPSE2.circuit, "i_spkthr", 1e-9) is None
    assert all(row.asked is None for row in bias_currents(layout, nd.DYNAPSE2, None))
