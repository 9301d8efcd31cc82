"""The subject of a message by likelihood, and the message as people read it, for messages in which a kind's own paths
find neither. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import chain
from typing import Final, TypeGuard

from tocsin.inbound.fields import FIELDS, MappedFields, Value, clean_line, priority_of, text_of
from tocsin.inbound.mapping import evidence_table as table
from tocsin.inbound.mapping.evidence_table import words_of
from tocsin.inbound.mapping.message_objects import (
    MessageObjects,
    collect,
    fill,
    find_any,
    first_line,
    is_of_other,
    matching,
    matching_sorted,
    texts_of,
)
from tocsin.inbound.mapping.status_words import is_failure, meaning_of, names_failure

#: Up to three words.
_STATUS: Final = re.compile(r"(?=.{2,30}$)[^\W\d]\S*( [^\W\d]\S*){0,2}(?<!\.)")
#: An address, an id, a time or a number.
_NO_TEXT: Final = re.compile(r"\w+://\S+|[\da-fA-F-]{20,}|[\d\s.,:/TZ+-]+|[\w.-]+@[\w.-]+")
#: A mount point, a device or a drive.
_PATH: Final = re.compile(r"(?:/[\w-]{1,30}){1,2}/?|[A-Z]:\\?")
_SUMMARY: Final = table.in_order(("summary",))
_NAME: Final = table.in_order(("name",))
_MAX_HAPPENING_CHARS: Final = 150
_MAX_SAID: Final = 3
#: From this number of words on, a name is a title.
_MIN_SENTENCE_WORDS: Final = 4
#: Up to this number of words, a text names a thing.
_MAX_NAME_WORDS: Final = 6
_ADDRESS: Final = re.compile(r"\w+://(?:[^/@]*@)?([^/?#:]+)(?::\d+)?([^?#]*).*")
#: A page of a tool about one alert or check has an id in its address, or a longer path.
_SITE: Final = re.compile(r"\w+://[^/?#]+/?[a-z]*/?")
#: No code such as "AL_2", no id such as "sub_3", no date and no list of addresses.
_THING: Final = re.compile(
    r"(?=.*[^\W\d_]{2})(?![A-Z\d]*_[A-Z\d_]*$)(?![a-z]+_\w*\d\w*$)"
    r"(?!.*(?:://|\d\d:\d\d|\d{4}-\d\d|\d\d[./]\d\d[./])).{3,60}"
)
_MAILBOX: Final = re.compile(r"[\w.+-]+@[\w.-]+")
#: "Disk-2", "Klima Serverraum 1" and "borg.service", and no word such as "performance".
_NAMED: Final = re.compile(r"[^\W_a-zäöüéèß]|[ .]")
#: "Press 7", "T-881 JC", and neither "SEV1" nor "2 of 3".
_NUMBERED: Final = re.compile(r"[^\W\d_]{2}[^:/]*[ -][A-Z]?\d+\b|\b[A-Z]-\d+\b")
#: One more thing that a subject names: "Trunk 0041", "Halle 4", "WR-12", and neither an expression nor "ORA-01017".
_CERTAIN: Final = re.compile(r"(?![A-Z]{3}-\d+$|[a-z]{2}-\w+-\d$)[^\W\d_][\w.#/-]*( [\w.#/-]+){0,3}")
#: "dag_sales_mart", and no id.
_CODE_NAME: Final = re.compile(r"[^\W\d]+[_-][\w-]+")
_MAX_TEXT_LINES: Final = 200
_MAX_TEXT_CHARS: Final = 20_000

type _Object = Mapping[str, object]


def with_texts(
    mapped: MappedFields,
    payload: _Object,
    objects: MessageObjects | None,
    fields: Collection[str],
    guesses: Collection[str],
) -> MappedFields:
    """Returns the fields of a message that opens, with a subject by likelihood and a long text: if it has none, or only
    the subject again, the whole message in a readable form. A likely subject names what is monitored. `objects` is None
    if they were not needed yet: the message is plain, or has what the kind's own paths look for."""
    values = dict(mapped.values)
    if "subject" in fields and ("subject" not in values or "subject" in guesses):
        own = values.pop("subject", None)
        if objects is None and _has_words(_headline(own)) and own == payload.get("subject"):
            # The likeliest title of a plain message, and complete.
            fill(values, "subject", map(_headline, filter(says, (own,))))
        if "subject" not in values:
            found = objects or collect(payload)
            _find_subject(values, payload, found, own, mapped.tags.get(table.HOST))
            if objects is not None or guesses:  # A ticket's status says nothing of the problem.
                _add_status(values, found)
    long_text = values.get("long_text", values.get("details"))
    if "long_text" in fields and (long_text is None or long_text == values.get("subject")):
        values.pop("long_text", None)
        fill(values, "long_text", iter((readable(payload),)))
    return MappedFields(values, mapped.tags, mapped.custom, mapped.notes)


