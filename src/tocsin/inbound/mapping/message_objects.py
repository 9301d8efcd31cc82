"""The objects of a message in which the names that tools share are looked for, as plain values by folded name. Pure.

`alert_id`, `alertId`, `Alert-ID` and `ALERT ID` fold to one name. Tools wrap a message in objects such as `data` or
`alert`, write its fields as a list of names and values, and put what people read into the parts of a chat message.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

import msgspec

from tocsin.inbound.mapping.status_words import meaning_of, words_of

#: Objects that a message is wrapped in, from the outside in, by folded name.
WRAPPERS: Final = frozenset({
    "data", "alert", "alerts", "event", "events", "incident", "issue", "payload", "monitor", "check", "problem",
    "alarm", "ticket", "item", "message", "body", "content", "detail", "details", "notification", "notifications",
    "object", "record", "records", "resource", "properties", "attributes", "essentials", "component", "alertgroup",
    "error", "exception", "app", "application", "execution", "operation", "operationstate", "stage", "step", "task",
    "state", "status", "health", "result", "params", "parameters", "conditions", "violations", "envelope", "outage",
    "downtime", "finding", "row",
})  # fmt: skip
#: Names that end so are wrappers too, such as `webhook_event_data`.
_WRAPPER_ENDINGS: Final = (
    "data", "payload", "attributes", "alert", "incident", "event", "alarm", "problem", "monitor", "check", "issue",
    "update", "updates", "report", "status", "state",
)  # fmt: skip
#: Objects of names and values that the sender chose.
_CHOSEN: Final = frozenset({
    "labels", "commonlabels", "annotations", "commonannotations", "fields", "customfields", "customdetails", "context",
    "dimensions", "extra", "extendedparameters", "variables",
})  # fmt: skip
_NO_WRAPPERS: Final = frozenset({"metadata", "userdata", "customdata"})
#: Objects of people and of the delivery, which name no problem.
_OF_OTHERS: Final = re.compile(
    r"\w*(user|actor|owner|author|assignee|creator|sender|organi[sz]ation|org|account|tenant|team|customer|company"
    r"|reporter|requester|caller|contact|kontakt|driver"
    r"|links|config|configuration|settings|options|delivery|webhook|integration|subscription|request|tags|labels|commit)s?"
)
#: Objects of other things than the one that the message is about.
_OF_ANOTHER: Final = re.compile(
    r"((related|similar|linked|correlated|other)\w*|sibling|depend\w*|neighbou?r|peer|standby|parent|upstream|downstream"
    r"|topology|generator)s?"
)
#: Names that say little without that of their object.
_QUALIFIED: Final = (
    "id", "uid", "uuid", "key", "fullname", "displayname", "name", "label", "title", "hostname", "fqdn", "ref",
    "url",
)  # fmt: skip
#: What runs, and has another id in each run.
_RUNS: Final = frozenset({
    "build", "run", "job", "workflow", "workflowrun", "pipeline", "checkrun", "checksuite", "deployment", "release",
    "execution", "backup",
})  # fmt: skip
_RUN_NUMBERS: Final = frozenset({"buildnumber", "runnumber", "runid", "buildid"})
_RUN_OF_IDS: Final = frozenset({"flowid", "dagid", "pipelineid", "workflowid"})
#: What only a run has: an end beside its start, and what it was built of.
_RUN_ENDS: Final = frozenset({"finished", "finishedat", "completedat"})
_RUN_STARTS: Final = frozenset({"started", "startedat"})
_BRANCHES: Final = frozenset({"branch", "ref"})
_REVISIONS: Final = frozenset({"headsha", "revision"})
#: What an event of CloudEvents or EventBridge has: its `id` is that of one delivery.
_ENVELOPES: Final = frozenset({"specversion", "detailtype"})
#: The ids of a problem, which an event about it has beside its own.
_PROBLEM_IDS: Final = frozenset({"incidentid", "alertid", "problemid", "issueid", "alarmid"})
#: The names of the object that an event is about.
_SUBJECT_OBJECTS: Final = ("data", "payload", "object")
_STATUSES: Final = frozenset({"status", "state"})
#: The names of what a message is about, such as "build.finished".
_EVENT_NAMES: Final = ("objectkind", "kind", "eventtype", "eventname", "event", "type", "resource", "action")
_RUN_WORD: Final = re.compile(
    r"\b(build|run|job|workflow|pipeline|check_run|check_suite|deploy(ment)?|release|backup)(?=[._ :-]|\b)"
)

#: The parts of a message to a chat (Slack, Teams, Discord, Google Chat), which may be lists.
_CHAT_PARTS: Final = frozenset({
    "attachments", "embeds", "blocks", "sections", "body", "content", "cards", "cardsv2", "card", "header", "widgets",
})  # fmt: skip
#: The names of a name and its value in a list of fields.
_FIELD_NAMES: Final = (
    ("name", "value"), ("title", "value"), ("label", "value"), ("key", "value"), ("topLabel", "text"),
)  # fmt: skip
#: "*Status:* down", a field of a Slack block.
_WRITTEN_FIELD: Final = re.compile(r"\*?(\w[\w .-]{0,30})(?::\*?\s+|=)(\S.*)")
#: How an object's text begins in Base64, as brokers wrap a message: `{"`.
_BASE64_OBJECT: Final = "eyJ"
_OBJECT_STARTS: Final = ("{", _BASE64_OBJECT)
_TIME: Final = re.compile(r"(?i)(at|time|date|on)$")
#: Names of how it is, with those of how it was beside them.
_LATTER: Final = {"current": "previous", "new": "old", "newvalue": "oldvalue"}
#: Names of how it was.
FORMER: Final = re.compile(r"old|prev|last|before|from|former")

_MAX_DEPTH: Final = 6
_MAX_OBJECTS: Final = 60
_MAX_FIELDS: Final = 100
_MAX_CACHED_CHARS: Final = 60
#: From this number of fields on, a word that all of them begin with is the sender's name.
_MIN_PREFIXED: Final = 3

type _Object = Mapping[str, object]
type _Child = tuple[str, _Object, bool]


class FieldName(str):
    """A folded name, with the words of the name as it was spelled: "backtonormal" of "backToNormal"."""

    __slots__ = ("words",)

    words: tuple[str, ...]


def fold(name: str) -> FieldName:
    """Returns a name without case, underscores, hyphens and spaces, and without the `X-Vendor-` of a header."""
    return _fold(name) if len(name) <= _MAX_CACHED_CHARS else _fold.__wrapped__(name)


@lru_cache(maxsize=4096)
def _fold(name: str) -> FieldName:
    name = re.sub(r"^[xX]-\w+-", "", name)
    folded = FieldName(re.sub(r"[\W_]+", "", name).casefold())
    folded.words = tuple(words_of(name))
    return folded


@dataclass(slots=True)
class MessageObjects:
    """The plain values of a message by folded name, from the outside in.

    `levels` are the message and what it is wrapped in; `chat` are lists of fields and the parts of a chat message;
    `inner` are the other objects in them, which may be of somebody or something else, and `things` all of these, at any
    depth, that are not of people or of the delivery. `runs` are those of `levels` that are one run of a job, or all if
    the message says that it is about one.
    """

    levels: list[dict[str, object]]
    chat: list[dict[str, object]]
    inner: list[dict[str, object]]
    things: list[dict[str, object]]
    runs: list[dict[str, object]]

    #: The outermost ids, if they are those of one delivery.
    delivery_ids: set[object] = field(default_factory=set)
    #: `levels` and `chat`; and `things` too.
    texts: list[dict[str, object]] = field(default_factory=list)
    everywhere: list[dict[str, object]] = field(default_factory=list)

    @property
    def has_commit(self) -> bool:
        """Whether a message is about a commit, whose message is no title."""
        return any(not _BRANCHES.isdisjoint(run) or _is_built(run) for run in self.runs)


def collect(payload: _Object) -> MessageObjects:
    """Returns the objects of a message, outer ones first."""
    objects = MessageObjects([], [], [], [], [])
    _collect_levels(payload, objects)
    outermost = objects.levels[0]
    is_of_event = "eventid" in outermost and any(not _PROBLEM_IDS.isdisjoint(level) for level in objects.levels[1:])
    if is_of_event or not _ENVELOPES.isdisjoint(outermost) or _is_envelope(payload, outermost):
        objects.delivery_ids = {outermost.pop(name) for name in ("id", "eventid") if name in outermost}
    for level in objects.levels:
        for value in level.values():
            if isinstance(value, str) and "\n" in value and len(fields := _written_fields(value)) > 1:
                objects.chat.append(fields)
    objects.texts = [*objects.levels, *objects.chat]
    objects.everywhere = [*objects.texts, *objects.things]
    if not objects.runs and any(map(_names_run, filter(None, map(outermost.get, _EVENT_NAMES)))):
        objects.runs.extend(objects.levels)
    return objects


def _is_envelope(payload: _Object, outermost: Mapping[str, object]) -> bool:
    """Returns whether a message is an event with the object that it is about: `{"id": …, "type": …, "data": {…}}`."""
    if isinstance(payload.get("resource"), dict):
        # An alert names the resource that it is about too; an event has no status of its own.
        return "eventtype" in outermost and outermost.keys().isdisjoint(_STATUSES)
    if not any(isinstance(payload.get(name), dict) for name in _SUBJECT_OBJECTS):
        return False
    return any(name in outermost for name in ("type", "eventtype", "event", "eventname"))


def _written_fields(text: str) -> dict[str, object]:
    """Returns the values of a text with lines such as "Host: db1", by folded name."""
    written = (_WRITTEN_FIELD.match(line.strip("\r \t-•")) for line in text.splitlines()[:_MAX_FIELDS])
    return {fold(line[1]): line[2] for line in reversed([*filter(None, written)])}


def _collect_levels(payload: _Object, objects: MessageObjects) -> None:
    level: list[tuple[str, _Object, bool]] = [("", payload, False)]
    count = 0
    for _ in range(_MAX_DEPTH):
        inner_level: list[tuple[str, _Object, bool]] = []
        for name, current, is_chat in level:
            count += 1
            if count > _MAX_OBJECTS:
                return
            values = _plain_values(current)
            if name.endswith(("status", "state")):
                values.pop("id", None)
            if name and not is_chat:
                _qualify(name, values)
            (objects.chat if is_chat else objects.levels).append(values)
            if not is_chat and _is_run(name, values):
                objects.runs.append(values)
            inner_level += _children(current, values, objects, is_chat=is_chat)
        if not inner_level:
            return
        level = inner_level


def _qualify(name: str, values: dict[str, object]) -> None:
    """Adds the names of an object with its own in front: the `id` of a `monitor` is a `monitorid` too."""
    name = name.removesuffix("s").removesuffix("detail").removesuffix("info")  # `deviceInfo` is of a `device`.
    for key in _QUALIFIED:
        if key in values:
            values.setdefault(f"{name}{key}", values[key])


def _is_run(name: str, values: Mapping[str, object]) -> bool:
    if name in _RUNS or name.endswith("run") or not _RUN_NUMBERS.isdisjoint(values):
        return True
    if "id" in values and not _RUN_OF_IDS.isdisjoint(values):
        return True
    if not _RUN_ENDS.isdisjoint(values) and not _RUN_STARTS.isdisjoint(values):
        return True
    return any(key.endswith("runid") for key in values) or (not _BRANCHES.isdisjoint(values) and _is_built(values))


def _is_built(values: Mapping[str, object]) -> bool:
    """Returns whether an object tells of a commit."""
    return any(key.startswith("commit") or key in _REVISIONS for key in values)


def _names_run(event: object) -> bool:
    return isinstance(event, str) and _RUN_WORD.search(event.casefold()) is not None


def _children(outer: _Object, values: dict[str, object], objects: MessageObjects, *, is_chat: bool) -> Iterator[_Child]:
    is_alone = len(outer) == 1
    for key, value in outer.items():
        if isinstance(value, str) and not value.startswith(_OBJECT_STARTS):
            continue
        if not isinstance(value, dict | list | str):
            continue
        name = fold(key)
        if isinstance(value, list):
            if fields := _fields_in(value):
                objects.chat.append(fields)
            elif name in _CHAT_PARTS:
                yield from ((name, item, True) for item in value[:_MAX_FIELDS] if isinstance(item, dict))
                continue
        child = _object_in(value)
        if child is None:
            continue
        # An object may be under the name of the event: `{"type": "incident.created", "incident.created": {…}}`.
        if is_text := isinstance(value, str):
            values.pop(name, None)
        if _is_wrapper(name) or is_alone or is_text or key in outer.values():
            yield name, child, is_chat
        elif name in _CHAT_PARTS or name in _CHOSEN or is_chat:
            yield name, child, True
        elif not FORMER.search(name):
            objects.inner.append(_plain_values(child))
            _collect_things(name, child, objects, depth=3)


def _collect_things(name: str, child: _Object, objects: MessageObjects, *, depth: int) -> None:
    if is_of_other(name) or _OF_OTHERS.fullmatch(name) or len(objects.things) >= _MAX_OBJECTS:
        return
    values = _plain_values(child)
    _qualify(name, values)
    objects.things.append(values)
    for key, value in child.items() if depth > 1 else ():
        if (inner := _object_in(value)) is not None:
            _collect_things(fold(key), inner, objects, depth=depth - 1)


def is_of_other(name: str) -> bool:
    """Returns whether what has this name is of another thing, or how it was."""
    return _OF_ANOTHER.fullmatch(name) is not None or FORMER.search(name) is not None


def _is_wrapper(name: str) -> bool:
    if _OF_ANOTHER.fullmatch(name):
        return False
    if name in WRAPPERS or name in _RUNS or name.endswith("run"):
        return True
    return name.endswith(_WRAPPER_ENDINGS) and name not in _NO_WRAPPERS and not FORMER.search(name)


def _object_in(value: object) -> _Object | None:
    if isinstance(value, dict):
        return value
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict):
        return value[0]
    if isinstance(value, str) and ((value[:1] == "{" and value[-1:] == "}") or value.startswith(_BASE64_OBJECT)):
        try:
            decoded = msgspec.json.decode(value if value[:1] == "{" else binascii.a2b_base64(value))
        except (msgspec.DecodeError, ValueError, RecursionError):
            return None
        return decoded if isinstance(decoded, dict) else None
    return None


def _fields_in(items: list[object]) -> dict[str, object]:
    """Returns the values of a list of fields, such as the facts of a card, by folded name; empty if it is none."""
    fields: dict[str, object] = {}
    for item in items[:_MAX_FIELDS]:
        if not isinstance(item, dict):
            return {}
        for name_key, value_key in _FIELD_NAMES:
            name, value = item.get(name_key), item.get(value_key)
            if isinstance(name, str) and isinstance(value, str | int | float) and value != "":
                fields.setdefault(fold(name), value)
                break
        else:
            written = _WRITTEN_FIELD.match(text) if isinstance(text := item.get("text"), str) else None
            if written is None or item.get("type") not in ("mrkdwn", "plain_text"):
                return {}
            fields.setdefault(fold(written[1]), written[2])
    return fields


def _plain_values(level: _Object) -> dict[str, object]:
    """Returns the plain values of an object by folded name, and those of a named object in it: `{"severity": {"name":
    "high"}}`."""
    found: dict[str, object] = {}
    for name, value in level.items():
        plain = value
        if isinstance(value, dict):
            plain = _name_in(value)
        elif isinstance(value, list) and value and all(isinstance(item, str) for item in value):
            plain = "\n".join(value[:_MAX_FIELDS])
        if isinstance(plain, str | int | float) and plain != "":
            found.setdefault(fold(name), plain)
        elif value is None and _TIME.search(name):
            # No time of an end: it did not end.
            found.setdefault(fold(name), False)
    for latter, former in _LATTER.items():
        if latter in found and former in found and meaning_of(str(found[latter])) is not None:
            found.setdefault("status", found[latter])
    _add_without_prefix(found)
    return found


def _add_without_prefix(values: dict[str, object]) -> None:
    """Adds the names without the word that all of them begin with: the `SERVICE` of a `MONIT_SERVICE`."""
    if len(values) < _MIN_PREFIXED:
        return
    names = [name for name in values if isinstance(name, FieldName) and len(name.words) > 1]
    if len(names) == len(values) and len({name.words[0] for name in names}) == 1:
        for name in names:
            values.setdefault(fold("_".join(name.words[1:])), values[name])


def _name_in(value: _Object) -> object:
    if isinstance(slug := value.get("slug"), str) and "/" in slug:
        return slug
    for key in ("name", "value", "display_value", "label", "text"):
        if key in value:
            return value[key]
    metadata = value.get("metadata")
    if isinstance(metadata, dict):
        return metadata.get("name")
    # `{"severity": {"level": "high"}}`
    return (
        next((text for key, text in value.items() if isinstance(text, str) and not fold(key).endswith("id")), None)
        if len(value) == 1
        else None
    )
