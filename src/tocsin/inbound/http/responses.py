"""The response to a sender: HTTP status, and JSON that scripts rely on. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from tocsin.inbound.config.compiled_integration import CompiledIntegration
from tocsin.inbound.processing.committer import is_pending
from tocsin.inbound.storage.messages import IncomingMessage, MessageResult

#: Failures of readable messages: the request was correct, and retrying would not help.
_READABLE = frozenset({"no_id", "not_compiled"})


class MessageResponse(msgspec.Struct, omit_defaults=True):
    """The response about one message."""

    status: str
    message_id: str
    alert_id: int | None = None
    reason: str = ""


def answer_of(
    door: CompiledIntegration, incoming: Sequence[IncomingMessage], stored: Sequence[MessageResult], *, is_array: bool
) -> tuple[int, bytes]:
    """Returns status and JSON body for stored messages: 200; 202 if one is pending; 400 for an unreadable one, unless
    the kind answers those with 200."""
    status = 202 if is_pending(stored) else 200
    if is_array:
        answers = [_said(one, what) for one, what in zip(incoming, stored, strict=True)]
        return status, msgspec.json.encode({"messages": answers})
    (one,), (what,) = incoming, stored
    if what.error is not None and what.error not in _READABLE and door.reader.kind.unreadable_status == 400:
        return 400, msgspec.json.encode({"error": what.error, "detail": what.reason, "message_id": str(one.id)})
    return status, msgspec.json.encode(_said(one, what))


def _said(incoming: IncomingMessage, stored: MessageResult) -> MessageResponse:
    return MessageResponse(stored.status.value, str(incoming.id), stored.alert_id, stored.reason)
