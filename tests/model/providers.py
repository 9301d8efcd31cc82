"""The providers, their failure rates, and the delivery receipts they send."""

from __future__ import annotations

from typing import Any

from tests.model.system import System
from tests.support.people import ACTOR
from tocsin.core.delivery.circuit_breaker import FailureKind
from tocsin.core.reasons import as_reason
from tocsin.notify.event_receiver import ProviderEventReceiver
from tocsin.notify.interfaces import Receipt
from tocsin.notify.models import Provider
from tocsin.notify.providers.commands import provider_spec, save_provider
from tocsin.notify.states import ReceiptState

#: One for mail, two for push and two for phones; each second one is the fallback.
_PROVIDERS: dict[str, dict[str, Any]] = {
    "Mail": {"kind": "smtp", "host": "mail.example.org", "sender": "Tocsin <t@example.org>"},
    "Push 1": {"kind": "ntfy", "channels": ["ntfy"]},
    "Push 2": {"kind": "ntfy", "channels": ["ntfy"], "order": 2},
    "Phone 1": {"kind": "twilio", "account_sid": "AC1", "auth_token": "t1", "from_number": "+41440000001"},
    "Phone 2": {"kind": "twilio", "account_sid": "AC2", "auth_token": "t2", "from_number": "+41440000002", "order": 2},
}

_WORDS = (
    ReceiptState.DELIVERED, ReceiptState.DELIVERED, ReceiptState.ANSWERED, ReceiptState.FAILED,
    ReceiptState.NOT_REACHED, ReceiptState.ENDED, ReceiptState.IN_TRANSIT,
)  # fmt: skip

_FAILURES = (
    FailureKind.TEMPORARY, FailureKind.PERMANENT, FailureKind.ADDRESS_REJECTED, FailureKind.NO_SUCH_ADDRESS,
)  # fmt: skip


def set_up(system: System) -> None:
    """Saves all providers, sometimes without phones, whose messages then stay in the sandbox."""
    has_phones = system.rng.random() < 0.7
    for name, spec in _PROVIDERS.items():
        if has_phones or not name.startswith("Phone"):
            save_provider({"name": name, **spec}, actor=ACTOR, now=system.now)


def change_provider(system: System) -> None:
    """Changes a failure rate, or enables or disables a provider."""
    name = system.rng.choice(["", *_PROVIDERS])
    provider = Provider.objects.filter(name=name).first()
    if provider is not None and system.rng.random() < 0.3:
        spec = {**provider_spec(provider), "enabled": not provider.is_enabled}
        system.record(f"provider {name}: enabled {spec['enabled']}")
        save_provider(spec, existing=provider, actor=ACTOR, now=system.now)
        return
    system.conditions.fail_rates[name] = system.rng.choice([0, 0, 0, 0.2, 0.6, 1])
    system.record(f"failure rate of {name or 'other providers'}: {system.conditions.fail_rates[name]:.0%}")


def report(system: System) -> None:
    """Phone providers send receipts for the last messages, sometimes twice or late."""
    sent_messages = [one for one in system.sent_messages() if one.channel in ("sms", "voice")]
    for message in system.rng.sample(sent_messages, min(len(sent_messages), system.rng.randint(1, 3))):
        state = system.rng.choice(_WORDS)
        receipt = Receipt(
            state, message.key, reason=as_reason("No one picked up."), failure=system.rng.choice(_FAILURES),
        )  # fmt: skip
        ProviderEventReceiver(message.provider, system.now).handle_receipt(receipt)
        system.record(f"{message.provider} reports the {message.channel} of {message.at:%H:%M:%S} as {state}")
