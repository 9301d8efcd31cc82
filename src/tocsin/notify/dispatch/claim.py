"""Claims due deliveries from the outbox in one transaction: picks them fairly across integrations, checks each against
the current state of its alert and user, and leases those to be sent. A claimed delivery is sent at once, or returns to
the outbox when its lease expires.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any
from uuid import UUID

from tocsin.alerts.states import AlertStatus, Priority
from tocsin.alerts.store import IS_ACTIVE, is_about, join_alert, resolved_id
from tocsin.core.config import settings_store
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.delivery.circuit_breaker import RateLimit, count_allowed, fair_concurrency
from tocsin.core.delivery.job_pool import LEASE_SECONDS, FairQueue, LeaseTable
from tocsin.core.hooks import Expiry, Hooks
from tocsin.core.reasons import JOINED, NO_REASON, Reason, reason_from_json
from tocsin.core.runtime.clock import Timers
from tocsin.notify.interfaces import UpdatingSender, has_repeats
from tocsin.notify.pages import load_recipients
from tocsin.notify.pause import CurrentPause
from tocsin.notify.providers import health
from tocsin.notify.providers.pool import CHANNELS, ActiveProvider, ProviderPool, address_problem, quietest_channel
from tocsin.notify.rules import page_planner
from tocsin.notify.rules.page_planner import (
    BUNDLED_LATER,
    FELL_BACK,
    NOT_RESENT,
    ONE_OF_OVERDUE,
    RATE_LIMITED,
    REPEATED,
    FallbackMethod,
    NotificationMethod,
    Recipient,
    after_waiting,
    is_quiet,
    quiet_hours,
)
from tocsin.notify.rules.pre_send_check import (
    MAX_BUNDLE_SIZE,
    WINDOW,
    AlertFacts,
    BundleKey,
    CancelDelivery,
    Defer,
    DeliveryBundle,
    DueDelivery,
    FailDelivery,
    SendNow,
    arrange,
    bundle_key,
    has_waited_for_bundle,
    max_bundle_size,
    needs_fallback,
    pre_send_check,
)
from tocsin.notify.states import SANDBOX, Purpose
from tocsin.notify.text.render import ContentLevel
from tocsin.notify.text.signed_links import ReplyAddress
from tocsin.people.sql import join_user

# ---------- delivery queries
# The SQL of the outbox: picks due deliveries, reads their facts, and marks them as waiting, cancelled or being sent.


def built_reason(code: str, data: str) -> str:
    """Returns the expression of a reason of a code with the expression `data`."""
    return f"jsonb_build_object('code', '{code}', 'data', {data})"


def joined_reason(*parts: str) -> str:
    """Returns the expression of the reasons that are neither empty nor NULL, as separate sentences in order."""
    present = f"array_remove(array_remove(ARRAY[{', '.join(parts)}]::jsonb[], NULL), '{{}}')"
    return (
        f"CASE cardinality({present}) WHEN 0 THEN '{{}}' WHEN 1 THEN ({present})[1] "
        f"ELSE {built_reason(JOINED.code, f"jsonb_build_object('parts', to_jsonb({present}), 'separator', ' ')")} END"
    )


# ---------- fallback
# Moves an all-clear to another contact method if its own can no longer be used, and a page if no other contact method
# would follow. Runs inside the caller's transaction and sends nothing.


_FALLBACK_METHODS = """
SELECT w.id, m.label, m.channel, m.address,
       EXISTS (SELECT FROM notify_delivery p WHERE p.alert_id = d.alert_id AND p.user_id = d.user_id
               AND p.purpose = 'page' AND p.channel = m.channel
               AND (p.status IN ('sending', 'sent', 'delivered') OR p.outcome_unknown_at IS NOT NULL))
         AS was_used
FROM unnest(%s::uuid[]) AS w(id) JOIN notify_delivery d ON d.id = w.id
JOIN people_contactmethod m ON m.user_id = d.user_id AND m.is_enabled AND NOT m.awaits_code
WHERE NOT EXISTS (SELECT FROM notify_optout o WHERE o.channel = m.channel AND o.address = m.address)
  -- A page whose recipient has, or had, another contact method pending is left alone: that method is used instead.
  AND (d.purpose <> 'page' OR NOT EXISTS (SELECT FROM notify_delivery p WHERE p.alert_id = d.alert_id
       AND p.user_id = d.user_id AND p.purpose = 'page' AND p.queued_at = d.queued_at
       AND (p.channel, p.address) <> (d.channel, d.address) AND p.status IN ('queued', 'sending', 'sent', 'delivered')))
