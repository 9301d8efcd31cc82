"""The rule editor in a browser: an unknown payload is mapped by clicking, tested, and opens an alert."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Route, expect

from tests.browser.test_every_page import sign_in
from tests.support import service_desk
from tests.support.browser import visitor
from tests.support.server_process import PATIENCE, serve
from tocsin.access.audit import COMMAND_LINE
from tocsin.core.runtime import clock
from tocsin.inbound.admin import commands as integrations
from tocsin.inbound.admin import secrets

pytestmark = pytest.mark.browser

#: What nobody told Tocsin of before.
BOILER = {"probe": {"ref": "A-17", "light": "RED"}, "what": ["Boiler is cold"], "where": {"house": "Globex, north"}}


def test_unknown_payload_is_mapped_by_clicks_and_opens_alert(browser: Browser, database: str, tmp_path: Path) -> None:
    service_desk.set_up()
    never = {"open": {"field": "source_status", "operator": "equals", "value": "nothing yet"}}
    spec = {"name": "Boilers", "kind": "api", "escalation_policy": "Standard", "rules": never}
    boilers = integrations.save_integration(
        {**spec, "recipients": {"groups": ["Service Desk"]}}, actor=COMMAND_LINE, now=clock.now()
    )
    integration = boilers.pk
    with serve(tmp_path, database) as running, visitor(browser, running.url) as alice:
        url = f"{running.url}/in/{secrets.token_of(boilers)}"
        assert httpx.post(url, json=BOILER, timeout=PATIENCE).json()["status"] == "Mapped Ignored"
        sign_in(alice, "alice")
        page = alice.page
        alice.open(f"/integrations/{integration}/mapping/")

        # Before a field is chosen, a click fills none.
        page.get_by_role("button", name='"RED"', exact=True).click()
        expect(page.get_by_label("Click to fill")).to_be_focused()
        expect(page.locator("#changed")).to_be_hidden()
        # A click fills the field that has the focus; so does Enter on a value that the arrows reached.
        for field, value in (("Status", '"RED"'), ("Source id", '"A-17"'), ("Subject", '"Boiler is cold"')):
            page.get_by_label(field, exact=True).focus()
            page.get_by_role("button", name=value, exact=True).click()
        expect(page.locator("#f-subject-text")).to_have_value("what^0")
        expect(page.locator("#value-f-subject")).to_have_text("Boiler is cold")
        expect(page.locator("#value-f-source_status")).to_have_text("RED")
        page.get_by_label("Client", exact=True).focus()
        page.get_by_role("button", name='"A-17"', exact=True).focus()
        for _ in range(3):
            page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")
        expect(page.locator("#value-f-client")).to_have_text("Globex, north")
        # A template completes paths.
        text = page.get_by_label("Short text", exact=True)
        text.press_sequentially("Cold: <probe^re")
        expect(page.get_by_role("option", name="probe^ref")).to_be_visible()
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")
        expect(text).to_have_value("Cold: <probe^ref>")
        expect(page.locator("#value-f-short_text")).to_have_text("Cold: A-17")
        # A new custom field is the next one to be filled; a click is undone; a default is restored.
        page.get_by_role("button", name="Add custom field").click()
        page.get_by_label("Custom field name").fill("ref")
        page.get_by_role("button", name='"A-17"', exact=True).click()
        expect(page.locator("#c-0-text")).to_have_value("probe^ref")
        expect(page.locator("#changed")).to_contain_text("ref: probe^ref")
        page.get_by_role("button", name='"RED"', exact=True).click()
        expect(page.locator("#c-0-text")).to_have_value("probe^light")
        page.get_by_role("button", name="Undo").click()
        expect(page.locator("#c-0-text")).to_have_value("probe^ref")
        expect(page.locator("#changed")).to_be_hidden()
        page.get_by_label("Source of client").select_option(label="Default (API)")
        expect(page.locator("#f-client-text")).to_have_value("")
        page.get_by_role("button", name="Undo").click()
        expect(page.locator("#f-client-text")).to_have_value("where^house")
        page.locator("#yaml-card > summary").click()
        assert "source_status: probe^light" in page.locator("#yaml").input_value()
        alice.check("mapped by clicking")
        page.get_by_role("button", name="Review changes").click()
        expect(page.get_by_text("Saved.")).to_be_visible()

        alice.open(f"/integrations/{integration}/rules/")
        rule = page.locator('.rule[data-row="open"]')
        rule.get_by_label("Value, or several, one per line").fill("")
        page.get_by_role("button", name='"RED"', exact=True).click()
        expect(page.locator("#changed")).to_contain_text("Open an alert: status equals RED")
        rule.get_by_role("button", name="Add condition", exact=True).click()
        rule.get_by_label("Field or path").nth(1).fill("client")
        rule.get_by_label("Operator").nth(1).select_option("does not contain")
        rule.get_by_label("Value, or several, one per line").nth(1).fill("south")
        expect(page.locator("#sentence-open")).to_have_text(
            "Open an alert when status equals RED, and client does not contain south."
        )
        expect(page.locator("#outcome")).to_contain_text("Opens an alert")
        expect(page.locator("#outcome")).to_contain_text("Alice Andersson")
        page.get_by_role("button", name="Backtest").click()
        expect(page.locator("#backtest")).to_contain_text("Mapped Opened instead of Mapped Ignored")
        alice.check("rules that read as sentences, and what they change")
        page.get_by_role("button", name="Review changes").click()
        expect(page.locator("#save-review")).to_contain_text("1 more message would open an alert")
        alice.check("what a save would change")
        page.get_by_role("button", name="Save changes").click()
        expect(page.get_by_text("Saved.")).to_be_visible()

        # A picked group is a recipient at once, and is removed by a key.
        alice.open(f"/integrations/{integration}/routing/")
        page.get_by_role("button", name="Globex, north").click()
        expect(page.locator(".route .sentence")).to_contain_text("When client equals Globex, north")
        page.get_by_label("Add user").select_option("Bob Brown")
        chip = page.get_by_role("checkbox", name="Bob Brown")
        expect(chip).to_be_checked()
        alice.check("a route with a recipient")
        chip.press("Space")
        expect(chip).to_have_count(0)
        expect(page.get_by_label("Add user")).to_be_focused()
        page.get_by_label("Add group").select_option("Service Desk")
        expect(page.locator(".route .sentence")).to_contain_text("to Service Desk")
        page.get_by_role("button", name="Review changes").click()
        expect(page.get_by_text("Saved.")).to_be_visible()

        answer = httpx.post(url, json=BOILER, timeout=PATIENCE).json()
        assert answer["status"] == "Mapped Opened", answer
        alice.open(f"/alerts/{answer['alert_id']}/")
        expect(page.get_by_role("heading", name="Boiler is cold")).to_be_visible()


def test_changes_made_while_the_editor_waits_are_kept(browser: Browser, database: str, tmp_path: Path) -> None:
    service_desk.set_up()
    spec = {"name": "Boilers", "kind": "api", "escalation_policy": "Standard"}
    boilers = integrations.save_integration(
        {**spec, "recipients": {"groups": ["Service Desk"]}}, actor=COMMAND_LINE, now=clock.now()
    )
    with serve(tmp_path, database) as running, visitor(browser, running.url) as alice:
        url = f"{running.url}/in/{secrets.token_of(boilers)}"
        httpx.post(url, json=BOILER, timeout=PATIENCE)
        sign_in(alice, "alice")
        page = alice.page
        alice.open(f"/integrations/{boilers.pk}/routing/")
        page.get_by_role("button", name="Add route").click()
        route = page.get_by_role("region", name="Route 1")
        held: list[Route] = []

        def hold(request: Route) -> None:
            if held:
                request.continue_()
            else:
                held.append(request)

        page.route(f"**/integrations/{boilers.pk}/routing/", hold)
        route.get_by_label("Add group").select_option("Service Desk")
        expect(page.locator("form[data-editor][aria-busy]")).to_be_attached()
        route.get_by_label("Route name").fill("North")
        page.get_by_role("button", name="Globex, north").click()
        held[0].continue_()
        expect(page.locator("#changed")).to_contain_text("North: where^house equals Globex, north")
        expect(route.get_by_label("Route name")).to_have_value("North")
        expect(route.get_by_role("checkbox", name="Service Desk")).to_be_checked()
        alice.check("a route that was changed quickly")