#: The tags that say what an alert is about, in the order in which a subject names them.
_NAMING_TAGS: Final = ("problem_type", table.HOST)
#: "KubePodCrashLooping" and "ContainerOOM", the name of a rule, or one of some words.
_RULE_NAME: Final = re.compile(
    r"(?=.*(?:[a-z\d][A-Z]|[A-Z]{2}[a-z]{2}))[A-Z][A-Za-z\d]{3,60}|(?=.{5,60}$)\S+(?: \S+){1,5}"
)
#: "HostDown" says no more than "host web1 is down".
_MAX_SAID_AGAIN: Final = 2
#: "web1", "10.0.0.7" or "web1.example:9100", of which the subject may name the first part, and no id of a machine.
_HOST: Final = re.compile(r"(?!\S*[\da-f]{12})(\d+(?:\.\d+){3}|[^.:]+)[^:]{0,60}(?::\d+)?")


def with_tags_named(mapped: MappedFields) -> MappedFields:
    """Returns the fields with a subject that names the check and the host of the kind's own tags."""
    values, subject = dict(mapped.values), str(mapped.values["subject"])
    name, _, title = subject.partition(": ")
    if title.casefold().startswith(f"{name.casefold()} "):
        values["subject"] = subject = title  # "web1: web1 is down"
    check, host = map(mapped.tags.get, _NAMING_TAGS)
    if check is not None and 1 < len(check.split()) < _MIN_SENTENCE_WORDS and meaning_of(check) is None:
        _prefix(values, iter((check,)))
    elif check is not None and _is_rule_beside(check, subject):
        # What a runbook is filed under: "Filesystem is read-only (NodeFilesystemReadOnly)".
        fill(values, "subject", iter((f"{subject.rstrip('.')} ({check})",)))
    # An error of a program is on no host; its project or service has the name of a repository, "web-shop".
    service = mapped.tags.get("business_service")
    host = service if host is None and service is not None and service.islower() else host
    found = _HOST.fullmatch(host or "")
    if host is not None and found is not None and found[1].casefold() not in subject.casefold():
        _prefix(values, iter((host,)))
    return MappedFields(values, mapped.tags, mapped.custom, mapped.notes)


def _is_rule_beside(check: str, subject: str) -> bool:
    """Returns whether a name is that of a rule, and a subject has other words."""
    if not says(check) or _RULE_NAME.fullmatch(check) is None or table.fold(check) in table.fold(subject):
        return False
    named = words_of(check)
    return len(named) > _MAX_SAID_AGAIN or not table.ANY_THING.union(words_of(subject)).issuperset(named)


def _find_subject(
    values: dict[str, Value], payload: _Object, objects: MessageObjects, own: Value, host: str | None
) -> None:
    """Fills the subject; `own` is what the kind's own paths found."""
    titles = _likely_titles(objects, values)
    fill(values, "subject", map(_headline, filter(says, titles)))
    if "subject" not in values:
        titles = filter(_has_words, find_titles(objects))
        fill(values, "subject", map(first_line, chain(find_sites(objects), titles, _sentences(payload), (own,))))
    bare = values.get("subject")
    _complete_name(values, objects, host)
    # What the sender calls the subject of its message is complete.
    is_own = bare == clean_line(_headline(own), FIELDS["subject"].length) and own == payload.get("subject")
    if not (is_own and _has_words(own)):
        _name_the_monitored(values, objects, host, bare)


def _likely_titles(objects: MessageObjects, values: Mapping[str, Value]) -> Iterator[object]:
    yield from find_titles(objects)
    yield from filter(_has_words, find_any(objects.things, table.SENTENCES))
    yield from _find_sentences(objects)
    yield from _named_problems(objects, values)
    yield from find_any(objects.things, table.TITLES)
    yield from sorted(matching(objects.texts, table.TYPE_NAME), key=_has_words, reverse=True)


