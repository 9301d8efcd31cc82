"""What a status means in the words that tools share: it opens, closes or updates. Pure.

A kind's rules come first; these words are for statuses that no rule knows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise
from typing import Final

from tocsin.inbound.conditions import STATEMENT_ENDS
from tocsin.inbound.mapping import evidence_table as table
from tocsin.inbound.mapping.evidence_table import StatusMeaning, words_of

_MAX_BARE_CHARS: Final = 30
_MAX_WORDS_OF_END: Final = 3
#: A code of several words.
CODE: Final = re.compile(r"[^\W\d_]+([._][^\W\d_]+)+|[^\W\d_]*[a-z][A-Z][^\W\d_]*")
_VERSION: Final = re.compile(r"v?\d+")
MAX_TITLE_CHARS: Final = 300
_MAX_CHARS: Final = 100


@lru_cache(maxsize=2048)
def notice_of(text: str, *, is_of_notification: bool = False) -> str | None:
    """Returns what was done with a known alert, as a status; None if a text says nothing of that kind.
    `is_of_notification`: its name says that it is the type of a notification."""
    joined = "".join(_without_details(words_of(text[:_MAX_CHARS])))
    found = table.NOTICE_PHRASE.fullmatch(joined) or (
        table.NOTICE_OF_NOTIFICATION.match(joined) if is_of_notification else None
    )
    return found.lastgroup if found is not None else None


@lru_cache(maxsize=2048)
def is_daily_event(text: str) -> bool:
    """Returns whether an event is one of every day, such as "order.created": nothing that anybody is woken for."""
    words = words_of(text[:_MAX_CHARS])
    if not (table.FAILURES | table.STATES).isdisjoint(words) or _meaning_of(text) is StatusMeaning.CLOSE:
        return False
    things = {word.removesuffix("s") for word in words} | {*words, *map("_".join, pairwise(words))}
    is_daily = not table.DAILY.isdisjoint(words) and not table.DAILY_THINGS.isdisjoint(things)
    return is_daily or table.DAILY_EVENT.fullmatch("".join(words)) is not None or is_routine(text)


@lru_cache(maxsize=2048)
def is_routine(text: str) -> bool:
    """Returns whether a text tells of what no problem caused, such as "Weekly report" and "Job daily started"."""
    return table.ROUTINE.fullmatch(" ".join(words_of(text[:_MAX_CHARS]))) is not None and not may_name_fault(text)


@lru_cache(maxsize=2048)
def may_name_fault(text: str) -> bool:
    """Returns whether a text has any word of a problem, in any language, even one that may mean something else."""
    folded, words = text[:MAX_TITLE_CHARS].casefold(), words_of(text[:MAX_TITLE_CHARS])
    if names_fault(text) or table.NOT_WORKING.search(folded) or table.FAULT_PART.search(folded):
        return True
    known = table.UNCLEAR_WORDS | table.AMBIGUOUS | {"too", "out"}
    return not (table.NEGATIONS - {"only"}).isdisjoint(words) or any(
        word not in known and meaning_of_word(word) is StatusMeaning.OPEN for word in words
    )


ACTING: Final = (StatusMeaning.OPEN, StatusMeaning.CLOSE)


def is_test(text: str) -> bool:
    """Returns whether a text says that its message is a test, such as "Webhook test"."""
    return table.TEST.match(text) is not None


def is_test_event(event: str) -> bool:
    """Returns whether an event is one of a test, such as "ping" and "webhook.test"."""
    return table.TEST_EVENT.fullmatch(event) is not None


def meaning_of(status: str, *, is_own: bool = False) -> StatusMeaning | None:
    """Returns what a status means, such as "RESOLVED", "alert.fired" or "[OK] CPU"; None if its words are unknown, or
    disagree. `is_own`: a kind's own path found it, so that ambiguous words mean nothing."""
    if is_own and status.casefold() in table.AMBIGUOUS:
        return None
    return _meaning_of(status[:_MAX_CHARS])


