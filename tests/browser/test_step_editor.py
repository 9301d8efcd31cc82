"""Steps of a policy are added, moved and removed in a browser, and saved in the order that is shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.test_every_page import sign_in
from tests.support import service_desk
from tests.support.browser import visitor
from tests.support.server_process import serve
from tocsin.access.audit import COMMAND_LINE
from tocsin.core.runtime import clock
from tocsin.escalation.models import Policy
from tocsin.people.changes import users
from tocsin.people.models import User

pytestmark = pytest.mark.browser


def test_steps_are_saved_in_the_order_shown(browser: Browser, database: str, tmp_path: Path) -> None:
    service_desk.set_up()
    for number in range(1, 7):
        users.save_user(
            {"username": f"user{number}", "name": f"User {number}", "email": f"user{number}@example.org"},
            actor=COMMAND_LINE, now=clock.now(),
        )  # fmt: skip
    with serve(tmp_path, database) as running, visitor(browser, running.url) as alice:
        sign_in(alice, "alice")
        page = alice.page
        alice.open("/policies/new/")
        page.get_by_label("Name", exact=True).first.fill("In order")
        steps = page.locator(".step-list > li > [data-formset-form]")
        count = steps.count()
        page.locator("#id_steps-0-name").evaluate("field => { field.value = 'first' }")
        page.get_by_role("button", name="Add step").click()
        expect(steps).to_have_count(count + 1)
        steps.nth(0).get_by_label("Move down").click()
        expect(page.locator("#id_steps-1-name")).to_have_value("first")
        steps.nth(count).get_by_label("Remove", exact=True).first.click()
        expect(steps).to_have_count(count)
        # Settings are folded away, and a rule of a step is a row of its own.
        expect(page.get_by_label("Default priority")).to_be_hidden()
        second = steps.nth(1)
        second.locator("summary").first.click()
        second.locator(".seldom > summary").click()
        second.get_by_role("button", name="Add rule").click()
        second.get_by_label("Contact method").select_option("channel:sms")
        second.get_by_label("Delay").fill("2m")
        second.get_by_label("Move up").click()
        # The row says what was entered, before it is saved.
        expect(steps.nth(0).locator(".step-summary")).to_contain_text("SMS")
        page.get_by_role("button", name="Add step").click()
        expect(steps).to_have_count(count + 1)
        # A new step is open, which closes the others; of many users the chosen ones are in sight.
        expect(page.locator("details[name=step][open]")).to_have_count(1)
        steps.nth(count).get_by_text("Add", exact=True).click()
        expect(steps.nth(count).get_by_label("Search")).to_be_focused()
        steps.nth(count).get_by_label("Search").fill("user 1")
        expect(steps.nth(count).get_by_label("User 2", exact=True)).to_be_hidden()
        steps.nth(count).get_by_label("Search").press("Enter")
        expect(steps.nth(count).get_by_label("User 1", exact=True)).to_be_checked()
        steps.nth(count).get_by_label("Search").fill("user 2")
        expect(steps.nth(count).get_by_label("User 1", exact=True)).to_be_visible()
        expect(steps.nth(count).locator(".step-summary")).to_contain_text("User 1")
        alice.check("the form of a policy")
        steps.nth(count).get_by_role("button", name="Done").click()
        page.get_by_role("button", name="Save").last.click()
        expect(page.get_by_text("Saved.")).to_be_visible()
        plan = Policy.objects.select_related("current_version").get(name="In order").current_version
    assert plan is not None
    stored = plan.definition["steps"]
    assert [step.get("name", "") for step in stored][:2] == ["first", ""]
    assert stored[0]["methods"] == [{"channel": "sms", "wait": "2m"}]
    assert stored[count]["notify"]["users"] == [f"#{User.objects.get(username='user1').pk}"]
