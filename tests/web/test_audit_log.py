"""The audit log: what administrators and managers see of it, its filters and its files."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from django.db import transaction
from django.http import StreamingHttpResponse
from django.test import Client

from tests.support.audit_log import empty_audit_log
from tests.web.conftest import Company
from tocsin.access import audit
from tocsin.access.audit import AuditActor
from tocsin.access.models import AuditEntry
from tocsin.core.config import settings_store
from tocsin.core.validation import inputs
from tocsin.inbound.admin import commands as integrations
from tocsin.inbound.admin import secrets
from tocsin.people.changes import groups
from tocsin.people.models import User
from tocsin.resources import registry

ACTOR = AuditActor(None, "Ann", "web", "192.0.2.7")


def record(name: str, at: datetime, group_id: int | None = None) -> None:
    audit.record(ACTOR, "update", now=at, object_type="schedule", object_name=name, group_id=group_id, after={"a": 1})


def names(client: Client, query: str = "") -> list[str]:
    rows = client.get(f"/audit-log/{query}").context["rows"]
    return [row.entry.object_name for row in rows]


@pytest.fixture
def log(company: Company) -> Company:
    empty_audit_log()
    record("desk", datetime(2026, 11, 1, 23, 30, tzinfo=UTC), company.desk.pk)
    record("night", datetime(2026, 11, 2, 12, tzinfo=UTC), company.night.pk)
    record("nobody's", datetime(2026, 11, 3, 12, tzinfo=UTC))
    return company


def test_manager_sees_what_own_groups_own_without_addresses(log: Company, browser_of: Callable[[User], Client]) -> None:
    assert names(browser_of(log.admin)) == ["nobody's", "night", "desk"]
    manager = browser_of(log.manager)
    assert names(manager) == ["desk"]
    assert "192.0.2.7" not in manager.get("/audit-log/").content.decode()
    assert "192.0.2.7" in browser_of(log.admin).get("/audit-log/").content.decode()


def test_log_is_filtered_by_kind_of_object(log: Company, browser_of: Callable[[User], Client]) -> None:
    for name, object_type in (("away", "out_of_office"), ("later", "absence"), ("Ann", "user")):
        audit.record(ACTOR, "update", now=log.now, object_type=object_type, object_name=name)
    admin = browser_of(log.admin)
    assert names(admin, "?kind=absence") == ["later", "away"]
    assert names(admin, "?kind=schedule") == ["nobody's", "night", "desk"]
    assert names(browser_of(log.manager), "?kind=schedule") == ["desk"]
    file = admin.get("/audit-log/export.csv?kind=user")
    assert isinstance(file, StreamingHttpResponse)
    text = b"".join(file).decode()  # type: ignore[arg-type]
    assert "Ann" in text
    assert "night" not in text


@pytest.mark.parametrize("path", ["/audit-log/", "/audit-log/export.csv", "/audit-log/export.jsonl"])
def test_audit_log_is_closed_to_responders(log: Company, browser_of: Callable[[User], Client], path: str) -> None:
    assert browser_of(log.responder).get(path).status_code == 403


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("?since=2026-11-02", ["nobody's", "night", "desk"]),
        ("?since=2026-11-02&until=2026-11-02", ["night", "desk"]),
        ("?until=2026-11-01", []),
        ("?q=nobody", ["nobody's"]),
        ("?show=sign-ins", []),
        ("?since=soon&show=nothing", ["nobody's", "night", "desk"]),
        ("?until=9999-12-31", ["nobody's", "night", "desk"]),
    ],
)
def test_days_are_those_of_the_readers_zone(
    log: Company, browser_of: Callable[[User], Client], query: str, found: list[str]
) -> None:
    log.admin.time_zone = "Europe/Zurich"
    log.admin.save()
    assert names(browser_of(log.admin), query) == found


def test_unusable_day_is_explained_beside_its_field(log: Company, browser_of: Callable[[User], Client]) -> None:
    answer = browser_of(log.admin).get("/audit-log/?since=soon")
    assert list(answer.context["form"].errors) == ["since"]


def file_of(client: Client, path: str) -> str:
    answer = client.get(path)
    assert isinstance(answer, StreamingHttpResponse)
    return b"".join(answer.streaming_content).decode()  # type: ignore[arg-type]


def test_filtered_log_is_exported(log: Company, browser_of: Callable[[User], Client]) -> None:
    admin, manager = browser_of(log.admin), browser_of(log.manager)
    header, row = inputs.read_csv(file_of(admin, "/audit-log/export.csv?q=night"))
    fields = dict(zip(header, row, strict=True))
    assert (fields["object_name"], fields["after"], fields["address"]) == ("night", '{"a": 1}', "192.0.2.7")
    (line,) = file_of(manager, "/audit-log/export.jsonl").splitlines()
    entry = json.loads(line)
    assert (entry["object_name"], entry["after"], entry["address"]) == ("desk", {"a": 1}, None)


def test_entries_name_the_group_that_owns_the_object(company: Company) -> None:
    spec = integrations.integration_spec(company.halo)
    integrations.save_integration({**spec, "name": "Halo"}, existing=company.halo, actor=ACTOR, now=company.now)
    company.halo.refresh_from_db()
    secrets.rotate_token(company.halo, actor=ACTOR, now=company.now)
    group = groups.save_group({"name": "New"}, actor=ACTOR, now=company.now)
    group_id = group.pk
    registry.GROUPS.delete(group, actor=ACTOR, now=company.now)
    entries = AuditEntry.objects.order_by("-pk").values_list("object_type", "action", "group_id")[:4]
    assert list(entries) == [
        ("group", "delete", group_id), ("group", "create", group_id),
        ("integration", "rotate_token", company.desk.pk), ("integration", "update", company.desk.pk),
    ]  # fmt: skip


def test_administrators_see_how_far_the_log_went(company: Company, browser_of: Callable[[User], Client]) -> None:
    with transaction.atomic():
        settings_store.set(settings_store.AUDIT_FORWARDING, "https://siem.example.org/hook")
    text = browser_of(company.admin).get("/audit-log/").content.decode()
    assert "Forwarded to https://siem.example.org/hook; waiting: 0." in text
    assert "whsec_" in text
    assert "whsec_" not in browser_of(company.manager).get("/audit-log/").content.decode()
