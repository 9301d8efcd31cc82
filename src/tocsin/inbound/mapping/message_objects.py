"""The objects of a message in which the names that tools share are looked for, as plain values by folded name. Pure.

`alert_id`, `alertId`, `Alert-ID` and `ALERT ID` fold to one name. Tools wrap a message in objects such as `data` or
`alert`, write its fields as a list of names and values, and put what people read into the parts of a chat message.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from operator import itemgetter
from typing import Final

import msgspec

from tocsin.inbound.fields import CLEANERS, FIELDS, Value, text_of
from tocsin.inbound.mapping import evidence_table as table
from tocsin.inbound.mapping.evidence_table import fold
from tocsin.inbound.mapping.status_words import meaning_of, split_id

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
#: What people answered in a form.
_ANSWERS: Final = frozenset(
    {
        "answers",
        "responses",
        "values",
        "antworten",
        "réponses",
        "reponses",
        "respuestas",
        "risposte",
        "antwoorden",
    }
)
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
_TEXTS: Final = table.PROPER_TITLES.keys() | table.SENTENCES.keys() | table.HEADLINE.keys()
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
    ("question", "answer"), ("question", "value"), ("frage", "antwort"), ("question", "reponse"), ("label", "answer"),
    ("name", "value"), ("title", "value"), ("label", "value"), ("key", "value"), ("topLabel", "text"),
)  # fmt: skip
#: "*Status:* down", a field of a Slack block.
_WRITTEN_FIELD: Final = re.compile(r"\*?(\w[\w .-]{0,30})(?::\*?\s+|=)(\S.*)")
#: How an object's text begins in Base64, as brokers wrap a message: `{"`.
_BASE64_OBJECT: Final = "eyJ"
_OBJECT_STARTS: Final = ("{", _BASE64_OBJECT)
_TIME: Final = re.compile(r"(?i)(at|time|date|on)$")
#: Names that say what format a message has.
_OF_FORMAT: Final = frozenset({"@type", "@context", "$schema"})
#: Names of how it is, with those of how it was beside them.
_LATTER: Final = {"current": "previous", "new": "old", "newvalue": "oldvalue"}

_MAX_DEPTH: Final = 6
_MAX_OBJECTS: Final = 60
_MAX_FIELDS: Final = 100
#: Values of one object that are looked at for likely ones. A mapping reads any.
MAX_VALUES: Final = 1_000
_MAX_CACHED_CHARS: Final = 60
#: From this number of fields on, a word that all of them begin with is the sender's name.
_MIN_PREFIXED: Final = 3

type _Object = Mapping[str, object]
type _Child = tuple[str, _Object, bool]


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

    #: Of `chat`, what people answered in a form.
    answers: list[dict[str, object]] = field(default_factory=list)
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
    if _has_no_problem(payload, objects):
        outermost[fold("no_problem")] = True
    if not objects.runs and any(map(_names_run, filter(None, map(outermost.get, _EVENT_NAMES)))):
        objects.runs.extend(objects.levels)
    return objects


def _has_no_problem(payload: _Object, objects: MessageObjects) -> bool:
    """Returns whether a message names no problem, and has no other text: `{"printer": "HP-3", "error": null}`."""
    names = (fold(name) for name, value in islice(payload.items(), MAX_VALUES) if value is None or value in ("", []))
    if not any(name != "event" and name.removesuffix("s") in table.HEADLINE for name in names):
        return False
    said = (name for level in objects.everywhere for name, value in level.items() if isinstance(value, str))
    return not any(name in _TEXTS or table.TITLE_NAME[name] or table.SENTENCE_NAME[name] for name in said)


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
    texts = {value for value in outer.values() if isinstance(value, str)}
    for key, value in islice(outer.items(), MAX_VALUES):
        if isinstance(value, str) and not value.startswith(_OBJECT_STARTS):
            continue
        if not isinstance(value, dict | list | str):
            continue
        name = fold(key)
        if isinstance(value, list):
            if fields := _fields_in(value):
                objects.chat.append(fields)
                objects.answers += [fields] if name in _ANSWERS else []
            elif name in _CHAT_PARTS:
                yield from ((name, item, True) for item in value[:_MAX_FIELDS] if isinstance(item, dict))
                continue
        child = _object_in(value)
        if child is None:
            continue
        # An object may be under the name of the event: `{"type": "incident.created", "incident.created": {…}}`.
        if is_text := isinstance(value, str):
            values.pop(name, None)
        if _is_wrapper(name) or is_alone or is_text or key in texts:
            yield name, child, is_chat
        elif name in _ANSWERS:
            objects.answers.append(_plain_values(child))
            objects.chat.append(objects.answers[-1])
        elif name in _CHAT_PARTS or name in _CHOSEN or is_chat:
            yield name, child, True
        elif not table.FORMER.search(name):
            objects.inner.append(_plain_values(child))
            _collect_things(name, child, objects, depth=3)


def _collect_things(name: str, child: _Object, objects: MessageObjects, *, depth: int) -> None:
    if is_of_other(name) or _OF_OTHERS.fullmatch(name) or len(objects.things) >= _MAX_OBJECTS:
        return
    values = _plain_values(child)
    _qualify(name, values)
    objects.things.append(values)
    for key, value in islice(child.items(), MAX_VALUES) if depth > 1 else ():
        if (inner := _object_in(value)) is not None:
            _collect_things(fold(key), inner, objects, depth=depth - 1)


def is_of_other(name: str) -> bool:
    """Returns whether what has this name is of another thing, or how it was."""
    return _OF_ANOTHER.fullmatch(name) is not None or table.FORMER.search(name) is not None


def _is_wrapper(name: str) -> bool:
    if _OF_ANOTHER.fullmatch(name):
        return False
    if name in WRAPPERS or name in _RUNS or name.endswith("run"):
        return True
    return name.endswith(_WRAPPER_ENDINGS) and name not in _NO_WRAPPERS and not table.FORMER.search(name)


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
    for name, value in islice(level.items(), MAX_VALUES):
        if name in _OF_FORMAT:
            continue
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
    if "end" in level and "start" in found:
        found.setdefault(fold("ended_at"), level["end"] or False)
    for name in [name for name in found if name.startswith("last") and name.endswith("id")]:
        if text_of(found.get(current := name.removeprefix("last"))) == "0":
            found[current] = found[name]  # Over, so that it is no current problem any more.
    _add_without_prefix(found)
    return found


def _add_without_prefix(values: dict[str, object]) -> None:
    """Adds the names without the word that all of them begin with: the `SERVICE` of a `MONIT_SERVICE`."""
    if len(values) < _MIN_PREFIXED:
        return
    names = [name for name in values if isinstance(name, table.FieldName) and len(name.words) > 1]
    if len(names) == len(values) and len({name.words[0] for name in names}) == 1:
        for name in names:
            values.setdefault(fold("_".join(name.words[1:])), values[name])


#: The names of a name in an object: `{"status": {"id": 9, "bezeichnung": "Storniert"}}`.
_NAMES_IN: Final = (
    "name", "value", "display_value", "label", "text", "title", "bezeichnung", "nom", "nombre", "nome", "naam",
)  # fmt: skip


@lru_cache(maxsize=512)
def _key_of_name(names: tuple[str, ...]) -> str | None:
    """Returns the key of an object's name, in any language."""
    lower = {name.casefold(): name for name in reversed(names)}
    return next((lower[key] for key in _NAMES_IN if key in lower), None)


