"""Decides what one message does: `decide(context)` returns its outcome, the state of its key, and all changes. Pure.

Fixed order: disabled integration, unreadable message, duplicate delivery, late arrival, then cancel, close, open,
update. Every outcome has a reason.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from uuid import UUID

import msgspec
from msgspec.structs import replace

from tocsin.alerts import lifecycle
from tocsin.alerts.commands import (
    AlertChange,
    AlertState,
    Cancel,
    Close,
    PagingConfig,
    PagingMode,
    PagingStart,
    RepeatedMessages,
)
from tocsin.alerts.states import AlertStatus, CommandChannel, Priority
from tocsin.core.errors import Rejected
from tocsin.core.ids import key_hash
from tocsin.core.reasons import NO_REASON, AlertRef, Reason, as_reason, reason_as_json
from tocsin.core.validation.inputs import sanitize
from tocsin.inbound.config.compiled_integration import CompiledIntegration, PolicyEntry
from tocsin.inbound.config.normalizer import NormalizedEvent
from tocsin.inbound.config.rules import EventAction, NoiseSettings, RateScope, scope_hash
from tocsin.inbound.deciding import noise_reduction
from tocsin.inbound.deciding import state as reasons
from tocsin.inbound.deciding.alert_creation import (
    PagingChange,
    build_creation,
    build_paging_config,
    build_test_paging_config,
    columns_of,
    create_alert,
    custom_of,
    describe_policy,
    priority_of,
    start_paging,
)
from tocsin.inbound.deciding.noise_reduction import (
    NOISE_TRACE_KEY,
    OPEN_NOW,
    NoiseDecision,
    OpeningAlert,
    reduce_noise,
    trace_entries,
)
from tocsin.inbound.deciding.state import (
    ActiveAlert,
    Decision,
    DedupKeyState,
    DelayedAlertState,
    DelayReason,
    KeyRole,
    LockScopes,
    MessageContext,
    NoiseChanges,
    has_no_ticket,
)
from tocsin.inbound.enums import IntegrationMode, MessageStatus
from tocsin.inbound.mapping.likely_texts import own_words
from tocsin.inbound.parsing.decode import Element

# ---------- fail open
# Fail open: an unreadable message opens an alert that contains its text, at most one per ten minutes. Pure.

#: At most one alert per integration in this interval.
REPORT_INTERVAL = timedelta(minutes=10)

#: The maximum length of a text within the reason of such a message.
MAX_TEXT_CHARS = 300

#: The maximum length of the excerpt in the alert.
MAX_EXCERPT_CHARS = 4_000


def key_of(integration: CompiledIntegration, test_id: str = "") -> bytes:
    """Returns the key hash of an integration's alert about unreadable messages; each test has its own."""
    return key_hash(f"\x1funreadable\x1f{integration.id}" + (f"\x1ftest\x1f{test_id}" if test_id else ""))


def decide_unreadable(context: MessageContext, rejected: Rejected) -> Decision:
    """Returns the decision on a message that is unreadable or lacks a required id, with the alert that it opens or
    counts on if the setting is on."""
    integration, key_state, now = context.integration, context.key_state, context.now
    if has_no_ticket(integration, context.element):
        return Decision(MessageStatus.IGNORED, reasons.WITHOUT_TICKET(), key_state)
    reason = _truncate(rejected.reason)
    decision = Decision(MessageStatus.FAILED, reason, key_state, verdict={"error": rejected.code})
    if context.is_key_blocked or integration.settings.get("fail_open", True) is False:
        return decision
    if key_state.active_alert is not None:
        return _count(context, decision, key_state.active_alert)
    if key_state.latest_source_time is not None and abs(now - key_state.latest_source_time) < REPORT_INTERVAL:
        return decision
    policy = _find_policy(integration)
    paging = _paging_config(context, policy)
    excerpt = sanitize(context.raw[:MAX_EXCERPT_CHARS].decode("utf-8", "replace"))
    said = None
    with suppress(Exception):  # whatever made it unreadable may do so here; the alert opens anyway
        said = own_words(context.element.payload if isinstance(context.element, Element) else None, excerpt)
    why = reasons.ALERT_OPENED_UNREADABLE(
        integration=integration.name, problem=rejected.reason, paging=as_reason(paging.reason)
    )
    creation = build_creation(
        context,
        paging,
        policy.default_priority if policy is not None else Priority.HIGH,
        f"{integration.name} sent a message that could not be parsed{f': {said}' if said else ''}",
        {"long_text": f"{rejected.detail}\n\n{excerpt}"},
        why,
    )
    alert_id = creation.alert.id
    state = AlertState(alert_id, AlertStatus.OPEN, creation.alert.priority, now)
    active_alert = ActiveAlert(state, {}, is_paging=creation.paging.mode is PagingMode.PAGE)
    return replace(
        decision,
        key_state=DedupKeyState(active_alert, now, alert_id),
        alert_id=alert_id,
        creation=creation,
        updates_key=True,
    )


