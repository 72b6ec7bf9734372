"""Writing of the report's files, as ``distilrec report`` does."""

from pathlib import Path

from distilrec.config import Config
from distilrec.core.files import write_text
from distilrec.pipeline.folders import run_dir
from distilrec.report import html, markdown
from distilrec.report.content import MeasurementFiles, read_report_content


def write_report(config: Config, files: MeasurementFiles, folder: Path | None = None) -> Path:
    """Write report.html and report.md, and return the path of the HTML file.

    Args:
        config: Settings of a finished and evaluated run.
        files: Paths of the measurement files.
        folder: Folder to write into; by default ``report`` in the run's folder.

    Raises:
        DistilRecError: The content cannot be read or rendered (see ``read_report_content`` and ``render_html``).
    """
    content = read_report_content(config, files)
    folder = run_dir(config) / "report" if folder is None else folder
    pages = {html.FILE_NAME: html.render_html(content), markdown.FILE_NAME: markdown.render_markdown(content)}
    folder.mkdir(parents=True, exist_ok=True)
    for name, page in pages.items():
        write_text(folder / name, page)
    return folder / html.FILE_NAME
