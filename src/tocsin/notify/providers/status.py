"""How providers do, for people and programs to read: in their turn or passed over, since when and why; where their
vendors call. Reads only, over Django's connection."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from tocsin.core.config import environment as config
from tocsin.notify.models import Provider, ProviderHealth
from tocsin.notify.provider_settings import PHONES
from tocsin.notify.providers import pool
from tocsin.notify.registry import BUILT_IN, KINDS
from tocsin.notify.webhooks import WebhookEndpoint, WebhookProvider


class ProviderState(StrEnum):
    """How a provider stands."""

    #: Nothing was sent by it yet.
    UNUSED = "unused"
    WORKS = "works"
    #: It failed last, and is still used in its turn.
    FAILING = "failing"
    #: It failed on end: others take its turn until it works again.
    PASSED_OVER = "passed_over"


@dataclass(frozen=True, slots=True)
class ProviderStatus:
    """One provider's."""

    state: ProviderState = ProviderState.UNUSED
    worked_at: datetime | None = None
    failed_at: datetime | None = None
    #: What went wrong last: a sentence, or empty.
    error: str = ""
    since: datetime | None = None
    #: When it is asked again.
    retry_at: datetime | None = None


def statuses() -> dict[str, ProviderStatus]:
    """By the provider's name; one that is not here was never used."""
    return {row.name: _status(row) for row in ProviderHealth.objects.all()}


def in_use() -> list[str]:
    """The names of the providers that messages go by now: configured, of the environment, and built in."""
    configured = Provider.objects.filter(is_enabled=True).values_list("name", flat=True)
    environment = [pool.ENVIRONMENT] if config.current().smtp_url is not None else []
    return [*configured, *environment, *(kind.label for kind in BUILT_IN)]


def callback_addresses(provider: Provider) -> list[tuple[WebhookEndpoint, str]]:
    """What is to be entered at the vendor's, and the address; none where nobody outside could reach this machine."""
    kind = KINDS.get(provider.kind)
    if kind is None or not isinstance(kind, WebhookProvider):
        return []
    account = pool.account_of(provider.name, provider.pk, kind, provider.settings, {})
    return [(point, f"{account.callbacks}/{point.what}") for point in kind.points if account.callbacks]


def is_deaf(provider: Provider) -> bool:
    """Whether its vendor calls back, and cannot reach this machine: TOCSIN_BASE_URL is not set."""
    kind = KINDS.get(provider.kind)
    if kind is None or not isinstance(kind, WebhookProvider):
        return False
    return not pool.account_of(provider.name, provider.pk, kind, provider.settings, {}).callbacks


def numbers() -> list[str]:
    """The numbers that texts and calls come from, of the providers in use."""
    found = [
        str(provider.settings.get("from_number") or "")
        for provider in Provider.objects.filter(is_enabled=True)
        if PHONES & set(provider.channels)
    ]
    return list(dict.fromkeys(number for number in found if number.lstrip("+").replace(" ", "").isdigit()))


def contact_card(name: str) -> str:
    """A vCard (RFC 2426) with those numbers: a phone that knows them lets their calls through Do Not Disturb."""
    shown = name.replace("\\", "\\\\").replace(",", "\\,").replace(";", "\\;")
    lines = ["BEGIN:VCARD", "VERSION:3.0", f"N:{shown};;;;", f"FN:{shown}", f"ORG:{shown}"]
    lines += [f"TEL;TYPE=CELL,VOICE:{number.replace(' ', '')}" for number in numbers()]
    return "\r\n".join([*lines, "NOTE:Pages from Tocsin. Mark this contact as a favourite.", "END:VCARD", ""])


def _status(row: ProviderHealth) -> ProviderStatus:
    if row.is_open:
        state = ProviderState.PASSED_OVER
    elif row.failures:
        state = ProviderState.FAILING
    else:
        state = ProviderState.WORKS if row.worked_at else ProviderState.UNUSED
    error = row.error if state in (ProviderState.FAILING, ProviderState.PASSED_OVER) else ""
    return ProviderStatus(state, row.worked_at, row.failed_at, error, row.opened_at, row.retry_at)
