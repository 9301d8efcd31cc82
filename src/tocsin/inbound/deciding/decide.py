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
from tocsin.inbound.config.compiled_integration import CompiledIntegration
from tocsin.inbound.config.normalizer import NormalizedEvent
from tocsin.inbound.config.rules import EventAction
from tocsin.inbound.deciding import grouping, merge_propagation, noise_reduction, start_paging
from tocsin.inbound.deciding.alert_creation import columns_of, custom_of, open_alert, priority_of, why_it_pages
from tocsin.inbound.deciding.noise_trace import GATE, trace_entries
from tocsin.inbound.deciding.start_paging import PagingChange
from tocsin.inbound.deciding.state import (
    ALONE,
    UNCOUNTED,
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

MAX_REASON = 300

#: A source time further ahead than this comes from a wrong clock and is ignored.
MAX_AHEAD = timedelta(days=1)


#: Allocates the id of a new alert; called at most once per decision, and only if an alert opens.
type NextId = Callable[[], int]


def decide(
    door: CompiledIntegration,
    arrival: MessageContext,
    reading: NormalizedEvent,
    key: DedupKeyState,
    seen: DuplicateDelivery | None,
    key_hash: bytes,
    next_id: NextId,
    now: datetime,
    scopes: LockScopes | None = None,
    standing: NoiseState = ALONE,
) -> Decision:
    """Returns the decision on a message. `seen` is the decided message with the same delivery id, if any; `scopes` and
    `standing` are the noise reduction's lock scopes and state."""
    if arrival.replay_of is None and arrival.waited is None:
        if seen is not None:
            return Decision(
                MessageStatus.IGNORED, f"same delivery as message {seen.message_id}", key, alert_id=seen.alert_id
            )
        if is_late(reading, key):
            assert reading.source_time is not None
            assert key.latest_source_time is not None
            reason = (
                f"arrived late: it is of {_clock(reading.source_time)}, "
                f"and one of {_clock(key.latest_source_time)} came before it"
            )
            return Decision(MessageStatus.IGNORED, reason, key, alert_id=key.live.state.id if key.live else None)
    decision = _by_intent(
        door, arrival, reading, key, _OpeningInputs(key_hash, next_id, scopes or UNCOUNTED, standing), now
    )
    verdict = {"rule": reading.intent.value, "why": reading.verdict.reason, **decision.verdict}
    if reading.notes:
        verdict["notes"] = [note[:120] for note in reading.notes[:3]]
    reason = f"{decision.reason}; {arrival.unasked}" if arrival.unasked else decision.reason
    return replace(decision, verdict=verdict, reason=_cut(reason))


def is_late(reading: NormalizedEvent, key: DedupKeyState) -> bool:
    """Returns whether a newer message of the key has counted. An equal source time is not late."""
    return (
        reading.source_time is not None
        and key.latest_source_time is not None
        and reading.source_time < key.latest_source_time
    )


class _OpeningInputs(Struct, frozen=True):
    """Further inputs needed if an alert opens."""

    key_hash: bytes
    next_id: NextId
    scopes: LockScopes
    standing: NoiseState


def _by_intent(
    door: CompiledIntegration,
    arrival: MessageContext,
    reading: NormalizedEvent,
    key: DedupKeyState,
    opening: _OpeningInputs,
    now: datetime,
) -> Decision:
    if arrival.waited is not None and key.live is None and grouping.is_below_threshold(arrival.waited):
        return grouping.decide_below_threshold(arrival, key, arrival.waited, now)
    if (echo := _own_status(arrival, reading)) is not None:
        # Tocsin wrote this status itself, so the message is nobody's action: it only refreshes the alert's fields.
        if key.live is None:
            return replace(_ignored("Tocsin itself set this status; no alert is open", key), came_back=echo)
        done = _refresh(door, arrival, reading, key, key.live, MessageStatus.UPDATED, now)
        return replace(done, came_back=(*done.came_back, *echo))
    match reading.intent:
        case EventAction.CANCEL | EventAction.CLOSE:
            return _end(door, arrival, reading, key, now)
        case EventAction.OPEN:
            if key.live is None:
                if key.last_alert is not None and arrival.own is not None and not arrival.own.reopens(reading):
                    return _ignored(f"Tocsin itself wrote on {_what(reading)}: that opens nothing again", key)
                return _open(door, arrival, reading, key, opening, now)
            return _refresh(door, arrival, reading, key, key.live, MessageStatus.APPENDED, now)
        case EventAction.UPDATE:
            if key.live is None and key.delayed is not None:
                delayed = noise_reduction.is_still_delayed(key, arrival, reading, now)
                return _waits(arrival, reading, replace(key, delayed=delayed), delayed)
            if key.live is None:
                return _ignored(f"{reading.verdict.reason}; no alert is open for {_what(reading)}", key)
            return _refresh(door, arrival, reading, key, key.live, MessageStatus.UPDATED, now)
        case EventAction.NONE:
            alert = key.live.state.id if key.live else None
            return replace(_ignored(reading.verdict.reason, key), alert_id=alert)


def _own_status(arrival: MessageContext, reading: NormalizedEvent) -> tuple[int, ...] | None:
    """Returns the writes whose echo this message's status is; None if the status is somebody's action."""
    if arrival.own is None or reading.intent not in (EventAction.OPEN, EventAction.CLOSE):
        return None
    found = arrival.own.echo_of_status(reading)
    return None if found is None else (found,) if found else ()


def _end(
    door: CompiledIntegration, arrival: MessageContext, reading: NormalizedEvent, key: DedupKeyState, now: datetime
) -> Decision:
    """Closes or cancels the key's alert. Without an active alert, a close still advances the newest source time."""
    is_cancel = reading.intent is EventAction.CANCEL
    if key.live is None:
        settled = grouping.decide_ended_early(key, now)
        said = "it was over before its alert opened" if settled else f"nothing was open for {_what(reading)}"
        ended = _ignored(f"{reading.verdict.reason}; {said}", replace(_moved(key, arrival, reading), delayed=None))
        return replace(ended, counts=arrival.replay_of is None or settled is not None, shaped=settled)
    live = key.live
    if key.role is not None and (left := grouping.leave_group(door, arrival, reading, key, live, now)) is not None:
        return replace(left, key=_moved(left.key, arrival, reading))
    note = _end_note(door, reading)
    order = Cancel if is_cancel else Close
    command = order(actor=actor_of(door), note=note, via=CommandChannel.INBOUND)
    changes = _apply(live, command, now)
    freed = _moved(replace(key, live=None, shared=None, role=None), arrival, reading)
    counted = RepeatedMessages(live.state.id, 1, arrival.received_at, _differing(door, live, reading))
    reason = f"{reading.verdict.reason}; alert {live.state.id} {'cancelled' if is_cancel else 'closed'}"
    return Decision(MessageStatus.CLOSED, reason, freed, live.state.id, changes=changes, counted=counted, counts=True)


def _end_note(door: CompiledIntegration, reading: NormalizedEvent) -> str:
    if reading.intent is EventAction.CANCEL:
        return f"deleted in {door.shown_source}"
    return reading.verdict.reason


def _apply(live: ActiveAlert, command: Close | Cancel, now: datetime) -> tuple[AlertChange, ...]:
    """Ends an alert, and frees the alerts merged into it."""
    state = live.state
    if state.status is AlertStatus.MERGED:
        # A close from its source ends only the merged alert; the parent stays active.
        state = replace_state(state, status=AlertStatus.OPEN)
    done = lifecycle.apply(state, command, now)
    changes = [AlertChange(live.state, done.state, done.events, command)]
    for child in live.children.values():
        freed = lifecycle.on_parent_ended(child, now)
        if freed.is_change:
            changes.append(AlertChange(child, freed.state, freed.events))
    return tuple(changes)


def _open(
    door: CompiledIntegration,
    arrival: MessageContext,
    reading: NormalizedEvent,
    key: DedupKeyState,
    needed: _OpeningInputs,
    now: datetime,
) -> Decision:
    allowed = reading.filter_verdict()
    if not allowed.is_true:
        decision = _ignored(f"filter: {allowed.reason}", key)
        return replace(decision, verdict={"filter": allowed.reason}, is_refused=True)
    paging, route = why_it_pages(door, arrival, reading, now)
    answer = noise_reduction.OPENS
    if door.is_shaped and arrival.test_user_id is None:
        groups = paging.recipient_groups
        answer = noise_reduction.ask(door, arrival, reading, key, route, groups, needed.scopes, needed.standing, now)
    verdict: dict[str, object] = {"filter": allowed.reason, "route": route.reason}
    if door.is_shaped and arrival.test_user_id is None:
        verdict[GATE] = trace_entries(answer, arrival.waited, now)
    if answer.suppressed:
        return replace(_ignored(answer.suppressed, key), verdict=verdict, is_refused=True)
    if answer.waits is not None:
        waits = _waits(arrival, reading, replace(key, delayed=answer.waits), answer.waits)
        shaped = NoiseChanges(rate_windows=answer.rate_windows) if answer.rate_windows else None
        return replace(waits, verdict=verdict, shaped=shaped)
    if answer.joins is not None:
        above = needed.standing.lives.get(answer.joins.parent_id or 0)
        found = grouping.join(door, arrival, reading, key, needed.key_hash, answer, above, paging, now)
        return replace(found, key=_moved(found.key, arrival, reading), verdict=verdict)
    number = needed.next_id()
    opening = open_alert(door, arrival, reading, number, needed.key_hash, key.last_alert, paging, route, now)
    if answer is not noise_reduction.OPENS or arrival.waited is not None or key.delayed is not None:
        opening = grouping.shaped_opening(opening, answer, arrival.waited or key.delayed, arrival, now)
    alert = opening.alert
    state = AlertState(number, AlertStatus.OPEN, alert.priority, alert.opened_at)
    fields: dict[str, object] = {**alert.columns, "tags": alert.tags, "custom": alert.custom}
    changes: tuple[AlertChange, ...] = ()
    if door.settings.get("owned_ticket_stops") and (agent := door.agent(reading)).text and answer.flood is None:
        given = source.agent_changed(state, source.TicketAgent(), agent, actor_of(door), now)
        changes = (AlertChange(state, given.state, given.events),) if given.is_change else ()
        state = given.state
    pages = paging.mode is PagingMode.PAGE
    live = ActiveAlert(state, fields, members=1 if answer.gathers else 0, pages=pages, dry_run=alert.dry_run)
    after = replace(_moved(key, arrival, reading), live=live, last_alert=number, delayed=None)
    shaped = None
    if answer.gathers or answer.rate_windows or key.delayed is not None:
        after, shaped = grouping.opened(after, key, answer, opening, reading)
    return Decision(
        MessageStatus.OPENED,
        reading.verdict.reason,
        after,
        number,
        opening=opening,
        changes=changes,
        counts=True,
        verdict=verdict,
        shaped=shaped,
    )


def _waits(
    arrival: MessageContext, reading: NormalizedEvent, key: DedupKeyState, delayed: DelayedAlertState
) -> Decision:
    reason = f"{reading.verdict.reason}; its alert opens {delayed.reason}"
    return Decision(MessageStatus.DELAYED, reason, _moved(key, arrival, reading), counts=arrival.replay_of is None)


def _refresh(
    door: CompiledIntegration,
    arrival: MessageContext,
    reading: NormalizedEvent,
    key: DedupKeyState,
    live: ActiveAlert,
    status: MessageStatus,
    now: datetime,
) -> Decision:
    """Counts the message on the active alert; changed values are written and recorded on the timeline."""
    if key.role in (KeyRole.MEMBER, KeyRole.CHILD):
        said = grouping.count(door, arrival, reading, key, live, status, now)
        return replace(said, key=_moved(said.key, arrival, reading))
    actor = actor_of(door)
    mapped = _mapped(door, reading, live)
    if not arrival.may_page:
        mapped = _without_what_pages(mapped)
    echo = arrival.own.echo_of_agent(reading) if arrival.own is not None and "agent" in reading.mapped.values else None
    if echo == 0:
        # The message is older than what Tocsin knows about the assignee: leave that for the next fetch of the ticket.
        mapped = _without_agent(mapped)
    own = arrival.own.written(reading) if arrival.own is not None else {}
    if echo:
        own["source_agent"] = echo
    found = source.refresh(live.state.id, live.fields, mapped, actor, now, own)
    changes: list[AlertChange] = []
    state = live.state
    news = _news_of_priority(reading, live) if arrival.may_page else None
    after = replace_state(state, priority=news) if news is not None and news is not state.priority else state
    events = [found.event] if found.event is not None else []
    moved = _moved_team(live, mapped) if arrival.may_page and "team" not in own else ""
    is_own = "source_priority" in own
    rises = after.priority.is_above(state.priority) and not is_own
    woken = start_paging.start_paging(door, arrival, reading, live, now) if status is MessageStatus.APPENDED else None
    wakes = woken.waking if woken is not None else None
    if (moved or rises or wakes) and state.status is not AlertStatus.MERGED:
        paging, _ = why_it_pages(door, arrival, reading, now)
        change = AlertChange(
            state,
            after,
            tuple(events),
            paging=paging,
            moved=moved,
            is_own_priority=is_own,
            waking=wakes,
            was_dry_run=live.is_dry_run,
        )
        changes.append(change)
        live = replace(live, pages=live.pages or paging.mode is PagingMode.PAGE)
    elif events or after != state:
        changes.append(AlertChange(state, after, tuple(events), is_own_priority=is_own))
    state = after
    # An agent that Tocsin itself wrote is nobody's action.
    given = _agent(door, live, state, reading, actor, now) if arrival.may_page and echo is None else None
    if given is not None:
        changes.append(given)
        state = given.after
    shaped = None
    if key.parent is not None:
        told = merge_propagation.propagate_to_parent(
            door, arrival, reading, key.parent, live, status, after.priority if rises else None, now
        )
        changes.extend(told.changes)
        woken, shaped = told.woken, NoiseChanges(lives={key.parent.state.id: told.parent})
    # An opening message of a merged alert's key counts on the parent, which is the alert shown to users.
    counted_on = live.parent_id if status is MessageStatus.APPENDED and live.parent_id is not None else live.state.id
    written = found.changes if counted_on == live.state.id else None
    after_key = replace(_moved(key, arrival, reading), live=_refreshed(live, state, found.changes))
    return Decision(
        status,
        _refresh_reason(reading, status, found, counted_on, woken),
        after_key,
        counted_on,
        changes=tuple(changes),
        counted=RepeatedMessages(counted_on, 1, arrival.received_at, written or None),
        counts=True,
        came_back=_no_longer_awaited(arrival, echo, given, own),
        shaped=shaped,
    )


def _news_of_priority(reading: NormalizedEvent, live: ActiveAlert) -> Priority | None:
    """Returns the message's priority unless the source sent the same before: a merge, a workflow or a user may have
    changed the alert's priority since, and a repeated message must not revert that."""
    said = priority_of(reading)
    return None if said is not None and live.fields.get("source_priority") == said else said


def _no_longer_awaited(
    arrival: MessageContext, echo: int | None, given: AlertChange | None, own: Mapping[str, int]
) -> tuple[int, ...]:
    """Returns the writes that no longer await their echo: the write of an agent, priority or team that this message
    echoes. If the ticket was reassigned since, that is the last write of an agent: the same agent seen once more is
    then somebody's action."""
    if echo:
        return (echo,)
    if fields := tuple({own[name] for name in ("source_priority", "team") if name in own}):
        return fields
    return arrival.own.overtaken() if given is not None and arrival.own is not None else ()


def _moved_team(live: ActiveAlert, mapped: Mapping[str, object]) -> str:
    """Returns the start of a sentence if the source moved the ticket to another team, else ""."""
    before, after = live.fields.get("team"), mapped.get("team")
    return f"It moved from {before} to {after}" if before and after and before != after else ""


def _agent(
    door: CompiledIntegration,
    live: ActiveAlert,
    state: AlertState,
    reading: NormalizedEvent,
    actor: Actor,
    now: datetime,
) -> AlertChange | None:
    """Returns the effect of a changed agent. A message without the agent field changes nothing."""
    if not door.reader.kind.follows_agent or "agent" not in reading.mapped.values:
        return None
    if not reading.mapped.says_nobody("agent") and _is_same_agent(live, reading):
        return None
    known = live.fields.get("custom")
    number = str(known.get("agent_id") or "") if isinstance(known, Mapping) else ""
    before = door.agent_named(str(live.fields.get("source_agent") or ""), number=number)
    done = source.agent_changed(state, before, door.agent(reading), actor, now)
    return AlertChange(state, done.state, done.events) if done.is_change else None


def _refreshed(live: ActiveAlert, state: AlertState, changes: Mapping[str, object]) -> ActiveAlert:
    return replace(live, state=state, fields={**live.fields, **changes} if changes else live.fields)


def _refresh_reason(
    reading: NormalizedEvent,
    status: MessageStatus,
    found: source.SourceUpdate,
    alert_id: int,
    woken: PagingChange | None,
) -> str:
    if status is MessageStatus.APPENDED:
        said = woken.said if woken is not None else "counted, nobody is paged"
        return f"{reading.verdict.reason}, and alert {alert_id} is open for {_what(reading)}: {said}"
    if found.event is not None:
        return f"{reading.verdict.reason}; {found.event.reason}"
    return f"{reading.verdict.reason}; nothing new"


def _mapped(door: CompiledIntegration, reading: NormalizedEvent, live: ActiveAlert) -> dict[str, object]:
    """Returns the message's values by alert column; fields that it does not contain are omitted."""
    fields: dict[str, object] = dict(columns_of(door, reading))
    custom = custom_of(reading)
    if reading.mapped.says_nobody("agent"):
        fields["source_agent"] = ""
        known = live.fields.get("custom")
        if isinstance(known, Mapping) and known.get("agent_id"):
            custom["agent_id"] = ""
    elif _is_same_agent(live, reading):
        # Shorter messages contain only the agent's number, which must not overwrite the name.
        fields.pop("source_agent", None)
    if reading.mapped.tags:
        fields["tags"] = dict(reading.mapped.tags)
    if custom:
        fields["custom"] = custom
    return fields


def _without_what_pages(mapped: Mapping[str, object]) -> dict[str, object]:
    """Removes assignee and priority for a replay that must not page, because both influence paging."""
    return {name: value for name, value in _without_agent(mapped).items() if name != "source_priority"}


def _without_agent(mapped: Mapping[str, object]) -> dict[str, object]:
    """Removes the ticket's agent from the mapped values."""
    kept = {name: value for name, value in mapped.items() if name != "source_agent"}
    custom = kept.get("custom")
    if isinstance(custom, Mapping):
        kept["custom"] = {name: value for name, value in custom.items() if name != "agent_id"}
    return kept


def _is_same_agent(live: ActiveAlert, reading: NormalizedEvent) -> bool:
    """Returns whether the message's agent number is that of the alert's agent, whose name is known already."""
    number = reading.mapped.text("agent_id")
    known = live.fields.get("custom")
    is_same = bool(number) and isinstance(known, Mapping) and known.get("agent_id") == number
    return is_same and live.fields.get("source_agent") != f"Agent {number}"


def _differing(door: CompiledIntegration, live: ActiveAlert, reading: NormalizedEvent) -> Mapping[str, object] | None:
    """Returns the fields that a closing message changes, so that the alert shows the source's last values."""
    changes = source.refresh(
        live.state.id, live.fields, _mapped(door, reading, live), actor_of(door), live.state.opened_at
    )
    return changes.changes or None


def actor_of(door: CompiledIntegration) -> Actor:
    """Returns the integration as an actor."""
    return Actor(ActorKind.INTEGRATION, door.shown_source)


def _moved(key: DedupKeyState, arrival: MessageContext, reading: NormalizedEvent) -> DedupKeyState:
    """Returns the key with its newest source time advanced; a replay does not advance it."""
    at = reading.source_time
    if (
        at is None
        or arrival.replay_of is not None
        or (key.latest_source_time is not None and at <= key.latest_source_time)
    ):
        return key
    if at - arrival.received_at > MAX_AHEAD:
        # A clock that is days ahead would make all following messages late.
        return key
    return replace(key, latest_source_time=at)


def _ignored(reason: str, key: DedupKeyState) -> Decision:
    return Decision(MessageStatus.IGNORED, reason, key)


def decide_disabled() -> Decision:
    """Returns the decision on any message to a disabled integration."""
    return _ignored("switched off", DedupKeyState())


def decide_without_ticket() -> Decision:
    """Returns the decision on a webhook call without a ticket, such as the test when a user sets the webhook up."""
    reason = "it is about no ticket, as the test that is sent when a webhook is set up: there is nothing to do"
    return Decision(MessageStatus.IGNORED, reason, DedupKeyState())


def decide_failed(rejected: Rejected) -> Decision:
    """Returns the decision on a message that is unreadable or lacks a required id."""
    return Decision(MessageStatus.FAILED, _cut(rejected.detail), DedupKeyState(), verdict={"error": rejected.code})


def _what(reading: NormalizedEvent) -> str:
    return f"id {reading.source_id}" if reading.source_id else "it"


def _clock(at: datetime) -> str:
    return at.strftime("%Y-%m-%d %H:%M:%S UTC")


def _cut(text: str) -> str:
    return text if len(text) <= MAX_REASON else text[: MAX_REASON - 1] + "…"
