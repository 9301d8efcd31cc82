"""With boundaries: references of one's own objects to objects of other groups stay, and no new one can be made."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.db.models import Model
from django.test import Client
from django.urls import reverse

from tests.support import form_data
from tests.support.walls import Side, build_side, enforce_boundaries
from tocsin.access.audit import COMMAND_LINE
from tocsin.core.runtime import clock
from tocsin.resources import registry, visibility
from tocsin.resources.resource import Resource

OURS, THEIRS = "qaoursq", "qbtheirsq"

_ROTATE = {"every": "1w", "at": "09:00", "on": "monday", "roles": ["primary"]}
_ANY = {"field": "subject", "operator": "contains", "value": "x"}


def _referring(mine: str, other: str) -> list[tuple[Resource[Any], str, dict[str, Any]]]:
    """Keys of objects of `mine` that refer to objects of `other`."""
    recipients = {"users": [f"r{mine}", f"r{other}"], "groups": [f"Group {mine}", f"Group {other}"]}
    notify = {**recipients, "schedules": [f"Schedule {other}"]}
    return [
        (
            registry.SCHEDULES,
            f"Schedule {mine}",
            {
                "shifts": [
                    {"name": "a", "start": "2026-01-05", "rotate": {**_ROTATE, "users": [f"r{mine}", f"r{other}"]}}
                ],
                "holiday_calendars": [f"Calendar {other}"],
            },
        ),
        (
            registry.SUPPORT_HOURS,
            f"Hours {mine}",
            {"holiday_calendars": [f"Calendar {mine}", f"Calendar {other}"]},
        ),
        (
            registry.POLICIES,
            f"Policy {mine}",
            {"steps": [{"notify": notify, "after": "0m", "when": {"during": f"Hours {other}"}}]},
        ),
        (
            registry.CLIENT_TABLES,
            f"Table {mine}",
            {"clients": [{"client": "x", "group": f"Group {other}", "escalation_policy": f"Policy {other}"}]},
        ),
        (
            registry.INTEGRATIONS,
            f"Integration {mine}",
            {
                "escalation_policy": f"Policy {other}",
                "recipients": recipients,
                "routes": [
                    {"when": _ANY, "escalation_policy": f"Policy {other}", "recipients": recipients},
                    {"when": {**_ANY, "value": "y"}, "client_table": f"Table {other}"},
                ],
            },
        ),
        (
            registry.WORKFLOWS,
            f"Workflow {mine} opened",
            {"actions": [{"do": "notify", **recipients}]},
        ),
    ]


@pytest.fixture
def sides(database: str) -> tuple[Side, Side]:
    now = clock.now()
    both = build_side(OURS, now), build_side(THEIRS, now)
    enforce_boundaries()
    visibility.enable()
    return both


def _current(resource: Resource[Any], row: Model) -> dict[str, Any]:
    return resource.state_of(resource.rows().get(pk=row.pk))


def _token_of_manager(side: Side) -> dict[str, str]:
    return {"authorization": f"Bearer {side.tokens[side.manager.username]}"}


def test_saving_what_was_shown_keeps_foreign_references(sides: tuple[Side, Side]) -> None:
    client, headers = Client(), _token_of_manager(sides[0])
    client.force_login(sides[0].manager, backend="django.contrib.auth.backends.ModelBackend")
    for resource, name, keys in _referring(OURS, THEIRS):
        row = resource.find_named(name)
        assert row is not None
        spec = {**resource.spec(row), **keys}
        resource.save(spec, existing=row, actor=COMMAND_LINE, now=clock.now())
        before = _current(resource, row)
        assert THEIRS in str(before)
        address = f"/api/v1/{resource.path}/{row.pk}"
        shown = client.get(address, headers=headers).json()
        replaced = client.put(address, json.dumps(shown), content_type="application/json", headers=headers)
        assert replaced.status_code == 200, (resource.key, replaced.content)
        assert _current(resource, row) == before
        page = reverse(resource.views.edit, args=[row.pk])
        posted = client.post(page, form_data.filled(client.get(page).content.decode()))
        assert posted.status_code == 302, resource.key
        assert _current(resource, row) == before
        for other_page in {resource.views.detail, resource.views.list}:
            arguments = [row.pk] if other_page == resource.views.detail else []
            assert client.get(reverse(other_page, args=arguments)).status_code == 200


def test_a_foreign_object_is_unknown_to_a_new_reference(sides: tuple[Side, Side]) -> None:
    client, headers = Client(), _token_of_manager(sides[0])
    unknown = _referring(OURS, "qnobodyq")
    window = (registry.MAINTENANCE_WINDOWS, f"Window {OURS} 12")
    cases = [*_referring(OURS, THEIRS), (*window, {"integrations": [f"Integration {THEIRS}"]})]
    for (resource, name, keys), (_resource, _name, unknown_keys) in zip(
        cases, [*unknown, (*window, {"integrations": ["Integration qnobodyq"]})], strict=True
    ):
        row = resource.find_named(name)
        assert row is not None
        before, answers = _current(resource, row), []
        for body in (keys, unknown_keys):
            answer = client.patch(
                f"/api/v1/{resource.path}/{row.pk}", json.dumps(body), content_type="application/json", headers=headers
            )
            answers.append((answer.status_code, answer.content.decode().replace(THEIRS, "qnobodyq")))
        assert answers[0] == answers[1], resource.key
        assert answers[0][0] == 400
        assert _current(resource, row) == before


@pytest.mark.parametrize("before", [[f"Integration {OURS}", f"Integration {THEIRS}"], []], ids=["foreign", "all"])
def test_a_manager_edits_a_window_beyond_the_own_group(sides: tuple[Side, Side], before: list[str]) -> None:
    windows = registry.MAINTENANCE_WINDOWS
    row = windows.find_named(f"Window {OURS} 12")
    assert row is not None
    windows.save(
        {**windows.spec(row), "integrations": before or None}, existing=row, actor=COMMAND_LINE, now=clock.now()
    )
    client, headers = Client(), _token_of_manager(sides[0])
    address = f"/api/v1/maintenance-windows/{row.pk}"
    shown = client.get(address, headers=headers).json()
    assert shown.get("integrations", []) == before
    body = json.dumps({**shown, "ends": "2026-12-01 23:30"})
    assert client.put(address, body, content_type="application/json", headers=headers).status_code == 200
    client.force_login(sides[0].manager, backend="django.contrib.auth.backends.ModelBackend")
    page = reverse(windows.views.edit, args=[row.pk])
    form = form_data.filled(client.get(page).content.decode())
    assert client.post(page, form).status_code == 302
    current = _current(windows, row)
    assert current["ends"] == "2026-12-01 23:30"
    assert current.get("integrations", []) == before
    narrowed = json.dumps({"integrations": [f"Integration {OURS}"]})
    assert client.patch(address, narrowed, content_type="application/json", headers=headers).status_code == 200
    # What was taken out takes somebody else to put in again.
    assert client.put(address, body, content_type="application/json", headers=headers).status_code in (400, 403)
    assert _current(windows, row)["integrations"] == [f"Integration {OURS}"]


def test_a_foreign_user_cannot_be_added_to_a_group(sides: tuple[Side, Side]) -> None:
    client, headers = Client(), _token_of_manager(sides[0])
    body = json.dumps({"members": [{"user": f"r{THEIRS}", "roles": ["primary"]}]})
    answer = client.patch(f"/api/v1/groups/{sides[0].group.pk}", body, content_type="application/json", headers=headers)
    assert answer.status_code == 400
    assert answer.json()["detail"].endswith(f'no user named "r{THEIRS}".')


FILTERS = (
    "alerts?acknowledged_by=r{}", "notifications?user=r{}", "integrations?group=Group {}", "readiness?group=Group {}",
    "reports/response-times?integration=Integration {}", "overrides?schedule=Schedule {}", "groups?member=r{}",
)  # fmt: skip


def test_filters_answer_alike_for_foreign_and_unknown_names(sides: tuple[Side, Side]) -> None:
    client, headers = Client(), _token_of_manager(sides[0])
    for path in FILTERS:
        answers = [client.get("/api/v1/" + path.format(name), headers=headers) for name in (THEIRS, "qnobodyq")]
        foreign, unknown = ((answer.status_code, answer.content.decode()) for answer in answers)
        assert (foreign[0], foreign[1].replace(THEIRS, "qnobodyq")) == unknown, path
        assert unknown[0] == 400, path
