"""Forwards the audit log to the setting `audit_forwarding`, in order and at least once.

A cursor follows the hash chain, so that an entry which commits late is never skipped. One worker sends at a time: it
leases the cursor, sends without a database connection, and then moves the cursor. A worker that dies meanwhile leaves
its batch to be sent again.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, LiteralString

from tocsin.access.audit_log import syslog
from tocsin.core.config import crypto, settings_store
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.errors import Permanent, Temporary
from tocsin.core.net import egress
from tocsin.core.reasons import NO_REASON, Reason, ReasonType, reason_from
from tocsin.core.runtime import clock
from tocsin.core.stored_reason import reason_columns
from tocsin.core.validation.forwarding_target import ForwardingTarget, Transport

#: Entries sent at once.
BATCH = 200

FORWARD_INTERVAL = timedelta(seconds=5)

#: How long a worker may send before another one may, too. Longer than every timeout of a batch together.
LEASE = timedelta(minutes=2)

#: The delay after a failure.
RETRY_DELAY = timedelta(minutes=1)

#: The prefix of the secret that signs requests, as of https://www.standardwebhooks.com.
SECRET_PREFIX = "whsec_"  # noqa: S105 - a prefix

_STATUS = ReasonType("audit.webhook_status", "{host} answered with the status {status}.")

_STATE: LiteralString = (
    "SELECT cursor, secret, not_before, failed_since, problem_code, problem_data, sent_at FROM access_auditforwarding "
    "WHERE id = 1"
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
  problem_code = '', problem_data = '{}' WHERE id = 1
"""
_FAILED = """
UPDATE access_auditforwarding SET not_before = %(until)s, failed_since = coalesce(failed_since, %(now)s),
  problem_code = %(code)s, problem_data = %(data)s WHERE id = 1
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
    with database.transaction() as connection:
        target = settings_store.load(connection)[settings_store.AUDIT_FORWARDING.name]
        if not target:
            return False
        _ensure_state(connection)
        claimed = connection.execute(_CLAIM, {"now": now, "lease": LEASE}).fetchone()
        if claimed is None:
            return False
        cursor, secret = claimed
        entries = database.rows(connection, _ENTRIES, (cursor, BATCH))
        if not entries:
            connection.execute("UPDATE access_auditforwarding SET not_before = %s WHERE id = 1", (now,))
            return False
    batch = [{**entry, "at": entry["at"].isoformat()} for entry in entries]
    try:
        _send(ForwardingTarget.parse(target), batch, crypto.decrypt(secret), clock.now())
    except (Permanent, Temporary) as error:
        code, data = reason_columns(error.full_reason)
        values = {"now": now, "until": clock.now() + RETRY_DELAY, "code": code, "data": json.dumps(data)}
        with database.transaction() as connection:
            connection.execute(_FAILED, values)
        return False
    with database.transaction() as connection:
        connection.execute(_SENT, {"cursor": entries[-1]["sequence"], "now": clock.now()})
    return len(entries) == BATCH


def load_state(connection: Connection) -> ForwardingState:
    """Returns the state, also before anything was sent."""
    _ensure_state(connection)
    row = database.row(connection, _STATE)
    assert row is not None
    waiting = connection.execute(
        "SELECT count(*) FROM access_auditentry WHERE sequence > %s", (row["cursor"],)
    ).fetchone()
    return ForwardingState(
        row["cursor"],
        waiting[0] if waiting else 0,
        row["sent_at"],
        row["failed_since"],
        reason_from(row["problem_code"], row["problem_data"]) if row["problem_code"] else NO_REASON,
        crypto.decrypt(row["secret"]),
    )


def failure(connection: Connection) -> tuple[datetime, Reason] | None:
    """Returns since when forwarding has failed, and why; None if it works."""
    row = database.row(connection, f"{_STATE} AND failed_since IS NOT NULL")
    return None if row is None else (row["failed_since"], reason_from(row["problem_code"], row["problem_data"]))


def sign(secret: str, message_id: str, at: datetime, body: bytes) -> dict[str, str]:
    """Returns the headers that sign a request: see https://www.standardwebhooks.com."""
    timestamp = str(int(at.timestamp()))
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
    digest = hmac.new(key, b".".join((message_id.encode(), timestamp.encode(), body)), hashlib.sha256).digest()
    signature = f"v1,{base64.b64encode(digest).decode()}"
    return {"webhook-id": message_id, "webhook-timestamp": timestamp, "webhook-signature": signature}


def _send(target: ForwardingTarget, entries: Sequence[Mapping[str, Any]], secret: str, now: datetime) -> None:
    if target.transport is not Transport.WEBHOOK:
        syslog.send(target, entries, socket.gethostname() or "-")
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
