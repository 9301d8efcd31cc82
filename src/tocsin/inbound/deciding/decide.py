"""Decides what one message does to its key: (integration, message, key state, now) → outcome and changes. Pure.

Fixed order: duplicate delivery, late arrival, then cancel, close, open, update. Every outcome has a reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace as replace_state
from datetime import datetime, timedelta

from msgspec import Struct
from msgspec.structs import replace

from tocsin.alerts import lifecycle, source
from tocsin.alerts.change_handlers import AlertChange, PagingMode
from tocsin.alerts.commands import Actor, AlertState, Cancel, Close
from tocsin.alerts.new_alert import RepeatedMessages
from tocsin.alerts.states import ActorKind, AlertStatus, CommandChannel, Priority
from tocsin.core.errors import Rejected
from tocsin.core.reasons import NO_REASON, AlertRef, Reason, as_reason, reason_as_json
from tocsin.inbound.config.compiled_integration import CompiledIntegration
from tocsin.inbound.config.normalizer import NormalizedEvent
from tocsin.inbound.config.rules import EventAction
from tocsin.inbound.deciding import grouping, merge_propagation, noise_reduction, reasons, start_paging
from tocsin.inbound.deciding.alert_creation import build_paging_config, columns_of, custom_of, open_alert, priority_of
from tocsin.inbound.deciding.noise_trace import NOISE_TRACE_KEY, trace_entries
from tocsin.inbound.deciding.start_paging import PagingChange
from tocsin.inbound.deciding.state import (
    EMPTY_NOISE_STATE,
    NO_LOCK_SCOPES,
    ActiveAlert,
    Decision,
    DedupKeyState,
    DelayedAlertState,
    DuplicateDelivery,
    KeyRole,
    LockScopes,
    MessageContext,
    NoiseChanges,
    NoiseState,
)
from tocsin.inbound.enums import MessageStatus

#: The maximum length of a text within the reason of an unreadable message.
MAX_TEXT_CHARS = 300

#: A source time further ahead than this comes from a wrong clock and is ignored.
MAX_CLOCK_AHEAD = timedelta(days=1)


#: Allocates the id of a new alert; called at most once per decision, and only if an alert opens.
type NextId = Callable[[], int]


def decide(
    integration: CompiledIntegration,
    context: MessageContext,
    event: NormalizedEvent,
    key_state: DedupKeyState,
    duplicate: DuplicateDelivery | None,
    key_hash: bytes,
    next_id: NextId,
    now: datetime,
    scopes: LockScopes | None = None,
    noise_state: NoiseState = EMPTY_NOISE_STATE,
) -> Decision:
    """Returns the decision on a message. `duplicate` is the decided message with the same delivery id, if any; `scopes`
    and `noise_state` are the noise reduction's lock scopes and state."""
    if context.replay_of is None and context.due_delay is None:
        if duplicate is not None:
            return Decision(
                MessageStatus.IGNORED,
                reasons.DUPLICATE_DELIVERY(message=str(duplicate.message_id)),
                key_state,
                alert_id=duplicate.alert_id,
            )
        if is_late(event, key_state):
            assert event.source_time is not None
            assert key_state.latest_source_time is not None
            return Decision(
                MessageStatus.IGNORED,
                reasons.ARRIVED_LATE(at=event.source_time, latest=key_state.latest_source_time),
                key_state,
                alert_id=key_state.active_alert.state.id if key_state.active_alert else None,
            )
    decision = _decide_by_action(
        integration,
        context,
        event,
        key_state,
        _OpeningInputs(key_hash, next_id, scopes or NO_LOCK_SCOPES, noise_state),
        now,
    )
    verdict = {"rule": event.action.value, **decision.verdict}
    if event.notes:
        verdict["notes"] = [reason_as_json(note) for note in event.notes[:3]]
    reason = decision.reason
    if context.fetch_skipped_reason:
        reason = reasons.DECIDED_WITHOUT_FETCH(decision=reason, skipped=context.fetch_skipped_reason)
    return replace(decision, verdict=verdict, reason=reason)


def is_late(event: NormalizedEvent, key_state: DedupKeyState) -> bool:
    """Returns whether a newer message of the key has counted. An equal source time is not late."""
    return (
        event.source_time is not None
        and key_state.latest_source_time is not None
        and event.source_time < key_state.latest_source_time
    )


class _OpeningInputs(Struct, frozen=True):
    """Further inputs needed if an alert opens."""

    key_hash: bytes
    next_id: NextId
    scopes: LockScopes
    noise_state: NoiseState


