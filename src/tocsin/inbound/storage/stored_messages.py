"""A stored message as it is decided again: its bytes decoded, with what was kept of it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from tocsin.core.errors import Rejected
from tocsin.inbound.body_compression import body_of
from tocsin.inbound.config.registry import IntegrationRegistry
from tocsin.inbound.deciding import echo_suppression
from tocsin.inbound.parsing.decode import Element, decode
from tocsin.inbound.storage.messages import IncomingMessage


def incoming_of(row: Mapping[str, Any], registry: IntegrationRegistry, now: datetime) -> IncomingMessage:
    """A stored message as it is decided again."""
    raw, content_type = body_of(row["raw"]), row["content_type"]
    reader = registry.door(row["integration_id"]).reader
    kept: Mapping[str, Any] = row["verdict"] or {}
    test_user_id, test_id = kept.get("test", (None, ""))
    element = element_of(raw, content_type, lenient=reader.kind.lenient)
    asked = kept.get(echo_suppression.REREAD)
    is_waiting = asked == echo_suppression.WANTED
    # Of a message that came by a clock which was set back since, patience is at its end too.
    is_over = is_waiting and abs(now - row["received_at"]) >= echo_suppression.LOOKUP_TIMEOUT
    if asked and isinstance(asked, Mapping) and isinstance(element, Element) and element.payload is not None:
        # Its system was asked meanwhile, and said how the ticket stands.
        element = echo_suppression.completed(reader, element, asked)
    return IncomingMessage(
        id=row["id"],
        integration_id=row["integration_id"],
        received_at=row["received_at"],
        raw=raw,
        element=element,
        content_type=content_type,
        headers=row["headers"],
        replay_of=row["replay_of"],
        may_page=not kept.get("record", False),
        test_user_id=test_user_id,
        test_id=test_id,
        is_asked_about=is_waiting and not is_over,
        unasked=echo_suppression.NO_ANSWER if is_over else str(kept.get(echo_suppression.UNASKED) or ""),
    )


def element_of(raw: bytes, content_type: str, *, lenient: bool) -> Element | Rejected:
    """The one element that a stored message's bytes are."""
    try:
        decoded = decode(raw, content_type, lenient=lenient)
    except Rejected as rejected:
        return rejected
    if len(decoded.elements) != 1:
        return Rejected("invalid_json", "a stored message is one object")
    return decoded.elements[0]
