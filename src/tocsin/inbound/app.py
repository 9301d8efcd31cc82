"""`POST /in/{token}`, without Django: the token finds the door, the whole body is read, decoded and handed to the
committer; the answer is sent when the commit is known. `/in/{token}/test/{pass}` is the same as somebody's test."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from tocsin.catalogue.hooks import MessageOutcome, SenderReply
from tocsin.core.errors import Rejected
from tocsin.core.net.asgi import AsgiScope, BodyReader, ClientDisconnected, Receive, Send, answer, refuse
from tocsin.core.runtime import clock
from tocsin.inbound.compat import opsgenie, pagerduty
from tocsin.inbound.config.compiled_integration import CompiledIntegration
from tocsin.inbound.config.credentials import kept_headers
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

#: Where senders post to, in Tocsin's own language and in others'.
PREFIXES = (PREFIX, *pagerduty.PATHS, *opsgenie.PREFIXES)
_TEST = f"{test_token.SEGMENT}/"

_ALLOW = ((b"allow", b"POST"),)

#: Methods that some kinds take beside POST.
_OTHERS = ("GET", "HEAD", "PUT")


class InboundApp:
    """The ASGI app of the inbound doors."""

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
                await pagerduty.refused(send, refusal)
            elif path.startswith(PREFIX):
                await refuse(send, refusal.status, refusal.code, refusal.detail, headers=refusal.headers)
            else:
                await opsgenie.refused(send, refusal)
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
            # Whoever only looks at an address is not told whether it is one.
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
            # A sample is proved by its pass: the sender's own proof cannot be made here.
            if test is None and await _is_greeted(door, elements, headers, send):
                return
            if elements[0].raw is not body:
                # An array's elements, and what a kind made of a body, are JSON, whatever the request called itself.
                content_type = JSON
        taken = await self.reception.take(
            door, elements, body, kept_headers(headers, proofs), content_type=content_type, test=test
        )
        if test is None and door.reader.kind.code.reply is not None:
            await _reply(send, door.reader.kind.code.reply, taken)
            return
        # Whoever sends a sample reads Tocsin's own answer, whatever the sender of that kind understands.
        status, said = answer_of(door, taken.incoming, taken.stored, is_array=is_array)
        await answer(send, status, said)


def _test(rest: str, door: CompiledIntegration) -> WebhookTestToken:
    try:
        return test_token.check(rest.removeprefix(_TEST), door.id, clock.now())
    except Rejected as rejected:
        # Never taken as a message like any other: that would page everybody.
        raise HttpError(401, rejected.code, rejected.detail) from None


async def _is_greeted(
    door: CompiledIntegration, elements: Sequence[Element], headers: Mapping[str, str], send: Send
) -> bool:
    """Whether the request was a question of the sender's, which is answered now. Raises Refusal for a false sender."""
    code = door.reader.kind.code
    if code.refusal is None and code.handshake is None:
        return False
    payloads = [element.payload for element in elements if element.payload is not None]
    if not payloads:
        return False
    reply = await asyncio.to_thread(sender_verification.greet, door, payloads, headers)
    if reply is not None:
        await answer(send, reply.status, reply.body, content_type=reply.content_type.encode())
    return reply is not None


async def _reply(send: Send, reply_to: Callable[[Sequence[MessageOutcome]], SenderReply], taken: IngestResult) -> None:
    """Answers in the words of the kind."""
    told = [
        MessageOutcome(str(one.id), what.status.value, what.reason, what.alert_id)
        for one, what in zip(taken.incoming, taken.stored, strict=True)
    ]
    reply = reply_to(told)
    await answer(send, reply.status, reply.body, content_type=reply.content_type.encode())
