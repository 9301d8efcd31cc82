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
_NUMBERS = 1_000_000_000

#: Values to replace first: they look like a unique identifier.
_GUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.I)
_HEX = re.compile(r"(?=.*[0-9])[0-9a-f]{12,}", re.I)

#: The maximum number of attempts for one id.
_TRIES = 24


def with_fresh_ids(reader: Normalizer, sample: Sample, test: WebhookTestToken) -> tuple[str, bytes]:
    """Returns the first message's new id, and the sample's body with new ids and delivery ids.

    Numbers, GUIDs and hexadecimal ids keep their form; any other id becomes `TEST-…`. A body that is unreadable, has no
    id, or has an id that does not come from the body, is returned unchanged.
    """
    body = sample.body
    readings = _readings(reader, sample, body)
    for place, before in enumerate(readings):
        if before is not None:
            renewal = _IdReplacement(reader, sample, place, test.number + place)
            body = renewal.renewed(body, "source_id")
            body = renewal.renewed(body, "delivery_id")
    now = _readings(reader, sample, body) if body is not sample.body else readings
    first = now[0] if now else None
    return (first.source_id or "" if first is not None else ""), body


@dataclass(frozen=True, slots=True)
class _IdReplacement:
    """Replaces the ids of one message in a body."""

    reader: Normalizer
    sample: Sample
    place: int
    number: int

    def renewed(self, body: bytes, name: str) -> bytes:
        """Returns `body` with a new value for the field `name`; unchanged if there is none or it is new already."""
        before = self._reading(body)
        old = _id(before, name)
        original = self._reading(self.sample.body)
        if before is None or old is None or old != _id(original, name):
            return body
        for part in _parts(old, before.payload):
            for fresh in self._alike(part):
                tried = _replaced(body, part, fresh, self.sample.content_type)
                if tried != body and self._says_the_same(before, tried, name):
                    return tried
        return body

    def _says_the_same(self, before: NormalizedEvent, body: bytes, name: str) -> bool:
        after = self._reading(body)
        if after is None or _id(after, name) == _id(before, name):
            return False
        kept = ("priority", "source_status", "event", "source_time")
        return after.intent is before.intent and all(
            after.mapped.values.get(one) == before.mapped.values.get(one) for one in kept
        )

    def _reading(self, body: bytes) -> NormalizedEvent | None:
        found = _readings(self.reader, self.sample, body)
        return found[self.place] if self.place < len(found) else None

    def _alike(self, text: str) -> Iterator[str]:
        number = str(_FIRST_NUMBER + self.number % _NUMBERS)
        if text.isdecimal():
            yield number
        elif _GUID.fullmatch(text):
            # In the sender's spelling: some kinds tell a GUID from a name by nothing else.
            yield str(uuid.UUID(int=uuid.UUID(text).int ^ self.number << 32))
        elif _HEX.fullmatch(text):
            yield f"{self.number:016x}".rjust(len(text), "0")[-len(text) :]
        yield f"TEST-{self.number % 2**64:016x}"[:13]
        yield number


def _id(reading: NormalizedEvent | None, name: str) -> str | None:
    if reading is None:
        return None
    return reading.source_id if name == "source_id" else reading.delivery_id


def _readings(reader: Normalizer, sample: Sample, body: bytes) -> list[NormalizedEvent | None]:
    """Returns the event of each message in a body, or None for an unreadable message."""
    try:
        elements = elements_of(reader.kind, body, sample.content_type).elements
    except Rejected:
        return []
    found = [reader.read(element) for element in elements]
    return [one if isinstance(one, NormalizedEvent) else None for one in found]


def _parts(whole: str, payload: object) -> list[str]:
    """Returns candidates for replacement: the whole id, then values that it is composed of, likeliest first."""
    among = {text for text in _texts(payload) if text and text != whole and _holds(whole, text)}
    ranked = sorted(among, key=lambda text: (not (_GUID.fullmatch(text) or _HEX.fullmatch(text)), -len(text), text))
    return [whole, *ranked][:_TRIES]


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


def _holds(whole: str, text: str) -> bool:
    return re.search(rf"(?<![0-9A-Za-z]){re.escape(text)}(?![0-9A-Za-z])", whole) is not None


def _replaced(body: bytes, old: str, new: str, content_type: str) -> bytes:
    """Replaces each `old`, ignoring case, unless it is part of a longer word or number."""
    is_form = content_type.startswith("application/x-www-form-urlencoded")
    # In a form, a word may follow a percent escape, as in %23vpn.
    begins = rb"(?:(?<![0-9A-Za-z])|(?<=%[0-9A-Fa-f]{2}))" if is_form else rb"(?<![0-9A-Za-z])"
    written = (quote_plus(old) if is_form else old).encode()
    return re.sub(begins + re.escape(written) + rb"(?![0-9A-Za-z])", new.encode(), body, flags=re.I)
