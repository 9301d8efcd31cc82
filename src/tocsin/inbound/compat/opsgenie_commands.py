"""The verbs of Opsgenie's Alert API: the message that each is kept as, and what is done once it is stored."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Final, assert_never

from tocsin.core.errors import Rejected
from tocsin.inbound.compat import alert_commands
from tocsin.inbound.config.compiled_integration import Door
from tocsin.inbound.expressions.fields import moment, text_of


class Verb(StrEnum):
    """As they stand in a message's `action`."""

    CREATE = "create"
    CLOSE = "close"
    DELETE = "delete"
    ACKNOWLEDGE = "acknowledge"
    UNACKNOWLEDGE = "unacknowledge"
    SNOOZE = "snooze"
    ESCALATE = "escalate"
    ASSIGN = "assign"
    NOTE = "note"
    RESPONDER = "responder"
    TEAM = "team"
    UPDATE = "update"
    TAGS = "tags"
    DETAILS = "details"
    ACTION = "action"


#: By method and the path's last word.
WORDS: Final[Mapping[tuple[str, str], Verb]] = {
    ("POST", "acknowledge"): Verb.ACKNOWLEDGE,
    ("POST", "unacknowledge"): Verb.UNACKNOWLEDGE,
    ("POST", "close"): Verb.CLOSE,
    ("POST", "snooze"): Verb.SNOOZE,
    ("POST", "escalate"): Verb.ESCALATE,
    ("POST", "assign"): Verb.ASSIGN,
    ("POST", "responders"): Verb.RESPONDER,
    ("POST", "teams"): Verb.TEAM,
    ("POST", "notes"): Verb.NOTE,
    ("POST", "tags"): Verb.TAGS,
    ("DELETE", "tags"): Verb.TAGS,
    ("POST", "details"): Verb.DETAILS,
    ("DELETE", "details"): Verb.DETAILS,
    ("PUT", "message"): Verb.UPDATE,
    ("PUT", "description"): Verb.UPDATE,
    ("PUT", "priority"): Verb.UPDATE,
    # The same by the older names.
    ("POST", "message"): Verb.UPDATE,
    ("POST", "description"): Verb.UPDATE,
    ("POST", "priority"): Verb.UPDATE,
}

#: Verbs whose effect comes after the message, on an alert that must be known then.
AFTERWARDS: Final = frozenset(
    {
        Verb.ACKNOWLEDGE,
        Verb.UNACKNOWLEDGE,
        Verb.SNOOZE,
        Verb.ESCALATE,
        Verb.ASSIGN,
        Verb.NOTE,
        Verb.RESPONDER,
        Verb.TEAM,
        Verb.ACTION,
    }
)

#: Verbs that add to what an alert has already, or take from it.
TO_WHAT_THERE_IS: Final = frozenset({Verb.TAGS, Verb.DETAILS})

#: What the vendor says of a request that was carried out.
DONE: Final[Mapping[Verb, tuple[str, str]]] = {
    Verb.CREATE: ("Create", "Created alert"),
    Verb.CLOSE: ("Close", "Closed alert"),
    Verb.DELETE: ("Delete", "Deleted alert"),
    Verb.ACKNOWLEDGE: ("Acknowledge", "Acknowledged alert"),
    Verb.UNACKNOWLEDGE: ("UnAcknowledge", "UnAcknowledged alert"),
    Verb.SNOOZE: ("Snooze", "Snoozed alert"),
    Verb.ESCALATE: ("EscalateToNext", "Escalated alert"),
    Verb.ASSIGN: ("Assign", "Assigned ownership"),
    Verb.NOTE: ("AddNote", "Added note"),
    Verb.RESPONDER: ("AddResponder", "Added responder"),
    Verb.TEAM: ("AddTeam", "Added team"),
    Verb.UPDATE: ("Update", "Updated alert"),
    Verb.TAGS: ("AddTags", "Added tags"),
    Verb.DETAILS: ("AddDetails", "Added details"),
    Verb.ACTION: ("CustomAction", "Executed custom action"),
}


