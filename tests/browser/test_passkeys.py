"""Passkeys with the browser's virtual authenticator: added, used with and without password, removed."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.test_every_page import sign_in
from tests.support import service_desk
from tests.support.browser import PHONE, visitor
from tests.support.server_process import serve

pytestmark = pytest.mark.browser

#: As built into a phone: it asks whoever holds it, here at once.
_BUILT_IN = {
    "protocol": "ctap2",
    "transport": "internal",
    "hasResidentKey": True,
    "hasUserVerification": True,
    "isUserVerified": True,
    "automaticPresenceSimulation": True,
}


def test_a_passkey_signs_in_alone_and_after_the_password(browser: Browser, database: str, tmp_path: Path) -> None:
    service_desk.set_up()
    with serve(tmp_path, database) as running, visitor(browser, running.url, width=PHONE) as alice:
        page = alice.page
        phone = alice.context.new_cdp_session(page)
        phone.send("WebAuthn.enable")
        key = phone.send("WebAuthn.addVirtualAuthenticator", {"options": _BUILT_IN})["authenticatorId"]

        def recognises(whoever_holds_it: bool) -> None:
            phone.send("WebAuthn.setUserVerified", {"authenticatorId": key, "isUserVerified": whoever_holds_it})

        sign_in(alice, "alice")
        alice.open("/account/2fa/")
        page.get_by_role("link", name="Add key").click()
        page.get_by_label("Password").fill(service_desk.PASSWORD)
        page.get_by_role("button", name="Continue").click()
        expect(page.get_by_label("Sign in without a password")).to_be_checked()
        alice.check()
        page.get_by_label("Name").fill("Alice's phone")
        # It does not know the finger: the page says so, and nothing is added.
        recognises(False)
        page.get_by_role("button", name="Add").click()
        expect(page.get_by_role("alert")).to_contain_text("No key received")
        recognises(True)
        page.get_by_role("button", name="Add").click()
        expect(page.get_by_role("heading", name="Recovery codes")).to_be_visible()
        alice.open("/account/2fa/webauthn/")
        row = page.get_by_role("row").filter(has_text="Alice's phone")
        expect(row).to_contain_text("Signs in without a password")
        expect(row).to_contain_text("Never used")
        alice.check()

        alice.context.clear_cookies()
        alice.open("/account/login/")
        page.get_by_role("button", name="Sign in with a passkey").click()
        expect(page.get_by_role("heading", name="Home")).to_be_visible()

        alice.context.clear_cookies()
        alice.open("/account/login/")
        page.get_by_label("Username or email").fill("alice")
        page.get_by_label("Password").fill(service_desk.PASSWORD)
        page.get_by_role("button", name="Sign in", exact=True).click()
        expect(page.get_by_text("Enter a recovery code")).to_be_visible()
        alice.check()
        page.get_by_role("button", name="Use passkey or security key").click()
        expect(page.get_by_role("heading", name="Home")).to_be_visible()

        alice.open("/account/2fa/webauthn/")
        expect(row).to_contain_text("Last used")
        page.get_by_role("link", name="Rename").click()
        page.get_by_role("link", name="Use a passkey or security key").click()
        page.get_by_role("button", name="Use passkey or security key").click()
        page.get_by_label("Name").fill("The old phone")
        page.get_by_role("button", name="Save").click()
        page.get_by_role("row").filter(has_text="The old phone").get_by_role("link", name="Remove").click()
        expect(page.get_by_role("heading", name="Remove The old phone")).to_be_visible()
        alice.check()
        page.get_by_role("button", name="Remove").click()
        expect(page.get_by_text("None yet.")).to_be_visible()
        assert alice.problems == []
