"""The rules of the design that a reader of imports can check: direction, where heavy packages may appear, file sizes."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from places import PACKAGE

FLOORS = (
    ("errors",),
    ("files",),
    ("chip",),
    ("network",),
    ("circuit", "data"),
    ("layout",),
    ("board", "reporting"),
    ("import_", "sim", "quant", "export"),
    ("backend", "lava_process", "evaluation", "calibration"),
    ("fitting",),
    ("training", "figures"),
    ("deployment",),
    ("cli",),
)
"""The house from below: a folder imports itself and folders of lower floors, none beside it."""
ARROWS = FLOORS[7]
FLOOR = {folder: number for number, folders in enumerate(FLOORS) for folder in folders}
TOPS = {"__init__", "__main__", "backend", "errors"}
"""Modules on the package's top; a new one belongs into a folder."""
MOST_TOPS = 12
LAVA_USES = ("import_.nir_graph", "sim.circuit", "sim.disturbance", "sim.dynamics", "sim.mismatch", "sim.wiring")
"""What the Lava processes use of the stages: reading, the equations, and virtual chips; all of it NumPy."""
NUMPY_ONLY = ("circuit", "closeup", "disturbance", "dynamics", "mismatch", "wiring")
"""Modules of `sim` without JAX."""
LATE = ("simulation", "reference", "ensemble", "ensemble_native", "native.here", "native.plain", "native.play")
"""Modules of `sim` that load JAX, and with it a compiler, only where XLA runs."""
MOST_LINES = 400
NUMPY_READERS = {
    f"np.{name}" for name in ("load", "fromfile", "memmap", "loadtxt", "genfromtxt", "lib.format.read_array")
}
MODULES = sorted(
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts) for path in PACKAGE.rglob("*.py") if path.stat().st_size
)


class Import(NamedTuple):
    module: str
    line: int
    inside_function: bool
    type_checking: bool


def path_of(module: str) -> Path:
    return PACKAGE.joinpath(*module.split(".")).with_suffix(".py")


@cache
def tree_of(module: str) -> ast.Module:
    return ast.parse(path_of(module).read_text(encoding="utf-8"))


