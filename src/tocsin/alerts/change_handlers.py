"""What follows a change of alerts, in the same transaction: a list of functions that `wiring` fills. Holds no state
but that list."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import msgspec

from tocsin.alerts.commands import AlertState, Command, NewEvent
from tocsin.core.db.database import Connection


class PagingMode(StrEnum):
    """What an alert does about people: page them, only say who would have been (dry run), or only be recorded."""

    PAGE = "page"
    DRY_RUN = "dry_run"
    RECORD = "record"


@dataclass(frozen=True, slots=True)
class PagingConfig:
    """By what an alert pages: decided where it opens, by ids, so that nothing is looked up again."""

    mode: PagingMode
    #: The id of the policy's version; None: only the recipient users are paged.
    version_id: int | None = None
    recipient_users: tuple[int, ...] = ()
    recipient_groups: tuple[int, ...] = ()
    #: Why this policy, these people, or nobody: a sentence.
    reason: str = ""


class PagingStart(msgspec.Struct, frozen=True):
    """That an alert which has paged nobody so far, because it was only recorded or a dry run, pages from now on."""

    #: The beginning of a sentence.
    why: str
    #: When its first step counts from; None: now.
    at: datetime | None = None
    #: The same in words, as the end of a sentence.
    when: str = ""


class AlertChange(msgspec.Struct, frozen=True):
    """What happened to one alert in this transaction: one command, one message's effect, or its opening."""

    #: None: it has just been opened.
    before: AlertState | None
    after: AlertState
    events: tuple[NewEvent, ...]
    #: What a person or an integration asked; None: it was opened, or a message changed its fields.
    command: Command | None = None
    #: At the opening: by what it pages. When its priority has risen, or it was reopened with another route: by what
    #: it pages from now on; None keeps what it had.
    paging: PagingConfig | None = None
    #: What moved it to where other people may answer for it, as the beginning of a sentence; `paging` is then whom the
    #: routes name now.
    moved: str = ""
    #: Whether its priority is one that Tocsin itself wrote at the source: nobody's act, so it pages nobody anew.
    is_own_priority: bool = False
    #: Why it pages from now on, though it has paged nobody so far; `paging` is then by what.
    waking: PagingStart | None = None
    #: Whether it was a dry run until this change.
    was_dry_run: bool = False
    #: Which integration it belongs to.
    integration_id: int | None = None

    @property
    def alert_id(self) -> int:
        return self.after.id

    @property
    def is_opening(self) -> bool:
        """Whether it opens for whatever leaves dry-run alerts alone: just now, or because it pages from
        now on."""
        pages = self.paging is not None and self.paging.mode is PagingMode.PAGE
        return self.before is None or (self.was_dry_run and pages)

    @property
    def has_risen(self) -> bool:
        """Whether its priority is above what it was."""
        return self.before is not None and self.after.priority.is_above(self.before.priority)


type ChangeHandler = Callable[[Connection, Sequence[AlertChange], datetime], None]

_reactors: list[ChangeHandler] = []


def register(reactor: ChangeHandler) -> None:
    """Has `reactor` called with every list of changes, inside the transaction that makes them, in this order.

    Ingest calls it in a pipeline: statements are sent together, and a COPY is not possible.
    """
    if reactor not in _reactors:
        _reactors.append(reactor)


def react(connection: Connection, changes: Sequence[AlertChange], now: datetime) -> None:
    """Hands the changes of this transaction to every reactor."""
    if changes:
        for reactor in _reactors:
            reactor(connection, changes, now)