@lru_cache(maxsize=2048)
def _meaning_of(status: str) -> StatusMeaning | None:
    # The last word of "check.recovered.v1" is no status.
    words = [word for word in words_of(status) if not _VERSION.fullmatch(word)]
    if not words:
        return _meaning_of_sign(status)
    if len(words) > 1 and words[-2] in table.RUNNING_THINGS and words[-1] in table.EVENTS_OF_SERVICES:
        return table.EVENTS_OF_SERVICES[words[-1]]
    if CODE.fullmatch(status) and not table.DEGREES.isdisjoint(words) and table.MEANINGS.keys().isdisjoint(words):
        return StatusMeaning.OPEN  # too much or too little: "disk_full", "HIGH_TEMP"
    if len(words) == 2 and words[0] in table.OVER_AGAIN and CODE.fullmatch(status):
        return StatusMeaning.CLOSE  # "ResolvedCritical": what was critical is over
    is_end = 1 < len(words) <= _MAX_WORDS_OF_END and not table.ENDS.isdisjoint((words[0], words[-1]))
    if is_end and any(meaning_of_word(word.removeprefix("d'")) is StatusMeaning.OPEN for word in words):
        return StatusMeaning.CLOSE
    is_negated = not table.NEGATIONS.isdisjoint(words)
    meaning = next(filter(None, map(meaning_of_word, phrases_of(words))), None)
    if is_negated and not any(meaning_of_word(phrase) for phrase in phrases_of(words)[:3] if "_" in phrase):
        # "not ok" and "nicht erreichbar" are the opposite; "no_data" is a word of its own.
        return StatusMeaning.OPEN if meaning is StatusMeaning.CLOSE else None
    if is_negated:
        return meaning
    if meaning is not None and words[-1] not in table.WEAK:
        return meaning
    telling = [word for word in words if word not in table.NOT_TELLING]
    meanings = {found for word in telling if (found := meaning_of_word(word)) is not None}
    return meanings.pop() if len(meanings) == 1 else meaning or _meaning_of_sign(status)


@lru_cache(maxsize=2048)
def is_clear(status: str) -> bool:
    """Returns whether a status has a word that can hardly say something else: "down", and not "active"."""
    return any(
        word not in table.UNCLEAR_WORDS and meaning_of_word(word) is not None for word in phrases_of(words_of(status))
    )


_AUXILIARIES: Final = frozenset({"is", "are", "has", "have", "had", "was", "were", "been", "in", "ist", "hat", "est"})


@lru_cache(maxsize=4096)
def meaning_of_flag(words: tuple[str, ...]) -> StatusMeaning | None:
    """Returns what a flag means that is true, by the words of its name: `isFiring`, `backToNormal`; None if it is
    none."""
    if not table.SETTINGS.isdisjoint(words):
        return None
    if words == ("is", "available"):
        return StatusMeaning.CLOSE
    telling = [word for word in words if word not in _AUXILIARIES]
    is_negated = bool(telling) and telling[0] in {"not", "non", "no"} and meaning_of_word("_".join(telling)) is None
    meaning = _meaning_of_flag(telling[1:] if is_negated else telling)
    if is_negated and meaning is not None:
        return StatusMeaning.CLOSE if meaning is StatusMeaning.OPEN else StatusMeaning.OPEN
    return meaning


def _meaning_of_flag(words: list[str]) -> StatusMeaning | None:
    prefix = table.JOINED_FLAG.match(words[0]) if len(words) == 1 and words[0] not in table.MEANINGS else None
    if prefix is not None and prefix.end() < len(words[0]):
        words = [words[0], words[0][prefix.end() :]]
    for phrase in phrases_of(words):
        if phrase in table.WELL_NOUNS:
            return StatusMeaning.CLOSE
        if phrase in table.FLAG_NOUNS:
            return StatusMeaning.OPEN
        if phrase not in table.NO_FLAGS and (meaning := meaning_of_word(phrase)) in ACTING:
            return meaning
    return StatusMeaning.OPEN if len(words) > 1 and words[-1] in {"low", "high", "full"} else None


@lru_cache(maxsize=2048)
def is_failure(status: str) -> bool:
    """Returns whether a status says of anything that it failed, such as "failure" or "ERROR"."""
    return meaning_of(status) is StatusMeaning.OPEN and not table.FAILURES.isdisjoint(phrases_of(words_of(status)))


