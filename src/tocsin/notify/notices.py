"""Queues notices: messages about something other than an alert that needs a response, and keeps the addresses outside
of Tocsin that get the monthly report on a client. Runs inside the caller's transaction and sends nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from types import SimpleNamespace
from typing import Annotated, Any
from uuid import UUID
from zoneinfo import ZoneInfo

from django.conf import settings
from django.db import transaction
from django.db.models import F
from psycopg.types.json import Jsonb
from pydantic import Field

from tocsin.access import boundary
from tocsin.access.audit import AuditActor
from tocsin.access.models import ApiToken
from tocsin.access.roles import WARN_BEFORE, MemberRole, Role
from tocsin.core import ids
from tocsin.core.config import settings_store
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.errors import Rejected
from tocsin.core.reasons import (
    NO_REASON,
    Person,
    Reason,
    Term,
    Text,
    as_reason,
    each_of,
    joined,
    reason_as_json,
    reason_from_json,
    sentence,
)
from tocsin.core.reasons import translatable as _
from tocsin.core.runtime import clock
from tocsin.core.runtime.periodic_tasks import PeriodicTask
from tocsin.core.validation.spec import InForm, OneOf, Spec, SpecErrors
from tocsin.notify.interfaces import answerable_phones, phones
from tocsin.notify.models import ClientReport, Provider
from tocsin.notify.pages import NotificationRow, write
from tocsin.notify.providers import health, pool
from tocsin.notify.providers.pool import CHANNELS, KINDS, address_problem, carries_country, channel, provider_lookup
from tocsin.notify.rules.page_planner import (
    DAILY_TEST,
    OWN_ACCOUNT,
    PROVIDER_TEST,
    REMINDER_RULE,
    TEST_ANSWERED,
    TEST_REQUESTED,
    TEST_TEXT,
    TEST_TITLE,
)
from tocsin.notify.states import DeliveryState, Purpose, state_of
from tocsin.oncall import loader, pending
from tocsin.oncall.calculation import final_schedule
from tocsin.oncall.calculation.final_schedule import OnCall
from tocsin.oncall.calculation.weekly_windows import instant
from tocsin.oncall.changes import overrides
from tocsin.people import sign_in_rules
from tocsin.people.changes.flat_objects import FlatObject
from tocsin.people.changes.users import LANGUAGES, ClientName, Email, load_rules
from tocsin.people.models import ContactMethod, GroupContact, User
from tocsin.people.sql import (
    USERS_WITH_METHODS,
    join_user,
    load_administrators,
    load_reminders,
    load_users,
    lock_user,
)


@dataclass(frozen=True, slots=True)
class Notice:
    """A message to users about something other than an alert that needs a response."""

    #: Rendered for each recipient when it is sent.
    title: Reason
    text: Reason
    #: Identifies the subject, to recognise later notices about the same thing.
    about: str = ""
    #: Why the recipients get it.
    reason: Reason = NO_REASON
    alert_id: int | None = None
    #: The heading under which it can be bundled with others of its kind, such as "Nobody answered"; empty: never
    #: bundled.
    heading: Reason = NO_REASON
    #: Whether it is about paging itself: it does not wait for a mail server that is down, but is also sent by the other
    #: contact methods.
    is_urgent: bool = False
    swap_id: int | None = None  # which the recipient is asked to accept or decline


@dataclass(frozen=True, slots=True)
class NoticeRecipients:
    """The names of a notice's recipients, and those that could not be notified, each with the reason."""

    names: tuple[str, ...] = ()
    missed: tuple[Reason, ...] = ()


_DISABLED = Text("{user} is disabled")
_UNREACHABLE = Text("{recipient}: {problem}")


# Without a label: the login address.
_USERS = f"""
SELECT u.id, u.display_name AS name, u.is_active,
       CASE WHEN %(label)s = '' THEN 'E-mail' ELSE m.label END AS label,
       CASE WHEN %(label)s = '' THEN 'email' ELSE m.channel END AS channel,
       CASE WHEN %(label)s = '' THEN u.email ELSE m.address END AS address
FROM {USERS_WITH_METHODS} AND lower(m.label) = lower(%(label)s) AND m.is_enabled
     AND NOT m.awaits_code
WHERE u.id = ANY(%(users)s) ORDER BY array_position(%(users)s::bigint[], u.id)
"""

_CONTACTS = """
SELECT c.id, g.name || ': ' || c.label AS name, c.label, c.channel, c.address
FROM people_groupcontact c JOIN people_group g ON g.id = c.group_id
WHERE c.group_id = ANY(%s) ORDER BY g.name, c.position, c.id
"""


