"""Noise reduction: decides whether an alert that would open opens now. Pure.

A list of steps in fixed order: maintenance, parent, group, flapping, delay, rate limit. Each takes the opening alert
and the decision so far, and returns the decision; the first that suppresses, delays or joins the alert ends the list.

Applied only if the key has no active alert, so that messages for active alerts never wait. Tests bypass it; replays,
which a user wants now, are neither delayed nor counted as flapping.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Final

from msgspec import Struct, field
from msgspec.structs import replace

from tocsin.alerts.commands import PagingConfig
from tocsin.alerts.states import Priority
from tocsin.core.reasons import NO_REASON, AlertRef, Reason, joined, reason_as_json
from tocsin.inbound.config.noise_settings import AlertRateLimitSpec, CountScope, Delay, DelayKind
from tocsin.inbound.config.normalizer import NormalizedEvent
from tocsin.inbound.config.rules import RouteChoice
from tocsin.inbound.deciding import state
from tocsin.inbound.deciding.alert_creation import default_priority, priority_of
from tocsin.inbound.deciding.state import (
    ActiveAlert,
    DelayedAlertState,
    DelayReason,
    KeyRole,
    MessageContext,
    RateWindowState,
)
from tocsin.inbound.enums import WindowAction
from tocsin.inbound.maintenance import matching_window

#: The key in a message's verdict that holds what the steps decided.
NOISE_TRACE_KEY = "gate"

#: How long delayed alerts may still join after enough alerts came.
_JOIN_WINDOW = timedelta(minutes=5)

#: The number of arrival times kept for a delayed alert.
_MAX_ARRIVAL_TIMES = 100


class NoiseDecision(Struct, frozen=True):
    """The result of noise reduction. At most one of `suppression_reason`, `delayed_alert` and `joined_alert` is set;
    none: the alert opens."""

    suppression_reason: Reason = NO_REASON
    delayed_alert: DelayedAlertState | None = None
    joined_alert: ActiveAlert | None = None
    role: KeyRole = KeyRole.MEMBER
    #: The part that lets it join: "parent", "group", "delay" or "flood".
    mechanism: str = ""
    #: Why it joins, or a remark on its opening.
    reason: Reason = NO_REASON
    #: It opens for several keys: others may join.
    is_shareable: bool = False
    #: It opens as the alert that represents a flood.
    flood: AlertRateLimitSpec | None = None
    rate_windows: Mapping[bytes, RateWindowState] = field(default_factory=dict)
    #: The rate windows that are to refer to the opening alert.
    linked_scopes: tuple[bytes, ...] = ()
    released_scopes: tuple[bytes, ...] = ()

    @property
    def is_final(self) -> bool:
        """Whether it does not open now, so that no further step applies."""
        return self.delayed_alert is not None or self.joined_alert is not None or bool(self.suppression_reason)


OPEN_NOW = NoiseDecision()


class OpeningAlert(Struct, frozen=True):
    """An alert that would open: its message, whom it would page, and its route."""

    context: MessageContext
    event: NormalizedEvent
    paging: PagingConfig
    route: RouteChoice


type NoiseStep = Callable[[OpeningAlert, NoiseDecision], NoiseDecision]


def reduce_noise(opening: OpeningAlert) -> NoiseDecision:
    """Returns the decision on an alert that would open."""
    decision = OPEN_NOW
    for step in _STEPS:
        decision = step(opening, decision)
        if decision.is_final:
            break
    return decision


def count_on_delayed(context: MessageContext, event: NormalizedEvent) -> DelayedAlertState:
    """Counts a message that does not open on the delayed alert. A more urgent message ends the delay, but not a hold of
    a maintenance window."""
    delayed = context.key_state.delayed
    assert delayed is not None
    delayed = replace(delayed, message_count=delayed.message_count + 1)
    if not _is_more_urgent(event, delayed):
        return delayed
    delayed = replace(delayed, priority=priority_of(event))
    if delayed.delay_reason is DelayReason.MAINTENANCE:
        # The window would hold the due alert again, and this message would make it due again, without end.
        return delayed
    return replace(delayed, due_at=context.now, is_released=True)


def _is_more_urgent(event: NormalizedEvent, delayed: DelayedAlertState) -> bool:
    priority = priority_of(event)
    return priority is not None and delayed.priority is not None and priority.is_above(delayed.priority)


# --- Steps ---------------------------------------------------------------------------------------------------------


def _apply_maintenance(opening: OpeningAlert, decision: NoiseDecision) -> NoiseDecision:
    event, groups = opening.event, opening.paging.recipient_groups
    windows, now = opening.context.integration.windows, opening.context.now
    window_match = matching_window(windows, event.payload, event.mapped, groups, now)
    if window_match is None:
        return decision
    window, (_, end) = window_match.window, window_match.span
    if window.action is WindowAction.SUPPRESS:
        return replace(decision, suppression_reason=state.IN_MAINTENANCE(window=window.name, until=end))
    reason = state.AFTER_MAINTENANCE(window=window.name)
    delayed = _build_delay(opening, DelayReason.MAINTENANCE, end, reason, window_id=window.id)
    return replace(decision, delayed_alert=delayed)


def _join_parent(opening: OpeningAlert, decision: NoiseDecision) -> NoiseDecision:
    parent = opening.context.noise_state.parent
    if parent is None:
        return decision
    reason = state.OF_PARENT(alert=AlertRef(parent.state.id))
    return replace(decision, joined_alert=parent, role=KeyRole.CHILD, mechanism="parent", reason=reason)


def _join_group(opening: OpeningAlert, decision: NoiseDecision) -> NoiseDecision:
    noise_state = opening.context.noise_state
    group_window = noise_state.find_rate_window(opening.context.scopes.group)
    if not _is_running(group_window, opening.context.now):
        return decision
    active_alert = noise_state.find_alert(group_window)
    if active_alert is None:
        return decision
    return replace(decision, joined_alert=active_alert, mechanism="group", reason=state.SAME_GROUP())


def _count_flapping(opening: OpeningAlert, decision: NoiseDecision) -> NoiseDecision:
    """Counts the opening. An opening beyond the limit is delayed until the alert was stable for a while."""
    context, scope = opening.context, opening.context.scopes.flapping
    noise_settings, now = context.integration.normalizer.noise_settings, context.now
    flapping = noise_settings.flapping if noise_settings is not None else None
    if flapping is None or scope is None or context.replay_of is not None or context.due_delay is not None:
        return decision
    if (delayed := context.key_state.delayed) is not None:
        # It belongs to the opening that is delayed already.
        is_flapping = delayed.delay_reason is DelayReason.FLAPPING
        return _add_to_delay(opening, decision, delayed) if is_flapping else decision
    rate_window = context.noise_state.find_rate_window(scope)
    times = tuple(at for at in rate_window.opening_times if at > now - flapping.within)[-flapping.alerts :]
    times = (*times, now)
    new_window = replace(rate_window, opening_times=times, until=now + flapping.within)
    decision = _set_window(decision, scope, new_window)
    if len(times) > flapping.alerts:
        reason = state.WHEN_STABLE(duration=flapping.stable)
        delayed = _build_delay(opening, DelayReason.FLAPPING, now + flapping.stable, reason)
        return replace(decision, delayed_alert=delayed)
    if len(times) < flapping.alerts:
        return decision
    reason = state.FLAPPING(openings=flapping.alerts, within=flapping.within, stable=flapping.stable)
    return replace(decision, reason=reason)


def _apply_delay(opening: OpeningAlert, decision: NoiseDecision) -> NoiseDecision:
    """Delays the alert as its route says, else as the integration does."""
    context, route = opening.context, opening.route
    noise_settings = context.integration.normalizer.noise_settings
    delay = None if noise_settings is None else route.delay if route.has_delay else noise_settings.delay
    if delay is None or context.replay_of is not None:
        return decision
    is_released = context.due_delay is not None
    delayed = context.key_state.delayed
    if delayed is not None and not is_released and _has_fixed_due_time(opening.event, delayed):
        return _add_to_delay(opening, decision, delayed)
    match delay.kind:
        case DelayKind.WAIT:
            due_at = delayed.due_at if delayed is not None else context.now + delay.duration
            return decision if is_released else _delay_until(opening, decision, DelayReason.WAIT, due_at, delay)
        case DelayKind.HOURS:
            opens_at = context.integration.next_hours(delay.hours, context.now) if delay.hours is not None else None
            if is_released or opens_at is None or opens_at <= context.now:
                return decision
            return _delay_until(opening, decision, DelayReason.HOURS, opens_at, delay)
        case DelayKind.EVERY:
            return _limit_to_interval(opening, decision, delay, is_released=is_released)
        case DelayKind.COUNT if delay.count_scope is CountScope.ALERT:
            return decision if is_released else _count_messages(opening, decision, delay)
        case DelayKind.COUNT:
            return _count_alerts(opening, decision, delay, is_released=is_released)


def _open_group(opening: OpeningAlert, decision: NoiseDecision) -> NoiseDecision:
    """Lets the alerts that come next join this one, if it has a group."""
    noise_settings, scope = opening.context.integration.normalizer.noise_settings, opening.context.scopes.group
    if noise_settings is None or noise_settings.grouping is None or scope is None:
        return decision
    new_window = RateWindowState(until=opening.context.now + noise_settings.grouping.within)
    return _link_window(decision, scope, new_window)


def _apply_rate_limit(opening: OpeningAlert, decision: NoiseDecision) -> NoiseDecision:
    """Takes a token for the opening alert. Without a token, the alert joins the flood alert, or opens as its first."""
    context, scope = opening.context, opening.context.scopes.limit
    noise_settings, noise_state = context.integration.normalizer.noise_settings, context.noise_state
    limit = noise_settings.rate_limit if noise_settings is not None else None
    if limit is None or scope is None or context.replay_of is not None:
        return decision
    rate_window = noise_state.find_rate_window(scope)
    tokens = _available_tokens(rate_window, limit, context.now)
    if tokens >= 1:
        return _set_window(decision, scope, replace(rate_window, tokens=tokens - 1, tokens_at=context.now))
    active_alert = noise_state.find_alert(rate_window)
    if active_alert is not None:
        over_burst = state.OVER_BURST(count=limit.burst)
        # Nothing opens that the new windows could refer to. The alerts that waited with it continue, and join too when
        # they are due.
        counted = {name: window for name, window in decision.rate_windows.items() if name not in decision.linked_scopes}
        return NoiseDecision(
            joined_alert=active_alert,
            mechanism="flood",
            reason=joined(over_burst, decision.reason),
            rate_windows=counted,
            released_scopes=decision.released_scopes,
        )
    decision = _link_window(decision, scope, replace(rate_window, tokens=tokens, tokens_at=context.now))
    return replace(decision, flood=limit)


_STEPS: Final[tuple[NoiseStep, ...]] = (
    _apply_maintenance,
    _join_parent,
    _join_group,
    _count_flapping,
    _apply_delay,
    _open_group,
    _apply_rate_limit,
)


# --- Parts of the steps --------------------------------------------------------------------------------------------


def _has_fixed_due_time(event: NormalizedEvent, delayed: DelayedAlertState) -> bool:
    """Returns whether a further opening message leaves the delay as it is, or ends it."""
    return (
        delayed.is_released
        or delayed.delay_reason in (DelayReason.MAINTENANCE, DelayReason.FLAPPING)
        or _is_more_urgent(event, delayed)
    )


def _count_messages(opening: OpeningAlert, decision: NoiseDecision, delay: Delay) -> NoiseDecision:
    """Delays until this key has had enough messages."""
    now, delayed = opening.context.now, opening.context.key_state.delayed
    previous_times = delayed.triggered_at if delayed is not None else ()
    since = now - delay.duration if delay.duration else None
    recent_times = tuple(at for at in previous_times if since is None or at > since)
    if len(recent_times) + 1 >= delay.alerts:
        return decision
    due_at = (recent_times or (now,))[0] + delay.duration if delay.duration else None
    return _delay_until(opening, decision, DelayReason.COUNT, due_at, delay)


def _count_alerts(opening: OpeningAlert, decision: NoiseDecision, delay: Delay, *, is_released: bool) -> NoiseDecision:
    """Delays until the integration has had enough alerts: the last of them opens, and the delayed ones join it."""
    now, delayed, scope = opening.context.now, opening.context.key_state.delayed, opening.context.scopes.integration
    assert scope is not None
    rate_window = opening.context.noise_state.find_rate_window(scope)
    if is_released:
        return _join_rate_window(opening, decision, rate_window)
    # This key may itself be one of those waiting.
    waiting_count = rate_window.waiting_count - (delayed is not None and delayed.scope == scope)
    if waiting_count + 1 >= delay.alerts:
        decision = _link_window(decision, scope, RateWindowState(until=now + _JOIN_WINDOW))
        return replace(decision, released_scopes=(scope,))
    due_at = now + delay.duration if delay.duration else None
    decision = _delay_until(opening, decision, DelayReason.COUNT, due_at, delay, scope)
    return _set_window(decision, scope, replace(rate_window, waiting_count=waiting_count + 1))


def _limit_to_interval(
    opening: OpeningAlert, decision: NoiseDecision, delay: Delay, *, is_released: bool
) -> NoiseDecision:
    """Opens at most one alert per interval: later ones wait for its end, and then open as one."""
    context = opening.context
    is_shared = delay.count_scope is CountScope.INTEGRATION
    scope = context.scopes.integration if is_shared else context.scopes.alert
    assert scope is not None
    rate_window = context.noise_state.find_rate_window(scope)
    if _is_running(rate_window, context.now):
        if not is_released:
            return _delay_until(opening, decision, DelayReason.EVERY, rate_window.until, delay, scope)
        if is_shared and (join_decision := _join_rate_window(opening, decision, rate_window)).is_final:
            return join_decision
    new_window = RateWindowState(until=context.now + delay.duration)
    return _link_window(decision, scope, new_window, is_shareable=is_shared)


def _join_rate_window(opening: OpeningAlert, decision: NoiseDecision, rate_window: RateWindowState) -> NoiseDecision:
    """Joins the rate window's alert, if it is active and the window is running."""
    active_alert = opening.context.noise_state.find_alert(rate_window)
    if active_alert is None or not _is_running(rate_window, opening.context.now):
        return decision
    reason = joined(state.WAITED_TOGETHER(), decision.reason)
    return replace(decision, joined_alert=active_alert, mechanism="delay", reason=reason)


