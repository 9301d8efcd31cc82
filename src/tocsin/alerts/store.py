"""Reads and writes alerts as rows: loads the lifecycle's view of them, and writes decisions in bulk without the ORM.

Every function uses the given connection, inside the caller's transaction.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import takewhile
from typing import Any, LiteralString, NamedTuple, cast

from django.db.models import Q, QuerySet
from django.db.models.fields.json import KT
from psycopg import Cursor
from psycopg.rows import DictRow

from tocsin.alerts.commands import (
    SOURCE_COLUMNS,
    Acknowledged,
    AlertCreation,
    AlertState,
    LastEvent,
    NewEvent,
    RepeatedMessages,
)
from tocsin.alerts.models import Alert, AlertText
from tocsin.alerts.states import ACTIVE, ALERT_REFERENCE, LIFECYCLE_EVENTS, ActorKind, AlertStatus, EventKind, Priority
from tocsin.core.db import database
from tocsin.core.db.database import Connection, as_json, bytes_in_json
from tocsin.core.db.queries import QueryUnion, first, narrow, search_expression
from tocsin.core.hooks import Hooks
from tocsin.core.reasons import AlertRef, Reason, as_reason, reason_as_json
from tocsin.people.sql import join_user, load_users

# ---------- sql
# How other rooms read alerts in SQL: fragments about an alert `a`, and lookups on the given connection.


#: Whether the alert is active. The values are literals, because the partial index of active alerts serves only these.
IS_ACTIVE: LiteralString = database.literal(f"a.status IN ({', '.join(f"'{status}'" for status in sorted(ACTIVE))})")

#: Alerts with their owner, the user `u`.
WITH_OWNER = f"alerts_alert a LEFT {join_user('a.owner_id')}"
#: The owner's name, also that of an owner who is not a user.
OWNER_NAME = "coalesce(u.display_name, a.owner_name)"

#: Alerts with the integration `i` that they came from, if it still exists.
WITH_INTEGRATION = "alerts_alert a LEFT JOIN inbound_integration i ON i.id = a.integration_id"

#: The alerts opened in a period.
OPENED_BETWEEN = "alerts_alert a WHERE a.opened_at >= %(since)s AND a.opened_at < %(until)s"

#: The ids of all active alerts, found by their partial index: ordered by id, all alerts ever created would be read.
ACTIVE_IDS = f"SELECT a.id FROM alerts_alert a WHERE {IS_ACTIVE}"


def join_alert(column: str, alias: str = "a") -> str:
    """Joins the alert whose id is in `column`."""
    return f"JOIN alerts_alert {alias} ON {alias}.id = {column}"


def is_about(column: str, condition: str) -> LiteralString:
    """Whether the alert `a` whose id is in `column` exists and meets the condition."""
    return database.literal(f"EXISTS (SELECT FROM alerts_alert a WHERE a.id = {column} AND {condition})")


def key_holder(column: str) -> LiteralString:
    """The id of the alert that holds the dedup key with this hash."""
    return database.literal(f"(SELECT h.id FROM alerts_alert h WHERE h.key_hash = {column} AND h.holds_key)")


def resolved_id(column: str) -> str:
    """The id of the alert into which the alert was merged whose id is in `column`, else that alert's own."""
    return f"""(SELECT CASE WHEN m.status = 'merged' THEN m.merged_into_id ELSE m.id END
                   FROM alerts_alert m WHERE m.id = {column})"""


def newest_of_integration(column: str, limit: int, *columns: str) -> str:
    """These columns of the newest alerts of the integration whose id is in `column`."""
    return (
        f"SELECT {', '.join(columns)} FROM alerts_alert WHERE integration_id = {column} ORDER BY id DESC LIMIT {limit}"
    )


def load_alerts(connection: Connection, ids: Iterable[int], *columns: str) -> dict[int, DictRow]:
    """Returns `id` and these columns of alerts, by id."""
    return database.rows_by_id(connection, "alerts_alert", ids, columns)


def lock_custom(connection: Connection, ids: Collection[int]) -> list[DictRow]:
    """Locks alerts, and returns `id`, `custom` and `last_message_at` of each."""
    return database.rows(
        connection,
        "SELECT id, custom, last_message_at FROM alerts_alert WHERE id = ANY(%s) ORDER BY id FOR NO KEY UPDATE",
        (sorted(ids),),
    )


