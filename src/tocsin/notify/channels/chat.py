"""The chat channel: a title, a few lines and buttons, for a user or a group's chat room."""

from __future__ import annotations

import re
from dataclasses import replace

from tocsin.alerts.states import CommandChannel, CommandKind
from tocsin.core.errors import Rejected
from tocsin.core.reasons import Text, translatable
from tocsin.core.validation.text_sanitizing import sanitize
from tocsin.notify.channels import chat_addresses as services
from tocsin.notify.interfaces import Channel, Message, MessageButton, Rendered
from tocsin.notify.states import Purpose
from tocsin.notify.text import formatting, signed_links
from tocsin.notify.text.phrases import alert_count, phrase
from tocsin.people import addresses

# ---------- chat buttons
# The buttons under a chat message, and the buttons that remain after one was pressed. Pure.


#: In display order.
BUTTONS = (CommandKind.ACKNOWLEDGE, CommandKind.ASSIGN, CommandKind.CLOSE)

_UNLINKED = Text(
    "Tocsin doesn't recognize you here, so nothing was changed. Sign in to Tocsin and add this chat as "
    "a contact method: {address}"
)

#: The buttons that are still useful after each command.
_BUTTONS_AFTER = {
    CommandKind.ACKNOWLEDGE: (CommandKind.ASSIGN, CommandKind.CLOSE),
    CommandKind.ASSIGN: (CommandKind.CLOSE,),
}


def label(button: CommandKind, language: str) -> str:
    """Returns the label of one of `BUTTONS` in a language."""
    match button:
        case CommandKind.ACKNOWLEDGE:
            return phrase(language, "Acknowledge")
        case CommandKind.ASSIGN:
            return phrase(language, "Assign to me")
        case _:
            return phrase(language, "Close")


def alert_of(rendered: Rendered) -> int | None:
    """Returns the id of the alert that the message's buttons act on; None if it has no buttons or covers several
    alerts.
    """
    return signed_links.alert_of(rendered.link) if rendered.buttons else None


def buttons_after(pressed: str) -> tuple[CommandKind, ...]:
    """Returns the buttons that remain under a message after one was pressed."""
    return next((buttons for kind, buttons in _BUTTONS_AFTER.items() if kind == pressed), ())


def parse_button_data(text: str) -> tuple[str, int] | None:
    """Parses button data such as `acknowledge:42` into the command and the alert id; None for anything else."""
    command, _, number = text.partition(":")
    if command not in BUTTONS or not (number.isascii() and number.isdigit() and len(number) <= 18):
        return None
    return command, int(number)


def format_button_data(kind: CommandKind, alert_id: int) -> str:
    """Returns a button's data, which `read` parses."""
    return f"{kind}:{alert_id}"


def unlinked_member_answer(address: str) -> str:
    """Returns the answer to a chat member who is not linked to a Tocsin user, whose language is not known."""
    return str(_UNLINKED(address=address))


# ---------- compact text
# Renders the compact form that pushes and chats share: a title, a few sentences, and buttons that open a page.


#: A longer ticket URL would leave no room for the text.
_MAX_URL_CHARS = 1000


def render(message: Message, *, max_chars: int, max_details_chars: int) -> Rendered:
    """Returns a title and a text of at most `max_chars` characters. A single alert's details are limited to
    `max_details_chars` characters.
    """
    first = message.alerts[0] if message.alerts else None
    link = first.link if first and len(message.alerts) == 1 else message.home_url
    return Rendered(
        subject=formatting.cut(sanitize(_title(message)), 200),
        text=formatting.cut(sanitize(_fit_text(message, max_details_chars, max_chars)), max_chars),
        buttons=_buttons(message, link),
        link=link,
        language=message.language,
        priority=min((alert.priority for alert in message.alerts), key=lambda priority: priority.rank, default=None),
    )


