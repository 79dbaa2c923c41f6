"""Array functions as functions of single numbers, so that equations are written once and Numba compiles them in loops.

A function of arrays with the array module as its argument `xp` becomes, with every number in it of one precision, a
function of numbers: `xp.maximum(a, 0.5 * b)` turns into `maximum(a, kind(0.5) * b)`. Text only: no Numba here.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable
from typing import Any

__all__ = ["source_of"]


class _Numbers(ast.NodeTransformer):
    """Literals in one precision, functions of `xp` by their names."""

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        if isinstance(node.value, bool) or not isinstance(node.value, (int, float)):
            return node
        return ast.Call(ast.Name("kind", ast.Load()), [node], [])

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        if isinstance(node.value, ast.Name) and node.value.id == "xp":
            return ast.Name(node.attr, ast.Load())
        return self.generic_visit(node)


def source_of(function: Callable[..., Any]) -> str:
    """Source of the function for numbers of `kind`; the argument `xp` stays and is to be None."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    (definition,) = tree.body
    if not isinstance(definition, ast.FunctionDef):
        raise TypeError(f"{function} is not a plain function")
    definition.returns, definition.decorator_list = None, []
    for argument in definition.args.args:
        argument.annotation = None
    definition.body = [_Numbers().visit(part) for part in definition.body if not isinstance(part, ast.Expr)]
    return ast.unparse(ast.fix_missing_locations(tree))
