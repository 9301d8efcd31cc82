"""The chat and push channels: a title, a few lines and buttons, for a user, a chat room, a browser or an app.

The URLs of chat and push services are stored encrypted, since anyone who knows one can post there.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

from tocsin.alerts.commands import AlertState
from tocsin.alerts.states import WAS_MERGED, AlertStatus, CommandChannel, CommandKind, Priority
from tocsin.core.errors import Permanent, Rejected
from tocsin.core.reasons import NO_REASON, AlertRef, Person, Reason, Text, joined, sentence, translatable
from tocsin.core.validation.inputs import sanitize
from tocsin.notify.interfaces import Channel, Message, MessageButton, Rendered
from tocsin.notify.states import Purpose
from tocsin.notify.text import formatting, signed_links
from tocsin.notify.text.formatting import phrase
from tocsin.people import addresses

# ---------- reviewed chat services
# The apprise schemas that an address may use. A schema is added after a review of its plugin's source: every request
# goes through `requests`, and neither the plugin nor a URL argument reads a file, runs a program or opens a socket. A
# test repeats the mechanical part of that review for each version of apprise.
#
# Excluded on purpose: fcm, vapid and deltachat (key files), nostr, irc, xmpp, mqtt, amqp, smpp, aprs, growl, rsyslog
# and mailto (their own sockets), twitter (a library that is not installed), instagram (needs a file), msg91 (its
# template is part of every address), and services of the machine itself, such as dbus, syslog, macosx and windows.


SCHEMAS = frozenset(
    {
        "46elks", "acs", "apprise", "apprises", "atalk", "awswhatsapp", "azure", "bale", "bark", "barks", "betterstack",
        "bluesky", "brevo", "bsky", "bulksms", "bulkvs", "burstsms", "chanify", "clickatell", "clicksend", "cliq", "cm",
        "d7sms", "dapnet", "dingtalk", "discord", "dot", "eight00com", "elks", "emby", "embys", "enigma2", "enigma2s",
        "evolution", "evolutions", "exotel", "feishu", "firehydrant", "flock", "flowtriq", "flowtriqs", "fluxer",
        "fluxers", "form", "forms", "freemobile", "gchat", "github", "goalert", "goalerts", "gorush", "gorushs",
        "gotify", "gotifys", "groundmail", "groupme", "guilded", "gupshup", "hassio", "hassios", "httpsms", "humhub",
        "humhubs", "ifttt", "ilert", "incidentio", "infobip", "jellyfin", "jellyfins", "jira", "join", "json", "jsons",
        "kakao", "kakaotalk", "kaleyra", "kavenegar", "klr", "kodi", "kodis", "kook", "kudosity", "kumulos", "lametric",
        "lametrics", "lark", "lauther", "lfg", "line", "mailersend", "mailgun", "mastodon", "mastodons", "matrix",
        "matrixs", "misskey", "misskeys", "mmost", "mmosts", "mobilemessage", "mobilemsg", "msgbird", "ncloud",
        "nclouds", "nctalk", "nctalks", "nexmo", "notica", "noticas", "notifiarr", "notifico", "notificos", "notifyapp",
        "notifyre", "ntfy", "ntfys", "o365", "octopush", "onebot", "onebots", "onesignal", "opsgenie", "opsimate",
        "opsimates", "pagerduty", "pagertree", "parsep", "parseps", "pbul", "pinglet", "pinglets", "pingram", "pjet",
        "pjets", "plivo", "postmark", "pover", "prowl", "psafer", "psafers", "push", "pushdeer", "pushdeers", "pushed",
        "pushme", "pushplus", "pushward", "pushy", "qq", "reddit", "resend", "revolt", "ringc", "rocket", "rockets",
        "ryver", "schan", "sendgrid", "sendpulse", "serwersms", "ses", "session", "sessions", "seven", "sfr", "signal",
        "signalgrid", "signals", "signl4", "simplepush", "sinch", "slack", "smsc", "smseagle", "smseagles",
        "smsmanager", "smsmgr", "smstunnel", "smtp2go", "sns", "sogs", "sparkpost", "spike", "splunk", "spugpush",
        "spush", "squadcast", "stackfield", "strmlabs", "synology", "synologys", "telesign", "telnyx", "tgram",
        "threema", "toot", "toots", "trigv", "trigvs", "twilio", "twist", "viber", "victorops", "voipms", "vonage",
        "webex", "wechat", "wecom", "wecombot", "whapi", "whatsapp", "workflow", "workflows", "wpush", "wxpusher",
        "wxteams", "xbmc", "xbmcs", "xmatters", "xml", "xmls", "youlmk", "zalo", "zcliq", "zohocliq", "zoom", "zulip",
    }
)  # fmt: skip

#: Schemas whose "host" is an argument of the vendor's API, such as the domain that mail is sent from.
VENDOR_HOST = frozenset({"mailgun", "sendpulse", "smtp2go", "sparkpost", "wechat"})

#: Hosts, including their subdomains, that public services run.
PUBLIC_HOSTS = (
    "api.powerplatform.com",
    "betterstackdata.com",
    "communication.azure.com",
    "infobip.com",
    "logic.azure.com",
    "matrix.org",
    "ntfy.sh",
    "xmatters.com",
    "zulipchat.com",
)


# ---------- chat url policy
# Decides which chat and push services Tocsin may call through apprise, and rejects unsafe URLs.
#
# An address is an apprise URL (`gotify://host/token`) or a service's own URL (`https://hooks.slack.com/…`). Only
# reviewed services over HTTP are accepted. The check uses apprise's own parse result and plugin object: a second
# parser could read the same text differently.


if TYPE_CHECKING:
    import apprise

#: Prefixes of URL arguments that name a file, or a resource to fetch and attach.
_FILES = ("template", "keyfile", "subfile", "keystore", "attach", "include", "path", "cert", "file")
#: The same for a plugin's declared arguments. `attach-as` names a form field, and `path` there is part of a URL.
_DECLARED_FILES = ("template", "keyfile", "subfile", "keystore", "attach", "cert", "file")
_NO_FILE = frozenset({"attach-as"})

_NOT_KNOWN = Text("This is not the address of a supported chat or push service. See the documentation for examples.")


@dataclass(frozen=True, slots=True)
class ChatService:
    """The service that an address belongs to."""

    scheme: str
    label: str
    #: The host in the address of a self-hosted service; empty for a vendor's own service.
    own_host: str = ""


def service(url: str) -> ChatService:
    """Returns the service of `url`. Raises Rejected("invalid_address") without repeating the URL, which is a secret."""
    plugin = open_plugin(url)
    schemes = sorted(plugin.schemas(), key=lambda name: (len(name), name))
    return ChatService(schemes[0], str(plugin.service_name).strip() or schemes[0], _own_host(plugin))


def open_plugin(url: str) -> Any:
    """Returns apprise's plugin object for `url`, ready to send. Raises Rejected as `service` does."""
    if not url.isprintable() or " " in url:
        raise _refused(_NOT_KNOWN())
    parsed = _parsed(url)
    if parsed is None:
        raise _refused(_NOT_KNOWN())
    scheme = str(parsed["schema"])
    if scheme not in SCHEMAS:
        raise _refused(sentence("{scheme}:// is not allowed: it is not a reviewed HTTP-only service.", scheme=scheme))
    # Apprise groups the URL's arguments by a prefix: `qsd`, `qsd+`, `qsd-` and `qsd:`.
    groups = (group for key, group in parsed.items() if key.startswith("qsd") and isinstance(group, Mapping))
    for name in (str(name).strip().lower() for group in groups for name in group):
        if name.startswith(_FILES):
            raise _refused(
                sentence(
                    'An address with "{argument}" is not allowed: it would read files on this server.',
                    argument=name[:30],
                )
            )
    plugin = _instance(parsed)
    if plugin is None:
        raise _refused(_NOT_KNOWN())
    if not _is_over_http(plugin):
        raise _refused(sentence("{scheme}:// is not allowed: it is not HTTP-only.", scheme=scheme))
    if next(_file_attributes(plugin), None) is not None:
        raise _refused(sentence("This address is not allowed: it would read files on this server."))
    return plugin