def _decide_by_action(
    integration: CompiledIntegration,
    context: MessageContext,
    event: NormalizedEvent,
    key_state: DedupKeyState,
    inputs: _OpeningInputs,
    now: datetime,
) -> Decision:
    if (
        context.due_delay is not None
        and key_state.active_alert is None
        and grouping.is_below_threshold(context.due_delay)
    ):
        return grouping.decide_below_threshold(context, key_state, context.due_delay, now)
    if (echoed_ids := _echoed_status_writes(context, event)) is not None:
        # Tocsin wrote this status itself, so the message is nobody's action: it only refreshes the alert's fields.
        if key_state.active_alert is None:
            return replace(_ignored(reasons.ECHO_WITHOUT_ALERT(), key_state), echoed_write_ids=echoed_ids)
        decision = _refresh(integration, context, event, key_state, key_state.active_alert, MessageStatus.UPDATED, now)
        return replace(decision, echoed_write_ids=(*decision.echoed_write_ids, *echoed_ids))
    match event.action:
        case EventAction.CANCEL | EventAction.CLOSE:
            return _end_alert(integration, context, event, key_state, now)
        case EventAction.OPEN:
            if key_state.active_alert is None:
                if (
                    key_state.last_alert_id is not None
                    and context.recent_writes is not None
                    and not context.recent_writes.may_reopen(event)
                ):
                    return _ignored(reasons.ECHO_OPENS_NOTHING(key=_describe_key(event)), key_state)
                return _open(integration, context, event, key_state, inputs, now)
            return _refresh(integration, context, event, key_state, key_state.active_alert, MessageStatus.APPENDED, now)
        case EventAction.UPDATE:
            if key_state.active_alert is None and key_state.delayed is not None:
                delayed = noise_reduction.count_on_delayed(key_state, context, event, now)
                return _delay_decision(context, event, replace(key_state, delayed=delayed), delayed)
            if key_state.active_alert is None:
                reason = reasons.NO_ALERT_TO_UPDATE(why=event.rule_match.reason, key=_describe_key(event))
                return _ignored(reason, key_state)
            return _refresh(integration, context, event, key_state, key_state.active_alert, MessageStatus.UPDATED, now)
        case EventAction.NONE:
            alert_id = key_state.active_alert.state.id if key_state.active_alert else None
            return replace(_ignored(reasons.IGNORED_BY_RULE(why=event.rule_match.reason), key_state), alert_id=alert_id)


def _echoed_status_writes(context: MessageContext, event: NormalizedEvent) -> tuple[int, ...] | None:
    """Returns the writes whose echo this message's status is; None if the status is somebody's action."""
    if context.recent_writes is None or event.action not in (EventAction.OPEN, EventAction.CLOSE):
        return None
    write_id = context.recent_writes.echo_of_status(event)
    return None if write_id is None else (write_id,) if write_id else ()


def _end_alert(
    integration: CompiledIntegration,
    context: MessageContext,
    event: NormalizedEvent,
    key_state: DedupKeyState,
    now: datetime,
) -> Decision:
    """Closes or cancels the key's alert. Without an active alert, a close still advances the newest source time."""
    is_cancel = event.action is EventAction.CANCEL
    if key_state.active_alert is None:
        noise_changes = grouping.decide_ended_early(key_state, now)
        reason = (
            reasons.ENDED_BEFORE_OPENING(why=event.rule_match.reason)
            if noise_changes
            else reasons.NO_ALERT_TO_CLOSE(why=event.rule_match.reason, key=_describe_key(event))
        )
        decision = _ignored(reason, replace(_advance_source_time(key_state, context, event), delayed=None))
        return replace(
            decision, updates_key=context.replay_of is None or noise_changes is not None, noise_changes=noise_changes
        )
    active_alert = key_state.active_alert
    if (
        key_state.role is not None
        and (leave_decision := grouping.leave_group(integration, context, event, key_state, active_alert, now))
        is not None
    ):
        return replace(leave_decision, key_state=_advance_source_time(leave_decision.key_state, context, event))
    note = _end_note(integration, event)
    command_class = Cancel if is_cancel else Close
    command = command_class(actor=actor_of(integration), note=note, via=CommandChannel.INBOUND)
    changes = _apply(active_alert, command, now)
    freed_key_state = _advance_source_time(
        replace(key_state, active_alert=None, shared_alert_id=None, role=None), context, event
    )
    repeated_messages = RepeatedMessages(
        active_alert.state.id, 1, context.received_at, _changed_fields(integration, active_alert, event)
    )
    reason_type = reasons.CANCELLED if is_cancel else reasons.CLOSED
    return Decision(
        MessageStatus.CLOSED,
        reason_type(why=event.rule_match.reason, alert=AlertRef(active_alert.state.id)),
        freed_key_state,
        active_alert.state.id,
        changes=changes,
        repeated_messages=repeated_messages,
        updates_key=True,
    )


