"""The names that tools share for the fields of a message, whatever their spelling, for messages in which a kind's own
paths do not find an id, a status or a subject. A kind's own names win. Pure.

A name is looked for at the top, and in the objects that tools wrap a message in (`message_objects`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import chain
from typing import Final

from tocsin.inbound.expressions.fields import CLEANERS, FIELDS, TAG_LENGTH, Value, clean_line, text_of
from tocsin.inbound.expressions.mapped import MappedFields
from tocsin.inbound.mapping.message_objects import FORMER, MessageObjects, fold
from tocsin.inbound.mapping.status_words import (
    StatusMeaning,
    ends_with_status,
    is_completion,
    is_failure,
    meaning_of,
    status_in_title,
    without_status,
)

_HOST: Final = "component_name"
#: What aliases find before the rules decide; texts follow for a message that opens.
_DECIDING: Final = ("source_status", "event", "severity", "source_url", "source_id")

#: The names of a status itself; those of an event may mean the same in a message from a monitoring tool.
_STATUSES: Final = (
    "status", "state", "alert_status", "alert_state", "incident_status", "incident_state", "event_status",
    "event_state", "current_status", "current_state", "new_status", "new_state", "check_status", "check_state",
    "monitor_status", "monitor_state", "trigger_status", "problem_status", "build_status", "job_status", "run_status",
    "resolution_state", "monitor_condition", "check_state_name", "alert_type_friendly_name", "phase",
)  # fmt: skip

#: By field, the names in order of likelihood.
ALIASES: Final[Mapping[str, tuple[str, ...]]] = {
    "source_id": (
        "dedup_key", "deduplication_key", "dedupe_key", "dedup", "idempotency_key", "unique_key", "message_key",
        "external_id", "incident_identifier", "incident_key", "alert_key", "problem_key", "event_key", "alert_id",
        "incident_id", "problem_id", "issue_id", "alarm_id", "case_id", "ticket_id", "event_object_id",
        "alert_cycle_key", "fingerprint", "alias", "group_key", "correlation_id", "trigger_id", "rule_id",
        "monitor_id", "check_id", "sensor_id", "watch_id", "signal_id", "probe_id", "test_id", "episode_id",
        "condition_id", "entity_id", "entity_display_name", "uuid", "guid", "id", "event_id", "key", "token",
        "identifier",
    ),
    "source_status": (
        *_STATUSES,
        "alert_transition", "transition", "event_action", "event_type", "message_type", "notification_type",
        "alert_type", "action", "result", "outcome", "conclusion", "health", "condition", "type", "event", "event_name",
        "reason",
    ),
    "subject": (
        "subject", "title", "summary", "headline", "alert_title", "event_title", "incident_title", "issue_title",
        "event_definition_title", "alert_name", "alertname", "rule_name", "monitor_name", "check_name", "alarm_name",
        "incident_name", "problem_name", "policy_name", "condition_name", "trigger_name", "service_name", "job_name",
        "project_name", "display_name", "entity_display_name", "short_description", "name", "alert_message",
        "state_message", "service_output", "message", "activity_title", "text", "description", "reason", "msg",
        "body", "content", "human_readable", "output", "error", "error_message", "fallback",
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
        "device_name", "machine",
        "hostname_and_port", "endpoint", "resource", "resource_name", "component", "entity", "source_host", "target",
    ),
}  # fmt: skip

#: The names of what is monitored: the same in a failure and its recovery.
_MONITORED: Final = (
    "monitorname", "checkname", "rulename", "alertname", "alarmname", "conditionname", "jobname", "job", "taskname",
    "servicename", "service", "servicedesc", "sensor", "check", "monitor", "projectname", "project", "pipeline",
    "workflow", "buildtype", "involvedobject", "app", "application",
)  # fmt: skip
#: Names that say in a title what it is about; several problems may have one.
_SUBJECTS: Final = (*_MONITORED, "savedsearch", "rule", "exception", "context", "repository")
_MONITORED_NAME: Final = re.compile(
    r"(?!\w*run)(monitor|check|sensor|service|site|test|probe|task|flow|job|pipeline|workflow|builder)\w*name"
)
#: Any other name of an id, a status, a severity, and a title.
_ID_NAME: Final = re.compile(
    r"\w*(alert|alarm|incident|problem|issue|case|monitor|check|sensor|probe)(id|uid|uuid|guid|identifier|key|ref|reference)"
)
_STATUS_NAME: Final = re.compile(r"\w*(status|state|condition)(name|text|label|type)?")
_SEVERITY_NAME: Final = re.compile(r"\w*(severity|priority|criticality|urgency)")
_TITLE_NAME: Final = re.compile(
    r"\w*(title|subject|headline|displayname|(issue|incident|alert|alarm|problem|event)name)"
)
#: What a run is a run of, beside its own name.
_RUN_OF: Final = re.compile(
    r"definition|pipeline|project|repository|job|workflow|flow"
    r"|(?!\w*run)\w*(job|workflow|pipeline|flow|builder|deployment|project|repository)name"
)
_RUN_IN: Final = re.compile(r"branch|headbranch|ref|(environment|env)(name)?")

#: The names of an outcome, which may say of a completed run that it failed.
_OUTCOMES: Final = (*_STATUSES, "result", "outcome", "conclusion", "health")

#: What a program returns: 0 for success.
_EXIT_CODES: Final = ("exitcode", "exitstatus", "returncode")
#: A time of these means that it is over.
_OVER_TIMES: Final = ("resolvedat", "recoveredat", "clearedat", "closedat")
#: A true one means that it is over; a false one, that it began.
_OVER_FLAGS: Final = ("resolved", "is_resolved", "recovered", "closed", "is_closed", "ok", "is_ok", "success",
                      "passed", "healthy", "is_up", "up", "is_healthy", "cleared", "is_cleared", "fixed", "is_fixed",
                     "is_recovery", "is_online")  # fmt: skip
_BEGAN_FLAGS: Final = ("firing", "is_firing", "failed", "is_failed", "down", "is_down", "triggered", "is_active",
                       "has_failures", "failing", "offline", "is_offline", "in_alarm", "is_alarm", "is_alert",
                       "breached", "is_problem", "has_error", "is_error")  # fmt: skip

#: A template's placeholder that the sender did not fill in.
_PLACEHOLDER: Final = re.compile(r"\s*(\{+\s*[\w.:$#]+\s*\}+|\$\{?[\w.:]+\}?\$?|%[\w.]+%|<%.*%>|##\w+##)\s*$")

_MAX_TEXT_LINES: Final = 200
_MAX_TEXT_CHARS: Final = 20_000


_FOLDED: Final = {field: tuple(dict.fromkeys(map(fold, names))) for field, names in ALIASES.items()}
#: Ids that name one delivery where an inner object has an id too.
_INNERMOST_FIRST: Final = frozenset({"id", "key", "uuid", "guid", "token", "identifier"})
_DELIVERY_IDS: Final = (*_INNERMOST_FIRST, "eventid", "runid", "buildid", "number")
#: The names of a title, and those of a sentence that is one where nothing else is.
_TITLES: Final = _FOLDED["subject"][: _FOLDED["subject"].index("name") + 1]
_SENTENCES: Final = _FOLDED["subject"][len(_TITLES) :]
_PROPER_TITLES: Final = _TITLES[: _TITLES.index("alertname")]
_NAMES: Final = _TITLES[len(_PROPER_TITLES) :]
#: Names of a sentence that says what happened.
_HAPPENINGS: Final = (
    "alertmessage",
    "statemessage",
    "serviceoutput",
    "message",
    "reason",
    "msg",
    "errormessage",
    "error",
)
_MAX_HAPPENING_CHARS: Final = 150
_FOLDED_STATUSES: Final = tuple(map(fold, _STATUSES))
_FOLDED_OUTCOMES: Final = tuple(map(fold, _OUTCOMES))
#: Of a ticket, a bare id may be that of the delivery, the agent or the note, and an event is no status.
_OF_TICKETS: Final[Mapping[str, tuple[str, ...]]] = {
    "source_id": tuple(name for name in _FOLDED["source_id"] if name not in _INNERMOST_FIRST | {"eventid", "alias"}),
    "source_status": _FOLDED_STATUSES,
}

type _Object = Mapping[str, object]


def complete(
    mapped: MappedFields,
    objects: MessageObjects,
    fields: Collection[str],
    priority_of: Callable[[str], str | None],
    *,
    is_ticket: bool,
) -> MappedFields:
    """Returns the mapped fields, with those of `fields` that have no value completed by aliases, except texts.
    `priority_of` translates a severity. Of a ticket, only names that are a ticket's are ids and statuses."""
    values = dict(mapped.values)
    for name in _DECIDING:
        if name not in fields or name in values or (name == "event" and not is_ticket):
            continue
        names = _FOLDED[name] if not is_ticket else _OF_TICKETS.get(name, _FOLDED[name])
        if name == "severity" and not is_ticket:
            _fill(values, name, _find_severities(objects))
        elif name == "source_id" and not is_ticket:
            _fill(values, name, _find_ids(objects.levels))
        elif name != "source_status":
            _fill(values, name, _find_any(objects.levels, names))
        elif is_ticket:
            _fill(values, name, _named_statuses(objects.levels, names))
        else:
            _fill(values, name, _find_statuses(objects, values.get("severity")))
    severity = values.get("severity", None if is_ticket else values.get("source_status"))
    if "priority" in fields and "priority" not in values and isinstance(severity, str):
        values.update({"priority": priority} if (priority := priority_of(severity)) else {})
    tags = mapped.tags
    host = next(filter(None, (clean_line(c, TAG_LENGTH) for c in _find_any(objects.levels, _FOLDED[_HOST]))), None)
    if host is not None and _HOST not in tags and _HOST in fields:
        tags = {**tags, _HOST: host}
    return MappedFields(values, tags, mapped.custom, mapped.notes)


