"""Routes: an integration's ordered rules that select policy, recipients and priority of a new alert. Pure.

References (policies, users, groups, support hours) stay as given; the caller resolves them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from tocsin.core.errors import Rejected
from tocsin.inbound.config.noise_settings import NO_DELAY, Delay, compile_delay
from tocsin.inbound.expressions.conditions import MAX_REASON, CompiledCondition, compile_condition
from tocsin.inbound.expressions.fields import PRIORITIES
from tocsin.inbound.expressions.mapped import MappedFields
from tocsin.inbound.expressions.text_format import cut_bytes

MAX_ROUTES: Final = 200

#: The generated name of a route without a name.
_UNNAMED: Final = re.compile(r"route \d+")

#: A policy, user, group or support hours, by name or id.
type RouteReference = str | int


class RouteAction(StrEnum):
    PAGE = "page"
    LOG_ONLY = "record"  # log only: the alert pages nobody


@dataclass(frozen=True, slots=True)
class SupportHoursCondition:
    """Matches inside support hours, or outside them (`{not: NAME}`)."""

    hours: RouteReference
    is_outside: bool
    name: str  # of the support hours, for display

    def describe(self) -> str:
        return f"{'outside' if self.is_outside else 'during'} {self.name}"


@dataclass(frozen=True, slots=True)
class Route:
    field_path: str
    name: str
    when: CompiledCondition
    during: SupportHoursCondition | None
    policy: RouteReference | None
    users: tuple[RouteReference, ...] | None  # None: the integration's own
    groups: tuple[RouteReference, ...] | None
    priority: str | None
    action: RouteAction
    #: The client table that selects the group and policy for the message's client.
    client_table: RouteReference | None = None
    delay: Delay | None = None
    #: Whether the route's delay, including `none`, overrides the integration's.
    has_delay: bool = False


@dataclass(frozen=True, slots=True)
class RouteChoice:
    """The matching route (`index` from 0), or none: then all settings are the integration's own."""

    index: int | None
    name: str
    reason: str
    policy: RouteReference | None = None
    users: tuple[RouteReference, ...] | None = None
    groups: tuple[RouteReference, ...] | None = None
    priority: str | None = None
    action: RouteAction = RouteAction.PAGE
    client_table: RouteReference | None = None
    delay: Delay | None = None
    has_delay: bool = False


_NO_ROUTES: Final = RouteChoice(None, "", "no routes: the integration's own policy and recipients")
_NONE_MATCHED: Final = RouteChoice(None, "", "no route matches: the integration's own policy and recipients")


def choose(
    routes: Sequence[Route], payload: object, mapped: MappedFields, in_hours: Callable[[RouteReference], bool]
) -> RouteChoice:
    """Returns the first route whose condition and hours match. `in_hours(name)`: whether support hours are open now."""
    if not routes:
        return _NO_ROUTES
    for index, route in enumerate(routes):
        if matches_route(route, payload, mapped, in_hours):
            return RouteChoice(
                index=index,
                name=route.name,
                reason=cut_bytes(f"{_label(route.name)}: {_match_reason(route, payload, mapped)}", MAX_REASON),
                policy=route.policy,
                users=route.users,
                groups=route.groups,
                priority=route.priority,
                action=route.action,
                client_table=route.client_table,
                delay=route.delay,
                has_delay=route.has_delay,
            )
    return _NONE_MATCHED


def matches_route(
    route: Route, payload: object, mapped: MappedFields, in_hours: Callable[[RouteReference], bool]
) -> bool:
    if not route.when.matches(payload, mapped):
        return False
    return route.during is None or in_hours(route.during.hours) is not route.during.is_outside


def _label(name: str) -> str:
    return name if _UNNAMED.fullmatch(name) else f"route {name}"


def _match_reason(route: Route, payload: object, mapped: MappedFields) -> str:
    reason = str(route.when.reason(payload, mapped))
    return reason if route.during is None else f"{reason}, {route.during.describe()}"


# --- Compiling ---------------------------------------------------------------------------------------------------

_KEYS: Final = (
    "name", "when", "during", "policy", "escalation_policy", "recipients", "client_table", "priority", "action",
    "delay",
)  # fmt: skip


