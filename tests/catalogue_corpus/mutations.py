"""The forms in which a sample's message may arrive from another version, a relay or another product's guide."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from tocsin.inbound.fields import MappedFields

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"

#: The names of id, status, subject, severity, link and host in guides of other products and common relays.
GUIDES: Mapping[str, tuple[str, str, str, str, str, str]] = {
    "snake case": ("alert_id", "status", "title", "severity", "link", "host"),
    "camel case": ("incidentId", "alertStatus", "alertTitle", "severityLevel", "htmlUrl", "hostName"),
    "kebab case": ("dedup-key", "event-action", "summary", "severity", "client-url", "source-host"),
}
_FIELDS = ("source_id", "source_status", "subject", "severity", "source_url")

#: Objects that a relay wraps a message in.
WRAPPERS = ("data", "payload")


@dataclass(frozen=True, slots=True)
class Mutation:
    """A changed body. `name` is the column of the figures."""

    name: str
    body: bytes
    content_type: str = JSON


def mutations(payload: Mapping[str, Any], mapped: MappedFields) -> Iterator[Mutation]:
    """Yields the forms of one message, whose fields `mapped` has."""
    yield Mutation("reordered", _json(_reversed(payload)))
    for wrapper in WRAPPERS:
        yield Mutation("wrapped", _json({wrapper: payload}))
    yield Mutation("form", urlencode({"payload": json.dumps(payload)}).encode(), FORM)
    if all(isinstance(value, str | int | float) for value in payload.values()):
        yield Mutation("query", urlencode(payload).encode(), FORM)
    for name in payload:
        yield Mutation("field missing", _json({key: value for key, value in payload.items() if key != name}))
    status = mapped.text("source_status")
    for spelled in (str.upper, str.lower, str.title):
        if status is not None and (respelled := _respelled(payload, status, spelled(status))) != payload:
            yield Mutation("status respelled", _json(respelled))
    for names in GUIDES.values():
        yield Mutation("another guide", _json(_renamed(mapped, names)))


def _json(payload: object) -> bytes:
    return json.dumps(payload).encode()


def _reversed(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _reversed(value[key]) for key in reversed(list(value))}
    return [_reversed(item) for item in value] if isinstance(value, list) else value


def _respelled(value: Any, status: str, respelled: str) -> Any:
    if isinstance(value, Mapping):
        return {key: _respelled(item, status, respelled) for key, item in value.items()}
    if isinstance(value, list):
        return [_respelled(item, status, respelled) for item in value]
    return respelled if value == status else value


def _renamed(mapped: MappedFields, names: tuple[str, ...]) -> dict[str, str]:
    values = [*(mapped.text(field) for field in _FIELDS), mapped.tags.get("component_name")]
    return {name: value for name, value in zip(names, values, strict=True) if value is not None}
