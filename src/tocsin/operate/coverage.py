"""Coverage gaps of on-call schedules, and the weekly e-mail about them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, time, timedelta
from typing import Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from tocsin.access.roles import MemberRole
from tocsin.core import ids
from tocsin.core.config import environment, settings_store
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.reasons import NO_REASON, Reason, Text, joined, reason_from_json, sentence
from tocsin.core.runtime import clock
from tocsin.core.runtime.periodic_tasks import PeriodicTask
from tocsin.core.validation.inputs import NightHours
from tocsin.notify.notices import Notice, queue_notice, was_noticed
from tocsin.notify.pages import load_recipients
from tocsin.notify.providers import pool
from tocsin.notify.providers.pool import KINDS, address_problem
from tocsin.notify.rules.page_planner import Recipient
from tocsin.notify.rules.responder_readiness import (
    EVIDENCE_FOR,
    TEST_VALID_FOR,
    MethodRoutes,
    MethodState,
    OnCallPerson,
    PersonTonight,
    ShiftReadiness,
    assess_route,
    readiness,
)
from tocsin.notify.text.formatting import one_line
from tocsin.oncall import loader
from tocsin.oncall.calculation import coverage_checks, final_schedule
from tocsin.oncall.calculation.coverage_checks import COVERAGE_HORIZON, CoverageFinding, CoverageFindingKind
from tocsin.oncall.calculation.final_schedule import GroupPlan
from tocsin.operate.finding import limited
from tocsin.people import addresses
from tocsin.people.sql import load_administrators, load_inactive

# ---------- coverage
# Coverage problems by group: runs `oncall.calculation.coverage_checks` on data from the database. Reads only.


_TIMES = Text("From {since} for {duration}.", "From {since} for {duration}, {count} times in total.")

_ENDLESS = Text("From {since}, without an end.", "From {since}, {count} times in total, the last without an end.")

_METHODS = "SELECT user_id, channel, address FROM people_contactmethod WHERE is_enabled AND NOT awaits_code"

#: Limits for listing unknown names: how many, and how long each may be.
_MAX_NAMES = 5
_MAX_NAME_CHARS = 60

_UNREAD = """
SELECT g.id AS group_id, g.name AS "group", s.id AS schedule_id, s.name AS schedule, i.shift, i.error,
       i.unknown, i.read_at
FROM oncall_calendarimport i
JOIN oncall_schedule s ON s.id = i.schedule_id
JOIN people_group g ON g.id = s.group_id
WHERE i.error <> '{}' OR i.unknown <> '[]'::jsonb
ORDER BY s.name, i.shift
"""


def coverage_of_groups(
    connection: Connection,
    group_ids: Iterable[int],
    since: datetime,
    ahead: timedelta = coverage_checks.COVERAGE_HORIZON,
) -> dict[int, tuple[GroupPlan, tuple[CoverageFinding, ...]]]:
    """Each group's snapshot and its coverage findings from `since` for `ahead`, the most serious first, by group id."""
    can_be_paged = reachable_user_ids(connection)
    return {
        group_id: (plan, coverage_checks.findings(plan, can_be_paged, since, since + ahead))
        for group_id, plan in loader.plans(connection, group_ids, since).items()
    }


def reachable_user_ids(connection: Connection) -> frozenset[int]:
    """The ids of users with a usable contact method."""
    return frozenset(
        row["user_id"]
        for row in database.rows(connection, _METHODS)
        if address_problem(row["channel"], row["address"]) is None
    )


def describe_finding(finding: CoverageFinding, since: datetime) -> Reason:
    """A finding with its times."""
    text = finding.reason
    if not has_times(finding):
        return text
    start, count = max(finding.since or since, since), max(1, finding.occurrence_count)
    if finding.until is None:
        return joined(text, _ENDLESS(since=start, count=count), separator=" ")
    return joined(text, _TIMES(since=start, duration=finding.until - start, count=count), separator=" ")


def has_times(finding: CoverageFinding) -> bool:
    """Whether the finding has times; a shift that never counts has none."""
    return finding.kind is not CoverageFindingKind.HIDDEN and not (finding.since is None and finding.until is None)


