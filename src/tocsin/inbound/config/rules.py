"""What an integration's definition says: rules, filters, routes, and noise reduction, as specs and compiled. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Final

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, ValidationInfo

from tocsin.core.ids import key_hash
from tocsin.core.reasons import NO_REASON, Reason, Term, Text, joined, sentence
from tocsin.core.validation.inputs import NOT_TEXT, REQUIRED, rejected_at
from tocsin.core.validation.spec import Duration, InvalidValue, ListOf, OneOf, Parsed, ParsedText, Spec, SpecErrors
from tocsin.inbound.conditions import ALWAYS, CompiledCondition, Condition, RuleMatch, compile_condition
from tocsin.inbound.fields import PRIORITIES, MappedFields, one_line
from tocsin.inbound.mapping.templates import MAX_TEMPLATE, Extraction, Template, compile_template

UNKNOWN_KIND: Final = Text("Unknown integration type {kind} in this version of Tocsin.")

NEITHER_OPENS_NOR_CLOSES: Final = Text("{status}: neither opens nor closes")
STATUS: Final = Text('status "{status}"')
NO_STATUS_BUT_EVENT: Final = Text('no status, event "{event}"')
NO_ROUTES: Final = Text("no routes: the integration's own policy and recipients")
NO_ROUTE_MATCHES: Final = Text("no route matches: the integration's own policy and recipients")

_NO_RULE_MATCHES: Final = Text("{status}: no rule matches")
_NO_STATUS: Final = Text("no status")
_NO_FILTERS: Final = Text("no filters")
_ROUTE_MATCHES: Final = Text("route {route}: {why}")

# ---------- noise reduction
# `parent` and `grouping` join an alert to another, `flapping` and `delay` delay it, and `flood` limits the rate at
# which alerts open. `inbound.deciding.noise_reduction` applies them to a message.

#: A route's delay if its alerts open at once.
NO_DELAY: Final = "none"

MAX_COUNTED_ALERTS: Final = 100
MAX_NOISE_WINDOW: Final = timedelta(days=7)


def reference_of(value: object) -> str | int | None:
    """Reads a `Reference`. Raises InvalidValue."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise InvalidValue(NOT_TEXT())
    return None if value == "" else value


#: Another object: by name in a spec, by id once stored; None if the name is empty.
Reference = Annotated[str | int | None, Parsed(reference_of, {"type": "string", "maxLength": 200})]


def _window(duration: timedelta) -> timedelta:
    if not timedelta() < duration <= MAX_NOISE_WINDOW:
        raise InvalidValue(sentence("must be greater than zero, and at most {limit}", limit=MAX_NOISE_WINDOW))
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
            reason = sentence("give exactly one of {kinds}: {examples}", kinds=", ".join(DelayKind), examples=examples)
            errors.add("", reason, "invalid" if kinds else "missing")
            return
        (kind,) = kinds
        if kind is DelayKind.HOURS and self.until is None:
            errors.add("until", REQUIRED(), "missing")
        if self.within is not None and kind is not DelayKind.COUNT:
            example = "{alerts: 3, within: 10m}"
            errors.add("within", sentence("belongs to {key}: {example}", key="alerts", example=example))
        if self.per is CountScope.INTEGRATION and kind not in (DelayKind.COUNT, DelayKind.EVERY):
            errors.add("per", sentence("belongs to {keys}", keys=("alerts", "every")))

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
                return sentence("after {duration}, unless it closes first", duration=self.duration)
            case DelayKind.COUNT if self.duration and is_shared:
                return sentence(
                    "when {alerts} alerts of the integration arrive within {duration}",
                    alerts=self.alerts,
                    duration=self.duration,
                )
            case DelayKind.COUNT if self.duration:
                return sentence(
                    "when {alerts} alerts arrive within {duration}", alerts=self.alerts, duration=self.duration
                )
            case DelayKind.COUNT if is_shared:
                return sentence("once per {alerts} alerts of the integration", alerts=self.alerts)
            case DelayKind.COUNT:
                return sentence("once per {alerts} alerts", alerts=self.alerts)
            case DelayKind.EVERY if is_shared:
                return sentence("at most once every {duration} per integration", duration=self.duration)
            case DelayKind.EVERY:
                return sentence("at most once every {duration}", duration=self.duration)
            case DelayKind.HOURS:
                return sentence("when the support hours {hours} begin", hours=self.hours_name)


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
    spec: NoiseSpec
    #: What the source id of the alert's parent, and the group that it joins, are rendered from.
    parent: KeyTemplate | None
    group: KeyTemplate | None
    delay: Delay | None
    #: Whether any delay, its own or a route's, counts alerts of the whole integration.
    counts_integration: bool
    #: Whether any delay limits each alert to one opening per interval.
    counts_alerts: bool


