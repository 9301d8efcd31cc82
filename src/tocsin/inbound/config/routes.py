"""Routes: an integration's ordered rules that select policy, recipients and priority of a new alert. Pure.

References (policies, users, groups, support hours) stay as given; the caller resolves them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Final

from pydantic import Field, PlainValidator, ValidationInfo

from tocsin.core.reasons import NO_REASON, Reason, joined
from tocsin.core.validation.spec import Spec
from tocsin.core.validation.spec_types import ListOf, OneOf
from tocsin.inbound.config.noise_settings import Delay, DelayOrNone, Reference, reference_of
from tocsin.inbound.config.reasons import DURING_HOURS, NO_ROUTE_MATCHES, NO_ROUTES, OUTSIDE_HOURS, ROUTE_MATCHES
from tocsin.inbound.expressions.conditions import CompiledCondition, Condition, compile_condition
from tocsin.inbound.expressions.fields import PRIORITIES
from tocsin.inbound.expressions.mapped import MappedFields

MAX_ROUTES: Final = 200


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

_ALWAYS: Final = compile_condition(None)


class OutsideHoursSpec(Spec):
    """The time outside support hours."""

    hours: Reference = Field(alias="not", description="Name of the support hours.")


class RouteRecipientsSpec(Spec):
    """Who is notified instead of the integration's own recipients."""

    users: ListOf[Reference] | None = Field(default=None, description="Usernames. Default: the integration's own.")
    groups: ListOf[Reference] | None = Field(
        default=None, description="Names of groups. Default: the integration's own."
    )


def _during(value: object, info: ValidationInfo) -> OutsideHoursSpec | RouteReference | None:
    if isinstance(value, Mapping):
        return OutsideHoursSpec.model_validate(value, context=info.context)
    return reference_of(value)


_During = Annotated[
    OutsideHoursSpec | str | int,
    PlainValidator(_during, json_schema_input_type=Annotated[str, Field(max_length=200)] | OutsideHoursSpec),
]


class RouteSpec(Spec):
    """What happens with the alerts that a condition selects. The first route that matches decides."""

    name: str = Field(default="", max_length=100, description="Name. Default: its number.")
    when: Condition | None = Field(default=None, description="Condition on the message. Default: always.")
    during: _During | None = Field(
        default=None, description="Name of support hours in which it matches, or `{not: NAME}`. Default: always."
    )
    escalation_policy: Reference = Field(
        default=None, description="Name of the escalation policy. Default: the integration's own."
    )
    recipients: RouteRecipientsSpec | None = Field(
        default=None, description="Recipients. Default: the integration's own."
    )
    client_table: Reference = Field(
        default=None, description="Name of the client table that selects group and policy by client."
    )
    priority: Annotated[str, OneOf(("", *PRIORITIES))] = Field(
        default="", description="Priority of the alert. Default: as mapped."
    )
    action: Annotated[RouteAction, OneOf()] = Field(
        default=RouteAction.PAGE, description="Whether the alert pages, or is only recorded."
    )
    delay: DelayOrNone | None = Field(
        default=None, description="When the alert opens; `none`: immediately. Default: the integration's own."
    )


def compile_routes(
    definition: object,
    fields: Iterable[str] = (),
    field_path: str = "routes",
    hours_names: Mapping[RouteReference, str] | None = None,
) -> tuple[Route, ...]:
    """Compiles routes. `hours_names` are the support hours' names by id, for use in reasons.

    Raises Rejected with the field of each problem.
    """
    if definition is None:
        return ()
    specs = RouteSpec.read_list(definition, field_path, maximum=MAX_ROUTES, fields=frozenset(fields))
    return tuple(_route(spec, index, f"{field_path}[{index}]", hours_names or {}) for index, spec in enumerate(specs))


def _route(spec: RouteSpec, index: int, field_path: str, hours_names: Mapping[RouteReference, str]) -> Route:
    recipients = spec.recipients or RouteRecipientsSpec()
    return Route(
        field_path=field_path,
        name=spec.name or str(index + 1),
        when=spec.when or _ALWAYS,
        during=_support_hours(spec.during, hours_names),
        policy=spec.escalation_policy,
        users=_references(recipients.users),
        groups=_references(recipients.groups),
        priority=spec.priority or None,
        action=spec.action,
        client_table=spec.client_table,
        delay=spec.delay.compiled(hours_names) if spec.delay else None,
        has_delay=spec.delay is not None,
    )


def _support_hours(
    during: OutsideHoursSpec | RouteReference | None, names: Mapping[RouteReference, str]
) -> SupportHoursCondition | None:
    hours = during.hours if isinstance(during, OutsideHoursSpec) else during
    if hours is None:
        return None
    return SupportHoursCondition(hours, isinstance(during, OutsideHoursSpec), names.get(hours, str(hours)))


def _references(references: Iterable[RouteReference | None] | None) -> tuple[RouteReference, ...] | None:
    return None if references is None else tuple(filter(None, references))