def find_titles(objects: MessageObjects) -> Iterator[object]:
    """Yields titles by likelihood: texts of several words before single ones. A sentence beside a commit is the
    commit's."""
    answers = (value for level in objects.answers for name, value in level.items() if not table.OTHER_ROLE[name])
    yield from sorted(filter(_has_words, answers), key=lambda answer: -len(str(answer)))[:1]
    yield from find_any(objects.texts, table.PROPER_TITLES)
    yield from matching(objects.texts, table.TITLE_NAME)
    yield from filter(_has_words, find_any(objects.levels, table.HEADLINE))
    everywhere = objects.everywhere
    names = [*find_any(everywhere, table.NAMES), *matching(objects.things, table.ANY_NAME)]
    yield from (name for name in names if isinstance(name, str) and len(name.split()) >= _MIN_SENTENCE_WORDS)
    yield from find_any(objects.texts, table.NAMES)
    yield from (name for name in find_any(objects.things, table.NAMES) if _has_words(name))
    own_texts = [] if objects.has_commit else objects.texts
    yield from filter(_has_words, find_any(own_texts, table.SENTENCES))
    yield from (text for text in matching(objects.levels, table.TYPE_NAME) if _is_code(text) and str(text).isupper())
    yield from filter(
        _has_words, chain(matching(own_texts, table.SENTENCE_NAME), matching(objects.texts, table.TYPE_NAME))
    )
    yield from (text for text in matching(objects.levels, table.TYPE_NAME) if _is_code(text))
    yield from (text for text in find_any(objects.things, table.ALIASES["event"]) if _is_code(text))
    yield from filter(says, matching(objects.texts, table.FAULT_NAME))
    yield from filter(says, find_any(objects.levels, _PROBLEMS))


def _has_words(text: object) -> bool:
    return isinstance(text, str) and " " in text.strip() and _NO_TEXT.fullmatch(text.strip()) is None


def _find_sentences(objects: MessageObjects) -> Iterator[str]:
    """Yields texts of several words under any name."""
    for level in objects.texts:
        for name, value in level.items():
            if (
                not isinstance(value, str)
                or "://" in value
                or table.OTHER_ROLE[name]
                or table.ANY_TYPE[name]
                or not says(value)
            ):
                continue
            if sum(map(str.isalpha, value[:_MAX_HAPPENING_CHARS].split())) >= _MIN_SENTENCE_WORDS:
                yield value


def _is_code(text: object) -> bool:
    """Returns whether a text is the code of a problem, such as "RDS_CONNECTIVITY_ISSUE" and "HttpServerError"."""
    if not says(text) or not isinstance(text, str) or "." in text or "/" in text:
        return False
    return len(words_of(text)) > 1 and (text[:1].isupper() or is_failure(text))


def says(text: object) -> bool:
    """Returns whether a text says what it is about: it has a word that is not in every message."""
    if not isinstance(text, str) or _NO_TEXT.fullmatch(text.strip()) is not None:
        return False
    words = words_of(text[:_MAX_HAPPENING_CHARS].replace(" a ", " "))
    return any(word not in table.GENERIC and word not in table.MEANINGS for word in words)


def _complete_name(values: dict[str, Value], objects: MessageObjects, host: str | None) -> None:
    """Adds what happened to a subject that only names something, or where: "Shop" and "HTTP 500" are "Shop: HTTP 500",
    "Shop" and "Shop is down" are the latter, and "Load" of "db1" is "db1: Load"."""
    subject = values.get("subject")
    if not isinstance(subject, str) or objects.has_commit:
        return
    if " " in subject and subject in _cleaned(find_any(objects.texts, table.PROPER_TITLES)):
        return
    names = _names_of(objects) | {*find_things(objects, is_certain=True)}
    if " " in subject and subject not in names:
        return
    status, is_short = str(values.get("source_status")), len(subject.split()) < _MIN_SENTENCE_WORDS
    happenings = chain(
        filter(_has_words, texts_of(objects.texts, table.HAPPENINGS)),
        filter(_has_words, matching(objects.texts, table.SENTENCE_NAME)),
        filter(says, matching(objects.texts, table.FAULT_NAME)),
        _statuses_in_words(objects),
        texts_of(objects.texts, table.HAPPENINGS),
        sorted(filter(says, matching(objects.texts, table.TYPE_NAME)), key=_has_words, reverse=True),
        matching(objects.texts, table.FAULT_NAME),
        _find_sentences(objects) if is_short else (),
        (status,) if is_failure(status) and status.casefold() not in table.OF_ALERTS else (),
        filter(is_failure, texts_of(objects.texts, table.ALIASES["event"])),
        filter(_has_words, matching(objects.texts, table.ANY_TYPE)) if is_short else (),
        filter(says, matching(objects.texts, table.SENTENCE_NAME)),
        (text for text in find_things(objects) if _has_words(text) and names_failure(text)),
    )
    for candidate in happenings:
        if (text := clean_line(first_line(candidate), _MAX_HAPPENING_CHARS)) is None or text.endswith("…"):
            continue
        if text.casefold() in subject.casefold():
            continue
        is_named = subject.casefold() in text.casefold()
        fill(values, "subject", iter((text if is_named else f"{subject}: {text}",)))
        return
    if not _prefix(values, iter((host,)) if host is not None else matching(objects.things, table.MONITORED_NAME)):
        kinds = (
            table.KIND_OF_NAME.fullmatch(name) for level in objects.texts for name in level if level[name] == subject
        )
        kind = next((kind[1] for kind in kinds if kind is not None and says(kind[1])), None)
        if kind is not None and "source_status" not in values:
            values["subject"] = f"{kind} {subject}"


