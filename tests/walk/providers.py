"""The providers there are, how they are doing, and what they report of messages that they took."""

from __future__ import annotations

from typing import Any

from tests.store.people import ACTOR
from tests.walk.world import World
from tocsin.notify.event_receiver import ProviderEventReceiver
from tocsin.notify.models import Provider
from tocsin.notify.providers.commands import provider_spec, save_provider
from tocsin.notify.webhooks import Receipt, ReceiptState

#: One for mails, two for pushes and two for phones, of which the second stands in.
_PROVIDERS: dict[str, dict[str, Any]] = {
    "Mail": {"kind": "smtp", "host": "mail.example.org", "sender": "Tocsin <t@example.org>"},
    "Push 1": {"kind": "ntfy", "channels": ["ntfy"]},
    "Push 2": {"kind": "ntfy", "channels": ["ntfy"], "order": 2},
    "Phone 1": {"kind": "twilio", "account_sid": "AC1", "auth_token": "t1", "from_number": "+41440000001"},
    "Phone 2": {"kind": "twilio", "account_sid": "AC2", "auth_token": "t2", "from_number": "+41440000002", "order": 2},
}

_WORDS = (
    ReceiptState.DELIVERED, ReceiptState.DELIVERED, ReceiptState.ANSWERED, ReceiptState.FAILED,
    ReceiptState.NOT_REACHED, ReceiptState.ENDED, ReceiptState.ON_ITS_WAY,
)  # fmt: skip


def settle_in(world: World) -> None:
    """All of them, but sometimes none for phones: those stay in the sandbox then."""
    has_phones = world.rng.random() < 0.7
    for name, spec in _PROVIDERS.items():
        if has_phones or not name.startswith("Phone"):
            save_provider({"name": name, **spec}, actor=ACTOR, now=world.now)


def change_weather(world: World) -> None:
    """A provider, or all that are not named, does better or worse; or it is switched off or on."""
    name = world.rng.choice(["", *_PROVIDERS])
    provider = Provider.objects.filter(name=name).first()
    if provider is not None and world.rng.random() < 0.3:
        spec = {**provider_spec(provider), "enabled": not provider.is_enabled}
        world.say(f"provider {name}: enabled {spec['enabled']}")
        save_provider(spec, existing=provider, actor=ACTOR, now=world.now)
        return
    world.weather.fail_rates[name] = world.rng.choice([0, 0, 0, 0.2, 0.6, 1])
    world.say(f"of what {name or 'any other provider'} gets, {world.weather.fail_rates[name]:.0%} fails")


def report(world: World) -> None:
    """Phones' providers report on the last messages that they took, sometimes twice or late."""
    letters = [one for one in world.letters() if one.channel in ("sms", "voice")]
    for letter in world.rng.sample(letters, min(len(letters), world.rng.randint(1, 3))):
        state = world.rng.choice(_WORDS)
        receipt = Receipt(
            state, letter.key, reason="Nobody picked up.", is_address=world.rng.random() < 0.5,
            is_passing=world.rng.random() < 0.3,
        )  # fmt: skip
        ProviderEventReceiver(letter.provider, world.now).receipt(receipt)
        world.say(f"{letter.provider} reports the {letter.channel} of {letter.at:%H:%M:%S} as {state}")
