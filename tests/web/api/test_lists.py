"""Lists are paginated without gaps or duplicates, at a constant number of statements."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from tests.support import api_rows
from tests.web.api.conftest import Api, Company
from tocsin.alerts import service
from tocsin.alerts.commands import Acknowledge, Actor
from tocsin.alerts.service import FoundAlert
from tocsin.alerts.states import ActorKind
from tocsin.core import ids
from tocsin.core.runtime import clock
from tocsin.notify.models import Delivery, Notification
from tocsin.resources import registry

RESOURCES = (*registry.RESOURCES, registry.OVERRIDES)


def test_pages_follow_each_other_to_the_end(admin: Api, open_alert: Callable[..., int]) -> None:
    numbers = [open_alert(f"number {n}") for n in range(7)]
    seen, cursor, pages = [], None, 0
    while True:
        answer = admin.get("alerts", limit=3, **({"cursor": cursor} if cursor else {}))
        assert set(answer.body) == {"items", "next"}
        seen += [alert["id"] for alert in answer.body["items"]]
        pages += 1
        if (cursor := answer.body["next"]) is None:
            break
    assert seen == numbers[::-1]
    assert pages == 3


def test_a_full_last_page_has_no_next(admin: Api, open_alert: Callable[..., int]) -> None:
    for _ in range(4):
        open_alert()
    first = admin.get("alerts", limit=2)
    second = admin.get("alerts", limit=2, cursor=first.body["next"])
    assert len(second.body["items"]) == 2
    assert second.body["next"] is None


def test_what_opens_meanwhile_does_not_move_later_pages(admin: Api, open_alert: Callable[..., int]) -> None:
    numbers = [open_alert() for _ in range(4)]
    first = admin.get("alerts", limit=2)
    open_alert("came between")
    second = admin.get("alerts", limit=2, cursor=first.body["next"])
    assert [alert["id"] for alert in second.body["items"]] == [numbers[1], numbers[0]]


def test_fifty_come_where_no_limit_is_given(admin: Api, open_alert: Callable[..., int]) -> None:
    for _ in range(51):
        open_alert()
    assert len(admin.get("alerts").body["items"]) == 50
    assert len(admin.get("alerts", limit=500).body["items"]) == 51


def test_an_empty_list_is_an_empty_page(admin: Api) -> None:
    assert admin.get("alerts").body == {"items": [], "next": None}


def test_lists_use_constant_statements_for_any_row_count(
    company: Company, caller: Callable[..., Api], monkeypatch: pytest.MonkeyPatch
) -> None:
    # A manager: an administrator needs no look at groups, and so would hide a query for each row.
    requests = {
        path: caller(company.alice if path in api_rows.FOR_ADMINISTRATORS else company.mia) for path in api_rows.LISTS
    }
    api_rows.fill(company, 1)
    one = {path: _count(requests[path], path, monkeypatch)[0] for path in api_rows.LISTS}
    api_rows.fill(company, 3)
    many = {path: _count(requests[path], path, monkeypatch) for path in api_rows.LISTS}
    assert {path: rows for path, (_, rows) in many.items() if rows < 4} == {}
    assert {path: sent for path, (sent, _) in many.items()} == one
    most = {path: api_rows.MAX_STATEMENTS.get(path, 9) for path in api_rows.LISTS}
    assert {path: sent for path, sent in one.items() if sent > most[path]} == {}


def _count(requested: Api, path: str, monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    """The statements sent over any connection, Django's or the pool's, and the rows of the answer."""
    requested.get(path)  # what a process reads once and keeps is not counted
    sent: list[object] = []
    wait = psycopg.Connection.wait

    def counted(self: psycopg.Connection[Any], *args: Any, **kwargs: Any) -> Any:
        sent.append(self)
        return wait(self, *args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(psycopg.Connection, "wait", counted)
        answer = requested.get(path, limit=500)
    assert answer.status == 200, answer
    return len(sent), len(answer.body["items"])


def test_alert_list_names_users_and_next_action_without_extra_queries(
    company: Company, admin: Api, open_alert: Callable[..., int]
) -> None:
    number = open_alert(ago=timedelta(minutes=2))
    bob = Actor(ActorKind.USER, "Bob", company.bob.pk)
    service.apply_command(FoundAlert.by_tocsin(number), Acknowledge(actor=bob), now=clock.now())
    results: dict[str, Any] = admin.get("alerts").body["items"][0]
    assert results["acknowledged_by"] == ["bob"]
    assert results["acknowledged"] is True


def test_configured_objects_are_filtered_by_group(company: Company, admin: Api) -> None:
    api_rows.fill(company, 1)
    for path in [resource.path for resource in RESOURCES if resource.group_lookup]:
        assert admin.get(path, group="Service Desk").status == 200, path
        unknown = admin.get(path, group="Nights")
        assert (unknown.status, unknown.fields) == (400, ["group"]), path


def test_configured_objects_are_found_by_name_or_part_of_it(company: Company, admin: Api) -> None:
    api_rows.fill(company, 2)
    for resource in RESOURCES:
        row = resource.list_all().last()
        assert row is not None, resource.path
        name = resource.name(row)
        for filters in ({resource.name_column: name.upper()}, {"q": name[1:].upper()}):
            assert row.pk in [item["id"] for item in admin.get(resource.path, **filters).body["items"]], resource.path
        assert admin.get(resource.path, q="no such name").body["items"] == [], resource.path


def test_deliveries_are_found_by_the_state_that_is_shown(company: Company, admin: Api) -> None:
    now = clock.now()
    notification = Notification.objects.create(id=ids.uuid7(), purpose="test", channel="voice", created_at=now)
    for stored in ({"status": "sent", "receipt": "not_reached"}, {"status": "sent", "provider_name": "sandbox"}):
        moments = {"queued_at": now, "due_at": now}
        Delivery.objects.create(id=ids.uuid7(), notification=notification, purpose="test", **moments, **stored)
    for state in ("failed", "sandboxed"):
        items = admin.get("deliveries", notification_id=str(notification.pk), status=state).body["items"]
        assert [one["status"] for one in items] == [state]
    assert admin.get("deliveries", status="sending").status == 400
