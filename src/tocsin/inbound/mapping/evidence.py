"""What a message of any tool says of its problem: each of its fields that says something votes, and the votes of each
side are summed up. Pure.

A vote's weight depends on where it is said (a field called `status`, an event, a flag, a title, a text) and on how
clear the word is: "down" says more than "active". Several votes of one place count once. A tie opens.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import chain, pairwise
from operator import itemgetter
from typing import Final, NamedTuple

from tocsin.core.validation.inputs import sanitize
from tocsin.inbound.fields import TAG_LENGTH, MappedFields, clean_line, priority_of, text_of
from tocsin.inbound.mapping import evidence_table as table
from tocsin.inbound.mapping.evidence_table import StatusMeaning, fold, words_of
from tocsin.inbound.mapping.likely_texts import find_parts, find_sites, find_things, find_titles, find_units, says
from tocsin.inbound.mapping.message_objects import (
    MessageObjects,
    collect,
    fill,
    find_any,
    first_line,
    matching,
    matching_sorted,
    texts_of,
)
from tocsin.inbound.mapping.status_words import (
    ACTING,
    goes_on,
    is_bare_status,
    is_clear,
    is_completion,
    is_daily_event,
    is_event_code,
    is_failure,
    is_kind,
    is_new_ticket,
    is_routine,
    is_test,
    is_test_event,
    may_name_fault,
    meaning_of,
    meaning_of_flag,
    meaning_of_word,
    names_failure,
    names_fault,
    notice_of,
    number_in_title,
    split_id,
    status_in_tag,
    status_in_title,
    without_status,
    without_time,
)

_MAX_STATUS_CHARS: Final = 60
_OPEN, _CLOSE, _UPDATE = StatusMeaning
#: Where a message says what happened.
_HAPPENED: Final = (table.STATUS, table.EVENT, table.HAPPENING)
#: Where a message says anything but values.
_SAYING: Final = (table.STATUS, table.EVENT, table.SENTENCE, table.SEVERITY)
_WORDS: Final = {_OPEN: "open", _CLOSE: "resolved"}
_OPPOSITE: Final = {_OPEN: _CLOSE, _CLOSE: _OPEN}
_OF_CODES: Final = ((_CLOSE, "success"), (_OPEN, "failed"))
_SENSOR: Final = re.compile(r"(?i)sensor|melder|detect|détect|leak|smoke|motion|tamper|sabotage")
_RULE: Final = re.compile(r"alert|alarm|rule|threshold|metric")
#: A time that programs write for none.
_NO_TIME: Final = re.compile(r"0001-|1970-01-01|[0\s:.TZ-]*$")


type _Level = dict[str, object]


class Verdict(NamedTuple):
    """What a message says, by the word that says it most clearly."""

    meaning: StatusMeaning
    status: str
    is_daily: bool = False  # What no problem caused.


class _Vote(NamedTuple):
    place: float
    weight: float
    meaning: StatusMeaning
    status: str
    is_direct: bool = True  # About the problem itself: a part that is well may be another one.


def _place_of(name: str) -> float:
    if table.FORMER.search(name):
        return 0
    if name in table.OUTCOMES:
        return table.STATUS
    if name in table.ALIASES["source_status"] and name not in table.SENTENCES:
        return table.EVENT
    if name in table.ALIASES["severity"] or table.SEVERITY_NAME[name]:
        return table.SEVERITY
    if table.STATUS_NAME[name] or name in table.EDGES:
        return table.EVENT
    if name in table.TITLES or table.TITLE_NAME[name] or name in table.SENTENCES or table.SENTENCE_NAME[name]:
        return table.SENTENCE
    if table.ACTION_NAME[name]:
        return table.EVENT
    return table.HAPPENING if table.HAPPENING_NAME[name] or name in table.HEADLINE else table.OTHER


_PLACES: Final = table.ByName(_place_of, table.OTHER)


def read(objects: MessageObjects) -> Verdict | None:
    """Returns what a message says; None if it says nothing."""
    best: dict[tuple[float, StatusMeaning], _Vote] = {}
    opens = closes = False
    for vote in _votes(objects):
        if vote.is_direct and vote.place not in (table.OTHER, table.SEVERITY):
            closes |= vote.meaning is _CLOSE
            opens |= vote.meaning is _OPEN and vote.weight > vote.place * table.UNCLEAR
        key = (vote.place, vote.meaning)
        if key not in best or vote.weight > best[key].weight:
            best[key] = vote
    votes = best.values()
    sums = {meaning: sum(vote.weight for vote in votes if vote.meaning is meaning) for meaning in StatusMeaning}
    meaning = max(sums, key=sums.__getitem__)
    if (event := _daily_event(objects, votes)) is not None:
        return Verdict(_OPEN, event, is_daily=True)
    if not sums[meaning]:
        return None
    if meaning is _CLOSE and sums[_CLOSE] < (table.MIN_CLOSING_TITLED if _is_titled(objects) else table.MIN_CLOSING):
        return None
    # What is new may have any first status.
    is_new = (
        meaning is _UPDATE
        and sums[_UPDATE] < table.NOTICE
        and any(map(is_new_ticket, texts_of(objects.levels, table.ALIASES["event"])))
    )
    if meaning is _UPDATE and all(goes_on(vote.status) for vote in votes if vote.meaning is _UPDATE):
        # What goes on is an update of a known problem only if it has an id.
        is_new |= any(find_any(objects.levels, table.HEADLINE)) and not any(_find_ids(objects))
    if is_new or (meaning is _CLOSE and not closes and (opens or _names_problem(objects))):
        return Verdict(_OPEN, _WORDS[_OPEN])
    if meaning is _CLOSE and _tells_of_deed(objects, votes):
        return None
    clearest = max((vote for vote in votes if vote.meaning is meaning), key=lambda vote: vote.weight)
    return Verdict(meaning, clearest.status)


def _daily_event(objects: MessageObjects, votes: Collection[_Vote]) -> str | None:
    """Returns the event of a message if it is one of every day and nothing beside it says a status or a problem."""
    texts = [(name, value) for level in objects.texts for name, value in level.items() if isinstance(value, str)]
    happened = [value for name, value in texts if _PLACES[name] in _HAPPENED]
    things = [name for level in objects.everywhere for name in level if name in table.DAILY_OBJECTS]
    named = (f"{thing} {value}" for thing in things for value in happened if " " not in value)
    titles = (f"{name} {value}" for name, value in texts if _PLACES[name] not in (0, table.SEVERITY))
    said = (value for name, value in texts if _PLACES[name] == table.SENTENCE and len(value) <= _MAX_STATUS_CHARS)
    event = next(chain(filter(is_daily_event, (*happened, *named, *said)), filter(is_routine, titles)), None)
    if event is not None and meaning_of(event) is _CLOSE:
        # "Release 9.2 is live" ends nothing.
        event = None if any(vote.meaning is _CLOSE for vote in votes) else "update published"
    event = event or _filled_in(objects, texts) or _measured(objects)
    if event is None or any(map(_is_of_fault, texts)):
        return None
    others = (vote for vote in votes if vote.status not in event and vote.place not in (table.OTHER, table.SEVERITY))
    return None if any(vote.weight > vote.place * table.UNCLEAR for vote in others) else event


def _is_of_fault(field: tuple[str, str]) -> bool:
    name, value = field
    if not _has_letters(value) or "://" in value or table.OTHER_ROLE[name] or name in table.CAUSES:
        return name in table.CAUSES or (_has_letters(value) and names_fault(value))
    return may_name_fault(value) and not is_routine(value)


def _filled_in(objects: MessageObjects, texts: list[tuple[str, str]]) -> str | None:
    """Returns the event of a form that somebody filled in."""
    names = {name for name, _ in texts}
    is_form = not table.FORMS_OF_PEOPLE.isdisjoint(names) and not table.ANSWERS.isdisjoint(names)
    return "form submitted" if is_form and not any(map(table.STATUS_NAME.__getitem__, names)) else None


def _measured(objects: MessageObjects) -> str | None:
    """Returns the event of a message that says nothing but values, and of no limit."""
    names = [name for level in objects.everywhere for name in level]
    values = [v for level in objects.texts for n, v in level.items() if table.MEASURED_NAME[n]]
    if not any(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return None
    is_said = any(table.LIMIT_NAME[name] or _PLACES[name] in _SAYING for name in names)
    return (
        None
        if is_said or any(is_flag for level in objects.texts for is_flag in map(_is_flag, level.values()))
        else ("measurement reported")
    )


def _is_flag(value: object) -> bool:
    return value is True


def unknown_status(objects: MessageObjects) -> str:
    """Returns a status whose words say nothing, for people; empty without one."""
    found = (*find_any(objects.levels, table.STATUSES), *matching(objects.levels, table.STATUS_NAME))
    return next((text for value in found if (text := text_of(value)) and " " not in text.strip()), "")


def has_flag(objects: MessageObjects) -> bool:
    """Returns whether a message says what it does by a flag, an exit code or the time of an end."""
    is_timed = any(table.OVER_TIME[name] for level in objects.levels for name in level)
    return is_timed or any(
        vote.place == table.FLAG for level in objects.levels for vote in _votes_of(level, is_run=False)
    )


def _names_problem(objects: MessageObjects) -> bool:
    """Returns whether a text of a message names a problem, which something beside it that is well does not end."""
    for level in objects.everywhere:
        for name, value in level.items():
            # A check called "Error rate" may be well.
            if not isinstance(value, str) or "://" in value or name == "name" or name in table.MONITORED:
                continue
            if len(value) <= _MAX_STATUS_CHARS and meaning_of(value) is _CLOSE:
                continue
            is_fault = names_fault(value) or (name in table.HEADLINE and meaning_of(value) is None)
            if is_fault and _PLACES[name] not in (0, table.STATUS, table.SEVERITY):
                return True
    return False


def _tells_of_deed(objects: MessageObjects, votes: Collection[_Vote]) -> bool:
    """Returns whether only a sentence says that something is over, a severity does not, and its word may be what the
    alert is about: "Audit log cleared", "Failed logons followed by success"."""
    if any(vote.place != table.SENTENCE for vote in votes if vote.meaning is _CLOSE):
        return False
    severities = [str(value) for value in _find_severities(objects)]
    if not severities or any(meaning_of(one) is _CLOSE or priority_of(one) == "low" for one in severities):
        return False
    texts = (value for level in (*objects.texts, *objects.things) for value in level.values())
    lines = (words_of(str(first_line(text))) for text in texts if isinstance(text, str))
    statuses = {vote.status for vote in votes if vote.meaning is _CLOSE}
    return any(status in words and _is_deed(status, words) for words in lines for status in statuses)


def _is_deed(status: str, words: list[str]) -> bool:
    names_problem = names_failure(" ".join(words)) or not table.TROUBLES.isdisjoint(words)
    if status == "cleared":
        return not names_problem
    return status in table.SUCCESSES and (names_problem or words[-1] != status)


def _is_titled(objects: MessageObjects) -> bool:
    return any(name in table.ALIASES["subject"] for level in objects.texts for name in level)


def _votes(objects: MessageObjects) -> Iterator[_Vote]:
    is_run, is_titled = bool(objects.runs), _is_titled(objects)
    for level in objects.texts:
        yield from _votes_of(level, is_run=is_run)
    for level in objects.things:
        is_over = any(table.OVER_TIME[name] for name in level)
        for vote in _votes_of(level, is_run=is_run):
            # What is online beside a title may be something else.
            if vote.weight >= vote.place and not (is_titled and vote.meaning is _CLOSE):
                is_direct = vote.is_direct and (vote.place == table.FLAG or is_over)
                yield vote._replace(weight=vote.weight * table.UNCLEAR, is_direct=is_direct)
    for level in objects.inner:
        for name in table.OUTCOMES.keys() & level.keys():
            if isinstance(value := level[name], str) and is_failure(value):
                yield _vote(table.STATUS, _OPEN, value)


def _votes_of(level: _Level, *, is_run: bool) -> Iterator[_Vote]:
    votes = (_vote_of(name, value, level, is_run=is_run) for name, value in level.items())
    return (vote for vote in votes if vote is not None)


def _vote(
    place: float, meaning: StatusMeaning, status: str = "", clearness: float = 1.0, *, is_direct: bool = True
) -> _Vote:
    return _Vote(place, place * clearness, meaning, status or _WORDS[meaning], is_direct)


def _vote_of(name: str, value: object, level: _Level, *, is_run: bool) -> _Vote | None:
    """Returns what one field says: a time, a text, a flag or a number."""
    if table.OVER_TIME[name] or table.END_TIME[name]:
        if not value or (isinstance(value, str) and (_NO_TIME.match(value) or not any(map(str.isdigit, value)))):
            return _vote(table.HAPPENING, _OPEN)
        if table.OVER_TIME[name]:
            return _vote(table.STATUS, _CLOSE)
        return None if is_run else _vote(table.HAPPENING, _CLOSE)
    if isinstance(value, str):
        return _vote_of_text(name, value, level, is_run=is_run)
    if not isinstance(value, int | float):
        return None
    if value in (0, 1) and name in table.VALUES and (condition := _meaning_of_condition(level)) is not None:
        return _vote_of_condition(condition, is_true=bool(value))
    if not isinstance(value, bool):
        if name in table.EXIT_CODES:
            return _vote(table.FLAG, *_OF_CODES[value != 0])
        if name == "results" or (is_run and name == "result"):
            return _vote(table.STATUS, *_OF_CODES[True]) if value else None
        if name in table.COUNTED and (value not in (0, 1) or meaning_of_flag((name,)) is None):
            # No error is not yet a recovery.
            place = table.COUNT if value else table.OTHER
            return _vote(place, *_OF_CODES[value != 0]) if meaning_of(name) is _OPEN else None
    return _vote_of_flag(name, level, is_true=bool(value)) if value in (0, 1) else None


def _vote_of_text(name: str, value: str, level: _Level, *, is_run: bool) -> _Vote | None:
    place, folded, is_long = _PLACES[name], value.casefold(), len(value) > _MAX_STATUS_CHARS
    if value == "0" and name in table.EXIT_CODES:
        return _vote(table.FLAG, *_OF_CODES[False])
    if name.endswith(("id", "key")) and (status := split_id(value)[1]):
        return _vote(table.TAG, meaning_of(status) or _OPEN, status)
    if not place:
        return None
    if place in _HAPPENED and (notice := notice_of(value, is_of_notification="notification" in name)) is not None:
        return _vote(table.NOTICE, _UPDATE, notice)
    if (is_true := table.TRUTHS.get(folded)) is not None:
        switched = table.SWITCHED.get(folded)
        if switched is not None and (place >= table.EVENT or place == table.HAPPENING) and _is_switched(level):
            return _vote(table.HAPPENING, switched)
        condition = _meaning_of_condition(level) if place == table.STATUS else None
        if condition is not None:
            return _vote_of_condition(condition, is_true=is_true)
        return _vote_of_flag(name, level, is_true=is_true)
    if name in table.OVER_TEXTS and not is_long and "://" not in value:
        return _vote(table.FLAG, _CLOSE)
    is_sentence = place in (table.OTHER, table.SENTENCE)
    if is_long or (is_sentence and not is_bare_status(value)):
        is_telling = is_long or place == table.SENTENCE or value.count(" ") > 1
        return _vote_of_sentence(name, value) if is_telling else None
    meaning = meaning_of(value)
    if is_sentence:
        return _vote(table.OTHER, meaning, value) if meaning is not None and meaning in ACTING else None
    edge = table.EDGES_OF_EVENTS.get(folded)
    if edge is not None and place == table.STATUS and not is_run and any(_names_problem_event(level)):
        return _vote(table.STATUS, edge)
    state = table.STATES_OF_SERVICES.get(folded)
    if state is not None and place == table.STATUS and not is_run and not table.RUNNING_THINGS.isdisjoint(level):
        return _vote(table.STATUS, state)
    return None if meaning is None else _vote_of_status(name, value, meaning, place, level, is_run=is_run)


def _vote_of_status(
    name: str, value: str, meaning: StatusMeaning, place: float, level: _Level, *, is_run: bool
) -> _Vote | None:
    folded = value.casefold()
    is_of_alert = meaning is not _OPEN and any(map(table.OF_ALERT.match, level))
    if meaning is _UPDATE and "cancel" in folded and not is_run:
        # An alert that is canceled is over; of anything else, this says nothing.
        if place != table.STATUS:
            return None
        if is_of_alert:
            meaning, value = _CLOSE, "resolved"
    if meaning is _CLOSE and table.OF_OTHER.search(name):
        return None
    if place == table.SEVERITY and meaning is _CLOSE:
        place = table.STATUS if folded in table.CLEARED_SEVERITIES else table.HAPPENING
    if meaning is _UPDATE and place in (table.SEVERITY, table.HAPPENING):
        return None
    clearness = 1.0 if is_clear(value) else table.UNCLEAR
    if (is_completion(value) and not is_of_alert) or goes_on(value) or (meaning is _UPDATE and "cancel" in folded):
        clearness = table.HOW_IS_UNSAID
    if place in (table.EVENT, table.HAPPENING) and is_kind(value):
        clearness *= table.UNCLEAR
    is_direct = place != table.EVENT or name in table.ALIASES["source_status"] or bool(table.OF_PROBLEM.search(name))
    return _vote(place, meaning, value, clearness, is_direct=is_direct)


def _vote_of_sentence(name: str, text: str) -> _Vote | None:
    line = str(first_line(text))
    tag = status_in_tag(line)
    status = tag or status_in_title(line)
    meaning = meaning_of(status) if status is not None else None
    if status is None or meaning is None or meaning not in ACTING:
        return None
    if meaning is _CLOSE and tag is None and table.JUDGED.search(name):
        return None
    # The words before a colon of an output are those of a program, not a tag: "connect: Connection refused".
    place = table.SENTENCE if tag is None or "output" in name else table.TAG
    return _vote(place, meaning, status, table.UNCLEAR if meaning is _OPEN else 1)


def _vote_of_flag(name: str, level: _Level, *, is_true: bool) -> _Vote | None:
    if table.FORMER.search(name) or name.startswith("additional"):
        return None
    words = name.words if isinstance(name, table.FieldName) else (name,)
    meaning = meaning_of_flag(words) if len(name) <= _MAX_STATUS_CHARS and words else None
    if meaning is None:
        return None
    # A problem that is "active", or not, says it clearly: `{"type": "FIRE", "active": false}`.
    is_of_problem = words == ("active",) and any(_names_problem_event(level))
    clearness = 1.0 if is_clear(words[-1]) or is_of_problem else table.UNCLEAR
    stated = meaning if is_true else _OPPOSITE[meaning]
    return _vote(table.FLAG, stated, clearness=clearness, is_direct=not table.WELL.fullmatch(words[-1]))


def _names_problem_event(level: _Level) -> Iterator[bool]:
    """Yields whether the events in an object are of a problem."""
    events = _texts(map(level.get, table.EVENTS))
    return (may_name_fault(event) or _SENSOR.search(event) is not None for event in events)


def _meaning_of_condition(level: _Level) -> StatusMeaning | None:
    """Returns what "True" of a condition says: `{"type": "Ready", "status": "False"}`."""
    kinds = (meaning_of(kind) for kind in map(level.get, table.CONDITIONS) if isinstance(kind, str))
    return next((meaning for meaning in kinds if meaning in ACTING), None)


def _vote_of_condition(condition: StatusMeaning, *, is_true: bool) -> _Vote:
    return _vote(table.STATUS, condition if is_true else _OPPOSITE[condition])


def _is_switched(level: _Level) -> bool:
    """Returns whether what has a status is a sensor, or a rule."""
    return any(map(_RULE.search, level)) or any(isinstance(v, str) and _SENSOR.search(v) for v in level.values())


# ---------- aliases
# Completes the fields of a message in which a kind's own paths do not find an id, a status, a severity or a link, by
# the names that tools share. A kind's own names win. Pure.


#: Statuses that say no more than the message itself.
UPDATES: Final = frozenset({"update", "updated"})
_MAX_TEXT_CHARS: Final = 500
_DATE: Final = re.compile(r"\d{4}[-./]\d\d[-./]\d\d\b")
_IDS_OF_EVENTS: Final = table.INNERMOST_FIRST | table.IDS_OF_ALERTS
_DECIDING: Final = ("source_status", "event", "severity", "source_url", "source_id")


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
        if name in fields and name not in values and (is_ticket or name != "event"):
            fill(values, name, _candidates(name, objects, is_ticket=is_ticket))
    severity = values.get("severity", None if is_ticket else values.get("source_status"))
    if "priority" in fields and "priority" not in values and isinstance(severity, str):
        values.update({"priority": priority} if (priority := priority_of(severity)) else {})
    tags = mapped.tags
    levels = objects.levels if is_ticket else objects.texts
    hosts = chain(
        find_any(levels, table.ALIASES[table.HOST]), () if is_ticket else matching(objects.levels, table.HOST_NAME)
    )
    host = next(filter(None, (clean_line(value, TAG_LENGTH) for value in hosts if not _DATE.match(str(value)))), None)
    if host is not None and table.HOST not in tags and table.HOST in fields:
        tags = {**tags, table.HOST: host}
    return MappedFields(values, tags, mapped.custom, mapped.notes)


def _candidates(name: str, objects: MessageObjects, *, is_ticket: bool) -> Iterator[object]:
    if is_ticket:
        return _candidates_of_ticket(name, objects)
    match name:
        case "severity":
            return _find_severities(objects)
        case "source_id":
            return _find_ids(objects)
        case "source_status":
            verdict = read(objects)
            return find_any(objects.levels, table.STATUSES) if verdict is None else iter((verdict.status,))
    return find_any(objects.levels, table.ALIASES[name])


def _candidates_of_ticket(name: str, objects: MessageObjects) -> Iterator[object]:
    """Yields the values of a ticket's field: of its fields, of those that its text lists, and of its titles."""
    names = table.OF_TICKETS.get(name, table.ALIASES[name])
    for levels in (objects.levels, objects.chat):
        match name:
            case "source_status":
                yield from _named_statuses(levels, names)
                yield from matching(levels, table.TICKET_STATUS_NAME)
            case "source_id":
                yield from find_any(levels, names)
                yield from matching(levels, table.NUMBER_NAME)
            case _ if levels is objects.levels:
                yield from find_any(levels, names)
    if name == "source_id":
        yield from filter(None, map(number_in_title, titles_of_ticket(objects)))