def compile_routes(
    definition: object,
    fields: Iterable[str] = (),
    field_path: str = "routes",
    hours_names: Mapping[RouteReference, str] | None = None,
) -> tuple[Route, ...]:
    """Compiles routes. `hours_names` are the support hours' names by id, for use in reasons.

    Raises Rejected("invalid_route") or Rejected("invalid_condition") with the field.
    """
    if definition is None:
        return ()
    if not isinstance(definition, list | tuple):
        raise _rejection(field_path, "must be a list of routes")
    if len(definition) > MAX_ROUTES:
        raise _rejection(field_path, f"at most {MAX_ROUTES} routes")
    known_fields = frozenset(fields)
    names = hours_names or {}
    return tuple(
        _route(route_definition, i, f"{field_path}[{i}]", known_fields, names)
        for i, route_definition in enumerate(definition)
    )


def _route(
    definition: object, index: int, field_path: str, fields: frozenset[str], hours_names: Mapping[RouteReference, str]
) -> Route:
    if not isinstance(definition, Mapping):
        raise _rejection(field_path, "a route is {when, during, escalation_policy, recipients, priority, action}")
    for key in definition:
        if key not in _KEYS:
            raise _rejection(f"{field_path}.{str(key)[:40]}", f"unknown key; one of {', '.join(_KEYS)}")
    if "policy" in definition and "escalation_policy" in definition:
        raise _rejection(f"{field_path}.policy", "is the same as escalation_policy; give one of them")
    recipients = definition.get("recipients")
    if recipients is not None and (not isinstance(recipients, Mapping) or not set(recipients) <= {"users", "groups"}):
        raise _rejection(f"{field_path}.recipients", "must be {users: […], groups: […]}")
    policy_key = "policy" if "policy" in definition else "escalation_policy"
    return Route(
        field_path=field_path,
        name=_name(definition.get("name"), index, f"{field_path}.name"),
        when=compile_condition(definition.get("when"), f"{field_path}.when", fields),
        during=_during(definition.get("during"), f"{field_path}.during", hours_names),
        policy=_reference(definition.get(policy_key), f"{field_path}.{policy_key}"),
        users=_references(recipients, "users", field_path),
        groups=_references(recipients, "groups", field_path),
        priority=_priority(definition.get("priority"), f"{field_path}.priority"),
        action=_action(definition.get("action"), f"{field_path}.action"),
        client_table=_reference(definition.get("client_table"), f"{field_path}.client_table"),
        delay=compile_delay(definition.get("delay"), f"{field_path}.delay", hours_names),
        has_delay=definition.get("delay") == NO_DELAY or definition.get("delay") not in (None, "", {}),
    )


def _name(value: object, index: int, field_path: str) -> str:
    if value is None or value == "":
        return f"route {index + 1}"
    if not isinstance(value, str) or len(value) > 100:
        raise _rejection(field_path, "a name is text of at most 100 characters")
    return value


def _during(value: object, field_path: str, names: Mapping[RouteReference, str]) -> SupportHoursCondition | None:
    if value is None or value == {}:
        return None
    if isinstance(value, Mapping):
        if set(value) != {"not"}:
            raise _rejection(field_path, "must be the name of support hours, or {not: NAME}")
        outside = _reference(value["not"], f"{field_path}.not")
        return None if outside is None else SupportHoursCondition(outside, True, names.get(outside, str(outside)))
    inside = _reference(value, field_path)
    return None if inside is None else SupportHoursCondition(inside, False, names.get(inside, str(inside)))


def _reference(value: object, field_path: str) -> RouteReference | None:
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise _rejection(field_path, "must be a name")
    return value


def _references(recipients: object, key: str, field_path: str) -> tuple[RouteReference, ...] | None:
    value = recipients.get(key) if isinstance(recipients, Mapping) else None
    if value is None:
        return None
    if not isinstance(value, list | tuple):
        raise _rejection(f"{field_path}.recipients.{key}", "must be a list of names")
    references = (_reference(reference, f"{field_path}.recipients.{key}[{i}]") for i, reference in enumerate(value))
    return tuple(reference for reference in references if reference is not None)


def _priority(value: object, field_path: str) -> str | None:
    if value is None or value == "":
        return None
    if value not in PRIORITIES:
        raise _rejection(field_path, f"unknown priority '{str(value)[:40]}'; one of {', '.join(PRIORITIES)}")
    return str(value)


def _action(value: object, field_path: str) -> RouteAction:
    try:
        return RouteAction.PAGE if value is None else RouteAction(str(value))
    except ValueError:
        raise _rejection(field_path, f"unknown action '{str(value)[:40]}'; page or record") from None


def _rejection(field_path: str, problem: str) -> Rejected:
    return Rejected("invalid_route", f"{field_path}: {problem}", field_path)
