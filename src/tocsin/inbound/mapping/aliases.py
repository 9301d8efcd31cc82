"""The names that tools share for the fields of a message, whatever their spelling, for messages in which a kind's own
paths do not find an id, a status or a subject. A kind's own names win. Pure.

`alert_id`, `alertId`, `Alert-ID` and `ALERT ID` are one name. A name is looked for at the top, and in the objects that
tools wrap a message in.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import chain
from typing import Final

import msgspec

from tocsin.inbound.expressions.fields import CLEANERS, FIELDS, TAG_LENGTH, Value, clean_line, text_of
from tocsin.inbound.expressions.mapped import MappedFields
from tocsin.inbound.mapping.status_words import StatusMeaning, meaning_of, without_status

_HOST: Final = "component_name"
#: What aliases find before the rules decide; texts follow for a message that opens.
_DECIDING: Final = ("source_status", "event", "severity", "source_url", "source_id")

#: The names of a status itself; those of an event may mean the same in a message from a monitoring tool.
_STATUSES: Final = (
    "status", "state", "alert_status", "alert_state", "incident_status", "incident_state", "event_status",
    "event_state", "current_status", "current_state", "new_status", "new_state", "check_status", "check_state",
    "monitor_status", "monitor_state", "trigger_status", "problem_status", "build_status", "job_status",
)  # fmt: skip

#: By field, the names in order of likelihood.
ALIASES: Final[Mapping[str, tuple[str, ...]]] = {
    "source_id": (
        "dedup_key", "deduplication_key", "incident_key", "alert_key", "problem_key", "event_key", "alert_id",
        "incident_id", "problem_id", "issue_id", "alarm_id", "case_id", "ticket_id", "event_object_id",
        "alert_cycle_key", "fingerprint", "alias", "group_key", "correlation_id", "trigger_id", "rule_id", "monitor_id",
        "check_id", "entity_id", "entity_display_name", "uuid", "guid", "id", "event_id", "key", "token", "identifier",
    ),
    "source_status": (
        *_STATUSES,
        "alert_transition", "transition", "event_action", "event_type", "message_type", "notification_type",
        "alert_type", "action", "result", "outcome", "conclusion", "health", "condition", "type", "event", "event_name",
    ),
    "subject": (
        "subject", "title", "summary", "headline", "alert_title", "event_title", "incident_title", "issue_title",
        "event_definition_title", "alert_name", "alertname", "rule_name", "monitor_name", "check_name", "alarm_name",
        "incident_name", "problem_name", "policy_name", "condition_name", "trigger_name", "service_name", "job_name",
        "project_name", "display_name", "entity_display_name", "name", "short_description", "alert_message",
        "state_message", "message", "text", "description", "reason", "msg", "body", "content", "error",
    ),
    "event": (
        "event", "event_type", "event_name", "triggered_event", "webhook_event", "event_action", "trigger", "action",
        "type",
    ),
    "severity": (
        "severity", "priority", "alert_severity", "alert_priority", "event_severity", "severity_level", "urgency",
        "level", "alert_level", "impact", "criticality", "importance",
    ),
    "source_url": (
        "source_url", "html_url", "alert_url", "incident_url", "issue_url", "event_url", "monitor_url", "web_url",
        "dashboard_url", "permalink", "shortlink", "short_link", "link", "href", "url", "client_url", "details_url",
        "uri",
    ),
    "component_name": (
        "host", "hostname", "host_name", "node", "node_name", "server", "server_name", "instance", "device",
        "device_name", "machine", "resource", "resource_name", "component", "entity", "source_host", "target",
    ),
}  # fmt: skip

#: The names of what is monitored: the same in a failure and its recovery.
_MONITORED: Final = (
    "monitorname", "checkname", "rulename", "alertname", "alarmname", "conditionname", "jobname", "job", "taskname",
    "servicename", "service", "check", "monitor", "projectname", "project", "pipeline", "workflow", "buildtype",
)  # fmt: skip

#: Objects that a message is wrapped in, from the outside in.
_WRAPPERS: Final = frozenset({
    "data", "alert", "alerts", "event", "incident", "issue", "payload", "monitor", "check", "problem", "alarm",
    "ticket", "item", "message", "body", "content", "detail", "details", "notification", "object", "record", "build",
    "run", "job", "attributes", "essentials", "component",
})  # fmt: skip
_MAX_DEPTH: Final = 4
_MAX_WRAPPERS: Final = 50

#: A true one means that it is over; a false one, that it began.
_OVER_FLAGS: Final = ("resolved", "is_resolved", "recovered", "closed", "is_closed", "ok", "is_ok", "success",
                      "passed", "healthy", "is_up", "up", "is_healthy")  # fmt: skip
_BEGAN_FLAGS: Final = ("firing", "is_firing", "failed", "is_failed", "down", "is_down", "triggered", "is_active",
                       "has_failures", "failing")  # fmt: skip

#: A template's placeholder that the sender did not fill in.
_PLACEHOLDER: Final = re.compile(r"\s*(\{+\s*[\w.:$#]+\s*\}+|\$\{?[\w.:]+\}?\$?|%[\w.]+%|<%.*%>|##\w+##)\s*$")

_MAX_TEXT_LINES: Final = 200
_MAX_TEXT_CHARS: Final = 20_000


def fold(name: str) -> str:
    """Returns a name without case, underscores, hyphens and spaces."""
    return re.sub(r"[\W_]+", "", name).casefold()


_FOLDED: Final = {field: tuple(dict.fromkeys(map(fold, names))) for field, names in ALIASES.items()}
#: Ids that name one delivery where an inner object has an id too.
_INNERMOST_FIRST: Final = frozenset({"id", "key", "uuid", "guid", "token", "identifier"})
_FOLDED_STATUSES: Final = tuple(map(fold, _STATUSES))
#: Of a ticket, a bare id may be that of the delivery, the agent or the note, and an event is no status.
_OF_TICKETS: Final[Mapping[str, tuple[str, ...]]] = {
    "source_id": tuple(name for name in _FOLDED["source_id"] if name not in _INNERMOST_FIRST | {"eventid", "alias"}),
    "source_status": _FOLDED_STATUSES,
}

type _Object = Mapping[str, object]


def complete(
    mapped: MappedFields,
    payload: object,
    fields: Collection[str],
    priority_of: Callable[[str], str | None],
    *,
    is_ticket: bool,
) -> MappedFields:
    """Returns the mapped fields, with those of `fields` that have no value completed by aliases, except texts.
    `priority_of` translates a severity. Of a ticket, only names that are a ticket's are ids."""
    if not isinstance(payload, Mapping):
        return mapped
    levels = [_folded(level) for level in _levels(payload)]
    values = dict(mapped.values)
    for name in _DECIDING:
        if name in fields and name not in values and (name != "event" or is_ticket):
            names = _FOLDED[name] if not is_ticket else _OF_TICKETS.get(name, _FOLDED[name])
            _fill(values, name, _find_status(levels, names) if name == "source_status" else _find_any(levels, names))
    severity = values.get("severity")
    if "priority" in fields and "priority" not in values and isinstance(severity, str):
        values.update({"priority": priority} if (priority := priority_of(severity)) else {})
    tags = mapped.tags
    host = next(filter(None, (clean_line(c, TAG_LENGTH) for c in _find_any(levels, _FOLDED[_HOST]))), None)
    if host is not None and _HOST not in tags and _HOST in fields:
        tags = {**tags, _HOST: host}
    return MappedFields(values, tags, mapped.custom, mapped.notes)


