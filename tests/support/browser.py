"""A browser page that records console messages, foreign requests and accessibility violations."""

from __future__ import annotations

import struct
import zlib
from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Locator, Page

type Theme = Literal["light", "dark"]

PHONE = 390
DESK = 1440

#: What a browser needs to run without a screen, and to call nobody.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]

#: How much of a page may move by itself while it loads, as browsers count it (cumulative layout shift).
MAX_LAYOUT_SHIFT = 0.05

_WATCH_SHIFTS = """
window.layoutShift = 0;
const shifts = new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.layoutShift += entry.value;
});
shifts.observe({ type: "layout-shift", buffered: true });
// What changes later is news, and announced as such.
addEventListener("load", () => setTimeout(() => shifts.disconnect(), 300));
"""

#: The innermost thing that reaches beyond the right edge of a page that scrolls sideways; null of one that does not.
_TOO_WIDE = """(() => {
  const width = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth <= width) return null;
  const every = [...document.querySelectorAll("main *")];
  const beyond = every.filter((one) => one.getBoundingClientRect().right > width + 1);
  return beyond.length ? beyond[beyond.length - 1].outerHTML.slice(0, 200) : "something outside of main";
})()"""

#: The red, green, blue and opacity of each pixel of a PNG.
_PIXELS = """async (png) => {
  const bytes = Uint8Array.from(atob(png), (one) => one.charCodeAt(0));
  const image = await createImageBitmap(new Blob([bytes], { type: "image/png" }));
  const context = new OffscreenCanvas(image.width, image.height).getContext("2d");
  context.drawImage(image, 0, 0);
  const { data } = context.getImageData(0, 0, image.width, image.height);
  let text = "";
  for (let at = 0; at < data.length; at += 32768) text += String.fromCharCode(...data.subarray(at, at + 32768));
  return btoa(text);
}"""

_AXE = Axe()

#: What every page of those who are signed in has beside its content.
FRAME = ("nav.side", "nav.phone-bar", "#palette", "#shortcuts")

#: The browser's own remarks about a page that loads as it should; and htmx's about a look that a newer one replaced,
#: as is meant where one types on (a request that fails has another name besides).
_HARMLESS = (
    "[DOM] Password forms should have",
    "[DOM] Multiple forms should be contained",
    "htmx:afterRequest",
    "htmx:sendAbort",
)


@dataclass
class Hand:
    """A user's hand, which counts its steps: clicks, chosen options and filled fields."""

    clicks: int = 0
    fields: int = 0

    @property
    def steps(self) -> int:
        return self.clicks + self.fields

    def click(self, what: Locator) -> None:
        what.click()
        self.clicks += 1

    def choose(self, where: Locator, option: str) -> None:
        where.select_option(label=option)
        self.clicks += 1

    def fill(self, where: Locator, text: str) -> None:
        where.fill(text)
        self.fields += 1


@dataclass
class Visitor:
    """One window of one person."""

    context: BrowserContext
    page: Page
    base: str
    problems: list[str] = field(default_factory=list)

    def open(self, path: str) -> None:
        """Opens a page of the server."""
        self.page.goto(path if path.startswith("http") else self.base + path)

    def picture(self) -> bytes:
        """The window as a PNG of 256 colours, a third of the size of the browser's own."""
        size = self.page.viewport_size
        assert size is not None
        # The browser reads its own format.
        shot = b64encode(self.page.screenshot()).decode()
        pixels = b64decode(self.page.evaluate(_PIXELS, shot))
        return _png(size["width"], size["height"], [pixels[at : at + 3] for at in range(0, len(pixels), 4)])

    def check(self, place: str = "") -> None:
        """Fails when anything is wrong with the page as it is, or was noticed so far."""
        self.check_page(place)
        assert not self.problems, "\n".join(self.problems)

    def check_page(self, place: str = "", *, frame: bool = True) -> None:
        """Notes what is wrong with the page as it is: axe's findings, sideways scrolling, jumps. Without `frame`, axe
        leaves out the navigation, which another page has alike."""
        where = place or self.page.url.removeprefix(self.base)
        self.problems += [f"{where}: {problem}" for problem in _axe(self.page, () if frame else FRAME)]
        self.check_width(where)
        shift = self.page.evaluate("window.layoutShift ?? 0")
        if shift > MAX_LAYOUT_SHIFT:
            self.problems.append(f"{where}: it jumped by {shift:.3f} while it loaded")

    def check_width(self, place: str = "") -> None:
        """Notes whether the page as it is scrolls sideways."""
        wide = self.page.evaluate(_TOO_WIDE)
        if wide is not None:
            self.problems.append(f"{place or self.page.url.removeprefix(self.base)}: it scrolls sideways, by {wide}")

    @contextmanager
    def narrowed(self, width: int) -> Iterator[None]:
        """The page as it is, for a while in a window of that width."""
        was = self.page.viewport_size
        assert was is not None
        self.page.set_viewport_size({"width": width, "height": was["height"]})
        try:
            yield
        finally:
            self.page.set_viewport_size(was)