def queue_notice(
    connection: Connection,
    notice: Notice,
    now: datetime,
    *,
    user_ids: Collection[int] = (),
    label: str = "",
    contacts_of: Collection[int] = (),
) -> NoticeRecipients:
    """Queues a notice to users on their contact method `label` ("": by e-mail to the login address), and to every
    contact of the groups `contacts_of`. Uses as many statements for many recipients as for one.
    """
    rows: list[NotificationRow] = []
    missed: list[Reason] = []
    names: list[str] = []
    users = list(dict.fromkeys(user_ids))
    for row in database.rows(connection, _USERS, {"users": users, "label": label}) if users else ():
        person = Person(row["name"], row["id"])
        if not row["is_active"]:
            missed.append(_DISABLED(user=person))
        elif not row["address"] and label:
            missed.append(sentence("{user} has no {method}", user=person, method=label))
        elif not row["address"]:
            missed.append(sentence("{user} has no email address", user=person))
        elif problem := address_problem(row["channel"], row["address"]):
            missed.append(_UNREACHABLE(recipient=person, problem=problem))
        else:
            rows.append(_row(notice, row, now, user_id=row["id"]))
            names.append(row["name"])
    for row in database.rows(connection, _CONTACTS, (sorted(contacts_of),)) if contacts_of else ():
        if problem := address_problem(row["channel"], row["address"]):
            missed.append(_UNREACHABLE(recipient=row["name"], problem=problem))
        else:
            rows.append(_row(notice, row, now, group_contact_id=row["id"]))
            names.append(row["name"])
    write(connection, rows, now)
    if notice.is_urgent and not label and names:
        mail_providers = set(pool.in_order(connection, "email", rows[0].address))
        if not mail_providers - health.open_circuits(connection):
            queue_otherwise(connection, notice, users, now)
    return NoticeRecipients(tuple(names), tuple(missed))


_OTHER_METHODS = f"""
SELECT m.user_id, m.label, m.channel, m.address FROM people_contactmethod m
{join_user("m.user_id")} AND u.is_active
WHERE m.user_id = ANY(%s) AND m.channel <> 'email' AND m.is_enabled AND NOT m.awaits_code
ORDER BY m.user_id, m.channel = ANY(%s), m.position, m.id
"""


def queue_otherwise(connection: Connection, notice: Notice, user_ids: Collection[int], now: datetime) -> None:
    """Queues a notice that cannot be mailed to these users on their other contact methods that have a provider; a call
    only to a user who has nothing else. At most one for each user and subject an hour.
    """
    has_provider = provider_lookup(connection)
    about = f"{notice.about or notice.title.code}:otherwise"
    otherwise = replace(notice, about=about, is_urgent=False)
    rows: dict[int, list[NotificationRow]] = {}
    calls = [channel.name for channel in CHANNELS.values() if channel.is_call]
    for row in database.rows(connection, _OTHER_METHODS, (list(user_ids), calls)):
        has_other = bool(rows.get(row["user_id"])) and row["channel"] in calls
        if not has_other and has_provider(row["channel"], row["address"]):
            rows.setdefault(row["user_id"], []).append(_row(otherwise, row, now, user_id=row["user_id"]))
    fresh = (user for user in rows if not was_noticed(connection, [user], about, now, _OTHERWISE_INTERVAL))
    write(connection, [row for user in fresh for row in rows[user]], now)


def _row(notice: Notice, target: Mapping[str, Any], now: datetime, **recipient: int) -> NotificationRow:
    return NotificationRow(
        purpose=Purpose.NOTICE,
        channel=target["channel"],
        address=target["address"],
        label=target["label"],
        reason=as_reason(notice.reason),
        due_at=now,
        alert_id=notice.alert_id,
        data=notice_data(notice),
        user_id=recipient.get("user_id"),
        group_contact_id=recipient.get("group_contact_id"),
    )


def notice_data(notice: Notice) -> dict[str, Any]:
    """Returns the data that the notification of a notice stores."""
    texts = {"title": notice.title, "text": notice.text} | ({"heading": notice.heading} if notice.heading else {})
    stored = {name: reason_as_json(text) for name, text in texts.items()}
    details: dict[str, Any] = {"about": notice.about} if notice.about else {}
    details |= {"urgent": True} if notice.is_urgent else {}
    return stored | details | ({"swap": notice.swap_id} if notice.swap_id else {})


# ---------- client reports
# The addresses that get the monthly report on a client (`reports.client_month` writes it), and announcements of
# maintenance.


class ClientReportSpec(Spec):
    """An address of a client: the report on the client is sent to it by email on the first of each month."""

    client: Annotated[ClientName, InForm(_("Client"), _("As it appears on the client's alerts."))] = Field(
        description="Name of the client, as alerts have it."
    )
    address: Annotated[
        Email, InForm(_("Email address"), _("Reports go outside your organisation and list the client's alerts."))
    ] = Field(description="Address to which the report is sent.")
    language: Annotated[str, OneOf(LANGUAGES), InForm(_("Language"), choices=dict(settings.LANGUAGES))] = Field(
        default="en", description="Language of the mail."
    )
    is_enabled: Annotated[bool, InForm(_("Monthly report"))] = Field(
        default=True, alias="enabled", description="Whether the report is sent."
    )
    announces_maintenance: Annotated[
        bool,
        InForm(
            _("Maintenance notices"), _("When a window announced to this client is planned, changes, starts or ends.")
        ),
    ] = Field(
        default=False,
        alias="maintenance",
        description="Whether maintenance windows that are announced to the client are emailed to the address.",
    )


