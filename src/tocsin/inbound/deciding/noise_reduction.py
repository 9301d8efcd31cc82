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
from tocsin.core.reasons import NO_REASON, AlertRef, Reason, joined
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
from tocsin.inbound.deciding import reasons
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
    flood: AlertRateLimit | None = None
    rate_windows: Mapping[bytes, RateWindowState] = field(default_factory=dict)
    #: The rate windows that are to refer to the opening alert.
    linked_scopes: tuple[bytes, ...] = ()
    released_scopes: tuple[bytes, ...] = ()


OPEN_NOW = NoiseDecision()


class _NoiseInputs(Struct, frozen=True):
    """All inputs of the decision."""

    integration: CompiledIntegration
    context: MessageContext
    event: NormalizedEvent
    key_state: DedupKeyState
    route: RouteChoice
    scopes: LockScopes
    noise_state: NoiseState
    now: datetime


def apply_noise_reduction(
    integration: CompiledIntegration,
    context: MessageContext,
    event: NormalizedEvent,
    key_state: DedupKeyState,
    route: RouteChoice,
    groups: tuple[int, ...],
    scopes: LockScopes,
    noise_state: NoiseState,
    now: datetime,
) -> NoiseDecision:
    """Returns the decision on an alert that would open. `groups` are the alert's recipient groups."""
    inputs = _NoiseInputs(integration, context, event, key_state, route, scopes, noise_state, now)
    window_match = matching_window(integration.windows, event.payload, event.mapped, groups, now)
    if window_match is not None:
        return _in_maintenance(inputs, window_match)
    noise_settings = integration.normalizer.noise_settings
    if noise_settings is None:
        return OPEN_NOW
    if noise_state.parent is not None:
        reason = reasons.OF_PARENT(alert=AlertRef(noise_state.parent.state.id))
        return NoiseDecision(joined_alert=noise_state.parent, role=KeyRole.CHILD, mechanism="parent", reason=reason)
    group_window = noise_state.find_rate_window(scopes.group)
    if scopes.group is not None and group_window.until is not None and now < group_window.until:
        active_alert = noise_state.find_alert(group_window)
        if active_alert is not None:
            return NoiseDecision(joined_alert=active_alert, mechanism="group", reason=reasons.SAME_GROUP())
    flapping_decision = _decide_flapping(inputs, noise_settings)
    if flapping_decision.delayed_alert is not None:
        return flapping_decision
    delay_decision = _decide_delay(inputs, route.delay if route.has_delay else noise_settings.delay)
    if delay_decision.delayed_alert is not None or delay_decision.joined_alert is not None:
        return _merge_flapping(delay_decision, flapping_decision)
    return _merge_flapping(
        _apply_rate_limit(inputs, noise_settings, _merge_flapping(delay_decision, flapping_decision)), flapping_decision
    )


class PagingRestriction(Struct, frozen=True):
    """What holds back paging for an already active alert: for good (`suppression_reason`), or until a time."""

    suppression_reason: Reason = NO_REASON
    until: datetime | None = None
    #: When it pages, as the end of a sentence.
    reason: Reason = NO_REASON


def find_paging_restriction(
    integration: CompiledIntegration,
    context: MessageContext,
    event: NormalizedEvent,
    route: RouteChoice,
    groups: tuple[int, ...],
    since: datetime,
    now: datetime,
) -> PagingRestriction:
    """Returns whether an alert that is active since `since`, and has paged nobody, may start paging.

    Delays that count alerts, and rate limits, do not apply: they decide how many alerts exist, and this one does.
    """
    if not integration.has_noise_reduction:
        return PagingRestriction()
    window_match = matching_window(integration.windows, event.payload, event.mapped, groups, now)
    if window_match is not None:
        if window_match.window.action is WindowAction.SUPPRESS:
            return PagingRestriction(suppression_reason=_suppression_reason(window_match))
        return PagingRestriction(until=window_match.span[1], reason=_maintenance_reason(window_match))
    noise_settings = integration.normalizer.noise_settings
    delay = None if noise_settings is None else route.delay if route.has_delay else noise_settings.delay
    if delay is None or context.replay_of is not None:
        return PagingRestriction()
    until = None
    if delay.kind is DelayKind.WAIT:
        until = since + delay.duration
    elif delay.kind is DelayKind.HOURS and delay.hours is not None:
        until = integration.next_hours(delay.hours, now)
    return (
        PagingRestriction(until=until, reason=delay.describe())
        if until is not None and until > now
        else PagingRestriction()
    )