def _add_status(values: dict[str, Value], objects: MessageObjects) -> None:
    """Adds the status that says more than that there is a problem, such as "Failed" and "en panne"."""
    subject = values.get("subject")
    if not isinstance(subject, str):
        return
    said = {value for level in objects.texts for value in level.values()}
    everything = {*words_of(subject)}
    own = values.get("source_status")
    kinds = () if names_failure(subject) else filter(_names_problem, matching(objects.texts, table.TYPE_NAME))
    for status in (own, *find_any(objects.texts, table.OUTCOMES), *matching(objects.texts, table.STATUS_NAME), *kinds):
        if status not in said or not isinstance(status, str) or _STATUS.fullmatch(status) is None:
            continue
        words, meaning = words_of(status), meaning_of(status)
        is_telling = priority_of(status) is None and not (table.GENERIC | table.ONLY_A_PROBLEM).issuperset(words)
        is_problem = meaning is table.StatusMeaning.OPEN or _names_problem(status)
        if is_telling and (is_problem or (meaning is None and len(words) == 1)):
            if not everything.issuperset(words):
                fill(values, "subject", iter((f"{subject} ({status})",)))
            return


def _names_problem(text: object) -> bool:
    """Returns whether a kind of message is that of a problem, in words and not in a code: "SMOKE", "Device Down"."""
    return isinstance(text, str) and names_failure(text) and words_of(text) == text.casefold().split()


def _statuses_in_words(objects: MessageObjects) -> Iterator[str]:
    """Yields what fields of a status say in words of their own: "Carriage jam"."""
    for text in matching(objects.texts, table.STATUS_NAME):
        if isinstance(text, str) and _has_words(text) and says(text) and meaning_of(text) is None:
            yield text


def _names_of(objects: MessageObjects) -> set[str | None]:
    names = chain(
        find_any(objects.texts, table.NAMES),
        matching(objects.texts, table.THING_NAME),
        *(matching(objects.everywhere, pattern) for pattern in (table.MONITORED_NAME, table.ANY_NAME)),
    )
    return _cleaned(names)


def _titles_of(objects: MessageObjects) -> set[str | None]:
    titles = chain(find_any(objects.texts, table.PROPER_TITLES), matching(objects.texts, table.TITLE_NAME))
    return _cleaned(titles) | _names_of(objects)


def _cleaned(texts: Iterable[object]) -> set[str | None]:
    return {clean_line(first_line(text), FIELDS["subject"].length) for text in texts}