def with_texts(mapped: MappedFields, payload: object, fields: Collection[str]) -> MappedFields:
    """Returns the fields of a message that opens, with a subject by likelihood and a long text: if it has none, or only
    the subject again, the whole message in a readable form."""
    if not isinstance(payload, Mapping):
        return mapped
    levels = [_folded(level) for level in _levels(payload)]
    values = dict(mapped.values)
    if "subject" in fields and "subject" not in values:
        _fill(values, "subject", chain(_find_any(levels, _FOLDED["subject"]), _sentences(payload)))
    long_text = values.get("long_text", values.get("details"))
    if "long_text" in fields and (long_text is None or long_text == values.get("subject")):
        values.pop("long_text", None)
        _fill(values, "long_text", iter((readable(payload),)))
    return MappedFields(values, mapped.tags, mapped.custom, mapped.notes)


def with_likely_id(mapped: MappedFields, payload: object, fields: Collection[str]) -> MappedFields:
    """Returns the fields with an id by likelihood if they have none: what a failure and its recovery have in common,
    the name of what is monitored or the subject without its status, and the host. None for a message without a status,
    which no other message ends."""
    status = mapped.text("source_status")
    if "source_id" in mapped.values or "source_id" not in fields or status is None or meaning_of(status) is None:
        return mapped
    if not isinstance(payload, Mapping):
        return mapped
    levels = [_folded(level) for level in _levels(payload)]
    titles = chain(_find_any(levels, _MONITORED), (mapped.text("subject"),), _find_any(levels, _FOLDED["subject"]))
    title = next((text for candidate in titles if (text := clean_line(candidate, 300))), "")
    key = " ".join(filter(None, (without_status(title), mapped.tags.get(_HOST, "").casefold())))
    return (
        MappedFields({**mapped.values, "source_id": key[:200]}, mapped.tags, mapped.custom, mapped.notes)
        if key
        else mapped
    )