def names_failure(text: str) -> bool:
    """Returns whether a sentence has a word of a failure, or of too much or too little."""
    return not table.PROBLEMS.isdisjoint(words_of(text[:MAX_TITLE_CHARS]))


def names_fault(text: str) -> bool:
    """Returns whether a text says that something is wrong: "Queue too slow", "Disk at 95 %", "word not found"."""
    text = table.FLAWLESS.sub("", text[:MAX_TITLE_CHARS])
    words = words_of(text)
    return (table.NEGATIONS.isdisjoint(words) and not table.FAULTS.isdisjoint(words)) or table.WRONG.search(
        text
    ) is not None


def is_bare_status(text: str) -> bool:
    """Returns whether a text is nothing but a word that says of anything that it failed or is over."""
    return len(text) <= _MAX_BARE_CHARS and text[:1].isalpha() and "_".join(words_of(text)) in table.BARE


def is_kind(status: str) -> bool:
    """Returns whether a status of several words may be a kind of message: "exceptionAlert"."""
    words = words_of(status)
    return len(words) > 1 and words[-1] in table.KINDS


@lru_cache(maxsize=2048)
def is_completion(status: str) -> bool:
    """Returns whether a status says that something ended, and not how, such as "build.finished"."""
    words = words_of(status)
    is_of_problem = len(words) > 1 and not (table.KINDS - {"test"}).isdisjoint(words)
    return not table.COMPLETIONS.isdisjoint(words) and not is_of_problem and meaning_of(status) is StatusMeaning.CLOSE


@lru_cache(maxsize=2048)
def goes_on(status: str) -> bool:
    """Returns whether a status says that something goes on, and not how, such as "incident.updated"."""
    return not table.ONGOING.isdisjoint(phrases_of(words_of(status))[-2:])


def _meaning_of_sign(text: str) -> StatusMeaning | None:
    return next((meaning_of_word(table.SIGNS[char]) for char in text[:2] if char in table.SIGNS), None)


def phrases_of(words: list[str]) -> tuple[str, ...]:
    return ("_".join(words), "_".join(words[-3:]), "_".join(words[-2:]), *words[-1:])


def meaning_of_word(word: str) -> StatusMeaning | None:
    return table.MEANINGS.get(word) or (_meaning_of_form(word) if _MIN_FORM <= len(word) <= _MAX_FORM else None)


#: The length of words that may be another form of a known one, in characters.
_MIN_FORM: Final = 6
_MAX_FORM: Final = 30


_MIN_REST: Final = 6
_OPPOSITES: Final = {StatusMeaning.OPEN: StatusMeaning.CLOSE, StatusMeaning.CLOSE: StatusMeaning.OPEN}


@lru_cache(maxsize=4096)
def _meaning_of_form(word: str) -> StatusMeaning | None:
    """Returns what a word means by another form of it: "restablecida", "recovering", "rétablis"; or the opposite of the
    rest of it: "débloquée"."""
    if word.endswith(table.COMPOUND_ENDS):
        return StatusMeaning.OPEN
    known = next((form for form in _forms_of(word) if form in table.MEANINGS), None)
    if known is not None:
        return table.MEANINGS[known]
    rests = [rest for prefix in table.OPPOSITES if len(rest := word.removeprefix(prefix)) < len(word)]
    known = next((f for r in rests if len(r) >= _MIN_REST for f in (r, *_forms_of(r)) if f in table.MEANINGS), None)
    return None if known is None else _OPPOSITES.get(table.MEANINGS[known])


def _forms_of(word: str) -> Iterator[str]:
    for ending, others in table.FORMS:
        if word.endswith(ending):
            yield from (word[: len(word) - len(ending)] + other for other in others)


@lru_cache(maxsize=2048)
def _ends_title(phrase: str) -> bool:
    """Returns whether a title may end with a phrase that says that something is over: "Porte 4 débloquée"."""
    if phrase in table.MEANINGS or not _MIN_FORM <= len(phrase) <= _MAX_FORM:
        return phrase in table.TITLE_ENDS
    is_end = any(form in table.TITLE_ENDS for form in _forms_of(phrase))
    is_form = any(form in table.MEANINGS for form in _forms_of(phrase))
    return is_end or (not is_form and _meaning_of_form(phrase) is StatusMeaning.CLOSE)