def scopes_of(integration: CompiledIntegration, event: NormalizedEvent, dedup_key_hash: bytes) -> LockScopes | None:
    """Returns the lock scopes of a message that may open; None for an integration without noise reduction."""
    noise_settings = integration.normalizer.noise_settings
    if noise_settings is None:
        return None
    group = noise_settings.group_of(event.payload, event.mapped)
    parent_source_id = noise_settings.parent_of(event.payload, event.mapped)
    parent_key_hash = None
    if parent_source_id is not None:
        key_text = (
            parent_source_id
            if integration.normalizer.has_key_template
            else f"{event.source_name}\x1f{parent_source_id}"
        )
        parent_key_hash = key_hash(f"{integration.key_source}\x1f{key_text}")
    return LockScopes(
        group=scope_hash(RateScope.GROUP, integration.id, group) if group is not None else None,
        limit=scope_hash(RateScope.LIMIT, integration.id) if noise_settings.rate_limit is not None else None,
        flapping=scope_hash(RateScope.FLAPPING, integration.id, dedup_key_hash.hex())
        if noise_settings.flapping is not None
        else None,
        alert=scope_hash(RateScope.DELAY, integration.id, dedup_key_hash.hex())
        if noise_settings.counts_alerts
        else None,
        integration=scope_hash(RateScope.DELAY, integration.id) if noise_settings.counts_integration else None,
        parent=parent_key_hash if parent_key_hash != dedup_key_hash else None,
    )


def count_on_delayed(
    key_state: DedupKeyState, context: MessageContext, event: NormalizedEvent, now: datetime
) -> DelayedAlertState:
    """Counts a message that does not open on the delayed alert. A more urgent message ends the delay."""
    assert key_state.delayed is not None
    delayed = replace(key_state.delayed, message_count=key_state.delayed.message_count + 1)
    if _is_more_urgent(event, delayed):
        return replace(delayed, priority=priority_of(event), due_at=now, is_released=True)
    return delayed


def _is_more_urgent(event: NormalizedEvent, delayed: DelayedAlertState) -> bool:
    priority = priority_of(event)
    return priority is not None and delayed.priority is not None and priority.is_above(delayed.priority)


# --- Parts ---------------------------------------------------------------------------------------------------------


def _in_maintenance(inputs: _NoiseInputs, window_match: WindowMatch) -> NoiseDecision:
    window, (_, end) = window_match.window, window_match.span
    if window.action is WindowAction.SUPPRESS:
        return NoiseDecision(suppression_reason=_suppression_reason(window_match))
    return NoiseDecision(
        delayed_alert=_build_delay(
            inputs, DelayReason.MAINTENANCE, end, _maintenance_reason(window_match), window_id=window.id
        )
    )


def _suppression_reason(window_match: WindowMatch) -> Reason:
    return reasons.IN_MAINTENANCE(window=window_match.window.name, until=window_match.span[1])


def _maintenance_reason(window_match: WindowMatch) -> Reason:
    return reasons.AFTER_MAINTENANCE(window=window_match.window.name)


def _decide_flapping(inputs: _NoiseInputs, noise_settings: NoiseSettings) -> NoiseDecision:
    """Counts the opening. An opening beyond the limit is delayed until the alert was stable for a while."""
    flapping, scope = noise_settings.flapping, inputs.scopes.flapping
    if (
        flapping is None
        or scope is None
        or inputs.context.replay_of is not None
        or inputs.context.due_delay is not None
    ):
        return OPEN_NOW
    rate_window = inputs.noise_state.find_rate_window(scope)
    if inputs.key_state.delayed is not None:
        # It belongs to the opening that is delayed already.
        return (
            OPEN_NOW
            if inputs.key_state.delayed.delay_reason is not DelayReason.FLAPPING
            else _add_to_delay(inputs, inputs.key_state.delayed)
        )
    times = tuple(at for at in rate_window.opening_times if at > inputs.now - flapping.within)[-flapping.alerts :]
    times = (*times, inputs.now)
    rate_windows = {scope: replace(rate_window, opening_times=times, until=inputs.now + flapping.within)}
    if len(times) > flapping.alerts:
        reason = reasons.WHEN_STABLE(duration=flapping.stable)
        delayed = _build_delay(inputs, DelayReason.FLAPPING, inputs.now + flapping.stable, reason)
        return NoiseDecision(delayed_alert=delayed, rate_windows=rate_windows)
    if len(times) < flapping.alerts:
        return NoiseDecision(rate_windows=rate_windows)
    reason = reasons.FLAPPING(openings=flapping.alerts, within=flapping.within, stable=flapping.stable)
    return NoiseDecision(rate_windows=rate_windows, reason=reason)


