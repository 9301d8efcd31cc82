"""Routes: an integration's ordered rules that select policy, recipients and priority of a new alert. Pure.

References (policies, users, groups, support hours) stay as given; the caller resolves them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from tocsin.core.errors import Rejected
from tocsin.core.reasons import NO_REASON, Reason, ReasonType, joined
from tocsin.core.validation.object_reader import AT_PATH
from tocsin.inbound.config.noise_settings import NO_DELAY, Delay, compile_delay
from tocsin.inbound.config.reasons import DURING_HOURS, NO_ROUTE_MATCHES, NO_ROUTES, OUTSIDE_HOURS, ROUTE_MATCHES
from tocsin.inbound.expressions.conditions import CompiledCondition, compile_condition
from tocsin.inbound.expressions.fields import PRIORITIES
from tocsin.inbound.expressions.mapped import MappedFields

MAX_ROUTES: Final = 200


_MUST_BE_LIST: Final = ReasonType("route.must_be_list", "must be a list of routes")
_TOO_MANY: Final = ReasonType("route.too_many", "at most {limit} routes")
_MUST_BE_OBJECT: Final = ReasonType("route.must_be_object", "a route is {keys}")
_UNKNOWN_KEY: Final = ReasonType("route.unknown_key", "unknown key; one of {keys}")
_POLICY_TWICE: Final = ReasonType("route.policy_twice", "is the same as {other}; give one of them")
_MUST_BE: Final = ReasonType("route.must_be", "must be {form}")
_INVALID_NAME: Final = ReasonType("route.invalid_name", "a name is text of at most {limit} characters")
_INVALID_HOURS: Final = ReasonType("route.invalid_hours", "must be the name of support hours, or {form}")
_MUST_BE_NAME: Final = ReasonType("route.must_be_name", "must be a name")
_MUST_BE_NAMES: Final = ReasonType("route.must_be_names", "must be a list of names")
_UNKNOWN_PRIORITY: Final = ReasonType("route.unknown_priority", "unknown priority '{priority}'; one of {priorities}")
_UNKNOWN_ACTION: Final = ReasonType("route.unknown_action", "unknown action '{action}'; one of {actions}")

MAX_NAME_CHARS: Final = 100

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

    def describe(self) -> Reason:
        return (OUTSIDE_HOURS if self.is_outside else DURING_HOURS)(hours=self.name)


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
    reason: Reason
    policy: RouteReference | None = None
    users: tuple[RouteReference, ...] | None = None
    groups: tuple[RouteReference, ...] | None = None
    priority: str | None = None
    action: RouteAction = RouteAction.PAGE
    client_table: RouteReference | None = None
    delay: Delay | None = None
    has_delay: bool = False


_NO_ROUTES: Final = RouteChoice(None, "", NO_ROUTES())
_NONE_MATCHED: Final = RouteChoice(None, "", NO_ROUTE_MATCHES())


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
                reason=ROUTE_MATCHES(route=route.name, why=_match_reason(route, payload, mapped)),
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


def _match_reason(route: Route, payload: object, mapped: MappedFields) -> Reason:
    reason = route.when.reason(payload, mapped)
    return joined(reason, route.during.describe() if route.during is not None else NO_REASON, separator=", ")


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
        raise _rejection(field_path, _MUST_BE_LIST())
    if len(definition) > MAX_ROUTES:
        raise _rejection(field_path, _TOO_MANY(limit=MAX_ROUTES))
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
        keys = "{when, during, escalation_policy, recipients, priority, action}"
        raise _rejection(field_path, _MUST_BE_OBJECT(keys=keys))
    for key in definition:
        if key not in _KEYS:
            raise _rejection(f"{field_path}.{str(key)[:40]}", _UNKNOWN_KEY(keys=", ".join(_KEYS)))
    if "policy" in definition and "escalation_policy" in definition:
        raise _rejection(f"{field_path}.policy", _POLICY_TWICE(other="escalation_policy"))
    recipients = definition.get("recipients")
    if recipients is not None and (not isinstance(recipients, Mapping) or not set(recipients) <= {"users", "groups"}):
        raise _rejection(f"{field_path}.recipients", _MUST_BE(form="{users: […], groups: […]}"))
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
        return str(index + 1)
    if not isinstance(value, str) or len(value) > MAX_NAME_CHARS:
        raise _rejection(field_path, _INVALID_NAME(limit=MAX_NAME_CHARS))
    return value


def _during(value: object, field_path: str, names: Mapping[RouteReference, str]) -> SupportHoursCondition | None:
    if value is None or value == {}:
        return None
    if isinstance(value, Mapping):
        if set(value) != {"not"}:
            raise _rejection(field_path, _INVALID_HOURS(form="{not: NAME}"))
        outside = _reference(value["not"], f"{field_path}.not")
        return None if outside is None else SupportHoursCondition(outside, True, names.get(outside, str(outside)))
    inside = _reference(value, field_path)
    return None if inside is None else SupportHoursCondition(inside, False, names.get(inside, str(inside)))


def _reference(value: object, field_path: str) -> RouteReference | None:
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise _rejection(field_path, _MUST_BE_NAME())
    return value


def _references(recipients: object, key: str, field_path: str) -> tuple[RouteReference, ...] | None:
    value = recipients.get(key) if isinstance(recipients, Mapping) else None
    if value is None:
        return None
    if not isinstance(value, list | tuple):
        raise _rejection(f"{field_path}.recipients.{key}", _MUST_BE_NAMES())
    references = (_reference(reference, f"{field_path}.recipients.{key}[{i}]") for i, reference in enumerate(value))
    return tuple(reference for reference in references if reference is not None)


def _priority(value: object, field_path: str) -> str | None:
    if value is None or value == "":
        return None
    if value not in PRIORITIES:
        priorities = ", ".join(PRIORITIES)
        raise _rejection(field_path, _UNKNOWN_PRIORITY(priority=str(value)[:40], priorities=priorities))
    return str(value)


def _action(value: object, field_path: str) -> RouteAction:
    try:
        return RouteAction.PAGE if value is None else RouteAction(str(value))
    except ValueError:
        actions = ", ".join(RouteAction)
        raise _rejection(field_path, _UNKNOWN_ACTION(action=str(value)[:40], actions=actions)) from None


def _rejection(field_path: str, problem: Reason) -> Rejected:
    return Rejected("invalid_route", AT_PATH(path=field_path, problem=problem), field_path)
