"""Fail open: an unreadable message opens an alert that contains its text, at most one per ten minutes. Pure."""

from __future__ import annotations

from datetime import timedelta

from msgspec.structs import replace

from tocsin.alerts.change_handlers import AlertChange, PagingConfig, PagingMode, PagingStart
from tocsin.alerts.commands import AlertState, NewEvent
from tocsin.alerts.new_alert import AlertCreation, NewAlert, RepeatedMessages
from tocsin.alerts.states import AlertStatus, CommandChannel, EventKind, Priority
from tocsin.core.errors import Rejected
from tocsin.core.ids import key_hash
from tocsin.core.reasons import Reason, as_reason
from tocsin.core.validation.text_sanitizing import sanitize
from tocsin.inbound.config.compiled_integration import CompiledIntegration, PolicyEntry
from tocsin.inbound.deciding import reasons
from tocsin.inbound.deciding.alert_creation import build_test_paging_config, describe_policy
from tocsin.inbound.deciding.echo_suppression import has_no_ticket
from tocsin.inbound.deciding.state import ActiveAlert, Decision, DedupKeyState, MessageContext, NoiseChanges
from tocsin.inbound.enums import IntegrationMode, MessageStatus

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
    creation = _create_alert(context, rejected)
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
    counted_decision = replace(decision, repeated_messages=repeated_messages, alert_id=alert_id)
    target = active_alert if active_alert.parent_id is None else key_state.parent
    paging = _paging_config(context, _find_policy(integration))
    if target is None or target.is_paging or paging.mode is not PagingMode.PAGE:
        return counted_decision
    paging_start = PagingStart(reasons.PAGING_STARTED_UNREADABLE(integration=integration.name))
    change = AlertChange(
        target.state, target.state, (), paging=paging, paging_start=paging_start, was_dry_run=target.is_dry_run
    )
    paging_alert = replace(target, is_paging=True)
    if target is active_alert:
        return replace(counted_decision, key_state=replace(key_state, active_alert=paging_alert), changes=(change,))
    return replace(
        counted_decision, noise_changes=NoiseChanges(active_alerts={alert_id: paging_alert}), changes=(change,)
    )


def _create_alert(context: MessageContext, rejected: Rejected) -> AlertCreation:
    integration, alert_id, now = context.integration, context.new_alert_id, context.now
    policy = _find_policy(integration)
    paging = _paging_config(context, policy)
    excerpt = sanitize(context.raw[:MAX_EXCERPT_CHARS].decode("utf-8", "replace"))
    alert = NewAlert(
        id=alert_id,
        priority=policy.default_priority if policy is not None else Priority.HIGH,
        subject=f"{integration.name} sent a message that could not be parsed",
        opened_at=now,
        key_hash=context.key_hash,
        source=integration.source,
        columns={"long_text": f"{rejected.detail}\n\n{excerpt}"},
        integration_id=integration.id,
        previous_alert_id=context.key_state.last_alert_id,
        last_message_at=context.received_at,
        dry_run=paging.mode is PagingMode.DRY_RUN,
        is_test=context.test_user_id is not None,
    )
    reason = reasons.ALERT_OPENED_UNREADABLE(
        integration=integration.name, problem=rejected.reason, paging=as_reason(paging.reason)
    )
    data: dict[str, object] = {"message_id": str(context.message_id)}
    timeline_event = NewEvent(alert_id, EventKind.OPENED, now, integration.actor, reason, CommandChannel.INBOUND, data)
    return AlertCreation(alert, paging, timeline_event)


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
