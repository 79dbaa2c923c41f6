"""The numbered examples run as a user runs them, show what they say they show, and stand in their index."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import nir_dynapse as nd
from places import ROOT

EXAMPLES = sorted((ROOT / "examples").glob("[0-9]*.py"))
INDEX = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
ABSENT = """
import importlib.metadata, runpy, sys
version = importlib.metadata.version
def known(name):
    if name == "lava-nc":
        raise importlib.metadata.PackageNotFoundError(name)
    return version(name)
importlib.metadata.version = known
sys.modules.update(torch=None, snntorch=None, norse=None)
runpy.run_path(sys.argv.pop(1))
"""
"""Runs a script where neither a frontend nor Lava is installed."""
FORGETFUL = """
import dataclasses, runpy, sys
import nir_dynapse as nd
read = nd.from_samna
nd.from_samna = lambda *a, **k: dataclasses.replace(read(*a, **k), dt=2e-3)
runpy.run_path(sys.argv.pop(1), run_name="__main__")
"""
"""Runs a script with a `from_samna` that gets the step wrong."""


def run(name: str, out: Path, *options: str, code: int = 0) -> str:
    """What example `name` prints, with results in a folder that it has to make."""
    (script,) = (ROOT / "examples").glob(f"{name}*.py")
    command = [sys.executable, str(script.relative_to(ROOT)), "-o", str(out / "new" / "out"), *options]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert said.returncode == code, said.stdout + said.stderr[-3000:]
    assert not said.stderr
    return said.stdout


def files(out: Path) -> set[str]:
    return {path.name for path in (out / "new" / "out").iterdir()}


def number(pattern: str, text: str) -> float:
    """The one number that `pattern` finds in `text`."""
    (found,) = re.findall(pattern, text)
    return float(found)


def test_they_are_numbered_without_a_gap_and_tell_their_command() -> None:
    assert [path.name[:3] for path in EXAMPLES] == [f"0{k}_" for k in range(1, 10)]
    for path in EXAMPLES:
        head = path.read_text(encoding="utf-8").split('"""')[1]
        assert f"python examples/{path.name}" in head


def test_the_index_has_each_of_them_in_order() -> None:
    rows = re.findall(r"^\| \[(\S+)\]\((\S+)\) \|", INDEX, re.M)
    assert rows == [(path.name, path.name) for path in EXAMPLES]
    for path in EXAMPLES:
        assert f"\n## {path.stem}\n" in INDEX
        assert f"examples/{path.name}" in INDEX.split(f"\n## {path.stem}\n")[1].split("\n## ")[0]


@pytest.mark.parametrize("name", ["01_export_snntorch", "02_export_norse", "06_lava"])
def test_without_the_framework_one_sentence_says_what_to_install(name: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", ABSENT, f"examples/{name}.py", "-o", str(tmp_path / "out")]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert said.returncode == 3
    assert not said.stdout
    assert re.fullmatch(r"This example (trains|runs) in (snnTorch|Norse|Lava)\b.+\bpip install .+\.\n", said.stderr)
    assert not (tmp_path / "out").exists()


def test_check_and_compile(tmp_path: Path) -> None:
    said = run("03", tmp_path)
    assert files(tmp_path) == {"digits.html", "digits.layout.json"}
    assert "hidden.w_rec    Linear   -> 2116 synapses (exact)" in said
    refusals = re.findall(r"^(\S.*): (\w+Error)\n  (.*)", said, re.M)
    assert [kind for _, kind, _ in refusals] == [
        "CapacityError",
        "CapacityError",
        "UnsupportedGraphError",
        "ParameterRangeError",
    ]
    begins = ("30 neurons of node 'lif'", "1500 neurons", "node 'delay'", "node 'lif'")
    for (_, _, sentence), words in zip(refusals, begins, strict=True):
        assert sentence.startswith(words)
    assert nd.Layout.load(tmp_path / "new" / "out" / "digits.layout.json").n_neurons == 56


@pytest.mark.long
def test_fine_tune(tmp_path: Path) -> None:
    said = run("04", tmp_path, "--steps", "150")
    assert files(tmp_path) == {"training.csv", "training.svg", "tuned.npz"}
    assert len(re.findall(r"step \d+, loss .* held out", said)) == 6
    assert number(r"The median chip gained (\S+) points", said) > 0
    assert nd.load_params(tmp_path / "new" / "out" / "tuned.npz").topology.mask is not None


@pytest.mark.long
def test_virtual_chip_and_in_the_loop(tmp_path: Path) -> None:
    said = run("05", tmp_path, "--steps", "12")
    assert "board and simulation: the same" in said
    assert "sample 0: 5 events in" in said
    before, after = (number(rf"(\S+)% {when}", said) for when in ("before", "after"))
    assert after > before + 5
    assert len(nd.Events.load(tmp_path / "new" / "out" / "spikes.npz")) > 0


def test_round_trip(tmp_path: Path) -> None:
    said = run("07", tmp_path)
    assert said.count(": yes") == 3
    assert "NO" not in said
    assert files(tmp_path) == {"round_trip.json.gz", "round_trip.layout.json", "round_trip.nir"}


@pytest.mark.long
def test_stack_of_chips(tmp_path: Path) -> None:
    said = run("08", tmp_path)
    assert "1920 neurons" in said
    assert "the neurons alone take 2 chips" in said
    placed, in_order = (number(pattern, said) for pattern in (r"chips: (\d+) per", r"; (\d+) if"))
    assert placed < 0.7 * in_order
    assert "output spikes, those of simulate" in said
    assert nd.Layout.load(tmp_path / "new" / "out" / "stack.layout.json").n_chips == 2


@pytest.mark.long
def test_profile_with_bad_rows(tmp_path: Path) -> None:
    said = run("09", tmp_path)
    blind, aware = (number(pattern, said) for pattern in (r": (\d+) bad CAM rows in use", r"with it: (\d+)"))
    assert blind > 100
    assert aware == 0
    without, known = (number(rf"{how} the profile, 20 worn chips: median (\S+)%", said) for how in ("without", "with"))
    assert known > without + 20
    assert files(tmp_path) == {"worn.html", "worn.layout.json"}


def test_what_does_not_hold_ends_in_an_error(tmp_path: Path) -> None:
    """What comes back from the configuration is another Layout here."""
    said = subprocess.run(
        [sys.executable, "-c", FORGETFUL, "examples/07_round_trip.py", "-o", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert said.returncode == 1, said.stderr
    assert said.stdout.endswith("equals the one that was written: NO\n")


def test_own_loop(tmp_path: Path) -> None:
    said = run("own_loop", tmp_path, "--steps", "3", "--chips", "2")
    assert re.search(r"step 2, loss \d\.\d+", said)
    assert len(re.findall(r"2 unseen chips: median \d+\.\d %", said)) == 2
    assert nd.Layout.load(tmp_path / "new" / "out" / "own_loop.json").n_neurons > 0


@pytest.mark.long
def test_own_loop_trains(tmp_path: Path) -> None:
    said = run("own_loop", tmp_path)
    before, after = (number(rf"{when}: .* median (\S+) %", said) for when in ("before", "after"))
    assert after > before + 10


@pytest.mark.long
def test_own_readout_trains(tmp_path: Path) -> None:
    pytest.importorskip("equinox")
    said = run("own_readout", tmp_path, "--chips", "6")
    assert number(r"(\S+) % on the median", said) > 70
    assert files(tmp_path) == {"own_readout.json", "own_readout.eqx"}