def _is_running(rate_window: RateWindowState, now: datetime) -> bool:
    return rate_window.until is not None and now < rate_window.until


def _set_window(decision: NoiseDecision, scope: bytes, rate_window: RateWindowState) -> NoiseDecision:
    return replace(decision, rate_windows={**decision.rate_windows, scope: rate_window})


def _link_window(
    decision: NoiseDecision, scope: bytes, rate_window: RateWindowState, *, is_shareable: bool = True
) -> NoiseDecision:
    """Returns the decision with a rate window that is to refer to the opening alert."""
    return replace(
        _set_window(decision, scope, rate_window),
        is_shareable=decision.is_shareable or is_shareable,
        linked_scopes=(*decision.linked_scopes, scope),
    )


def _available_tokens(rate_window: RateWindowState, limit: AlertRateLimitSpec, now: datetime) -> float:
    if rate_window.tokens is None or rate_window.tokens_at is None:
        return float(limit.burst)
    return min(float(limit.burst), rate_window.tokens + max(0.0, (now - rate_window.tokens_at) / limit.every))


def _delay_until(
    opening: OpeningAlert,
    decision: NoiseDecision,
    delay_reason: DelayReason,
    due_at: datetime | None,
    delay: Delay,
    scope: bytes | None = None,
) -> NoiseDecision:
    delayed = _build_delay(opening, delay_reason, due_at, delay.describe(), scope=scope)
    return replace(decision, delayed_alert=delayed)


