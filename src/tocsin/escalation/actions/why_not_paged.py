"""Explains why a user was not paged about an alert. Reads only.

Reasons recorded at the time are quoted as they are; role holders are recalculated from the schedules as they are now.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tocsin.alerts.change_handlers import PagingMode
from tocsin.alerts.states import EventKind
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.errors import Rejected
from tocsin.core.reasons import reason_from
from tocsin.escalation.policy import policy
from tocsin.escalation.policy.policy import RECIPIENTS_ONLY, CompiledPolicy, references
from tocsin.escalation.policy.steps import PolicyStep
from tocsin.escalation.run.run_state import RunStatus
from tocsin.notify.states import DeliveryStatus, Purpose
from tocsin.oncall import loader
from tocsin.oncall.calculation import final_schedule
from tocsin.oncall.calculation.final_schedule import OnCall
from tocsin.oncall.calculation.group_snapshot import GroupPlan
from tocsin.people.member_roles import MemberRole

#: At most this many timeline events are examined.
MAX_EVENTS = 2000

_RUN = """
SELECT r.status, r.mode, r.reason, r.recipient_groups, r.recipient_users, r.started_at, v.definition
FROM escalation_run r LEFT JOIN escalation_policyversion v ON v.id = r.version_id
WHERE r.alert_id = %s ORDER BY r.id DESC LIMIT 1
"""
_EVENTS = (
    "SELECT at, kind, reason_code, reason_data, data FROM alerts_alertevent WHERE alert_id = %s "
    "ORDER BY id DESC LIMIT %s"
)
_PAGES = """
SELECT n.user_id, n.channel, n.reason AS because, d.status, d.reason, d.error
FROM notify_notification n JOIN notify_delivery d ON d.notification_id = n.id
WHERE n.alert_id = %s AND n.purpose = %s AND n.user_id IS NOT NULL ORDER BY n.id, d.queued_at
"""
_USERS = (
    "SELECT id, username, coalesce(nullif(name, ''), username) AS name, is_active FROM people_user WHERE id = ANY(%s)"
)

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
_SENTENCE_BREAK = re.compile(r"(?<=[.;])\s+")


@dataclass(frozen=True, slots=True)
class UnpagedUser:
    """A user who is connected with the alert and was not paged. `why` holds sentences, the most relevant first."""

    user_id: int
    username: str
    name: str
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _RunFacts:
    """The newest run of the alert, with the on-call data of its start."""

    plan: CompiledPolicy
    status: RunStatus
    mode: PagingMode
    reason: str
    groups: tuple[int, ...]
    users: frozenset[int]
    started_at: datetime
    events: tuple[Mapping[str, Any], ...]
    group_plans: Mapping[int, GroupPlan]
    on_schedules: Mapping[int, tuple[str, tuple[OnCall, ...]]]

    @property
    def stop_reason(self) -> str:
        """Why no further step fires; empty while one may."""
        if self.status not in _INACTIVE:
            return ""
        reasons = (
            event["reason"] for event in self.events if event["kind"] in _STOPS and event["at"] >= self.started_at
        )
        return next(reasons, self.reason).partition("\n")[0]

    def role_holders(self, group: int, role: MemberRole) -> tuple[OnCall, ...]:
        """The holders of a role in a group when the run began, in the order in which they are paged."""
        return final_schedule.by_role(final_schedule.on_call(self.group_plans[group], self.started_at)).get(role, ())

    def group_roles(self, step: PolicyStep) -> Iterator[tuple[int, MemberRole]]:
        """The groups and roles that the step looks up."""
        for group in step.group_ids or self.groups:
            if group in self.group_plans:
                yield from ((group, role) for role in step.roles)

    def members(self, step: PolicyStep) -> frozenset[int]:
        """Every member of the step's groups."""
        groups = [self.group_plans[group] for group in step.group_ids or self.groups if group in self.group_plans]
        return frozenset(member.user_id for group in groups for member in group.members)


def explain_for_alert(connection: Connection, alert_id: int) -> tuple[UnpagedUser, ...]:
    """The users known to the alert's groups and policy who were not paged about it, sorted by name, each with
    reasons."""
    row = database.row(connection, _RUN, (alert_id,))
    if row is None:
        return ()
    events = tuple(
        {**event, "reason": str(reason_from(event["reason_code"], event["reason_data"]))}
        for event in database.rows(connection, _EVENTS, (alert_id, MAX_EVENTS))
    )
    facts = _load_facts(connection, row, events)
    pages = list(database.rows(connection, _PAGES, (alert_id, str(Purpose.PAGE))))
    paged_ids = {page["user_id"] for page in pages if page["status"] in _PAGED}
    user_ids = _connected_user_ids(facts) | {page["user_id"] for page in pages}
    users = list(database.rows(connection, _USERS, (sorted(user_ids - paged_ids),)))
    return tuple(
        UnpagedUser(one["id"], one["username"], one["name"], tuple(_reasons(one, facts, pages)))
        for one in sorted(users, key=lambda one: one["name"].casefold())
    )