def message(verb: Verb, given: Mapping[str, object]) -> dict[str, object]:
    """The message that a request is kept as. Raises Rejected, whose field is the one that cannot be used."""
    payload = {**given, "action": verb.value}
    match verb:
        case Verb.CREATE:
            if not _text(given.get("message")):
                raise Rejected("invalid_request", "Message can not be empty.", "message")
        case Verb.SNOOZE:
            if moment(given.get("endTime")) is None:
                raise Rejected("invalid_request", "End time can not be empty.", "endTime")
        case Verb.ASSIGN:
            if not _name(given.get("owner")):
                raise Rejected("invalid_request", "Owner can not be empty.", "owner")
        case Verb.NOTE:
            if not _text(given.get("note")):
                raise Rejected("invalid_request", "Note can not be empty.", "note")
        case _:
            pass
    return payload


def with_what_there_is(
    payload: Mapping[str, object], labels: list[str], details: Mapping[str, str], *, is_removal: bool
) -> dict[str, object]:
    """The message with the alert's tags or details as they are afterwards. The last of them cannot be taken away."""
    whole = dict(payload)
    if payload["action"] == Verb.TAGS:
        named = _listed(payload.get("tags"))
        left = [one for one in labels if one not in named]
        whole["tags"] = left if is_removal else list(dict.fromkeys([*labels, *named]))
    elif is_removal:
        gone = _listed(payload.get("keys"))
        whole["details"] = {name: value for name, value in details.items() if name not in gone}
    else:
        given = payload.get("details")
        whole["details"] = {**details, **given} if isinstance(given, Mapping) else dict(details)
    return whole


def _listed(value: object) -> list[str]:
    """A list of texts, or a text with commas, as queries have it."""
    found = value.split(",") if isinstance(value, str) else value if isinstance(value, list) else []
    return [text for one in found if (text := _text(one))]


def carry_out(door: Door, verb: Verb, alert_id: int, payload: Mapping[str, object], now: datetime) -> None:
    """Does to the alert what its message does not do by itself."""
    by, note = _text(payload.get("user")), _text(payload.get("note"))
    match verb:
        case Verb.ACKNOWLEDGE:
            alert_commands.acknowledge(door, alert_id, by, note, now)
        case Verb.UNACKNOWLEDGE:
            alert_commands.unacknowledge(door, alert_id, by, note, now)
        case Verb.SNOOZE:
            until = moment(payload.get("endTime"))
            assert until is not None
            alert_commands.snooze(door, alert_id, until, by, note, now)
        case Verb.ESCALATE:
            alert_commands.escalate(door, alert_id, by, note, now)
        case Verb.ASSIGN:
            alert_commands.assign(door, alert_id, _name(payload.get("owner")), by, note, now)
        case Verb.RESPONDER | Verb.TEAM:
            wanted = _name(payload.get("responder") or payload.get("team"))
            text = (
                f"Asked for {wanted or 'somebody'} as well: whom an alert notifies is its escalation policy's choice."
            )
            alert_commands.add_note(door, alert_id, f"{text} {note}".strip(), by, now)
        case Verb.ACTION:
            text = f"Asked for the action “{_text(payload.get('name'))}”, which is not carried out here. {note}"
            alert_commands.add_note(door, alert_id, text, by, now)
        case Verb.NOTE | Verb.CREATE | Verb.CLOSE | Verb.UPDATE | Verb.TAGS | Verb.DETAILS | Verb.DELETE:
            alert_commands.add_note(door, alert_id, note, by, now)
        case _:
            assert_never(verb)


def _text(value: object) -> str:
    return (text_of(value) or "").strip() if isinstance(value, str | int | float) else ""


def _name(value: object) -> str:
    """The name of `{username}`, `{name}` or `{id}`."""
    if not isinstance(value, Mapping):
        return ""
    return next((name for key in ("username", "name", "id") if (name := _text(value.get(key)))), "")
