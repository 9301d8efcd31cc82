"""A story for each of the three roles, counted in steps: an administrator, an engineer on a phone, a team's lead."""

from __future__ import annotations

import re
import time
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.test_every_page import sign_in
from tests.browser.test_on_call import drag
from tests.doubles.smtp import SmtpDouble
from tests.support import service_desk
from tests.support.browser import PHONE, Hand, visitor
from tests.support.server_process import PATIENCE, ServerProcess, demo, serve
from tocsin.alerts.models import Alert, AlertEvent
from tocsin.alerts.states import EventKind
from tocsin.core.runtime import clock

pytestmark = [pytest.mark.browser, pytest.mark.long]

#: What a step may be: a click, a chosen option, or a field that is filled.
MAX_ADMINISTRATOR_STEPS = 45
MAX_TAPS = 2
MAX_LEAD_CLICKS = 3
#: From the tap on the mail's link until "acknowledged" is on the screen.
MAX_SECONDS = 4

#: Lighthouse's slow 4G.
SLOW_4G = {
    "offline": False, "latency": 150, "downloadThroughput": 1.6e6 / 8, "uploadThroughput": 750e3 / 8,
}  # fmt: skip

TICKET = {
    "event": "new ticket logged", "object_id": 7,
    "ticket": {
        "id": 7, "summary": "ERP unreachable", "status": {"id": 1, "name": "New"}, "priority": {"name": "Critical"},
        "client_name": "Acme Corp",
    },
}  # fmt: skip


def test_administrator_gets_from_setup_link_to_a_routed_call(browser: Browser, tocsin: ServerProcess) -> None:
    """Acme's critical tickets page group B by call."""
    hand = Hand()
    link = tocsin.wait_for(r"(http://\S+/setup/\w+)")[1]
    with visitor(browser, tocsin.url) as ada:
        page = ada.page
        page.goto(link)
        hand.fill(page.get_by_label("Your name"), "Ada Admin")
        hand.fill(page.get_by_label("Email"), "ada@example.org")
        hand.fill(page.get_by_label("Username"), "ada")
        hand.fill(page.get_by_label("Password"), service_desk.PASSWORD)
        hand.click(page.get_by_role("button", name="Create account"))
        expect(page.get_by_role("heading", name="Home")).to_be_visible()

        hand.click(_navigation(page, "Providers"))
        hand.click(page.get_by_role("link", name="Twilio").first)
        hand.fill(page.get_by_label("Account SID"), "AC" + 32 * "0")
        hand.fill(page.get_by_label("Auth token"), 32 * "0")
        hand.fill(page.get_by_label("From number"), "+41 44 000 00 00")
        hand.click(page.get_by_role("button", name="Save", exact=True).last)
        expect(page.get_by_role("status").get_by_text("Saved").first).to_be_visible()

        hand.click(_navigation(page, "Users"))
        hand.click(page.get_by_role("link", name="Invite several"))
        csv = "email,name,phone\nbea@example.org,Bea Baker,+41 79 000 00 05"
        hand.fill(page.get_by_label("Email addresses or CSV"), csv)
        hand.click(page.get_by_role("button", name="Preview"))
        hand.click(page.get_by_role("button", name="Invite"))
        expect(page.get_by_text("1 person invited.")).to_be_visible()

        hand.click(_navigation(page, "Groups"))
        hand.click(page.get_by_role("link", name="New group").first)
        hand.fill(page.get_by_label("Name", exact=True), "Group B")
        hand.choose(page.get_by_label("User").first, "Bea Baker")
        hand.click(page.get_by_role("button", name="Save", exact=True).last)
        expect(page.get_by_role("heading", name="Group B")).to_be_visible()

        hand.click(_navigation(page, "Escalation policies"))
        hand.click(page.get_by_role("link", name="New policy").first)
        hand.fill(page.get_by_label("Name", exact=True).first, "By call")
        step = page.locator(".step-card").first
        hand.click(step.locator("summary", has_text="Advanced"))
        hand.click(step.get_by_role("button", name="Add rule"))
        hand.choose(step.get_by_label("Contact method"), "Call")
        hand.click(step.get_by_role("button", name="Save", exact=True))
        expect(page.get_by_role("heading", name="By call")).to_be_visible()
        ada.check("the policy")

        hand.click(_navigation(page, "Inbound integrations"))
        hand.click(page.get_by_role("link", name="Add an integration").first)
        hand.click(page.get_by_role("link", name=re.compile("^HaloITSM")))
        hand.fill(page.get_by_label("Your Halo address"), "acme.haloitsm.com")
        hand.click(page.get_by_role("button", name="Add integration"))
        expect(page.get_by_text("Waiting for HaloITSM…")).to_be_visible()
        url = page.get_by_label("Webhook URL").first.input_value()

        hand.click(page.get_by_role("navigation", name="Integration sections").get_by_role("link", name="Routing"))
        hand.click(page.get_by_role("button", name="Add route"))
        route = page.get_by_role("region", name="Route 1")
        for number, (field, value) in enumerate((("client", "Acme"), ("priority", "critical"))):
            if number:
                hand.click(route.get_by_role("button", name="Add condition"))
            hand.fill(route.get_by_label("Field or path").nth(number), field)
            hand.fill(route.get_by_label("Value, or several").nth(number), value)
        hand.choose(route.get_by_label("Escalation policy"), "By call")
        hand.choose(route.get_by_label("Add group"), "Group B")
        expect(route.get_by_role("checkbox", name="Group B")).to_be_checked()
        hand.click(page.get_by_role("button", name="Review changes"))
        expect(page.get_by_role("status").get_by_text("Saved").first).to_be_visible()
        ada.check("the route")

        answer = httpx.post(url, json=TICKET, timeout=PATIENCE).json()
        ada.open(f"/alerts/{answer['alert_id']}/")
        expect(page.locator("main")).to_contain_text("Bea Baker")
        expect(page.locator("#timeline")).to_contain_text("call")
        assert hand.steps <= MAX_ADMINISTRATOR_STEPS, hand


