"""The escalation harness with workflows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.support import escalation_harness
from tests.support.people import ACTOR
from tocsin.alerts import commands, store
from tocsin.alerts.commands import Actor as AlertActor
from tocsin.alerts.commands import AlertChange, NewEvent
from tocsin.alerts.models import Alert
from tocsin.alerts.service import write
from tocsin.alerts.states import ActorKind, CommandChannel, EventKind
from tocsin.core.db import database as connections
from tocsin.core.db.database import as_json
from tocsin.core.reasons import reason_from_json
from tocsin.escalation.commands import save_policy
from tocsin.outbound import writeback as outbound_reactor
from tocsin.workflows import commands as workflows_commands
from tocsin.workflows.models import Workflow, WorkflowRun
from tocsin.workflows.run import listener, tasks


@contextmanager
def workflows_enabled() -> Iterator[None]:
    """All reactors that a change of an alert has here, for the time of a test."""
    with escalation_harness.escalation_enabled():
        commands.HANDLERS.register(outbound_reactor.follow)
        commands.HANDLERS.register(listener.handle_changes)
        listener.re_evaluate()
        yield


@dataclass
class WorkflowHarness(escalation_harness.EscalationHarness):
    """Alice is primary, Bob secondary, Carol manager, Erin administrates; `go` turns both loops."""

    def workflow(self, name: str = "Flow", *actions: dict[str, Any], **spec: Any) -> Workflow:
        whole = {"name": name, "trigger": "opened", "actions": list(actions) or [{"do": "notify", "users": ["carol"]}]}
        return workflows_commands.save_workflow(whole | spec, actor=ACTOR, now=self.start)

    def go(self, minute: float, turns: int = 50) -> None:
        """Both loops, until nothing is due."""
        for _ in range(turns):
            self.run_until(minute)
            if not tasks.run_once(self.at(minute)):
                return

    def runs(self, alert: int | None = None) -> list[WorkflowRun]:
        workflow_runs = WorkflowRun.objects.select_related("workflow").order_by("id")
        return list(workflow_runs if alert is None else workflow_runs.filter(alert=alert))

    def outcomes(self, alert: int | None = None) -> list[tuple[str, str, str]]:
        """(workflow, how it stands, why) of every run."""
        return [(run.workflow.name, run.status, str(run.reason)) for run in self.runs(alert)]

    def did(self, alert: int | None = None) -> list[str]:
        """What every run did, in order."""
        return [str(reason_from_json(step["result"])) for run in self.runs(alert) for step in run.steps]

    def noticed_users(self, alert: int) -> list[str]:
        """Who was sent a notice about the alert."""
        return [row[0] for row in self.pages(alert, "notice")]

    def message(self, alert: int, minute: float, **custom: str) -> None:
        """What ingest does when a message changes custom fields of an alert."""
        with connections.transaction() as connection:
            store.lock(connection, [alert])
            state = store.load(connection, [alert])[alert]
            actor = AlertActor(ActorKind.INTEGRATION, "Halo")
            changes = {f"custom.{name}": ["", text] for name, text in custom.items()}
            event = NewEvent(
                alert,
                EventKind.UPDATED,
                self.at(minute),
                actor,
                "Halo changed it.",
                CommandChannel.INBOUND,
                {"changes": changes},
            )
            held_window = Alert.objects.get(pk=alert).custom
            connection.execute(
                "UPDATE alerts_alert SET custom = %s WHERE id = %s", (as_json(held_window | custom), alert)
            )
            write(connection, [AlertChange(state, state, (event,))], self.at(minute))

    def policy_of(self, name: str, roles: list[str]) -> str:
        """A policy that notifies these roles at once; its name."""
        save_policy({"name": name, "steps": [{"notify": {"roles": roles}}]}, actor=ACTOR, now=self.start)
        return name