ORDER BY w.id, m.position, m.id
"""
_APPLY_FALLBACK = f"""
WITH found AS (
  SELECT * FROM unnest(%s::uuid[], %s::text[], %s::text[], %s::text[], %s::jsonb[])
    AS f(id, label, channel, address, reason)
), turned AS (
  UPDATE notify_delivery d SET channel = f.channel, address = f.address FROM found f WHERE d.id = f.id
  RETURNING d.notification_id, f.label, f.channel, f.address, f.reason
)
UPDATE notify_notification n
SET label = t.label, channel = t.channel, address = t.address, reason = {joined_reason("n.reason", "t.reason")}
FROM turned t WHERE n.id = t.notification_id
"""


def apply_fallbacks(connection: Connection, unusable: Sequence[DueDelivery], now: datetime) -> list[DueDelivery]:
    """Moves each all-clear to the contact method that `page_planner.select_fallback` selects, and each page to the
    first that quiet hours do not delay. Records the reason. Returns the deliveries that were moved; those without
    another contact method are left unchanged.
    """
    if not unusable:
        return []
    methods_by_delivery: dict[object, list[FallbackMethod]] = {}
    for row in database.rows(connection, _FALLBACK_METHODS, ([due.id for due in unusable],)):
        if address_problem(row["channel"], row["address"]) is None:
            methods_by_delivery.setdefault(row.pop("id"), []).append(FallbackMethod(**row))
    pages = {due.user_id for due in unusable if due.purpose is Purpose.PAGE and due.user_id is not None}
    recipients = load_recipients(connection, pages)
    fallbacks = [
        (due, method)
        for due in unusable
        if (method := _choose_fallback(due, methods_by_delivery.get(due.id, ()), recipients, now)) is not None
    ]
    if fallbacks:
        changes = [
            (due.id, method.label, method.channel, method.address, FELL_BACK(method=method.label, previous=due.label))
            for due, method in fallbacks
        ]
        connection.execute(database.literal(_APPLY_FALLBACK), database.columns(changes))
    return [due for due, _ in fallbacks]


def _choose_fallback(
    due: DueDelivery, methods: Sequence[FallbackMethod], recipients: Mapping[int, Recipient], now: datetime
) -> FallbackMethod | None:
    if due.purpose is not Purpose.PAGE:
        return page_planner.select_fallback(methods, quietest_channel)
    recipient = recipients.get(due.user_id or 0)
    if recipient is None or due.alert is None:
        return None
    for method in methods:
        candidate = NotificationMethod(method.label, method.channel, method.address)
        if not is_quiet(recipient, candidate, due.alert.priority, now):
            return method
    return None


#: The leases of the outbox.
LEASES = LeaseTable[UUID]("notify_delivery", "uuid")


#: Bundling needs the last sending time of an address for seconds only; rows are deleted after this.
LAST_SENT_RETENTION = timedelta(hours=1)


#: Fair across integrations, first pages first. Served by the index `notify_delivery_outbox`.
OUTBOX = FairQueue("notify_delivery", "integration_id", "q.status = 'queued'", first="is_first")

#: The maximum number of rows that one claim checks.
MAX_ROWS = 1024

#: The minimum number of rows to pick: of a single one, always the integration with the oldest would have its turn.
_MIN_PICKED = 8

# Providers that are full, by name; channels without any other provider; channels whose first provider is busy, and
# since when a message must be due to go by the next one.
_NOT_FULL = (
    "AND NOT (q.provider_name = '' AND (q.channel = ANY(%(channels)s::text[]) "
    "OR (q.channel = ANY(%(busy_channels)s::text[]) AND q.due_at > %(busy_since)s))) "
    "AND NOT q.provider_name = ANY(%(names)s::text[])"
)
_NOT_PAUSED = "AND q.purpose <> 'page'"


def _pick(
    connection: Connection, saturated: Mapping[str, object], free: int, now: datetime, *, is_paused: bool
) -> list[UUID]:
    """Returns and locks the ids of `free` due deliveries, or of a few more, fairly across integrations."""
    if free <= 0:
        return []
    filters = " ".join((_NOT_FULL if saturated["names"] else "", _NOT_PAUSED if is_paused else "")).strip()
    parameters = {"now": now, "free": max(free, _MIN_PICKED), **saturated}
    return [row[0] for row in connection.execute(OUTBOX.claim_query(filters), parameters).fetchall()]


# Whole bundles, in the order of the keys: the limit stops the scan.
_COMPANIONS = """
SELECT k.place, d.id FROM unnest(%s::bigint[], %s::text[], %s::text[], %s::text[], %s::int[])
                 WITH ORDINALITY AS k(recipient, channel, address, purpose, most, place)
