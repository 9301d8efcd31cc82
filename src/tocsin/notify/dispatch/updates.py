"""Brings sent messages up to date where they are: a chat message whose alert has changed shows how the alert is by now.

The update is queued in the transaction of the change, one row a message, so that it is not lost, and several changes
make one update. It is never ahead of a page: an address for which a page is due waits, and gets at most one a second.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from tocsin.alerts import store
from tocsin.alerts.commands import AlertChange, AlertState
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.errors import Permanent, Rejected, Temporary
from tocsin.core.runtime.clock import Timers
from tocsin.core.runtime.periodic_tasks import run_in_time
from tocsin.core.validation.inputs import is_zone
from tocsin.notify.channels import chat
from tocsin.notify.dispatch import claim
from tocsin.notify.interfaces import UpdatingSender
from tocsin.notify.providers.pool import CHANNELS, ProviderPool
from tocsin.notify.rules.pre_send_check import DeliveryBundle, DueDelivery
from tocsin.notify.text.formatting import in_language
from tocsin.notify.text.render import ContentLevel, compose

log = logging.getLogger(__name__)

#: The maximum number of updates in one run, each to another address.
MAX_UPDATES_PER_RUN = 20
#: The shortest time between two updates at one address.
MIN_INTERVAL = timedelta(seconds=1)
#: How long one update may take. After twice that, another process may repeat it.
DEADLINE = timedelta(seconds=15)
#: After so many failures in a row the message stays as it is until the alert changes again.
MAX_ATTEMPTS = 8
_MAX_BACKOFF = timedelta(minutes=10)

#: A hint that an alert with messages may have changed: far fewer than alerts that open.
TOPIC = "updates"
TIMERS = Timers("notify_messageupdate", ("due_at", "changed_at"), key="delivery")
#: A condition with the parameter `now`.
IS_DUE = "EXISTS (SELECT FROM notify_messageupdate WHERE due_at <= %(now)s)"

# A message that is being sent may show the alert as it was before.
_QUEUE = """
INSERT INTO notify_messageupdate (delivery, address, due_at, changed_at)
SELECT d.id, d.address, %(now)s, %(now)s FROM notify_delivery d
WHERE d.alert_id = ANY(%(alerts)s) AND d.channel = ANY(%(channels)s) AND d.purpose IN ('page', 'still_on_it')
  AND (d.status = 'sending' OR (d.status IN ('sent', 'delivered') AND d.external_id <> ''))
