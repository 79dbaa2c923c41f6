"""Completion scripts: made from the parser, sound in their shells, and right in bash for what people type."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from nir_dynapse.cli.completion import script
from nir_dynapse.cli.main import main
from nir_dynapse.cli.options import FRONTENDS
from nir_dynapse.cli.verbs import VERBS

CHECK = {"bash": ["bash", "-n"], "zsh": ["zsh", "-n"], "fish": ["fish", "-n"]}


@pytest.mark.parametrize("shell", sorted(CHECK))
def test_scripts(shell: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    text = capsys.readouterr().out
    assert text.strip() == script(shell).strip()
    assert main(["completion", shell, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"shell": shell, "script": script(shell)}
    assert "@" not in text.replace('"$@"', "")
    assert "python" not in text.lower()
    for word in (*VERBS, *FRONTENDS, "primitives", "fan-in", "virtual"):
        assert word in text
    (tmp_path / "script").write_text(text)
    if shutil.which(shell):
        subprocess.run([*CHECK[shell], str(tmp_path / "script")], check=True, timeout=20)


def bash(words: list[str], folder: Path) -> set[str]:
    """What bash offers for the last of `words`."""
    line = f"COMP_WORDS=({shlex.join(words)}); COMP_CWORD={len(words) - 1}; _nir_dynapse"
    code = f'{script("bash")}\n{line}; printf "%s\\n" "${{COMPREPLY[@]}}"'
    run = subprocess.run(["bash", "-c", code], capture_output=True, text=True, cwd=folder, timeout=20)
    assert run.stderr == "", run.stderr
    return set(run.stdout.split("\n")) - {""}


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("che", {"check"}),
        ("--", {"--help", "--version"}),
        ("check --fan", {"--fan-in"}),
        ("check --fan-in ", {"train", "prune", "refuse"}),
        ("check --fan-in = pr", {"prune"}),
        ("check --fan-in =", {"train", "prune", "refuse"}),
        ("check ", {"a model.nir", "b.nir", "folder"}),
        ("check b.nir --dt 0.001 --st", {"--strict"}),
        ("check --dt ", set()),
        ("check --profile ", {"a model.nir", "b.nir", "c.npz", "config.json.gz", "folder", "layout.json"}),
        ("deploy b.nir --board v", {"virtual:0"}),
        ("deploy --board virtual : 7 b", {"b.nir"}),
        ("deploy b.nir --data ", {"c.npz", "folder"}),
        ("simulate ", {"a model.nir", "b.nir", "c.npz", "layout.json", "folder"}),
        ("import con", {"config.json.gz"}),
        ("finetune --loss m", {"max-over-time"}),
        ("show p", {"parameters", "primitives"}),
        ("schema f", {"finetune"}),
        ("completion ", {"bash", "zsh", "fish"}),
    ],
)
def test_bash_offers(line: str, offered: set[str], tmp_path: Path) -> None:
    for name in ("a model.nir", "b.nir", "c.npz", "layout.json", "config.json.gz"):
        (tmp_path / name).touch()
    (tmp_path / "folder").mkdir()
    assert bash(["nir-dynapse", *line.split(" ")], tmp_path) == offered


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_bash_offers_every_option(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for verb in VERBS:
        assert main([verb, "--help"]) == 0
        known = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", capsys.readouterr().out.split("examples:")[0]))
        assert bash(["nir-dynapse", verb, "--"], tmp_path) <= known
        assert {"--json", "--help"} <= bash(["nir-dynapse", verb, "--"], tmp_path)
    assert bash(["nir-dynapse", ""], tmp_path) == {*VERBS, "--help", "--version"}
    loaded = f"{script('bash')}\ncomplete -p nir-dynapse"
    run = subprocess.run(["bash", "-c", loaded], capture_output=True, text=True, timeout=20)
    assert run.stdout.split() == ["complete", "-F", "_nir_dynapse", "nir-dynapse"]
