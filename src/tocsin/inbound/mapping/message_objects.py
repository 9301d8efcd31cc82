"""The objects of a message in which the names that tools share are looked for, as plain values by folded name. Pure.

`alert_id`, `alertId`, `Alert-ID` and `ALERT ID` fold to one name. Tools wrap a message in objects such as `data` or
`alert`, write its fields as a list of names and values, and put what people read into the parts of a chat message.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import msgspec

#: Objects that a message is wrapped in, from the outside in, by folded name.
WRAPPERS: Final = frozenset({
    "data", "alert", "alerts", "event", "events", "incident", "issue", "payload", "monitor", "check", "problem",
    "alarm", "ticket", "item", "message", "body", "content", "detail", "details", "notification", "notifications",
    "object", "record", "records", "resource", "properties", "attributes", "essentials", "component", "alertgroup",
    "error",
})  # fmt: skip
#: Names that end so are wrappers too, such as `webhook_event_data`.
_WRAPPER_ENDINGS: Final = (
    "data", "payload", "attributes", "alert", "incident", "event", "alarm", "problem", "monitor", "check", "issue",
)  # fmt: skip
_NO_WRAPPERS: Final = frozenset({"metadata", "userdata", "customdata"})
#: What runs, and has another id in each run.
_RUNS: Final = frozenset({
    "build", "run", "job", "workflow", "workflowrun", "pipeline", "checkrun", "checksuite", "deployment",
})  # fmt: skip
_RUN_OBJECTS: Final = _RUNS | {"resource", "payload", "data", "event"}
_RUN_NUMBERS: Final = frozenset({"buildnumber", "runnumber", "runid", "buildid"})
#: What an event of CloudEvents or EventBridge has: its `id` is that of one delivery.
_ENVELOPES: Final = frozenset({"specversion", "detailtype"})
#: The names of what a message is about, such as "build.finished".
_EVENT_NAMES: Final = ("objectkind", "kind", "eventtype", "eventname", "event", "type")
_RUN_WORD: Final = re.compile(r"\b(build|run|job|workflow|pipeline|check_run|check_suite|deploy(ment)?)(?=[._ :-]|\b)")

#: The parts of a message to a chat (Slack, Teams, Discord, Google Chat), which may be lists.
_CHAT_PARTS: Final = frozenset({
    "attachments", "embeds", "blocks", "sections", "body", "content", "cards", "cardsv2", "card", "header", "widgets",
})  # fmt: skip
#: The names of a name and its value in a list of fields.
_FIELD_NAMES: Final = (
    ("name", "value"), ("title", "value"), ("label", "value"), ("key", "value"), ("topLabel", "text"),
)  # fmt: skip
#: "*Status:* down", a field of a Slack block.
_WRITTEN_FIELD: Final = re.compile(r"\*?(\w[\w ]{0,30}):\*?\s+(\S.*)")
#: Names of how it was.
FORMER: Final = re.compile(r"old|prev|last|before|from|former")

_MAX_DEPTH: Final = 6
_MAX_OBJECTS: Final = 60
_MAX_FIELDS: Final = 100
_MAX_CACHED_CHARS: Final = 60

type _Object = Mapping[str, object]


def fold(name: str) -> str:
    """Returns a name without case, underscores, hyphens and spaces, and without the `X-Vendor-` of a header."""
    return _fold(name) if len(name) <= _MAX_CACHED_CHARS else _fold.__wrapped__(name)


@lru_cache(maxsize=4096)
def _fold(name: str) -> str:
    return re.sub(r"[\W_]+", "", re.sub(r"^[xX]-\w+-", "", name)).casefold()


@dataclass(frozen=True, slots=True)
class MessageObjects:
    """The plain values of a message by folded name, from the outside in.

    `levels` are the message and what it is wrapped in; `chat` are lists of fields and the parts of a chat message;
    `inner` are the other objects in them, which may be of somebody or something else. `runs` are those of `levels` that
    are one run of a job, or all if the message says that it is about one.
    """

    levels: list[dict[str, object]]
    chat: list[dict[str, object]]
    inner: list[dict[str, object]]
    runs: list[dict[str, object]]

    @property
    def texts(self) -> list[dict[str, object]]:
        return [*self.levels, *self.chat]


def has_runs(payload: _Object) -> bool:
    """Returns whether a message may be about one run of a job."""
    return any(isinstance(value, Mapping) and fold(key) in _RUN_OBJECTS for key, value in payload.items()) or any(
        isinstance(event := payload.get(name), str) and _RUN_WORD.search(event.casefold())
        for name in ("type", "event", "event_type", "eventType", "object_kind")
    )


def collect(payload: _Object) -> MessageObjects:
    """Returns the objects of a message, outer ones first."""
    objects = MessageObjects([], [], [], [])
    level: list[tuple[str, _Object, bool]] = [("", payload, False)]
    count = 0
    for _ in range(_MAX_DEPTH):
        inner_level: list[tuple[str, _Object, bool]] = []
        for name, current, is_chat in level:
            count += 1
            if count > _MAX_OBJECTS:
                return objects
            values = _plain_values(current)
            (objects.chat if is_chat else objects.levels).append(values)
            if not is_chat and (name in _RUNS or (name and _RUN_NUMBERS & values.keys())):
                objects.runs.append(values)
            inner_level += _children(current, objects, is_chat=is_chat)
        level = inner_level
    if not _ENVELOPES.isdisjoint(objects.levels[0]):
        objects.levels[0].pop("id", None)
    if not objects.runs and any(_RUN_WORD.search(event) for event in _events_of(objects.levels[0])):
        objects.runs.extend(objects.levels)
    return objects


def _events_of(values: Mapping[str, object]) -> Iterator[str]:
    return (event.casefold() for name in _EVENT_NAMES if isinstance(event := values.get(name), str))


def _children(parent: _Object, objects: MessageObjects, *, is_chat: bool) -> Iterator[tuple[str, _Object, bool]]:
    is_alone = len(parent) == 1
    # An object under the name of the event: `{"event_type": "incident.created", "incident.created": {…}}`.
    events = {value for value in parent.values() if isinstance(value, str)}
    for key, value in parent.items():
        name = fold(key)
        if isinstance(value, list):
            if fields := _fields_in(value):
                objects.chat.append(fields)
            elif name in _CHAT_PARTS:
                yield from ((name, item, True) for item in value[:_MAX_FIELDS] if isinstance(item, Mapping))
                continue
        child = _object_in(value)
        if child is None:
            continue
        if _is_wrapper(name) or is_alone or key in events:
            yield name, child, is_chat
        elif name in _CHAT_PARTS or is_chat:
            yield name, child, True
        elif not FORMER.search(name):
            objects.inner.append(_plain_values(child))


def _is_wrapper(name: str) -> bool:
    if name in WRAPPERS or name in _RUNS:
        return True
    return name.endswith(_WRAPPER_ENDINGS) and name not in _NO_WRAPPERS and not FORMER.search(name)


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


def _fields_in(items: list[object]) -> dict[str, object]:
    """Returns the values of a list of fields, such as the facts of a card, by folded name; empty if it is none."""
    fields: dict[str, object] = {}
    for item in items[:_MAX_FIELDS]:
        if not isinstance(item, Mapping):
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
        plain = _name_in(value) if isinstance(value, Mapping) else value
        if isinstance(plain, str | int | float) and plain != "":
            found.setdefault(fold(name), plain)
    return found


def _name_in(value: _Object) -> object:
    for key in ("name", "value", "display_value", "label", "text"):
        if key in value:
            return value[key]
    metadata = value.get("metadata")
    return metadata.get("name") if isinstance(metadata, Mapping) else None
