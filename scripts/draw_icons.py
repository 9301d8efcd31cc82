"""Draws the installed app's icons from their SVGs, with Chromium: run it after a change of one, and commit the PNGs.

`.venv/bin/python scripts/draw_icons.py`. Phones want bitmaps of stated sizes; the drawings stay the source.
"""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

OWN = Path(__file__).resolve().parent.parent / "src" / "tocsin" / "web" / "static" / "tocsin"

# Drawing, file, pixels.
ICONS = (
    ("app-icon.svg", "app-192.png", 192),
    ("app-icon.svg", "app-512.png", 512),
    ("app-icon-maskable.svg", "app-maskable-192.png", 192),
    ("app-icon-maskable.svg", "app-maskable-512.png", 512),
    # iOS cuts its own corners, and wants no transparency.
    ("app-icon-maskable.svg", "app-apple-180.png", 180),
    # Android takes only the shape of it, for its status bar.
    ("app-badge.svg", "badge-96.png", 96),
    # Microsoft Teams wants a white outline beside the icon in colour.
    ("app-badge.svg", "outline-32.png", 32),
)


def main() -> None:
    chromium = next((value for name in ("chromium", "chromium-browser") if (value := shutil.which(name))), None)
    if chromium is None:
        sys.exit("There is no Chromium: apt-get install chromium.")
    (OWN / "icons").mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for drawing, name, size in ICONS:
            page = browser.new_page(viewport={"width": size, "height": size})
            svg = (OWN / drawing).read_text()
            page.set_content(f"<style>*{{margin:0}}svg{{display:block;width:{size}px;height:{size}px}}</style>{svg}")
            page.screenshot(path=str(OWN / "icons" / name), omit_background=True)
            page.close()
        browser.close()


if __name__ == "__main__":
    main()
