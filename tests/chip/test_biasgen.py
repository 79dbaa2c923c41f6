"""The bias generator: codes to amperes and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nir_dynapse.chip import biasgen
from nir_dynapse.chip.device import DYNAPSE2, PARAMETERS


@pytest.mark.parametrize("name", PARAMETERS)
def test_every_code_comes_back_to_its_current(name: str) -> None:
    table = biasgen.grid(name)
    coarse, fine, error = biasgen.nearest_codes(name, table)
    assert np.allclose(biasgen.current(name, coarse, fine), table, rtol=1e-12)
    assert np.abs(error).max() < 1e-12


@given(st.sampled_from(list(PARAMETERS)), st.floats(-30, -12))
def test_inverse_is_the_nearest_of_all_codes_by_relative_error(name: str, log_current: float) -> None:
    asked = float(np.exp(log_current))
    coarse, fine, error = biasgen.nearest_codes(name, asked)
    brute = np.abs(np.log(biasgen.grid(name)) - np.log(asked)).min()
    got = float(biasgen.current(name, coarse, fine))
    assert abs(np.log(got / asked)) == pytest.approx(brute, abs=1e-9)
    assert error == pytest.approx(got / asked - 1)


def test_known_currents_of_the_public_table() -> None:
    """Reference currents of the two transistor types at fine 0 and 255 (the scale factor divided out)."""
    n5 = biasgen.grid("i_gain_mem")[5, 255] / 1.05
    assert n5 == pytest.approx(2.276e-6, rel=0.03)
    p0 = biasgen.grid("i_tau_ampa")[0, 255]
    assert p0 == pytest.approx(6.691e-11 * 0.19, rel=0.1)


def test_the_curve_is_not_monotone_and_coarse_steps_are_about_eightfold() -> None:
    table = biasgen.grid("i_w0")
    assert (np.diff(table[4]) < 0).any(), "the real curve steps down at multiples of 32"
    ratio = table[1:, 200] / table[:-1, 200]
    assert (ratio > 5.5).all()
    assert (ratio < 9).all()


def test_reach_covers_what_lab_scripts_use() -> None:
    low, high = biasgen.reach("i_w0")
    assert low < 1e-12
    assert 0.39e-6 < high < 0.5e-6
    tau_low, tau_high = (DYNAPSE2.circuit.tau("i_tau_ampa", i) for i in biasgen.reach("i_tau_ampa")[::-1])
    assert tau_low < 5e-6
    assert tau_high > 2.0
