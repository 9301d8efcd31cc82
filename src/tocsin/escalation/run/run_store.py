"""Reads and writes runs in bulk, with the policies and the on-call data that they need, and writes what they decide.

Everything happens on the given connection and inside the caller's transaction.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import msgspec

from tocsin.access.roles import MemberRole
from tocsin.alerts import store
from tocsin.alerts.commands import SYSTEM, AlertChange, AlertState, NewEvent, PagingConfig, PagingMode
from tocsin.alerts.states import AlertStatus, CommandChannel, EventKind, Priority
from tocsin.alerts.store import join_alert, load_alerts
from tocsin.core.db import database
from tocsin.core.db.database import Connection, as_json
from tocsin.core.errors import Permanent, Rejected
from tocsin.core.reasons import Reason, Text, as_reason, sentence
from tocsin.escalation import reasons
from tocsin.escalation.policy import RECIPIENTS_ONLY, AcknowledgeEffect, CompiledPolicy, PolicyStep, references
from tocsin.escalation.policy import load as load_policy
from tocsin.escalation.run.run_state import (
    ON_TIME_TOLERANCE,
    ActivePause,
    CancelPages,
    NoticeReason,
    PageUser,
    RunDecision,
    RunState,
    SendNotice,
    begin_run,
    from_row,
    has_required_acks,
    raise_priority,
    reroute,
    resume_run,
    to_row,
    with_progress,
)
from tocsin.escalation.run.run_state import apply_transition as apply_run_transition
from tocsin.escalation.run.target_resolution import (
    ContactTarget,
    GroupOnCall,
    HandoverPolicy,
    ScheduleOnCall,
    TargetContext,
    TargetFacts,
)
from tocsin.notify import pause as pauses
from tocsin.notify.notices import Notice, queue_notice
from tocsin.notify.pages import (
    ReversedAction,
    cancel_pages,
    load_recipients,
    queue_ack_reminder,
    queue_pages,
    release_pages,
    restore_pages,
)
from tocsin.notify.providers.pool import address_problem
from tocsin.notify.rules import page_planner as pages
from tocsin.notify.rules.page_planner import Recipient
from tocsin.oncall import loader
from tocsin.oncall.calculation import final_schedule
from tocsin.oncall.calculation.final_schedule import OnCall
from tocsin.people.sql import find_by_names, load_administrators

_RECEIVED_AS_MANAGER = Text("You receive this because you manage a recipient group, or administer Tocsin.")
_RECEIVED_AS_RESPONDER = Text("You receive this because you are responsible for this alert.")

# ---------- policy cache
# A process-wide cache of compiled policy versions. Versions are immutable, so entries never go stale.


log = logging.getLogger(__name__)

#: The capacity; least recently used versions are evicted.
MAX_CACHED_VERSIONS = 5_000

_cache: OrderedDict[tuple[str, int], CompiledPolicy] = OrderedDict()
_lock = threading.Lock()


def load_plans(connection: Connection, version_ids: Iterable[int | None]) -> dict[int | None, CompiledPolicy]:
    """Returns compiled policies by version id, with at most one query. None maps to the recipients-only policy.

    A version that cannot be read is absent; the caller handles its rows separately.
    """
    requested_ids = set(version_ids)
    # Tests and restores use several databases in one process, and each has its own version ids.
    database_url = database.url()
    plans: dict[int | None, CompiledPolicy] = {None: RECIPIENTS_ONLY} if None in requested_ids else {}
    with _lock:
        for number in requested_ids:
            if number is not None and (database_url, number) in _cache:
                plans[number] = _cache[database_url, number]
                _cache.move_to_end((database_url, number))
    missing_ids = [number for number in requested_ids if number not in plans]
    if missing_ids:
        plans.update(_load(connection, database_url, missing_ids))
    return plans


def _load(connection: Connection, database_url: str, missing_ids: list[int | None]) -> dict[int | None, CompiledPolicy]:
    query = "SELECT id, definition FROM escalation_policyversion WHERE id = ANY(%s)"
    plans: dict[int | None, CompiledPolicy] = {}
    for row in database.rows(connection, query, (missing_ids,)):
        try:
            plans[row["id"]] = load_policy(row["definition"])
        except Rejected as problem:
            # One unreadable version must not stop the runs of the others.
            log.error("Policy version %s cannot be read: %s", row["id"], problem.detail)
    with _lock:
        for number, plan in plans.items():
            if number is not None:
                _cache[database_url, number] = plan
        while len(_cache) > MAX_CACHED_VERSIONS:
            _cache.popitem(last=False)
    return plans


#: The columns that `run_state.from_row` needs, with the row's id, version and failure count.
COLUMNS = (
    "r.id, r.alert_id, r.version_id, r.status, r.mode, r.due_at, r.reason, r.progress, "
    "r.recipient_users, r.recipient_groups, r.priority, r.started_at, r.failures"
)

_CURRENT = database.literal(
    f"SELECT DISTINCT ON (r.alert_id) {COLUMNS} FROM escalation_run r WHERE r.alert_id = ANY(%s) "
    "ORDER BY r.alert_id, r.id DESC"
)

_UPDATE = """
UPDATE escalation_run r SET status = n.status, mode = n.mode, due_at = n.due_at,
       reason = n.reason, priority = n.priority, started_at = n.started_at, progress = n.progress, failures = 0,
       error = ''
