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
from tocsin.core.validation import durations
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
    span: timedelta = timedelta()
    alerts: int = 0
    hours: SupportHoursRef | None = None
    hours_name: str = ""
    per: CountScope = CountScope.ALERT

    def said(self) -> str:
        """Completes the sentence "an alert opens …"."""
        of = " of the integration" if self.per is CountScope.INTEGRATION else ""
        match self.kind:
            case DelayKind.WAIT:
                return f"after {durations.describe(self.span)}, unless it closes before"
            case DelayKind.COUNT if self.span:
                return f"when {self.alerts} alerts{of} came within {durations.describe(self.span)}"
            case DelayKind.COUNT:
                return f"with every {self.alerts} alerts{of}"
            case DelayKind.EVERY:
                return f"at most once every {durations.describe(self.span)}{of and ' for the whole integration'}"
            case DelayKind.HOURS:
                return f"when the support hours {self.hours_name} begin"


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
        found = self.template.render(self.extraction.read(payload), mapped.values)
        return found[:500] if found is not None and found.strip() else None


@dataclass(frozen=True, slots=True)
class NoiseSettings:
    """The noise reduction settings of one integration."""

    parent: KeyTemplate | None = None
    grouping: Grouping | None = None
    flapping: Flapping | None = None
    delay: Delay | None = None
    limit: AlertRateLimit | None = None
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


def compile_shaping(
    definition: Mapping[str, object],
    fields: frozenset[str],
    settings: Mapping[str, object],
    route_delays: tuple[Delay | None, ...] = (),
    hours_names: Mapping[SupportHoursRef, str] | None = None,
) -> NoiseSettings | None:
    """Compiles the settings; None if nothing is set. Raises Rejected("invalid_shaping") with the field."""
    given = {key: definition[key] for key in KEYS if definition.get(key) not in (None, {}, "")}
    delays = [delay for delay in route_delays if delay is not None]
    if not given and not delays:
        return None
    own = compile_delay(given.get("delay"), "delay", hours_names)
    delays += [own] if own else []
    return NoiseSettings(
        parent=_template(given["parent"], "parent", fields, settings) if "parent" in given else None,
        grouping=_grouping(given["grouping"], fields, settings) if "grouping" in given else None,
        flapping=_flapping(given["flapping"]) if "flapping" in given else None,
        delay=own,
        limit=_limit(given["flood"]) if "flood" in given else None,
        counts_integration=any(one.per is CountScope.INTEGRATION for one in delays),
        counts_alerts=any(one.kind is DelayKind.EVERY and one.per is CountScope.ALERT for one in delays),
    )


def compile_delay(value: object, place: str, hours_names: Mapping[SupportHoursRef, str] | None = None) -> Delay | None:
    """Compiles a delay: `{wait: 5m}`, `{alerts: 3}`, `{alerts: 3, within: 10m}`, `{every: 30m}` or
    `{until: Business hours}`; those that count also take `per: integration`. Raises Rejected with the field."""
    if value is None or value in ({}, "", NO_DELAY):
        return None
    one_of = "{wait: 5m}, {alerts: 3, within: 10m}, {every: 30m} or {until: Business hours}"
    given = _mapping(value, place, ("wait", "alerts", "within", "every", "until", "per"), one_of)
    kinds = [kind for kind in DelayKind if given.get(kind.value) is not None]
    if len(kinds) != 1:
        raise _refused(place, f"give exactly one of {', '.join(DelayKind)}: {one_of}")
    (kind,) = kinds
    if "within" in given and kind is not DelayKind.COUNT:
        raise _refused(f"{place}.within", "belongs to alerts: {alerts: 3, within: 10m}")
    per = _per(given.get("per"), kind, f"{place}.per")
    match kind:
        case DelayKind.WAIT | DelayKind.EVERY:
            return Delay(kind, _span(given[kind.value], f"{place}.{kind}"), per=per)
        case DelayKind.COUNT:
            alerts = _whole(given["alerts"], f"{place}.alerts", 2, MAX_COUNTED_ALERTS)
            within = _span(given["within"], f"{place}.within") if "within" in given else timedelta()
            return Delay(kind, within, alerts, per=per)
        case DelayKind.HOURS:
            hours = given["until"]
            if isinstance(hours, bool) or not isinstance(hours, str | int):
                raise _refused(f"{place}.until", "must be the name of support hours")
            return Delay(kind, hours=hours, hours_name=(hours_names or {}).get(hours, str(hours)))


def _per(value: object, kind: DelayKind, place: str) -> CountScope:
    try:
        found = CountScope(str(value)) if value not in (None, "") else CountScope.ALERT
    except ValueError:
        raise _refused(place, f"unknown '{str(value)[:40]}'; alert or integration") from None
    if found is CountScope.INTEGRATION and kind not in (DelayKind.COUNT, DelayKind.EVERY):
        raise _refused(place, "belongs to alerts and every")
    return found


def _grouping(value: object, fields: frozenset[str], settings: Mapping[str, object]) -> Grouping:
    given = _mapping(value, "grouping", ("by", "within"), '{by: "<client>", within: 30m}')
    return Grouping(
        _template(given.get("by"), "grouping.by", fields, settings), _span(given.get("within"), "grouping.within")
    )


def _flapping(value: object) -> Flapping:
    given = _mapping(value, "flapping", ("alerts", "within", "stable"), "{alerts: 4, within: 30m, stable: 10m}")
    return Flapping(
        _whole(given.get("alerts"), "flapping.alerts", 2, MAX_COUNTED_ALERTS),
        _span(given.get("within"), "flapping.within"),
        _span(given.get("stable"), "flapping.stable"),
    )


def _limit(value: object) -> AlertRateLimit:
    given = _mapping(value, "flood", ("burst", "every"), "{burst: 20, every: 1m}")
    return AlertRateLimit(
        _whole(given.get("burst"), "flood.burst", 1, 10_000), _span(given.get("every"), "flood.every")
    )


def _template(value: object, place: str, fields: frozenset[str], settings: Mapping[str, object]) -> KeyTemplate:
    extraction = Extraction()
    template = compile_template(value, extraction, settings, place, fields)
    extraction.freeze()
    if "<" not in template.text:
        raise _refused(place, f'refers to nothing of a message: write it like "<field:client>", not "{template.text}"')
    return KeyTemplate(template, extraction)


def _mapping(value: object, place: str, keys: tuple[str, ...], like: str) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise _refused(place, f"is written like {like}")
    for key in value:
        if key not in keys:
            raise _refused(f"{place}.{str(key)[:40]}", f"unknown key; one of {', '.join(keys)}")
    return {key: held for key, held in value.items() if held is not None}


def _span(value: object, place: str) -> timedelta:
    try:
        found = durations.parse(value, place)
    except Rejected as problem:
        raise Rejected(problem.code, f"{place}: {problem.detail}", place) from None
    if not timedelta() < found <= MAX_NOISE_WINDOW:
        raise _refused(place, "must be more than nothing, and at most 7 days")
    return found


def _whole(value: object, place: str, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise _refused(place, f"must be a whole number from {least} to {most:,}")
    return value


def _refused(place: str, problem: str) -> Rejected:
    return Rejected("invalid_shaping", f"{place}: {problem}", place)
