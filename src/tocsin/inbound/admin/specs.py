"""Reads an integration's spec: validates it by compiling everything, and resolves names. Writes nothing."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from django.apps import apps
from pydantic import AfterValidator, Field, PlainValidator

from tocsin.access import boundary
from tocsin.catalogue.kinds import IntegrationKind, clean_settings, load_kinds
from tocsin.core.errors import Rejected
from tocsin.core.reasons import sentence
from tocsin.core.validation.field_errors import (
    NOT_A_CHOICE,
    NOT_AN_OBJECT,
    NOT_BOOLEAN,
    NOT_TEXT,
    raise_all,
    rejected_at,
    require_storable,
)
from tocsin.core.validation.spec import (
    InvalidValue,
    Line,
    ListOf,
    OneOf,
    OwnedSpec,
    Parsed,
    Reference,
    Spec,
    SpecErrors,
    list_of,
)
from tocsin.escalation.models import Policy
from tocsin.inbound.admin import references, secrets
from tocsin.inbound.admin.references import (
    GROUP,
    OUTBOUND,
    POLICY,
    UNKNOWN_REFERENCES,
    USER,
    ReferenceNames,
    ReferenceResolver,
)
from tocsin.inbound.conditions import ConditionSpec
from tocsin.inbound.config.noise_settings import KEYS as NOISE_KEYS
from tocsin.inbound.config.noise_settings import NoiseSpec
from tocsin.inbound.config.normalizer import IntegrationDefinition, Normalizer, compile_normalizer
from tocsin.inbound.config.rules import RouteSpec, RulesSpec
from tocsin.inbound.enums import IntegrationMode
from tocsin.inbound.fields import FIELDS
from tocsin.inbound.mapping.mapping import MappingSpec
from tocsin.inbound.mapping.templates import MAX_TEMPLATE
from tocsin.inbound.models import ClientTable, Integration
from tocsin.oncall.models import SupportHours
from tocsin.people.models import Group, User, names_check

_Name = Annotated[str, Field(max_length=200)]

#: The keys of a version's definition; the kind's defaults fill the rest.
DEFINITION_KEYS = ("mapping", "rules", "filters", "routes", "dedup_key", *NOISE_KEYS)

#: The keys of a mapping that contain custom fields and tags.
CUSTOM, TAGS = "custom", "tags"
_TOP_LEVEL_KEYS = FIELDS.keys() | {CUSTOM, TAGS}

#: A setting of every kind: whether an unreadable message opens an alert.
FAIL_OPEN = "fail_open"
#: Also stored with the settings: the integration may be saved although it reaches no one.
ALLOW_UNREACHABLE = "anyway"


def _kind(name: str) -> str:
    if name not in load_kinds():
        raise InvalidValue(NOT_A_CHOICE(value=name, choices=tuple(sorted(load_kinds()))))
    return name


def _named_values(value: object) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise InvalidValue(NOT_AN_OBJECT())
    return {str(key): item for key, item in value.items()}


_SETTINGS = {
    "type": "object",
    "additionalProperties": {
        "anyOf": [
            {"type": ["string", "boolean"]},
            {"type": "object", "additionalProperties": {"type": ["string", "number"]}},
        ]
    },
}


def _as_written(kind: Any) -> PlainValidator:
    """Annotates a part of a definition, which is kept as written: `validate_definition` compiles all parts together."""
    return PlainValidator(lambda value: value, json_schema_input_type=kind)


class DefinitionSpec(NoiseSpec):
    """What decides about messages. What is left out is that of the kind."""

    mapping: Annotated[Any, _as_written(MappingSpec)] = Field(default=None, description="Where values come from.")
    rules: Annotated[Any, _as_written(RulesSpec)] = Field(default=None, description="What a message requests.")
    filters: Annotated[Any, _as_written(ConditionSpec)] = Field(
        default=None, description="Condition without which no alert opens."
    )
    routes: Annotated[Any, _as_written(ListOf[RouteSpec])] = Field(
        default=None, description="Policy, recipients and priority by condition. The first route that matches decides."
    )
    dedup_key: str = Field(
        default="",
        max_length=MAX_TEMPLATE,
        description="Template of the key that messages of one alert share. Default: source and id.",
    )


class RecipientsSpec(Spec):
    """Users and groups."""

    user_ids: Annotated[tuple[int, ...], list_of(str, {}), Reference(USER, UNKNOWN_REFERENCES[USER])] = Field(
        default=(), alias="users", description="Usernames."
    )
    group_ids: Annotated[tuple[int, ...], list_of(str, {}), Reference(GROUP, UNKNOWN_REFERENCES[GROUP])] = Field(
        default=(), alias="groups", description="Names of groups."
    )


class IntegrationSpec(OwnedSpec, DefinitionSpec):
    """An inbound integration. Its mapping, rules, filters and routes are those of its kind, unless it has its own."""

    kind: Annotated[
        str,
        # The catalogue is only read when somebody asks.
        Field(json_schema_extra=lambda schema: schema.update(enum=sorted(load_kinds()))),
        AfterValidator(_kind),
    ] = Field(min_length=1, max_length=100, description="Kind of sender, from the catalogue. It cannot be changed.")
    source: Annotated[Line, Field(max_length=100)] = Field(
        default="",
        description="Name of the sender; integrations with the same one share their alerts. Default: that of the kind.",
    )
    mode: Annotated[IntegrationMode, OneOf()] = Field(
        default=IntegrationMode.PAGE, description="Whether it pages, only decides who would be paged, or is disabled."
    )
    policy_id: Annotated[_Name, Reference(POLICY, UNKNOWN_REFERENCES[POLICY])] | None = Field(
        default=None,
        alias="escalation_policy",
        description="Name of the escalation policy. Default: recipients are paged at once.",
    )
    outbound_id: Annotated[_Name, Reference(OUTBOUND, UNKNOWN_REFERENCES[OUTBOUND])] | None = Field(
        default=None, alias="outbound", description="Name of the outbound integration that writes changes back."
    )
    recipients: RecipientsSpec = Field(default=RecipientsSpec(), description="Who is notified.")
    settings: Annotated[dict[str, Any], Parsed(_named_values, _SETTINGS)] = Field(
        default={}, description="Settings of the kind, which the catalogue describes, and `fail_open`."
    )
    allow_unreachable: bool = Field(
        default=False, alias="anyway", description="Whether it may be saved although it reaches no one."
    )
    token: secrets.Token | None = Field(
        default=None, description="Token of the webhook URL. Default: unchanged, or a new one."
    )
    credentials: secrets.CredentialsSpec | None = Field(
        default=None, description="What senders need besides the URL. Default: unchanged."
    )


@dataclass(frozen=True, slots=True)
class ParsedIntegration:
    """A validated spec, with its settings and definition as stored."""

    spec: IntegrationSpec
    kind: IntegrationKind
    settings: dict[str, Any]
    definition: dict[str, Any]


def load_reference_names() -> ReferenceNames:
    """Loads the names of all objects that an integration may refer to, as the transaction sees them."""
    return ReferenceNames(
        policies=dict(Policy.objects.values_list("pk", "name")),
        users=dict(User.objects.values_list("pk", "username")),
        groups=dict(Group.objects.values_list("pk", "name")),
        hours=dict(SupportHours.objects.values_list("pk", "name")),
        tables=dict(ClientTable.objects.values_list("pk", "name")),
        # A model of a higher layer: looked up by name to avoid an import.
        outbound=dict(apps.get_model("outbound", "OutboundIntegration").objects.values_list("pk", "name")),
    )


def read(value: Mapping[str, object], existing: Integration | None) -> ParsedIntegration:
    """Reads a spec. Raises Rejected or RejectedAll with each field: `rules.open.value`, `routes[0].during`."""
    given = {key: part for key, part in value.items() if key not in DEFINITION_KEYS or not _is_empty(part)}
    definition = {key: given[key] for key in DEFINITION_KEYS if key in given}
    with boundary.as_viewer():
        resolver = ReferenceResolver(load_reference_names())
    parsed: list[ParsedIntegration] = []

    def check(spec: IntegrationSpec, errors: SpecErrors) -> None:
        names_check(Integration, existing)(spec, errors)
        if errors.has("kind"):
            return
        if existing is not None and existing.kind != spec.kind:
            errors.add("kind", sentence("cannot be changed; create a new integration for another type."))
            return
        kind = load_kinds()[spec.kind]
        try:
            settings = _settings(kind, spec.settings)
            validate_definition(kind, definition, settings)
            stored = references.definition_with_ids(definition, resolver)
            resolver.check()
        except Rejected as problem:
            errors.add_rejection(problem, "")
            return
        if spec.allow_unreachable:
            settings[ALLOW_UNREACHABLE] = True
        parsed.append(ParsedIntegration(spec, kind, settings, as_stored(stored)))

    ids: dict[str, Any] = resolver.ids
    IntegrationSpec.read(given, check=check, **ids)
    return parsed[0]


def validate_definition(kind: IntegrationKind, definition: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Compiles an integration's own definition together with its kind's defaults, to validate it.

    Raises Rejected with the field of an unusable path, regular expression, operator or key.
    """
    for key, value in definition.items():
        require_storable(value, key)
    if not isinstance(definition.get("mapping", {}), Mapping):
        raise rejected_at("mapping", NOT_AN_OBJECT())
    _refuse_unknown_fields(kind, definition.get("mapping", {}))
    if not isinstance(definition.get("rules", {}), Mapping):
        raise rejected_at("rules", NOT_AN_OBJECT())
    if not isinstance(definition.get("dedup_key", ""), str):
        raise rejected_at("dedup_key", NOT_TEXT())
    build_normalizer(kind, definition, settings)


