"""Gives a sample's body ids that no message had before, so that it is no duplicate and hits no existing alert. Pure.

An id may be in the body literally, or be composed of several of its values: then one of those is replaced. Each attempt
is parsed again, and counts only if the message still requests the same.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import quote_plus

from tocsin.catalogue.kinds import Sample
from tocsin.core.errors import Rejected
from tocsin.inbound.config.normalizer import NormalizedEvent, Normalizer
from tocsin.inbound.http.test_token import WebhookTestToken
from tocsin.inbound.parsing.payload_splitting import elements_of

#: HaloITSM's ticket ids have 32 bits; sample ids are above that, so that no ticket ever has one.
_FIRST_NUMBER = 9_000_000_000
_NUMBER_COUNT = 1_000_000_000

#: Values to replace first: they look like a unique identifier.
_GUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.I)
_HEX = re.compile(r"(?=.*[0-9])[0-9a-f]{12,}", re.I)

#: The maximum number of attempts for one id.
_MAX_ATTEMPTS = 24


def with_fresh_ids(normalizer: Normalizer, sample: Sample, test_token: WebhookTestToken) -> tuple[str, bytes]:
    """Returns the first message's new id, and the sample's body with new ids and delivery ids.

    Numbers, GUIDs and hexadecimal ids keep their form; any other id becomes `TEST-…`. A body that is unreadable, has no
    id, or has an id that does not come from the body, is returned unchanged.
    """
    body = sample.body
    events = _normalized_events(normalizer, sample, body)
    for index, event in enumerate(events):
        if event is not None:
            replacement = _IdReplacement(normalizer, sample, index, test_token.number + index)
            body = replacement.with_new_id(body, "source_id")
            body = replacement.with_new_id(body, "delivery_id")
    new_events = _normalized_events(normalizer, sample, body) if body is not sample.body else events
    first_event = new_events[0] if new_events else None
    return (first_event.source_id or "" if first_event is not None else ""), body


@dataclass(frozen=True, slots=True)
class _IdReplacement:
    """Replaces the ids of one message in a body."""

    normalizer: Normalizer
    sample: Sample
    index: int
    number: int

    def with_new_id(self, body: bytes, name: str) -> bytes:
        """Returns `body` with a new value for the field `name`; unchanged if there is none or it is new already."""
        event = self._event(body)
        old_id = _id(event, name)
        original = self._event(self.sample.body)
        if event is None or old_id is None or old_id != _id(original, name):
            return body
        for part in _replacement_candidates(old_id, event.payload):
            for new_id in self._similar_ids(part):
                candidate = _replace_id(body, part, new_id, self.sample.content_type)
                if candidate != body and self._has_same_meaning(event, candidate, name):
                    return candidate
        return body

    def _has_same_meaning(self, event: NormalizedEvent, body: bytes, name: str) -> bool:
        new_event = self._event(body)
        if new_event is None or _id(new_event, name) == _id(event, name):
            return False
        compared_fields = ("priority", "source_status", "event", "source_time")
        return new_event.action is event.action and all(
            new_event.mapped.values.get(field_name) == event.mapped.values.get(field_name)
            for field_name in compared_fields
        )

    def _event(self, body: bytes) -> NormalizedEvent | None:
        events = _normalized_events(self.normalizer, self.sample, body)
        return events[self.index] if self.index < len(events) else None

    def _similar_ids(self, text: str) -> Iterator[str]:
        numeric_id = str(_FIRST_NUMBER + self.number % _NUMBER_COUNT)
        if text.isdecimal():
            yield numeric_id
        elif _GUID.fullmatch(text):
            # In the sender's spelling: some kinds tell a GUID from a name by nothing else.
            yield str(uuid.UUID(int=uuid.UUID(text).int ^ self.number << 32))
        elif _HEX.fullmatch(text):
            yield f"{self.number:016x}".rjust(len(text), "0")[-len(text) :]
        yield f"TEST-{self.number % 2**64:016x}"[:13]
        yield numeric_id


def _id(event: NormalizedEvent | None, name: str) -> str | None:
    if event is None:
        return None
    return event.source_id if name == "source_id" else event.delivery_id


def _normalized_events(normalizer: Normalizer, sample: Sample, body: bytes) -> list[NormalizedEvent | None]:
    """Returns the event of each message in a body, or None for an unreadable message."""
    try:
        elements = elements_of(normalizer.kind, body, sample.content_type).elements
    except Rejected:
        return []
    results = [normalizer.normalize(element) for element in elements]
    return [result if isinstance(result, NormalizedEvent) else None for result in results]


def _replacement_candidates(full_id: str, payload: object) -> list[str]:
    """Returns candidates for replacement: the whole id, then values that it is composed of, likeliest first."""
    candidates = {text for text in _texts(payload) if text and text != full_id and _contains_word(full_id, text)}
    ranked = sorted(
        candidates, key=lambda text: (not (_GUID.fullmatch(text) or _HEX.fullmatch(text)), -len(text), text)
    )
    return [full_id, *ranked][:_MAX_ATTEMPTS]


def _texts(payload: object) -> Iterator[str]:
    if isinstance(payload, Mapping):
        for value in payload.values():
            yield from _texts(value)
    elif isinstance(payload, list | tuple):
        for value in payload:
            yield from _texts(value)
    elif isinstance(payload, str):
        yield payload.strip()
    elif isinstance(payload, int | float) and not isinstance(payload, bool):
        yield str(payload)


def _contains_word(full_id: str, text: str) -> bool:
    return re.search(rf"(?<![0-9A-Za-z]){re.escape(text)}(?![0-9A-Za-z])", full_id) is not None


def _replace_id(body: bytes, old: str, new: str, content_type: str) -> bytes:
    """Replaces each `old`, ignoring case, unless it is part of a longer word or number."""
    is_form = content_type.startswith("application/x-www-form-urlencoded")
    # In a form, a word may follow a percent escape, as in %23vpn.
    prefix_pattern = rb"(?:(?<![0-9A-Za-z])|(?<=%[0-9A-Fa-f]{2}))" if is_form else rb"(?<![0-9A-Za-z])"
    encoded_id = (quote_plus(old) if is_form else old).encode()
    return re.sub(prefix_pattern + re.escape(encoded_id) + rb"(?![0-9A-Za-z])", new.encode(), body, flags=re.I)
