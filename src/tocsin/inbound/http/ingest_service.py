"""What all inbound endpoints of a node share: token lookup, reading bodies, checking credentials, and passing messages
to the committer. Each endpoint formats its own responses."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from uuid import UUID

import psycopg

from tocsin.core.errors import Rejected
from tocsin.core.ids import token_hash, uuid7
from tocsin.core.net.asgi import (
    MAX_BODY_BYTES,
    AsgiScope,
    BodyReader,
    BodyTimeout,
    BodyTooLarge,
    OverCapacity,
    Receive,
    client_address,
)
from tocsin.core.reasons import Reason, Term, joined
from tocsin.core.runtime import clock
from tocsin.inbound.config.compiled_integration import CompiledIntegration
from tocsin.inbound.config.credentials import ADDRESS, CredentialStatus
from tocsin.inbound.config.registry import IntegrationRegistry, TokenLookup, UnknownIntegration
from tocsin.inbound.deciding.preprocessing import prepare
from tocsin.inbound.http import reasons
from tocsin.inbound.http.refused_requests import RefusedRequests
from tocsin.inbound.http.test_token import WebhookTestToken
from tocsin.inbound.parsing import encodings
from tocsin.inbound.parsing.decode import LARGE, Decoded, Element, is_costly
from tocsin.inbound.parsing.payload_splitting import elements_of
from tocsin.inbound.processing.committer import Committer, IngestRequest, NotStored
from tocsin.inbound.storage.messages import IncomingMessage, MessageResult

log = logging.getLogger(__name__)

#: An unknown token makes the node check for a newer configuration, at most once in this many seconds.
MIN_REFRESH_INTERVAL_SECONDS = 0.2

RETRY = ((b"retry-after", b"5"),)
_CLOSE = ((b"connection", b"close"),)

JSON = "application/json"


@dataclass(slots=True)
class HttpError(Exception):
    """A refused request: status, error code, reason, and response headers."""

    status: int
    code: str
    reason: Reason
    headers: tuple[tuple[bytes, bytes], ...] = ()

    def __str__(self) -> str:
        return self.detail

    @property
    def detail(self) -> str:
        """The reason in English."""
        return str(self.reason)


@dataclass(frozen=True, slots=True)
class IngestResult:
    """The messages of one request with their results."""

    incoming: Sequence[IncomingMessage]
    results: Sequence[MessageResult]


class IngestService:
    """The inbound service of a node, used by its HTTP, SMTP and heartbeat endpoints."""

    def __init__(self, registry: IntegrationRegistry, committer: Committer, body_reader: BodyReader) -> None:
        self.registry = registry
        self.body_reader = body_reader
        self._committer = committer
        self.refused_requests = RefusedRequests()
        self._refreshed_at = 0.0
        self._pending_refresh: asyncio.Future[None] | None = None

    async def find_integration(self, token: str) -> CompiledIntegration:
        """Returns the integration with that token. Raises HttpError: 404, or 503 if the database is unavailable."""
        try:
            lookup = await self._find_token(token)
        except psycopg.Error as error:
            log.warning("The database does not say whose token it is: %s", error)
            raise HttpError(503, "not_stored", reasons.NOT_STORED(), RETRY) from None
        if lookup is not None and lookup.is_expired:
            self.registry.count_expired(lookup.integration.id)
        if lookup is None or lookup.is_expired:
            raise HttpError(404, "unknown_token", reasons.UNKNOWN_TOKEN())
        return lookup.integration

    async def read_body(self, scope: AsgiScope, receive: Receive) -> bytes:
        """Reads the whole body. Call `body_reader.release` with its length when the body is not needed any more.

        Raises HttpError (413, 503 or 408), or ClientDisconnected.
        """
        try:
            return await self.body_reader.read(scope, receive)
        except BodyTooLarge:
            raise HttpError(413, "too_large", reasons.TOO_LARGE(limit=MAX_BODY_BYTES >> 20), _CLOSE) from None
        except OverCapacity:
            raise _over_capacity() from None
        except BodyTimeout:
            raise HttpError(408, "too_slow", reasons.TOO_SLOW(), _CLOSE) from None

    async def decompress_body(self, headers: Mapping[str, str], body: bytes) -> bytes:
        """Decompresses the body as its headers say. Signatures cover the compressed bytes.

        Raises Rejected for invalid data, HttpError 413 if the result would be too large, HttpError 503 if over
        capacity.
        """
        encoding = headers.get("content-encoding", "")
        if not encodings.is_compressed(encoding):
            return body
        # Reserve the maximum: the decompressed size is not known in advance.
        if not self.body_reader.reserve(MAX_BODY_BYTES):
            raise _over_capacity()
        try:
            return await asyncio.to_thread(encodings.decompress, body, encoding, MAX_BODY_BYTES)
        except Rejected as rejected:
            if rejected.code == "too_large":
                raise HttpError(413, "too_large", rejected.reason) from None
            raise
        finally:
            self.body_reader.release(MAX_BODY_BYTES)

    def check_credentials(
        self, integration: CompiledIntegration, scope: AsgiScope, headers: Mapping[str, str], body: bytes
    ) -> dict[str, CredentialStatus]:
        """Checks all required credentials and returns their results, all VALID. Raises HttpError (401)."""
        if not integration.credentials.are_required:
            return {}
        is_signed = integration.normalizer.kind.kind_hooks.is_signed
        address = client_address(scope)
        results = integration.credentials.check(headers, body, address=address, is_signed=is_signed, now=clock.now())
        if any(result is not CredentialStatus.VALID for result in results.values()):
            reason = joined(*(_describe_credential(name, result, address) for name, result in results.items()))
            self.refused_requests.count_refused(integration.id, address, reason, clock.now())
            raise HttpError(401, "bad_credentials", reason)
        return results

    async def decode_body(
        self, integration: CompiledIntegration, body: bytes, content_type: str, headers: Mapping[str, str]
    ) -> Decoded:
        """Parses a body to elements. Raises Rejected as `decode` does, HttpError (413) for too many elements."""
        try:
            if is_costly(body, content_type):
                return await asyncio.to_thread(elements_of, integration.normalizer.kind, body, content_type, headers)
            return elements_of(integration.normalizer.kind, body, content_type, headers)
        except Rejected as rejected:
            if rejected.code == "too_many":
                raise HttpError(413, "too_many", rejected.reason) from None
            raise

    async def ingest(
        self,
        integration: CompiledIntegration,
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
        build = partial(build_messages, integration, elements, body, headers, content_type, test, ids)
        incoming = await asyncio.to_thread(build) if len(body) > LARGE else build()
        return IngestResult(incoming, await self._commit(incoming, size_of(incoming, body)))

    async def _commit(self, incoming: Sequence[IncomingMessage], size: int) -> list[MessageResult]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[MessageResult] | Exception] = loop.create_future()

        if not self._committer.put(IngestRequest(incoming, size, partial(_set_result, future), loop)):
            result: list[MessageResult] | Exception = NotStored("too much is waiting")
        else:
            result = await future
        if isinstance(result, UnknownIntegration):
            raise HttpError(404, "unknown_token", reasons.INTEGRATION_DELETED())
        if isinstance(result, Exception):
            raise HttpError(503, "not_stored", reasons.MAYBE_NOT_STORED(), RETRY)
        return result

    async def _find_token(self, token: str) -> TokenLookup | None:
        if not token or len(token) > 200 or not token.isascii():
            return None
        hashed_token = token_hash(token)
        lookup = self.registry.find(hashed_token, clock.now())
        if lookup is None:
            # The token may have been created a moment ago, perhaps by another node.
            await self._refresh_registry()
            lookup = self.registry.find(hashed_token, clock.now())
        return lookup

    async def _refresh_registry(self) -> None:
        """Checks for a newer configuration, after this call starts; concurrent callers share one check."""
        if self._pending_refresh is None:
            self._pending_refresh = asyncio.ensure_future(self._refresh_after_interval())
        await asyncio.shield(self._pending_refresh)

    async def _refresh_after_interval(self) -> None:
        try:
            await asyncio.sleep(max(0.0, self._refreshed_at + MIN_REFRESH_INTERVAL_SECONDS - time.monotonic()))
        finally:
            # Later callers need the next check.
            self._pending_refresh = None
        self._refreshed_at = time.monotonic()
        await asyncio.to_thread(self.registry.refresh)


def _describe_credential(name: str, result: CredentialStatus, address: str | None) -> Reason:
    if name != ADDRESS:
        return reasons.CREDENTIAL(name=name, status=Term(result))
    kind = reasons.ADDRESS_ALLOWED if result is CredentialStatus.VALID else reasons.ADDRESS_NOT_ALLOWED
    return kind(address=address or reasons.UNKNOWN_ADDRESS())


def _over_capacity() -> HttpError:
    return HttpError(503, "busy", reasons.OVER_CAPACITY(), RETRY)


def headers_of(scope: AsgiScope) -> dict[str, str]:
    """Returns a request's headers by lower-case name."""
    return {key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]}


