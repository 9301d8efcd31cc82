"""Provider health in the database, shared by all nodes: records results, schedules probes and counts messages against
rate limits. Every function runs inside the caller's transaction.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db import connection

from tocsin.core import ids
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.delivery import circuit_breaker
from tocsin.core.delivery.circuit_breaker import CircuitBreaker, RateLimit
from tocsin.core.reasons import Reason, reason_from_json, replace_texts
from tocsin.notify.interfaces import Quota

#: The maximum length of a server's text in a stored error.
MAX_HEALTH_ERROR_CHARS = 300


@dataclass(frozen=True, slots=True)
class HealthUpdate:
    """A provider's success, or its failure with an error that contains no secret or address."""

    name: str
    at: datetime
    error: Reason | None = None
    #: Whether messages wait for the provider to recover.
    is_awaited: bool = False
    #: The vendor's quota, if its answer said so.
    quota: Quota | None = None


_READ = (
    "SELECT name, failures, is_open, opened_at, retry_at, openings, is_unresponsive FROM notify_providerhealth "
    "WHERE name = ANY(%s) ORDER BY name FOR NO KEY UPDATE"
)
_WRITE = """
UPDATE notify_providerhealth SET failures = %(failures)s, is_open = %(is_open)s, opened_at = %(opened_at)s,
       retry_at = %(retry_at)s, openings = %(openings)s, is_unresponsive = %(is_unresponsive)s,
       recovered_at = CASE WHEN is_open AND NOT %(is_open)s OR openings > 0 AND %(openings)s = 0 THEN %(now)s
                           ELSE recovered_at END,
       worked_at = coalesce(%(worked_at)s, worked_at),
       failed_at = coalesce(%(failed_at)s, failed_at),
       error = coalesce(%(error)s, error),
       quota_limit = coalesce(%(quota_limit)s, quota_limit), quota_left = coalesce(%(quota_left)s, quota_left),
       quota_resets_at = coalesce(%(quota_resets_at)s, quota_resets_at)
WHERE name = %(name)s
"""


def record_outcomes(connection: Connection, updates: Sequence[HealthUpdate]) -> list[str]:
    """Records the results of messages in order. Returns the providers whose circuit breaker opened or closed."""
    by_name: dict[str, list[HealthUpdate]] = {}
    for update in updates:
        by_name.setdefault(update.name, []).append(update)
    old_states = _lock_circuits(connection, sorted(by_name))
    changed = []
    for name, provider_updates in by_name.items():
        state = old_states[name]
        for update in provider_updates:
            if update.error is None:
                state = circuit_breaker.CLOSED
            else:
                state = circuit_breaker.on_failure(state, update.at, is_awaited=update.is_awaited)
        _write(connection, name, state, provider_updates, provider_updates[-1].at)
        if state.is_open != old_states[name].is_open:
            changed.append(name)
    if any(old_states[name].is_open for name in changed):
        database.notify(connection, "outbox")
    return changed


def _lock_circuits(connection: Connection, names: list[str]) -> dict[str, CircuitBreaker]:
    """Returns and locks the circuit breakers, always in name order so that two nodes cannot deadlock."""
    if not names:
        return {}
    connection.execute(
        "INSERT INTO notify_providerhealth (name) SELECT unnest(%s::text[]) ON CONFLICT (name) DO NOTHING", (names,)
    )
    rows = database.rows(connection, _READ, (names,))
    return {row.pop("name"): CircuitBreaker(**row) for row in rows}


def _write(
    connection: Connection, name: str, state: CircuitBreaker, updates: Sequence[HealthUpdate], now: datetime
) -> None:
    errors = [update.error for update in updates if update.error is not None]
    quota = next((update.quota for update in reversed(updates) if update.quota is not None), None)
    parameters = {
        **asdict(state),
        "name": name,
        "now": now,
        "worked_at": max((update.at for update in updates if update.error is None), default=None),
        "failed_at": max((update.at for update in updates if update.error is not None), default=None),
        "error": replace_texts(errors[-1], lambda text: text[:MAX_HEALTH_ERROR_CHARS]) if errors else None,
        "quota_limit": quota and quota.limit,
        "quota_left": quota and quota.left,
        "quota_resets_at": quota and quota.resets_at,
    }
    connection.execute(_WRITE, parameters)


