# IMPORT
"""Configurations that nobody compiled: written by hand, with rows and latches of every kind (`lab_configs`)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import nir_dynapse as nd
from chip_interpreter import INPUT, follow, read_object
from lab_configs import LABS, Bench
from nir_dynapse.circuit.closed_form import event_charge
from nir_dynapse.errors import Finding
from nir_dynapse.export.configuration import Dynapse2Chip, Dynapse2Configuration
from nir_dynapse.export.samna_config import to_samna, write_config_json
from nir_dynapse.import_.samna_config import from_samna
from nir_dynapse.import_.samna_findings import MEANING
from nir_dynapse.layout.decoding import layout_to_params
from nir_dynapse.layout.layout import Layout
from nir_dynapse.layout.rows import monitor_rows
from shortened import shortened


@pytest.fixture
def bench() -> Bench:
    """Two neurons on one chip: (0, 0, 3) excites (0, 1, 9), which is monitored; stimuli on tag 1024."""
    bench = Bench(Dynapse2Configuration(1))
    bench.biases(0, 0, SOIF_GAIN_N=(0, 40))
    bench.biases(0, 1, SOIF_GAIN_N=(0, 40))
    bench.listen((0, 0, 3), 1024, "ampa", 0b1111)
    bench.send((0, 0, 3), 1100, (1,))
    bench.listen((0, 1, 9), 1100, "ampa", 0b0011)
    bench.monitor((0, 1, 9), 7)
    return bench


def findings(layout: Layout) -> dict[str, Finding]:
    """Findings by code, but the two that every configuration without names has."""
    found = {finding.code: finding for finding in layout.findings}
    assert found.pop("names-invented").severity == "warning"
    assert found.pop("other-biases").severity == "info"
    return found


def test_a_plain_network_has_no_findings(bench: Bench) -> None:
    layout = from_samna(bench.done())
    assert findings(layout) == {}
    assert "SOIF_CC_N" not in str(layout.findings)
    assert "27 biases of each core" in str(layout.findings[-1])


@pytest.mark.parametrize("name", shortened(LABS))
@pytest.mark.parametrize("kind", ["plain", "foreign", "text"])
def test_labs_are_read_as_an_interpreter_reads_them(
    name: str, kind: str, fake_samna: ModuleType, tmp_path: Path
) -> None:
    """Every synapse and its charge, and what the host records, against a reader that shares no code with the package."""
    make, n_chips = LABS[name]
    config: Any = Dynapse2Configuration(n_chips)
    if kind == "foreign":
        config = fake_samna.Dynapse2Configuration()
        config.chips = [fake_samna.Dynapse2Chip() for _ in range(n_chips)]
    layout = from_samna(make(config))
    if kind == "text":
        write_config_json(layout, tmp_path / "lab.json.gz")
        again = from_samna(tmp_path / "lab.json.gz")
        assert again == from_samna(to_samna(layout), names=again)
    wiring = follow(read_object(config, layout.input_map))
    assert wiring.broken == []
    assert all(source < INPUT for source, _, _ in wiring.idle), "somebody listens to each channel"
    place = layout.core_index * 256 + layout.slot
    params = layout_to_params(layout)
    t = params.topology
    sign = np.array([1.0, 1.0, -1.0, -1.0])[t.dendrite]
    pre = np.where(t.pre < t.tonic, INPUT + t.pre, place[np.maximum(t.pre - t.tonic - 1, 0)])
    mine = sorted(zip(pre.tolist(), place[t.post].tolist(), t.row.tolist(), strict=True))
    theirs = sorted(zip(wiring.source.tolist(), wiring.target.tolist(), wiring.row.tolist(), strict=True))
    assert mine == theirs
    order = np.lexsort((t.row, place[t.post], pre))
    other = np.lexsort((wiring.row, wiring.target, wiring.source))
    charge = sign * params.row_currents() * event_charge(params)
    np.testing.assert_allclose(charge[order], wiring.charge[other], rtol=1e-9)
    # The host tells all of them apart; the output map has the chip of the neuron, whatever x_hop the event had.
    assert all(len(group) == 1 for group in wiring.recorded.values())
    recorded = {group[0] for group in wiring.recorded.values()}
    assert {int(np.dot(layout.neuron_map[who], (1024, 256, 1))) for who in layout.output_map.values()} == recorded
    assert [chip for chip, _ in layout.output_map] == [layout.neuron_map[w][0] for w in layout.output_map.values()]
    assert from_samna(to_samna(layout)) == layout


@pytest.mark.parametrize("name", LABS)
def test_labs_run(name: str) -> None:
    """The circuit of a configuration from a lab is simulated as it is; its monitored neurons are outputs."""
    make, n_chips = LABS[name]
    layout = from_samna(make(Dynapse2Configuration(n_chips)))
    x = np.zeros((40, layout.n_channels))
    x[5:25, :] = 1
    run = nd.simulate(layout, x)
    spikes = {node: values[0] for node, values in run.spikes.items()}
    assert sum(float(values.sum()) for values in spikes.values()) > 0
    assert all(np.isfinite(values).all() for values in spikes.values())
    assert sum(float(values[:5].sum()) for values in spikes.values()) == 0


@pytest.mark.parametrize("latch", shortened(MEANING, 3))
def test_latches_that_are_not_ours_are_said(bench: Bench, latch: str, tmp_path: Path) -> None:
    config = bench.done()
    for place in ((0, 1, 9), (0, 0, 3), (0, 2, 200)):  # the last one holds nothing
        setattr(bench.neuron(place), latch, True)
    found = findings(from_samna(config))
    assert list(found) == ["other-latch"]
    assert str(found["other-latch"]).startswith("2 neurons ")
    assert "(e.g. chip 0, core 0, neuron 3)" in str(found["other-latch"])
    assert latch in found["other-latch"].hint
    assert found["other-latch"].severity == ("info" if latch == "latch_coho_ca_mem" else "warning")
    first, *rest = latch.split("_")
    key = f'"{first}{"".join(word.title() for word in rest)}":'
    write_config_json(from_samna(config), tmp_path / "c.json")
    text = (tmp_path / "c.json").read_text()
    assert text.count(key) == 1024
    (tmp_path / "c.json").write_text(text.replace(key + "false", key + "true"))
    read = from_samna(tmp_path / "c.json")
    assert [f.what for f in read.findings if f.code == "other-latch"] == [found["other-latch"].what]


def test_all_latches_at_once(bench: Bench) -> None:
    config = bench.done()
    for latch in MEANING:
        setattr(bench.neuron((0, 1, 9)), latch, True)
    layout = from_samna(config)
    assert sum(finding.code == "other-latch" for finding in layout.findings) == 10
    bench.neuron((0, 1, 9)).latch_de_mux = 3
    with pytest.raises(nd.DynapseError, match="chip 0, core 1, neuron 9: latch_de_mux is"):
        from_samna(config)


def _stp(bench: Bench) -> None:
    bench.listen((0, 1, 9), 1100, "ampa", 0b0001, repeat=3, stp=True)


def _inert(bench: Bench) -> None:
    bench.listen((0, 1, 9), 1100, "none", 0b0001)
    bench.listen((0, 1, 9), 0, "none", 0b0001)


def _east(bench: Bench) -> None:
    bench.send((0, 0, 3), 1500, (0, 1), x_hop=1)


def _north(bench: Bench) -> None:
    bench.send((0, 0, 3), 1100, (1,), y_hop=2)


def _alike(bench: Bench) -> None:
    bench.monitor((0, 0, 3), 7)


def _ambiguous(bench: Bench) -> None:
    bench.listen((0, 0, 3), 1100, "ampa", 0b0001)


def _strong(bench: Bench) -> None:
    bench.biases(0, 1, SOIF_GAIN_N=(3, 80))


def _slow(bench: Bench) -> None:
    bench.listen((0, 1, 9), 1100, "nmda", 0b0001)


def _pause(bench: Bench) -> None:
    bench.biases(0, 1, SOIF_GAIN_N=(0, 40), SOIF_REFR_N=(2, 100))


@pytest.mark.parametrize(
    ("spoil", "code", "severity", "words"),
    [
        (_stp, "stp", "warning", ("3 CAM rows have short-term plasticity", "chip 0, core 1, neuron 9")),
        (_inert, "inert-rows", "info", ("2 CAM rows", "no dendrite", "chip 0, core 1, neuron 9")),
        (_east, "nowhere", "warning", ("1 SRAM rows", "stack of 1 chip(s)", "chip 0, core 0, neuron 3")),
        (_north, "nowhere", "warning", ("1 SRAM rows", "nobody is", "chip 0, core 0, neuron 3")),
        (_alike, "seen-alike", "warning", ("node 'core_0_0', neuron 0 (tag 7)", "node 'core_0_1', neuron 0 (tag 7)")),
        (_ambiguous, "ambiguous-inputs", "info", ("1 input channels", "tag 1100", "chip 0, core 0, neuron 3")),
        (_strong, "not-linear", "warning", ("1 neurons", "chip 0, core 1, neuron 9")),
        (_slow, "several-taus", "warning", ("1 neurons", "0.0103 to 0.0552 s", "chip 0, core 1, neuron 9")),
        (_pause, "refractory", "info", ("1 neurons", "0.00196 s", "chip 0, core 1, neuron 9")),
    ],
    ids=lambda value: value.__name__.strip("_") if callable(value) else "",
)
def test_what_cannot_be_said_is_found(
    bench: Bench, spoil: Callable[[Bench], None], code: str, severity: str, words: tuple[str, ...]
) -> None:
    spoil(bench)
    layout = from_samna(bench.done())
    found = findings(layout)
    assert list(found) == [code]
    assert found[code].severity == severity
    assert all(word in found[code].what for word in words), found[code].what
    assert from_samna(to_samna(layout)) == layout


def test_spikes_that_only_seem_alike_are_not_found(bench: Bench) -> None:
    """Other x_hop or y_hop on arrival, the same neuron twice, or no core bit: the host can tell, or sees one only."""
    bench.monitor((0, 0, 3), 7, x_hop=-6)
    bench.monitor((0, 0, 3), 7, y_hop=1)
    bench.monitor((0, 1, 9), 7)
    bench.send((0, 0, 3), 7, (), x_hop=-7)
    assert findings(from_samna(bench.done())) == {}


def test_neurons_of_two_chips_can_be_seen_alike() -> None:
    """Chip 0 with x_hop -1 and chip 1 with -2: both arrive with 0."""
    bench = Bench(Dynapse2Configuration(2))
    for chip in (0, 1):
        bench.biases(chip, 0)
        bench.listen((chip, 0, 5), 1024, "ampa", 0b1111)
        bench.monitor((chip, 0, 5), 9, x_hop=-1 - chip)
    layout = from_samna(bench.done())
    assert "seen-alike" in findings(layout)
    assert layout.output_map == {(0, 9): ("core_0_0", 0), (1, 9): ("core_1_0", 0)}
    assert [port.name for port in layout.outputs] == ["output_core_0_0", "output_core_1_0"]


def test_many_neurons_that_are_seen_alike_are_named_in_part() -> None:
    bench = Bench(Dynapse2Configuration(1))
    bench.biases(0, 0)
    for slot in range(40):
        bench.monitor((0, 0, slot), 3)
    layout = from_samna(bench.done())
    what = findings(layout)["seen-alike"].what
    assert what.startswith("40 monitored neurons")
    assert "neuron 5 (tag 3) and 34 more" in what
    assert layout.output_map == {(0, 3): ("core_0_0", 0)}


def test_the_usual_hop_comes_first_in_the_output_map() -> None:
    bench = Bench(Dynapse2Configuration(1))
    bench.biases(0, 0)
    bench.monitor((0, 0, 1), 3, x_hop=-2)
    bench.monitor((0, 0, 2), 3)
    bench.monitor((0, 0, 2), 4, x_hop=-1)
    layout = from_samna(bench.done())
    assert layout.output_map == {(0, 3): ("core_0_0", 1), (0, 4): ("core_0_0", 1)}
    assert monitor_rows(layout.sram, layout.chip).sum() == 3


def test_echoes_and_shared_tags(bench: Bench) -> None:
    """A neuron that monitors with the tag that it sends, one that hears itself, and two that share a tag."""
    bench.send((0, 1, 9), 1100, (1,))
    bench.monitor((0, 1, 9), 1100, x_hop=-1)
    bench.listen((0, 1, 10), 1100, "gaba", 0b0001, repeat=2)
    layout = from_samna(bench.done())
    assert findings(layout) == {}
    t = layout_to_params(layout).topology
    names = [*layout.channel_names, ("tonic", 0), *layout.names]
    pairs = sorted((names[a], layout.names[b]) for a, b in zip(t.pre.tolist(), t.post.tolist(), strict=True))
    first, second, third = ("core_0_0", 0), ("core_0_1", 0), ("core_0_1", 1)
    assert pairs == sorted(
        [(("input", 0), first), (first, second), (second, second), *[(first, third)] * 2, *[(second, third)] * 2]
    )
    assert layout.output_map == {(0, 7): second, (0, 1100): second}


def test_a_larger_stack_than_is_used_is_read(bench: Bench) -> None:
    config = bench.done()
    config.chips.append(Dynapse2Chip())
    _east(bench)
    layout = from_samna(bench.done())
    assert layout.n_chips == 2
    assert findings(layout) == {}  # chip 1 is there, though nobody listens
