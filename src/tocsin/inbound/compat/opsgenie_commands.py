"""The actions of Opsgenie's Alert API: the message stored for each, and the command run after it is stored."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Final, assert_never

from tocsin.core.errors import Rejected
from tocsin.inbound.compat import alert_commands
from tocsin.inbound.config.compiled_integration import CompiledIntegration
from tocsin.inbound.expressions.fields import moment, text_of


class OpsgenieAction(StrEnum):
    """The values of a stored message's `action`."""

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


#: Actions by method and last path segment.
WORDS: Final[Mapping[tuple[str, str], OpsgenieAction]] = {
    ("POST", "acknowledge"): OpsgenieAction.ACKNOWLEDGE,
    ("POST", "unacknowledge"): OpsgenieAction.UNACKNOWLEDGE,
    ("POST", "close"): OpsgenieAction.CLOSE,
    ("POST", "snooze"): OpsgenieAction.SNOOZE,
    ("POST", "escalate"): OpsgenieAction.ESCALATE,
    ("POST", "assign"): OpsgenieAction.ASSIGN,
    ("POST", "responders"): OpsgenieAction.RESPONDER,
    ("POST", "teams"): OpsgenieAction.TEAM,
    ("POST", "notes"): OpsgenieAction.NOTE,
    ("POST", "tags"): OpsgenieAction.TAGS,
    ("DELETE", "tags"): OpsgenieAction.TAGS,
    ("POST", "details"): OpsgenieAction.DETAILS,
    ("DELETE", "details"): OpsgenieAction.DETAILS,
    ("PUT", "message"): OpsgenieAction.UPDATE,
    ("PUT", "description"): OpsgenieAction.UPDATE,
    ("PUT", "priority"): OpsgenieAction.UPDATE,
    # Older spellings of the same endpoints.
    ("POST", "message"): OpsgenieAction.UPDATE,
    ("POST", "description"): OpsgenieAction.UPDATE,
    ("POST", "priority"): OpsgenieAction.UPDATE,
}

#: Actions that are carried out after the message is stored, on an alert that must be known by then.
AFTERWARDS: Final = frozenset(
    {
        OpsgenieAction.ACKNOWLEDGE,
        OpsgenieAction.UNACKNOWLEDGE,
        OpsgenieAction.SNOOZE,
        OpsgenieAction.ESCALATE,
        OpsgenieAction.ASSIGN,
        OpsgenieAction.NOTE,
        OpsgenieAction.RESPONDER,
        OpsgenieAction.TEAM,
        OpsgenieAction.ACTION,
    }
)

#: Actions that add to or remove from the alert's existing values.
TO_WHAT_THERE_IS: Final = frozenset({OpsgenieAction.TAGS, OpsgenieAction.DETAILS})

#: Opsgenie's action name and status text of a request that was carried out.
DONE: Final[Mapping[OpsgenieAction, tuple[str, str]]] = {
    OpsgenieAction.CREATE: ("Create", "Created alert"),
    OpsgenieAction.CLOSE: ("Close", "Closed alert"),
    OpsgenieAction.DELETE: ("Delete", "Deleted alert"),
    OpsgenieAction.ACKNOWLEDGE: ("Acknowledge", "Acknowledged alert"),
    OpsgenieAction.UNACKNOWLEDGE: ("UnAcknowledge", "UnAcknowledged alert"),
    OpsgenieAction.SNOOZE: ("Snooze", "Snoozed alert"),
    OpsgenieAction.ESCALATE: ("EscalateToNext", "Escalated alert"),
    OpsgenieAction.ASSIGN: ("Assign", "Assigned ownership"),
    OpsgenieAction.NOTE: ("AddNote", "Added note"),
    OpsgenieAction.RESPONDER: ("AddResponder", "Added responder"),
    OpsgenieAction.TEAM: ("AddTeam", "Added team"),
    OpsgenieAction.UPDATE: ("Update", "Updated alert"),
    OpsgenieAction.TAGS: ("AddTags", "Added tags"),
    OpsgenieAction.DETAILS: ("AddDetails", "Added details"),
    OpsgenieAction.ACTION: ("CustomAction", "Executed custom action"),
}