FROM jsonb_to_recordset(%s) AS n(id bigint, status text, mode text, due_at timestamptz, reason jsonb,
     priority text, started_at timestamptz, progress jsonb)
WHERE r.id = n.id
"""

_INSERT = f"""
INSERT INTO escalation_run (alert_id, integration_id, version_id, recipient_users, recipient_groups, status, mode,
       due_at, reason, priority, started_at, progress, failures, error)
SELECT u.id, a.integration_id, n.version_id, n.recipient_users, n.recipient_groups, n.status, n.mode, n.due_at,
       n.reason, n.priority, n.started_at, n.progress, 0, ''
FROM json_to_recordset(%s) AS n(alert_ids bigint[], version_id bigint, recipient_users jsonb, recipient_groups jsonb,
     status text, mode text, due_at timestamptz, reason jsonb, priority text,
     started_at timestamptz, progress jsonb)
CROSS JOIN LATERAL unnest(n.alert_ids) AS u(id) LEFT {join_alert("u.id")}
"""


def current_rows(connection: Connection, alert_ids: Iterable[int]) -> dict[int, dict[str, Any]]:
    """The newest run's row of each alert, by alert id; an alert without a run is absent."""
    requested_ids = sorted(set(alert_ids))
    return (
        {row["alert_id"]: row for row in database.rows(connection, _CURRENT, (requested_ids,))} if requested_ids else {}
    )


def run_from_row(row: Mapping[str, Any], plans: Mapping[int | None, CompiledPolicy]) -> RunState:
    """Builds a run from its row.

    Raises Permanent for an unreadable policy version, msgspec.ValidationError for an unreadable progress.
    """
    plan = plans.get(row["version_id"])
    if plan is None:
        raise Permanent(
            sentence("Version {version} of the escalation policy cannot be read.", version=str(row["version_id"])),
            sentence("Save the policy again."),
        )
    return from_row(row, plan)


def begin(
    alert: AlertState, paging: PagingConfig, plans: Mapping[int | None, CompiledPolicy], now: datetime
) -> RunState:
    """The new run of an alert. If its policy version cannot be read, it is due at once, and the periodic task reports
    the error."""
    return begin_run(
        alert.id,
        plans.get(paging.version_id, RECIPIENTS_ONLY),
        paging.mode,
        alert.priority,
        now,
        recipient_users=paging.recipient_users,
        recipient_groups=paging.recipient_groups,
        policy_reason=as_reason(paging.reason),
    )


def readable_run(row: Mapping[str, Any], plans: Mapping[int | None, CompiledPolicy]) -> RunState:
    """The run of a row. An unreadable run is treated as new: nothing may block people from working on an alert."""
    plan = plans.get(row["version_id"], RECIPIENTS_ONLY)
    try:
        return from_row(row, plan)
    except (msgspec.ValidationError, ValueError, TypeError):
        return from_row({**row, "progress": {}}, plan)


