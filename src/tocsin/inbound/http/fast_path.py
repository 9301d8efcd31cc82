"""Fast path for a POST to `/in/{token}` that arrived in one piece: handled without ASGI, answered after the commit.

Any request that it declines takes the ordinary path, which does the same with all checks.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Sequence
from functools import partial

import msgspec

from tocsin.catalogue import hooks
from tocsin.core.errors import Rejected
from tocsin.core.ids import token_hash, uuid7
from tocsin.core.net.asgi import BodyReader, RespondDirectly
from tocsin.core.runtime import clock
from tocsin.inbound.config.compiled_integration import CompiledIntegration
from tocsin.inbound.config.credentials import stored_headers
from tocsin.inbound.config.registry import IntegrationRegistry, UnknownIntegration
from tocsin.inbound.deciding.preprocessing import prepare
from tocsin.inbound.http.ingest_service import NOT_STORED, RETRY
from tocsin.inbound.http.responses import answer_of
from tocsin.inbound.parsing.decode import LARGE, decode, is_costly
from tocsin.inbound.processing.committer import Committer, IngestRequest
from tocsin.inbound.storage.messages import IncomingMessage, MessageResult

log = logging.getLogger(__name__)

#: Other targets are tests, have a query, or use an unusual spelling.
_TARGET = re.compile(rb"/in/([^/?%]{1,200})")

_NOT_STORED = msgspec.json.encode({"error": "not_stored", "detail": NOT_STORED})
_GONE = msgspec.json.encode({"error": "unknown_token", "detail": "The integration was removed."})


class FastPath:
    """Handles complete requests for integrations that require nothing but their token."""

    def __init__(self, registry: IntegrationRegistry, committer: Committer, bodies: BodyReader) -> None:
        self._registry = registry
        self._committer = committer
        self._bodies = bodies

    def wants(self, target: bytes) -> CompiledIntegration | None:
        """Returns the target's integration if its token is current, it needs no credentials, and its kind no hooks."""
        usual = _TARGET.fullmatch(target)
        if usual is None:
            return None
        found = self._registry.find(token_hash(usual[1].decode("latin-1")), clock.now())
        if found is None or found.expired:
            return None
        door = found.door
        return None if door.credentials.are_asked or door.reader.kind.code is not hooks.NONE else door

    def take(
        self, wanted: object, headers: Sequence[tuple[bytes, bytes]], body: bytes, answer: RespondDirectly
    ) -> bool:
        """Passes one message to the committer. Declines arrays, and bodies that are compressed or unreadable."""
        assert isinstance(wanted, CompiledIntegration)
        try:
            incoming = None if len(body) > LARGE else _incoming(wanted, headers, body)
        except Exception:  # boundary of one request: the ordinary path meets the error again and reports it
            log.exception("A message to %s cannot be taken the short way.", wanted.name)
            return False
        if incoming is None or not self._bodies.hold(len(body)):
            return False
        tell = partial(self._tell, wanted, incoming, answer)
        if self._committer.put(IngestRequest((incoming,), len(body), tell, asyncio.get_running_loop())):
            return True
        self._bodies.done(len(body))
        return False

    def _tell(
        self,
        door: CompiledIntegration,
        incoming: IncomingMessage,
        answer: RespondDirectly,
        result: list[MessageResult] | Exception,
    ) -> None:
        self._bodies.done(len(incoming.raw))
        if isinstance(result, UnknownIntegration):
            answer(404, _GONE)
        elif isinstance(result, Exception):
            answer(503, _NOT_STORED, *RETRY)
        else:
            answer(*answer_of(door, [incoming], result, is_array=False))


def _incoming(door: CompiledIntegration, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> IncomingMessage | None:
    """Returns the request's single message; None if it is not one readable message."""
    named = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}
    content_type = named.get("content-type", "")
    if "content-encoding" in named or is_costly(body, content_type):
        return None
    try:
        decoded = decode(body, content_type, lenient=door.reader.kind.lenient)
    except Rejected:
        return None
    if decoded.is_array:
        return None
    (element,) = decoded.elements
    number = uuid7()
    return IncomingMessage(
        number,
        door.id,
        clock.now(),
        element.raw,
        element,
        content_type,
        stored_headers(named, {}),
        prepared=prepare(door, element, number),
    )