def _end_note(integration: CompiledIntegration, event: NormalizedEvent) -> Reason:
    if event.action is EventAction.CANCEL:
        return reasons.DELETED_AT_SOURCE(source=integration.display_source)
    return event.rule_match.reason


def _apply(active_alert: ActiveAlert, command: Close | Cancel, now: datetime) -> tuple[AlertChange, ...]:
    """Ends an alert, and frees the alerts merged into it."""
    state = active_alert.state
    if state.status is AlertStatus.MERGED:
        # A close from its source ends only the merged alert; the parent stays active.
        state = replace_state(state, status=AlertStatus.OPEN)
    outcome = lifecycle.apply(state, command, now)
    changes = [AlertChange(active_alert.state, outcome.state, outcome.events, command)]
    for child in active_alert.children.values():
        child_outcome = lifecycle.on_parent_ended(child, now)
        if child_outcome.is_change:
            changes.append(AlertChange(child, child_outcome.state, child_outcome.events))
    return tuple(changes)


def _open(
    integration: CompiledIntegration,
    context: MessageContext,
    event: NormalizedEvent,
    key_state: DedupKeyState,
    inputs: _OpeningInputs,
    now: datetime,
) -> Decision:
    filter_match = event.check_filters()
    if not filter_match.is_true:
        decision = _ignored(reasons.FILTERED(why=filter_match.reason), key_state)
        return replace(decision, is_suppressed=True)
    paging, route = build_paging_config(integration, context, event, now)
    noise_decision = noise_reduction.OPEN_NOW
    if integration.has_noise_reduction and context.test_user_id is None:
        groups = paging.recipient_groups
        noise_decision = noise_reduction.apply_noise_reduction(
            integration, context, event, key_state, route, groups, inputs.scopes, inputs.noise_state, now
        )
    verdict: dict[str, object] = {"route": reason_as_json(route.reason)}
    if integration.has_noise_reduction and context.test_user_id is None:
        verdict[NOISE_TRACE_KEY] = trace_entries(noise_decision, context.due_delay, now)
    if noise_decision.suppression_reason:
        return replace(_ignored(noise_decision.suppression_reason, key_state), verdict=verdict, is_suppressed=True)
    if noise_decision.delayed_alert is not None:
        delay_decision = _delay_decision(
            context, event, replace(key_state, delayed=noise_decision.delayed_alert), noise_decision.delayed_alert
        )
        noise_changes = NoiseChanges(rate_windows=noise_decision.rate_windows) if noise_decision.rate_windows else None
        return replace(delay_decision, verdict=verdict, noise_changes=noise_changes)
    if noise_decision.joined_alert is not None:
        parent = inputs.noise_state.active_alerts.get(noise_decision.joined_alert.parent_id or 0)
        join_decision = grouping.join(
            integration, context, event, key_state, inputs.key_hash, noise_decision, parent, paging, now
        )
        return replace(
            join_decision, key_state=_advance_source_time(join_decision.key_state, context, event), verdict=verdict
        )
    alert_id = inputs.next_id()
    delayed = context.due_delay or key_state.delayed
    creation = open_alert(
        integration,
        context,
        event,
        alert_id,
        inputs.key_hash,
        key_state.last_alert_id,
        paging,
        route,
        now,
        remarks=grouping.opening_remarks(noise_decision, delayed, now),
    )
    if noise_decision is not noise_reduction.OPEN_NOW or delayed is not None:
        creation = grouping.adapt_creation(creation, noise_decision, delayed, context)
    alert = creation.alert
    state = AlertState(alert_id, AlertStatus.OPEN, alert.priority, alert.opened_at)
    fields: dict[str, object] = {**alert.columns, "tags": alert.tags, "custom": alert.custom}
    changes: tuple[AlertChange, ...] = ()
    if (
        integration.settings.get("owned_ticket_stops")
        and (agent := integration.ticket_agent(event)).text
        and noise_decision.flood is None
    ):
        assignment = source.apply_agent_change(state, source.TicketAgent(), agent, actor_of(integration), now)
        changes = (AlertChange(state, assignment.state, assignment.events),) if assignment.is_change else ()
        state = assignment.state
    is_paging = paging.mode is PagingMode.PAGE
    active_alert = ActiveAlert(
        state,
        fields,
        member_count=1 if noise_decision.is_shareable else 0,
        is_paging=is_paging,
        opened_in_dry_run=alert.dry_run,
    )
    new_key_state = replace(
        _advance_source_time(key_state, context, event), active_alert=active_alert, last_alert_id=alert_id, delayed=None
    )
    noise_changes = None
    if noise_decision.is_shareable or noise_decision.rate_windows or key_state.delayed is not None:
        new_key_state, noise_changes = grouping.apply_opening(new_key_state, key_state, noise_decision, creation, event)
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


