"""Changes that a source's messages make to an active alert: its fields, and its assignee at the source. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from msgspec.structs import replace

from tocsin.alerts import reasons
from tocsin.alerts.commands import Actor, AlertState, NewEvent, Transition
from tocsin.alerts.lifecycle import describe_assignment
from tocsin.alerts.states import ACTIVE, AlertStatus, CommandChannel, EventKind, Priority
from tocsin.core.reasons import Person, Reason, Term, joined

#: Fields whose text is too long for a sentence. The event says only that they changed.
_LONG = frozenset({"long_text", "short_text", "details", "custom", "tags"})

#: Compared, but shown through another field in words.
_UNLISTED_FIELDS = frozenset({"agent_id"})

#: Pairs of a custom field and a column that together express the source's urgency or assignee.
_PAIRED_COLUMNS: Mapping[str, str] = {"severity": "source_priority", "agent_id": "source_agent"}

#: Maximum characters of a value in the timeline.
_MAX_VALUE_CHARS = 80


@dataclass(frozen=True, slots=True)
class SourceUpdate:
    """The fields that a message changes, by name, and the event that lists them (None if nothing visible changed)."""

    changes: Mapping[str, object]
    event: NewEvent | None = None


@dataclass(frozen=True, slots=True)
class TicketAgent:
    """The ticket's assignee at the source: its text, and the user found by e-mail address, number or name."""

    text: str = ""
    user_id: int | None = None
    #: The user's own name; empty if none was found.
    user_name: str = ""

    @property
    def display_name(self) -> str:
        """The name to show."""
        return self.user_name or self.text

    @property
    def person(self) -> Person:
        """The agent as a parameter of a reason."""
        return Person(self.display_name, self.user_id)


def compare_fields(
    alert_id: int,
    current: Mapping[str, object],
    mapped: Mapping[str, object],
    actor: Actor,
    now: datetime,
    written_fields: Collection[str] = (),
) -> SourceUpdate:
    """Compares an alert's current fields with those of a message.

    Both are by field name, in the order in which changes are listed. A field that `mapped` lacks, or has as None (no
    value at its path), stays: a shorter message deletes nothing. Mappings (`tags`, `custom`) are compared by name and
    replaced as a whole. `written_fields` names fields whose value Tocsin itself wrote at the source; the event's
    `written_fields` lists those that changed, which are no person's action.
    """
    changes: dict[str, object] = {}
    field_changes: list[Reason] = []
    data: dict[str, object] = {}
    for name, new in mapped.items():
        old = current.get(name)
        if new is None:
            continue
        if isinstance(new, Mapping):
            merged = _merged(old, new)
            for part, (old_item, new_item) in _differences(old, merged).items():
                if part not in _UNLISTED_FIELDS:
                    field_changes.append(_field_change(part, old_item, new_item))
                data[f"{name}.{part}"] = [_cut(old_item), _cut(new_item)]
            if merged != (old or {}):
                changes[name] = merged
        elif new != old:
            changes[name] = new
            field_changes.append(_field_change(name, old, new))
            data[name] = [_cut(old), _cut(new)]
    if not field_changes:
        return SourceUpdate(changes)
    echoed = [name for name in data if _paired_column(name.rpartition(".")[2]) in written_fields]
    kind = reasons.SOURCE_CONFIRMED if len(echoed) == len(data) else reasons.SOURCE_CHANGED
    reason = kind(actor=actor.person, changes=joined(*field_changes))
    event_data: dict[str, object] = {"changes": data, **({"own": echoed} if echoed else {})}
    return SourceUpdate(
        changes, NewEvent(alert_id, EventKind.UPDATED, now, actor, reason, CommandChannel.INBOUND, event_data)
    )


def _paired_column(name: str) -> str:
    return _PAIRED_COLUMNS.get(name, name)


def apply_agent_change(
    state: AlertState, before: TicketAgent, after: TicketAgent, actor: Actor, now: datetime
) -> Transition:
    """Applies a change of the ticket's assignee to an active alert: assigns it to the new one, or makes it open again.

    `before` is the assignee in the previous message. If another user was assigned in Tocsin, they stay assigned when
    the source unassigns its own. The source is newer than any click, so nothing is rejected.
    """
    if state.status not in ACTIVE or before.text == after.text:
        return Transition(state, reasons.AGENT_UNCHANGED())
    if after.text:
        return _assign_agent(state, after, actor, now)
    if not state.is_owned:
        return Transition(state, reasons.NOT_ASSIGNED())
    was_owner = state.owner_id == before.user_id if before.user_id is not None else state.owner_name == before.text
    if not was_owner:
        return Transition(state, reasons.ASSIGNED_IN_TOCSIN(user=state.owner))
    reason = reasons.UNASSIGNED_AT_SOURCE(actor=actor.person, user=before.person)
    unassigned = replace(state, owner_id=None, owner_name="", acknowledged={}, reminded_user_ids=frozenset())
    if state.status is not AlertStatus.ON_HOLD:
        unassigned = replace(unassigned, status=AlertStatus.OPEN)
    return Transition(
        unassigned, reason, (NewEvent(state.id, EventKind.UNASSIGNED, now, actor, reason, CommandChannel.INBOUND, {}),)
    )


def _assign_agent(state: AlertState, agent: TicketAgent, actor: Actor, now: datetime) -> Transition:
    is_same = state.owner_id == agent.user_id if agent.user_id is not None else state.owner_name == agent.text
    if state.is_owned and is_same:
        return Transition(state, reasons.AGENT_ASSIGNED_ALREADY(user=agent.person))
    assigned = replace(state, owner_id=agent.user_id, owner_name=agent.display_name)
    if state.status is not AlertStatus.ON_HOLD:
        assigned = replace(assigned, status=AlertStatus.ASSIGNED)
    reason = describe_assignment(state, actor.person, agent.person)
    data: dict[str, object] = {"user_id": agent.user_id, "name": agent.display_name}
    return Transition(
        assigned, reason, (NewEvent(state.id, EventKind.ASSIGNED, now, actor, reason, CommandChannel.INBOUND, data),)
    )


def _merged(old: object, new: Mapping[str, object]) -> dict[str, object]:
    values = dict(old) if isinstance(old, Mapping) else {}
    return {**values, **{name: value for name, value in new.items() if value is not None}}


def _differences(old: object, merged: Mapping[str, object]) -> dict[str, tuple[object, object]]:
    old_values = old if isinstance(old, Mapping) else {}
    return {name: (old_values.get(name), value) for name, value in merged.items() if old_values.get(name) != value}


def _field_change(name: str, old: object, new: object) -> Reason:
    words = name.removeprefix("source_").replace("_", " ")
    field = reasons.FIELD_TERMS.get(words, words)
    if name in _LONG:
        return reasons.LONG_FIELD_CHANGED(field=field)
    if new in ("", [], {}):
        return reasons.FIELD_REMOVED(field=field)
    if old in (None, ""):
        return reasons.FIELD_SET(field=field, new=_shown(name, new))
    return reasons.FIELD_CHANGED(field=field, old=_shown(name, old), new=_shown(name, new))


def _shown(name: str, value: object) -> Term | str:
    text = _cut(value)
    return reasons.PRIORITY_TERMS[Priority(text)] if name == "priority" and text in set(Priority) else text


def _cut(value: object) -> str:
    text = "" if value is None else str(value)
    return text if len(text) <= _MAX_VALUE_CHARS else text[: _MAX_VALUE_CHARS - 1] + "…"
