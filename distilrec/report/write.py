"""What ``distilrec report`` does."""

from pathlib import Path

from distilrec.config import Config
from distilrec.core.files import write_text
from distilrec.pipeline.stages import run_dir
from distilrec.report import html, markdown
from distilrec.report.collect import Sources, collect


def write_report(config: Config, sources: Sources, folder: Path | None = None) -> Path:
    """Write report.html and report.md; returns the HTML file.

    Args:
        config: of a finished and evaluated run.
        sources: files of measurements.
        folder: to write into; by default ``report`` below the run.

    Raises:
        DistilRecError: see ``collect`` and ``render_html``.
    """
    facts = collect(config, sources)
    folder = run_dir(config) / "report" if folder is None else folder
    pages = {html.FILE_NAME: html.render_html(facts), markdown.FILE_NAME: markdown.render_markdown(facts)}
    folder.mkdir(parents=True, exist_ok=True)
    for name, page in pages.items():
        write_text(folder / name, page)
    return folder / html.FILE_NAME
