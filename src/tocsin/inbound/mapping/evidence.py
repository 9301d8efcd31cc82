"""What a message of any tool says of its problem: each of its fields that says something votes, and the votes of each
side are summed up. Pure.

A vote's weight depends on where it is said (a field called `status`, an event, a flag, a title, a text) and on how
clear the word is: "down" says more than "active". Several votes of one place count once. A tie opens.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Final, NamedTuple

from tocsin.inbound.expressions.fields import text_of
from tocsin.inbound.mapping.message_objects import FORMER, FieldName, MessageObjects
from tocsin.inbound.mapping.shared_names import (
    ACTION_NAME,
    COUNTED,
    END_TIME,
    EXIT_CODES,
    FOLDED,
    FOLDED_OUTCOMES,
    FOLDED_STATUSES,
    HAPPENING_NAME,
    HEADLINE,
    MONITORED,
    OVER_TEXTS,
    OVER_TIME,
    SENTENCE_NAME,
    SENTENCES,
    SEVERITY_NAME,
    STATUS_NAME,
    TITLE_NAME,
    TITLES,
    TRUTHS,
    ByName,
    find_any,
    first_line,
    matching,
    texts_of,
)
from tocsin.inbound.mapping.status_in_titles import status_in_tag, status_in_title
from tocsin.inbound.mapping.status_words import (
    SERVICES,
    STATES_OF_SERVICES,
    StatusMeaning,
    goes_on,
    is_bare_status,
    is_clear,
    is_completion,
    is_daily_event,
    is_failure,
    is_kind,
    is_new_ticket,
    meaning_of,
    meaning_of_flag,
    names_fault,
    notice_of,
)

#: What was done with a known alert outweighs the state beside it, which is that of the thing.
_NOTICE: Final = 500.0
#: The weight of a clear word by its place. A status, a result or a time of an end says it most directly.
_STATUS: Final = 100.0
#: A tag is written to be read first: it outweighs an event, which may name the problem of both messages.
_TAG: Final = 80.0
#: A flag says one thing of the message; a status beside it, what it is about.
_FLAG: Final = 70.0
#: Events, and names like that of a status: with a flag or a tag they outweigh a status, alone they do not.
_EVENT: Final = 65.0
#: A sentence may tell of something else; a failure in one still outweighs a status that only says that something ended.
_SENTENCE: Final = 40.0
#: A kind of message, such as `type`: half a sentence, as it names problems more often than it says what became of them.
_HAPPENING: Final = 20.0
#: How many failed: just enough to close what has a title.
_COUNT: Final = 11.0
#: A bare word of any name: not enough for that.
_OTHER: Final = 9.0
#: How bad it is, which a recovery may repeat: decides only where nothing else says anything.
_SEVERITY: Final = 5.0
#: What remains of the weight of a word that may say something else too, such as "active", that may name a problem in a
#: title, or is about an object beside the message: a status with it is less than a sentence that says the opposite.
_UNCLEAR: Final = 0.35
#: And of one that says that something ended or goes on, and not how: a status with it is still enough to close.
_HOW_IS_UNSAID: Final = 0.12
#: Less than this does not close a message with a title, or without one.
_MIN_CLOSING_TITLED: Final = 10.0
_MIN_CLOSING: Final = 5.0

_MAX_STATUS_CHARS: Final = 60
_OPEN, _CLOSE, _UPDATE = StatusMeaning.OPEN, StatusMeaning.CLOSE, StatusMeaning.UPDATE
_ACTING: Final = (_OPEN, _CLOSE)
#: Where a message says what happened.
_HAPPENED: Final = (_STATUS, _EVENT, _HAPPENING)
_WORDS: Final = {_OPEN: "open", _CLOSE: "resolved"}
#: From here on, a code is one of HTTP, or names a problem.
_MAX_CODE: Final = 100
_OF_CODES: Final = ((_CLOSE, "success"), (_OPEN, "failed"))
_OF_ALERT: Final = re.compile(r"(alert|alarm|incident|problem|event)(id|key|name|uid)")
#: Names of a status that are about the problem itself, and of a part of a thing otherwise: "battery_status".
_OF_PROBLEM: Final = re.compile(r"al(ert|arm)|incident|problem|event|issue|trigger|check|service|newst|^(new|curr|to)")
#: What is named beside an event that says only what was done: `{"action": "push", "repository": …}`.
_DAILY_OBJECTS: Final = frozenset({"commit", "customer", "invoice", "order", "pullrequest", "repo", "repository"})
#: A normal priority, and the type of another thing, are no end.
_OF_OTHER: Final = re.compile(r"priority|^(?!.*(event|alert|alarm|incident|message|notif|hook|stat)).+(type|kind)$")
#: Flags that something is well, maybe the delivery.
_WELL: Final = re.compile(r"ok(ay)?|success(ful)?|succeeded|valid|healthy|running|alive|online|up|error")
_EDGES: Final = ("to", "tostate", "edge", "contact")
#: "off" is the end of what a sensor or a rule reports; any other thing that is "off" may be dead.
_SWITCHED: Final = {"on": _OPEN, "off": _CLOSE}
_SENSOR: Final = re.compile(r"(?i)sensor|melder|detect|détect|leak|smoke|motion")
_RULE: Final = re.compile(r"alert|alarm|rule|threshold|metric")
_CLEARED_SEVERITIES: Final = frozenset({"clear", "cleared", "ok", "resolved", "recovered", "recovery"})
#: A time that programs write for none.
_NO_TIME: Final = re.compile(r"0001-|1970-01-01|[0\s:.TZ-]*$")


class Verdict(NamedTuple):
    """What a message says, by the word that says it most clearly."""

    meaning: StatusMeaning
    status: str


class _Vote(NamedTuple):
    place: float
    weight: float
    meaning: StatusMeaning
    status: str
    is_direct: bool = True  # About the problem itself: a part that is well may be another one.


def _place_of(name: str) -> float:
    if FORMER.search(name):
        return 0
    if name in FOLDED_OUTCOMES:
        return _STATUS
    if name in FOLDED["source_status"] and name not in SENTENCES:
        return _EVENT
    if name in FOLDED["severity"] or SEVERITY_NAME[name]:
        return _SEVERITY
    if STATUS_NAME[name] or name in _EDGES:
        return _EVENT
    if name in TITLES or TITLE_NAME[name] or name in SENTENCES or SENTENCE_NAME[name]:
        return _SENTENCE
    if ACTION_NAME[name]:
        return _EVENT
    return _HAPPENING if HAPPENING_NAME[name] or name in HEADLINE else _OTHER


_PLACES: Final = ByName(_place_of, _OTHER)


def read(objects: MessageObjects) -> Verdict | None:
    """Returns what a message says; None if it says nothing."""
    best: dict[tuple[float, StatusMeaning], _Vote] = {}
    opens = closes = False
    for vote in _votes(objects):
        if vote.is_direct and vote.place not in (_OTHER, _SEVERITY):
            closes |= vote.meaning is _CLOSE
            opens |= vote.meaning is _OPEN and vote.weight > vote.place * _UNCLEAR
        key = (vote.place, vote.meaning)
        if key not in best or vote.weight > best[key].weight:
            best[key] = vote
    votes = best.values()
    sums = {meaning: sum(vote.weight for vote in votes if vote.meaning is meaning) for meaning in StatusMeaning}
    meaning = max(sums, key=sums.__getitem__)
    if (event := _daily_event(objects, votes)) is not None:
        return Verdict(_OPEN, event)
    if not sums[meaning]:
        return None
    if meaning is _CLOSE and sums[_CLOSE] < (_MIN_CLOSING_TITLED if _is_titled(objects) else _MIN_CLOSING):
        return None
    # What is new may have any first status.
    is_new = (
        meaning is _UPDATE
        and sums[_UPDATE] < _NOTICE
        and any(map(is_new_ticket, texts_of(objects.levels, FOLDED["event"])))
    )
    if is_new or (meaning is _CLOSE and not closes and (opens or _names_problem(objects))):
        return Verdict(_OPEN, _WORDS[_OPEN])
    clearest = max((vote for vote in votes if vote.meaning is meaning), key=lambda vote: vote.weight)
    return Verdict(meaning, clearest.status)


def _daily_event(objects: MessageObjects, votes: Collection[_Vote]) -> str | None:
    """Returns the event of a message if it is one of every day and nothing beside it says a status or a problem."""
    texts = [(name, value) for level in objects.texts for name, value in level.items() if isinstance(value, str)]
    happened = [value for name, value in texts if _PLACES[name] in _HAPPENED]
    things = [name for level in objects.everywhere for name in level if name in _DAILY_OBJECTS]
    named = (f"{thing} {value}" for thing in things for value in happened if " " not in value)
    event = next(filter(is_daily_event, (*happened, *named)), None)
    if event is None or any(names_fault(value) for _, value in texts):
        return None
    others = (vote for vote in votes if vote.status not in event and vote.place not in (_OTHER, _SEVERITY))
    return None if any(vote.weight > vote.place * _UNCLEAR for vote in others) else event


def unknown_status(objects: MessageObjects) -> str:
    """Returns a status whose words say nothing, for people; empty without one."""
    found = (*find_any(objects.levels, FOLDED_STATUSES), *matching(objects.levels, STATUS_NAME))
    return next((text for value in found if (text := text_of(value)) and " " not in text.strip()), "")


def has_flag(objects: MessageObjects) -> bool:
    """Returns whether a message says what it does by a flag, an exit code or the time of an end."""
    is_timed = any(OVER_TIME[name] for level in objects.levels for name in level)
    return is_timed or any(
        vote.place == _FLAG for level in objects.levels for vote in _votes_of(level, 1, is_run=False)
    )


def _names_problem(objects: MessageObjects) -> bool:
    """Returns whether a text of a message names a problem, which something beside it that is well does not end."""
    for level in objects.everywhere:
        for name, value in level.items():
            # A check called "Error rate" may be well.
            if not isinstance(value, str) or "://" in value or name == "name" or name in MONITORED:
                continue
            is_fault = names_fault(value) or (name in HEADLINE and meaning_of(value) is None)
            if is_fault and _PLACES[name] not in (0, _STATUS, _SEVERITY):
                return True
    return False


def _is_titled(objects: MessageObjects) -> bool:
    return any(name in FOLDED["subject"] for level in objects.texts for name in level)


def _votes(objects: MessageObjects) -> Iterator[_Vote]:
    is_run = bool(objects.runs)
    for level in objects.texts:
        yield from _votes_of(level, 1, is_run=is_run)
    is_titled = _is_titled(objects)
    for level in objects.things:
        # What is online beside a title may be something else.
        for vote in _votes_of(level, _UNCLEAR, is_run=is_run):
            if vote.weight >= vote.place * _UNCLEAR and not (is_titled and vote.meaning is _CLOSE):
                is_direct = vote.is_direct and (vote.place == _FLAG or any(OVER_TIME[name] for name in level))
                yield vote if is_direct else vote._replace(is_direct=False)
    for level in objects.inner:
        for name in FOLDED_OUTCOMES.keys() & level.keys():
            if isinstance(value := level[name], str) and is_failure(value):
                yield _vote(_STATUS, 1, _OPEN, value)


def _votes_of(level: dict[str, object], factor: float, *, is_run: bool) -> Iterator[_Vote]:
    for name, value in level.items():
        if OVER_TIME[name] or END_TIME[name]:
            yield from _votes_of_end(name, value, factor, is_run=is_run)
        elif isinstance(value, str):
            place = _PLACES[name]
            if place:
                yield from _votes_of_text(name, value, place, factor, level, is_run=is_run)
        elif isinstance(value, int | float):
            yield from _votes_of_number(name, value, factor, is_run=is_run)


def _votes_of_text(
    name: str, value: str, place: float, factor: float, level: dict[str, object], *, is_run: bool
) -> Iterator[_Vote]:
    folded = value.casefold()
    is_of_notification = "notification" in name
    if place in _HAPPENED and (notice := notice_of(value, is_of_notification=is_of_notification)) is not None:
        yield _vote(_NOTICE, 1, _UPDATE, notice)
    elif (is_true := TRUTHS.get(folded)) is not None:
        if folded in _SWITCHED and (place >= _EVENT or place == _HAPPENING) and _is_switched(level):
            switched = _SWITCHED[folded]
            yield _vote(_HAPPENING, factor, switched, _WORDS[switched])
        elif place == _STATUS and (condition := _meaning_of_condition(level)) is not None:
            stated = condition if is_true else _CLOSE if condition is _OPEN else _OPEN
            yield _vote(_STATUS, factor, stated, _WORDS[stated])
        else:
            yield from _votes_of_flag(name, is_true, factor)
    elif name in OVER_TEXTS and len(value) <= _MAX_STATUS_CHARS and "://" not in value:
        yield _vote(_FLAG, factor, _CLOSE, "resolved")
    elif len(value) > _MAX_STATUS_CHARS or (place == _SENTENCE and not is_bare_status(value)):
        yield from _votes_of_sentence(value, factor)
    elif place in (_OTHER, _SENTENCE):
        if is_bare_status(value):
            if (bare := meaning_of(value)) is not None and bare in _ACTING:
                yield _vote(_OTHER, factor, bare, value)
        elif value.count(" ") > 1:
            yield from _votes_of_sentence(value, factor)
    elif place == _STATUS and not is_run and folded in STATES_OF_SERVICES and not SERVICES.isdisjoint(level):
        state = STATES_OF_SERVICES[folded]
        yield _vote(_STATUS, factor, state, _WORDS[state])
    elif (meaning := meaning_of(value)) is not None:
        is_of_alert = any(map(_OF_ALERT.match, level)) if meaning is not _OPEN else False
        yield from _votes_of_status(name, value, meaning, place, factor, is_run=is_run, is_of_alert=is_of_alert)


def _votes_of_status(
    name: str, value: str, meaning: StatusMeaning, place: float, factor: float, *, is_run: bool, is_of_alert: bool
) -> Iterator[_Vote]:
    folded = value.casefold()
    if meaning is _UPDATE and "cancel" in folded and not is_run:
        # An alert that is canceled is over; of anything else, this says nothing.
        if place != _STATUS:
            return
        meaning, value = (_CLOSE, "resolved") if is_of_alert else (_UPDATE, value)
    if meaning is _CLOSE and _OF_OTHER.search(name):
        return
    if place == _SEVERITY and meaning is _CLOSE:
        place = _STATUS if folded in _CLEARED_SEVERITIES else _HAPPENING
    if meaning is _UPDATE and place in (_SEVERITY, _HAPPENING):
        return
    clearness = 1.0 if is_clear(value) else _UNCLEAR
    if (is_completion(value) and not is_of_alert) or goes_on(value) or (meaning is _UPDATE and "cancel" in folded):
        clearness = _HOW_IS_UNSAID
    if place in (_EVENT, _HAPPENING) and is_kind(value):
        clearness *= _UNCLEAR
    is_direct = place != _EVENT or name in FOLDED["source_status"] or _OF_PROBLEM.search(name) is not None
    yield _Vote(place, place * factor * clearness, meaning, value, is_direct)


def _votes_of_sentence(text: str, factor: float) -> Iterator[_Vote]:
    line = str(first_line(text))
    tag = status_in_tag(line)
    status = tag or status_in_title(line)
    if status is not None and (meaning := meaning_of(status)) in _ACTING:
        place = _SENTENCE if tag is None else _TAG
        yield _vote(place, factor * (_UNCLEAR if meaning is _OPEN else 1), meaning, status)


def _votes_of_number(name: str, value: float, factor: float, *, is_run: bool) -> Iterator[_Vote]:
    if isinstance(value, bool):
        yield from _votes_of_flag(name, value, factor)
    elif name in EXIT_CODES:
        yield _vote(_FLAG, factor, *_OF_CODES[value != 0])
    elif name == "results" or (is_run and name == "result"):
        if value:
            yield _vote(_STATUS, factor, *_OF_CODES[True])
    elif name == "code":
        if value < _MAX_CODE:
            yield _vote(_COUNT, factor, *_OF_CODES[value != 0])
    elif name in COUNTED and (value not in (0, 1) or meaning_of_flag((name,)) is None):
        if meaning_of(name) is _OPEN:
            # No error is not yet a recovery.
            yield _vote(_COUNT if value else _OTHER, factor, *_OF_CODES[value != 0])
    elif value in (0, 1):
        yield from _votes_of_flag(name, bool(value), factor)


def _votes_of_end(name: str, value: object, factor: float, *, is_run: bool) -> Iterator[_Vote]:
    if not value or (isinstance(value, str) and (_NO_TIME.match(value) or not any(map(str.isdigit, value)))):
        yield _vote(_HAPPENING, factor, _OPEN, "open")
    elif OVER_TIME[name]:
        yield _vote(_STATUS, factor, _CLOSE, "resolved")
    elif not is_run:
        yield _vote(_HAPPENING, factor, _CLOSE, "resolved")


def _votes_of_flag(name: str, is_true: bool, factor: float) -> Iterator[_Vote]:
    if FORMER.search(name) or name.startswith("additional"):
        return
    words = name.words if isinstance(name, FieldName) else (name,)
    meaning = meaning_of_flag(words) if len(name) <= _MAX_STATUS_CHARS and words else None
    if meaning is not None:
        if not is_true:
            meaning = _CLOSE if meaning is _OPEN else _OPEN
        weight = _FLAG * factor * (1.0 if is_clear(words[-1]) else _UNCLEAR)
        yield _Vote(_FLAG, weight, meaning, _WORDS[meaning], not _WELL.fullmatch(words[-1]))


def _meaning_of_condition(level: dict[str, object]) -> StatusMeaning | None:
    """Returns what "True" of a condition says: `{"type": "Ready", "status": "False"}`."""
    kinds = (meaning_of(kind) for kind in (level.get("type"), level.get("condition")) if isinstance(kind, str))
    return next((meaning for meaning in kinds if meaning in _ACTING), None)


def _is_switched(level: dict[str, object]) -> bool:
    """Returns whether what has a status is a sensor, or a rule."""
    return any(map(_RULE.search, level)) or any(isinstance(v, str) and _SENSOR.search(v) for v in level.values())


def _vote(place: float, factor: float, meaning: StatusMeaning, status: str) -> _Vote:
    return _Vote(place, place * factor, meaning, status)
