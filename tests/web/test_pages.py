"""Every page opens with permission, explains a missing one, and never shows a traceback."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from django.test import Client
from pytest_django.fixtures import Settings

import tocsin.web
from tests.web.conftest import Company
from tests.web.integrations.test_integrations import arrived
from tocsin.people.models import User
from tocsin.web.http.assets import STATIC, static_url

EVERYBODY = (
    "/",
    "/alerts/",
    "/alerts/?tab=closed",
    "/inbound-log/",
    "/integrations/",
    "/policies/",
    "/groups/",
    "/on-call/override/",
    "/me/",
    "/search/",
    "/search/?q=halo",
    "/wall/",
    "/reports/",
    "/reports/sla/",
    "/reports/noise/",
    "/reports/interruptions/",
)
ACTING = ("/alerts/new/",)
ADMINISTERING = (
    "/users/", "/users/invite/", "/users/invite/several/", "/providers/", "/providers/add/smtp/",
    "/providers/add/ntfy/",
    "/system/", "/settings/", "/pause/", "/groups/new/",
)  # fmt: skip
SETTING_UP = ("/audit-log/", "/integrations/add/", "/integrations/add/haloitsm/", "/policies/new/")
OWN = ("/me/pages/", "/me/contact-methods/new/", "/sandbox/", "/account/2fa/", "/account/password/change/")


EVERY = (*EVERYBODY, *ACTING, *ADMINISTERING, *SETTING_UP, *OWN)
GONE = (
    "/nowhere/", "/alerts/999999/", "/integrations/999999/", "/policies/999999/", "/groups/999999/", "/users/999999/",
    "/inbound-log/01900000-0000-7000-8000-000000000000/", "/integrations/add/nothing/", "/providers/999999/",
    "/me/contact-methods/999999/",
)  # fmt: skip


def statuses(client: Client, paths: tuple[str, ...]) -> dict[str, int]:
    """The status of each page; what asks for the password again is followed."""
    return {path: client.get(path, follow=path.startswith("/account/")).status_code for path in paths}


def test_every_page_asks_a_stranger_to_sign_in(database: str) -> None:
    for path in EVERY:
        response = Client().get(path)
        assert response.status_code == 302, path
        assert response["Location"].startswith("/account/login/?next="), path


def test_an_administrator_opens_every_page(company: Company, browser_of: Callable[[User], Client]) -> None:
    """Without a script or style in it, and with at most 150 kB of files."""
    client = browser_of(company.admin)
    for path in EVERY:
        response = client.get(path, follow=path.startswith("/account/"))
        assert response.status_code == 200, path
        text = response.content.decode()
        assert " style=" not in text, path
        assert "<style" not in text, path
        assert "onclick" not in text, path
        for script in text.split("<script")[1:]:
            opening = script.split(">", 1)[0]
            assert "src=" in opening or 'type="application/json"' in opening, path
        names = set(re.findall(rf'(?:src|href|data-worker)="{static_url()}([^"]+\.(?:js|css))"', text))
        assert names, path
        assert sum(map(_compressed_size, names)) < 150_000, (path, names)


@cache
def _compressed_size(name: str) -> int:
    """Bytes that a browser loads of a static file. Browsers get Brotli, which is smaller still."""
    file = STATIC / name
    return len(gzip.compress(file.read_bytes())) if file.is_file() else 0


def test_an_observer_opens_what_everybody_may_see(company: Company, browser_of: Callable[[User], Client]) -> None:
    expected = (*EVERYBODY, *OWN)
    assert statuses(browser_of(company.observer), expected) == dict.fromkeys(expected, 200)


def test_observer_sees_that_other_actions_are_not_permitted(
    company: Company, browser_of: Callable[[User], Client]
) -> None:
    client = browser_of(company.observer)
    for path in (*ACTING, *ADMINISTERING, *SETTING_UP):
        response = client.get(path)
        assert response.status_code == 403, path
        assert "Access denied" in response.content.decode()


def test_a_manager_sets_up_and_does_not_administer(company: Company, browser_of: Callable[[User], Client]) -> None:
    client = browser_of(company.manager)
    assert statuses(client, ADMINISTERING) == dict.fromkeys(ADMINISTERING, 403)
    assert statuses(client, (*ACTING, *SETTING_UP)) == dict.fromkeys((*ACTING, *SETTING_UP), 200)


def test_missing_page_shows_an_id_for_support(company: Company, browser_of: Callable[[User], Client]) -> None:
    client = browser_of(company.admin)
    for path in GONE:
        response = client.get(path)
        assert response.status_code == 404, path
        text = response.content.decode()
        assert "Page not found" in text
        assert "Traceback" not in text
        assert "<code>" in text


def test_a_page_that_fails_shows_an_id_and_no_trace(
    company: Company, browser_of: Callable[[User], Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tocsin.web import groups

    def fail(*_args: object) -> None:
        raise ZeroDivisionError("a secret of the inside")

    monkeypatch.setattr(groups, "duties_on_call_now", fail)
    response = browser_of(company.admin).get("/")
    assert response.status_code == 500
    text = response.content.decode()
    assert "Internal error" in text
    assert "secret of the inside" not in text
    assert "Traceback" not in text


def test_every_answer_forbids_scripts_and_styles_from_elsewhere(
    company: Company, browser_of: Callable[[User], Client]
) -> None:
    client = browser_of(company.admin)
    for path in ("/", "/account/login/", "/nowhere/"):
        policy = client.get(path)["Content-Security-Policy"]
        assert "script-src 'self'" in policy
        assert "style-src 'self'" in policy
        assert "unsafe" not in policy


def test_the_styleguide_is_for_developers_only(
    company: Company, browser_of: Callable[[User], Client], settings: Settings
) -> None:
    client = browser_of(company.admin)
    assert client.get("/styleguide/").status_code == 404
    settings.DEBUG = True
    answer = client.get("/styleguide/")
    text = answer.content.decode()
    for part in ("Acknowledged", "Mapped Opened", "countdown", "data-copy-button", 'class="errors"', "Undo"):
        assert part in text, part
    drawn = {template.name for template in answer.templates}
    parts = {f"parts/{file.name}" for file in (Path(tocsin.web.__file__).parent / "templates" / "parts").iterdir()}
    # What is a page of its own has no place in it.
    pages = ("delete", "form_actions", "form_snapshot", "object_form", "object_list", "spec_form")
    assert parts - drawn == {f"parts/{name}.html" for name in pages}


def test_what_an_installed_tocsin_needs_says_nothing_about_anybody(
    company: Company, browser_of: Callable[[User], Client]
) -> None:
    worker = Client().get("/service-worker.js")
    assert worker["Content-Type"].startswith("text/javascript")
    assert worker["Cache-Control"] == "no-cache"
    files = json.loads(re.findall(r'"files": (\[.*?\])', worker.content.decode())[0])
    assert {Client().get(file).status_code for file in files} == {200}
    offline = browser_of(company.admin).get("/offline/").content.decode()
    assert "No connection to Tocsin" in offline
    assert company.admin.display_name not in offline
    manifest = Client().get(f"{static_url()}tocsin/manifest.webmanifest")
    assert manifest["Content-Type"] == "application/manifest+json"
    about = json.loads(b"".join(manifest.streaming_content))  # type: ignore[attr-defined]
    for icon in about["icons"]:
        assert (STATIC / "tocsin" / icon["src"]).is_file(), icon
    assert {icon["purpose"] for icon in about["icons"]} == {"any", "maskable"}


def test_a_page_is_in_one_language_whatever_the_browser_asks(company: Company) -> None:
    for query, language, required in (
        ("sv, it;q=0.5", "en", "This field is required."),
        ("de-CH, en;q=0.5", "de", "Dieses Feld ist zwingend erforderlich."),
    ):
        text = Client().post("/account/login/", {}, headers={"Accept-Language": query}).content.decode()
        assert f'<html lang="{language}"' in text
        assert required in text


def test_error_is_shown_in_the_readers_language(company: Company, browser_of: Callable[[User], Client]) -> None:
    text = browser_of(company.admin).get("/nothing/", headers={"Accept-Language": "de"}).content.decode()
    assert '<html lang="de"' in text
    assert "Seite nicht gefunden" in text


def test_mappings_conditions_and_templates_use_the_readers_language(
    company: Company, browser_of: Callable[[User], Client]
) -> None:
    admin = browser_of(company.admin)
    body = {
        f"/inbound-log/{arrived(company)}/": ("ID der Quelle</span>", "</code> → New, verwendet</span>"),
        "/workflows/new/?from=unacknowledged": (
            "Minuten seit der Eröffnung", 'value="Nicht bestätigt: &lt;subject&gt;"',
            "Seit 5 Minuten nicht bestätigt",
        ),
        "/workflows/new/?from=button": (
            "ist keines von</option>", 'value="Schaltfläche, die', 'value="Jetzt ausführen?"', ">–</option>",
        ),
        "/policies/new/?from=all-hands": ('value="Alle zugleich"',),
        "/maintenance/new/": (">ist gleich</option>", "<span>Mittwoch</span>"),
        f"/integrations/{company.halo.pk}/mapping/": ("ticket^status^name", "+12 Ausweichquellen"),
        "/outbound/add/http/": ("<h1>HTTP-Aufruf hinzufügen</h1>", 'value="HTTP-Aufruf"'),
        "/providers/add/smtp/": ("<h1>SMTP-Server hinzufügen</h1>",),
    }  # fmt: skip
    missing = []
    for path, texts in body.items():
        page = admin.get(path, headers={"accept-language": "de"}).content.decode()
        missing += [(path, text) for text in texts if text not in page]
    assert missing == []


def test_expired_form_shows_what_to_do(company: Company) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(company.admin, backend="django.contrib.auth.backends.ModelBackend")
    response = client.post("/pause/", {"reason": "x"})
    assert response.status_code == 403
    assert "Form expired" in response.content.decode()


def test_page_is_compressed_when_the_client_accepts_it(company: Company, browser_of: Callable[[User], Client]) -> None:
    browser = browser_of(company.admin)
    plain = browser.get("/alerts/")
    small = browser.get("/alerts/", headers={"Accept-Encoding": "gzip"})
    assert (plain.headers.get("Content-Encoding"), small.headers["Content-Encoding"]) == (None, "gzip")
    assert len(small.content) < len(plain.content) / 2
    assert gzip.decompress(small.content).endswith(b"</html>\n")


def test_static_files_are_kept_for_ever_and_compressed(database: str) -> None:
    from tocsin.web.http.assets import static_url

    response = Client().get(f"{static_url()}tocsin/tocsin.css")
    assert response.status_code == 200
    assert "immutable" in response["Cache-Control"]
    other = Client().get("/static/000000000000/tocsin/tocsin.css")
    assert other.status_code == 200
    assert other["Cache-Control"] == "no-cache"
