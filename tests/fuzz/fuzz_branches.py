"""Which branches of the reading modules a case reaches: counters that are written into their source when it is imported.

Cheaper than a trace function (one store per branch, no calls), the same on every Python, and without a dependency.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import CodeType, ModuleType
from typing import Any

__all__ = ["HITS", "install"]

HITS = bytearray(1 << 14)
"""One byte per branch, 1 where it was reached since the last `HITS[:] = bytes(len(HITS))`."""
NAME = "_FUZZ_HITS"


class _Counters(ast.NodeTransformer):
    """Puts a counter at the beginning of every function, loop, handler and branch, and of both sides of an `if`."""

    def __init__(self, first: int) -> None:
        self.next = first

    def _counter(self, place: ast.AST) -> ast.stmt:
        statement = ast.parse(f"{NAME}[{self.next}] = 1").body[0]
        self.next += 1
        for node in ast.walk(statement):
            ast.copy_location(node, place)
        return statement

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        if isinstance(node, (ast.FunctionDef, ast.For, ast.While, ast.ExceptHandler, ast.If, ast.Try, ast.With)):
            first = node.body[0]
            says = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
            at = 1 if says and isinstance(node, ast.FunctionDef) else 0
            node.body.insert(at, self._counter(first))
        if isinstance(node, ast.If) or (isinstance(node, ast.Try) and node.orelse):
            node.orelse.insert(0, self._counter(node.orelse[0] if node.orelse else node))
        return node

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        self.generic_visit(node)
        for side in ("body", "orelse"):
            value = getattr(node, side)
            mark = ast.parse(f"{NAME}.__setitem__({self.next}, 1) or 0", mode="eval").body
            self.next += 1
            if isinstance(mark, ast.BoolOp):
                mark.values[1] = value
            setattr(node, side, ast.fix_missing_locations(ast.copy_location(mark, value)))
        return node


class _Loader(SourceFileLoader):
    next = 0

    def get_code(self, fullname: str) -> CodeType | None:
        return self._counted(self.get_data(self.path), self.path)  # never from __pycache__

    def _counted(self, data: Any, path: Any) -> CodeType:
        counters = _Counters(_Loader.next)
        tree = ast.fix_missing_locations(counters.visit(ast.parse(data)))
        _Loader.next = counters.next
        if counters.next > len(HITS):
            raise RuntimeError(f"more than {len(HITS)} branches: make HITS longer")
        return compile(tree, path, "exec", dont_inherit=True)

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__[NAME] = HITS
        super().exec_module(module)


class _Finder(MetaPathFinder):
    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if not any(fullname == name or fullname.startswith(f"{name}.") for name in self.names):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or not isinstance(spec.loader, SourceFileLoader):
            return spec
        spec.loader = _Loader(fullname, spec.loader.path)
        return spec


def install(names: Sequence[str]) -> None:
    """Count the branches of these modules, and of the modules of these packages, that are imported from now on."""
    if early := [name for name in names if name in sys.modules]:
        raise RuntimeError(f"imported too early to be counted: {', '.join(early)}")
    sys.meta_path.insert(0, _Finder(names))