def _title(message: Message) -> str:
    match message.purpose:
        case Purpose.PAGE if len(message.alerts) == 1:
            alert = message.alerts[0]
            test = "TEST " if alert.is_test else ""
            return f"{test}{formatting.marked_priority(alert, message.language)}: {formatting.headline(alert)}"
        case Purpose.PAGE:
            worst = min(message.alerts, key=lambda alert: alert.priority.rank)
            count = alert_count(message.language, len(message.alerts) + message.omitted_count)
            return f"{formatting.marked_priority(worst, message.language)}: {count}"
        case Purpose.ALL_CLEAR:
            return phrase(message.language, "All clear")
        case Purpose.ACK_REMINDER:
            return phrase(message.language, "Still on it?")
        case Purpose.NOTICE | Purpose.TEST:
            return formatting.one_line(message.title) or "Tocsin"


def _fit_text(message: Message, max_details_chars: int, max_chars: int) -> str:
    """Returns the text. Of several alerts it names as many as fit and counts the others."""
    text = _text(message, max_details_chars)
    while len(text) > max_chars and len(message.alerts) > 1:
        message = replace(message, alerts=message.alerts[:-1], omitted_count=message.omitted_count + 1)
        text = "\n".join(formatting.sentences(message) if len(message.alerts) > 1 else [_first_and_count(message)])
    return text


def _first_and_count(message: Message) -> str:
    return f"{formatting.named(message.alerts[0], language=message.language)}\n{formatting.and_more(message)}"


def _text(message: Message, max_details_chars: int) -> str:
    lines = formatting.sentences(message)
    if message.purpose is Purpose.PAGE and len(message.alerts) == 1:
        alert = message.alerts[0]
        origin = [formatting.mark(alert), formatting.one_line(alert.site, 60), formatting.one_line(alert.requester, 60)]
        if origin_line := ", ".join(part for part in origin if part):
            lines.append(origin_line)
        if deadline := formatting.deadline(alert, message.at, message.language):
            lines.append(deadline)
        if alert.long_text and max_details_chars:
            lines.append(formatting.plain(alert.long_text, max_details_chars))
        lines.append(f"#{alert.id}")
    return "\n".join(line for line in lines if line)


def _buttons(message: Message, link: str) -> tuple[MessageButton, ...]:
    if message.purpose not in (Purpose.PAGE, Purpose.ACK_REMINDER) or not link:
        return ()
    if len(message.alerts) > 1:
        return (MessageButton(phrase(message.language, "Open the alerts"), link),)
    label = (
        phrase(message.language, "Acknowledge or assign to me")
        if message.recipient
        else phrase(message.language, "Open the alert")
    )
    ticket = formatting.one_line(message.alerts[0].source_url)
    if not ticket.startswith(("http://", "https://")) or len(ticket) > _MAX_URL_CHARS:
        return (MessageButton(label, link),)
    return (MessageButton(label, link), MessageButton(phrase(message.language, "Open the ticket"), ticket))


#: A member or channel of a Slack workspace by id; a Telegram user or group by number.
_OF_PROVIDERS = re.compile(r"slack:[UWCGD][A-Z0-9]{5,20}|telegram:-?[0-9]{3,20}")

_FORMS = Text(
    "A chat address is slack:U012AB3CD, telegram:123456789, or the URL that a chat service shows for its messages."
)


class ChatChannel(Channel):
    name = "chat"
    label = "Chat"
    nouns = (translatable("chat message"), "chat messages")
    icon = "messages"
    address_help = translatable(
        "slack:U012AB3CD, telegram:123456789, or the URL of a chat service, which is kept secret"
    )
    example = "slack:C012AB3CD"
    quietness = 2
    bundle_limit = 30
    command_channel = CommandChannel.CHAT
    layout = "chat"

    def render(self, message: Message) -> Rendered:
        return render(message, max_chars=3500, max_details_chars=1000)

    def normalize_address(self, text: str) -> str:
        """Returns the normalised member or room id, or the encrypted form of a service's URL, which is a secret."""
        entered = text.strip()
        if "://" in entered or entered.startswith("sealed:"):
            return services.validate_address(entered)
        scheme, colon, target = entered.partition(":")
        normalized = f"{scheme.lower()}{colon}{target.strip().upper()}"
        if not _OF_PROVIDERS.fullmatch(normalized):
            raise Rejected("invalid_address", _FORMS())
        return normalized

    def accepts_code(self, address: str) -> bool:
        """A member can answer at a provider; the sealed address of a chat service cannot be used to answer."""
        return not addresses.is_encrypted(address)

    def custom_host(self, address: str) -> str:
        return services.own_server(address)
