"""What a sender is told of its messages: the status, and the JSON that scripts rely on. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from tocsin.inbound.config.compiled_integration import CompiledIntegration
from tocsin.inbound.processing.committer import is_pending
from tocsin.inbound.storage.messages import IncomingMessage, MessageResult

#: Why a message fails that can be read: its sender did nothing wrong, and would gain nothing by sending it again.
_READABLE = frozenset({"no_id", "not_compiled"})


class MessageResponse(msgspec.Struct, omit_defaults=True):
    """What a sender is told about one message."""

    status: str
    message_id: str
    alert_id: int | None = None
    reason: str = ""


def answer_of(
    door: CompiledIntegration, incoming: Sequence[IncomingMessage], stored: Sequence[MessageResult], *, is_array: bool
) -> tuple[int, bytes]:
    """The status and the JSON body for messages that are stored: 200; 202 where one waits to be decided; 400 for one
    that cannot be read, where the kind does not answer those with 200."""
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
