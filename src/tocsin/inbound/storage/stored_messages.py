"""Loads a stored message to decide it again: decodes its bytes and restores its context."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from tocsin.core.errors import Rejected
from tocsin.core.reasons import ReasonType, reason_from_json
from tocsin.inbound.body_compression import decompress
from tocsin.inbound.config.registry import IntegrationRegistry
from tocsin.inbound.deciding import echo_suppression
from tocsin.inbound.parsing.decode import Element, decode
from tocsin.inbound.storage.messages import IncomingMessage

_NOT_ONE_OBJECT = ReasonType("message.not_one_object", "The message is not one object.")


def incoming_of(row: Mapping[str, Any], registry: IntegrationRegistry, now: datetime) -> IncomingMessage:
    """Returns a stored message as an incoming one."""
    raw, content_type = decompress(row["raw"]), row["content_type"]
    normalizer = registry.get(row["integration_id"]).normalizer
    pending_context: Mapping[str, Any] = row["verdict"] or {}
    test_user_id, test_id = pending_context.get("test", (None, ""))
    element = element_of(raw, content_type, lenient=normalizer.kind.lenient)
    ticket_fetch = pending_context.get(echo_suppression.TICKET_FETCH)
    is_awaiting_ticket = ticket_fetch == echo_suppression.FETCH_REQUESTED
    # With `abs`, a message received before a clock rollback times out as well.
    is_timed_out = is_awaiting_ticket and abs(now - row["received_at"]) >= echo_suppression.LOOKUP_TIMEOUT
    if (
        ticket_fetch
        and isinstance(ticket_fetch, Mapping)
        and isinstance(element, Element)
        and element.payload is not None
    ):
        # Its ticket was fetched meanwhile.
        element = echo_suppression.merge_fetched_ticket(normalizer, element, ticket_fetch)
    return IncomingMessage(
        id=row["id"],
        integration_id=row["integration_id"],
        received_at=row["received_at"],
        raw=raw,
        element=element,
        content_type=content_type,
        headers=row["headers"],
        replay_of=row["replay_of"],
        may_page=not pending_context.get("record", False),
        test_user_id=test_user_id,
        test_id=test_id,
        is_awaiting_ticket=is_awaiting_ticket and not is_timed_out,
        fetch_skipped_reason=echo_suppression.NO_ANSWER(timeout=echo_suppression.LOOKUP_TIMEOUT)
        if is_timed_out
        else reason_from_json(pending_context.get(echo_suppression.FETCH_SKIPPED)),
    )


def element_of(raw: bytes, content_type: str, *, lenient: bool) -> Element | Rejected:
    """Decodes the single element of a stored message."""
    try:
        decoded = decode(raw, content_type, lenient=lenient)
    except Rejected as rejected:
        return rejected
    if len(decoded.elements) != 1:
        return Rejected("invalid_json", _NOT_ONE_OBJECT())
    return decoded.elements[0]
