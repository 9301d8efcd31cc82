"""Noise reduction: decides whether an alert that would open opens now, is delayed, or joins another. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Final

from msgspec import Struct, field
from msgspec.structs import replace

from tocsin.alerts.commands import (
    AlertChange,
    AlertCreation,
    AlertState,
    NewEvent,
    PagingConfig,
    RepeatedMessages,
)
from tocsin.alerts.states import ACTIVE, AlertStatus, EventKind, Priority
from tocsin.core.ids import key_hash
from tocsin.core.reasons import NO_REASON, AlertRef, Reason, Term, Text, as_reason, joined, reason_as_json
from tocsin.inbound.config.normalizer import NormalizedEvent
from tocsin.inbound.config.rules import AlertRateLimitSpec, CountScope, Delay, DelayKind, RouteChoice
from tocsin.inbound.deciding import state as reasons
from tocsin.inbound.deciding.alert_creation import (
    PagingChange,
    build_paging_config,
    default_priority,
    delay_of,
    priority_of,
    start_paging,
)
from tocsin.inbound.deciding.state import (
    ActiveAlert,
    Decision,
    DedupKeyState,
    DelayedAlertState,
    DelayReason,
    GroupJoin,
    KeyRole,
    MessageContext,
    NoiseChanges,
    RateWindowState,
    WaitOutcome,
)
from tocsin.inbound.enums import MessageStatus, WindowAction
from tocsin.inbound.maintenance import matching_window

# ---------- noise reduction
# Noise reduction: decides whether an alert that would open opens now. Pure.
# A list of steps in fixed order: maintenance, parent, group, flapping, delay, rate limit. Each takes the opening alert
# and the decision so far, and returns the decision; the first that suppresses, delays or joins the alert ends the
# list.
# Applied only if the key has no active alert, so that messages for active alerts never wait. Tests bypass it; replays,
# which a user wants now, are neither delayed nor counted as flapping.

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
    window, end = window_match
    if window.action is WindowAction.SUPPRESS:
        return replace(decision, suppression_reason=reasons.IN_MAINTENANCE(window=window.name, until=end))
    reason = reasons.AFTER_MAINTENANCE(window=window.name)
    delayed = _build_delay(opening, DelayReason.MAINTENANCE, end, reason, window_id=window.id)
    return replace(decision, delayed_alert=delayed)


def _join_parent(opening: OpeningAlert, decision: NoiseDecision) -> NoiseDecision:
    parent = opening.context.noise_state.parent
    if parent is None:
        return decision
    reason = reasons.OF_PARENT(alert=AlertRef(parent.state.id))
    return replace(decision, joined_alert=parent, role=KeyRole.CHILD, mechanism="parent", reason=reason)


def _join_group(opening: OpeningAlert, decision: NoiseDecision) -> NoiseDecision:
    noise_state = opening.context.noise_state
    group_window = noise_state.find_rate_window(opening.context.scopes.group)
    if not _is_running(group_window, opening.context.now):
        return decision
    active_alert = noise_state.find_alert(group_window)
    if active_alert is None:
        return decision
    return replace(decision, joined_alert=active_alert, mechanism="group", reason=reasons.SAME_GROUP())


def _count_flapping(opening: OpeningAlert, decision: NoiseDecision) -> NoiseDecision:
    """Counts the opening. An opening beyond the limit is delayed until the alert was stable for a while."""
    context, scope = opening.context, opening.context.scopes.flapping
    noise_settings, now = context.integration.normalizer.noise_settings, context.now
    flapping = noise_settings.spec.flapping if noise_settings is not None else None
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
        reason = reasons.WHEN_STABLE(duration=flapping.stable)
        delayed = _build_delay(opening, DelayReason.FLAPPING, now + flapping.stable, reason)
        return replace(decision, delayed_alert=delayed)
    if len(times) < flapping.alerts:
        return decision
    reason = reasons.FLAPPING(openings=flapping.alerts, within=flapping.within, stable=flapping.stable)
    return replace(decision, reason=reason)


def _apply_delay(opening: OpeningAlert, decision: NoiseDecision) -> NoiseDecision:
    """Delays the alert as its route says, else as the integration does."""
    context, route = opening.context, opening.route
    delay = delay_of(context, route)
    if delay is None:
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
    if noise_settings is None or noise_settings.spec.grouping is None or scope is None:
        return decision
    new_window = RateWindowState(until=opening.context.now + noise_settings.spec.grouping.within)
    return _link_window(decision, scope, new_window)


def _apply_rate_limit(opening: OpeningAlert, decision: NoiseDecision) -> NoiseDecision:
    """Takes a token for the opening alert. Without a token, the alert joins the flood alert, or opens as its first."""
    context, scope = opening.context, opening.context.scopes.limit
    noise_settings, noise_state = context.integration.normalizer.noise_settings, context.noise_state
    limit = noise_settings.spec.flood if noise_settings is not None else None
    if limit is None or scope is None or context.replay_of is not None:
        return decision
    rate_window = noise_state.find_rate_window(scope)
    tokens = _available_tokens(rate_window, limit, context.now)
    if tokens >= 1:
        return _set_window(decision, scope, replace(rate_window, tokens=tokens - 1, tokens_at=context.now))
    active_alert = noise_state.find_alert(rate_window)
    if active_alert is not None:
        over_burst = reasons.OVER_BURST(count=limit.burst)
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
    reason = joined(reasons.WAITED_TOGETHER(), decision.reason)
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
        waited = reasons.WAITED(duration=context.now - due_delay.since, when=due_delay.reason)
        entries.append(_trace_entry(_mechanism(due_delay), True, waited))
    if noise_decision.suppression_reason:
        window_active = reasons.WINDOW_ACTIVE(**dict(noise_decision.suppression_reason.params))
        entries.append(_trace_entry("maintenance", False, window_active))
    elif (delayed := noise_decision.delayed_alert) is not None:
        entries.append(_trace_entry(_mechanism(delayed), False, reasons.STILL_DELAYED(when=delayed.reason)))
    elif (joined_alert := noise_decision.joined_alert) is not None:
        joins = reasons.JOINS(alert=AlertRef(joined_alert.state.id), cause=noise_decision.reason)
        entries.append(_trace_entry(noise_decision.mechanism, False, joins))
    elif (flood := noise_decision.flood) is not None:
        entries.append(_trace_entry("flood", True, reasons.FLOOD(cause=reasons.OVER_BURST(count=flood.burst))))
    elif noise_decision.reason:
        entries.append(_trace_entry("flapping", True, noise_decision.reason))
    elif due_delay is None:
        entries.append(_trace_entry(NOISE_TRACE_KEY, True, reasons.NOT_RESTRICTED()))
    return entries


def _mechanism(delayed: DelayedAlertState) -> str:
    return _MECHANISMS.get(delayed.delay_reason, "delay")


def _trace_entry(name: str, is_opening: bool, reason: Reason) -> Mapping[str, object]:
    return {"name": name, "opens": is_opening, "reason": reason_as_json(reason)}


# ---------- grouping
# Alerts shared by several dedup keys, and the outcome of delayed alerts. Pure.
# A key joins an active alert instead of opening its own, and its messages count there from then on. A group's alert
# closes when the last of its keys is over. A child joins and leaves its parent's alert, but never closes it.

# ---------- merge propagation
# Propagates a message of a merged alert to its parent, beyond counting it there. Pure.


class ParentUpdate(Struct, frozen=True):
    """The parent after the message, if there is one, and the changes to it."""

    parent: ActiveAlert | None = None
    changes: tuple[AlertChange, ...] = ()
    #: The effect of an opening message on an alert, with a parent on that, that has paged nobody so far.
    paging_change: PagingChange | None = None

    @property
    def active_alerts(self) -> dict[int, ActiveAlert]:
        return {self.parent.state.id: self.parent} if self.parent is not None else {}


def propagate_to_parent(
    context: MessageContext,
    event: NormalizedEvent,
    parent: ActiveAlert | None,
    child: ActiveAlert,
    status: MessageStatus,
    new_priority: Priority | None,
    own_paging_change: PagingChange | None,
) -> ParentUpdate:
    """Raises the parent's priority if the child's rises above it, which pages by the parent's policy; and makes a
    parent that has paged nobody so far start paging for an opening message. `new_priority` is the child's new priority,
    if it rose; `own_paging_change` the effect on the child, if it has no parent."""
    if parent is None:
        return ParentUpdate(paging_change=own_paging_change)
    state = parent.state
    if state.status not in ACTIVE:
        return ParentUpdate(parent)
    paging_change = start_paging(context, event, parent) if status is MessageStatus.APPENDED else None
    paging_start = paging_change.paging_start if paging_change is not None else None
    events: tuple[NewEvent, ...] = ()
    new_state = state
    if new_priority is not None and new_priority.is_above(state.priority):
        new_state = replace(state, priority=new_priority)
        reason = reasons.CHILD_PRIORITY_RAISED(
            child=AlertRef(child.state.id), priority=Term(new_priority), previous=Term(state.priority)
        )
        data = {"changes": {"priority": [str(state.priority), str(new_priority)]}}
        events = (context.timeline_event(state.id, EventKind.UPDATED, reason, data),)
    if not events and paging_start is None:
        return ParentUpdate(parent, paging_change=paging_change)
    paging = paging_change.paging if paging_change is not None else None
    change = AlertChange(
        state, new_state, events, paging=paging, paging_start=paging_start, was_dry_run=parent.is_dry_run
    )
    return ParentUpdate(
        replace(parent, state=new_state, is_paging=parent.is_paging or paging is not None), (change,), paging_change
    )


def join(opening: OpeningAlert, noise_decision: NoiseDecision, active_alert: ActiveAlert) -> Decision:
    """Counts the message on the alert that it joins, and on that alert's parent if it is merged. A more urgent message
    raises the alert's priority."""
    context, event = opening.context, opening.event
    key_state, alert_id = context.key_state, active_alert.state.id
    timeline_event = context.timeline_event(
        alert_id,
        EventKind.GROUP_JOINED,
        reasons.MESSAGE_JOINED(message=describe_message(event), cause=noise_decision.reason),
        {"message_id": str(context.message_id), "source_id": event.source_id or ""},
    )
    new_priority = priority_of(event) if context.may_page else None
    change, state = _raise_priority(active_alert, new_priority, opening.paging, timeline_event)
    paging_change = start_paging(context, event, active_alert)
    change = _with_paging_start(change, active_alert, paging_change)
    # A new ticket is news for the parent, even if the merged alert was as urgent before.
    parent = context.noise_state.active_alerts.get(active_alert.parent_id or 0)
    parent_update = propagate_to_parent(
        context, event, parent, active_alert, MessageStatus.APPENDED, new_priority, paging_change
    )
    counted_alert_id = parent.state.id if parent is not None else alert_id
    member_count = active_alert.member_count + (noise_decision.role is not KeyRole.CHILD)
    updated_alert = replace(
        active_alert,
        state=state,
        member_count=member_count,
        is_paging=active_alert.is_paging or change.paging_start is not None,
    )
    wait_outcome = _wait_outcome(key_state, alert_id, reasons.WAITED_THEN_JOINED)
    effects = joined(noise_decision.reason, *_describe_count(counted_alert_id, alert_id, parent_update))
    return Decision(
        MessageStatus.APPENDED,
        reasons.JOINED_ALERT(why=event.rule_match.reason, alert=AlertRef(alert_id), effects=effects),
        replace(
            key_state,
            active_alert=updated_alert,
            shared_alert_id=alert_id,
            role=noise_decision.role,
            last_alert_id=alert_id,
            delayed=None,
        ),
        counted_alert_id,
        changes=(change, *parent_update.changes),
        repeated_messages=RepeatedMessages(
            counted_alert_id,
            1 + (key_state.delayed.message_count if key_state.delayed is not None else 0),
            context.received_at,
        ),
        updates_key=True,
        noise_changes=NoiseChanges(
            rate_windows=noise_decision.rate_windows,
            wait_outcome=wait_outcome,
            group_join=GroupJoin(alert_id, noise_decision.role, _subject(event), event.source_id or ""),
            active_alerts={alert_id: updated_alert, **parent_update.active_alerts},
            released_scopes=noise_decision.released_scopes,
        ),
    )


