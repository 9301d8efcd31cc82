"""Checks who would be paged: users that cannot be reached, or only by push, and whether there is an administrator."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from tocsin.access.roles import MemberRole, Role
from tocsin.alerts.store import join_alert
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.reasons import AlertRef, Person, Term, Text, reason_from_json, sentence
from tocsin.escalation import commands as policies
from tocsin.escalation.models import EXHAUSTED_RUNS_SQL, Policy
from tocsin.inbound.models import Integration
from tocsin.notify import notices
from tocsin.notify.inbound import responder_actions
from tocsin.notify.providers.pool import address_problem
from tocsin.notify.rules import responder_readiness
from tocsin.notify.rules.page_planner import NotificationMethod, Recipient, apply_rules
from tocsin.notify.rules.responder_readiness import ReadinessProblem
from tocsin.oncall import loader
from tocsin.oncall.calculation import schedules
from tocsin.oncall.calculation.coverage_checks import CoverageFindingKind
from tocsin.oncall.models import CalendarImport, Override, Schedule
from tocsin.operate import coverage
from tocsin.operate.finding import FindingLevel, HealthFinding, limited, note
from tocsin.people.changes import out_of_office
from tocsin.people.models import ContactMethod, Membership, User
from tocsin.resources import visibility

_UNREACHABLE = Text("{user} is paged by a group, schedule or policy and has no usable contact method.")
_UNREACHABLE_REMEDY = Text("Add a contact method under Users, or have them add one under Me.")


def check(connection: Connection, now: datetime) -> Iterator[HealthFinding]:
    """Checks the users as of `now`. Also uses Django's connection."""
    if not User.objects.filter(role=Role.ADMIN, is_active=True).exists():
        yield HealthFinding(
            "people.no_administrator",
            sentence("Tocsin has no administrator: no one is notified of problems or can fix them in the browser."),
            sentence("Run tocsin user create NAME --email E --role admin"),
        )
    yield from _unreachable_people(now)
    yield from _opted_out(connection)


def _unreachable_people(now: datetime) -> Iterator[HealthFinding]:
    """Active users paged by a group, schedule, integration or policy who have no usable contact method."""
    paged_user_ids = {membership.user_id for membership in Membership.objects.filter(roles__len__gt=0)}
    for integration in Integration.objects.prefetch_related("recipient_users"):
        paged_user_ids |= {user.pk for user in integration.recipient_users.all()}
    for policy in Policy.objects.exclude(current_version=None).select_related("current_version"):
        paged_user_ids |= policies.references(policy).users
    for schedule in Schedule.objects.all():
        paged_user_ids |= schedules.load(schedule.name, schedule.time_zone, schedule.definition).users
    for calendar_import in CalendarImport.objects.all():
        spans = loader.imported_spans(calendar_import.spans).spans
        paged_user_ids |= {user for user, _since, until in spans if until > now}
    paged_user_ids |= set(Override.objects.filter(ends_at__gt=now).values_list("user_id", flat=True))
    paged_user_ids |= _covering_user_ids(paged_user_ids, now)
    reachable = {
        method.user_id
        for method in ContactMethod.objects.filter(is_enabled=True, awaits_code=False, user__in=paged_user_ids)
        if address_problem(method.channel, method.address) is None
    }
    for user in User.objects.filter(pk__in=paged_user_ids - reachable, is_active=True).order_by("username"):
        yield HealthFinding(
            "people.unreachable",
            _UNREACHABLE(user=Person(user.display_name, user.pk)),
            _UNREACHABLE_REMEDY(),
            about=user.username,
            object_id=user.pk,
            is_urgent=True,
        )
    yield from _push_only(paged_user_ids)


def _covering_user_ids(user_ids: set[int], now: datetime) -> set[int]:
    """The users who cover for any of these now or later, and those who cover for them in turn."""
    covering_ids: set[int] = set()
    for absence in out_of_office.rows().filter(ends_at__gt=now, user__in=user_ids):
        covering_ids |= {cover.user_id for cover in absence.covers.all()}
        covering_ids |= {absence.cover_id} if absence.cover_id is not None else set()
    return covering_ids | _covering_user_ids(user_ids | covering_ids, now) if covering_ids - user_ids else covering_ids