@dataclass(frozen=True, slots=True)
class UnreadCalendar:
    """A shift whose imported calendar could not be read, or only in part.

    `error` is empty without an error; `unknown` are names in the calendar that match no user.
    """

    group_id: int
    group: str
    schedule_id: int
    schedule: str
    shift: str
    error: Reason
    unknown: list[str]
    read_at: datetime | None

    @property
    def reason(self) -> Reason:
        """What is wrong with the calendar."""
        names = limited([one_line(name, _MAX_NAME_CHARS) for name in self.unknown], _MAX_NAMES)
        unknown = sentence("No user matches {names}: no one is on call for these events.", names=names)
        problem = joined(self.error, unknown if names else NO_REASON, separator=" ")
        return sentence(
            "The calendar of shift {shift} of {schedule}: {problem}",
            shift=self.shift,
            schedule=self.schedule,
            problem=problem,
        )


def unread_calendars(connection: Connection) -> list[UnreadCalendar]:
    """All imported calendars with problems, by schedule."""
    return [
        UnreadCalendar(error=reason_from_json(row.pop("error")), **row) for row in database.rows(connection, _UNREAD)
    ]


# ---------- responders
# Readiness of the users on call by group: runs `notify.rules.responder_readiness` on data from the database. Reads
# only.


#: How far ahead readiness is checked where no range is given: the current shifts, and the next of a weekly rotation.
READINESS_HORIZON = timedelta(days=8)

# Notifications are found by user, the newest first. A message in the sandbox left no machine, and a call that nobody
# answered proves nothing.
_RESPONDERS_METHODS = """
SELECT m.user_id, m.label, m.channel, m.address, m.verified_at IS NOT NULL AS has_code, m.rings_silenced,
       arrived.at AS arrived_at
FROM people_contactmethod m
LEFT JOIN LATERAL (
    SELECT coalesce(d.delivered_at, d.sent_at) AS at
    FROM notify_notification n JOIN notify_delivery d ON d.notification_id = n.id
    WHERE n.user_id = m.user_id AND n.id >= %(oldest)s AND n.channel = m.channel AND n.address = m.address
        AND d.status IN ('sent', 'delivered') AND d.provider_name NOT IN ('', 'sandbox') AND d.receipt <> 'not_reached'
    ORDER BY n.id DESC LIMIT 1
) arrived ON true
WHERE m.user_id = ANY(%(users)s)
"""


def readiness_of_groups(
    connection: Connection, group_ids: Iterable[int], now: datetime, since: datetime, until: datetime
) -> dict[int, tuple[GroupPlan, tuple[ShiftReadiness, ...]]]:
    """Returns each group's snapshot and the readiness of its shifts from `since` until `until`, by group id."""
    plans = loader.plans(connection, group_ids, since)
    timelines = {group_id: final_schedule.timeline(plan, since, until) for group_id, plan in plans.items()}
    user_ids = {shift.user_id for timeline in timelines.values() for shift in timeline.segments}
    responders = load_responders(connection, user_ids, now)
    return {group_id: (plan, readiness(timelines[group_id], responders, now)) for group_id, plan in plans.items()}


def load_responders(connection: Connection, user_ids: Collection[int], now: datetime) -> dict[int, OnCallPerson]:
    """Returns the users with their contact methods and the state of each, by id."""
    if not user_ids:
        return {}
    states: dict[int, dict[str, MethodState]] = {}
    parameters = {"users": sorted(user_ids), "oldest": ids.first_uuid7(now - TEST_VALID_FOR)}
    unavailable = {name for name, row in _load_providers(connection, now).items() if row["is_unavailable"]}
    for row in database.rows(connection, _RESPONDERS_METHODS, parameters):
        channel, address = row["channel"], row["address"]
        is_verified = row["has_code"] or not addresses.accepts_code(channel, address)
        # Without a provider there is the sandbox, which Health reports.
        providers = _providers_of(connection, channel, address) if unavailable else []
        states.setdefault(row["user_id"], {})[row["label"]] = MethodState(
            is_verified,
            row["arrived_at"],
            row["rings_silenced"],
            not providers or not unavailable.issuperset(providers),
        )
    return {
        user_id: OnCallPerson(_with_valid_addresses(recipient), states.get(user_id, {}))
        for user_id, recipient in load_recipients(connection, user_ids).items()
    }


def _with_valid_addresses(recipient: Recipient) -> Recipient:
    """Returns the user with those contact methods disabled whose address no provider of today accepts."""
    methods = (
        replace(method, is_enabled=method.is_enabled and address_problem(method.channel, method.address) is None)
        for method in recipient.methods
    )
    return replace(recipient, methods=tuple(methods))


# ---------- tonight
# Which contact method of each user on call in the coming night works by which provider.


