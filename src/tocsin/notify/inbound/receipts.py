"""Asks vendors that repeat pages what became of each: delivered, or acknowledged by whom. Ends the repeats of what
needs no answer any more.

The rows of `OpenReceipt` are the timers. A process moves a row's time before it asks, in a transaction of its own, so
that one process asks for each receipt, and another one takes over if that stops. Nothing that a callback says is acted
on: it only brings the next question forward.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from tocsin.alerts import service
from tocsin.alerts.states import ACTIVE, AlertStatus, CommandChannel, CommandKind
from tocsin.alerts.store import is_about
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.errors import Permanent, Temporary
from tocsin.core.reasons import NO_REASON, Reason, ReasonType
from tocsin.core.runtime.clock import Timers
from tocsin.notify.inbound import responder_actions
from tocsin.notify.interfaces import CHANNELS, Receipt, ReceiptReport, RepeatingSender
from tocsin.notify.pages import alert_tag
from tocsin.notify.providers.pool import ActiveProvider, ProviderPool
from tocsin.notify.states import ReceiptState
from tocsin.people.sql import join_user

log = logging.getLogger(__name__)

ANSWERED_ON = ReasonType("delivery.answered_on_device", "in {provider} on {device}")
ANSWERED_IN = ReasonType("delivery.answered_in_app", "in {provider}")
ANSWERED_BY_STRANGER = ReasonType(
    "delivery.answered_by_stranger",
    "It was acknowledged {place}, but the address there belongs to no active user. Nothing was done.",
)
ANSWERED_WITHOUT_EFFECT = ReasonType(
    "delivery.answered_without_effect", "It was acknowledged {place}, which changed nothing: {cause}"
)

# ---------- decisions

#: Vendors allow no more often.
MIN_INTERVAL = timedelta(seconds=5)
#: How often a receipt is asked for, by the age of its message.
_INTERVALS = (
    (timedelta(minutes=3), MIN_INTERVAL),
    (timedelta(minutes=15), timedelta(seconds=15)),
    (timedelta(hours=1), timedelta(seconds=30)),
)
_LONGEST_INTERVAL = timedelta(minutes=1)
#: After an error that passes, and after one that does not.
_RETRY_AFTER, _HELD_FOR = timedelta(seconds=15), timedelta(minutes=5)
#: Vendors keep a receipt for a week.
MAX_AGE = timedelta(days=7)
#: An unanswered attempt has no receipt to ask for. No vendor repeats it for longer.
_MAX_UNKNOWN_AGE = timedelta(hours=3)

#: How many receipts one run takes, and for how long no other process takes them.
MAX_PER_RUN = 20
LEASE = timedelta(minutes=1)


def interval(age: timedelta) -> timedelta:
    """Returns after how long a receipt is asked for again."""
    return next((interval for limit, interval in _INTERVALS if age < limit), _LONGEST_INTERVAL)


@dataclass(frozen=True, slots=True)
class OpenPage:
    """A page that its vendor repeats."""

    id: UUID
    deliveries: tuple[UUID, ...]
    provider_id: int | None
    provider_name: str
    channel: str
    receipt: str
    alert_ids: tuple[int, ...]
    user_id: int | None
    address: str
    sent_at: datetime
    polled_at: datetime | None
    is_stopped: bool
    #: Whether a delivery of it still needs an answer.
    is_needed: bool
    #: Whether no other page of its alert does.
    is_last: bool

    def is_expired(self, now: datetime) -> bool:
        """Whether nothing more is to be heard of it."""
        return self.provider_id is None or now - self.sent_at > (MAX_AGE if self.receipt else _MAX_UNKNOWN_AGE)

    def may_be_asked(self, now: datetime) -> bool:
        """Whether it was not asked for a moment ago. A time in the future was set before a clock rollback."""
        return self.polled_at is None or not timedelta() <= now - self.polled_at < MIN_INTERVAL


# ---------- rows

#: A condition with the parameter `now`.
IS_DUE = "EXISTS (SELECT FROM notify_openreceipt WHERE poll_at <= %(now)s)"
TIMERS = Timers("notify_openreceipt", ("poll_at", "polled_at"), key="delivery")

_CLAIM = """
UPDATE notify_openreceipt SET poll_at = %(until)s WHERE delivery IN (
  SELECT delivery FROM notify_openreceipt WHERE poll_at <= %(now)s ORDER BY poll_at LIMIT %(most)s
  FOR NO KEY UPDATE SKIP LOCKED)
