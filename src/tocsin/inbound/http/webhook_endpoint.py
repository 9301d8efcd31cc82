"""A webhook request in one pass: read, check the sender, decode, answer a handshake or have the messages decided."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from tocsin.catalogue.hooks import MessageOutcome, SenderReply
from tocsin.core.errors import Rejected
from tocsin.core.net.asgi import AsgiScope, Receive, Send, client_address, send_response
from tocsin.core.runtime import clock
from tocsin.inbound.config.compiled_integration import CompiledIntegration
from tocsin.inbound.config.credentials import stored_headers
from tocsin.inbound.http import sender_verification
from tocsin.inbound.http.ingest_service import HttpError, IngestResult, IngestService, content_type_of, headers_of
from tocsin.inbound.http.responses import answer_of
from tocsin.inbound.http.test_token import WebhookTestToken
from tocsin.inbound.parsing.decode import Element
from tocsin.inbound.parsing.form_fields import URLENCODED


async def handle(
    service: IngestService,
    integration: CompiledIntegration,
    scope: AsgiScope,
    receive: Receive,
    send: Send,
    test: WebhookTestToken | None,
) -> None:
    """Handles one request; `test` if it is a user's sample. Raises HttpError, or ClientDisconnected."""
    raw_body = body = await service.read_body(scope, receive)
    try:
        headers = headers_of(scope)
        credential_results = service.check_credentials(integration, scope, headers, body)
        content_type = headers.get("content-type", "")
        if scope["method"] == "GET":
            body, content_type = scope["query_string"], URLENCODED
        is_array = False
        elements: Sequence[Element] | Rejected
        try:
            body = await service.decompress_body(headers, body)
            decoded = await service.decode_body(integration, body, content_type, headers)
            elements, is_array = decoded.elements, decoded.is_array
        except Rejected as rejected:
            elements = rejected
        else:
            if not elements:
                await send_response(send, 200, b'{"messages":[]}')
                return
            # A sample is authenticated by its test token: the sender's own signature cannot be produced here.
            if test is None and (reply := await _reply_or_refuse(service, integration, scope, elements)) is not None:
                await _send_reply(send, reply)
                return
        content_type = content_type_of(elements, body, content_type)
        stored = stored_headers(headers, credential_results)
        result = await service.ingest(integration, elements, body, stored, content_type=content_type, test=test)
        build_reply = integration.normalizer.kind.kind_hooks.reply
        if test is None and build_reply is not None:
            await _send_reply(send, build_reply(_outcomes(result)))
            return
        # The client that sends a sample parses Tocsin's own response, not the one of the kind.
        status, response_body = answer_of(integration, result.incoming, result.results, is_array=is_array)
        await send_response(send, status, response_body)
    finally:
        service.body_reader.release(len(raw_body))


async def _reply_or_refuse(
    service: IngestService, integration: CompiledIntegration, scope: AsgiScope, elements: Sequence[Element]
) -> SenderReply | None:
    """As `_handshake_reply`, and counts an inauthentic sender."""
    try:
        return await _handshake_reply(integration, elements, headers_of(scope))
    except HttpError as error:
        if error.status == 403:
            service.refused_requests.count_refused(integration.id, client_address(scope), error.reason, clock.now())
        raise


async def _handshake_reply(
    integration: CompiledIntegration, elements: Sequence[Element], headers: Mapping[str, str]
) -> SenderReply | None:
    """Returns the reply to a handshake of the sender; None for messages. Raises HttpError for an inauthentic sender."""
    code = integration.normalizer.kind.kind_hooks
    if code.refusal is None and code.handshake is None:
        return None
    payloads = [element.payload for element in elements if element.payload is not None]
    if not payloads:
        return None
    return await asyncio.to_thread(sender_verification.answer_handshake, integration, payloads, headers)


def _outcomes(result: IngestResult) -> list[MessageOutcome]:
    return [
        MessageOutcome(str(message.id), message_result.status.value, message_result.reason, message_result.alert_id)
        for message, message_result in zip(result.incoming, result.results, strict=True)
    ]


async def _send_reply(send: Send, reply: SenderReply) -> None:
    await send_response(send, reply.status, reply.body, content_type=reply.content_type.encode())
