"""The status of providers for the web interface and the API: circuit breaker, last error, callback URLs. Reads only,
over Django's connection.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from tocsin.core.config import environment as config
from tocsin.core.reasons import NO_REASON, Reason
from tocsin.notify.models import Provider, ProviderHealth
from tocsin.notify.provider_settings import PHONES
from tocsin.notify.providers import pool
from tocsin.notify.registry import BUILT_IN, KINDS
from tocsin.notify.webhooks import WebhookEndpoint, WebhookProvider


class ProviderState(StrEnum):
    """The health of a provider."""

    #: No message has been sent through it yet.
    UNUSED = "unused"
    WORKS = "works"
    #: The last message failed; the circuit breaker is still closed.
    FAILING = "failing"
    #: The circuit breaker is open: other providers are used first until it recovers.
    CIRCUIT_OPEN = "passed_over"


@dataclass(frozen=True, slots=True)
class ProviderStatus:
    """The status of one provider."""

    state: ProviderState = ProviderState.UNUSED
    worked_at: datetime | None = None
    failed_at: datetime | None = None
    #: The last error, if the provider fails.
    error: Reason = NO_REASON
    since: datetime | None = None
    #: When the provider is probed again.
    retry_at: datetime | None = None


def statuses() -> dict[str, ProviderStatus]:
    """Returns the status by provider name. A provider that is absent was never used."""
    return {row.name: _status(row) for row in ProviderHealth.objects.all()}


def in_use() -> list[str]:
    """Returns the names of all providers in use: configured, from the environment, and built in."""
    configured = Provider.objects.filter(is_enabled=True).values_list("name", flat=True)
    environment = [pool.ENVIRONMENT] if config.current().smtp_url is not None else []
    return [*configured, *environment, *(kind.label for kind in BUILT_IN)]


def webhook_urls(provider: Provider) -> list[tuple[WebhookEndpoint, str]]:
    """Returns the endpoints to enter in the vendor's console with their URLs; none if this machine has no public
    address.
    """
    kind = KINDS.get(provider.kind)
    if kind is None or not isinstance(kind, WebhookProvider):
        return []
    account = pool.account_of(provider.name, provider.pk, kind, provider.settings, {})
    return [
        (endpoint, f"{account.callback_base_url}/{endpoint.name}")
        for endpoint in kind.webhook_endpoints
        if account.callback_base_url
    ]


def lacks_callback_url(provider: Provider) -> bool:
    """Returns whether the vendor's webhooks cannot reach this machine because TOCSIN_BASE_URL is not set."""
    kind = KINDS.get(provider.kind)
    if kind is None or not isinstance(kind, WebhookProvider):
        return False
    return not pool.account_of(provider.name, provider.pk, kind, provider.settings, {}).callback_base_url


def sender_numbers() -> list[str]:
    """Returns the phone numbers that the enabled providers send texts and calls from."""
    numbers = [
        str(provider.settings.get("from_number") or "")
        for provider in Provider.objects.filter(is_enabled=True)
        if PHONES & set(provider.channels)
    ]
    return list(dict.fromkeys(number for number in numbers if number.lstrip("+").replace(" ", "").isdigit()))


def contact_card(name: str) -> str:
    """Returns a vCard (RFC 2426) with the sending numbers. A phone that has the contact as a favourite lets its calls
    through Do Not Disturb.
    """
    escaped = name.replace("\\", "\\\\").replace(",", "\\,").replace(";", "\\;")
    lines = ["BEGIN:VCARD", "VERSION:3.0", f"N:{escaped};;;;", f"FN:{escaped}", f"ORG:{escaped}"]
    lines += [f"TEL;TYPE=CELL,VOICE:{number.replace(' ', '')}" for number in sender_numbers()]
    return "\r\n".join([*lines, "NOTE:Pages from Tocsin. Mark this contact as a favourite.", "END:VCARD", ""])


def _status(row: ProviderHealth) -> ProviderStatus:
    if row.is_open:
        state = ProviderState.CIRCUIT_OPEN
    elif row.failures:
        state = ProviderState.FAILING
    else:
        state = ProviderState.WORKS if row.worked_at else ProviderState.UNUSED
    error = row.error if state in (ProviderState.FAILING, ProviderState.CIRCUIT_OPEN) else NO_REASON
    return ProviderStatus(state, row.worked_at, row.failed_at, error, row.opened_at, row.retry_at)