def load_responders(connection: Connection, ids: Sequence[int]) -> set[tuple[int, int]]:
    """Returns who has acknowledged or owns the alerts: pairs of alert and user."""
    rows = connection.execute(
        "SELECT alert_id, user_id FROM alerts_acknowledgement WHERE alert_id = ANY(%(alerts)s) "
        "UNION SELECT id, owner_id FROM alerts_alert WHERE id = ANY(%(alerts)s) AND owner_id IS NOT NULL",
        {"alerts": list(ids)},
    )
    return set(rows.fetchall())


def count_active(connection: Connection) -> dict[str, int]:
    """Returns the number of active alerts by status."""
    query = database.literal(f"SELECT a.status, count(*) FROM alerts_alert a WHERE {IS_ACTIVE} GROUP BY a.status")
    return {str(status): 0 for status in sorted(ACTIVE)} | dict(connection.execute(query).fetchall())


def active_source_ids(
    connection: Connection,
    integration_ids: Sequence[int],
    *,
    source_ids: Sequence[str] | None,
    after_id: int,
    limit: int,
) -> dict[str, int]:
    """Returns the oldest active alerts of these integrations by their ids at the source, of all or of `source_ids`,
    without test alerts."""
    query = database.literal(
        f"SELECT a.source_id, a.id FROM alerts_alert a WHERE a.integration_id = ANY(%s) AND {IS_ACTIVE} AND a.id > %s "
        "AND a.source_id <> '' AND NOT a.is_test AND (%s OR a.source_id = ANY(%s)) ORDER BY a.id LIMIT %s"
    )
    parameters = (list(integration_ids), after_id, source_ids is None, list(source_ids or ()), limit)
    return dict(connection.execute(query, parameters).fetchall())


@dataclass(frozen=True, slots=True)
class OpenQuestions:
    """What the users of an alert were asked and have not answered: `AlertState.reminded_user_ids`,
    `awaits_acceptance`."""

    reminded_user_ids: frozenset[int] = frozenset()
    awaits_acceptance: bool = False


type QuestionLookup = Callable[[Connection, Sequence[int]], Mapping[int, OpenQuestions]]

#: The open questions by alert id.
QUESTION_LOOKUPS: Hooks[QuestionLookup] = Hooks()
_NO_QUESTIONS = OpenQuestions()


def request_ids(connection: Connection, count: int) -> Cursor[tuple[int]]:
    """Requests `count` new alert ids, one a row. In a pipeline, they arrive with the other results."""
    # The subquery looks the sequence up once, instead of once per row.
    return connection.execute(
        "SELECT nextval((SELECT pg_get_serial_sequence('alerts_alert', 'id')::regclass)) FROM generate_series(1, %s)",
        (count,),
    )


def new_ids(connection: Connection, count: int) -> list[int]:
    return [row[0] for row in request_ids(connection, count)]


def load_family(connection: Connection, ids: Iterable[int]) -> list[int]:
    """Returns `ids`, the alerts merged into them, and their parents: all rows that one command may change."""
    rows = connection.execute(
        "SELECT id FROM alerts_alert WHERE id = ANY(%(ids)s) OR merged_into_id = ANY(%(ids)s) "
        "UNION SELECT merged_into_id FROM alerts_alert WHERE id = ANY(%(ids)s) AND merged_into_id IS NOT NULL",
        {"ids": list(ids)},
    ).fetchall()
    return sorted(row[0] for row in rows)


def lock(connection: Connection, ids: Iterable[int]) -> None:
    """Locks alert rows by ascending id, the lock order everywhere outside ingest."""
    connection.execute(
        "SELECT 1 FROM alerts_alert WHERE id = ANY(%s) ORDER BY id FOR NO KEY UPDATE", (sorted(set(ids)),)
    )


# Starts from the alerts that hold a key, by the index that guards it, because the number of inactive alerts only grows.
_STALE_KEYS = """
WITH holders AS MATERIALIZED (SELECT id, status, merged_into_id FROM alerts_alert WHERE holds_key)
SELECT a.id FROM alerts_alert a WHERE a.holds_key AND a.id IN (
  SELECT h.id FROM holders h WHERE h.status <> ALL(%(live)s) AND NOT (h.status = 'merged' AND EXISTS (
    SELECT FROM alerts_alert p WHERE p.id = h.merged_into_id AND p.status = ANY(%(live)s))))
ORDER BY a.id LIMIT %(most)s FOR NO KEY UPDATE OF a SKIP LOCKED
"""