def _name_the_monitored(values: dict[str, Value], objects: MessageObjects, host: str | None, bare: Value) -> None:
    """Puts the name of what is monitored in front of a subject that lacks it, such as "HTTP 500"; `bare` is what it was
    before it was completed. What a message calls a title names it."""
    everywhere, subject = objects.everywhere, values.get("subject")
    names = chain(
        find_any(everywhere, table.SUBJECTS),
        matching(everywhere, table.MONITORED_NAME),
        find_any(objects.levels, table.WHOLES),
        _names_of_summary(objects, subject),
    )
    is_named = _prefix(values, names)
    if not any(matching(objects.levels, table.RUN_OF)):
        for name in reversed([*matching_sorted(objects.levels, table.RUN_OF_ID)]):
            is_named |= (
                isinstance(name, str) and _CODE_NAME.fullmatch(name) is not None and _prefix(values, iter((name,)))
            )
    hosts = [
        *(host,),
        *matching(everywhere, table.HOST_NAME),
        *find_any(everywhere, table.ALIASES[table.HOST]),
        *matching(everywhere, table.HOST_ID),
        *(() if " " in str(subject) else find_any(objects.texts, table.SERVICES)),
    ]
    part = next(
        (part for part in map(_part, find_parts(objects)) if part.casefold() not in str(subject).casefold()), None
    )
    if part is not None and "subject" in values:
        fill(values, "subject", iter((f"{part}: {values['subject']}",)))
    # "db1: failed" does not say what failed.
    is_bare = str(subject).endswith(f": {values.get('source_status')}")
    is_named |= is_bare and _prefix(values, find_any(objects.texts, table.SERVICES))
    is_named |= _prefix(values, (name for name in hosts if not _is_path(name))) and not is_bare
    is_named |= _prefix(values, find_any(objects.levels, table.WHOLES))
    if not is_named:
        is_titled = bare in _titles_of(objects)
        things = [*find_things(objects, beside=bare, is_certain=is_titled), *(() if is_titled else find_sites(objects))]
        others = [thing for thing in things if thing.casefold() not in str(subject).casefold()]
        if is_bare or len(others) == len(things):
            _prefix(values, iter(others))
    said = str(values.get("subject")).casefold()
    certain = chain(
        (thing for thing in find_things(objects, is_certain=True) if _CERTAIN.fullmatch(thing) is not None),
        find_units(objects),
    )
    others = [thing for thing in certain if thing.casefold() not in said]
    # The one text that may name what it is about: `{"incubator": "North wall"}`.
    is_titled = bool(objects.runs) or any(find_any(objects.texts, table.PROPER_TITLES))
    unknown = [] if others or is_titled else [thing for thing in find_things(objects) if thing.casefold() not in said]
    _prefix(values, iter(others or (unknown if len(unknown) == 1 else ())))


_PROBLEMS: Final = table.in_order(name for name in table.HEADLINE if name != "event")
_NO_THINGS: Final = {**table.SENTENCES, **table.PROPER_TITLES, **table.HEADLINE}


def find_things(objects: MessageObjects, *, beside: object = None, is_certain: bool = False) -> list[str]:
    """Returns what may name a thing where no known name says so: short texts that are no status, severity, time,
    address, id, person or kind; those that look like a name first. `is_certain`: only what hardly names anything else,
    such as "Press 7". `beside`: in the inner object that has this text, too."""
    things: dict[str, bool] = {}
    named_ids = chain(find_any(objects.levels, table.ALIASES["source_id"]), matching(objects.levels, table.ID_NAME))
    ids = {*map(text_of, named_ids)} if is_certain else {None}
    inner = [thing for thing in objects.things if beside is not None and beside in thing.values()]
    for level in (*inner, *objects.levels):
        for name, value in level.items():
            if table.OTHER_ROLE[name] or table.SENTENCE_NAME[name] or name in _NO_THINGS or is_of_other(name):
                continue
            if not isinstance(value, str) or value.casefold() in table.TRUTHS or _THING.fullmatch(value) is None:
                continue
            is_named = says(value) or (table.THING_NAME[name] and _MAILBOX.fullmatch(value) is not None)
            if len(value.split()) > _MAX_NAME_WORDS or meaning_of(value) is not None or not is_named:
                continue
            if value.casefold() in table.EDGES_OF_EVENTS or name in table.ALIASES["severity"]:
                continue
            if not is_certain or table.THING_NAME[name] or (_NUMBERED.search(value) is not None and value not in ids):
                things.setdefault(value, table.THING_NAME[name])
    return sorted(things, key=lambda thing: (not things[thing], _NAMED.search(thing) is None))


def find_units(objects: MessageObjects) -> list[str]:
    """Returns what is called one of several things, or a place, such as `{"inverter": "INV-08"}`."""
    named = set(map(text_of, matching_sorted(objects.levels, table.THING_NAME)))
    return sorted(thing for thing in find_things(objects, is_certain=True) if thing in named and ":" not in thing)


def find_parts(objects: MessageObjects) -> Iterator[str]:
    """Yields the names of parts of a host."""
    yield from (part for part in texts_of(objects.levels, table.PARTS) if any(map(str.isalpha, part)))
    for level in objects.levels:
        yield from (value for name, value in level.items() if _is_path(value) and not table.OTHER_ROLE[name])