def apply_opening(
    new_state: DedupKeyState, opening: OpeningAlert, noise_decision: NoiseDecision, active_alert: ActiveAlert
) -> tuple[DedupKeyState, NoiseChanges]:
    """Returns the key's state after its alert opened, and further changes: others may join, delays go on."""
    alert_id, event = active_alert.state.id, opening.event
    rate_windows = dict(noise_decision.rate_windows)
    for scope in noise_decision.linked_scopes:
        rate_windows[scope] = replace(rate_windows[scope], alert_id=alert_id)
    wait_outcome = _wait_outcome(opening.context.key_state, alert_id, reasons.WAITED_THEN_COUNTED)
    group_join = None
    if noise_decision.is_shareable:
        # The alert about a flood describes none of its members.
        role = KeyRole.FIRST if noise_decision.flood is None else KeyRole.MEMBER
        new_state = replace(new_state, shared_alert_id=alert_id, role=role)
        group_join = GroupJoin(alert_id, role, _subject(event), event.source_id or "")
    active_alerts = {alert_id: active_alert} if noise_decision.is_shareable else {}
    return new_state, NoiseChanges(
        rate_windows=rate_windows,
        wait_outcome=wait_outcome,
        group_join=group_join,
        active_alerts=active_alerts,
        released_scopes=noise_decision.released_scopes,
    )