def _name_in(value: _Object) -> object:
    if isinstance(slug := value.get("slug"), str) and "/" in slug:
        return slug
    if (key := _by_shape(_key_of_name, value)) is not None:
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


# ---------- values by the names that tools share

_PLACE: Final = itemgetter(0, 1)
#: A template's placeholder that the sender did not fill in.
_PLACEHOLDER: Final = re.compile(r"\s*(\{+\s*[\w.:$#]+\s*\}+|\$\{?[\w.:]+\}?\$?|%[\w.]+%|<%.*%>|##\w+##)\s*$")


_OF_DELIVERY: Final = re.compile(
    r"(?i)(?:(?:evt|events?|msg|message|dlv|delivery|whk|webhook|notif\w*|req)[-_:]\w|\S+\W1\d{9}(?:\d{3})?\W([a-z]+)$)"
)


def is_of_delivery(value: object) -> bool:
    """Returns whether an id says that it is one of an event or a message: "evt_1f", or ends with a time and a status,
    such as "check-7:1326910500:OK"."""
    found = _OF_DELIVERY.match(value) if isinstance(value, str) else None
    return found is not None and (found[1] is None or found[1].casefold() in table.MEANINGS)


def fill(values: dict[str, Value], name: str, candidates: Iterator[object]) -> None:
    """Fills a field with the first candidate that has a value when cleaned: no placeholder, and no id of a delivery."""
    field, delivery_id = FIELDS[name], values.get("delivery_id")
    for candidate in candidates:
        if isinstance(candidate, str) and _PLACEHOLDER.match(candidate):
            continue
        if name == "source_id" and (is_of_delivery(candidate) or text_of(candidate) in (delivery_id, "0")):
            continue
        if name == "source_id" and isinstance(candidate, str):
            candidate, _ = split_id(candidate)
        if (value := CLEANERS[field.kind](candidate, field.length)) is not None:
            values[name] = value
            return


