"""Commands of users on alerts, and the snapshot that shows whether undo restores an alert."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from tests.model import people
from tests.model.routing import PRIORITIES
from tests.model.system import System, UndoneCommand
from tocsin.alerts import commands, service
from tocsin.alerts.commands import Actor, Command
from tocsin.alerts.models import Alert
from tocsin.alerts.service import FoundAlert
from tocsin.alerts.states import ActorKind, CommandChannel, Priority
from tocsin.core.db import database
from tocsin.core.errors import Rejected
from tocsin.people.models import User

#: The commands with their weights.
_KINDS = {
    "acknowledge": 4, "unacknowledge": 2, "take": 3, "assign": 2, "unassign": 3, "escalate": 2, "hold": 2, "resume": 1,
    "close": 2, "cancel": 1, "merge": 3, "reopen": 2, "undo": 2, "reply": 1,
}  # fmt: skip

_UNDOABLE = {"acknowledge", "unacknowledge", "take", "assign", "unassign", "hold", "resume", "close", "cancel", "merge"}


def run_command(system: System) -> None:
    """Runs a command on an alert, mostly an active one, and sometimes undoes it immediately."""
    rng = system.rng
    active_alerts, newest = system.alerts(active=True), system.alerts()[:12]
    if not newest:
        return
    alert = rng.choice(active_alerts) if active_alerts and rng.random() < 0.8 else rng.choice(newest)
    actor = _somebody(system)
    kind = rng.choices(list(_KINDS), list(_KINDS.values()))[0]
    if kind == "merge" and len(active_alerts) < 2:
        return
    before = snapshot(system, alert)
    changed = _do(system, alert, _command(system, kind, actor, active_alerts))
    if changed and kind in _UNDOABLE and rng.random() < 0.3 and _do(system, alert, commands.Undo(actor=actor)):
        system.undone = UndoneCommand(alert, kind, before, snapshot(system, alert))


def set_priority(system: System) -> None:
    """Changes the priority of an active alert, if there is one."""
    active_alerts = system.alerts(active=True)
    if not active_alerts:
        return
    alert, priority = system.rng.choice(active_alerts), Priority(system.rng.choice(PRIORITIES))
    erin = _actor(User.objects.get(username="erin"))
    with database.transaction() as connection:
        reason = service.set_priority_within(
            connection, FoundAlert.by_tocsin(alert), priority, erin, CommandChannel.WEB, system.now
        )
    system.record(f"#{alert} priority {priority}: {reason}")


def _actor(user: User) -> Actor:
    return Actor(ActorKind.USER, user.display_name, user.pk)


def _somebody(system: System) -> Actor:
    return _actor(User.objects.get(username=system.rng.choice([*people.active(system), "erin"])))


def _do(system: System, alert: int, command: Command) -> bool:
    """Whether the command changed something."""
    system.advance(timedelta(milliseconds=1))
    what = f"#{alert} {type(command).__name__} by {command.actor.name}"
    try:
        done = service.apply_command(FoundAlert.by_tocsin(alert), command, now=system.now)
    except Rejected as refusal:
        system.record(f"{what} is refused: {refusal}")
        return False
    system.record(f"{what}: {done.answer}")
    return done.is_change


def _command(system: System, kind: str, actor: Actor, active_alerts: list[int]) -> Command:
    rng = system.rng
    match kind:
        case "take":
            return commands.Assign(actor=actor, name=actor.name, user_id=actor.user_id)
        case "assign":
            # A name known only to the ticket system is an owner too.
            owner = _somebody(system) if rng.random() < 0.7 else Actor(ActorKind.USER, "Zed")
            return commands.Assign(actor=actor, name=owner.name, user_id=owner.user_id)
        case "hold":
            return commands.Hold(actor=actor, until=system.now + timedelta(minutes=rng.choice([1, 10, 60])))
        case "merge":
            return service.merge_into(
                FoundAlert.by_tocsin(rng.choice(active_alerts)), commands.Reply(actor=actor, text="")
            )
        case "reply":
            return commands.Reply(actor=actor, text="I am looking.")
    plain: dict[str, Any] = {
        "acknowledge": commands.Acknowledge,
        "unacknowledge": commands.Unacknowledge,
        "unassign": commands.Unassign,
        "escalate": commands.Escalate,
        "resume": commands.Resume,
        "close": commands.Close,
        "cancel": commands.Cancel,
        "reopen": commands.Reopen,
        "undo": commands.Undo,
    }
    command: Command = plain[kind](actor=actor)
    return command


def snapshot(system: System, alert: int) -> dict[str, Any]:
    """The state that undo must restore. Of a run, only its activity and next time are compared; its progress is
    internal to the engine."""
    return {
        "alert": system.rows(
            "SELECT status, owner_id, owner_name, hold_until, closed_at, merged_into_id, holds_key, priority "
            "FROM alerts_alert WHERE id = %s",
            alert,
        ),
        "acknowledgements": system.rows(
            "SELECT user_id, at FROM alerts_acknowledgement WHERE alert_id = %s ORDER BY user_id", alert
        ),
        "pages to come": system.rows(
            "SELECT id, due_at, status FROM notify_delivery WHERE alert_id = %s AND purpose = 'page' "
            "AND status IN ('queued', 'sending') ORDER BY id",
            alert,
        ),
        "run": system.rows(
            "SELECT mode, due_at, coalesce(progress -> 'ack_reminder_sent_at', '{}') <> '{}' AS is_asking "
            "FROM escalation_run "
            "WHERE alert_id = %s AND status = 'active'",
            alert,
        ),
        "merged into it": list(Alert.objects.filter(merged_into=alert).order_by("pk").values_list("pk", "holds_key")),
    }