def targets(node: ast.AST) -> list[str]:
    """Modules that an import statement names; a `from package import module` names the module."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    assert node.level == 0, "imports are absolute"
    base = str(node.module)
    below = [f"{base}.{alias.name}" for alias in node.names]
    own = [b for b in below if b.startswith("nir_dynapse.") and exists(b.removeprefix("nir_dynapse."))]
    return own or [base]


def exists(module: str) -> bool:
    return path_of(module).exists() or path_of(module).with_suffix("").is_dir()


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


@cache
def imports(module: str) -> tuple[Import, ...]:
    found: list[Import] = []

    def visit(node: ast.AST, function: bool, checking: bool) -> None:
        for name in targets(node):
            found.append(Import(name, getattr(node, "lineno", 0), function, checking))
        function = function or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        checking = checking or is_type_checking(node)
        for child in ast.iter_child_nodes(node):
            visit(child, function, checking)

    visit(tree_of(module), False, False)
    return tuple(found)


def own_imports(module: str) -> list[tuple[str, int]]:
    """Imported modules of this package without its name, and the line."""
    prefix = "nir_dynapse."
    return [(i.module.removeprefix(prefix), i.line) for i in imports(module) if i.module.startswith(prefix)]


def users_of(package: str, *, module_level: bool = False) -> set[str]:
    """Modules that import a third-party package (anywhere, or outside functions only)."""
    return {
        module
        for module in MODULES
        for i in imports(module)
        if i.module.split(".")[0] == package and not (module_level and (i.inside_function or i.type_checking))
    }


def may_import(module: str, other: str) -> bool:
    """Whether the design lets `module` import `other` (both without the package's name)."""
    top, below = module.split(".")[0], other.split(".")[0]
    if module == "__main__":
        return below == "cli"
    if top == "lava_process" and below in ARROWS:
        return other in LAVA_USES
    if below == "lava_process":
        return top == below
    return top == below or FLOOR[below] < FLOOR[top]


@pytest.mark.parametrize("module", [m for m in MODULES if m != "__init__"])
def test_import_direction(module: str) -> None:
    wrong = [f"line {line}: {other}" for other, line in own_imports(module) if not may_import(module, other)]
    assert not wrong, f"nir_dynapse.{module} must not import {', '.join(wrong)}"


def test_nothing_new_on_top() -> None:
    tops = {path.stem for path in PACKAGE.glob("*.py")}
    assert tops == TOPS
    assert len(tops) <= MOST_TOPS


def test_every_folder_has_a_floor() -> None:
    folders = {path.parent.relative_to(PACKAGE).parts[0] for path in PACKAGE.glob("*/**/*.py")}
    assert folders | TOPS == FLOOR.keys() | TOPS


@pytest.mark.parametrize("folder", sorted({m.rpartition(".")[0] for m in MODULES if "." in m} - {"sim.native.kernels"}))
def test_folder_says_what_lives_there_and_what_it_may_import(folder: str) -> None:
    said = ast.get_docstring(tree_of(f"{folder}.__init__")) or ""
    assert "\n\n" in said
    assert "ay import " in said


@pytest.mark.parametrize("module", MODULES)
def test_names_do_not_repeat_their_folder(module: str) -> None:
    *folders, name = module.split(".")
    assert not any(name.startswith(f"{folder.rstrip('_')}_") for folder in folders)


def test_package_itself_loads_nothing() -> None:
    loaded = {i.module for i in imports("__init__") if not (i.type_checking or i.inside_function)}
    assert loaded <= {"__future__", "importlib", "typing"}


def test_public_names_are_where_the_package_says() -> None:
    import nir_dynapse

    typed = {
        alias.asname or alias.name: str(node.module).removeprefix("nir_dynapse.")
        for branch in tree_of("__init__").body
        if is_type_checking(branch)
        for node in ast.walk(branch)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    lazy = {name: home for home, names in nir_dynapse._HOME.items() for name in names}
    assert typed == lazy
    assert {*lazy, "__version__"} == set(nir_dynapse.__all__)


def test_jax_only_where_it_belongs() -> None:
    allowed = {m for m in MODULES if m.startswith(("sim.", "fitting.", "training."))} - {
        f"sim.{name}" for name in NUMPY_ONLY
    }
    assert users_of("jax", module_level=True) <= allowed
    assert users_of("jax") <= allowed | {"cli.doctor"}
    late = {"fitting.fit", "fitting.distance", *(f"sim.{name}" for name in LATE)}
    assert not users_of("jax", module_level=True) & late


def test_whatever_compiles_with_jax_keeps_the_programs() -> None:
    """A module with `jax.jit` loads `sim.programs`, itself or through others, before it compiles anything: beside JAX, or
    in the function where it loads JAX."""

    def loaded(module: str) -> set[str]:
        found, waiting = set(), [module]
        late = module not in users_of("jax", module_level=True)
        while waiting:
            here = waiting.pop()
            if here not in found and here in MODULES:
                found.add(here)
                waiting += [
                    i.module.removeprefix("nir_dynapse.")
                    for i in imports(here)
                    if i.module.startswith("nir_dynapse.")
                    and not ((i.inside_function and not (late and here == module)) or i.type_checking)
                ]
        return found

    jitting = [m for m in MODULES if "jax.jit" in path_of(m).read_text(encoding="utf-8")]
    assert len(jitting) > 4
    assert [m for m in jitting if "sim.programs" not in loaded(m)] == []


@pytest.mark.parametrize(
    ("package", "places"),
    [
        ("networkx", "quant."),
        ("rich", "cli."),
        ("lava", "lava_process."),
        ("optax", "training."),
        ("samna", "export.samna_board"),
        ("matplotlib", "figures."),
    ],
)
def test_package_only_where_it_belongs(package: str, places: str) -> None:
    assert all(module.startswith(places) for module in users_of(package))


@pytest.mark.parametrize("package", ["samna", "torch", "matplotlib", "tensorflow", "pandas"])
def test_package_never_at_module_level(package: str) -> None:
    assert not users_of(package, module_level=True)


@pytest.mark.parametrize("module", MODULES)
def test_no_assert_print_or_bare_except(module: str) -> None:
    wrong = []
    for node in ast.walk(tree_of(module)):
        is_print = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
        is_bare = isinstance(node, ast.ExceptHandler) and node.type is None
        if is_print or is_bare or isinstance(node, ast.Assert):
            wrong.append(f"line {getattr(node, 'lineno', 0)}: {type(node).__name__}")
    assert not wrong


@pytest.mark.parametrize("module", MODULES)
def test_nothing_from_a_file_is_run(module: str) -> None:
    """No pickles, no eval; `files.bounds` alone reads what NumPy wrote, after its sizes were checked."""
    wrong = []
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.Call) and any(k.arg == "allow_pickle" for k in node.keywords):
            pickles = next(k.value for k in node.keywords if k.arg == "allow_pickle")
            if not (isinstance(pickles, ast.Constant) and pickles.value is False):
                wrong.append(f"line {node.lineno}: pickles are allowed")
        if isinstance(node, ast.Attribute) and ast.unparse(node) in NUMPY_READERS:
            wrong.append(f"line {node.lineno}: {ast.unparse(node)}")
        if isinstance(node, ast.Name) and node.id in ("eval", "exec") and module != "sim.native.front":  # our own text
            wrong.append(f"line {node.lineno}: {node.id}")
    wrong += [i.module for i in imports(module) if i.module.split(".")[0] in ("pickle", "shelve", "marshal", "dill")]
    assert not wrong


@pytest.mark.parametrize("module", MODULES)
def test_file_size(module: str) -> None:
    assert len(path_of(module).read_text(encoding="utf-8").splitlines()) <= MOST_LINES


@pytest.mark.parametrize("module", MODULES)
def test_module_says_what_it_is(module: str) -> None:
    assert ast.get_docstring(tree_of(module))


@pytest.mark.parametrize(
    ("module", "other"),
    [
        ("chip.device", "network.network"),
        ("sim.simulation", "quant.biases"),
        ("circuit.params", "data.data"),
        ("layout.layout", "sim.dynamics"),
        ("export.nir_graph", "quant.compiler"),
        ("quant.compiler", "deployment.deploy"),
        ("quant.compiler", "fitting.fit"),
        ("fitting.fit", "training.start"),
        ("backend", "evaluation.evaluate"),
        ("lava_process.models", "sim.simulation"),
        ("cli.verbs", "lava_process.process"),
        ("reporting.report", "cli.output"),
    ],
)
def test_the_rule_itself(module: str, other: str) -> None:
    assert not may_import(module, other)
