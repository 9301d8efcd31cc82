"""Pages change by themselves, never under the pointer; they say when they cannot, and all of it works by keyboard and
without scripts."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import Browser, expect

from tests.browser.test_every_page import sign_in
from tests.support.browser import PHONE, visitor
from tests.support.server_process import PATIENCE, ServerProcess, serve
from tests.support.service_desk import ServiceDesk
from tests.support.sign_in import open_home
from tocsin.access.audit import COMMAND_LINE
from tocsin.core.runtime import clock
from tocsin.people.changes import users as people
from tocsin.people.models import User

pytestmark = pytest.mark.browser

#: The service worker is installed, and answers for the page.
_WORKER_IS_IN_CHARGE = """() => new Promise((done, failed) => {
  setTimeout(() => failed(new Error("no service worker took charge")), 10000);
  if (navigator.serviceWorker.controller) done();
  else navigator.serviceWorker.addEventListener("controllerchange", () => done());
})"""


def post(running: ServerProcess, desk: ServiceDesk, name: str, subject: str) -> int:
    body = {"id": name, "subject": subject, "priority": "high"}
    return int(httpx.post(running.url + desk.monitoring_path, json=body, timeout=PATIENCE).json()["alert_id"])


def test_a_list_grows_by_itself_but_not_under_the_pointer(
    browser: Browser, running: ServerProcess, desk: ServiceDesk
) -> None:
    post(running, desk, "1", "Trigger your first alert")
    with visitor(browser, running.url) as alice:
        page = alice.page
        open_home(alice, "alice")
        alice.open("/alerts/")
        expect(page.locator("html[data-live=open]")).to_be_attached()
        page.mouse.move(5, 600)
        post(running, desk, "2", "It appears by itself")
        expect(page.get_by_text("It appears by itself")).to_be_visible()
        expect(page.locator(".side .count")).to_contain_text("2")

        # A pause of all paging is said on pages that are open already, and so is its end.
        pause = {"url": f"{running.url}/api/v1/pause", "headers": {"Authorization": f"Bearer {desk.token}"}}
        httpx.request("PUT", **pause, json={"reason": "a drill", "for": "1h"}, timeout=PATIENCE).raise_for_status()
        expect(page.locator(".banner")).to_contain_text("a drill")
        httpx.request("DELETE", **pause, timeout=PATIENCE).raise_for_status()
        expect(page.locator(".banner")).to_have_count(0)

        page.get_by_text("Trigger your first alert").hover()
        post(running, desk, "3", "It waits for the pointer")
        pill = page.get_by_role("button", name="1 new")
        expect(pill).to_be_visible()
        expect(page.get_by_text("It waits for the pointer")).to_have_count(0)
        page.mouse.move(5, 600)
        expect(page.get_by_text("It waits for the pointer")).to_be_visible()
        expect(pill).to_have_count(0)
        alice.check()


def test_lost_connection_is_shown_and_missed_changes_are_fetched(
    browser: Browser, desk: ServiceDesk, shared_database: str, tmp_path: Path
) -> None:
    with serve(tmp_path, shared_database) as first, visitor(browser, first.url) as alice:
        port = urlsplit(first.url).port
        assert port is not None
        post(first, desk, "8", "It waited")
        sign_in(alice, "alice")
        alice.open("/alerts/")
        expect(alice.page.locator("html[data-live=open]")).to_be_attached()
        alice.page.evaluate(_WORKER_IS_IN_CHARGE)
        editor = alice.context.new_page()
        editor.goto(f"{first.url}/integrations/{desk.monitoring}/mapping/")
        subject = editor.get_by_label("Subject", exact=True)
        expect(editor.locator("#failed")).to_be_hidden()
        first.process.terminate()
        expect(alice.page.locator("#lost")).to_contain_text("Connection lost since", timeout=20_000)
        first.process.wait(20)

        # What is fetched in place cannot be had: that is said, and what was typed stays.
        subject.fill("title")
        expect(editor.locator("#failed")).to_have_text("Could not load. Try again; your input is kept.")
        expect(editor.locator("#failed")).to_be_visible()
        expect(subject).to_have_value("title")

        # Another page cannot be had, and nothing old passes for it: the app itself says so, and since when.
        other = alice.context.new_page()
        answer = other.goto(first.url + "/alerts/")
        assert answer is not None
        assert answer.status == 503
        expect(other.get_by_role("heading", name="No connection to Tocsin")).to_be_visible()
        expect(other.get_by_text(re.compile(r"Since \w+,? \d\d:\d\d:\d\d"))).to_be_visible()
        expect(other.get_by_text(re.compile(r"It last answered \w+,? \d\d:"))).to_be_visible()
        expect(other.get_by_text("It waited")).to_have_count(0)
        with serve(tmp_path, shared_database, port=port) as second:
            post(second, desk, "9", "It came meanwhile")
            expect(alice.page.get_by_text("It came meanwhile")).to_be_visible(timeout=20_000)
            expect(alice.page.locator("#lost")).to_be_hidden()
            expect(other.get_by_text("It came meanwhile")).to_be_visible(timeout=20_000)
            subject.fill("subject")
            expect(editor.locator("#value-f-subject")).to_have_text("It waited", timeout=20_000)
            expect(editor.locator("#failed")).to_be_hidden()


def test_an_alert_is_answered_by_keyboard_alone(browser: Browser, running: ServerProcess, desk: ServiceDesk) -> None:
    number = post(running, desk, "1", "VPN down")
    with visitor(browser, running.url) as alice:
        page = alice.page
        keys = page.keyboard
        open_home(alice, "alice")
        expect(page.locator("html[data-live=open]")).to_be_attached()
        keys.press("g")
        keys.press("a")
        expect(page.get_by_role("heading", name="Alerts")).to_be_visible()
        keys.press("j")
        expect(page.get_by_role("link", name="VPN down")).to_be_focused()
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
        keys.press("Enter")
        expect(page.get_by_role("heading", name="VPN down")).to_be_visible()

        # The sheet lists the keys, closes with Escape, and lets no key through to the page.
        keys.press("?")
        expect(page.get_by_role("dialog", name="Keyboard shortcuts")).to_be_visible()
        alice.check_page("the sheet of shortcuts")
        keys.press("a")
        keys.press("Escape")
        expect(page.get_by_role("dialog")).to_have_count(0)
        # Whoever types writes letters.
        keys.press("/")
        expect(page.get_by_label("Search Tocsin").first).to_be_focused()
        keys.type("at")
        expect(page.locator("#state")).to_contain_text("Open")
        page.evaluate("document.activeElement.blur()")
        keys.press("a")
        expect(page.get_by_text(f"You acknowledged alert {number}.")).to_be_visible()

        for _step in range(40):
            keys.press("Tab")
            if page.evaluate("document.activeElement.textContent.trim()") == "Assign to me":
                break
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
        keys.press("Enter")
        expect(page.get_by_text(f"Alert {number} is assigned to you.")).to_be_visible()

        # Switched off, a letter does nothing.
        keys.press("?")
        page.get_by_label("Shortcuts work on this device").press("Space")
        keys.press("Escape")
        keys.press("?")
        expect(page.get_by_role("dialog")).to_have_count(0)
        alice.check()


def test_what_was_typed_is_not_lost_by_a_stray_press(
    browser: Browser, running: ServerProcess, desk: ServiceDesk
) -> None:
    number = post(running, desk, "1", "VPN down")
    with visitor(browser, running.url) as alice:
        page = alice.page
        queries: list[str] = []
        page.on("dialog", lambda dialog: (queries.append(dialog.type), dialog.dismiss()))
        open_home(alice, "alice")
        alice.open(f"/alerts/{number}/")
        page.get_by_label("More actions").click()
        page.get_by_text("Visible on the timeline.").click()
        page.get_by_label("Note", exact=True).fill("On my way, since")
        # Neither a link nor the button beside it takes the words away.
        page.locator(".side").get_by_role("link", name="Home").click()
        page.keyboard.press("Escape")
        with page.expect_event("dialog"):
            page.get_by_role("button", name="Acknowledge").click()
        assert queries == ["beforeunload", "beforeunload"]
        expect(page.locator("#reply-text")).to_have_value("On my way, since")
        # Nor does a server that is away, or a session that has ended meanwhile.
        page.get_by_label("More actions").click()
        send = page.locator("form[action$=reply] button")
        alice.context.set_offline(True)
        send.click()
        expect(page.get_by_role("alert")).to_contain_text("Tocsin is unreachable")
        alice.context.set_offline(False)
        cookies = alice.context.cookies()
        alice.context.clear_cookies()
        send.click()
        expect(page.get_by_role("alert")).to_contain_text("you are signed out")
        expect(page.locator("#reply-text")).to_have_value("On my way, since")
        alice.context.add_cookies(cookies)
        send.click()
        expect(page.locator(".quote")).to_contain_text("On my way, since")
        assert len(queries) == 2
        # What is wrong far down, in a part that is folded away, is shown, and has the focus.
        alice.open(f"/policies/{desk.policy}/edit/")
        step = page.locator("details[name=step]").nth(2)
        step.locator("summary").first.click()
        step.locator(".seldom > summary").click()
        page.locator("[name=steps-2-retry_times]").fill("2")
        wrong = page.locator("[name=steps-2-retry_every]")
        wrong.fill("often")
        page.get_by_role("button", name="Save").last.click()
        expect(page.locator(".errors")).to_contain_text('"often" is not a duration')
        expect(wrong).to_be_focused()
        expect(wrong).to_be_in_viewport()


def test_an_answer_without_a_connection_leaves_the_alert_in_sight(
    browser: Browser, running: ServerProcess, desk: ServiceDesk
) -> None:
    number = post(running, desk, "1", "VPN down")
    with visitor(browser, running.url, width=PHONE) as alice:
        page = alice.page
        open_home(alice, "alice")
        alice.open(f"/alerts/{number}/")
        acknowledge = page.get_by_role("button", name="Acknowledge")
        # In the moment before the page has noticed, too: the stream that tells it is open still.
        expect(page.locator("html")).to_have_attribute("data-live", "open")
        page.route("**/*", lambda request: request.abort())
        acknowledge.click()
        expect(page.get_by_role("alert")).to_contain_text("Not sent: Tocsin is unreachable. Nothing was changed")
        page.unroute("**/*")
        page.reload()
        alice.context.set_offline(True)
        acknowledge.click()
        expect(page.get_by_role("alert")).to_contain_text("Not sent: Tocsin is unreachable. Nothing was changed")
        alice.context.set_offline(False)
        # A server that is only slow may hear it: the press is not kept back for long.
        page.route("**/offline/", lambda request: None)
        acknowledge.click()
        expect(page.get_by_text(f"You acknowledged alert {number}.")).to_be_visible()


def test_the_sandboxs_phone_takes_one_key_after_the_other(
    browser: Browser, running: ServerProcess, desk: ServiceDesk
) -> None:
    spec = {"label": "Call", "channel": "voice", "address": "+41790000001"}
    people.save_contact_method(User.objects.get(username="alice"), spec, actor=COMMAND_LINE, now=clock.now())
    number = post(running, desk, "1", "VPN down")
    with visitor(browser, running.url, width=PHONE) as alice:
        page = alice.page
        open_home(alice, "alice")
        alice.open("/sandbox/?channel=voice")
        page.get_by_role("button", name="Pick up").click()
        locator = page.locator("[data-captions]")
        expect(locator).to_contain_text("Press 7 to acknowledge")
        page.locator(".key[value='9']").click()
        expect(locator).to_contain_text("9 again")
        page.locator(".key[value='9']").click()
        expect(locator).to_contain_text("closed")
        alice.open(f"/alerts/{number}/")
        expect(page.locator("#state")).to_contain_text("Closed")


def test_opening_a_menu_is_not_a_change_of_the_alert(
    browser: Browser, running: ServerProcess, desk: ServiceDesk
) -> None:
    number = post(running, desk, "1", "VPN down")
    with visitor(browser, running.url, width=PHONE) as alice:
        page = alice.page
        open_home(alice, "alice")
        alice.open(f"/alerts/{number}/")
        expect(page.locator("html")).to_have_attribute("data-live", "open")
        page.get_by_label("More actions").click()
        with page.expect_response(lambda answer: answer.request.headers.get("x-part") == "state"):
            post(running, desk, "1", "VPN down")
        expect(page.locator("#timeline")).to_contain_text("×2")
        expect(page.get_by_role("button", name="Changed: show")).to_have_count(0)


def test_without_scripts_reading_and_answering_still_work(
    browser: Browser, running: ServerProcess, desk: ServiceDesk
) -> None:
    number = post(running, desk, "1", "VPN down")
    with visitor(browser, running.url, width=PHONE, scripts=False) as alice:
        page = alice.page
        open_home(alice, "alice")
        page.get_by_role("link", name="VPN down").click()
        page.get_by_role("button", name="Acknowledge").click()
        expect(page.get_by_text(f"You acknowledged alert {number}.")).to_be_visible()
        page.get_by_label("More actions").click()
        page.get_by_text("Add note", exact=False).first.click()
        page.get_by_label("Note", exact=True).fill("On my way.")
        page.locator("form[action$=reply] button").click()
        expect(page.locator(".quote")).to_contain_text("On my way.")