def failure_beside(objects: MessageObjects) -> str | None:
    """Returns the status of a message that says elsewhere that something failed, such as a completed run's outcome."""
    return next(filter(is_failure, _outcomes(objects)), None)


def with_texts(
    mapped: MappedFields,
    payload: _Object,
    objects: MessageObjects,
    fields: Collection[str],
    guesses: Collection[str],
) -> MappedFields:
    """Returns the fields of a message that opens, with a subject by likelihood and a long text: if it has none, or only
    the subject again, the whole message in a readable form. A likely subject names what is monitored."""
    values = dict(mapped.values)
    if "subject" in fields and ("subject" not in values or "subject" in guesses):
        own = values.pop("subject", None)
        titles = chain(
            _find_titles(objects),
            (own,),
            _named_problems(objects, values),
            _find_any(objects.things, _TITLES),
            _sentences(payload),
        )
        _fill(values, "subject", map(_first_line, titles))
        _complete_name(values, objects)
        _name_the_monitored(values, objects)
    long_text = values.get("long_text", values.get("details"))
    if "long_text" in fields and (long_text is None or long_text == values.get("subject")):
        values.pop("long_text", None)
        _fill(values, "long_text", iter((readable(payload),)))
    return MappedFields(values, mapped.tags, mapped.custom, mapped.notes)


