"""Reads an integration's spec: validates it by compiling everything, and resolves names. Writes nothing."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from django.apps import apps

from tocsin.catalogue.kinds import IntegrationKind, clean_settings, load_kinds
from tocsin.core.errors import Rejected
from tocsin.core.reasons import Reason, ReasonType
from tocsin.core.validation.object_reader import AT_PATH, NOT_BOOLEAN, ObjectReader, raise_all, require_storable
from tocsin.escalation.models import Policy
from tocsin.inbound.admin import references
from tocsin.inbound.admin.references import GROUP, OUTBOUND, POLICY, USER, ReferenceNames, ReferenceResolver
from tocsin.inbound.config.noise_settings import KEYS as NOISE_KEYS
from tocsin.inbound.config.normalizer import IntegrationDefinition, Normalizer, compile_normalizer
from tocsin.inbound.enums import IntegrationMode
from tocsin.inbound.expressions.fields import FIELDS
from tocsin.inbound.models import ClientTable
from tocsin.oncall.models import SupportHours
from tocsin.people.models import Group, User

_NOT_A_MAPPING = ReasonType("integration.malformed_mapping", "names fields and where their values come from.")
_NOT_RULES = ReasonType("integration.malformed_rules", "must be {open, close, update}.")
_NOT_A_TEMPLATE = ReasonType("integration.malformed_dedup_key", "must be a text template.")
_UNKNOWN_FIELD = ReasonType(
    "integration.unknown_field",
    "is not a standard field; put a custom field under custom:, and a tag under tags:.",
)
_DID_YOU_MEAN_FIELD = ReasonType(
    "integration.did_you_mean_field",
    'is not a standard field; did you mean "{match}"? Put a custom field under custom:, and a tag under tags:.',
)
_KIND_NOT_IN_CATALOGUE = ReasonType(
    "integration.kind_not_in_catalogue", '"{kind}" is not in the catalogue; known: {kinds}.'
)
_NOT_SETTINGS = ReasonType("integration.malformed_settings", "must be named values.")

#: The keys of a version's definition; the kind's defaults fill the rest.
DEFINITION_KEYS = ("mapping", "rules", "filters", "routes", "dedup_key", *NOISE_KEYS)

#: The keys of a mapping that contain custom fields and tags.
CUSTOM, TAGS = "custom", "tags"
_TOP_LEVEL_KEYS = FIELDS.keys() | {CUSTOM, TAGS}

#: A setting of every kind: whether an unreadable message opens an alert.
FAIL_OPEN = "fail_open"
#: Also stored with the settings: the integration may be saved although it reaches nobody.
ALLOW_UNREACHABLE = "anyway"


@dataclass(frozen=True, slots=True)
class IntegrationSpec:
    """A validated integration spec; references are ids."""

    name: str
    kind: IntegrationKind
    source: str
    mode: IntegrationMode
    group_id: int | None
    policy_id: int | None
    #: The outbound integration that writes changes back.
    outbound_id: int | None
    user_ids: tuple[int, ...]
    group_ids: tuple[int, ...]
    settings: dict[str, Any]
    definition: dict[str, Any]
    allow_unreachable: bool
    #: None if the spec omits them: the stored values are kept.
    token: object
    credentials: object


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


def read(value: object) -> IntegrationSpec:
    """Reads a spec. Raises Rejected or RejectedAll with each field: `rules.open.value`, `routes[0].during`."""
    spec = ObjectReader(value)
    name, source = spec.name(), spec.line("source", max_length=100)
    kind = _kind(spec)
    mode = spec.one_of("mode", IntegrationMode, IntegrationMode.PAGE)
    allow_unreachable = spec.boolean("anyway", False)
    resolver = ReferenceResolver(load_reference_names())
    outbound = spec.text("outbound")
    outbound_id = resolver.find(OUTBOUND, outbound, "outbound") if outbound else None
    group = resolver.find(GROUP, spec.text("group"), "group") if spec.text("group") else None
    policy = spec.text("escalation_policy")
    policy_id = resolver.find(POLICY, policy, "escalation_policy") if policy else None
    users, groups = _recipients(spec, resolver)
    definition: dict[str, Any] = {}
    for key in DEFINITION_KEYS:
        if spec.raw(key) not in (None, {}, [], ""):
            definition[key] = spec.raw(key)
    settings = spec.raw("settings", {})
    token, credentials = spec.raw("token"), spec.raw("credentials")
    spec.reject_unknown_keys()
    stored_settings: dict[str, Any] = {}
    if kind is not None:
        stored_settings = _collect_problem(spec, partial(_settings, kind, settings)) or {}
        _collect_problem(spec, partial(validate_definition, kind, definition, stored_settings))
    spec.raise_errors()
    assert kind is not None
    definition = references.definition_with_ids(definition, resolver)
    resolver.check()
    if allow_unreachable:
        stored_settings[ALLOW_UNREACHABLE] = True
    return IntegrationSpec(
        name=name,
        kind=kind,
        source=source,
        mode=mode,
        group_id=group,
        policy_id=policy_id,
        outbound_id=outbound_id,
        user_ids=tuple(users),
        group_ids=tuple(groups),
        settings=stored_settings,
        definition=as_stored(definition),
        allow_unreachable=allow_unreachable,
        token=token,
        credentials=credentials,
    )


def validate_definition(kind: IntegrationKind, definition: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Compiles an integration's own definition together with its kind's defaults, to validate it.

    Raises Rejected with the field of an unusable path, regular expression, operator or key.
    """
    for key, value in definition.items():
        require_storable(value, key)
    if not isinstance(definition.get("mapping", {}), Mapping):
        raise _rejection("invalid_mapping", "mapping", _NOT_A_MAPPING())
    _refuse_unknown_fields(kind, definition.get("mapping", {}))
    if not isinstance(definition.get("rules", {}), Mapping):
        raise _rejection("invalid_condition", "rules", _NOT_RULES())
    if not isinstance(definition.get("dedup_key", ""), str):
        raise _rejection("invalid_mapping", "dedup_key", _NOT_A_TEMPLATE())
    build_normalizer(kind, definition, settings)