def _check_client(existing: ClientReport | None) -> Callable[[ClientReportSpec, SpecErrors], None]:
    def check(read: ClientReportSpec, errors: SpecErrors) -> None:
        others = ClientReport.objects.exclude(pk=existing.pk) if existing else ClientReport.objects.all()
        if others.filter(client__iexact=read.client).exists():
            errors.add("client", sentence('There is already a monthly report on "{client}".', client=read.client))

    return check


def _begin_with_this_month(
    read: ClientReportSpec, row: ClientReport, *, before: Mapping[str, Any] | None, now: datetime
) -> Iterator[None]:
    """The first report is that of the current month, also after it was disabled for a while."""
    if before is None or (read.is_enabled and before.get("enabled") is False):
        row.next_month = first_of_month(now, settings_store.get(settings_store.TIME_ZONE))
    yield


CLIENT_REPORTS = FlatObject(
    "client_report", ClientReport, ClientReportSpec, check=_check_client, own_step=_begin_with_this_month
)


def first_of_month(now: datetime, zone: str) -> date:
    return now.astimezone(ZoneInfo(zone)).date().replace(day=1)


# One month ahead is one that another time zone has begun; what is later was mailed before a clock rollback.
_DUE_REPORTS = """
SELECT id, client, address, language, next_month < %(month)s AS is_due FROM notify_clientreport
WHERE is_enabled AND next_month NOT BETWEEN %(month)s AND %(month)s + 31
ORDER BY id LIMIT %(limit)s FOR UPDATE SKIP LOCKED
"""


def claim_due_reports(connection: Connection, month: date, limit: int) -> list[dict[str, Any]]:
    """Returns the reports of months before `month` that are not mailed yet, locked."""
    return database.rows(connection, _DUE_REPORTS, {"month": month, "limit": limit})


def queue_to_addresses(
    connection: Connection, notice: Notice, targets: Iterable[Mapping[str, Any]], zone: str, now: datetime
) -> None:
    """Queues a notice to addresses that are no user's, such as group contacts (with their `id`): each in its
    `language`, with times in `zone`. What no provider of today accepts as an address is left out."""
    rows = []
    for target in targets:
        if address_problem(target["channel"], target["address"]) is None:
            recipient = {"group_contact_id": target["id"]} if "id" in target else {}
            row = _row(notice, target, now, **recipient)
            rows.append(replace(row, data={**row.data, "language": target["language"], "time_zone": zone}))
    write(connection, rows, now)