_DISABLED = Text("disabled")
_NOT_VERIFIED = Text("not verified")
_OPTED_OUT = Text("opted out with STOP")
_SILENT = Text("does not ring while the phone is silenced")

_TONIGHT_METHODS = """
SELECT m.user_id, m.label, m.channel, m.address, m.is_enabled, m.awaits_code, m.rings_silenced,
       EXISTS (SELECT FROM notify_optout o WHERE o.channel = m.channel AND o.address = m.address) AS is_opted_out
FROM people_contactmethod m WHERE m.user_id = ANY(%s) ORDER BY m.user_id, m.position, m.id
"""
# Notifications are found by user. A text that was accepted proves nothing where receipts would say that it arrived.
_EVIDENCE = """
SELECT n.user_id, d.channel, d.address, d.provider_name,
       max(d.delivered_at) FILTER (WHERE d.status = 'delivered') AS delivered_at,
       max(d.sent_at) FILTER (WHERE d.status IN ('sent', 'delivered') AND d.receipt <> 'not_reached') AS sent_at,
       max(coalesce(d.ended_at, d.late_since)) FILTER (WHERE d.status IN ('failed', 'queued') AND d.error <> '{}')
         AS failed_at,
       (array_agg(d.error ORDER BY d.id DESC) FILTER (WHERE d.status IN ('failed', 'queued') AND d.error <> '{}'))[1]
         AS error
FROM notify_notification n JOIN notify_delivery d ON d.notification_id = n.id
WHERE n.user_id = ANY(%s) AND n.id >= %s AND d.attempts > 0 GROUP BY n.user_id, d.channel, d.address, d.provider_name
"""
_PROVIDERS = """
SELECT coalesce(p.name, h.name) AS name, p.kind,
       coalesce(h.is_open OR (h.quota_left = 0 AND h.quota_resets_at > %s), false) AS is_unavailable
FROM notify_provider p FULL JOIN notify_providerhealth h ON h.name = p.name
"""


def coming_night(hours: NightHours, zone: ZoneInfo, now: datetime) -> tuple[datetime, datetime]:
    """Returns the night that it is, or else the next one."""
    nights = (hours.last_night(now.astimezone(zone) + timedelta(days=days)) for days in (0, 1))
    return next((since, until) for since, until in nights if until > now)


def tonight(
    connection: Connection, group_ids: Iterable[int], now: datetime
) -> tuple[tuple[datetime, datetime], dict[int, tuple[PersonTonight, ...]]]:
    """Returns the coming night, and whom the groups have on call in it, by group id. Leads are not paged first."""
    settings = settings_store.load(connection)
    hours = NightHours.parse(settings[settings_store.NIGHT_HOURS.name])
    since, until = coming_night(hours, ZoneInfo(settings[settings_store.TIME_ZONE.name]), now)
    roles: dict[int, dict[tuple[int, str], list[MemberRole]]] = {}
    for group_id, plan in loader.plans(connection, group_ids, since).items():
        found = roles.setdefault(group_id, {})
        for shift in final_schedule.timeline(plan, since, until).segments:
            if shift.role is not MemberRole.LEAD:
                found.setdefault((shift.user_id, shift.name), []).append(shift.role)
    methods = _methods_tonight(connection, {user_id for found in roles.values() for user_id, _name in found}, now)
    people = {
        group_id: tuple(
            PersonTonight(user_id, name, tuple(dict.fromkeys(held)), methods.get(user_id, ()))
            for (user_id, name), held in found.items()
        )
        for group_id, found in roles.items()
    }
    return (since, until), people


def _load_providers(connection: Connection, now: datetime) -> dict[str, dict[str, Any]]:
    """Returns the providers by name, and whether each fails for everybody now, or has used up its quota."""
    return {row["name"]: row for row in database.rows(connection, _PROVIDERS, (now,))}


def _providers_of(connection: Connection, channel: str, address: str) -> list[str]:
    return pool.in_order(connection, channel, address) or pool.built_in_for(channel, address)


