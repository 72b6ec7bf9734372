"""The report as Markdown: the same sentence, figures and tables; what was drawn stands in the HTML file."""

from collections.abc import Iterator

from distilrec.core.tables import markdown_table
from distilrec.report import tables
from distilrec.report.collect import Facts
from distilrec.report.headline import figures, findings, sentence
from distilrec.report.side_by_side import Example
from distilrec.report.tables import Table

FILE_NAME = "report.md"


def render_markdown(facts: Facts) -> str:
    """The report for a reader of plain text; ends with a newline."""
    return "\n\n".join(part for part in _parts(facts) if part) + "\n"


def _parts(facts: Facts) -> Iterator[str]:
    yield f"# DistilRec report: {_line(facts.run)}"
    yield f"**{_line(sentence(facts))}**"
    yield "\n".join(f"- **{value}** {name}: {_line(note)}" for value, name, note in figures(facts))
    yield "\n".join(f"- {_line(finding)}" for finding in findings(facts))
    yield _section("All models", tables.quality(facts))
    yield _section("What it costs to answer", tables.cost(facts))
    yield _section("Precisions of the student", tables.precisions(facts))
    yield _section("Through the live server", tables.serving(facts))
    yield _section("Under load", tables.load(facts))
    yield _section("Beside others", tables.peers(facts))
    yield _section("How it grows", tables.scale(facts))
    yield _section("What it costs to learn", tables.training(facts))
    if facts.examples:
        yield "## The same users, side by side\n\nBold: what the user went on to. Italic: not among the teacher's ten."
        yield "\n\n".join(_example(example) for example in facts.examples)
    if facts.missing:
        yield "## What was not measured\n\n" + "\n".join(f"- {_line(reason)}" for reason in facts.missing)
    yield _section("Provenance", tables.provenance(facts))


def _section(title: str, table: Table | None) -> str:
    return "" if table is None else f"## {title}\n\n{markdown_table(table.headings, table.rows)}"


def _example(example: Example) -> str:
    names = list(example.lists)
    length = max(len(items) for items in example.lists.values())
    rows = []
    for place in range(length):
        cells = []
        for name in names:
            items = example.lists[name]
            title = _escaped(items[place].title) if place < len(items) else ""
            item = items[place] if place < len(items) else None
            cells.append(f"**{title}**" if item and item.right else f"*{title}*" if item and not item.of_teacher else title)
        rows.append([str(place + 1), *cells])
    newest, truth = (", ".join(map(_escaped, titles)) for titles in (example.newest, example.truth))
    return f"Newest: {newest}. Went on to: {truth}.\n\n{markdown_table(['', *names], rows)}"


def _escaped(title: str) -> str:
    """A title as text: Markdown's own signs and HTML mean nothing in it."""
    return "".join(f"\\{sign}" if sign in "\\`*_[]<>#&" else sign for sign in title.replace("\n", " "))


def _line(words: str) -> str:
    return words.replace("\n", " ")
