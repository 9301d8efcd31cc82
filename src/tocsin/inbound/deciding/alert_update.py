"""Counts a message on its key's active alert: changed values, priority, team and assignee, and what follows. Pure.

A value that Tocsin itself wrote to the ticket is nobody's action.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from tocsin.alerts import source
from tocsin.alerts.change_handlers import AlertChange, PagingMode
from tocsin.alerts.commands import AlertState
from tocsin.alerts.new_alert import RepeatedMessages
from tocsin.alerts.states import AlertStatus, Priority
from tocsin.core.reasons import NO_REASON, AlertRef, Reason, as_reason
from tocsin.inbound.config.normalizer import NormalizedEvent
from tocsin.inbound.deciding import grouping, merge_propagation, reasons
from tocsin.inbound.deciding.alert_creation import build_paging_config, columns_of, custom_of, priority_of
from tocsin.inbound.deciding.start_paging import PagingChange, start_paging
from tocsin.inbound.deciding.state import ActiveAlert, Decision, KeyRole, MessageContext, NoiseChanges
from tocsin.inbound.enums import MessageStatus


def update_alert(
    context: MessageContext, event: NormalizedEvent, active_alert: ActiveAlert, status: MessageStatus
) -> Decision:
    """Counts the message on the active alert; changed values are written and recorded on the timeline."""
    integration, key_state, recent_writes = context.integration, context.key_state, context.recent_writes
    if key_state.role in (KeyRole.MEMBER, KeyRole.CHILD):
        return grouping.count(context, event, active_alert, status)
    mapped = _mapped_fields(context, event, active_alert)
    if not context.may_page:
        mapped = _without_paging_fields(mapped)
    echoed_write_id = (
        recent_writes.echo_of_agent(event) if recent_writes is not None and "agent" in event.mapped.values else None
    )
    if echoed_write_id == 0:
        # The message is older than what Tocsin knows about the assignee: leave that for the next fetch of the ticket.
        mapped = _without_agent(mapped)
    written_fields = recent_writes.match_written_fields(event) if recent_writes is not None else {}
    if echoed_write_id:
        written_fields["source_agent"] = echoed_write_id
    state = active_alert.state
    update = source.compare_fields(
        state.id, active_alert.fields, mapped, integration.actor, context.now, written_fields
    )
    changes: list[AlertChange] = []
    new_priority = _changed_priority(event, active_alert) if context.may_page else None
    new_state = (
        replace(state, priority=new_priority)
        if new_priority is not None and new_priority is not state.priority
        else state
    )
    events = (update.event,) if update.event is not None else ()
    team_change = (
        _describe_team_change(active_alert, mapped) if context.may_page and "team" not in written_fields else NO_REASON
    )
    is_own_priority = "source_priority" in written_fields
    is_raised = new_state.priority.is_above(state.priority) and not is_own_priority
    paging_change = start_paging(context, event, active_alert) if status is MessageStatus.APPENDED else None
    paging_start = paging_change.paging_start if paging_change is not None else None
    if (team_change or is_raised or paging_start) and state.status is not AlertStatus.MERGED:
        paging, _ = build_paging_config(context, event)
        change = AlertChange(
            state,
            new_state,
            events,
            paging=paging,
            reassignment_reason=team_change,
            is_echoed_priority=is_own_priority,
            paging_start=paging_start,
            was_dry_run=active_alert.is_dry_run,
        )
        changes.append(change)
        active_alert = replace(active_alert, is_paging=active_alert.is_paging or paging.mode is PagingMode.PAGE)
    elif events or new_state != state:
        changes.append(AlertChange(state, new_state, events, is_echoed_priority=is_own_priority))
    state = new_state
    # An agent that Tocsin itself wrote is nobody's action.
    agent_change = (
        _agent_change(context, event, active_alert, state) if context.may_page and echoed_write_id is None else None
    )
    if agent_change is not None:
        changes.append(agent_change)
        state = agent_change.after
    noise_changes = None
    if key_state.parent is not None:
        raised_priority = new_state.priority if is_raised else None
        parent_update = merge_propagation.propagate_to_parent(
            context, event, key_state.parent, active_alert, status, raised_priority
        )
        changes.extend(parent_update.changes)
        paging_change = parent_update.paging_change
        noise_changes = NoiseChanges(active_alerts={key_state.parent.state.id: parent_update.parent})
    # An opening message of a merged alert's key counts on the parent, which is the alert shown to users.
    counted_alert_id = (
        active_alert.parent_id
        if status is MessageStatus.APPENDED and active_alert.parent_id is not None
        else active_alert.state.id
    )
    field_changes = update.changes if counted_alert_id == active_alert.state.id else None
    fields = {**active_alert.fields, **update.changes} if update.changes else active_alert.fields
    return Decision(
        status,
        _describe_update(event, status, update, counted_alert_id, paging_change),
        replace(key_state, active_alert=replace(active_alert, state=state, fields=fields)),
        counted_alert_id,
        changes=tuple(changes),
        repeated_messages=RepeatedMessages(counted_alert_id, 1, context.received_at, field_changes or None),
        updates_key=True,
        echoed_write_ids=_resolved_write_ids(context, echoed_write_id, agent_change, written_fields),
        noise_changes=noise_changes,
    )


def changed_fields(
    context: MessageContext, event: NormalizedEvent, active_alert: ActiveAlert
) -> Mapping[str, object] | None:
    """Returns the fields that a closing message changes, so that the alert shows the source's last values.

    The subject stays: that of a closing message often names the recovery, such as "[OK] CPU", not the problem.
    """
    state, mapped = active_alert.state, _mapped_fields(context, event, active_alert)
    mapped.pop("subject", None)
    update = source.compare_fields(state.id, active_alert.fields, mapped, context.integration.actor, state.opened_at)
    return update.changes or None


def describe_key(event: NormalizedEvent) -> Reason:
    """Returns what identifies the message's problem, as part of a sentence."""
    return reasons.KEY(source_id=event.source_id) if event.source_id else reasons.NO_KEY()


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
    context: MessageContext, event: NormalizedEvent, active_alert: ActiveAlert, state: AlertState
) -> AlertChange | None:
    """Returns the effect of a changed agent. A message without the agent field changes nothing."""
    integration = context.integration
    if not integration.normalizer.kind.assigns_source_agent or "agent" not in event.mapped.values:
        return None
    if not event.mapped.is_nobody("agent") and _is_same_agent(active_alert, event):
        return None
    custom = active_alert.fields.get("custom")
    agent_id = str(custom.get("agent_id") or "") if isinstance(custom, Mapping) else ""
    before = integration.find_agent(str(active_alert.fields.get("source_agent") or ""), agent_id=agent_id)
    after = integration.ticket_agent(event)
    outcome = source.apply_agent_change(state, before, after, integration.actor, context.now)
    return AlertChange(state, outcome.state, outcome.events) if outcome.is_change else None


def _describe_update(
    event: NormalizedEvent,
    status: MessageStatus,
    update: source.SourceUpdate,
    alert_id: int,
    paging_change: PagingChange | None,
) -> Reason:
    why = event.rule_match.reason
    if status is MessageStatus.APPENDED:
        effect = paging_change.remark if paging_change is not None else reasons.COUNTED()
        return reasons.APPENDED(why=why, alert=AlertRef(alert_id), key=describe_key(event), effect=effect)
    if update.event is not None:
        return reasons.UPDATED(why=why, change=as_reason(update.event.reason))
    return reasons.UNCHANGED(why=why)


def _mapped_fields(context: MessageContext, event: NormalizedEvent, active_alert: ActiveAlert) -> dict[str, object]:
    """Returns the message's values by alert column; fields that it does not contain are omitted."""
    fields: dict[str, object] = dict(columns_of(context.integration, event))
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
