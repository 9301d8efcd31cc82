"""A slow, silent or failing server: stale content is marked and typed input kept."""

from __future__ import annotations

from dataclasses import replace

import pytest
from playwright.sync_api import Browser, Route, expect

from tests.browser.test_every_page import sign_in
from tests.browser.test_live_pages import post
from tests.support import service_desk
from tests.support.browser import PHONE, visitor
from tests.support.server_process import ServerProcess
from tests.support.service_desk import ServiceDesk
from tests.support.sign_in import open_home

pytestmark = pytest.mark.browser


def test_unanswered_request_times_out_and_is_retried(
    browser: Browser, running: ServerProcess, desk: ServiceDesk
) -> None:
    def swallow(route: Route) -> None:
        if route.request.headers.get("x-part") != "list":
            route.continue_()

    post(running, desk, "1", "Trigger your first alert")
    with visitor(browser, running.url, width=PHONE) as alice:
        page = alice.page
        open_home(alice, "alice")
        page.clock.install()
        alice.open("/alerts/")
        expect(page.locator("html[data-live=open]")).to_be_attached()
        page.route("**/alerts/", swallow)
        with page.expect_request(lambda asked: asked.headers.get("x-part") == "list"):
            post(running, desk, "2", "Nobody tells of it")
        page.clock.fast_forward("00:16")
        expect(page.locator("#lost")).to_contain_text("Data may be out of date")
        page.unroute("**/alerts/")
        page.clock.fast_forward("00:06")
        expect(page.get_by_text("Nobody tells of it")).to_be_visible()
        expect(page.locator("#lost")).to_be_hidden()


def test_partial_request_after_sign_out_never_renders_sign_in_page(
    browser: Browser, running: ServerProcess, desk: ServiceDesk
) -> None:
    post(running, desk, "1", "Trigger your first alert")
    with visitor(browser, running.url) as alice:
        page = alice.page
        open_home(alice, "alice")
        alice.open("/inbound-log/")
        cookies = alice.context.cookies()
        alice.context.clear_cookies()
        row = page.locator("a.subject").first
        row.click()
        expect(page.get_by_role("alert")).to_contain_text("you are signed out")
        expect(page.get_by_label("Password")).to_have_count(0)
        alice.context.add_cookies(cookies)
        row.click()
        expect(page.locator(".opened-row").first).to_contain_text("Decision")


def test_user_signed_in_again_elsewhere_continues_on_the_same_page(
    browser: Browser, running: ServerProcess, desk: ServiceDesk
) -> None:
    post(running, desk, "1", "It was mapped")
    with visitor(browser, running.url) as alice:
        page = alice.page
        open_home(alice, "alice")
        alice.open(f"/integrations/{desk.monitoring}/mapping/")
        alice.context.clear_cookies()
        sign_in(replace(alice, page=alice.context.new_page()), "alice")
        page.get_by_label("Subject", exact=True).fill("subject")
        expect(page.locator("#value-f-subject")).to_have_text("It was mapped")
        page.get_by_label("Sample message").select_option("pasted")
        expect(page.get_by_label("Payload")).to_be_visible()
        expect(page.locator("#failed")).to_be_hidden()


def test_failed_row_changes_are_reported_and_kept(browser: Browser, running: ServerProcess, desk: ServiceDesk) -> None:
    post(running, desk, "1", "It was mapped")
    with visitor(browser, running.url) as alice:
        page = alice.page
        open_home(alice, "alice")
        alice.open(f"/integrations/{desk.monitoring}/mapping/")
        page.get_by_label("Subject", exact=True).fill("title")
        page.route("**/mapping/", lambda route: route.fulfill(status=503))
        page.get_by_label("Sample message").select_option("pasted")
        expect(page.locator("#failed")).to_contain_text("Could not load")
        expect(page.get_by_label("Subject", exact=True)).to_have_value("title")
        page.route("**/backtest", lambda route: route.fulfill(status=500, body="<p>Something failed</p>"))
        page.get_by_role("button", name="Backtest").click()
        expect(page.locator("#failed")).to_be_visible()
        expect(page.get_by_role("button", name="Backtest")).to_be_enabled()


def test_unanswered_press_is_reported(browser: Browser, running: ServerProcess, desk: ServiceDesk) -> None:
    number = post(running, desk, "1", "VPN down")
    with visitor(browser, running.url, width=PHONE) as alice:
        page = alice.page
        open_home(alice, "alice")
        page.clock.install()
        alice.open(f"/alerts/{number}/")
        # The browser stays where it is, as it does while it waits.
        page.route("**/acknowledge", lambda route: route.fulfill(status=204))
        with page.expect_request("**/acknowledge"):
            page.get_by_role("button", name="Acknowledge").click()
        page.clock.fast_forward("00:11")
        expect(page.get_by_role("alert")).to_contain_text("No response yet")


def test_signing_in_without_a_connection_keeps_what_was_typed(browser: Browser, running: ServerProcess) -> None:
    with visitor(browser, running.url, width=PHONE) as alice:
        page = alice.page
        alice.open("/account/login/")
        page.get_by_label("Username or email").fill("alice")
        page.get_by_label("Password").fill(service_desk.PASSWORD)
        alice.context.set_offline(True)
        page.get_by_role("button", name="Sign in", exact=True).click()
        expect(page.get_by_role("alert")).to_contain_text("Not sent: Tocsin is unreachable")
        alice.context.set_offline(False)
        page.get_by_role("button", name="Sign in", exact=True).click()
        expect(page.get_by_role("heading", name="Home")).to_be_visible()