@lru_cache(maxsize=1024)
def is_new_ticket(event: str) -> bool:
    """Returns whether an event says that a ticket is new, such as "ticket_created" or "New Ticket Logged"."""
    words = set(re.split(r"[\W_]+", table.CAMEL.sub(" ", event[:_MAX_CHARS]).casefold()))
    if words & (table.PARTS_OF_TICKET - table.NEW_WORDS) or (words & table.OTHER_RECORDS and not words & table.TICKETS):
        return False
    return bool(words & table.NEW_WORDS)


#: For whom Halo sends an event.
_FLAVOUR: Final = re.compile(r"(?i)\s[-–(]\s*(all|assigned)\)?\s*$")


def is_new_status(status: str) -> bool:
    """Returns whether a ticket's status says that it is new, and no more: "Neu"."""
    return status.strip().casefold() in table.NEW_STATUSES


@lru_cache(maxsize=1024)
def is_open_status(status: str) -> bool:
    """Returns whether a ticket's status says that it is new or open, and no more: not "Open - waiting for parts"."""
    first, *others = _statements(status)
    if not table.SEEN.isdisjoint(word for words in others for word in words):
        return False
    telling = [word for word in first if word not in table.TICKETS | {"for", "awaiting", "needs", "to", "be"}]
    return bool(telling) and table.OPEN_STATUSES.issuperset(telling)


@lru_cache(maxsize=2048)
def is_closed_status(status: str) -> bool:
    """Returns whether a ticket's status says that it is closed, and no more: "Completed by vendor", and not "Completed,
    awaiting sign-off", "Not completed" and "Visit cancelled"."""
    first, *others = _statements(status)
    if not table.WAITING.isdisjoint(word for words in others for word in words):
        return False
    telling = [word for word in _without_details(first) if word not in table.TICKETS | table.AROUND | {"resolved"}]
    return bool(telling) and table.CLOSED_STATUSES.issuperset(telling)


@lru_cache(maxsize=1024)
def may_be_new(status: str) -> bool:
    """Returns whether a ticket's status does not say that somebody has seen it: "Awaiting triage", "Cellar"."""
    if is_open_status(status):
        return True
    if meaning_of(status) in (StatusMeaning.UPDATE, StatusMeaning.CLOSE) or is_closed_status(status):
        return False
    return table.SEEN.isdisjoint(word for words in _statements(status) for word in words)


@lru_cache(maxsize=1024)
def is_of_known_ticket(event: str) -> bool:
    """Returns whether an event is one of a ticket that is not new, or of something else: "ticket updated", "SLA
    warning", "note added", "New Client Created"."""
    words = set(words_of(event[:_MAX_CHARS]))
    return (
        bool(
            words & (table.LATER | table.PARTS_OF_TICKET) or (words & table.OTHER_RECORDS and not words & table.TICKETS)
        )
        or meaning_of(event) in (StatusMeaning.UPDATE, StatusMeaning.CLOSE)
        or is_test_event(event)
    )


@lru_cache(maxsize=1024)
def status_in_event(event: str) -> str | None:
    """Returns what an event says of the ticket itself in one word: "closed" of "Ticket closed - All" and "ticket has
    been closed by Noor"; None of "child ticket closed" and "comment_closed"."""
    words = _without_details(words_of(_FLAVOUR.sub("", event[:_MAX_CHARS])))
    telling = [word for word in words if word not in table.TICKETS | table.AROUND and not _VERSION.fullmatch(word)]
    telling = telling or words[-1:]
    return telling[0] if len(telling) == 1 else None


