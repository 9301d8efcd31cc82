"""Alerts shared by several dedup keys, and the outcome of delayed alerts. Pure.

A key joins an active alert instead of opening its own, and its messages count there from then on. A group's alert
closes when the last of its keys is over. A child joins and leaves its parent's alert, but never closes it.
"""

from __future__ import annotations

from dataclasses import replace as dataclass_replace
from datetime import datetime

from msgspec.structs import replace

from tocsin.alerts.change_handlers import AlertChange, PagingConfig
from tocsin.alerts.commands import Actor, AlertState, NewEvent
from tocsin.alerts.new_alert import AlertCreation, RepeatedMessages
from tocsin.alerts.states import ActorKind, AlertStatus, CommandChannel, EventKind, Priority
from tocsin.core.ids import key_hash
from tocsin.core.validation.durations import describe
from tocsin.inbound.config.compiled_integration import CompiledIntegration
from tocsin.inbound.config.normalizer import NormalizedEvent
from tocsin.inbound.deciding.alert_creation import priority_of, why_it_pages
from tocsin.inbound.deciding.merge_propagation import propagate_to_parent
from tocsin.inbound.deciding.noise_reduction import NoiseDecision
from tocsin.inbound.deciding.start_paging import PagingChange, start_paging
from tocsin.inbound.deciding.state import (
    ActiveAlert,
    Decision,
    DedupKeyState,
    DelayedAlertState,
    DelayReason,
    GroupJoin,
    KeyRole,
    MessageContext,
    NoiseChanges,
    WaitOutcome,
)
from tocsin.inbound.enums import MessageStatus


def join(
    door: CompiledIntegration,
    arrival: MessageContext,
    reading: NormalizedEvent,
    key: DedupKeyState,
    hashed: bytes,
    answer: NoiseDecision,
    parent: ActiveAlert | None,
    paging: PagingConfig,
    now: datetime,
) -> Decision:
    """Counts the message on the alert that it joins, or on that alert's `parent` if merged. A more urgent message
    raises the alert's priority."""
    live = answer.joins
    assert live is not None
    number, what = live.state.id, what_is(reading)
    actor = Actor(ActorKind.INTEGRATION, door.shown_source)
    event = NewEvent(
        number,
        EventKind.JOINED,
        now,
        actor,
        f"{what} joined: {answer.why}.",
        CommandChannel.INBOUND,
        {"message_id": str(arrival.message_id), "source_id": reading.source_id or ""},
    )
    risen = priority_of(reading) if arrival.may_page else None
    change, state = _risen(live, risen, paging, event)
    woken = start_paging(door, arrival, reading, live, now)
    change = _woken(change, live, woken)
    # A new ticket is news for the parent, even if the merged alert was as urgent before.
    told = (
        propagate_to_parent(door, arrival, reading, parent, live, MessageStatus.APPENDED, risen, now)
        if parent is not None
        else None
    )
    woken = told.woken if told is not None else woken
    counted_on = told.parent.state.id if told is not None else number
    members = live.members + (answer.role is not KeyRole.CHILD)
    after = replace(live, state=state, members=members, pages=live.pages or change.waking is not None)
    waited = _settled(key, MessageStatus.APPENDED, f"it waited, and joined alert {number} then", number)
    return Decision(
        MessageStatus.APPENDED,
        f"{reading.verdict.reason}; it joins alert {number}: {answer.why}{_merged(counted_on, number)}{_said(woken)}",
        replace(key, live=after, shared=number, role=answer.role, last_alert=number, delayed=None),
        counted_on,
        changes=(change, *(told.changes if told is not None else ())),
        counted=RepeatedMessages(counted_on, 1 + _waiting(key), arrival.received_at),
        counts=True,
        shaped=NoiseChanges(
            rate_windows=answer.rate_windows,
            settled=waited,
            join=GroupJoin(number, answer.role, _subject(reading), reading.source_id or ""),
            lives={number: after} if told is None else {number: after, counted_on: told.parent},
            released=answer.released,
        ),
    )


