"""The only module that changes alerts. Each function is one transaction: decide by `lifecycle`, write, call handlers.

Ingest decides for many keys in its own transaction, and uses `write` and `create_alerts` on its connection.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from dataclasses import replace as replace_fields
from datetime import datetime

from django.db.models import QuerySet
from msgspec.structs import replace
from psycopg.errors import ForeignKeyViolation

from tocsin.access import boundary
from tocsin.access.boundary import Boundary
from tocsin.alerts import lifecycle, states, store
from tocsin.alerts.commands import (
    Actor,
    AlertChange,
    AlertCreation,
    AlertState,
    BaseCommand,
    Command,
    Merge,
    NewAlert,
    NewEvent,
    PagingConfig,
    Reopen,
    Transition,
    Undo,
    call_handlers,
)
from tocsin.alerts.models import Alert
from tocsin.alerts.states import ACTIVE, TERMINAL, AlertStatus, CommandChannel, EventKind, Priority
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.errors import Rejected
from tocsin.core.ids import advisory_lock_key
from tocsin.core.reasons import AlertRef, Reason, ReasonType

#: Maximum alerts changed in one transaction of a bulk operation.
BULK_CHUNK = 100


#: Maximum tags of an alert, the same as a message can set.
MAX_ALERT_TAGS = 50

ACCOUNT_DELETED = ReasonType(
    "command.account_deleted", "A user whom the command refers to was deleted at the same moment."
)
NO_SUCH_ALERT = ReasonType("alert.not_found", "Alert {alert} not found.")
_TOO_MANY_TAGS = ReasonType(
    "alert.too_many_tags", "An alert can have at most {count} tag.", "An alert can have at most {count} tags."
)


@dataclass(frozen=True, slots=True)
class FoundAlert:
    """The alert of a command. Commands take no number, so that nobody acts on an alert, or has it sent somewhere, by
    guessing its number: only the functions below make this, under the boundary of whoever asks."""

    id: int

    @classmethod
    def by_tocsin(cls, alert_id: int) -> FoundAlert:
        """Returns the alert with which Tocsin deals by itself: due work, or a message that was decided. Never what a
        request names."""
        return FoundAlert(alert_id)


@dataclass(frozen=True, slots=True)
class VisibleAlert(FoundAlert):
    """An alert that the viewer sees."""

    row: Alert = field(compare=False)


def find_alert(number: int, path: str | None = None) -> VisibleAlert:
    """Returns an alert within the boundary in force. Raises `Rejected("not_found")`, for `path` if a body names it."""
    row = _rows().filter(pk=number).first()
    if row is None:
        raise Rejected("not_found", NO_SUCH_ALERT(alert=AlertRef(number)), path)
    return VisibleAlert(number, row)


def find_alerts(numbers: Sequence[int]) -> list[VisibleAlert]:
    """Returns those alerts that are within the boundary in force, in the order of their numbers given."""
    rows = _rows().in_bulk(numbers)
    return [VisibleAlert(number, rows[number]) for number in dict.fromkeys(numbers) if number in rows]


def _rows() -> QuerySet[Alert]:
    return Alert.objects.select_related("owner", "integration__outbound")


def find_alert_on(connection: Connection, number: int, limits: Iterable[Boundary]) -> FoundAlert | None:
    """Returns an alert within all these boundaries, as a transaction of the pool sees it."""
    for limit in limits:
        condition, parameters = boundary.render(Alert, limit)
        statement = f"SELECT 1 FROM alerts_alert WHERE id = %s AND {condition}"
        if connection.execute(database.literal(statement), (number, *parameters)).fetchone() is None:
            return None
    return FoundAlert(number)


@dataclass(frozen=True, slots=True)
class CommandResult:
    """The result of a command: the alert's new state, and an answer for the actor."""

    alert: AlertState
    answer: Reason
    is_change: bool


