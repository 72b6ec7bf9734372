"""The report's page in a real browser: at a phone's and at a desk's width, in light and in dark."""

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from distilrec.report.html import render_html

CHROMIUM = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="chromium is not installed; on Debian and Ubuntu: apt-get install chromium"
)
WIDTHS = (360, 1280)

# What a browser says of the page in a frame of each width. Inside .scroll, tables may be wider than the page.
HARNESS = """<!doctype html><title>harness</title><body>%s<pre id="found"></pre><script>
window.onload = () => {
  found.textContent = JSON.stringify([...document.querySelectorAll("iframe")].map((frame) => {
    const page = frame.contentDocument, width = frame.contentWindow.innerWidth;
    const beyond = [...page.body.querySelectorAll("*")].filter((one) =>
      one.getBoundingClientRect().right > width + 1 && !one.closest(".scroll > *") && !one.closest("svg > *"));
    const plots = [...page.querySelectorAll("svg")].map((svg) => svg.getBoundingClientRect());
    return {
      width,
      scrollWidth: page.documentElement.scrollWidth,
      beyond: beyond.map((one) => one.outerHTML.slice(0, 80)),
      plots: plots.map((box) => [Math.round(box.width), Math.round(box.height)]),
      clipped: [...page.querySelectorAll("svg text")].filter((one) => {
        const own = one.getBoundingClientRect(), all = one.closest("svg").getBoundingClientRect();
        return own.width && (own.left < all.left - 2 || own.right > all.right + 2);
      }).map((one) => one.textContent),
      page: frame.contentWindow.getComputedStyle(page.body).backgroundColor,
      ink: frame.contentWindow.getComputedStyle(page.body).color,
    };
  }));
};
</script>"""


def look(page: str, folder: Path, scheme: str) -> tuple[list[dict[str, Any]], list[str]]:
    """What Chromium found at each width, and the lines of its console."""
    (folder / "page.html").write_text(page, encoding="utf-8")
    frames = "".join(f'<iframe src="page.html" style="width:{width}px;height:900px;border:0"></iframe>' for width in WIDTHS)
    (folder / "harness.html").write_text(HARNESS % frames, encoding="utf-8")
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files", "--enable-logging=stderr"]
    options += [f"--user-data-dir={folder / 'profile'}", f"--blink-settings=preferredColorScheme={int(scheme == 'light')}"]
    command = [CHROMIUM, *options, "--virtual-time-budget=5000", "--dump-dom", (folder / "harness.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=180)
    found = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stdout[-500:]
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return json.loads(unescape(found[1])), console


def luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.2) of ``rgb(r, g, b)``."""
    shares = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    red, green, blue = (share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@needs_chromium
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_fits_and_is_whole(report_content, tmp_path, scheme):
    found, console = look(render_html(report_content), tmp_path, scheme)
    assert console == []
    assert [one["width"] for one in found] == list(WIDTHS)
    for one in found:
        assert one["scrollWidth"] <= one["width"]
        assert one["beyond"] == []
        assert one["clipped"] == []
        assert len(one["plots"]) == 5
        assert all(width >= 300 and height >= 100 for width, height in one["plots"])
        lighter, darker = sorted((luminance(one["page"]), luminance(one["ink"])), reverse=True)
        assert (lighter + 0.05) / (darker + 0.05) >= 7
        assert (luminance(one["page"]) > 0.5) == (scheme == "light")


@needs_chromium
def test_the_browser_would_tell(tmp_path):
    """The test above can fail: a wide element and an error on the console are seen."""
    page = '<!doctype html><body><div style="width:2000px">wide</div><script>console.error("broken")</script>'
    found, console = look(page, tmp_path, "light")
    assert any("broken" in line for line in console)
    assert all(one["scrollWidth"] > one["width"] and one["beyond"] for one in found)


def test_page_needs_nothing_from_elsewhere(report_content):
    page = render_html(report_content)
    assert re.findall(r'(?:src|href)\s*=\s*"([^"]*)"', page) == ["data:,"]
    assert "url(" not in page
    assert "@import" not in page
    assert "<script" not in page
