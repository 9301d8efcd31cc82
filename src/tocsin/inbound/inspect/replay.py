"""Replays messages: the current rules decide the stored bytes again, as a new row. The old row stays unchanged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from tocsin.access import audit
from tocsin.access.audit import AuditActor
from tocsin.core.errors import Rejected
from tocsin.core.ids import uuid7
from tocsin.core.reasons import ReasonType
from tocsin.inbound.config import registry
from tocsin.inbound.config.registry import UnknownIntegration
from tocsin.inbound.enums import MessageStatus
from tocsin.inbound.models import InboundMessage
from tocsin.inbound.processing.process_now import process_now
from tocsin.inbound.storage.messages import IncomingMessage
from tocsin.inbound.storage.stored_messages import element_of

_NO_MESSAGE = ReasonType("message.not_found", "Inbound message {message} not found.")
_STILL_PENDING = ReasonType(
    "message.replay_while_pending", "This message is still pending. Try again in a few seconds."
)
_TOO_MANY = ReasonType(
    "message.too_many_replays", "At most {limit} messages can be replayed at once; you selected {selected}."
)
_CANNOT_DECIDE = ReasonType(
    "integration.cannot_decide",
    "The integration's configuration is invalid, or the integration was deleted. Fix and save it first.",
)

#: A replay of a message older than this is log only, unless the user chooses otherwise.
LOG_ONLY_AFTER = timedelta(hours=1)


def replay(message_id: UUID, page: bool | None, actor: AuditActor, now: datetime) -> InboundMessage:
    """Decides the message again and returns the new row, whose `replay_of` is the message.

    A replay is never a duplicate delivery and never late. `page` says whether an alert that it opens pages; None: only
    if the message is at most an hour old. A replayed sample is log only. Raises Rejected("not_found"), or
    Rejected("not_possible") for a pending message or an integration that cannot decide.
    """
    message = InboundMessage.objects.filter(pk=message_id).first()
    if message is None:
        raise Rejected("not_found", _NO_MESSAGE(message=str(message_id)))
    if message.status == MessageStatus.PENDING:
        raise Rejected("not_possible", _STILL_PENDING())
    may_page = message.received_at >= now - LOG_ONLY_AFTER if page is None else page
    incoming = _replay_message(message, may_page and not message.test, now)
    try:
        (stored,) = process_now([incoming], now)
    except UnknownIntegration:
        raise _cannot_decide() from None
    _record(message, incoming, stored.status, actor, now)
    return InboundMessage.objects.select_related("integration").get(pk=incoming.id)


#: The maximum number of messages per bulk replay.
MAX_REPLAYED_MESSAGES = 500

#: The number of messages decided per transaction.
_MESSAGES_PER_TRANSACTION = 50


def replay_many(
    message_ids: Sequence[UUID], page: bool | None, actor: AuditActor, now: datetime
) -> Counter[MessageStatus]:
    """Replays each of the messages as `replay` does, oldest first; returns the number of messages by outcome.

    Messages that cannot be replayed are skipped. Raises Rejected("too_many") for more than 500.
    """
    if len(message_ids) > MAX_REPLAYED_MESSAGES:
        raise Rejected("too_many", _TOO_MANY(limit=MAX_REPLAYED_MESSAGES, selected=len(message_ids)))
    counts: Counter[MessageStatus] = Counter()
    ids = sorted(set(message_ids))
    for start in range(0, len(ids), _MESSAGES_PER_TRANSACTION):
        rows = InboundMessage.objects.filter(pk__in=ids[start : start + _MESSAGES_PER_TRANSACTION]).order_by("pk")
        candidates = [(row, _message_to_replay(row, page, now)) for row in rows.exclude(status=MessageStatus.PENDING)]
        replayable = [(row, incoming) for row, incoming in candidates if incoming is not None]
        for row, incoming, status in _decide_together(replayable, now):
            counts[status] += 1
            _record(row, incoming, status, actor, now)
    return counts


type _Replay = tuple[InboundMessage, IncomingMessage]


def _decide_together(
    replays: list[_Replay], now: datetime
) -> Iterator[tuple[InboundMessage, IncomingMessage, MessageStatus]]:
    """Decides them together; one by one if the integration of one of them has just been deleted."""
    if not replays:
        return
    try:
        results = process_now([incoming for _, incoming in replays], now)
    except UnknownIntegration:
        if len(replays) > 1:
            for single_replay in replays:
                yield from _decide_together([single_replay], now)
        return
    for (row, incoming), result in zip(replays, results, strict=True):
        yield row, incoming, result.status


def _message_to_replay(message: InboundMessage, page: bool | None, now: datetime) -> IncomingMessage | None:
    """Returns the message to replay; None if its integration cannot decide."""
    may_page = message.received_at >= now - LOG_ONLY_AFTER if page is None else page
    try:
        return _replay_message(message, may_page and not message.test, now)
    except Rejected:
        return None


def _record(
    message: InboundMessage, incoming: IncomingMessage, status: MessageStatus, actor: AuditActor, now: datetime
) -> None:
    after = {"message": str(incoming.id), "page": incoming.may_page, "status": status.value}
    audit.record(
        actor,
        "replay",
        now=now,
        object_type="inbound_message",
        object_id=message.pk,
        object_name=message.subject,
        group_id=message.integration.group_id,
        after=after,
    )


def _replay_message(message: InboundMessage, may_page: bool, now: datetime) -> IncomingMessage:
    integration_registry = registry.shared_registry()
    integration_registry.refresh()
    try:
        integration = integration_registry.get(message.integration_id)
    except UnknownIntegration:
        raise _cannot_decide() from None
    if integration.problem is not None:
        raise _cannot_decide()
    raw = bytes(message.raw)
    return IncomingMessage(
        id=uuid7(),
        integration_id=message.integration_id,
        received_at=now,
        raw=raw,
        element=element_of(raw, message.content_type, lenient=integration.normalizer.kind.lenient),
        content_type=message.content_type,
        headers=message.headers,
        replay_of=message.pk,
        may_page=may_page,
    )


def _cannot_decide() -> Rejected:
    return Rejected("not_possible", _CANNOT_DECIDE())