def with_likely_id(
    mapped: MappedFields, objects: MessageObjects, fields: Collection[str], guesses: Collection[str] = ()
) -> MappedFields:
    """Returns the fields with an id by likelihood if they have none: what a failure and its recovery have in common,
    the name of what is monitored or the subject without its status, and the host. None for a message without a status,
    which no other message ends. An id among `guesses` may be that of one message."""
    status = mapped.text("source_status")
    if "source_id" not in fields or status is None or meaning_of(status) is None:
        return mapped
    if "source_id" in mapped.values and ("source_id" not in guesses or not _is_id_of_delivery(mapped, objects, status)):
        return mapped
    levels = objects.texts
    own = mapped.text("subject") if "subject" not in guesses else None
    titles = chain(_find_any(levels, _MONITORED), (own,), _find_titles(objects), _find_any(objects.things, _TITLES))
    title = next((text for candidate in titles if (text := clean_line(_first_line(candidate), 300))), "")
    key = " ".join(filter(None, (without_status(title), mapped.tags.get(_HOST, "").casefold())))
    return _with_id(mapped, key) if key else mapped


def _is_id_of_delivery(mapped: MappedFields, objects: MessageObjects, status: str) -> bool:
    """Returns whether an id is likely that of one message: beside a status that only a title says, or outside of the
    object that has the status and names what is monitored on which host."""
    source_id, outermost = mapped.text("source_id"), objects.levels[0]
    if source_id not in {text_of(outermost.get(name)) for name in _INNERMOST_FIRST}:
        return False
    has_status = [level for level in objects.texts if status.casefold() in _casefolded(level)]
    if not has_status:
        return next(_flags(objects.levels), None) is None
    return outermost not in has_status and _HOST in mapped.tags and any(_find_any(objects.levels, _MONITORED))


def _casefolded(level: dict[str, object]) -> set[str]:
    return {value.casefold() for value in level.values() if isinstance(value, str)}


def with_id_of_runs(mapped: MappedFields, objects: MessageObjects, fields: Collection[str]) -> MappedFields:
    """Returns the fields of a message about one run of a job with an id that all its runs share: the names of the job,
    its project and its branch. The id of a run is in no other message."""
    source_id = mapped.text("source_id")
    if "source_id" not in fields or not objects.runs:
        return mapped
    if source_id is not None and source_id not in {text_of(v) for v in _find_any(objects.levels, _DELIVERY_IDS)}:
        return mapped
    names = chain((run.get("name") for run in objects.runs), _sorted(objects.levels, _RUN_OF))
    parts = dict.fromkeys(text for name in names if isinstance(name, str) and (text := clean_line(name, 100)))
    if not parts:
        return mapped
    places = (text for place in _sorted(objects.levels, _RUN_IN) if (text := clean_line(place, 100)))
    return _with_id(mapped, " ".join(dict.fromkeys((*parts, *places))).casefold())


