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
    "active", "alarm", "alarming", "alert", "alerting", "anomaly", "bad", "breach", "breached", "broken", "crash",
    "crashed", "create", "created", "creating", "crit", "critical", "danger", "dead", "degraded", "disaster",
    "disconnected", "down", "emergency", "err", "error", "escalated", "exception", "expired", "expiry", "fail",
    "failed", "failing", "failure", "fatal", "fault", "fire", "fired", "firing", "hard_down", "identified",
    "inaccessible",
    "investigating", "late", "major", "minor", "missed", "missing", "nodata", "no_data", "new", "offline", "on",
    "ongoing", "open", "opened", "outage", "overdue", "panic", "partial_outage", "major_outage", "problem", "raise",
    "raised", "red", "regression", "reintroduced", "renotify", "reopen", "reopened", "set", "soft_down", "start",
    "started", "starting", "stale", "test", "testing", "timeout", "timed_out", "trigger", "triggered", "trouble",
    "unavailable", "unhealthy", "unknown", "unreachable", "unresolved", "unstable", "violated", "violation", "warn",
    "warning", "yellow", "in_alarm", "unacknowledged",
})  # fmt: skip
CLOSING_WORDS: Final = frozenset({
    "available", "cleared", "clear", "close", "closed", "complete", "completed", "connected", "done", "ended", "end",
    "finished", "fixed", "good", "green", "healed", "healthy", "inactive", "mitigated", "normal", "ok", "okay",
    "online", "operational", "pass", "passed", "passing", "reachable", "recover", "recovered", "recovery", "reset",
    "resolve", "resolved", "resolving", "restored", "returned", "solved", "stopped", "succeed", "succeeded", "success",
    "successful", "uncritical", "undegraded", "up", "working", "all_clear", "back_to_normal", "auto_resolved",
    "autoresolved", "closed_auto",
})  # fmt: skip
UPDATING_WORDS: Final = frozenset({
    "ack", "acked", "acknowledge", "acknowledged", "acknowledgement", "annotate", "annotated", "assign", "assigned",
    "cancel", "canceled", "cancelled", "comment", "commented", "delegated", "deescalated", "downtime", "edited",
    "flapping", "in_progress", "maintenance", "merged", "monitoring", "muted", "note", "paused", "pending",
    "postmortem", "queued", "reassigned", "running", "scheduled", "silenced", "snoozed", "suppressed", "unassigned",
    "under_maintenance", "update", "updated", "verifying",
})  # fmt: skip

#: "not ok", "No recovery": the words beside it mean the opposite, or nothing.
_NEGATIONS: Final = frozenset({
    "not", "no", "non", "isn't", "never", "without",
})  # fmt: skip
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
    words = [word for word in re.split(r"[^\w']+|_", _CAMEL.sub(" ", status[:_MAX_CHARS]).casefold()) if word]
    if not words:
        return None
    for phrase in ("_".join(words), "_".join(words[-2:]), words[-1]):
        if (meaning := _meaning_of_word(phrase)) is not None and not _NEGATIONS & set(words):
            return meaning
    meanings = {meaning for word in words if (meaning := _meaning_of_word(word)) is not None}
    return meanings.pop() if len(meanings) == 1 and not _NEGATIONS & set(words) else None


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
        if word not in _FILLERS and not _MEASURED.fullmatch(word) and _meaning_of_word(word) is None
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
