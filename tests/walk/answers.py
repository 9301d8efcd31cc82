"""What people answer from outside the pages: by mail, by text message, by a phone's keys, by the link of a message, by
its button."""

from __future__ import annotations

from collections.abc import Callable
from email.message import EmailMessage
from urllib.parse import urlsplit
from uuid import UUID

from django.test import Client

from tests.walk import people
from tests.walk.gateways import Letter
from tests.walk.world import World
from tocsin.alerts.models import AlertEvent
from tocsin.notify.event_receiver import ProviderEventReceiver
from tocsin.notify.inbound import responder_actions
from tocsin.notify.mail_replies import process
from tocsin.notify.webhooks import CallState, InboundText
from tocsin.people.models import User

#: What is written, said or pressed.
_WORDS = ("ack", "ack", "take", "close", "escalate", "ack all", "On my way.", "help")
#: The empty one puts the phone down.
_KEYS = ("", "1", "5", "6", "7", "7", "8", "9", "9")
_BUTTONS = ("acknowledge", "acknowledge", "assign", "escalate", "close", "undo")


def answer(world: World) -> None:
    """Somebody answers one of the last messages, by one of the ways that it offers."""
    ways: list[Callable[[World], None]] = [
        *[by_mail] * 2, by_text, *[by_call] * 2, open_link, *[press_link] * 2, press_button
    ]  # fmt: skip
    world.rng.choice(ways)(world)


def by_mail(world: World) -> None:
    """The person of a mail answers it, or somebody else does, or it comes twice."""
    letter = _letter(world, "email")
    if letter is None:
        return
    sender = letter.address if world.rng.random() < 0.9 else "mallory@example.org"
    word = world.rng.choice(_WORDS)
    mail = EmailMessage()
    mail["From"], mail["In-Reply-To"] = sender, letter.rendered.headers["Message-ID"]
    mail["Message-ID"] = f"<{UUID(int=world.rng.getrandbits(128))}@example.org>"
    mail.set_content(word)
    for _ in range(world.rng.choice([1, 1, 1, 2])):
        outcome = process.take("Answers", mail.as_bytes(), world.now)
        world.say(f"{sender} answers a mail of {letter.at:%H:%M:%S}, {word!r}: {outcome}")


def by_text(world: World) -> None:
    """Somebody texts, about whatever is open for them or an alert by its number."""
    number = world.rng.choice(people.phone_numbers())
    word = world.rng.choice(_WORDS)
    if (alerts := world.alerts()[:6]) and word in ("ack", "take", "close", "escalate") and world.rng.random() < 0.5:
        word = f"{word} {world.rng.choice(alerts)}"
    heard = ProviderEventReceiver("Texts", world.now).text(InboundText("sms", number, word))
    world.say(f"{number} texts {word!r}: {heard}")


def by_call(world: World) -> None:
    """Somebody picks up one of the last calls, or calls back, and presses keys; or a machine picks up."""
    rng = world.rng
    calls = [one for one in world.letters() if one.channel == "voice"]
    if not calls:
        return
    letter = rng.choice(calls)
    hearing, keys = ProviderEventReceiver(letter.provider, world.now), ""
    key = letter.key if rng.random() < 0.8 else ""
    step = hearing.call(CallState(key, number=letter.address, is_machine=rng.random() < 0.15))
    while step.script is not None or step.asked:
        digit = rng.choice(_KEYS)
        if digit == "":
            break
        keys += digit
        step = hearing.call(CallState(key, number=letter.address, digits=digit, asked=step.asked))
    world.say(f"{letter.address} picks up the call of {letter.at:%H:%M:%S} and presses {keys!r}: {step.say}")


def open_link(world: World) -> None:
    """A link is opened, by its person or by what looks at links in mails."""
    if (path := _path(world)) is None:
        return
    status = _browser().get(path, secure=True).status_code
    world.opened = True
    world.say(f"a link is opened: {status}")


def press_link(world: World) -> None:
    """A button is pressed on the page of a link."""
    if (path := _path(world)) is None:
        return
    button = world.rng.choice(_BUTTONS)
    answered = _browser().post(path, {"command": button}, secure=True)
    newest = AlertEvent.objects.order_by("-id").values_list("id", "alert_id", "reason").first()
    world.say(f"{button} is pressed behind a link: {answered.status_code}, the newest event is {newest}")


def press_button(world: World) -> None:
    """Somebody presses the button of a push or in a chat."""
    user = User.objects.get(username=world.rng.choice(people.active(world)))
    alerts = world.alerts()[:8]
    if alerts:
        alert, command = world.rng.choice(alerts), world.rng.choice(sorted(responder_actions.OFFERED))
        heard = ProviderEventReceiver("Push 1", world.now).button(user.pk, alert, str(command), "push")
        world.say(f"{user.username} presses {command} of #{alert}: {heard}")


def _letter(world: World, channel: str) -> Letter | None:
    """One of the last messages of that channel that can be answered."""
    found = [one for one in world.letters() if one.channel == channel and "/a/" in one.rendered.link]
    return world.rng.choice(found) if found else None


def _path(world: World) -> str | None:
    """The path of a link in one of the last messages, if one has any."""
    found = [urlsplit(one.rendered.link).path for one in world.letters()]
    personal = [path for path in found if path.startswith("/a/")]
    return world.rng.choice(personal) if personal else None


def _browser() -> Client:
    return Client()