def titles_of_ticket(objects: MessageObjects) -> Iterator[str]:
    """Yields the titles of a ticket's message, and the first lines of its texts."""
    return (str(first_line(text)) for text in texts_of(objects.everywhere, table.ALIASES["subject"]))


def take_event_from_id(objects: MessageObjects, source_id: str) -> bool:
    """Returns whether an id is the code of what happened to a host, such as "disk_full", which is "disk_ok" when it is
    over; the code is the event from then on."""
    outermost = objects.levels[0]
    names = [name for name in table.ALIASES["source_id"] if text_of(outermost.get(name)) == source_id]
    hosts = chain(find_any(objects.levels, table.ALIASES[table.HOST]), matching(objects.levels, table.HOST_NAME))
    if not names or not is_event_code(source_id) or meaning_of(source_id) not in ACTING or not any(hosts):
        return False
    for name in names:
        del outermost[name]
    outermost.setdefault("event", source_id)
    return True


def is_connected(objects: MessageObjects) -> bool:
    """Returns whether a message only says that a device connected."""
    return objects.levels[0].get("eventtype") == "connection" and _is_event_of_device(objects)


def is_test_message(objects: MessageObjects) -> bool:
    """Returns whether a message says that it is a test, or the handshake of a new webhook."""
    for level in objects.texts:
        for name, value in level.items():
            if value is True and name in table.TEST_FLAGS:
                return True
            if isinstance(value, str) and (is_test(value) or (name in table.TEST_EVENTS and is_test_event(value))):
                return True
    return False