def opening_remarks(noise_decision: NoiseDecision, delay: DelayedAlertState | None, now: datetime) -> Reason:
    """Returns what noise reduction adds to the reason of an opening."""
    waited = reasons.WAITED(duration=now - delay.since, when=delay.reason) if delay is not None else NO_REASON
    flood = (
        reasons.FLOOD(cause=_describe_flood(noise_decision.flood)) if noise_decision.flood is not None else NO_REASON
    )
    return joined(waited, noise_decision.reason, flood)


def adapt_creation(
    creation: AlertCreation, noise_decision: NoiseDecision, delay: DelayedAlertState | None, context: MessageContext
) -> AlertCreation:
    """Applies noise reduction to an alert that opens. An alert that others may join gets a key of its own."""
    alert = creation.alert
    if delay is not None and context.due_delay is None:
        alert = replace(alert, count=alert.count + delay.message_count)
    if noise_decision.is_shareable:
        alert = replace(alert, key_hash=key_hash(f"\x1fshared\x1f{context.message_id}"))
    if noise_decision.flood is not None:
        columns = {
            "subject": f"Flood of alerts: {alert.subject}",
            "long_text": f"There are {_describe_flood(noise_decision.flood)}. This alert represents those beyond; it "
            "closes when the last of them does.",
        }
        # It belongs to no ticket: actions on it must not be written back to the first alert's ticket.
        alert = replace(alert, subject=columns["subject"], columns=columns, source_id="", custom={})
    return replace(creation, alert=alert)