def _add_to_delay(opening: OpeningAlert, decision: NoiseDecision, delayed: DelayedAlertState) -> NoiseDecision:
    """Adds an opening message to a delayed alert. A more urgent one ends the delay; none restarts it."""
    is_raised = _is_more_urgent(opening.event, delayed)
    due_at = opening.context.now if is_raised else delayed.due_at
    updated = _build_delay(
        opening, delayed.delay_reason, due_at, delayed.reason, scope=delayed.scope, window_id=delayed.window_id
    )
    return replace(decision, delayed_alert=replace(updated, is_released=is_raised or delayed.is_released))


def _build_delay(
    opening: OpeningAlert,
    delay_reason: DelayReason,
    due_at: datetime | None,
    reason: Reason,
    *,
    scope: bytes | None = None,
    window_id: int | None = None,
) -> DelayedAlertState:
    context, event, route = opening.context, opening.event, opening.route
    delayed = context.key_state.delayed
    previous = delayed or context.due_delay
    text = event.mapped.text
    priority = priority_of(event) or (Priority(route.priority) if route.priority else None)
    triggered_at = (*(delayed.triggered_at if delayed is not None else ()), context.received_at)
    return DelayedAlertState(
        delay_reason,
        previous.since if previous is not None else context.now,
        due_at,
        reason,
        triggered_at[-_MAX_ARRIVAL_TIMES:],
        delayed.message_count + 1 if delayed is not None else 1,
        priority
        or (previous.priority if previous is not None else None)
        or default_priority(context.integration, route),
        scope,
        window_id=window_id,
        subject=text("subject") or (previous.subject if previous is not None else ""),
        source_id=event.source_id or "",
    )