def update(connection: Connection, runs: Mapping[int, RunState]) -> None:
    """Writes changed runs by row id, in one statement, and resets their failure counts."""
    if runs:
        rows = [{"id": number, **to_row(run)} for number, run in runs.items()]
        connection.execute(_UPDATE, (as_json(rows),))


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run to insert. Alerts of a batch that start alike share one `run`; `alert_id` says whose row it is."""

    alert_id: int
    run: RunState
    version_id: int | None


def insert(connection: Connection, runs: Sequence[NewRun]) -> None:
    """Inserts runs in one statement that contains each shared run once."""
    if not runs:
        return
    rows: dict[tuple[int, int | None], dict[str, Any]] = {}
    for new in runs:
        key = (id(new.run), new.version_id)
        if key not in rows:
            rows[key] = {
                "alert_ids": [],
                "version_id": new.version_id,
                "recipient_users": new.run.recipient_users,
                "recipient_groups": new.run.recipient_groups,
                **to_row(new.run),
            }
        rows[key]["alert_ids"].append(new.alert_id)
    connection.execute(_INSERT, (as_json(list(rows.values())),))


def record_failure(
    connection: Connection, row_id: int, failures: int, error: str, reason: Reason, due_at: datetime
) -> None:
    """Postpones a run that failed to advance to `due_at`, and stores its consecutive failure count."""
    connection.execute(
        "UPDATE escalation_run SET failures = %s, error = %s, reason = %s, due_at = %s WHERE id = %s",
        (min(failures, 32_000), error[:2000], reason, due_at, row_id),
    )


def load_pause(connection: Connection, now: datetime) -> ActivePause | None:
    """The pause of all paging in force at `now`."""
    pause = pauses.current_pause(connection, now)
    return ActivePause(pause.until, pause.reason) if pause else None


# ---------- target loader
# Loads the data for finding a step's targets, for many runs at once.
# That is: who is on call, who can be reached, and the objects in the policies' conditions and final actions. The
# number of statements is fixed, however many runs there are.


_GROUPS = "SELECT id, name FROM people_group WHERE id = ANY(%s)"
_CONTACTS = "SELECT id, group_id, label FROM people_groupcontact WHERE group_id = ANY(%s) ORDER BY position, id"
_MEMBERS = "SELECT group_id, user_id FROM people_membership WHERE group_id = ANY(%s) ORDER BY group_id, position, id"
_GROUPS_OF_SCHEDULES = "SELECT DISTINCT group_id FROM oncall_schedule WHERE id = ANY(%s)"
_SUCCESSORS = """
SELECT p.id, p.name, v.id AS version_id, v.definition
FROM escalation_policy p JOIN escalation_policyversion v ON v.id = p.current_version_id WHERE p.id = ANY(%s)
"""


def load_target_context(
    connection: Connection, runs: Iterable[RunState], at: datetime, facts: Mapping[int, TargetFacts] | None = None
) -> TargetContext:
    """The targets that these runs may page or notify at `at`. `facts` overrides the data of the alerts' rows."""
    current = list(runs)
    refs = references(*(run.plan for run in current))
    if facts is None:
        facts = _facts(connection, {run.alert_id for run in current if _needs_facts(run)})
    group_ids = sorted(refs.groups.union(*(run.recipient_groups for run in current)))
    groups = _groups_on_call(connection, group_ids, [step for run in current for step in run.plan.steps], at)
    schedules = {
        number: ScheduleOnCall(name, tuple(dict.fromkeys(person.user_id for person in on_call)))
        for number, (name, on_call) in loader.on_schedules(connection, refs.schedules, at).items()
    }
    user_ids = set(refs.users).union(*(run.recipient_users for run in current))
    for group in groups.values():
        user_ids.update(group.members, *group.roles.values(), *group.previous.values())
    user_ids.update(*(schedule.user_ids for schedule in schedules.values()))
    user_ids |= {fact.assignee_id for fact in facts.values() if fact.assignee_id is not None}
    admins = load_administrators(connection)
    recipients = load_recipients(connection, {*user_ids, *admins})
    return TargetContext(
        groups=groups,
        active_users={person.id: _with_usable_methods(person) for person in recipients.values() if person.is_active},
        admin_ids=tuple(admins),
        schedules=schedules,
        support_hours=loader.support_hours(connection) if refs.support_hours else {},
        facts=facts,
        handover_policies=_successors(connection, refs.policies),
        deactivated_names={person.id: person.name for person in recipients.values() if not person.is_active},
    )