def find_any(levels: list[dict[str, object]], names: table.Names) -> Iterator[object]:
    """Yields the values that have one of the names, the likeliest first, except true and false."""
    found: list[tuple[int, int, object]] = []
    for depth, level in enumerate(levels):
        for name in names.keys() & level.keys():
            if type(value := level[name]) is not bool:
                found.append((names[name], -depth if name in table.INNERMOST_FIRST else depth, value))  # noqa: PERF401
    if len(found) > 1:
        found.sort(key=_PLACE)
    for _, _, value in found:
        yield value


def matching(levels: list[dict[str, object]], matches: table.NamePattern) -> Iterator[object]:
    """Yields the values whose names match, except those of how it was."""
    for level in levels:
        for name, value in level.items():
            if matches[name] and type(value) is not bool:
                yield value


def texts_of(levels: list[dict[str, object]], names: table.Names) -> Iterator[str]:
    return (value for value in find_any(levels, names) if isinstance(value, str))


def matching_sorted(levels: list[dict[str, object]], matches: table.NamePattern) -> Iterator[object]:
    """Yields the values whose names match, by name, so that another order of a message's fields makes no difference."""
    for level in levels:
        yield from (level[name] for name in sorted(level) if matches[name])


def first_line(value: object) -> object:
    """Returns the first line of a text that has several, without the marks of a heading."""
    if not isinstance(value, str) or "\n" not in value:
        return value.lstrip("# ") if isinstance(value, str) else value
    return next((line for line in value.splitlines() if any(map(str.isalnum, line))), value).strip("# \r")


# ---------- spelling


@dataclass(frozen=True, slots=True, eq=False)
class KnownNames:
    """The names that paths look for in an object, each with those that they look for below it."""

    below: Mapping[str, KnownNames]
    is_outermost: bool = True

    @classmethod
    def of_paths(cls, paths: Iterable[tuple[str, ...]], *, is_outermost: bool = True) -> KnownNames:
        below: dict[str, list[tuple[str, ...]]] = {}
        for first, *others in filter(None, paths):
            below.setdefault(first, []).append(tuple(others))
        return cls({name: cls.of_paths(others, is_outermost=False) for name, others in below.items()}, is_outermost)


def spelled(payload: _Object, known: KnownNames) -> _Object:
    """Returns a message in which paths find names in another spelling too: "Status ID" and "StatusId" are `status_id`,
    unless another path has that name."""
    if len(payload) > _MAX_NAMES:
        return payload
    added, objects = _by_shape(_spelling_of, payload, known)
    found: dict[str, object] = {name: payload[key] for name, key in added}
    for name, key, below in objects:
        child = payload[key]
        if isinstance(child, dict) and (other := spelled(child, below)) is not child:
            found[name] = other
    return {**payload, **found} if found else payload


type _Spelling = tuple[tuple[tuple[str, str], ...], tuple[tuple[str, str, KnownNames], ...]]


@lru_cache(maxsize=512)
def _spelling_of(names: tuple[str, ...], known: KnownNames) -> _Spelling:
    """Returns the known names that are spelled otherwise, each with its spelling, and all that may be of objects."""
    written = {name.casefold(): name for name in reversed(names)}
    folded = {fold(name): name for name in reversed([*known.below]) if name.casefold() not in written}
    paths = {name.casefold() for name in known.below}
    added = {
        folded[spelling]: name
        for name in reversed(names)
        if name.casefold() not in paths and (spelling := fold(name)) in folded
    }
    if (
        not known.is_outermost
        and folded.get(fold("name")) not in {None, *added}
        and (key := _key_of_name(names)) is not None
    ):
        added["name"] = key
    keys = {name: name if name in names else written.get(name.casefold(), added.get(name)) for name in known.below}
    objects = (
        (name if name in added else key, key, known.below[name])
        for name, key in keys.items()
        if key is not None and known.below[name].below
    )
    return tuple(added.items()), tuple(objects)