def opened(
    after: DedupKeyState, before: DedupKeyState, answer: NoiseDecision, opening: AlertCreation, reading: NormalizedEvent
) -> tuple[DedupKeyState, NoiseChanges]:
    """Returns the key's state after its alert opened, and further changes: others may join, delays go on."""
    number, live = opening.alert.id, after.live
    assert live is not None
    rate_windows = dict(answer.rate_windows)
    for scope in answer.naming:
        rate_windows[scope] = replace(rate_windows[scope], alert_id=number)
    settled = _settled(before, MessageStatus.APPENDED, f"it waited, and counts on alert {number}", number)
    made = None
    if answer.gathers:
        # The alert about a flood describes none of its members.
        role = KeyRole.FIRST if answer.flood is None else KeyRole.MEMBER
        after = replace(after, shared=number, role=role)
        made = GroupJoin(number, role, _subject(reading), reading.source_id or "")
    lives = {number: live} if answer.gathers else {}
    return after, NoiseChanges(
        rate_windows=rate_windows, settled=settled, join=made, lives=lives, released=answer.released
    )


def shaped_opening(
    opening: AlertCreation,
    answer: NoiseDecision,
    waited: DelayedAlertState | None,
    arrival: MessageContext,
    now: datetime,
) -> AlertCreation:
    """Adds noise reduction to the opening's timeline event. An alert that others may join gets a key of its own."""
    alert, event = opening.alert, opening.event
    said = [event.reason.removesuffix(".")]
    if waited is not None:
        said.append(f"it waited for {describe(now - waited.since)}, and opens {waited.reason}")
        if arrival.waited is None:
            alert = replace(alert, count=alert.count + waited.message_count)
    if answer.why:
        said.append(answer.why)
    if answer.gathers:
        alert = replace(alert, key_hash=key_hash(f"\x1fshared\x1f{arrival.message_id}"))
    if answer.flood is not None:
        limit = answer.flood
        text = f"more than {limit.burst} alerts at once, and more than one each {describe(limit.every)}"
        said.append(f"{text}: this alert stands for all of them")
        columns = {
            "subject": f"Flood of alerts: {alert.subject}",
            "long_text": f"There are {text}. This alert stands for those beyond; it closes when the last of them does.",
        }
        # It belongs to no ticket: actions on it must not be written back to the first alert's ticket.
        alert = replace(alert, subject=columns["subject"], columns=columns, source_id="", custom={})
    return AlertCreation(alert, opening.paging, replace(event, reason=f"{'; '.join(said)}."))


def count(
    door: CompiledIntegration,
    arrival: MessageContext,
    reading: NormalizedEvent,
    key: DedupKeyState,
    live: ActiveAlert,
    status: MessageStatus,
    now: datetime,
) -> Decision:
    """Counts another message of a key that joined: on the parent if the alert is merged and the message opens. The
    alert's values remain those of its first key."""
    number = live.state.id
    changes: tuple[AlertChange, ...] = ()
    state = live.state
    woken = start_paging(door, arrival, reading, live, now) if status is MessageStatus.APPENDED else None
    risen = priority_of(reading) if arrival.may_page else None
    if risen is not None and risen.is_above(state.priority):
        paging, _route = why_it_pages(door, arrival, reading, now)
        actor = Actor(ActorKind.INTEGRATION, door.shown_source)
        said = f"{what_is(reading)}, which joined it, is {risen} now."
        event = NewEvent(number, EventKind.UPDATED, now, actor, said, CommandChannel.INBOUND)
        change, state = _risen(live, risen, paging, event)
        changes = (_woken(change, live, woken),)
    elif woken is not None and woken.waking is not None:
        changes = (_woken(AlertChange(state, state, ()), live, woken),)
    pages = live.pages or any(change.waking is not None for change in changes)
    news = state.priority if state.priority.is_above(live.state.priority) else None
    above = key.parent
    told = propagate_to_parent(door, arrival, reading, above, live, status, news, now) if above is not None else None
    woken = told.woken if told is not None else woken
    counted_on = told.parent.state.id if told is not None and status is MessageStatus.APPENDED else number
    said = f"counted on alert {number}, which it joined{_merged(counted_on, number)}"
    return Decision(
        status,
        f"{reading.verdict.reason}; {said}{_said(woken)}",
        replace(key, live=replace(live, state=state, pages=pages)),
        counted_on,
        changes=(*changes, *(told.changes if told is not None else ())),
        counted=RepeatedMessages(counted_on, 1, arrival.received_at),
        counts=True,
        shaped=NoiseChanges(lives={told.parent.state.id: told.parent}) if told is not None else None,
    )


def _merged(counted_on: int, number: int) -> str:
    return f", and which is merged into alert {counted_on}" if counted_on != number else ""


