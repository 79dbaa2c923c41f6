"""Constants by evidence: every one has a row, sets have names, and what they change is what the recordings say."""

from __future__ import annotations

from dataclasses import asdict, fields
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

import nir_dynapse as nd
from nir_dynapse.chip.constants import PUBLISHED, RECORDED_NOISE, SETS, Certainty
from nir_dynapse.chip.device import Circuit, Mismatch
from nir_dynapse.errors import ParameterRangeError


def test_every_constant_has_one_row_with_source_and_certainty() -> None:
    assert [row.name for row in PUBLISHED] == [f.name for f in fields(Circuit)]
    for rows in SETS.values():
        for name, row in rows.items():
            assert row.name == name
            assert len(row.source) > 10
            assert len(row.meaning) > 5
            assert row.certainty in get_args(Certainty)
            assert row.unit in ("F", "V", "A", "")


def test_the_page_lists_every_constant_as_it_is() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "silicon.md").read_text(encoding="utf-8")
    for name, rows in SETS.items():
        for row in rows.values():
            if name == "published" or row != SETS["published"][row.name]:
                assert f"| {row.name} | {name} | {row.value:.4g} {row.unit} | {row.certainty} |" in page


def test_sets_have_the_values_that_their_sources_give() -> None:
    old, new = Circuit.published, Circuit.recorded2026
    assert (old.c_mem, old.c_ref, old.i_o, old.kappa_n, old.u_t) == (3e-12, 1.5e-12, 0.5e-12, 0.75, 0.025)
    changed = {name for name, value in asdict(new).items() if value != getattr(old, name)}
    assert changed == {"c_ref"}, "recordings support nothing else"
    assert new.width("i_ref", 1e-9) == pytest.approx(2.478e-3, rel=1e-6), "0.7 V × 3.54 pF / 1 nA"
    assert Circuit() == old == nd.DYNAPSE2.circuit
    assert 2e-4 <= Mismatch.recorded2026.noise == RECORDED_NOISE.value <= 1e-3
    assert Mismatch.recorded2026.cv == Mismatch().cv


def test_sets_are_chosen_by_name() -> None:
    device = nd.DYNAPSE2.stack(2).with_circuit("recorded2026")
    assert device.circuit is Circuit.recorded2026
    assert device.n_chips == 2
    assert device == nd.DYNAPSE2.stack(2).with_circuit(Circuit.recorded2026)
    assert repr(device) == "Device(DYNAP-SE2; 2 chips; circuit recorded2026)"
    assert (Circuit.published.name, Circuit(c_mem=7.7e-12).name) == ("published", "other")
    assert repr(Circuit(c_mem=7.7e-12)) == "Circuit(published, but c_mem 7.7e-12)"
    with pytest.raises(ParameterRangeError, match="Did you mean recorded2026"):
        nd.DYNAPSE2.with_circuit("recorded")


def test_a_membrane_voltage_is_the_logarithm_of_its_current() -> None:
    circuit = Circuit()
    assert circuit.v_mem(0.5e-12) == pytest.approx(0.0, abs=1e-12), "reset"
    assert circuit.v_mem(np.e * 1e-9) - circuit.v_mem(1e-9) == pytest.approx(1 / 30), "25 mV / 0.75 per factor of e"
    assert circuit.v_mem(38.7e-9) == pytest.approx(0.375, abs=5e-4), "the swing of a threshold of 39 nA"
    buffered = Circuit(buffer_gain=2.0, buffer_offset=0.1)
    assert buffered.v_mem(0.5e-12 * np.exp(3)) == pytest.approx(0.1 + 2 * 0.1)
