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
    reason_code: str = ""


def answer_of(
    integration: CompiledIntegration,
    incoming: Sequence[IncomingMessage],
    results: Sequence[MessageResult],
    *,
    is_array: bool,
) -> tuple[int, bytes]:
    """Returns status and JSON body for stored messages: 200; 202 if one is pending; 400 for an unreadable one, unless
    the kind answers those with 200."""
    status = 202 if is_pending(results) else 200
    if is_array:
        responses = [message_response(message, result) for message, result in zip(incoming, results, strict=True)]
        return status, msgspec.json.encode({"messages": responses})
    (message,), (result,) = incoming, results
    if (
        result.error is not None
        and result.error not in _READABLE
        and integration.normalizer.kind.unreadable_status == 400
    ):
        detail = {"error": result.error, "detail": str(result.reason), "reason_code": result.reason.code}
        return 400, msgspec.json.encode({**detail, "message_id": str(message.id)})
    return status, msgspec.json.encode(message_response(message, result))


def message_response(incoming: IncomingMessage, result: MessageResult) -> MessageResponse:
    """Returns the response about one message."""
    reason = result.reason
    return MessageResponse(result.status.value, str(incoming.id), result.alert_id, str(reason), reason.code)