def _part(part: str) -> str:
    return part.rstrip(":")


def _is_path(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and _PATH.fullmatch(value) is not None


def find_sites(objects: MessageObjects) -> Iterator[str]:
    """Yields the addresses of what is monitored, without `https://`: not those of pages about it."""
    monitored = ((value, True) for value in matching(objects.everywhere, table.MONITORED_URL))
    others = ((value, False) for value in find_any(objects.levels, table.ALIASES["source_url"]))
    for value, is_monitored in chain(monitored, others):
        if (
            isinstance(value, str)
            and (is_monitored or _SITE.fullmatch(value))
            and (address := _ADDRESS.fullmatch(value))
        ):
            yield address[1] + address[2].rstrip("/")


def _headline(text: object) -> object:
    """Returns the first line of a text, and the first one below it that names a failure if it does not."""
    first = first_line(text)
    if first == text or not isinstance(text, str) or not isinstance(first, str) or names_failure(first):
        return first
    lines = (line.strip("#*-• \r\t") for line in text.splitlines()[:_MAX_TEXT_LINES])
    telling = next((line for line in lines if line != first and len(line.split()) > 2 and names_failure(line)), None)
    return first if telling is None else f"{first}: {telling}"


def _names_of_summary(objects: MessageObjects, subject: Value) -> Iterator[object]:
    if subject in _cleaned(find_any(objects.texts, _SUMMARY)):
        yield from find_any(objects.levels, _NAME)


def _prefix(values: dict[str, Value], names: Iterator[object]) -> bool:
    """Puts the first name in front of a subject that lacks it; returns whether there is one."""
    subject = values.get("subject")
    texts = (clean_line(first_line(name), 100) for name in names if says(name) or _MAILBOX.fullmatch(str(name)))
    name = next((text for text in texts if text is not None and not text.endswith((".", "…"))), None)
    if name is not None and isinstance(subject, str) and name.casefold() not in subject.casefold():
        fill(values, "subject", iter((f"{name}: {subject}",)))
    return name is not None


def _named_problems(objects: MessageObjects, values: Mapping[str, Value]) -> Iterator[str]:
    """Yields what is monitored with its status, such as "ap-lobby: AP_DISCONNECTED"."""
    statuses = chain(_statuses_in_words(objects), texts_of(objects.texts, table.STATUSES))
    status = next(statuses, None) or text_of(values.get("source_status"))
    runs = matching_sorted(objects.levels, table.RUN_OF) if objects.runs else ()
    everywhere = objects.everywhere
    hosts = chain(find_any(everywhere, table.ALIASES[table.HOST]), matching(everywhere, table.HOST_ID))
    for name in chain(find_any(objects.texts, table.MONITORED), runs, hosts):
        if isinstance(name, str) and status is not None:
            metric = next(filter(says, find_any(objects.texts, table.METRICS)), name)
            yield f"{name}: {status}" if str(metric) in name else f"{name}: {metric}: {status}"


#: A value in JSON that is broken, maybe by quotation marks in a value.
_QUOTED: Final = re.compile(r':\s*"([^\n]{3,200}?)"\s*(?:[,}\n]|$)')


def own_words(payload: object, text: str) -> str | None:
    """Returns what a message says for a subject that its kind could not read: by likelihood, or of a text that is in no
    known format, the first words."""
    if isinstance(payload, Mapping):
        objects = collect(payload)
        likely = with_texts(MappedFields({}, {}, {}), payload, objects, {"subject"}, {"subject"}).text("subject")
        found = next(filter(says, chain(find_any(objects.everywhere, table.PROPER_TITLES), (likely,))), None)
    else:
        quoted = filter(_has_words, _QUOTED.findall(text))
        found = next(chain(quoted, (line for line in text.splitlines() if " " in line)), None)
    return clean_line(found, _MAX_HAPPENING_CHARS) if says(found) else None


def _sentences(payload: _Object) -> Iterator[str]:
    """Yields what may be a title where no name says so: the texts of several words, then the first fields that say
    something, then any line."""
    lines = readable(payload).splitlines()
    texts = [line.partition(": ")[2] for line in lines]
    yield from (text for text in texts if " " in text and not text[:1].isdigit() and says(text))
    saying = [line for line, text in zip(lines, texts, strict=True) if text[:1].isalpha() and says(text)]
    yield ", ".join(saying[:_MAX_SAID])
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
