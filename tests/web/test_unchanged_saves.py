"""A form that is saved as it was opened changes nothing, whatever the object has; so nothing is lost that it shows."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from tests.support.form_data import filled
from tests.web.conftest import Company
from tocsin.access.audit import COMMAND_LINE
from tocsin.access.models import AuditEntry
from tocsin.escalation import commands as policies
from tocsin.escalation.policy import NotifySpec, PolicyDefinition, StepConditionSpec, StepSpec
from tocsin.oncall.changes import commands as oncall
from tocsin.outbound.commands import save_outbound
from tocsin.people.models import User
from tocsin.workflows import commands as workflows
from tocsin.workflows.definition import KEYS, TriggerSpec

type BrowserOf = Callable[[User], Client]

#: Between them they have every key of a step.
STEPS: list[dict[str, Any]] = [
    {
        "after": "2m",
        "name": "Desk",
        "notify": {
            "roles": ["primary", "lead"], "users": ["bob"], "groups": ["Service Desk"], "group_contacts": ["List"],
            "everybody": True, "schedules": ["Week"], "assignee": True, "previous_on_call": True,
        },
        "when": {
            "priority": ["critical", "low"],
            "during": {"not": "Office"},
            "between": {
                "from": "22:00", "to": "24:00", "days": ["fri", "sat"], "time_zone": "Europe/Zurich", "outside": True,
            },
            "tags": {"site": "Basel, Rhine = left bank", "team": "web"},
        },
        "sequential": "3m",
        "retries": {"times": 4, "every": "90s"},
        "methods": [
            {"channel": "sms"},
            {"label": "Mail", "wait": "1m", "repeat": {"times": 2, "every": "2m"}},
        ],
        "only_until_acknowledged": True,
        "if_empty": "wait",
    },
    {"after": "5m", "notify": {"users": ["mia"]}, "when": {"during": "Office"}},
]  # fmt: skip

#: Between them they have every key of a policy.
POLICIES: list[dict[str, Any]] = [
    {
        "acknowledge": {"effect": "pause", "timeout": "20m", "pause": "7m", "people": 2},
        "default_priority": "low", "repeat": {"times": 3, "every": "11m"}, "groups_sequential": "13m",
        "end_after": "17m", "sla": {"respond_by": "15m", "fix_by": "4h"}, "page_assignee": False, "steps": STEPS,
    },
    {"steps": STEPS[1:], "end": {"then": "keep_last_step", "every": "9m"}},
    {"steps": STEPS[1:], "end": {"then": "hand_over", "policy": "Other"}},
    {"steps": STEPS[1:], "end": {"then": "nothing"}},
]  # fmt: skip

TRIGGERS: list[dict[str, Any]] = [
    {"on": "after_sla", "by": "10m", "moment": "opening", "within": "4h"},
    {"on": "unacknowledged", "for": "5m"},
    {"on": "every", "every": "30m"},
    {"on": "manual", "confirm": "Really?"},
    {"on": "closed"},
]

#: Between them they have every key of an action.
ACTIONS: list[dict[str, Any]] = [
    {
        "do": "notify", "users": ["bob", "mia"], "groups": ["Service Desk"], "roles": ["secondary"], "contacts": True,
        "leads": True, "owner": True, "paged": True, "by": "Mail", "subject": "Look, <subject>", "text": "One\n\ntwo",
    },
    {"do": "add_responders", "users": ["bob"], "groups": ["Service Desk"], "roles": ["lead"], "leads": True},
    {"do": "escalate"},
    {"do": "start_policy", "policy": "Other"},
    {"do": "set_priority", "priority": "low"},
    {"do": "set_tags", "tags": {"site": "Basel, Rhine = left bank", "team": "web"}, "remove": ["a, b", "c"]},
    {"do": "reply", "text": "Note"},
    {"do": "hold", "for": "10m"},
    {"do": "halo", "text": "Note", "status": "In Progress", "public": True},
    {"do": "call", "outbound": "Hook"},
    {"do": "wait", "for": "2m"},
    {"do": "open_alert", "subject": "S", "text": "T", "priority": "high", "policy": "Other", "users": ["bob"]},
    {"do": "close", "text": "Done"},
]  # fmt: skip


def test_the_examples_have_every_key() -> None:
    """So a new key fails here until the form has it."""

    def keys(spec: Any) -> set[str]:
        return {field.alias or name for name, field in spec.model_fields.items()}

    assert {key for step in STEPS for key in step} == keys(StepSpec)
    assert set(STEPS[0]["notify"]) == keys(NotifySpec)
    assert set(STEPS[0]["when"]) == keys(StepConditionSpec)
    assert {key for policy in POLICIES for key in policy} == keys(PolicyDefinition)
    assert {key for trigger in TRIGGERS for key in trigger} == keys(TriggerSpec)
    assert {one["do"]: set(one) - {"do"} for one in ACTIONS} == {str(kind): set(names) for kind, names in KEYS.items()}


@pytest.fixture
def referred(company: Company) -> Company:
    """What the examples refer to."""
    by: dict[str, Any] = {"actor": COMMAND_LINE, "now": company.now}
    oncall.save_support_hours(
        {"name": "Office", "time_zone": "UTC", "windows": [{"days": ["mon"], "from": "08:00", "to": "18:00"}]}, **by
    )
    rotate = {"every": "1w", "at": "09:00", "on": "monday", "users": ["bob"]}
    shifts = [{"name": "W", "rotate": rotate, "start": "2026-01-05"}]
    oncall.save_schedule({"name": "Week", "group": "Service Desk", "shifts": shifts}, **by)
    policies.save_policy({"name": "Other", "steps": STEPS[1:]}, **by)
    save_outbound({"name": "Hook", "kind": "http", "url": "https://hook.example.org/x"}, **by)
    company.desk.contacts.create(label="List", channel="email", address="list@example.org")
    company.responder.contact_methods.create(label="Mail", channel="email", address="bob@example.org")
    return company


@pytest.mark.parametrize("number", range(len(POLICIES)))
def test_a_policy_saved_as_opened_is_unchanged(referred: Company, browser_of: BrowserOf, number: int) -> None:
    spec = {"name": "P", "group": "Service Desk", **POLICIES[number]}
    row = policies.save_policy(spec, actor=COMMAND_LINE, now=referred.now)
    before, version = policies.policy_spec(row), row.current_version_id
    saved_as_opened(browser_of(referred.admin), f"/policies/{row.pk}/edit/")
    row.refresh_from_db()
    assert policies.policy_spec(row) == before
    assert row.current_version_id == version, "no new version"


@pytest.mark.parametrize("trigger", TRIGGERS, ids=lambda trigger: trigger["on"])
def test_a_workflow_saved_as_opened_is_unchanged(
    referred: Company, browser_of: BrowserOf, trigger: dict[str, Any]
) -> None:
    condition = {
        "any": [
            {"field": "priority", "operator": "one of", "value": ["critical"]},
            {"not": {"field": "client", "operator": "exists"}},
        ]
    }
    spec = {
        "name": "W", "enabled": False, "limit": 7, "trigger": trigger, "start": condition, "stop": condition,
        "actions": ACTIONS,
    }  # fmt: skip
    row = workflows.save_workflow(spec, actor=COMMAND_LINE, now=referred.now)
    before = workflows.workflow_spec(row)
    assert json.loads(json.dumps(before["actions"])) == ACTIONS
    saved_as_opened(browser_of(referred.admin), f"/workflows/{row.pk}/edit/")
    row.refresh_from_db()
    assert workflows.workflow_spec(row) == before


def saved_as_opened(browser: Client, path: str) -> None:
    entries = AuditEntry.objects.count()
    answer = browser.post(path, filled(browser.get(path).content.decode()))
    assert answer.status_code == 302, answer.content.decode()
    assert AuditEntry.objects.count() == entries, "the audit log has no change"
