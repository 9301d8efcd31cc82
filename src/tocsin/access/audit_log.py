"""The audit log as data: its hash chain, its export, and its forwarding. Imports nothing that records entries."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, LiteralString

from django.db import connection as django_connection

from tocsin.access.models import AuditEntry
from tocsin.core.config import crypto, settings_store
from tocsin.core.config.crypto import ForwardingTarget, Transport
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.errors import Permanent, Temporary
from tocsin.core.net import egress
from tocsin.core.reasons import Reason, Text, reason_from_json
from tocsin.core.runtime import clock
from tocsin.core.runtime.periodic_tasks import PeriodicTask
from tocsin.core.validation import inputs

# ---------- chain
# The hash chain of the audit log: each entry's hash covers its values and the previous hash. Pure.
#
# What may name a person is covered by a salted hash of its own. Erasing a person replaces these values and forgets the
# salt, so the chain stays whole and nobody can guess the erased values from the hash. An entry `erase` of the log
# names each erased entry with the hash of what is left of it.


#: The previous hash of the first entry.
GENESIS = bytes(32)

SALT_BYTES = 16


@dataclass(frozen=True, slots=True)
class ChainEntry:
    """The columns of an entry that the chain covers. `before` and `after` are the texts of jsonb."""

    id: int
    at: datetime
    actor_id: int | None
    actor_name: str
    action: str
    object_type: str
    object_id: str
    object_name: str
    group_id: int | None
    before: str | None
    after: str | None
    via: str
    address: str | None


@dataclass(frozen=True, slots=True)
class Link:
    """The place of an entry in the chain. `salt` is None once the entry was erased."""

    sequence: int
    hash: bytes
    content_hash: bytes
    salt: bytes | None


class Damage(StrEnum):
    """What is wrong with an entry of the chain."""

    MISSING = "missing"
    CHANGED = "changed"
    ERASED = "erased"


@dataclass(frozen=True, slots=True)
class BrokenLink:
    """The first place at which the chain is broken. `entry_id` is None for a missing entry."""

    sequence: int
    entry_id: int | None
    damage: Damage


def erased_digest(entry: ChainEntry) -> str:
    """Returns the hash, in hex, of what an erasure left of an entry's content."""
    return hashlib.sha256(_content(entry)).hexdigest()


def find_damage(
    entry: ChainEntry, link: Link, sequence: int, previous_hash: bytes, erased: Mapping[int, str]
) -> BrokenLink | None:
    """Returns what is wrong with the entry that should have `sequence`; None if nothing is.

    `erased` has the digest of each erased entry, by its id.
    """
    if link.sequence != sequence:
        return BrokenLink(sequence, None, Damage.MISSING)
    if _hash(entry, sequence, previous_hash, link.content_hash) != link.hash:
        return BrokenLink(sequence, entry.id, Damage.CHANGED)
    if link.salt is None:
        is_recorded = erased.get(entry.id) == erased_digest(entry)
        return None if is_recorded else BrokenLink(sequence, entry.id, Damage.ERASED)
    if hashlib.sha256(link.salt + _content(entry)).digest() != link.content_hash:
        return BrokenLink(sequence, entry.id, Damage.CHANGED)
    return None


def _hash(entry: ChainEntry, sequence: int, previous_hash: bytes, content_hash: bytes) -> bytes:
    at = entry.at.astimezone(UTC).isoformat(timespec="microseconds")
    values = (
        sequence, entry.id, at, entry.actor_id, entry.action, entry.object_type, entry.object_id, entry.group_id,
        entry.via, content_hash.hex(),
    )  # fmt: skip
    return hashlib.sha256(previous_hash + _canonical(values)).digest()


def _content(entry: ChainEntry) -> bytes:
    return _canonical((entry.actor_name, entry.object_name, entry.before, entry.after, entry.address))


def _canonical(values: tuple[object, ...]) -> bytes:
    return json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode()


# ---------- links
# Links the entries of the audit log to a hash chain, verifies it, and deletes the oldest entries of it.
#
# A periodic task links entries a moment after their commit. A lock until the end of each transaction that records
# would make sign-ins wait for configuration changes, and both for each other; and only committed entries, in one
# order, let a cursor follow the log (`access.audit_log`). Database triggers refuse every other change of an
# entry.