def as_target(client: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the address of a client for `queue_to_addresses`."""
    return {"channel": "email", "label": client["client"], **{key: client[key] for key in ("address", "language")}}


def mark_reported(connection: Connection, report_id: int, month: date) -> None:
    connection.execute("UPDATE notify_clientreport SET next_month = %s WHERE id = %s", (month, report_id))


#: A mail server that is down has each notice fail: people are told of the first by other means.
_OTHERWISE_INTERVAL = timedelta(hours=1)

#: More than the difference between two nodes' clocks.
_MAX_CLOCK_SKEW = timedelta(seconds=5)


def was_noticed(
    connection: Connection, user_ids: Collection[int], about: str, now: datetime, window: timedelta
) -> bool:
    """Returns whether one of these users was sent a notice about the same thing within `window`. A notice dated in the
    future was sent before a clock rollback, at an unknown time, and does not count.
    """
    row = connection.execute(
        "SELECT 1 FROM notify_notification WHERE user_id = ANY(%s) AND purpose = 'notice' AND data->>'about' = %s "
        "AND created_at BETWEEN %s AND %s LIMIT 1",
        (sorted(user_ids), about, now - window, now + _MAX_CLOCK_SKEW),
    ).fetchone()
    return row is not None


# ---------- announcements
# What was announced last, by subject. A subject is locked while it is compared with what is now and the messages are
# queued, so that several nodes announce it once. `reports.announcements` decides.


_FIRST_ANNOUNCED = "INSERT INTO notify_announced (subject, state, at) VALUES (%s, '{}', %s) ON CONFLICT DO NOTHING"


def claim_announced(connection: Connection, subject: str, now: datetime) -> tuple[dict[str, Any], datetime] | None:
    """Returns what was last announced about a subject ({} if nothing), and its time, locked; None if another node has
    it."""
    connection.execute(_FIRST_ANNOUNCED, (subject, now))
    query = "SELECT state, at FROM notify_announced WHERE subject = %s FOR UPDATE SKIP LOCKED"
    row = database.row(connection, query, (subject,))
    return None if row is None else (row["state"], row["at"])


def load_announced(connection: Connection, kind: str) -> dict[str, dict[str, Any]]:
    """Returns what was last announced about each subject of a kind, such as "window:", by the rest of its name."""
    query = "SELECT subject, state FROM notify_announced WHERE starts_with(subject, %s) ORDER BY subject"
    return {row["subject"].removeprefix(kind): row["state"] for row in database.rows(connection, query, (kind,))}


def store_announced(connection: Connection, subject: str, state: Mapping[str, Any] | None, at: datetime) -> None:
    """Stores what is announced now; None forgets the subject."""
    if state is None:
        connection.execute("DELETE FROM notify_announced WHERE subject = %s", (subject,))
    else:
        query = "UPDATE notify_announced SET state = %s, at = %s WHERE subject = %s"
        connection.execute(query, (Jsonb(state), at, subject))


_GROUP_CONTACTS = """
SELECT id, group_id, label, channel, address FROM people_groupcontact WHERE group_id = ANY(%s) ORDER BY position, id
"""


def load_group_contacts(connection: Connection, group_ids: Collection[int]) -> dict[int, list[dict[str, Any]]]:
    """Returns the contacts of groups, by the group's id."""
    found: dict[int, list[dict[str, Any]]] = {}
    for row in database.rows(connection, _GROUP_CONTACTS, (list(group_ids),)) if group_ids else ():
        found.setdefault(row["group_id"], []).append(row)
    return found


_SUBSCRIBED_CLIENTS = """
SELECT client, address, language FROM notify_clientreport
WHERE announces_maintenance AND upper(client) IN (SELECT upper(name) FROM unnest(%s::text[]) name) ORDER BY client
"""


def load_subscribed_clients(connection: Connection, clients: Collection[str]) -> list[dict[str, Any]]:
    """Returns the addresses of those of the clients that are subscribed to maintenance."""
    return database.rows(connection, _SUBSCRIBED_CLIENTS, (list(clients),)) if clients else []


# ---------- shift reminders
# Notices about shifts that `oncall.changes.overrides` has stored, and reminders before a shift.


log = logging.getLogger(__name__)

#: How often stored notices are mailed.
NOTICE_INTERVAL = timedelta(seconds=5)
#: How often upcoming shifts are planned. Due reminders are sent at most a minute late.
PLANNING_INTERVAL = timedelta(minutes=5)
#: How long before they are due reminders are planned. After an outage of up to this long, they are still sent, late.
PLANNING_HORIZON = timedelta(days=1)
REMINDER_INTERVAL = timedelta(seconds=20)
BATCH = 100
#: A reminder is dropped if the shift began longer ago than this.
SKIP_AFTER = timedelta(minutes=5)

_TITLE = Text("On call in {duration}: {role} of {group}")
_TEXT = Text("You are {role} of {group} from {start}: {reason}.")


def loops() -> tuple[PeriodicTask, ...]:
    """Returns the periodic tasks of a worker."""
    return (
        PeriodicTask("duty notices", lambda: queue_pending_notices(clock.now()), NOTICE_INTERVAL),
        PeriodicTask(
            "shifts to remind of", lambda: plan_reminders(clock.now()), PLANNING_INTERVAL, frozenset({"config"})
        ),
        PeriodicTask("daily provider tests", lambda: queue_daily_tests(clock.now()), REMINDER_INTERVAL),
        PeriodicTask("reminders", lambda: queue_reminders(clock.now()), REMINDER_INTERVAL),
    )


def queue_pending_notices(now: datetime) -> bool:
    """Queues mails for the stored notices. Returns True if there may be more."""
    with database.transaction() as connection:
        waiting = pending.claim_notices(connection, now, BATCH)
        for row in waiting:
            title, text, reason = (reason_from_json(row[name]) for name in ("title", "text", "reason"))
            notice = Notice(title, text, reason=reason, swap_id=row["swap_id"])
            queue_notice(connection, notice, now, user_ids=[row["user_id"]])
        if waiting:
            database.notify(connection, "outbox")
    return len(waiting) == BATCH


def plan_reminders(now: datetime) -> bool:
    """Stores the reminders of upcoming shifts. A reminder that is already stored is left unchanged."""
    with database.transaction() as connection:
        rules = {user_id: load_rules(reminders) for user_id, reminders in load_reminders(connection).items()}
        lead_times = [rule.lead_time for user_rules in rules.values() for rule in user_rules]
        until = now + max(lead_times, default=timedelta()) + PLANNING_HORIZON
        groups = loader.groups_of(connection, rules) if rules else frozenset()
        plans = loader.plans(connection, groups, now)
    planned: list[tuple[int, int, str, datetime, timedelta, datetime]] = []
    for group_id, plan in plans.items():
        for assignment in final_schedule.timeline(plan, now, until).segments:
            begin = assignment.since
            if begin is not None and begin > now and assignment.schedule:
                planned += [
                    (assignment.user_id, group_id, str(assignment.role), begin, rule.lead_time, begin - rule.lead_time)
                    for rule in rules.get(assignment.user_id, ())
                    if begin - rule.lead_time > now - SKIP_AFTER
                ]
    with database.transaction() as connection:
        pending.store_reminders(connection, planned, now)
    return False


def queue_reminders(now: datetime) -> bool:
    """Sends the due reminders of shifts that are still assigned to the user. If several of a shift are due after an
    outage, only the last is sent. Returns True if there may be more.
    """
    with database.transaction() as connection:
        due = pending.claim_reminders(connection, now, BATCH)
        plans = loader.plans(connection, {row["group_id"] for row in due}, now)
        for row in due:
            plan = plans.get(row["group_id"])
            if plan is None or row["shift_at"] < now - SKIP_AFTER:
                continue
            shift = (row["user_id"], row["role"], row["shift_at"])
            for one in final_schedule.on_call(plan, row["shift_at"]):
                if (one.user_id, one.role, one.since) == shift:
                    _remind_in_savepoint(connection, plan.name, one, row["before"], row["later"], now)
                    break
        if due:
            database.notify(connection, "outbox")
    return len(due) == BATCH


def _remind_in_savepoint(
    connection: Connection, group: str, assignment: OnCall, before: timedelta, later: Sequence[timedelta], now: datetime
) -> None:
    try:
        with connection.transaction():
            _remind(connection, group, assignment, before, later, now)
    except Exception as error:  # one failing reminder is lost; the others are still sent
        if database.is_unavailable(error):
            raise
        log.exception("User %s cannot be reminded of a shift.", assignment.user_id)


def _remind(
    connection: Connection, group: str, assignment: OnCall, before: timedelta, later: Sequence[timedelta], now: datetime
) -> None:
    """Sends a reminder. `later` are the other due reminders of the same shift: if the user still wants one of them,
    this earlier one is skipped, since both would say the same.
    """
    if assignment.since is None:
        return
    rules = load_rules(load_reminders(connection, assignment.user_id).get(assignment.user_id, []))
    if any(rule.lead_time in later for rule in rules):
        return
    for rule in rules:
        if rule.lead_time == before:
            # On the rule's contact method; by mail if the rule has none, or it no longer exists.
            for label in dict.fromkeys((rule.contact_label, "")):
                notice = _notice(group, assignment, now)
                if queue_notice(connection, notice, now, user_ids=[assignment.user_id], label=label).names:
                    break


def _notice(group: str, assignment: OnCall, now: datetime) -> Notice:
    assert assignment.since is not None
    role = Term(MemberRole(assignment.role))
    # Rounded to minutes: the periodic task is a few seconds late.
    remaining = timedelta(minutes=round((assignment.since - now) / timedelta(minutes=1)))
    is_early = remaining > timedelta()
    return Notice(
        title=_TITLE(duration=remaining, role=role, group=group)
        if is_early
        else sentence("On call now: {role} of {group}", role=role, group=group),
        text=_text(role, group, assignment.since, assignment.until, as_reason(assignment.reason)),
        reason=REMINDER_RULE(),
    )


def _text(role: Term, group: str, start: datetime, end: datetime | None, reason: Reason) -> Reason:
    if end is None:
        return _TEXT(role=role, group=group, start=start, reason=reason)
    return sentence(
        "You are {role} of {group} from {start} until {end}: {reason}.",
        role=role,
        group=group,
        start=start,
        end=end,
        reason=reason,
    )


# ---------- token expiry
# Tells the owner of an API token by mail that it expires soon; for a service account, the administrators.


INTERVAL = timedelta(hours=1)


_EXPIRES = Text('The API token "{name}" of {user} ({prefix}…) is rejected from {at} on.')
_RENEW = Text("If a script uses it, create a new one and replace it there; then revoke this one.")


def token_expiry_task() -> PeriodicTask:
    """The worker's periodic task."""
    return PeriodicTask("expiring tokens", lambda: warn_owners(clock.now()), INTERVAL)


def warn_owners(now: datetime) -> bool:
    """Queues a mail for each token that expires soon, once. Returns whether there may be more.

    A token that was created for a shorter time than that needs no warning.
    """
    with transaction.atomic():
        expiring = ApiToken.objects.filter(
            revoked_at=None,
            warned_at=None,
            user__is_active=True,
            expires_at__gt=now,
            expires_at__lte=now + WARN_BEFORE,
            expires_at__gte=F("created_at") + WARN_BEFORE,
        )
        locked = expiring.select_related("user").select_for_update(skip_locked=True, of=("self",))
        tokens = list(locked.order_by("pk")[:BATCH])
        for token in tokens:
            user, at = Person(token.user.display_name, token.user_id), token.last_used_at
            expires = _EXPIRES(name=token.name, user=user, prefix=token.prefix, at=token.expires_at)
            used = sentence("It was last used {at}.", at=at) if at else sentence("It was never used.")
            is_service_account = token.user.is_service_account
            administrators = User.objects.filter(role=Role.ADMIN, is_active=True)
            overrides.write(
                list(administrators) if is_service_account else [token.user],
                title=sentence('The API token "{name}" expires soon', name=token.name),
                text=joined(expires, used, _RENEW(), separator="\n\n"),
                reason=OWN_ACCOUNT(),
                now=now,
            )
            token.warned_at = now
            token.save(update_fields=["warned_at"])
    return len(tokens) == BATCH


def remove_second_factors(user: User, *, actor: AuditActor, now: datetime) -> list[str]:
    """Removes all second factors and returns which there were. If there was one, queues a mail to the user."""
    with boundary.command():
        removed = sign_in_rules.remove_second_factors(user, actor=actor, now=now)
        if actor.user_id is not None:
            by = sentence("{user} removed all your second factors.", user=Person(actor.name, actor.user_id))
        else:
            by = sentence("Someone with access to the Tocsin server removed all your second factors.")
        if removed:
            overrides.write(
                [user],
                title=sentence("Your two-factor authentication was reset"),
                text=joined(
                    by,
                    sentence("Until you set up new ones, you sign in with your password only."),
                    sentence("If you did not request this, change your password and tell an administrator."),
                    separator="\n\n",
                ),
                reason=OWN_ACCOUNT(),
                now=now,
            )
    return removed


# ---------- contact tests
# Queues test messages to contact methods. Limited, because they cost money and ring phones.


#: The maximum number of tests per user within `TEST_WINDOW`.
MAX_TESTS = 10
TEST_WINDOW = timedelta(minutes=10)
#: The maximum number of texts and calls among them within a day.
MAX_PAID_TESTS = 20

METHOD_NOT_FOUND = Text("Contact method not found.")
_NOT_VERIFIED = Text("Verify this address first with the code sent to it.")
_TOO_MANY = Text(
    "{count} test was sent within {window}. Try again later.",
    "{count} tests were sent within {window}. Try again later.",
)


def queue_test(connection: Connection, method: ContactMethod, now: datetime) -> UUID:
    """Queues a test message to a user's contact method. Returns the notification's id, to query its outcome.

    Raises Rejected("not_found"), Rejected("not_confirmed"), Rejected("invalid_address") or Rejected("too_many").
    """
    query = "SELECT label, channel, address, awaits_code FROM people_contactmethod WHERE id = %s"
    stored = database.row(connection, query, (method.pk,))
    if stored is None:
        raise Rejected("not_found", METHOD_NOT_FOUND())
    if stored["awaits_code"]:
        raise Rejected("not_confirmed", _NOT_VERIFIED())
    return _queue(connection, method.user_id, stored["label"], stored["channel"], stored["address"], now)


def queue_group_test(connection: Connection, contact: GroupContact, user: User, now: datetime) -> UUID:
    """Queues a test message to a group contact. Returns the notification's id. Counts against the limit of `user`, who
    asks for it. The caller checks permissions.

    Raises Rejected as `queue_test` does.
    """
    stored = database.row(
        connection,
        "SELECT c.label, c.channel, c.address, g.name FROM people_groupcontact c "
        "JOIN people_group g ON g.id = c.group_id WHERE c.id = %s",
        (contact.pk,),
    )
    if stored is None:
        raise Rejected("not_found", sentence("Contact not found."))
    label = f"{stored['name']}, {stored['label']}"
    return _queue(connection, user.pk, label, stored["channel"], stored["address"], now)


def _queue(connection: Connection, user_id: int, label: str, channel: str, address: str, now: datetime) -> UUID:
    if problem := address_problem(channel, address):
        raise Rejected("invalid_address", problem)
    _require_few_tests(connection, user_id, channel, now)
    row = _test_row(user_id, channel, address, label, now, TEST_REQUESTED())
    write(connection, [row], now)
    return row.id


def _test_row(
    user_id: int,
    channel: str,
    address: str,
    label: str,
    now: datetime,
    reason: Reason,
    provider: Provider | None = None,
) -> NotificationRow:
    """Returns a test of a contact method, or of a provider, by which alone it is then sent."""
    name = label if provider is None else provider.name
    texts = {"title": reason_as_json(TEST_TITLE(name=name)), "text": reason_as_json(TEST_TEXT(name=name))}
    return NotificationRow(
        purpose=Purpose.TEST,
        channel=channel,
        address=address,
        label=label,
        reason=reason,
        due_at=now,
        user_id=user_id,
        data=texts if provider is None else {**texts, "provider": provider.name},
        provider=provider,
    )


_TESTS = """
SELECT count(*) FILTER (WHERE created_at > %(lately)s) AS lately,
       count(*) FILTER (WHERE created_at > %(day)s AND channel = ANY(%(paid)s)) AS paid
FROM notify_notification WHERE user_id = %(user)s AND id >= %(newest)s AND purpose = 'test' AND NOT data ? 'provider'
"""


def _require_few_tests(connection: Connection, user_id: int, channel: str, now: datetime) -> None:
    """Raises Rejected("too_many"). Locks the user's row, so that concurrent requests are counted one by one."""
    lock_user(connection, user_id)
    day = now - timedelta(days=1)
    # Ids carry the machine's clock and lead to the newest rows; the rows' own time decides.
    parameters = {
        "user": user_id, "newest": ids.first_uuid7(day - timedelta(days=1)), "day": day, "lately": now - TEST_WINDOW,
        "paid": list(phones()),
    }  # fmt: skip
    counts = database.row(connection, _TESTS, parameters)
    if counts is not None and counts["lately"] >= MAX_TESTS:
        raise Rejected("too_many", _TOO_MANY(count=MAX_TESTS, window=TEST_WINDOW))
    if counts is not None and channel in phones() and counts["paid"] >= MAX_PAID_TESTS:
        raise Rejected(
            "too_many",
            sentence(
                "{count} test text or call was sent within a day, and each costs money. Try again tomorrow, or ask an "
                "administrator to test the provider.",
                "{count} test texts and calls were sent within a day, and each costs money. Try again tomorrow, or "
                "ask an "
                "administrator to test the provider.",
                count=MAX_PAID_TESTS,
            ),
        )


# ---------- daily tests
# Each day a text and a call to an administrator by a provider that has `daily_test_at`. Only an answer proves that both
# ways work. The notifications themselves record that a test was sent, so a restart or a second node sends no other.


#: After an outage a daily test is sent up to this late; then that day has none.
DAILY_TEST_GRACE = timedelta(hours=2)

#: A daily test that is not answered by then is a problem.
ANSWER_WITHIN = timedelta(hours=1)

_DAILY_LOCK = int.from_bytes(b"dailytst")
_DAILY_TITLE = Text("Tocsin's daily test")
_DAILY_SMS = Text("Tocsin's daily test of {provider}. Reply OK.")
_DAILY_CALL = Text("This is the daily test of {provider}. Press 5 to confirm.")


@dataclass(frozen=True, slots=True)
class DailyTest:
    """The latest daily test of a provider on one channel. Without a state there was none yet."""

    provider: str
    channel: str
    username: str
    #: When the latest test was due.
    due_at: datetime
    #: Whether the administrator exists, is active, and has the channel.
    has_recipient: bool
    sent_at: datetime | None = None
    state: DeliveryState | None = None
    answered_at: datetime | None = None
    error: Reason = NO_REASON
    #: Whether the test before it was not answered: a problem that ends with an answer only.
    follows_problem: bool = False

    @property
    def is_answered(self) -> bool:
        return self.state is DeliveryState.ANSWERED

    def is_problem(self, now: datetime) -> bool:
        """Returns whether it was not answered in time, or was not sent at all. Delivered is not answered."""
        if not self.has_recipient:
            return True
        if self.sent_at is None:
            return False
        if self.sent_at < self.due_at:
            return now >= self.due_at + DAILY_TEST_GRACE or not self.is_answered
        has_time = self.state is not DeliveryState.FAILED and now < self.sent_at + ANSWER_WITHIN
        return not self.is_answered and (self.follows_problem or not has_time)


def due_daily_test(at: str, zone: ZoneInfo, now: datetime) -> datetime:
    """Returns when a daily test at that local time was last due. A time that a clock change skips is an hour later."""
    day = now.astimezone(zone).date()
    moments = [instant(datetime.combine(day - timedelta(days=ago), time.fromisoformat(at)), zone) for ago in (0, 1)]
    return next(moment for moment in moments if moment <= now)


_DAILY_PROVIDERS = """
SELECT id, name, kind, channels, settings FROM notify_provider
WHERE is_enabled AND settings ? 'daily_test_at' ORDER BY "order", name
"""
_DAILY_METHODS = """
SELECT DISTINCT ON (channel) channel, label, address FROM people_contactmethod
WHERE user_id = %s AND channel = ANY(%s) AND is_enabled AND NOT awaits_code ORDER BY channel, position, id
"""
_LAST_DAILY = """
SELECT n.created_at, d.status, d.receipt, d.provider_name, d.error, d.reason
FROM notify_notification n JOIN notify_delivery d ON d.notification_id = n.id
WHERE n.user_id = %(user)s AND n.id >= %(first)s AND n.purpose = 'test' AND n.channel = %(channel)s
  AND n.data ? 'daily' AND n.data ->> 'provider' = %(provider)s AND n.created_at <= %(now)s
ORDER BY n.id DESC LIMIT 2
"""


def daily_tests(connection: Connection, now: datetime) -> list[DailyTest]:
    """Returns the latest daily test of each provider and channel that has one."""
    return [test for _row_of_provider, _method, test in _load_daily_tests(connection, now)]


def _load_daily_tests(
    connection: Connection, now: datetime
) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any], DailyTest]]:
    rows = database.rows(connection, _DAILY_PROVIDERS)
    if not rows:
        return
    zone = ZoneInfo(settings_store.load(connection)[settings_store.TIME_ZONE.name])
    administrators = load_users(connection, load_administrators(connection), "username")
    user_ids = {user["username"].lower(): user_id for user_id, user in administrators.items()}
    for row in rows:
        if (kind := KINDS.get(row["kind"])) is None:
            continue
        username = str(row["settings"].get("daily_test_user", ""))
        row["user_id"] = user_ids.get(username.lower())
        channels = sorted(answerable_phones(kind) & set(row["channels"]))
        methods = {
            method["channel"]: method
            for method in database.rows(connection, _DAILY_METHODS, (row["user_id"], channels))
            if carries_country(row["settings"], method["channel"], method["address"])
        }
        due_at = due_daily_test(row["settings"]["daily_test_at"], zone, now)
        for channel_name in [*methods] or channels[:1]:
            test = DailyTest(row["name"], channel_name, username, due_at, bool(methods))
            last = {"user": row["user_id"], "channel": channel_name, "provider": row["name"], "now": now}
            stored = database.rows(connection, _LAST_DAILY, {**last, "first": ids.first_uuid7(now - timedelta(days=8))})
            yield row, methods.get(channel_name, {}), _with_result(test, stored)