def open_circuits(connection: Connection) -> frozenset[str]:
    """Returns the providers whose circuit breaker is open."""
    rows = connection.execute("SELECT name FROM notify_providerhealth WHERE is_open").fetchall()
    return frozenset(row[0] for row in rows)


def recovered(connection: Connection) -> dict[str, datetime]:
    """Returns when each provider's circuit breaker last closed, by name."""
    query = "SELECT name, recovered_at FROM notify_providerhealth WHERE recovered_at IS NOT NULL"
    return dict(connection.execute(query).fetchall())


def worked_at(connection: Connection, names: Sequence[str]) -> dict[str, datetime]:
    """Returns when each of these providers last accepted a message, from any node, by name."""
    query = "SELECT name, worked_at FROM notify_providerhealth WHERE name = ANY(%s) AND worked_at IS NOT NULL"
    return dict(connection.execute(query, (names,)).fetchall())


def due_probes(connection: Connection, now: datetime) -> list[str]:
    """Claims the providers that are due for a probe, and postpones them so that other nodes skip them."""
    rows = connection.execute(
        "UPDATE notify_providerhealth SET retry_at = %s + interval '1 minute' WHERE name IN (SELECT name "
        "FROM notify_providerhealth WHERE is_open AND retry_at <= %s ORDER BY name FOR NO KEY UPDATE SKIP LOCKED) "
        "RETURNING name",
        (now, now),
    ).fetchall()
    return sorted(row[0] for row in rows)


def record_probe(
    connection: Connection,
    name: str,
    error: Reason | None,
    now: datetime,
    *,
    is_transient: bool = True,
    is_awaited: bool = False,
) -> None:
    """Records the result of a probe; `error` is None on success. `is_transient`: the error may pass by itself.
    `is_awaited`: messages wait for the provider.
    """
    old_state = _lock_circuits(connection, [name])[name]
    if not old_state.is_open:
        return
    if error is None:
        _write(connection, name, circuit_breaker.on_probe_ok(old_state), [], now)
        database.notify(connection, "outbox")
    else:
        state = circuit_breaker.on_probe_failed(old_state, now, is_transient=is_transient, is_awaited=is_awaited)
        _write(connection, name, state, [HealthUpdate(name, now, error)], now)


def rate_limits(connection: Connection, limits: Mapping[str, int]) -> dict[str, RateLimit]:
    """Returns the rate limits of these providers, in messages per minute, and locks them until the transaction ends."""
    if not limits:
        return {}
    _lock_circuits(connection, sorted(limits))
    rows = connection.execute(
        "SELECT name, free_at FROM notify_providerhealth WHERE name = ANY(%s)", (sorted(limits),)
    ).fetchall()
    return {name: RateLimit.per_minute(limits[name]).used_until(free_at) for name, free_at in rows}


def store_rate_limits(connection: Connection, limits: Mapping[str, RateLimit]) -> None:
    """Stores how far the rate limits are used up."""
    for name, limit in sorted(limits.items()):
        connection.execute("UPDATE notify_providerhealth SET free_at = %s WHERE name = %s", (limit.free_at, name))


# A quota of which a fifth is left is scarce.
_SCARCE = """
SELECT h.name, h.quota_limit, h.quota_left, h.quota_resets_at FROM notify_providerhealth h
JOIN notify_provider p ON p.name = h.name AND p.is_enabled
WHERE h.quota_limit > 0 AND h.quota_left * 5 <= h.quota_limit AND h.quota_resets_at > %s ORDER BY h.name
"""


