"""Noise reduction: decides whether an alert that would open opens now, by maintenance, parents, groups, flapping,
delays and limits. Pure.

Applied only if the key has no active alert, so that messages for active alerts never wait. Tests bypass it; replays,
which a user wants now, are neither delayed nor counted as flapping.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from msgspec import Struct, field
from msgspec.structs import replace

from tocsin.alerts.states import Priority
from tocsin.core.ids import key_hash
from tocsin.core.validation.durations import describe
from tocsin.inbound.config.compiled_integration import CompiledIntegration
from tocsin.inbound.config.noise_settings import (
    AlertRateLimit,
    CountScope,
    Delay,
    DelayKind,
    NoiseSettings,
    RateScope,
    scope_hash,
)
from tocsin.inbound.config.normalizer import NormalizedEvent
from tocsin.inbound.config.routes import RouteChoice
from tocsin.inbound.deciding.alert_creation import default_priority, priority_of
from tocsin.inbound.deciding.state import (
    ActiveAlert,
    DedupKeyState,
    DelayedAlertState,
    DelayReason,
    KeyRole,
    LockScopes,
    MessageContext,
    NoiseState,
    RateWindowState,
)
from tocsin.inbound.enums import WindowAction
from tocsin.inbound.maintenance.windows import WindowMatch, matching_window

#: How long delayed alerts may still join after enough alerts came.
_JOINING = timedelta(minutes=5)

#: The number of arrival times kept for a delayed alert.
_MAX_ARRIVAL_TIMES = 100


class NoiseDecision(Struct, frozen=True):
    """The result of noise reduction. At most one of `suppressed`, `waits` and `joins` is set; none: the alert opens."""

    suppressed: str = ""
    waits: DelayedAlertState | None = None
    joins: ActiveAlert | None = None
    role: KeyRole = KeyRole.MEMBER
    #: The part that lets it join: "parent", "group", "delay" or "flood".
    part: str = ""
    #: Why it joins, or a remark on its opening.
    why: str = ""
    #: It opens for several keys: others may join.
    gathers: bool = False
    #: It opens as the alert that represents a flood.
    flood: AlertRateLimit | None = None
    rate_windows: Mapping[bytes, RateWindowState] = field(default_factory=dict)
    #: The rate windows that are to refer to the opening alert.
    naming: tuple[bytes, ...] = ()
    released: tuple[bytes, ...] = ()


OPENS = NoiseDecision()


class _NoiseInputs(Struct, frozen=True):
    """All inputs of the decision."""

    door: CompiledIntegration
    arrival: MessageContext
    reading: NormalizedEvent
    key: DedupKeyState
    route: RouteChoice
    scopes: LockScopes
    standing: NoiseState
    now: datetime


def ask(
    door: CompiledIntegration,
    arrival: MessageContext,
    reading: NormalizedEvent,
    key: DedupKeyState,
    route: RouteChoice,
    groups: tuple[int, ...],
    scopes: LockScopes,
    standing: NoiseState,
    now: datetime,
) -> NoiseDecision:
    """Returns the decision on an alert that would open. `groups` are the alert's recipient groups."""
    asked = _NoiseInputs(door, arrival, reading, key, route, scopes, standing, now)
    caught = matching_window(door.windows, reading.payload, reading.mapped, groups, now)
    if caught is not None:
        return _in_maintenance(asked, caught)
    shaping = door.reader.shaping
    if shaping is None:
        return OPENS
    if standing.parent is not None:
        subject = f"alert {standing.parent.state.id} is of its parent"
        return NoiseDecision(joins=standing.parent, role=KeyRole.CHILD, part="parent", why=subject)
    group = standing.rate_window(scopes.group)
    if scopes.group is not None and group.until is not None and now < group.until:
        live = standing.live(group)
        if live is not None:
            return NoiseDecision(joins=live, part="group", why="the same group")
    flaps = _flaps(asked, shaping)
    if flaps.waits is not None:
        return flaps
    delayed = _delay(asked, route.delay if route.has_delay else shaping.delay)
    if delayed.waits is not None or delayed.joins is not None:
        return _with(delayed, flaps)
    return _with(_limited(asked, shaping, _with(delayed, flaps)), flaps)


class HeldPages(Struct, frozen=True):
    """What holds back paging for an already active alert: for good (`suppressed`), or until a time."""

    suppressed: str = ""
    until: datetime | None = None
    #: The reason as the end of a sentence.
    why: str = ""