#: "[HALO-7] Ticket closed: VPN down", of which the first part may be what happened to the ticket.
_TITLE_HEAD: Final = re.compile(r"(?:\[[^\]]{0,40}\]\s*)?([^:–—]{3,60}?)(?:(?::|\s[-–—])\s|$)")
#: "[HALO-7]", "Ticket #7", "demande n° 7".
_NUMBER_IN_TITLE: Final = re.compile(
    r"\[#?((?:[A-Z]{2,8}-)?\d{2,12})\]|\b(\w+)\W{1,3}(?:(?:n[°ºor]?|nro|id|number|nummer)\b\W{0,3})?((?:[A-Z]{1,8}-)?\d{2,12})\b",
    re.IGNORECASE,
)


@lru_cache(maxsize=1024)
def event_in_title(title: str) -> str | None:
    """Returns what a mail's subject says of the ticket itself: "Ticket 7 geschlossen" of "[Halo] Ticket 7 geschlossen –
    VPN down"; None of any other title."""
    found = _TITLE_HEAD.match(title)
    return None if found is None or table.TICKETS.isdisjoint(words_of(found[1])) else found[1]


def number_in_title(title: str) -> str | None:
    """Returns the number of a ticket in a mail's subject: "7004" of "New ticket 7004: VPN down"."""
    for found in _NUMBER_IN_TITLE.finditer(title[:MAX_TITLE_CHARS]):
        if found[1] or found[2].casefold() in table.TICKETS:
            return (found[1] or found[3]).lstrip("0")
    return None


@lru_cache(maxsize=1024)
def meaning_of_ticket_event(event: str) -> StatusMeaning | None:
    """Returns what an event says of the ticket itself, such as "ALERT" and "incident.resolved"; None for a test, and
    for anything else that happened, such as "comment_closed" and "SLA warning"."""
    status = status_in_event(event)
    return meaning_of_word(status) if status is not None and not is_test_event(event) else None


def _statements(status: str) -> list[list[str]]:
    return [words_of(part) for part in STATEMENT_ENDS.split(status.strip()[:_MAX_CHARS])]


def _without_details(words: list[str]) -> list[str]:
    end = next((place for place, word in enumerate(words) if place and word in table.DETAILS), len(words))
    return words[:end]


# ---------- status in titles
# What a title or a sentence says of a status, and what it is about without it: "[RESOLVED] CPU high on db1". Pure.


_CAPITALS: Final = re.compile(r"\b[A-Z]{2,}\b")
_CLAUSE_ENDS: Final = re.compile(r"[.!?;:,]\s+|\s[-–—|]\s")
_MAX_CLAUSES: Final = 6


def status_in_tag(title: str) -> str | None:
    """Returns the status that the tag or the sign in front of a title says: "[RESOLVED] CPU"."""
    title = title.strip()[:MAX_TITLE_CHARS].partition("\n")[0]
    if (code := table.SIGN_CODE.match(title)) is not None:
        return "problem" if code[1] is not None else "ok"
    if (tag := table.TAG_PHRASE.match(title)) is not None:
        tag_words = words_of(tag[1] or tag[2] or tag[3])
        # "connect: Connection refused" begins with what a program tried, which is a form of "connected".
        find = meaning_of_word if tag[3] is None else table.MEANINGS.get
        # "[FIRING:1]" and "[Recovered on db1]" begin with the status.
        for status in ("_".join(tag_words), *tag_words[:1]):
            if find(status) in ACTING:
                return status
    return next((table.SIGNS[char] for char in title[:2] if char in table.SIGNS), None)


def status_in_title(title: str) -> str | None:
    """Returns the status that the tag in front of a title or its words say: "[RESOLVED] CPU", "Shop is up!"."""
    if (status := status_in_tag(title)) is not None:
        return status
    title = table.FLAWLESS.sub("successfully", table.ASIDE.sub("", title))
    clauses = _CLAUSE_ENDS.split(title.strip()[:MAX_TITLE_CHARS].partition("\n")[0])
    if len(clauses) > 1 and (last := clauses[-1].strip("!.* ").casefold()) in table.BARE:
        return last
    found = [status for clause in clauses[:_MAX_CLAUSES] if (status := _status_in_clause(clause, title)) is not None]
    return found[0] if len({meaning_of_word(status) for status in found}) == 1 else None


