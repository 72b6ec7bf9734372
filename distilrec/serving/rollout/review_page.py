"""An HTML page of headed sections with sentences and tables: pure functions, and every text is escaped."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from distilrec.core.printable import printable

MOST_FIGURES = 80
"""Rows of a table of figures at most."""

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 64em; margin: 2em auto; padding: 0 1em; color: #1c1c1c; background: #fff }
table { border-collapse: collapse; margin: .7em 0 } td, th { padding: .25em .7em; border-bottom: 1px solid #ccc; text-align: left }
td.number { text-align: right } tr.bad td { color: #b00020 } code { background: #eee; padding: .1em .3em } .note { color: #666 }
@media (prefers-color-scheme: dark) { body { color: #e4e4e4; background: #181818 } code { background: #333 }
 td, th { border-color: #444 } tr.bad td { color: #ff8080 } .note { color: #999 } }
"""


@dataclass(frozen=True)
class Table:
    """Rows of cells under a head."""

    head: Sequence[str]
    rows: Sequence[Sequence[Any]]
    bad: frozenset[int] = frozenset()
    """Rows that are marked."""


@dataclass(frozen=True)
class Section:
    """Part of the page."""

    title: str
    sentences: Sequence[str] = ()
    tables: Sequence[Table] = field(default_factory=tuple)


def render(title: str, commands: Sequence[str], sections: Sequence[Section]) -> str:
    """The page.

    Args:
        title: Its heading.
        commands: Commands that the reader can give.
        sections: Its parts in order.
    """
    asked = "".join(f"<p><code>{escape(command)}</code></p>" for command in commands)
    body = "\n".join(_section(section) for section in sections)
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style>'
    return (
        f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n<h1>{escape(title)}</h1>\n{asked}\n{body}\n</body></html>\n'
    )


def figures(values: Mapping[str, Any]) -> Table:
    """All plain values of a nested mapping, by their dotted names."""
    rows = list(_flat(values, ""))
    return Table(("figure", "value"), rows[:MOST_FIGURES])


def _flat(value: Any, name: str) -> list[tuple[str, Any]]:
    if isinstance(value, Mapping):
        return [row for key, part in value.items() for row in _flat(part, f"{name}.{key}" if name else str(key))]
    if isinstance(value, list | tuple):
        return [row for place, part in enumerate(value) for row in _flat(part, f"{name}[{place}]")]
    return [] if value is None else [(name, value)]


def _section(section: Section) -> str:
    sentences = "".join(f"<p>{_text(sentence)}</p>" for sentence in section.sentences)
    return f"<h2>{_text(section.title)}</h2>\n{sentences}\n" + "\n".join(_table(table) for table in section.tables if table.rows)


def _table(table: Table) -> str:
    head = "".join(f"<th>{_text(cell)}</th>" for cell in table.head)
    rows = []
    for place, row in enumerate(table.rows):
        cells = "".join(
            f'<td class="number">{_text(cell)}</td>' if isinstance(cell, int | float) else f"<td>{_text(cell)}</td>" for cell in row
        )
        rows.append(f'<tr class="bad">{cells}</tr>' if place in table.bad else f"<tr>{cells}</tr>")
    return f"<table><tr>{head}</tr>\n" + "\n".join(rows) + "\n</table>"


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4f}" if abs(value) < 100 else f"{value:,.0f}"
    if isinstance(value, int):
        return f"{value:,}"
    return escape(printable(str(value)))
