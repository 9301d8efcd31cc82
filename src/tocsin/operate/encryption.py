"""Encrypted columns, and their re-encryption with a new secret key."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from psycopg import errors, sql

from tocsin.core.config import crypto, environment
from tocsin.core.config.crypto import reencrypt
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.errors import Rejected
from tocsin.core.reasons import Reason, Term, sentence
from tocsin.operate import node_heartbeat
from tocsin.operate.backup import archive

# ---------- columns
# The registry of all columns with encrypted values.
#
# Values in a column that is not listed are lost when the old secret key is retired; a test finds missing columns.


@dataclass(frozen=True, slots=True)
class Column:
    """One column, and a label for its values."""

    table: str
    column: str
    label: Term
    is_json: bool = False


COLUMNS: tuple[Column, ...] = (
    Column("core_setting", "value", Term("settings"), is_json=True),
    Column("inbound_integration", "token", Term("integrations")),
    Column("inbound_integration", "credentials", Term("integrations")),
    Column("notify_provider", "secrets", Term("providers")),
    Column("outbound_outboundintegration", "secrets", Term("outbound integrations")),
    Column("identity_identityprovider", "client_secret", Term("identity providers")),
    Column("access_auditforwarding", "secret", Term("audit log")),
    Column("oncall_schedule", "definition", Term("schedules"), is_json=True),
    Column("oncall_calendarimport", "url", Term("schedules")),
    Column("people_contactmethod", "address", Term("contact methods")),
    Column("people_groupcontact", "address", Term("contact methods")),
    Column("mfa_authenticator", "data", Term("second factors"), is_json=True),
    Column("notify_pushkey", "private", Term("push devices")),
    Column("notify_pushdevice", "subscription", Term("push devices")),
    Column("configure_importrun", "configuration", Term("imports")),
    Column("notify_verificationcode", "address", Term("notifications")),
    Column("notify_notification", "address", Term("notifications")),
    Column("notify_notification", "data", Term("notifications"), is_json=True),
    Column("notify_delivery", "address", Term("notifications")),
    Column("notify_lastsent", "address", Term("notifications")),
    Column("notify_optout", "address", Term("notifications")),
    Column("notify_sandboxmessage", "address", Term("sandbox messages")),
)


# ---------- key file
# The secret keys in the data directory: adds a new one for a rotation, and removes old ones afterwards.


def begin_rotation() -> bool:
    """Makes sure that there is a new key to rotate to. Returns True if it created one in the data directory.

    Several keys mean that a rotation is in progress, which then continues. Raises Rejected if `TOCSIN_SECRET_KEY` has
    only one key.
    """
    settings = environment.current()
    if len(crypto.secret_keys()) > 1:
        return False
    if settings.secret_keys:
        raise Rejected(
            "no_new_key",
            sentence(
                "TOCSIN_SECRET_KEY contains only one key. Add a new one in front of it, separated by a comma, "
                "restart Tocsin on every machine, and run this command with the same variable."
            ),
        )
    archive.write_keys(settings.data_dir, [secrets.token_urlsafe(32), *crypto.secret_keys()])
    return True


def retire() -> int:
    """Removes all keys but the newest from the data directory. Returns the number of removed keys.

    The caller makes sure that nothing needs them. Raises Rejected if the keys come from `TOCSIN_SECRET_KEY`.
    """
    settings = environment.current()
    if settings.secret_keys:
        raise Rejected(
            "keys_elsewhere",
            sentence("The keys are in TOCSIN_SECRET_KEY. Keep only its first key, and restart Tocsin."),
        )
    newest, *old = crypto.secret_keys()
    if old:
        archive.write_keys(settings.data_dir, [newest])
    return len(old)


# ---------- rotation
# Re-encrypts stored values with the newest secret key, in short transactions while the server is running.
#
# Each value identifies its own key, so an interrupted run simply continues. Chooses no keys.


#: Table pages (8 KiB each) processed per transaction.
PAGES = 128

#: The maximum number of passes; rows locked by others are left to the next pass.
MAX_PASSES = 5


@dataclass(frozen=True, slots=True)
class Progress:
    """The state after one transaction: position in the column, and number of re-encrypted values."""

    column: Column
    page: int
    pages: int
    values: int


@dataclass(frozen=True, slots=True)
class Remaining:
    """The number of values under an older key, and of undecryptable values, by label."""

    old: Mapping[str, int] = field(default_factory=dict)
    unreadable: Mapping[str, int] = field(default_factory=dict)

    @property
    def old_values(self) -> tuple[Reason, ...]:
        """The values under an older key, such as "3 of contact methods"."""
        return tuple(
            sentence("{number} of {label}", number=number, label=Term(label)) for label, number in self.old.items()
        )


def nodes_without_newest_key(connection: Connection) -> list[str]:
    """The names of running nodes that do not know the newest key."""
    newest = crypto.fingerprints()[0]
    return [node.name for node in node_heartbeat.load_nodes(connection) if node.is_alive and newest not in node.keys]


def rotate() -> Iterator[Progress]:
    """Re-encrypts everything, with one transaction per yielded item."""
    for _ in range(MAX_PASSES):
        for column in COLUMNS:
            yield from _rotate_column(column)
        with database.transaction() as connection:
            if not count(connection).old:
                return


def count(connection: Connection) -> Remaining:
    """Counts the values not under the newest key. Reads every encrypted value."""
    old: Counter[str] = Counter()
    unreadable: Counter[str] = Counter()
    connection.execute("SET LOCAL statement_timeout = '10min'")
    for column in COLUMNS:
        query = sql.SQL("SELECT {0}::text, count(*) FROM {1} WHERE {2} GROUP BY 1").format(*_names(column))
        for text, row_count in connection.execute(query):
            result = reencrypt(text)
            old[column.label.text] += row_count * result.old
            unreadable[column.label.text] += row_count * result.unreadable
    return Remaining(dict(+old), dict(+unreadable))


def _rotate_column(column: Column) -> Iterator[Progress]:
    with database.transaction() as connection:
        row = connection.execute("SELECT pg_relation_size(%s::regclass) / 8192", (column.table,)).fetchone()
    pages = int(row[0]) if row else 0
    for first_page in range(0, pages, PAGES):
        with database.transaction() as connection:
            values = _rotate_pages(connection, column, first_page, first_page + PAGES)
        yield Progress(column, min(first_page + PAGES, pages), pages, values)


def _rotate_pages(connection: Connection, column: Column, first_page: int, end_page: int) -> int:
    name, table, condition = _names(column)
    # Skips rows locked by the running server: waiting for them could deadlock.
    query = sql.SQL(
        "SELECT ctid::text, {0}::text FROM {1} WHERE ctid >= %s::tid AND ctid < %s::tid AND {2} FOR UPDATE SKIP LOCKED"
    ).format(name, table, condition)
    change = sql.SQL("UPDATE {1} SET {0} = %s::{2} WHERE ctid = %s::tid").format(
        name, table, sql.SQL("jsonb" if column.is_json else "text")
    )
    values = 0
    for row_address, text in connection.execute(query, (f"({first_page},0)", f"({end_page},0)")).fetchall():
        result = reencrypt(text)
        if not result.old:
            continue
        values += result.old
        try:
            with connection.transaction():
                connection.execute(change, (result.text, row_address))
        except errors.UniqueViolation:
            # Meanwhile the same address was written under the new key: one row is enough.
            connection.execute(sql.SQL("DELETE FROM {} WHERE ctid = %s::tid").format(table), (row_address,))
    return values


def _names(column: Column) -> tuple[sql.Identifier, sql.Identifier, sql.Composed]:
    name, table = sql.Identifier(column.column), sql.Identifier(column.table)
    return name, table, sql.SQL("({0}::text LIKE '%%gAAAAA%%' OR {0}::text LIKE '%%sealed:%%')").format(name)