def _delay_decision(
    context: MessageContext, event: NormalizedEvent, key_state: DedupKeyState, delayed: DelayedAlertState
) -> Decision:
    return Decision(
        MessageStatus.DELAYED,
        reasons.DELAYED(why=event.rule_match.reason, when=delayed.reason),
        _advance_source_time(key_state, context, event),
        updates_key=context.replay_of is None,
    )


def _refresh(
    integration: CompiledIntegration,
    context: MessageContext,
    event: NormalizedEvent,
    key_state: DedupKeyState,
    active_alert: ActiveAlert,
    status: MessageStatus,
    now: datetime,
) -> Decision:
    """Counts the message on the active alert; changed values are written and recorded on the timeline."""
    if key_state.role in (KeyRole.MEMBER, KeyRole.CHILD):
        decision = grouping.count(integration, context, event, key_state, active_alert, status, now)
        return replace(decision, key_state=_advance_source_time(decision.key_state, context, event))
    actor = actor_of(integration)
    mapped = _mapped_fields(integration, event, active_alert)
    if not context.may_page:
        mapped = _without_paging_fields(mapped)
    echoed_write_id = (
        context.recent_writes.echo_of_agent(event)
        if context.recent_writes is not None and "agent" in event.mapped.values
        else None
    )
    if echoed_write_id == 0:
        # The message is older than what Tocsin knows about the assignee: leave that for the next fetch of the ticket.
        mapped = _without_agent(mapped)
    written_fields = context.recent_writes.match_written_fields(event) if context.recent_writes is not None else {}
    if echoed_write_id:
        written_fields["source_agent"] = echoed_write_id
    update = source.compare_fields(active_alert.state.id, active_alert.fields, mapped, actor, now, written_fields)
    changes: list[AlertChange] = []
    state = active_alert.state
    new_priority = _changed_priority(event, active_alert) if context.may_page else None
    new_state = (
        replace_state(state, priority=new_priority)
        if new_priority is not None and new_priority is not state.priority
        else state
    )
    events = [update.event] if update.event is not None else []
    team_change = (
        _describe_team_change(active_alert, mapped) if context.may_page and "team" not in written_fields else NO_REASON
    )
    is_own_priority = "source_priority" in written_fields
    is_raised = new_state.priority.is_above(state.priority) and not is_own_priority
    paging_change = (
        start_paging.start_paging(integration, context, event, active_alert, now)
        if status is MessageStatus.APPENDED
        else None
    )
    paging_start = paging_change.paging_start if paging_change is not None else None
    if (team_change or is_raised or paging_start) and state.status is not AlertStatus.MERGED:
        paging, _ = build_paging_config(integration, context, event, now)
        change = AlertChange(
            state,
            new_state,
            tuple(events),
            paging=paging,
            reassignment_reason=team_change,
            is_echoed_priority=is_own_priority,
            paging_start=paging_start,
            was_dry_run=active_alert.is_dry_run,
        )
        changes.append(change)
        active_alert = replace(active_alert, is_paging=active_alert.is_paging or paging.mode is PagingMode.PAGE)
    elif events or new_state != state:
        changes.append(AlertChange(state, new_state, tuple(events), is_echoed_priority=is_own_priority))
    state = new_state
    # An agent that Tocsin itself wrote is nobody's action.
    agent_change = (
        _agent_change(integration, active_alert, state, event, actor, now)
        if context.may_page and echoed_write_id is None
        else None
    )
    if agent_change is not None:
        changes.append(agent_change)
        state = agent_change.after
    noise_changes = None
    if key_state.parent is not None:
        parent_update = merge_propagation.propagate_to_parent(
            integration,
            context,
            event,
            key_state.parent,
            active_alert,
            status,
            new_state.priority if is_raised else None,
            now,
        )
        changes.extend(parent_update.changes)
        paging_change, noise_changes = (
            parent_update.paging_change,
            NoiseChanges(active_alerts={key_state.parent.state.id: parent_update.parent}),
        )
    # An opening message of a merged alert's key counts on the parent, which is the alert shown to users.
    counted_alert_id = (
        active_alert.parent_id
        if status is MessageStatus.APPENDED and active_alert.parent_id is not None
        else active_alert.state.id
    )
    field_changes = update.changes if counted_alert_id == active_alert.state.id else None
    new_key_state = replace(
        _advance_source_time(key_state, context, event), active_alert=_refreshed(active_alert, state, update.changes)
    )
    return Decision(
        status,
        _refresh_reason(event, status, update, counted_alert_id, paging_change),
        new_key_state,
        counted_alert_id,
        changes=tuple(changes),
        repeated_messages=RepeatedMessages(counted_alert_id, 1, context.received_at, field_changes or None),
        updates_key=True,
        echoed_write_ids=_resolved_write_ids(context, echoed_write_id, agent_change, written_fields),
        noise_changes=noise_changes,
    )