def has_subject(objects: MessageObjects) -> bool:
    """Returns whether a message has a text of its own under a name of one."""
    return any(_has_letters(text) for text in _texts(find_any(objects.texts, table.ALIASES["subject"])))


def with_likely_id(
    mapped: MappedFields, objects: MessageObjects, fields: Collection[str], guesses: Collection[str] = ()
) -> MappedFields:
    """Returns the fields with an id by likelihood if they have none: what a failure and its recovery have in common,
    the name of what is monitored or the subject without its status, and the host. None for a message without a status,
    which no other message ends. An id among `guesses` may be that of one message."""
    if "source_id" not in fields:
        return mapped
    status = mapped.text("source_status")
    if "source_id" in mapped.values:
        is_certain = "source_id" not in guesses or status is None or meaning_of(status) is None
        if is_certain or not _is_id_of_delivery(mapped, objects, status or ""):
            return mapped
    host = mapped.tags.get(table.HOST) or next(_texts(matching(objects.texts, table.HOST_ID)), None) or ""
    if status is not None and status.casefold() in {"test", "testing"}:
        return mapped  # A test is ended by no other message.
    is_unsaid = status is None or (meaning_of(status) is None and not status.isdigit() and not host)
    if is_unsaid and not (guesses and _names_problem_of_thing(objects)):
        return mapped
    own = mapped.text("subject") if "subject" not in guesses else None
    causes = {level[name] for level in objects.texts for name in table.CAUSES if name in level}
    things = [thing for thing in find_things(objects) if thing not in causes]
    causes = causes if host or things else set()
    candidates = (candidate for candidate in _likely_keys(objects, own, host) if candidate not in causes)
    names = {*find_any(objects.texts, table.RULES)}
    keyed = (
        (candidate.casefold(), candidate)
        if isinstance(candidate, str) and candidate in names
        else (_key_of(candidate, needs_words=not host), candidate)
        for candidate in candidates
    )
    title, said = next(filter(itemgetter(0), keyed), ("", None))
    if not host and isinstance(said, str) and " " in said and said not in names and said not in things:
        # The same may be said of another thing.
        title = next((f"{without_status(thing)} {title}" for thing in things if "/" not in thing), title)
    if not title and not host:
        # "ether1_status" names what has the status.
        named = (name for level in objects.levels for name, value in level.items() if value == status)
        title = next((name for name in named if table.STATUS_NAME[name] and name not in table.STATUSES), "")
    key = _placed(title, host, objects)
    return _with_id(mapped, key) if key else mapped