def _describe_flood(limit: AlertRateLimitSpec) -> Reason:
    return reasons.OVER_RATE(cause=reasons.OVER_BURST(count=limit.burst), every=limit.every)


def count(
    context: MessageContext, event: NormalizedEvent, active_alert: ActiveAlert, status: MessageStatus
) -> Decision:
    """Counts another message of a key that joined: on the parent if the alert is merged and the message opens. The
    alert's values remain those of its first key."""
    alert_id, state, key_state = active_alert.state.id, active_alert.state, context.key_state
    changes: tuple[AlertChange, ...] = ()
    paging_change = start_paging(context, event, active_alert) if status is MessageStatus.APPENDED else None
    new_priority = priority_of(event) if context.may_page else None
    if new_priority is not None and new_priority.is_above(state.priority):
        paging, _ = build_paging_config(context, event)
        reason = reasons.MEMBER_PRIORITY_RAISED(message=describe_message(event), priority=Term(new_priority))
        timeline_event = context.timeline_event(alert_id, EventKind.UPDATED, reason)
        change, state = _raise_priority(active_alert, new_priority, paging, timeline_event)
        changes = (_with_paging_start(change, active_alert, paging_change),)
    elif paging_change is not None and paging_change.paging_start is not None:
        changes = (_with_paging_start(AlertChange(state, state, ()), active_alert, paging_change),)
    is_paging = active_alert.is_paging or any(change.paging_start is not None for change in changes)
    raised_priority = state.priority if state.priority.is_above(active_alert.state.priority) else None
    parent = key_state.parent
    parent_update = propagate_to_parent(context, event, parent, active_alert, status, raised_priority, paging_change)
    counted_alert_id = parent.state.id if parent is not None and status is MessageStatus.APPENDED else alert_id
    counted = reasons.COUNTED_ON_ALERT(alert=AlertRef(alert_id))
    effects = joined(counted, *_describe_count(counted_alert_id, alert_id, parent_update))
    return Decision(
        status,
        reasons.COUNTED_ON_JOINED(why=event.rule_match.reason, effects=effects),
        replace(key_state, active_alert=replace(active_alert, state=state, is_paging=is_paging)),
        counted_alert_id,
        changes=(*changes, *parent_update.changes),
        repeated_messages=RepeatedMessages(counted_alert_id, 1, context.received_at),
        updates_key=True,
        noise_changes=NoiseChanges(active_alerts=parent_update.active_alerts) if parent is not None else None,
    )