def _changed_priority(event: NormalizedEvent, active_alert: ActiveAlert) -> Priority | None:
    """Returns the message's priority unless the source sent the same before: a merge, a workflow or a user may have
    changed the alert's priority since, and a repeated message must not revert that."""
    priority = priority_of(event)
    return None if priority is not None and active_alert.fields.get("source_priority") == priority else priority


def _resolved_write_ids(
    context: MessageContext,
    echoed_write_id: int | None,
    agent_change: AlertChange | None,
    written_fields: Mapping[str, int],
) -> tuple[int, ...]:
    """Returns the writes that no longer await their echo: the write of an agent, priority or team that this message
    echoes. If the ticket was reassigned since, that is the last write of an agent: the same agent seen once more is
    then somebody's action."""
    if echoed_write_id:
        return (echoed_write_id,)
    if write_ids := tuple({written_fields[name] for name in ("source_priority", "team") if name in written_fields}):
        return write_ids
    return (
        context.recent_writes.superseded_writes()
        if agent_change is not None and context.recent_writes is not None
        else ()
    )


def _describe_team_change(active_alert: ActiveAlert, mapped: Mapping[str, object]) -> Reason:
    """Returns the start of a sentence if the source moved the ticket to another team, else `NO_REASON`."""
    before, after = active_alert.fields.get("team"), mapped.get("team")
    if before and after and before != after:
        return reasons.TEAM_CHANGED(before=str(before), after=str(after))
    return NO_REASON


def _agent_change(
    integration: CompiledIntegration,
    active_alert: ActiveAlert,
    state: AlertState,
    event: NormalizedEvent,
    actor: Actor,
    now: datetime,
) -> AlertChange | None:
    """Returns the effect of a changed agent. A message without the agent field changes nothing."""
    if not integration.normalizer.kind.assigns_source_agent or "agent" not in event.mapped.values:
        return None
    if not event.mapped.is_nobody("agent") and _is_same_agent(active_alert, event):
        return None
    custom = active_alert.fields.get("custom")
    agent_id = str(custom.get("agent_id") or "") if isinstance(custom, Mapping) else ""
    before = integration.find_agent(str(active_alert.fields.get("source_agent") or ""), agent_id=agent_id)
    outcome = source.apply_agent_change(state, before, integration.ticket_agent(event), actor, now)
    return AlertChange(state, outcome.state, outcome.events) if outcome.is_change else None


def _refreshed(active_alert: ActiveAlert, state: AlertState, changes: Mapping[str, object]) -> ActiveAlert:
    return replace(
        active_alert, state=state, fields={**active_alert.fields, **changes} if changes else active_alert.fields
    )


def _refresh_reason(
    event: NormalizedEvent,
    status: MessageStatus,
    update: source.SourceUpdate,
    alert_id: int,
    paging_change: PagingChange | None,
) -> Reason:
    why = event.rule_match.reason
    if status is MessageStatus.APPENDED:
        effect = paging_change.remark if paging_change is not None else reasons.COUNTED()
        return reasons.APPENDED(why=why, alert=AlertRef(alert_id), key=_describe_key(event), effect=effect)
    if update.event is not None:
        return reasons.UPDATED(why=why, change=as_reason(update.event.reason))
    return reasons.UNCHANGED(why=why)


