"""Checks the integrations: whether they can be used and page somebody, and whether their messages arrive and can be
read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from django.db.models import Count, Exists, OuterRef, Q, Subquery

from tocsin.alerts.store import newest_of_integration
from tocsin.core.config import crypto
from tocsin.core.config.crypto import RESTORE_KEY_OR_ENTER_SECRET
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.errors import Permanent
from tocsin.core.ids import first_uuid7
from tocsin.core.net.imap import MailboxReader
from tocsin.core.reasons import AlertRef, Reason, Term, Text, as_reason, reason_from_json, sentence
from tocsin.core.runtime.periodic_tasks import run_in_time
from tocsin.inbound import email
from tocsin.inbound import maintenance_commands as maintenance_windows
from tocsin.inbound.admin import secrets, simple_rules
from tocsin.inbound.admin.commands import reachability_problem
from tocsin.inbound.admin.specs import ALLOW_UNREACHABLE
from tocsin.inbound.config import registry
from tocsin.inbound.enums import IntegrationMode
from tocsin.inbound.ingest_service import MAX_PATHS_PER_ADDRESS, UNKNOWN_ADDRESS
from tocsin.inbound.maintenance import describe_times
from tocsin.inbound.models import NOT_UNDERSTOOD_CODE, InboundMessage, Integration
from tocsin.notify.models import Delivery, ProviderHealth
from tocsin.notify.providers import pool
from tocsin.notify.providers.pool import CHANNELS, ActiveProvider, ProviderPool
from tocsin.notify.states import DeliveryStatus, Purpose
from tocsin.operate.finding import FindingLevel, HealthFinding, limited, note, reason_of_future
from tocsin.outbound import reasons
from tocsin.people.sql import join_user
from tocsin.workflows import views

#: The maximum number of integrations whose messages are examined one by one.
_MAX_EXAMINED = 20

#: An integration is "usually active" if it received messages on each of this many days before its last message; only
#: then is a day of silence a problem.
_USUAL_DAYS = 3
#: The maximum number of alerts read of an integration in dry run.
_MAX_DRY_RUN_ALERTS = 1000
#: The maximum number of addresses named of refused senders.
_MAX_REFUSED = 3
#: The maximum number of unknown senders listed.
_MAX_UNMATCHED = 3
_DAY = timedelta(days=1)
_WEEK = timedelta(days=7)

_UNUSABLE = Text("{integration} can't process messages: {error} They are kept as Mapping Failed.")
_UNUSABLE_REMEDY = Text("Fix and save it under Inbound integrations, then replay those messages from the Inbound Log.")
_NO_POLICY = Text("{integration} pages no one: it has no escalation policy and no recipients.")
_UNREADABLE = Text(
    "{count} message in the last 7 days could not be parsed.",
    "{count} messages in the last 7 days could not be parsed.",
)
_NOT_UNDERSTOOD = Text(
    "{count} message of {integration} in the last 7 days was not understood: it has no known status.",
    "{count} messages of {integration} in the last 7 days were not understood: they have no known status.",
)
_REFUSED = Text(
    "{integration} has refused {count} message from {addresses}, the last one {at}: {reason}",
    "{integration} has refused {count} messages from {addresses}, the last one {at}: {reason}",
)
_OLD_URL = Text(
    "{count} message was sent to an old webhook URL of {integration}.",
    "{count} messages were sent to an old webhook URL of {integration}.",
)
_UNMATCHED_MESSAGES = Text(
    "{count} message from {address} was sent to {path}, where no integration receives.",
    "{count} messages from {address} were sent to {path}, where no integration receives.",
)
_DRY_RUN = Text(
    "{integration} has been in dry run since {since} and pages no one. {count} alert would have paged, the last one "
    "{at}: #{alert} {subject}",
    "{integration} has been in dry run since {since} and pages no one. {count} alerts would have paged, the last one "
    "{at}: #{alert} {subject}",
)
_DISABLED = Text("{integration} is disabled: its messages open no alerts.")
_REACHES_NOBODY = Text("{integration}: {problem}")
_REACHES_NOBODY_REMEDY = Text("Set an escalation policy or reachable recipients, or switch it to dry run.")

# Raw SQL, as in `alerts`.
_WITHOUT_POLICY = """
SELECT id, name, settings FROM inbound_integration integration WHERE mode = 'page' AND policy_id IS NULL
AND NOT EXISTS (SELECT FROM inbound_integration_recipient_users WHERE integration_id = integration.id) ORDER BY name
"""
_OLD_URLS = """
SELECT id, name, previous_token_requests AS posts FROM inbound_integration WHERE previous_token_requests > 0
ORDER BY name
"""
_UNMATCHED = """
SELECT path, address, requests FROM (
  SELECT path, address, requests, count(*) OVER (PARTITION BY address) AS paths FROM inbound_unmatchedpost
  WHERE last_at >= %(since)s
) AS recent WHERE paths <= %(max_paths)s ORDER BY requests DESC, path LIMIT %(limit)s
"""
# One row an integration: the address of the last request first.
_REFUSED_SENDERS = """
SELECT i.id, i.name, sum(s.requests) AS number, array_agg(s.address ORDER BY s.last_at DESC) AS addresses,
       max(s.last_at) AS last_at, (array_agg(s.reason ORDER BY s.last_at DESC))[1] AS reason
