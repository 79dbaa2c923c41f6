"""A real board, as far as samna's contract goes: the same bits and events give what the virtual board gives."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fake_samna_device import DEV_BOARD, Samna
from nir_dynapse import backend
from nir_dynapse.backend import open_board
from nir_dynapse.board.board import Board
from nir_dynapse.board.link import Timing
from nir_dynapse.chip.device import COLUMN, Mismatch
from nir_dynapse.data.data import Events
from nir_dynapse.errors import ConfigurationError, HardwareError, NotInstalledError, ParameterRangeError
from nir_dynapse.export import samna_board
from nir_dynapse.export.samna_board import BIT_FILE_VARIABLE, find_samna, list_boards, open_samna
from nir_dynapse.layout.layout import Layout
from nir_dynapse.sim.simulation import simulate
from samna_boards import DT, Opener, bit_file, counts, layout_of, plugged
from shortened import shortened


@pytest.fixture(scope="module")
def layouts() -> dict[int, Layout]:
    return {n: layout_of(n) for n in (1, 2, 3)}


def events(x: np.ndarray) -> Events:
    return Events.from_counts(x, DT, "in")


def same(first: Events, second: Events) -> None:
    assert first.nodes == second.nodes
    for name in ("time", "node", "index"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


# -- the same spikes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_chips", shortened([1, 2, 3]))
def test_the_spikes_of_the_virtual_board_and_of_the_simulation(
    n_chips: int, layouts: dict[int, Layout], opened: Opener
) -> None:
    layout, x = layouts[n_chips], counts()
    samna, fake = plugged(n_chips=n_chips)
    with opened(samna) as board:
        assert isinstance(board, Board)
        board.apply(layout)
        runs = [board.run(events(sample), 0.06) for sample in (*x, x[0])]
        batch = board.run_batch(x, DT)
        assert board.last is not None
        assert (board.last.markers, board.last.attempts, len(board.last.unknown)) == ((10, 10), 1, 0)
    with open_board("virtual:7") as virtual:
        virtual.apply(layout)
        for run, sample in zip(runs, (*x, x[0]), strict=True):
            same(run, virtual.run(events(sample), 0.06))
        expected = virtual.run_batch(x, DT)
    simulated = simulate(layout, x, mismatch=Mismatch(), key=7)
    assert expected.output.sum() > 30
    assert set(batch.spikes) == set(expected.spikes) == {"output"}
    np.testing.assert_array_equal(batch.output, expected.output)
    np.testing.assert_array_equal(batch.output, simulated.output)
    assert fake.calls[-1] == "close_device"
    assert not fake.is_open


def test_tonic_channel_and_echo(opened: Opener) -> None:
    layout, x = layout_of(tonic=True), counts()
    assert layout.tonic_period
    with opened(plugged()[0]) as board, open_board("virtual:7") as virtual:
        for one in (board, virtual):
            one.apply(layout)
        heard, expected = (one.run(events(x[0]), 0.06, echo=True) for one in (board, virtual))
        batch = board.run_batch(x, DT)
    same(heard, expected)
    assert set(heard.nodes) == {"in", "tonic", "output"}
    np.testing.assert_array_equal(heard.to_counts("in", 4, DT, 0.06), x[0])
    np.testing.assert_array_equal(batch.output, simulate(layout, x, mismatch=Mismatch(), key=7).output)


@pytest.mark.long
def test_a_second_layout_leaves_nothing_of_the_first(opened: Opener, layouts: dict[int, Layout]) -> None:
    large, small = layouts[2], layout_of(seed=5, hidden=6)
    x = counts(samples=1)
    samna, fake = plugged(n_chips=2)
    with opened(samna) as board:
        board.apply(large)
        assert fake.bits.n_neurons == large.n_neurons
        first = board.run_batch(x, DT)
        board.apply(small)
        assert fake.bits.n_neurons == small.n_neurons
        assert set(zip(fake.bits.chip.tolist(), fake.bits.core.tolist(), strict=True)) == {(0, 0)}
        second = board.run_batch(x, DT)
        board.apply(large)
        third = board.run_batch(x, DT)
    np.testing.assert_array_equal(first.output, third.output)
    np.testing.assert_array_equal(second.output, simulate(small, x, mismatch=Mismatch(), key=7).output)
    # So does one that is written after the clock was set back, when everything is written anew.
    with opened(samna) as board:
        board.apply(large)
        fake.set_clock((1 << 32) - 250_000)
        board.run(events(x[0]), 0.06)
        assert fake.calls.count("reset_fpga") == 3
        board.link.restart_clock()
        board.apply(small)
        assert fake.bits.n_neurons == small.n_neurons
        np.testing.assert_array_equal(board.run_batch(x, DT).output, second.output)


def test_chips_are_quiet_but_for_the_run(opened: Opener, layouts: dict[int, Layout]) -> None:
    samna, fake = plugged()
    leak = [COLUMN[name] for name in ("i_tau_mem", "i_tau_ampa", "i_tau_nmda", "i_tau_gaba", "i_tau_shunt")]
    written: list[bool] = []
    configure = fake.link.configure

    def watched(layout: Layout, quiet: bool) -> None:
        written.append(bool((layout.codes[layout.used_cores][:, leak] == (5, 255)).all()))
        configure(layout, quiet)

    fake.link.configure = watched
    with opened(samna) as board:
        board.apply(layouts[1])
        board.run(events(counts()[0]), 0.06)
        assert written == [True, False, True]
        with pytest.raises(ConfigurationError, match="outside the run"):
            board.run(events(counts()[0]), 0.03)
        with pytest.raises(ParameterRangeError, match="up to 2000 s"):
            board.run(events(counts()[0]), 3000.0)
        assert board.clock() > 0, "a mistake in the call leaves the board open"
        fake.faults["read_events", fake.calls.count("read_events") + 30] = KeyboardInterrupt()
        with pytest.raises(KeyboardInterrupt):
            board.run(events(counts()[0]), 0.06)
    assert written == [True, False, True, False, True]
    assert fake.calls[-1] == "close_device"


# -- opening ----------------------------------------------------------------------------------------------------------


def test_the_order_of_opening(opened: Opener) -> None:
    samna, fake = plugged()
    began = samna.host.now
    opened(samna).close()
    start = "open_device configure_opal_kelly reset_fpga get_model get_configuration get_number_of_chips reset"
    assert fake.calls[:7] == start.split()
    assert fake.calls[7:10] == ["get_configuration", "apply_configuration", "clear_error_queue"]
    assert fake.calls[-1] == "close_device"
    assert 1.3 < samna.host.now - began < 2


def test_which_board(opened: Opener) -> None:
    samna = Samna()
    with pytest.raises(HardwareError, match=r"no device.*Check cable and power"):
        opened(samna)
    speck = samna.plug(kind="Speck2fDevKit", serial="S9")
    with pytest.raises(HardwareError, match="Speck2fDevKit, serial S9, USB bus:address 2:7"):
        opened(samna)
    first, second = samna.plug(serial="A1", address=8), samna.plug(serial="B2", address=9)
    with pytest.raises(HardwareError, match=r"serial A1, USB bus:address 2:8; .*serial B2.*samna:SERIAL"):
        opened(samna)
    with pytest.raises(HardwareError, match=r"no single board 'C3' is connected.*serial B2"):
        opened(samna, "C3")
    for serial, fake in (("B2", second), ("2:8", first)):
        with opened(samna, serial):
            assert fake.is_open
    assert not speck.calls
    with opened(samna, "A1"), opened(samna):
        assert first.is_open, "the one that is free is taken"
        assert second.is_open
        with pytest.raises(HardwareError, match="more than one"):
            opened(samna)
        with pytest.raises(HardwareError, match=r"error code : -3.*Another process holds the board.*end that process"):
            opened(samna, "B2")
        assert second.is_open, "the board of somebody else is not closed"


def test_how_many_chips(opened: Opener, layouts: dict[int, Layout]) -> None:
    samna, _ = plugged(n_chips=2)
    with opened(samna) as board:
        assert board.link.n_chips == 2
        with pytest.raises(HardwareError, match=r"the Layout is for 3 chips, .* has 2\. Compile for fewer"):
            board.apply(layouts[3])
        board.apply(layouts[1])
    samna, fake = plugged(kind=DEV_BOARD, n_chips=1)
    with opened(samna) as board:
        assert board.link.n_chips == 1
    del fake
    with pytest.raises(ParameterRangeError, match="allowed are 1 to 8"):
        opened(samna, n_chips=9)


def test_the_bit_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(BIT_FILE_VARIABLE, raising=False)
    samna, fake = plugged()
    with pytest.raises(
        HardwareError, match=r"none was given.*Dynapse2Stack.bit for a DYNAP-SE2 Stack.*not part of samna"
    ):
        open_samna(**samna.options)
    with pytest.raises(HardwareError, match=r"none.bit' does not exist"):
        open_samna(bit_file=tmp_path / "none.bit", **samna.options)
    assert not fake.calls, "nothing is opened before"
    monkeypatch.setenv(BIT_FILE_VARIABLE, str(bit_file(tmp_path)))
    open_samna(**samna.options).close()
    assert fake.loaded


def test_names_of_boards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samna = Samna()
    samna.plug(serial="A1", address=1)
    samna.plug(serial="B2", address=2)

    def fake_open(serial: str | None, **options: Any) -> Board:
        return open_samna(serial, **options, **samna.options)

    monkeypatch.setattr(backend, "open_samna", fake_open)
    path, timing = bit_file(tmp_path), Timing(lead=0.2)
    with open_board("samna:B2", bit_file=path, timing=timing) as board:
        assert [fake.is_open for fake in samna.boards] == [False, True]
        assert getattr(board, "timing") is timing  # noqa: B009 - a Board has none in general
    with pytest.raises(HardwareError, match="more than one"):
        open_board("samna", bit_file=path)
    for name in ("usb", "samnas", "virtual:x"):
        with pytest.raises(HardwareError, match=r"virtual:SEED.*samna:SERIAL"):
            open_board(name)


def test_which_samna(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    state = {"found": ("missing", "")}
    monkeypatch.setattr(samna_board, "find_samna", lambda: state["found"])
    with pytest.raises(NotInstalledError, match=r"not installed.*--index-url INDEX.*SynSense"):
        open_board("samna")
    state["found"] = ("placeholder", "site/samna/__init__.py")
    with pytest.raises(NotInstalledError, match=r"placeholder.*pip uninstall samna.*--index-url INDEX"):
        open_board("samna")
    package = tmp_path / "samna"
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError('libbroken.so: no such file')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.undo()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert find_samna() == ("ok", str(package / "__init__.py"))
    with pytest.raises(NotInstalledError, match=r"cannot be imported.*libbroken"):
        list_boards()


def test_a_samna_that_connects_otherwise(tmp_path: Path) -> None:
    samna, _ = plugged()
    del samna.device
    with pytest.raises(HardwareError, match=r"samna 0\.14\.25\.0 has no samna\.device.*up to 0\.11.*Install"):
        open_samna(bit_file=bit_file(tmp_path), **samna.options)
    samna, _ = plugged()
    del samna.dynapse2
    with pytest.raises(HardwareError, match=r"has no samna\.dynapse2"):
        open_samna(bit_file=bit_file(tmp_path), **samna.options)


def test_other_silicon_gives_other_spikes(opened: Opener, layouts: dict[int, Layout]) -> None:
    """The comparison above can fail."""
    x, layout = counts(), layouts[1]
    with opened(plugged(seed=8)[0]) as board:
        board.apply(layout)
        other = board.run_batch(x, DT).output
        cam = layout.cam.copy()
        cam["mask"][:, 0] = 0
        board.apply(replace(layout, cam=cam))
        changed = board.run_batch(x, DT).output
    assert (other != simulate(layout, x, mismatch=Mismatch(), key=7).output).any()
    assert (other != changed).any()
