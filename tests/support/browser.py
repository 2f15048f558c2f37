"""A real browser without a window, for tests of pages; they are skipped where there is none."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from html import unescape
from pathlib import Path
from typing import Any

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
_OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)

# Reads a page in frames of several widths: what stands out of them, how they look, and what did not load.
_MEASURE = """
const page = JSON.parse(document.getElementById("page").textContent), found = {};
let waiting = WIDTHS.length;
for (const width of WIDTHS) {
  const frame = document.createElement("iframe");
  frame.style.cssText = `width:${width}px;height:800px;border:0`;
  frame.onload = () => {
    const inside = frame.contentDocument, root = inside.documentElement;
    const wide = [...inside.body.querySelectorAll("*")].filter(
      (one) => one.getBoundingClientRect().right > width + 1 && !one.parentElement.closest(".ss-wide"));
    found[width] = {
      scroll: root.scrollWidth, height: root.scrollHeight, wide: wide.map((one) => one.outerHTML.slice(0, 120)),
      background: getComputedStyle(inside.body).backgroundColor, colour: getComputedStyle(inside.body).color,
      headings: [...inside.querySelectorAll("h1,h2")].map((one) => one.textContent),
      images: [...inside.images].map((one) => one.naturalWidth), scripts: inside.scripts.length,
      tallest: Math.max(...[...inside.querySelectorAll("th")].map((one) => one.offsetHeight)),
      sketches: inside.querySelectorAll("svg").length,
    };
    if (--waiting === 0) document.title = JSON.stringify(found);
  };
  frame.srcdoc = page;
  document.body.append(frame);
}
"""


def browser() -> str:
    """The program; the test is skipped where there is none."""
    for name in _NAMES:
        path = shutil.which(name)
        if path is not None:
            return path
    pytest.skip("no Chromium is installed")


def look(page: Path, widths: tuple[int, ...], *, dark: bool = False) -> dict[int, dict[str, Any]]:
    """What a browser sees of ``page`` at several widths, in CSS pixels."""
    program = browser()
    # A closing tag in the text would end the element that holds it.
    text = json.dumps(page.read_text(encoding="utf-8")).replace("</", "<\\/")
    script = _MEASURE.replace("WIDTHS", json.dumps(widths))
    with tempfile.TemporaryDirectory() as folder:
        frame = Path(folder) / "frame.html"
        frame.write_text(
            '<!doctype html><meta charset="utf-8"><title>unread</title><body>'
            f'<script id="page" type="application/json">{text}</script><script>{script}</script>',
            encoding="utf-8",
        )
        scheme = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
        done = subprocess.run(
            [program, *_OPTIONS, scheme, f"--user-data-dir={folder}/profile", "--virtual-time-budget=8000",
             "--window-size=1400,900", "--dump-dom", f"file://{frame}"],
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip
    title = re.search(r"<title>(.*?)</title>", done.stdout, re.DOTALL)
    assert title is not None, done.stderr[-2000:]
    assert title[1] != "unread", "the page was not measured"
    return {int(width): values for width, values in json.loads(unescape(title[1])).items()}