FROM inbound_refusedsender s JOIN inbound_integration i ON i.id = s.integration_id
WHERE s.last_at >= %(since)s AND i.mode <> 'disabled' GROUP BY i.id, i.name ORDER BY i.name
"""
# The newest alerts of each integration suffice to see what it would have paged.
_NEWEST_ALERTS = newest_of_integration("i.id", _MAX_DRY_RUN_ALERTS, "id", "subject", "opened_at", "dry_run", "is_test")
_DRY_RUNS = f"""
SELECT i.id, i.name, coalesce(i.mode_since, i.created_at) AS since, n.number, n.alert_id, n.subject, n.opened_at
FROM inbound_integration i LEFT JOIN LATERAL (
  SELECT count(*) AS number, max(id) AS alert_id, (array_agg(subject ORDER BY id DESC))[1] AS subject,
         max(opened_at) AS opened_at
  FROM ({_NEWEST_ALERTS}) AS newest
  WHERE dry_run AND NOT is_test AND opened_at >= coalesce(i.mode_since, i.created_at)
) AS n ON true
WHERE i.mode = 'dry_run' AND coalesce(i.mode_since, i.created_at) <= %(before)s ORDER BY i.name
"""
_UNREADABLE_MESSAGES = """
SELECT count(*) AS number FROM inbound_inboundmessage WHERE status = 'Mapping Failed' AND id >= %(since)s
"""

_MESSAGES_NOT_UNDERSTOOD = database.literal(
    f"""
