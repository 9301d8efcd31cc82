"""What an integration's definition says: rules, filters, routes, and noise reduction, as specs and compiled. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Final

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, ValidationInfo

from tocsin.core.ids import key_hash
from tocsin.core.reasons import NO_REASON, Reason, Term, Text, joined
from tocsin.core.validation.field_errors import NOT_TEXT, REQUIRED, rejected_at
from tocsin.core.validation.spec import Duration, InvalidValue, ListOf, OneOf, Parsed, ParsedText, Spec, SpecErrors
from tocsin.inbound.conditions import CompiledCondition, Condition, RuleMatch, compile_condition
from tocsin.inbound.fields import ALWAYS, PRIORITIES, MappedFields, one_line
from tocsin.inbound.mapping.templates import MAX_TEMPLATE, Extraction, Template, compile_template

# ---------- noise settings
# An integration's noise reduction settings, compiled once per version. Pure.
#
# `parent` and `grouping` join an alert to another, `flapping` and `delay` delay it, and `flood` limits the rate at
# which alerts open. `inbound.deciding.noise_reduction` applies them to a message.


# ---------- reasons
# Reasons of an integration's configuration: which rule, filter, route or client table decided, and when a delayed
# alert opens.


UNKNOWN_KIND: Final = Text("Unknown integration type {kind} in this version of Tocsin.")

# --- Rules and filters --------------------------------------------------------------------------------------------

#: The reason that an `ignore` or `veto` rule has in the configuration.
CONFIGURED: Final = Text("{reason}")
NO_RULE_MATCHES: Final = Text("{status}: no rule matches")
NEITHER_OPENS_NOR_CLOSES: Final = Text("{status}: neither opens nor closes")
STATUS_MISSING: Final = Text(
    "no status in the message, so it opens; looked at {sources}. Add the status to the sender's message, or map it"
)
STATUS_UNKNOWN: Final = Text('unknown status "{status}", so it opens. Set what it does, or map the status')
NEW_TICKET: Final = Text('new ticket (event "{event}")')
OPEN_TICKET: Final = Text(
    'status "{status}", and the message names no event, so it opens. Add the event to the sender\'s message'
)
UNKNOWN_TICKET: Final = Text(
    "a ticket without an alert so far, and nothing in the message says whether it is new, so it opens; looked at "
    "{sources}. Add the status or the event to the sender's message"
)
CLOSING_EVENT: Final = Text('event "{event}"')
CLOSED_DESPITE: Final = Text('{why}, although the status is "{status}"')
DAILY_EVENT: Final = Text('"{event}" is an everyday event, low unless the message has a priority')
STATUS: Final = Text('status "{status}"')
NO_STATUS: Final = Text("no status")
NO_STATUS_BUT_EVENT: Final = Text('no status, event "{event}"')
NO_FILTERS: Final = Text("no filters")

# --- Routes -------------------------------------------------------------------------------------------------------

NO_ROUTES: Final = Text("no routes: the integration's own policy and recipients")
NO_ROUTE_MATCHES: Final = Text("no route matches: the integration's own policy and recipients")
ROUTE_MATCHES: Final = Text("route {route}: {why}")
DURING_HOURS: Final = Text("during {hours}")
OUTSIDE_HOURS: Final = Text("outside {hours}")
HOURS_MATCH: Final = Text("{hours}: yes")
HOURS_DO_NOT_MATCH: Final = Text("{hours}: no")
CLIENT_IN_TABLE: Final = Text("{client} is in client table {table}")
CLIENT_NOT_IN_TABLE: Final = Text("client {client} is not in client table {table}")
NO_CLIENT: Final = Text("a message without a client is not in client table {table}")
CLIENT_TABLE_DELETED: Final = Text("its client table was deleted")

# --- Delays: each completes "the alert opens …" ---------------------------------------------------------------------

AFTER_DELAY: Final = Text("after {duration}, unless it closes first")
AFTER_COUNT_WITHIN: Final = Text("when {alerts} alerts arrive within {duration}")
AFTER_INTEGRATION_COUNT_WITHIN: Final = Text("when {alerts} alerts of the integration arrive within {duration}")
WITH_EVERY_COUNT: Final = Text("once per {alerts} alerts")
WITH_EVERY_INTEGRATION_COUNT: Final = Text("once per {alerts} alerts of the integration")
ONCE_EVERY: Final = Text("at most once every {duration}")
ONCE_EVERY_FOR_INTEGRATION: Final = Text("at most once every {duration} per integration")
AT_SUPPORT_HOURS: Final = Text("when the support hours {hours} begin")


#: A route's delay if its alerts open at once.
NO_DELAY: Final = "none"

MAX_COUNTED_ALERTS: Final = 100
MAX_NOISE_WINDOW: Final = timedelta(days=7)

_NOT_ONE_KIND: Final = Text("give exactly one of {kinds}: {examples}")
_WITHIN_WITHOUT_COUNT: Final = Text("belongs to {key}: {example}")
_SCOPE_WITHOUT_COUNT: Final = Text("belongs to {keys}")
_NO_FIELD_IN_TEMPLATE: Final = Text('has no placeholder: use a template like "{example}", not "{template}"')
_OUT_OF_RANGE: Final = Text("must be greater than zero, and at most {limit}")


def reference_of(value: object) -> str | int | None:
    """Reads a `Reference`. Raises InvalidValue."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise InvalidValue(NOT_TEXT())
    return None if value == "" else value


