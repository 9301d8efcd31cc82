"""A first evening: setup link, HaloITSM, a live ticket, and the answer from the mail."""

from __future__ import annotations

import json
import re
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import PICTURES
from tests.doubles.smtp import Mail, SmtpDouble
from tests.support.browser import PHONE, visitor
from tests.support.server_process import PATIENCE, ServerProcess

pytestmark = pytest.mark.browser

SAMPLES = Path(__file__).resolve().parents[2] / "src" / "tocsin" / "catalogue" / "kinds" / "haloitsm" / "samples"
PASSWORD = "a tall green bicycle"

#: Lists of an installation in which nothing is yet.
EMPTY = (
    "/alerts/",
    "/inbound-log/",
    "/integrations/",
    "/policies/",
    "/groups/",
    "/sandbox/",
    "/wall/",
    "/reports/",
    "/me/pages/",
    "/",
)


def test_keyboard_user_gets_from_setup_link_to_acknowledged_alert(
    browser: Browser, tocsin: ServerProcess, mails: SmtpDouble
) -> None:
    link = tocsin.wait_for(r"(http://\S+/setup/\w+)")[1]
    with visitor(browser, tocsin.url) as admin:
        page = admin.page
        page.goto(link)
        page.get_by_label("Your name").focus()
        for text in ("Ada Admin", "ada@example.org", "ada", PASSWORD):
            page.keyboard.type(text)
            page.keyboard.press("Tab")
        _press(page, "Create account")
        expect(page.get_by_role("heading", name="Home")).to_be_visible()
        admin.check()
        for path in EMPTY:
            admin.open(path)
            admin.check("nothing is there yet")
        _press(page, "Inbound integrations")
        expect(page.get_by_role("heading", name="Inbound integrations")).to_be_visible()
        _press(page, "Add an integration")
        _press(page, "HaloITSM")
        page.keyboard.press("Escape")
        _tab_until(page, "document.activeElement.labels?.[0]?.textContent.includes('Your Halo address')")
        page.keyboard.type("acme.haloitsm.com")
        with page.expect_navigation():
            page.keyboard.press("Enter")
        expect(page.get_by_text("Waiting for HaloITSM…")).to_be_visible()
        admin.check()
        url = page.get_by_label("Webhook URL").first.input_value()

        answer = httpx.post(url, content=(SAMPLES / "new-ticket.json").read_bytes(), timeout=PATIENCE).json()
        assert answer["status"] == "Mapped Opened", answer
        expect(page.get_by_text("Message received from HaloITSM")).to_be_visible()
        expect(page.get_by_text(_subject())).to_be_visible()
        admin.check("the first message, live")

        _press(page, "Open alert")
        expect(page.get_by_role("heading", name=_subject())).to_be_visible()
        expect(page.locator("#state")).to_contain_text("Open")
        admin.check()

        mail = _mail_about(mails, answer["alert_id"])
        with visitor(browser, tocsin.url, width=PHONE, theme="dark") as phone:
            phone.open(_link_in(mail, tocsin.url))
            expect(phone.page.get_by_text("You act as Ada Admin")).to_be_visible()
            phone.check("the mail's link, on a phone")
            phone.page.get_by_role("button", name="Acknowledge").click()
            expect(phone.page.get_by_text(f"You acknowledged alert {answer['alert_id']}.")).to_be_visible()
            phone.check("answered, on a phone")

        # The first window is not touched: it hears of the answer by itself.
        expect(page.locator("#state")).to_contain_text("Acknowledged")
        expect(page.locator("#timeline")).to_contain_text("Ada Admin acknowledged the alert")
        admin.check("acknowledged, live")
        PICTURES.mkdir(exist_ok=True)


