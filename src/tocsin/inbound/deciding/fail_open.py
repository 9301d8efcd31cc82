"""Fail open: an unreadable message opens an alert that contains its text, at most one per ten minutes. Pure."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from msgspec.structs import replace

from tocsin.alerts.change_handlers import AlertChange, PagingConfig, PagingMode, PagingStart
from tocsin.alerts.commands import Actor, AlertState, NewEvent
from tocsin.alerts.new_alert import AlertCreation, NewAlert, RepeatedMessages
from tocsin.alerts.states import ActorKind, AlertStatus, CommandChannel, EventKind, Priority
from tocsin.core.errors import Rejected
from tocsin.core.ids import key_hash
from tocsin.core.reasons import as_reason
from tocsin.core.validation.text_sanitizing import sanitize
from tocsin.inbound.config.compiled_integration import CompiledIntegration, PolicyEntry
from tocsin.inbound.deciding import reasons
from tocsin.inbound.deciding.alert_creation import build_test_paging_config, describe_policy
from tocsin.inbound.deciding.state import ActiveAlert, Decision, DedupKeyState, MessageContext, NoiseChanges
from tocsin.inbound.enums import IntegrationMode

#: At most one alert per integration in this interval.
REPORT_INTERVAL = timedelta(minutes=10)

#: The maximum length of the excerpt in the alert.
MAX_EXCERPT_CHARS = 4_000


def key_of(integration: CompiledIntegration, test_id: str = "") -> bytes:
    """Returns the key hash of an integration's alert about unreadable messages; each test has its own."""
    return key_hash(f"\x1funreadable\x1f{integration.id}" + (f"\x1ftest\x1f{test_id}" if test_id else ""))


def fail_open(
    integration: CompiledIntegration,
    context: MessageContext,
    decision: Decision,
    rejected: Rejected,
    raw: bytes,
    key_state: DedupKeyState,
    dedup_key_hash: bytes,
    next_id: Callable[[], int],
    now: datetime,
) -> Decision:
    """Adds to a failed message's decision the alert that it opens or counts on, if the setting is on."""
    if integration.settings.get("fail_open", True) is False:
        return replace(decision, key_state=key_state)
    if key_state.active_alert is not None:
        return _count(integration, context, decision, key_state, key_state.active_alert)
    if key_state.latest_source_time is not None and abs(now - key_state.latest_source_time) < REPORT_INTERVAL:
        return replace(decision, key_state=key_state)
    alert_id = next_id()
    creation = _create_alert(
        integration, context, rejected, raw, alert_id, dedup_key_hash, key_state.last_alert_id, now
    )
    state = AlertState(alert_id, AlertStatus.OPEN, creation.alert.priority, now)
    return replace(
        decision,
        key_state=DedupKeyState(
            ActiveAlert(state, {}, is_paging=creation.paging.mode is PagingMode.PAGE), now, alert_id
        ),
        alert_id=alert_id,
        creation=creation,
        updates_key=True,
    )


def _count(
    integration: CompiledIntegration,
    context: MessageContext,
    decision: Decision,
    key_state: DedupKeyState,
    active_alert: ActiveAlert,
) -> Decision:
    """Counts the message on the active alert, or on its parent if merged. That alert starts paging if it has paged
    nobody so far."""
    alert_id = active_alert.state.id if active_alert.parent_id is None else active_alert.parent_id
    repeated_messages = RepeatedMessages(alert_id, 1, context.received_at)
    counted_decision = replace(decision, key_state=key_state, repeated_messages=repeated_messages, alert_id=alert_id)
    target = active_alert if active_alert.parent_id is None else key_state.parent
    paging = _paging_config(integration, context, _find_policy(integration))
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


def _create_alert(
    integration: CompiledIntegration,
    context: MessageContext,
    rejected: Rejected,
    raw: bytes,
    alert_id: int,
    dedup_key_hash: bytes,
    previous_alert_id: int | None,
    now: datetime,
) -> AlertCreation:
    policy = _find_policy(integration)
    paging = _paging_config(integration, context, policy)
    excerpt = sanitize(raw[:MAX_EXCERPT_CHARS].decode("utf-8", "replace"))
    alert = NewAlert(
        id=alert_id,
        priority=policy.default_priority if policy is not None else Priority.HIGH,
        subject=f"{integration.name} sent something Tocsin cannot read",
        opened_at=now,
        key_hash=dedup_key_hash,
        source=integration.source,
        columns={"long_text": f"{rejected.detail}\n\n{excerpt}"},
        integration_id=integration.id,
        previous_alert_id=previous_alert_id,
        last_message_at=context.received_at,
        dry_run=paging.mode is PagingMode.DRY_RUN,
        is_test=context.test_user_id is not None,
    )
    actor = Actor(ActorKind.INTEGRATION, integration.display_source)
    reason = reasons.ALERT_OPENED_UNREADABLE(
        integration=integration.name, problem=rejected.reason, paging=as_reason(paging.reason)
    )
    data: dict[str, object] = {"message_id": str(context.message_id)}
    timeline_event = NewEvent(alert_id, EventKind.OPENED, now, actor, reason, CommandChannel.INBOUND, data)
    return AlertCreation(alert, paging, timeline_event)


def _find_policy(integration: CompiledIntegration) -> PolicyEntry | None:
    return integration.directory.policies.get(integration.policy_id) if integration.policy_id is not None else None


def _paging_config(
    integration: CompiledIntegration, context: MessageContext, policy: PolicyEntry | None
) -> PagingConfig:
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
