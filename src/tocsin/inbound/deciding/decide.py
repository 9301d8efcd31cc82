"""Decides what one message does: `decide(context)` returns its outcome, the state of its key, and all changes. Pure.

Fixed order: disabled integration, unreadable message, duplicate delivery, late arrival, then cancel, close, open,
update. Every outcome has a reason.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from msgspec.structs import replace

from tocsin.alerts import lifecycle
from tocsin.alerts.change_handlers import AlertChange
from tocsin.alerts.commands import Cancel, Close
from tocsin.alerts.new_alert import RepeatedMessages
from tocsin.alerts.states import AlertStatus, CommandChannel
from tocsin.core.errors import Rejected
from tocsin.core.reasons import AlertRef, reason_as_json
from tocsin.inbound.config.normalizer import NormalizedEvent
from tocsin.inbound.config.rules import EventAction
from tocsin.inbound.deciding import alert_update, grouping, noise_reduction, reasons
from tocsin.inbound.deciding.fail_open import decide_unreadable
from tocsin.inbound.deciding.opening import delayed_decision, open_alert
from tocsin.inbound.deciding.state import ActiveAlert, Decision, DedupKeyState, MessageContext
from tocsin.inbound.enums import MessageStatus

#: A source time further ahead than this comes from a wrong clock and is ignored.
MAX_CLOCK_AHEAD = timedelta(days=1)


def decide(context: MessageContext) -> Decision:
    """Returns the decision on a message."""
    event, key_state = context.event, context.key_state
    if event is None:
        return Decision(MessageStatus.IGNORED, reasons.DISABLED(), key_state)
    if isinstance(event, Rejected):
        return decide_unreadable(context, event)
    if context.replay_of is None and context.due_delay is None:
        if (duplicate := context.duplicate) is not None:
            reason = reasons.DUPLICATE_DELIVERY(message=str(duplicate.message_id))
            return Decision(MessageStatus.IGNORED, reason, key_state, alert_id=duplicate.alert_id)
        at, latest = event.source_time, key_state.latest_source_time
        # An equal source time is not late.
        if at is not None and latest is not None and at < latest:
            reason = reasons.ARRIVED_LATE(at=at, latest=latest)
            return Decision(MessageStatus.IGNORED, reason, key_state, alert_id=_active_alert_id(key_state))
    decision = _decide_by_action(context, event)
    verdict = {"rule": _action_of(context, event).value, **decision.verdict}
    if event.notes:
        verdict["notes"] = [reason_as_json(note) for note in event.notes[:3]]
    reason = decision.reason
    if context.fetch_skipped_reason:
        reason = reasons.DECIDED_WITHOUT_FETCH(decision=reason, skipped=context.fetch_skipped_reason)
    if not event.is_understood and decision.status is not MessageStatus.UPDATED:
        reason = reasons.NOT_UNDERSTOOD(decision=reason)
    new_key_state = decision.key_state
    if decision.updates_key:
        new_key_state = _advance_source_time(new_key_state, context, event.source_time)
    return replace(decision, verdict=verdict, reason=reason, key_state=new_key_state)


def _decide_by_action(context: MessageContext, event: NormalizedEvent) -> Decision:
    key_state, due_delay, recent_writes = context.key_state, context.due_delay, context.recent_writes
    active_alert = key_state.active_alert
    if due_delay is not None and active_alert is None and grouping.is_below_threshold(due_delay):
        return grouping.decide_below_threshold(context, due_delay)
    if recent_writes is not None and (echoed_ids := recent_writes.echoed_status_writes(event)) is not None:
        # Tocsin wrote this status itself, so the message is nobody's action: it only refreshes the alert's fields.
        if active_alert is None:
            reason = reasons.ECHO_WITHOUT_ALERT()
            return Decision(MessageStatus.IGNORED, reason, key_state, echoed_write_ids=echoed_ids)
        decision = alert_update.update_alert(context, event, active_alert, MessageStatus.UPDATED)
        return replace(decision, echoed_write_ids=(*decision.echoed_write_ids, *echoed_ids))
    match _action_of(context, event):
        case EventAction.CANCEL | EventAction.CLOSE:
            return _end_early(context, event) if active_alert is None else _end_alert(context, event, active_alert)
        case EventAction.OPEN:
            if active_alert is not None:
                return alert_update.update_alert(context, event, active_alert, MessageStatus.APPENDED)
            if (
                key_state.last_alert_id is not None
                and recent_writes is not None
                and not recent_writes.may_reopen(event)
            ):
                reason = reasons.ECHO_OPENS_NOTHING(key=alert_update.describe_key(event))
                return Decision(MessageStatus.IGNORED, reason, key_state)
            return open_alert(context, event)
        case EventAction.UPDATE:
            if active_alert is not None:
                return alert_update.update_alert(context, event, active_alert, MessageStatus.UPDATED)
            if key_state.delayed is not None:
                return delayed_decision(context, event, noise_reduction.count_on_delayed(context, event))
            why, key = event.rule_match.reason, alert_update.describe_key(event)
            return Decision(MessageStatus.IGNORED, reasons.NO_ALERT_TO_UPDATE(why=why, key=key), key_state)
        case EventAction.NONE:
            reason = reasons.IGNORED_BY_RULE(why=event.rule_match.reason)
            return Decision(MessageStatus.IGNORED, reason, key_state, alert_id=_active_alert_id(key_state))


def _action_of(context: MessageContext, event: NormalizedEvent) -> EventAction:
    """Returns what a message does: one that may only tell that a ticket exists updates a ticket that has an alert."""
    has_alert = context.key_state.active_alert is not None or context.key_state.last_alert_id is not None
    return EventAction.UPDATE if event.opens_first_only and has_alert else event.action


def _active_alert_id(key_state: DedupKeyState) -> int | None:
    return key_state.active_alert.state.id if key_state.active_alert is not None else None


def _end_early(context: MessageContext, event: NormalizedEvent) -> Decision:
    """Decides a close without an active alert. It still advances the newest source time, and ends a delay."""
    why = event.rule_match.reason
    noise_changes = grouping.decide_ended_early(context)
    if noise_changes is not None:
        reason = reasons.ENDED_BEFORE_OPENING(why=why, effect=reasons.CLOSED_TOO_EARLY())
    else:
        reason = reasons.NO_ALERT_TO_CLOSE(why=why, effect=reasons.NOTHING_OPEN(key=alert_update.describe_key(event)))
    return Decision(
        MessageStatus.IGNORED,
        reason,
        replace(context.key_state, delayed=None),
        updates_key=context.replay_of is None or noise_changes is not None,
        noise_changes=noise_changes,
    )


def _end_alert(context: MessageContext, event: NormalizedEvent, active_alert: ActiveAlert) -> Decision:
    """Closes or cancels the key's alert, or only leaves one that continues for other keys."""
    integration, key_state, why = context.integration, context.key_state, event.rule_match.reason
    if key_state.role is not None:
        leave_decision = grouping.leave_group(context, event, active_alert)
        if leave_decision is not None:
            return leave_decision
    is_cancel = event.action is EventAction.CANCEL
    note = reasons.DELETED_AT_SOURCE(source=integration.display_source) if is_cancel else why
    command_class = Cancel if is_cancel else Close
    command = command_class(actor=integration.actor, note=note, via=CommandChannel.INBOUND)
    alert_id = active_alert.state.id
    reason_type = reasons.CANCELLED if is_cancel else reasons.CLOSED
    return Decision(
        MessageStatus.CLOSED,
        reason_type(why=why, alert=AlertRef(alert_id)),
        replace(key_state, active_alert=None, shared_alert_id=None, role=None),
        alert_id,
        changes=_apply(active_alert, command, context.now),
        repeated_messages=RepeatedMessages(
            alert_id, 1, context.received_at, alert_update.changed_fields(context, event, active_alert)
        ),
        updates_key=True,
    )


def _apply(active_alert: ActiveAlert, command: Close | Cancel, now: datetime) -> tuple[AlertChange, ...]:
    """Ends an alert, and frees the alerts merged into it."""
    state = active_alert.state
    if state.status is AlertStatus.MERGED:
        # A close from its source ends only the merged alert; the parent stays active.
        state = replace(state, status=AlertStatus.OPEN)
    outcome = lifecycle.apply(state, command, now)
    changes = [AlertChange(active_alert.state, outcome.state, outcome.events, command)]
    for child in active_alert.children.values():
        child_outcome = lifecycle.on_parent_ended(child, now)
        if child_outcome.is_change:
            changes.append(AlertChange(child, child_outcome.state, child_outcome.events))
    return tuple(changes)


def _advance_source_time(key_state: DedupKeyState, context: MessageContext, at: datetime | None) -> DedupKeyState:
    """Returns the key with its newest source time advanced; a replay does not advance it."""
    latest = key_state.latest_source_time
    if at is None or context.replay_of is not None or (latest is not None and at <= latest):
        return key_state
    if at - context.received_at > MAX_CLOCK_AHEAD:
        # A clock that is days ahead would make all following messages late.
        return key_state
    return replace(key_state, latest_source_time=at)