def stored_definition(
    kind: IntegrationKind, parts: Mapping[str, Any], settings: Mapping[str, Any], reference_names: ReferenceNames
) -> dict[str, Any]:
    """Returns a definition as stored from its `parts` as in a spec; empty parts are omitted and left to the kind.

    Raises Rejected or RejectedAll, as `read` does for the same parts.
    """
    definition = {key: parts[key] for key in DEFINITION_KEYS if not _is_empty(parts.get(key))}
    validate_definition(kind, definition, settings)
    resolver = ReferenceResolver(reference_names)
    definition = references.definition_with_ids(definition, resolver)
    resolver.check()
    return as_stored(definition)


def _is_empty(part: object) -> bool:
    """Returns whether a part of a definition is left to the kind."""
    return part in (None, {}, [], "")


def build_normalizer(kind: IntegrationKind, definition: Mapping[str, Any], settings: Mapping[str, Any]) -> Normalizer:
    """Compiles an integration's definition to a normalizer. Raises Rejected as `validate_definition`."""
    return compile_normalizer(kind, IntegrationDefinition(**{"settings": settings, **definition}))


def nest_custom_fields(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a mapping with custom fields under `custom`; older versions stored them beside Tocsin's own fields."""
    custom_fields = {name: entry for name, entry in mapping.items() if name not in _TOP_LEVEL_KEYS}
    if not custom_fields:
        return dict(mapping)
    known_fields = {name: entry for name, entry in mapping.items() if name in _TOP_LEVEL_KEYS}
    return {**known_fields, CUSTOM: {**custom_fields, **(known_fields.get(CUSTOM) or {})}}


def _refuse_unknown_fields(kind: IntegrationKind, mapping: Mapping[str, Any]) -> None:
    """Rejects unknown fields, so that a misspelt field does not silently become a custom one."""
    known_names = _TOP_LEVEL_KEYS | kind.mapping.keys()
    problems = []
    for name in mapping:
        if name in known_names:
            continue
        field_path = f"mapping.{str(name)[:40]}"
        close_matches = difflib.get_close_matches(
            str(name)[:100].casefold().replace(" ", "_"), sorted(known_names), 1, 0.75
        )
        problem = (
            sentence(
                'is not a standard field; did you mean "{match}"? Put a custom field under custom:, and a tag under '
                "tags:.",
                match=close_matches[0],
            )
            if close_matches
            else sentence("is not a standard field; put a custom field under custom:, and a tag under tags:.")
        )
        problems.append(rejected_at(field_path, problem, "unknown_field"))
    raise_all(problems)


def as_stored(value: dict[str, Any]) -> dict[str, Any]:
    """Returns the value as JSON in the database returns it, so that two can be compared."""
    stored: dict[str, Any] = json.loads(json.dumps(value))
    return stored


def _settings(kind: IntegrationKind, settings: Mapping[str, Any]) -> dict[str, Any]:
    require_storable(settings, "settings")
    kind_settings = {key: value for key, value in settings.items() if key != FAIL_OPEN}
    cleaned = clean_settings(kind, kind_settings)
    fail_open = settings.get(FAIL_OPEN)
    if fail_open is not None:
        if not isinstance(fail_open, bool):
            raise rejected_at(f"settings.{FAIL_OPEN}", NOT_BOOLEAN(), "invalid_setting")
        cleaned[FAIL_OPEN] = fail_open
    return as_stored(cleaned)