def _status_in_clause(clause: str, title: str) -> str | None:
    words, folded = words_of(clause), clause.casefold()
    if len(words) < 2:
        return None
    if table.WAS_DOWN.match(clause):
        return "resolved"
    if table.NOT_WORKING.search(folded):
        return "failed"
    if (change := table.CHANGE.search(folded)) is not None and {
        meaning_of_word(change[1]),
        meaning_of_word(change[2]),
    } == {*ACTING}:
        return change[2]
    has_failure = not table.FAILURES.isdisjoint(words)
    over = table.OVER.search(folded)
    about = table.ABOUT.match(clause) if table.NEGATIONS.isdisjoint(words) else None
    if over is None and table.AGAIN.search(folded) and not has_failure and not table.NOT_WORKING.search(folded):
        is_well = any(word in table.WORKS or meaning_of_word(word) is StatusMeaning.CLOSE for word in words)
        if is_well and not names_failure(folded):
            return "resolved"
    state = about[2].casefold() if about is not None and over is None else ""
    if state not in table.UNCLEAR_WORDS and meaning_of_word(state) is StatusMeaning.OPEN:
        return state
    pairs = ["_".join(pair) for pair in pairwise(words)]
    phrase = next((pair for pair in pairs if table.MEANINGS.get(pair) is StatusMeaning.OPEN), None)
    if not table.NEGATIONS.isdisjoint(words):
        # "No longer firing", and not "no longer starts".
        is_over = over is not None and not {"longer", "mehr"}.isdisjoint(words) and names_failure(folded)
        return "resolved" if is_over or not table.NO_PROBLEM.isdisjoint(pairs) else phrase
    if over is not None and over[1]:
        # "Recovered from Device Down", and not "Failed login restored".
        rest = words_of(folded[: over.start()])
        if not has_failure or words[-1] == over[1] or table.FAILURES.isdisjoint(rest):
            return over[1]
    has_end = phrase is None and not (words[-1] == "up" and words[-2] in table.VERBS_WITH_UP)
    end = next(filter(_ends_title, phrases_of(words)), None) if has_end else None
    if not has_failure and (over is not None or end is not None):
        return end or "resolved"
    if has_failure and meaning_of_word(words[-1]) is StatusMeaning.OPEN:
        return words[-1]
    if not has_failure and phrase is None and (state := _state_in(clause, names_problem=names_failure(title))):
        return state
    # "Backing up" has the word of an end.
    others = [word for word in words if phrase is None or word not in phrase.split("_")]
    is_mixed = any(meaning_of_word(word) is StatusMeaning.CLOSE for word in others)
    if is_mixed or not has_failure:
        return None if is_mixed else phrase
    return next((word for word in words if word in table.FAILURES and word not in table.NOUNS), None)


def _state_in(clause: str, *, names_problem: bool) -> str | None:
    """Returns the state in the middle of a clause, maybe in capitals: "Job daily SUCCEEDED after 14m"."""
    capitals = (
        {word.casefold() for word in _CAPITALS.findall(clause)} - table.UNCLEAR_WORDS
        if clause != clause.upper()
        else set()
    )
    state = next((word for word in sorted(capitals) if meaning_of_word(word) is StatusMeaning.OPEN), None)
    if state is not None or names_problem:
        return state
    found = table.STATE_PHRASE.search(clause.casefold())
    return found[found.lastindex or 0] if found is not None else next(iter(sorted(capitals & table.TITLE_ENDS)), None)


#: The time of a run in its name: "daily-20261128031400".
_TIME: Final = re.compile(r"[-_ ]?(?<!\d)(?:20\d{6}(?:[-_T]?\d{4,6})?|1\d{9}(?:\d{3})?)Z?(?![\w])")
#: "18233 > 5000".
_COMPARED: Final = re.compile(r"(?<![\w.-])(\d+([.,]\d+)? ?)?[<>]=? ?\d+([.,]\d+)?(?![\w-])")
#: "Backup of nas7 failed: disk full".
_DETAILED: Final = re.compile(r"(\w[^:]+) (\w+): \S")
#: "web1/https/CRITICAL", "ALM-7-CLEAR".
_STATUS_OF_ID: Final = re.compile(r"(.*\w.*)[/:|-]([A-Z]{2,20})")
_SEGMENT: Final = re.compile(r"\s[-–—|](?:\s|$)")


