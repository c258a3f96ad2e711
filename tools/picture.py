"""Takes the README's picture of a shift report: `python -m tools.picture` (needs a Chromium).

The report is that of `urial-local demo`; shown are its overview and an answer with a token opened.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tools.readme import ROOT

OUT = ROOT / "docs" / "shift-report.png"
HIDE = "['h-curves', 'h-finer', 'h-tokens', 'h-guide', 'h-about'].forEach((id) =>"
HIDE += " document.getElementById(id).closest('section').style.display = 'none')"


def main() -> None:
    from playwright.sync_api import sync_playwright

    browser = shutil.which("chromium") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as play:
        run = Path(folder) / "run"
        command = [sys.executable, "-m", "urial_local", "demo", "-o", str(run)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        chromium = play.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        page = chromium.new_page(viewport={"width": 1180, "height": 900})
        page.goto((run / "report.html").as_uri())
        page.evaluate(HIDE)
        page.get_by_role("button", name="urial-demo").click()
        page.locator("#list button").nth(0).click()
        page.locator("#answer .t.repaired").first.click()
        page.mouse.move(0, 0)
        box = page.locator("#answer").bounding_box()
        height = page.evaluate("scrollY") + box["y"] + box["height"] + 24 if box else 1200
        page.screenshot(
            path=OUT, full_page=True, clip={"x": 0, "y": 0, "width": 1180, "height": height}
        )
        chromium.close()


if __name__ == "__main__":
    main()