def _truncate(reason: Reason) -> Reason:
    """Shortens the texts in a reason, which may contain a part of the message."""
    params = (
        (name, f"{value[: MAX_TEXT_CHARS - 1]}…" if isinstance(value, str) and len(value) > MAX_TEXT_CHARS else value)
        for name, value in reason.params
    )
    return Reason(reason.code, tuple(params))


def _count(context: MessageContext, decision: Decision, active_alert: ActiveAlert) -> Decision:
    """Counts the message on the active alert, or on its parent if merged. That alert starts paging if it has paged
    nobody so far."""
    integration, key_state = context.integration, context.key_state
    alert_id = active_alert.state.id if active_alert.parent_id is None else active_alert.parent_id
    repeated_messages = RepeatedMessages(alert_id, 1, context.received_at)
    decision = replace(decision, repeated_messages=repeated_messages, alert_id=alert_id)
    target = active_alert if active_alert.parent_id is None else key_state.parent
    paging = _paging_config(context, _find_policy(integration))
    if target is None or target.is_paging or paging.mode is not PagingMode.PAGE:
        return decision
    paging_start = PagingStart(reasons.PAGING_STARTED_UNREADABLE(integration=integration.name))
    change = AlertChange(
        target.state, target.state, (), paging=paging, paging_start=paging_start, was_dry_run=target.is_dry_run
    )
    paging_alert = replace(target, is_paging=True)
    if target is active_alert:
        return replace(decision, key_state=replace(key_state, active_alert=paging_alert), changes=(change,))
    return replace(decision, noise_changes=NoiseChanges(active_alerts={alert_id: paging_alert}), changes=(change,))


def _find_policy(integration: CompiledIntegration) -> PolicyEntry | None:
    return integration.directory.policies.get(integration.policy_id) if integration.policy_id is not None else None


def _paging_config(context: MessageContext, policy: PolicyEntry | None) -> PagingConfig:
    integration = context.integration
    if context.test_user_id is not None:
        return build_test_paging_config(context.test_user_id)
    mode = PagingMode.DRY_RUN if integration.mode is IntegrationMode.DRY_RUN else PagingMode.PAGE
    if not context.may_page:
        mode = PagingMode.LOG_ONLY
    return PagingConfig(
        mode,
        policy.version_id if policy else None,
        integration.recipient_users,
        integration.recipient_groups,
        describe_policy(policy),
    )


# ---------- preprocessing
# Computes what is known of a message before its key is locked: event, key and delivery id. Pure.
# Done on arrival, while the previous batch is being committed. The result is used if the configuration is still the
# same when the message is decided.

#: A delivery's lookup key: the integration, and the SHA-256 of the sender's delivery id.
type DeliveryKey = tuple[int, bytes]


class PreprocessedMessage(msgspec.Struct, frozen=True):
    """A message as normalized for `integration`. `outcome` is None if the integration is disabled: nothing is parsed
    then."""

    integration: CompiledIntegration
    outcome: NormalizedEvent | Rejected | None
    #: SHA-256 of the dedup key.
    key_hash: bytes | None = None
    delivery: DeliveryKey | None = None
    #: Scopes to lock and count in addition to the key.
    scopes: LockScopes | None = None


