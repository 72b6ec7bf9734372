"""A digest of the code that a stage runs, so that a stage runs again when its code has changed and only then."""

import ast
import hashlib
import importlib.util
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

_OWN_PACKAGES = ("clients", "distill", "distilrec", "export")
"""Imports are followed into these. What else is installed does not count; a manifest records its versions."""


def code_digest(modules: Iterable[str]) -> str:
    """sha256 of the code of these modules and of all modules of DistilRec that they import, directly or not.

    Comments, docstrings and layout do not count. Imports within functions do. The digest depends on the version of Python, whose
    syntax trees differ.

    Args:
        modules: Dotted names of modules of DistilRec, or of imported modules from elsewhere.
    """
    reached: dict[str, str] = {}
    pending = list(modules)
    while pending:
        name = pending.pop()
        if name in reached:
            continue
        source = _source(name)
        if source is not None:
            reached[name], imports = _parsed(source)
            pending += [found for imported in imports for found in _own_modules(imported)]
    return hashlib.sha256(repr(sorted(reached.items())).encode()).hexdigest()


def _own_modules(imported: str) -> Iterator[str]:
    """The module of DistilRec of this name, and the packages it lies in; ``imported`` may also name something in a module."""
    parts = imported.split(".")
    if parts[0] in _OWN_PACKAGES:
        yield from (".".join(parts[:length]) for length in range(1, len(parts) + 1))


@cache
def _source(name: str) -> Path | None:
    """The file of a module; None for what is no module. Nothing is imported, since that could take seconds."""
    top, *rest = name.split(".")
    if top not in _OWN_PACKAGES:
        return Path(file) if (file := getattr(sys.modules.get(name), "__file__", None)) else None
    spec = importlib.util.find_spec(top)
    for folder in (spec and spec.submodule_search_locations) or ():
        path = Path(folder, *rest)
        for candidate in (path.with_suffix(".py"), path / "__init__.py"):
            if candidate.is_file():
                return candidate
    return None


@cache
def _parsed(path: Path) -> tuple[str, tuple[str, ...]]:
    """Digest of a file's syntax tree without docstrings, and the names that it imports."""
    tree = ast.parse(path.read_bytes())
    imports: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imports += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            imports += [f"{node.module}.{alias.name}" for alias in node.names]
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [statement for statement in body if not _is_text(statement)]  # type: ignore[attr-defined]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest(), tuple(imports)


def _is_text(statement: ast.stmt) -> bool:
    """Whether a statement is a string alone: a docstring of a module, class, function or field."""
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant) and isinstance(statement.value.value, str)