def message(verb: OpsgenieAction, given: Mapping[str, object]) -> dict[str, object]:
    """Returns the message to store for a request. Raises Rejected with the unusable field."""
    payload = {**given, "action": verb.value}
    match verb:
        case OpsgenieAction.CREATE:
            if not _text(given.get("message")):
                raise Rejected("invalid_request", "Message can not be empty.", "message")
        case OpsgenieAction.SNOOZE:
            if moment(given.get("endTime")) is None:
                raise Rejected("invalid_request", "End time can not be empty.", "endTime")
        case OpsgenieAction.ASSIGN:
            if not _name(given.get("owner")):
                raise Rejected("invalid_request", "Owner can not be empty.", "owner")
        case OpsgenieAction.NOTE:
            if not _text(given.get("note")):
                raise Rejected("invalid_request", "Note can not be empty.", "note")
        case _:
            pass
    return payload


def merge_with_alert(
    payload: Mapping[str, object], labels: list[str], details: Mapping[str, str], *, is_removal: bool
) -> dict[str, object]:
    """Returns the message with the alert's resulting tags or details. Removing the last of them has no effect."""
    whole = dict(payload)
    if payload["action"] == OpsgenieAction.TAGS:
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
    """Returns a list of texts; a string is split at commas, as in query parameters."""
    found = value.split(",") if isinstance(value, str) else value if isinstance(value, list) else []
    return [text for one in found if (text := _text(one))]


def apply_verb(
    door: CompiledIntegration, verb: OpsgenieAction, alert_id: int, payload: Mapping[str, object], now: datetime
) -> None:
    """Runs the command for what the message itself does not do to the alert."""
    by, note = _text(payload.get("user")), _text(payload.get("note"))
    match verb:
        case OpsgenieAction.ACKNOWLEDGE:
            alert_commands.acknowledge(door, alert_id, by, note, now)
        case OpsgenieAction.UNACKNOWLEDGE:
            alert_commands.unacknowledge(door, alert_id, by, note, now)
        case OpsgenieAction.SNOOZE:
            until = moment(payload.get("endTime"))
            assert until is not None
            alert_commands.snooze(door, alert_id, until, by, note, now)
        case OpsgenieAction.ESCALATE:
            alert_commands.escalate(door, alert_id, by, note, now)
        case OpsgenieAction.ASSIGN:
            alert_commands.assign(door, alert_id, _name(payload.get("owner")), by, note, now)
        case OpsgenieAction.RESPONDER | OpsgenieAction.TEAM:
            wanted = _name(payload.get("responder") or payload.get("team"))
            text = (
                f"Asked for {wanted or 'somebody'} as well: whom an alert notifies is its escalation policy's choice."
            )
            alert_commands.add_note(door, alert_id, f"{text} {note}".strip(), by, now)
        case OpsgenieAction.ACTION:
            text = f"Asked for the action “{_text(payload.get('name'))}”, which is not carried out here. {note}"
            alert_commands.add_note(door, alert_id, text, by, now)
        case (
            OpsgenieAction.NOTE
            | OpsgenieAction.CREATE
            | OpsgenieAction.CLOSE
            | OpsgenieAction.UPDATE
            | OpsgenieAction.TAGS
            | OpsgenieAction.DETAILS
            | OpsgenieAction.DELETE
        ):
            alert_commands.add_note(door, alert_id, note, by, now)
        case _:
            assert_never(verb)


def _text(value: object) -> str:
    return (text_of(value) or "").strip() if isinstance(value, str | int | float) else ""


def _name(value: object) -> str:
    """Returns the name in `{username}`, `{name}` or `{id}`."""
    if not isinstance(value, Mapping):
        return ""
    return next((name for key in ("username", "name", "id") if (name := _text(value.get(key)))), "")