def _needs_facts(run: RunState) -> bool:
    return run.progress.assignee_page_at is not None or any(
        step.assignee or (step.when is not None and step.when.tags) for step in run.plan.steps
    )


def valid_until(connection: Connection, run: RunState, at: datetime, max_duration: timedelta) -> datetime:
    """Until when the users on call for a run at `at` stay the same, at most `max_duration` after it."""
    refs = references(run.plan)
    schedule_rows = database.rows(connection, _GROUPS_OF_SCHEDULES, (sorted(refs.schedules),))
    groups = {*run.recipient_groups, *refs.groups, *(row["group_id"] for row in schedule_rows)}
    plans = loader.plans(connection, groups, at).values()
    return min((final_schedule.next_change(plan, at, at + max_duration) for plan in plans), default=at + max_duration)


def _with_usable_methods(person: Recipient) -> Recipient:
    """The user with only the contact methods that can be used."""
    usable = tuple(method for method in person.usable if address_problem(method.channel, method.address) is None)
    return replace(person, methods=usable)


def _groups_on_call(
    connection: Connection, group_ids: list[int], steps: Sequence[PolicyStep], at: datetime
) -> dict[int, GroupOnCall]:
    if not group_ids:
        return {}
    on_call = loader.on_call(connection, group_ids, at)
    contacts: defaultdict[int, list[ContactTarget]] = defaultdict(list)
    for row in database.rows(connection, _CONTACTS, (group_ids,)):
        contacts[row["group_id"]].append(ContactTarget(row["id"], row["label"]))
    members: defaultdict[int, list[int]] = defaultdict(list)
    if any(step.everybody for step in steps):
        for row in database.rows(connection, _MEMBERS, (group_ids,)):
            members[row["group_id"]].append(row["user_id"])
    has_previous = any(step.previous_on_call for step in steps)
    return {
        number: GroupOnCall(
            number,
            name,
            _roles(on_call.get(number, ())),
            tuple(contacts[number]),
            tuple(members[number]),
            _previous_roles(connection, number, on_call.get(number, ())) if has_previous else {},
        )
        for number, name in connection.execute(_GROUPS, (group_ids,)).fetchall()
    }


def _roles(on_call: Iterable[OnCall]) -> dict[MemberRole, tuple[int, ...]]:
    return {
        role: tuple(person.user_id for person in holders) for role, holders in final_schedule.by_role(on_call).items()
    }


def _previous_roles(
    connection: Connection, group_id: int, on_call: Iterable[OnCall]
) -> dict[MemberRole, tuple[int, ...]]:
    """The users who held each role just before its current holders."""
    previous: dict[MemberRole, tuple[int, ...]] = {}
    for role, holders in final_schedule.by_role(on_call).items():
        started_at = max((person.since for person in holders if person.since is not None), default=None)
        if started_at is not None:
            earlier = loader.on_call(connection, [group_id], started_at - timedelta(seconds=1)).get(group_id, ())
            current_ids = {person.user_id for person in holders}
            previous[role] = tuple(user for user in _roles(earlier).get(role, ()) if user not in current_ids)
    return previous


def _facts(connection: Connection, alert_ids: set[int]) -> dict[int, TargetFacts]:
    if not alert_ids:
        return {}
    rows = load_alerts(connection, alert_ids, "tags", "source_agent", "owner_id").values()
    agents = find_by_names(connection, {row["source_agent"] for row in rows if row["source_agent"]})
    return {
        row["id"]: TargetFacts(
            row["tags"] if isinstance(row["tags"], dict) else {},
            row["owner_id"] or agents.get(row["source_agent"]),
            row["source_agent"],
        )
        for row in rows
    }


