"""Rules that decide what a message requests (close, open, update, cancel, nothing), and whether an alert may open.
Pure.

Evaluation order: cancel, close, open, the kind's `ignore` rules, update. Filters and vetoes are evaluated only when an
alert would open, hence separately from `classify`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Final

from pydantic import Field, PlainValidator, ValidationInfo

from tocsin.core.reasons import NO_REASON, Reason, Term, joined
from tocsin.core.validation.spec import ListOf, OneOf, ParsedText, Spec
from tocsin.inbound.conditions import CompiledCondition, Condition, RuleMatch, compile_condition
from tocsin.inbound.config.noise_settings import (
    CONFIGURED,
    DURING_HOURS,
    NEITHER_OPENS_NOR_CLOSES,
    NO_FILTERS,
    NO_ROUTE_MATCHES,
    NO_ROUTES,
    NO_RULE_MATCHES,
    NO_STATUS,
    NO_STATUS_BUT_EVENT,
    OUTSIDE_HOURS,
    ROUTE_MATCHES,
    STATUS,
    Delay,
    DelayOrNone,
    Reference,
    reference_of,
)
from tocsin.inbound.fields import ALWAYS, PRIORITIES, MappedFields, one_line


class EventAction(StrEnum):
    """What a message requests, regardless of whether there is an active alert."""

    OPEN = "open"
    CLOSE = "close"
    UPDATE = "update"
    CANCEL = "cancel"
    NONE = "none"


class ReasonedConditionSpec(Spec):
    """A condition with a fixed reason, for `ignore` and `veto`."""

    when: Condition = Field(description="Condition on the message.")
    # A kind's own reasons are translated like its other texts.
    reason: Annotated[Reason, ParsedText(lambda text, _info: CONFIGURED(reason=Term(text)), {}, 200)] = Field(
        description="Reason that is shown."
    )


class RulesSpec(Spec):
    """What a message requests. An omitted rule is that of the kind; without one, it never matches."""

    open: Condition | None = Field(default=None, description="When a message opens an alert.")
    close: Condition | None = Field(default=None, description="When it closes the alert.")
    update: Condition | None = Field(default=None, description="When it updates the alert.")
    cancel: Condition | None = Field(default=None, description="When it ends the alert as one that was none.")
    ignore: ListOf[ReasonedConditionSpec] = Field(
        default=(), description="When it does nothing, unless it opens, closes or cancels."
    )
    veto: ListOf[ReasonedConditionSpec] = Field(default=(), description="When it must not open an alert.")


_NO_FILTERS: Final = RuleMatch(True, NO_FILTERS())

#: The rules in evaluation order.
ORDER: Final = ("cancel", "close", "open", "ignore", "update")


@dataclass(frozen=True, slots=True)
class CompiledRules:
    """The compiled rules and filters of one integration."""

    cancel: CompiledCondition | None
    close: CompiledCondition | None
    open: CompiledCondition | None
    update: CompiledCondition | None
    ignore: tuple[ReasonedConditionSpec, ...]
    veto: tuple[ReasonedConditionSpec, ...]
    filters: CompiledCondition | None

    def classify(self, payload: object, mapped: MappedFields) -> tuple[EventAction, RuleMatch]:
        """Returns what the message requests, with the rule and values that decided."""
        if self.cancel is not None and self.cancel.matches(payload, mapped):
            return EventAction.CANCEL, RuleMatch(True, self.cancel.reason(payload, mapped))
        if self.close is not None and self.close.matches(payload, mapped):
            return EventAction.CLOSE, RuleMatch(True, self.close.reason(payload, mapped))
        if self.open is not None and self.open.matches(payload, mapped):
            return EventAction.OPEN, RuleMatch(True, self.open.reason(payload, mapped))
        for ignore_rule in self.ignore:
            if ignore_rule.when.matches(payload, mapped):
                return EventAction.NONE, RuleMatch(False, ignore_rule.reason)
        if self.update is not None and self.update.matches(payload, mapped):
            return EventAction.UPDATE, self._match_update(self.update, payload, mapped)
        return EventAction.NONE, RuleMatch(False, NO_RULE_MATCHES(status=_status(mapped)), is_decisive=False)

    def may_open(self, payload: object, mapped: MappedFields) -> RuleMatch:
        """Returns whether the vetoes and filters let an alert open, with the reason."""
        for veto_rule in self.veto:
            if veto_rule.when.matches(payload, mapped):
                return RuleMatch(False, veto_rule.reason)
        if self.filters is None:
            return _NO_FILTERS
        return self.filters.evaluate(payload, mapped)

    def _match_update(self, update: CompiledCondition, payload: object, mapped: MappedFields) -> RuleMatch:
        reason = update.reason(payload, mapped)
        if reason.code != ALWAYS.code:
            return RuleMatch(True, reason)
        return RuleMatch(True, NEITHER_OPENS_NOR_CLOSES(status=_status(mapped)), is_decisive=False)


def _status(mapped: MappedFields) -> Reason:
    status = mapped.values.get("source_status")
    if type(status) is str:
        return STATUS(status=one_line(status))
    event = mapped.values.get("event")
    return NO_STATUS_BUT_EVENT(event=one_line(event)) if type(event) is str else NO_STATUS()


def compile_rules(
    rules: object, filters: object = None, fields: Iterable[str] = (), field_path: str = "rules"
) -> CompiledRules:
    """Compiles rules: each is a condition, except that `ignore` and `veto` are lists of {when, reason}.

    An omitted rule never matches. Raises Rejected with the field of each problem.
    """
    known_fields = frozenset(fields)
    if isinstance(rules, Mapping):
        rules = {name: rule for name, rule in rules.items() if rule is not False}
    spec = RulesSpec.read({} if rules is None else rules, field_path, fields=known_fields)
    return CompiledRules(
        cancel=spec.cancel,
        close=spec.close,
        open=spec.open,
        update=spec.update,
        ignore=spec.ignore,
        veto=spec.veto,
        filters=None
        if filters is True or filters in (None, {})
        else compile_condition(filters, "filters", known_fields),
    )


# ---------- routes
# Routes: an integration's ordered rules that select policy, recipients and priority of a new alert. Pure.
#
# References (policies, users, groups, support hours) stay as given; the caller resolves them.


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
