"""The collector of cycles waits while much is made, and comes back whatever happens."""

from __future__ import annotations

import gc

import pytest

from nir_dynapse.files.bulk import no_collector


def test_the_collector_comes_back() -> None:
    states: list[bool] = [gc.isenabled()]

    def fail() -> None:
        with no_collector():
            states.append(gc.isenabled())
            with no_collector():
                states.append(gc.isenabled())
            states.append(gc.isenabled())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    states.append(gc.isenabled())
    assert states == [True, False, False, False, True], "an inner block leaves it as it was"