def build_facts(connection: Connection, tags: Mapping[str, str], source_agent: str) -> TargetFacts:
    """The facts of an alert without a row, for the simulator."""
    agent_ids = find_by_names(connection, {source_agent} if source_agent else ())
    return TargetFacts(tags, agent_ids.get(source_agent), source_agent)


def _successors(connection: Connection, policy_ids: Set[int]) -> dict[int, HandoverPolicy]:
    if not policy_ids:
        return {}
    policies = {}
    for row in database.rows(connection, _SUCCESSORS, (sorted(policy_ids),)):
        try:
            policies[row["id"]] = HandoverPolicy(row["name"], row["version_id"], load_policy(row["definition"]))
        except Rejected:
            continue  # it cannot be read: a policy that hands over to it notifies the leads instead
    return policies


# ---------- effects
# Turns run decisions into outbox rows: new pages, cancelled pages, acknowledgement reminders and notices.
# Works in bulk inside the caller's transaction and sends nothing itself.


#: The title of a notice with the alert, and the heading under which several are bundled.
_TITLES: dict[NoticeReason, tuple[Text, Text]] = {
    NoticeReason.NOBODY_ANSWERED: (Text("No response: {alert}"), reasons.HEADING_NOBODY_ANSWERED),
    NoticeReason.NOBODY_TO_PAGE: (Text("No one could be paged: {alert}"), Text("No one could be paged")),
    NoticeReason.PRIORITY_ROSE: (Text("The priority rose: {alert}"), Text("The priority rose")),
    NoticeReason.MOVED: (Text("The alert moved to another team: {alert}"), Text("The alert moved to another team")),
}
_RECEIVED_AS: dict[NoticeReason, Text] = {
    NoticeReason.NOBODY_ANSWERED: _RECEIVED_AS_MANAGER,
    NoticeReason.NOBODY_TO_PAGE: _RECEIVED_AS_MANAGER,
    NoticeReason.PRIORITY_ROSE: _RECEIVED_AS_RESPONDER,
    NoticeReason.MOVED: _RECEIVED_AS_RESPONDER,
}


def apply_effects(connection: Connection, decisions: Sequence[tuple[int | None, RunDecision]], now: datetime) -> None:
    """Writes the effects of all decisions, each with its run's row id (None: a run that is not stored yet)."""
    _cancel(connection, [decision for _row, decision in decisions], now)
    requests = [request for row, decision in decisions for request in page_requests(row, decision)]
    unreachable = list(queue_pages(connection, requests, now).unreachable)
    ack_reminders = [
        (decision.run.alert_id, reminder.user_id) for _row, decision in decisions for reminder in decision.ack_reminders
    ]
    unreachable += queue_ack_reminder(connection, ack_reminders, now)
    store.insert_events(
        connection,
        [
            NewEvent(
                one.request.alert_id, EventKind.PAGE_FAILED, now, SYSTEM, one.reason, CommandChannel.POLICY,
                {} if one.request.user_id is None else {"user_id": one.request.user_id},
            )
            for one in unreachable
        ],
    )  # fmt: skip
    _queue_notices(connection, [(d.run.alert_id, notice) for _row, d in decisions for notice in d.notices], now)


def notify_administrators(connection: Connection, alert_id: int, why: Reason, now: datetime) -> None:
    """E-mails the administrators that an alert's escalation is stuck, and adds it to the timeline."""
    alert = _subjects(connection, [alert_id]).get(alert_id, f"alert #{alert_id}")
    notice = Notice(
        sentence("Escalation is stuck: {alert}", alert=alert),
        why,
        f"escalation:stuck:{alert_id}",
        reasons.RECEIVED_AS_ADMINISTRATOR(),
        alert_id,
        is_urgent=True,
    )
    queue_notice(connection, notice, now, user_ids=load_administrators(connection))
    reason = reasons.ADMINISTRATORS_NOTIFIED(why=why)
    event = NewEvent(alert_id, EventKind.NOTICE_SENT, now, SYSTEM, reason, CommandChannel.POLICY)
    store.insert_events(connection, [event])