def holds_back(
    door: CompiledIntegration,
    arrival: MessageContext,
    reading: NormalizedEvent,
    route: RouteChoice,
    groups: tuple[int, ...],
    since: datetime,
    now: datetime,
) -> HeldPages:
    """Returns whether an alert that is active since `since`, and has paged nobody, may start paging.

    Delays that count alerts, and rate limits, do not apply: they decide how many alerts exist, and this one does.
    """
    if not door.is_shaped:
        return HeldPages()
    caught = matching_window(door.windows, reading.payload, reading.mapped, groups, now)
    if caught is not None:
        if caught.window.action is WindowAction.SUPPRESS:
            return HeldPages(suppressed=_suppressed(caught))
        return HeldPages(until=caught.span[1], why=_until_its_end(caught))
    shaping = door.reader.shaping
    delay = None if shaping is None else route.delay if route.has_delay else shaping.delay
    if delay is None or arrival.replay_of is not None:
        return HeldPages()
    until = None
    if delay.kind is DelayKind.WAIT:
        until = since + delay.span
    elif delay.kind is DelayKind.HOURS and delay.hours is not None:
        until = door.next_hours(delay.hours, now)
    return HeldPages(until=until, why=delay.said()) if until is not None and until > now else HeldPages()


def scopes_of(door: CompiledIntegration, reading: NormalizedEvent, key: bytes) -> LockScopes | None:
    """Returns the lock scopes of a message that may open; None for an integration without noise reduction."""
    shaping = door.reader.shaping
    if shaping is None:
        return None
    group = shaping.group_of(reading.payload, reading.mapped)
    parent = shaping.parent_of(reading.payload, reading.mapped)
    parent_key = None
    if parent is not None:
        named = parent if door.reader.has_key_template else f"{reading.source_name}\x1f{parent}"
        parent_key = key_hash(f"{door.key_source}\x1f{named}")
    return LockScopes(
        group=scope_hash(RateScope.GROUP, door.id, group) if group is not None else None,
        limit=scope_hash(RateScope.LIMIT, door.id) if shaping.limit is not None else None,
        flapping=scope_hash(RateScope.FLAPPING, door.id, key.hex()) if shaping.flapping is not None else None,
        alert=scope_hash(RateScope.DELAY, door.id, key.hex()) if shaping.counts_alerts else None,
        integration=scope_hash(RateScope.DELAY, door.id) if shaping.counts_integration else None,
        parent=parent_key if parent_key != key else None,
    )


def is_still_delayed(
    key: DedupKeyState, arrival: MessageContext, reading: NormalizedEvent, now: datetime
) -> DelayedAlertState:
    """Counts a message that does not open on the delayed alert. A more urgent message ends the delay."""
    assert key.delayed is not None
    delayed = replace(key.delayed, message_count=key.delayed.message_count + 1)
    if _is_more_urgent(reading, delayed):
        return replace(delayed, priority=priority_of(reading), due_at=now, is_released=True)
    return delayed


def _is_more_urgent(reading: NormalizedEvent, delayed: DelayedAlertState) -> bool:
    priority = priority_of(reading)
    return priority is not None and delayed.priority is not None and priority.is_above(delayed.priority)


# --- Parts ---------------------------------------------------------------------------------------------------------


def _in_maintenance(asked: _NoiseInputs, caught: WindowMatch) -> NoiseDecision:
    window, (_, end) = caught.window, caught.span
    if window.action is WindowAction.SUPPRESS:
        return NoiseDecision(suppressed=_suppressed(caught))
    return NoiseDecision(
        waits=_waiting(asked, DelayReason.MAINTENANCE, end, _until_its_end(caught), window_id=window.id)
    )


def _suppressed(caught: WindowMatch) -> str:
    return f"maintenance: {caught.window.name}, until {_clock(caught.span[1])}"


def _until_its_end(caught: WindowMatch) -> str:
    return f"when the maintenance {caught.window.name} ends"


def _flaps(asked: _NoiseInputs, shaping: NoiseSettings) -> NoiseDecision:
    """Counts the opening. An opening beyond the limit is delayed until the alert was stable for a while."""
    flapping, scope = shaping.flapping, asked.scopes.flapping
    if flapping is None or scope is None or asked.arrival.replay_of is not None or asked.arrival.waited is not None:
        return OPENS
    before = asked.standing.rate_window(scope)
    if asked.key.delayed is not None:
        # It belongs to the opening that is delayed already.
        return OPENS if asked.key.delayed.delay_reason is not DelayReason.FLAPPING else _again(asked, asked.key.delayed)
    times = tuple(one for one in before.times if one > asked.now - flapping.within)[-flapping.alerts :]
    times = (*times, asked.now)
    rate_windows = {scope: replace(before, times=times, until=asked.now + flapping.within)}
    if len(times) > flapping.alerts:
        why = f"when it was open for {describe(flapping.stable)}, because it flaps"
        waits = _waiting(asked, DelayReason.FLAPPING, asked.now + flapping.stable, why)
        return NoiseDecision(waits=waits, rate_windows=rate_windows)
    if len(times) < flapping.alerts:
        return NoiseDecision(rate_windows=rate_windows)
    why = (
        f"it flaps: it opened {flapping.alerts} times within {describe(flapping.within)}, and from now on it opens "
        f"only when it was there for {describe(flapping.stable)}"
    )
    return NoiseDecision(rate_windows=rate_windows, why=why)


