"""JAX's programs are kept in the user's cache, unless the user has said something else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nir_dynapse.sim import programs

SECONDS = programs.SECONDS


class Config(SimpleNamespace):
    """As much of `jax.config` as is looked at."""

    def update(self, name: str, value: Any) -> None:
        assert hasattr(self, name)
        setattr(self, name, value)


def config(**changes: Any) -> Config:
    usual: dict[str, Any] = {
        "jax_compilation_cache_dir": None,
        "jax_enable_compilation_cache": True,
        "jax_compilation_cache_max_size": -1,
        SECONDS: 1.0,
    }
    return Config(**(usual | changes))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv(SECONDS.upper(), raising=False)
    return tmp_path / "nir_dynapse" / "jax"


def kept(monkeypatch: pytest.MonkeyPatch, known: Config) -> Config:
    monkeypatch.setattr(programs, "jax", SimpleNamespace(config=known))
    programs.keep()
    return known


def test_small_programs_too(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = kept(monkeypatch, config())
    assert known.jax_compilation_cache_dir == str(place)
    assert getattr(known, SECONDS) == 0
    (place / "a-cache").write_bytes(b"123")
    assert programs.held() == (str(place), 1, 3)


def test_what_the_user_has_set_wins(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for change in ({"jax_compilation_cache_dir": "/mine"}, {"jax_enable_compilation_cache": False}):
        known = config(**change)
        before = dict(vars(known))
        assert vars(kept(monkeypatch, known)) == before
    assert not place.exists()
    assert getattr(kept(monkeypatch, config(**{SECONDS: 3.0})), SECONDS) == 3
    monkeypatch.setenv(SECONDS.upper(), "1.0")
    assert getattr(kept(monkeypatch, config()), SECONDS) == 1


def test_a_place_that_cannot_be_written_is_no_fault(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place.parent.write_text("in the way")
    assert kept(monkeypatch, config()).jax_compilation_cache_dir is None
    assert programs.held() == (None, 0, 0)


def test_the_programs_not_used_for_longest_go(tmp_path: Path) -> None:
    for age in range(10):
        path = tmp_path / f"{age}-cache"
        path.write_bytes(bytes(10))
        os.utime(path, (1e9 - age, 1e9 - age))
    (tmp_path / "empty-cache").touch()
    programs.trim(tmp_path, 100)
    assert len(list(tmp_path.iterdir())) == 10  # what a killed process left is gone
    programs.trim(tmp_path, 99)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{age}-cache" for age in range(4)]


def test_jax_takes_it_and_the_next_process_finds_it(tmp_path: Path) -> None:
    code = (
        "import jax, sys; from nir_dynapse.sim import engine\n"
        "seen = []; jax.monitoring.register_event_listener(lambda name, **more: seen.append(name))\n"
        "assert jax.jit(lambda x: x * 3 + 1)(2.0) == 7\n"
        "print('/jax/compilation_cache/cache_hits' in seen)\n"
    )
    mine = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    environment = mine | {"NUMBA_CACHE_DIR": str(tmp_path), "JAX_PLATFORMS": "cpu"}
    run = [
        subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
        for _ in range(2)
    ]
    assert [r.stdout.strip() for r in run] == ["False", "True"], run[0].stderr + run[1].stderr
    assert not any(r.stderr for r in run)