def _cancel(connection: Connection, decisions: Iterable[RunDecision], now: datetime) -> None:
    """Cancels with one statement per reason: a storm that ends is one statement, not a thousand."""
    grouped: dict[CancelPages, list[int]] = {}
    for decision in decisions:
        for cancel in decision.cancellations:
            grouped.setdefault(cancel, []).append(decision.run.alert_id)
    for cancel, alert_ids in grouped.items():
        cancel_pages(connection, alert_ids, cancel.user_ids, cancel.reason, now, queued_since=cancel.queued_since)


def page_requests(row: int | None, decision: RunDecision) -> list[pages.PageRequest]:
    alert_id = decision.run.alert_id
    requests = [
        pages.PageRequest(
            alert_id,
            page.at,
            page.reason,
            user_id=page.target.user_id,
            run_id=row,
            data=_page_data(page),
            priority=page.priority,
            delivery_override=page.delivery_override,
        )
        for page in decision.pages
    ]
    requests += [
        pages.PageRequest(
            alert_id,
            contact.at,
            contact.reason,
            group_contact_id=contact.contact_id,
            run_id=row,
            data={"step": contact.step, "pass": contact.loop_number, "as": contact.label, "wake": contact.is_manual},
            delivery_override=contact.delivery_override,
        )
        for contact in decision.contact_pages
    ]
    return requests


def _page_data(page: PageUser) -> dict[str, object]:
    data: dict[str, object] = {"as": str(page.target.capacity), "wake": page.is_manual}
    if page.is_assignment:
        return {**data, "assignment": True}
    return {"step": page.step, "pass": page.loop_number, **data}


def _queue_notices(connection: Connection, pending: Sequence[tuple[int, SendNotice]], now: datetime) -> None:
    if not pending:
        return
    subjects = _subjects(connection, [alert_id for alert_id, _notice in pending])
    for alert_id, send_notice in pending:
        title, heading = _TITLES[send_notice.notice_reason]
        notice = Notice(
            title=title(alert=subjects.get(alert_id, f"alert #{alert_id}")),
            text=send_notice.why,
            about=f"escalation:{send_notice.notice_reason}:{alert_id}",
            reason=_RECEIVED_AS[send_notice.notice_reason](),
            alert_id=alert_id,
            heading=heading(),
        )
        queue_notice(connection, notice, now, user_ids=send_notice.user_ids)


def _subjects(connection: Connection, alert_ids: Sequence[int]) -> dict[int, str]:
    """How notices name each alert, such as "Acme: VPN down (#42)"."""
    return {
        key: f"{f'{row["client"]}: ' if row['client'] else ''}{row['subject']} (#{key})"
        for key, row in load_alerts(connection, alert_ids, "client", "subject").items()
    }


# ---------- pending pages
# Corrects which users of a run really have pages pending. Reads only.
# A run stores until when each user's contact methods are planned to be tried. After a failure the remaining methods
# are used at once, so a user may have been paged by all of them sooner than planned; after all nodes stood still,
# later.


# A page that was sent after a late run fell due is the one that the run would send.
_PENDING_PAGES = """
SELECT DISTINCT d.alert_id, d.user_id
FROM unnest(%s::bigint[], %s::timestamptz[]) AS r(alert_id, late_since) JOIN notify_delivery d USING (alert_id)
WHERE d.purpose = 'page' AND d.user_id IS NOT NULL AND (d.status IN ('queued', 'sending') OR d.sent_at >= r.late_since)
"""


