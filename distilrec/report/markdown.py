"""The report as Markdown: the same sentences, numbers and tables as the HTML file, without its figures."""

from collections.abc import Iterator

from distilrec.core.printable import printable
from distilrec.core.tables import escape_markdown, markdown_table
from distilrec.report import tables
from distilrec.report.content import ReportContent
from distilrec.report.headline import findings, headline_numbers, summary_sentence
from distilrec.report.side_by_side import ExampleUser, ShownItem
from distilrec.report.tables import ReportTable

FILE_NAME = "report.md"


def render_markdown(content: ReportContent) -> str:
    """Render the report as Markdown; it ends with a newline."""
    return "\n\n".join(part for part in _parts(content) if part) + "\n"


def _parts(content: ReportContent) -> Iterator[str]:
    yield f"# DistilRec report: {_one_line(content.run)}"
    yield f"**{_one_line(summary_sentence(content))}**"
    yield "\n".join(f"- **{value}** {name}: {_one_line(note)}" for value, name, note in headline_numbers(content))
    yield "\n".join(f"- {_one_line(finding)}" for finding in findings(content))
    yield _section("All models", tables.quality(content))
    yield _section("Items that nobody has touched", tables.cold(content))
    yield _section("What it costs to answer", tables.cost(content))
    yield _section("Precisions of the student", tables.precisions(content))
    yield _section("Through the live server", tables.serving(content))
    yield _section("Under load", tables.load(content))
    yield _section("Other recommenders", tables.peers(content))
    yield _section("How it grows", tables.scale(content))
    yield _section("What it costs to learn", tables.training(content))
    if content.examples:
        yield "## The same users, side by side\n\nBold: what the user chose next. Italic: not among the teacher's ten."
        yield "\n\n".join(_example(example) for example in content.examples)
    if content.missing:
        yield "## What was not measured\n\n" + "\n".join(f"- {_one_line(reason)}" for reason in content.missing)
    yield _section("Provenance", tables.provenance(content))


def _section(title: str, table: ReportTable | None) -> str:
    return "" if table is None else f"## {title}\n\n{markdown_table(table.headings, table.rows)}"


def _example(example: ExampleUser) -> str:
    length = max(len(items) for items in example.lists.values())
    rows = [
        [str(place + 1), *(_item(items[place]) if place < len(items) else "" for items in example.lists.values())]
        for place in range(length)
    ]
    newest, truth = (", ".join(map(escape_markdown, titles)) for titles in (example.newest, example.truth))
    return f"Newest: {newest}. Chose next: {truth}.\n\n{markdown_table(['', *example.lists], rows)}"


def _item(item: ShownItem) -> str:
    title = escape_markdown(item.title)
    if item.right:
        return f"**{title}**"
    return title if item.of_teacher else f"*{title}*"


def _one_line(text: str) -> str:
    """The sentence on one line; it may hold the name of a user attribute, so HTML in it has no effect."""
    return printable(text).replace("<", "\\<")
