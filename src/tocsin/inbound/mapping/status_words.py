"""What a status means in the words that tools share: it opens, closes or updates. Pure.

A kind's rules come first; these words are for statuses that no rule knows.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final


class StatusMeaning(StrEnum):
    OPEN = "open"
    CLOSE = "close"
    UPDATE = "update"


OPENING_WORDS: Final = frozenset({
    "active", "alarm", "alarming", "alert", "alerting", "anomaly", "bad", "breach", "breached", "breaching",
    "broken", "crash", "crashed", "create", "created", "creating", "crit", "critical", "danger", "dead", "degraded",
    "disaster", "disconnect", "disconnected", "down", "emergency", "err", "error", "errored", "escalated",
    "exception", "expired", "expires", "expiring", "expiry", "fail", "failed", "failing", "failure", "fatal",
    "fault", "fire", "fired", "firing", "hard_down", "identified", "inaccessible", "investigating", "late", "major",
    "minor", "missed", "missing", "nodata", "no_data", "new", "offline", "on", "ongoing", "open", "opened",
    "outage", "overdue", "panic", "partial_outage", "major_outage", "problem", "raise", "raised", "red",
    "regression", "reintroduced", "renotify", "reopen", "reopened", "set", "soft_down", "start", "started",
    "starting", "stale", "test", "testing", "timeout", "timed_out", "trigger", "triggered", "trouble",
    "unavailable", "unhealthy", "unknown", "unreachable", "unresolved", "unresponsive", "unstable", "violated",
    "violation", "warn", "warning", "yellow", "in_alarm", "unacknowledged",
})  # fmt: skip
CLOSING_WORDS: Final = frozenset({
    "available", "cleared", "clear", "close", "closed", "closing", "complete", "completed", "connected", "done",
    "ended", "end", "finished", "fixed", "good", "green", "healed", "healthy", "inactive", "mitigated", "normal",
    "ok", "okay", "online", "operational", "pass", "passed", "passing", "reachable", "ready", "recover",
    "recovered", "recovery", "renewed", "reset", "resolve", "resolved", "resolving", "restored", "returned",
    "solved", "stopped", "succeed", "succeeded", "success", "successful", "uncritical", "undegraded", "up", "valid",
    "working", "all_clear", "back_to_normal", "auto_resolved", "autoresolved", "closed_auto",
})  # fmt: skip
UPDATING_WORDS: Final = frozenset({
    "ack", "acked", "acknowledge", "acknowledged", "acknowledgement", "annotate", "annotated", "assign", "assigned",
    "cancel", "canceled", "cancelled", "comment", "commented", "delegated", "deescalated", "downtime", "edited",
    "flapping", "in_progress", "maintenance", "merged", "monitoring", "muted", "note", "paused", "pending",
    "postmortem", "queued", "reassigned", "running", "scheduled", "silenced", "snoozed", "suppressed", "unassigned",
    "under_maintenance", "update", "updated", "verifying",
})  # fmt: skip

#: Opening words that say of anything that it failed; others may say that somebody is active, or a page new.
_FAILURES: Final = frozenset({
    "alarm", "alerting", "breached", "broken", "crashed", "crit", "critical", "dead", "down", "err", "error", "errored",
    "fail", "failed", "failing", "failure", "fatal", "firing", "timed_out", "timeout", "unhealthy", "unreachable",
})  # fmt: skip
#: Closing words that may say of a failed run that it ended.
_COMPLETIONS: Final = frozenset({
    "complete", "completed", "done", "end", "ended", "finished", "stopped",
})  # fmt: skip
#: Closing words that end a title, such as "Disk of db1 is OK"; a port that is "closed" may be the problem.
_TITLE_ENDS: Final = frozenset({
    "available", "cleared", "fixed", "healthy", "normal", "ok", "okay", "online", "operational", "passed", "reachable",
    "recovered", "resolved", "restored", "succeeded", "success", "successful", "up", "back_to_normal",
})  # fmt: skip

#: "not ok", "No recovery": the words beside it mean the opposite, or nothing.
_NEGATIONS: Final = frozenset({
    "not", "no", "non", "isn't", "never", "without",
})  # fmt: skip
#: "[FIRING:1] CPU", "RECOVERY: Mail queue": a tag in front of a title.
_TAG: Final = re.compile(r"\W*(?:\[\s*(\w[^\]]{1,60})\]|([A-Z][A-Z_ -]{1,30}):(?=\s))")
_MAX_TITLE_CHARS: Final = 300
_CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_MAX_CHARS: Final = 100


#: Words that a kind may use for what is no problem, such as a comment that was created.
_AMBIGUOUS: Final = frozenset({
    "new", "create", "created", "creating", "set", "start", "started", "starting", "unknown", "test", "testing",
})  # fmt: skip


def meaning_of(status: str, *, is_own: bool = False) -> StatusMeaning | None:
    """Returns what a status means, such as "RESOLVED", "alert.fired" or "[OK] CPU"; None if its words are unknown, or
    disagree. `is_own`: a kind's own path found it, so that ambiguous words mean nothing."""
    if is_own and status.casefold() in _AMBIGUOUS:
        return None
    words = _words_of(status[:_MAX_CHARS])
    for phrase in _phrases_of(words):
        if (meaning := _meaning_of_word(phrase)) is not None and not _NEGATIONS & set(words):
            return meaning
    # "stopped_reporting" is not over.
    telling = [word for word in words if word not in _COMPLETIONS]
    meanings = {meaning for word in telling if (meaning := _meaning_of_word(word)) is not None}
    return meanings.pop() if len(meanings) == 1 and not _NEGATIONS & set(words) else None


