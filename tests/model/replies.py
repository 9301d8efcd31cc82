"""Replies outside the web interface: by mail, text message, keypad, signed link and button."""

from __future__ import annotations

from collections.abc import Callable
from email.message import EmailMessage
from urllib.parse import urlsplit
from uuid import UUID

from django.test import Client

from tests.model import people
from tests.model.gateways import SentMessage
from tests.model.system import System
from tocsin.alerts.models import AlertEvent
from tocsin.notify.event_receiver import ProviderEventReceiver
from tocsin.notify.inbound import mail_replies, responder_actions
from tocsin.notify.interfaces import CallState, InboundText
from tocsin.people.models import User

#: Reply texts, keys and buttons.
_WORDS = ("ack", "ack", "take", "close", "escalate", "ack all", "On my way.", "help")
#: The empty key ends the call.
_KEYS = ("", "1", "5", "6", "7", "7", "8", "9", "9")
_BUTTONS = ("acknowledge", "acknowledge", "assign", "escalate", "close", "undo")


def reply(system: System) -> None:
    """A user replies to one of the last messages."""
    replies: list[Callable[[System], None]] = [
        *[reply_by_mail] * 2, reply_by_text, *[answer_call] * 2, open_link, *[press_link] * 2, press_button
    ]  # fmt: skip
    system.rng.choice(replies)(system)


def reply_by_mail(system: System) -> None:
    """The recipient or another sender replies to a mail; sometimes the reply arrives twice."""
    message = _sent_message(system, "email")
    if message is None:
        return
    sender = message.address if system.rng.random() < 0.9 else "mallory@example.org"
    word = system.rng.choice(_WORDS)
    mail = EmailMessage()
    mail["From"], mail["In-Reply-To"] = sender, message.rendered.headers["Message-ID"]
    mail["Message-ID"] = f"<{UUID(int=system.rng.getrandbits(128))}@example.org>"
    mail.set_content(word)
    for _ in range(system.rng.choice([1, 1, 1, 2])):
        outcome = mail_replies.process_mail("Answers", mail.as_bytes(), system.now)
        system.record(f"{sender} answers a mail of {message.at:%H:%M:%S}, {word!r}: {outcome}")


def reply_by_text(system: System) -> None:
    """A user sends a text about their open alerts, or about an alert by its number."""
    number = system.rng.choice(people.phone_numbers())
    word = system.rng.choice(_WORDS)
    if (alerts := system.alerts()[:6]) and word in ("ack", "take", "close", "escalate") and system.rng.random() < 0.5:
        word = f"{word} {system.rng.choice(alerts)}"
    text = ProviderEventReceiver("Texts", system.now).handle_text(InboundText("sms", number, word))
    system.record(f"{number} texts {word!r}: {text}")


def answer_call(system: System) -> None:
    """A user answers one of the last calls, or calls back, and presses keys; or a machine answers."""
    rng = system.rng
    calls = [one for one in system.sent_messages() if one.channel == "voice"]
    if not calls:
        return
    message = rng.choice(calls)
    receiver, keys = ProviderEventReceiver(message.provider, system.now), ""
    key = message.key if rng.random() < 0.8 else ""
    step = receiver.handle_call(CallState(key, number=message.address, is_machine=rng.random() < 0.15))
    while step.script is not None or step.pending_digit:
        digit = rng.choice(_KEYS)
        if digit == "":
            break
        keys += digit
        step = receiver.handle_call(
            CallState(key, number=message.address, digits=digit, pending_digit=step.pending_digit)
        )
    system.record(f"{message.address} picks up the call of {message.at:%H:%M:%S} and presses {keys!r}: {step.speech}")


def open_link(system: System) -> None:
    """A recipient or a mail scanner opens a link."""
    if (path := _path(system)) is None:
        return
    status = _browser().get(path, secure=True).status_code
    system.opened = True
    system.record(f"a link is opened: {status}")


def press_link(system: System) -> None:
    """A user presses a button behind a link."""
    if (path := _path(system)) is None:
        return
    button = system.rng.choice(_BUTTONS)
    answered = _browser().post(path, {"command": button}, secure=True)
    newest = AlertEvent.objects.order_by("-id").values_list("id", "alert_id", "reason").first()
    system.record(f"{button} is pressed behind a link: {answered.status_code}, the newest event is {newest}")


def press_button(system: System) -> None:
    """A user presses a button of a push or chat message."""
    user = User.objects.get(username=system.rng.choice(people.active(system)))
    alerts = system.alerts()[:8]
    if alerts:
        alert, command = system.rng.choice(alerts), system.rng.choice(sorted(responder_actions.OFFERED))
        button_result = ProviderEventReceiver("Push 1", system.now).handle_button(user.pk, alert, str(command), "push")
        system.record(f"{user.username} presses {command} of #{alert}: {button_result}")


def _sent_message(system: System, channel: str) -> SentMessage | None:
    """One of the last messages of that channel with an answer link."""
    sent_messages = [one for one in system.sent_messages() if one.channel == channel and "/a/" in one.rendered.link]
    return system.rng.choice(sent_messages) if sent_messages else None


def _path(system: System) -> str | None:
    """The path of a signed link in one of the last messages, if there is one."""
    results = [urlsplit(one.rendered.link).path for one in system.sent_messages()]
    personal = [path for path in results if path.startswith("/a/")]
    return system.rng.choice(personal) if personal else None


def _browser() -> Client:
    return Client()