def scarce_quotas(connection: Connection, now: datetime) -> dict[str, Quota]:
    """Returns the quotas of which at least 80 % are used, by provider in use."""
    return {name: Quota(*quota) for name, *quota in connection.execute(_SCARCE, (now,)).fetchall()}


# ---------- rejections
# Recent rejections by provider: an unregistered number, a recipient who opted out, a disabled country, a quota.
# Counted from the deliveries; reads only, over Django's connection.


#: How far back rejections are counted.
REJECTION_WINDOW = timedelta(days=7)

#: The maximum number of different errors per provider, most frequent first.
MAX_PER_PROVIDER = 5


@dataclass(frozen=True, slots=True)
class Rejection:
    """One error: its number of messages, its latest time, and the latest alert it affected."""

    error: Reason
    count: int
    last_at: datetime
    alert_id: int | None = None


# Ids are UUIDv7s: the primary key leads to the newest rows, and no other index is needed.
_REJECTIONS = """
SELECT provider_name, error, count, last_at, alert_id FROM (
  SELECT provider_name, error, count(*) AS count, max(coalesce(ended_at, late_since)) AS last_at,
         (array_agg(alert_id ORDER BY id DESC) FILTER (WHERE alert_id IS NOT NULL))[1] AS alert_id,
         row_number() OVER (PARTITION BY provider_name ORDER BY count(*) DESC, error) AS place
  FROM notify_delivery WHERE id >= %s AND is_permanent AND provider_name <> '' AND error <> '{}'
    AND coalesce(ended_at, late_since) > %s
  GROUP BY provider_name, error
) AS ranked WHERE place <= %s ORDER BY provider_name, place
"""


def recent_rejections(now: datetime) -> Mapping[str, tuple[Rejection, ...]]:
    """Returns the rejections of the last week by provider name. A provider without any is absent. What was refused and
    sent later is not counted.
    """
    since = now - REJECTION_WINDOW
    with connection.cursor() as cursor:
        # Ids carry the machine's clock, which may have jumped: search a day more and compare the row's own time.
        cursor.execute(_REJECTIONS, [ids.first_uuid7(since - timedelta(days=1)), since, MAX_PER_PROVIDER])
        rows = cursor.fetchall()
    rejections: dict[str, tuple[Rejection, ...]] = {}
    for name, error, count, last_at, alert_id in rows:
        # A raw cursor returns jsonb as text.
        rejection = Rejection(reason_from_json(json.loads(error)), count, last_at, alert_id)
        rejections[name] = (*rejections.get(name, ()), rejection)
    return rejections


# ---------- figures
# What became of the messages that each provider was given, how fast, and what they cost. Counted from the deliveries;
# reads only.


#: The periods that a provider's page shows, in days.
PERIODS = (1, 7, 30)

#: Figures cover this many of the newest deliveries at most, so that they take no longer in a busy installation.
MAX_COUNTED = 50_000


@dataclass(frozen=True, slots=True)
class Times:
    """The median and the 90th percentile of a time; None without any."""

    p50: timedelta | None = None
    p90: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Charges:
    """What the vendor charged in one currency, and for how many messages it said so."""

    currency: str
    amount: Decimal
    count: int


@dataclass(frozen=True, slots=True)
class ProviderFigures:
    """What became of the messages that a provider was given in a period."""

    days: int
    messages: int = 0
    #: Attempts to hand them over, retries included.
    attempts: int = 0
    accepted: int = 0
    #: As its receipts say. A provider without receipts has none.
    delivered: int = 0
    #: The provider worked, but the line was busy, no one answered or a machine did.
    unanswered: int = 0
    failed: int = 0
    #: From the moment at which a message was due until the provider accepted it.
    until_accepted: Times = Times()
    #: From then on until its receipt says that it was delivered.
    until_delivered: Times = Times()
    #: The most frequent errors, and how many failures have another.
    failures: tuple[Rejection, ...] = ()
    other_failures: int = 0
    charges: tuple[Charges, ...] = ()
    #: Whether there were more messages, and the figures cover the newest only.
    is_cut: bool = False