def build_messages(
    integration: CompiledIntegration,
    elements: Sequence[Element] | Rejected,
    body: bytes,
    headers: Mapping[str, str],
    content_type: str,
    test: WebhookTestToken | None = None,
    ids: Sequence[UUID] = (),
) -> list[IncomingMessage]:
    """Builds a request's messages, preprocessed while the previous batch is being committed. `headers` are those to
    store, `ids` the messages' ids if already known."""
    received_at = clock.now()
    test_user_id, test_id = (test.user_id, test.id) if test is not None else (None, "")
    parts: Sequence[Element | Rejected] = (elements,) if isinstance(elements, Rejected) else elements
    incoming = []
    for index, element in enumerate(parts):
        message_id = ids[index] if ids else uuid7()
        try:
            preprocessed = prepare(integration, element, message_id, test_id=test_id)
        except Exception:  # the committer meets the error again, and stores the message
            log.exception("Message %s cannot be read where it arrives.", message_id, extra={"message_id": message_id})
            preprocessed = None
        incoming.append(
            IncomingMessage(
                message_id,
                integration.id,
                received_at,
                body if isinstance(element, Rejected) else element.raw,
                element,
                content_type,
                headers,
                test_user_id=test_user_id,
                preprocessed=preprocessed,
                test_id=test_id,
            )
        )
    return incoming


def content_type_of(elements: Sequence[Element] | Rejected, body: bytes, content_type: str) -> str:
    """Returns the content type of a request's elements."""
    if isinstance(elements, Rejected) or not elements or elements[0].raw is body:
        return content_type
    # Elements of an array, and messages made by a kind's hook, are JSON whatever the request's content type was.
    return JSON


def size_of(incoming: Sequence[IncomingMessage], body: bytes) -> int:
    """Returns the bytes that a request's messages occupy."""
    # A kind's hook may make far more of a body than its size: each message repeats the shared fields.
    return max(len(body), sum([len(message.raw) for message in incoming])) if len(incoming) > 1 else len(body)


def _set_result(
    future: asyncio.Future[list[MessageResult] | Exception], result: list[MessageResult] | Exception
) -> None:
    if not future.done():
        future.set_result(result)
