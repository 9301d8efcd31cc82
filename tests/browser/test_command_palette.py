"""The command palette (Ctrl K): opened at once, used by keyboard alone."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.test_live_pages import post
from tests.support.browser import visitor
from tests.support.server_process import ServerProcess
from tests.support.service_desk import ServiceDesk
from tests.support.sign_in import open_home
from tests.support.variants import first

pytestmark = pytest.mark.browser

#: Milliseconds from the key until the palette is open and laid out. Painting is the machine's, which may be busy.
_TIME_TO_OPEN = """() => {
  const palette = document.getElementById("palette");
  palette.close();
  const began = performance.now();
  document.dispatchEvent(new KeyboardEvent("keydown", { key: "k", ctrlKey: true, bubbles: true }));
  if (!palette.open || !palette.getBoundingClientRect().height) return Infinity;
  return performance.now() - began;
}"""


@pytest.mark.parametrize("theme", first(1, ["light", "dark"]))
def test_palette_finds_pages_alerts_and_actions_by_keyboard(
    browser: Browser, running: ServerProcess, desk: ServiceDesk, theme: str
) -> None:
    number = post(running, desk, "1", "VPN down")
    with visitor(browser, running.url, theme=theme) as alice:  # type: ignore[arg-type]
        page, keys = alice.page, alice.page.keyboard
        open_home(alice, "alice")
        palette = page.get_by_role("dialog", name="Command palette")
        field = page.get_by_role("combobox", name="Command palette")
        chosen = page.locator("[role=option][aria-selected=true]")

        assert min(page.evaluate(_TIME_TO_OPEN) for _attempt in range(5)) < 100
        expect(field).to_be_focused()
        expect(chosen).to_have_text("New alert")
        expect(field).to_have_attribute("aria-activedescendant", chosen.get_attribute("id") or "")
        alice.check_page("the command palette")

        # The focus stays inside, whatever Tab does, and returns to the page on Escape.
        for _step in range(4):
            keys.press("Tab")
            assert page.evaluate(
                "document.activeElement === document.body || document.activeElement.closest('dialog') !== null"
            )
        keys.press("Escape")
        expect(palette).to_be_hidden()

        # A page: the arrows go round.
        keys.press("Control+k")
        keys.type("integr")
        expect(chosen).to_have_text("Add integration")
        keys.press("ArrowDown")
        expect(chosen).to_contain_text("Inbound integrations")
        keys.press("ArrowUp")
        keys.press("ArrowUp")
        expect(chosen).to_have_text("All results for “integr”")
        keys.press("ArrowDown")
        keys.press("ArrowDown")
        keys.press("Enter")
        expect(page.get_by_role("heading", name="Inbound integrations")).to_be_visible()
        page.wait_for_load_state()

        # An alert, by a number that is entered faster than the search answers.
        keys.press("Control+k")
        keys.type(str(number))
        keys.press("Enter")
        expect(page.get_by_role("heading", name="VPN down")).to_be_visible()
        page.wait_for_load_state()

        # What the search finds joins the list, and is read by axe too.
        keys.press("Control+k")
        keys.type("vpn")
        expect(chosen).to_contain_text("VPN down")
        alice.check_page("the command palette with results")
        keys.press("Control+a")
        keys.type("desk")
        expect(palette.get_by_role("option", name="Service Desk").first).to_be_visible()
        keys.press("Control+a")
        keys.type("out of")
        expect(chosen).to_have_text("Out of office")
        keys.press("Enter")
        expect(page.get_by_role("heading", name="Out of office")).to_be_visible()
        alice.check()
