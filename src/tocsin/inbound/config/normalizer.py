"""Turns a decoded element into a normalized event: its mapped values and the action it requests. Pure.

normalizer = compile_normalizer(kind, definition)          # once per configuration version
for element in decode(body, content_type, lenient=kind.lenient).elements:
    event = normalizer.normalize(element)                 # NormalizedEvent, or Rejected (returned, not raised)
    …                                              # only if an alert would open:
    event.check_filters(); event.choose_route(in_hours)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec

from tocsin.catalogue.kinds import IntegrationKind
from tocsin.core.errors import Rejected
from tocsin.core.reasons import Reason, ReasonType, Term
from tocsin.core.validation.field_errors import rejected_at
from tocsin.inbound.config.noise_settings import KEYS as NOISE_KEYS
from tocsin.inbound.config.noise_settings import NoiseSettings, compile_noise_settings
from tocsin.inbound.config.routes import Route, RouteChoice, RouteReference, choose, compile_routes
from tocsin.inbound.config.rules import CompiledRules, EventAction, compile_rules
from tocsin.inbound.expressions.conditions import RuleMatch
from tocsin.inbound.expressions.mapped import MappedFields
from tocsin.inbound.mapping.mapping import CompiledMapping, compile_mapping
from tocsin.inbound.parsing.decode import Element

_NO_ID = ReasonType("message.no_id", "no {id} in the message; looked at {sources}")


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
    def from_stored(cls, stored: Mapping[str, Any], settings: Mapping[str, object]) -> IntegrationDefinition:
        """Creates a definition from its stored form."""
        return cls(
            mapping=stored.get("mapping") or {},
            rules=stored.get("rules") or {},
            filters=stored.get("filters"),
            routes=stored.get("routes"),
            dedup_key=stored.get("dedup_key"),
            settings=settings,
            **{name: stored.get(name) for name in NOISE_KEYS},
        )


class NormalizedEvent(msgspec.Struct, frozen=True):
    """The normalized content of one message.

    `source_id` is None if there is none and the kind does not require one; `dedup_key` is the rendered key template of
    the integration, None without a template.
    """

    mapped: MappedFields
    action: EventAction
    rule_match: RuleMatch  # the rule and values that decided the intent
    source_id: str | None
    source_name: str
    delivery_id: str | None
    source_time: datetime | None
    dedup_key: str | None
    notes: tuple[Reason, ...]
    payload: object
    _normalizer: Normalizer

    def __repr__(self) -> str:
        return f"NormalizedEvent({self.action}: {self.rule_match.reason}; {self.mapped})"

    def check_filters(self) -> RuleMatch:
        """Returns whether the kind's vetoes and the integration's filters let an alert open."""
        return self._normalizer.rules.may_open(self.payload, self.mapped)

    def choose_route(self, in_hours: Callable[[RouteReference], bool]) -> RouteChoice:
        """Returns the route for a new alert. `in_hours(name)` returns whether support hours are open now."""
        return choose(self._normalizer.routes, self.payload, self.mapped, in_hours)


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
    noise_settings: NoiseSettings | None = None

    def normalize(self, element: Element) -> NormalizedEvent | Rejected:
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
        action, rule_match = self.rules.classify(payload, mapped)
        return NormalizedEvent(
            mapped,
            action,
            rule_match,
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
        alternatives = next((f.alternatives for f in self.mapping.fields if f.name == "source_id"), ())
        sources = ", ".join([a.source_text for a in alternatives][:8])
        return Rejected("no_id", _NO_ID(id=Term(self.kind.id_name), sources=sources), "source_id")


def _merge_tags_and_custom(defaults: Mapping[str, object], overrides: Mapping[str, object]) -> dict[str, object]:
    """Merges tags and custom fields one by one, like the fields beside them."""
    merged: dict[str, object] = {}
    for group in ("tags", "custom"):
        default_fields, override_fields = defaults.get(group), overrides.get(group)
        if isinstance(default_fields, Mapping) and isinstance(override_fields, Mapping):
            merged[group] = {**default_fields, **override_fields}
    return merged


def compile_normalizer(
    kind: IntegrationKind, definition: IntegrationDefinition, hours_names: Mapping[RouteReference, str] | None = None
) -> Normalizer:
    """Compiles an integration's definition. `hours_names` are the support hours' names by id, for use in reasons.

    Raises Rejected with the field, such as "rules.open.all[1].operator: unknown operator …"."""
    settings = {**kind.default_settings, **definition.settings}
    merged = {**kind.mapping, **definition.mapping, **_merge_tags_and_custom(kind.mapping, definition.mapping)}
    key_template = definition.dedup_key
    if key_template:
        merged["dedup_key"] = {"template": key_template}
    try:
        mapping = compile_mapping(merged, settings)
    except Rejected as problem:
        if key_template and problem.field == "mapping.dedup_key.template":
            reason: Any = problem.reason
            raise rejected_at("dedup_key", reason["problem"], problem.code) from None
        raise
    filters = definition.filters if definition.filters is not None else kind.filters
    route_definitions = definition.routes if definition.routes is not None else kind.routes
    routes = compile_routes(route_definitions, mapping.names, hours_names=hours_names)
    noise_definitions = {name: getattr(definition, name) for name in NOISE_KEYS}
    delays = tuple(route.delay for route in routes)
    return Normalizer(
        kind=kind,
        mapping=mapping,
        rules=compile_rules({**kind.rules, **definition.rules}, filters, mapping.names),
        routes=routes,
        id_required=kind.id_required,
        has_key_template=merged.get("dedup_key") is not None,
        noise_settings=compile_noise_settings(
            noise_definitions, frozenset(mapping.names), settings, delays, hours_names
        ),
    )
