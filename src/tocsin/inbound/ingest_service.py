"""What all inbound endpoints of a node share: `IngestService` finds the integration of a token, reads and checks a
request, and has its messages decided; before it, the answers to senders, test tokens, and counts of refused requests.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Final, LiteralString
from uuid import UUID

import msgspec
import psycopg
from django.core.signing import BadSignature, Signer
from psycopg import errors

from tocsin.core.config import crypto
from tocsin.core.db import database
from tocsin.core.db.database import Connection
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
from tocsin.core.reasons import NO_REASON, Reason, ReasonType, Term, joined
from tocsin.core.runtime import clock
from tocsin.inbound.config.compiled_integration import ADDRESS, CompiledIntegration, CredentialStatus
from tocsin.inbound.config.registry import IntegrationRegistry, TokenLookup, UnknownIntegration
from tocsin.inbound.deciding.decide import prepare
from tocsin.inbound.parsing import decode
from tocsin.inbound.parsing.decode import LARGE, Decoded, Element, elements_of, is_costly
from tocsin.inbound.processing.committer import Committer, IngestRequest, NotStored, is_pending
from tocsin.inbound.storage.messages import IncomingMessage, MessageResult

NOT_STORED = ReasonType("request.not_stored", "It is not stored. Send it again.")
MAYBE_NOT_STORED = ReasonType(
    "request.maybe_not_stored",
    "It is not known to be stored. Send it again. With the same delivery id, that does no harm.",
)
BEING_CHANGED = ReasonType("request.alert_being_changed", "Another user is changing this alert. Send it again.")
OVER_CAPACITY = ReasonType("request.over_capacity", "Too much is being received. Send it again.")
TOO_LARGE = ReasonType("request.too_large", "A body has at most {limit} MiB.")
TOO_SLOW = ReasonType("request.too_slow", "The body was not complete in time. Send it again.")
POST_NEEDED = ReasonType("request.post_needed", "Send a POST.")

UNKNOWN_TOKEN = ReasonType("request.unknown_token", "No integration has this address. It may have been rotated.")
INTEGRATION_DELETED = ReasonType("request.integration_deleted", "The integration was deleted.")
CREDENTIAL = ReasonType("request.credential", "{name}: {status}")
ADDRESS_ALLOWED = ReasonType("request.address_allowed", "{address} may send here")
ADDRESS_NOT_ALLOWED = ReasonType("request.address_not_allowed", "{address} may not send here")
UNKNOWN_ADDRESS = ReasonType("request.unknown_address", "an unknown address")

SENDER_NOT_CHECKED = ReasonType("sender.not_checked", "The sender cannot be checked now.")
UNREADABLE = ReasonType("sender.unreadable", "It cannot be checked: {error}.")
OTHER_SENDER = ReasonType(
    "sender.other",
    "This integration accepts messages of {expected} only, not of {sender}. To change that, {remedy}",
)

UNKNOWN_PING = ReasonType(
    "heartbeat.unknown_ping", "A heartbeat has the address of its integration, or {paths} after it."
)


# ---------- responses: HTTP status, and JSON that scripts rely on

#: Failures of readable messages: the request was correct, and retrying would not help.
_READABLE = frozenset({"no_id", "not_compiled"})


class MessageResponse(msgspec.Struct, omit_defaults=True):
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
    reason = result.reason
    return MessageResponse(result.status.value, str(incoming.id), result.alert_id, str(reason), reason.code)


# ---------- test token
# The test token that makes a POST a user's test: signed, for one integration and one user, valid for a minute.
# It is part of the path, after the integration's token: no proxy drops a part of the path, so a sample never arrives
# as a message that pages everybody.

_FOREIGN = ReasonType("test_token.foreign", "This test token was not issued by this installation of Tocsin.")
_OTHER_INTEGRATION = ReasonType("test_token.other_integration", "This test token is for another integration.")
_EXPIRED = ReasonType(
    "test_token.expired", "This test token was valid for {duration} and has expired. Send the sample again."
)

TEST_TOKEN_VALID_FOR = timedelta(minutes=1)

#: The path segment between an integration's token and the test token.
TEST_SEGMENT = "test"


@dataclass(frozen=True, slots=True)
class WebhookTestToken:
    """The user who sends the test, and the test's unique number."""

    user_id: int
    number: int

    @property
    def id(self) -> str:
        """The number as 16 hexadecimal characters."""
        return f"{self.number:016x}"


