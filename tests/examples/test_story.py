"""The notebook `examples/story.ipynb`: every cell runs, and what is stored in it is what the cells give.

Cells run here by `compile` and `exec`: Jupyter's own runner would add 27 packages to the tests. What is stored is made by

    python3 -m uv run --with nbconvert --with ipykernel jupyter nbconvert --to notebook --execute --inplace \\
        --ExecutePreprocessor.record_timing=False examples/story.ipynb
"""

from __future__ import annotations

import ast
import base64
import contextlib
import io
import json
import re
from typing import Any

import pytest

from places import ROOT

pytest.importorskip("matplotlib", reason="the extra `plot` is not installed")

NOTEBOOK = ROOT / "examples" / "story.ipynb"
CELLS: list[dict[str, Any]] = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
CODE = [cell for cell in CELLS if cell["cell_type"] == "code"]
MOST_BYTES = 500_000


def printed(cell: dict[str, Any]) -> str:
    return "".join("".join(out["text"]) for out in cell["outputs"] if out["output_type"] == "stream")


def pictures(cell: dict[str, Any]) -> list[bytes]:
    found = [out["data"].get("image/png") for out in cell["outputs"] if "data" in out]
    return [base64.b64decode("".join(png)) for png in found if png]


def words(text: str) -> str:
    """Text without its numbers, which training on another computer may change a little."""
    return re.sub(r"\d[\d.,]*|\s+", " ", text).strip()


@pytest.mark.long
def test_story_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(NOTEBOOK.parent)
    space: dict[str, Any] = {"__name__": "__main__"}
    for number, cell in enumerate(CODE):
        tree = ast.parse("".join(cell["source"]), f"cell {number}")
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        shown, out = None, io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(tree, f"cell {number}", "exec"), space)
            if isinstance(last, ast.Expr):
                shown = eval(compile(ast.Expression(last.value), f"cell {number}", "eval"), space)
        assert words(out.getvalue()) == words(printed(cell)), number
        assert (shown is not None) == bool(pictures(cell)), number
        if shown is not None:
            drawn = shown._repr_png_()
            assert [png[16:24] for png in pictures(cell)] == [drawn[16:24]], "width and height of the pictures"
    accuracies = [float(space[name].median) for name in ("before", "after")]
    assert accuracies[1] > accuracies[0], "fine-tuning is worth its while"


def test_stored_outputs_are_complete_and_clean() -> None:
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert len(text.encode()) <= MOST_BYTES
    assert [cell["execution_count"] for cell in CODE] == list(range(1, len(CODE) + 1))
    assert sum(len(pictures(cell)) for cell in CODE) == 6
    for cell in CODE:
        assert all(out["output_type"] in ("stream", "execute_result") for out in cell["outputs"])
        assert all(out.get("name", "stdout") == "stdout" for out in cell["outputs"]), "no warnings"
    assert len({cell["id"] for cell in CELLS}) == len(CELLS)
    assert all(not cell["metadata"] for cell in CELLS), "neither times nor machines"
    assert not re.search(r"/(root|home|tmp|usr|Users|work)/|[A-Z]:\\\\", text)


def test_it_is_short_and_uses_the_public_names_only() -> None:
    tree = ast.parse("\n".join("".join(cell["source"]) for cell in CODE))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert imported == {"nir_dynapse"}
    assert {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)} == {"nir_dynapse"}
    assert all(len("".join(cell["source"])) < 600 for cell in CELLS)