def _sorted(levels: list[dict[str, object]], names: re.Pattern[str]) -> Iterator[object]:
    """Yields the values whose names match, by name, so that another order of a message's fields makes no difference."""
    for level in levels:
        yield from (level[name] for name in sorted(level) if names.fullmatch(name))


def _first_line(value: object) -> object:
    """Returns the first line of a text that has several, without the marks of a heading."""
    return next(filter(str.strip, value.splitlines()), value).lstrip("# ") if isinstance(value, str) else value


def _with_id(mapped: MappedFields, source_id: str) -> MappedFields:
    return MappedFields({**mapped.values, "source_id": source_id[:200]}, mapped.tags, mapped.custom, mapped.notes)


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


def _find_any(levels: list[dict[str, object]], names: tuple[str, ...]) -> Iterator[object]:
    for name in names:
        for level in reversed(levels) if name in _INNERMOST_FIRST else levels:
            value = level.get(name)
            if value is not None and type(value) is not bool:
                yield value


def _matching(levels: list[dict[str, object]], names: re.Pattern[str]) -> Iterator[object]:
    """Yields the values whose names match, except those of how it was."""
    for level in levels:
        for name, value in level.items():
            if type(value) is not bool and names.fullmatch(name) and not FORMER.search(name):
                yield value


def _find_ids(levels: list[dict[str, object]]) -> Iterator[object]:
    names = _FOLDED["source_id"]
    first_bare = next(place for place, name in enumerate(names) if name in _INNERMOST_FIRST)
    yield from _find_any(levels, names[:first_bare])
    yield from _matching(levels, _ID_NAME)
    yield from _find_any(levels, names[first_bare:])


def _find_severities(objects: MessageObjects) -> Iterator[object]:
    for levels in (objects.texts, objects.things):
        yield from _find_any(levels, _FOLDED["severity"])
        yield from _matching(levels, _SEVERITY_NAME)


def _find_statuses(objects: MessageObjects, severity: object) -> Iterator[object]:
    """Yields statuses by likelihood: what fails beside what is over; a status, a flag or a completion under a common
    name; a progress; a severity that says "over"; the words of a title; and any other severity."""
    named = chain(_texts_of(objects.texts, _FOLDED["source_status"]), _other_statuses(objects.texts))
    found = [(status, meaning_of(status)) for status in named]
    acting = [pair for pair in found if pair[1] in (StatusMeaning.OPEN, StatusMeaning.CLOSE)]
    decided = [pair for pair in acting if not is_completion(pair[0]) and ends_with_status(pair[0])]
    if (decided or acting)[:1] and (decided or acting)[0][1] is StatusMeaning.CLOSE:
        yield from filter(is_failure, _outcomes(objects))
    yield from (status for status, _ in decided)
    yield from _flags(objects.levels)
    yield from (status for status, _ in acting if ends_with_status(status))
    yield from (status for status, meaning in found if meaning is StatusMeaning.UPDATE)
    severities = (text for text in (severity, *_find_any(objects.texts, _FOLDED["severity"])) if isinstance(text, str))
    rated = [(text, meaning_of(text)) for text in severities]
    yield from (text for text, meaning in rated if meaning is StatusMeaning.CLOSE)
    in_titles = [status for title in _texts_of(objects.texts, _FOLDED["subject"]) if (status := status_in_title(title))]
    yield from sorted(in_titles, key=lambda status: meaning_of(status) is StatusMeaning.CLOSE)
    yield from (status for status, _ in acting)
    if not any(_find_any(objects.texts, _TITLES)):
        # Without a title, the message is about the thing that has a status.
        of_things = chain(_texts_of(objects.things, _FOLDED_STATUSES), _other_statuses(objects.things))
        yield from (status for status in of_things if meaning_of(status) in (StatusMeaning.OPEN, StatusMeaning.CLOSE))
    yield from (text for text, meaning in rated if meaning is StatusMeaning.OPEN)
    yield from _find_any(objects.levels, _FOLDED_STATUSES)


def _other_statuses(levels: list[dict[str, object]]) -> Iterator[str]:
    return (value for value in _matching(levels, _STATUS_NAME) if isinstance(value, str))


