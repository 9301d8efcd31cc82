"""API tokens and service accounts in the web interface."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client

from tests.web.conftest import PASSWORD, Company
from tocsin.access import tokens
from tocsin.access.audit import COMMAND_LINE
from tocsin.access.models import ApiToken, AuditEntry
from tocsin.access.roles import UNLIMITED, TokenScope
from tocsin.access.tokens import AssistantCall
from tocsin.core.config import settings_store
from tocsin.core.runtime import clock
from tocsin.people.changes.api_tokens import save_service_account
from tocsin.people.models import ServiceAccount, User

type BrowserOf = Callable[[User], Client]


def form(**values: Any) -> dict[str, Any]:
    expires_on = (clock.now() + timedelta(days=30)).date().isoformat()
    return {"name": "backup script", "scope": "respond", "expires_on": expires_on, **values}


def text_of(client: Client, path: str) -> str:
    answer = client.get(path)
    assert answer.status_code == 200
    return answer.content.decode()


def confirmed(client: Client) -> Client:
    """The browser, after the user has entered the password again."""
    assert client.post("/account/reauthenticate/", {"password": PASSWORD}).status_code == 302
    return client


def secret_of(shown: Any) -> str:
    found = re.search(r'value="([0-9a-f]{32})"', shown.content.decode())
    assert found
    return found[1]


def test_a_token_is_shown_once_and_ended(company: Company, browser_of: BrowserOf) -> None:
    client = confirmed(browser_of(company.responder))
    shown = client.post("/me/tokens/new/", form())
    assert "no-store" in shown["Cache-Control"]
    secret = secret_of(shown)
    token = tokens.verify(secret, now=clock.now())
    assert token is not None
    assert token.scope == TokenScope.RESPOND
    assert timedelta(days=30) <= token.expires_at - clock.now() <= timedelta(days=32)
    assert secret not in text_of(client, "/me/")
    assert browser_of(company.observer).post(f"/me/tokens/{token.pk}/revoke").status_code == 404
    assert "Last used: " in text_of(client, f"/me/tokens/{token.pk}/revoke")
    assert tokens.verify(secret, now=clock.now()) is not None
    client.post(f"/me/tokens/{token.pk}/revoke")
    assert tokens.verify(secret, now=clock.now()) is None


def test_connecting_an_assistant_shows_its_settings(company: Company, browser_of: BrowserOf) -> None:
    client = confirmed(browser_of(company.responder))
    assert "Changes are disabled here" in text_of(client, "/me/assistant/")
    assert "Only these clients" not in text_of(client, "/me/assistant/")
    last_day = re.search(r'name="expires_on" value="([0-9-]+)"', text_of(client, "/me/assistant/"))
    assert last_day
    assert last_day[1] == (clock.now() + timedelta(days=90)).date().isoformat()
    shown = client.post("/me/assistant/", form(name="Claude", scope="read"))
    secret, text = secret_of(shown), html.unescape(shown.content.decode())
    assert f'--header "Authorization: Bearer {secret}"' in text
    assert '"type": "http"' in text
    assert f'"TOCSIN_API_TOKEN": "{secret}"' in text
    token = tokens.verify(secret, now=clock.now())
    assert token is not None
    tokens.record_call(token, AssistantCall(clock.now(), "why_not_notified"), 20)
    assert "why_not_notified" in text_of(client, "/me/")
    settings_store.set(settings_store.ASSISTANT_WRITES, True)
    assert "Changes are allowed here" in text_of(client, "/me/assistant/")


@pytest.mark.parametrize("method", ["get", "post"])
def test_a_stolen_session_alone_creates_no_token(company: Company, browser_of: BrowserOf, method: str) -> None:
    client = browser_of(company.admin)
    account = save_service_account({"name": "bot", "role": "admin"}, actor=COMMAND_LINE, now=clock.now())
    for path in ("/me/tokens/new/", f"/service-accounts/{account.pk}/tokens/new/"):
        answer = getattr(client, method)(path, form() if method == "post" else {})
        assert answer.status_code == 302
        assert "/account/reauthenticate/" in answer["Location"]
    assert not ApiToken.objects.exists()


def test_the_form_offers_the_owners_groups_only(company: Company, browser_of: BrowserOf) -> None:
    client = confirmed(browser_of(company.responder))
    text = text_of(client, "/me/tokens/new/")
    own = set(company.responder.memberships.values_list("group_id", flat=True))
    assert {int(number) for number in re.findall(r'name="groups" value="(\d+)"', text)} == own
    [group] = list(own)[:1]
    assert client.post("/me/tokens/new/", form(groups=[group], clients="Acme")).status_code == 422
    client.post("/me/tokens/new/", form(groups=[group]))
    client.post("/me/tokens/new/", form(name="of clients", clients="Acme\n\n Beta "))
    found = ApiToken.objects.order_by("pk").values_list("group_ids", "clients")
    assert list(found) == [([group], []), ([], ["Acme", "Beta"])]
    text = text_of(client, "/me/")
    assert "Acme" in text
    assert "respond" in text


@pytest.mark.parametrize(
    "values",
    [{"name": ""}, {"scope": "root"}, {"expires_on": ""}, {"expires_on": "2020-01-01"}, {"expires_on": "2199-01-01"}],
)
def test_a_bad_form_keeps_what_was_entered(company: Company, browser_of: BrowserOf, values: dict[str, Any]) -> None:
    client = confirmed(browser_of(company.responder))
    answer = client.post("/me/tokens/new/", form(**values))
    assert answer.status_code == 422
    assert next(iter(values)) in answer.context["form"].errors
    assert not ApiToken.objects.exists()


def test_the_profile_says_which_tokens_end_soon(company: Company, browser_of: BrowserOf) -> None:
    now = clock.now()
    for name, days in (("one", 13), ("two", 30)):
        tokens.create(
            company.responder,
            name,
            limits=UNLIMITED,
            expires_at=now + timedelta(days=days),
            actor=COMMAND_LINE,
            now=now,
        )
    ended = tokens.create(company.responder, "three", limits=UNLIMITED, actor=COMMAND_LINE, now=now)
    ApiToken.objects.filter(pk=ended.token.pk).update(expires_at=now - timedelta(days=1))
    text = text_of(browser_of(company.responder), "/me/")
    assert (text.count("expires soon"), text.count(">expired<")) == (1, 1)


def test_an_administrator_makes_a_service_account_and_its_token(company: Company, browser_of: BrowserOf) -> None:
    client = confirmed(browser_of(company.admin))
    assert "No service accounts" in text_of(client, "/service-accounts/")
    spec = {"name": "deploy-bot", "role": "manager", "groups": [company.desk.pk], "active": "on"}
    assert client.post("/service-accounts/new/", spec).status_code == 302
    account = ServiceAccount.objects.get()
    shown = client.post(f"/service-accounts/{account.pk}/tokens/new/", form())
    token = tokens.verify(secret_of(shown), now=clock.now())
    assert token is not None
    assert token.user_id == account.pk
    assert "deploy-bot" in text_of(client, "/service-accounts/")
    assert "backup script" in text_of(client, f"/service-accounts/{account.pk}/")
    assert "deploy-bot" not in text_of(client, "/users/")
    assert client.get(f"/users/{account.pk}/").status_code == 404
    assert client.post(f"/service-accounts/{account.pk}/delete/").status_code == 302
    assert not ServiceAccount.objects.exists()


@pytest.mark.parametrize("path", ["", "new/", "{}/", "{}/tokens/new/", "{}/delete/"])
def test_only_administrators_see_service_accounts(company: Company, browser_of: BrowserOf, path: str) -> None:
    account = save_service_account({"name": "bot"}, actor=COMMAND_LINE, now=clock.now())
    client = confirmed(browser_of(company.manager))
    assert client.get(f"/service-accounts/{path.format(account.pk)}").status_code == 403


def test_a_refused_page_is_in_the_audit_log(company: Company, browser_of: BrowserOf) -> None:
    client = browser_of(company.manager)
    for _ in range(2):
        assert client.get("/service-accounts/").status_code == 403
    entry = AuditEntry.objects.get(action="refused")
    assert (entry.actor_id, entry.object_name, entry.via) == (company.manager.pk, "GET /service-accounts/", "web")


def test_without_a_password_the_sign_in_must_be_recent(company: Company, browser_of: BrowserOf) -> None:
    company.responder.set_unusable_password()
    company.responder.save()
    client = browser_of(company.responder)
    assert client.get("/me/tokens/new/").status_code == 403
    session = client.session
    session["account_authentication_methods"] = [{"method": "socialaccount", "at": clock.now().timestamp() - 60}]
    session["account_authentication_methods_user"] = str(company.responder.pk)
    session.save()
    assert client.get("/me/tokens/new/").status_code == 200


def test_a_sign_in_is_recorded_with_its_method(company: Company) -> None:
    client = Client()
    client.post("/account/login/", {"login": company.responder.username, "password": PASSWORD})
    entry = AuditEntry.objects.get(action="sign_in")
    assert entry.after == {"method": "password"}