def _parsed(url: str) -> dict[str, Any] | None:
    """Returns the arguments that apprise parses from the URL; None if it knows no such service."""
    # Imported on demand: apprise takes 20 MB and a second, and most installations never need it.
    from apprise.plugins import url_to_dict

    _asset()
    try:
        arguments: dict[str, Any] | None = url_to_dict(url, secure_logging=True)  # type: ignore[no-untyped-call]
    except (ValueError, TypeError, AttributeError, KeyError, IndexError):
        # The plugin failed on its input, so the address is invalid.
        return None
    return arguments if arguments and arguments.get("schema") else None


def _instance(parsed: dict[str, Any]) -> Any:
    import apprise

    try:
        return apprise.Apprise.instantiate(parsed, asset=_asset(), suppress_exceptions=True)
    except (ValueError, TypeError, AttributeError, KeyError, IndexError):
        return None


@cache
def _asset() -> apprise.AppriseAsset:
    import logging

    import apprise

    # apprise logs servers' responses; errors are reported by Tocsin instead.
    logging.getLogger("apprise").setLevel(logging.CRITICAL)
    return apprise.AppriseAsset(
        app_id="Tocsin",
        app_desc="Tocsin",
        app_url="",
        # No remote images, no redirects, no disk storage, and no third-party plugins.
        image_url_mask="",
        image_url_logo="",
        image_path_mask="",
        http_redirects=False,
        storage_mode="memory",
        secure_logging=True,
    )


