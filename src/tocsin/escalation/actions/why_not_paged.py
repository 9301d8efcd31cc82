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
_EVENTS = "SELECT at, kind, reason, data FROM alerts_alertevent WHERE alert_id = %s ORDER BY id DESC LIMIT %s"
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
        EventKind.HELD,
    }
)
_OVER = frozenset({RunStatus.STOPPED, RunStatus.PAUSED, RunStatus.FINISHED, RunStatus.ENDED})
_CALLED = frozenset({DeliveryStatus.SENDING, DeliveryStatus.SENT, DeliveryStatus.DELIVERED})
_PIECES = re.compile(r"(?<=[.;])\s+")


@dataclass(frozen=True, slots=True)
class UnpagedUser:
    """A user who is connected with the alert and was not paged. `why` holds sentences, the most relevant first."""

    user_id: int
    username: str
    name: str
    why: tuple[str, ...]


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
    duties: Mapping[int, GroupPlan]
    on_schedules: Mapping[int, tuple[str, tuple[OnCall, ...]]]

    @property
    def stopped(self) -> str:
        """Why no further step fires; empty while one may."""
        if self.status not in _OVER:
            return ""
        said = (event["reason"] for event in self.events if event["kind"] in _STOPS and event["at"] >= self.started_at)
        return next(said, self.reason).partition("\n")[0]

    def order(self, group: int, role: MemberRole) -> tuple[OnCall, ...]:
        """The holders of a role in a group when the run began, in the order in which they are paged."""
        return final_schedule.by_role(final_schedule.on_call(self.duties[group], self.started_at)).get(role, ())

    def places(self, step: PolicyStep) -> Iterator[tuple[int, MemberRole]]:
        """The groups and roles that the step looks up."""
        for group in step.group_ids or self.groups:
            if group in self.duties:
                yield from ((group, role) for role in step.roles)

    def members(self, step: PolicyStep) -> frozenset[int]:
        """Every member of the step's groups."""
        groups = [self.duties[group] for group in step.group_ids or self.groups if group in self.duties]
        return frozenset(member.user_id for group in groups for member in group.members)


def explain_for_alert(connection: Connection, alert_id: int) -> tuple[UnpagedUser, ...]:
    """The users known to the alert's groups and policy who were not paged about it, sorted by name, each with
    reasons."""
    row = database.row(connection, _RUN, (alert_id,))
    if row is None:
        return ()
    case = _case(connection, row, tuple(database.rows(connection, _EVENTS, (alert_id, MAX_EVENTS))))
    pages = list(database.rows(connection, _PAGES, (alert_id, str(Purpose.PAGE))))
    called = {page["user_id"] for page in pages if page["status"] in _CALLED}
    wanted = _concerned(case) | {page["user_id"] for page in pages}
    users = list(database.rows(connection, _USERS, (sorted(wanted - called),)))
    return tuple(
        UnpagedUser(one["id"], one["username"], one["name"], tuple(_why(one, case, pages)))
        for one in sorted(users, key=lambda one: one["name"].casefold())
    )


def _case(connection: Connection, row: Mapping[str, Any], events: tuple[Mapping[str, Any], ...]) -> _RunFacts:
    try:
        plan = policy.load(row["definition"]) if row["definition"] else RECIPIENTS_ONLY
    except Rejected:
        plan = RECIPIENTS_ONLY  # even if the version can no longer be read, the reasons recorded at the time are valid
    named = references(plan)
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
        duties=loader.plans(connection, {*row["recipient_groups"], *named.groups}, started_at),
        on_schedules=loader.on_schedules(connection, named.schedules, started_at),
    )


def _concerned(case: _RunFacts) -> set[int]:
    """The ids of group members, of users named in the policy, and of users on call."""
    found = {*case.users, *references(case.plan).users}
    for group in case.duties.values():
        found |= {member.user_id for member in group.members}
        found |= {person.user_id for person in final_schedule.on_call(group, case.started_at)}
    for _, people in case.on_schedules.values():
        found |= {person.user_id for person in people}
    return found


def _why(user: Mapping[str, Any], case: _RunFacts, pages: Collection[Mapping[str, Any]]) -> Iterable[str]:
    number, name = user["id"], user["name"]
    said: dict[str, None] = {}
    if not user["is_active"]:
        said[f"{name} is switched off: nobody calls them."] = None
    if case.mode is PagingMode.DRY_RUN:
        said["The integration is in dry-run mode: nobody is paged."] = None
    elif case.mode is PagingMode.RECORD:
        said["Only recorded, nobody is paged."] = None
    for page in pages:
        if page["user_id"] == number:
            # A delivery still queued has a reason: quiet hours, or the delay of its notification rule.
            said[page["error"] or page["reason"] or page["because"]] = None
    said |= dict.fromkeys(_mentions(number, name, case.events))
    said |= dict.fromkeys(_by_step(number, name, case))
    return said or {f"No step of the policy calls {name}."}


def _mentions(number: int, name: str, events: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """The sentences recorded about the user while steps fired, oldest first."""
    for event in reversed(list(events)):
        data = event["data"] or {}
        if event["kind"] == EventKind.PAGE_FAILED and data.get("user_id") == number:
            yield event["reason"]
        elif event["kind"] in _STEPS and number not in (data.get("people") or ()):
            for piece in _PIECES.split(event["reason"]):
                if name in piece and " pages " not in piece and " would page " not in piece:
                    yield f"{piece[:1].upper()}{piece[1:].rstrip('.;')}."


def _by_step(number: int, name: str, case: _RunFacts) -> Iterator[str]:
    """What each step meant for the user: it would page them, another user came first, or others had its roles."""
    many = len(case.plan.steps)
    now = [event for event in case.events if event["kind"] in _STEPS and event["at"] >= case.started_at]
    fired = {(event["data"] or {}).get("step") for event in now}
    left_out = {event["data"]["step"]: event["reason"] for event in now if (event["data"] or {}).get("left_out")}
    members = {group: {member.user_id for member in plan.members} for group, plan in case.duties.items()}
    aside: dict[str, None] = {}
    for place, step in enumerate(case.plan.steps, start=1):
        calls = number in step.user_ids or (place == 1 and number in case.users)
        calls |= step.everybody and number in case.members(step)
        calls |= any(
            person.user_id == number for one in step.schedule_ids for person in case.on_schedules.get(one, ("", ()))[1]
        )
        for group, role in case.places(step):
            order, where = case.order(group, role), case.duties[group].name
            ids = [person.user_id for person in order]
            if ids[:1] == [number] or (number in ids and step.sequential is not None):
                calls = True
            elif number in ids:
                aside[f"{order[0].name} comes before {name} as {role} of {where}."] = None
            elif number not in members[group]:
                continue
            elif order:
                own = not order[0].schedule
                by = "by the group's own order" if own else order[0].reason
                aside[f"{order[0].name} was {role} of {where}: {by}."] = None
            else:
                aside[f"Nobody was {role} of {where}."] = None
        if calls and place in left_out:
            yield f"{left_out[place].partition('. ')[0].rstrip('.')}."
        elif calls and (place not in fired or step.sequential is not None) and not _is_said(name, place, now):
            if case.stopped:
                yield f"Step {place} of {many} was to call {name}, and did not come to it: {case.stopped}"
            else:
                yield f"Step {place} of {many} calls {name}, if nobody answers before."
    yield from aside


def _is_said(name: str, place: int, events: Iterable[Mapping[str, Any]]) -> bool:
    """Whether the step itself recorded why it did not page the user."""
    return any((event["data"] or {}).get("step") == place and name in event["reason"] for event in events)
