"""An integration's noise reduction settings, compiled once per version. Pure.

`parent` and `grouping` join an alert to another, `flapping` and `delay` delay it, and `flood` limits the rate at which
alerts open. `inbound.deciding.noise_reduction` applies them to a message.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Final

from tocsin.core.errors import Rejected
from tocsin.core.ids import key_hash
from tocsin.core.reasons import Reason, ReasonType
from tocsin.core.validation import durations
from tocsin.core.validation.object_reader import AT_PATH
from tocsin.inbound.config.reasons import (
    AFTER_COUNT_WITHIN,
    AFTER_DELAY,
    AFTER_INTEGRATION_COUNT_WITHIN,
    AT_SUPPORT_HOURS,
    ONCE_EVERY,
    ONCE_EVERY_FOR_INTEGRATION,
    WITH_EVERY_COUNT,
    WITH_EVERY_INTEGRATION_COUNT,
)
from tocsin.inbound.expressions.mapped import MappedFields
from tocsin.inbound.mapping.extraction import Extraction
from tocsin.inbound.mapping.templates import Template, compile_template

#: The keys of a definition that this module compiles.
KEYS: Final = ("parent", "grouping", "flapping", "delay", "flood")

#: A route's delay if its alerts open at once.
NO_DELAY: Final = "none"

MAX_COUNTED_ALERTS: Final = 100
MAX_NOISE_WINDOW: Final = timedelta(days=7)

#: Support hours by name or id.
type SupportHoursRef = str | int


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


@dataclass(frozen=True, slots=True)
class Delay:
    kind: DelayKind
    duration: timedelta = timedelta()
    alerts: int = 0
    hours: SupportHoursRef | None = None
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
class Flapping:
    """An alert that opens `alerts` times within `within` flaps: it opens only after being stable for `stable`."""

    alerts: int
    within: timedelta
    stable: timedelta


@dataclass(frozen=True, slots=True)
class AlertRateLimit:
    """Token bucket: `burst` alerts at once, and one more each `every`; all alerts beyond that become one."""

    burst: int
    every: timedelta


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
    flapping: Flapping | None = None
    delay: Delay | None = None
    rate_limit: AlertRateLimit | None = None
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

_NOT_ONE_KIND: Final = ReasonType("delay.not_one_kind", "give exactly one of {kinds}: {examples}")
_WITHIN_WITHOUT_COUNT: Final = ReasonType("delay.within_without_count", "belongs to {key}: {example}")
_MUST_BE_HOURS: Final = ReasonType("delay.must_be_hours", "must be the name of support hours")
_UNKNOWN_SCOPE: Final = ReasonType("delay.unknown_scope", "unknown '{scope}'; one of {scopes}")
_SCOPE_WITHOUT_COUNT: Final = ReasonType("delay.scope_without_count", "belongs to {keys}")
_NO_FIELD_IN_TEMPLATE: Final = ReasonType(
    "noise.no_field_in_template", 'has no placeholder: use a template like "{example}", not "{template}"'
)
_MUST_BE_LIKE: Final = ReasonType("noise.must_be_like", "must look like {example}")
_UNKNOWN_KEY: Final = ReasonType("noise.unknown_key", "unknown key; one of {keys}")
_OUT_OF_RANGE: Final = ReasonType("noise.duration_out_of_range", "must be greater than zero, and at most {limit}")
_NOT_IN_RANGE: Final = ReasonType("noise.number_out_of_range", "must be a whole number from {minimum} to {maximum}")


def compile_noise_settings(
    definition: Mapping[str, object],
    fields: frozenset[str],
    settings: Mapping[str, object],
    route_delays: tuple[Delay | None, ...] = (),
    hours_names: Mapping[SupportHoursRef, str] | None = None,
) -> NoiseSettings | None:
    """Compiles the settings; None if nothing is set. Raises Rejected("invalid_shaping") with the field."""
    configured = {key: definition[key] for key in KEYS if definition.get(key) not in (None, {}, "")}
    delays = [delay for delay in route_delays if delay is not None]
    if not configured and not delays:
        return None
    own_delay = compile_delay(configured.get("delay"), "delay", hours_names)
    delays += [own_delay] if own_delay else []
    return NoiseSettings(
        parent=_template(configured["parent"], "parent", fields, settings) if "parent" in configured else None,
        grouping=_grouping(configured["grouping"], fields, settings) if "grouping" in configured else None,
        flapping=_flapping(configured["flapping"]) if "flapping" in configured else None,
        delay=own_delay,
        rate_limit=_limit(configured["flood"]) if "flood" in configured else None,
        counts_integration=any(candidate.count_scope is CountScope.INTEGRATION for candidate in delays),
        counts_alerts=any(
            candidate.kind is DelayKind.EVERY and candidate.count_scope is CountScope.ALERT for candidate in delays
        ),
    )


def compile_delay(
    value: object, field_path: str, hours_names: Mapping[SupportHoursRef, str] | None = None
) -> Delay | None:
    """Compiles a delay: `{wait: 5m}`, `{alerts: 3}`, `{alerts: 3, within: 10m}`, `{every: 30m}` or
    `{until: Business hours}`; those that count also take `per: integration`. Raises Rejected with the field."""
    if value is None or value in ({}, "", NO_DELAY):
        return None
    one_of = "{wait: 5m}, {alerts: 3, within: 10m}, {every: 30m} or {until: Business hours}"
    options = _mapping(value, field_path, ("wait", "alerts", "within", "every", "until", "per"), one_of)
    kinds = [kind for kind in DelayKind if options.get(kind.value) is not None]
    if len(kinds) != 1:
        raise _rejection(field_path, _NOT_ONE_KIND(kinds=", ".join(DelayKind), examples=one_of))
    (kind,) = kinds
    if "within" in options and kind is not DelayKind.COUNT:
        example = "{alerts: 3, within: 10m}"
        raise _rejection(f"{field_path}.within", _WITHIN_WITHOUT_COUNT(key="alerts", example=example))
    per = _per(options.get("per"), kind, f"{field_path}.per")
    match kind:
        case DelayKind.WAIT | DelayKind.EVERY:
            return Delay(kind, _span(options[kind.value], f"{field_path}.{kind}"), count_scope=per)
        case DelayKind.COUNT:
            alerts = _integer(options["alerts"], f"{field_path}.alerts", 2, MAX_COUNTED_ALERTS)
            within = _span(options["within"], f"{field_path}.within") if "within" in options else timedelta()
            return Delay(kind, within, alerts, count_scope=per)
        case DelayKind.HOURS:
            hours = options["until"]
            if isinstance(hours, bool) or not isinstance(hours, str | int):
                raise _rejection(f"{field_path}.until", _MUST_BE_HOURS())
            return Delay(kind, hours=hours, hours_name=(hours_names or {}).get(hours, str(hours)))


def _per(value: object, kind: DelayKind, field_path: str) -> CountScope:
    try:
        scope = CountScope(str(value)) if value not in (None, "") else CountScope.ALERT
    except ValueError:
        scopes = ", ".join(CountScope)
        raise _rejection(field_path, _UNKNOWN_SCOPE(scope=str(value)[:40], scopes=scopes)) from None
    if scope is CountScope.INTEGRATION and kind not in (DelayKind.COUNT, DelayKind.EVERY):
        raise _rejection(field_path, _SCOPE_WITHOUT_COUNT(keys=("alerts", "every")))
    return scope


def _grouping(value: object, fields: frozenset[str], settings: Mapping[str, object]) -> Grouping:
    options = _mapping(value, "grouping", ("by", "within"), '{by: "<client>", within: 30m}')
    return Grouping(
        _template(options.get("by"), "grouping.by", fields, settings), _span(options.get("within"), "grouping.within")
    )


def _flapping(value: object) -> Flapping:
    options = _mapping(value, "flapping", ("alerts", "within", "stable"), "{alerts: 4, within: 30m, stable: 10m}")
    return Flapping(
        _integer(options.get("alerts"), "flapping.alerts", 2, MAX_COUNTED_ALERTS),
        _span(options.get("within"), "flapping.within"),
        _span(options.get("stable"), "flapping.stable"),
    )


def _limit(value: object) -> AlertRateLimit:
    options = _mapping(value, "flood", ("burst", "every"), "{burst: 20, every: 1m}")
    return AlertRateLimit(
        _integer(options.get("burst"), "flood.burst", 1, 10_000), _span(options.get("every"), "flood.every")
    )


def _template(value: object, field_path: str, fields: frozenset[str], settings: Mapping[str, object]) -> KeyTemplate:
    extraction = Extraction()
    template = compile_template(value, extraction, settings, field_path, fields)
    extraction.freeze()
    if "<" not in template.text:
        raise _rejection(field_path, _NO_FIELD_IN_TEMPLATE(example="<field:client>", template=template.text))
    return KeyTemplate(template, extraction)


def _mapping(value: object, field_path: str, keys: tuple[str, ...], example: str) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise _rejection(field_path, _MUST_BE_LIKE(example=example))
    for key in value:
        if key not in keys:
            raise _rejection(f"{field_path}.{str(key)[:40]}", _UNKNOWN_KEY(keys=", ".join(keys)))
    return {key: item for key, item in value.items() if item is not None}


def _span(value: object, field_path: str) -> timedelta:
    try:
        span = durations.parse(value, field_path)
    except Rejected as problem:
        raise Rejected(problem.code, AT_PATH(path=field_path, problem=problem.reason), field_path) from None
    if not timedelta() < span <= MAX_NOISE_WINDOW:
        raise _rejection(field_path, _OUT_OF_RANGE(limit=MAX_NOISE_WINDOW))
    return span


def _integer(value: object, field_path: str, minimum: int, maximum: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not minimum <= value <= maximum:
        raise _rejection(field_path, _NOT_IN_RANGE(minimum=minimum, maximum=maximum))
    return value


def _rejection(field_path: str, problem: Reason) -> Rejected:
    return Rejected("invalid_shaping", AT_PATH(path=field_path, problem=problem), field_path)
