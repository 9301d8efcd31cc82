"""The specs of integrations and client tables: what they may refer to, and how they are checked. Writes nothing."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from django.apps import apps
from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator

from tocsin.access import boundary
from tocsin.catalogue.kinds import IntegrationKind, clean_settings, load_kinds
from tocsin.core.errors import Rejected
from tocsin.core.reasons import Text, sentence
from tocsin.core.reasons import translatable as _
from tocsin.core.validation import inputs
from tocsin.core.validation.inputs import (
    AT_PATH,
    NO_SUCH_GROUP,
    NO_SUCH_USER,
    NOT_A_CHOICE,
    NOT_AN_OBJECT,
    NOT_BOOLEAN,
    NOT_TEXT,
    raise_all,
    rejected_at,
    require_storable,
)
from tocsin.core.validation.spec import (
    InForm,
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
    to_tuple,
)
from tocsin.escalation.models import Policy
from tocsin.escalation.policy import NO_SUCH_POLICY, NO_SUCH_SUPPORT_HOURS
from tocsin.inbound.admin import secrets
from tocsin.inbound.conditions import ConditionSpec
from tocsin.inbound.config.compiled_integration import ReferenceNames
from tocsin.inbound.config.normalizer import IntegrationDefinition, Normalizer, compile_normalizer
from tocsin.inbound.config.rules import KEYS as NOISE_KEYS
from tocsin.inbound.config.rules import NoiseSpec, RouteSpec, RulesSpec
from tocsin.inbound.enums import IntegrationMode
from tocsin.inbound.fields import FIELDS
from tocsin.inbound.mapping.mapping import MappingSpec
from tocsin.inbound.mapping.templates import MAX_TEMPLATE
from tocsin.inbound.models import ClientTable, Integration
from tocsin.oncall.models import SupportHours
from tocsin.people.changes.flat_objects import FlatObject
from tocsin.people.models import Group, User, names_check

# ---------- references
# References in definitions are names in specs, and ids in the database: renaming an object changes no route. The nouns
# are the fields of `ReferenceNames`.

POLICY, USER, GROUP, HOURS, OUTBOUND, TABLE = _NOUNS = ("policies", "users", "groups", "hours", "outbound", "tables")

#: Why a reference by name is rejected.
UNKNOWN_REFERENCES = {
    POLICY: NO_SUCH_POLICY,
    USER: NO_SUCH_USER,
    GROUP: NO_SUCH_GROUP,
    HOURS: NO_SUCH_SUPPORT_HOURS,
    OUTBOUND: Text('unknown outbound integration "{name}".'),
    TABLE: Text('unknown client table "{name}".'),
}

#: Returns what takes the place of a reference, given its noun, value and field path; None to leave out a recipient.
type _ReplaceReference = Callable[[str, Any, str], object]


class ReferenceResolver:
    """Finds ids by name, ignoring case, and collects unknown names as problems."""

    def __init__(self, names: ReferenceNames) -> None:
        #: By noun, the ids by name in lower case.
        self.ids = {noun: {name.lower(): key for key, name in getattr(names, noun).items()} for noun in _NOUNS}
        self._problems: list[Rejected] = []

    def find(self, noun: str, name: object, field_path: str) -> int | None:
        """Returns the id of `name`; None, with a problem noted under `field_path`, if it is unknown."""
        object_id = self.ids[noun].get(name.lower()) if isinstance(name, str) else None
        if object_id is None:
            problem = UNKNOWN_REFERENCES[noun](name=str(name)[:200])
            self._problems.append(Rejected("not_found", AT_PATH(path=field_path, problem=problem), field_path))
        return object_id

    def check(self) -> None:
        """Raises Rejected or RejectedAll for all names that were not found."""
        raise_all(self._problems)


def definition_with_names(definition: Mapping[str, Any], names: ReferenceNames) -> dict[str, Any]:
    """Returns a stored definition as in a spec, with names instead of ids. Deleted recipients are omitted; other
    deleted references keep their id."""

    def name_of(noun: str, value: object, _path: str) -> object:
        if not isinstance(value, int):
            return value
        return getattr(names, noun).get(value, None if noun in (USER, GROUP) else value)

    return _replace_references(definition, name_of)


def ids_in_definition(definition: Mapping[str, Any]) -> list[tuple[str, int]]:
    """Returns the noun and id of each object that a stored definition refers to."""
    found: list[tuple[str, int]] = []

    def note(noun: str, value: object, _path: str) -> object:
        if isinstance(value, int):
            found.append((noun, value))
        return value

    _replace_references(definition, note)
    return found


def has_references(definition: Mapping[str, Any]) -> bool:
    """Returns whether the definition has parts that may refer to other objects."""
    return "routes" in definition or "delay" in definition


def _replace_references(definition: Mapping[str, Any], replace: _ReplaceReference) -> dict[str, Any]:
    """Returns a well-formed definition with other references in its routes and in its delay."""
    replaced = dict(definition)
    if "routes" in definition:
        routes = enumerate(definition["routes"] or [])
        replaced["routes"] = [_replace_in_route(route, f"routes[{index}]", replace) for index, route in routes]
    if "delay" in definition:
        replaced["delay"] = _replace_in_delay(definition["delay"], "delay", replace)
    return replaced


def _replace_in_route(route: Mapping[str, Any], field_path: str, replace: _ReplaceReference) -> dict[str, Any]:
    replaced = {key: value for key, value in route.items() if value is not None}
    for key, noun in (("escalation_policy", POLICY), ("client_table", TABLE)):
        if replaced.get(key, "") != "":
            replaced[key] = replace(noun, replaced[key], f"{field_path}.{key}")
    if recipients := replaced.get("recipients"):
        replaced["recipients"] = {
            key: list(
                dict.fromkeys(
                    found
                    for index, value in enumerate(recipients[key])
                    if (found := replace(key, value, f"{field_path}.recipients.{key}[{index}]")) is not None
                )
            )
            for key in (USER, GROUP)
            if recipients.get(key) is not None
        }
    if "delay" in replaced:
        replaced["delay"] = _replace_in_delay(replaced["delay"], f"{field_path}.delay", replace)
    during = replaced.get("during", "")
    if isinstance(during, Mapping):
        if during.get("not") is not None:
            replaced["during"] = {"not": replace(HOURS, during["not"], f"{field_path}.during.not")}
    elif during != "":
        replaced["during"] = replace(HOURS, during, f"{field_path}.during")
    return replaced


def _replace_in_delay(delay: object, field_path: str, replace: _ReplaceReference) -> object:
    """Returns a delay with other support hours; `none` stays."""
    if not isinstance(delay, Mapping):
        return delay
    replaced = {key: value for key, value in delay.items() if value is not None}
    if "until" in replaced:
        replaced["until"] = replace(HOURS, replaced["until"], f"{field_path}.until")
    return replaced


# ---------- client tables

MAX_CLIENTS = 5_000


_Name = Annotated[str, Field(max_length=200)]


_NOT_A_NUMBER = Text(
    '"{number}" is not a phone number with its country code, nor the beginning of one such as +41431*.'
)
_NUMBER = re.compile(r"\+[1-9][0-9]{2,14}\*?")
MAX_CLIENT_NUMBERS = 50


def _numbers(value: object) -> object:
    """Returns phone numbers without the spaces in them; None for none."""
    numbers = tuple("".join(str(number).split()) for number in to_tuple(value, MAX_CLIENT_NUMBERS)) if value else ()
    for number in numbers:
        if not _NUMBER.fullmatch(number):
            raise InvalidValue(_NOT_A_NUMBER(number=number[:50]))
    return numbers or None


class ClientSpec(Spec):
    """A client."""

    client: str = Field(min_length=1, max_length=200, description="Name or id of the client, as the sender writes it.")
    group: Annotated[_Name | None, Reference("people.Group", UNKNOWN_REFERENCES[GROUP])] = Field(
        default=None, description="Name of the recipient group."
    )
    policy: Annotated[_Name | None, Reference("escalation.Policy", UNKNOWN_REFERENCES[POLICY])] = Field(
        default=None, alias="escalation_policy", description="Name of the escalation policy."
    )
    numbers: Annotated[tuple[str, ...] | None, BeforeValidator(_numbers)] = Field(
        default=None,
        description="Phone numbers from which the client calls, with country code. `+41431234*`: all that begin so.",
    )

    def check(self, errors: SpecErrors) -> None:
        if not errors and self.group is None and self.policy is None:
            errors.add("group", sentence("name a group or a policy for this client."), "missing")


class ClientTableSpec(OwnedSpec):
    """A client table: recipients by client."""

    clients: Annotated[
        tuple[ClientSpec, ...],
        BeforeValidator(lambda clients: to_tuple(clients, MAX_CLIENTS)),
        Field(json_schema_extra={"maxItems": MAX_CLIENTS}),
        InForm(
            _("Clients"),
            _("One per row: client, group, policy, phone numbers. Policy and numbers are optional."),
        ),
    ] = Field(default=(), description="Clients with a group, a policy or both.")

    def check(self, errors: SpecErrors) -> None:
        errors.add_duplicates("clients", (client.client for client in self.clients), "client")


CLIENT_TABLES = FlatObject("client_table", ClientTable, ClientTableSpec)
save_client_table = CLIENT_TABLES.save


def from_csv(text: str) -> list[dict[str, Any]]:
    """Parses the clients of a CSV: client, group, policy and phone numbers (with spaces between them), separated
    by commas, semicolons or tabs; skips a header row.

    Raises Rejected that names the row.
    """
    clients: list[dict[str, Any]] = []
    problems: list[Rejected] = []
    for row_number, cells in enumerate(inputs.read_csv(text), start=1):
        if not any(cells) or (
            row_number == 1 and cells[0].casefold() in ("client", "client name", "client_id", "name")
        ):
            continue
        if len(cells) > 4 and any(cells[4:]):
            problems.append(
                Rejected(
                    "invalid",
                    sentence("Row {row} has more than client, group, policy and phone numbers.", row=row_number),
                    "clients",
                )
            )
            continue
        entry: dict[str, Any] = dict(zip(("client", "group", "escalation_policy"), cells, strict=False))
        entry["numbers"] = cells[3].split() if len(cells) > 3 else []
        clients.append({key: value for key, value in entry.items() if value})
    raise_all(problems)
    return clients


def to_csv(clients: Sequence[Mapping[str, Any]]) -> str:
    """Returns the clients as CSV, in the form that `from_csv` parses."""
    rows = [
        [
            client["client"],
            client.get("group", ""),
            client.get("escalation_policy", ""),
            " ".join(client.get("numbers", ())),
        ]
        for client in clients
    ]
    return inputs.write_csv([["client", "group", "policy", "numbers"], *rows])


# ---------- specs
# Reads an integration's spec: validates it by compiling everything, and resolves names. Writes nothing.

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
    """Annotates a part of a definition, which is kept as written: `read` compiles all parts together."""
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
            stored = _as_stored_definition(kind, definition, settings, resolver)
        except Rejected as problem:
            errors.add_rejection(problem, "")
            return
        if spec.allow_unreachable:
            settings[ALLOW_UNREACHABLE] = True
        parsed.append(ParsedIntegration(spec, kind, settings, stored))

    ids: dict[str, Any] = resolver.ids
    IntegrationSpec.read(given, check=check, **ids)
    return parsed[0]


def stored_definition(
    kind: IntegrationKind, parts: Mapping[str, Any], settings: Mapping[str, Any], names: ReferenceNames
) -> dict[str, Any]:
    """Returns a definition as stored from its `parts` as in a spec; empty parts are omitted and left to the kind.

    Raises Rejected or RejectedAll, as `read` does for the same parts.
    """
    definition = {key: parts[key] for key in DEFINITION_KEYS if not _is_empty(parts.get(key))}
    return _as_stored_definition(kind, definition, settings, ReferenceResolver(names))


def _as_stored_definition(
    kind: IntegrationKind, definition: Mapping[str, Any], settings: Mapping[str, Any], resolver: ReferenceResolver
) -> dict[str, Any]:
    """Compiles a definition together with its kind's defaults, to validate it, and returns it as stored.

    Raises Rejected with the field of an unusable path, regular expression, operator, key or reference.
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
    stored = _replace_references(definition, resolver.find)
    resolver.check()
    return _as_stored(stored)


def _is_empty(part: object) -> bool:
    """Returns whether a part of a definition is left to the kind."""
    return part in (None, {}, [], "")


def build_normalizer(kind: IntegrationKind, definition: Mapping[str, Any], settings: Mapping[str, Any]) -> Normalizer:
    """Compiles an integration's definition to a normalizer. Raises Rejected as `read`."""
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


def _as_stored(value: dict[str, Any]) -> dict[str, Any]:
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
    return _as_stored(cleaned)
