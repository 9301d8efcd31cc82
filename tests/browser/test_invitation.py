"""An invited responder on a phone: from the mailed link to a call that is confirmed."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.test_every_page import sign_in
from tests.doubles.smtp import SmtpDouble
from tests.support import service_desk
from tests.support.browser import PHONE, visitor
from tests.support.installation import until
from tests.support.server_process import ServerProcess
from tocsin.access.audit import COMMAND_LINE
from tocsin.core.runtime import clock
from tocsin.notify.inbound import responder_actions
from tocsin.notify.interfaces import CallState
from tocsin.notify.models import Delivery, SandboxMessage
from tocsin.people.changes import users
from tocsin.people.models import ContactMethod, User

pytestmark = pytest.mark.browser

NUMBER, SHOWN = "+41790000077", "+41 79 000 00 77"


def test_invited_responder_can_be_woken_after_five_steps(
    browser: Browser, tocsin: ServerProcess, mails: SmtpDouble
) -> None:
    admin = {"username": "alice", "email": "alice@example.org", "role": "admin"}
    users.save_user(admin, actor=COMMAND_LINE, now=clock.now(), password=service_desk.PASSWORD)
    with visitor(browser, tocsin.url) as alice:
        sign_in(alice, "alice")
        alice.open("/users/invite/several/")
        alice.page.get_by_label("Email addresses or CSV").fill("email,name\nnora@example.org,Nora New")
        alice.page.get_by_role("button", name="Preview").click()
        expect(alice.page.get_by_text("Nora New")).to_be_visible()
        alice.check("the preview")
        alice.page.get_by_role("button", name="Invite").click()
        expect(alice.page.get_by_text("1 person invited.")).to_be_visible()
    with mails.arrived:
        assert mails.arrived.wait_for(lambda: any("/welcome/" in mail.part("plain") for mail in mails.mails), 15)
    link = re.search(r"http\S+/welcome/\S+", "\n".join(mail.part("plain") for mail in mails.mails))
    assert link
    with visitor(browser, tocsin.url, width=PHONE, theme="dark") as nora:
        page = nora.page
        page.goto(link[0])
        expect(page.get_by_text("Step 1 of 5")).to_be_visible()
        nora.check()
        page.get_by_label("Choose a password").fill(service_desk.PASSWORD)
        page.get_by_role("button", name="Save and continue").click()

        page.get_by_label("Mobile phone").fill(SHOWN)
        nora.check("the phone")
        page.get_by_role("button", name="Send code").click()
        expect(page.get_by_text(f"Enter the code sent to {SHOWN}.")).to_be_visible()
        page.get_by_label("Code").fill("12")
        page.get_by_role("button", name="Verify").click()
        expect(page.get_by_text("Wrong code.")).to_be_visible()
        expect(page.get_by_role("button", name="Send a new code")).to_be_visible()
        # The browser reports the form's answer, as it is meant to be.
        nora.problems = [problem for problem in nora.problems if "status of 422" not in problem]
        nora.check("a wrong code")
        page.get_by_label("Code").fill(_code())
        page.get_by_role("button", name="Verify").click()

        expect(page.get_by_text("Step 3 of 5")).to_be_visible()
        nora.check("push")
        page.get_by_role("link", name="Skip").click()

        nora.check("the test")
        page.get_by_role("button", name=f"Call: {SHOWN}").click()
        expect(page.get_by_text("Kept in the sandbox")).to_be_visible()
        nora.check("the call")
        call = Delivery.objects.get(channel="voice", purpose="test")
        responder_actions.continue_call(
            "sandbox", CallState(str(call.notification_id), number=NUMBER, digits="5"), clock.now()
        )
        expect(page.get_by_text(f"Confirmed: you pressed 5 on {SHOWN}.")).to_be_visible()
        page.get_by_role("link", name="Continue").click()
        expect(page.get_by_text("Step 5 of 5")).to_be_visible()
        nora.check("done")
        page.get_by_role("link", name="Open Tocsin").click()
        expect(page.get_by_role("heading", name="Home")).to_be_visible()
    methods = ContactMethod.objects.filter(user=User.objects.get(username="nora"), address=NUMBER)
    assert all(method.verified_at and not method.awaits_code for method in methods)
    assert {method.channel for method in methods} == {"sms", "voice"}


def _code() -> str:
    """The code in the text, which stays in the sandbox."""
    until("the code is in the sandbox", lambda: SandboxMessage.objects.filter(address=NUMBER).exists())
    match = re.search(r"\d{6}", str(SandboxMessage.objects.filter(address=NUMBER).latest("pk").content["text"]))
    assert match, str(SandboxMessage.objects.filter(address=NUMBER).latest("pk").content)
    return match[0]