def _decide_delay(inputs: _NoiseInputs, delay: Delay | None) -> NoiseDecision:
    if delay is None or inputs.context.replay_of is not None:
        return OPEN_NOW
    is_released = inputs.context.due_delay is not None
    delayed = inputs.key_state.delayed
    if delayed is not None and not is_released and _has_fixed_due_time(inputs.event, delayed):
        return _add_to_delay(inputs, delayed)
    match delay.kind:
        case DelayKind.WAIT:
            due_at = (
                inputs.key_state.delayed.due_at if inputs.key_state.delayed is not None else inputs.now + delay.duration
            )
            return OPEN_NOW if is_released else _delay_until(inputs, DelayReason.WAIT, due_at, delay)
        case DelayKind.HOURS:
            opens_at = inputs.integration.next_hours(delay.hours, inputs.now) if delay.hours is not None else None
            is_open_now = opens_at is None or opens_at <= inputs.now
            return OPEN_NOW if is_released or is_open_now else _delay_until(inputs, DelayReason.HOURS, opens_at, delay)
        case DelayKind.EVERY:
            return _limit_to_interval(inputs, delay, is_released=is_released)
        case DelayKind.COUNT if delay.count_scope is CountScope.ALERT:
            return _count_messages(inputs, delay, is_released=is_released)
        case DelayKind.COUNT:
            return _count_alerts(inputs, delay, is_released=is_released)


def _has_fixed_due_time(event: NormalizedEvent, delayed: DelayedAlertState) -> bool:
    """Returns whether a further opening message leaves the delay as it is, or ends it."""
    return (
        delayed.is_released
        or delayed.delay_reason in (DelayReason.MAINTENANCE, DelayReason.FLAPPING)
        or _is_more_urgent(event, delayed)
    )


def _count_messages(inputs: _NoiseInputs, delay: Delay, *, is_released: bool) -> NoiseDecision:
    """Delays until this key has had enough messages."""
    if is_released:
        return OPEN_NOW
    previous_times = inputs.key_state.delayed.triggered_at if inputs.key_state.delayed is not None else ()
    since = inputs.now - delay.duration if delay.duration else None
    recent_times = tuple(at for at in previous_times if since is None or at > since)
    if len(recent_times) + 1 >= delay.alerts:
        return OPEN_NOW
    due_at = (recent_times or (inputs.now,))[0] + delay.duration if delay.duration else None
    return _delay_until(inputs, DelayReason.COUNT, due_at, delay)


def _count_alerts(inputs: _NoiseInputs, delay: Delay, *, is_released: bool) -> NoiseDecision:
    """Delays until the integration has had enough alerts: the last of them opens, and the delayed ones join it."""
    scope = inputs.scopes.integration
    assert scope is not None
    rate_window = inputs.noise_state.find_rate_window(scope)
    if is_released:
        join_decision = _join_rate_window(inputs, rate_window)
        return join_decision if join_decision is not None else OPEN_NOW
    # This key may itself be one of those waiting.
    waiting_count = rate_window.waiting_count - (
        inputs.key_state.delayed is not None and inputs.key_state.delayed.scope == scope
    )
    if waiting_count + 1 >= delay.alerts:
        new_window = RateWindowState(until=inputs.now + _JOIN_WINDOW)
        return NoiseDecision(
            is_shareable=True, rate_windows={scope: new_window}, linked_scopes=(scope,), released_scopes=(scope,)
        )
    due_at = inputs.now + delay.duration if delay.duration else None
    decision = _delay_until(inputs, DelayReason.COUNT, due_at, delay, scope)
    assert decision.delayed_alert is not None
    return replace(decision, rate_windows={scope: replace(rate_window, waiting_count=waiting_count + 1)})


def _limit_to_interval(inputs: _NoiseInputs, delay: Delay, *, is_released: bool) -> NoiseDecision:
    """Opens at most one alert per interval: later ones wait for its end, and then open as one."""
    is_shared = delay.count_scope is CountScope.INTEGRATION
    scope = inputs.scopes.integration if is_shared else inputs.scopes.alert
    assert scope is not None
    rate_window = inputs.noise_state.find_rate_window(scope)
    is_interval_running = rate_window.until is not None and inputs.now < rate_window.until
    if (
        is_released
        and is_interval_running
        and is_shared
        and (join_decision := _join_rate_window(inputs, rate_window)) is not None
    ):
        return join_decision
    if is_interval_running and not is_released:
        return _delay_until(inputs, DelayReason.EVERY, rate_window.until, delay, scope)
    new_window = RateWindowState(until=inputs.now + delay.duration)
    return NoiseDecision(is_shareable=is_shared, rate_windows={scope: new_window}, linked_scopes=(scope,))


def _join_rate_window(inputs: _NoiseInputs, rate_window: RateWindowState) -> NoiseDecision | None:
    active_alert = inputs.noise_state.find_alert(rate_window)
    if active_alert is None or rate_window.until is None or inputs.now >= rate_window.until:
        return None
    return NoiseDecision(joined_alert=active_alert, mechanism="delay", reason=reasons.WAITED_TOGETHER())