def _methods_tonight(
    connection: Connection, user_ids: Collection[int], now: datetime
) -> dict[int, tuple[MethodRoutes, ...]]:
    users = sorted(user_ids)
    evidence = {
        (row["user_id"], row["channel"], row["address"], row["provider_name"]): row
        for row in database.rows(connection, _EVIDENCE, (users, ids.first_uuid7(now - EVIDENCE_FOR)))
    }
    providers = _load_providers(connection, now)
    found: dict[int, tuple[MethodRoutes, ...]] = {}
    for method in database.rows(connection, _TONIGHT_METHODS, (users,)):
        channel, address = method["channel"], method["address"]
        routes = []
        for name in _providers_of(connection, channel, address):
            state, row = providers.get(name, {}), evidence.get((method["user_id"], channel, address, name), {})
            kind = KINDS.get(state.get("kind") or "")
            worked = "delivered_at" if kind is not None and channel in kind.receipt_channels else "sent_at"
            is_available = not state.get("is_unavailable")
            error = reason_from_json(row.get("error"))
            routes.append(
                assess_route(name, row.get(worked), row.get("failed_at"), error, now, is_available=is_available)
            )
        is_faulty = {
            _DISABLED: not method["is_enabled"],
            _NOT_VERIFIED: method["awaits_code"],
            _OPTED_OUT: method["is_opted_out"],
            _SILENT: method["rings_silenced"] is False,
        }
        problems = tuple(text() for text, is_problem in is_faulty.items() if is_problem)
        reached = MethodRoutes(method["label"], channel, problems, tuple(routes))
        found[method["user_id"]] = (*found.get(method["user_id"], ()), reached)
    return found


# ---------- lead mail
# Mails a group's leads about its on-call coverage; the administrators where it has none.


#: The last line of a list that is cut off.
MORE = Text("- and {count} more", "- and {count} more")

_GROUP = Text("The group: {url}")
_LEAD = Text("You are a lead of {group}.")


def mail_leads(
    connection: Connection, plan: GroupPlan, title: Reason, text: Reason, about: str, now: datetime, window: timedelta
) -> int:
    """Queues the mail, unless one about the same was sent within `window`. Returns the number of recipients."""
    leads = [m.user_id for m in plan.members if m.is_active and MemberRole.LEAD in m.roles]
    recipient_ids = leads or load_administrators(connection)
    if not recipient_ids or was_noticed(connection, recipient_ids, about, now, window):
        return 0
    link = _GROUP(url=f"{environment.current().public_url}/groups/{plan.id}/")
    notice = Notice(
        title=title,
        text=joined(text, link, separator="\n\n"),
        about=about,
        reason=_LEAD(group=plan.name) if leads else sentence("{group} has no lead.", group=plan.name),
    )
    return len(queue_notice(connection, notice, now, user_ids=recipient_ids).names)


# ---------- deactivation mail
# The e-mail to a group's leads when a user with shifts was deactivated, with a link for each gap to fill it.
#
# This runs as a periodic task in a worker, so it works no matter how the account was deactivated. The notices
# themselves record that an e-mail was sent, so a restart or a second node does not send it again.


#: A changed account wakes the task; without a hint it checks at this interval.
DEACTIVATION_CHECK_INTERVAL = timedelta(minutes=10)
#: Gaps listed per e-mail; the rest is only counted.
MAX_GAPS = 10

_TITLE = Text("{user} was deactivated and is on call in {group}")
_NO_GAP = Text("Others are on call instead of {user} in the next {days} days.")

#: Advisory lock: one node at a time.
_LOCK = int.from_bytes(b"departed")


def deactivation_mail_task() -> PeriodicTask:
    run = lambda: run_once(clock.now())  # noqa: E731
    return PeriodicTask("deactivated users on call", run, DEACTIVATION_CHECK_INTERVAL, frozenset({"config"}))


def run_once(now: datetime) -> bool:
    """Mails about each deactivated user whom a shift or an override names, once in each group."""
    with database.transaction() as connection:
        inactive = load_inactive(connection)
        groups = loader.groups_of(connection, inactive) if inactive else frozenset()
        if not groups or not database.rows(connection, "SELECT 1 WHERE pg_try_advisory_xact_lock(%s)", (_LOCK,)):
            return False
        sent = 0
        for plan, findings in coverage_of_groups(connection, groups, now).values():
            gaps = [one for one in findings if one.kind is CoverageFindingKind.GAP]
            departed = [one for one in findings if one.kind is CoverageFindingKind.DEACTIVATED_USER]
            for user_id in dict.fromkeys(one.user_id for one in departed if one.user_id is not None):
                named = [one for one in departed if one.user_id == user_id]
                sent += _send(connection, plan, user_id, named, gaps, now)
        if sent:
            database.notify(connection, "outbox")
    return False