CROSS JOIN LATERAL (
  SELECT d.id FROM notify_delivery d
  WHERE d.status = 'queued' AND d.address = k.address AND d.channel = k.channel AND d.purpose = k.purpose
    AND coalesce(d.user_id, 0) = k.recipient AND d.due_at <= %s AND d.id <> ALL(%s::uuid[])
  ORDER BY d.due_at LIMIT k.most FOR NO KEY UPDATE SKIP LOCKED
) d
LIMIT %s
"""


def _with_companions(
    connection: Connection, ready: Sequence[DueDelivery], now: datetime, most: int
) -> list[DueDelivery]:
    """Returns the deliveries with further due ones that can be bundled with those that have waited to be bundled.

    They are `most` at most, or one bundle: what has waited and has no room is left out, for the next claim.
    """
    limits: dict[BundleKey, int] = {}
    for due in ready:
        if has_waited_for_bundle(due) and (key := bundle_key(due)) is not None:
            limits[key] = max(limits.get(key, 0), max_bundle_size(due))
    if not limits:
        return list(ready)
    keys, limit = list(limits), MAX_BUNDLE_SIZE + most
    columns = database.columns((*key, limits[key]) for key in keys)
    rows = connection.execute(_COMPANIONS, (*columns, now, [due.id for due in ready], limit)).fetchall()
    ids_by_key: dict[BundleKey, list[UUID]] = {key: [] for key in keys}
    for place, id_ in rows:
        ids_by_key[keys[place - 1]].append(id_)
    room = most - len(ready)
    taken: list[UUID] = []
    for place, key in enumerate(keys):
        if place and len(taken) + len(ids_by_key[key]) > room:
            ready = [due for due in ready if not has_waited_for_bundle(due) or bundle_key(due) not in keys[place:]]
            break
        taken += ids_by_key[key]
    return [*ready, *check_due(connection, taken, now)]


_RECORD_LAST_SENT = """
INSERT INTO notify_lastsent (recipient, channel, address, purpose, last_sent_at)
SELECT k.*, %s FROM unnest(%s::bigint[], %s::text[], %s::text[], %s::text[]) AS k(recipient, channel, address, purpose)
ON CONFLICT (recipient, channel, address, purpose) DO UPDATE SET last_sent_at = excluded.last_sent_at
WHERE notify_lastsent.last_sent_at <= excluded.last_sent_at - make_interval(secs => %s)
RETURNING recipient, channel, address, purpose
"""


def apply_limits(
    connection: Connection, first_keys: Iterable[BundleKey], other_keys: Iterable[BundleKey], now: datetime
) -> set[BundleKey]:
    """Records that a message for these keys is sent now. Returns those of `first_keys` for which none was sent within
    the bundling window: another node may have sent a first message at the same moment.
    """
    _record_last_sent(connection, other_keys, now, 0.0)
    return _record_last_sent(connection, first_keys, now, WINDOW.total_seconds())


def _record_last_sent(
    connection: Connection, keys: Iterable[BundleKey], now: datetime, window: float
) -> set[BundleKey]:
    # Always in key order, so that two nodes cannot deadlock.
    sorted_keys = sorted(keys)
    if not sorted_keys:
        return set()
    parameters = (now, *database.columns(sorted_keys), window)
    return {BundleKey(*row) for row in connection.execute(_RECORD_LAST_SENT, parameters).fetchall()}


def delete_old_last_sent(connection: Connection) -> None:
    """Deletes, a few at a time, rows that are too old to matter for bundling."""
    connection.execute(
        "DELETE FROM notify_lastsent WHERE (recipient, channel, address, purpose) IN ("
        "SELECT recipient, channel, address, purpose FROM notify_lastsent "
        "WHERE last_sent_at < statement_timestamp() - %s LIMIT 500 FOR UPDATE SKIP LOCKED)",
        (LAST_SENT_RETENTION,),
    )


_FACTS = """
SELECT d.id, d.notification_id, d.channel, d.address, d.purpose, d.queued_at, d.due_at, d.user_id, d.attempts,
       n.created_at, d.integration_id,
       d.provider_name, d.is_first, d.reason AS wait_reason, n.label, n.data, n.reason AS notification_reason,
       d.outcome_unknown_at IS NOT NULL AS may_have_been_sent, d.late_since, d.is_exhausted, d.own_failures,
       CASE WHEN n.data ? 'held_from' THEN u.notification_rules END AS quiet,
       coalesce(u.display_name, '') AS user_name, coalesce(u.time_zone, n.data ->> 'time_zone', 'UTC') AS time_zone,
       coalesce(u.language, n.data ->> 'language', '') AS language,
       coalesce((SELECT m.address FROM people_contactmethod m WHERE m.user_id = d.user_id AND m.channel = d.channel
           AND m.is_enabled AND NOT m.awaits_code AND (m.address = d.address OR lower(m.label) = lower(n.label))
           ORDER BY m.address = d.address DESC, m.position LIMIT 1),
           (SELECT c.address FROM people_groupcontact c WHERE d.user_id IS NULL AND c.channel = d.channel
           AND (c.address = d.address OR c.id = n.group_contact_id) ORDER BY c.address = d.address DESC LIMIT 1),
           '') AS current_address,
       EXISTS (SELECT FROM notify_optout o WHERE o.channel = d.channel AND o.address = d.address) AS has_opted_out,
       coalesce(u.is_active, true) AS is_active,
       EXISTS (SELECT FROM alerts_acknowledgement k WHERE k.alert_id = d.alert_id AND k.user_id = d.user_id)
           AS has_acknowledged,
       (SELECT l.last_sent_at FROM notify_lastsent l WHERE l.recipient = coalesce(d.user_id,
       0) AND l.channel = d.channel
           AND l.address = d.address AND l.purpose = d.purpose) AS last_sent_at,
       CASE WHEN d.purpose = 'page' THEN coalesce((u.notification_rules ->> 'most_per_hour')::int, 0) ELSE 0 END
           AS most_per_hour,
       -- Only for whoever wants a limit: by the index on a notification's user.
       CASE WHEN d.purpose = 'page' AND u.notification_rules ? 'most_per_hour' THEN ARRAY(
           SELECT DISTINCT s.sent_at FROM notify_notification m JOIN notify_delivery s ON s.notification_id = m.id
           WHERE m.user_id = d.user_id AND s.purpose = 'page' AND s.channel = d.channel AND s.address = d.address
             AND s.sent_at IS NOT NULL AND m.created_at > d.due_at - interval '2 days'
           ORDER BY s.sent_at DESC LIMIT (u.notification_rules ->> 'most_per_hour')::int)
       ELSE ARRAY[]::timestamptz[] END AS recent_sent_times,
       d.purpose = 'all_clear' AND EXISTS (SELECT FROM notify_delivery p WHERE p.alert_id = d.alert_id
           AND p.user_id = d.user_id AND p.purpose = 'page'
           AND (p.status IN ('sent', 'delivered') OR p.outcome_unknown_at IS NOT NULL)) AS has_been_paged,
       d.purpose = 'all_clear' AND EXISTS (SELECT FROM notify_delivery p WHERE p.alert_id = d.alert_id
           AND p.user_id = d.user_id AND p.purpose = 'page' AND p.status = 'sending') AS is_being_paged,
       a.id AS a_id, a.status AS a_status, a.priority AS a_priority, a.subject AS a_subject,
       a.short_text AS a_short_text, a.long_text AS a_long_text, a.client AS a_client, a.site AS a_site,
       a.team AS a_team, a.source AS a_source, a.source_id AS a_source_id, a.source_url AS a_source_url,
       a.requester AS a_requester, a.requester_phone AS a_requester_phone, a.custom AS a_custom, a.count AS a_count,
       a.opened_at AS a_opened_at, a.owner_id AS a_owner_id, a.hold_until AS a_hold_until,
       a.merged_into_id AS a_merged_into, a.is_test AS a_is_test