def _names_problem_of_thing(objects: MessageObjects) -> bool:
    """Returns whether the title names a problem, and of what: another title may say that it is over."""
    title = str(first_line(next(find_titles(objects), "")))
    is_of_problem = names_failure(title) or title in find_any(objects.texts, table.HEADLINE)
    return is_of_problem and (table.OF_THING.search(title) is not None or any(find_units(objects)))


def _placed(thing: str, host: str, objects: MessageObjects) -> str:
    """Returns the name of a thing with where it is."""
    parts = [thing] if thing else []
    names = map(without_status, _texts(find_any(objects.levels, table.NAMES_OF_ONE)))
    wholes = chain(find_any(objects.levels, table.WHOLES), matching_sorted(objects.levels, table.RUN_IN))
    services = map(without_status, _texts(find_any(objects.texts, table.SERVICES)))
    # Two rooms have a "temperature", and a plant has several inverters.
    units = map(without_status, find_units(objects))
    for place in chain((host,), _texts(wholes), names, services, find_parts(objects), units):
        if (folded := place.casefold()).strip("/:\\") not in " ".join(parts):
            parts.append(folded)
    return " ".join(parts)


def _things_of(objects: MessageObjects, names: table.Names) -> Iterator[object]:
    yield from find_any(objects.texts, names)
    yield from matching_sorted(objects.texts, table.MONITORED_NAME)
    yield from matching_sorted(objects.texts, table.RUN_OF_ID)
    yield from find_any(objects.everywhere, table.LASTING_SUBJECTS)