def alerts_with_stale_keys(connection: Connection, limit: int) -> list[int]:
    """Locks and returns the ids of alerts that hold a dedup key although they are over, or merged into one that is not
    active. Rows locked by others are skipped."""
    rows = connection.execute(_STALE_KEYS, {"live": sorted(ACTIVE), "most": limit})
    return [row[0] for row in rows]


_LOAD = f"""
SELECT a.id, a.status, a.priority, a.opened_at, a.owner_id,
       {OWNER_NAME} AS owner_name, a.hold_until, a.closed_at, a.is_test,
       a.merged_into_id, a.holds_key, a.integration_id,
       (SELECT t.id FROM alerts_alert t WHERE t.key_hash = a.key_hash AND t.holds_key AND t.id <> a.id) AS key_taken_by,
       (SELECT array_agg(c.id ORDER BY c.id) FROM alerts_alert c WHERE c.merged_into_id = a.id AND c.status = 'merged')
           AS children,
       (SELECT p.status FROM alerts_alert p WHERE p.id = a.merged_into_id) AS parent_status
FROM {WITH_OWNER}
WHERE a.id = ANY(%s)
"""

_ACKNOWLEDGED = f"""
SELECT k.alert_id, k.user_id, k.at, u.display_name AS name
FROM alerts_acknowledgement k {join_user("k.user_id")} WHERE k.alert_id = ANY(%s) ORDER BY k.at, k.id
"""

_LAST = """
SELECT DISTINCT ON (alert_id) alert_id, kind, at, actor_kind, actor_name, actor_id, data
FROM alerts_alertevent WHERE alert_id = ANY(%s) AND kind = ANY(%s) ORDER BY alert_id, id DESC
"""


def load(connection: Connection, ids: Sequence[int]) -> dict[int, AlertState]:
    """Returns the lifecycle's view of the alerts, by id. Lock them first if a decision depends on it."""
    alert_ids = list(ids)
    rows = database.rows(connection, _LOAD, (alert_ids,))
    acknowledged: dict[int, dict[int, Acknowledged]] = {}
    for row in database.rows(connection, _ACKNOWLEDGED, (alert_ids,)):
        acknowledged.setdefault(row["alert_id"], {})[row["user_id"]] = Acknowledged(row["at"], row["name"])
    last = {
        row["alert_id"]: _last(row) for row in database.rows(connection, _LAST, (alert_ids, sorted(LIFECYCLE_EVENTS)))
    }
    questions = open_questions(connection, alert_ids)
    return {
        row["id"]: AlertState(
            id=row["id"],
            status=AlertStatus(row["status"]),
            priority=Priority(row["priority"]),
            opened_at=row["opened_at"],
            owner_id=row["owner_id"],
            owner_name=row["owner_name"],
            acknowledged=acknowledged.get(row["id"], {}),
            reminded_user_ids=questions.get(row["id"], _NO_QUESTIONS).reminded_user_ids,
            awaits_acceptance=questions.get(row["id"], _NO_QUESTIONS).awaits_acceptance,
            hold_until=row["hold_until"],
            closed_at=row["closed_at"],
            merged_into=row["merged_into_id"],
            holds_key=row["holds_key"],
            key_owner_id=row["key_taken_by"],
            children=tuple(row["children"] or ()),
            is_parent_ended=row["parent_status"] in ("closed", "cancelled"),
            last_event=last.get(row["id"]),
            is_test=row["is_test"],
        )
        for row in rows
    }


def open_questions(connection: Connection, ids: Sequence[int]) -> dict[int, OpenQuestions]:
    """Returns what users were asked about the alerts and have not answered, by alert id."""
    return {key: one for lookup in QUESTION_LOOKUPS.of() for key, one in lookup(connection, ids).items()}


def correct_after_rollback(connection: Connection, ids: Iterable[int], amount: timedelta, now: datetime) -> None:
    """Shifts acknowledgement times after `now` back by `amount`, following a clock rollback. The alerts are locked."""
    connection.execute(
        "UPDATE alerts_acknowledgement SET at = at - %s WHERE alert_id = ANY(%s) AND at > %s",
        (amount, sorted(set(ids)), now),
    )