#: Entries linked in one transaction.
BATCH = 500

#: Entries verified at once: a log of so many as a whole, a larger one in slices, round after round.
MAX_VERIFIED = 50_000

#: Entries that the task verifies, and how often: a million in half a day.
_VERIFIED_BY_TASK = 1_500
VERIFY_INTERVAL = timedelta(minutes=1)

#: How often the task looks for new entries.
LINK_INTERVAL = timedelta(seconds=2)

#: The action of an entry that names erased entries.
ERASE = "erase"

#: Tells the database's triggers why entries are changed, for the rest of the transaction.
_PURPOSE = "SELECT set_config('tocsin.audit_change', %s, true)"

_COLUMNS: LiteralString = (
    "id, at, actor_id, actor_name, action, object_type, object_id, object_name, group_id, before::text, after::text, "
    "via, host(address)"
)
_ANY_NEW = "EXISTS (SELECT FROM access_auditentry WHERE sequence IS NULL)"
_NEW = f"SELECT {_COLUMNS} FROM access_auditentry WHERE sequence IS NULL ORDER BY id LIMIT %s FOR UPDATE"
_LINK = "UPDATE access_auditentry SET sequence = %s, hash = %s, content_hash = %s, salt = %s WHERE id = %s"
_CREATE_STATE = """
INSERT INTO access_auditchain (id, head, head_hash, anchor, anchor_hash) VALUES (1, 0, %s, 0, %s) ON CONFLICT DO NOTHING
"""
_STATE = "SELECT head, head_hash, anchor, anchor_hash FROM access_auditchain WHERE id = 1"
_VERIFY_STATE = """
SELECT head, head_hash, anchor, anchor_hash, verified, verified_hash FROM access_auditchain WHERE id = 1
"""
_LINKED = f"""
SELECT {_COLUMNS}, sequence, hash, content_hash, salt FROM access_auditentry
WHERE sequence > %s ORDER BY sequence LIMIT %s
"""
# Also those that are not linked yet: an erasure and its entry are committed together.
_ERASURES = f"SELECT after FROM access_auditentry WHERE action = '{ERASE}' ORDER BY id"

# Only the beginning of the chain: what comes after an entry that is kept is kept as well.
_LAST_EXPIRED = """
SELECT sequence, hash FROM (
  SELECT sequence, hash, bool_and(at < %s) OVER (ORDER BY sequence) AS is_expired
  FROM (
    SELECT sequence, hash, at FROM access_auditentry WHERE sequence IS NOT NULL ORDER BY sequence LIMIT %s
  ) AS oldest
) AS judged WHERE is_expired ORDER BY sequence DESC LIMIT 1
"""


def link_new() -> bool:
    """Links a batch of new entries. Returns whether there may be more."""
    with database.transaction() as connection:
        if connection.execute(f"SELECT WHERE {_ANY_NEW}").fetchone() is None:
            return False
        head, head_hash, *_anchor = _lock_state(connection)
        rows = connection.execute(_NEW, (BATCH,)).fetchall()
        connection.execute(_PURPOSE, ("link",))
        links = []
        for row in rows:
            entry, salt, head = ChainEntry(*row), secrets.token_bytes(SALT_BYTES), head + 1
            content_hash = hashlib.sha256(salt + _content(entry)).digest()
            head_hash = _hash(entry, head, head_hash, content_hash)
            links.append((head, head_hash, content_hash, salt, entry.id))
        with connection.cursor() as cursor:
            cursor.executemany(_LINK, links)
        connection.execute("UPDATE access_auditchain SET head = %s, head_hash = %s WHERE id = 1", (head, head_hash))
    return len(rows) == BATCH


def delete_before(before: datetime, chunk: int) -> int:
    """Deletes at most `chunk` of the oldest entries, if they are older than `before`, and returns their number.

    The hash of the last one remains as the anchor of the chain.
    """
    with database.transaction() as connection:
        _lock_state(connection)
        last = connection.execute(_LAST_EXPIRED, (before, chunk)).fetchone()
        if last is None:
            return 0
        connection.execute(_PURPOSE, ("retention",))
        deleted = connection.execute("DELETE FROM access_auditentry WHERE sequence <= %s", (last[0],)).rowcount
        connection.execute("UPDATE access_auditchain SET anchor = %s, anchor_hash = %s WHERE id = 1", tuple(last))
    return deleted