def stored_definition(
    kind: IntegrationKind, parts: Mapping[str, Any], settings: Mapping[str, Any], reference_names: ReferenceNames
) -> dict[str, Any]:
    """Returns a definition as stored from its `parts` as in a spec; empty parts are omitted and left to the kind.

    Raises Rejected or RejectedAll, as `read` does for the same parts.
    """
    definition = {key: parts[key] for key in DEFINITION_KEYS if parts.get(key) not in (None, {}, [], "")}
    validate_definition(kind, definition, settings)
    resolver = ReferenceResolver(reference_names)
    definition = references.definition_with_ids(definition, resolver)
    resolver.check()
    return as_stored(definition)


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
        problem = _DID_YOU_MEAN_FIELD(match=close_matches[0]) if close_matches else _UNKNOWN_FIELD()
        problems.append(_rejection("unknown_field", field_path, problem))
    raise_all(problems)


def _rejection(code: str, field_path: str, problem: Reason) -> Rejected:
    return Rejected(code, AT_PATH(path=field_path, problem=problem), field_path)


def as_stored(value: dict[str, Any]) -> dict[str, Any]:
    """Returns the value as JSON in the database returns it, so that two can be compared."""
    stored: dict[str, Any] = json.loads(json.dumps(value))
    return stored


def _collect_problem[T](spec: ObjectReader, function: Callable[[], T]) -> T | None:
    try:
        return function()
    except Rejected as problem:
        spec.add_rejection(problem)
        return None


def _kind(spec: ObjectReader) -> IntegrationKind | None:
    kind_name = spec.text("kind", required=True)
    kind = load_kinds().get(kind_name)
    if kind_name and kind is None:
        spec.add_error("kind", _KIND_NOT_IN_CATALOGUE(kind=kind_name, kinds=", ".join(sorted(load_kinds()))))
    return kind


def _recipients(spec: ObjectReader, resolver: ReferenceResolver) -> tuple[list[int], list[int]]:
    recipients = spec.nested("recipients")
    if recipients is None:
        return [], []
    users, groups = recipients.texts("users"), recipients.texts("groups")
    recipients.reject_unknown_keys()
    return (
        resolver.find_all(USER, users, "recipients.users"),
        resolver.find_all(GROUP, groups, "recipients.groups"),
    )


def _settings(kind: IntegrationKind, settings: object) -> dict[str, Any]:
    if not isinstance(settings, Mapping):
        raise _rejection("invalid_setting", "settings", _NOT_SETTINGS())
    require_storable(settings, "settings")
    kind_settings = {key: value for key, value in settings.items() if key != FAIL_OPEN}
    cleaned = clean_settings(kind, kind_settings)
    fail_open = settings.get(FAIL_OPEN)
    if fail_open is not None:
        if not isinstance(fail_open, bool):
            raise _rejection("invalid_setting", f"settings.{FAIL_OPEN}", NOT_BOOLEAN())
        cleaned[FAIL_OPEN] = fail_open
    return as_stored(cleaned)