def ends_with_status(status: str) -> bool:
    """Returns whether a text ends with a status, such as "alert.fired"; "query_alert_monitor" only has one."""
    return any(_meaning_of_word(phrase) is not None for phrase in _phrases_of(_words_of(status)))


def is_failure(status: str) -> bool:
    """Returns whether a status says of anything that it failed, such as "failure" or "ERROR"."""
    return meaning_of(status) is StatusMeaning.OPEN and not _FAILURES.isdisjoint(_phrases_of(_words_of(status)))


def is_completion(status: str) -> bool:
    """Returns whether a status says that something ended, and not how, such as "build.finished"."""
    return not _COMPLETIONS.isdisjoint(_words_of(status)) and meaning_of(status) is StatusMeaning.CLOSE


def status_in_title(title: str) -> str | None:
    """Returns the status that the tag of a title or its last words say: "[RESOLVED] CPU" and "Shop is up!"."""
    title, _, more = title.strip()[:_MAX_TITLE_CHARS].partition("\n")
    if (tag := _TAG.match(title)) is not None:
        tag_words = _words_of(tag[1] or tag[2])
        # "[FIRING:1]" and "[Recovered on db1]" begin with the status.
        for status in ("_".join(tag_words), *tag_words[:1]):
            if _meaning_of_word(status) in _ACTING:
                return status
    words = _words_of(title)
    if more or len(words) < 2 or _NEGATIONS & set(words):
        return None
    if " recovered from " in title.casefold():
        return "recovered"
    is_over = not _TITLE_ENDS.isdisjoint(_phrases_of(words)) and not any(is_failure(word) for word in words)
    is_bad = not _FAILURES.isdisjoint(words)
    return words[-1] if is_over or (is_bad and _meaning_of_word(words[-1]) is StatusMeaning.OPEN) else None


def _words_of(text: str) -> list[str]:
    return [word for word in re.split(r"[^\w']+|_", _CAMEL.sub(" ", text).casefold()) if word]


def _phrases_of(words: list[str]) -> tuple[str, ...]:
    return ("_".join(words), "_".join(words[-3:]), "_".join(words[-2:]), *words[-1:])


_ACTING: Final = (StatusMeaning.OPEN, StatusMeaning.CLOSE)

#: A percentage, a time, or the number of a run: another one in the next message.
_MEASURED: Final = re.compile(r"#\d+|\d+([.,]\d+)?%|\d+:\d+(:\d+)?|\d{4}-\d\d-\d\d.*")
_FILLERS: Final = frozenset({
    "a", "an", "and", "back", "been", "by", "for", "from", "has", "have", "in", "is", "it", "its", "now", "of", "on",
    "the", "to", "was", "went", "with",
})  # fmt: skip


def without_status(title: str) -> str:
    """Returns a title without the words that say a status: "[RESOLVED] CPU high" and "CPU high: OK" are "cpu high"."""
    words = [word.strip(".-_/:") or word for word in re.findall(r"[\w.@/%#:-]+", title.casefold())]
    return " ".join(
        word
        for word in words
        if word not in _FILLERS
        and any(char.isalnum() for char in word)
        and not _MEASURED.fullmatch(word)
        and _meaning_of_word(word.partition(":")[0]) is None
    )


def _meaning_of_word(word: str) -> StatusMeaning | None:
    if word in CLOSING_WORDS:
        return StatusMeaning.CLOSE
    if word in OPENING_WORDS:
        return StatusMeaning.OPEN
    return StatusMeaning.UPDATE if word in UPDATING_WORDS else None


_NEW_WORDS: Final = frozenset({
    "new", "create", "created", "creation", "add", "added", "insert", "inserted", "log", "logged", "open", "opened",
    "raise", "raised", "submit", "submitted",
})  # fmt: skip
#: What is new is something in a ticket, not the ticket.
_PARTS_OF_TICKET: Final = frozenset({
    "action", "approval", "article", "asset", "attachment", "comment", "contact", "customer", "email", "entry",
    "feedback", "field", "followup", "link", "log", "message", "note", "part", "reply", "response", "survey", "tag",
    "task", "time", "user", "worklog",
})  # fmt: skip


def is_new_ticket(event: str) -> bool:
    """Returns whether an event says that a ticket is new, such as "ticket_created" or "New Ticket Logged"."""
    words = set(re.split(r"[\W_]+", _CAMEL.sub(" ", event[:_MAX_CHARS]).casefold()))
    return bool(words & _NEW_WORDS) and not words & (_PARTS_OF_TICKET - _NEW_WORDS)