def _likely_keys(objects: MessageObjects, own: str | None, host: str) -> Iterator[object]:
    """Yields what a failure and its recovery have in common, by likelihood."""
    # Several problems may have a whole in common, and no title.
    yield from _things_of(
        objects, table.MONITORED_PARTS if any(find_any(objects.texts, table.PROPER_TITLES)) else table.MONITORED
    )
    yield from matching(objects.texts, table.FAULT_NAME)
    yield own
    yield from matching_sorted(objects.things, table.MONITORED_NAME)
    yield from find_any(objects.things, {"metadataname": 0})
    for code in matching_sorted(objects.levels, table.TYPE_NAME) if host else ():
        # "camera_offline" is about the camera.
        if isinstance(code, str) and (thing := without_status(code)) != code.casefold() and says(thing):
            yield code
    yield from find_titles(objects)
    yield from find_any(objects.things, table.TITLES)
    yield from matching_sorted(objects.texts, table.ANY_NAME)
    yield from matching_sorted(objects.texts, table.TYPE_NAME)
    yield from sorted(find_sites(objects))
    yield from sorted(thing for thing in find_things(objects) if thing != host)


def _key_of(candidate: object, *, needs_words: bool) -> str:
    """Returns a text without its status. `needs_words`: what is left of the code of an event names no thing."""
    text = clean_line(first_line(candidate), 300)
    if text is None or text.casefold() in table.TRUTHS or (needs_words and is_event_code(text)):
        return ""
    return without_status(text)