def _fill(values: dict[str, Value], name: str, candidates: Iterator[object]) -> None:
    """Fills a field with the first candidate that has a value when cleaned: no placeholder, and no id of a delivery."""
    field, delivery_id = FIELDS[name], values.get("delivery_id")
    for candidate in candidates:
        if isinstance(candidate, str) and _PLACEHOLDER.match(candidate):
            continue
        if name == "source_id" and delivery_id is not None and text_of(candidate) == delivery_id:
            continue
        if (value := CLEANERS[field.kind](candidate, field.length)) is not None:
            values[name] = value
            return


def _levels(payload: _Object) -> Iterator[_Object]:
    """Yields the message and the objects that it is wrapped in, from the outside in."""
    level: list[_Object] = [payload]
    count = 0
    for depth in range(_MAX_DEPTH):
        yield from level
        inner: list[_Object] = []
        for parent in level:
            is_alone = len(parent) == 1
            for name, value in parent.items():
                child = _object_in(value)
                if child is not None and (is_alone or fold(name) in _WRAPPERS) and count < _MAX_WRAPPERS:
                    count += 1
                    inner.append(child)
        if not inner or depth == _MAX_DEPTH - 1:
            return
        level = inner


def _object_in(value: object) -> _Object | None:
    if isinstance(value, Mapping):
        return value
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], Mapping):
        return value[0]
    if isinstance(value, str) and value[:1] == "{" and value[-1:] == "}":
        try:
            decoded = msgspec.json.decode(value)
        except (msgspec.DecodeError, RecursionError):
            return None
        return decoded if isinstance(decoded, Mapping) else None
    return None


def _folded(level: _Object) -> dict[str, object]:
    """Returns the plain values of an object by folded name, and those of a named object in it: `{"severity": {"name":
    "high"}}`."""
    found: dict[str, object] = {}
    for name, value in level.items():
        plain = value
        if isinstance(value, Mapping):
            plain = next((value[key] for key in ("name", "value", "display_value", "label") if key in value), None)
        if isinstance(plain, str | int | float) and plain != "":
            found.setdefault(fold(name), plain)
    return found


def _find_any(levels: list[dict[str, object]], names: tuple[str, ...]) -> Iterator[object]:
    for name in names:
        for level in reversed(levels) if name in _INNERMOST_FIRST else levels:
            value = level.get(name)
            if value is not None and type(value) is not bool:
                yield value


def _find_status(levels: list[dict[str, object]], names: tuple[str, ...]) -> Iterator[object]:
    """Yields statuses: first those of a known meaning, then flags, then any other that is named a status."""
    candidates = [value for value in _find_any(levels, names) if isinstance(value, str)]
    meanings = [(value, meaning_of(value)) for value in candidates]
    yield from (value for value, meaning in meanings if meaning in (StatusMeaning.OPEN, StatusMeaning.CLOSE))
    for level in levels:
        for flags, true_word, false_word in ((_OVER_FLAGS, "resolved", "open"), (_BEGAN_FLAGS, "open", "resolved")):
            for flag in flags:
                if isinstance(value := level.get(fold(flag)), bool):
                    yield true_word if value else false_word
    yield from (value for value, meaning in meanings if meaning is StatusMeaning.UPDATE)
    yield from _find_any(levels, _FOLDED_STATUSES)


def _sentences(payload: _Object) -> Iterator[str]:
    """Yields what may be a title where no name says so: the texts of several words, then any line."""
    lines = readable(payload).splitlines()
    texts = [line.partition(": ")[2] for line in lines]
    yield from (text for text in texts if " " in text and not text[:1].isdigit())
    yield from lines


def readable(payload: object) -> str:
    """Returns a message as lines of `name: value`, for people."""
    lines: list[str] = []
    _write(payload, "", lines)
    return "\n".join(lines[:_MAX_TEXT_LINES])[:_MAX_TEXT_CHARS]


def _write(value: object, name: str, lines: list[str]) -> None:
    if len(lines) >= _MAX_TEXT_LINES:
        return
    if isinstance(value, Mapping):
        for key, inner in value.items():
            _write(inner, f"{name}.{key}" if name else str(key), lines)
    elif isinstance(value, list) and any(isinstance(item, Mapping | list) for item in value):
        for number, item in enumerate(value, 1):
            _write(item, f"{name}.{number}", lines)
    elif (text := text_of(value)) is not None:
        lines.append(f"{name}: {text[:2000]}" if name else text[:2000])
