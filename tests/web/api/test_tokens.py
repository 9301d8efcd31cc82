"""Tokens over the API: scopes, groups, expiry, and what a token may create."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.web.api.conftest import Api, Company
from tests.web.api.test_errors import refused
from tocsin.access import audit, tokens
from tocsin.access.audit import COMMAND_LINE
from tocsin.access.models import ApiToken, AuditEntry
from tocsin.access.roles import UNLIMITED, TokenLimits, TokenScope
from tocsin.api.framework.resources import ApiResource
from tocsin.core.config import settings_store
from tocsin.core.runtime import clock
from tocsin.inbound.admin.commands import save_integration
from tocsin.inbound.models import Integration
from tocsin.people.models import Group, User


@pytest.fixture
def limited() -> Callable[..., Api]:
    """Makes a caller with a token with limits."""

    def make(user: User, scope: TokenScope = TokenScope.ADMIN, **limits: Any) -> Api:
        limit = TokenLimits(scope, **{name: frozenset(values) for name, values in limits.items()})
        made = tokens.create(user, f"{scope} {limits}", limits=limit, actor=COMMAND_LINE, now=clock.now())
        return Api(made.secret, user)

    return make


def test_a_token_has_the_smallest_scope_unless_another_is_named(admin: Api) -> None:
    answer = admin.post("tokens", {"name": "reader"})
    assert answer.status == 201
    assert (answer.body["scope"], answer.body["groups"], answer.body["clients"]) == ("read", [], [])
    reader = Api(answer.body["token"])
    assert reader.get("alerts").status == 200
    assert reader.get("preferences").status == 200
    assert "read" in refused(reader.patch("preferences", {"name": "x"}), 403, "forbidden")
    assert "admin" in refused(reader.get("providers"), 403, "forbidden")
    assert "configure" in refused(reader.post("groups", {"name": "Nights"}), 403, "forbidden")


def test_scopes_hold_back_even_an_administrators_token(
    company: Company, limited: Callable[..., Api], open_alert: Callable[..., int]
) -> None:
    number = open_alert()
    assert limited(company.alice, TokenScope.READ).post(f"alerts/{number}/acknowledge").status == 403
    responder = limited(company.alice, TokenScope.RESPOND)
    assert responder.post(f"alerts/{number}/acknowledge").status == 200
    assert responder.post("groups", {"name": "Nights"}).status == 403
    configurer = limited(company.alice, TokenScope.CONFIGURE)
    assert configurer.post("groups", {"name": "Nights"}).status == 201
    assert configurer.get("settings").status == 403
    assert limited(company.alice).get("settings").status == 200


def test_a_read_token_does_not_see_phone_numbers_of_others(company: Company, limited: Callable[..., Api]) -> None:
    reader = limited(company.alice, TokenScope.READ)
    assert "+41790000003" not in str(reader.get("users").body)
    assert "+41790000003" in str(limited(company.alice).get("users").body)


def test_a_limited_token_changes_only_what_its_group_owns(company: Company, limited: Callable[..., Api]) -> None:
    scoped = limited(company.alice, groups={company.desk.pk})
    calendar = {"name": "Swiss", "country": "CH"}
    assert "limited" in refused(scoped.post("holiday-calendars", calendar), 403, "forbidden")
    assert AuditEntry.objects.filter(action=audit.REFUSED, object_name="POST /api/v1/holiday-calendars").exists()
    # It does not see the other group.
    refused(scoped.post("holiday-calendars", {**calendar, "group": "Network"}), 400, "not_found", "group")
    assert scoped.post("holiday-calendars", {**calendar, "group": "Service Desk"}).status == 201
    for method, path in (("GET", "settings"), ("GET", "tokens"), ("POST", "tokens"), ("GET", "providers")):
        refused(scoped.send(method, path, {"name": "x"} if method == "POST" else None), 403, "forbidden")


def test_a_token_limited_to_clients_changes_nothing(company: Company, limited: Callable[..., Api]) -> None:
    scoped = limited(company.alice, clients={"Acme"})
    refused(scoped.post("groups", {"name": "Nights"}), 403, "forbidden")
    refused(scoped.get("tokens"), 403, "forbidden")


def test_a_token_creates_only_narrower_ones_that_end_no_later(company: Company, admin: Api) -> None:
    soon = clock.now() + timedelta(days=30)
    body = {"name": "parent", "scope": "configure", "expires_at": soon.isoformat()}
    parent = Api(admin.post("tokens", body).body["token"])
    later = (soon + timedelta(days=1)).isoformat()
    for wider in ({"scope": "admin"}, {"expires_at": later}):
        refused(parent.post("tokens", {"name": "child", **wider}), 403, "forbidden")
    assert not ApiToken.objects.filter(name="child").exists()
    child = parent.post("tokens", {"name": "child", "scope": "respond"})
    assert (child.status, datetime.fromisoformat(child.body["expires_at"])) == (201, soon)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"scope": "root"}, "scope"),
        ({"groups": ["Nowhere"]}, "groups[0]"),
        ({"groups": ["Service Desk", "Network"]}, "groups[1]"),
        ({"clients": [""]}, "clients"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
        ({"expires_at": "9999-01-01T00:00:00Z"}, "expires_at"),
        ({"expires_at": "2026-01-01T00:00:00"}, "expires_at"),
    ],
)
def test_bad_limits_name_their_field(
    company: Company, caller: Callable[[User], Api], body: dict[str, Any], field: str
) -> None:
    answer = caller(company.mia).post("tokens", {"name": "script", **body})
    assert answer.status == 400
    assert field in answer.fields


def test_an_expired_token_is_told_its_last_day(company: Company) -> None:
    now = clock.now()
    made = tokens.create(company.bob, "old", limits=UNLIMITED, actor=COMMAND_LINE, now=now)
    ApiToken.objects.filter(pk=made.token.pk).update(expires_at=now - timedelta(days=3))
    answer = Api(made.secret).get("alerts")
    assert refused(answer, 401, "token_expired").startswith('The token "old" expired on ')
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_a_used_token_shows_when_and_from_where(company: Company, caller: Callable[[User], Api]) -> None:
    used = caller(company.bob)
    assert used.get("alerts").status == 200
    [shown] = used.get("tokens").body["items"]
    assert shown["last_used_from"] == "127.0.0.1"


def test_a_refusal_is_in_the_audit_log_once_an_hour(company: Company, limited: Callable[..., Api]) -> None:
    reader = limited(company.alice, TokenScope.READ)
    for _ in range(3):
        refused(reader.get("settings"), 403, "forbidden")
    refused(reader.post("groups", {"name": "x"}), 403, "forbidden")
    entries = list(AuditEntry.objects.filter(action="refused").order_by("pk"))
    assert [entry.object_name for entry in entries] == ["GET /api/v1/settings", "POST /api/v1/groups"]
    assert entries[0].after is not None
    assert "read" in entries[0].after["token_name"]
    assert (entries[0].actor_id, entries[0].address) == (company.alice.pk, "127.0.0.1")


def test_caller_that_tries_every_address_fills_no_log(
    company: Company, limited: Callable[..., Api], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "MAX_PER_ACTOR", 2)
    reader = limited(company.alice, TokenScope.READ)
    for number in range(5):
        refused(reader.delete(f"groups/{number}"), 403, "forbidden")
    assert AuditEntry.objects.filter(action="refused").count() == 2


def test_a_limited_token_acts_only_on_alerts_of_its_group(
    company: Company, limited: Callable[..., Api], open_alert: Callable[..., int]
) -> None:
    integration = save_integration(
        {"name": "Checks", "kind": "api", "mode": "dry_run", "group": "Service Desk"},
        actor=COMMAND_LINE,
        now=clock.now(),
    )
    number = open_alert(integration_id=integration.pk)
    other = limited(company.alice, groups={company.network.pk})
    own = limited(company.alice, groups={company.desk.pk})
    assert other.get("alerts").body["items"] == []
    refused(other.get(f"alerts/{number}"), 404, "not_found")
    refused(other.post(f"alerts/{number}/acknowledge"), 404, "not_found")
    reader = limited(company.alice, TokenScope.READ, groups={company.desk.pk})
    assert [alert["id"] for alert in reader.get("alerts").body["items"]] == [number]
    refused(reader.post(f"alerts/{number}/acknowledge"), 403, "forbidden")
    assert own.post(f"alerts/{number}/acknowledge").status == 200


def test_a_clients_token_sees_no_configuration(company: Company, limited: Callable[..., Api]) -> None:
    token = limited(company.alice, clients={"Acme"})
    for noun in ("users", "integrations", "schedules", "audit-log", "preferences"):
        refused(token.get(noun), 403, "forbidden")


@pytest.mark.parametrize("is_limited", [True, False])
def test_manager_within_a_boundary_creates_integrations(
    company: Company, limited: Callable[..., Api], caller: Callable[[User], Api], is_limited: bool
) -> None:
    settings_store.set("visibility", "groups")
    api = limited(company.mia, groups={company.desk.pk}) if is_limited else caller(company.mia)
    body = {"name": "Ours", "kind": "api", "group": "Service Desk", "anyway": True}
    answer = api.post("integrations", body)
    assert answer.status == 201
    assert answer.body["url"]
    assert api.get(f"integrations/{answer.body['id']}").body["name"] == "Ours"


def test_what_cannot_be_answered_is_not_stored(company: Company, admin: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no answer")

    monkeypatch.setattr(ApiResource, "show_all", fail)
    assert admin.post("integrations", {"name": "Ours", "kind": "api", "anyway": True}).status == 500
    assert admin.patch(f"groups/{company.desk.pk}", {"description": "new"}).status == 500
    assert not Integration.objects.exists()
    assert Group.objects.get(pk=company.desk.pk).description == ""


def test_errors_name_no_hidden_integration(company: Company, admin: Api, caller: Callable[[User], Api]) -> None:
    settings_store.set("visibility", "groups")
    hidden = {"name": "Planted", "kind": "haloitsm", "group": "Network", "source": "Shared", "anyway": True}
    address = {"settings": {"halo_address": "https://planted.haloitsm.com"}}
    assert admin.post("integrations", {**hidden, **address}).status == 201
    ours = {"name": "Ours", "group": "Service Desk", "source": "Shared", "anyway": True}
    mia = caller(company.mia)
    for body in (
        {**ours, "kind": "haloitsm", "settings": {"halo_address": "https://ours.haloitsm.com"}},
        {**ours, "kind": "api"},
    ):
        answer = mia.post("integrations", body)
        assert (answer.status, answer.body["error"]) == (400, "shared_source")
        assert "planted" not in str(answer.body).lower()
        assert "an integration that you can't see" in answer.body["detail"]
