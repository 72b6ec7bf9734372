"""Tables in Markdown, and text of users and catalogues in it."""

from collections.abc import Sequence

from distilrec.core.printable import printable

_SIGNS = frozenset("\\`*_[]<>#&~")


def markdown_table(headings: Sequence[str], rows: Sequence[Sequence[str]], rule: str | None = None) -> str:
    """Render a table; line breaks and bars within a cell do not break it.

    Args:
        headings: One text for each column.
        rows: Cells, as many in each row as there are headings.
        rule: The line below the headings, which aligns the columns, for example ``|---:|---|``. The default aligns the first
            column left and all others right.
    """
    rule = rule or _line(["---", *["---:"] * (len(headings) - 1)])
    return "\n".join([_line(headings), rule, *map(_line, rows)])


def escape_cell(text: str) -> str:
    """The text on one line, with its bars escaped and without control sequences."""
    return printable(text).replace("|", "\\|")


def escape_markdown(text: str) -> str:
    """The text on one line, so that Markdown signs, HTML and control sequences in it have no effect. Bars are left to tables."""
    return "".join(f"\\{sign}" if sign in _SIGNS else sign for sign in printable(text))


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(map(escape_cell, cells)) + " |"