def _load_facts(connection: Connection, row: Mapping[str, Any], events: tuple[Mapping[str, Any], ...]) -> _RunFacts:
    try:
        plan = policy.load(row["definition"]) if row["definition"] else RECIPIENTS_ONLY
    except Rejected:
        plan = RECIPIENTS_ONLY  # even if the version can no longer be read, the reasons recorded at the time are valid
    refs = references(plan)
    started_at = row["started_at"]
    return _RunFacts(
        plan=plan,
        status=RunStatus(row["status"]),
        mode=PagingMode(row["mode"]),
        reason=row["reason"],
        groups=tuple(row["recipient_groups"]),
        users=frozenset(row["recipient_users"]),
        started_at=started_at,
        events=events,
        group_plans=loader.plans(connection, {*row["recipient_groups"], *refs.groups}, started_at),
        on_schedules=loader.on_schedules(connection, refs.schedules, started_at),
    )


def _connected_user_ids(facts: _RunFacts) -> set[int]:
    """The ids of group members, of users named in the policy, and of users on call."""
    user_ids = {*facts.users, *references(facts.plan).users}
    for group in facts.group_plans.values():
        user_ids |= {member.user_id for member in group.members}
        user_ids |= {person.user_id for person in final_schedule.on_call(group, facts.started_at)}
    for _, on_call in facts.on_schedules.values():
        user_ids |= {person.user_id for person in on_call}
    return user_ids


def _reasons(user: Mapping[str, Any], facts: _RunFacts, pages: Collection[Mapping[str, Any]]) -> Iterable[str]:
    user_id, name = user["id"], user["name"]
    reasons: dict[str, None] = {}
    if not user["is_active"]:
        reasons[f"{name} is switched off: nobody calls them."] = None
    if facts.mode is PagingMode.DRY_RUN:
        reasons["The integration is in dry-run mode: nobody is paged."] = None
    elif facts.mode is PagingMode.LOG_ONLY:
        reasons["Only recorded, nobody is paged."] = None
    for page in pages:
        if page["user_id"] == user_id:
            # A delivery still queued has a reason: quiet hours, or the delay of its notification rule.
            reasons[page["error"] or page["reason"] or page["because"]] = None
    reasons |= dict.fromkeys(_mentions(user_id, name, facts.events))
    reasons |= dict.fromkeys(_by_step(user_id, name, facts))
    return reasons or {f"No step of the policy calls {name}."}


def _mentions(user_id: int, name: str, events: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """The sentences recorded about the user while steps fired, oldest first."""
    for event in reversed(list(events)):
        data = event["data"] or {}
        if event["kind"] == EventKind.PAGE_FAILED and data.get("user_id") == user_id:
            yield event["reason"]
        elif event["kind"] in _STEPS and user_id not in (data.get("people") or ()):
            for sentence in _SENTENCE_BREAK.split(event["reason"]):
                if name in sentence and " pages " not in sentence and " would page " not in sentence:
                    yield f"{sentence[:1].upper()}{sentence[1:].rstrip('.;')}."


def _by_step(user_id: int, name: str, facts: _RunFacts) -> Iterator[str]:
    """What each step meant for the user: it would page them, another user came first, or others had its roles."""
    step_count = len(facts.plan.steps)
    step_events = [event for event in facts.events if event["kind"] in _STEPS and event["at"] >= facts.started_at]
    fired = {(event["data"] or {}).get("step") for event in step_events}
    skipped_steps = {
        event["data"]["step"]: event["reason"] for event in step_events if (event["data"] or {}).get("left_out")
    }
    members = {group: {member.user_id for member in plan.members} for group, plan in facts.group_plans.items()}
    other_reasons: dict[str, None] = {}
    for step_number, step in enumerate(facts.plan.steps, start=1):
        would_page = user_id in step.user_ids or (step_number == 1 and user_id in facts.users)
        would_page |= step.everybody and user_id in facts.members(step)
        would_page |= any(
            person.user_id == user_id
            for one in step.schedule_ids
            for person in facts.on_schedules.get(one, ("", ()))[1]
        )
        for group, role in facts.group_roles(step):
            holders, group_name = facts.role_holders(group, role), facts.group_plans[group].name
            ids = [person.user_id for person in holders]
            if ids[:1] == [user_id] or (user_id in ids and step.sequential_interval is not None):
                would_page = True
            elif user_id in ids:
                other_reasons[f"{holders[0].name} comes before {name} as {role} of {group_name}."] = None
            elif user_id not in members[group]:
                continue
            elif holders:
                is_group_order = not holders[0].schedule
                cause = "by the group's own order" if is_group_order else holders[0].reason
                other_reasons[f"{holders[0].name} was {role} of {group_name}: {cause}."] = None
            else:
                other_reasons[f"Nobody was {role} of {group_name}."] = None
        if would_page and step_number in skipped_steps:
            yield f"{skipped_steps[step_number].partition('. ')[0].rstrip('.')}."
        elif (
            would_page
            and (step_number not in fired or step.sequential_interval is not None)
            and not _is_explained(name, step_number, step_events)
        ):
            if facts.stop_reason:
                yield (
                    f"Step {step_number} of {step_count} was to call {name}, and did not come to it: "
                    f"{facts.stop_reason}"
                )
            else:
                yield f"Step {step_number} of {step_count} calls {name}, if nobody answers before."
    yield from other_reasons


def _is_explained(name: str, step_number: int, events: Iterable[Mapping[str, Any]]) -> bool:
    """Whether the step itself recorded why it did not page the user."""
    return any((event["data"] or {}).get("step") == step_number and name in event["reason"] for event in events)
