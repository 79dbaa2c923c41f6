"""The tables of the search for defaults and of the default call, made of the rows that are kept."""

from __future__ import annotations

import importlib
import json
import sys
from types import ModuleType

import pytest

from nir_dynapse.training.fine_tune import USUAL
from nir_dynapse.training.options import TrainingOptions
from places import ROOT

PAGE = (ROOT / "docs" / "fine_tuning.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module", params=["defaults", "default_call"])
def benchmark(request: pytest.FixtureRequest) -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "tests" / "benchmarks"))
        patch.syspath_prepend(str(ROOT / "examples"))
        patch.delitem(sys.modules, request.param, raising=False)
        return importlib.import_module(request.param)


def test_the_page_has_the_rows_that_are_kept(benchmark: ModuleType) -> None:
    rows = json.loads(benchmark.KEPT.read_text())
    inside = PAGE.partition(benchmark.BEGIN)[2].partition(benchmark.END)[0]
    assert inside.strip() == benchmark.table(rows).strip()


def test_what_was_chosen_is_the_default() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "tests" / "benchmarks"))
        defaults = importlib.import_module("defaults")
    options = TrainingOptions()
    chosen = {**defaults.USUAL, **defaults.LATER[defaults.CHOSEN]}
    mine = {"rate": options.rate, "ramp": options.ramp, "distil": options.distil, "bias_rate": options.bias_rate}
    mine |= {"slope": options.surrogate.slope, "chips": USUAL.devices, "batch": USUAL.batch}
    assert mine.items() <= chosen.items()
