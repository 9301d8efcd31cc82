"""Decides a message that opens: filters, route, noise reduction; then a new alert, a delay, or a shared alert. Pure."""

from __future__ import annotations

from msgspec.structs import replace

from tocsin.alerts import source
from tocsin.alerts.change_handlers import AlertChange, PagingMode
from tocsin.alerts.commands import AlertState
from tocsin.alerts.states import AlertStatus
from tocsin.core.reasons import reason_as_json
from tocsin.inbound.config.normalizer import NormalizedEvent
from tocsin.inbound.deciding import grouping, reasons
from tocsin.inbound.deciding.alert_creation import build_paging_config, create_alert
from tocsin.inbound.deciding.noise_reduction import (
    NOISE_TRACE_KEY,
    OPEN_NOW,
    NoiseDecision,
    OpeningAlert,
    reduce_noise,
    trace_entries,
)
from tocsin.inbound.deciding.state import ActiveAlert, Decision, DelayedAlertState, MessageContext, NoiseChanges
from tocsin.inbound.enums import MessageStatus


def open_alert(context: MessageContext, event: NormalizedEvent) -> Decision:
    """Returns the decision on an opening message whose key has no active alert."""
    key_state = context.key_state
    filter_match = event.check_filters()
    if not filter_match.is_true:
        reason = reasons.FILTERED(why=filter_match.reason)
        return Decision(MessageStatus.IGNORED, reason, key_state, is_suppressed=True)
    paging, route = build_paging_config(context, event)
    opening = OpeningAlert(context, event, paging, route)
    verdict: dict[str, object] = {"route": reason_as_json(route.reason)}
    if not context.integration.has_noise_reduction or context.test_user_id is not None:
        return _create(opening, OPEN_NOW, verdict)
    noise_decision = reduce_noise(opening)
    verdict[NOISE_TRACE_KEY] = trace_entries(context, noise_decision)
    if noise_decision.suppression_reason:
        reason = noise_decision.suppression_reason
        return Decision(MessageStatus.IGNORED, reason, key_state, verdict=verdict, is_suppressed=True)
    if (delayed := noise_decision.delayed_alert) is not None:
        noise_changes = NoiseChanges(rate_windows=noise_decision.rate_windows) if noise_decision.rate_windows else None
        return replace(delayed_decision(context, event, delayed), verdict=verdict, noise_changes=noise_changes)
    if noise_decision.joined_alert is not None:
        return replace(grouping.join(opening, noise_decision, noise_decision.joined_alert), verdict=verdict)
    return _create(opening, noise_decision, verdict)


def delayed_decision(context: MessageContext, event: NormalizedEvent, delayed: DelayedAlertState) -> Decision:
    """Returns the decision on a message whose alert is delayed."""
    return Decision(
        MessageStatus.DELAYED,
        reasons.DELAYED(why=event.rule_match.reason, when=delayed.reason),
        replace(context.key_state, delayed=delayed),
        updates_key=context.replay_of is None,
    )


def _create(opening: OpeningAlert, noise_decision: NoiseDecision, verdict: dict[str, object]) -> Decision:
    context, event = opening.context, opening.event
    integration, key_state, alert_id = context.integration, context.key_state, context.new_alert_id
    delayed = context.due_delay or key_state.delayed
    if noise_decision is OPEN_NOW and delayed is None:
        creation = create_alert(context, event, opening.paging, opening.route)
    else:
        remarks = grouping.opening_remarks(noise_decision, delayed, context.now)
        creation = create_alert(context, event, opening.paging, opening.route, remarks)
        creation = grouping.adapt_creation(creation, noise_decision, delayed, context)
    alert = creation.alert
    state = AlertState(alert_id, AlertStatus.OPEN, alert.priority, alert.opened_at)
    changes: tuple[AlertChange, ...] = ()
    if (
        integration.settings.get("owned_ticket_stops")
        and (agent := integration.ticket_agent(event)).text
        and noise_decision.flood is None
    ):
        assignment = source.apply_agent_change(state, source.TicketAgent(), agent, integration.actor, context.now)
        changes = (AlertChange(state, assignment.state, assignment.events),) if assignment.is_change else ()
        state = assignment.state
    active_alert = ActiveAlert(
        state,
        {**alert.columns, "tags": alert.tags, "custom": alert.custom},
        member_count=1 if noise_decision.is_shareable else 0,
        is_paging=opening.paging.mode is PagingMode.PAGE,
        opened_in_dry_run=alert.dry_run,
    )
    new_key_state = replace(key_state, active_alert=active_alert, last_alert_id=alert_id, delayed=None)
    noise_changes = None
    if noise_decision.is_shareable or noise_decision.rate_windows or key_state.delayed is not None:
        new_key_state, noise_changes = grouping.apply_opening(new_key_state, opening, noise_decision, active_alert)
    return Decision(
        MessageStatus.OPENED,
        reasons.OPENED(why=event.rule_match.reason),
        new_key_state,
        alert_id,
        creation=creation,
        changes=changes,
        updates_key=True,
        verdict=verdict,
        noise_changes=noise_changes,
    )
