"""Maps an alert change to the triggers it fires, each with a reason. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from tocsin.alerts.change_handlers import AlertChange
from tocsin.alerts.commands import AlertState, NewEvent
from tocsin.alerts.states import ACTIVE, EventKind
from tocsin.core.reasons import NO_REASON, Reason, as_reason
from tocsin.workflows.definition.definition import Trigger
from tocsin.workflows.states import SLA, TriggerKind

_BY_EVENT: Mapping[EventKind, TriggerKind] = {
    EventKind.UPDATED: TriggerKind.UPDATED,
    EventKind.ACKNOWLEDGED: TriggerKind.ACKNOWLEDGED,
    EventKind.ASSIGNED: TriggerKind.ASSIGNED,
    EventKind.ESCALATION_EXHAUSTED: TriggerKind.EXHAUSTED,
    EventKind.REPLIED: TriggerKind.REPLY,
    EventKind.CLOSED: TriggerKind.CLOSED,
    EventKind.CANCELLED: TriggerKind.CLOSED,
}

_AT_OPENING = (TriggerKind.OPENED, TriggerKind.UNACKNOWLEDGED, TriggerKind.UNASSIGNED, TriggerKind.EVERY, *SLA)

_MOMENTS = ("custom.respond_by", "custom.fix_by")


def fired_triggers(change: AlertChange) -> dict[TriggerKind, Reason]:
    """The triggers with what happened. Timed triggers start waiting.

    A dry-run alert counts as opened when it starts to page.
    """
    reason = next((as_reason(event.reason) for event in change.events), NO_REASON)
    if change.before is None:
        return dict.fromkeys(_AT_OPENING, reason)
    opening_triggers: dict[TriggerKind, Reason] = {}
    if change.is_opening:
        opening_triggers = dict.fromkeys(
            _AT_OPENING, as_reason(change.paging_start.reason) if change.paging_start is not None else reason
        )
    # Another policy may have another SLA.
    fired: dict[TriggerKind, Reason] = dict.fromkeys(SLA, reason) if change.paging is not None else {}
    for event in change.events:
        kind = _BY_EVENT.get(event.kind)
        if event.kind is EventKind.STEP_FIRED and (event.data.get("step"), event.data.get("pass")) != (1, 1):
            kind = TriggerKind.ESCALATED
        if kind is not None and not _is_own_write(event) and event.alert_id == change.alert_id:
            fired.setdefault(kind, as_reason(event.reason))
        changes = event.data.get("changes")
        if isinstance(changes, Mapping):
            if any(name in changes for name in _MOMENTS):
                fired |= dict.fromkeys(SLA, as_reason(event.reason))
            if "source_status" in changes and "source_status" not in _own_changes(event):
                fired[TriggerKind.STATUS_CHANGED] = as_reason(event.reason)
    return fired | _by_state(change.before, change.after, reason) | opening_triggers


def _is_own_write(event: NewEvent) -> bool:
    """Whether the event consists only of Tocsin's own changes at the source."""
    changes = event.data.get("changes")
    return isinstance(changes, Mapping) and bool(changes) and _own_changes(event) >= set(changes)


def _own_changes(event: NewEvent) -> frozenset[str]:
    """The changes in a message that Tocsin itself made at the source."""
    names = event.data.get("own")
    return frozenset(names) if isinstance(names, list) else frozenset()


def _by_state(before: AlertState, after: AlertState, reason: Reason) -> dict[TriggerKind, Reason]:
    fired: dict[TriggerKind, Reason] = {}
    if before.status is not after.status or before.acknowledged != after.acknowledged:
        fired[TriggerKind.STATUS_CHANGED] = reason
    if after.status not in ACTIVE:
        return fired
    is_reactivated = before.status not in ACTIVE
    if (is_reactivated or is_acknowledged(before)) and not is_acknowledged(after):
        fired[TriggerKind.UNACKNOWLEDGED] = reason
    if (is_reactivated or before.is_owned) and not after.is_owned:
        fired[TriggerKind.UNASSIGNED] = reason
    if is_reactivated:
        fired |= dict.fromkeys((TriggerKind.EVERY, *SLA), reason)
    return fired


def is_acknowledged(alert: AlertState) -> bool:
    """Whether the alert is acknowledged or assigned."""
    return bool(alert.acknowledged) or alert.is_owned


def due_at(trigger: Trigger, now: datetime) -> datetime:
    """When a run of this trigger is first due. SLA moments are looked up immediately."""
    if trigger.on in (TriggerKind.UNACKNOWLEDGED, TriggerKind.UNASSIGNED, TriggerKind.EVERY):
        return now + timedelta(seconds=trigger.span)
    return now