RETURNING delivery
"""
# What stands of a page: its alert is active and not snoozed, and its recipient can answer. Who acknowledges it, or
# ends its alert, removes it from `standing`.
_STANDS = f"""
EXISTS (SELECT FROM notify_delivery s LEFT {join_user("s.user_id")} WHERE s.id = ANY(%s.standing)
        AND (s.user_id IS NULL OR u.is_active) AND {is_about("s.alert_id", "a.status = ANY(%%(live)s)")})
"""
_READ = f"""
SELECT r.delivery AS id, r.deliveries, d.provider_id, d.provider_name, d.channel, d.external_id AS receipt,
       ARRAY(SELECT DISTINCT m.alert_id FROM notify_delivery m WHERE m.id = ANY(r.deliveries) AND m.alert_id IS NOT NULL
             ORDER BY 1) AS alert_ids,
       d.user_id, d.address, r.sent_at, r.polled_at, r.is_stopped, {_STANDS % "r"} AS is_needed,
       NOT EXISTS (SELECT FROM notify_openreceipt o JOIN notify_delivery m ON m.id = ANY(o.standing)
                   WHERE m.alert_id = d.alert_id AND {_STANDS % "o"}) AS is_last
FROM notify_openreceipt r JOIN notify_delivery d ON d.id = r.delivery WHERE r.delivery = ANY(%(ids)s) ORDER BY r.sent_at
"""
_POSTPONE = "UPDATE notify_openreceipt SET poll_at = %s WHERE delivery = ANY(%s)"
_ASKED = "UPDATE notify_openreceipt SET poll_at = %s, polled_at = %s WHERE delivery = %s"
_STOPPED = """
UPDATE notify_openreceipt SET is_stopped = true, poll_at = greatest(%s, polled_at + %s) WHERE delivery = ANY(%s)
"""
_END = "DELETE FROM notify_openreceipt WHERE delivery = ANY(%s)"
_HASTEN = """
UPDATE notify_openreceipt r SET poll_at = greatest(%(now)s, r.polled_at + %(interval)s)
FROM notify_delivery d WHERE d.id = r.delivery AND d.external_id = %(receipt)s AND d.provider_name = %(provider)s
  AND r.poll_at > greatest(%(now)s, r.polled_at + %(interval)s)
