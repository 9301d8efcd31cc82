"""In a language of brackets no script writes English: a page in a browser has no word that the server did not send."""

from __future__ import annotations

import calendar
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from django.conf import settings
from django.contrib.staticfiles import finders
from django.test import Client
from playwright.sync_api import Browser, Page, Route, expect

from tests.support import service_desk
from tests.support.browser import visitor
from tests.support.pseudo_language import CODE, pseudo_language, untranslated_words, words_of_page
from tocsin.access.audit import COMMAND_LINE
from tocsin.alerts.models import Alert
from tocsin.core.runtime import clock
from tocsin.people.changes.groups import save_group
from tocsin.people.models import User

pytestmark = pytest.mark.browser

#: A stream that names every list, and ends: the browser asks again, and meanwhile its connection is lost.
HINT = "retry: 200\n\nid: 1\nevent: all\ndata: -\n\n"

#: The browser itself writes dates, in the language that the catalogue says.
DATES = {*calendar.day_abbr, *calendar.month_abbr}


@pytest.fixture
def third_language(tmp_path: Path) -> Iterator[None]:
    with pseudo_language(tmp_path / "locale"):
        yield


@dataclass
class ServedHere:
    """Answers what a browser asks for from this process, in which the language is known."""

    client: Client
    sent: list[str] = field(default_factory=list)

    def answer(self, route: Route) -> None:
        request = route.request
        url = urlsplit(request.url)
        if url.path.startswith(settings.STATIC_URL):
            route.fulfill(path=str(finders.find(url.path.removeprefix(settings.STATIC_URL))))
        elif url.path == "/live":
            route.fulfill(body=HINT, content_type="text/event-stream")
        elif url.path == "/offline/":
            route.abort()
        else:
            headers = {name: value for name, value in request.headers.items() if name.startswith(("x-", "hx-"))}
            response = self.client.generic(
                request.method, f"{url.path}?{url.query}", request.post_data_buffer or b"",
                request.headers.get("content-type", ""), headers=headers,
            )  # fmt: skip
            self.sent.append(response.content.decode())
            route.fulfill(status=response.status_code, headers=dict(response.items()), body=response.content)

    def words_of_scripts(self, page: Page) -> set[str]:
        return words_of_page(page.content()) - words_of_page("".join(self.sent)) - DATES


def test_scripts_write_no_english_in_a_third_language(browser: Browser, database: str, third_language: None) -> None:
    desk = service_desk.set_up()
    plan = service_desk.plan_on_call()
    save_group({"name": "Alone", "members": [{"user": "alice"}]}, actor=COMMAND_LINE, now=clock.now())
    client = Client()
    client.force_login(User.objects.get(username="alice"), backend="django.contrib.auth.backends.ModelBackend")

    def open_alert(subject: str) -> None:
        form = {"subject": subject, "priority": "high", "groups": [desk.group], "policy": desk.policy, "anyway": "1"}
        assert client.post("/alerts/new/", form).status_code == 302

    open_alert("Qq")
    User.objects.update(language=CODE)
    alert = Alert.objects.get().pk
    english = {}
    here = ServedHere(client)
    with visitor(browser, "http://tocsin.example") as alice:
        page = alice.page
        alice.context.route("**/*", here.answer)
        # One stream a page, which this process answers.
        page.add_init_script("delete window.SharedWorker")
        page.clock.install()

        alice.open("/alerts/")
        page.locator("#list a.subject").first.hover()
        open_alert("Qqq")
        expect(page.locator(".pill-new")).to_have_text("1¡ new¿")
        expect(page.locator("#lost")).to_contain_text("¡Connection lost since ¿")
        page.get_by_role("button", name="¡Command palette¿").click()
        page.keyboard.type("Qq")
        expect(page.locator("#palette-hits")).to_contain_text("Qqq")
        english["list"] = here.words_of_scripts(page)

        # Times are written anew each second; what cannot be sent says so.
        alice.open(f"/alerts/{alert}/")
        page.clock.fast_forward(600_000)
        expect(page.locator("time[data-relative]").first).to_have_text("10 ¡min¿¡ ago¿")
        page.get_by_role("button", name="¡Acknowledge¿").first.click()
        expect(page.locator("#failed")).to_contain_text("¡Not sent: Tocsin is unreachable.")
        english["alert"] = here.words_of_scripts(page)

        alice.open(f"/on-call/schedules/new/?group={desk.group}")
        page.get_by_label("¡Group¿", exact=True).select_option(label="Alone")
        expect(page.locator(".people-note").first).to_contain_text("¡Now the members of ¿Alone¡.¿")
        english["schedule"] = here.words_of_scripts(page)

        alice.open(f"/on-call/groups/{plan.group}/")
        page.locator("[data-pick-button]").first.press("Enter")
        expect(page.locator(".tl-status").first).to_contain_text(":00")
        english["timeline"] = here.words_of_scripts(page)
    assert not any(english.values()), english
    # A worker has no page: its texts are in it.
    texts = re.findall(r'"(?:details|unreachable|tap)": "(.*?)"', client.get("/service-worker.js").content.decode())
    assert len(texts) == 3
    assert untranslated_words(" ".join(json.loads(f'"{text}"') for text in texts)) == set()