def _is_id_of_delivery(mapped: MappedFields, objects: MessageObjects, status: str) -> bool:
    """Returns whether an id is likely that of one message: beside a status that only a title says, or outside of the
    object that has the status and names what is monitored on which host."""
    source_id, outermost = mapped.text("source_id"), objects.levels[0]
    if _is_event_of_thing(objects, source_id):
        return True
    if "eventid" in outermost and source_id == text_of(outermost["eventid"]):
        return _is_event_of_device(objects)
    if source_id not in {text_of(outermost.get(name)) for name in table.INNERMOST_FIRST}:
        return False
    folded = status.casefold()
    has_status = [level for level in objects.texts if any(str(value).casefold() == folded for value in level.values())]
    if not has_status:
        return not has_flag(objects)
    return outermost not in has_status and table.HOST in mapped.tags and any(find_any(objects.levels, table.MONITORED))


def _is_event_of_thing(objects: MessageObjects, source_id: str | None) -> bool:
    """Returns whether an id is that of an event about a thing that has an id or a name too: "deviceOffline" of a
    `device`."""
    for level in objects.levels:
        names = {name for name, value in level.items() if text_of(value) == source_id and name in _IDS_OF_EVENTS}
        for event in _texts(map(level.get, table.EVENTS)) if names else ():
            thing = fold(without_status(event))
            if thing in table.OBJECTS_OF_PROBLEMS or thing not in words_of(event):
                continue
            is_apart = f"{thing}id" in level or not names.isdisjoint(table.IDS_OF_ALERTS)
            others = [other for other in (*objects.levels, *objects.things) if is_apart or other is not level]
            if any(f"{thing}id" in other or f"{thing}name" in other for other in others):
                return True
    return False