def apply_command(alert: FoundAlert, command: Command, *, now: datetime) -> CommandResult:
    """Applies a command to an alert in its own transaction.

    Raises `Rejected("not_found")`, the errors of `lifecycle.apply`, whose sentence describes the alert's state, or
    `not_possible` if a user whom the command refers to was deleted at that moment.
    """
    return run_in_transaction(lambda connection: apply_command_within(connection, alert, command, now))


def run_in_transaction[T](work: Callable[[Connection], T]) -> T:
    """Runs `work`, which applies commands, in one transaction; once more if it loses a lock conflict, or if a user whom
    it refers to is deleted at that moment. Raises `Rejected("not_possible")` if that happens again."""

    def run() -> T:
        with database.transaction() as connection:
            return work(connection)

    for _ in range(2):
        # If a user to be notified was deleted at this moment, the retry runs without them.
        with suppress(ForeignKeyViolation):
            return database.retry_once(run)
    raise Rejected("not_possible", ACCOUNT_DELETED())


def apply_command_to_many(
    alerts: Sequence[FoundAlert], command: Command, *, now: datetime
) -> list[CommandResult | Rejected]:
    """Applies a command to several alerts in order, each in its own transaction. A rejection stops no other."""

    def apply_one(alert: FoundAlert) -> CommandResult | Rejected:
        try:
            return apply_command(alert, command, now=now)
        except Rejected as rejected:
            return rejected

    return [apply_one(alert) for alert in dict.fromkeys(alerts)]


def merge_into(parent: FoundAlert, template: BaseCommand) -> Merge:
    """Returns the command that merges into `parent`, with the fields of `template`. `apply_command` loads the
    parent."""
    placeholder = AlertState(parent.id, AlertStatus.OPEN, Priority.LOW, datetime.min)  # noqa: DTZ901 - replaced under the lock
    return Merge(actor=template.actor, note=template.note, via=template.via, into=placeholder)


def load_state(alert: FoundAlert) -> AlertState:
    """Returns the current state of an alert, without locking it. Raises `Rejected("not_found")`."""
    with database.transaction() as connection:
        return _require_state(store.load(connection, [alert.id]), alert.id)


def create_manual_alert(alert: NewAlert, paging: PagingConfig, event: NewEvent, *, now: datetime) -> int:
    """Creates an alert that no message caused. Its id is assigned here, for `alert` and `event`, and returned."""

    def work() -> int:
        with database.transaction() as connection:
            (alert_id,) = store.new_ids(connection, 1)
            creation = AlertCreation(replace(alert, id=alert_id), paging, replace(event, alert_id=alert_id))
            create_alerts(connection, [creation], now)
            return alert_id

    return database.retry_once(work)


def create_alerts(
    connection: Connection,
    creations: Sequence[AlertCreation],
    now: datetime,
    *,
    ended_ids: frozenset[int] = frozenset(),
) -> None:
    """Creates alerts inside the caller's transaction, which holds the locks of their keys.

    Those in `ended_ids` end later in the same transaction, so they never hold their key.
    """
    store.insert(connection, creations, ended_ids)
    store.insert_events(connection, [creation.event for creation in creations])
    call_handlers(connection, [creation_change(creation) for creation in creations], now)


def creation_change(creation: AlertCreation) -> AlertChange:
    alert = creation.alert
    state = AlertState(
        alert.id, AlertStatus.OPEN, alert.priority, alert.opened_at, holds_key=alert.key_hash is not None
    )
    return AlertChange(None, state, (creation.event,), paging=creation.paging, integration_id=alert.integration_id)


def write(
    connection: Connection,
    changes: Sequence[AlertChange],
    now: datetime,
    *,
    moves: Sequence[tuple[int, int | None]] = (),
) -> None:
    """Writes changes of locked alerts and their events, and calls the handlers, inside the caller's transaction.

    Several changes of one alert are given in order; the last state is written.
    """
    if not changes:
        return
    first = {change.alert_id: change.before for change in reversed(changes) if change.before is not None}
    last = {change.alert_id: change.after for change in changes}
    store.update(connection, [state for state in last.values() if state != first.get(state.id)])
    store.update_acknowledgements(
        connection, [(before, last[alert_id]) for alert_id, before in first.items() if before is not None]
    )
    store.move_children(connection, moves)
    store.add_groups(
        connection, [(change.alert_id, change.paging.recipient_groups) for change in changes if change.paging]
    )
    store.insert_events(connection, [event for change in changes for event in change.events])
    call_handlers(connection, changes, now)