def issue_test_token(integration_id: int, user_id: int, now: datetime) -> tuple[str, WebhookTestToken]:
    """Returns a new token's URL-safe text, and the token."""
    token = WebhookTestToken(user_id, random.SystemRandom().getrandbits(64))
    expires_at = int((now + TEST_TOKEN_VALID_FOR).timestamp())
    return _signer().sign_object([integration_id, user_id, expires_at, token.number]), token


def check_test_token(text: str, integration_id: int, now: datetime) -> WebhookTestToken:
    """Verifies a token issued with any of the known keys. Raises Rejected("bad_pass") if it is invalid or expired."""
    try:
        issued_for, user_id, expires_at, number = _signer().unsign_object(text)
    except (BadSignature, ValueError):
        raise Rejected("bad_pass", _FOREIGN()) from None
    if issued_for != integration_id:
        raise Rejected("bad_pass", _OTHER_INTEGRATION())
    if now.timestamp() >= expires_at:
        raise Rejected("bad_pass", _EXPIRED(duration=TEST_TOKEN_VALID_FOR))
    return WebhookTestToken(user_id, number)


def _signer() -> Signer:
    # A salt, so that nothing else signed by Tocsin can serve as a test token.
    key, *older_keys = crypto.secret_keys()
    return Signer(key=key, fallback_keys=[*older_keys], salt="inbound test token", sep=".")


# ---------- refused requests
# Counts refused requests. A sender that gets 401, 403 or 404 rarely tells anybody, so doctor and Home do.
# Those that no integration receives (a mistyped path, a deleted integration, a product whose API Tocsin does not have)
# are counted by path and address; those that an integration refuses (a wrong password, an address that may not send)
# by integration and address. Counted in memory, for a limited number of senders, and written by a periodic task.

#: Senders counted between two writes, and rows kept, of each table. What is more is not counted: it is somebody's scan.
MAX_SENDERS: Final = 200
#: How long a row is kept after the last request.
KEPT_FOR: Final = timedelta(days=7)
#: An address that tried more paths than this within a day is a scanner, not a sender.
MAX_PATHS_PER_ADDRESS: Final = 5

_MAX_PATH_CHARS: Final = 100
#: What may be a token: it may be one of another installation.
_SECRET: Final = re.compile(r"[\w-]{16,}")


@dataclass(frozen=True, slots=True)
class _Refusals:
    """The requests of one sender that were refused: how many, and when and why the last one."""

    last_at: datetime
    reason: Reason = NO_REASON
    requests: int = 1


#: By integration, or path without secrets; and address.
type _Counts = dict[tuple[int | str, str], _Refusals]


class RefusedRequests:
    """The counts of one node since they were last written."""

    def __init__(self) -> None:
        self._unmatched: _Counts = {}
        self._refused: _Counts = {}
        self._lock = threading.Lock()

    def count_unmatched(self, scope: AsgiScope) -> None:
        """Counts a request that nothing received."""
        path = _SECRET.sub(lambda match: f"{match.group()[:4]}…", scope["path"])[:_MAX_PATH_CHARS].replace("\0", "")
        with self._lock:
            _add(self._unmatched, {(path, client_address(scope) or ""): _Refusals(clock.now())})

    def count_refused(self, integration_id: int, address: str | None, reason: Reason, now: datetime) -> None:
        with self._lock:
            _add(self._refused, {(integration_id, address or ""): _Refusals(now, reason)})

    def write(self, now: datetime) -> bool:
        """Adds the counts to the tables; if that fails, keeps them."""
        with self._lock:
            unmatched, refused = self._unmatched, self._refused
            self._unmatched, self._refused = {}, {}
        if not unmatched and not refused:
            return False
        try:
            with database.transaction() as connection:
                _store(connection, _STORE_UNMATCHED, "inbound_unmatchedpost", unmatched, now)
                _store(connection, _STORE_REFUSED, "inbound_refusedsender", refused, now)
        except errors.Error:
            with self._lock:
                _add(unmatched, self._unmatched)
                _add(refused, self._refused)
                self._unmatched, self._refused = unmatched, refused
            raise
        return False


def _add(counts: _Counts, newer: _Counts) -> None:
    for sender, refusals in newer.items():
        if (earlier := counts.get(sender)) is not None:
            counts[sender] = replace(refusals, requests=earlier.requests + refusals.requests)
        elif len(counts) < MAX_SENDERS:
            counts[sender] = refusals