def without_status(title: str) -> str:
    """Returns a title without the words that say a status: "[RESOLVED] CPU high" and "CPU high: OK" are "cpu high"."""
    title = table.FLAWLESS.sub(" ", table.ASIDE.sub("", title))
    title = table.FROM_TO.sub(
        lambda change: " " if meaning_of_word(change[1].casefold()) in ACTING else change[0], title
    )
    about = table.ABOUT.match(title)
    if about is not None and table.MEANINGS.get(about[2].casefold()) in ACTING and "[" not in title[:2]:
        # "Monitor is DOWN: shop" is about the shop.
        title = about[1] + (title[about.end() :] if about[1].casefold() in table.ANY_THING else "")
    part = table.STATUS_PART.match(title)
    if (
        part is not None
        and part[2].casefold() in table.FAILURES | table.TITLE_ENDS
        and table.MEANINGS.get(part[1].casefold()) is None
    ):
        title = part[1]
    title = re.sub(r":[a-z]\w+:(?=\s)", " ", title)
    title = without_time(table.QUANTITY.sub(" ", _COMPARED.sub(" ", _without_details_status_in_titles(title))))
    words = [word.strip(".-_/:") or word for word in re.findall(r"[\w.@/%#:°-]+", title)]
    # "timed out", "no data"
    folded = [word.casefold() for word in words]
    pairs = {
        i
        for i, pair in enumerate(pairwise(folded))
        if "_".join(pair) in table.MEANINGS and pair[1] not in table.MEANINGS
    }
    words = [word for i, word in enumerate(words) if i not in pairs and i - 1 not in pairs]
    return " ".join(
        code
        for word in words
        if (folded := word.casefold()) not in table.FILLERS
        and folded not in table.DEGREES
        and any(char.isalnum() for char in word)
        and not table.MEASURED.fullmatch(folded)
        and table.MEANINGS.get(folded.partition(":")[0]) is None
        and (code := _code_without_status(word))
    )


def without_time(name: str) -> str:
    """Returns the name of a run without its time, such as "daily" of "daily-20261128031400"."""
    return _TIME.sub(" ", name).strip()


def _without_details_status_in_titles(title: str) -> str:
    """Returns a title up to what failed: "RESOLVED: core - health check failed - HTTP 500" without the last part."""
    detailed = _DETAILED.match(title)
    if detailed is not None and detailed[2].casefold() in table.FAILURES and any(map(str.isdigit, detailed[1])):
        return detailed[1]
    parts = _SEGMENT.split(title)
    for count, part in enumerate(parts[1:-1], 2):
        words = words_of(part)
        if len(words) > 1 and words[-1] in table.FAILURES | table.TITLE_ENDS:
            return " ".join(parts[:count])
    return title


def split_id(text: str, status: str = "") -> tuple[str, str]:
    """Returns an id without the status that it ends with, such as "ALM-7" and "CLEAR", or the known `status` of its
    message; the id and "" without one."""
    head, ending = text[: -len(status) - 1], text[-len(status) :]
    if status and head and ending.casefold() == status.casefold() and text[len(head)] in "/:|-_.":
        return head, ending
    found = _STATUS_OF_ID.fullmatch(text)
    if found is None or table.MEANINGS.get(found[2].casefold()) not in ACTING:
        return text, ""
    return found[1], found[2]


def is_event_code(text: str) -> bool:
    """Returns whether a text is a code that has a status, such as "backup_failed"."""
    return " " not in text and _code_without_status(text) != text.casefold()


def _code_without_status(word: str) -> str:
    """Returns a code without the parts that say a status: "DEVICE_CONNECTED" and "deviceOffline" are "device"."""
    parts = words_of(word) if CODE.fullmatch(word) else ()
    if "." in word and parts and parts[-1] not in table.MEANINGS:
        return word.casefold()  # a host such as "db.online.example"
    telling = [
        part for part in parts if part not in table.MEANINGS and part not in table.FILLERS and part not in table.DEGREES
    ]
    return word.casefold() if len(telling) == len(parts) else "_".join(telling)
