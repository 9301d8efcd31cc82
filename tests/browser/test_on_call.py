"""A rotation created in a browser and overridden by pointer and keyboard."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.test_every_page import sign_in
from tests.support import service_desk
from tests.support.browser import visitor
from tests.support.server_process import serve
from tocsin.core.runtime import clock
from tocsin.oncall.models import Override

pytestmark = pytest.mark.browser

_PLACE = """(track, at) => {
  const days = track.closest("[data-timeline]").dataset.midnights.split(" ").map((text) => Date.parse(text));
  const box = track.getBoundingClientRect();
  return box.left + box.width * Math.min(0.999, (at - days[0]) / (days[days.length - 1] - days[0]));
}"""


def test_rotation_is_created_overridden_and_shows_who_would_be_paged(
    browser: Browser, database: str, tmp_path: Path
) -> None:
    desk = service_desk.set_up()
    with serve(tmp_path, database) as running, visitor(browser, running.url) as alice:
        sign_in(alice, "alice")
        page = alice.page
        alice.open(f"/on-call/schedules/new/?group={desk.group}")
        page.get_by_label("Name", exact=True).first.fill("Desk 24x7")
        people = page.locator("[data-ordered]").first
        expect(people.locator("select")).to_have_count(4)
        people.get_by_role("button", name="Move up").nth(1).click()
        preview = page.locator("#preview")
        expect(preview.locator("svg title").first).to_contain_text("Bob Brown, primary")
        people.locator("select").nth(2).select_option("")
        expect(preview).not_to_contain_text("Chen Wei")
        page.get_by_label("Rotates every (handoff)").fill("")
        page.get_by_label("Rotates every (handoff)").fill("2")
        alice.check("a rotation while it is made")
        page.get_by_role("button", name="Save").last.click()
        expect(page.get_by_text("Saved.")).to_be_visible()
        page.wait_for_load_state()  # what is dragged is heard by a script

        # Drag from before now to ten hours on: the sheet says who has it and why.
        first = page.locator("svg[data-pick=primary] text.tl-text tspan").nth(1).text_content()
        track = page.locator("svg[data-pick=primary]").first
        drag(page, track, timedelta(hours=-1), timedelta(hours=10))
        sheet = page.get_by_role("dialog")
        expect(sheet).to_contain_text("shift Weekly of Desk 24x7")
        expect(sheet).to_contain_text(str(first))
        alice.check("the sheet of a stretch")
        sheet.get_by_label("Instead of").select_option("role")
        sheet.get_by_label("Covered by").select_option(label="Chen Wei")
        sheet.get_by_role("button", name="Create override").last.click()
        expect(page.get_by_text("Chen Wei is on call for this period.")).to_be_visible()
        made = Override.objects.get()
        assert made.role == "primary"
        assert made.starts_at <= clock.now() < made.ends_at
        expect(page.locator("svg[data-pick=primary]").first).to_contain_text("Chen Wei")

        # That is whom the board names, and whom an alert would page.
        alice.open("/on-call/")
        expect(page.locator("#board tbody").filter(has_text="Service Desk")).to_contain_text("Chen Wei")
        alice.open(f"/policies/{desk.policy}/?for=group-{desk.group}")
        expect(page.locator(".policy-steps li").first).to_contain_text("Chen Wei")

        # The same by keyboard, an hour longer; Escape leaves everything as it is.
        alice.open(f"/on-call/groups/{desk.group}/?show=day&day={_tomorrow(page)}")
        button = page.locator("[data-pick-button]").first
        status = page.locator(".tl-status").first
        button.focus()
        page.keyboard.press("Enter")
        expect(status).to_contain_text("00:00")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Shift+ArrowRight")
        expect(status).to_contain_text("00:15")
        page.keyboard.press("Escape")
        expect(status).to_be_empty()
        page.keyboard.press("Enter")
        page.keyboard.press("Enter")
        expect(sheet.get_by_label("From")).to_have_value(f"{_tomorrow(page)}T00:00")
        expect(sheet.get_by_label("To")).to_have_value(f"{_tomorrow(page)}T01:00")
        page.keyboard.press("Escape")
        expect(sheet).to_be_hidden()
        assert Override.objects.count() == 1
        alice.check("by keyboard")

        # A bar that is too narrow for a link opens the same sheet.
        alice.open(f"/on-call/groups/{desk.group}/?show=coverage")
        page.locator("svg[data-pick=primary] [data-href]").filter(
            has=page.locator("title", has_text="Chen Wei")
        ).first.click()
        expect(sheet).to_contain_text("Chen Wei")
        page.keyboard.press("Escape")
        alice.open(f"/on-call/groups/{desk.group}/?show=day&day={_tomorrow(page)}")

        # And taken with one press, of whom the schedule names.
        page.locator("svg[data-pick=primary] a").first.click()
        sheet.get_by_role("button", name="Take this shift").click()
        expect(page.get_by_text("Alice Andersson is on call instead of")).to_be_visible()


def drag(page: Page, track: Locator, before: timedelta, after: timedelta) -> None:
    """Drags along a track, between two moments counted from now."""
    now = clock.now()
    expect(track).to_be_visible()
    box = track.bounding_box()
    assert box
    begin, end = (track.evaluate(_PLACE, (now + span).timestamp() * 1000) for span in (before, after))
    page.mouse.move(begin, box["y"] + 15)
    page.mouse.down()
    page.mouse.move((begin + end) / 2, box["y"] + 15)
    page.mouse.move(end, box["y"] + 15)
    page.mouse.up()


def _tomorrow(page: Page) -> str:
    value: str = page.evaluate("new Date(Date.now() + 86400000).toLocaleDateString('sv')")
    return value