def _delay(asked: _NoiseInputs, delay: Delay | None) -> NoiseDecision:
    if delay is None or asked.arrival.replay_of is not None:
        return OPENS
    released = asked.arrival.waited is not None
    waits = asked.key.delayed
    if waits is not None and not released and _has_its_time(asked.reading, waits):
        return _again(asked, waits)
    match delay.kind:
        case DelayKind.WAIT:
            due = asked.key.delayed.due_at if asked.key.delayed is not None else asked.now + delay.span
            return OPENS if released else _waits(asked, DelayReason.WAIT, due, delay)
        case DelayKind.HOURS:
            opens_at = asked.door.next_hours(delay.hours, asked.now) if delay.hours is not None else None
            is_now = opens_at is None or opens_at <= asked.now
            return OPENS if released or is_now else _waits(asked, DelayReason.HOURS, opens_at, delay)
        case DelayKind.EVERY:
            return _every(asked, delay, released=released)
        case DelayKind.COUNT if delay.per is CountScope.ALERT:
            return _counted(asked, delay, released=released)
        case DelayKind.COUNT:
            return _counted_together(asked, delay, released=released)


def _has_its_time(reading: NormalizedEvent, waits: DelayedAlertState) -> bool:
    """Returns whether a further opening message leaves the delay as it is, or ends it."""
    return (
        waits.is_released
        or waits.delay_reason in (DelayReason.MAINTENANCE, DelayReason.FLAPPING)
        or _is_more_urgent(reading, waits)
    )


def _counted(asked: _NoiseInputs, delay: Delay, *, released: bool) -> NoiseDecision:
    """Delays until this key has had enough messages."""
    if released:
        return OPENS
    before = asked.key.delayed.triggered_at if asked.key.delayed is not None else ()
    since = asked.now - delay.span if delay.span else None
    opens = tuple(at for at in before if since is None or at > since)
    if len(opens) + 1 >= delay.alerts:
        return OPENS
    due = (opens or (asked.now,))[0] + delay.span if delay.span else None
    return _waits(asked, DelayReason.COUNT, due, delay)


def _counted_together(asked: _NoiseInputs, delay: Delay, *, released: bool) -> NoiseDecision:
    """Delays until the integration has had enough alerts: the last of them opens, and the delayed ones join it."""
    scope = asked.scopes.integration
    assert scope is not None
    rate_window = asked.standing.rate_window(scope)
    if released:
        joined = _joined(asked, rate_window)
        return joined if joined is not None else OPENS
    # This key may itself be one of those waiting.
    waiting = rate_window.waiting - (asked.key.delayed is not None and asked.key.delayed.scope == scope)
    if waiting + 1 >= delay.alerts:
        fresh = RateWindowState(until=asked.now + _JOINING)
        return NoiseDecision(gathers=True, rate_windows={scope: fresh}, naming=(scope,), released=(scope,))
    due = asked.now + delay.span if delay.span else None
    answer = _waits(asked, DelayReason.COUNT, due, delay, scope)
    assert answer.waits is not None
    return replace(answer, rate_windows={scope: replace(rate_window, waiting=waiting + 1)})


def _every(asked: _NoiseInputs, delay: Delay, *, released: bool) -> NoiseDecision:
    """Opens at most one alert per interval: later ones wait for its end, and then open as one."""
    is_shared = delay.per is CountScope.INTEGRATION
    scope = asked.scopes.integration if is_shared else asked.scopes.alert
    assert scope is not None
    rate_window = asked.standing.rate_window(scope)
    is_closed = rate_window.until is not None and asked.now < rate_window.until
    if released and is_closed and is_shared and (joined := _joined(asked, rate_window)) is not None:
        return joined
    if is_closed and not released:
        return _waits(asked, DelayReason.EVERY, rate_window.until, delay, scope)
    fresh = RateWindowState(until=asked.now + delay.span)
    return NoiseDecision(gathers=is_shared, rate_windows={scope: fresh}, naming=(scope,))


