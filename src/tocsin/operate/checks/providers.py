"""Checks providers by verifying address and credentials, without sending, and whether each channel in use has one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait

from tocsin.core.config import crypto
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.errors import Permanent, TocsinError
from tocsin.notify.providers import health
from tocsin.notify.providers.pool import ActiveProvider, ProviderPool
from tocsin.notify.registry import CHANNELS
from tocsin.notify.text import formatting
from tocsin.operate.finding import HealthFinding

#: In seconds, for all providers together.
DEADLINE = 20.0

#: The maximum number of names in one finding.
_MAX_NAMED_USERS = 10


def check(connection: Connection) -> Iterator[HealthFinding]:
    """Checks the enabled providers, and finds channels in use without a provider."""
    pool = ProviderPool()
    try:
        pool.refresh(connection)
        for name, problem in pool.problems.items():
            yield HealthFinding(
                "provider.unusable", f"The provider {name} cannot be used: {problem}", _SAVE, about=name
            )
        yield from _refusing(pool.all())
        for name in sorted(health.open_circuits(connection)):
            yield HealthFinding(
                "provider.passed_over",
                f"The provider {name} failed on end, and others take its turn.",
                "Its page under Providers says why. It is asked again by itself.",
                about=name,
            )
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
            f"A secret of the {kind} {name} cannot be decrypted with the known secret keys.",
            "Add the key it was saved under to TOCSIN_SECRET_KEY, or enter the secret again.",
            about=name,
        )


_SAVE = "Open it under Providers, correct it, and save."


def _refusing(providers: Sequence[ActiveProvider]) -> Iterator[HealthFinding]:
    """Providers that reject the check or do not answer in time. All are checked in parallel."""
    pool = ThreadPoolExecutor(max(1, len(providers)), thread_name_prefix="doctor")
    pending = {provider.name: pool.submit(provider.sender.verify) for provider in providers}
    wait(pending.values(), DEADLINE)
    pool.shutdown(wait=False, cancel_futures=True)
    for provider in providers:
        if (problem := _problem(pending[provider.name])) is not None:
            remedy = "Look at its address and credentials, and whether this machine may connect to it."
            yield HealthFinding(
                "provider.refuses", f"{provider.name}: {provider.mask_secrets(problem)}", remedy, about=provider.name
            )


def _problem(future: Future[str]) -> str | None:
    if not future.done():
        return f"it gave no answer within {DEADLINE:.0f} seconds."
    error = future.exception()
    if error is None:
        return None
    return str(error) if isinstance(error, TocsinError) else f"it cannot be asked ({type(error).__name__})."


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
        user_count = len(users)
        pages_text = (
            f", also the pages of {user_count} {'person' if user_count == 1 else 'people'}" if user_count else ""
        )
        yield HealthFinding(
            "provider.missing",
            f"No provider carries {_label(channel)}: what is sent by it goes to the sandbox and leaves "
            f"nowhere{pages_text}.",
            _remedy(channel),
            about=channel,
        )
    for channel, names in sorted(uncovered.items()):
        sorted_names = sorted(names)
        names_text = formatting.listed(
            [*sorted_names[:_MAX_NAMED_USERS], f"{len(sorted_names) - _MAX_NAMED_USERS} more"][: len(sorted_names)]
        )
        yield HealthFinding(
            "provider.not_carried",
            f"No provider carries {_label(channel)} to the address of {names_text}: their pages by it fail.",
            "Look at the channel's providers, also at their countries, or give them another way.",
            about=channel,
        )


def _label(channel: str) -> str:
    return CHANNELS[channel].label if channel in CHANNELS else channel


def _remedy(channel: str) -> str:
    """How to get a provider for the channel."""
    if channel == "email":
        return "Set TOCSIN_SMTP_URL, or add one under Providers."
    return "Add one under Providers."


def _can_decrypt(token: str) -> bool:
    try:
        crypto.decrypt(token)
    except Permanent:
        return False
    return True