def _push_only(user_ids: set[int]) -> Iterator[HealthFinding]:
    """Users reached only by push notifications at high priorities."""
    users = User.objects.filter(pk__in=user_ids, is_active=True).prefetch_related("contact_methods")
    for user in users.order_by("username"):
        methods = tuple(
            NotificationMethod(method.label, method.channel, method.address, is_enabled=method.is_enabled)
            for method in user.contact_methods.all()
            if not method.awaits_code
        )
        recipient = apply_rules(Recipient(user.pk, user.display_name, methods), user.notification_rules)
        if priorities := responder_readiness.push_only_priorities(recipient):
            detail = sentence(
                "{user} gets only push notifications at priority {priorities}: they are missed if the phone is "
                "off, silent or offline.",
                user=Person(user.display_name, user.pk),
                priorities=tuple(Term(priority) for priority in priorities),
            )
            yield note("people.push_only", detail, sentence("Add a text message or phone call."))


def _opted_out(connection: Connection) -> Iterator[HealthFinding]:
    """Users who replied STOP: text messages to them fail, and only they can opt in again."""
    for user_id, name, label, _ in responder_actions.opted_out(connection):
        detail = sentence(
            "{user} opted out with STOP: {contact_method} receives no text messages.", user=name, contact_method=label
        )
        remedy = sentence("Ask them to send START to Tocsin's number, or add another contact method.")
        yield HealthFinding("people.opted_out", detail, remedy, about=name, object_id=user_id)


# ---------- on call
# Checks upcoming on-call schedules: coverage gaps, deactivated or absent users, shifts without effect, and users on
# call who cannot be woken.


_SOON = timedelta(days=1)
_ALL_GROUPS = "SELECT id AS group_id FROM people_group ORDER BY name"

_NOT_LOUD = Text("{user} is on call in {group} without calls, SMS or push: email and chat may not wake them.")

REMEDIES = {
    CoverageFindingKind.GAP: sentence(
        "Add a shift for that time. Until then, steps that page this role skip to the next step."
    ),
    CoverageFindingKind.ABSENT: sentence(
        "Add a cover to their out of office, or create an override. Until then they are still paged."
    ),
    CoverageFindingKind.DEACTIVATED_USER: sentence("Remove them from the shift or override, or replace them."),
    CoverageFindingKind.HIDDEN: sentence("Move it to a higher layer, or delete it."),
    CoverageFindingKind.DOUBLE_ROLE: sentence("Override one of the two roles, or change the order of the users."),
    CoverageFindingKind.NO_SHIFT: sentence("Add a shift for that time, unless this is intended."),
}

#: A shift without effect, and a user who is paged twice: the first page is sent all the same.
_NEVER_URGENT = (CoverageFindingKind.HIDDEN, CoverageFindingKind.DOUBLE_ROLE)


def check_on_call(connection: Connection, now: datetime) -> Iterator[HealthFinding]:
    """Checks the next 60 days and yields one finding per kind, group, user and role."""
    groups = loader.groups_with_schedule(connection)
    for group_id, (plan, findings) in coverage.coverage_of_groups(connection, groups, now).items():
        reported: set[tuple[object, ...]] = set()
        for finding in findings:
            is_of_shift = finding.kind in (CoverageFindingKind.HIDDEN, CoverageFindingKind.DEACTIVATED_USER)
            shift = finding.shift if is_of_shift else ""
            key = (finding.kind, finding.role, finding.user_id, shift)
            # Users without usable contact methods are reported per user, not per group.
            if key in reported or finding.kind not in REMEDIES:
                continue
            reported.add(key)
            yield HealthFinding(
                f"oncall.{finding.kind}",
                coverage.describe_finding(finding, now),
                REMEDIES[finding.kind],
                about=plan.name,
                level=FindingLevel.NOTE if finding.kind.is_note else FindingLevel.PROBLEM,
                object_id=group_id,
                # A gap that affects a page today is urgent.
                is_urgent=finding.kind not in _NEVER_URGENT and (finding.since or now) < now + _SOON,
                begins_at=finding.since,
            )
    yield from _not_loud(connection, now)
    for user_group, state in notices.load_announced(connection, "user_group:").items():
        if problem := reason_from_json(state.get("problem")):
            yield HealthFinding(
                "oncall.user_group",
                sentence("A user group does not follow who is on call. {problem}", problem=problem),
                sentence("Add a chat contact method to the users on call, and check the provider of the chat service."),
                about=user_group,
            )
    for calendar in coverage.unread_calendars(connection):
        yield HealthFinding(
            "oncall.calendar",
            calendar.reason,
            sentence(
                "Check the calendar URL of the shift, and whether this server can connect to it. The last imported "
                "calendar stays active."
            ),
            about=calendar.group,
            object_id=calendar.schedule_id,
        )