def users_with_pending_pages[Key](
    connection: Connection, runs: Mapping[Key, RunState], now: datetime
) -> dict[Key, RunState]:
    """The runs, with only those busy users who have pages pending. Dry runs have no pages and stay unchanged."""
    corrected = dict(runs)
    paging_runs = {
        key: run
        for key, run in runs.items()
        if run.mode is PagingMode.PAGE
        and (_is_late(run, now) or any(until > now for until in run.progress.paging_until.values()))
    }
    if not paging_runs:
        return corrected
    late_since = {run.alert_id: run.due_at if _is_late(run, now) else None for run in paging_runs.values()}
    pending = set(connection.execute(_PENDING_PAGES, (list(late_since), list(late_since.values()))).fetchall())
    for key, run in paging_runs.items():
        still_pending = {
            user: max(until, now) if late_since[run.alert_id] and (run.alert_id, user) in pending else until
            for user, until in run.progress.paging_until.items()
            if until <= now or (run.alert_id, user) in pending
        }  # fmt: skip
        corrected[key] = with_progress(run, paging_until=still_pending)
    return corrected


def _is_late(run: RunState, now: datetime) -> bool:
    return run.due_at is not None and run.due_at < now - ON_TIME_TOLERANCE and bool(run.progress.paging_until)


# ---------- listener
# Reacts to changed alerts by starting, updating and replacing runs, in bulk and in the transaction of the change.
#
# New alerts start runs; every other change is applied to the alert's existing run. The listener never looks up on-call
# users: a change that must page somebody makes the run due now, and a hint wakes the periodic task for the rest.


#: Events that affect a run although the alert's state stays the same.
_RUN_EVENTS = frozenset({EventKind.ESCALATED, EventKind.REPLIED})


def handle_changes(connection: Connection, changes: Sequence[AlertChange], now: datetime) -> None:
    """The change handler: starts, stops and replaces runs.

    Changes made by the periodic task itself also arrive here; their runs are left alone.
    """
    created = [change for change in changes if change.before is None]
    transitions = [change for change in changes if _affects_run(change)]
    if created:
        _start_runs(connection, created, now)
    if transitions:
        _apply_changes(connection, transitions, now)
    # Also when the periodic task ended the hold: pages that waited may be scheduled for a later end.
    resumed = [change.alert_id for change in changes if _has_resumed(change)]
    if resumed:
        release_pages(connection, resumed, now)


def _affects_run(change: AlertChange) -> bool:
    if change.before is None or (change.command is not None and change.command.via is CommandChannel.POLICY):
        return False
    has_run_event = any(event.kind in _RUN_EVENTS for event in change.events)
    return (
        change.before != change.after
        or has_run_event
        or bool(change.reassignment_reason)
        or change.paging_start is not None
    )


def _start_runs(connection: Connection, created: Sequence[AlertChange], now: datetime) -> None:
    # Every created alert has one: see `AlertCreation`.
    configs = [change.paging for change in created if change.paging is not None]
    plans = load_plans(connection, {paging.version_id for paging in configs})
    # Most alerts of a batch start with the same settings, so each distinct run is built once.
    runs_by_config: dict[tuple[PagingConfig, Priority], RunState] = {}
    runs = []
    for change, paging in zip(created, configs, strict=True):
        run = runs_by_config.get((paging, change.after.priority))
        if run is None:
            run = runs_by_config[paging, change.after.priority] = begin(change.after, paging, plans, now)
        runs.append(NewRun(change.alert_id, run, paging.version_id))
    insert(connection, runs)
    if any(run.due_at is not None and run.due_at <= now for run in runs_by_config.values()):
        database.notify(connection, "runs")


