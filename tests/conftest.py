"""Fixtures that several test modules use."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

# Workers, processes that tests start and later runs compile a program once: before JAX is imported.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".pytest_cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

# Much of the time of many tests is LLVM's on programs that run for milliseconds; CI has what users have.
if "CI" not in os.environ:
    os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=1")

import jax.numpy as jnp
import pytest
from hypothesis import HealthCheck, settings

import cli_models
import fake_samna as fake_samna_module
import random_layouts
import samna_boards
import small_networks
from nir_dynapse.layout.layout import Layout
from precision import double_precision

# A loaded machine must not fail a test that is merely slow; CI runs the same cases every time, a desk looks for new ones.
settings.register_profile(
    "nir_dynapse", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize="CI" in os.environ
)
settings.load_profile("nir_dynapse")


@pytest.fixture
def double() -> Iterator[None]:
    """float64 in one test only."""
    with double_precision():
        yield
    assert jnp.ones(1).dtype == jnp.float32


@pytest.fixture(scope="session")
def fake_samna() -> ModuleType:
    """Stand-ins for samna's configuration classes."""
    return fake_samna_module


@pytest.fixture
def opened(tmp_path: Path) -> samna_boards.Opener:
    """`open_samna` of a fake samna, with a bit file."""
    return samna_boards.opener(tmp_path)


@pytest.fixture(scope="session")
def networks() -> ModuleType:
    """Makers of small networks."""
    return small_networks


@pytest.fixture
def model(tmp_path: Path) -> str:
    """A small model in a NIR file."""
    return cli_models.write(tmp_path / "tiny.nir", cli_models.graph())


@pytest.fixture
def data(tmp_path: Path) -> str:
    """Labelled data for `model`."""
    return cli_models.save(tmp_path / "test.npz")


@pytest.fixture(scope="session")
def random_layout() -> Callable[..., Layout]:
    """`random_layout(seed, n_chips=1, n_neurons=20)`: a Layout full of random, valid bits and names."""
    return random_layouts.random_layout