def _describe_count(counted_alert_id: int, alert_id: int, parent_update: ParentUpdate) -> tuple[Reason, Reason]:
    return (
        reasons.MERGED_INTO(alert=AlertRef(counted_alert_id)) if counted_alert_id != alert_id else NO_REASON,
        parent_update.paging_change.remark if parent_update.paging_change is not None else NO_REASON,
    )


def leave_group(context: MessageContext, event: NormalizedEvent, active_alert: ActiveAlert) -> Decision | None:
    """Ends the key's part in a shared alert; None if it is the last key, which closes the alert."""
    key_state = context.key_state
    is_child = key_state.role is KeyRole.CHILD
    remaining = active_alert.member_count - (not is_child)
    if remaining <= 0 and not is_child:
        return None
    alert_id = active_alert.state.id
    alert_ref, why, message = AlertRef(alert_id), event.rule_match.reason, describe_message(event)
    if is_child:
        reason = reasons.CHILD_ENDED(why=why, alert=alert_ref)
        event_reason = reasons.ALERT_CHILD_ENDED(why=why, message=message)
    else:
        reason = reasons.MEMBER_ENDED(why=why, alert=alert_ref, count=remaining)
        event_reason = reasons.ALERT_MEMBER_ENDED(why=why, message=message, count=remaining)
    timeline_event = context.timeline_event(
        alert_id, EventKind.GROUP_MEMBER_ENDED, event_reason, {"source_id": event.source_id or ""}
    )
    updated_alert = replace(active_alert, member_count=remaining)
    return Decision(
        MessageStatus.UPDATED,
        reason,
        replace(key_state, active_alert=None, shared_alert_id=None, role=None),
        alert_id,
        changes=(AlertChange(active_alert.state, active_alert.state, (timeline_event,)),),
        repeated_messages=RepeatedMessages(alert_id, 1, context.received_at),
        updates_key=True,
        noise_changes=NoiseChanges(group_join=GroupJoin(alert_id, None), active_alerts={alert_id: updated_alert}),
    )