def _is_over_http(plugin: Any) -> bool:
    """Returns whether it sends its requests with `requests`, which `integrations.apprise` replaces."""
    import requests

    modules = [sys.modules[kind.__module__] for kind in type(plugin).__mro__ if kind.__module__ in sys.modules]
    return any(getattr(module, "requests", None) is requests for module in modules)


def _file_attributes(plugin: Any) -> Iterator[str]:
    """Yields the attributes of a plugin object that hold a file: a declared file argument, or an attachment."""
    from apprise import AppriseAttachment, AppriseConfig
    from apprise.attachment.base import AttachBase

    declared = {**plugin.template_tokens, **plugin.template_args, **plugin.template_kwargs}
    for name, declaration in declared.items():
        if name.startswith(_DECLARED_FILES) and name not in _NO_FILE:
            for attribute in (name, str(declaration.get("map_to") or name)):
                if getattr(plugin, attribute, None):
                    yield attribute
    for attribute, value in vars(plugin).items():
        values = value if isinstance(value, list | tuple | set) else [value]
        if any(isinstance(item, AttachBase | AppriseConfig) for item in values):
            yield attribute
        if any(isinstance(item, AppriseAttachment) and len(item) for item in values):
            yield attribute


def _own_host(plugin: Any) -> str:
    """Returns the host that the address names, unless a public service runs it."""
    tokens = plugin.template_tokens
    if not plugin.schemas().isdisjoint(VENDOR_HOST) or str(getattr(plugin, "mode", "")) == "cloud":
        return ""
    if "organization" in tokens and hasattr(plugin, "hostname"):
        host = f"{plugin.organization}.{plugin.hostname}"
    elif "endpoint" in tokens:
        host = str(plugin.endpoint)
    elif "host" in tokens:
        host = str(plugin.host or "")
    else:
        return ""
    host = host.lower().rstrip(".")
    is_public = any(host == public or host.endswith(f".{public}") for public in PUBLIC_HOSTS)
    return "" if is_public else host


def _refused(reason: Reason) -> Rejected:
    return Rejected("invalid_address", reason)


_TOO_LONG = Text("The address has at most {limit} characters.")


def validate_address(text: str) -> str:
    """Returns the encrypted form of a service's URL. An encrypted or masked one is returned unchanged.

    Raises Rejected("invalid_address") without repeating the address.
    """
    if addresses.is_masked(text):
        return text
    if addresses.is_encrypted(text):
        try:
            addresses.decrypt_address(text)
        except Permanent as problem:
            raise Rejected("invalid_address", problem.full_reason) from None
        return text
    if len(text.encode()) > addresses.MAX_PLAIN_ADDRESS_CHARS:
        raise Rejected("invalid_address", _TOO_LONG(limit=addresses.MAX_PLAIN_ADDRESS_CHARS))
    return addresses.encrypt_address(service(text).scheme, text)


def own_server(address: str) -> str:
    """Returns the host of an encrypted address that belongs to a self-hosted server; empty for a public service or any
    other address. Raises Rejected.
    """
    if not addresses.is_encrypted(address):
        return ""
    return service(addresses.decrypt_address(address)).own_host


# ---------- card
# What a chat shows of a message that asks for an answer: one model, which each vendor's module lays out. Pure.


#: The buttons of a card, in display order. A vendor without text fields leaves out those that ask for a text.
BUTTONS = (CommandKind.ACKNOWLEDGE, CommandKind.ASSIGN, CommandKind.HOLD, CommandKind.CLOSE, CommandKind.REPLY)
#: Those that need nothing but a press.
PLAIN_BUTTONS = (CommandKind.ACKNOWLEDGE, CommandKind.ASSIGN, CommandKind.CLOSE)

#: For how long an alert can be snoozed.
SNOOZE_CHOICES = (
    ("30m", translatable("30 minutes")),
    ("1h", translatable("1 hour")),
    ("4h", translatable("4 hours")),
    ("1d", translatable("1 day")),
)