def find_broken_link(connection: Connection, *, limit: int = MAX_VERIFIED, chunk: int = 5_000) -> BrokenLink | None:
    """Returns the first place at which the chain is broken; None if there is none.

    Reads the whole log if it has at most `limit` entries; of a larger one, as many as follow the last one that
    `verify_next` has verified.
    """
    return _verify(connection, limit, chunk)[0]


def verify_next(*, limit: int = _VERIFIED_BY_TASK) -> bool:
    """Verifies the next slice of the chain, and begins again at its end. Stays before a broken place, so that
    `find_broken_link` finds it. Returns False: there is time until the next slice."""
    with database.transaction() as connection:
        broken, *verified = _verify(connection, limit, limit)
        if broken is None:
            connection.execute("UPDATE access_auditchain SET verified = %s, verified_hash = %s WHERE id = 1", verified)
    return False


def _verify(connection: Connection, limit: int, chunk: int) -> tuple[BrokenLink | None, int, bytes]:
    """Returns what is broken, and the last entry that is not, with its hash."""
    state = connection.execute(_VERIFY_STATE).fetchone()
    if state is None:
        return None, 0, GENESIS
    head, head_hash, sequence, previous_hash, verified, verified_hash = state
    if head - sequence > limit and sequence < verified < head:
        sequence, previous_hash = verified, verified_hash
    end = sequence + limit
    erasures = [row[0] or {} for row in connection.execute(_ERASURES).fetchall()]
    erased = {int(number): digest for state in erasures for number, digest in state.get("entries", {}).items()}
    for entry, link in _linked(connection, sequence, chunk):
        # Later ones were linked since the state was read.
        if sequence == min(head, end):
            break
        if broken := find_damage(entry, link, sequence + 1, bytes(previous_hash), erased):
            return broken, sequence, bytes(previous_hash)
        sequence, previous_hash = link.sequence, link.hash
    if sequence < min(head, end) or (sequence == head and bytes(previous_hash) != bytes(head_hash)):
        return BrokenLink(sequence + 1, None, Damage.MISSING), sequence, bytes(previous_hash)
    return None, sequence, bytes(previous_hash)


def unlinked_since(connection: Connection) -> datetime | None:
    """Returns the time of the oldest entry that is not linked yet."""
    row = connection.execute("SELECT min(at) FROM access_auditentry WHERE sequence IS NULL").fetchone()
    return row[0] if row else None


def change_for_erasure(statement: str, parameters: Sequence[Any]) -> None:
    """Runs an UPDATE of entries that erases a person, on Django's connection, in the caller's transaction."""
    with django_connection.cursor() as cursor:
        cursor.execute(_PURPOSE, ("erasure",))
        cursor.execute(statement, parameters)
        cursor.execute(_PURPOSE, ("",))


def digests_after_erasure(ids: Sequence[int]) -> dict[str, str]:
    """Returns the digest of what is left of each erased entry, by its id, on Django's connection."""
    with django_connection.cursor() as cursor:
        cursor.execute(f"SELECT {_COLUMNS} FROM access_auditentry WHERE id = ANY(%s) ORDER BY id", (list(ids),))
        return {str(row[0]): erased_digest(ChainEntry(*row)) for row in cursor.fetchall()}


def _lock_state(connection: Connection) -> tuple[Any, ...]:
    connection.execute(_CREATE_STATE, (GENESIS, GENESIS))
    row = connection.execute(f"{_STATE} FOR UPDATE").fetchone()
    assert row is not None
    head, head_hash, anchor, anchor_hash = row
    return head, bytes(head_hash), anchor, bytes(anchor_hash)


def _linked(connection: Connection, after: int, chunk: int) -> Iterator[tuple[ChainEntry, Link]]:
    """Yields the linked entries in their order."""
    while rows := connection.execute(_LINKED, (after, chunk)).fetchall():
        for row in rows:
            *values, sequence, hashed, content_hash, salt = row
            link = Link(sequence, bytes(hashed), bytes(content_hash), None if salt is None else bytes(salt))
            yield ChainEntry(*values), link
        after = rows[-1][-4]