def _send(
    connection: Connection,
    plan: GroupPlan,
    user_id: int,
    departed: Sequence[CoverageFinding],
    gaps: Sequence[CoverageFinding],
    now: datetime,
) -> int:
    days = COVERAGE_HORIZON.days
    problems = coverage_checks.first_of_each(departed)
    parts = [joined(*(describe_finding(one, now) for one in problems), separator=" ")]
    if gaps:
        lines = [
            # Each gap has a line of its own, which does not say how often there is one.
            sentence(
                "- {problem} Select a replacement: {url}",
                problem=describe_finding(replace(gap, occurrence_count=1), now),
                url=_replacement_url(plan, gap, departed, now),
            )
            for gap in gaps[:MAX_GAPS]
        ]
        if len(gaps) > MAX_GAPS:
            lines.append(MORE(count=len(gaps) - MAX_GAPS))
        no_one = sentence("No one is on call instead, in the next {days} days:", days=days)
        parts.append(joined(no_one, *lines, separator="\n"))
    else:
        parts.append(_NO_GAP(user=plan.person(user_id), days=days))
    title = _TITLE(user=plan.person(user_id), group=plan.name)
    text: Reason = joined(*parts, separator="\n\n")
    return mail_leads(connection, plan, title, text, f"deactivated:{plan.id}:{user_id}", now, COVERAGE_HORIZON)


def _replacement_url(plan: GroupPlan, gap: CoverageFinding, departed: Sequence[CoverageFinding], now: datetime) -> str:
    """Returns the page that replaces nobody in the gap by somebody: the period is filled in."""
    query = {"role": str(gap.role or ""), "schedule": departed[0].schedule}
    query |= {name: at.isoformat() for name, at in (("from", max(gap.since or now, now)), ("to", gap.until)) if at}
    return f"{environment.current().public_url}/groups/{plan.id}/reassign/?{urlencode(query)}"


# ---------- weekly mail
# The weekly e-mail to leads about coverage problems in their groups, if the setting is enabled.
#
# The notices themselves record that an e-mail was sent, so a restart or a second node does not send it again.


WEEKLY_MAIL_CHECK_INTERVAL = timedelta(minutes=10)
#: On Mondays, in the installation's time zone.
SEND_TIME = time(8)
#: Findings listed per e-mail; the rest is only counted.
MAX_FINDINGS = 20

_LINE = Text("- {problem}")

#: Advisory lock: one node at a time.
_WEEKLY_MAIL_LOCK = int.from_bytes(b"coverage")


def weekly_mail_task() -> PeriodicTask:
    return PeriodicTask("weekly coverage mail", lambda: run_weekly_mail(clock.now()), WEEKLY_MAIL_CHECK_INTERVAL)


def run_weekly_mail(now: datetime) -> bool:
    """Sends e-mails due at `now`; does nothing on other days than Monday or if disabled."""
    with database.transaction() as connection:
        settings = settings_store.load(connection)
        if not settings[settings_store.WEEKLY_COVERAGE_MAIL.name]:
            return False
        local = now.astimezone(ZoneInfo(settings[settings_store.TIME_ZONE.name]))
        if local.weekday() != 0 or local.time() < SEND_TIME:
            return False
        if not database.rows(connection, "SELECT 1 WHERE pg_try_advisory_xact_lock(%s)", (_WEEKLY_MAIL_LOCK,)):
            return False
        groups = loader.groups_with_schedule(connection)
        sent = 0
        for plan, findings in coverage_of_groups(connection, groups, now).values():
            problems = coverage_checks.first_of_each(coverage_checks.problems(findings))
            if problems:
                sent += _send_weekly_mail(connection, plan, problems, local.date().isoformat(), now)
        if sent:
            database.notify(connection, "outbox")
    return False


def _send_weekly_mail(
    connection: Connection, plan: GroupPlan, problems: tuple[CoverageFinding, ...], week: str, now: datetime
) -> int:
    lines = [_LINE(problem=describe_finding(finding, now)) for finding in problems[:MAX_FINDINGS]]
    if len(problems) > MAX_FINDINGS:
        lines.append(MORE(count=len(problems) - MAX_FINDINGS))
    days = COVERAGE_HORIZON.days
    intro = sentence("On-call problems in {group} in the next {days} days:", group=plan.name, days=days)
    title = sentence(
        "On call in {group}: {count} problem",
        "On call in {group}: {count} problems",
        group=plan.name,
        count=len(problems),
    )
    text = joined(intro, joined(*lines, separator="\n"), separator="\n\n")
    return mail_leads(connection, plan, title, text, f"coverage:{plan.id}:{week}", now, timedelta(days=6))
