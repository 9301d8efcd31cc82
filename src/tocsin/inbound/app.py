"""ASGI app for webhooks (`POST /in/{token}`) and the compatible endpoints; runs without Django.

The token selects the integration; the body is read completely, decoded and passed to the committer; the response is
sent after the commit. `/in/{token}/test/{test token}` handles a sample in the same way, as a user's test.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from tocsin.catalogue.hooks import MessageOutcome, SenderReply
from tocsin.core.errors import Rejected
from tocsin.core.net.asgi import AsgiScope, BodyReader, ClientDisconnected, Receive, Send, send_error, send_response
from tocsin.core.runtime import clock
from tocsin.inbound.compat import opsgenie, pagerduty
from tocsin.inbound.config.compiled_integration import CompiledIntegration
from tocsin.inbound.config.credentials import stored_headers
from tocsin.inbound.config.registry import IntegrationRegistry
from tocsin.inbound.heartbeats import schedule
from tocsin.inbound.http import heartbeat_endpoint, reasons, sender_verification, test_token
from tocsin.inbound.http.ingest_service import JSON, HttpError, IngestResult, IngestService, headers_of
from tocsin.inbound.http.responses import answer_of
from tocsin.inbound.http.test_token import WebhookTestToken
from tocsin.inbound.parsing.decode import Element
from tocsin.inbound.parsing.form_fields import URLENCODED
from tocsin.inbound.processing.committer import Committer

PREFIX = "/in/"

#: Path prefixes of webhooks and of the PagerDuty- and Opsgenie-compatible endpoints.
PREFIXES = (PREFIX, *pagerduty.PATHS, *opsgenie.PREFIXES)
_TEST_PREFIX = f"{test_token.SEGMENT}/"

_ALLOW = ((b"allow", b"POST"),)

#: Methods that some kinds accept besides POST.
_EXTRA_METHODS = ("GET", "HEAD", "PUT")


class InboundApp:
    """The ASGI app for inbound webhooks and compatible endpoints."""

    def __init__(self, registry: IntegrationRegistry, committer: Committer, body_reader: BodyReader) -> None:
        self.service = IngestService(registry, committer, body_reader)

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        try:
            if path.startswith(PREFIX):
                await self._handle_webhook(scope, receive, send)
            elif (trimmed_path := path.rstrip("/")) in pagerduty.PATHS:
                await pagerduty.handle(self.service, {**scope, "path": trimmed_path}, receive, send)
            else:
                await opsgenie.handle(self.service, scope, receive, send)
        except HttpError as error:
            if path.rstrip("/") in pagerduty.PATHS:
                await pagerduty.error_response(send, error)
            elif path.startswith(PREFIX):
                await send_error(send, error.status, error.code, error.detail, headers=error.headers)
            else:
                await opsgenie.error_response(send, error)
        except ClientDisconnected:
            return

    async def _handle_webhook(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        token, separator, suffix = scope["path"][len(PREFIX) :].partition("/")
        method: str = scope["method"]
        if method not in ("POST", *_EXTRA_METHODS):
            raise HttpError(405, "method_not_allowed", reasons.POST_NEEDED(), _ALLOW)
        try:
            integration = await self.service.find_integration(token)
        except HttpError as error:
            # Responses to other methods must not reveal whether a token exists.
            raise (
                error if method == "POST" else HttpError(405, "method_not_allowed", reasons.POST_NEEDED(), _ALLOW)
            ) from None
        if integration.normalizer.kind.name == schedule.KIND and not suffix.startswith(_TEST_PREFIX):
            await heartbeat_endpoint.handle(
                self.service, integration, suffix if separator else "beat", scope, receive, send
            )
            return
        if method != "POST" and not (
            method == "GET" and scope["query_string"] and integration.normalizer.kind.accepts_get
        ):
            raise HttpError(405, "method_not_allowed", reasons.POST_NEEDED(), _ALLOW)
        if separator and not suffix.startswith(_TEST_PREFIX):
            raise HttpError(404, "unknown_token", reasons.UNKNOWN_TOKEN())
        test = _check_test_token(suffix, integration) if separator else None
        body = await self.service.read_body(scope, receive)
        try:
            await self._ingest_messages(integration, scope, body, send, test)
        finally:
            self.service.body_reader.release(len(body))

    async def _ingest_messages(
        self, integration: CompiledIntegration, scope: AsgiScope, body: bytes, send: Send, test: WebhookTestToken | None
    ) -> None:
        headers = headers_of(scope)
        credential_results = self.service.check_credentials(integration, scope, headers, body)
        content_type = headers.get("content-type", "")
        if scope["method"] == "GET":
            body, content_type = scope["query_string"], URLENCODED
        is_array = False
        elements: Sequence[Element] | Rejected
        try:
            body = await self.service.decompress_body(headers, body)
            decoded = await self.service.decode_body(integration, body, content_type, headers)
            elements, is_array = decoded.elements, decoded.is_array
        except Rejected as rejected:
            elements = rejected
        else:
            if not elements:
                await send_response(send, 200, b'{"messages":[]}')
                return
            # A sample is authenticated by its test token: the sender's own signature cannot be produced here.
            if test is None and await _answer_handshake(integration, elements, headers, send):
                return
            if elements[0].raw is not body:
                # Elements of an array, and messages made by a kind's hook, are JSON whatever the request's content type
                # was.
                content_type = JSON
        result = await self.service.ingest(
            integration,
            elements,
            body,
            stored_headers(headers, credential_results),
            content_type=content_type,
            test=test,
        )
        if test is None and integration.normalizer.kind.kind_hooks.reply is not None:
            await _reply(send, integration.normalizer.kind.kind_hooks.reply, result)
            return
        # The client that sends a sample parses Tocsin's own response, not the one of the kind.
        status, response_body = answer_of(integration, result.incoming, result.results, is_array=is_array)
        await send_response(send, status, response_body)


def _check_test_token(suffix: str, integration: CompiledIntegration) -> WebhookTestToken:
    try:
        return test_token.check(suffix.removeprefix(_TEST_PREFIX), integration.id, clock.now())
    except Rejected as rejected:
        # Never handled as an ordinary message: that would page the integration's real recipients.
        raise HttpError(401, rejected.code, rejected.reason) from None


async def _answer_handshake(
    integration: CompiledIntegration, elements: Sequence[Element], headers: Mapping[str, str], send: Send
) -> bool:
    """Answers a handshake of the sender; returns whether it was one. Raises HttpError for an inauthentic sender."""
    code = integration.normalizer.kind.kind_hooks
    if code.refusal is None and code.handshake is None:
        return False
    payloads = [element.payload for element in elements if element.payload is not None]
    if not payloads:
        return False
    reply = await asyncio.to_thread(sender_verification.answer_handshake, integration, payloads, headers)
    if reply is not None:
        await send_response(send, reply.status, reply.body, content_type=reply.content_type.encode())
    return reply is not None


async def _reply(
    send: Send, build_reply: Callable[[Sequence[MessageOutcome]], SenderReply], result: IngestResult
) -> None:
    """Sends the kind's own response."""
    outcomes = [
        MessageOutcome(
            str(message.id), message_result.status.value, str(message_result.reason), message_result.alert_id
        )
        for message, message_result in zip(result.incoming, result.results, strict=True)
    ]
    reply = build_reply(outcomes)
    await send_response(send, reply.status, reply.body, content_type=reply.content_type.encode())