def deleted_users(connection: Connection, user_ids: Iterable[int]) -> frozenset[int]:
    """Returns those of these users whose accounts are deleted."""
    ids = frozenset(user_ids)
    return ids - load_users(connection, ids).keys()


def _last(row: Mapping[str, Any]) -> LastEvent:
    return LastEvent(
        EventKind(row["kind"]), row["at"], ActorKind(row["actor_kind"]), row["actor_name"], row["actor_id"], row["data"]
    )


_INSERT = database.literal(
    "INSERT INTO alerts_alert (id, status, priority, opened_at, last_message_at, key_hash, holds_key, source, "
    "source_name, source_id, tags, custom, integration_id, previous_alert_id, count, dry_run, is_test, group_ids, "
    f"{', '.join(SOURCE_COLUMNS)}) "
    "SELECT id, 'open', priority, opened_at, last_message_at, key_hash, holds_key, source, source_name, source_id, "
    "tags, custom, integration_id, previous_alert_id, count, dry_run, is_test, group_ids, "
    f"{', '.join(f"coalesce({name}, '')" for name in SOURCE_COLUMNS)} "
    "FROM json_to_recordset(%s) AS n(id bigint, priority text, opened_at timestamptz, last_message_at timestamptz, "
    "key_hash bytea, holds_key boolean, source text, source_name text, source_id text, tags jsonb, custom jsonb, "
    "integration_id bigint, previous_alert_id bigint, count int, dry_run boolean, is_test boolean, group_ids bigint[], "
    f"{', '.join(f'{name} text' for name in SOURCE_COLUMNS)})"
)


def insert(connection: Connection, creations: Sequence[AlertCreation], ended_ids: frozenset[int] = frozenset()) -> None:
    """Inserts new alerts in one statement. Those in `ended_ids` do not hold their key.

    msgspec writes JSON that the database unpacks: here that is cheaper than COPY, and works in a pipeline.
    """
    if creations:
        rows = [_new_row(creation, creation.alert.id not in ended_ids) for creation in creations]
        connection.execute(_INSERT, (as_json(rows),))


def _new_row(creation: AlertCreation, may_hold_key: bool) -> dict[str, object]:
    alert = creation.alert
    return {
        **alert.columns,
        "id": alert.id,
        "priority": alert.priority,
        "subject": alert.subject,
        "opened_at": alert.opened_at,
        "last_message_at": alert.last_message_at or alert.opened_at,
        "key_hash": bytes_in_json(alert.key_hash),
        "holds_key": may_hold_key and alert.key_hash is not None,
        "source": alert.source,
        "source_name": alert.source_name,
        "source_id": alert.source_id,
        "tags": alert.tags,
        "custom": alert.custom,
        "integration_id": alert.integration_id,
        "previous_alert_id": alert.previous_alert_id,
        "count": alert.count,
        "dry_run": alert.dry_run,
        "is_test": alert.is_test,
        "group_ids": (*creation.paging.recipient_groups, *alert.group_ids),
    }


def add_groups(connection: Connection, groups: Sequence[tuple[int, Sequence[int]]]) -> None:
    """Adds groups that alerts notify from now on to those to which each belongs."""
    for alert_id, group_ids in groups:
        if group_ids:
            connection.execute(
                "UPDATE alerts_alert SET group_ids = group_ids || %(groups)s::bigint[] "
                "WHERE id = %(alert)s AND NOT group_ids @> %(groups)s::bigint[]",
                {"alert": alert_id, "groups": list(group_ids)},
            )


#: The rows keep the order of the list, because a timeline is read by id.
_INSERT_EVENTS = """
INSERT INTO alerts_alertevent
  (alert_id, at, kind, actor_kind, actor_id, actor_name, via, reason, data)
SELECT * FROM json_to_recordset(%s) AS n(alert_id bigint, at timestamptz, kind text, actor_kind text, actor_id bigint,
     actor_name text, via text, reason jsonb, data jsonb)
"""


def insert_events(connection: Connection, events: Sequence[NewEvent]) -> None:
    """Appends events to their timelines, in one statement and in this order."""
    if events:
        connection.execute(_INSERT_EVENTS, (as_json([_event_row(event) for event in events]),))


def _event_row(event: NewEvent) -> dict[str, object]:
    actor = event.actor
    return {
        "alert_id": event.alert_id,
        "at": event.at,
        "kind": event.kind,
        "actor_kind": actor.kind,
        "actor_id": actor.user_id,
        "actor_name": actor.name,
        "via": event.via,
        "reason": reason_as_json(as_reason(event.reason)),
        "data": event.data,
    }


