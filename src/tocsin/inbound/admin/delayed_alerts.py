"""Delayed alerts for the UI and API: lists them with reason and due time; opens or drops one."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from django.db.models import F, QuerySet

from tocsin.access import audit
from tocsin.access.audit import AuditActor
from tocsin.core.db import database
from tocsin.core.errors import Rejected
from tocsin.core.ids import advisory_lock_key
from tocsin.core.reasons import Person, sentence
from tocsin.inbound.deciding.state import WaitOutcome
from tocsin.inbound.enums import MessageStatus
from tocsin.inbound.models import DelayedAlert, InboundMessage
from tocsin.inbound.storage import dedup_key_store


def list_delayed(rows: QuerySet[DelayedAlert], limit: int) -> list[DelayedAlert]:
    """Lists at most `limit` delayed alerts by due time; those that wait for further messages come last."""
    return list(rows.select_related("integration").order_by(F("due_at").asc(nulls_last=True), "since")[:limit])


def find_for_message(message: InboundMessage) -> DelayedAlert | None:
    """Returns the delayed alert that the message belongs to, or None if the message is not delayed."""
    if message.status != MessageStatus.DELAYED or message.key_hash is None:
        return None
    return DelayedAlert.objects.select_related("integration").filter(pk=bytes(message.key_hash)).first()


def due_by_message(messages: Iterable[InboundMessage]) -> dict[UUID, datetime]:
    """Returns the due times of delayed messages by message id, in one query; no query if none is delayed."""
    keys = {m.pk: bytes(m.key_hash) for m in messages if m.status == MessageStatus.DELAYED and m.key_hash}
    if not keys:
        return {}
    rows = DelayedAlert.objects.filter(pk__in=list(keys.values()), due_at__isnull=False)
    due = {bytes(key): at for key, at in rows.values_list("pk", "due_at") if at is not None}
    return {message_id: due[key] for message_id, key in keys.items() if key in due}


def find(text: str) -> DelayedAlert:
    """Returns the delayed alert with that id. Raises Rejected("not_found")."""
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    row = DelayedAlert.objects.select_related("integration").filter(pk=key).first() if len(key) == 32 else None
    if row is None:
        raise Rejected("not_found", sentence("This alert is no longer delayed: it opened, closed, or was dropped."))
    return row


def open_now(row: DelayedAlert, *, actor: AuditActor, now: datetime) -> None:
    """Makes the alert due now; the delayed alerts task opens it. Active maintenance windows still apply."""
    with database.transaction() as connection:
        connection.execute(
            "UPDATE inbound_delayedalert SET due_at = %s, released = true WHERE key_hash = %s",
            (now, bytes(row.key_hash)),
        )
        database.notify(connection, "delayed")
    _record(row, "open now", actor, now)


def drop(row: DelayedAlert, *, actor: AuditActor, now: datetime) -> None:
    """Drops the delayed alert: its messages open nothing. Raises Rejected("not_found") if it opened or closed."""
    key = bytes(row.key_hash)
    with database.transaction() as connection:
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (advisory_lock_key(key),))
        deleted_count = connection.execute("DELETE FROM inbound_delayedalert WHERE key_hash = %s", (key,)).rowcount
        if not deleted_count:
            raise Rejected("not_found", sentence("Too late: the alert has already opened or closed."))
        reason = sentence("{user} dropped the delayed alert", user=Person(actor.name, actor.user_id))
        dedup_key_store.write_wait_outcomes(connection, {key: WaitOutcome(MessageStatus.IGNORED, reason)})
        database.notify(connection, "messages")
    _record(row, "dropped", actor, now)


def _record(row: DelayedAlert, action: str, actor: AuditActor, now: datetime) -> None:
    audit.record(
        actor,
        "change",
        now=now,
        object_type="delayed_alert",
        object_id=row.integration_id,
        object_name=row.shown_subject,
        group_id=row.integration.group_id,
        after={"delayed alert": action, "integration": row.integration.name},
    )