#: Another object: by name in a spec, by id once stored; None if the name is empty.
Reference = Annotated[str | int | None, Parsed(reference_of, {"type": "string", "maxLength": 200})]


def _window(duration: timedelta) -> timedelta:
    if not timedelta() < duration <= MAX_NOISE_WINDOW:
        raise InvalidValue(_OUT_OF_RANGE(limit=MAX_NOISE_WINDOW))
    return duration


_Window = Annotated[Duration, AfterValidator(_window)]
_Template = Annotated[str, Field(max_length=MAX_TEMPLATE)]


class DelayKind(StrEnum):
    """How an alert is delayed."""

    WAIT = "wait"  # for a duration; dropped if it closes before
    COUNT = "alerts"  # until this many came, optionally within a duration
    EVERY = "every"  # at most one opens in each interval
    HOURS = "until"  # until support hours begin


class CountScope(StrEnum):
    """What is counted together."""

    ALERT = "alert"  # messages of one dedup key
    INTEGRATION = "integration"  # alerts of the whole integration


class DelaySpec(Spec):
    """When an alert opens later, or not at all: exactly one of `wait`, `alerts`, `every` and `until`."""

    wait: _Window | None = Field(default=None, description="It opens after this time, unless it is closed before.")
    alerts: int | None = Field(
        default=None, ge=2, le=MAX_COUNTED_ALERTS, description="It opens with this many messages or alerts."
    )
    within: _Window | None = Field(default=None, description="Period in which `alerts` are counted. Default: any.")
    every: _Window | None = Field(default=None, description="It opens at most once in this time.")
    until: Reference = Field(default=None, description="Support hours at whose beginning it opens.")
    per: Annotated[CountScope, OneOf()] = Field(
        default=CountScope.ALERT, description="What `alerts` and `every` count: messages of an alert, or all alerts."
    )

    def check(self, errors: SpecErrors) -> None:
        kinds = [kind for kind in DelayKind if kind in self.given_keys]
        if len(kinds) != 1:
            examples = "{wait: 5m}, {alerts: 3, within: 10m}, {every: 30m} or {until: Business hours}"
            reason = _NOT_ONE_KIND(kinds=", ".join(DelayKind), examples=examples)
            errors.add("", reason, "invalid" if kinds else "missing")
            return
        (kind,) = kinds
        if kind is DelayKind.HOURS and self.until is None:
            errors.add("until", REQUIRED(), "missing")
        if self.within is not None and kind is not DelayKind.COUNT:
            errors.add("within", _WITHIN_WITHOUT_COUNT(key="alerts", example="{alerts: 3, within: 10m}"))
        if self.per is CountScope.INTEGRATION and kind not in (DelayKind.COUNT, DelayKind.EVERY):
            errors.add("per", _SCOPE_WITHOUT_COUNT(keys=("alerts", "every")))

    def compiled(self, hours_names: Mapping[str | int, str]) -> Delay | None:
        """The delay; None if it is `none`. `hours_names` are the names of support hours by reference."""
        if self.wait is not None:
            return Delay(DelayKind.WAIT, self.wait)
        if self.every is not None:
            return Delay(DelayKind.EVERY, self.every, count_scope=self.per)
        if self.alerts is not None:
            return Delay(DelayKind.COUNT, self.within or timedelta(), self.alerts, count_scope=self.per)
        if self.until is not None:
            return Delay(DelayKind.HOURS, hours=self.until, hours_name=hours_names.get(self.until, str(self.until)))
        return None


