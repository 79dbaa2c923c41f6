"""Small models and data files for the tests of the command line."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest

from nir_dynapse.cli.main import main
from nir_dynapse.data.data import Data

DT = 1e-3


def cuba(n: int, **changes: Any) -> nir.CubaLIF:
    values = {
        "tau_syn": np.full(n, 5 * DT),
        "tau_mem": np.full(n, 20 * DT),
        "r": np.full(n, 20.0),
        "v_leak": np.zeros(n),
        "v_threshold": np.ones(n),
        "v_reset": np.zeros(n),
        "w_in": np.full(n, 5.0),
    }
    return nir.CubaLIF(**{**values, **changes})


def graph(hidden: int = 4, weight: np.ndarray | None = None, **changes: Any) -> nir.NIRGraph:
    rng = np.random.default_rng(1)
    weight = rng.uniform(0.3, 0.9, (hidden, 3)) if weight is None else weight
    nodes = {
        "in": nir.Input({"input": np.array([3])}),
        "fc1": nir.Linear(weight),
        "hidden": cuba(hidden, **changes),
        "fc2": nir.Linear(rng.normal(0.3, 0.4, (2, hidden))),
        "out": cuba(2),
        "output": nir.Output({"output": np.array([2])}),
    }
    names = list(nodes)
    return nir.NIRGraph(nodes, list(pairwise(names)), metadata={"dt": DT}, type_check=False)


def write(path: Path, thing: nir.NIRGraph) -> str:
    nir.write(path, thing)
    return str(path)


def save(path: Path, channels: int = 3, classes: int = 2, dt: float = DT, samples: int = 6) -> str:
    rng = np.random.default_rng(0)
    x = rng.poisson(0.3, (samples, 12, channels)).astype(np.uint8)
    Data(x, np.arange(samples) % classes, dt).save(path)
    return str(path)


def fails(capsys: pytest.CaptureFixture[str], argv: list[str], *words: str, code: int = 1) -> str:
    """Run and expect `code`, an empty stdout and one paragraph on stderr that holds `words`; returns it."""
    assert main([*argv, "-q"]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    assert captured.err.startswith("nir-dynapse: ")
    for word in words:
        assert word in captured.err
    return captured.err