_LABELS = {
    CommandKind.ACKNOWLEDGE: translatable("Acknowledge"),
    CommandKind.ASSIGN: translatable("Assign to me"),
    CommandKind.HOLD: translatable("Snooze"),
    CommandKind.CLOSE: translatable("Close"),
    CommandKind.REPLY: translatable("Add note"),
}

_UNLINKED = Text(
    "Tocsin doesn't recognize you here, so nothing was changed. Sign in to Tocsin and add this chat as "
    "a contact method: {address}"
)


@dataclass(frozen=True, slots=True)
class CardButton:
    """A button that carries out a command: its label, and the data that come back when it is pressed."""

    command: CommandKind
    label: str
    data: str


@dataclass(frozen=True, slots=True)
class Card:
    """A message in a chat. Its texts are the source's: each vendor's module escapes and shortens them."""

    title: str
    text: str
    #: What has become of the alert since, such as "Acknowledged by Alice"; empty in a new message.
    state: str
    buttons: tuple[CardButton, ...]
    link: str
    link_label: str
    language: str
    #: None for a message without an alert, and once nobody needs to act.
    priority: Priority | None


def card(rendered: Rendered, *, has_answers: bool, commands: tuple[CommandKind, ...] = PLAIN_BUTTONS) -> Card:
    """Returns the card of a message, with those of `commands` that are still useful. It has buttons only if it asks for
    a response to one alert and presses reach Tocsin (`has_answers`): a button without effect would be mistaken for a
    response.
    """
    number, language = alert_of(rendered), rendered.language
    offered = commands if rendered.commands is None else [each for each in commands if each in rendered.commands]
    buttons = [] if number is None or not has_answers else [_button(each, number, language) for each in offered]
    return Card(
        rendered.subject,
        rendered.text,
        rendered.state,
        tuple(buttons),
        rendered.link,
        phrase(language, "Open Tocsin") if number is None else phrase(language, "Open the alert"),
        language,
        None if rendered.commands == () else rendered.priority,
    )


def _button(command: CommandKind, alert_id: int, language: str) -> CardButton:
    return CardButton(command, label(command, language), f"{command}:{alert_id}")


def label(button: CommandKind, language: str) -> str:
    """Returns the label of one of `BUTTONS` in a language."""
    return phrase(language, _LABELS[button])


def alert_of(rendered: Rendered) -> int | None:
    """Returns the id of the alert that the message's buttons act on; None without buttons, or for several alerts."""
    return signed_links.alert_of(rendered.link) if rendered.buttons else None


def parse_button_data(text: str) -> tuple[str, int] | None:
    """Parses button data such as `acknowledge:42` into the command and the alert id; None for anything else."""
    command, _, number = text.partition(":")
    if command not in BUTTONS or not (number.isascii() and number.isdigit() and len(number) <= 18):
        return None
    return command, int(number)


def unlinked_member_answer(address: str) -> str:
    """Returns the answer to a chat member who is not linked to a Tocsin user, whose language is not known."""
    return str(_UNLINKED(address=address))


def with_state(rendered: Rendered, alert: AlertState) -> Rendered:
    """Returns the message about an alert as it is by now, in the active language and time zone."""
    state, commands = progress(alert)
    return replace(rendered, state=sanitize(state.localized()), commands=commands)


def progress(alert: AlertState) -> tuple[Reason, tuple[CommandKind, ...] | None]:
    """Returns what has become of an alert, empty if nobody has acted, and the commands that are still useful."""
    last = alert.last_event
    actor = Person(last.actor_name, last.actor_id) if last is not None else Person("")
    match alert.status:
        case AlertStatus.CLOSED:
            return (sentence("Closed by {user}", user=actor) if actor.name else sentence("Closed")), ()
        case AlertStatus.CANCELLED if actor.name:
            return sentence("Closed as false alarm by {user}", user=actor), ()
        case AlertStatus.CANCELLED:
            return sentence("Closed as false alarm"), ()
        case AlertStatus.MERGED:
            merged = WAS_MERGED(alert=AlertRef(alert.id), into=AlertRef(alert.merged_into or 0))
            return merged, () if alert.is_parent_ended else None
    names = tuple(Person(one.name, user_id) for user_id, one in alert.acknowledged.items())
    state = NO_REASON
    if alert.is_owned:
        state = sentence("Assigned to {owner}", owner=alert.owner)
    elif names:
        state = sentence("Acknowledged by {users}", users=names)
    held_until = alert.hold_until if alert.status is AlertStatus.ON_HOLD else None
    if held_until is not None:
        state = joined(state, sentence("Snoozed until {time}", time=held_until), separator=" · ")
    done = {
        CommandKind.ACKNOWLEDGE: bool(state),
        CommandKind.ASSIGN: alert.is_owned,
        CommandKind.HOLD: held_until is not None,
    }
    return state, tuple(each for each in BUTTONS if not done.get(each)) if state else None


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
        is_test=message.purpose is Purpose.TEST,
    )


