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
from tocsin.core.validation.text_sanitizing import sanitize
from tocsin.inbound.config.compiled_integration import CompiledIntegration, PolicyEntry
from tocsin.inbound.deciding.alert_creation import for_test
from tocsin.inbound.deciding.state import ActiveAlert, Decision, DedupKeyState, MessageContext, NoiseChanges
from tocsin.inbound.enums import IntegrationMode

#: At most one alert per integration in this interval.
REPORT_INTERVAL = timedelta(minutes=10)

#: The maximum length of the excerpt in the alert.
MAX_EXCERPT_CHARS = 4_000


def key_of(door: CompiledIntegration, test_id: str = "") -> bytes:
    """Returns the key hash of an integration's alert about unreadable messages; each test has its own."""
    return key_hash(f"\x1funreadable\x1f{door.id}" + (f"\x1ftest\x1f{test_id}" if test_id else ""))


def fail_open(
    door: CompiledIntegration,
    arrival: MessageContext,
    decision: Decision,
    rejected: Rejected,
    raw: bytes,
    key: DedupKeyState,
    hashed: bytes,
    next_id: Callable[[], int],
    now: datetime,
) -> Decision:
    """Adds to a failed message's decision the alert that it opens or counts on, if the setting is on."""
    if door.settings.get("fail_open", True) is False:
        return replace(decision, key=key)
    if key.live is not None:
        return _count(door, arrival, decision, key, key.live)
    if key.latest_source_time is not None and abs(now - key.latest_source_time) < REPORT_INTERVAL:
        return replace(decision, key=key)
    number = next_id()
    opening = _opening(door, arrival, rejected, raw, number, hashed, key.last_alert, now)
    state = AlertState(number, AlertStatus.OPEN, opening.alert.priority, now)
    return replace(
        decision,
        key=DedupKeyState(ActiveAlert(state, {}, pages=opening.paging.mode is PagingMode.PAGE), now, number),
        alert_id=number,
        opening=opening,
        counts=True,
    )


def _count(
    door: CompiledIntegration, arrival: MessageContext, decision: Decision, key: DedupKeyState, live: ActiveAlert
) -> Decision:
    """Counts the message on the active alert, or on its parent if merged. That alert starts paging if it has paged
    nobody so far."""
    number = live.state.id if live.parent_id is None else live.parent_id
    counted = RepeatedMessages(number, 1, arrival.received_at)
    said = replace(decision, key=key, counted=counted, alert_id=number)
    on = live if live.parent_id is None else key.parent
    paging = _paging(door, arrival, _policy(door))
    if on is None or on.pages or paging.mode is not PagingMode.PAGE:
        return said
    waking = PagingStart(f"{door.name} sent more that Tocsin cannot read, and so far nobody was paged about it")
    change = AlertChange(on.state, on.state, (), paging=paging, waking=waking, was_dry_run=on.is_dry_run)
    awake = replace(on, pages=True)
    if on is live:
        return replace(said, key=replace(key, live=awake), changes=(change,))
    return replace(said, shaped=NoiseChanges(lives={number: awake}), changes=(change,))


def _opening(
    door: CompiledIntegration,
    arrival: MessageContext,
    rejected: Rejected,
    raw: bytes,
    number: int,
    hashed: bytes,
    previous_alert_id: int | None,
    now: datetime,
) -> AlertCreation:
    policy = _policy(door)
    paging = _paging(door, arrival, policy)
    shown = sanitize(raw[:MAX_EXCERPT_CHARS].decode("utf-8", "replace"))
    alert = NewAlert(
        id=number,
        priority=policy.default_priority if policy is not None else Priority.HIGH,
        subject=f"{door.name} sent something Tocsin cannot read",
        opened_at=now,
        key_hash=hashed,
        source=door.source,
        columns={"long_text": f"{rejected.detail}\n\n{shown}"},
        integration_id=door.id,
        previous_alert_id=previous_alert_id,
        last_message_at=arrival.received_at,
        dry_run=paging.mode is PagingMode.DRY_RUN,
        is_test=arrival.test_user_id is not None,
    )
    actor = Actor(ActorKind.INTEGRATION, door.shown_source)
    reason = f"{door.name} sent something Tocsin cannot read: {rejected.detail}; {paging.reason}."
    data: dict[str, object] = {"message_id": str(arrival.message_id)}
    event = NewEvent(number, EventKind.OPENED, now, actor, reason, CommandChannel.INBOUND, data)
    return AlertCreation(alert, paging, event)


def _policy(door: CompiledIntegration) -> PolicyEntry | None:
    return door.directory.policies.get(door.policy_id) if door.policy_id is not None else None


def _paging(door: CompiledIntegration, arrival: MessageContext, policy: PolicyEntry | None) -> PagingConfig:
    if arrival.test_user_id is not None:
        return for_test(arrival.test_user_id)
    mode = PagingMode.DRY_RUN if door.mode is IntegrationMode.DRY_RUN else PagingMode.PAGE
    if not arrival.may_page:
        mode = PagingMode.RECORD
    by = f"policy {policy.name}" if policy is not None else "no policy"
    return PagingConfig(mode, policy.version_id if policy else None, door.recipient_users, door.recipient_groups, by)