@contextmanager
def visitor(
    browser: Browser,
    base: str,
    *,
    width: int = DESK,
    theme: Theme = "light",
    state: Mapping[str, Any] | None = None,
    scripts: bool = True,
    locale: str = "en-GB",
) -> Iterator[Visitor]:
    """A fresh window, signed in where `state` says so."""
    context = browser.new_context(
        viewport={"width": width, "height": 844 if width < 500 else 900},
        color_scheme=theme,
        is_mobile=width < 500,
        has_touch=width < 500,
        storage_state=state,  # type: ignore[arg-type]
        java_script_enabled=scripts,
        reduced_motion="reduce",
        timezone_id="Europe/Zurich",
        locale=locale,
    )
    context.add_init_script(_WATCH_SHIFTS)
    page = context.new_page()
    one = Visitor(context, page, base)
    page.on("console", lambda message: _note(one, message))
    page.on("pageerror", lambda error: one.problems.append(f"{page.url}: {error}"))
    page.on("request", lambda request: _note_request(one, request.url))
    try:
        yield one
    finally:
        context.close()


def _note(one: Visitor, message: ConsoleMessage) -> None:
    if message.type in ("log", "info") or message.text.startswith(_HARMLESS):
        return
    one.problems.append(f"{one.page.url}: console {message.type}: {message.text}")


def _note_request(one: Visitor, url: str) -> None:
    if not url.startswith((one.base, "data:", "blob:")):
        one.problems.append(f"{one.page.url}: it asked {url}")


def _axe(page: Page, without: Sequence[str]) -> list[str]:
    page.evaluate(_AXE.axe_script)
    # What is told of findings is their HTML; style sheets from elsewhere, which axe would fetch, there are none.
    options = {"resultTypes": ["violations"], "selectors": False, "preload": False}
    result = page.evaluate(
        "([exclude, options]) => axe.run({ exclude }, options)", [[[part] for part in without], options]
    )
    return [
        f"{violation['id']}: {node['html'][:200]} {node['failureSummary']}"
        for violation in result["violations"]
        for node in violation["nodes"]
    ]


def _png(width: int, height: int, pixels: Sequence[bytes]) -> bytes:
    """A PNG of the pixels, in 256 of their colours: the most frequent, and those least like any of these."""
    counts = Counter(pixels)
    palette = [colour for colour, _count in counts.most_common(128)]
    index = {colour: _nearest(colour, palette) for colour in counts}
    while len(palette) < min(256, len(counts)):
        palette.append(max(counts, key=lambda colour: index[colour][0] * counts[colour]))
        index = {colour: min(old, _nearest(colour, palette[-1:], len(palette) - 1)) for colour, old in index.items()}
    rows = [pixels[at : at + width] for at in range(0, width * height, width)]
    lines = b"".join(b"\0" + bytes(index[pixel][1] for pixel in row) for row in rows)
    chunks = {
        b"IHDR": struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0),
        b"PLTE": b"".join(palette),
        b"IDAT": zlib.compress(lines, 9),
        b"IEND": b"",
    }
    parts = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks.items()
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _nearest(colour: bytes, palette: Sequence[bytes], first: int = 0) -> tuple[int, int]:
    """How unlike the colour the most similar of the palette is, and its place, counted from `first`."""
    return min(
        (sum((one - other) ** 2 for one, other in zip(colour, entry, strict=True)), place)
        for place, entry in enumerate(palette, first)
    )
