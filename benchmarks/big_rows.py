"""Fills Tocsin's tables for `big_tables`: alerts of a year, messages of the last 89 days, each with what belongs to it.

Rows are copies of those that a real message made, so that a new column has its real value here too."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import psycopg
from psycopg import sql

from tocsin.core.db.queries import search_expression

#: One alert in so many is live. Its number says when it was opened.
LIVE_EVERY = 250
#: One alert in so many is of low priority, has another client, and a word in its subject that no other has.
RARE_EVERY = 20_000
RARE = "zanzibar"
COMMON = "VPN"
#: Statuses of messages: one in so many, the first that fits; the others were appended.
STATUSES = {
    "Mapping Failed": 5_000,
    "Mapped Updated": 50_000,
    "Mapped Closed": 21,
    "Mapped Opened": 20,
    "Mapped Ignored": 6,
}
CHUNK = 100_000

_THINGS = (
    "VPN,Mail,Disk,Backup,Printer,Switch,Router,Database,Login,Licence,Certificate,Camera,Phone,Share,Firewall,Ticket"
)
_TROUBLES = "is down,is slow,is full,failed,does not answer,has expired,was refused,runs hot,has lost its link"
_PLACES = "Zürich,Berne,Basel,Geneva,Lugano,Lausanne,Chur,Sion,Aarau,Zug"
_CLIENTS = "Acme Corp,Globex,Initech,Umbrella,Hooli,Stark,Wayne,Tyrell,Cyberdyne,Wonka"


@dataclass(frozen=True, slots=True)
class Pattern:
    """What a real message of one integration made: the rows that are copied."""

    message: str
    alert: int


def fill(connection: psycopg.Connection, pattern: Pattern, alerts: int, messages: int) -> dict[str, float]:
    """Adds so many alerts and messages, and brings the database's knowledge of its tables up to date.

    Returns the seconds that each took. The larger indexes are made anew at the end, which is quicker.
    """
    took = {}
    tables = (
        "inbound_inboundmessage", "inbound_messagetext", "inbound_processeddelivery", "alerts_alert",
        "alerts_alerttext", "alerts_alertevent", "escalation_run",
    )  # fmt: skip
    started_at = time.monotonic()
    indexes = _drop_indexes(connection, tables)
    first = _alerts(connection, pattern, alerts)
    took["alerts s"] = time.monotonic() - started_at
    started_at = time.monotonic()
    now = datetime.now(UTC)
    for begin in range(1, messages + 1, CHUNK):
        _messages(connection, pattern, (begin, min(messages, begin + CHUNK - 1)), messages, first, alerts, now)
    took["messages s"] = time.monotonic() - started_at
    started_at = time.monotonic()
    connection.execute(_WORDS_OF_ALERTS)
    connection.execute(_WORDS_OF_MESSAGES)
    took["words s"] = time.monotonic() - started_at
    started_at = time.monotonic()
    connection.execute("SET maintenance_work_mem = '512MB'")
    for index in indexes:
        connection.execute(index)
    connection.execute("VACUUM ANALYZE")
    connection.execute("CHECKPOINT")
    took["indexes s"] = time.monotonic() - started_at
    return took


#: What a loop does, 500 rows a second.
_WORDS_OF_ALERTS = (
    "INSERT INTO alerts_alerttext (alert_id, subject, client, source_id, tags) "
    f"SELECT id, {search_expression('subject', 'client', 'source_id', 'tags::text')} FROM alerts_alert ORDER BY id "
    "ON CONFLICT DO NOTHING"
)
_WORDS_OF_MESSAGES = (
    "INSERT INTO inbound_messagetext (message_id, subject, source_id) "
    f"SELECT id, {search_expression('subject', 'source_id')} FROM inbound_inboundmessage ORDER BY id "
    "ON CONFLICT DO NOTHING"
)


def _drop_indexes(connection: psycopg.Connection, tables: tuple[str, ...]) -> list[sql.SQL]:
    """Drops the tables' indexes of all rows that guard nothing; returns the statements that make them again.

    The others stay: loops ask for what is open by them, each second.
    """
    results = connection.execute(
        "SELECT i.indexname, i.indexdef FROM pg_indexes i WHERE i.tablename = ANY(%s) AND i.schemaname = 'public' "
        "AND i.indexdef NOT LIKE 'CREATE UNIQUE%%' AND i.indexdef NOT LIKE '%% WHERE %%'",
        (list(tables),),
    ).fetchall()
    for name, _ in results:
        connection.execute(sql.SQL("DROP INDEX {}").format(sql.Identifier(name)))
    return [sql.SQL(definition) for _, definition in results]


def _copies(
    connection: psycopg.Connection,
    table: str,
    where: str,
    source: str,
    changed: Mapping[str, str],
    values: dict[str, object],
) -> None:
    """Inserts, for each row `n` of `source`, a copy of the row of `table` at `where` with some columns changed."""
    columns = [
        row[0]
        for row in connection.execute(
            "SELECT column_name FROM information_schema.columns WHERE table_name = %s AND identity_generation IS NULL "
            "ORDER BY ordinal_position",
            (table,),
        )
    ]
    columns += [name for name in changed if name not in columns]
    chosen = ", ".join(changed.get(name, f't."{name}"') for name in columns)
    names = ", ".join(f'"{name}"' for name in columns)
    connection.execute(
        f"INSERT INTO {table} ({names}) OVERRIDING SYSTEM VALUE SELECT {chosen} "
        f"FROM (SELECT * FROM {table} WHERE {where} LIMIT 1) t CROSS JOIN {source}",
        values,
    )


def _pick(words: str, place: str) -> str:
    """SQL of one of the words, by a number that looks like chance but is the same in every run."""
    number = len(words.split(","))
    return f"(string_to_array('{words}', ','))[1 + (hashint8({place}::bigint) & 1048575) %% {number}]"


def _subject(place: str) -> str:
    """SQL of the subject of the alert whose place is `place`."""
    return (
        f"CASE WHEN {place} %% {RARE_EVERY} = 77 THEN '{RARE} {RARE}-' || {place} || ': ' ELSE '' END || "
        f"{_pick(_PLACES, place + ' * 7')} || ': ' || {_pick(_THINGS, place + ' * 11')} || ' of host-' || "
        f"{place} %% 5000 || ' ' || {_pick(_TROUBLES, place + ' * 13')} || ' for ' || 1 + {place} %% 90 || "
        f"' users, room ' || {place} %% 777"
    )


def _alerts(connection: psycopg.Connection, pattern: Pattern, number: int) -> int:
    """The alerts, with their events and runs. Returns the number before the first."""
    results = connection.execute(
        "SELECT setval(pg_get_serial_sequence('alerts_alert', 'id'), max(id) + %s) - %s FROM alerts_alert",
        (number, number),
    ).fetchone()
    assert results is not None
    first = int(results[0])
    values: dict[str, object] = {"first": first, "all": number, "alert": pattern.alert}
    lives = f"n %% {LIVE_EVERY} = 0"
    opened = "now() - interval '365 days' * (1 - n::float / %(all)s)"
    series = "generate_series(1, %(all)s::int) AS n"
    _copies(
        connection,
        "alerts_alert",
        "id = %(alert)s",
        series,
        {
            "id": "%(first)s::bigint + n",
            "status": f"CASE WHEN {lives} THEN 'open' WHEN n %% 40 = 7 THEN 'cancelled' ELSE 'closed' END",
            "priority": f"CASE WHEN n %% {RARE_EVERY} = 77 THEN 'low' ELSE "
            "(ARRAY['critical','high','medium'])[1 + n %% 3] END",
            "subject": _subject("n"),
            "source_id": "(1000000 + n)::text",
            "client": f"CASE WHEN n %% {RARE_EVERY} = 77 THEN 'Rarely Ltd' ELSE {_pick(_CLIENTS, 'n * 17')} END",
            "tags": "jsonb_build_object('site', 'rack-' || n %% 2000)",
            "integration_id": "(SELECT array_agg(id ORDER BY id) FROM inbound_integration)"
            "[1 + n %% (SELECT count(*) FROM inbound_integration)]",
            "key_hash": "sha256(n::text::bytea)",
            "holds_key": lives,
            "opened_at": opened,
            "last_message_at": opened,
            "closed_at": f"CASE WHEN NOT {lives} THEN {opened} + interval '40 minutes' END",
        },
        values,
    )
    _copies(
        connection,
        "escalation_run",
        "alert_id = %(alert)s",
        series,
        {
            "id": "nextval(pg_get_serial_sequence('escalation_run', 'id'))",
            "alert_id": "%(first)s::bigint + n",
            "status": f"CASE WHEN {lives} THEN t.status ELSE 'ended' END",
            "due_at": f"CASE WHEN {lives} THEN now() + interval '300 days' END",
            "progress": "t.progress || jsonb_build_object('step_due_at', now() + interval '300 days')",
            "started_at": opened,
        },
        values,
    )
    event = {
        "id": "nextval(pg_get_serial_sequence('alerts_alertevent', 'id'))",
        "alert_id": "%(first)s::bigint + n",
        "at": opened,
    }
    _copies(connection, "alerts_alertevent", "alert_id = %(alert)s AND kind = 'opened'", series, event, values)
    closed = {**event, "kind": "'closed'", "at": f"{opened} + interval '40 minutes'", "data": "'{}'"}
    over = f"{series} WHERE NOT {lives}"
    _copies(connection, "alerts_alertevent", "alert_id = %(alert)s AND kind = 'opened'", over, closed, values)
    return first


def _messages(
    connection: psycopg.Connection,
    pattern: Pattern,
    part: tuple[int, int],
    number: int,
    first: int,
    alerts: int,
    now: datetime,
) -> None:
    """Messages number `part`, with their deliveries: in the order of their times, of the alerts of the last 89 days."""
    of_days = max(1, alerts * 89 // 365)
    at = "date_trunc('milliseconds', %(now)s::timestamptz - interval '89 days' * (1 - n::float / %(all)s))"
    stamp = f"lpad(to_hex((extract(epoch FROM {at}) * 1000)::bigint), 12, '0')"
    made = f"({stamp} || '7' || lpad(to_hex(n %% 4096), 3, '0') || '8' || substr(md5(n::text), 1, 15))::uuid"
    whose = f"(%(alerts)s::int - {of_days} + (n::bigint * {of_days} / %(all)s))"
    status = "CASE " + " ".join(f"WHEN n %% {every} = 3 THEN '{name}'" for name, every in STATUSES.items())
    values: dict[str, object] = {
        "message": pattern.message, "all": number, "first": first, "alerts": alerts, "begin": part[0], "end": part[1],
        "now": now,
    }  # fmt: skip
    source = "(SELECT n, " + whose + " AS whose FROM generate_series(%(begin)s::int, %(end)s::int) AS n) AS numbers"
    _copies(
        connection,
        "inbound_inboundmessage",
        "id = %(message)s",
        source,
        {
            "id": made,
            "received_at": at,
            "status": f"{status} ELSE 'Mapped Appended' END",
            "subject": _subject("whose"),
            "source_id": "(1000000 + whose)::text",
            "integration_id": "(SELECT array_agg(id ORDER BY id) FROM inbound_integration)"
            "[1 + whose %% (SELECT count(*) FROM inbound_integration)]",
            "alert_id": f"CASE WHEN n %% {STATUSES['Mapped Ignored']} <> 3 THEN %(first)s::bigint + whose END",
            # Everything but the number of the ticket and the end of its details is the same: as long as a real one.
            "raw": "t.raw || convert_to(lpad(n::text, 12), 'UTF8')",
        },
        values,
    )
    connection.execute(
        f"INSERT INTO inbound_processeddelivery (integration_id, hash, message) SELECT "
        f"(SELECT min(id) FROM inbound_integration), sha256(n::text::bytea), {made} FROM {source}",
        values,
    )
    if part[0] == 1:
        connection.execute(
            f"INSERT INTO inbound_dedupkey (key_hash, latest_source_time, last_alert, touched_at) "
            f"SELECT sha256(n::text::bytea), %(now)s, %(first)s::bigint + n, %(now)s - interval '89 days' * random() "
            f"FROM generate_series(%(alerts)s::int - {of_days} + 1, %(alerts)s::int) AS n ON CONFLICT DO NOTHING",
            values,
        )
