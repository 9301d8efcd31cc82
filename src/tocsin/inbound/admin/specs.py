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
from tocsin.core.validation.object_reader import ObjectReader, raise_all, require_storable
from tocsin.escalation.models import Policy
from tocsin.inbound.admin import references
from tocsin.inbound.admin.references import GROUP, OUTBOUND, POLICY, USER, ReferenceNames, ReferenceResolver
from tocsin.inbound.config.noise_settings import KEYS as SHAPING_KEYS
from tocsin.inbound.config.normalizer import IntegrationDefinition, Normalizer, compile_reader
from tocsin.inbound.enums import IntegrationMode
from tocsin.inbound.expressions.fields import FIELDS
from tocsin.inbound.models import ClientTable
from tocsin.oncall.models import SupportHours
from tocsin.people.models import Group, User

#: The keys of a version's definition; the kind's defaults fill the rest.
DEFINITION_KEYS = ("mapping", "rules", "filters", "routes", "dedup_key", *SHAPING_KEYS)

#: The keys of a mapping that contain custom fields and tags.
CUSTOM, TAGS = "custom", "tags"
_TOP = FIELDS.keys() | {CUSTOM, TAGS}

#: A setting of every kind: whether an unreadable message opens an alert.
FAIL_OPEN = "fail_open"
#: Also stored with the settings: the integration may be saved although it reaches nobody.
ANYWAY = "anyway"


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
    anyway: bool
    #: None if the spec omits them: the stored values are kept.
    token: object
    credentials: object


def names() -> ReferenceNames:
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
    name, source = spec.name(), spec.line("source", longest=100)
    kind = _kind(spec)
    mode = spec.one_of("mode", IntegrationMode, IntegrationMode.PAGE)
    anyway = spec.flag("anyway", False)
    resolver = ReferenceResolver(names())
    outbound = spec.text("outbound")
    outbound_id = resolver.find(OUTBOUND, outbound, "outbound") if outbound else None
    group = resolver.find(GROUP, spec.text("group"), "group") if spec.text("group") else None
    policy = spec.text("escalation_policy")
    policy_id = resolver.find(POLICY, policy, "escalation_policy") if policy else None
    users, groups = _recipients(spec, resolver)
    given: dict[str, Any] = {}
    for key in DEFINITION_KEYS:
        if spec.raw(key) not in (None, {}, [], ""):
            given[key] = spec.raw(key)
    settings = spec.raw("settings", {})
    token, credentials = spec.raw("token"), spec.raw("credentials")
    spec.done()
    stored_settings: dict[str, Any] = {}
    if kind is not None:
        stored_settings = _noting(spec, partial(_settings, kind, settings)) or {}
        _noting(spec, partial(compile_definition, kind, given, stored_settings))
    spec.check()
    assert kind is not None
    given = references.definition_with_ids(given, resolver)
    resolver.check()
    if anyway:
        stored_settings[ANYWAY] = True
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
        definition=as_stored(given),
        anyway=anyway,
        token=token,
        credentials=credentials,
    )


def compile_definition(kind: IntegrationKind, given: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Compiles an integration's own definition together with its kind's defaults, to validate it.

    Raises Rejected with the field of an unusable path, regular expression, operator or key.
    """
    for key, value in given.items():
        require_storable(value, key)
    if not isinstance(given.get("mapping", {}), Mapping):
        raise Rejected("invalid_mapping", "mapping: names fields and where their values come from.", "mapping")
    _refuse_unknown_fields(kind, given.get("mapping", {}))
    if not isinstance(given.get("rules", {}), Mapping):
        raise Rejected("invalid_condition", "rules: are {open, close, update}.", "rules")
    if not isinstance(given.get("dedup_key", ""), str):
        raise Rejected("invalid_mapping", "dedup_key: is a text template.", "dedup_key")
    compiled(kind, given, settings)


def definition_of(
    kind: IntegrationKind, parts: Mapping[str, Any], settings: Mapping[str, Any], known: ReferenceNames
) -> dict[str, Any]:
    """Returns a definition as stored from its `parts` as in a spec; empty parts are omitted and left to the kind.

    Raises Rejected or RejectedAll, as `read` does for the same parts.
    """
    given = {key: parts[key] for key in DEFINITION_KEYS if parts.get(key) not in (None, {}, [], "")}
    compile_definition(kind, given, settings)
    resolver = ReferenceResolver(known)
    given = references.definition_with_ids(given, resolver)
    resolver.check()
    return as_stored(given)


def compiled(kind: IntegrationKind, given: Mapping[str, Any], settings: Mapping[str, Any]) -> Normalizer:
    """Compiles an integration's definition to a normalizer. Raises Rejected as `compile_definition`."""
    return compile_reader(kind, IntegrationDefinition(**{"settings": settings, **given}))


def with_custom_apart(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a mapping with custom fields under `custom`; older versions stored them beside Tocsin's own fields."""
    beside = {name: entry for name, entry in mapping.items() if name not in _TOP}
    if not beside:
        return dict(mapping)
    own = {name: entry for name, entry in mapping.items() if name in _TOP}
    return {**own, CUSTOM: {**beside, **(own.get(CUSTOM) or {})}}


def _refuse_unknown_fields(kind: IntegrationKind, mapping: Mapping[str, Any]) -> None:
    """Rejects unknown fields, so that a misspelt field does not silently become a custom one."""
    known = _TOP | kind.mapping.keys()
    problems = []
    for name in mapping:
        if name in known:
            continue
        place = f"mapping.{str(name)[:40]}"
        near = difflib.get_close_matches(str(name)[:100].casefold().replace(" ", "_"), sorted(known), 1, 0.75)
        hint = f'did you mean "{near[0]}"? ' if near else ""
        detail = f"{place}: is no field of Tocsin's; {hint}A custom field stands under custom:, a tag under tags:."
        problems.append(Rejected("unknown_field", detail, place))
    raise_all(problems)


def as_stored(value: dict[str, Any]) -> dict[str, Any]:
    """Returns the value as JSON in the database returns it, so that two can be compared."""
    stored: dict[str, Any] = json.loads(json.dumps(value))
    return stored


def _noting[T](spec: ObjectReader, work: Callable[[], T]) -> T | None:
    try:
        return work()
    except Rejected as problem:
        spec.note(problem)
        return None


def _kind(spec: ObjectReader) -> IntegrationKind | None:
    kind_name = spec.text("kind", required=True)
    kind = load_kinds().get(kind_name)
    if kind_name and kind is None:
        spec.refuse("kind", f'"{kind_name}" is not in the catalogue; known: {", ".join(sorted(load_kinds()))}.')
    return kind


def _recipients(spec: ObjectReader, resolver: ReferenceResolver) -> tuple[list[int], list[int]]:
    recipients = spec.spec("recipients")
    if recipients is None:
        return [], []
    users, groups = recipients.texts("users"), recipients.texts("groups")
    recipients.done()
    return (
        resolver.find_all(USER, users, "recipients.users"),
        resolver.find_all(GROUP, groups, "recipients.groups"),
    )


def _settings(kind: IntegrationKind, given: object) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        raise Rejected("invalid_setting", "settings: are named values.", "settings")
    require_storable(given, "settings")
    own = {key: value for key, value in given.items() if key != FAIL_OPEN}
    cleaned = clean_settings(kind, own)
    fail_open = given.get(FAIL_OPEN)
    if fail_open is not None:
        if not isinstance(fail_open, bool):
            raise Rejected("invalid_setting", "settings.fail_open: must be true or false.", f"settings.{FAIL_OPEN}")
        cleaned[FAIL_OPEN] = fail_open
    return as_stored(cleaned)