def _title(message: Message) -> str:
    match message.purpose:
        case Purpose.PAGE if len(message.alerts) == 1:
            alert = message.alerts[0]
            test = "TEST " if alert.is_test else ""
            return f"{test}{formatting.marked_priority(alert, message.language)}: {formatting.headline(alert)}"
        case Purpose.PAGE:
            worst = min(message.alerts, key=lambda alert: alert.priority.rank)
            return f"{formatting.marked_priority(worst, message.language)}: {formatting.counted_alerts(message)}"
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
        lines = formatting.sentences(message)
        if len(message.alerts) == 1:
            lines = [formatting.named(message.alerts[0], language=message.language), formatting.and_more(message)]
        text = "\n".join(lines)
    return text


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


#: A member or channel of a Slack workspace by id; a Telegram user or group by number; a person by their object ID in
#: Entra, or a channel or group chat of Teams by its conversation's id.
_OF_PROVIDERS = re.compile(
    r"slack:[UWCGD][A-Z0-9]{5,20}|telegram:-?[0-9]{3,20}"
    r"|teams:(?:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|19:[\w.:-]{5,200}@[a-z0-9.]{3,40})"
)

_FORMS = Text(
    "A chat address is slack:U012AB3CD, telegram:123456789, teams: with an object ID, or the URL that a chat service "
    "shows for its messages."
)


class ChatChannel(Channel):
    name = "chat"
    label = "Chat"
    nouns = (translatable("chat message"), "chat messages")
    icon = "messages"
    address_help = translatable(
        "slack:U012AB3CD, telegram:123456789, teams:OBJECT-ID, or the URL of a chat service, which is kept secret"
    )
    example = "slack:C012AB3CD"
    quietness = 2
    bundle_limit = 30
    is_updated = True
    command_channel = CommandChannel.CHAT
    layout = "chat"

    def render(self, message: Message) -> Rendered:
        return render(message, max_chars=3500, max_details_chars=1000)

    def normalize_address(self, text: str) -> str:
        """Returns the normalised member or room id, or the encrypted form of a service's URL, which is a secret."""
        entered = text.strip()
        if "://" in entered or entered.startswith("sealed:"):
            return validate_address(entered)
        scheme, colon, target = entered.partition(":")
        # Only the ids of Teams' conversations depend on the case of their letters.
        as_written = target.strip()
        folded = as_written if "@" in as_written else as_written.lower() if "-" in as_written else as_written.upper()
        normalized = f"{scheme.lower()}{colon}{folded}"
        if not _OF_PROVIDERS.fullmatch(normalized):
            raise Rejected("invalid_address", _FORMS())
        return normalized

    def accepts_code(self, address: str) -> bool:
        """A member can answer at a provider; the sealed address of a chat service cannot be used to answer."""
        return not addresses.is_encrypted(address)

    def custom_host(self, address: str) -> str:
        return own_server(address)


class CompactPushChannel(Channel):
    """A channel of pushes: a title, a few lines and buttons."""

    quietness = 1
    bundle_limit = 20
    is_push = True
    command_channel = CommandChannel.PUSH
    #: Of a message, and of a single alert's details in it.
    max_chars: int
    max_details_chars: int

    def render(self, message: Message) -> Rendered:
        return render(message, max_chars=self.max_chars, max_details_chars=self.max_details_chars)


class PushChannel(CompactPushChannel):
    name = "push"
    label = "Push"
    nouns = (translatable("push message"), "push messages")
    address_help = translatable("the URL of a push service, which is kept secret")
    silence_help = translatable(
        "iPhone: not possible. Android: make the browser an exception of Do Not Disturb; silent mode keeps it quiet."
    )
    example = "alice-topic"
    max_chars = 1500
    max_details_chars = 300

    def normalize_address(self, text: str) -> str:
        """Returns the address of a user's own devices, a topic, or the encrypted form of a push service's URL, which is
        a secret.
        """
        entered = text.strip()
        scheme, mark, _path = entered.partition("://")
        # A topic may be written as a full URL.
        if entered.startswith("sealed:") or (mark and scheme.lower() not in ("http", "https")):
            return validate_address(entered)
        if not entered or len(entered) > 500 or not entered.isprintable():
            raise Rejected("invalid_address", sentence("A push address is one line of at most 500 characters."))
        return entered

    def custom_host(self, address: str) -> str:
        return own_server(address)