def prepare(
    integration: CompiledIntegration,
    element: Element | Rejected,
    message_id: UUID,
    *,
    test_id: str = "",
    is_replay: bool = False,
) -> PreprocessedMessage:
    """Normalizes one message. A replay has no delivery id; a test never shares a key with real messages."""
    if integration.mode is IntegrationMode.DISABLED:
        return PreprocessedMessage(integration, None)
    if integration.problem is not None:
        return PreprocessedMessage(integration, integration.problem, key_of(integration, test_id))
    event = element if isinstance(element, Rejected) else integration.normalizer.normalize(element)
    if isinstance(event, Rejected):
        return PreprocessedMessage(integration, event, key_of(integration, test_id))
    key_text = integration.dedup_key(event)
    if key_text is None:
        # Without a dedup key the message is a problem of its own: the message id makes its key unique.
        key_text = f"{integration.source}\x1f\x1f{message_id}"
    dedup_key_hash = key_hash(f"\x1ftest\x1f{test_id}\x1f{key_text}" if test_id else key_text)
    delivery = None
    if event.delivery_id is not None and not is_replay:
        # Not the id alone: a sender that uses one again for another message would have that message ignored. An
        # attachment's address has the id of the message that it came with.
        said = {name: value for name, value in event.mapped.values.items() if name != "attachments"}
        content = msgspec.json.encode((event.delivery_id, event.action, said), enc_hook=str)
        delivery = (integration.id, hashlib.sha256(content).digest())
    scopes = None
    noise_settings = integration.normalizer.noise_settings
    if noise_settings is not None and event.action is EventAction.OPEN and not test_id:
        scopes = _scopes(integration, noise_settings, event, dedup_key_hash)
    return PreprocessedMessage(integration, event, dedup_key_hash, delivery, scopes)


def _scopes(
    integration: CompiledIntegration, noise_settings: NoiseSettings, event: NormalizedEvent, dedup_key_hash: bytes
) -> LockScopes:
    group, parent = noise_settings.group, noise_settings.parent
    group_id = group.render(event.payload, event.mapped) if group is not None else None
    parent_source_id = parent.render(event.payload, event.mapped) if parent is not None else None
    parent_key_hash = None
    if parent_source_id is not None:
        key_text = (
            parent_source_id
            if integration.normalizer.has_key_template
            else f"{event.source_name}\x1f{parent_source_id}"
        )
        parent_key_hash = key_hash(f"{integration.key_source}\x1f{key_text}")
    return LockScopes(
        group=scope_hash(RateScope.GROUP, integration.id, group_id) if group_id is not None else None,
        limit=scope_hash(RateScope.LIMIT, integration.id) if noise_settings.spec.flood is not None else None,
        flapping=scope_hash(RateScope.FLAPPING, integration.id, dedup_key_hash.hex())
        if noise_settings.spec.flapping is not None
        else None,
        alert=scope_hash(RateScope.DELAY, integration.id, dedup_key_hash.hex())
        if noise_settings.counts_alerts
        else None,
        integration=scope_hash(RateScope.DELAY, integration.id) if noise_settings.counts_integration else None,
        parent=parent_key_hash if parent_key_hash != dedup_key_hash else None,
    )


# ---------- alert update
# Counts a message on its key's active alert: changed values, priority, team and assignee, and what follows. Pure.
# A value that Tocsin itself wrote to the ticket is nobody's action.


