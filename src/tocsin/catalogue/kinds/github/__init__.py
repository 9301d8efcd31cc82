"""GitHub posts JSON, or a form whose field `payload` has that JSON, as the webhook's content type says."""

from __future__ import annotations

from tocsin.catalogue.hooks import Headers, Payload, decode_object


def messages(payload: Payload, headers: Headers) -> list[Payload]:
    """Returns the JSON of a form."""
    return [decode_object(payload.get("payload")) or payload]