# ---------- tickets


@dataclass(frozen=True, slots=True)
class TicketForm:
    """The one form of a ticket's messages that a kind's mapping reads.

    `place` is the name of the object that has the ticket's fields. `delivery` are the names that only an envelope has,
    and `shared` those that mean something else in it than in a ticket, such as its `id`, by folded name.
    """

    place: str
    delivery: frozenset[str]
    shared: frozenset[str]


_ANY_FORM: Final = TicketForm("", frozenset(), frozenset())
#: What a ticket is called, and objects around it, by folded name.
_TICKET_NAMES: Final = frozenset({
    "ticket", "tickets", "fault", "faults", "incident", "incidents", "servicerequest", "request", "requests", "case",
    "cases", "issue", "issues", "melding", "meldung", "anfrage", "vorgang", "demande", "richiesta", "segnalazione",
    "incidencia",
    "solicitud",
})  # fmt: skip
_CONTAINERS: Final = frozenset({
    "object", "objects", "data", "payload", "body", "content", "record", "records", "item", "items", "entity",
    "envelope", "result", "response", "eventdata", "message", "resource",
})  # fmt: skip
_TICKET_PREFIX: Final = "ticket"
_BRACKETS: Final = re.compile(r"([^\[\].]+)((?:\[[^\[\]]+\])+)")
#: The fields of which a ticket has one.
_OF_ANY_TICKET: Final = frozenset({
    *table.OF_TICKETS["source_id"], *table.PROPER_TITLES, "id", "faultid", "ticketsummary", "ticketsubject",
    "tickettitle", "ticket", "objectid",
})  # fmt: skip
_MAX_NESTED: Final = 4
_MAX_NAMES: Final = 5000


def unwrapped(payload: _Object, form: TicketForm) -> _Object:
    """Returns a ticket's message in the form that its kind's mapping reads: the fields of the envelope at the top, and
    those of the ticket in one object, whatever the message wraps them in. Nothing is left out, so that paths of a user
    find what they found in the message."""
    ticket = payload.get(form.place)
    if len(payload) > _MAX_NAMES or (type(ticket) is dict and _by_shape(_are_of_envelope, payload, form)):
        return payload
    outer, found = _unwrap(_without_brackets(payload), form, depth=0)
    fields = _own_fields(outer, form, is_envelope=found is not None)
    fields.update(found or {})
    if ticket is not None and not isinstance(ticket, dict | list):
        fields.setdefault("id", ticket)
    aliases = {alias: fields[name] for alias, name in _by_shape(_aliases_of, fields)}
    return {**outer, form.place: {**aliases, **fields}}


def _by_shape[T](read: Callable[..., T], names: Iterable[str], *others: object) -> T:
    """Calls a function of names, which a sender's messages have in common, and remembers what it returns."""
    shape = tuple(names)
    return read(shape, *others) if len(shape) <= _MAX_FIELDS else read.__wrapped__(shape, *others)  # type: ignore[attr-defined]