# --- Delayed alerts ------------------------------------------------------------------------------------------------


def decide_ended_early(context: MessageContext) -> NoiseChanges | None:
    """Returns the outcome of a delayed alert that is closed before it opens; None if none is delayed."""
    delayed = context.key_state.delayed
    if delayed is None:
        return None
    reason = reasons.OVER_BEFORE_OPENING(duration=context.now - delayed.since, when=delayed.reason)
    return NoiseChanges(wait_outcome=WaitOutcome(MessageStatus.IGNORED, reason))


def decide_below_threshold(context: MessageContext, due_delay: DelayedAlertState) -> Decision:
    """Ends the delay of the oldest of too few messages; newer messages of the key keep waiting."""
    key_state = context.key_state
    oldest = due_delay.triggered_at[0] if due_delay.triggered_at else context.received_at
    span = (due_delay.due_at or context.now) - oldest
    if due_delay.scope is None and context.received_at > oldest:
        remaining = tuple(at for at in due_delay.triggered_at if at > oldest)
        if remaining:
            delay = replace(
                due_delay,
                triggered_at=remaining,
                since=remaining[0],
                due_at=remaining[0] + span,
                message_count=max(1, due_delay.message_count - 1),
            )
            return Decision(
                MessageStatus.DELAYED,
                reasons.STILL_DELAYED(when=due_delay.reason),
                replace(key_state, delayed=delay),
            )
    reason = reasons.BELOW_THRESHOLD(duration=span, when=due_delay.reason)
    return Decision(MessageStatus.IGNORED, reason, key_state)


def _wait_outcome(key_state: DedupKeyState, alert_id: int, reason_type: Text) -> WaitOutcome | None:
    if key_state.delayed is None:
        return None
    return WaitOutcome(MessageStatus.APPENDED, reason_type(alert=AlertRef(alert_id)), alert_id)


def _raise_priority(
    active_alert: ActiveAlert, priority: Priority | None, paging: PagingConfig, timeline_event: NewEvent
) -> tuple[AlertChange, AlertState]:
    state = raised_state = active_alert.state
    if priority is not None and priority.is_above(state.priority):
        raised_state = replace(state, priority=priority)
    change = AlertChange(state, raised_state, (timeline_event,))
    # A merged alert pages nobody: its parent does.
    if raised_state is not state and state.status is not AlertStatus.MERGED:
        change = replace(change, paging=paging, was_dry_run=active_alert.is_dry_run)
    return change, raised_state


def _with_paging_start(
    change: AlertChange, active_alert: ActiveAlert, paging_change: PagingChange | None
) -> AlertChange:
    """Returns the change, extended so that the alert starts paging if it has paged nobody so far."""
    if paging_change is None or paging_change.paging_start is None:
        return change
    return replace(
        change,
        paging=paging_change.paging,
        paging_start=paging_change.paging_start,
        was_dry_run=active_alert.is_dry_run,
    )


def describe_message(event: NormalizedEvent) -> Reason:
    """Returns what the message is about, as the start of a sentence."""
    subject, source_id = _subject(event), event.source_id
    if subject and source_id:
        return reasons.SUBJECT_AND_ID(subject=subject, source_id=source_id)
    if source_id:
        return reasons.ID_ONLY(source_id=source_id)
    return as_reason(subject) or reasons.UNTITLED()


def _subject(event: NormalizedEvent) -> str:
    return (event.mapped.text("subject") or "")[:120]
