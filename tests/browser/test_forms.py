"""Forms keep what was typed, and a button that was pressed is not pressed twice."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, Locator, Request, Route, expect

from tests.browser.test_live_pages import post
from tests.support.browser import PHONE, visitor
from tests.support.server_process import ServerProcess
from tests.support.service_desk import ServiceDesk
from tests.support.sign_in import open_home
from tocsin.access.audit import COMMAND_LINE
from tocsin.alerts.models import Alert, AlertEvent
from tocsin.alerts.states import ACTIVE
from tocsin.core.runtime import clock
from tocsin.people.changes import groups
from tocsin.people.models import User

pytestmark = pytest.mark.browser


def test_another_group_brings_its_members_and_undo_restores_them(
    browser: Browser, running: ServerProcess, desk: ServiceDesk
) -> None:
    groups.save_group(
        {"name": "Night Watch", "members": [{"user": "olga"}, {"user": "bob"}]}, actor=COMMAND_LINE, now=clock.now()
    )
    with visitor(browser, running.url) as alice:
        open_home(alice, "alice")
        page = alice.page
        alice.open(f"/on-call/schedules/new/?group={desk.group}")
        page.get_by_label("Name", exact=True).first.fill("Nights")
        people = page.locator("[data-ordered]").first
        before = _people(people)
        page.get_by_label("Group", exact=True).select_option(label="Night Watch")
        assert _people(people) == ["olga", "bob"]
        expect(page.locator("#preview .tl-lane title").first).to_contain_text("Olga Observer")
        page.get_by_role("button", name="Undo").click()
        assert _people(people) == before
        page.get_by_label("Group", exact=True).select_option(label="Service Desk")
        page.get_by_label("Group", exact=True).select_option(label="Night Watch")
        expect(page.locator("#preview .tl-lane title").first).to_contain_text("Olga Observer")

        # A second shift, unfinished yet, leaves the preview as it is and says what is missing.
        page.get_by_role("button", name="Add shift").click()
        expect(page.locator("#preview .wait-text")).to_contain_text("Shift 2")
        expect(page.locator("#preview .tl-lane title").first).to_contain_text("Olga Observer")
        shift = page.locator("[data-formset-form]").nth(1)
        shift.get_by_label("Fixed: the same people every week").check()
        expect(shift.locator("[data-windows]")).to_be_hidden()
        shift.get_by_label("Always (24/7)").uncheck()
        expect(shift.locator("[data-windows]")).to_be_visible()
        shift.get_by_label("Always (24/7)").check()
        shift.get_by_label("Name").fill("Second line")
        shift.locator("[data-ordered] select").first.select_option("bob")
        expect(page.locator("#preview .wait-text")).to_have_count(0)
        alice.check("a schedule with two shifts")
        page.get_by_role("button", name="Save").last.click()
        expect(page.get_by_text("Saved.")).to_be_visible()
        expect(page.get_by_label("Name", exact=True)).to_have_count(0)


def _people(people: Locator) -> list[str]:
    return [value for value in people.locator("select").evaluate_all("all => all.map((one) => one.value)") if value]


def test_wrong_rule_is_marked_and_every_row_kept(browser: Browser, running: ServerProcess, desk: ServiceDesk) -> None:
    with visitor(browser, running.url, width=PHONE) as alice:
        open_home(alice, "alice")
        page = alice.page
        alice.open("/me/notification-rules/")
        critical, low = (page.locator(f"[data-formset={name}]") for name in ("critical", "low"))
        for rows in (critical, critical, low):
            rows.get_by_role("button", name="Add rule").click()
        critical.get_by_label("Contact method").nth(0).select_option("SMS-Official")
        critical.get_by_label("Delay").nth(1).fill("5m")
        low.get_by_label("Contact method").select_option("Email-Official")
        page.get_by_role("button", name="Add quiet hours").click()
        page.get_by_label("Mon", exact=True).check()
        page.get_by_role("button", name="Save").click()
        expect(critical.locator(".rule-row").nth(1)).to_contain_text("Choose a contact method.")
        expect(page.locator(".quiet-row")).to_contain_text("Enter a start and an end time.")
        expect(critical.get_by_label("Delay").nth(1)).to_have_value("5m")
        expect(low.get_by_label("Contact method")).to_have_value("Email-Official")
        alice.problems.clear()  # the browser's remark about the form that came back
        alice.check("rules with errors")
        critical.get_by_label("Contact method").nth(1).select_option("Email-Official")
        page.locator(".quiet-row").get_by_role("button", name="Remove").click()
        page.get_by_role("button", name="Save").click()
        expect(page.get_by_text("Saved.")).to_be_visible()
        stored = User.objects.get(username="alice").notification_rules
    assert stored["by_priority"]["critical"] == [
        {"method": "SMS-Official"}, {"method": "Email-Official", "wait": "5m"},
    ]  # fmt: skip
    assert [rule["method"] for rule in stored["by_priority"]["low"]] == ["Email-Official"]


@pytest.mark.parametrize("button", ["Acknowledge", "Assign to me"])
def test_three_fast_taps_send_one_action_and_never_close(
    browser: Browser, running: ServerProcess, desk: ServiceDesk, button: str
) -> None:
    number = post(running, desk, button, "VPN down")
    with visitor(browser, running.url, width=PHONE) as alice:
        page = alice.page
        open_home(alice, "alice")
        alice.open(f"/alerts/{number}/")
        held: list[Route] = []
        page.route(
            f"**/alerts/{number}/*",
            lambda route: held.append(route) if route.request.method == "POST" else route.continue_(),
        )
        box = page.get_by_role("button", name=button, exact=True).bounding_box()
        assert box is not None
        for _ in range(3):
            page.touchscreen.tap(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
            page.wait_for_timeout(250)
        held[0].continue_()
        expect(page.locator(".messages, [role=status]").first).to_be_visible()
        page.wait_for_load_state("networkidle")
        for _ in range(3):
            page.touchscreen.tap(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert len(held) == 1
    assert Alert.objects.get(pk=number).status in ACTIVE
    kind = "acknowledged" if button == "Acknowledge" else "assigned"
    assert AlertEvent.objects.filter(alert=number, kind=kind).count() == 1


def test_action_without_an_answer_is_not_sent_again(
    browser: Browser, running: ServerProcess, desk: ServiceDesk
) -> None:
    number = post(running, desk, "slow", "VPN down")
    with visitor(browser, running.url, width=PHONE) as alice:
        page = alice.page
        open_home(alice, "alice")
        page.clock.install()
        alice.open(f"/alerts/{number}/")
        sent: list[str] = []
        # The browser stays where it is, as it does while it waits.
        page.route("**/acknowledge", lambda route: (sent.append(route.request.url), route.fulfill(status=204)))
        button = page.get_by_role("button", name="Acknowledge")
        with page.expect_request("**/acknowledge"):
            button.click()
        expect(button).to_be_disabled()
        page.clock.fast_forward("00:11")
        expect(page.get_by_role("alert")).to_contain_text("Reload the page to see")
        expect(button).to_be_disabled()
        page.get_by_role("button", name="Assign to me").click()
        assert len(sent) == 1
        assert page.url.endswith(f"/alerts/{number}/")


@pytest.mark.parametrize("path", ["/maintenance/new/", "/groups/new/"])
def test_double_tap_on_save_sends_a_form_once(
    browser: Browser, running: ServerProcess, desk: ServiceDesk, path: str
) -> None:
    with visitor(browser, running.url) as alice:
        page = alice.page
        open_home(alice, "alice")
        alice.open(path)
        page.get_by_label("Name", exact=True).first.fill("Twice")
        held: list[Route] = []

        def saves(request: Request) -> bool:
            return request.method == "POST" and "x-part" not in request.headers

        page.route(f"**{path}", lambda route: held.append(route) if saves(route.request) else route.continue_())
        with page.expect_request(saves):
            page.get_by_role("button", name="Save").last.dblclick()
        # What a second click sent would be held as well by now.
        page.wait_for_timeout(250)
        held[0].continue_()
        page.wait_for_load_state("networkidle")
    assert len(held) == 1
