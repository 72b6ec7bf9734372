"""The report as one HTML file: no script, nothing from elsewhere, everything that comes from data escaped."""

from typing import Any

from distilrec.core.errors import MissingExtraError
from distilrec.report import tables
from distilrec.report.collect import Facts
from distilrec.report.figures import Figures, draw
from distilrec.report.headline import figures, findings, sentence

FILE_NAME = "report.html"


def render_html(facts: Facts) -> str:
    """The whole page.

    Raises:
        MissingExtraError: Jinja is not installed.
    """
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
        from markupsafe import Markup
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"The package {error.name!r}", "export") from error
    environment = Environment(loader=PackageLoader("distilrec.report"), autoescape=True, undefined=StrictUndefined)
    loader = environment.loader
    assert loader is not None
    style, _, _ = loader.get_source(environment, "style.css")
    return environment.get_template("report.html.j2").render(
        facts=facts,
        style=Markup(style),  # noqa: S704 - our own file
        sentence=sentence(facts),
        headline=figures(facts),
        findings=findings(facts),
        figures=_trusted(draw(facts), Markup),
        tables={name: make(facts) for name, make in TABLES.items()},
    )


TABLES = {
    name: getattr(tables, name)
    for name in (
        "quality",
        "cost",
        "precisions",
        "serving",
        "load",
        "peers",
        "scale",
        "training",
        "provenance",
        "settings",
    )
}
"""What makes each table, by its name in the template."""


def _trusted(drawn: Figures, markup: Any) -> dict[str, Any]:
    """Our own SVG, whose texts were escaped when it was made."""
    figures = {name: None if svg is None else markup(svg) for name, svg in drawn._asdict().items() if name != "scale"}
    return figures | {"scale": [(markup(svg), caption) for caption, svg in drawn.scale]}
