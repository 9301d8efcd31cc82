"""Steps of a policy are added, moved and removed in a browser, and saved in the order that is shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.test_every_page import sign_in
from tests.support import service_desk
from tests.support.browser import visitor
from tests.support.server_process import serve
from tocsin.escalation.models import Policy

pytestmark = pytest.mark.browser


def test_steps_are_saved_in_the_order_shown(browser: Browser, database: str, tmp_path: Path) -> None:
    service_desk.set_up()
    with serve(tmp_path, database) as running, visitor(browser, running.url) as alice:
        sign_in(alice, "alice")
        page = alice.page
        alice.open("/policies/new/")
        page.get_by_label("Name", exact=True).first.fill("In order")
        steps = page.locator("[data-formset-form]")
        count = steps.count()
        page.locator("#id_steps-0-name").evaluate("field => { field.value = 'first' }")
        page.get_by_role("button", name="Add step").click()
        expect(steps).to_have_count(count + 1)
        steps.nth(0).get_by_label("Move down").click()
        expect(page.locator("#id_steps-1-name")).to_have_value("first")
        steps.nth(count).get_by_label("Remove", exact=True).first.click()
        expect(steps).to_have_count(count)
        page.get_by_role("button", name="Save").last.click()
        expect(page.get_by_text("Saved.")).to_be_visible()
        plan = Policy.objects.select_related("current_version").get(name="In order").current_version
    assert plan is not None
    assert [step.get("name", "") for step in plan.definition["steps"]][:2] == ["", "first"]
    assert len(plan.definition["steps"]) == count