def _apply_rate_limit(
    inputs: _NoiseInputs, noise_settings: NoiseSettings, opening_decision: NoiseDecision
) -> NoiseDecision:
    """Takes a token for the opening alert. Without a token, the alert joins the flood alert, or opens as its first."""
    limit, scope = noise_settings.rate_limit, inputs.scopes.limit
    decision = replace(opening_decision, is_shareable=opening_decision.is_shareable or inputs.scopes.group is not None)
    if inputs.scopes.group is not None and noise_settings.grouping is not None:
        new_window = RateWindowState(until=inputs.now + noise_settings.grouping.within)
        decision = replace(
            decision,
            rate_windows={**decision.rate_windows, inputs.scopes.group: new_window},
            linked_scopes=(*decision.linked_scopes, inputs.scopes.group),
        )
    if limit is None or scope is None or inputs.context.replay_of is not None:
        return decision
    rate_window = inputs.noise_state.find_rate_window(scope)
    tokens = _available_tokens(rate_window, limit, inputs.now)
    if tokens >= 1:
        updated_window = replace(rate_window, tokens=tokens - 1, tokens_at=inputs.now)
        return replace(decision, rate_windows={**decision.rate_windows, scope: updated_window})
    active_alert = inputs.noise_state.find_alert(rate_window)
    if active_alert is not None:
        reason = reasons.OVER_BURST(count=limit.burst)
        # The alerts that waited with it continue, and join too when they are due.
        return NoiseDecision(
            joined_alert=active_alert, mechanism="flood", reason=reason, released_scopes=decision.released_scopes
        )
    flood_window = replace(rate_window, tokens=tokens, tokens_at=inputs.now)
    return NoiseDecision(
        is_shareable=True,
        flood=limit,
        rate_windows={**decision.rate_windows, scope: flood_window},
        linked_scopes=(*decision.linked_scopes, scope),
        released_scopes=decision.released_scopes,
        reason=decision.reason,
    )


def _available_tokens(rate_window: RateWindowState, limit: AlertRateLimit, now: datetime) -> float:
    if rate_window.tokens is None or rate_window.tokens_at is None:
        return float(limit.burst)
    return min(float(limit.burst), rate_window.tokens + max(0.0, (now - rate_window.tokens_at) / limit.every))


def _merge_flapping(decision: NoiseDecision, flapping_decision: NoiseDecision) -> NoiseDecision:
    """Combines the decision with the counts and remarks on flapping."""
    if flapping_decision is OPEN_NOW:
        return decision
    reason = joined(*dict.fromkeys((decision.reason, flapping_decision.reason)))
    return replace(decision, rate_windows={**flapping_decision.rate_windows, **decision.rate_windows}, reason=reason)


def _delay_until(
    inputs: _NoiseInputs, delay_reason: DelayReason, due_at: datetime | None, delay: Delay, scope: bytes | None = None
) -> NoiseDecision:
    return NoiseDecision(delayed_alert=_build_delay(inputs, delay_reason, due_at, delay.describe(), scope=scope))


def _add_to_delay(inputs: _NoiseInputs, delayed: DelayedAlertState) -> NoiseDecision:
    """Adds an opening message to a delayed alert. A more urgent one ends the delay; none restarts it."""
    is_raised = _is_more_urgent(inputs.event, delayed)
    due_at = inputs.now if is_raised else delayed.due_at
    updated = _build_delay(
        inputs, delayed.delay_reason, due_at, delayed.reason, scope=delayed.scope, window_id=delayed.window_id
    )
    return NoiseDecision(delayed_alert=replace(updated, is_released=is_raised or delayed.is_released))


def _build_delay(
    inputs: _NoiseInputs,
    delay_reason: DelayReason,
    due_at: datetime | None,
    reason: Reason,
    *,
    scope: bytes | None = None,
    window_id: int | None = None,
) -> DelayedAlertState:
    previous = inputs.key_state.delayed or inputs.context.due_delay
    text = inputs.event.mapped.text
    priority = priority_of(inputs.event) or (Priority(inputs.route.priority) if inputs.route.priority else None)
    return DelayedAlertState(
        delay_reason,
        previous.since if previous is not None else inputs.now,
        due_at,
        reason,
        (
            *(inputs.key_state.delayed.triggered_at if inputs.key_state.delayed is not None else ()),
            inputs.context.received_at,
        )[-_MAX_ARRIVAL_TIMES:],
        inputs.key_state.delayed.message_count + 1 if inputs.key_state.delayed is not None else 1,
        priority
        or (previous.priority if previous is not None else None)
        or default_priority(inputs.integration, inputs.route),
        scope,
        window_id=window_id,
        subject=text("subject") or (previous.subject if previous is not None else ""),
        source_id=inputs.event.source_id or "",
    )