def _not_loud(connection: Connection, now: datetime) -> Iterator[HealthFinding]:
    """Yields users on call now or soon whom no page wakes, once each."""
    groups = [row["group_id"] for row in database.rows(connection, _ALL_GROUPS)]
    until = now + coverage.READINESS_HORIZON
    reported: set[int] = set()
    for group_id, (plan, shifts) in coverage.readiness_of_groups(connection, groups, now, now, until).items():
        for one in shifts:
            user = Person(one.shift.name, one.shift.user_id)
            # Leads are paged at the end of an escalation, if at all.
            is_paged_first = one.shift.role is not MemberRole.LEAD
            if is_paged_first and ReadinessProblem.NOT_LOUD in one.problems and one.shift.user_id not in reported:
                reported.add(one.shift.user_id)
                yield HealthFinding(
                    "oncall.not_loud",
                    _NOT_LOUD(user=user, group=plan.name),
                    sentence("Add a phone number or push, and use it in the notification rules."),
                    about=user.name,
                    object_id=group_id,
                    begins_at=one.shift.since,
                )


# ---------- alerts
# Checks the alerts: those whose escalation is exhausted, and that nobody has answered.


#: The maximum number of alerts named in the finding; it counts the others.
MAX_NAMED = 3

#: The maximum number that it counts.
MAX_COUNTED = 1_000

_UNANSWERED = Text(
    "{count} alert is unassigned, and its policy is exhausted: {alerts}",
    "{count} alerts are unassigned, and their policies are exhausted: {alerts}",
)
_MANY_UNANSWERED = Text(
    "More than {count} alert is unassigned, and its policy is exhausted, such as {alerts}",
    "More than {count} alerts are unassigned, and their policies are exhausted, such as {alerts}",
)

# Raw SQL: Home runs it on every request, and Django takes longer to build such a query than PostgreSQL to run it. The
# partial index of exhausted runs serves it.
_UNANSWERED_ALERTS = f"""
SELECT id, subject, count(*) OVER () AS number FROM (
    SELECT a.id, a.subject FROM escalation_run r {join_alert("r.alert_id")}
    WHERE ({EXHAUSTED_RUNS_SQL}) AND a.status = 'open'{{visible}} ORDER BY r.alert_id LIMIT %(limit)s
) AS oldest ORDER BY id LIMIT {MAX_NAMED}
"""


def check_alerts(connection: Connection) -> Iterator[HealthFinding]:
    """Lists the alerts without an answer after their last step that the viewer sees, oldest first, and counts them."""
    query = database.literal(_UNANSWERED_ALERTS.format(visible=visibility.alerts_sql()))
    rows = database.rows(connection, query, {"limit": MAX_COUNTED + 1, **visibility.alerts_parameters()})
    if not rows:
        return
    alerts = [sentence("#{alert} {subject}", alert=AlertRef(row["id"]), subject=row["subject"]) for row in rows]
    count = rows[0]["number"]
    if count > MAX_COUNTED:
        detail = _MANY_UNANSWERED(count=MAX_COUNTED, alerts=tuple(alerts))
    else:
        detail = _UNANSWERED(count=count, alerts=limited(alerts, MAX_NAMED, count))
    yield HealthFinding(
        "alert.unanswered",
        detail,
        sentence("Assign or close each of them, or page someone else."),
        object_id=rows[0]["id"],
        is_urgent=True,
        is_about_several=count > 1,
    )
