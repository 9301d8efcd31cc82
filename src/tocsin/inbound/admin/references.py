"""Converts references in definitions between names (specs) and ids (database). Pure.

Ids are stored so that renaming an object leaves the routes that refer to it unchanged.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tocsin.core.errors import Rejected
from tocsin.core.reasons import Text
from tocsin.core.validation.field_errors import AT_PATH, raise_all
from tocsin.escalation.policy import NO_SUCH_POLICY, NO_SUCH_SUPPORT_HOURS
from tocsin.people.reasons import NO_SUCH_GROUP, NO_SUCH_USER

POLICY, USER, GROUP, HOURS = "escalation policy", "user", "group", "support hours"
OUTBOUND = "outbound integration"
TABLE = "client table"

#: Why a reference by name is rejected.
UNKNOWN_REFERENCES = {
    POLICY: NO_SUCH_POLICY,
    USER: NO_SUCH_USER,
    GROUP: NO_SUCH_GROUP,
    HOURS: NO_SUCH_SUPPORT_HOURS,
    OUTBOUND: Text('unknown outbound integration "{name}".'),
    TABLE: Text('unknown client table "{name}".'),
}


@dataclass(frozen=True, slots=True)
class ReferenceNames:
    """The names of all referable objects by id, for each noun."""

    policies: Mapping[int, str] = field(default_factory=dict)
    users: Mapping[int, str] = field(default_factory=dict)
    groups: Mapping[int, str] = field(default_factory=dict)
    hours: Mapping[int, str] = field(default_factory=dict)
    outbound: Mapping[int, str] = field(default_factory=dict)
    tables: Mapping[int, str] = field(default_factory=dict)

    def names_of(self, resource_type: str) -> Mapping[int, str]:
        """Returns the names of one noun by id."""
        names_by_type = {
            POLICY: self.policies,
            USER: self.users,
            GROUP: self.groups,
            HOURS: self.hours,
            OUTBOUND: self.outbound,
            TABLE: self.tables,
        }
        return names_by_type[resource_type]


class ReferenceResolver:
    """Finds ids by name, ignoring case, and collects unknown names as problems."""

    def __init__(self, names: ReferenceNames) -> None:
        resource_types = (POLICY, USER, GROUP, HOURS, OUTBOUND, TABLE)
        #: By type, the ids by name in lower case.
        self.ids = {
            resource_type: {name.lower(): object_id for object_id, name in names.names_of(resource_type).items()}
            for resource_type in resource_types
        }
        self._problems: list[Rejected] = []

    def find(self, resource_type: str, name: object, field_path: str) -> int | None:
        """Returns the id of `name`; None, with a problem noted under `field_path`, if it is unknown."""
        object_id = self.ids[resource_type].get(name.lower()) if isinstance(name, str) else None
        if object_id is None:
            problem = UNKNOWN_REFERENCES[resource_type](name=str(name)[:200])
            self._problems.append(Rejected("not_found", AT_PATH(path=field_path, problem=problem), field_path))
        return object_id

    def find_all(self, resource_type: str, names: object, field_path: str) -> list[int]:
        """Returns the ids of a list of names; None counts as an empty list."""
        listed = names if isinstance(names, list | tuple) else []
        object_ids = [self.find(resource_type, name, f"{field_path}[{index}]") for index, name in enumerate(listed)]
        return list(dict.fromkeys(index for index in object_ids if index is not None))

    def check(self) -> None:
        """Raises Rejected or RejectedAll for all names that were not found."""
        raise_all(self._problems)


def definition_with_ids(definition: Mapping[str, Any], resolver: ReferenceResolver) -> dict[str, Any]:
    """Returns a compiled definition as stored: routes and the support hours of its delay refer to ids."""
    stored = dict(definition)
    if "routes" in stored:
        stored["routes"] = with_ids(stored["routes"], resolver)
    if isinstance(stored.get("delay"), Mapping):
        stored["delay"] = _delay_with_ids(stored["delay"], "delay", resolver)
    return stored


def definition_with_names(definition: Mapping[str, Any], names: ReferenceNames) -> dict[str, Any]:
    """Returns a stored definition as in a spec, with names instead of ids."""
    spec = dict(definition)
    if "routes" in spec:
        spec["routes"] = with_names(spec["routes"], names)
    if "delay" in spec:
        spec["delay"] = _delay_with_names(spec["delay"], names)
    return spec


def has_names(definition: Mapping[str, Any]) -> bool:
    """Returns whether the definition has parts that may refer to other objects."""
    return "routes" in definition or "delay" in definition


def ids_in_definition(definition: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """Yields the noun and id of each object that a stored definition refers to."""
    yield from ids_in(definition.get("routes") or [])
    yield from _hours_in(definition.get("delay"))


def _hours_in(delay: object) -> Iterator[tuple[str, int]]:
    if isinstance(delay, Mapping) and isinstance(hours := delay.get("until"), int):
        yield HOURS, hours


def _delay_with_ids(delay: Mapping[str, Any], field_path: str, resolver: ReferenceResolver) -> dict[str, Any]:
    stored = {key: value for key, value in delay.items() if value is not None}
    if "until" in stored:
        stored["until"] = resolver.find(HOURS, stored["until"], f"{field_path}.until")
    return stored


def _delay_with_names(delay: object, names: ReferenceNames) -> object:
    if isinstance(delay, Mapping) and "until" in delay:
        return {**delay, "until": _name(delay["until"], names.hours)}
    return delay


def with_ids(routes: list[Mapping[str, Any]], resolver: ReferenceResolver) -> list[dict[str, Any]]:
    """Returns compiled (hence well-formed) routes as stored. `resolver` collects unknown names."""
    return [_route_with_ids(route, f"routes[{index}]", resolver) for index, route in enumerate(routes)]


def with_names(routes: list[Mapping[str, Any]], names: ReferenceNames) -> list[dict[str, Any]]:
    """Returns stored routes as in a spec. Deleted recipients are omitted; other deleted references keep their id."""
    return [_route_with_names(route, names) for route in routes]


def ids_in(routes: list[Mapping[str, Any]]) -> Iterator[tuple[str, int]]:
    """Yields the noun and id of each object that stored routes refer to."""
    for route in routes:
        if isinstance(policy := route.get("escalation_policy"), int):
            yield POLICY, policy
        recipients = route.get("recipients") or {}
        yield from ((USER, user) for user in recipients.get("users") or ())
        yield from ((GROUP, group) for group in recipients.get("groups") or ())
        if isinstance(table := route.get("client_table"), int):
            yield TABLE, table
        yield from _hours_in(route.get("delay"))
        hours = route.get("during")
        if isinstance(hours, Mapping):
            hours = hours.get("not")
        if isinstance(hours, int):
            yield HOURS, hours


def _route_with_ids(route: Mapping[str, Any], field_path: str, resolver: ReferenceResolver) -> dict[str, Any]:
    stored = {key: value for key, value in route.items() if value is not None}
    if (policy := route.get("escalation_policy")) not in (None, ""):
        stored["escalation_policy"] = resolver.find(POLICY, policy, f"{field_path}.escalation_policy")
    recipients = route.get("recipients")
    if recipients:
        stored["recipients"] = {
            key: resolver.find_all(resource_type, recipients[key], f"{field_path}.recipients.{key}")
            for key, resource_type in (("users", USER), ("groups", GROUP))
            if recipients.get(key) is not None
        }
    if route.get("client_table") not in (None, ""):
        stored["client_table"] = resolver.find(TABLE, route["client_table"], f"{field_path}.client_table")
    if isinstance(delay := route.get("delay"), Mapping):
        stored["delay"] = _delay_with_ids(delay, f"{field_path}.delay", resolver)
    during = route.get("during")
    if isinstance(during, Mapping):
        if during.get("not") is not None:
            stored["during"] = {"not": resolver.find(HOURS, during["not"], f"{field_path}.during.not")}
    elif during not in (None, ""):
        stored["during"] = resolver.find(HOURS, during, f"{field_path}.during")
    return stored


def _route_with_names(route: Mapping[str, Any], names: ReferenceNames) -> dict[str, Any]:
    spec = dict(route)
    if "escalation_policy" in route:
        spec["escalation_policy"] = _name(route["escalation_policy"], names.policies)
    if recipients := route.get("recipients"):
        names_by_key = {"users": names.users, "groups": names.groups}
        spec["recipients"] = {
            key: [names_by_key[key][object_id] for object_id in object_ids if object_id in names_by_key[key]]
            for key, object_ids in recipients.items()
        }
    if "client_table" in route:
        spec["client_table"] = _name(route["client_table"], names.tables)
    if "delay" in route:
        spec["delay"] = _delay_with_names(route["delay"], names)
    during = route.get("during")
    if isinstance(during, Mapping):
        spec["during"] = {"not": _name(during["not"], names.hours)}
    elif during is not None:
        spec["during"] = _name(during, names.hours)
    return spec


def _name(object_id: object, names: Mapping[int, str]) -> object:
    return names.get(object_id, object_id) if isinstance(object_id, int) else object_id