_UPDATE = """
UPDATE alerts_alert a SET status = n.status, priority = n.priority, owner_id = n.owner_id, owner_name = n.owner_name,
       hold_until = n.hold_until, closed_at = n.closed_at, merged_into_id = n.merged_into,
       holds_key = n.holds_key AND a.key_hash IS NOT NULL
FROM jsonb_to_recordset(%s) AS n(id bigint, status text, priority text, owner_id bigint, owner_name text,
     hold_until timestamptz, closed_at timestamptz, merged_into bigint, holds_key boolean)
WHERE a.id = n.id
"""


def update(connection: Connection, states: Sequence[AlertState]) -> None:
    """Writes the lifecycle's columns of changed alerts, in one statement."""
    if not states:
        return
    rows = [
        {
            "id": state.id,
            "status": state.status,
            "priority": state.priority,
            "owner_id": state.owner_id,
            # A user's name is read from the user's row.
            "owner_name": "" if state.owner_id is not None else state.owner_name,
            "hold_until": state.hold_until,
            "closed_at": state.closed_at,
            "merged_into": state.merged_into,
            "holds_key": state.holds_key,
        }
        for state in states
    ]
    connection.execute(_UPDATE, (as_json(rows),))


def update_acknowledgements(connection: Connection, pairs: Sequence[tuple[AlertState, AlertState]]) -> None:
    """Writes the difference in acknowledgements between (before, after) pairs, in at most two statements."""
    removed = [
        (after.id, user)
        for before, after in pairs
        for user, ack in before.acknowledged.items()
        if after.acknowledged.get(user) != ack
    ]
    added = [
        (after.id, user, ack.at)
        for before, after in pairs
        for user, ack in after.acknowledged.items()
        if before.acknowledged.get(user) != ack
    ]
    if removed:
        connection.execute(
            "DELETE FROM alerts_acknowledgement k USING unnest(%s::bigint[], %s::bigint[]) AS g(alert_id, user_id) "
            "WHERE k.alert_id = g.alert_id AND k.user_id = g.user_id",
            ([alert for alert, _ in removed], [user for _, user in removed]),
        )
    if added:
        connection.execute(
            "INSERT INTO alerts_acknowledgement (alert_id, user_id, at) "
            "SELECT * FROM unnest(%s::bigint[], %s::bigint[], %s::timestamptz[])",
            ([row[0] for row in added], [row[1] for row in added], [row[2] for row in added]),
        )


def move_children(connection: Connection, moves: Sequence[tuple[int, int | None]]) -> None:
    """Sets the new parent of merged alerts."""
    if moves:
        connection.execute(
            "UPDATE alerts_alert a SET merged_into_id = m.parent "
            "FROM unnest(%s::bigint[], %s::bigint[]) AS m(id, parent) WHERE a.id = m.id",
            ([child for child, _ in moves], [parent for _, parent in moves]),
        )


def count_messages(connection: Connection, repeated: Sequence[RepeatedMessages]) -> None:
    """Counts messages on their alerts and writes the changed fields, in at most two statements."""
    if not repeated:
        return
    connection.execute(
        "UPDATE alerts_alert a SET count = a.count + n.count, last_message_at = greatest(a.last_message_at, n.at) "
        "FROM unnest(%s::bigint[], %s::int[], %s::timestamptz[]) AS n(id, count, at) WHERE a.id = n.id",
        ([c.alert_id for c in repeated], [c.count for c in repeated], [c.last_message_at for c in repeated]),
    )
    changed = [{"id": c.alert_id, **c.changes} for c in repeated if c.changes]
    if changed:
        columns = (*SOURCE_COLUMNS, "tags", "custom")
        setters = ", ".join(f"{name} = coalesce(n.{name}, a.{name})" for name in columns)
        kinds = ", ".join(f"{name} {'jsonb' if name in ('tags', 'custom') else 'text'}" for name in columns)
        connection.execute(
            database.literal(
                f"UPDATE alerts_alert a SET {setters} "
                f"FROM jsonb_to_recordset(%s) AS n(id bigint, {kinds}) WHERE a.id = n.id"
            ),
            (as_json(changed),),
        )