def _is_event_of_device(objects: MessageObjects) -> bool:
    """Returns whether a message only says what happened to a device, which stays the same."""
    return (
        "eventtype" in objects.levels[0]
        and any(matching(objects.texts, table.HOST_ID))
        and not any(find_any(objects.texts, table.PROPER_TITLES))
        and not any(matching(objects.texts, table.SENTENCE_NAME))
    )


def with_id_of_runs(mapped: MappedFields, objects: MessageObjects, fields: Collection[str]) -> MappedFields:
    """Returns the fields of a message about one run of a job with an id that all its runs share: the names of the job,
    its project and its branch. The id of a run is in no other message."""
    source_id = mapped.text("source_id")
    if "source_id" not in fields or not objects.runs:
        return mapped
    if source_id is not None and source_id not in {text_of(v) for v in find_any(objects.levels, table.DELIVERY_IDS)}:
        return mapped
    if source_id is not None and source_id in {text_of(v) for v in find_any(objects.levels, table.PROPER_IDS)}:
        return mapped
    names = chain((run.get("name") for run in objects.runs), matching_sorted(objects.levels, table.RUN_OF))
    cleaned = (clean_line(without_time(name), 100) for name in _texts(names) if _has_letters(name))
    parts = dict.fromkeys(filter(None, cleaned))
    if not parts:
        host = mapped.tags.get(table.HOST) or ""
        thing = next(filter(None, (_key_of(name, needs_words=False) for name in _things_of_runs(objects, host))), None)
        return mapped if thing is None else _with_id(mapped, _placed(thing, host, objects))
    places = (text for place in matching_sorted(objects.levels, table.RUN_IN) if (text := clean_line(place, 100)))
    return _with_id(mapped, " ".join(dict.fromkeys((*parts, *places))).casefold())


def _things_of_runs(objects: MessageObjects, host: str) -> Iterator[object]:
    """Yields what a run that has no name may be one of. A title that says a status, or of no host, may be of any."""
    yield from _things_of(objects, table.MONITORED)
    titles = (
        chain(find_any(objects.texts, table.PROPER_TITLES), matching(objects.texts, table.TITLE_NAME))
        if host
        else iter(())
    )
    yield from (title for title in _texts(titles) if table.MEANINGS.keys().isdisjoint(words_of(title)))


def _with_id(mapped: MappedFields, source_id: str) -> MappedFields:
    values = {**mapped.values, "source_id": sanitize(source_id[:200])}
    return MappedFields(values, mapped.tags, mapped.custom, mapped.notes)


def _find_ids(objects: MessageObjects) -> Iterator[object]:
    for levels, bare in ((objects.levels, table.BARE_IDS), (objects.chat, {})):
        yield from find_any(levels, table.PROPER_IDS)
        yield from matching(levels, table.ID_NAME)
        yield from find_any(levels, bare)


def _find_severities(objects: MessageObjects) -> Iterator[object]:
    for levels in (objects.texts, objects.things):
        yield from find_any(levels, table.ALIASES["severity"])
        yield from matching(levels, table.SEVERITY_NAME)
    # A kind of message may say that nothing is wrong.
    yield from (kind for kind in texts_of(objects.texts, table.MESSAGE_KINDS) if priority_of(kind) == "low")


def severity_in_words(objects: MessageObjects) -> str | None:
    """Returns the first severity that is no number."""
    return next((text for text in _texts(_find_severities(objects)) if _has_letters(text)), None)


def _has_letters(text: str) -> bool:
    return any(map(str.isalpha, text))


def _texts(values: Iterator[object]) -> Iterator[str]:
    return (value for value in values if isinstance(value, str))


def _named_statuses(levels: list[dict[str, object]], names: table.Names) -> Iterator[object]:
    """Yields the statuses of a ticket: those of a known meaning first."""
    candidates = [(value, meaning_of(value)) for value in texts_of(levels, names)]
    for meanings in ((StatusMeaning.OPEN, StatusMeaning.CLOSE), (StatusMeaning.UPDATE,)):
        yield from (value for value, meaning in candidates if meaning in meanings)
    yield from find_any(levels, names)


#: Names of an id that may be that of one message, or of the problem.
_BARE_IDS: Final = ("id", "uid", "uuid", "guid")
_MIN_WORD_CHARS: Final = 3
#: From this number of letters on, words that begin with the same are forms of one.
_STEM_CHARS: Final = 5


_OF_TEXTS: Final = (table.TITLE_NAME, table.SENTENCE_NAME, table.TYPE_NAME)


class Identity(NamedTuple):
    """What a message is about: the names and values of checks, of what has several (services, and where they are), and
    of ids; the words of its texts that say no status, all its words, and the names of all its fields; ids that may be
    those of messages, all that its texts say beside a status, numbers included, and what of several they name: "Volume
    2"; what the codes of their events are about."""

    checks: dict[str, str]
    services: dict[str, str]
    places: dict[str, str]
    ids: dict[str, str]
    words: set[str]
    everything: set[str]
    names: set[str]
    bare_ids: set[str]
    said: set[str]
    numbered: set[tuple[str, str]]
    codes: dict[str, str]


