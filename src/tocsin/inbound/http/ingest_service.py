"""What all inbound endpoints of a node share: token lookup, reading bodies, checking credentials, and passing messages
to the committer. Each endpoint formats its own responses."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from uuid import UUID

import psycopg

from tocsin.core.errors import Rejected
from tocsin.core.ids import token_hash, uuid7
from tocsin.core.net.asgi import (
    MAX_BODY,
    AsgiScope,
    BodyReader,
    BodyTimeout,
    BodyTooLarge,
    OverCapacity,
    Receive,
    client_address,
)
from tocsin.core.runtime import clock
from tocsin.inbound.config.compiled_integration import CompiledIntegration
from tocsin.inbound.config.credentials import ADDRESS, CredentialSource
from tocsin.inbound.config.registry import IntegrationRegistry, TokenLookup, UnknownIntegration
from tocsin.inbound.deciding.preprocessing import prepare
from tocsin.inbound.http.test_token import WebhookTestToken
from tocsin.inbound.parsing import encodings
from tocsin.inbound.parsing.decode import LARGE, Decoded, Element, is_costly
from tocsin.inbound.parsing.payload_splitting import elements_of
from tocsin.inbound.processing.committer import Committer, IngestRequest, NotStored
from tocsin.inbound.storage.messages import IncomingMessage, MessageResult

log = logging.getLogger(__name__)

#: An unknown token makes the node check for a newer configuration, at most once in this many seconds.
LOOK_EVERY = 0.2

RETRY = ((b"retry-after", b"5"),)
NOT_STORED = "It is not known to be stored. Send it again; with the same delivery id that does no harm."
_CLOSE = ((b"connection", b"close"),)

JSON = "application/json"


@dataclass(slots=True)
class HttpError(Exception):
    """A refused request: status, error code, detail sentence, and response headers."""

    status: int
    code: str
    detail: str
    headers: tuple[tuple[bytes, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class IngestResult:
    """The messages of one request with their results."""

    incoming: Sequence[IncomingMessage]
    stored: Sequence[MessageResult]


class IngestService:
    """The inbound service of a node, used by its HTTP, SMTP and heartbeat endpoints."""

    def __init__(self, registry: IntegrationRegistry, committer: Committer, bodies: BodyReader) -> None:
        self.registry = registry
        self.bodies = bodies
        self._committer = committer
        self._looked_at = 0.0
        self._looking: asyncio.Future[None] | None = None

    async def door(self, token: str) -> CompiledIntegration:
        """Returns the integration with that token. Raises HttpError: 404, or 503 if the database is unavailable."""
        try:
            found = await self._find(token)
        except psycopg.Error as error:
            log.warning("The database does not say whose token it is: %s", error)
            raise HttpError(503, "not_stored", "It is not stored. Send it again.", RETRY) from None
        if found is not None and found.expired:
            self.registry.count_expired(found.door.id)
        if found is None or found.expired:
            raise HttpError(404, "unknown_token", "No integration has this address. It may have been rotated.")
        return found.door

    async def body(self, scope: AsgiScope, receive: Receive) -> bytes:
        """Reads the whole body. Call `bodies.done` with its length when the body is not needed any more.

        Raises HttpError (413, 503 or 408), or ClientDisconnected.
        """
        try:
            return await self.bodies.read(scope, receive)
        except BodyTooLarge:
            raise HttpError(413, "too_large", "A body has at most 5 MiB.", _CLOSE) from None
        except OverCapacity:
            raise _busy() from None
        except BodyTimeout:
            detail = "The body did not come whole in time. Send it again."
            raise HttpError(408, "too_slow", detail, _CLOSE) from None

    async def unpacked(self, headers: Mapping[str, str], body: bytes) -> bytes:
        """Decompresses the body as its headers say. Signatures cover the compressed bytes.

        Raises Rejected for invalid data, HttpError 413 if the result would be too large, HttpError 503 if over
        capacity.
        """
        encoding = headers.get("content-encoding", "")
        if not encodings.is_compressed(encoding):
            return body
        # Reserve the maximum: the decompressed size is not known in advance.
        if not self.bodies.hold(MAX_BODY):
            raise _busy()
        try:
            return await asyncio.to_thread(encodings.decompress, body, encoding, MAX_BODY)
        except Rejected as rejected:
            if rejected.code == "too_large":
                raise HttpError(413, "too_large", rejected.detail) from None
            raise
        finally:
            self.bodies.done(MAX_BODY)

    def proofs(
        self, door: CompiledIntegration, scope: AsgiScope, headers: Mapping[str, str], body: bytes
    ) -> dict[str, CredentialSource]:
        """Checks all required credentials and returns their results, all VALID. Raises HttpError (401)."""
        if not door.credentials.are_asked:
            return {}
        signed = door.reader.kind.code.is_signed
        address = client_address(scope)
        proofs = door.credentials.check(headers, body, address=address, is_signed=signed, now=clock.now())
        if any(proof is not CredentialSource.VALID for proof in proofs.values()):
            said = "; ".join(_of_proof(name, proof, address) for name, proof in proofs.items())
            raise HttpError(401, "bad_credentials", said)
        return proofs

    async def decoded(
        self, door: CompiledIntegration, body: bytes, content_type: str, headers: Mapping[str, str]
    ) -> Decoded:
        """Parses a body to elements. Raises Rejected as `decode` does, HttpError (413) for too many elements."""
        try:
            if is_costly(body, content_type):
                return await asyncio.to_thread(elements_of, door.reader.kind, body, content_type, headers)
            return elements_of(door.reader.kind, body, content_type, headers)
        except Rejected as rejected:
            if rejected.code == "too_many":
                raise HttpError(413, "too_many", rejected.detail) from None
            raise

    async def take(
        self,
        door: CompiledIntegration,
        elements: Sequence[Element] | Rejected,
        body: bytes,
        headers: Mapping[str, str],
        *,
        content_type: str = JSON,
        test: WebhookTestToken | None = None,
        ids: Sequence[UUID] = (),
    ) -> IngestResult:
        """Has the messages of a request decided and stored. `headers` are those to store, `ids` the messages' ids if
        already known.

        Raises HttpError: 404 if the integration was deleted, 503 if the messages may not be stored.
        """
        make = partial(
            IncomingMessage, integration_id=door.id, received_at=clock.now(), content_type=content_type, headers=headers
        )
        if test is not None:
            make = partial(make, test_user_id=test.user_id, test_id=test.id)
        if isinstance(elements, Rejected):
            incoming = [make(id=ids[0] if ids else uuid7(), raw=body, element=elements)]
        else:
            numbers = ids or [uuid7() for _ in elements]
            read = partial(_incoming, door, make, elements, numbers, test.id if test is not None else "")
            incoming = await asyncio.to_thread(read) if len(body) > LARGE else read()
        # A kind's hook may make far more of a body than its size: each message repeats the shared fields.
        size = max(len(body), sum([len(one.raw) for one in incoming])) if len(incoming) > 1 else len(body)
        return IngestResult(incoming, await self._committed(incoming, size))

    async def _committed(self, incoming: Sequence[IncomingMessage], size: int) -> list[MessageResult]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[MessageResult] | Exception] = loop.create_future()

        if not self._committer.put(IngestRequest(incoming, size, partial(_settle, future), loop)):
            stored: list[MessageResult] | Exception = NotStored("too much is waiting")
        else:
            stored = await future
        if isinstance(stored, UnknownIntegration):
            raise HttpError(404, "unknown_token", "The integration was removed.")
        if isinstance(stored, Exception):
            raise HttpError(503, "not_stored", NOT_STORED, RETRY)
        return stored

    async def _find(self, token: str) -> TokenLookup | None:
        if not token or len(token) > 200 or not token.isascii():
            return None
        hashed = token_hash(token)
        found = self.registry.find(hashed, clock.now())
        if found is None:
            # The token may have been created a moment ago, perhaps by another node.
            await self._look()
            found = self.registry.find(hashed, clock.now())
        return found

    async def _look(self) -> None:
        """Checks for a newer configuration, after this call starts; concurrent callers share one check."""
        if self._looking is None:
            self._looking = asyncio.ensure_future(self._look_in_turn())
        await asyncio.shield(self._looking)

    async def _look_in_turn(self) -> None:
        try:
            await asyncio.sleep(max(0.0, self._looked_at + LOOK_EVERY - time.monotonic()))
        finally:
            # Later callers need the next check.
            self._looking = None
        self._looked_at = time.monotonic()
        await asyncio.to_thread(self.registry.refresh)


def _of_proof(name: str, proof: CredentialSource, address: str | None) -> str:
    if name != ADDRESS:
        return f"{name}: {proof.value}"
    where = address or "an unknown address"
    return f"{where} may send here" if proof is CredentialSource.VALID else f"{where} is no address that may send here"


def _busy() -> HttpError:
    return HttpError(503, "busy", "Too much is being received. Send it again.", RETRY)


def headers_of(scope: AsgiScope) -> dict[str, str]:
    """Returns a request's headers by lower-case name."""
    return {key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]}


def _incoming(
    door: CompiledIntegration,
    make: Callable[..., IncomingMessage],
    elements: Sequence[Element],
    numbers: Sequence[UUID],
    test_id: str,
) -> list[IncomingMessage]:
    """Builds a request's messages, preprocessed while the previous batch is being committed."""
    found = []
    for number, element in zip(numbers, elements, strict=True):
        try:
            prepared = prepare(door, element, number, test_id=test_id)
        except Exception:  # the committer meets the error again, and stores the message
            log.exception("Message %s cannot be read where it arrives.", number)
            prepared = None
        found.append(make(id=number, raw=element.raw, element=element, prepared=prepared))
    return found


def _settle(future: asyncio.Future[list[MessageResult] | Exception], result: list[MessageResult] | Exception) -> None:
    if not future.done():
        future.set_result(result)