def end_dry_run(connection: Connection, ids: Sequence[int]) -> None:
    """Ends the dry run of alerts that page from now on."""
    if ids:
        connection.execute("UPDATE alerts_alert SET dry_run = false WHERE id = ANY(%s) AND dry_run", (list(ids),))


def load_tags(connection: Connection, alert_id: int) -> dict[str, str]:
    row = connection.execute("SELECT tags FROM alerts_alert WHERE id = %s", (alert_id,)).fetchone()
    return dict(row[0]) if row is not None and isinstance(row[0], dict) else {}


def write_tags(connection: Connection, alert_id: int, tags: Mapping[str, str]) -> None:
    connection.execute("UPDATE alerts_alert SET tags = %s WHERE id = %s", (as_json(tags), alert_id))


# ---------- search index
# Keeps the texts of alerts in a separate table for searching, filled by a periodic task in the order of alert ids.
#
# Alerts not yet in it, and active alerts, whose fields still change, are searched in their own table, so that a search
# is always complete. Changed texts are updated when the changing messages are processed, or with the command.


#: An alert younger than this may have a lower-numbered neighbour whose transaction is not committed yet.
SETTLE_AFTER = timedelta(seconds=30)

_TEXTS = search_expression("a.subject", "a.client", "a.source_id", "a.tags::text")

_UNINDEXED = "alerts_alert a WHERE a.id > (SELECT coalesce(max(alert_id), 0) FROM alerts_alerttext)"

#: A condition: alerts are not in the index yet.
HAS_UNINDEXED = f"EXISTS (SELECT FROM {_UNINDEXED})"

_FILL = f"""
WITH next AS (
  SELECT a.* FROM {_UNINDEXED}
  ORDER BY a.id LIMIT %(most)s
)
INSERT INTO alerts_alerttext (alert_id, subject, client, source_id, tags)
SELECT a.id, {_TEXTS} FROM next a
WHERE a.id < coalesce((SELECT min(id) FROM next WHERE opened_at >= %(settled)s), 9223372036854775807)
ON CONFLICT DO NOTHING
"""

_OPENED = "SELECT id, opened_at FROM alerts_alert WHERE id >= %s ORDER BY id LIMIT 1"

_COMMIT_MARGIN = timedelta(hours=1)

#: Maximum ids of active alerts listed in one statement.
_MAX_LISTED_IDS = 5_000

#: Skips alerts that `fill` has not reached yet: the highest stored id says how far it is.
_REFRESH = f"""
INSERT INTO alerts_alerttext AS t (alert_id, subject, client, source_id, tags)
SELECT a.id, {_TEXTS} FROM alerts_alert a
WHERE a.id = ANY(%s) AND a.id <= (SELECT max(alert_id) FROM alerts_alerttext)
ON CONFLICT (alert_id) DO UPDATE SET subject = excluded.subject, client = excluded.client,
    source_id = excluded.source_id, tags = excluded.tags
WHERE (t.subject, t.client, t.source_id, t.tags)
    IS DISTINCT FROM (excluded.subject, excluded.client, excluded.source_id, excluded.tags)
"""


def newest_indexed_id() -> int:
    """Returns the highest alert id in the index. All lower ids are in it too."""
    newest = AlertText.objects.order_by("-pk").values_list("pk", flat=True).first()
    return newest or 0


def first_id_opened_since(connection: Connection, at: datetime) -> int:
    """Returns the smallest id that an alert opened at or after `at` can have.

    Ids are assigned in the order of creation, so this is a binary search, with an hour's margin for concurrent
    transactions.
    """
    low, high = 0, 2**63 - 1
    newest = connection.execute("SELECT max(id) FROM alerts_alert").fetchone()
    if newest is not None and newest[0] is not None:
        high = newest[0] + 1
    while low < high:
        middle = (low + high) // 2
        row = connection.execute(_OPENED, (middle,)).fetchone()
        if row is None or row[1] + _COMMIT_MARGIN >= at:
            high = middle
        else:
            low = row[0] + 1
    return low


def filter_active(rows: QuerySet[Alert], condition: Q) -> QuerySet[Alert]:
    """Filters `rows`, active alerts, by `condition`.

    The ids are queried first, without an order: with an order by id and a limit, PostgreSQL prefers to scan all alerts
    until it has found enough active ones. If very many match, that scan is short, and is used.
    """
    matching = rows.filter(condition)
    ids = list(matching.order_by().values_list("pk", flat=True)[: _MAX_LISTED_IDS + 1])
    return matching if len(ids) > _MAX_LISTED_IDS else rows.filter(pk__in=ids)