def test_engineer_acknowledges_from_the_mail_on_a_slow_phone(
    browser: Browser, database: str, mails: SmtpDouble, tmp_path: Path
) -> None:
    desk, hand = service_desk.set_up(), Hand()
    with serve(tmp_path, database, TOCSIN_SMTP_URL=mails.url, TOCSIN_EMAIL_FROM="tocsin@example.org") as running:
        number = service_desk.receive_an_evening(running.url, desk)["vpn"]
        with mails.arrived:
            assert mails.arrived.wait_for(lambda: any("VPN down" in mail.part("plain") for mail in mails.mails), 15)
        text = next(mail.part("plain") for mail in mails.mails if "VPN down" in mail.part("plain"))
        link = re.search(rf"{re.escape(running.url)}/a/[-\w]+", text)
        assert link, text
        with visitor(browser, running.url, width=PHONE, theme="dark") as engineer:
            page = engineer.page
            # The browser itself is started before it counts.
            page.goto("about:blank")
            page.context.new_cdp_session(page).send("Network.emulateNetworkConditions", SLOW_4G)
            begin = time.monotonic()
            hand.clicks += 1
            page.goto(link[0], wait_until="commit")
            button = page.get_by_role("button", name="Acknowledge")
            button.wait_for()
            place = button.bounding_box()
            hand.click(button)
            expect(page.get_by_text(f"You acknowledged alert {number}.")).to_be_visible()
            took = time.monotonic() - begin
            assert place is not None
            # Further taps at the same place change nothing.
            for _tap in range(2):
                page.touchscreen.tap(place["x"] + place["width"] / 2, place["y"] + place["height"] / 2)
            engineer.check("acknowledged")
        kinds = list(AlertEvent.objects.filter(alert=number).values_list("kind", flat=True))
        assert ("acknowledged" in kinds, "closed" in kinds, "cancelled" in kinds) == (True, False, False)
        assert hand.steps <= MAX_TAPS
        assert took <= MAX_SECONDS, took


