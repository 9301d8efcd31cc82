"""Changes that a source's messages make to an active alert: its fields, and its assignee at the source. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from tocsin.alerts.commands import Actor, AlertState, NewEvent, Transition
from tocsin.alerts.states import ACTIVE, AlertStatus, CommandChannel, EventKind

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
    sentences: list[str] = []
    data: dict[str, object] = {}
    for name, new in mapped.items():
        old = current.get(name)
        if new is None:
            continue
        if isinstance(new, Mapping):
            merged = _merged(old, new)
            for part, (old_item, new_item) in _differences(old, merged).items():
                if part not in _UNLISTED_FIELDS:
                    sentences.append(_sentence(part, old_item, new_item))
                data[f"{name}.{part}"] = [_cut(old_item), _cut(new_item)]
            if merged != (old or {}):
                changes[name] = merged
        elif new != old:
            changes[name] = new
            sentences.append(_sentence(name, old, new))
            data[name] = [_cut(old), _cut(new)]
    if not sentences:
        return SourceUpdate(changes)
    echoed = [name for name in data if _paired_column(name.rpartition(".")[2]) in written_fields]
    verb = "has now what Tocsin wrote" if len(echoed) == len(data) else "changed it"
    reason = f"{actor.name} {verb}: {'; '.join(sentences)}."
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
        return Transition(state, "The agent did not change.")
    if after.text:
        return _assign_agent(state, after, actor, now)
    if not state.is_owned:
        return Transition(state, "Nobody has it.")
    was_owner = state.owner_id == before.user_id if before.user_id is not None else state.owner_name == before.text
    if not was_owner:
        return Transition(state, f"{state.owner_name} took it in Tocsin and keeps it.")
    reason = f"{actor.name} says that {before.display_name} has it no more: it is open, and escalation starts again."
    unassigned = replace(state, owner_id=None, owner_name="", acknowledged={}, reminded_user_ids=frozenset())
    if state.status is not AlertStatus.ON_HOLD:
        unassigned = replace(unassigned, status=AlertStatus.OPEN)
    return Transition(
        unassigned, reason, (NewEvent(state.id, EventKind.UNASSIGNED, now, actor, reason, CommandChannel.INBOUND, {}),)
    )


def _assign_agent(state: AlertState, agent: TicketAgent, actor: Actor, now: datetime) -> Transition:
    is_same = state.owner_id == agent.user_id if agent.user_id is not None else state.owner_name == agent.text
    if state.is_owned and is_same:
        return Transition(state, f"{agent.display_name} has it already.")
    assigned = replace(state, owner_id=agent.user_id, owner_name=agent.display_name)
    if state.status is not AlertStatus.ON_HOLD:
        assigned = replace(assigned, status=AlertStatus.ASSIGNED)
    reason = f"{actor.name} gave it to {agent.display_name}" + (
        f", from {state.owner_name}." if state.is_owned else "."
    )
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


def _sentence(name: str, old: object, new: object) -> str:
    words = name.removeprefix("source_").replace("_", " ")
    if name in _LONG:
        return f"{words} changed"
    if new in ("", [], {}):
        return f"{words} removed"
    return f"{words} {_cut(new)}" if old in (None, "") else f"{words} {_cut(old)} → {_cut(new)}"


def _cut(value: object) -> object:
    text = "" if value is None else str(value)
    return text if len(text) <= _MAX_VALUE_CHARS else text[: _MAX_VALUE_CHARS - 1] + "…"
