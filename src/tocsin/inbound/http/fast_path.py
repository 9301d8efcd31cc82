"""Fast path for a POST to `/in/{token}` that arrived in one piece: handled without ASGI, answered after the commit.

Any request that it declines takes the ordinary path, which does the same with all checks.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import msgspec

from tocsin.catalogue import hooks
from tocsin.catalogue.kinds import IntegrationKind
from tocsin.core.errors import Rejected
from tocsin.core.ids import token_hash
from tocsin.core.net.asgi import BodyReader, SendResponse
from tocsin.core.runtime import clock
from tocsin.inbound.config.compiled_integration import CompiledIntegration
from tocsin.inbound.config.credentials import stored_headers
from tocsin.inbound.config.registry import IntegrationRegistry, UnknownIntegration
from tocsin.inbound.http import reasons
from tocsin.inbound.http.ingest_service import RETRY, build_messages, content_type_of, size_of
from tocsin.inbound.http.responses import answer_of
from tocsin.inbound.parsing.decode import LARGE, Element, is_costly
from tocsin.inbound.parsing.payload_splitting import elements_of
from tocsin.inbound.processing.committer import Committer, IngestRequest
from tocsin.inbound.storage.messages import IncomingMessage, MessageResult

log = logging.getLogger(__name__)

#: Other targets are tests, have a query, or use an unusual spelling.
_TARGET = re.compile(rb"/in/([^/?%]{1,200})")

_NOT_STORED = msgspec.json.encode({"error": "not_stored", "detail": str(reasons.MAYBE_NOT_STORED())})
_INTEGRATION_DELETED = msgspec.json.encode({"error": "unknown_token", "detail": str(reasons.INTEGRATION_DELETED())})


class FastPath:
    """Handles complete requests for integrations that require nothing but their token."""

    def __init__(self, registry: IntegrationRegistry, committer: Committer, body_reader: BodyReader) -> None:
        self._registry = registry
        self._committer = committer
        self._body_reader = body_reader

    def find_handle(self, target: bytes) -> CompiledIntegration | None:
        """Returns the target's integration if its token is current, it needs no credentials, and its kind no hooks."""
        path_match = _TARGET.fullmatch(target)
        if path_match is None:
            return None
        lookup = self._registry.find(token_hash(path_match[1].decode("latin-1")), clock.now())
        if lookup is None or lookup.is_expired:
            return None
        integration = lookup.integration
        return (
            None if integration.credentials.are_required or not _is_plain(integration.normalizer.kind) else integration
        )

    def accept(
        self, handle: object, headers: Sequence[tuple[bytes, bytes]], body: bytes, respond: SendResponse
    ) -> bool:
        """Passes the request's messages to the committer. Declines bodies that are large or compressed."""
        assert isinstance(handle, CompiledIntegration)
        size = len(body)
        try:
            request = None if size > LARGE else _decode_request(handle, headers, body)
        except Exception:  # boundary of one request: the ordinary path meets the error again and reports it
            log.exception("A message to %s cannot be taken the short way.", handle.name)
            return False
        if request is None or not self._body_reader.reserve(size):
            return False
        incoming, is_array = request
        callback = partial(self._respond, handle, incoming, is_array, size, respond)
        loop = asyncio.get_running_loop()
        if self._committer.put(IngestRequest(incoming, size_of(incoming, body), callback, loop)):
            return True
        self._body_reader.release(size)
        return False

    def _respond(
        self,
        integration: CompiledIntegration,
        incoming: Sequence[IncomingMessage],
        is_array: bool,
        size: int,
        respond: SendResponse,
        result: list[MessageResult] | Exception,
    ) -> None:
        self._body_reader.release(size)
        if isinstance(result, UnknownIntegration):
            respond(404, _INTEGRATION_DELETED)
        elif isinstance(result, Exception):
            respond(503, _NOT_STORED, *RETRY)
        else:
            respond(*answer_of(integration, incoming, result, is_array=is_array))


def _is_plain(kind: IntegrationKind) -> bool:
    """Returns whether messages of a kind need only decoding; to split those of any tool costs next to nothing."""
    code = kind.kind_hooks
    return code is hooks.NO_HOOKS or (kind.opens_unknown and replace(code, messages=None) == hooks.NO_HOOKS)


def _decode_request(
    integration: CompiledIntegration, headers: Sequence[tuple[bytes, bytes]], body: bytes
) -> tuple[list[IncomingMessage], bool] | None:
    """Returns the request's messages, and whether it is an array; None if only the ordinary path can take it."""
    headers_by_name = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}
    content_type = headers_by_name.get("content-type", "")
    if "content-encoding" in headers_by_name or is_costly(body, content_type):
        return None
    is_array = False
    elements: Sequence[Element] | Rejected
    try:
        decoded = elements_of(integration.normalizer.kind, body, content_type, headers_by_name)
        elements, is_array = decoded.elements, decoded.is_array
    except Rejected as rejected:
        if rejected.code == "too_many":
            return None
        elements = rejected
    content_type = content_type_of(elements, body, content_type)
    stored = stored_headers(headers_by_name, {})
    return build_messages(integration, elements, body, stored, content_type), is_array