def _apply_changes(connection: Connection, changes: Sequence[AlertChange], now: datetime) -> None:
    """Applies each alert's changes to its run, then writes all runs and their effects at once."""
    rows = current_rows(connection, [change.alert_id for change in changes])
    version_ids = {row["version_id"] for row in rows.values()}
    version_ids |= {change.paging.version_id for change in changes if change.paging is not None}
    plans = load_plans(connection, version_ids)
    runs = {alert_id: readable_run(row, plans) for alert_id, row in rows.items()}
    for alert_id, users in restore_pages(connection, _reversed_actions(changes, runs, now)).items():
        # They have pages pending again.
        runs[alert_id] = with_progress(runs[alert_id], paging_until={**runs[alert_id].progress.paging_until, **users})
    written: dict[int, RunState] = {}
    successors: dict[int, tuple[RunState, int | None]] = {}
    versions: dict[int, int | None] = {alert_id: row["version_id"] for alert_id, row in rows.items()}
    decisions: list[tuple[int | None, RunDecision]] = []
    for change in changes:
        run = runs.get(change.alert_id)
        if run is None:
            continue
        row = rows[change.alert_id]
        for decision in _decide(change, run, plans, now):
            decisions.append((row["id"], decision))
            run = decision.successor or decision.run
            if change.alert_id not in successors:
                written[row["id"]] = decision.run
            if decision.successor is not None:
                paging = change.paging
                if paging is not None and paging.mode is decision.successor.mode:
                    versions[change.alert_id] = paging.version_id
                successors[change.alert_id] = (run, versions[change.alert_id])
            elif change.alert_id in successors:
                successors[change.alert_id] = (run, successors[change.alert_id][1])
        runs[change.alert_id] = run
    update(connection, written)
    insert(connection, [NewRun(alert_id, *new) for alert_id, new in successors.items()])
    were_dry_runs = [alert for alert in successors if rows[alert]["mode"] == PagingMode.DRY_RUN]
    store.end_dry_run(connection, [alert for alert in were_dry_runs if successors[alert][0].mode is PagingMode.PAGE])
    store.insert_events(connection, [event for _row, decision in decisions for event in decision.events])
    apply_effects(connection, decisions, now)
    if any(run.due_at is not None and run.due_at <= now for run in runs.values()):
        database.notify(connection, "runs")


def _reversed_actions(
    changes: Sequence[AlertChange], runs: Mapping[int, RunState], now: datetime
) -> dict[int, ReversedAction]:
    """What was reversed, by alert id: an undone command, or a withdrawn acknowledgement."""
    actions: dict[int, ReversedAction] = {}
    for change in changes:
        before, run = change.before, runs.get(change.alert_id)
        if before is None or run is None:
            continue
        for event in change.events:
            acknowledgement = before.acknowledged.get(event.actor.user_id or 0)
            if event.kind is EventKind.UNDONE and before.last_event is not None:
                actions[change.alert_id] = ReversedAction(before.last_event.at, event.reason)
            elif event.kind is EventKind.UNACKNOWLEDGED and acknowledgement is not None:
                if run.plan.effect is not AcknowledgeEffect.CONTINUE and has_required_acks(run.plan, change.after):
                    continue  # the remaining acknowledgements still stop everybody's pages
                # The acknowledgement may be old: pages due in the meantime are not sent late.
                actions[change.alert_id] = ReversedAction(acknowledgement.at, event.reason, due_after=now)
    return actions


def _has_resumed(change: AlertChange) -> bool:
    return (
        change.before is not None
        and change.before.status is AlertStatus.ON_HOLD
        and change.after.status in (AlertStatus.OPEN, AlertStatus.ASSIGNED)
    )


def _decide(
    change: AlertChange, run: RunState, plans: dict[int | None, CompiledPolicy], now: datetime
) -> list[RunDecision]:
    assert change.before is not None
    decisions = [apply_run_transition(run, change.before, change.after, change.events, now)]
    run = decisions[0].run
    has_risen = change.after.priority.is_above(change.before.priority) and not change.is_echoed_priority
    if has_risen and change.after.priority.is_above(run.priority):
        routed_run = begin(change.after, change.paging, plans, now) if change.paging is not None else None
        decisions.append(raise_priority(run, change.after, routed_run, now))
    elif change.reassignment_reason and change.paging is not None:
        routed_run = begin(change.after, change.paging, plans, now)
        decisions.append(reroute(run, change.after, routed_run, as_reason(change.reassignment_reason), now))
    elif change.paging_start is not None and change.paging is not None:
        routed_run = begin(change.after, change.paging, plans, change.paging_start.at or now)
        decisions.append(resume_run(run, change.after, routed_run, change.paging_start, now))
    return decisions