@lru_cache(maxsize=256)
def _aliases_of(names: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Returns the folded names, those without "ticket" in front or behind too, each with the name that it
    stands for."""
    folded = {fold(name): name for name in reversed(names) if name not in _OF_FORMAT}
    for alias in list(folded):
        if alias.startswith(_TICKET_PREFIX) and alias != _TICKET_PREFIX:
            folded.setdefault(fold(alias.removeprefix(_TICKET_PREFIX)), folded[alias])
        elif alias.endswith(_TICKET_PREFIX) and alias != _TICKET_PREFIX:
            folded.setdefault(fold(alias.removesuffix(_TICKET_PREFIX)), folded[alias])  # the `id` of an `IdTicket`
    return tuple((alias, name) for alias, name in folded.items() if alias != name)


def hoisted(payload: _Object) -> _Object:
    """Returns a ticket's message with the fields of what wraps them at its top; the message itself if nothing does."""
    is_wrapped = any("[" in name for name in payload) or any(
        (len(payload) == 1 or fold(name) in _CONTAINERS) and isinstance(value, dict | list | str)
        for name, value in payload.items()
        if len(payload) <= _MAX_NAMES
    )
    return _unwrap(_without_brackets(payload), _ANY_FORM, depth=0)[0] if is_wrapped else payload


@lru_cache(maxsize=256)
def _are_of_envelope(names: tuple[str, ...], form: TicketForm) -> bool:
    return all(name in form.delivery or name in form.shared or name == form.place for name in map(fold, names))


def _own_fields(outer: _Object, form: TicketForm, *, is_envelope: bool) -> dict[str, object]:
    """Returns the fields of a ticket that are beside its envelope's, or all of them without an envelope."""
    return {name: outer[name] for name in _by_shape(_own_names, outer, form, is_envelope)}


@lru_cache(maxsize=256)
def _own_names(names: tuple[str, ...], form: TicketForm, is_envelope: bool) -> tuple[str, ...]:
    folded = {name: fold(name) for name in names}
    is_envelope |= not form.delivery.isdisjoint(folded.values())
    left_out = form.delivery | form.shared | _TICKET_NAMES if is_envelope else frozenset[str]()
    return tuple(name for name in names if folded[name] not in left_out)


def _unwrap(payload: _Object, form: TicketForm, *, depth: int) -> tuple[dict[str, object], _Object | None]:
    """Returns a message with the fields of what wraps a ticket at its top, and the ticket."""
    outer, ticket = dict(payload), None
    for name, value in payload.items():
        folded = fold(name)
        is_ticket = folded in _TICKET_NAMES
        if not is_ticket and folded not in _CONTAINERS and len(payload) > 1:
            if type(value) is not dict or not _is_titled_ticket(value) or _is_titled_ticket(payload):
                continue
            is_ticket = True
        inner = _object_in(value)
        if inner is None or depth >= _MAX_NESTED or len(inner) > _MAX_NAMES:
            continue
        contents, innermost = _unwrap(_without_brackets(inner), form, depth=depth + 1)
        if is_ticket:
            ticket = ticket or innermost or contents
            continue
        if innermost is None and not _OF_ANY_TICKET.isdisjoint(map(fold, contents)) and not _is_flat(payload, form):
            # The container is the ticket, unless it is an envelope or the ticket is around it.
            own = _own_fields(contents, form, is_envelope=False)
            innermost = own if not _OF_ANY_TICKET.isdisjoint(map(fold, own)) else None
        ticket = ticket or innermost
        for key, content in contents.items():
            outer.setdefault(key, content)
    return outer, ticket


def _is_titled_ticket(payload: _Object) -> bool:
    return len(payload) <= _MAX_NAMES and _by_shape(_have_number_and_title, payload)


@lru_cache(maxsize=256)
def _have_number_and_title(names: tuple[str, ...]) -> bool:
    """Returns whether an object has a ticket's number and title, whatever it is called."""
    folded = [*map(fold, names)]
    return not table.PROPER_TITLES.keys().isdisjoint(folded) and any(
        name == "id" or name in table.OF_TICKETS["source_id"] or table.NUMBER_NAME[name] for name in folded
    )


def _is_flat(payload: _Object, form: TicketForm) -> bool:
    """Returns whether the fields of a ticket are at the top of a message."""
    return not {name for name in map(fold, payload) if name in _OF_ANY_TICKET - form.delivery - form.shared} <= {
        "ticket"
    }


def _without_brackets(payload: _Object) -> _Object:
    """Returns a message with the objects that a form writes in its names: `ticket[status][name]`."""
    if not any("[" in name for name in payload):
        return payload
    nested: dict[str, object] = dict(payload)
    for name, value in payload.items():
        if (match := _BRACKETS.fullmatch(name)) is None:
            continue
        names: list[str] = [match[1], *match[2][1:-1].split("][")]
        level = nested
        for key in names[:-1]:
            child = level.setdefault(key, {})
            if not isinstance(child, dict):
                break
            level = child
        else:
            level.setdefault(names[-1], value)
    return nested


#: Lists of messages.
_BATCHES: Final = frozenset({"events", "notifications", "messages", "deliveries", "batch"})


def tickets_in(payload: _Object) -> list[dict[str, object]]:
    """Returns the messages of a body that lists several tickets or messages under one name; none otherwise."""
    for name, value in payload.items():
        if not isinstance(value, list) or len(value) < 2 or fold(name) not in _TICKET_NAMES | _CONTAINERS | _BATCHES:
            continue
        if not all(isinstance(item, dict) and not _OF_ANY_TICKET.isdisjoint(map(fold, item)) for item in value):
            continue
        others = {key: other for key, other in payload.items() if key != name}
        is_ticket = fold(name) in _TICKET_NAMES
        return [{**others, _TICKET_PREFIX: item} if is_ticket else {**others, **item} for item in value]
    return []