def test_lead_finds_figures_within_three_clicks(browser: Browser, database: str, tmp_path: Path) -> None:
    service_desk.set_up()
    service_desk.plan_on_call()
    at = clock.now().replace(day=1, hour=0) - timedelta(days=9)
    alert = Alert.objects.create(subject="VPN down", opened_at=at, last_message_at=at)
    AlertEvent.objects.create(alert=alert, at=at + timedelta(minutes=3), kind=EventKind.ACKNOWLEDGED)
    with serve(tmp_path, database) as running, visitor(browser, running.url) as lead:
        page = lead.page
        sign_in(lead, "alice")

        hand = Hand()
        hand.click(page.get_by_role("link", name="Calendar", exact=True))
        hand.click(page.get_by_role("link", name="Month", exact=True))
        expect(page).to_have_url(re.compile("show=month"))
        before = page.get_by_role("heading", level=2).first.inner_text()
        hand.click(page.get_by_role("link", name="Later"))
        expect(page.get_by_role("heading", level=2).first).not_to_have_text(before)
        assert hand.steps <= MAX_LEAD_CLICKS

        lead.open("/")
        hand = Hand()
        hand.click(_navigation(page, "Reports"))
        hand.click(page.get_by_role("link", name="On-call fairness"))
        expect(page.get_by_role("heading", name="On-call fairness")).to_be_visible()
        assert hand.steps <= MAX_LEAD_CLICKS

        lead.open("/")
        hand = Hand()
        hand.click(_navigation(page, "Reports"))
        hand.choose(page.get_by_label("Period"), "Last month")
        hand.click(page.get_by_role("button", name="Show"))
        expect(page).to_have_url(re.compile("period=last_month"))
        expect(page.locator(".summary-tile", has_text="MTTA")).to_contain_text("3 min")
        assert hand.steps <= MAX_LEAD_CLICKS
        lead.check("last month's MTTA")


def test_storm_override_and_client_month_take_few_steps(browser: Browser, tmp_path: Path) -> None:
    with demo(tmp_path, has_history=True) as running:
        password = running.wait_for(r"with the password (\S+)")[1]
        with visitor(browser, running.url, width=PHONE, theme="dark") as engineer:
            sign_in(engineer, "alice", password)
            engineer.open("/alerts/")
            page, hand = engineer.page, Hand()
            hand.click(page.get_by_role("button", name="Acknowledge all 60"))
            hand.click(page.locator("main").get_by_role("button", name="Acknowledge", exact=True))
            expect(page.get_by_role("button", name="Undo").first).to_be_visible()
            assert hand.steps <= MAX_TAPS
            state = engineer.context.storage_state()
        with visitor(browser, running.url, state=state) as lead:
            page, hand = lead.page, Hand()
            lead.open("/on-call/calendar/")
            page.wait_for_load_state()
            drag(page, page.locator("svg[data-pick=primary]").first, timedelta(days=1), timedelta(days=8))
            hand.clicks += 1
            sheet = page.get_by_role("dialog")
            hand.choose(sheet.get_by_label("Covered by"), "Chen Wei")
            hand.click(sheet.get_by_role("button", name="Create override").last)
            expect(page.get_by_text("Chen Wei is on call for this period.")).to_be_visible()
            assert hand.steps <= MAX_LEAD_CLICKS

            lead.open("/reports/")
            hand = Hand()
            hand.click(page.get_by_role("link", name="Client report"))
            hand.click(page.get_by_role("link", name="Globex"))
            expect(page.get_by_role("button", name="Print")).to_be_visible()
            assert hand.steps <= MAX_TAPS


def _navigation(page: Page, name: str) -> Locator:
    return page.get_by_role("navigation", name="Main", exact=True).get_by_role("link", name=name)