_NO_DELAY_SPEC: Final = DelaySpec.model_construct()

#: A delay, or `none`.
DelayOrNone = Annotated[
    DelaySpec,
    BeforeValidator(
        lambda value: _NO_DELAY_SPEC if value == NO_DELAY else value,
        json_schema_input_type=DelaySpec | Annotated[str, OneOf((NO_DELAY,))],
    ),
]


class GroupingSpec(Spec):
    """Alerts that become one alert."""

    by: _Template = Field(min_length=1, description="Template of what they have in common, such as `<field:client>`.")
    within: _Window = Field(description="Time since the first alert in which others join it.")


class FlappingSpec(Spec):
    """An alert that opens `alerts` times within `within` flaps: it opens only after being stable for `stable`."""

    alerts: int = Field(ge=2, le=MAX_COUNTED_ALERTS, description="Number of times that it opens.")
    within: _Window = Field(description="Period in which they are counted.")
    stable: _Window = Field(description="Time without a change after which it opens.")


class AlertRateLimitSpec(Spec):
    """A token bucket: `burst` alerts at once, and one more each `every`; all alerts beyond that become one."""

    burst: int = Field(ge=1, le=10_000, description="Number of alerts that may open at once.")
    every: _Window = Field(description="Time after which one more may open.")


class NoiseSpec(Spec):
    """Noise reduction: which alerts open later, join another alert, or are too many."""

    parent: _Template = Field(default="", description="Template of the source id of the alert's parent.")
    grouping: GroupingSpec | None = Field(default=None, description="Which alerts become one.")
    flapping: FlappingSpec | None = Field(default=None, description="When an alert flaps.")
    delay: DelayOrNone | None = Field(default=None, description="When alerts open. Default: immediately.")
    flood: AlertRateLimitSpec | None = Field(default=None, description="How many alerts may open.")


#: The keys of a definition that this module compiles.
KEYS: Final = tuple(NoiseSpec.model_fields)


@dataclass(frozen=True, slots=True)
class Delay:
    kind: DelayKind
    duration: timedelta = timedelta()
    alerts: int = 0
    hours: str | int | None = None
    hours_name: str = ""
    count_scope: CountScope = CountScope.ALERT

    def describe(self) -> Reason:
        """Completes the sentence "an alert opens …"."""
        is_shared = self.count_scope is CountScope.INTEGRATION
        match self.kind:
            case DelayKind.WAIT:
                return AFTER_DELAY(duration=self.duration)
            case DelayKind.COUNT if self.duration:
                within = AFTER_INTEGRATION_COUNT_WITHIN if is_shared else AFTER_COUNT_WITHIN
                return within(alerts=self.alerts, duration=self.duration)
            case DelayKind.COUNT:
                return (WITH_EVERY_INTEGRATION_COUNT if is_shared else WITH_EVERY_COUNT)(alerts=self.alerts)
            case DelayKind.EVERY:
                return (ONCE_EVERY_FOR_INTEGRATION if is_shared else ONCE_EVERY)(duration=self.duration)
            case DelayKind.HOURS:
                return AT_SUPPORT_HOURS(hours=self.hours_name)


@dataclass(frozen=True, slots=True)
class Grouping:
    key: KeyTemplate
    within: timedelta