def _with_result(test: DailyTest, stored: Sequence[Mapping[str, Any]]) -> DailyTest:
    """Returns a test with what became of its latest notification, and of the one before."""
    if not stored:
        return test
    states = [state_of(SimpleNamespace(**row)) for row in stored]
    at = next(
        (one["at"] for one in each_of(reason_from_json(stored[0]["reason"])) if one.code == TEST_ANSWERED.code), None
    )
    return replace(
        test,
        sent_at=stored[0]["created_at"],
        state=states[0],
        answered_at=at if isinstance(at, datetime) else None,
        error=reason_from_json(stored[0]["error"]),
        follows_problem=DeliveryState.ANSWERED not in states[1:2] and len(states) > 1,
    )


def queue_daily_tests(now: datetime) -> bool:
    """Queues the daily tests that are due, each once."""
    with database.transaction() as connection:
        if not database.rows(connection, "SELECT 1 WHERE pg_try_advisory_xact_lock(%s)", (_DAILY_LOCK,)):
            return False
        sent = []
        for row, method, test in _load_daily_tests(connection, now):
            is_sent = test.sent_at is not None and test.sent_at >= test.due_at
            if method and not is_sent and now < test.due_at + DAILY_TEST_GRACE:
                text = (_DAILY_CALL if CHANNELS[test.channel].is_call else _DAILY_SMS)(provider=test.provider)
                texts = {"title": reason_as_json(_DAILY_TITLE()), "text": reason_as_json(text)}
                provider = Provider(pk=row["id"], name=row["name"])
                asked = _test_row(
                    row["user_id"], test.channel, method["address"], method["label"], now, DAILY_TEST(), provider
                )
                sent.append(replace(asked, data={**asked.data, **texts, "daily": True}))
        if sent:
            write(connection, sent, now)
            database.notify(connection, "outbox")
    return False