class RateScope(StrEnum):
    """What a rate window counts. Each has its own lock and row."""

    GROUP = "group"
    LIMIT = "limit"
    FLAPPING = "flapping"
    DELAY = "delay"


def scope_hash(scope: RateScope, integration_id: int, text: str = "") -> bytes:
    """Returns the key of a rate window, which is locked like a dedup key."""
    return key_hash(f"\x1f{scope}\x1f{integration_id}\x1f{text}")


def compile_noise_settings(
    definition: Mapping[str, object],
    fields: frozenset[str],
    settings: Mapping[str, object],
    route_delays: tuple[Delay | None, ...] = (),
    hours_names: Mapping[str | int, str] | None = None,
) -> NoiseSettings | None:
    """Compiles the settings; None if nothing is set. Raises Rejected with the field of each problem."""
    configured = {key: definition[key] for key in KEYS if definition.get(key) not in (None, {}, "")}
    if not configured and not any(route_delays):
        return None
    spec = NoiseSpec.read(configured)
    own_delay = spec.delay.compiled(hours_names or {}) if spec.delay else None
    delays = [delay for delay in (*route_delays, own_delay) if delay is not None]
    return NoiseSettings(
        spec,
        _template(spec.parent, "parent", fields, settings) if spec.parent else None,
        _template(spec.grouping.by, "grouping.by", fields, settings) if spec.grouping else None,
        own_delay,
        counts_integration=any(delay.count_scope is CountScope.INTEGRATION for delay in delays),
        counts_alerts=any(delay.kind is DelayKind.EVERY and delay.count_scope is CountScope.ALERT for delay in delays),
    )


def _template(text: str, field_path: str, fields: frozenset[str], settings: Mapping[str, object]) -> KeyTemplate:
    extraction = Extraction()
    template = compile_template(text, extraction, settings, field_path, fields)
    extraction.freeze()
    if "<" not in template.text:
        problem = sentence(
            'has no placeholder: use a template like "{example}", not "{template}"',
            example="<field:client>",
            template=template.text,
        )
        raise rejected_at(field_path, problem)
    return KeyTemplate(template, extraction)


