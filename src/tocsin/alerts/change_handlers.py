"""Handlers called for every change of alerts, in the same transaction. `wiring` registers them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from enum import StrEnum

import msgspec

from tocsin.alerts.commands import AlertState, Command, NewEvent
from tocsin.core.db.database import Connection
from tocsin.core.hooks import Hooks
from tocsin.core.reasons import NO_REASON, Reason


class PagingMode(StrEnum):
    """How an alert notifies people: page them, only log who would have been paged (dry run), or log only."""

    PAGE = "page"
    DRY_RUN = "dry_run"
    LOG_ONLY = "record"


class PagingConfig(msgspec.Struct, frozen=True):
    """Whom an alert pages. Decided when it opens, and stored by ids, so that nothing has to be resolved again."""

    mode: PagingMode
    #: The id of the policy version; None pages only the recipient users.
    version_id: int | None = None
    recipient_users: tuple[int, ...] = ()
    recipient_groups: tuple[int, ...] = ()
    #: Why this policy, these users or nobody.
    reason: Reason | str = NO_REASON


class PagingStart(msgspec.Struct, frozen=True):
    """An alert that has paged nobody so far, because of a dry run or log only, starts to page."""

    #: The beginning of a sentence.
    reason: Reason | str
    #: The time from which its first step counts; None for now.
    at: datetime | None = None
    #: The same time in words, as the end of a sentence.
    time_text: Reason | str = NO_REASON


class AlertChange(msgspec.Struct, frozen=True):
    """The change of one alert in this transaction: by one command, by one message, or by its creation."""

    #: None: the alert was just created.
    before: AlertState | None
    after: AlertState
    events: tuple[NewEvent, ...]
    #: The command of a person or an integration; None if the alert was created, or a message changed its fields.
    command: Command | None = None
    #: On creation, whom it pages. After its priority has risen, or a reopening with another route, whom it pages from
    #: now on; None keeps the previous value.
    paging: PagingConfig | None = None
    #: The reason why other users may now be responsible, as the beginning of a sentence. `paging` is then the routes'
    #: current selection.
    reassignment_reason: Reason | str = NO_REASON
    #: Whether Tocsin itself wrote this priority at the source. It is no person's action, so nobody is paged again.
    is_echoed_priority: bool = False
    #: Why it pages from now on, although it has paged nobody so far. `paging` then says whom.
    paging_start: PagingStart | None = None
    #: Whether it was a dry run until this change.
    was_dry_run: bool = False
    #: The integration that it belongs to.
    integration_id: int | None = None

    @property
    def alert_id(self) -> int:
        return self.after.id

    @property
    def is_opening(self) -> bool:
        """Whether it is new to handlers that ignore dry runs: just created, or paging from now on."""
        pages = self.paging is not None and self.paging.mode is PagingMode.PAGE
        return self.before is None or (self.was_dry_run and pages)


type ChangeHandler = Callable[[Connection, Sequence[AlertChange], datetime], None]

#: Called with every list of changes inside their transaction. Ingest calls them in a pipeline: statements are sent
#: together, and COPY is not possible.
HANDLERS: Hooks[ChangeHandler] = Hooks()


def call_handlers(connection: Connection, changes: Sequence[AlertChange], now: datetime) -> None:
    """Calls every handler with the changes of this transaction."""
    if changes:
        for handler in HANDLERS.of():
            handler(connection, changes, now)