FROM notify_delivery d
JOIN notify_notification n ON n.id = d.notification_id
LEFT {alert}
LEFT {user}
WHERE d.id = ANY(%s)
"""


def check_due(connection: Connection, ids: list[UUID], now: datetime) -> list[DueDelivery]:
    """Checks these deliveries against their current facts, in a snapshot newer than that of `pick`. Records those that
    are cancelled or must wait, and returns those to send.
    """
    if not ids:
        return []
    due_by_id = {due.id: due for due in facts(connection, ids)}
    if moved := [due for due in due_by_id.values() if due.has_new_address]:
        _readdress(connection, moved)
        due_by_id |= {due.id: due for due in facts(connection, [due.id for due in moved])}
    unusable = [due for due in due_by_id.values() if needs_fallback(due, now, address_problem)]
    if fallen_back := apply_fallbacks(connection, unusable, now):
        due_by_id |= {due.id: due for due in facts(connection, [due.id for due in fallen_back])}
    redundant_ids = _find_redundant(connection, due_by_id.values(), now)
    ready: list[DueDelivery] = []
    cancelled: list[tuple[DueDelivery, Reason]] = []
    waiting: list[tuple[DueDelivery, Reason, datetime]] = []
    for due in (due_by_id[id_] for id_ in ids if id_ in due_by_id):
        match pre_send_check(due, now, address_problem):
            case SendNow() if due.id in redundant_ids:
                cancelled.append((due, ONE_OF_OVERDUE()))
            case SendNow():
                ready.append(due)
            case FailDelivery(reason):
                ready.append(replace(due, problem=reason))
            case CancelDelivery(reason):
                cancelled.append((due, reason))
            case Defer(reason, until):
                waiting.append((due, reason, until))
    if cancelled:
        reasons = [NOT_RESENT(cause=reason) if due.may_have_been_sent else reason for due, reason in cancelled]
        connection.execute(
            "UPDATE notify_delivery d SET status = 'cancelled', reason = c.reason, ended_at = %s "
            "FROM unnest(%s::uuid[], %s::jsonb[]) AS c(id, reason) WHERE d.id = c.id",
            (now, [due.id for due, _ in cancelled], reasons),
        )
    _defer(connection, waiting)
    return ready


#: A page that is so late did not leave in time: no node worked, or more was due than could be sent.
_OVERDUE = timedelta(seconds=5)

# The last one that fell due is sent, or the first page about its alert, which comes before all others. One that is
# retried, because an attempt failed, is no reason to leave out another.
_REDUNDANT = """
SELECT d.id FROM notify_delivery d WHERE d.id = ANY(%(ids)s) AND EXISTS (
  SELECT FROM notify_delivery o WHERE o.alert_id = d.alert_id AND o.purpose = 'page' AND o.channel = d.channel
    AND o.address = d.address AND o.user_id IS NOT DISTINCT FROM d.user_id AND o.id <> d.id
    AND (o.status IN ('sent', 'delivered') AND o.sent_at >= d.due_at OR o.status = 'sending'
         OR o.status = 'queued' AND o.late_since IS NULL AND (o.is_first, o.due_at, o.id) > (d.is_first, d.due_at, d.id)
            AND (o.due_at <= %(now)s OR o.reason->>'code' = %(bundled)s)))