# ---------- syslog
# Sends entries by syslog (RFC 5424): over TLS (RFC 5425), TCP with octet counting (RFC 6587), or UDP (RFC 5426).


#: Facility 13, "log audit", with the severities notice and warning.
_NOTICE, _WARNING = 13 * 8 + 5, 13 * 8 + 4

#: Actions that a SIEM may want to raise an alarm for.
_WARNINGS = frozenset({"sign_in_failed", "refused"})

#: The largest datagram. Receivers should accept 2,048 bytes, and common ones accept 8 KiB.
_MAX_DATAGRAM_BYTES = 8_192

#: In seconds: for connecting, for each write, and for the receiver to close the connection at the end of a batch.
_TIMEOUT = 5.0

_BROKEN = Text("{host} closed the connection: {error}.")


def format_message(fields: Mapping[str, Any], host_name: str) -> bytes:
    """Returns an entry as an RFC 5424 message: its fields as JSON in ASCII, its sequence also as `meta sequenceId`."""
    priority = _WARNING if fields["action"] in _WARNINGS else _NOTICE
    at = datetime.fromisoformat(str(fields["at"])).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    # A message id has no spaces and at most 32 characters; `sequenceId` ends at 2^31 - 1.
    action = "".join(c for c in str(fields["action"]) if "!" <= c <= "~")[:32] or "-"
    sequence = (int(fields["sequence"]) - 1) % 2_147_483_647 + 1
    body = json.dumps(fields, ensure_ascii=True, separators=(",", ":"))
    return f'<{priority}>1 {at} {host_name} tocsin - {action} [meta sequenceId="{sequence}"] {body}'.encode("ascii")


def send(target: ForwardingTarget, entries: Sequence[Mapping[str, Any]], host_name: str) -> None:
    """Sends the entries in their order. Raises Temporary, or Permanent for a private address that is not allowed."""
    if target.transport is Transport.UDP:
        _send_datagrams(target, (_datagram(fields, host_name) for fields in entries))
    else:
        _send_stream(target, [format_message(fields, host_name) for fields in entries])


def _datagram(fields: Mapping[str, Any], host_name: str) -> bytes:
    message = format_message(fields, host_name)
    if len(message) <= _MAX_DATAGRAM_BYTES:
        return message
    return format_message({**fields, "before": None, "after": None, "is_truncated": True}, host_name)


def _send_datagrams(target: ForwardingTarget, messages: Iterable[bytes]) -> None:
    family, address = egress.resolve(target.host, target.port)[0]
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as connection:
            connection.connect((address, target.port))
            for message in messages:
                connection.send(message)
    except OSError as error:
        raise Temporary(_BROKEN(host=target.host, error=str(error))) from None


def _send_stream(target: ForwardingTarget, messages: Sequence[bytes]) -> None:
    connection = egress.connect(target.host, target.port, _TIMEOUT)
    try:
        with connection:
            if target.transport is Transport.TLS:
                connection = egress.tls_context().wrap_socket(connection, server_hostname=target.host)
            with connection:
                connection.settimeout(_TIMEOUT)
                for message in messages:
                    connection.sendall(b"%d %b" % (len(message), message))
                _wait_for_end(connection)
    except OSError as error:
        raise Temporary(_BROKEN(host=target.host, error=str(error))) from None


def _wait_for_end(connection: socket.socket) -> None:
    """Ends the stream and waits until the receiver does, too: syslog has no other sign that all of it was read.

    A receiver that keeps its side open has not refused anything. A reset raises OSError, and the batch is sent again.
    """
    connection.shutdown(socket.SHUT_WR)
    try:
        while connection.recv(4096):
            pass
    except TimeoutError:
        return


# ---------- export
# Writes entries of the audit log for other programs: as fields of the API, CSV and JSON lines.


_FIELDS = ("action", "object_type", "object_id", "object_name", "before", "after", "via")