def leave_group(
    door: CompiledIntegration,
    arrival: MessageContext,
    reading: NormalizedEvent,
    key: DedupKeyState,
    live: ActiveAlert,
    now: datetime,
) -> Decision | None:
    """Ends the key's part in a shared alert; None if it is the last key, which closes the alert."""
    is_child = key.role is KeyRole.CHILD
    others = live.members - (not is_child)
    if others <= 0 and not is_child:
        return None
    number = live.state.id
    goes_on = "is not closed by its children" if is_child else f"goes on for {others} other{'s' if others > 1 else ''}"
    event = NewEvent(
        number,
        EventKind.PART_OVER,
        now,
        Actor(ActorKind.INTEGRATION, door.shown_source),
        f"{what_is(reading)} is over: {reading.verdict.reason}; the alert {goes_on}.",
        CommandChannel.INBOUND,
        {"source_id": reading.source_id or ""},
    )
    after = replace(live, members=others)
    return Decision(
        MessageStatus.UPDATED,
        f"{reading.verdict.reason}; its part is over, alert {number} {goes_on}",
        replace(key, live=None, shared=None, role=None),
        number,
        changes=(AlertChange(live.state, live.state, (event,)),),
        counted=RepeatedMessages(number, 1, arrival.received_at),
        counts=True,
        shaped=NoiseChanges(join=GroupJoin(number, None), lives={number: after}),
    )


# --- Delayed alerts ------------------------------------------------------------------------------------------------


def decide_ended_early(key: DedupKeyState, now: datetime) -> NoiseChanges | None:
    """Returns the outcome of a delayed alert that is closed before it opens; None if none is delayed."""
    delayed = key.delayed
    if delayed is None:
        return None
    reason = f"over after {describe(now - delayed.since)}, before its alert opened ({delayed.reason}); nobody was paged"
    return NoiseChanges(settled=WaitOutcome(MessageStatus.IGNORED, reason))


def is_below_threshold(waited: DelayedAlertState) -> bool:
    """Returns whether a due alert waited for a number of messages that was not reached."""
    return waited.delay_reason is DelayReason.COUNT and not waited.is_released


def decide_below_threshold(
    arrival: MessageContext, key: DedupKeyState, waited: DelayedAlertState, now: datetime
) -> Decision:
    """Ends the delay of the oldest of too few messages; newer messages of the key keep waiting."""
    oldest = waited.triggered_at[0] if waited.triggered_at else arrival.received_at
    span = (waited.due_at or now) - oldest
    if waited.scope is None and arrival.received_at > oldest:
        left = tuple(at for at in waited.triggered_at if at > oldest)
        if left:
            on = replace(
                waited,
                triggered_at=left,
                since=left[0],
                due_at=left[0] + span,
                message_count=max(1, waited.message_count - 1),
            )
            return Decision(MessageStatus.DELAYED, f"its alert opens {waited.reason}", replace(key, delayed=on))
    reason = f"too few came within {describe(span)}: an alert opens {waited.reason}"
    return Decision(MessageStatus.IGNORED, reason, key)


def _settled(key: DedupKeyState, status: MessageStatus, reason: str, alert_id: int) -> WaitOutcome | None:
    return WaitOutcome(status, reason, alert_id) if key.delayed is not None else None


def _waiting(key: DedupKeyState) -> int:
    return key.delayed.message_count if key.delayed is not None else 0


def _risen(
    live: ActiveAlert, priority: Priority | None, paging: PagingConfig, event: NewEvent
) -> tuple[AlertChange, AlertState]:
    state = live.state
    if priority is None or not priority.is_above(state.priority):
        return AlertChange(state, state, (event,)), state
    risen = dataclass_replace(state, priority=priority)
    if state.status is AlertStatus.MERGED:
        # A merged alert pages nobody: its parent does.
        return AlertChange(state, risen, (event,)), risen
    return AlertChange(state, risen, (event,), paging=paging, was_dry_run=live.is_dry_run), risen


def _woken(change: AlertChange, live: ActiveAlert, woken: PagingChange | None) -> AlertChange:
    """Returns the change, extended so that the alert starts paging if it has paged nobody so far."""
    if woken is None or woken.waking is None:
        return change
    return replace(change, paging=woken.paging, waking=woken.waking, was_dry_run=live.is_dry_run)


def _said(woken: PagingChange | None) -> str:
    return f"; {woken.said}" if woken is not None else ""


def what_is(reading: NormalizedEvent) -> str:
    """Returns what the message is about, as the start of a sentence."""
    subject, number = _subject(reading), reading.source_id
    if subject and number:
        return f"{subject} (id {number})"
    return subject or (f"Id {number}" if number else "A message")


def _subject(reading: NormalizedEvent) -> str:
    return (reading.mapped.text("subject") or "")[:120]