def _named_statuses(levels: list[dict[str, object]], names: tuple[str, ...]) -> Iterator[object]:
    """Yields the statuses of a ticket: those of a known meaning first."""
    candidates = [(value, meaning_of(value)) for value in _texts_of(levels, names)]
    for meanings in ((StatusMeaning.OPEN, StatusMeaning.CLOSE), (StatusMeaning.UPDATE,)):
        yield from (value for value, meaning in candidates if meaning in meanings)
    yield from _find_any(levels, names)


def _flags(levels: list[dict[str, object]]) -> Iterator[str]:
    for level in levels:
        for flags, true_word, false_word in ((_OVER_FLAGS, "resolved", "open"), (_BEGAN_FLAGS, "open", "resolved")):
            for flag in flags:
                if isinstance(value := level.get(fold(flag)), bool):
                    yield true_word if value else false_word
        yield from ("success" if code == 0 else "failed" for code in _numbers(level.get(c) for c in _EXIT_CODES))
        yield from ("resolved" for time in _OVER_TIMES if level.get(time))


def _find_titles(objects: MessageObjects) -> Iterator[object]:
    """Yields titles by likelihood. A sentence beside a commit is the commit's."""
    yield from _find_any(objects.texts, _TITLES)
    yield from _matching(objects.texts, _TITLE_NAME)
    if not objects.has_commit:
        yield from _find_any(objects.texts, _SENTENCES)


def _numbers(values: Iterator[object]) -> Iterator[float]:
    return (value for value in values if isinstance(value, int | float) and type(value) is not bool)


def _outcomes(objects: MessageObjects) -> Iterator[str]:
    """Yields the outcomes beside a status. A number other than 0 is a failure of a run."""
    yield from _texts_of([*objects.texts, *objects.inner], _FOLDED_OUTCOMES)
    numbers = chain(_find_any(objects.levels, ("results", *_EXIT_CODES)), _find_any(objects.runs, ("result",)))
    yield from ("failed" for number in _numbers(numbers) if number != 0)


def _texts_of(levels: list[dict[str, object]], names: tuple[str, ...]) -> Iterator[str]:
    return (value for value in _find_any(levels, names) if isinstance(value, str))


def _complete_name(values: dict[str, Value], objects: MessageObjects) -> None:
    """Adds what happened to a subject that only names something: "Shop" and "HTTP 500" are "Shop: HTTP 500", "Shop" and
    "Shop is down" are the latter."""
    subject = values.get("subject")
    if not isinstance(subject, str) or objects.has_commit:
        return
    names = {clean_line(name, FIELDS["subject"].length) for name in _find_any(objects.texts, _NAMES)}
    if subject not in names or subject in {
        clean_line(_first_line(t), 500) for t in _find_any(objects.texts, _PROPER_TITLES)
    }:
        return
    for candidate in _texts_of(objects.texts, _HAPPENINGS):
        if (text := clean_line(_first_line(candidate), _MAX_HAPPENING_CHARS)) is not None and not text.endswith("…"):
            is_named = subject.casefold() in text.casefold()
            _fill(values, "subject", iter((text if is_named else f"{subject}: {text}",)))
            return


def _name_the_monitored(values: dict[str, Value], objects: MessageObjects) -> None:
    """Puts the name of what is monitored in front of a subject that lacks it, such as "HTTP 500"."""
    subject = values.get("subject")
    summaries = {
        clean_line(_first_line(text), FIELDS["subject"].length) for text in _find_any(objects.texts, ("summary",))
    }
    names = chain(
        _find_any(objects.levels, _SUBJECTS),
        _matching(objects.levels, _MONITORED_NAME),
        _find_any(objects.levels, ("name",)) if subject in summaries else (),
    )
    monitored = next((text for name in names if isinstance(name, str) and (text := clean_line(name, 100))), None)
    if monitored is not None and isinstance(subject, str) and monitored.casefold() not in subject.casefold():
        _fill(values, "subject", iter((f"{monitored}: {subject}",)))


def _named_problems(objects: MessageObjects, values: Mapping[str, Value]) -> Iterator[str]:
    """Yields what is monitored with its status, such as "ap-lobby: AP_DISCONNECTED"."""
    status = text_of(values.get("source_status"))
    runs = _sorted(objects.levels, _RUN_OF) if objects.runs else ()
    for name in chain(_find_any(objects.texts, _MONITORED), runs, _find_any(objects.texts, _FOLDED[_HOST])):
        if isinstance(name, str) and status is not None:
            yield f"{name}: {status}"


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