def test_opening_the_link_of_a_mail_does_nothing(browser: Browser, tocsin: ServerProcess, mails: SmtpDouble) -> None:
    link = tocsin.wait_for(r"(http://\S+/setup/\w+)")[1]
    with visitor(browser, tocsin.url) as admin:
        _become_administrator(admin.page, link)
        _add_halo(admin.page)
        url = admin.page.get_by_label("Webhook URL").first.input_value()
        number = httpx.post(url, content=(SAMPLES / "new-ticket.json").read_bytes(), timeout=PATIENCE).json()[
            "alert_id"
        ]
        mail = _mail_about(mails, number)
        address = _link_in(mail, tocsin.url)
        for method in ("GET", "HEAD", "GET"):
            assert httpx.request(method, address, timeout=PATIENCE).status_code == 200
        admin.open(f"/alerts/{number}/")
        expect(admin.page.locator("#state")).to_contain_text("Open")
    with visitor(browser, tocsin.url, width=PHONE) as phone:
        phone.open(address)
        phone.page.get_by_label("More actions").click()
        phone.page.get_by_text("Escalate now").first.click()
        expect(phone.page.get_by_role("button", name="Escalate now")).to_be_in_viewport()
        phone.check("the link of a mail, on a phone")


def test_the_setup_link_works_once(browser: Browser, tocsin: ServerProcess) -> None:
    link = tocsin.wait_for(r"(http://\S+/setup/\w+)")[1]
    with visitor(browser, tocsin.url) as admin:
        _become_administrator(admin.page, link)
    again = httpx.get(link, timeout=PATIENCE)
    assert again.status_code == 410
    assert "This setup link has expired" in again.text


def _press(page: Page, begins: str) -> None:
    """Tabs to the link or button whose text begins so, and presses Enter."""
    # Pictures and initials beside a text are nothing that is read out.
    hidden = "[...document.activeElement.querySelectorAll('[aria-hidden]')].map((one) => one.textContent)"
    read = f"{hidden}.reduce((text, one) => text.replace(one, ''), document.activeElement.textContent).trim()"
    _tab_until(page, f"{read}.startsWith({json.dumps(begins)})")
    outline = "getComputedStyle(document.activeElement)"
    assert page.evaluate(f"{outline}.outlineStyle !== 'none' && {outline}.outlineWidth !== '0px'"), begins
    with page.expect_navigation():
        page.keyboard.press("Enter")


def _tab_until(page: Page, condition: str) -> None:
    for _step in range(80):
        if page.evaluate(f"document.activeElement !== document.body && Boolean({condition})"):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"80 times Tab do not lead there: {condition}")


def _become_administrator(page: Page, link: str) -> None:
    page.goto(link)
    page.get_by_label("Your name").fill("Ada Admin")
    page.get_by_label("Email").fill("ada@example.org")
    page.get_by_label("Username").fill("ada")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Create account").click()
    expect(page.get_by_role("heading", name="Home")).to_be_visible()


def _add_halo(page: Page) -> None:
    page.get_by_role("navigation", name="Main", exact=True).get_by_role("link", name="Inbound integrations").click()
    page.get_by_role("link", name="Add an integration").first.click()
    page.get_by_role("link", name=re.compile("^HaloITSM")).click()
    page.get_by_label("Your Halo address").fill("acme.haloitsm.com")
    page.get_by_role("button", name="Add integration").click()
    expect(page.get_by_text("Waiting for HaloITSM…")).to_be_visible()


def _subject() -> str:
    return str(json.loads((SAMPLES / "new-ticket.json").read_text())["ticket"]["summary"])


def _mail_about(mails: SmtpDouble, number: int) -> Mail:
    mark = f"(Tocsin #{number})"
    with mails.arrived:
        assert mails.arrived.wait_for(lambda: any(mark in mail.subject for mail in mails.mails), 10), mails.subjects
    return next(mail for mail in mails.mails if mark in mail.subject)


def _link_in(mail: Mail, base: str) -> str:
    match = re.search(rf"{re.escape(base)}/a/[-\w]+", mail.part("plain"))
    assert match, mail.part("plain")
    return match[0]
