"""The subject of a message by likelihood, and the message as people read it, for messages in which a kind's own paths
find neither. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from itertools import chain
from typing import Final

from tocsin.inbound.expressions.fields import FIELDS, Value, clean_line, text_of
from tocsin.inbound.expressions.mapped import MappedFields
from tocsin.inbound.mapping.message_objects import MessageObjects
from tocsin.inbound.mapping.shared_names import (
    FAULT_NAME,
    FOLDED,
    HOST,
    HOST_ID,
    MONITORED,
    MONITORED_NAME,
    NAMES,
    PROPER_TITLES,
    RUN_OF,
    SENTENCE_NAME,
    SENTENCES,
    SUBJECTS,
    TITLE_NAME,
    TITLES,
    TYPE_NAME,
    WHOLES,
    fill,
    find_any,
    first_line,
    in_order,
    matching,
    matching_sorted,
    texts_of,
)

#: Names of a sentence that says what happened.
_HAPPENINGS: Final = in_order((
    "alertmessage", "statemessage", "serviceoutput", "message", "reason", "msg", "errormessage", "error",
))  # fmt: skip
_SUMMARY: Final = in_order(("summary",))
_NAME: Final = in_order(("name",))
_MAX_HAPPENING_CHARS: Final = 150
_MAX_TEXT_LINES: Final = 200
_MAX_TEXT_CHARS: Final = 20_000

type _Object = Mapping[str, object]


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
            find_titles(objects),
            () if objects.has_commit else (own,),
            _named_problems(objects, values),
            find_any(objects.things, TITLES),
            _sentences(payload),
        )
        fill(values, "subject", map(first_line, titles))
        _complete_name(values, objects, mapped.tags.get(HOST))
        _name_the_monitored(values, objects)
    long_text = values.get("long_text", values.get("details"))
    if "long_text" in fields and (long_text is None or long_text == values.get("subject")):
        values.pop("long_text", None)
        fill(values, "long_text", iter((readable(payload),)))
    return MappedFields(values, mapped.tags, mapped.custom, mapped.notes)


def find_titles(objects: MessageObjects) -> Iterator[object]:
    """Yields titles by likelihood: texts of several words before single ones. A sentence beside a commit is the
    commit's."""
    yield from find_any(objects.texts, TITLES)
    yield from matching(objects.texts, TITLE_NAME)
    sentences: list[object] = []
    if not objects.has_commit:
        sentences = [*find_any(objects.texts, SENTENCES), *matching(objects.texts, SENTENCE_NAME)]
    yield from filter(_has_words, (*sentences, *matching(objects.texts, TYPE_NAME)))
    yield from sentences


def _has_words(text: object) -> bool:
    return isinstance(text, str) and " " in text.strip()


def _complete_name(values: dict[str, Value], objects: MessageObjects, host: str | None) -> None:
    """Adds what happened to a subject that only names something, or where: "Shop" and "HTTP 500" are "Shop: HTTP 500",
    "Shop" and "Shop is down" are the latter, and "Load" of "db1" is "db1: Load"."""
    subject, limit = values.get("subject"), FIELDS["subject"].length
    if not isinstance(subject, str) or objects.has_commit:
        return
    proper, names, sentences = (
        {clean_line(first_line(text), limit) for text in find_any(objects.texts, kind)}
        for kind in (PROPER_TITLES, NAMES, SENTENCES)
    )
    if subject in proper or (subject in sentences and subject not in names):
        return
    happenings = chain(
        texts_of(objects.texts, _HAPPENINGS),
        filter(_has_words, matching(objects.texts, TYPE_NAME)),
        matching(objects.texts, FAULT_NAME),
    )
    for candidate in happenings if subject in names else ():
        if (text := clean_line(first_line(candidate), _MAX_HAPPENING_CHARS)) is not None and not text.endswith("…"):
            is_named = subject.casefold() in text.casefold()
            fill(values, "subject", iter((text if is_named else f"{subject}: {text}",)))
            return
    _prefix(values, iter((host,)) if host is not None else matching(objects.things, MONITORED_NAME))


def _name_the_monitored(values: dict[str, Value], objects: MessageObjects) -> None:
    """Puts the name of what is monitored in front of a subject that lacks it, such as "HTTP 500"."""
    subject = values.get("subject")
    summaries = {clean_line(first_line(text), FIELDS["subject"].length) for text in find_any(objects.texts, _SUMMARY)}
    names = chain(
        find_any(objects.levels, SUBJECTS),
        matching(objects.levels, MONITORED_NAME),
        find_any(objects.levels, WHOLES),
        find_any(objects.levels, _NAME) if subject in summaries else (),
    )
    _prefix(values, names)
    if objects.runs:
        _prefix(values, find_any(objects.levels, WHOLES))


def _prefix(values: dict[str, Value], names: Iterator[object]) -> None:
    """Puts the first name in front of a subject that lacks it."""
    subject = values.get("subject")
    name = next((text for name in names if isinstance(name, str) and (text := clean_line(name, 100))), None)
    if name is not None and isinstance(subject, str) and name.casefold() not in subject.casefold():
        fill(values, "subject", iter((f"{name}: {subject}",)))


def _named_problems(objects: MessageObjects, values: Mapping[str, Value]) -> Iterator[str]:
    """Yields what is monitored with its status, such as "ap-lobby: AP_DISCONNECTED"."""
    status = text_of(values.get("source_status"))
    runs = matching_sorted(objects.levels, RUN_OF) if objects.runs else ()
    hosts = chain(find_any(objects.texts, FOLDED[HOST]), matching(objects.texts, HOST_ID))
    for name in chain(find_any(objects.texts, MONITORED), runs, hosts):
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
