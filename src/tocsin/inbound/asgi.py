"""`POST /in/{token}`, without Django: the token finds the door, the whole body is read, decoded and handed to the
committer; the answer is sent when the commit is known. `/in/{token}/test/{pass}` is the same as somebody's test."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from functools import partial

import msgspec
import psycopg

from tocsin.core import clock
from tocsin.core.errors import Rejected
from tocsin.core.http import Bodies, Busy, Gone, Receive, Scope, Send, TooLarge, TooSlow, answer, refuse
from tocsin.core.ids import token_hash, uuid7
from tocsin.inbound import passes
from tocsin.inbound.committer import Committer, NotStored, Ticket, is_pending
from tocsin.inbound.credentials import Proof, kept_headers
from tocsin.inbound.decode import Element, decode
from tocsin.inbound.door import Door
from tocsin.inbound.messages import Incoming, Stored
from tocsin.inbound.passes import Pass
from tocsin.inbound.prepared import prepare
from tocsin.inbound.registry import Found, Registry, UnknownDoor

log = logging.getLogger(__name__)

PREFIX = "/in/"
_TEST = f"{passes.SEGMENT}/"

#: Bodies over this many bytes are decoded in a thread, so that they do not hold up the others.
LARGE = 256 * 1024

#: A token that is not known makes the node look for a newer configuration, at most once in so many seconds.
LOOK_EVERY = 0.2

_RETRY = ((b"retry-after", b"5"),)


class Answer(msgspec.Struct, omit_defaults=True):
    """What a sender is told about one message."""

    status: str
    message_id: str
    alert_id: int | None = None
    reason: str = ""


class Inbound:
    """The ASGI app of the inbound doors."""

    def __init__(self, registry: Registry, committer: Committer, bodies: Bodies) -> None:
        self._registry = registry
        self._committer = committer
        self._bodies = bodies
        self._looked_at = 0.0
        self._looking: asyncio.Future[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "POST":
            await refuse(send, 405, "method_not_allowed", "Send a POST.", headers=((b"allow", b"POST"),))
            return
        token, slash, rest = scope["path"][len(PREFIX) :].partition("/")
        try:
            found = await self._find(token)
        except psycopg.Error as error:
            log.warning("The database does not say whose token it is: %s", error)
            await refuse(send, 503, "not_stored", "It is not stored. Send it again.", headers=_RETRY)
            return
        if found is None or found.expired or (slash and not rest.startswith(_TEST)):
            if found is not None and found.expired:
                self._registry.count_expired(found.door.id)
            await refuse(send, 404, "unknown_token", "No integration has this address. It may have been rotated.")
            return
        test = None
        if slash:
            try:
                test = passes.check(rest.removeprefix(_TEST), found.door.id, clock.now())
            except Rejected as rejected:
                # Never taken as a message like any other: that would page everybody.
                await refuse(send, 401, rejected.code, rejected.detail)
                return
        try:
            body = await self._bodies.read(scope, receive)
        except TooLarge:
            await refuse(send, 413, "too_large", "A body has at most 5 MiB.", headers=((b"connection", b"close"),))
        except Busy:
            await refuse(send, 503, "busy", "Too much is being received. Send it again.", headers=_RETRY)
        except TooSlow:
            detail = "The body did not come whole in time. Send it again."
            await refuse(send, 408, "too_slow", detail, headers=((b"connection", b"close"),))
        except Gone:
            return
        else:
            try:
                await self._take(found.door, scope, body, send, test)
            finally:
                self._bodies.done(len(body))

    async def _find(self, token: str) -> Found | None:
        if not token or len(token) > 200 or not token.isascii():
            return None
        hashed = token_hash(token)
        found = self._registry.find(hashed, clock.now())
        if found is None:
            # It may have been made a moment ago, by another node too.
            await self._look()
            found = self._registry.find(hashed, clock.now())
        return found

    async def _look(self) -> None:
        """A look at the configuration that begins after this call; all who wait meanwhile share it."""
        if self._looking is None:
            self._looking = asyncio.ensure_future(self._look_in_turn())
        await asyncio.shield(self._looking)

    async def _look_in_turn(self) -> None:
        try:
            await asyncio.sleep(max(0.0, self._looked_at + LOOK_EVERY - time.monotonic()))
        finally:
            # Whoever comes from now on needs the next look.
            self._looking = None
        self._looked_at = time.monotonic()
        await asyncio.to_thread(self._registry.refresh)

    async def _take(self, door: Door, scope: Scope, body: bytes, send: Send, test: Pass | None) -> None:
        headers = {key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]}
        proofs: dict[str, Proof] = {}
        if door.credentials.are_asked:
            proofs = door.credentials.check(headers, body)
            if any(proof is not Proof.VALID for proof in proofs.values()):
                said = "; ".join(f"{name}: {proof.value}" for name, proof in proofs.items())
                await refuse(send, 401, "bad_credentials", said)
                return
        content_type = headers.get("content-type", "")
        lenient = door.reader.kind.lenient
        whole: Element | Rejected | None = None
        elements: Sequence[Element] = ()
        is_array = False
        try:
            if len(body) > LARGE:
                decoded = await asyncio.to_thread(decode, body, content_type, lenient=lenient)
            else:
                decoded = decode(body, content_type, lenient=lenient)
            elements, is_array = decoded.elements, decoded.is_array
        except Rejected as rejected:
            if rejected.code == "too_many":
                await refuse(send, 413, "too_many", rejected.detail)
                return
            whole = rejected
        kept = kept_headers(headers, proofs)
        now = clock.now()
        make = partial(Incoming, integration_id=door.id, received_at=now, content_type=content_type, headers=kept)
        if test is not None:
            make = partial(make, test_user_id=test.user_id, test_id=test.id)
        if whole is not None:
            incoming = [make(id=uuid7(), raw=body, element=whole)]
        else:
            if is_array:
                # The elements of an array are JSON, whatever the request called itself.
                make = partial(make, content_type="application/json")
            read = partial(_incoming, door, make, elements, test.id if test is not None else "")
            incoming = await asyncio.to_thread(read) if len(body) > LARGE else read()
        if not incoming:
            await answer(send, 200, b'{"messages":[]}')
            return
        stored = await self._commit(incoming, len(body))
        await self._answer(send, door, incoming, stored, is_array=is_array)

    async def _commit(self, incoming: Sequence[Incoming], size: int) -> list[Stored] | Exception:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[Stored] | Exception] = loop.create_future()

        def tell(result: list[Stored] | Exception) -> None:
            loop.call_soon_threadsafe(_settle, future, result)

        if not self._committer.put(Ticket(incoming, size, tell)):
            return NotStored("too much is waiting")
        return await future

    async def _answer(
        self,
        send: Send,
        door: Door,
        incoming: Sequence[Incoming],
        stored: list[Stored] | Exception,
        *,
        is_array: bool,
    ) -> None:
        if isinstance(stored, UnknownDoor):
            await refuse(send, 404, "unknown_token", "The integration was removed.")
            return
        if isinstance(stored, Exception):
            detail = "It is not known to be stored. Send it again; with the same delivery id that does no harm."
            await refuse(send, 503, "not_stored", detail, headers=_RETRY)
            return
        status = 202 if is_pending(stored) else 200
        if is_array:
            answers = [_said(one, what) for one, what in zip(incoming, stored, strict=True)]
            await answer(send, status, msgspec.json.encode({"messages": answers}))
            return
        (one,), (what,) = incoming, stored
        if what.error is not None and what.error not in ("no_id", "not_compiled") and door.reader.kind.unreadable_status == 400:
            body = {"error": what.error, "detail": what.reason, "message_id": str(one.id)}
            await answer(send, 400, msgspec.json.encode(body))
            return
        await answer(send, status, msgspec.json.encode(_said(one, what)))


def _incoming(door: Door, make: Callable[..., Incoming], elements: Sequence[Element], test_id: str) -> list[Incoming]:
    """The messages of a request, read while the batch before them is being committed."""
    found = []
    for element in elements:
        number = uuid7()
        try:
            prepared = prepare(door, element, number, test_id=test_id)
        except Exception:  # the committer meets it again, and keeps the message
            log.exception("Message %s cannot be read where it arrives.", number)
            prepared = None
        found.append(make(id=number, raw=element.raw, element=element, prepared=prepared))
    return found


def _said(incoming: Incoming, stored: Stored) -> Answer:
    return Answer(stored.status.value, str(incoming.id), stored.alert_id, stored.reason)


def _settle(future: asyncio.Future[list[Stored] | Exception], result: list[Stored] | Exception) -> None:
    if not future.done():  # the sender may have left
        future.set_result(result)