@dataclass(frozen=True, slots=True)
class KeyTemplate:
    """A template rendered from a message; None if none of its references has a value."""

    template: Template
    extraction: Extraction

    def render(self, payload: object, mapped: MappedFields) -> str | None:
        text = self.template.render(self.extraction.read(payload), mapped.values)
        return text[:500] if text is not None and text.strip() else None


@dataclass(frozen=True, slots=True)
class NoiseSettings:
    """The noise reduction settings of one integration."""

    parent: KeyTemplate | None = None
    grouping: Grouping | None = None
    flapping: FlappingSpec | None = None
    delay: Delay | None = None
    rate_limit: AlertRateLimitSpec | None = None
    #: Whether any delay, its own or a route's, counts alerts of the whole integration.
    counts_integration: bool = False
    #: Whether any delay limits each alert to one opening per interval.
    counts_alerts: bool = False

    def group_of(self, payload: object, mapped: MappedFields) -> str | None:
        """Returns the group that the alert joins; None: the alert is not grouped."""
        return self.grouping.key.render(payload, mapped) if self.grouping is not None else None

    def parent_of(self, payload: object, mapped: MappedFields) -> str | None:
        """Returns the source id of the alert's parent."""
        return self.parent.render(payload, mapped) if self.parent is not None else None


class RateScope(StrEnum):
    """What a rate window counts. Each has its own lock and row."""

    GROUP = "group"
    LIMIT = "limit"
    FLAPPING = "flapping"
    DELAY = "delay"


def scope_hash(scope: RateScope, integration_id: int, text: str = "") -> bytes:
    """Returns the key of a rate window, which is locked like a dedup key."""
    return key_hash(f"\x1f{scope}\x1f{integration_id}\x1f{text}")


# --- Compiling ---------------------------------------------------------------------------------------------------


def compile_noise_settings(
    definition: Mapping[str, object],
    fields: frozenset[str],
    settings: Mapping[str, object],
    route_delays: tuple[Delay | None, ...] = (),
    hours_names: Mapping[str | int, str] | None = None,
) -> NoiseSettings | None:
    """Compiles the settings; None if nothing is set. Raises Rejected with the field of each problem."""
    configured = {key: definition[key] for key in KEYS if definition.get(key) not in (None, {}, "")}
    delays = [delay for delay in route_delays if delay is not None]
    if not configured and not delays:
        return None
    spec = NoiseSpec.read(configured)
    own_delay = spec.delay.compiled(hours_names or {}) if spec.delay else None
    delays += [own_delay] if own_delay else []
    return NoiseSettings(
        parent=_template(spec.parent, "parent", fields, settings) if spec.parent else None,
        grouping=_grouping(spec.grouping, fields, settings) if spec.grouping else None,
        flapping=spec.flapping,
        delay=own_delay,
        rate_limit=spec.flood,
        counts_integration=any(candidate.count_scope is CountScope.INTEGRATION for candidate in delays),
        counts_alerts=any(
            candidate.kind is DelayKind.EVERY and candidate.count_scope is CountScope.ALERT for candidate in delays
        ),
    )


def _grouping(spec: GroupingSpec, fields: frozenset[str], settings: Mapping[str, object]) -> Grouping:
    return Grouping(_template(spec.by, "grouping.by", fields, settings), spec.within)


def _template(text: str, field_path: str, fields: frozenset[str], settings: Mapping[str, object]) -> KeyTemplate:
    extraction = Extraction()
    template = compile_template(text, extraction, settings, field_path, fields)
    extraction.freeze()
    if "<" not in template.text:
        raise rejected_at(field_path, _NO_FIELD_IN_TEMPLATE(example="<field:client>", template=template.text))
    return KeyTemplate(template, extraction)


# ---------- rules
# Rules that decide what a message requests (close, open, update, cancel, nothing), and whether an alert may open.
# Pure.
#
# Evaluation order: cancel, close, open, the kind's `ignore` rules, update. Filters and vetoes are evaluated only when
# an alert would open, hence separately from `classify`.


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