"""


def _find_redundant(connection: Connection, deliveries: Iterable[DueDelivery], now: datetime) -> set[UUID]:
    """Returns those of these overdue pages that only repeat another one, which has fallen due later and is sent."""
    ids = [due.id for due in deliveries if due.data.get(REPEATED) and due.due_at < now - _OVERDUE]
    parameters = {"ids": ids, "now": now, "bundled": BUNDLED_LATER.code}
    return {row[0] for row in connection.execute(_REDUNDANT, parameters).fetchall()} if ids else set()


def facts(connection: Connection, ids: Sequence[UUID], *, resolve_merged: bool = False) -> list[DueDelivery]:
    """Returns the current facts of these deliveries, in the order of `ids`. With `resolve_merged`, an alert is the one
    it was merged into.
    """
    alert = join_alert(resolved_id("d.alert_id") if resolve_merged else "d.alert_id")
    query = database.literal(_FACTS.format(alert=alert, user=join_user("d.user_id")))
    rows = database.rows(connection, query, (list(ids),))
    alert_columns = [name for name in rows[0] if name.startswith("a_")] if rows else []
    order = {id_: place for place, id_ in enumerate(ids)}
    return sorted((_due(row, alert_columns) for row in rows), key=lambda due: order[due.id])


def _due(row: dict[str, Any], alert_columns: Sequence[str]) -> DueDelivery:
    alert = {name[2:]: row.pop(name) for name in alert_columns}
    facts = None
    if alert["id"] is not None:
        status, priority = AlertStatus(alert["status"]), Priority(alert["priority"])
        facts = AlertFacts(**{**alert, "status": status, "priority": priority, "custom": _mapping(alert["custom"])})
    row["recent_sent_times"] = tuple(row["recent_sent_times"])
    row["quiet"] = quiet_hours(row["quiet"])
    for name in ("wait_reason", "notification_reason"):
        row[name] = reason_from_json(row[name])
    return DueDelivery(**{**row, "purpose": Purpose(row["purpose"]), "data": _mapping(row["data"]), "alert": facts})


def _mapping(value: object) -> dict[str, Any]:
    """Returns `value` if it is a JSON object, else an empty one: one invalid row must not stop the others."""
    return value if isinstance(value, dict) else {}


def _readdress(connection: Connection, moved: Sequence[DueDelivery]) -> None:
    """Changes the deliveries to the current addresses of their contact methods."""
    addresses = {due.id: due.current_address for due in moved}
    connection.execute(
        "WITH moved AS (SELECT * FROM unnest(%s::uuid[], %s::text[]) AS m(id, address)), "
        "changed AS (UPDATE notify_delivery d SET address = m.address FROM moved m WHERE d.id = m.id "
        "            RETURNING d.notification_id, d.address) "
        "UPDATE notify_notification n SET address = c.address FROM changed c WHERE n.id = c.notification_id",
        (list(addresses), list(addresses.values())),
    )


def _defer(connection: Connection, waiting: Sequence[tuple[DueDelivery, Reason, datetime]]) -> None:
    if waiting:
        connection.execute(
            "UPDATE notify_delivery d SET due_at = w.until, reason = w.reason "
            "FROM unnest(%s::uuid[], %s::jsonb[], %s::timestamptz[]) AS w(id, reason, until) WHERE d.id = w.id",
            database.columns((due.id, reason, until) for due, reason, until in waiting),
        )


def _record_pause_reason(connection: Connection, pause: CurrentPause, now: datetime) -> None:
    """Records the pause as the reason on each due page."""
    connection.execute(
        "UPDATE notify_delivery SET reason = %(reason)s WHERE id IN ("
        "SELECT id FROM notify_delivery WHERE status = 'queued' AND purpose = 'page' AND due_at <= %(now)s "
        "AND reason <> %(reason)s LIMIT 1000 FOR NO KEY UPDATE SKIP LOCKED)",
        {"reason": pause.wait_reason, "now": now},
    )


def _note_bundles(connection: Connection, jobs: Iterable[DeliveryJob], now: datetime) -> None:
    """Records which deliveries are sent as one message, by the notification id that identifies it: what is reported
    later about it (a vendor's webhook, a bounced mail) applies to all of them.
    """
    for job in jobs:
        # In the sandbox, keys are pressed.
        has_events = job.active_provider is None or (
            job.active_provider.account.callback_base_url
            or job.reply_address is not None
            or isinstance(job.active_provider.sender, UpdatingSender)
        )
        if has_events and len(job.ids) > 1:
            connection.execute(
                "INSERT INTO notify_bundle (notification, deliveries, at) VALUES (%s, %s, %s) "
                "ON CONFLICT (notification) DO UPDATE SET deliveries = excluded.deliveries, at = excluded.at",
                (job.bundle.lead.notification_id, job.ids, now),
            )


def _lease(connection: Connection, jobs: Iterable[DeliveryJob], node: str) -> None:
    """Marks deliveries as being sent. Counts the attempt now, so that one that crashes the process is counted too."""
    rows = [
        (due.id, job.active_provider and job.active_provider.id, job.provider, after_waiting(due.wait_reason))
        for job in jobs
        for due in job.bundle.members
    ]
    if not rows:
        return
    connection.execute(
        "UPDATE notify_delivery d SET status = 'sending', attempts = d.attempts + 1, provider_id = j.provider, "
        "provider_name = j.name, leased_by = %s, "
        "lease_until = clock_timestamp() + make_interval(secs => %s), reason = j.reason "
        "FROM unnest(%s::uuid[], %s::bigint[], %s::text[], %s::jsonb[]) AS j(id, provider, name, reason) "
        "WHERE d.id = j.id",
        (node, LEASE_SECONDS, *database.columns(rows)),
    )


# ---------- retention


# Ids are UUIDv7: the primary key finds the oldest rows, and limits the scan to them.
_OLD_NOTIFICATIONS = f"""
WITH old AS (
  SELECT n.id FROM notify_notification n WHERE n.id < %(first)s AND n.created_at < %(before)s
  AND NOT {is_about("n.alert_id", IS_ACTIVE)}
  AND NOT EXISTS (SELECT FROM notify_delivery d WHERE d.notification_id = n.id AND d.status IN ('queued', 'sending'))
  ORDER BY n.id LIMIT %(chunk)s
), deliveries AS (
  DELETE FROM notify_delivery d USING old WHERE d.notification_id = old.id
)
DELETE FROM notify_notification n USING old WHERE n.id = old.id
"""

_OLD_SANDBOX = """
DELETE FROM notify_sandboxmessage WHERE id IN (
  SELECT id FROM (SELECT id, at FROM notify_sandboxmessage ORDER BY id LIMIT %(chunk)s) AS oldest
  WHERE at < %(before)s)
"""

EXPIRIES = tuple(Expiry(one, settings_store.DELIVERY_RETENTION_DAYS.name) for one in (_OLD_NOTIFICATIONS, _OLD_SANDBOX))


TIMERS = (
    Timers("notify_providerhealth", ("retry_at", "free_at"), key="name"),
    Timers("notify_lastsent", ("last_sent_at",), key="recipient, channel, address, purpose"),
)


type SlaLookup = Callable[[Connection, Sequence[int]], Mapping[int, Mapping[Any, datetime]]]

#: The SLA's moments (`respond_by`, `fix_by`) by alert id. Alerts without one are absent.
SLA_LOOKUPS: Hooks[SlaLookup] = Hooks()

#: How soon a message for a busy provider is claimed again.
RECHECK_AFTER = timedelta(seconds=1)

#: A message that has waited for a busy provider for this long goes by the next one.
MAX_BUSY_WAIT = timedelta(seconds=2)

#: Tests of addresses get this part of a provider's concurrent sends. Anybody may send some to a server that hangs.
_TEST_SHARE = 4

#: A delay for messages that have just begun to wait. It shrinks with their age and is gone after a quarter of an hour.
_BY_AGE = timedelta(seconds=0.1)


@dataclass(frozen=True, slots=True, eq=False)
class DeliveryJob:
    """One message to send, and its provider; `active_provider` None means the sandbox."""

    bundle: DeliveryBundle
    active_provider: ActiveProvider | None
    #: Why it cannot be sent: it fails at once with this reason.
    problem: Reason = NO_REASON
    #: How much of an alert its channel may disclose.
    content_level: ContentLevel = ContentLevel.FULL
    #: For a mail: the Reply-To address, if replies are read.
    reply_address: ReplyAddress | None = None
    #: For a text message: whether it contains a reply code.
    has_reply_codes: bool = False
    #: Whether another provider can take over if this one hangs.
    has_substitute: bool = False
    #: On a channel whose vendor repeats pages: when the next page to the same address is due.
    next_page_at: datetime | None = None

    @property
    def provider(self) -> str:
        """The provider's name; empty if the message cannot be sent and goes to no provider."""
        if self.active_provider is not None:
            return self.active_provider.name
        return "" if self.problem else SANDBOX

    @property
    def ids(self) -> list[UUID]:
        return [due.id for due in self.bundle.members]


#: What takes turns: the messages of one integration on one channel.
type Lane = tuple[int | None, str]


def lane_of(bundle: DeliveryBundle) -> Lane:
    """Returns the lane of a message."""
    return bundle.lead.integration_id, bundle.lead.channel


def _take_turns(bundles: Iterable[DeliveryBundle], recent: Iterable[Lane]) -> list[DeliveryBundle]:
    """Returns the messages in the order in which they get a provider: those of the lane that had the fewest lately
    come first. Otherwise the older storm would get each sender that becomes free.
    """
    counts = Counter(recent)
    turns: list[tuple[int, DeliveryBundle]] = []
    for bundle in bundles:
        lane = lane_of(bundle)
        turns.append((counts[lane], bundle))
        counts[lane] += 1
    # sorted() is stable.
    return [bundle for _, bundle in sorted(turns, key=lambda turn: turn[0])]


@dataclass(frozen=True, slots=True)
class ClaimedBatch:
    """The result of one claim."""

    jobs: tuple[DeliveryJob, ...]
    #: How many due rows were checked. If there were any, more may be due: each integration gets only its share.
    checked_count: int
    #: Whether no slot is left now, or a provider is at its limit.
    is_full: bool


def claim(
    connection: Connection,
    pool: ProviderPool,
    sends_by_provider: Mapping[str, int],
    latencies: Mapping[str, float],
    *,
    node: str,
    slots: int,
    now: datetime,
    pause: CurrentPause | None,
    max_sends: Mapping[str, int] = MappingProxyType({}),
    recent: Iterable[Lane] = (),
    most: int = MAX_ROWS,
) -> ClaimedBatch:
    """Leases for `node` as many messages as there are free slots. `sends_by_provider` counts the sends in progress by
    provider; `latencies` are the average durations of sends in seconds; `max_sends` limits the concurrent sends of
    single providers further; `recent` are the lanes of the last messages that this process claimed; `most` limits the
    deliveries that are checked."""
    if pause is not None:
        _record_pause_reason(connection, pause, now)
    limits = {provider.name: provider.per_minute for provider in pool.all() if provider.per_minute}
    rate_limits = health.rate_limits(connection, limits)
    remaining = {name: limit.count_available(now) for name, limit in rate_limits.items()}
    capacity = _ProviderCapacity(
        pool, dict(sends_by_provider), latencies, max_sends, slots, remaining, now, tuple(recent)
    )
    free = slots - sum(sends_by_provider.values())
    ids = _pick(connection, capacity.find_saturated(), min(free, most), now, is_paused=pause is not None)
    ready = check_due(connection, ids, now)
    if pool.is_bundling:
        ready = _with_companions(connection, ready, now, most)
        jobs = _bundled(connection, capacity, ready, now)
    else:
        jobs = capacity.assign_jobs([DeliveryBundle((due,)) for due in ready])
    job_counts = Counter(job.provider for job in jobs)
    charged = {name: limit.charge(job_counts[name], now) for name, limit in rate_limits.items() if job_counts[name]}
    health.store_rate_limits(connection, charged)
    _defer(connection, capacity.plan_deferrals(rate_limits | charged, now))
    _lease(connection, jobs, node)
    _note_bundles(connection, jobs, now)
    jobs = _with_next_page(connection, _with_sla(connection, jobs), now)
    return ClaimedBatch(tuple(jobs), max(len(ids), len(ready)), is_full=len(ids) >= free or capacity.is_any_at_limit)


def _bundled(
    connection: Connection, capacity: _ProviderCapacity, ready: list[DueDelivery], now: datetime
) -> list[DeliveryJob]:
    """Returns the messages to send now, and records the others as waiting to be bundled."""
    arranged = arrange(ready, now)
    jobs = capacity.assign_jobs(arranged.bundles)
    keys_by_job = {job: key for job in jobs if (key := bundle_key(job.bundle.lead)) is not None}
    first_pages = {job: key for job, key in keys_by_job.items() if job.bundle.is_first}
    other_keys = {key for job, key in keys_by_job.items() if job not in first_pages}
    admitted = apply_limits(connection, first_pages.values(), other_keys, now)
    throttled = [job for job, key in first_pages.items() if key not in admitted]
    waiting = [*arranged.waiting, *((job.bundle.lead, now + WINDOW) for job in throttled)]
    _defer(connection, [(due, BUNDLED_LATER(), until) for due, until in waiting])
    return [job for job in jobs if job not in throttled]


def _with_sla(connection: Connection, jobs: list[DeliveryJob]) -> list[DeliveryJob]:
    """Adds the SLA's moments to the alerts of pages, which say how much time is left."""
    members = [due for job in jobs for due in job.bundle.members if due.purpose is Purpose.PAGE]
    ids = sorted({due.alert.id for due in members if due.alert is not None})
    moments = {key: one for lookup in SLA_LOOKUPS.of() for key, one in lookup(connection, ids).items()} if ids else {}
    if not moments:
        return jobs

    def dated(due: DueDelivery) -> DueDelivery:
        own = moments.get(due.alert.id) if due.alert is not None else None
        if due.alert is None or own is None:
            return due
        return replace(due, alert=replace(due.alert, respond_by=own.get("respond_by"), fix_by=own.get("fix_by")))

    return [
        replace(job, bundle=replace(job.bundle, members=tuple(dated(due) for due in job.bundle.members)))
        for job in jobs
    ]


_NEXT_PAGE = """
SELECT min(n.due_at) FROM notify_delivery d JOIN notify_delivery n ON n.alert_id = d.alert_id AND n.channel = d.channel
  AND n.address = d.address AND n.user_id IS NOT DISTINCT FROM d.user_id
WHERE d.id = ANY(%s) AND n.status = 'queued' AND n.purpose = 'page' AND n.due_at > %s
"""


def _with_next_page(connection: Connection, jobs: list[DeliveryJob], now: datetime) -> list[DeliveryJob]:
    """Adds when the next page follows those that their vendor repeats: it takes the place of the repeats."""

    def followed(job: DeliveryJob) -> DeliveryJob:
        row = connection.execute(_NEXT_PAGE, (job.ids, now)).fetchone()
        return replace(job, next_page_at=row[0] if row else None)

    return [followed(job) if has_repeats(job.bundle.lead.channel) else job for job in jobs]


@dataclass(slots=True)
class _ProviderCapacity:
    """The remaining capacity of each provider, so that a slow provider leaves slots for the others."""

    pool: ProviderPool
    sends_by_provider: dict[str, int]
    latencies: Mapping[str, float]
    max_sends: Mapping[str, int]
    slots: int
    #: The remaining rate limit of each provider that has one.
    remaining_allowance: dict[str, int]
    now: datetime
    recent: tuple[Lane, ...]
    #: Messages that no provider can take yet, although their channel is not full: their providers have used up the
    #: rate limit, or were at their maximum of concurrent sends before this claim.
    deferred: list[DeliveryBundle] = field(default_factory=list)
    at_limit: list[str] = field(init=False)

    def __post_init__(self) -> None:
        providers = self.pool.all()
        self.at_limit = [one.name for one in providers if not self._has_capacity(one.name, self._limit(one))]

    @property
    def is_any_at_limit(self) -> bool:
        """Whether a provider is at its maximum of concurrent sends: a slot becomes free within moments."""
        return any(name not in self.max_sends for name in self.at_limit)

    def find_saturated(self) -> dict[str, object]:
        """Returns, for `_NOT_FULL`, what cannot be claimed now. For a provider that has used up its rate limit, the
        next provider is used; for a busy one, after `MAX_BUSY_WAIT`.
        """
        providers = self.pool.all()
        used_up = [provider.name for provider in providers if not self._has_allowance(provider.name)]
        saturated_channels: list[str] = []
        busy_channels: list[str] = []
        for channel in sorted({channel for provider in providers for channel in provider.channels}):
            usable = [p for p in providers if channel in p.channels and p.name not in used_up]
            if not usable or usable[0].name in self.at_limit:
                free = (p for p in usable if p.name not in self.at_limit)
                is_busy = any(self.pool.is_substitute(p, usable[0]) for p in free)
                (busy_channels if is_busy else saturated_channels).append(channel)
        return {
            "names": [*self.at_limit, *used_up],
            "channels": saturated_channels,
            "busy_channels": busy_channels,
            "busy_since": self.now - MAX_BUSY_WAIT,
        }

    def assign_jobs(self, bundles: Iterable[DeliveryBundle]) -> list[DeliveryJob]:
        """Returns the messages that a provider can take now. The others stay in the outbox."""
        turns = _take_turns(bundles, self.recent)
        return [job for bundle in turns if (job := self._assign_job(bundle)) is not None]

    def _assign_job(self, bundle: DeliveryBundle) -> DeliveryJob | None:
        due = bundle.lead
        if due.problem:
            return DeliveryJob(bundle, None, due.problem)
        providers = self.pool.providers_for(due.channel, due.address)
        if not providers and (problem := self.pool.no_provider_reason(due.channel)):
            return DeliveryJob(bundle, None, problem)
        provider = self._choose_provider(providers, due)
        if providers and provider is None:
            self.deferred.append(bundle)
            return None
        name, limit = (provider.name, self._limit(provider)) if provider else (SANDBOX, self.slots)
        is_test = due.purpose is Purpose.TEST
        if not self._has_capacity(name, max(1, limit // _TEST_SHARE) if is_test else limit):
            if is_test or name in self.at_limit:
                self.deferred.append(bundle)
            return None
        self.sends_by_provider[name] = self.sends_by_provider.get(name, 0) + 1
        if name in self.remaining_allowance:
            self.remaining_allowance[name] -= 1
        return DeliveryJob(
            bundle,
            provider,
            content_level=self.pool.content_level(due.channel),
            reply_address=self.pool.reply_address if due.channel == "email" else None,
            has_reply_codes=CHANNELS[due.channel].is_text and self.pool.requires_reply_codes,
            has_substitute=provider is not None
            and not due.data.get("provider")
            and any(self.pool.is_substitute(other, provider) for other in providers),
        )

    def plan_deferrals(
        self, rate_limits: Mapping[str, RateLimit], now: datetime
    ) -> list[tuple[DueDelivery, Reason, datetime]]:
        """Returns when to claim each message that no provider can take yet: the time at which it can be sent if the
        integrations take turns, each in the order in which its messages were queued. Until then it neither blocks other
        messages nor is overtaken.
        """
        remaining = dict(rate_limits)
        deferrals = []
        in_order = sorted(self.deferred, key=lambda bundle: bundle.lead.queued_at)
        for bundle in _take_turns(in_order, self.recent):
            at = now + RECHECK_AFTER
            providers = self.pool.providers_for(bundle.lead.channel, bundle.lead.address)
            usable = _named_or_all(providers, bundle.lead.provider_name)
            limited = [provider.name for provider in usable if provider.name in remaining]
            if limited and not any(self._has_allowance(name) for name in limited):
                name = min(limited, key=lambda name: remaining[name].next_available_at(now))
                at = remaining[name].next_available_at(now)
                remaining[name] = remaining[name].charge(1, now)
            # Other claims may have assigned the same time to other messages: the one that has waited longest comes
            # first.
            at += max(timedelta(0), _BY_AGE - (at - bundle.lead.queued_at) / 10_000)
            deferrals += [(due, due.wait_reason or RATE_LIMITED(), at) for due in bundle.members]
        return deferrals

    def _choose_provider(self, providers: Sequence[ActiveProvider], due: DueDelivery) -> ActiveProvider | None:
        """Returns the named provider if it still delivers to the address, else the first with rate limit left; None
        without any.

        What a slow provider has no share of senders left for goes by the next one, and so does what has waited for a
        busy one for `MAX_BUSY_WAIT`.
        """
        usable = [p for p in _named_or_all(providers, due.provider_name) if self._has_allowance(p.name)]
        if not usable:
            return None
        first = usable[0]
        if self._has_capacity(first.name, self._fair_limit(first)):
            return first
        substitutes = (p for p in usable if self.pool.is_substitute(p, first))
        next_free = next((p for p in substitutes if self._has_capacity(p.name, self._fair_limit(p))), None)
        if next_free is None:
            return first
        is_slow = self._has_capacity(first.name, self._limit(first))
        # A message that waited for a busy provider was postponed each time.
        has_waited = self.now - due.due_at >= MAX_BUSY_WAIT or due.wait_reason.code == RATE_LIMITED.code
        return next_free if is_slow or has_waited else first

    def _limit(self, provider: ActiveProvider) -> int:
        maximum = provider.kind.max_concurrent_sends
        return min(maximum, self.max_sends.get(provider.name, maximum))

    def _fair_limit(self, provider: ActiveProvider) -> int:
        return fair_concurrency(self._limit(provider), self.latencies.get(provider.name, 0))

    def _has_allowance(self, name: str) -> bool:
        return self.remaining_allowance.get(name, 1) > 0

    def _has_capacity(self, name: str, limit: int) -> bool:
        """Returns whether a provider may have more concurrent sends, at most `limit`."""
        held, free_slots = self.sends_by_provider.get(name, 0), self.slots - sum(self.sends_by_provider.values())
        return held < limit and count_allowed(held, free_slots) > 0


def _named_or_all(providers: Sequence[ActiveProvider], preferred_name: str) -> Sequence[ActiveProvider]:
    """Returns the named provider if it still delivers to the address, else all that do."""
    return [provider for provider in providers if provider.name == preferred_name] or providers
