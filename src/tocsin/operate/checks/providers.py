"""Checks providers by verifying address and credentials, without sending, and whether each channel in use has one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from django.db.models import Count, Exists, OuterRef, Q

from tocsin.core.config import crypto
from tocsin.core.config.crypto import RESTORE_KEY_OR_ENTER_SECRET
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.errors import Permanent
from tocsin.core.ids import first_uuid7
from tocsin.core.reasons import Reason, ReasonType, Term
from tocsin.core.runtime.daemon_threads import run_in_time
from tocsin.notify.models import Delivery, ProviderHealth
from tocsin.notify.providers import status
from tocsin.notify.providers.pool import ActiveProvider, ProviderPool
from tocsin.notify.registry import CHANNELS
from tocsin.notify.states import DeliveryStatus, Purpose
from tocsin.operate.finding import HealthFinding, limited, reason_of_future

#: For all providers together.
DEADLINE = timedelta(seconds=20)

#: The maximum number of names in one finding.
_MAX_NAMED_USERS, _MAX_NAMED_PROVIDERS = 10, 5

_UNUSABLE = ReasonType("health.provider_unusable", "The provider {provider} cannot be used: {error}")
_UNUSABLE_REMEDY = ReasonType("health.provider_unusable_remedy", "Open it under Providers, fix its settings and save.")
_FAILING = ReasonType("health.provider_failing", "{provider} is failing, and other providers have taken over: {error}")
_FAILING_REMEDY = ReasonType(
    "health.provider_failing_remedy", "See the error under Providers. Tocsin keeps retrying it."
)
_UNSENT = ReasonType(
    "health.messages_unsent",
    "{count} message in the last 24 hours could not be sent by any provider: {providers}",
    "{count} messages in the last 24 hours could not be sent by any provider: {providers}",
)
_UNSENT_REMEDY = ReasonType(
    "health.messages_unsent_remedy", "The error is on the alert's timeline. Add another provider."
)
_SENT_BY_OTHERS = ReasonType(
    "health.provider_failed_over",
    "{provider} could not send {count} message in the last 24 hours; another provider did.",
    "{provider} could not send {count} messages in the last 24 hours; another provider did.",
)
_REFUSES = ReasonType("health.provider_refuses", "{provider}: {error}")
_NO_PROVIDER = ReasonType("health.messages_unsent_by_none", "no provider")
_REFUSES_REMEDY = ReasonType(
    "health.provider_refuses_remedy",
    "Check its address and credentials, and whether this server can connect to it.",
)
_UNREADABLE_SECRET = ReasonType(
    "health.secret_unreadable",
    "The configured secret keys don't decrypt a secret of the {kind} {name}.",
)
_MISSING = ReasonType(
    "health.provider_missing",
    "No provider for {channel}: messages go to the sandbox and are not sent.",
)
_MISSING_FOR_USERS = ReasonType(
    "health.provider_missing_for_users",
    "No provider for {channel}: messages go to the sandbox and are not sent, including pages for {count} person.",
    "No provider for {channel}: messages go to the sandbox and are not sent, including pages for {count} people.",
)
_MISSING_REMEDY = ReasonType("health.provider_missing_remedy", "Add one under Providers.")
_MISSING_EMAIL_REMEDY = ReasonType(
    "health.provider_missing_email_remedy", "Set TOCSIN_SMTP_URL, or add one under Providers."
)
_NOT_CARRIED = ReasonType(
    "health.provider_not_carried",
    "No {channel} provider delivers to the address of {users}: pages by this channel fail.",
)
_NOT_CARRIED_REMEDY = ReasonType(
    "health.provider_not_carried_remedy",
    "Check the channel's providers and their countries, or add another contact method.",
)


def check(connection: Connection) -> Iterator[HealthFinding]:
    """Checks the enabled providers, and finds channels in use without a provider."""
    pool = ProviderPool()
    try:
        pool.refresh(connection)
        for name, problem in pool.problems.items():
            detail = _UNUSABLE(provider=name, error=problem)
            yield HealthFinding("provider.unusable", detail, _UNUSABLE_REMEDY(), about=name)
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
            _UNREADABLE_SECRET(kind=Term(kind), name=name),
            RESTORE_KEY_OR_ENTER_SECRET(),
            about=name,
        )


def _refusing(providers: Sequence[ActiveProvider]) -> Iterator[HealthFinding]:
    """Providers that reject the check or do not answer in time. All are checked in parallel."""
    futures = run_in_time({provider.name: provider.sender.verify for provider in providers}, DEADLINE, name="doctor")
    for provider in providers:
        if error := reason_of_future(futures[provider.name], DEADLINE):
            detail = _REFUSES(provider=provider.name, error=provider.mask_secrets_in(error))
            yield HealthFinding("provider.refuses", detail, _REFUSES_REMEDY(), about=provider.name)


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
        providers = tuple(name or _NO_PROVIDER() for name in names[:_MAX_NAMED_PROVIDERS])
        detail = _UNSENT(count=count, providers=providers)
        yield HealthFinding("messages.unsent", detail, _UNSENT_REMEDY(), is_urgent=True)
    open_circuits = list(ProviderHealth.objects.filter(is_open=True, name__in=status.in_use()).order_by("name"))
    for row in open_circuits:
        detail = _FAILING(provider=row.name, error=row.error)
        yield HealthFinding("provider.passed_over", detail, _FAILING_REMEDY(), about=row.name, is_urgent=True)
    by_others = failed.filter(was_sent_otherwise).exclude(provider_name__in=["", *(row.name for row in open_circuits)])
    counted = by_others.values_list("provider_name").annotate(number=Count("pk")).order_by("-number")
    for name, number in counted[:_MAX_NAMED_PROVIDERS] if has_failed else ():
        detail = _SENT_BY_OTHERS(provider=name, count=number)
        yield HealthFinding("provider.failed_over", detail, _FAILING_REMEDY(), about=name)


_USED = """
SELECT m.channel, m.address, m.user_id, coalesce(nullif(u.name, ''), u.username) AS name FROM people_contactmethod m
JOIN people_user u ON u.id = m.user_id AND u.is_active WHERE m.is_enabled
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
        detail = _MISSING_FOR_USERS(channel=label, count=len(users)) if users else _MISSING(channel=label)
        yield HealthFinding("provider.missing", detail, _remedy(channel), about=channel)
    for channel, names in sorted(uncovered.items()):
        detail = _NOT_CARRIED(channel=_label(channel), users=limited(sorted(names), _MAX_NAMED_USERS))
        yield HealthFinding("provider.not_carried", detail, _NOT_CARRIED_REMEDY(), about=channel)


def _label(channel: str) -> Term:
    return Term(CHANNELS[channel].label if channel in CHANNELS else channel)


def _remedy(channel: str) -> Reason:
    """How to get a provider for the channel."""
    return _MISSING_EMAIL_REMEDY() if channel == "email" else _MISSING_REMEDY()


def _can_decrypt(token: str) -> bool:
    try:
        crypto.decrypt(token)
    except Permanent:
        return False
    return True