def send_test(provider: Provider, channel_name: str, text: str, *, user: User, now: datetime) -> UUID:
    """Queues a test on the channel `channel_name` to the address `text`. Returns the notification's id, to query its
    outcome.

    Raises Rejected("not_in_use"), or Rejected on `channel` or `address` if the provider does not carry them.
    """
    kind = KINDS.get(provider.kind)
    if not provider.is_enabled or kind is None:
        raise Rejected("not_in_use", sentence("{provider} is not enabled.", provider=provider.name))
    if channel_name not in provider.channels:
        raise Rejected(
            "invalid",
            sentence(
                '{provider} does not support the channel "{channel}".', provider=provider.name, channel=channel_name
            ),
            "channel",
        )
    try:
        address = channel(channel_name).normalize_address(text)
    except Rejected as problem:
        raise Rejected(problem.code, problem.reason, "address") from None
    if not kind.accepts(channel_name, address) or not carries_country(provider.settings, channel_name, address):
        raise Rejected(
            "invalid_address",
            sentence("{provider} does not deliver to this address.", provider=provider.name),
            "address",
        )
    label = f"{provider.name}, {CHANNELS[channel_name].label}"
    row = _test_row(user.pk, channel_name, address, label, now, PROVIDER_TEST(), provider)
    with database.transaction() as connection:
        write(connection, [row], now)
    return row.id
