"""The command ``kinds``, a part of the command line in ``distilrec/cli/app.py``."""

import inspect
import sys
from collections.abc import Iterator

import typer

app = typer.Typer()


@app.command()
def kinds() -> None:
    """List the kinds of students, teachers, losses and serving targets that settings can name.

    Example: distilrec kinds
    """
    print(kinds_table())


def kinds_table() -> str:
    """All declarations as a Markdown table, each with its file and the first sentence about it.

    Raises:
        MissingExtraError: A package that a declaration needs is not installed.
    """
    from distilrec.core.tables import markdown_table

    return markdown_table(["", "name", "file", "is"], list(_rows()), "|---|---|---|---|")


def _rows() -> Iterator[list[str]]:
    from distilrec.config import LossConfig, StudentConfig, TeacherConfig
    from distilrec.config.export import SERVING_TARGETS

    for registry in (StudentConfig.kinds, TeacherConfig.kinds, LossConfig.declared, SERVING_TARGETS):
        for name, declaration in registry.items():
            # A serving target is an object, which its module's docstring describes.
            described = declaration if inspect.isclass(declaration) else sys.modules[declaration.render.__module__]
            text = inspect.getdoc(described) or ""
            file = (described.__module__ if inspect.isclass(described) else described.__name__).replace(".", "/")
            summary = text.partition("\n\n")[0].replace("\n", " ").removeprefix(f"Serving target ``{name}``: ")
            yield [registry.noun, f"`{name}`", f"`{file}.py`", summary]