def filter_inactive(rows: QuerySet[Alert], condition: Q, index_condition: Q) -> list[QuerySet[Alert]]:
    """Filters `rows`, inactive alerts, and returns the parts of a list page.

    `index_condition` is the same condition on the index (`texts`). It applies to every alert that the index contains.
    """
    return [rows.filter(condition, pk__gt=newest_indexed_id()), rows.filter(index_condition)] if condition else [rows]


def fill(connection: Connection, now: datetime, limit: int) -> int:
    """Adds the next alerts to the index, at most `limit`. Returns their number."""
    return connection.execute(_FILL, {"most": limit, "settled": now - SETTLE_AFTER}).rowcount


def refresh(connection: Connection, alerts: Sequence[int]) -> None:
    """Updates the texts of these alerts in the index. It also adds an alert whose id was assigned long before it was
    committed, which `fill` has skipped."""
    if alerts:
        connection.execute(_REFRESH, (sorted(set(alerts)),))


# ---------- storms
# Groups alerts that look alike into one entry of a list. It changes only what is seen: every alert pages, and is
# answered, by itself.


#: Fewer are shown one by one.
MIN_STORM_ALERTS = 5
#: The longest time between the openings of two successive alerts of a storm.
STORM_GAP = timedelta(minutes=10)
#: How many alerts of a list are compared at a time, and so the most that a storm has.
MAX_STORM_ALERTS = 500

_MAX_PATTERN_CHARS = 150
_NUMBER = "[0-9]+"


class ComparedAlert(NamedTuple):
    """What an alert is compared by. A list compares ten times as many alerts as it shows, so they are no models."""

    pk: int
    integration_id: int | None
    status: str
    owner_id: int | None
    subject: str
    #: The monitored host, if the source names one.
    host: str | None
    client: str
    priority: str
    opened_at: datetime
    dry_run: bool
    is_test: bool


def pattern_sql(column: LiteralString) -> LiteralString:
    """Returns the SQL of `subject_pattern`."""
    return f"regexp_replace(left({column}, {database.literal(str(_MAX_PATTERN_CHARS))}), '{_NUMBER}', '#', 'g')"


def subject_pattern(subject: str) -> str:
    """Returns the subject with `#` for each number, by which alerts come from one source."""
    return re.sub(_NUMBER, "#", subject[:_MAX_PATTERN_CHARS])


class StormBy(StrEnum):
    """What the alerts of a storm share, besides their integration."""

    SUBJECT = "subject"
    HOST = "host"


@dataclass(frozen=True, slots=True)
class Storm:
    """Active alerts of one integration with the same pattern of subject, or about one host, each opened within
    STORM_GAP of another."""

    by: StormBy
    #: The pattern, or the host's name.
    name: str
    #: Newest first.
    alerts: Sequence[ComparedAlert]

    @property
    def lead(self) -> ComparedAlert:
        """The most urgent alert; of several the oldest, whose escalation is furthest."""
        return min(self.alerts, key=lambda alert: (Priority(alert.priority).rank, alert.pk))

    @property
    def ids(self) -> list[int]:
        return [alert.pk for alert in self.alerts]

    @property
    def clients(self) -> list[str]:
        """The clients, in the order of their names."""
        return sorted({alert.client for alert in self.alerts if alert.client})


def find_storms(alerts: Iterable[ComparedAlert]) -> list[Storm]:
    """Returns the storms among the alerts. Those that share no pattern of subject are compared by host."""
    storms: list[Storm] = []
    remaining = list(alerts)
    for by in StormBy:
        similar = _similar(remaining, by, in_one_state=True)
        storms += [storm for storm in similar if len(storm.alerts) >= MIN_STORM_ALERTS]
        grouped = {alert.pk for storm in storms for alert in storm.alerts}
        remaining = [alert for alert in remaining if alert.pk not in grouped]
    return storms


#: An entry of a list: an alert, or a storm and its lead.
type Entry = tuple[ComparedAlert, Storm | None]


