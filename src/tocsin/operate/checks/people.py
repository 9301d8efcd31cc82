"""Checks who would be paged: users that cannot be reached, or only by push, and whether there is an administrator."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from tocsin.access.roles import Role
from tocsin.core.db.database import Connection
from tocsin.core.reasons import Person, ReasonType, Term
from tocsin.escalation.changes import commands as policies
from tocsin.escalation.models import Policy
from tocsin.inbound.models import Integration
from tocsin.notify.inbound import opt_outs
from tocsin.notify.registry import address_problem
from tocsin.notify.rules import push_only_check
from tocsin.notify.rules.notification_rules import NotificationMethod, Recipient, apply_rules
from tocsin.oncall import loader
from tocsin.oncall.calculation import schedules
from tocsin.oncall.models import CalendarImport, Override, Schedule
from tocsin.operate.finding import HealthFinding, note
from tocsin.people.changes import out_of_office
from tocsin.people.models import ContactMethod, Membership, User

_NO_ADMINISTRATOR = ReasonType(
    "health.no_administrator",
    "Tocsin has no administrator: no one is notified of problems or can fix them in the browser.",
)
_NO_ADMINISTRATOR_REMEDY = ReasonType(
    "health.no_administrator_remedy", "Run tocsin user create NAME --email E --role admin"
)
_UNREACHABLE = ReasonType(
    "health.user_unreachable",
    "{user} is paged by a group, schedule or policy and has no usable contact method.",
)
_UNREACHABLE_REMEDY = ReasonType(
    "health.user_unreachable_remedy", "Add a contact method under Users, or have them add one under Me."
)
_PUSH_ONLY = ReasonType(
    "health.user_push_only",
    "{user} gets only push notifications at priority {priorities}: they are missed if the phone is "
    "off, silent or offline.",
)
_PUSH_ONLY_REMEDY = ReasonType("health.user_push_only_remedy", "Add a text message or phone call.")
_OPTED_OUT = ReasonType(
    "health.user_opted_out", "{user} opted out with STOP: {contact_method} receives no text messages."
)
_OPTED_OUT_REMEDY = ReasonType(
    "health.user_opted_out_remedy", "Ask them to send START to Tocsin's number, or add another contact method."
)


def check(connection: Connection, now: datetime) -> Iterator[HealthFinding]:
    """Checks the users as of `now`. Also uses Django's connection."""
    if not User.objects.filter(role=Role.ADMIN, is_active=True).exists():
        yield HealthFinding(
            "people.no_administrator",
            _NO_ADMINISTRATOR(),
            _NO_ADMINISTRATOR_REMEDY(),
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
        paged_user_ids |= {
            user for user, _since, until in loader.imported_spans(calendar_import.spans).spans if until > now
        }
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
        if priorities := push_only_check.push_only_priorities(recipient):
            detail = _PUSH_ONLY(
                user=Person(user.display_name, user.pk), priorities=tuple(Term(priority) for priority in priorities)
            )
            yield note("people.push_only", detail, _PUSH_ONLY_REMEDY())


def _opted_out(connection: Connection) -> Iterator[HealthFinding]:
    """Users who replied STOP: text messages to them fail, and only they can opt in again."""
    for user_id, name, label, _ in opt_outs.opted_out(connection):
        yield HealthFinding(
            "people.opted_out",
            _OPTED_OUT(user=name, contact_method=label),
            _OPTED_OUT_REMEDY(),
            about=name,
            object_id=user_id,
        )
