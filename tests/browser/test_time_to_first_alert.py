"""From `tocsin demo` to the first live HaloITSM alert in at most seven clicks and two pastes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, expect

from tests.support.browser import Hand, visitor
from tests.support.server_process import PATIENCE, demo

pytestmark = pytest.mark.browser

SAMPLE = (
    Path(__file__).resolve().parents[2]
    / "src" / "tocsin" / "catalogue" / "kinds" / "haloitsm" / "samples" / "new-ticket.json"
)  # fmt: skip


def test_demo_to_first_alert_takes_seven_clicks_and_two_pastes(browser: Browser, tmp_path: Path) -> None:
    hand = Hand()
    with demo(tmp_path) as running:
        password = running.wait_for(r"with the password (\S+)")[1]
        with visitor(browser, running.url) as alice:
            page = alice.page
            alice.context.grant_permissions(["clipboard-read", "clipboard-write"])
            alice.open("/")
            page.keyboard.type("alice")
            hand.fill(page.get_by_label("Password"), password)
            hand.click(page.get_by_role("button", name="Sign in", exact=True))
            hand.click(page.locator(".side").get_by_role("link", name="Inbound integrations"))
            hand.click(page.get_by_role("link", name="HaloITSM").first)
            hand.click(page.get_by_role("button", name="Copy").first)
            expect(page.get_by_role("button", name="Copied")).to_be_visible()

            # The second paste is into HaloITSM, which then posts a new ticket.
            hand.fields += 1
            url = page.evaluate("navigator.clipboard.readText()")
            assert httpx.post(url, content=SAMPLE.read_bytes(), timeout=PATIENCE).json()["status"] == "Mapped Opened"
            subject = json.loads(SAMPLE.read_text())["ticket"]["summary"]
            expect(page.get_by_text(subject)).to_be_visible()
            hand.click(page.get_by_role("link", name=re.compile("Open alert")))
            expect(page.locator("#state")).to_contain_text("Open")
            expect(page.get_by_role("heading", name=subject)).to_be_visible()
            alice.check()
    assert hand.clicks <= 7, hand
    assert hand.fields <= 2, hand