_STORE_UNMATCHED: Final = """
INSERT INTO inbound_unmatchedpost AS p (path, address, requests, last_at)
VALUES (%(target)s, %(address)s, %(requests)s, %(now)s)
ON CONFLICT (path, address) DO UPDATE SET requests = p.requests + EXCLUDED.requests, last_at = EXCLUDED.last_at
"""
# An integration that was deleted meanwhile is left out.
_STORE_REFUSED: Final = """
INSERT INTO inbound_refusedsender AS s (integration_id, address, requests, last_at, reason)
SELECT i.id, %(address)s, %(requests)s, %(last_at)s, %(reason)s
FROM inbound_integration i WHERE i.id = %(target)s
ON CONFLICT (integration_id, address) DO UPDATE SET requests = s.requests + EXCLUDED.requests,
  last_at = EXCLUDED.last_at, reason = EXCLUDED.reason
"""


def _store(connection: Connection, query: LiteralString, table: str, counts: _Counts, now: datetime) -> None:
    if not counts:
        return
    # In one order, as two nodes write the same senders.
    rows = [
        {
            "now": now,
            "target": target,
            "address": address,
            "requests": refusals.requests,
            "last_at": refusals.last_at,
            "reason": refusals.reason,
        }
        for (target, address), refusals in sorted(counts.items(), key=lambda item: item[0])
    ]
    with connection.cursor() as cursor:
        cursor.executemany(query, rows)
    connection.execute(
        database.literal(
            f"DELETE FROM {table} WHERE last_at < %(before)s OR id NOT IN ("
            f"SELECT id FROM {table} ORDER BY last_at DESC, id DESC LIMIT %(limit)s)"
        ),
        {"before": now - KEPT_FOR, "limit": MAX_SENDERS},
    )


# ---------- ingest service
# Each endpoint formats its own responses.

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
            raise HttpError(503, "not_stored", NOT_STORED(), RETRY) from None
        if lookup is not None and lookup.is_expired:
            self.registry.count_expired(lookup.integration.id)
        if lookup is None or lookup.is_expired:
            raise HttpError(404, "unknown_token", UNKNOWN_TOKEN())
        return lookup.integration

    async def read_body(self, scope: AsgiScope, receive: Receive) -> bytes:
        """Reads the whole body. Call `body_reader.release` with its length when the body is not needed any more.

        Raises HttpError (413, 503 or 408), or ClientDisconnected.
        """
        try:
            return await self.body_reader.read(scope, receive)
        except BodyTooLarge:
            raise HttpError(413, "too_large", TOO_LARGE(limit=MAX_BODY_BYTES >> 20), _CLOSE) from None
        except OverCapacity:
            raise _over_capacity() from None
        except BodyTimeout:
            raise HttpError(408, "too_slow", TOO_SLOW(), _CLOSE) from None

    async def decompress_body(self, headers: Mapping[str, str], body: bytes) -> bytes:
        """Decompresses the body as its headers say. Signatures cover the compressed bytes.

        Raises Rejected for invalid data, HttpError 413 if the result would be too large, HttpError 503 if over
        capacity.
        """
        encoding = headers.get("content-encoding", "")
        if not decode.is_compressed(encoding):
            return body
        # Reserve the maximum: the decompressed size is not known in advance.
        if not self.body_reader.reserve(MAX_BODY_BYTES):
            raise _over_capacity()
        try:
            return await asyncio.to_thread(decode.decompress, body, encoding, MAX_BODY_BYTES)
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

        def set_result(result: list[MessageResult] | Exception) -> None:
            if not future.done():
                future.set_result(result)

        is_queued = self._committer.put(IngestRequest(incoming, size, set_result, loop))
        result = await future if is_queued else NotStored("too much is waiting")
        if isinstance(result, UnknownIntegration):
            raise HttpError(404, "unknown_token", INTEGRATION_DELETED())
        if isinstance(result, Exception):
            raise HttpError(503, "not_stored", MAYBE_NOT_STORED(), RETRY)
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
        return CREDENTIAL(name=name, status=Term(result))
    kind = ADDRESS_ALLOWED if result is CredentialStatus.VALID else ADDRESS_NOT_ALLOWED
    return kind(address=address or UNKNOWN_ADDRESS())


def post_needed() -> HttpError:
    """Returns the refusal of another method than POST."""
    return HttpError(405, "method_not_allowed", POST_NEEDED(), ((b"allow", b"POST"),))


def _over_capacity() -> HttpError:
    return HttpError(503, "busy", OVER_CAPACITY(), RETRY)


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
