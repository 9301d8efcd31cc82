"""Loads a stored message to decide it again: decodes its bytes and restores its context. Limits what is computed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tocsin.core.errors import Rejected
from tocsin.core.reasons import NO_REASON, Reason, ReasonType, reason_from_json
from tocsin.inbound.body_compression import decompress
from tocsin.inbound.config.registry import IntegrationRegistry
from tocsin.inbound.deciding import echo_suppression
from tocsin.inbound.parsing.decode import Element, decode
from tocsin.inbound.storage.messages import IncomingMessage

_NOT_ONE_OBJECT = ReasonType("message.not_one_object", "The message is not one object.")
_LEFT_OUT = ReasonType(
    "message.left_out",
    "{count} message was left out: computing ends after {seconds} s, and messages of more than {values} values "
    "are not computed again.",
    "{count} messages were left out: computing ends after {seconds} s, and messages of more than {values} values "
    "are not computed again.",
)
TOO_MANY_VALUES = ReasonType(
    "message.too_many_values",
    "This message has more than {values} values. It was decided when it arrived, and is not computed again here.",
)

#: How long one request may compute over messages.
MAX_SECONDS = 2.0

#: How many values a message may have to be computed again. The path of an arriving message has no such limit.
MAX_VALUES = 5_000


@dataclass(slots=True)
class MessageBudget:
    """What one request may compute over messages, which strangers wrote: some are built to take minutes.

    Whatever decides, explains or counts messages for a reader asks it before each one, and says what it left out.
    """

    seconds: float = field(default_factory=lambda: MAX_SECONDS)
    left_out: int = 0
    _ends_at: float = field(init=False)

    def __post_init__(self) -> None:
        self._ends_at = time.monotonic() + self.seconds

    def is_over(self) -> bool:
        """Returns whether the time is over."""
        return time.monotonic() >= self._ends_at

    def admits(self, element: Element | Rejected) -> bool:
        """Returns whether the message may be computed; counts it as left out otherwise."""
        if not self.is_over() and not has_too_many_values(element):
            return True
        self.left_out += 1
        return False

    @property
    def reason(self) -> Reason:
        """What was left out, for the reader."""
        if not self.left_out:
            return NO_REASON
        return _LEFT_OUT(count=self.left_out, seconds=round(self.seconds), values=MAX_VALUES)


def has_too_many_values(element: Element | Rejected) -> bool:
    """Returns whether the message has more values than may be computed again: texts, numbers, lists and objects."""
    count = 0
    waiting: list[object] = [] if isinstance(element, Rejected) else [element.payload]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict | list):
            count += len(value)
            if count > MAX_VALUES:
                return True
            waiting.extend(value.values() if isinstance(value, dict) else value)
    return False


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
