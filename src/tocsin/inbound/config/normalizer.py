"""Turns a decoded element into a normalized event: its mapped values and the action it requests. Pure.

reader = compile_reader(kind, definition)          # once per configuration version
for element in decode(body, content_type, lenient=kind.lenient).elements:
    reading = reader.read(element)                 # NormalizedEvent, or Rejected (returned, not raised)
    …                                              # only if an alert would open:
    reading.filter_verdict(); reading.route(in_hours)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec

from tocsin.catalogue.kinds import IntegrationKind
from tocsin.core.errors import Rejected
from tocsin.inbound.config.noise_settings import KEYS as SHAPING_KEYS
from tocsin.inbound.config.noise_settings import NoiseSettings, compile_shaping
from tocsin.inbound.config.routes import Route, RouteChoice, RouteReference, choose, compile_routes
from tocsin.inbound.config.rules import CompiledRules, EventAction, compile_rules
from tocsin.inbound.expressions.conditions import RuleMatch
from tocsin.inbound.expressions.mapped import MappedFields
from tocsin.inbound.mapping.mapping import CompiledMapping, compile_mapping
from tocsin.inbound.parsing.decode import Element


@dataclass(frozen=True, slots=True)
class IntegrationDefinition:
    """The definition of one integration; the kind's defaults fill the rest.

    `mapping` and `rules` override the kind's field by field and rule by rule (None removes one); `filters`, `routes`
    and `dedup_key` (a template) replace the kind's.
    """

    mapping: Mapping[str, object] = field(default_factory=dict)
    rules: Mapping[str, object] = field(default_factory=dict)
    filters: object = None
    routes: object = None
    dedup_key: str | None = None
    settings: Mapping[str, object] = field(default_factory=dict)
    #: Noise reduction; `inbound.config.noise_settings` describes the format of each.
    parent: object = None
    grouping: object = None
    flapping: object = None
    delay: object = None
    flood: object = None

    @classmethod
    def of(cls, stored: Mapping[str, Any], settings: Mapping[str, object]) -> IntegrationDefinition:
        """Creates a definition from its stored form."""
        return cls(
            mapping=stored.get("mapping") or {},
            rules=stored.get("rules") or {},
            filters=stored.get("filters"),
            routes=stored.get("routes"),
            dedup_key=stored.get("dedup_key"),
            settings=settings,
            **{name: stored.get(name) for name in SHAPING_KEYS},
        )


class NormalizedEvent(msgspec.Struct, frozen=True):
    """The normalized content of one message.

    `source_id` is None if there is none and the kind does not require one; `dedup_key` is the rendered key template of
    the integration, None without a template.
    """

    mapped: MappedFields
    intent: EventAction
    verdict: RuleMatch  # the rule and values that decided the intent
    source_id: str | None
    source_name: str
    delivery_id: str | None
    source_time: datetime | None
    dedup_key: str | None
    notes: tuple[str, ...]
    payload: object
    _reader: Normalizer

    def __repr__(self) -> str:
        return f"Reading({self.intent}: {self.verdict.reason}; {self.mapped})"

    def filter_verdict(self) -> RuleMatch:
        """Returns whether the kind's vetoes and the integration's filters let an alert open."""
        return self._reader.rules.may_open(self.payload, self.mapped)

    def route(self, in_hours: Callable[[RouteReference], bool]) -> RouteChoice:
        """Returns the route for a new alert. `in_hours(name)` returns whether support hours are open now."""
        return choose(self._reader.routes, self.payload, self.mapped, in_hours)


@dataclass(frozen=True, slots=True)
class Normalizer:
    """The compiled definition of one integration."""

    kind: IntegrationKind
    mapping: CompiledMapping
    rules: CompiledRules
    routes: tuple[Route, ...]
    id_required: bool
    has_key_template: bool
    #: None without noise reduction: alerts open at once.
    shaping: NoiseSettings | None = None

    def read(self, element: Element) -> NormalizedEvent | Rejected:
        """Returns the event of one element, or why there is none (unreadable, or a required id is missing)."""
        if element.problem is not None:
            return element.problem
        payload = element.payload
        mapped = self.mapping.apply(payload)
        values = mapped.values
        source_id = values.get("source_id")
        dedup_key = values.get("dedup_key") if self.has_key_template else None
        if self.id_required and source_id is None and dedup_key is None:
            return self._without_id()
        intent, verdict = self.rules.classify(payload, mapped)
        return NormalizedEvent(
            mapped,
            intent,
            verdict,
            source_id,  # type: ignore[arg-type]
            values.get("source_name") or "",  # type: ignore[arg-type]
            values.get("delivery_id"),  # type: ignore[arg-type]
            values.get("source_time"),  # type: ignore[arg-type]
            dedup_key,  # type: ignore[arg-type]
            element.notes + mapped.notes if element.notes else mapped.notes,
            payload,
            self,
        )

    def _without_id(self) -> Rejected:
        tried = next((f.alternatives for f in self.mapping.fields if f.name == "source_id"), ())
        said = ", ".join([a.said for a in tried][:8])
        return Rejected("no_id", f"no {self.kind.id_name} in the message; looked at {said}", "source_id")


def _named(kinds: Mapping[str, object], own: Mapping[str, object]) -> dict[str, object]:
    """Merges tags and custom fields one by one, like the fields beside them."""
    found: dict[str, object] = {}
    for group in ("tags", "custom"):
        brought, set_here = kinds.get(group), own.get(group)
        if isinstance(brought, Mapping) and isinstance(set_here, Mapping):
            found[group] = {**brought, **set_here}
    return found


def compile_reader(
    kind: IntegrationKind, definition: IntegrationDefinition, hours_names: Mapping[RouteReference, str] | None = None
) -> Normalizer:
    """Compiles an integration's definition. `hours_names` are the support hours' names by id, for use in reasons.

    Raises Rejected with the field, such as "rules.open.all[1].operator: unknown operator …"."""
    settings = {**kind.default_settings, **definition.settings}
    merged = {**kind.mapping, **definition.mapping, **_named(kind.mapping, definition.mapping)}
    key = definition.dedup_key
    if key:
        merged["dedup_key"] = {"template": key}
    mapping = compile_mapping(merged, settings)
    filters = definition.filters if definition.filters is not None else kind.filters
    given = definition.routes if definition.routes is not None else kind.routes
    routes = compile_routes(given, mapping.names, hours_names=hours_names)
    shapes = {name: getattr(definition, name) for name in SHAPING_KEYS}
    delays = tuple(route.delay for route in routes)
    return Normalizer(
        kind=kind,
        mapping=mapping,
        rules=compile_rules({**kind.rules, **definition.rules}, filters, mapping.names),
        routes=routes,
        id_required=kind.id_required,
        has_key_template=merged.get("dedup_key") is not None,
        shaping=compile_shaping(shapes, frozenset(mapping.names), settings, delays, hours_names),
    )
