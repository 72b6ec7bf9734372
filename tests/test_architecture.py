"""The rules of CONTRIBUTING that neither ruff nor import-linter can hold."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PRODUCT = ("clients", "distill", "distilrec", "export")
LONGEST_FUNCTION = 40
UNDECLARABLE = {"pydantic_core"}
"""pydantic needs one exact version of it, and its documentation imports errors from there."""


def sources(*packages: str) -> list[Path]:
    return [path for package in packages for path in sorted((ROOT / package).rglob("*.py"))]


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_no_function_is_longer_than_a_screen():
    long = [
        f"{path.relative_to(ROOT)}: {function.name} has {lines} lines"
        for path in sources(*PRODUCT, "benchmarks", "triton_repo")
        for function in functions(path)
        if (lines := (function.end_lineno or 0) - function.lineno + 1) > LONGEST_FUNCTION
    ]
    assert not long


def test_every_import_within_a_function_states_its_reason():
    # Those of the commands have one reason, in the docstring of distilrec/cli.
    unexplained = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in sources(*PRODUCT)
        if path.parent != ROOT / "distilrec" / "cli"
        for line in unexplained_imports(path)
    ]
    assert not unexplained


def unexplained_imports(path: Path) -> Iterator[int]:
    """Lines of imports within functions of which neither the line itself nor the one above the block of imports has a comment."""
    lines = path.read_text(encoding="utf-8").splitlines()
    for function in functions(path):
        imports = sorted(node.lineno for node in ast.walk(function) if isinstance(node, ast.Import | ast.ImportFrom))
        for line in imports:
            first = line
            while first - 1 in imports:
                first -= 1
            if not any("#" in lines[number - 1] for number in range(first - 1, line + 1)):
                yield line


def imported(path: Path) -> set[str]:
    """Top-level names of all imports of a file, those within functions, too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.partition(".")[0])
    return names


def declared() -> set[str]:
    """Distributions that pyproject.toml names, for any extra."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    requirements = [*project["dependencies"], *(r for extra in project["optional-dependencies"].values() for r in extra)]
    return {re.split(r"[\[<>=!~ ]", requirement)[0].lower().replace("_", "-") for requirement in requirements}


@pytest.mark.parametrize("package", PRODUCT)
def test_every_imported_package_is_declared(package):
    names = set().union(*(imported(path) for path in sources(package)))
    others = names - set(sys.stdlib_module_names) - set(PRODUCT) - {"triton_python_backend_utils"} - UNDECLARABLE
    distributions = metadata.packages_distributions()
    for name in others - {"tensorrt", "wandb"}:  # not installed here, and loaded by name
        assert {d.lower().replace("_", "-") for d in distributions[name]} & declared(), f"{name} is imported by {package}"