# --- Trace ---------------------------------------------------------------------------------------------------------


_MECHANISMS = {DelayReason.MAINTENANCE: "maintenance", DelayReason.FLAPPING: "flapping"}


def trace_entries(context: MessageContext, noise_decision: NoiseDecision) -> list[Mapping[str, object]]:
    """Returns what the steps decided, in evaluation order, for the message's trace: each with `name`, `opens` (whether
    an alert opens now) and `reason`, as JSON."""
    due_delay = context.due_delay
    entries: list[Mapping[str, object]] = []
    if due_delay is not None:
        waited = state.WAITED(duration=context.now - due_delay.since, when=due_delay.reason)
        entries.append(_trace_entry(_mechanism(due_delay), True, waited))
    if noise_decision.suppression_reason:
        window_active = state.WINDOW_ACTIVE(**dict(noise_decision.suppression_reason.params))
        entries.append(_trace_entry("maintenance", False, window_active))
    elif (delayed := noise_decision.delayed_alert) is not None:
        entries.append(_trace_entry(_mechanism(delayed), False, state.STILL_DELAYED(when=delayed.reason)))
    elif (joined_alert := noise_decision.joined_alert) is not None:
        joins = state.JOINS(alert=AlertRef(joined_alert.state.id), cause=noise_decision.reason)
        entries.append(_trace_entry(noise_decision.mechanism, False, joins))
    elif (flood := noise_decision.flood) is not None:
        entries.append(_trace_entry("flood", True, state.FLOOD(cause=state.OVER_BURST(count=flood.burst))))
    elif noise_decision.reason:
        entries.append(_trace_entry("flapping", True, noise_decision.reason))
    elif due_delay is None:
        entries.append(_trace_entry(NOISE_TRACE_KEY, True, state.NOT_RESTRICTED()))
    return entries


def _mechanism(delayed: DelayedAlertState) -> str:
    return _MECHANISMS.get(delayed.delay_reason, "delay")


def _trace_entry(name: str, is_opening: bool, reason: Reason) -> Mapping[str, object]:
    return {"name": name, "opens": is_opening, "reason": reason_as_json(reason)}
