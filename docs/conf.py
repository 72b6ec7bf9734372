"""Settings of the site: make docs, then open docs/build/index.html."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from reference import site_links, write_pages  # noqa: E402

from distilrec import __version__  # noqa: E402

project, author = "DistilRec", "The DistilRec team"
version = release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
exclude_patterns = ["build"]
html_theme = "pydata_sphinx_theme"
html_title = "DistilRec"
html_show_sourcelink = False
html_theme_options = {"navigation_depth": 2, "show_prev_next": True, "secondary_sidebar_items": ["page-toc"]}
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]
autodoc_typehints = "description"
autodoc_member_order = "bysource"
nitpicky = False


def setup(app):
    """Make the pages that come from code, and lead links to files of the repository to pages."""
    write_pages(HERE / "generated")
    app.connect("source-read", lambda _, page, source: source.__setitem__(0, _with_links(page, source[0])))


def _with_links(page, text):
    return text if page.startswith("generated/") else site_links(text, HERE / Path(page).parent)
