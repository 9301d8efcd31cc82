"""The actions of Opsgenie's Alert API: the message stored for each, and the command run after it is stored."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Final, assert_never

from tocsin.alerts.service import FoundAlert
from tocsin.core.errors import Rejected
from tocsin.core.reasons import ReasonType
from tocsin.inbound.compat import alert_commands
from tocsin.inbound.config.compiled_integration import CompiledIntegration
from tocsin.inbound.expressions.fields import parse_moment, text_of

#: In Opsgenie's own words, which its clients show.
_CANNOT_BE_EMPTY = ReasonType("opsgenie.field_required", "{field} can not be empty.")


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
ACTIONS_BY_PATH: Final[Mapping[tuple[str, str], OpsgenieAction]] = {
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
COMMAND_ACTIONS: Final = frozenset(
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
MERGED_ACTIONS: Final = frozenset({OpsgenieAction.TAGS, OpsgenieAction.DETAILS})

#: Opsgenie's action name and status text of a request that was carried out.
COMPLETED_TEXTS: Final[Mapping[OpsgenieAction, tuple[str, str]]] = {
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


def message_payload(verb: OpsgenieAction, fields: Mapping[str, object]) -> dict[str, object]:
    """Returns the message to store for a request. Raises Rejected with the unusable field."""
    payload = {**fields, "action": verb.value}
    match verb:
        case OpsgenieAction.CREATE:
            if not _text(fields.get("message")):
                raise Rejected("invalid_request", _CANNOT_BE_EMPTY(field="Message"), "message")
        case OpsgenieAction.SNOOZE:
            if parse_moment(fields.get("endTime")) is None:
                raise Rejected("invalid_request", _CANNOT_BE_EMPTY(field="End time"), "endTime")
        case OpsgenieAction.ASSIGN:
            if not _name(fields.get("owner")):
                raise Rejected("invalid_request", _CANNOT_BE_EMPTY(field="Owner"), "owner")
        case OpsgenieAction.NOTE:
            if not _text(fields.get("note")):
                raise Rejected("invalid_request", _CANNOT_BE_EMPTY(field="Note"), "note")
        case _:
            pass
    return payload


def merge_with_alert(
    payload: Mapping[str, object], labels: list[str], details: Mapping[str, str], *, is_removal: bool
) -> dict[str, object]:
    """Returns the message with the alert's resulting tags or details. Removing the last of them has no effect."""
    merged = dict(payload)
    if payload["action"] == OpsgenieAction.TAGS:
        tags = _text_list(payload.get("tags"))
        remaining_tags = [label for label in labels if label not in tags]
        merged["tags"] = remaining_tags if is_removal else list(dict.fromkeys([*labels, *tags]))
    elif is_removal:
        removed_keys = _text_list(payload.get("keys"))
        merged["details"] = {name: value for name, value in details.items() if name not in removed_keys}
    else:
        new_details = payload.get("details")
        merged["details"] = {**details, **new_details} if isinstance(new_details, Mapping) else dict(details)
    return merged


def _text_list(value: object) -> list[str]:
    """Returns a list of texts; a string is split at commas, as in query parameters."""
    items = value.split(",") if isinstance(value, str) else value if isinstance(value, list) else []
    return [text for item in items if (text := _text(item))]


def apply_verb(
    integration: CompiledIntegration,
    verb: OpsgenieAction,
    alert: FoundAlert,
    payload: Mapping[str, object],
    now: datetime,
) -> None:
    """Runs the command for what the message itself does not do to the alert."""
    user_name, note = _text(payload.get("user")), _text(payload.get("note"))
    match verb:
        case OpsgenieAction.ACKNOWLEDGE:
            alert_commands.acknowledge(integration, alert, user_name, note, now)
        case OpsgenieAction.UNACKNOWLEDGE:
            alert_commands.unacknowledge(integration, alert, user_name, note, now)
        case OpsgenieAction.SNOOZE:
            until = parse_moment(payload.get("endTime"))
            assert until is not None
            alert_commands.snooze(integration, alert, until, user_name, note, now)
        case OpsgenieAction.ESCALATE:
            alert_commands.escalate(integration, alert, user_name, note, now)
        case OpsgenieAction.ASSIGN:
            alert_commands.assign(integration, alert, _name(payload.get("owner")), user_name, note, now)
        case OpsgenieAction.RESPONDER | OpsgenieAction.TEAM:
            responder = _name(payload.get("responder") or payload.get("team"))
            text = (
                f"Asked for {responder or 'somebody'} as well: whom an alert notifies is its escalation "
                "policy's choice."
            )
            alert_commands.add_note(integration, alert, f"{text} {note}".strip(), user_name, now)
        case OpsgenieAction.ACTION:
            text = f"Asked for the action “{_text(payload.get('name'))}”, which is not carried out here. {note}"
            alert_commands.add_note(integration, alert, text, user_name, now)
        case (
            OpsgenieAction.NOTE
            | OpsgenieAction.CREATE
            | OpsgenieAction.CLOSE
            | OpsgenieAction.UPDATE
            | OpsgenieAction.TAGS
            | OpsgenieAction.DETAILS
            | OpsgenieAction.DELETE
        ):
            alert_commands.add_note(integration, alert, note, user_name, now)
        case _:
            assert_never(verb)


def _text(value: object) -> str:
    return (text_of(value) or "").strip() if isinstance(value, str | int | float) else ""


def _name(value: object) -> str:
    """Returns the name in `{username}`, `{name}` or `{id}`."""
    if not isinstance(value, Mapping):
        return ""
    return next((name for key in ("username", "name", "id") if (name := _text(value.get(key)))), "")