def apply_command_within(connection: Connection, alert: FoundAlert, command: Command, now: datetime) -> CommandResult:
    """Applies a command to an alert inside the caller's transaction.

    Raises Rejected as `apply_command` does, before anything is written.
    """
    if isinstance(command, Reopen | Undo):
        _lock_key(connection, alert.id)
    ids = [alert.id, command.into.id] if isinstance(command, Merge) else [alert.id]
    states = store.load(connection, lock_families(connection, ids))
    state = _require_state(states, alert.id)
    if isinstance(command, Merge):
        command = replace_fields(command, into=_require_state(states, command.into.id))
    if isinstance(command, Undo):
        state = replace(
            state, deleted_user_ids=store.deleted_users(connection, lifecycle.restored_user_ids(state.last_event))
        )
    transition = lifecycle.apply(state, command, now)
    changes = _changes(state, command, transition, states, now)
    write(connection, changes, now, moves=transition.child_moves)
    if changes:
        publish_alert_changes(connection, [change.alert_id for change in changes])
    return CommandResult(transition.state, transition.answer, transition.is_change)


def lock_families(connection: Connection, ids: Sequence[int]) -> list[int]:
    """Locks these alerts and all others that a command on them may change, and returns their ids. A transaction with
    several commands does so first: alerts are locked in one order, and before their deliveries.

    A merge that committed before the lock adds others, which are then locked too. Under the lock, no more are added."""
    members: list[int] = []
    while (family := store.load_family(connection, ids)) != members:
        store.lock(connection, family)
        members = family
    return members


def release_stale_keys(now: datetime) -> list[int]:
    """Frees the keys of alerts that are over, or merged into one that is not active.

    No command leaves such keys behind, but messages would count on an alert that nobody sees. Returns the ids; locked
    alerts are left to the next run.
    """
    with database.transaction() as connection:
        ids = store.alerts_with_stale_keys(connection, BULK_CHUNK)
        states = store.load(connection, ids)
        released = [(state, lifecycle.release_stale_key(state, now)) for state in states.values()]
        write(
            connection, [AlertChange(state, transition.state, transition.events) for state, transition in released], now
        )
        if released:
            publish_alert_changes(connection, ids)
        return ids


def set_priority_within(
    connection: Connection, alert: FoundAlert, priority: Priority, actor: Actor, via: CommandChannel, now: datetime
) -> Reason:
    """Changes the priority of an active alert inside the caller's transaction.

    A higher priority restarts escalation, as a message's would. Returns the answer. Raises `Rejected("not_found")`, or
    `already_closed` and the like for an alert that is not active.
    """
    store.lock(connection, [alert.id])
    state = _load_active(connection, alert.id, now)
    if state.priority is priority:
        return states.PRIORITY_IS_ALREADY(priority=states.PRIORITY_TERMS[priority])
    old, new = states.PRIORITY_TERMS[state.priority], states.PRIORITY_TERMS[priority]
    reason = states.PRIORITY_CHANGED(actor=actor.person, old=old, new=new)
    data = {"changes": {"priority": [str(state.priority), str(priority)]}}
    event = NewEvent(alert.id, EventKind.UPDATED, now, actor, reason, via, data)
    write(connection, [AlertChange(state, replace(state, priority=priority), (event,))], now)
    publish_alert_changes(connection, [alert.id])
    return states.PRIORITY_IS(new=new, old=old)


