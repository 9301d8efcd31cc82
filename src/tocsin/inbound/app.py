"""ASGI app for webhooks (`POST /in/{token}`) and the compatible endpoints; runs without Django.

The token selects the integration; the body is read completely, decoded and passed to the committer; the response is
sent after the commit. `/in/{token}/test/{test token}` handles a sample in the same way, as a user's test.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from tocsin.catalogue.hooks import MessageOutcome, SenderReply
from tocsin.core.errors import Rejected
from tocsin.core.net.asgi import AsgiScope, BodyReader, ClientDisconnected, Receive, Send, answer, refuse
from tocsin.core.runtime import clock
from tocsin.inbound.compat import opsgenie, pagerduty
from tocsin.inbound.config.compiled_integration import CompiledIntegration
from tocsin.inbound.config.credentials import stored_headers
from tocsin.inbound.config.registry import IntegrationRegistry
from tocsin.inbound.heartbeats import schedule
from tocsin.inbound.http import heartbeat_endpoint, sender_verification, test_token
from tocsin.inbound.http.ingest_service import JSON, HttpError, IngestResult, IngestService, headers_of
from tocsin.inbound.http.responses import answer_of
from tocsin.inbound.http.test_token import WebhookTestToken
from tocsin.inbound.parsing.decode import Element
from tocsin.inbound.parsing.form_fields import URLENCODED
from tocsin.inbound.processing.committer import Committer

PREFIX = "/in/"

#: Path prefixes of webhooks and of the PagerDuty- and Opsgenie-compatible endpoints.
PREFIXES = (PREFIX, *pagerduty.PATHS, *opsgenie.PREFIXES)
_TEST = f"{test_token.SEGMENT}/"

_ALLOW = ((b"allow", b"POST"),)

#: Methods that some kinds accept besides POST.
_OTHERS = ("GET", "HEAD", "PUT")


class InboundApp:
    """The ASGI app for inbound webhooks and compatible endpoints."""

    def __init__(self, registry: IntegrationRegistry, committer: Committer, bodies: BodyReader) -> None:
        self.reception = IngestService(registry, committer, bodies)

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        try:
            if path.startswith(PREFIX):
                await self._take(scope, receive, send)
            elif (plain := path.rstrip("/")) in pagerduty.PATHS:
                await pagerduty.handle(self.reception, {**scope, "path": plain}, receive, send)
            else:
                await opsgenie.handle(self.reception, scope, receive, send)
        except HttpError as refusal:
            if path.rstrip("/") in pagerduty.PATHS:
                await pagerduty.error_response(send, refusal)
            elif path.startswith(PREFIX):
                await refuse(send, refusal.status, refusal.code, refusal.detail, headers=refusal.headers)
            else:
                await opsgenie.error_response(send, refusal)
        except ClientDisconnected:
            return

    async def _take(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        token, slash, rest = scope["path"][len(PREFIX) :].partition("/")
        method: str = scope["method"]
        if method not in ("POST", *_OTHERS):
            raise HttpError(405, "method_not_allowed", "Send a POST.", _ALLOW)
        try:
            door = await self.reception.door(token)
        except HttpError as refusal:
            # Responses to other methods must not reveal whether a token exists.
            raise (
                refusal if method == "POST" else HttpError(405, "method_not_allowed", "Send a POST.", _ALLOW)
            ) from None
        if door.reader.kind.name == schedule.KIND and not rest.startswith(_TEST):
            await heartbeat_endpoint.handle(self.reception, door, rest if slash else "beat", scope, receive, send)
            return
        if method != "POST" and not (method == "GET" and scope["query_string"] and door.reader.kind.takes_get):
            raise HttpError(405, "method_not_allowed", "Send a POST.", _ALLOW)
        if slash and not rest.startswith(_TEST):
            raise HttpError(404, "unknown_token", "No integration has this address. It may have been rotated.")
        test = _test(rest, door) if slash else None
        body = await self.reception.body(scope, receive)
        try:
            await self._message(door, scope, body, send, test)
        finally:
            self.reception.bodies.done(len(body))

    async def _message(
        self, door: CompiledIntegration, scope: AsgiScope, body: bytes, send: Send, test: WebhookTestToken | None
    ) -> None:
        headers = headers_of(scope)
        proofs = self.reception.proofs(door, scope, headers, body)
        content_type = headers.get("content-type", "")
        if scope["method"] == "GET":
            body, content_type = scope["query_string"], URLENCODED
        is_array = False
        elements: Sequence[Element] | Rejected
        try:
            body = await self.reception.unpacked(headers, body)
            decoded = await self.reception.decoded(door, body, content_type, headers)
            elements, is_array = decoded.elements, decoded.is_array
        except Rejected as rejected:
            elements = rejected
        else:
            if not elements:
                await answer(send, 200, b'{"messages":[]}')
                return
            # A sample is authenticated by its test token: the sender's own signature cannot be produced here.
            if test is None and await _is_greeted(door, elements, headers, send):
                return
            if elements[0].raw is not body:
                # Elements of an array, and messages made by a kind's hook, are JSON whatever the request's content type
                # was.
                content_type = JSON
        taken = await self.reception.take(
            door, elements, body, stored_headers(headers, proofs), content_type=content_type, test=test
        )
        if test is None and door.reader.kind.code.reply is not None:
            await _reply(send, door.reader.kind.code.reply, taken)
            return
        # The client that sends a sample parses Tocsin's own response, not the one of the kind.
        status, said = answer_of(door, taken.incoming, taken.stored, is_array=is_array)
        await answer(send, status, said)


def _test(rest: str, door: CompiledIntegration) -> WebhookTestToken:
    try:
        return test_token.check(rest.removeprefix(_TEST), door.id, clock.now())
    except Rejected as rejected:
        # Never handled as an ordinary message: that would page the integration's real recipients.
        raise HttpError(401, rejected.code, rejected.detail) from None


async def _is_greeted(
    door: CompiledIntegration, elements: Sequence[Element], headers: Mapping[str, str], send: Send
) -> bool:
    """Answers a handshake of the sender; returns whether it was one. Raises HttpError for an inauthentic sender."""
    code = door.reader.kind.code
    if code.refusal is None and code.handshake is None:
        return False
    payloads = [element.payload for element in elements if element.payload is not None]
    if not payloads:
        return False
    reply = await asyncio.to_thread(sender_verification.answer_handshake, door, payloads, headers)
    if reply is not None:
        await answer(send, reply.status, reply.body, content_type=reply.content_type.encode())
    return reply is not None


async def _reply(send: Send, reply_to: Callable[[Sequence[MessageOutcome]], SenderReply], taken: IngestResult) -> None:
    """Sends the kind's own response."""
    told = [
        MessageOutcome(str(one.id), what.status.value, what.reason, what.alert_id)
        for one, what in zip(taken.incoming, taken.stored, strict=True)
    ]
    reply = reply_to(told)
    await answer(send, reply.status, reply.body, content_type=reply.content_type.encode())