# Ids lead to the newest rows, as above.
_FIGURES = """
WITH counted AS MATERIALIZED (
  SELECT provider_name AS name, status, receipt, attempts, alert_id, error, cost, currency, sent_at,
         coalesce(ended_at, late_since, due_at) AS failed_at,
         error <> '{}' AND status IN ('failed', 'queued') AS failed,
         extract(epoch FROM sent_at - greatest(queued_at, coalesce(late_since, due_at))) AS accepted_s,
         extract(epoch FROM delivered_at - sent_at) AS delivered_s
  FROM notify_delivery
  WHERE id >= %(first)s AND queued_at > %(since)s AND attempts > 0 AND provider_name = ANY(%(names)s)
  ORDER BY id DESC LIMIT %(limit)s
), errors AS (
  SELECT name, error, count(*) AS number, max(failed_at) AS last_at, max(alert_id) AS alert_id,
         row_number() OVER (PARTITION BY name ORDER BY count(*) DESC, error) AS place
  FROM counted WHERE failed GROUP BY name, error
), costs AS (
  SELECT name, currency, sum(cost) AS amount, count(*) AS number FROM counted
  WHERE cost IS NOT NULL GROUP BY name, currency
)
SELECT name, count(*) AS messages, sum(attempts)::int AS attempts, count(sent_at) AS accepted,
       count(*) FILTER (WHERE status = 'delivered') AS delivered,
       count(*) FILTER (WHERE receipt = 'not_reached') AS unanswered, count(*) FILTER (WHERE failed) AS failed,
       percentile_cont(ARRAY[0.5, 0.9]) WITHIN GROUP (ORDER BY accepted_s::float8) AS until_accepted,
       percentile_cont(ARRAY[0.5, 0.9]) WITHIN GROUP (ORDER BY delivered_s::float8) AS until_delivered,
       ARRAY(SELECT row_to_json(e) FROM errors e
             WHERE e.name = c.name AND place <= %(most)s ORDER BY place) AS failures,
       ARRAY(SELECT row_to_json(k) FROM costs k WHERE k.name = c.name ORDER BY currency) AS charges
FROM counted c GROUP BY name
"""


def figures(connection: Connection, names: Sequence[str], days: int, now: datetime) -> dict[str, ProviderFigures]:
    """Returns the figures of these providers over the last `days`, by name. One that sent nothing has zeros."""
    since = now - timedelta(days=days)
    parameters = {
        "first": ids.first_uuid7(since - timedelta(days=1)), "since": since, "names": list(names),
        "limit": MAX_COUNTED, "most": MAX_PER_PROVIDER,
    }  # fmt: skip
    rows = database.rows(connection, _FIGURES, parameters)
    is_cut = sum(row["messages"] for row in rows) >= MAX_COUNTED
    found = {row["name"]: _figures(row, days, is_cut=is_cut) for row in rows}
    return {name: found.get(name, ProviderFigures(days)) for name in names}


def _figures(row: dict[str, Any], days: int, *, is_cut: bool) -> ProviderFigures:
    failures = tuple(
        Rejection(reason_from_json(e["error"]), e["number"], datetime.fromisoformat(e["last_at"]), e["alert_id"])
        for e in row["failures"]
    )
    return ProviderFigures(
        days,
        **{name: row[name] for name in ("messages", "attempts", "accepted", "delivered", "unanswered", "failed")},
        until_accepted=_times(row["until_accepted"]),
        until_delivered=_times(row["until_delivered"]),
        failures=failures,
        other_failures=row["failed"] - sum(one.count for one in failures),
        charges=tuple(Charges(k["currency"], Decimal(str(k["amount"])), k["number"]) for k in row["charges"]),
        is_cut=is_cut,
    )


def _times(seconds: Sequence[float | None] | None) -> Times:
    return Times(*(None if one is None else timedelta(seconds=one) for one in seconds or ()))