class ExportFormat(StrEnum):
    """The file formats, named by their suffix."""

    CSV = "csv"
    JSON_LINES = "jsonl"

    @property
    def content_type(self) -> str:
        """The media type of the file."""
        return "text/csv; charset=utf-8" if self is ExportFormat.CSV else "application/jsonl; charset=utf-8"


def entry_fields(entry: AuditEntry, *, with_address: bool) -> dict[str, Any]:
    """Returns the fields of an entry, with the IP address of the actor if `with_address`."""
    return {
        "id": entry.pk,
        "at": entry.at,
        "actor": entry.actor_name,
        **{name: getattr(entry, name) for name in _FIELDS},
        "address": entry.address if with_address else None,
        "sequence": entry.sequence,
        "hash": None if entry.hash is None else bytes(entry.hash).hex(),
    }


def export(entries: Iterable[AuditEntry], file_format: ExportFormat, *, with_address: bool) -> Iterator[str]:
    """Yields the file in parts. In CSV, `before` and `after` are JSON."""
    if file_format is ExportFormat.CSV:
        yield inputs.write_csv([["id", "at", "actor", *_FIELDS, "address", "sequence", "hash"]])
    for entry in entries:
        fields = entry_fields(entry, with_address=with_address) | {"at": entry.at.isoformat()}
        if file_format is ExportFormat.CSV:
            states = {name: None if (state := fields[name]) is None else _json(state) for name in ("before", "after")}
            yield inputs.write_csv([(fields | states).values()])
        else:
            yield _json(fields) + "\n"


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


# ---------- forwarding
# Forwards the audit log to the setting `audit_forwarding`, in order and at least once.
#
# A cursor follows the hash chain, so that an entry which commits late is never skipped. One worker sends at a time: it
# leases the cursor, sends without a database connection, and then moves the cursor. A worker that dies meanwhile
# leaves its batch to be sent again.


#: Entries sent at once.
FORWARDING_BATCH = 200

FORWARD_INTERVAL = timedelta(seconds=5)

#: How long a worker may send before another one may, too. Longer than every timeout of a batch together.
LEASE = timedelta(minutes=2)

#: The delay after a failure.
RETRY_DELAY = timedelta(minutes=1)

#: The prefix of the secret that signs requests, as of https://www.standardwebhooks.com.
SECRET_PREFIX = "whsec_"  # noqa: S105 - a prefix

_STATUS = Text("{host} answered with the status {status}.")

_FORWARDING_STATE: LiteralString = (
    "SELECT cursor, secret, not_before, failed_since, problem, sent_at FROM access_auditforwarding WHERE id = 1"
)
_CREATE = (
    "INSERT INTO access_auditforwarding (id, cursor, secret, not_before) VALUES (1, 0, %s, 'epoch') "
    "ON CONFLICT DO NOTHING"
)
_CLAIM = """
UPDATE access_auditforwarding SET not_before = %(now)s + %(lease)s WHERE id = 1 AND not_before <= %(now)s
RETURNING cursor, secret
"""
_ENTRIES = """
SELECT id, sequence, encode(hash, 'hex') AS hash, at, actor_name AS actor, action, object_type, object_id, object_name,
       before, after, via, host(address) AS address
FROM access_auditentry WHERE sequence > %s ORDER BY sequence LIMIT %s
"""
_SENT = """
UPDATE access_auditforwarding SET cursor = %(cursor)s, sent_at = %(now)s, not_before = %(now)s, failed_since = NULL,
  problem = '{}' WHERE id = 1
"""
_FAILED = """
UPDATE access_auditforwarding SET not_before = %(until)s, failed_since = coalesce(failed_since, %(now)s),
  problem = %(problem)s WHERE id = 1
"""


@dataclass(frozen=True, slots=True)
class ForwardingState:
    """How far the log was forwarded, and what is wrong."""

    #: The sequence of the last entry that was sent.
    cursor: int
    #: Entries that are linked and not sent yet.
    waiting: int
    sent_at: datetime | None
    failed_since: datetime | None
    problem: Reason
    #: The secret that signs the requests of a webhook. For administrators only.
    signing_secret: str