def set_tags_within(
    connection: Connection,
    alert: FoundAlert,
    tags: Mapping[str, str],
    remove: Sequence[str],
    actor: Actor,
    via: CommandChannel,
    now: datetime,
) -> Reason:
    """Sets and removes tags of an active alert inside the caller's transaction. Returns the answer, and raises as
    `set_priority_within` does."""
    store.lock(connection, [alert.id])
    state = _load_active(connection, alert.id, now)
    before = store.load_tags(connection, alert.id)
    after = {name: text for name, text in {**before, **tags}.items() if name not in remove and text}
    names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    if not names:
        return states.TAGS_ARE_ALREADY()
    if len(after) > MAX_ALERT_TAGS:
        raise Rejected("invalid", _TOO_MANY_TAGS(count=MAX_ALERT_TAGS), "tags")
    tag_changes = tuple(
        states.TAG_VALUE(name=name, value=after[name]) if name in after else states.TAG_REMOVED(name=name)
        for name in names
    )
    reason = states.TAGS_SET(actor=actor.person, changes=tag_changes)
    data = {"changes": {f"tags.{name}": [before.get(name), after.get(name)] for name in names}}
    event = NewEvent(alert.id, EventKind.UPDATED, now, actor, reason, via, data)
    store.write_tags(connection, alert.id, after)
    store.refresh(connection, [alert.id])
    write(connection, [AlertChange(state, state, (event,))], now)
    publish_alert_changes(connection, [alert.id])
    return states.TAGS_ARE(changes=tag_changes)


def _load_active(connection: Connection, alert_id: int, now: datetime) -> AlertState:
    state = _require_state(store.load(connection, [alert_id]), alert_id)
    if state.status not in ACTIVE:
        raise Rejected(f"already_{state.status}", lifecycle.describe_state(state, now))
    return state


def _changes(
    state: AlertState, command: Command, transition: Transition, states: dict[int, AlertState], now: datetime
) -> list[AlertChange]:
    """Returns the alert's own change, the entry on its parent, and the changes of alerts merged into it."""
    if not transition.is_change:
        return []
    own_events = tuple(event for event in transition.events if event.alert_id == state.id)
    changes = [AlertChange(state, transition.state, own_events, command)]
    changes += [
        AlertChange(other, other, (event,))
        for event in transition.events
        if event.alert_id != state.id and (other := states.get(event.alert_id)) is not None
    ]
    return changes + update_child_keys(state, transition.state, states, now)


def update_child_keys(
    before: AlertState, after: AlertState, states: dict[int, AlertState], now: datetime
) -> list[AlertChange]:
    """Frees the keys of the merged alerts when their parent ends, and takes them back when it is active again."""
    was_ended, is_ended = before.status in TERMINAL, after.status in TERMINAL
    if was_ended == is_ended:
        return []
    child_transition: Callable[[AlertState, datetime], Transition] = (
        lifecycle.on_parent_ended if is_ended else lifecycle.on_parent_reopened
    )
    changes = []
    for child_id in before.children:
        if (child := states.get(child_id)) is not None:
            transition = child_transition(child, now)
            if transition.is_change:
                changes.append(AlertChange(child, transition.state, transition.events))
    return changes


def publish_alert_changes(connection: Connection, ids: Sequence[int]) -> None:
    """Notifies browsers that these alerts changed. A long list is shortened to "some alerts"."""
    topics = [f"alert:{alert_id}" for alert_id in ids] if len(ids) <= BULK_CHUNK else []
    database.notify(connection, "alerts", *topics)


def _lock_key(connection: Connection, alert_id: int) -> None:
    """Locks the alert's key, which precedes alert rows in lock order, so that no other alert with it can open."""
    row = connection.execute("SELECT key_hash FROM alerts_alert WHERE id = %s", (alert_id,)).fetchone()
    if row is not None and row[0] is not None:
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (advisory_lock_key(bytes(row[0])),))


def _require_state(states: dict[int, AlertState], alert_id: int) -> AlertState:
    try:
        return states[alert_id]
    except KeyError:
        raise Rejected("not_found", NO_SUCH_ALERT(alert=AlertRef(alert_id))) from None
