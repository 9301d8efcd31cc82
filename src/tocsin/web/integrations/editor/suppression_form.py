"""Converts noise reduction settings (delay, grouping, parent, flapping, flood) to form fields and back. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.http import QueryDict

from tocsin.core.reasons import ReasonType
from tocsin.core.validation.field_errors import rejected_at
from tocsin.inbound.config.noise_settings import KEYS

_NOT_AN_OBJECT = ReasonType("noise.not_an_object", "must be an object with {names}")

#: The fields of each part. Every part is a mapping, except `parent`, which is a text.
FIELDS: Mapping[str, tuple[str, ...]] = {
    "delay": ("kind", "wait", "alerts", "within", "every", "until", "per"),
    "grouping": ("by", "within"),
    "parent": ("by",),
    "flapping": ("alerts", "within", "stable"),
    "flood": ("burst", "every"),
}

#: Delay of a route that never waits, whatever the integration's delay.
NO_DELAY = "none"

_NUMBERS = frozenset({"delay.alerts", "flapping.alerts", "flood.burst"})

#: Fields of each kind of delay.
_DELAY_FIELDS: Mapping[str, tuple[str, ...]] = {
    "wait": ("wait",),
    "alerts": ("alerts", "within", "per"),
    "every": ("every", "per"),
    "until": ("until",),
}


@dataclass(frozen=True, slots=True)
class SuppressionFields:
    """The texts of all fields, keyed `part.field`."""

    texts: Mapping[str, str]

    def text(self, name: str) -> str:
        """Return the text of one field."""
        return self.texts.get(name, "")

    @property
    def fields(self) -> dict[str, dict[str, str]]:
        """Return {part: {field: text}}, for templates."""
        return {part: {name: self.text(f"{part}.{name}") for name in names} for part, names in FIELDS.items()}


def rows_of(parts: Mapping[str, Any]) -> SuppressionFields:
    """Return the fields of the definition's parts. Raises Rejected if a part has the wrong shape."""
    texts: dict[str, str] = {}
    for part in KEYS:
        value = parts.get(part)
        if value in (None, "", {}, "none"):
            continue
        if part == "parent":
            value = {"by": value}
        if not isinstance(value, Mapping) or not set(value) <= set(FIELDS[part]):
            raise rejected_at(part, _NOT_AN_OBJECT(names=tuple(FIELDS[part])), "invalid_shaping")
        texts |= {f"{part}.{name}": str(setting) for name, setting in value.items() if setting is not None}
        if part == "delay":
            texts["delay.kind"] = next((kind for kind in _DELAY_FIELDS if kind in value), "")
    return SuppressionFields(texts)


def read(post: QueryDict) -> SuppressionFields:
    """Return the posted fields."""
    names = (f"{part}.{name}" for part, names in FIELDS.items() for name in names)
    return SuppressionFields({name: str(post.get(f"suppression.{name}", "")).strip() for name in names})


def texts_of_delay(delay: object) -> dict[str, str]:
    """Return the field texts of a delay. Empty if it is absent or of a form that the fields cannot show."""
    if delay == NO_DELAY:
        return {"kind": NO_DELAY}
    kind = (
        next((name_of_kind for name_of_kind in _DELAY_FIELDS if name_of_kind in delay), "")
        if isinstance(delay, Mapping)
        else ""
    )
    if not isinstance(delay, Mapping) or not kind or not set(delay) <= set(_DELAY_FIELDS[kind]):
        return {}
    return {"kind": kind, **{str(name): str(setting) for name, setting in delay.items() if setting is not None}}


def delay_of(texts: Mapping[str, str]) -> dict[str, Any] | str | None:
    """Return the delay of the field texts, or None if none is chosen. Fields of other kinds of delay are ignored."""
    kind = texts.get("kind", "")
    if kind == NO_DELAY:
        return NO_DELAY
    if kind not in _DELAY_FIELDS:
        return None
    delay = _part(
        SuppressionFields({f"delay.{name}": text for name, text in texts.items()}), "delay", _DELAY_FIELDS[kind]
    )
    # A kind without its duration: the command rejects it by name, instead of silently dropping it here.
    return delay or {kind: ""}


def parts_of(suppression: SuppressionFields) -> dict[str, Any]:
    """Return the parts; None for each that is not set."""
    parts: dict[str, Any] = {"delay": delay_of({name: suppression.text(f"delay.{name}") for name in FIELDS["delay"]})}
    for part in ("grouping", "flapping", "flood"):
        parts[part] = _part(suppression, part, FIELDS[part])
    return {**parts, "parent": suppression.text("parent.by") or None}


def _part(suppression: SuppressionFields, part: str, names: tuple[str, ...]) -> dict[str, Any] | None:
    values = {name: _value(f"{part}.{name}", text) for name in names if (text := suppression.text(f"{part}.{name}"))}
    return values if values.keys() - {"per"} else None


def _value(name: str, text: str) -> Any:
    return int(text) if name in _NUMBERS and text.isascii() and text.isdigit() and len(text) < 7 else text
