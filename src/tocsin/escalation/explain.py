"""Explains escalation: what a run does next, and when, and why a user was not paged. Reads only.

A forecast calls the engine with a future time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from tocsin.access.roles import MemberRole
from tocsin.alerts import lifecycle, store
from tocsin.alerts.commands import AlertState, PagingMode
from tocsin.alerts.service import FoundAlert
from tocsin.alerts.states import EventKind
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.errors import Permanent
from tocsin.core.reasons import (
    NO_REASON,
    Param,
    Person,
    Reason,
    Term,
    Text,
    as_reason,
    each_of,
    reason_from_json,
    sentence,
)
from tocsin.escalation import reasons
from tocsin.escalation.policy import PolicyStep, references
from tocsin.escalation.run import run_store
from tocsin.escalation.run.engine import advance
from tocsin.escalation.run.run_state import ActivePause, NoticeReason, PageUser, RunDecision, RunState, RunStatus
from tocsin.escalation.run.target_resolution import TargetContext
from tocsin.notify.states import DeliveryStatus, Purpose
from tocsin.oncall import loader
from tocsin.oncall.calculation import final_schedule
from tocsin.oncall.calculation.final_schedule import GroupPlan, OnCall
from tocsin.people.sql import load_users

log = logging.getLogger(__name__)

# They follow a time: "in 5 minutes: pages Bob (secondary, Desk)".
WILL_PAGE = Text("pages {targets}")
WILL_WAIT = Text("step {step} of {steps} waits until someone is on call")
_WILL_NOTIFY_UNPAGED = Text("notifies {users} that no one can be paged")
_WILL_NOTIFY_UNANSWERED = Text("notifies {users} that no one responded")

#: Limits of a forecast: firings of a last step that repeats, and once-a-minute rechecks of a step that waits.
_MAX_LAST_STEP_FIRINGS = 3
_MAX_CONDITION_CHECKS = 24 * 60


@dataclass(frozen=True, slots=True)
class NextAction:
    """The next event of a run and its time, such as "pages Bob Brown (secondary, Service Desk)".

    `waits` means that possibly nothing happens at that time: a step waits until somebody is on call and only rechecks.
    """

    at: datetime
    summary: Reason
    is_recheck: bool = False


def forecast_next_action(
    run: RunState, alert: AlertState, context: TargetContext, now: datetime, pause: ActivePause | None = None
) -> NextAction | None:
    """The next action if nobody responds, or None when no timer is set. `context` is the on-call data for that
    moment."""
    if run.due_at is None:
        return None
    at = max(run.due_at, now)
    is_paused = pause is not None and pause.until > at
    if is_paused and pause is not None:
        at = pause.until
    decision = advance(run, alert, context, at)
    if (
        run.progress.is_waiting
        and decision.run.progress.is_waiting
        and not (decision.ack_reminders or decision.notices or is_paused)
    ):
        waits = WILL_WAIT(step=run.progress.step + 1, steps=len(run.plan.steps))
        return NextAction(at, waits, is_recheck=True)
    summary = _summarize(decision, context)
    return NextAction(
        at, sentence("paging is paused until then; then {action}", action=summary) if is_paused else summary
    )


@dataclass(frozen=True, slots=True)
class RunForecast:
    """Everything a run does if nobody responds, with the time of each decision. `cut` says why the forecast was
    truncated."""

    decisions: tuple[tuple[datetime, RunDecision], ...]
    truncation_reason: Reason = NO_REASON


def forecast_run(
    run: RunState,
    alert: AlertState,
    context_at: Callable[[RunState, datetime], TargetContext],
    *,
    max_decisions: int = 1000,
) -> RunForecast:
    """Plays a run to its end on the assumption that nobody responds, for the simulator and previews.

    `context_at` returns the on-call data for a moment. The forecast has at most `max_decisions` decisions. A last step
    that repeats, and a step that waits until somebody is on call, are cut off after enough repetitions to show the
    pattern.
    """
    decisions: list[tuple[datetime, RunDecision]] = []
    last_step_firings = condition_checks = 0
    while run.due_at is not None and len(decisions) < max_decisions:
        at = run.due_at
        decision = advance(run, alert, context_at(run, at), at)
        if decision.events or decision.commands or decision.pages:
            decisions.append((at, decision))
        for command in decision.commands:
            alert = lifecycle.apply(alert, command, at).state
        run = decision.successor or decision.run
        last_step_firings += run.progress.is_repeating_last_step
        condition_checks += run.progress.is_waiting
        if last_step_firings > _MAX_LAST_STEP_FIRINGS:
            return RunForecast(tuple(decisions), sentence("The last step repeats until someone responds."))
        if condition_checks > _MAX_CONDITION_CHECKS:
            return RunForecast(tuple(decisions), sentence("No one is on call for hours: the step keeps waiting."))
    truncation_reason = (
        sentence(
            "Only the first action of the policy is shown.",
            "Only the first {count} actions of the policy are shown.",
            count=max_decisions,
        )
        if run.due_at is not None
        else NO_REASON
    )
    return RunForecast(tuple(decisions), truncation_reason)


def _summarize(decision: RunDecision, context: TargetContext) -> Reason:
    actions = [
        sentence("sends an acknowledgement reminder to {user}", user=context.person(reminder.user_id))
        for reminder in decision.ack_reminders
    ]
    if decision.pages or decision.contact_pages:
        contacts = tuple(contact.label for contact in decision.contact_pages)
        actions.append(WILL_PAGE(targets=(*_paged_users(decision.pages), *contacts)))
    if decision.dry_run_pages:
        actions.append(sentence("would page {targets}", targets=_paged_users(decision.dry_run_pages)))
    for notice in decision.notices:
        users = tuple(context.person(user_id) for user_id in notice.user_ids)
        is_unpaged = notice.notice_reason is NoticeReason.NOBODY_TO_PAGE
        actions.append((_WILL_NOTIFY_UNPAGED if is_unpaged else _WILL_NOTIFY_UNANSWERED)(users=users))
    if actions:
        return actions[0] if len(actions) == 1 else sentence("{actions}", actions=tuple(actions))
    # Every other change has a timeline entry of its own, so its sentence serves as the summary.
    return as_reason(decision.events[-1].reason) if decision.events else decision.run.reason


def _paged_users(pages: tuple[PageUser, ...]) -> tuple[Reason, ...]:
    return tuple(reasons.PAGED_USER(user=page.target.person, capacity=page.target.capacity) for page in pages)


# ---------- next steps
# The next action of many alerts, for the web and the API.
# Reads runs, alerts and users and passes them to `forecast_next_action`; never writes.


def next_steps(connection: Connection, alert_ids: Sequence[int], now: datetime) -> dict[int, NextAction]:
    """The next action by alert id if nobody responds; an alert without a timer is absent.

    The on-call users as of `now` are used for all alerts, so after a handoff in between somebody else may be paged.
    """
    rows = {
        alert_id: row
        for alert_id, row in run_store.current_rows(connection, alert_ids).items()
        if row["due_at"] is not None and row["status"] != RunStatus.TERMINATED
    }
    if not rows:
        return {}
    plans = run_store.load_plans(connection, {row["version_id"] for row in rows.values()})
    runs: dict[int, RunState] = {}
    upcoming: dict[int, NextAction] = {}
    for alert_id, row in rows.items():
        try:
            runs[alert_id] = run_store.run_from_row(row, plans)
        except (Permanent, msgspec.ValidationError) as error:
            log.warning("The run of alert %s cannot be read: %s", alert_id, error, extra={"alert_id": alert_id})
            upcoming[alert_id] = NextAction(row["due_at"], reason_from_json(row["reason"]))
    runs = run_store.users_with_pending_pages(connection, runs, now)
    states = store.load(connection, list(runs))
    context = run_store.load_target_context(connection, runs.values(), now)
    pause = run_store.load_pause(connection, now)
    for alert_id, run in runs.items():
        step = forecast_next_action(run, states[alert_id], context, now, pause) if alert_id in states else None
        if step is not None:
            upcoming[alert_id] = step
    return upcoming


# ---------- why not paged
# Explains why a user was not paged about an alert. Reads only.
# Reasons recorded at the time are quoted as they are; role holders are recalculated from the schedules as they are
# now.


MAX_EVENTS = 2000

_NOT_REACHED = Text("Step {step} of {steps} would have paged {user}, but was not reached: {why}")

_EVENTS = "SELECT at, kind, reason, data FROM alerts_alertevent WHERE alert_id = %s ORDER BY id DESC LIMIT %s"
_PAGES = """
SELECT n.user_id, n.channel, d.status, d.error, d.reason, n.reason AS because
FROM notify_notification n JOIN notify_delivery d ON d.notification_id = n.id
WHERE n.alert_id = %s AND n.purpose = %s AND n.user_id IS NOT NULL ORDER BY n.id, d.queued_at
"""

_STEPS = frozenset({EventKind.STEP_FIRED, EventKind.STEP_EMPTY})
#: Events that end or stop an escalation, in somebody's name.
_STOPS = frozenset(
    {
        EventKind.ACKNOWLEDGED,
        EventKind.ASSIGNED,
        EventKind.CLOSED,
        EventKind.CANCELLED,
        EventKind.MERGED,
        EventKind.PUT_ON_HOLD,
    }
)
_INACTIVE = frozenset({RunStatus.STOPPED, RunStatus.PAUSED, RunStatus.EXHAUSTED, RunStatus.TERMINATED})
_PAGED = frozenset({DeliveryStatus.SENDING, DeliveryStatus.SENT, DeliveryStatus.DELIVERED})


@dataclass(frozen=True, slots=True)
class UnpagedUser:
    """A user who is connected with the alert and was not paged. The most relevant reason comes first."""

    user_id: int
    username: str
    name: str
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class _RunFacts:
    """The newest run of the alert, with the on-call data of its start."""

    run: RunState
    events: tuple[Mapping[str, Any], ...]
    group_plans: Mapping[int, GroupPlan]
    on_schedules: Mapping[int, tuple[str, tuple[OnCall, ...]]]

    @property
    def stop_reason(self) -> Reason:
        """Why no further step fires; `NO_REASON` while one may."""
        if self.run.status not in _INACTIVE:
            return NO_REASON
        stops = (event for event in self.events if event["kind"] in _STOPS and event["at"] >= self.run.started_at)
        return next((event["reason"] for event in stops), self.run.reason)

    def role_holders(self, group: int, role: MemberRole) -> tuple[OnCall, ...]:
        """The holders of a role in a group when the run began, in the order in which they are paged."""
        return final_schedule.by_role(final_schedule.on_call(self.group_plans[group], self.run.started_at)).get(
            role, ()
        )

    def group_roles(self, step: PolicyStep) -> Iterator[tuple[int, MemberRole]]:
        for group in step.group_ids or self.run.recipient_groups:
            if group in self.group_plans:
                yield from ((group, role) for role in step.roles)

    def members(self, step: PolicyStep) -> frozenset[int]:
        groups = [
            self.group_plans[group]
            for group in step.group_ids or self.run.recipient_groups
            if group in self.group_plans
        ]
        return frozenset(member.user_id for group in groups for member in group.members)


def explain_for_alert(connection: Connection, alert: FoundAlert) -> tuple[UnpagedUser, ...]:
    """The users known to the alert's groups and policy who were not paged about it, sorted by name, each with
    reasons."""
    row = run_store.current_rows(connection, [alert.id]).get(alert.id)
    if row is None:
        return ()
    run = run_store.readable_run(row, run_store.load_plans(connection, {row["version_id"]}))
    refs = references(run.plan)
    facts = _RunFacts(
        run,
        tuple(
            {**event, "reason": reason_from_json(event["reason"])}
            for event in database.rows(connection, _EVENTS, (alert.id, MAX_EVENTS))
        ),
        loader.plans(connection, {*run.recipient_groups, *refs.groups}, run.started_at),
        loader.on_schedules(connection, refs.schedules, run.started_at),
    )
    pages = list(database.rows(connection, _PAGES, (alert.id, str(Purpose.PAGE))))
    paged_ids = {page["user_id"] for page in pages if page["status"] in _PAGED}
    user_ids = _connected_user_ids(facts) | {page["user_id"] for page in pages}
    users = load_users(connection, user_ids - paged_ids, "username", "display_name", "is_active").values()
    return tuple(
        UnpagedUser(one["id"], one["username"], one["display_name"], tuple(_reasons(one, facts, pages)))
        for one in sorted(users, key=lambda one: one["display_name"].casefold())
    )


def _connected_user_ids(facts: _RunFacts) -> set[int]:
    """The ids of group members, of users named in the policy, and of users on call."""
    user_ids = {*facts.run.recipient_users, *references(facts.run.plan).users}
    for group in facts.group_plans.values():
        user_ids |= {member.user_id for member in group.members}
        user_ids |= {person.user_id for person in final_schedule.on_call(group, facts.run.started_at)}
    for _, on_call in facts.on_schedules.values():
        user_ids |= {person.user_id for person in on_call}
    return user_ids


def _reasons(user: Mapping[str, Any], facts: _RunFacts, pages: Collection[Mapping[str, Any]]) -> Iterable[Reason]:
    person = Person(user["display_name"], user["id"])
    found: dict[Reason, None] = {}
    if not user["is_active"]:
        found[sentence("{user} is deactivated and is not paged.", user=person)] = None
    if facts.run.mode is PagingMode.DRY_RUN:
        found[reasons.DRY_RUN()] = None
    elif facts.run.mode is PagingMode.LOG_ONLY:
        found[reasons.LOG_ONLY()] = None
    for page in pages:
        if page["user_id"] == user["id"]:
            # Why it failed, waits (quiet hours, the delay of its notification rule) or was cancelled, else was sent.
            found[reason_from_json(page["error"] or page["reason"] or page["because"])] = None
    found |= dict.fromkeys(_recorded(user["id"], facts.events))
    found |= dict.fromkeys(_by_step(person, user["id"], facts))
    return found or (sentence("No step of the policy pages {user}.", user=person),)


def _recorded(user_id: int, events: Iterable[Mapping[str, Any]]) -> Iterator[Reason]:
    """What was recorded about the user while steps fired, oldest first."""
    for event in reversed(list(events)):
        data = event["data"] or {}
        if event["kind"] == EventKind.PAGE_FAILED and data.get("user_id") == user_id:
            yield event["reason"]
        elif event["kind"] in _STEPS and (note := _note_about(user_id, event["reason"])) is not None:
            yield sentence("{note}.", note=note)


def _note_about(user_id: int, reason: Reason) -> Reason | None:
    """Why a step did not page the user, as its event recorded it."""
    for part in each_of(reason):
        notes = dict(part.params).get("notes")
        for note in each_of(notes) if isinstance(notes, Reason) else ():
            user = dict(note.params).get("user")
            if isinstance(user, Person) and user.user_id == user_id:
                return note
    return None


def _by_step(person: Person, user_id: int, facts: _RunFacts) -> Iterator[Reason]:
    """What each step meant for the user: it would page them, another user came first, or others had its roles."""
    step_count = len(facts.run.plan.steps)
    step_events = [event for event in facts.events if event["kind"] in _STEPS and event["at"] >= facts.run.started_at]
    fired = {(event["data"] or {}).get("step") for event in step_events}
    skipped_steps = {
        event["data"]["step"]: each_of(event["reason"])[0]
        for event in step_events
        if (event["data"] or {}).get("left_out")
    }
    members = {group: {member.user_id for member in plan.members} for group, plan in facts.group_plans.items()}
    other_reasons: dict[Reason, None] = {}
    for step_number, step in enumerate(facts.run.plan.steps, start=1):
        would_page = user_id in step.user_ids or (step_number == 1 and user_id in facts.run.recipient_users)
        would_page |= step.everybody and user_id in facts.members(step)
        would_page |= any(
            person.user_id == user_id
            for one in step.schedule_ids
            for person in facts.on_schedules.get(one, ("", ()))[1]
        )
        for group, role in facts.group_roles(step):
            holders, group_name = facts.role_holders(group, role), facts.group_plans[group].name
            ids = [holder.user_id for holder in holders]
            if ids[:1] == [user_id] or (user_id in ids and step.sequential_interval is not None):
                would_page = True
                continue
            if user_id not in ids and user_id not in members[group]:
                continue
            other_reasons[_other_holder(person, holders, role, group_name, is_holder=user_id in ids)] = None
        if would_page and step_number in skipped_steps:
            yield skipped_steps[step_number]
        elif (
            would_page
            and (step_number not in fired or step.sequential_interval is not None)
            and not _is_explained(user_id, step_number, step_events)
        ):
            params: dict[str, Param] = {"step": step_number, "steps": step_count, "user": person}
            if why := facts.stop_reason:
                yield _NOT_REACHED(why=why, **params)
            else:
                yield sentence("Step {step} of {steps} pages {user} unless someone responds first.", **params)
    yield from other_reasons


def _other_holder(
    person: Person, holders: Sequence[OnCall], role: MemberRole, group: str, *, is_holder: bool
) -> Reason:
    """Who had the role instead of the user, or before them."""
    if not holders:
        return sentence("{group} had no {role} on call.", role=Term(role), group=group)
    first = holders[0]
    params: dict[str, Param] = {"other": Person(first.name, first.user_id), "role": Term(role), "group": group}
    if is_holder:
        return sentence("{other} is ahead of {user} as {role} of {group}.", user=person, **params)
    why = first.reason if first.schedule else sentence("by the group's order")
    return sentence("{other} was {role} of {group}: {why}.", why=why, **params)


def _is_explained(user_id: int, step_number: int, events: Iterable[Mapping[str, Any]]) -> bool:
    """Whether the step itself recorded that it paged the user, or why it did not."""
    return any(
        user_id in (event["data"].get("people") or ()) or _note_about(user_id, event["reason"]) is not None
        for event in events
        if (event["data"] or {}).get("step") == step_number
    )