ORDER BY d.id
ON CONFLICT (delivery) DO UPDATE
SET due_at = excluded.due_at, changed_at = excluded.changed_at, attempts = 0
"""
_CLAIM = """
WITH chosen AS (
  SELECT DISTINCT ON (u.address) u.delivery FROM notify_messageupdate u
  WHERE u.due_at <= %(now)s AND NOT EXISTS (
    SELECT FROM notify_delivery q WHERE q.address = u.address AND q.status = 'queued' AND q.due_at <= %(now)s)
  ORDER BY u.address, u.due_at LIMIT %(most)s
), held AS (
  SELECT delivery FROM notify_messageupdate WHERE delivery IN (SELECT delivery FROM chosen) AND due_at <= %(now)s
  FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE notify_messageupdate u SET due_at = %(lease)s, attempts = u.attempts + 1 FROM held
WHERE u.delivery = held.delivery RETURNING u.delivery, u.address, u.changed_at, u.attempts
"""
_SPACE = """
UPDATE notify_messageupdate SET due_at = %(next)s
WHERE address = ANY(%(addresses)s) AND due_at < %(next)s AND delivery <> ALL(%(ids)s)
"""
# A message that names several alerts shows none of them in detail, and stays as it is.
_SENT = """
SELECT d.id, d.external_id, d.status FROM notify_delivery d
WHERE d.id = ANY(%s) AND d.address <> '' AND NOT EXISTS (
  SELECT FROM notify_bundle b WHERE b.at BETWEEN d.queued_at AND d.sent_at AND d.id = ANY(b.deliveries))
"""


@dataclass(frozen=True, slots=True)
class _Claimed:
    """An update that is being made."""

    delivery: UUID
    address: str
    changed_at: datetime
    attempts: int


@dataclass(frozen=True, slots=True)
class _Job:
    """What an update needs, without the database."""

    due: DueDelivery
    alert: AlertState
    external_id: str
    sender: UpdatingSender
    content_level: ContentLevel


def follow(connection: Connection, changes: Sequence[AlertChange], now: datetime) -> None:
    """The alert change handler: messages are brought up to date for everybody, at each change that they show."""
    alert_ids = {
        number
        for change in changes
        if change.before is not None and chat.progress(change.before) != chat.progress(change.after)
        for number in (*change.before.children, change.alert_id)
    }
    queue(connection, alert_ids, now)


def queue(connection: Connection, alert_ids: Collection[int], now: datetime) -> None:
    """Queues an update of every message about these alerts that can be changed."""
    channels = [name for name, channel in CHANNELS.items() if channel.is_updated]
    if alert_ids:
        parameters = {"alerts": sorted(alert_ids), "channels": channels, "now": now}
        connection.execute(_QUEUE, parameters)
        database.notify(connection, TOPIC)


def run_once(pool: ProviderPool, now: datetime) -> bool:
    """Makes the updates that are due. Returns True if there may be more."""
    with database.transaction() as connection:
        pool.refresh(connection)
        claimed = _claim(connection, now)
        if not claimed:
            return False
        jobs, waiting = _jobs(connection, pool, [one.delivery for one in claimed])
    calls = {str(key): partial(_update, job, now) for key, job in jobs.items()}
    futures = run_in_time(calls, DEADLINE, name="message updates")
    with database.transaction() as connection:
        # In the order of their ids, as every statement locks them.
        for one in sorted(claimed, key=lambda one: one.delivery):
            retry_in = MIN_INTERVAL if one.delivery in waiting else _retry_in(one, futures.get(str(one.delivery)))
            _record(connection, one, now, retry_in)
    return len(claimed) == MAX_UPDATES_PER_RUN


def _claim(connection: Connection, now: datetime) -> list[_Claimed]:
    parameters = {"now": now, "lease": now + 2 * DEADLINE, "most": MAX_UPDATES_PER_RUN}
    claimed = [_Claimed(*row) for row in connection.execute(_CLAIM, parameters).fetchall()]
    if claimed:
        addresses, ids = [one.address for one in claimed], [one.delivery for one in claimed]
        connection.execute(_SPACE, {"next": now + MIN_INTERVAL, "addresses": addresses, "ids": ids})
    return claimed


def _jobs(
    connection: Connection, pool: ProviderPool, delivery_ids: Sequence[UUID]
) -> tuple[dict[UUID, _Job], frozenset[UUID]]:
    """Returns the updates that can be made, and the messages that are still being sent."""
    rows = database.rows(connection, _SENT, (list(delivery_ids),))
    sending = frozenset(row["id"] for row in rows if row["status"] == "sending")
    external_ids: Mapping[UUID, str] = {row["id"]: row["external_id"] for row in rows if row["external_id"]}
    due = claim.facts(connection, sorted(external_ids.keys() - sending))
    alerts = store.load(connection, sorted({one.alert.id for one in due if one.alert is not None}))
    jobs = {}
    for one in due:
        provider = pool.get(one.provider_name)
        if one.alert is None or provider is None or not isinstance(provider.sender, UpdatingSender):
            continue
        level = pool.content_level(one.channel)
        jobs[one.id] = _Job(one, alerts[one.alert.id], external_ids[one.id], provider.sender, level)
    return jobs, sending


def _update(job: _Job, now: datetime) -> None:
    due = job.due
    channel = CHANNELS[due.channel]
    rendered = compose(DeliveryBundle((due,)), channel, now, can_reply=True, content_level=job.content_level)
    with in_language(due.language, ZoneInfo(due.time_zone) if is_zone(due.time_zone) else UTC):
        rendered = chat.with_state(rendered, job.alert)
    job.sender.update(rendered, due.channel, due.address, job.external_id)


def _retry_in(claimed: _Claimed, future: Future[Any] | None) -> timedelta | None:
    """Returns after what time a failed update is repeated; None if it is done, or not worth repeating."""
    if future is None or (future.done() and future.exception() is None):
        return None
    error = future.exception() if future.done() else None
    backoff = min(_MAX_BACKOFF, timedelta(seconds=5 * 2**claimed.attempts))
    match error:
        case Permanent() | Rejected():
            log.info("The message of delivery %s cannot be updated: %s", claimed.delivery, error.reason)
            return None
        case Temporary(retry_after=timedelta() as wait):
            backoff = max(backoff, wait)
        case None | Temporary():
            pass
        case _:
            log.error("The update of delivery %s broke.", claimed.delivery, exc_info=error)
    return backoff if claimed.attempts < MAX_ATTEMPTS else None


def _record(connection: Connection, claimed: _Claimed, now: datetime, retry_in: timedelta | None) -> None:
    """Ends an update, unless the alert has changed since it was claimed: then another one is due."""
    if retry_in is None:
        connection.execute(
            "DELETE FROM notify_messageupdate WHERE delivery = %s AND changed_at = %s",
            (claimed.delivery, claimed.changed_at),
        )
        return
    connection.execute(
        "UPDATE notify_messageupdate SET due_at = %s WHERE delivery = %s AND changed_at = %s",
        (now + retry_in, claimed.delivery, claimed.changed_at),
    )
