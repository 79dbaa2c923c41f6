"""The rules of the design that a reader of imports can check: direction, where heavy packages may appear, file sizes."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = Path(__file__).parent.parent / "nir_dynapse"
CORE = (
    "errors",
    "files",
    "outside",
    "encoders",
    "measured",
    "profile_files",
    "profile",
    "device",
    "biasgen",
    "population",
    "network",
    "readout",
    "redundancy",
    "currents",
    "params",
    "rows",
    "layout_checks",
    "layout",
    "closed_form",
    "decoding",
    "rewriting",
    "recording",
    "board",
    "params_file",
    "grid",
    "link",
    "linear",
    "neurons",
    "primitives",
    "utilisation",
    "conversion_table",
    "rounding_table",
    "svg",
    "plots",
    "rasters",
    "training_log",
    "chips_table",
    "report_tables",
    "floor_plan",
    "weight_figures",
    "html_parts",
    "report_figures",
    "html_report",
    "reporting",
    "checks",
)
STAGES = ("import_", "sim", "quant", "export")
ABOVE = (
    "compiler",
    "backend",
    "evaluation",
    "tuning_start",
    "tuning_options",
    "tuning_state",
    "tuning_task",
    "tuning_board",
    "tuning",
    "deployment_training",
    "deployment",
    "calibration_design",
    "calibration_fit",
    "calibration_rows",
    "calibration",
    "figure_parts",
    "figure_floor",
    "figure_spike",
    "figures",
)
LAVA_USES = ("import_.nir_graph", "sim.circuit", "sim.disturbance", "sim.dynamics", "sim.mismatch", "sim.wiring")
"""What the Lava processes use of the stages: reading, the equations, and virtual chips; all of it NumPy."""
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
    if module in CORE:
        return other in CORE and CORE.index(other) < CORE.index(module)
    if top in STAGES:
        return other in CORE or below == top
    if module in ABOVE:
        return other in CORE or below in STAGES or other in ABOVE[: ABOVE.index(module)]
    if top == "lava_process":
        return other in CORE or other in LAVA_USES or below == top
    if module == "__main__":
        return other == "cli"
    return module.startswith("cli") and below != "lava_process"


@pytest.mark.parametrize("module", [m for m in MODULES if m != "__init__"])
def test_import_direction(module: str) -> None:
    wrong = [f"line {line}: {other}" for other, line in own_imports(module) if not may_import(module, other)]
    assert not wrong, f"nir_dynapse.{module} must not import {', '.join(wrong)}"


def test_every_module_has_a_place() -> None:
    tops = {module.split(".")[0] for module in MODULES if not module.startswith("cli")}
    assert tops <= {*CORE, *STAGES, *ABOVE, "lava_process", "__init__", "__main__"}


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
    allowed = {m for m in MODULES if m.startswith("sim.") and m != "sim.dynamics"} | {"params", "cli_doctor"}
    assert users_of("jax") <= allowed
    assert "cli_doctor" not in users_of("jax", module_level=True)


@pytest.mark.parametrize(
    ("package", "places"),
    [
        ("networkx", "quant."),
        ("rich", "cli"),
        ("lava", "lava_process."),
        ("optax", "sim.training"),
        ("samna", "export.samna_board"),
        ("matplotlib", "figure"),
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
    """No pickles, no eval; `outside` alone reads what NumPy wrote, after its sizes were checked."""
    wrong = []
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.Call) and any(k.arg == "allow_pickle" for k in node.keywords):
            pickles = next(k.value for k in node.keywords if k.arg == "allow_pickle")
            if not (isinstance(pickles, ast.Constant) and pickles.value is False):
                wrong.append(f"line {node.lineno}: pickles are allowed")
        if isinstance(node, ast.Attribute) and ast.unparse(node) in NUMPY_READERS:
            wrong.append(f"line {node.lineno}: {ast.unparse(node)}")
        if isinstance(node, ast.Name) and node.id in ("eval", "exec") and module != "sim.native_build":
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
        ("device", "network"),
        ("sim.simulation", "quant.biases"),
        ("layout", "sim.dynamics"),
        ("export.nir_graph", "compiler"),
        ("compiler", "deployment"),
        ("lava_process.models", "sim.simulation"),
        ("cli_verbs", "lava_process.process"),
        ("reporting", "cli"),
    ],
)
def test_the_rule_itself(module: str, other: str) -> None:
    assert not may_import(module, other)
