"""Maps an alert change to the triggers it fires, each with a sentence. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from tocsin.alerts.change_handlers import AlertChange
from tocsin.alerts.commands import AlertState, NewEvent
from tocsin.alerts.states import ACTIVE, EventKind
from tocsin.workflows.definition.definition import Trigger
from tocsin.workflows.states import SLA, TriggerKind

_BY_EVENT: Mapping[EventKind, TriggerKind] = {
    EventKind.UPDATED: TriggerKind.UPDATED,
    EventKind.ACKNOWLEDGED: TriggerKind.ACKNOWLEDGED,
    EventKind.ASSIGNED: TriggerKind.ASSIGNED,
    EventKind.ESCALATION_FINISHED: TriggerKind.EXHAUSTED,
    EventKind.REPLIED: TriggerKind.REPLY,
    EventKind.CLOSED: TriggerKind.CLOSED,
    EventKind.CANCELLED: TriggerKind.CLOSED,
}

_AT_OPENING = (TriggerKind.OPENED, TriggerKind.UNACKNOWLEDGED, TriggerKind.UNASSIGNED, TriggerKind.EVERY, *SLA)

_MOMENTS = ("custom.respond_by", "custom.fix_by")


def pulled_triggers(change: AlertChange) -> dict[TriggerKind, str]:
    """The triggers with what happened. Timed triggers start waiting.

    A dry-run alert counts as opened when it starts to page.
    """
    said = next((event.reason for event in change.events), "")
    if change.before is None:
        return dict.fromkeys(_AT_OPENING, said)
    opens: dict[TriggerKind, str] = {}
    if change.is_opening:
        opens = dict.fromkeys(_AT_OPENING, f"{change.waking.why}." if change.waking is not None else said)
    # Another policy may have another SLA.
    found: dict[TriggerKind, str] = dict.fromkeys(SLA, said) if change.paging is not None else {}
    for event in change.events:
        kind = _BY_EVENT.get(event.kind)
        if event.kind is EventKind.STEP_FIRED and (event.data.get("step"), event.data.get("pass")) != (1, 1):
            kind = TriggerKind.ESCALATED
        if kind is not None and not _is_own(event) and event.alert_id == change.alert_id:
            found.setdefault(kind, event.reason)
        changes = event.data.get("changes")
        if isinstance(changes, Mapping):
            if any(name in changes for name in _MOMENTS):
                found |= dict.fromkeys(SLA, event.reason)
            if "source_status" in changes and "source_status" not in _own(event):
                found[TriggerKind.STATUS_CHANGED] = event.reason
    return found | _by_state(change.before, change.after, said) | opens


def _is_own(event: NewEvent) -> bool:
    """Whether the event consists only of Tocsin's own changes at the source."""
    changes = event.data.get("changes")
    return isinstance(changes, Mapping) and bool(changes) and _own(event) >= set(changes)


def _own(event: NewEvent) -> frozenset[str]:
    """The changes in a message that Tocsin itself made at the source."""
    own = event.data.get("own")
    return frozenset(own) if isinstance(own, list) else frozenset()


def _by_state(before: AlertState, after: AlertState, said: str) -> dict[TriggerKind, str]:
    found: dict[TriggerKind, str] = {}
    if before.status is not after.status or before.acknowledged != after.acknowledged:
        found[TriggerKind.STATUS_CHANGED] = said
    if after.status not in ACTIVE:
        return found
    returned = before.status not in ACTIVE
    if (returned or is_acknowledged(before)) and not is_acknowledged(after):
        found[TriggerKind.UNACKNOWLEDGED] = said
    if (returned or before.is_owned) and not after.is_owned:
        found[TriggerKind.UNASSIGNED] = said
    if returned:
        found |= dict.fromkeys((TriggerKind.EVERY, *SLA), said)
    return found


def is_acknowledged(alert: AlertState) -> bool:
    """Whether the alert is acknowledged or assigned."""
    return bool(alert.acknowledged) or alert.is_owned


def due_at(trigger: Trigger, now: datetime) -> datetime:
    """When a run of this trigger is first due. SLA moments are looked up immediately."""
    if trigger.on in (TriggerKind.UNACKNOWLEDGED, TriggerKind.UNASSIGNED, TriggerKind.EVERY):
        return now + timedelta(seconds=trigger.span)
    return now
