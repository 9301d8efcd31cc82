"""`ETag` and `If-Match`: an object changed since it was read is never overwritten."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connections, transaction

from tests.doubles.ntfy import NtfyDouble
from tests.support.api_examples import EXAMPLES, ApiObjects
from tests.support.locks import wait_for_waiters
from tests.web.api.conftest import Api, ApiResponse, Company
from tests.web.api.test_errors import refused
from tests.web.api.test_permissions import OPERATIONS
from tocsin.access.models import AuditEntry
from tocsin.api.framework.auth import ApiAuth
from tocsin.core.config import settings_store
from tocsin.people.models import User

OTHER = '"00000000000000000000000000000000"'


def sent(caller: Api, method: str, path: str, body: Any = None, tag: str = "") -> ApiResponse:
    return caller.send(method, path, body, **({"If-Match": tag} if tag else {}))


def takes(operation: str) -> bool:
    [gate] = OPERATIONS[operation]
    assert isinstance(gate, ApiAuth)
    return gate.accepts_if_match


TAGGED = sorted(
    name.removeprefix("PATCH ") for name in OPERATIONS if name.startswith("PATCH ") and takes(name) and "{" in name
)


def test_every_configured_object_requires_its_etag_on_changes() -> None:
    nouns = {path.partition("/")[0] for path in TAGGED}
    assert nouns == {
        "users", "groups", "schedules", "overrides", "holiday-calendars", "support-hours", "escalation-policies",
        "integrations", "outbound-integrations", "workflows", "maintenance-windows", "providers", "client-tables",
        "identity-providers", "service-accounts", "client-reports", "call-routes",
        "contact-methods", "out-of-office",
    }  # fmt: skip
    for path in TAGGED:
        assert takes(f"PUT {path}")
        assert takes(f"DELETE {path}")
    assert takes("PATCH settings")


@pytest.mark.parametrize("path", TAGGED)
def test_object_is_changed_only_with_its_current_etag(
    path: str, company: Company, admin: Api, open_alert: Callable[..., int], ntfy: NtfyDouble
) -> None:
    where, body = EXAMPLES[f"PUT {path}"](ApiObjects(company, company.alice, company.desk, open_alert, ntfy.url))
    shown = admin.get(where)
    tag = shown.headers["ETag"]
    entries = AuditEntry.objects.count()
    for method, given in (("PUT", body), ("PATCH", {}), ("DELETE", None)):
        api_response = sent(admin, method, where, given, OTHER)
        refused(api_response, 412, "changed_meanwhile")
    assert admin.get(where).body == shown.body
    assert admin.get(where).headers["ETag"] == tag
    assert AuditEntry.objects.count() == entries, "nothing was written"
    put = sent(admin, "PUT", where, body, tag)
    assert put.status == 200, put
    after = admin.get(where)
    assert put.headers["ETag"] == after.headers["ETag"]
    assert (after.headers["ETag"] == tag) == (AuditEntry.objects.count() == entries)
    entries = AuditEntry.objects.count()
    again = sent(admin, "PUT", where, after.body, put.headers["ETag"])
    assert (again.status, again.body) == (200, after.body), "what was shown is sent back as it is"
    assert again.headers["ETag"] == put.headers["ETag"]
    assert AuditEntry.objects.count() == entries
    # A proxy that compresses weakens it; a list of them and "any" are HTTP's too.
    for given in (f"W/{put.headers['ETag']}", f"{OTHER}, {put.headers['ETag']}", "*"):
        assert sent(admin, "PATCH", where, {}, given).status == 200
    assert sent(admin, "DELETE", where, tag=put.headers["ETag"]).status == 204


def test_last_change_is_attributed_and_missing_etag_lets_last_win(company: Company, admin: Api) -> None:
    tag = admin.get("groups/Network").headers["ETag"]
    first = sent(admin, "PATCH", "groups/Network", {"description": "Cables"}, tag)
    assert first.headers["ETag"] != tag
    api_response = sent(admin, "PATCH", "groups/Network", {"description": "Switches"}, tag)
    refused(api_response, 412, "changed_meanwhile")
    assert "Alice Andersson changed it last, at 20" in api_response.body["detail"]
    assert admin.get("groups/Network").body["description"] == "Cables"
    assert admin.patch("groups/Network", {"description": "Switches"}).status == 200
    assert sent(admin, "PUT", "groups/Nowhere", {}, tag).status == 404


def test_invalid_or_unexpected_etag_is_an_error(admin: Api, caller: Callable[[User], Api], company: Company) -> None:
    refused(sent(admin, "PATCH", "groups/Network", {}, "abc"), 400, "invalid", "If-Match")
    refused(sent(admin, "PUT", "reminders", {"reminders": []}, OTHER), 400, "invalid", "If-Match")
    # Nobody learns of an object that they may not change whether it has changed.
    refused(sent(caller(company.mia), "PATCH", "groups/Network", {}, OTHER), 403, "forbidden")


def test_a_secret_and_an_override_are_changes_too(company: Company, admin: Api) -> None:
    spec = {"name": "Mail", "kind": "smtp", "host": "mail.example.org", "sender": "t@example.org", "username": "t"}
    tags = [admin.post("providers", spec).headers["ETag"]]
    tags += [admin.patch("providers/Mail", {"password": one}).headers["ETag"] for one in ("one", "two")]
    assert len(set(tags)) == 3
    rotate = {"every": "1w", "at": "09:00", "on": "monday", "users": ["bob"]}
    shifts = [{"name": "Weekly", "rotate": rotate, "start": "2026-01-05"}]
    made = admin.post("schedules", {"name": "Desk", "group": "Service Desk", "shifts": shifts})
    override = {"schedule": "Desk", "user": "olga", "from": "2199-01-01T00:00Z", "to": "2199-01-02T00:00Z"}
    assert admin.post("overrides", override).status == 201
    # What was shown before would take the override away.
    refused(sent(admin, "PUT", "schedules/Desk", made.body, made.headers["ETag"]), 412, "changed_meanwhile")
    settings = admin.get("settings").headers["ETag"]
    assert sent(admin, "PATCH", "settings", {"organisation_name": "One"}, settings).status == 200
    refused(sent(admin, "PATCH", "settings", {"organisation_name": "Two"}, settings), 412, "changed_meanwhile")


def test_csv_replaces_only_the_client_table_version_seen(company: Company, admin: Api) -> None:
    made = admin.post("client-tables", {"name": "Clients", "clients": [{"client": "Acme", "group": "Network"}]})
    assert admin.patch("client-tables/Clients", {"clients": [{"client": "Bolt", "group": "Network"}]}).status == 200
    csv = {"csv": "Corp,Network,"}
    api_response = sent(admin, "POST", "client-tables/Clients/import", csv, made.headers["ETag"])
    refused(api_response, 412, "changed_meanwhile")
    seen = admin.get("client-tables/Clients").headers["ETag"]
    done = sent(admin, "POST", "client-tables/Clients/import", csv, seen)
    assert [one["client"] for one in done.body["clients"]] == ["Corp"]
    assert done.headers["ETag"] == admin.get("client-tables/Clients").headers["ETag"] != seen


def test_one_of_two_concurrent_requests_with_equal_etags_wins(company: Company, admin: Api) -> None:
    tag = admin.get("groups/Network").headers["ETag"]
    answers: list[ApiResponse] = []

    def put(name: str) -> None:
        try:
            body = {"name": "Network", "description": name}
            answers.append(sent(admin, "PUT", "groups/Network", body, tag))
        finally:
            connections.close_all()

    both = [threading.Thread(target=put, args=(name,)) for name in ("the first", "the second")]
    with transaction.atomic():
        settings_store.lock()
        for one in both:
            one.start()
        wait_for_waiters(2, unless=lambda: bool(answers))
    for one in both:
        one.join(timeout=30)
    [won, lost] = sorted(answers, key=lambda answer: answer.status)
    assert won.status == 200
    refused(lost, 412, "changed_meanwhile")
    assert admin.get("groups/Network").body["description"] == won.body["description"]
