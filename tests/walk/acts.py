"""What people do about an alert, and how it is looked at to tell whether undoing puts it back."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from tests.walk import people
from tests.walk.routing import PRIORITIES
from tests.walk.world import Undone, World
from tocsin.alerts import commands, service
from tocsin.alerts.commands import Actor, Command
from tocsin.alerts.models import Alert
from tocsin.alerts.states import ActorKind, CommandChannel, Priority
from tocsin.core.db import database
from tocsin.core.errors import Rejected
from tocsin.people.models import User

#: What people do, and how often.
_KINDS = {
    "acknowledge": 4, "unacknowledge": 2, "take": 3, "assign": 2, "unassign": 3, "escalate": 2, "hold": 2, "resume": 1,
    "close": 2, "cancel": 1, "merge": 3, "reopen": 2, "undo": 2, "reply": 1,
}  # fmt: skip

_UNDOABLE = {"acknowledge", "unacknowledge", "take", "assign", "unassign", "hold", "resume", "close", "cancel", "merge"}


def act(world: World) -> None:
    """Somebody acts on an alert, mostly on a live one; sometimes it was a mistake, and is undone at once."""
    rng = world.rng
    live, newest = world.alerts(live=True), world.alerts()[:12]
    if not newest:
        return
    alert = rng.choice(live) if live and rng.random() < 0.8 else rng.choice(newest)
    actor = _somebody(world)
    kind = rng.choices(list(_KINDS), list(_KINDS.values()))[0]
    if kind == "merge" and len(live) < 2:
        return
    before = looked_at(world, alert)
    changed = _do(world, alert, _command(world, kind, actor, live))
    if changed and kind in _UNDOABLE and rng.random() < 0.3 and _do(world, alert, commands.Undo(actor=actor)):
        world.undone = Undone(alert, kind, before, looked_at(world, alert))


def set_priority(world: World) -> None:
    """Erin changes a live alert's priority, if there is one."""
    live = world.alerts(live=True)
    if not live:
        return
    alert, priority = world.rng.choice(live), Priority(world.rng.choice(PRIORITIES))
    erin = _actor(User.objects.get(username="erin"))
    with database.transaction() as connection:
        said = service.set_priority_within(connection, alert, priority, erin, CommandChannel.WEB, world.now)
    world.say(f"#{alert} priority {priority}: {said}")


def _actor(user: User) -> Actor:
    return Actor(ActorKind.USER, user.display_name, user.pk)


def _somebody(world: World) -> Actor:
    return _actor(User.objects.get(username=world.rng.choice([*people.active(world), "erin"])))


def _do(world: World, alert: int, command: Command) -> bool:
    """Whether the act changed something."""
    world.pass_by(timedelta(milliseconds=1))
    what = f"#{alert} {type(command).__name__} by {command.actor.name}"
    try:
        done = service.act(alert, command, now=world.now)
    except Rejected as refusal:
        world.say(f"{what} is refused: {refusal}")
        return False
    world.say(f"{what}: {done.sentence}")
    return done.is_change


def _command(world: World, kind: str, actor: Actor, live: list[int]) -> Command:
    rng = world.rng
    match kind:
        case "take":
            return commands.Assign(actor=actor, name=actor.name, user_id=actor.user_id)
        case "assign":
            # A name that only the ticket system knows is an owner too.
            owner = _somebody(world) if rng.random() < 0.7 else Actor(ActorKind.USER, "Zed")
            return commands.Assign(actor=actor, name=owner.name, user_id=owner.user_id)
        case "hold":
            return commands.Hold(actor=actor, until=world.now + timedelta(minutes=rng.choice([1, 10, 60])))
        case "merge":
            return service.merge_into(rng.choice(live), commands.Reply(actor=actor, text=""))
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


def looked_at(world: World, alert: int) -> dict[str, Any]:
    """What undoing must put back. Of a run: whether it is active, and when it goes on; how far it had
    come is the engine's own."""
    return {
        "alert": world.rows(
            "SELECT status, owner_id, owner_name, hold_until, closed_at, merged_into_id, holds_key, priority "
            "FROM alerts_alert WHERE id = %s",
            alert,
        ),
        "acknowledgements": world.rows(
            "SELECT user_id, at FROM alerts_acknowledgement WHERE alert_id = %s ORDER BY user_id", alert
        ),
        "pages to come": world.rows(
            "SELECT id, due_at, status FROM notify_delivery WHERE alert_id = %s AND purpose = 'page' "
            "AND status IN ('queued', 'sending') ORDER BY id",
            alert,
        ),
        "run": world.rows(
            "SELECT mode, due_at, coalesce(progress -> 'asked', '{}') <> '{}' AS is_asking FROM escalation_run "
            "WHERE alert_id = %s AND status = 'active'",
            alert,
        ),
        "merged into it": list(Alert.objects.filter(merged_into=alert).order_by("pk").values_list("pk", "holds_key")),
    }