SELECT integration.id, integration.name, count(*) AS number FROM inbound_inboundmessage message
JOIN inbound_integration integration ON integration.id = message.integration_id
WHERE message.reason -> 'code' = '"{NOT_UNDERSTOOD_CODE}"' AND message.id >= %(since)s AND NOT message.test
GROUP BY integration.id, integration.name ORDER BY number DESC, integration.name LIMIT {_MAX_EXAMINED}
"""
)


def check(connection: Connection, now: datetime) -> Iterator[HealthFinding]:
    """Checks each integration's configuration, and how many messages could not be read in a week."""
    compiled_registry = registry.shared_registry()
    compiled_registry.refresh()
    for integration in compiled_registry.get_all().values():
        if integration.problem is not None:
            yield HealthFinding(
                "integration.unusable",
                _UNUSABLE(integration=integration.name, error=integration.problem.reason),
                _UNUSABLE_REMEDY(),
                about=integration.name,
                object_id=integration.id,
                is_urgent=True,
            )
    for row in database.rows(connection, _WITHOUT_POLICY):
        yield HealthFinding(
            "integration.no_policy",
            _NO_POLICY(integration=row["name"]),
            _REACHES_NOBODY_REMEDY(),
            **_of(row),
            level=_level(row["settings"]),
            is_urgent=True,
        )
    for row in database.rows(connection, _OLD_URLS):
        detail = _OLD_URL(count=row["posts"], integration=row["name"])
        remedy = sentence("Update the sender with the new URL from the Security tab.")
        yield HealthFinding("integration.old_url", detail, remedy, **_of(row))
    unreadable = database.row(connection, _UNREADABLE_MESSAGES, {"since": first_uuid7(now - _WEEK)})
    if unreadable and unreadable["number"]:
        yield HealthFinding(
            "messages.unreadable",
            _UNREADABLE(count=unreadable["number"]),
            sentence("Fix the mapping named in the Inbound Log, then replay the message."),
        )
    for row in database.rows(connection, _MESSAGES_NOT_UNDERSTOOD, {"since": first_uuid7(now - _WEEK)}):
        detail = _NOT_UNDERSTOOD(count=row["number"], integration=row["name"])
        remedy = sentence(
            "Open one in the Inbound Log to see what is missing; add it in the sender, or map the status."
        )
        yield HealthFinding("integration.not_understood", detail, remedy, **_of(row))
    for row in database.rows(connection, _REFUSED_SENDERS, {"since": now - _DAY}):
        detail = _REFUSED(
            integration=row["name"],
            count=int(row["number"]),
            addresses=limited([address or UNKNOWN_ADDRESS() for address in row["addresses"]], _MAX_REFUSED),
            at=row["last_at"],
            reason=reason_from_json(row["reason"]),
        )
        yield HealthFinding(
            "integration.refused",
            detail,
            sentence(
                "Correct the sender's credentials, or what the integration requires on its Security tab. Nothing of "
                "these messages is stored: have the sender repeat them."
            ),
            **_of(row),
            is_urgent=True,
        )
    recent = {"since": now - _DAY, "max_paths": MAX_PATHS_PER_ADDRESS, "limit": _MAX_UNMATCHED}
    for row in database.rows(connection, _UNMATCHED, recent):
        detail = _UNMATCHED_MESSAGES(count=row["requests"], address=row["address"], path=row["path"])
        remedy = sentence("Give the sender the webhook URL of an integration, or block it if it is not yours.")
        yield HealthFinding("messages.unmatched", detail, remedy, about=row["path"])


def _of(row: Mapping[str, Any]) -> dict[str, Any]:
    """The object of a row that a finding is about."""
    return {"about": row["name"], "object_id": row["id"]}


def check_dry_runs(connection: Connection, now: datetime) -> Iterator[HealthFinding]:
    """Names the integrations that may have been forgotten in dry run, with what they would have paged."""
    for row in database.rows(connection, database.literal(_DRY_RUNS), {"before": now - _DAY}):
        name, since, opened_at = row["name"], row["since"], row["opened_at"]
        detail = sentence(
            "{integration} has been in dry run since {since} and pages no one. No alert has opened yet.",
            integration=name,
            since=since,
        )
        if row["number"]:
            alert, number = AlertRef(row["alert_id"]), row["number"]
            detail = _DRY_RUN(
                integration=name, since=since, count=number, at=opened_at, alert=alert, subject=row["subject"]
            )
        remedy = sentence("If it is ready, set its mode to paging; if it is not needed, disable it.")
        level = FindingLevel.PROBLEM if row["number"] else FindingLevel.NOTE
        yield HealthFinding("integration.dry_run", detail, remedy, **_of(row), level=level)


def check_maintenance(now: datetime) -> Iterator[HealthFinding]:
    """Names the maintenance windows that leave little time in which alerts page. Uses Django's connection."""
    for window, cover in maintenance_windows.long_windows(now):
        yield HealthFinding(
            "maintenance.long",
            sentence(
                "The maintenance window {window} covers {cover} of the next 28 days, and its alerts page no one: "
                "{times}",
                window=window.name,
                cover=cover,
                times=describe_times(window.times),
            ),
            sentence(
                "End it if the work is done, or give it an end. For what should never page, use a filter or a "
                "log-only route."
            ),
            about=window.name,
            object_id=window.pk,
        )


