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
_UNTOLD = frozenset({"agent_id"})

#: Pairs of a custom field and a column that together express the source's urgency or assignee.
_WITH: Mapping[str, str] = {"severity": "source_priority", "agent_id": "source_agent"}

#: Maximum characters of a value in the timeline.
_SHOWN = 80


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
    def shown(self) -> str:
        """The name to show."""
        return self.user_name or self.text


def refresh(
    alert_id: int,
    current: Mapping[str, object],
    mapped: Mapping[str, object],
    actor: Actor,
    now: datetime,
    own: Collection[str] = (),
) -> SourceUpdate:
    """Compares an alert's current fields with those of a message.

    Both are by field name, in the order in which changes are listed. A field that `mapped` lacks, or has as None (no
    value at its path), stays: a shorter message deletes nothing. Mappings (`tags`, `custom`) are compared by name and
    replaced as a whole. `own` names fields whose value Tocsin itself wrote at the source; the event's `own` lists those
    that changed, which are no person's action.
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
            for part, (was, becomes) in _differences(old, merged).items():
                if part not in _UNTOLD:
                    sentences.append(_sentence(part, was, becomes))
                data[f"{name}.{part}"] = [_cut(was), _cut(becomes)]
            if merged != (old or {}):
                changes[name] = merged
        elif new != old:
            changes[name] = new
            sentences.append(_sentence(name, old, new))
            data[name] = [_cut(old), _cut(new)]
    if not sentences:
        return SourceUpdate(changes)
    owned = [name for name in data if _told_by(name.rpartition(".")[2]) in own]
    did = "has now what Tocsin wrote" if len(owned) == len(data) else "changed it"
    reason = f"{actor.name} {did}: {'; '.join(sentences)}."
    told: dict[str, object] = {"changes": data, **({"own": owned} if owned else {})}
    return SourceUpdate(
        changes, NewEvent(alert_id, EventKind.UPDATED, now, actor, reason, CommandChannel.INBOUND, told)
    )


def _told_by(name: str) -> str:
    return _WITH.get(name, name)


def agent_changed(
    state: AlertState, before: TicketAgent, after: TicketAgent, actor: Actor, now: datetime
) -> Transition:
    """Applies a change of the ticket's assignee to an active alert: assigns it to the new one, or makes it open again.

    `before` is the assignee in the previous message. If another user was assigned in Tocsin, they stay assigned when
    the source unassigns its own. The source is newer than any click, so nothing is rejected.
    """
    if state.status not in ACTIVE or before.text == after.text:
        return Transition(state, "The agent did not change.")
    if after.text:
        return _given(state, after, actor, now)
    if not state.is_owned:
        return Transition(state, "Nobody has it.")
    was_owner = state.owner_id == before.user_id if before.user_id is not None else state.owner_name == before.text
    if not was_owner:
        return Transition(state, f"{state.owner_name} took it in Tocsin and keeps it.")
    reason = f"{actor.name} says that {before.shown} has it no more: it is open, and escalation starts again."
    freed = replace(state, owner_id=None, owner_name="", acknowledged={}, asked=frozenset())
    if state.status is not AlertStatus.ON_HOLD:
        freed = replace(freed, status=AlertStatus.OPEN)
    return Transition(
        freed, reason, (NewEvent(state.id, EventKind.UNASSIGNED, now, actor, reason, CommandChannel.INBOUND, {}),)
    )


def _given(state: AlertState, agent: TicketAgent, actor: Actor, now: datetime) -> Transition:
    same = state.owner_id == agent.user_id if agent.user_id is not None else state.owner_name == agent.text
    if state.is_owned and same:
        return Transition(state, f"{agent.shown} has it already.")
    taken = replace(state, owner_id=agent.user_id, owner_name=agent.shown)
    if state.status is not AlertStatus.ON_HOLD:
        taken = replace(taken, status=AlertStatus.ASSIGNED)
    reason = f"{actor.name} gave it to {agent.shown}" + (f", from {state.owner_name}." if state.is_owned else ".")
    data: dict[str, object] = {"user_id": agent.user_id, "name": agent.shown}
    return Transition(
        taken, reason, (NewEvent(state.id, EventKind.ASSIGNED, now, actor, reason, CommandChannel.INBOUND, data),)
    )


def _merged(old: object, new: Mapping[str, object]) -> dict[str, object]:
    kept = dict(old) if isinstance(old, Mapping) else {}
    return {**kept, **{name: value for name, value in new.items() if value is not None}}


def _differences(old: object, merged: Mapping[str, object]) -> dict[str, tuple[object, object]]:
    was = old if isinstance(old, Mapping) else {}
    return {name: (was.get(name), value) for name, value in merged.items() if was.get(name) != value}


def _sentence(name: str, old: object, new: object) -> str:
    words = name.removeprefix("source_").replace("_", " ")
    if name in _LONG:
        return f"{words} changed"
    if new in ("", [], {}):
        return f"{words} removed"
    return f"{words} {_cut(new)}" if old in (None, "") else f"{words} {_cut(old)} → {_cut(new)}"


def _cut(value: object) -> object:
    text = "" if value is None else str(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
