"""The names that tools share for the fields of a message, whatever their spelling, and how values are found by them.
Pure.

A name is looked for at the top, and in the objects that tools wrap a message in (`message_objects`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from operator import itemgetter
from typing import Final

from tocsin.inbound.expressions.fields import CLEANERS, FIELDS, Value, text_of
from tocsin.inbound.mapping.message_objects import FORMER, fold

#: Returns whether a folded name is one of many of the same ending, except of how it was.
type NamePattern = Callable[[str], bool]
#: Folded names with their places in an order of likelihood.
type Names = Mapping[str, int]

_MAX_NAME_CHARS: Final = 60


def _pattern(text: str) -> NamePattern:
    regex = re.compile(text)

    @lru_cache(maxsize=2048)
    def is_match(name: str) -> bool:
        return regex.fullmatch(name) is not None and FORMER.search(name) is None

    return lambda name: len(name) <= _MAX_NAME_CHARS and is_match(name)


def in_order(names: Iterable[str]) -> Names:
    """Returns names in the order of their likelihood."""
    return {name: place for place, name in enumerate(dict.fromkeys(names))}


HOST: Final = "component_name"
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
        "event_definition_title", "short_description", "alert_name", "alertname", "rule_name", "monitor_name",
        "check_name", "alarm_name", "incident_name", "problem_name", "policy_name", "condition_name", "trigger_name",
        "name", "service_name", "job_name", "project_name", "display_name", "entity_display_name", "alert_message",
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
MONITORED: Final = in_order((
    "monitorname", "checkname", "rulename", "alertname", "alarmname", "conditionname", "jobname", "job", "taskname",
    "servicename", "service", "servicedesc", "sensor", "check", "monitor", "projectname", "project", "pipeline",
    "workflow", "buildtype", "involvedobject", "app", "application",
))  # fmt: skip
#: Names of what a run or a test is part of.
WHOLES: Final = in_order(("repository", "projectname", "project", "app", "application"))
#: Names that say in a title what it is about; several problems may have one.
SUBJECTS: Final = in_order((
    *(name for name in MONITORED if name not in WHOLES), "savedsearch", "rule", "exception", "context", "connection",
    "container", "database", "queue", "domain", "network",
))  # fmt: skip
#: What is measured: with its host, the same in a failure and its recovery.
METRICS: Final = in_order(("metric", "metricname"))
MONITORED_NAME: Final = _pattern(
    r"(?!\w*run)(monitor|check|sensor|service|site|test|probe|task|flow|job|pipeline|workflow|builder|app"
    r"|application|database|container|network|queue|volume|interface|domain|certificate|cluster|pool)\w*name"
)
HOST_NAME: Final = _pattern(r"\w*(host|device|node|server|instance|item|machine|agent|resource)name")
HOST_ID: Final = _pattern(r"\w*(host|device|node|server|machine|station|charger|asset)id")
#: Any other name of an id, a status, a severity, and a title.
ID_NAME: Final = _pattern(
    r"\w*(alert|alarm|incident|problem|issue|case|monitor|check|sensor|probe)(id|uid|uuid|guid|identifier|key|ref|reference)"
)
STATUS_NAME: Final = _pattern(r"\w*(status|state|condition)(name|text|label|type)?")
SEVERITY_NAME: Final = _pattern(r"\w*(severity|priority|criticality|urgency)")
TITLE_NAME: Final = _pattern(r"\w*(title|subject|headline|displayname|(issue|incident|alert|alarm|problem|event)name)")
SENTENCE_NAME: Final = _pattern(r"\w*(reason|message|description|text)")
#: The kind of a problem, which is a title if it has several words.
TYPE_NAME: Final = _pattern(r"\w*(alert|event|alarm|issue|problem|incident)type")
#: What failed.
FAULT_NAME: Final = _pattern(r"\w*(fault|error|failure|problem)(name|code|type)")
#: What a run is a run of, beside its own name.
RUN_OF: Final = _pattern(
    r"definition|pipeline|project|repository|job|workflow|flow|connection|connector|app|application"
    r"|(?!\w*run)\w*(job|workflow|pipeline|flow|builder|connector|deployment|project|repository)name"
)
RUN_IN: Final = _pattern(r"branch|headbranch|ref|(environment|env)(name)?")

#: The names of an outcome, which may say of a completed run that it failed.
_OUTCOMES: Final = (*_STATUSES, "result", "outcome", "conclusion", "health")

#: What a program returns: 0 for success.
EXIT_CODES: Final = in_order(("exitcode", "exitstatus", "returncode"))
#: A time of these means that it is over.
OVER_TIME: Final = _pattern(r"\w*(resolved?|recover(y|ed)|cleared?|closed|fixed)(at|time|ts|date|on)")
#: A true one means that it is over; a false one, that it began.
OVER_FLAGS: Final = (
    "resolved", "isresolved", "recovered", "closed", "isclosed", "ok", "isok", "success", "passed", "healthy", "isup",
    "up", "ishealthy", "cleared", "iscleared", "fixed", "isfixed", "isrecovery", "isonline",
)  # fmt: skip
BEGAN_FLAGS: Final = (
    "firing", "isfiring", "failed", "isfailed", "down", "isdown", "triggered", "isactive", "hasfailures", "failing",
    "offline", "isoffline", "inalarm", "isalarm", "isalert", "breached", "isproblem", "haserror", "iserror",
)  # fmt: skip

#: A template's placeholder that the sender did not fill in.
_PLACEHOLDER: Final = re.compile(r"\s*(\{+\s*[\w.:$#]+\s*\}+|\$\{?[\w.:]+\}?\$?|%[\w.]+%|<%.*%>|##\w+##)\s*$")


_FOLDED: Final = {field: tuple(dict.fromkeys(map(fold, names))) for field, names in ALIASES.items()}
FOLDED: Final = {field: in_order(names) for field, names in _FOLDED.items()}
#: Ids that name one delivery where an inner object has an id too.
INNERMOST_FIRST: Final = frozenset({"id", "key", "uuid", "guid", "token", "identifier"})
DELIVERY_IDS: Final = in_order((*sorted(INNERMOST_FIRST), "eventid", "runid", "buildid", "number"))
_FIRST_BARE: Final = min(FOLDED["source_id"][name] for name in INNERMOST_FIRST)
PROPER_IDS: Final = in_order(_FOLDED["source_id"][:_FIRST_BARE])
BARE_IDS: Final = in_order(_FOLDED["source_id"][_FIRST_BARE:])
#: The names of a title, and those of a sentence that is one where nothing else is.
_FIRST_NAME: Final = FOLDED["subject"]["alertname"]
_FIRST_SENTENCE: Final = FOLDED["subject"]["alertmessage"]
TITLES: Final = in_order(_FOLDED["subject"][:_FIRST_SENTENCE])
SENTENCES: Final = in_order(_FOLDED["subject"][_FIRST_SENTENCE:])
PROPER_TITLES: Final = in_order(_FOLDED["subject"][:_FIRST_NAME])
NAMES: Final = in_order(_FOLDED["subject"][_FIRST_NAME:_FIRST_SENTENCE])
FOLDED_STATUSES: Final = in_order(map(fold, _STATUSES))
FOLDED_OUTCOMES: Final = in_order(map(fold, _OUTCOMES))
#: Of a ticket, a bare id may be that of the delivery, the agent or the note, and an event is no status.
OF_TICKETS: Final[Mapping[str, Names]] = {
    "source_id": in_order(name for name in FOLDED["source_id"] if name not in INNERMOST_FIRST | {"eventid", "alias"}),
    "source_status": FOLDED_STATUSES,
}


def fill(values: dict[str, Value], name: str, candidates: Iterator[object]) -> None:
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


def find_any(levels: list[dict[str, object]], names: Names) -> Iterator[object]:
    """Yields the values that have one of the names, the likeliest first, except true and false."""
    found: list[tuple[int, int, object]] = []
    for depth, level in enumerate(levels):
        for name in names.keys() & level.keys():
            if type(value := level[name]) is not bool:
                found.append((names[name], -depth if name in INNERMOST_FIRST else depth, value))
    if len(found) > 1:
        found.sort(key=_PLACE)
    return (value for _, _, value in found)


_PLACE: Final = itemgetter(0, 1)


def matching(levels: list[dict[str, object]], matches: NamePattern) -> Iterator[object]:
    """Yields the values whose names match, except those of how it was."""
    for level in levels:
        for name, value in level.items():
            if type(value) is not bool and matches(name):
                yield value


def texts_of(levels: list[dict[str, object]], names: Names) -> Iterator[str]:
    return (value for value in find_any(levels, names) if isinstance(value, str))


def matching_sorted(levels: list[dict[str, object]], matches: NamePattern) -> Iterator[object]:
    """Yields the values whose names match, by name, so that another order of a message's fields makes no difference."""
    for level in levels:
        yield from (level[name] for name in sorted(level) if matches(name))


def first_line(value: object) -> object:
    """Returns the first line of a text that has several, without the marks of a heading."""
    return next(filter(str.strip, value.splitlines()), value).lstrip("# ") if isinstance(value, str) else value
