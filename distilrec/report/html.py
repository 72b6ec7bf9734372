"""The report as one HTML file without scripts or external resources; everything that comes from data is escaped."""

from collections.abc import Callable
from typing import Any

from distilrec.core.errors import MissingExtraError
from distilrec.report import tables
from distilrec.report.content import ReportContent
from distilrec.report.figures import Figures, draw_figures
from distilrec.report.headline import findings, headline_numbers, summary_sentence

FILE_NAME = "report.html"


def render_html(content: ReportContent) -> str:
    """Render the whole page.

    Raises:
        MissingExtraError: Jinja is not installed.
    """
    try:
        # Jinja comes with the extra [export].
        from jinja2 import Environment, PackageLoader, StrictUndefined
        from markupsafe import Markup
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"The package {error.name!r}", "export") from error
    loader = PackageLoader("distilrec.report")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    style, _, _ = loader.get_source(environment, "style.css")
    return environment.get_template("report.html.j2").render(
        content=content,
        style=Markup(style),  # noqa: S704 - our own file
        summary=summary_sentence(content),
        headline_numbers=headline_numbers(content),
        findings=findings(content),
        figures=_without_escaping(draw_figures(content), Markup),
        tables={name: make_table(content) for name, make_table in TABLES.items()},
    )


TABLES: dict[str, Callable[[ReportContent], tables.ReportTable | None]] = {
    "quality": tables.quality,
    "cold": tables.cold,
    "cost": tables.cost,
    "precisions": tables.precisions,
    "serving": tables.serving,
    "load": tables.load,
    "peers": tables.peers,
    "scale": tables.scale,
    "training": tables.training,
    "provenance": tables.provenance,
    "settings": tables.settings,
}
"""Function that makes each table, by the table's name in the template."""


def _without_escaping(drawn: Figures, markup: Any) -> dict[str, Any]:
    """Mark SVG as safe: its texts were escaped when it was drawn."""
    figures = {name: None if svg is None else markup(svg) for name, svg in drawn._asdict().items() if name != "scale"}
    return figures | {"scale": [(markup(svg), caption) for caption, svg in drawn.scale]}