def _joined(asked: _NoiseInputs, rate_window: RateWindowState) -> NoiseDecision | None:
    live = asked.standing.live(rate_window)
    if live is None or rate_window.until is None or asked.now >= rate_window.until:
        return None
    return NoiseDecision(joins=live, part="delay", why="they waited together")


def _limited(asked: _NoiseInputs, shaping: NoiseSettings, opens: NoiseDecision) -> NoiseDecision:
    """Takes a token for the opening alert. Without a token, the alert joins the flood alert, or opens as its first."""
    limit, scope = shaping.limit, asked.scopes.limit
    answer = replace(opens, gathers=opens.gathers or asked.scopes.group is not None)
    if asked.scopes.group is not None and shaping.grouping is not None:
        fresh = RateWindowState(until=asked.now + shaping.grouping.within)
        answer = replace(
            answer,
            rate_windows={**answer.rate_windows, asked.scopes.group: fresh},
            naming=(*answer.naming, asked.scopes.group),
        )
    if limit is None or scope is None or asked.arrival.replay_of is not None:
        return answer
    rate_window = asked.standing.rate_window(scope)
    tokens = _tokens(rate_window, limit, asked.now)
    if tokens >= 1:
        left = replace(rate_window, tokens=tokens - 1, at=asked.now)
        return replace(answer, rate_windows={**answer.rate_windows, scope: left})
    live = asked.standing.live(rate_window)
    if live is not None:
        why = f"more than {limit.burst} alerts at once"
        # The alerts that waited with it continue, and join too when they are due.
        return NoiseDecision(joins=live, part="flood", why=why, released=answer.released)
    flood = replace(rate_window, tokens=tokens, at=asked.now)
    return NoiseDecision(
        gathers=True,
        flood=limit,
        rate_windows={**answer.rate_windows, scope: flood},
        naming=(*answer.naming, scope),
        released=answer.released,
        why=answer.why,
    )


def _tokens(rate_window: RateWindowState, limit: AlertRateLimit, now: datetime) -> float:
    if rate_window.tokens is None or rate_window.at is None:
        return float(limit.burst)
    return min(float(limit.burst), rate_window.tokens + max(0.0, (now - rate_window.at) / limit.every))


def _with(answer: NoiseDecision, flaps: NoiseDecision) -> NoiseDecision:
    """Combines the decision with the counts and remarks on flapping."""
    if flaps is OPENS:
        return answer
    why = "; ".join(dict.fromkeys(part for part in (answer.why, flaps.why) if part))
    return replace(answer, rate_windows={**flaps.rate_windows, **answer.rate_windows}, why=why)


def _waits(
    asked: _NoiseInputs, wait: DelayReason, due_at: datetime | None, delay: Delay, scope: bytes | None = None
) -> NoiseDecision:
    return NoiseDecision(waits=_waiting(asked, wait, due_at, delay.said(), scope=scope))


def _again(asked: _NoiseInputs, delayed: DelayedAlertState) -> NoiseDecision:
    """Adds an opening message to a delayed alert. A more urgent one ends the delay; none restarts it."""
    is_raised = _is_more_urgent(asked.reading, delayed)
    due_at = asked.now if is_raised else delayed.due_at
    waits = _waiting(
        asked, delayed.delay_reason, due_at, delayed.reason, scope=delayed.scope, window_id=delayed.window_id
    )
    return NoiseDecision(waits=replace(waits, is_released=is_raised or delayed.is_released))


def _waiting(
    asked: _NoiseInputs,
    wait: DelayReason,
    due_at: datetime | None,
    why: str,
    *,
    scope: bytes | None = None,
    window_id: int | None = None,
) -> DelayedAlertState:
    before = asked.key.delayed or asked.arrival.waited
    values = asked.reading.mapped.text
    own = priority_of(asked.reading) or (Priority(asked.route.priority) if asked.route.priority else None)
    return DelayedAlertState(
        wait,
        before.since if before is not None else asked.now,
        due_at,
        why,
        (*(asked.key.delayed.triggered_at if asked.key.delayed is not None else ()), asked.arrival.received_at)[
            -_MAX_ARRIVAL_TIMES:
        ],
        asked.key.delayed.message_count + 1 if asked.key.delayed is not None else 1,
        own or (before.priority if before is not None else None) or default_priority(asked.door, asked.route),
        scope,
        window_id=window_id,
        subject=values("subject") or (before.subject if before is not None else ""),
        source_id=asked.reading.source_id or "",
    )


def _clock(at: datetime) -> str:
    return at.strftime("%Y-%m-%d %H:%M UTC")