def _mapped_fields(
    integration: CompiledIntegration, event: NormalizedEvent, active_alert: ActiveAlert
) -> dict[str, object]:
    """Returns the message's values by alert column; fields that it does not contain are omitted."""
    fields: dict[str, object] = dict(columns_of(integration, event))
    custom = custom_of(event)
    if event.mapped.is_nobody("agent"):
        fields["source_agent"] = ""
        previous_custom = active_alert.fields.get("custom")
        if isinstance(previous_custom, Mapping) and previous_custom.get("agent_id"):
            custom["agent_id"] = ""
    elif _is_same_agent(active_alert, event):
        # Shorter messages contain only the agent's number, which must not overwrite the name.
        fields.pop("source_agent", None)
    if event.mapped.tags:
        fields["tags"] = dict(event.mapped.tags)
    if custom:
        fields["custom"] = custom
    return fields


def _without_paging_fields(mapped: Mapping[str, object]) -> dict[str, object]:
    """Removes assignee and priority for a replay that must not page, because both influence paging."""
    return {name: value for name, value in _without_agent(mapped).items() if name != "source_priority"}


def _without_agent(mapped: Mapping[str, object]) -> dict[str, object]:
    """Removes the ticket's agent from the mapped values."""
    remaining = {name: value for name, value in mapped.items() if name != "source_agent"}
    custom = remaining.get("custom")
    if isinstance(custom, Mapping):
        remaining["custom"] = {name: value for name, value in custom.items() if name != "agent_id"}
    return remaining


def _is_same_agent(active_alert: ActiveAlert, event: NormalizedEvent) -> bool:
    """Returns whether the message's agent number is that of the alert's agent, whose name is known already."""
    agent_id = event.mapped.text("agent_id")
    custom = active_alert.fields.get("custom")
    is_same = bool(agent_id) and isinstance(custom, Mapping) and custom.get("agent_id") == agent_id
    return is_same and active_alert.fields.get("source_agent") != f"Agent {agent_id}"


def _changed_fields(
    integration: CompiledIntegration, active_alert: ActiveAlert, event: NormalizedEvent
) -> Mapping[str, object] | None:
    """Returns the fields that a closing message changes, so that the alert shows the source's last values."""
    update = source.compare_fields(
        active_alert.state.id,
        active_alert.fields,
        _mapped_fields(integration, event, active_alert),
        actor_of(integration),
        active_alert.state.opened_at,
    )
    return update.changes or None


def actor_of(integration: CompiledIntegration) -> Actor:
    """Returns the integration as an actor."""
    return Actor(ActorKind.INTEGRATION, integration.display_source)


def _advance_source_time(key_state: DedupKeyState, context: MessageContext, event: NormalizedEvent) -> DedupKeyState:
    """Returns the key with its newest source time advanced; a replay does not advance it."""
    at = event.source_time
    if (
        at is None
        or context.replay_of is not None
        or (key_state.latest_source_time is not None and at <= key_state.latest_source_time)
    ):
        return key_state
    if at - context.received_at > MAX_CLOCK_AHEAD:
        # A clock that is days ahead would make all following messages late.
        return key_state
    return replace(key_state, latest_source_time=at)


def _ignored(reason: Reason, key_state: DedupKeyState) -> Decision:
    return Decision(MessageStatus.IGNORED, reason, key_state)


def decide_disabled() -> Decision:
    """Returns the decision on any message to a disabled integration."""
    return _ignored(reasons.DISABLED(), DedupKeyState())


def decide_without_ticket() -> Decision:
    """Returns the decision on a webhook call without a ticket, such as the test when a user sets the webhook up."""
    return _ignored(reasons.WITHOUT_TICKET(), DedupKeyState())


def decide_failed(rejected: Rejected) -> Decision:
    """Returns the decision on a message that is unreadable or lacks a required id."""
    reason = _truncate(rejected.reason)
    return Decision(MessageStatus.FAILED, reason, DedupKeyState(), verdict={"error": rejected.code})


def _describe_key(event: NormalizedEvent) -> Reason:
    return reasons.KEY(source_id=event.source_id) if event.source_id else reasons.NO_KEY()


def _truncate(reason: Reason) -> Reason:
    """Shortens the texts in a reason, which may contain a part of the message."""
    params = (
        (name, f"{value[: MAX_TEXT_CHARS - 1]}…" if isinstance(value, str) and len(value) > MAX_TEXT_CHARS else value)
        for name, value in reason.params
    )
    return Reason(reason.code, tuple(params))