def entries_of(alerts: Sequence[ComparedAlert]) -> list[Entry]:
    """Returns the entries of a list of alerts. A storm has the place of the first of its alerts."""
    # The lead is looked for once a storm, not once an alert.
    leads: list[Entry] = [(storm.lead, storm) for storm in find_storms(alerts)]
    storms = {alert.pk: entry for entry in leads if entry[1] for alert in entry[1].alerts}
    entries: dict[int, Entry] = {}
    for alert in alerts:
        entry = storms.get(alert.pk, (alert, None))
        entries[entry[0].pk] = entry
    return list(entries.values())


def first_entries(rows: QueryUnion[Alert], limit: int, *, descending: bool = True) -> tuple[list[Entry], int | None]:
    """Returns the first entries of a list, at most `limit`, and the id of the last alert that they cover, if there are
    more.

    At most MAX_STORM_ALERTS alerts are compared, so that the time does not grow with their number. A storm whose alerts
    lie among others beyond that id is an entry of the next page too.
    """
    compared = load_comparable(rows, MAX_STORM_ALERTS + 1, descending=descending)
    alerts = compared[:MAX_STORM_ALERTS]
    entries = entries_of(alerts)
    if len(entries) > limit:
        entries = entries[:limit]
        shown = {number for lead, storm in entries for number in (storm.ids if storm else [lead.pk])}
        return entries, [*takewhile(lambda alert: alert.pk in shown, alerts)][-1].pk
    return entries, alerts[-1].pk if len(compared) > MAX_STORM_ALERTS else None


def storm_of(rows: QueryUnion[Alert], by: StormBy, alert: ComparedAlert) -> Storm:
    """Returns the alerts of a list that are in one storm with `alert`, even if they have become fewer than a storm has.
    The alert itself need not be in the list any more."""
    sides = (
        load_comparable(narrow(rows, lambda part: part.filter(pk__gt=alert.pk)), MAX_STORM_ALERTS, descending=False),
        load_comparable(narrow(rows, lambda part: part.filter(pk__lte=alert.pk)), MAX_STORM_ALERTS),
    )
    listed = {one.pk: one for side in sides for one in side}
    similar = _similar({**listed, alert.pk: alert}.values(), by, in_one_state=False)
    storm = next(storm for storm in similar if alert.pk in storm.ids)
    return replace(storm, alerts=[one for one in storm.alerts if one.pk in listed][:MAX_STORM_ALERTS])


def load_comparable(rows: QueryUnion[Alert], limit: int, *, descending: bool = True) -> list[ComparedAlert]:
    """Returns the first alerts of a list, with what they are compared by."""
    host = KT("tags__component_name")
    columns: Any = narrow(rows, lambda part: part.annotate(host=host).values_list(*ComparedAlert._fields, named=True))
    return cast("list[ComparedAlert]", first(columns, limit, descending=descending))


def _similar(alerts: Iterable[ComparedAlert], by: StormBy, *, in_one_state: bool) -> Iterator[Storm]:
    """Yields the alerts that share what `by` says, of any number; `in_one_state` those of one state and owner."""
    groups: dict[tuple[str, Hashable], list[ComparedAlert]] = {}
    for alert in alerts:
        name = subject_pattern(alert.subject) if by is StormBy.SUBJECT else alert.host or ""
        # Alerts that page nobody are never hidden behind one that does, or the reverse.
        own = alert.pk if not name or alert.integration_id is None else None
        state = (alert.status, alert.owner_id) if in_one_state else ()
        shared = (alert.integration_id, alert.dry_run, alert.is_test, own, state)
        groups.setdefault((name, shared), []).append(alert)
    for (name, _shared), group in groups.items():
        group.sort(key=lambda alert: (alert.opened_at, alert.pk), reverse=True)
        begin = 0
        for end in range(1, len(group) + 1):
            if end == len(group) or group[end - 1].opened_at - group[end].opened_at > STORM_GAP:
                yield Storm(by, name, group[begin:end])
                begin = end


# ---------- user references
# Finds the active alerts that reference a user, which prevent the user's deletion.


_MAX_LISTED = 10


def alerts_using_user(user_id: int) -> list[Reason]:
    """Returns descriptions of the active alerts that the user owns or has acknowledged, oldest first."""
    condition = Q(owner=user_id) | Q(acknowledgements__user=user_id)
    active = Alert.objects.filter(condition, status__in=sorted(ACTIVE)).order_by("id").distinct()
    return [ALERT_REFERENCE(alert=AlertRef(alert_id)) for alert_id in active.values_list("pk", flat=True)[:_MAX_LISTED]]