# ---------- rules
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
    reason: Annotated[Reason, ParsedText(lambda text, _info: sentence("{reason}", reason=Term(text)), {}, 200)] = Field(
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


@dataclass(frozen=True, slots=True)
class CompiledRules:
    spec: RulesSpec
    filters: CompiledCondition | None

    def classify(self, payload: object, mapped: MappedFields) -> tuple[EventAction, RuleMatch]:
        """Returns what the message requests, with the rule and values that decided."""
        spec = self.spec
        for rule, action in (
            (spec.cancel, EventAction.CANCEL),
            (spec.close, EventAction.CLOSE),
            (spec.open, EventAction.OPEN),
        ):
            if rule is not None and rule.matches(payload, mapped):
                return action, RuleMatch(True, rule.reason(payload, mapped))
        for ignore_rule in spec.ignore:
            if ignore_rule.when.matches(payload, mapped):
                return EventAction.NONE, RuleMatch(False, ignore_rule.reason)
        if spec.update is None or not spec.update.matches(payload, mapped):
            return EventAction.NONE, RuleMatch(False, _NO_RULE_MATCHES(status=_status(mapped)), is_decisive=False)
        reason = spec.update.reason(payload, mapped)
        if reason.code != ALWAYS.code:
            return EventAction.UPDATE, RuleMatch(True, reason)
        reason = NEITHER_OPENS_NOR_CLOSES(status=_status(mapped))
        return EventAction.UPDATE, RuleMatch(True, reason, is_decisive=False)

    def may_open(self, payload: object, mapped: MappedFields) -> RuleMatch:
        """Returns whether the vetoes and filters let an alert open, with the reason."""
        for veto_rule in self.spec.veto:
            if veto_rule.when.matches(payload, mapped):
                return RuleMatch(False, veto_rule.reason)
        if self.filters is None:
            return RuleMatch(True, _NO_FILTERS())
        return self.filters.evaluate(payload, mapped)


def _status(mapped: MappedFields) -> Reason:
    status = mapped.values.get("source_status")
    if type(status) is str:
        return STATUS(status=one_line(status))
    event = mapped.values.get("event")
    return NO_STATUS_BUT_EVENT(event=one_line(event)) if type(event) is str else _NO_STATUS()


def compile_rules(rules: object, filters: object = None, fields: Iterable[str] = ()) -> CompiledRules:
    """Compiles rules: each is a condition, except that `ignore` and `veto` are lists of {when, reason}.

    An omitted rule never matches. Raises Rejected with the field of each problem.
    """
    known_fields = frozenset(fields)
    if isinstance(rules, Mapping):
        rules = {name: rule for name, rule in rules.items() if rule is not False}
    spec = RulesSpec.read({} if rules is None else rules, "rules", fields=known_fields)
    has_filters = filters is not True and filters not in (None, {})
    return CompiledRules(spec, compile_condition(filters, "filters", known_fields) if has_filters else None)


# ---------- routes
# An integration's ordered rules that select policy, recipients and priority of a new alert. References (policies,
# users, groups, support hours) stay as given; the caller resolves them.

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
        return (
            sentence("outside {hours}", hours=self.name)
            if self.is_outside
            else sentence("during {hours}", hours=self.name)
        )


@dataclass(frozen=True, slots=True)
class RouteChoice:
    """The matching route (`index` from 0), or none: then all settings are the integration's own."""

    index: int | None
    name: str
    reason: Reason
    policy: RouteReference | None = None
    users: tuple[RouteReference, ...] | None = None  # None: the integration's own
    groups: tuple[RouteReference, ...] | None = None
    priority: str | None = None
    action: RouteAction = RouteAction.PAGE
    #: The client table that selects the group and policy for the message's client.
    client_table: RouteReference | None = None
    delay: Delay | None = None
    #: Whether the route's delay, including `none`, overrides the integration's.
    has_delay: bool = False


@dataclass(frozen=True, slots=True)
class Route:
    """What a route chooses, still without the reason, and when."""

    choice: RouteChoice
    when: CompiledCondition
    during: SupportHoursCondition | None

    def matches(self, payload: object, mapped: MappedFields, in_hours: Callable[[RouteReference], bool]) -> bool:
        """Returns whether condition and hours match. `in_hours(name)`: whether support hours are open now."""
        return self.when.matches(payload, mapped) and self.is_active(in_hours)

    def is_active(self, in_hours: Callable[[RouteReference], bool]) -> bool:
        """Returns whether it can be taken now, whatever the message."""
        return self.during is None or in_hours(self.during.hours) is not self.during.is_outside


_NONE_MATCHED: Final = RouteChoice(None, "", NO_ROUTE_MATCHES())


def choose(
    routes: Sequence[Route], payload: object, mapped: MappedFields, in_hours: Callable[[RouteReference], bool]
) -> RouteChoice:
    """Returns what the first route that matches chooses."""
    for route in routes:
        if route.matches(payload, mapped, in_hours):
            during = route.during.describe() if route.during is not None else NO_REASON
            why = joined(route.when.reason(payload, mapped), during, separator=", ")
            return replace(route.choice, reason=_ROUTE_MATCHES(route=route.choice.name, why=why))
    return _NONE_MATCHED if routes else RouteChoice(None, "", NO_ROUTES())


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
    definition: object, fields: Iterable[str] = (), hours_names: Mapping[RouteReference, str] | None = None
) -> tuple[Route, ...]:
    """Compiles routes. `hours_names` are the support hours' names by id, for use in reasons.

    Raises Rejected with the field of each problem.
    """
    if definition is None:
        return ()
    specs = RouteSpec.read_list(definition, "routes", maximum=MAX_ROUTES, fields=frozenset(fields))
    return tuple(_route(spec, index, hours_names or {}) for index, spec in enumerate(specs))


def _route(spec: RouteSpec, index: int, hours_names: Mapping[RouteReference, str]) -> Route:
    recipients = spec.recipients or RouteRecipientsSpec()
    is_outside = isinstance(spec.during, OutsideHoursSpec)
    hours = spec.during.hours if isinstance(spec.during, OutsideHoursSpec) else spec.during
    choice = RouteChoice(
        index,
        spec.name or str(index + 1),
        NO_REASON,
        policy=spec.escalation_policy,
        users=_references(recipients.users),
        groups=_references(recipients.groups),
        priority=spec.priority or None,
        action=spec.action,
        client_table=spec.client_table,
        delay=spec.delay.compiled(hours_names) if spec.delay else None,
        has_delay=spec.delay is not None,
    )
    during = None if hours is None else SupportHoursCondition(hours, is_outside, hours_names.get(hours, str(hours)))
    return Route(choice, spec.when or _ALWAYS, during)


def _references(references: Iterable[RouteReference | None] | None) -> tuple[RouteReference, ...] | None:
    return None if references is None else tuple(filter(None, references))