def check_messages(now: datetime) -> Iterator[HealthFinding]:
    """Checks whether messages still arrive, and whether new tickets open alerts. Uses Django's connection."""
    latest_message = InboundMessage.objects.filter(integration=OuterRef("pk")).order_by("-pk").values("received_at")[:1]
    in_use = Integration.objects.exclude(mode=IntegrationMode.DISABLED).order_by("name")
    for integration in in_use.annotate(newest=Subquery(latest_message))[:_MAX_EXAMINED]:
        newest = integration.newest
        if newest is None or newest > now - _DAY:
            continue
        rows = InboundMessage.objects.filter(integration=integration)
        previous_days = [newest - _DAY * number for number in range(1, _USUAL_DAYS + 1)]
        if all(rows.filter(pk__gte=first_uuid7(day), pk__lt=first_uuid7(day + _DAY)).exists() for day in previous_days):
            yield HealthFinding(
                "integration.silent",
                sentence(
                    "{integration} usually receives messages every day, but has received none for {duration}.",
                    integration=integration.name,
                    duration=timedelta(hours=(now - newest) // timedelta(hours=1)),
                ),
                sentence("Check the sender and its connection to Tocsin."),
                about=integration.name,
                object_id=integration.pk,
            )
    for examined in in_use[:_MAX_EXAMINED]:
        if count := simple_rules.count_without_alert(examined, now):
            yield HealthFinding(
                "integration.ends_nothing",
                sentence(
                    "{integration} opens alerts, but {count} message in the last 7 days that should close or change "
                    "one has the id of none.",
                    "{integration} opens alerts, but {count} messages in the last 7 days that should close or "
                    "change one have the id of none.",
                    count=count,
                    integration=examined.name,
                ),
                sentence(
                    "Compare such a message in the Inbound Log with one that opened an alert, and map an id that "
                    "both have."
                ),
                about=examined.name,
                object_id=examined.pk,
            )
    for paging in in_use.filter(mode=IntegrationMode.PAGE)[:_MAX_EXAMINED]:
        if warning := simple_rules.load_observed_statuses(paging, now).warning:
            yield HealthFinding(
                "integration.opens_nothing",
                sentence("{integration}: {problem}", integration=paging.name, problem=warning),
                sentence("Set what each status does in the integration's settings."),
                about=paging.name,
                object_id=paging.pk,
            )


def check_reach(now: datetime) -> Iterator[HealthFinding]:
    """Checks whether every path of an alert reaches somebody. Uses Django's connection."""
    for integration in Integration.objects.select_related("current_version"):
        if integration.mode == IntegrationMode.DISABLED:
            yield note("integration.disabled", _DISABLED(integration=integration.name))
        for field_path, problem in reachability_problem(integration, now):
            name, cause = integration.name, as_reason(problem)
            if field_path != "escalation_policy":
                detail = sentence(
                    "{integration} ({field}): {problem}", integration=name, field=field_path, problem=cause
                )
            elif integration.policy_id is None and not integration.recipient_users.exists():
                continue  # integration.no_policy
            else:
                detail = _REACHES_NOBODY(integration=name, problem=cause)
            yield HealthFinding(
                "integration.reaches_nobody",
                detail,
                _REACHES_NOBODY_REMEDY(),
                about=name,
                level=_level(integration.settings),
            )


def _level(settings: Mapping[str, Any]) -> FindingLevel:
    """A note if it was saved deliberately with "anyway"."""
    return FindingLevel.NOTE if settings.get(ALLOW_UNREACHABLE) else FindingLevel.PROBLEM


# ---------- mailboxes
# Checks the mailboxes: whether the last poll could read them, and whether they accept a sign-in now. Reads no mail.


#: For all mailboxes together.
DEADLINE = timedelta(seconds=20)

_MAILBOXES_UNREADABLE = Text("Can't read the mailbox of {integration}: {error}")
_MAILBOXES_UNREADABLE_REMEDY = Text(
    "Check its address and password on the Security tab, and whether this server can connect to it."
)


_LAST_POLL = """
SELECT t.reads, coalesce(i.id, p.id) AS id, coalesce(i.name, p.name) AS name, t.reason
FROM core_mailboxtrouble t
LEFT JOIN inbound_integration i ON t.reads = %(inbound)s AND i.id = t.number AND i.mode <> 'disabled'
LEFT JOIN notify_provider p ON t.reads = %(replies)s AND p.id = t.number AND p.is_enabled
WHERE i.id IS NOT NULL OR p.id IS NOT NULL ORDER BY t.reads, t.since, t.number
"""


def check_last_poll(connection: Connection) -> Iterator[HealthFinding]:
    """Yields the mailboxes that could not be read at their last poll."""
    parameters: dict[str, object] = {"inbound": MailboxReader.INBOUND, "replies": MailboxReader.REPLIES}
    for row in database.rows(connection, _LAST_POLL, parameters):
        name, number, error = row["name"], row["id"], reason_from_json(row["reason"])
        if row["reads"] == MailboxReader.INBOUND:
            detail = _MAILBOXES_UNREADABLE(integration=name, error=error)
            yield HealthFinding(
                "mailbox.unread", detail, _MAILBOXES_UNREADABLE_REMEDY(), about=name, object_id=number, is_urgent=True
            )
        else:
            detail = sentence("{provider} can't read email replies: {error}", provider=name, error=error)
            yield HealthFinding(
                "mailbox.replies_unread", detail, _MAILBOXES_UNREADABLE_REMEDY(), about=name, object_id=number
            )


def check_mailboxes() -> Iterator[HealthFinding]:
    """Yields the mailboxes that reject the sign-in or do not answer in time. Checks all in parallel."""
    checks: dict[str, Callable[[], Reason]] = {}
    for integration in Integration.objects.exclude(credentials="").exclude(mode=IntegrationMode.DISABLED):
        imap = secrets.readable_credentials(integration).get("imap")
        if imap:
            checks[integration.name] = partial(email.check_mailbox, imap["mailbox"], imap.get("password", ""))
    for name, future in run_in_time(checks, DEADLINE, name="doctor").items():
        if error := reason_of_future(future, DEADLINE):
            detail = _MAILBOXES_UNREADABLE(integration=name, error=error)
            yield HealthFinding("mailbox.refuses", detail, _MAILBOXES_UNREADABLE_REMEDY(), about=name)


# ---------- outbound
# Checks outbound integrations: problems for people to fix, failed calls, and webhooks that deliver nothing.


REMEDIES: Mapping[str, Reason] = {
    "needs_you": sentence("Open it under Outbound integrations, fix the error above, and press Test."),
    "away": sentence("Tocsin keeps trying. Check whether the other system is running and reachable from here."),
    "dead": sentence("Open its log under Outbound integrations and resend or discard the calls."),
    "webhook": sentence("Press “Set up webhook”, or check the webhook in Halo."),
    "look": sentence("Press Test on its page: the result names the missing permission."),
}


def check_outbound(connection: Connection) -> Iterator[HealthFinding]:
    """Yields the problems from the last known status."""
    for problem in reasons.find_problems(connection):
        yield HealthFinding(
            f"outbound.{problem.kind}",
            problem.reason,
            REMEDIES[problem.kind],
            about=problem.name,
            object_id=problem.integration_id,
            is_urgent=problem.is_urgent,
        )


# ---------- workflows
# Checks workflows: unreadable ones, stuck runs, and reached limits.


WORKFLOWS_REMEDIES: Mapping[str, Reason] = {
    "unreadable": sentence("Open it under Workflows and save it again, or delete it."),
    "stuck": sentence("Open its log under Workflows: fix the error above, then retry or end the run."),
    "limited": sentence("Open its log under Workflows: narrow its conditions if it loops; otherwise raise its limit."),
}


def check_workflows(connection: Connection) -> Iterator[HealthFinding]:
    """Yields the current problems of workflows."""
    for problem in views.find_problems(connection):
        yield HealthFinding(
            f"workflow.{problem.kind}",
            problem.reason,
            WORKFLOWS_REMEDIES[problem.kind],
            about=problem.name,
            object_id=problem.workflow_id,
        )


# ---------- providers
# Checks providers by verifying address and credentials, without sending, and whether each channel in use has one.


#: For all providers together.
PROVIDERS_DEADLINE = timedelta(seconds=20)

#: The maximum number of names in one finding.
_MAX_NAMED_USERS, _MAX_NAMED_PROVIDERS = 10, 5

_FAILING_REMEDY = Text("See the error under Providers. Tocsin keeps retrying it.")
_REFUSES = Text("{provider}: {error}")
_MISSING = Text("No provider for {channel}: messages go to the sandbox and are not sent.")
_MISSING_FOR = Text(
    "No provider for {channel}: messages go to the sandbox and are not sent, including pages for {count} person.",
    "No provider for {channel}: messages go to the sandbox and are not sent, including pages for {count} people.",
)
_UNSENT = Text(
    "{count} message in the last 24 hours could not be sent by any provider: {providers}",
    "{count} messages in the last 24 hours could not be sent by any provider: {providers}",
)
_FAILED_OVER = Text(
    "{provider} could not send {count} message in the last 24 hours; another provider did.",
    "{provider} could not send {count} messages in the last 24 hours; another provider did.",
)
_NOT_CARRIED = Text("No {channel} provider delivers to the address of {users}: pages by this channel fail.")


def check_providers(connection: Connection) -> Iterator[HealthFinding]:
    """Checks the enabled providers, and finds channels in use without a provider."""
    pool = ProviderPool()
    try:
        pool.refresh(connection)
        for name, problem in pool.problems.items():
            detail = sentence("The provider {provider} cannot be used: {error}", provider=name, error=problem)
            yield HealthFinding(
                "provider.unusable", detail, sentence("Open it under Providers, fix its settings and save."), about=name
            )
        yield from _refusing(pool.all())
        yield from _missing(connection, pool)
    finally:
        pool.close()


def check_secrets(connection: Connection) -> Iterator[HealthFinding]:
    """Stored secrets that no known key can decrypt."""
    rows = database.rows(
        connection,
        "SELECT 'integration' AS noun, name, token AS sealed FROM inbound_integration "
        "UNION ALL SELECT 'integration', name, credentials FROM inbound_integration WHERE credentials <> '' "
        "UNION ALL SELECT 'provider', name, secrets FROM notify_provider WHERE secrets <> '' "
        "UNION ALL SELECT 'outbound integration', name, secrets FROM outbound_outboundintegration "
        "WHERE secrets <> '' ORDER BY 1, 2",
    )
    for kind, name in dict.fromkeys((row["noun"], row["name"]) for row in rows if not _can_decrypt(row["sealed"])):
        yield HealthFinding(
            "secrets.unreadable",
            sentence(
                "The configured secret keys don't decrypt a secret of the {kind} {name}.", kind=Term(kind), name=name
            ),
            RESTORE_KEY_OR_ENTER_SECRET(),
            about=name,
        )


def _refusing(providers: Sequence[ActiveProvider]) -> Iterator[HealthFinding]:
    """Providers that reject the check or do not answer in time. All are checked in parallel."""
    futures = run_in_time(
        {provider.name: provider.sender.verify for provider in providers}, PROVIDERS_DEADLINE, name="doctor"
    )
    for provider in providers:
        if error := reason_of_future(futures[provider.name], PROVIDERS_DEADLINE):
            detail = _REFUSES(provider=provider.name, error=provider.mask_secrets_in(error))
            remedy = sentence("Check its address and credentials, and whether this server can connect to it.")
            yield HealthFinding("provider.refuses", detail, remedy, about=provider.name)


def check_deliveries(now: datetime) -> Iterator[HealthFinding]:
    """Checks circuit breakers, and the deliveries that failed within a day. Uses Django's connection."""
    # Refused by all, it waits until one of them accepts it.
    is_waiting = Q(status=DeliveryStatus.QUEUED, is_exhausted=True)
    # Tests are excluded: their sender saw the failure.
    failed = Delivery.objects.filter(
        Q(status=DeliveryStatus.FAILED) | is_waiting, pk__gte=first_uuid7(now - timedelta(days=1))
    ).exclude(purpose=Purpose.TEST)
    is_unsent = Q(status__in=(DeliveryStatus.FAILED, DeliveryStatus.CANCELLED)) | is_waiting
    was_sent_otherwise = Exists(Delivery.objects.filter(~is_unsent, notification=OuterRef("notification")))
    has_failed = failed.exists()
    undelivered = failed.filter(~was_sent_otherwise)
    if has_failed and (count := undelivered.values("notification").distinct().count()):
        names = undelivered.values_list("provider_name", flat=True).distinct().order_by("provider_name")
        providers = tuple(name or sentence("no provider") for name in names[:_MAX_NAMED_PROVIDERS])
        detail = _UNSENT(count=count, providers=providers)
        remedy = sentence("The error is on the alert's timeline. Add another provider.")
        yield HealthFinding("messages.unsent", detail, remedy, is_urgent=True)
    open_circuits = list(ProviderHealth.objects.filter(is_open=True, name__in=pool.in_use()).order_by("name"))
    for row in open_circuits:
        detail = sentence(
            "{provider} is failing, and other providers have taken over: {error}", provider=row.name, error=row.error
        )
        yield HealthFinding("provider.passed_over", detail, _FAILING_REMEDY(), about=row.name, is_urgent=True)
    by_others = failed.filter(was_sent_otherwise).exclude(provider_name__in=["", *(row.name for row in open_circuits)])
    counted = by_others.values_list("provider_name").annotate(number=Count("pk")).order_by("-number")
    for name, number in counted[:_MAX_NAMED_PROVIDERS] if has_failed else ():
        detail = _FAILED_OVER(provider=name, count=number)
        yield HealthFinding("provider.failed_over", detail, _FAILING_REMEDY(), about=name)


_USED = f"""
SELECT m.channel, m.address, m.user_id, u.display_name AS name FROM people_contactmethod m
{join_user("m.user_id")} AND u.is_active WHERE m.is_enabled
UNION ALL SELECT c.channel, c.address, NULL, g.name FROM people_groupcontact c JOIN people_group g ON g.id = c.group_id
"""


def _missing(connection: Connection, pool: ProviderPool) -> Iterator[HealthFinding]:
    """Channels in use without any provider, and addresses that no provider of their channel covers."""
    users_by_channel: dict[str, set[int]] = {} if pool.no_provider_reason("email") else {"email": set()}
    uncovered: dict[str, set[str]] = {}
    for row in database.rows(connection, _USED):
        channel = row["channel"]
        # Built-in senders deliver to certain addresses without a provider.
        if pool.providers_for(channel, row["address"]):
            continue
        if pool.no_provider_reason(channel):
            uncovered.setdefault(channel, set()).add(row["name"])
        else:
            users_by_channel.setdefault(channel, set()).update([row["user_id"]] if row["user_id"] is not None else [])
    for channel, users in sorted(users_by_channel.items()):
        label = _label(channel)
        detail = _MISSING_FOR(channel=label, count=len(users)) if users else _MISSING(channel=label)
        yield HealthFinding("provider.missing", detail, _remedy(channel), about=channel)
    for channel, names in sorted(uncovered.items()):
        detail = _NOT_CARRIED(channel=_label(channel), users=limited(sorted(names), _MAX_NAMED_USERS))
        remedy = sentence("Check the channel's providers and their countries, or add another contact method.")
        yield HealthFinding("provider.not_carried", detail, remedy, about=channel)


def _label(channel: str) -> Term:
    return Term(CHANNELS[channel].label if channel in CHANNELS else channel)


def _remedy(channel: str) -> Reason:
    """How to get a provider for the channel."""
    return (
        sentence("Enter an SMTP server in Settings, or add a provider under Providers.")
        if channel == "email"
        else sentence("Add one under Providers.")
    )


def _can_decrypt(token: str) -> bool:
    try:
        crypto.decrypt(token)
    except Permanent:
        return False
    return True