def update_alert(
    context: MessageContext, event: NormalizedEvent, active_alert: ActiveAlert, status: MessageStatus
) -> Decision:
    """Counts the message on the active alert; changed values are written and recorded on the timeline."""
    integration, key_state, recent_writes = context.integration, context.key_state, context.recent_writes
    if key_state.role in (KeyRole.MEMBER, KeyRole.CHILD):
        return noise_reduction.count(context, event, active_alert, status)
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
    update = lifecycle.compare_fields(
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
        parent_update = noise_reduction.propagate_to_parent(
            context, event, key_state.parent, active_alert, status, raised_priority, paging_change
        )
        changes.extend(parent_update.changes)
        paging_change = parent_update.paging_change
        noise_changes = NoiseChanges(active_alerts=parent_update.active_alerts)
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
    update = lifecycle.compare_fields(state.id, active_alert.fields, mapped, context.integration.actor, state.opened_at)
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
    outcome = lifecycle.apply_agent_change(state, before, after, integration.actor, context.now)
    return AlertChange(state, outcome.state, outcome.events) if outcome.is_change else None


def _describe_update(
    event: NormalizedEvent,
    status: MessageStatus,
    update: lifecycle.SourceUpdate,
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


# ---------- opening
# Decides a message that opens: filters, route, noise reduction; then a new alert, a delay, or a shared alert. Pure.


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
        return replace(noise_reduction.join(opening, noise_decision, noise_decision.joined_alert), verdict=verdict)
    return _create(opening, noise_decision, verdict)


def delayed_decision(context: MessageContext, event: NormalizedEvent, delayed: DelayedAlertState) -> Decision:
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
        remarks = noise_reduction.opening_remarks(noise_decision, delayed, context.now)
        creation = create_alert(context, event, opening.paging, opening.route, remarks)
        creation = noise_reduction.adapt_creation(creation, noise_decision, delayed, context)
    alert = creation.alert
    state = AlertState(alert_id, AlertStatus.OPEN, alert.priority, alert.opened_at)
    changes: tuple[AlertChange, ...] = ()
    if (
        integration.settings.get("owned_ticket_stops")
        and (agent := integration.ticket_agent(event)).text
        and noise_decision.flood is None
    ):
        assignment = lifecycle.apply_agent_change(state, lifecycle.TicketAgent(), agent, integration.actor, context.now)
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
        new_key_state, noise_changes = noise_reduction.apply_opening(
            new_key_state, opening, noise_decision, active_alert
        )
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
    if (
        due_delay is not None
        and active_alert is None
        and due_delay.delay_reason is DelayReason.COUNT
        and not due_delay.is_released
    ):
        # It waited for a number of messages that was not reached.
        return noise_reduction.decide_below_threshold(context, due_delay)
    if recent_writes is not None and (echoed_ids := recent_writes.echoed_status_writes(event)) is not None:
        # Tocsin wrote this status itself, so the message is nobody's action: it only refreshes the alert's fields.
        if active_alert is None:
            reason = reasons.ECHO_WITHOUT_ALERT()
            return Decision(MessageStatus.IGNORED, reason, key_state, echoed_write_ids=echoed_ids)
        decision = update_alert(context, event, active_alert, MessageStatus.UPDATED)
        return replace(decision, echoed_write_ids=(*decision.echoed_write_ids, *echoed_ids))
    match _action_of(context, event):
        case EventAction.CANCEL | EventAction.CLOSE:
            return _end_early(context, event) if active_alert is None else _end_alert(context, event, active_alert)
        case EventAction.OPEN:
            if active_alert is not None:
                return update_alert(context, event, active_alert, MessageStatus.APPENDED)
            if (
                key_state.last_alert_id is not None
                and recent_writes is not None
                and not recent_writes.may_reopen(event)
            ):
                reason = reasons.ECHO_OPENS_NOTHING(key=describe_key(event))
                return Decision(MessageStatus.IGNORED, reason, key_state)
            return open_alert(context, event)
        case EventAction.UPDATE:
            if active_alert is not None:
                return update_alert(context, event, active_alert, MessageStatus.UPDATED)
            if key_state.delayed is not None:
                return delayed_decision(context, event, noise_reduction.count_on_delayed(context, event))
            why, key = event.rule_match.reason, describe_key(event)
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
    noise_changes = noise_reduction.decide_ended_early(context)
    if noise_changes is not None:
        reason = reasons.ENDED_BEFORE_OPENING(why=why, effect=reasons.CLOSED_TOO_EARLY())
    else:
        reason = reasons.NO_ALERT_TO_CLOSE(why=why, effect=reasons.NOTHING_OPEN(key=describe_key(event)))
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
        leave_decision = noise_reduction.leave_group(context, event, active_alert)
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
            alert_id, 1, context.received_at, changed_fields(context, event, active_alert)
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