"""


def hasten(connection: Connection, provider: str, receipt: str, now: datetime) -> None:
    """Brings the next question for a receipt forward. What is being asked for is not asked for twice."""
    parameters = {"now": now, "interval": MIN_INTERVAL, "receipt": receipt, "provider": provider}
    if receipt and connection.execute(_HASTEN, parameters).rowcount:
        database.notify(connection, "receipts")


def _execute(statement: str, *parameters: Any) -> None:
    def run() -> None:
        with database.transaction() as connection:
            connection.execute(database.literal(statement), parameters)

    database.retry_once(run)


# ---------- poll


def poll(pool: ProviderPool, now: Callable[[], datetime]) -> bool:
    """Asks for the receipts that are due, one after the other, and ends repeats. Returns whether there may be more."""
    at = now()
    with database.transaction() as connection:
        pool.refresh(connection)
        parameters = {"now": at, "until": at + LEASE, "most": MAX_PER_RUN}
        ids = [row[0] for row in connection.execute(_CLAIM, parameters).fetchall()]
    if not ids:
        return False
    with database.transaction() as connection:
        rows = database.rows(connection, _READ, {"ids": ids, "live": sorted(ACTIVE - {AlertStatus.ON_HOLD})})
    pages = [
        OpenPage(**{**row, "deliveries": tuple(row["deliveries"]), "alert_ids": tuple(row["alert_ids"])})
        for row in rows
    ]
    expired = [page.id for page in pages if page.is_expired(at)]
    # A page without its delivery was deleted with it.
    if gone := [*expired, *(set(ids) - {page.id for page in pages})]:
        _execute(_END, gone)
    by_provider: dict[int | None, list[OpenPage]] = {}
    for page in pages:
        if page.id not in expired:
            by_provider.setdefault(page.provider_id, []).append(page)
    providers = {provider.id: provider for provider in pool.all()}
    for provider_id, own in by_provider.items():
        _poll_provider(providers.get(provider_id), own, now)
    return len(ids) == MAX_PER_RUN


def _poll_provider(provider: ActiveProvider | None, pages: list[OpenPage], now: Callable[[], datetime]) -> None:
    """Works through the pages of one provider. An error of its server postpones what is left: the page that met it for
    longer, so that it does not hold up the others.
    """
    sender: object = provider.sender if provider is not None else None
    if provider is None or not isinstance(sender, RepeatingSender):
        # It is disabled, or cannot be opened.
        _execute(_POSTPONE, now() + _HELD_FOR, [page.id for page in pages])
        return
    left = [page.id for page in pages]
    tags: set[str] = set()
    # Repeats end first.
    for page in sorted(pages, key=lambda page: page.is_needed or page.is_stopped):
        try:
            if page.is_needed or page.is_stopped:
                _ask(sender, page, now)
            else:
                _end_repeats(sender, page, tags, now)
            left.remove(page.id)
        except (Temporary, Permanent) as error:
            log.warning("A receipt of %s cannot be fetched: %s", provider.name, provider.mask_secrets(error.detail))
            _execute(_POSTPONE, now() + MIN_INTERVAL, left)
            _execute(_POSTPONE, now() + (_RETRY_AFTER if isinstance(error, Temporary) else _HELD_FOR), [page.id])
            return


def _end_repeats(sender: RepeatingSender, page: OpenPage, tags: set[str], now: Callable[[], datetime]) -> None:
    """Ends the repeats of a page: with those of all others of its alert if none of them needs an answer. `tags` has the
    alerts for which that was done.
    """
    if page.is_last and len(page.alert_ids) == 1:
        if (tag := alert_tag(page.alert_ids[0])) not in tags:
            sender.end_repeats(tag=tag)
            tags.add(tag)
    elif page.receipt:
        sender.end_repeats(page.receipt)
    if page.receipt:
        _execute(_STOPPED, now(), MIN_INTERVAL, [page.id])
    else:
        _execute(_END, [page.id])


def _ask(sender: RepeatingSender, page: OpenPage, now: Callable[[], datetime]) -> None:
    at = now()
    if not page.receipt:
        # It may have been sent; only its end is of interest.
        _execute(_POSTPONE, at + _MAX_UNKNOWN_AGE, [page.id])
        return
    if not page.may_be_asked(at):
        _execute(_POSTPONE, (page.polled_at or at) + MIN_INTERVAL, [page.id])
        return
    report = sender.fetch_receipt(page.receipt)
    at = now()
    if report.is_delivered and not report.answered_by:
        service.run_in_transaction(lambda connection: _record(connection, page, ReceiptState.DELIVERED, at))
    if report.answered_by:
        service.run_in_transaction(lambda connection: _answer(connection, page, report, at))
    elif report.is_over or page.is_stopped:
        _execute(_END, [page.id])
    else:
        _execute(_ASKED, at + interval(at - page.sent_at), at, page.id)


_UNREPORTED = "SELECT id, notification_id FROM notify_delivery WHERE id = ANY(%s) AND receipt <> %s ORDER BY id"


def _record(connection: Connection, page: OpenPage, state: ReceiptState, now: datetime) -> None:
    """Records the receipt on each delivery of the page that does not have it yet."""
    for row in database.rows(connection, _UNREPORTED, (list(page.deliveries), str(state))):
        receipt = Receipt(state, str(row["notification_id"]), page.receipt)
        responder_actions.apply_receipt(connection, page.provider_name, receipt, now)


def _answer(connection: Connection, page: OpenPage, report: ReceiptReport, now: datetime) -> None:
    """Acknowledges the alerts of the page as the user whose address it is, once."""
    service.lock_families(connection, page.alert_ids)
    if not connection.execute(_END, ([page.id],)).rowcount:
        return
    _record(connection, page, ReceiptState.ANSWERED, now)
    label = CHANNELS[page.channel].label
    place = ANSWERED_ON(provider=label, device=report.device) if report.device else ANSWERED_IN(provider=label)
    responder = _responder(connection, page, report.answered_by, now)
    if responder is None:
        responder_actions.append_reason(connection, page.deliveries, ANSWERED_BY_STRANGER(place=place))
        return
    result = responder_actions.apply_answer(
        connection, responder, page.alert_ids, CommandKind.ACKNOWLEDGE, CommandChannel.PUSH, now, note=place
    )
    if not result.done_count:
        cause: Reason = result.answer or NO_REASON
        responder_actions.append_reason(connection, page.deliveries, ANSWERED_WITHOUT_EFFECT(place=place, cause=cause))


def _responder(
    connection: Connection, page: OpenPage, address: str, now: datetime
) -> responder_actions.Responder | None:
    """Returns the active user whose address it is: the recipient of the page, if it is theirs."""
    users: Iterable[int | None] = (page.user_id,) if address == page.address and page.user_id is not None else ()
    users = (*users, responder_actions.user_id_by_address(connection, (page.channel,), address, now))
    return next((one for user in users if user and (one := responder_actions.load_responder(connection, user))), None)