def is_about_same(opened: Identity, over: Identity) -> bool:
    """Returns whether a message says that what another told of is over: it has the form of the other, and names the
    same check, or the same place and nothing else there. What both say under one name must be equal."""
    if 2 * len(opened.names & over.names) < min(len(opened.names), len(over.names)):
        return False
    for before, now in zip(opened[:4], over[:4], strict=True):
        if any(now.get(name, value) != value for name, value in before.items()):
            return False
    if not _is_same_number(opened.numbered, over.numbered):
        return False
    if any(not _is_said(words_of(now), words_of(opened.codes.get(name, now))) for name, now in over.codes.items()):
        return False
    named = (*over.checks.values(), *over.services.values())
    if not all(_is_said(words_of(thing), opened.everything, every=True) for thing in named):
        return False
    places = {*opened.places.values()} & {*over.places.values()}
    if opened.places and over.places and not places:
        return False
    if not opened.checks.items().isdisjoint(over.checks.items()):
        return True
    is_text = not any((*opened[:4], *over[:4], opened.bare_ids, over.bare_ids)) and len(over.said) > 1
    if (is_text or not opened.bare_ids.isdisjoint(over.bare_ids)) and (
        over.said - table.BACK_AGAIN <= opened.everything
    ):
        return True
    if not places and opened.services.items().isdisjoint(over.services.items()):
        return False
    if over.words:
        return _is_said(over.words, opened.everything)
    is_of_host = table.REACHED.isdisjoint(over.everything) or not table.NOT_REACHED.isdisjoint(opened.everything)
    return not opened.checks and opened.services.keys() <= over.services.keys() and is_of_host


def identity_of(payload: object) -> Identity:
    """Returns what a message is about; of one that is no object, nothing."""
    found = Identity({}, {}, {}, {}, set(), set(), set(), set(), set(), set(), {})
    if not isinstance(payload, Mapping):
        return found
    objects = collect(payload)
    things, texts = {*find_things(objects)}, []
    for level in objects.everywhere:
        for name, value in level.items():
            text = text_of(value)
            if text is None or isinstance(value, bool | float) or table.FORMER.search(name):
                continue
            if text.casefold() in table.TRUTHS and not text.isdigit():
                continue
            found.names.add(name)
            found.everything.update(words_of(text[:_MAX_TEXT_CHARS]))
            if table.RUN_IN[name] or table.HOST_ID[name] or name in table.PROPER_IDS or table.ID_NAME[name]:
                group = found.ids
            elif name in table.MONITORED or table.MONITORED_NAME[name] or table.RUN_OF_ID[name]:
                group = found.services if table.BROAD.match(name) else found.checks
            elif name in table.ALIASES[table.HOST] or table.HOST_NAME[name]:
                group = found.places
            elif name in table.CAUSES:
                continue
            elif (
                name in table.TITLES
                or name in table.SENTENCES
                or name in table.HEADLINE
                or any(p[name] for p in _OF_TEXTS)
            ):
                texts.append(text)
                if table.TYPE_NAME[name] and is_event_code(text) and (thing := without_status(text)):
                    found.codes[name] = thing
                continue
            elif text in things:
                group = found.places
            else:
                continue
            group.setdefault(name, text.casefold().strip())
    found.bare_ids.update(_texts(text_of(level.get(name)) for level in objects.levels for name in _BARE_IDS))
    said = (word for text in texts for word in words_of(without_status(str(first_line(text)))))
    found.said.update(word for word in said if meaning_of_word(word) is None)
    found.numbered.update(
        pair
        for text in texts
        for pair in pairwise(words_of(str(first_line(text))))
        if pair[1].isdigit() and (pair[0] in table.PARTS or table.THING_NAME[pair[0]] or table.MONITORED_NAME[pair[0]])
    )
    named = {word for group in found[:3] for value in group.values() for word in words_of(value)}
    for word in (word for text in texts for word in words_of(without_status(str(first_line(text))))):
        is_of_thing = word not in table.OF_ANYTHING | table.BACK_AGAIN | named and meaning_of_word(word) is None
        if is_of_thing and len(word) >= _MIN_WORD_CHARS and word.isalpha() and says(word):
            found.words.add(word)
    return found


def _is_same_number(before: set[tuple[str, str]], now: set[tuple[str, str]]) -> bool:
    """Returns whether two messages name no other one of what there are several of: not "Volume 1" and "Volume 2"."""
    things = dict(before)
    return all(things.get(thing, number) == number or (thing, number) in before for thing, number in now)


def _is_said(words: Collection[str], others: Collection[str], *, every: bool = False) -> bool:
    stems = {other[:_STEM_CHARS] for other in others}
    return (all if every else any)(word[:_STEM_CHARS] in stems for word in words)


def is_certain_id(objects: MessageObjects, source_id: str | None) -> bool:
    """Returns whether an id is one of a problem, and not maybe that of a message, or likely only."""
    levels = objects.texts
    ids = chain(find_any(levels, table.PROPER_IDS), matching(levels, table.ID_NAME))
    return source_id is not None and any(text_of(found) == source_id for found in ids)
