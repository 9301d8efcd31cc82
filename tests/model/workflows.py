"""Workflows, created and changed at random, and their buttons on alerts."""

from __future__ import annotations

from typing import Any

from tests.model import people
from tests.model.routing import POLICIES, PRIORITIES
from tests.model.system import System
from tests.support.people import ACTOR
from tocsin.alerts.service import find_alert
from tocsin.people.models import User
from tocsin.workflows.commands import delete_workflow, run_manual_workflow, save_workflow, set_enabled
from tocsin.workflows.definition import workflow_templates
from tocsin.workflows.models import Workflow

NAMES = ("F1", "F2", "F3")

_TRIGGERS: tuple[Any, ...] = (
    "opened", "updated", "status_changed", "acknowledged", "assigned", "escalated", "exhausted", "reply", "closed",
    {"on": "unacknowledged", "for": "3m"},
    {"on": "unassigned", "for": "10m"},
    {"on": "before_sla", "moment": "opening", "within": "30m", "by": "5m"},
    {"on": "after_sla", "moment": "opening", "within": "20m"},
    {"on": "every", "every": "20m"},
    "manual", "manual",
)  # fmt: skip


def set_up(system: System) -> None:
    """Adds some of the templates."""
    for one in workflow_templates("", "P2"):
        if one.key != "button" and system.rng.random() < 0.3:
            save_workflow({"name": one.name, **one.spec}, actor=ACTOR, now=system.now)


def change_workflow(system: System) -> None:
    """Creates, changes, disables, enables or deletes a workflow."""
    rng = system.rng
    name = rng.choice(NAMES)
    existing = Workflow.objects.filter(name=name).first()
    roll = rng.random()
    if existing is not None and roll < 0.15:
        system.record(f"workflow {name} is deleted")
        delete_workflow(existing, actor=ACTOR, now=system.now)
    elif existing is not None and roll < 0.3:
        system.record(f"workflow {name}: enabled {not existing.is_enabled}")
        set_enabled(existing, not existing.is_enabled, actor=ACTOR, now=system.now)
    else:
        spec: dict[str, Any] = {"name": name, "trigger": rng.choice(_TRIGGERS)}
        spec["actions"] = [_action(system) for _ in range(rng.randint(1, 3))]
        if rng.random() < 0.3:
            spec["start"] = {"field": "priority", "operator": "one of", "value": rng.sample(PRIORITIES, 2)}
        if rng.random() < 0.2:
            spec["stop"] = {"field": "status", "operator": "equals", "value": rng.choice(["assigned", "closed"])}
        system.record(f"workflow {name}: {spec}")
        save_workflow(spec, existing=existing, actor=ACTOR, now=system.now)


def press_button(system: System) -> None:
    """A user presses a workflow's button on an alert."""
    button = Workflow.objects.filter(trigger="manual").order_by("name").first()
    alerts = system.alerts()[:8]
    if button is not None and alerts:
        user, alert = User.objects.get(username=system.rng.choice(people.active(system))), system.rng.choice(alerts)
        system.record(f"{user.username} presses {button.name} on #{alert}")
        run = run_manual_workflow(button, find_alert(alert), user, "web", now=system.now)
        system.record(f"  {run.status}: {run.reason} {[step['result'] for step in run.steps]}")


def _action(system: System) -> dict[str, Any]:
    rng = system.rng
    somebody: dict[str, Any] = rng.choice(
        [{"users": [rng.choice(people.NAMES)]}, {"groups": [rng.choice(people.GROUPS)]}]
    )
    actions: list[dict[str, Any]] = [
        {"do": "notify", "paged": True, "subject": "<status>: <subject>"},
        {"do": "notify", **somebody, "subject": "About <subject>"},
        {"do": "start_policy", "policy": rng.choice(POLICIES)},
        {"do": "add_responders", **somebody},
        {"do": "escalate"},
        {"do": "set_priority", "priority": rng.choice(PRIORITIES)},
        {"do": "set_tags", "tags": {"seen": "yes"}},
        {"do": "hold", "for": rng.choice(["2m", "20m"])},
        {"do": "close", "text": "Enough."},
        {"do": "reply", "text": "It is being looked at."},
        {
            "do": "open_alert",
            "subject": "Follow up",
            "priority": rng.choice(PRIORITIES),
            "policy": rng.choice(POLICIES),
        },
        {"do": "wait", "for": rng.choice(["1m", "15m"])},
        {"do": "call", "outbound": "Pager"},
    ]
    return rng.choice(actions)