def run_once() -> bool:
    """Sends one batch, if there is a target and anything to send. Returns whether there may be more."""
    now = clock.now()
    with database.connection() as connection:
        target = settings_store.load(connection)[settings_store.AUDIT_FORWARDING.name]
    if not target:
        return False
    with database.transaction() as connection:
        _ensure_state(connection)
        claimed = connection.execute(_CLAIM, {"now": now, "lease": LEASE}).fetchone()
        if claimed is None:
            return False
        cursor, secret = claimed
        entries = database.rows(connection, _ENTRIES, (cursor, FORWARDING_BATCH))
        if not entries:
            connection.execute("UPDATE access_auditforwarding SET not_before = %s WHERE id = 1", (now,))
            return False
    batch = [{**entry, "at": entry["at"].isoformat()} for entry in entries]
    try:
        _send(ForwardingTarget.parse(target), batch, crypto.decrypt(secret), clock.now())
    except (Permanent, Temporary) as error:
        values = {"now": now, "until": clock.now() + RETRY_DELAY, "problem": error.full_reason}
        with database.transaction() as connection:
            connection.execute(_FAILED, values)
        return False
    with database.transaction() as connection:
        connection.execute(_SENT, {"cursor": entries[-1]["sequence"], "now": clock.now()})
    return len(entries) == FORWARDING_BATCH


def load_state(connection: Connection) -> ForwardingState:
    """Returns the state, also before anything was sent."""
    _ensure_state(connection)
    row = database.row(connection, _FORWARDING_STATE)
    assert row is not None
    waiting = connection.execute(
        "SELECT count(*) FROM access_auditentry WHERE sequence > %s", (row["cursor"],)
    ).fetchone()
    return ForwardingState(
        row["cursor"],
        waiting[0] if waiting else 0,
        row["sent_at"],
        row["failed_since"],
        reason_from_json(row["problem"]),
        crypto.decrypt(row["secret"]),
    )


def failure(connection: Connection) -> tuple[datetime, Reason] | None:
    """Returns since when forwarding has failed, and why; None if it works."""
    row = database.row(connection, f"{_FORWARDING_STATE} AND failed_since IS NOT NULL")
    return None if row is None else (row["failed_since"], reason_from_json(row["problem"]))


def sign(secret: str, message_id: str, at: datetime, body: bytes) -> dict[str, str]:
    """Returns the headers that sign a request: see https://www.standardwebhooks.com."""
    timestamp = str(int(at.timestamp()))
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
    digest = hmac.new(key, b".".join((message_id.encode(), timestamp.encode(), body)), hashlib.sha256).digest()
    signature = f"v1,{base64.b64encode(digest).decode()}"
    return {"webhook-id": message_id, "webhook-timestamp": timestamp, "webhook-signature": signature}


def _send(target: ForwardingTarget, entries: Sequence[Mapping[str, Any]], secret: str, now: datetime) -> None:
    if target.transport is not Transport.WEBHOOK:
        send(target, entries, socket.gethostname() or "-")
        return
    body = json.dumps({"entries": entries}, ensure_ascii=False).encode()
    # The same entries have the same id, so that a receiver recognizes a batch that is sent again.
    message_id = f"audit-{entries[0]['sequence']}-{entries[-1]['sequence']}"
    headers = {"Content-Type": "application/json", **sign(secret, message_id, now, body)}
    client = egress.HttpClient()
    try:
        response = client.request("POST", target.url, headers=headers, content=body)
    finally:
        client.close()
    if not 200 <= response.status < 300:
        raise Temporary(_STATUS(host=target.host, status=str(response.status)))


def _ensure_state(connection: Connection) -> None:
    if connection.execute("SELECT 1 FROM access_auditforwarding").fetchone() is None:
        secret = SECRET_PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()
        connection.execute(_CREATE, (crypto.encrypt(secret),))


# ---------- tasks
# The periodic tasks of this package.


def access_tasks() -> tuple[PeriodicTask, ...]:
    return (
        PeriodicTask("audit chain", link_new, LINK_INTERVAL, due=_ANY_NEW),
        PeriodicTask("audit verification", verify_next, VERIFY_INTERVAL),
        PeriodicTask("audit forwarding", run_once, FORWARD_INTERVAL),
    )
