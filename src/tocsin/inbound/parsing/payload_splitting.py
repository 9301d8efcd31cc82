"""Splits a request's body into the messages that its integration's kind sees in it.

Stored messages are not split again: each is a single message.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from itertools import islice

import msgspec

from tocsin.catalogue.hooks import Headers, Payload
from tocsin.catalogue.kinds import IntegrationKind
from tocsin.core.errors import Rejected
from tocsin.core.reasons import ReasonType
from tocsin.inbound.mapping.message_objects import tickets_in
from tocsin.inbound.parsing.decode import MAX_ELEMENTS, Decoded, Element, decode

log = logging.getLogger(__name__)

_TOO_MANY_MESSAGES = ReasonType(
    "body.too_many_messages", "One request may have at most {maximum} messages; this one has more."
)
_KIND_FAILED = ReasonType("body.kind_failed", "{kind} could not parse the message: {error}. It can be replayed.")
_TOO_REPETITIVE = ReasonType("body.too_repetitive", "The messages in this body expand to more than {maximum} MiB.")

#: Limit for the total size of the messages of one body: shared parts are repeated in each and could grow unbounded.
MAX_SPLIT = 16 * 1024 * 1024

_NO_HEADERS: Mapping[str, str] = {}


def elements_of(
    kind: IntegrationKind, body: bytes, content_type: str | None, headers: Mapping[str, str] = _NO_HEADERS
) -> Decoded:
    """Decodes and splits a body. `headers` by lower-case name. Raises Rejected as `decode` does."""
    decoded = decode(body, content_type, lenient=kind.lenient)
    split = _ticket_splitter(kind) if kind.assigns_source_agent else kind.kind_hooks.messages
    if split is None:
        return decoded
    elements: list[Element] = []
    for element in decoded.elements:
        elements += _messages(kind, split, element, headers)
        if len(elements) > MAX_ELEMENTS:
            raise Rejected("too_many", _TOO_MANY_MESSAGES(maximum=MAX_ELEMENTS))
    return Decoded(tuple(elements), decoded.is_array or len(elements) > 1)


type _Split = Callable[[Payload, Headers], Sequence[Payload]]


def _ticket_splitter(kind: IntegrationKind) -> _Split:
    """Returns the function that splits a list of tickets, and then each as the kind does."""
    hook = kind.kind_hooks.messages

    def split(payload: Payload, headers: Headers) -> Sequence[Payload]:
        tickets = tickets_in(payload) or [payload]
        return tickets if hook is None else [message for ticket in tickets for message in hook(ticket, headers)]

    return split


def _messages(kind: IntegrationKind, split: _Split, element: Element, headers: Headers) -> list[Element]:
    """Returns the messages of one element; the element itself if there is only one, or the kind's hook failed."""
    if element.payload is None:
        return [element]
    try:
        payloads = list(islice(split(element.payload, headers), MAX_ELEMENTS + 1))
    except Exception as error:  # boundary of a kind's hook: one sender's input must not affect other messages
        log.exception("The code of the kind %s cannot read a message.", kind.name)
        reason = _KIND_FAILED(kind=kind.title, error=type(error).__name__)
        return [Element(element.payload, element.raw, problem=Rejected("cannot_be_read", reason))]
    if not payloads or (len(payloads) == 1 and payloads[0] is element.payload):
        return [element]
    elements: list[Element] = []
    size = 0
    for payload in payloads:
        raw = msgspec.json.encode(payload)
        size += len(raw)
        if size > MAX_SPLIT:
            problem = Rejected("too_large", _TOO_REPETITIVE(maximum=MAX_SPLIT // 1024**2))
            return [Element(element.payload, element.raw, element.notes, problem)]
        elements.append(Element(payload, raw, element.notes))
    return elements
