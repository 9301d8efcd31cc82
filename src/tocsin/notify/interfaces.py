"""The plug-in interfaces of notifications: `Channel`, `ProviderKind` and `ProviderSender`. Sends nothing itself.

A channel defines how a message looks (an e-mail, a text message, …) and validates its addresses. A provider kind
carries one or more channels: it declares its settings and hands a rendered message to its server. A kind whose vendor
calls webhooks passes the events (receipts, replies, key presses, buttons) to an `EventReceiver`.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any, Protocol, Self, runtime_checkable
from urllib.parse import parse_qsl
from uuid import UUID

from tocsin.alerts.states import CommandChannel, CommandKind, Priority
from tocsin.core.delivery.circuit_breaker import FailureKind
from tocsin.core.errors import Rejected
from tocsin.core.reasons import NO_REASON, Reason, ReasonType, translatable
from tocsin.notify.states import Purpose, ReceiptState


@dataclass(frozen=True, slots=True)
class AlertContent:
    """The details of an alert for a message. Texts are the source's: each channel must escape them itself."""

    id: int
    priority: Priority
    subject: str
    #: Used for text messages and calls; if empty, they use the subject.
    short_text: str = ""
    #: Used for e-mails. Plain text or HTML, untrusted.
    long_text: str = ""
    client: str = ""
    site: str = ""
    team: str = ""
    source: str = ""
    source_id: str = ""
    source_url: str = ""
    requester: str = ""
    requester_phone: str = ""
    is_vip: bool = False
    is_test: bool = False
    count: int = 1
    opened_at: datetime | None = None
    #: Until when somebody must respond, and fix it, if an SLA says so.
    respond_by: datetime | None = None
    fix_by: datetime | None = None
    #: The alert's page for the recipient. Opening it never changes the alert.
    link: str = ""
    #: For an all-clear: "Assigned to Alice: VPN down (#42). Nothing to do."
    all_clear_text: str = ""
    #: The code that a reply by text message must end with; empty if none is required.
    reply_code: str = ""


@dataclass(frozen=True, slots=True)
class MessageButton:
    """A labelled link. Opening it shows a page and never changes anything."""

    label: str
    url: str


@dataclass(frozen=True, slots=True)
class Message:
    """One message to one address, before a channel renders it."""

    notification_id: UUID
    purpose: Purpose
    #: The time of sending.
    at: datetime
    #: The recipient's name; empty for a group contact.
    recipient: str = ""
    time_zone: str = "UTC"
    #: One alert, or several in a bundled message; empty for a notice or test without an alert.
    alerts: tuple[AlertContent, ...] = ()
    #: Only for a notice.
    title: str = ""
    text: str = ""
    #: Why the recipient gets this message.
    reason: Reason = NO_REASON
    #: The URL of Tocsin's home page, for a message that is not about a single alert.
    home_url: str = ""
    #: Whether replies on this channel reach Tocsin.
    can_reply: bool = True
    #: The recipient's language, such as "de"; empty means English.
    language: str = ""
    #: How many more alerts the message covers than it names.
    omitted_count: int = 0
    #: What all the alerts have in common, such as "Globex: Host web-# does not answer"; empty if they are no storm.
    storm: str = ""
    #: Only for a notice that asks for an answer: the personal links to give it.
    links: tuple[MessageButton, ...] = ()


@dataclass(frozen=True, slots=True)
class CallScript:
    """The script of a phone call in plain text: the greeting, the problem (spoken twice) and the key menu."""

    greeting: str
    message: str
    menu: str
    #: The language of all three texts, such as "en-GB".
    language: str = "en-GB"
    #: The keys that trigger a command, such as "16789".
    keys: str = ""
    #: The alerts one by one, if the call is about several: a key asks for it.
    listing: str = ""

    def without_keys(self) -> CallPrompt:
        """Returns the whole script for a listener who can press no key: a machine, or one whose key reaches nobody."""
        if self.listing:
            return CallPrompt(f"{self.greeting} {self.listing}", language=self.language)
        return CallPrompt(script=replace(self, menu="", keys=""), language=self.language)


@dataclass(frozen=True, slots=True)
class Repeats:
    """How a vendor repeats a page until someone answers: for how long, and the tags by which the repeats are ended."""

    duration: timedelta
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rendered:
    """A message rendered for its channel. No text in it can inject headers or HTML."""

    subject: str
    text: str
    html: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    buttons: tuple[MessageButton, ...] = ()
    link: str = ""
    priority: Priority | None = None
    #: The recipient's language, such as "de"; empty means English.
    language: str = ""
    #: Only for a message that is brought up to date: what has become of its alert, and the commands that are still
    #: useful; None for all.
    state: str = ""
    commands: tuple[CommandKind, ...] | None = None
    #: Only for a phone call.
    script: CallScript | None = None
    #: A test rings as an urgent page does.
    is_test: bool = False
    #: Only for an urgent page on a channel whose vendor repeats it.
    repeats: Repeats | None = None

    @property
    def is_urgent(self) -> bool:
        """Whether it asks for a response to a critical or high alert."""
        return bool(self.buttons) and self.priority in (Priority.CRITICAL, Priority.HIGH)

    @classmethod
    def from_content(cls, content: Mapping[str, Any], language: str) -> Self:
        """Returns what a chat shows of content that the sandbox has stored."""
        return cls(
            subject=content.get("subject", ""),
            text=content.get("text", ""),
            buttons=tuple(MessageButton(**button) for button in content.get("buttons") or ()),
            link=content.get("link") or "",
            priority=Priority(content["priority"]) if content.get("priority") else None,
            language=language,
        )

    def content(self) -> dict[str, Any]:
        """Returns the JSON-compatible content that the sandbox stores."""
        return {
            "subject": self.subject,
            "text": self.text,
            "html": self.html,
            "headers": dict(self.headers),
            "buttons": [{"label": button.label, "url": button.url} for button in self.buttons],
            "link": self.link,
            "priority": self.priority,
            **({"script": asdict(self.script)} if self.script else {}),
            **({"repeats": True} if self.repeats else {}),
        }


class Channel(ABC):
    """A notification channel, such as e-mail or SMS, and all that is known of it: a class under `notify/channels`, or
    under `notify/integrations` if one vendor alone has it.

    Its setting `content_NAME`, forms, API, YAML, the sandbox and the conformance test follow from its attributes.
    """

    #: The identifier in contact methods, such as `email`.
    name: str
    #: The display name, such as "Email".
    label: str
    #: One message and several in the middle of a sentence, such as ("call", "calls").
    nouns: tuple[str, str]
    #: The name of a Tabler icon that `scripts/icons.txt` lists.
    icon: str = "bell-ringing"
    #: What its addresses are, after the label and a colon.
    address_help: str
    #: An address, for the conformance test.
    example: str
    #: 0 is the quietest. An all-clear uses the quietest channel on which the user was paged.
    quietness: int
    #: The maximum number of alerts that one message names.
    bundle_limit: int
    #: Whether a message counts the alerts that it does not name ("and 12 more"); if not, they are sent in another
    #: message.
    counts_omitted: bool = True
    #: Rings only if the phone's settings allow it.
    is_push: bool = False
    #: What the phone's owner must switch on so that it rings while the phone is silenced.
    silence_help: str = ""
    #: Addresses are phone numbers: messages cost money, and a sender can be forged.
    is_phone: bool = False
    #: Messages are read to the recipient, who presses keys.
    is_call: bool = False
    #: Its vendor repeats an urgent page until someone answers (`RepeatingSender`).
    has_repeats: bool = False
    #: Its messages can be brought up to date after they were sent, where the provider can.
    is_updated: bool = False
    #: What an answer on it is recorded as.
    command_channel: CommandChannel
    #: How the sandbox draws its messages: `email`, `sms`, `voice`, `push` or `chat`.
    layout: str = "push"

    @property
    def is_loud(self) -> bool:
        """Whether it makes a phone ring. An email or a chat message wakes nobody."""
        return self.is_push or self.is_phone

    @property
    def is_text(self) -> bool:
        """Whether its messages are texts to a phone number."""
        return self.is_phone and not self.is_call

    @abstractmethod
    def render(self, message: Message) -> Rendered:
        """Returns the message rendered for this channel. Never raises, whatever the texts contain."""

    @abstractmethod
    def normalize_address(self, text: str) -> str:
        """Returns the address in canonical form. Raises Rejected("invalid_address") with the reason."""

    def parse_address(self, text: str) -> str:
        """Returns an address that a user enters in canonical form. Raises as `normalize_address` does."""
        return self.normalize_address(text)

    def accepts_code(self, address: str) -> bool:
        """Returns whether a code sent there can prove that the address belongs to a user: who reads it can answer."""
        return False

    def custom_host(self, address: str) -> str:
        """Returns the host that an address names if no well-known vendor runs it, else an empty string."""
        return ""


#: Every channel by name, from the quietest on. `providers.pool` fills it, so that modules that decide import none.
CHANNELS: dict[str, Channel] = {}


def has_repeats(channel: str) -> bool:
    """Returns whether the channel's vendor repeats urgent pages."""
    return channel in CHANNELS and CHANNELS[channel].has_repeats


def phones() -> frozenset[str]:
    """Returns the channels whose addresses are phone numbers."""
    return frozenset(name for name, channel in CHANNELS.items() if channel.is_phone)


class ProviderSettingType(StrEnum):
    TEXT = "text"
    #: Several lines, such as a template.
    LONG_TEXT = "long_text"
    URL = "url"
    #: A hostname or IP address.
    HOST = "host"
    #: An e-mail address, optionally with a display name: Tocsin <tocsin@example.org>.
    MAILBOX = "mailbox"
    #: What a text or a call comes from: a phone number, or for texts a name.
    SENDER = "sender"
    #: A time of day, such as 07:30.
    TIME = "time"
    NUMBER = "number"
    CHOICE = "choice"
    FLAG = "flag"


@dataclass(frozen=True, slots=True)
class ProviderSetting:
    """One setting of a provider kind. Forms, YAML, the API and validation are generated from it."""

    name: str
    label: str
    kind: ProviderSettingType = ProviderSettingType.TEXT
    is_required: bool = False
    is_secret: bool = False
    default: str | int | bool = ""
    choices: tuple[str, ...] = ()
    help: str = ""
    #: The channel that a provider cannot carry without this setting.
    channel: str = ""
    #: Limits of a number.
    min_value: int = 1
    max_value: int = 65_535


@dataclass(frozen=True, slots=True)
class ChatPlace:
    """A conversation in which a bot may post: the server that a verified request named, and its id there."""

    service_url: str
    conversation: str


def _no_place(bot: str, address: str) -> ChatPlace | None:
    return None


@dataclass(frozen=True, slots=True)
class ProviderAccount:
    """A provider's settings and secrets by name, as its kind uses them."""

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    #: Whether the account comes from the environment. Its addresses need no entry in the egress allow-list.
    is_trusted: bool = False
    #: The public base URL for the vendor's callbacks, such as "https://tocsin.example.org/hooks/twilio"; empty if
    #: Tocsin has no public address.
    callback_base_url: str = ""
    #: Returns the conversation of an address with a bot, by the bot's id at its vendor; None if there is none.
    find_place: Callable[[str, str], ChatPlace | None] = field(default=_no_place, repr=False, compare=False)


class ProviderSender(Protocol):
    """An open connection to a provider. Used by many threads at once; keeps its connections between messages."""

    def send(self, rendered: Rendered, channel: str, address: str, idempotency_key: str) -> str:
        """Hands one message to the provider, and returns its id there if there is one. `idempotency_key` is sent along
        so that the provider can recognise a duplicate.

        Raises Temporary (nothing was accepted; retry later), OutcomeUnknown (the message may have been accepted),
        NoSuchAddress (the address does not exist: the only refusal that is final), AddressRejected (not to this address
        for now) or Permanent (a person must act). No error text contains a secret.
        """

    def verify(self) -> Reason:
        """Checks address and credentials without sending. Returns what worked. Raises as `send` does."""

    def close(self) -> None:
        """Closes the connections. `send` must not be called afterwards."""


@dataclass(frozen=True, slots=True)
class ReceiptReport:
    """What a vendor says about a page that it repeats."""

    is_delivered: bool = False
    #: The address of the person who answered, and the name of the device; empty without an answer.
    answered_by: str = ""
    device: str = ""
    #: Whether nothing more will be reported.
    is_over: bool = False


@runtime_checkable
class RepeatingSender(Protocol):
    """A sender whose vendor repeats a page until someone answers, and is asked for the receipt. Raises as `send`."""

    def fetch_receipt(self, external_id: str) -> ReceiptReport:
        """Returns what became of the message with that id."""

    def end_repeats(self, external_id: str = "", tag: str = "") -> None:
        """Ends the repeats of one message, or of all that carry the tag. What has ended already is no error."""


@runtime_checkable
class AddressChecker(Protocol):
    """A sender whose vendor says whether an address exists."""

    def check_address(self, address: str) -> None:
        """Raises AddressRejected with the reason if pages must not be sent there, else as `send`. Sends nothing."""


@dataclass(frozen=True, slots=True)
class Quota:
    """How many messages a vendor carries in a period, how many are left, and when the next period begins."""

    limit: int
    left: int
    resets_at: datetime


@runtime_checkable
class UpdatingSender(ProviderSender, Protocol):
    """The sender of a vendor whose messages can be changed after they were sent."""

    def update(self, rendered: Rendered, channel: str, address: str, external_id: str) -> None:
        """Replaces the message that `send` returned the id of. Notifies nobody. Raises as `send` does."""


@runtime_checkable
class UserGroupSender(Protocol):
    """A sender whose vendor has user groups, such as those that are mentioned in a chat."""

    def set_members(self, user_group: str, members: Sequence[str]) -> None:
        """Replaces the members of a user group, by their addresses, of which there is at least one. Raises as `send`
        does."""


# ---------- calls to a hotline
# What a vendor reports about a call to a number of ours, and what it is told to do with it. A call is known by the
# vendor's id, a person who is rung for it (a leg) by our own key. `calls` decides; the vendor's module carries out.


class HotlineEventKind(StrEnum):
    """What has happened to a call or a leg. Any of them may come twice, late, or in another order."""

    #: Somebody calls the hotline. Answered with the first steps.
    CAME = "came"
    #: A `Gather` has ended: with `digits`, or without a key in time. Answered with the next steps.
    KEY = "key"
    #: A `Park`, `Join` or `Record` has ended: somebody hung up, or the recording is full. Answered with the next steps.
    ENDED = "ended"
    #: A phone rings, or is about to. Has the call's id, which `CallCarrier.ring` may not know yet.
    RINGING = "ringing"
    #: A rung phone was picked up. Answered with its first steps, usually a `Gather` that asks for the accept key.
    ANSWERED = "answered"
    #: A voicemail or fax has answered. May come after `ANSWERED`.
    MACHINE = "machine"
    BUSY = "busy"
    DECLINED = "declined"
    NO_ANSWER = "no_answer"
    #: The vendor could not make the call; `reason` says why.
    FAILED = "failed"
    #: The caller, or with `leg` the person who was rung, is gone.
    HUNG_UP = "hung_up"
    #: The caller has left the conference: hung up, unless they were moved to other steps.
    LEFT = "left"
    #: A recording is ready: `recording_url`, `recording_id`, `recording_seconds`. It is to be fetched at once. Its call
    #: may never have come: the fallback document recorded it while Tocsin was down.
    RECORDED = "recorded"
    #: A recording could not be made, or holds nothing.
    NOT_RECORDED = "not_recorded"
    #: What was said on a recording: `transcription`.
    TRANSCRIBED = "transcribed"


@dataclass(frozen=True, slots=True)
class HotlineEvent:
    """One event of a call to a hotline, or of a leg."""

    kind: HotlineEventKind
    #: The vendor's id of the call that this is about: the caller's, or with `leg` that of the person who was rung.
    external_id: str
    #: The key that `CallCarrier.ring` was given; empty for the caller's own call.
    leg: str = ""
    #: The number that was called, in E.164.
    number: str = ""
    #: The caller's number in E.164; empty if it is withheld.
    caller: str = ""
    #: The name that the caller's network sends, if it does.
    caller_name: str = ""
    #: What `CallCarrier.ring` needs to show the caller's own number, at a vendor that requires it.
    caller_token: str = ""
    digits: str = ""
    #: Of `KEY` and `ENDED`: the name of the step that has ended. By it a repeat of an earlier request is known.
    step: str = ""
    reason: Reason = NO_REASON
    recording_url: str = ""
    recording_id: str = ""
    recording_seconds: int = 0
    transcription: str = ""
    #: Whether the call is a test that `CallCarrier.call_in` began.
    is_test: bool = False


@dataclass(frozen=True, slots=True)
class Say:
    text: str
    #: Such as "en-GB".
    language: str = "en-GB"


@dataclass(frozen=True, slots=True)
class Gather:
    """Speaks, and waits for one key: then, and without one, `KEY` asks for the next steps."""

    say: tuple[Say, ...]
    timeout_seconds: int = 8
    #: Comes back as `HotlineEvent.step`, as those of the other steps.
    name: str = ""


@dataclass(frozen=True, slots=True)
class Park:
    """Lets the caller wait in a conference, with music and the sentence every 20 seconds, until a person joins it. The
    conference ends with the caller, and with the person."""

    conference: str
    sentence: Say
    #: Whether the talk is recorded, which must have been announced: `RECORDED` follows at its end.
    is_recorded: bool = False
    name: str = ""


@dataclass(frozen=True, slots=True)
class Join:
    """Brings a person into the caller's conference, which begins with that."""

    conference: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class Record:
    """Records the caller until a silence, the # key or the hang-up. `ENDED` and `RECORDED` follow, in any order."""

    max_seconds: int
    is_transcribed: bool = False
    name: str = ""


@dataclass(frozen=True, slots=True)
class Pause:
    seconds: int = 1


@dataclass(frozen=True, slots=True)
class HangUp:
    pass


#: Steps after a `Gather`, `Park`, `Join` or `Record` are not reached: each asks for its next steps by an event.
type CallStep = Say | Gather | Park | Join | Record | Pause | HangUp


class LiveState(StrEnum):
    """What a vendor says about a call when it is asked."""

    RINGING = "ringing"
    CONNECTED = "connected"
    ENDED = "ended"


@runtime_checkable
class CallCarrier(Protocol):
    """A sender whose vendor carries calls to a hotline. Raises as `send` does: `OutcomeUnknown` from `ring` means that
    the phone may ring, and the events of the leg will say so. None of these vendors takes an idempotency key for a
    call: a leg is rung by one request, and told apart by its key."""

    def ring(
        self,
        number: str,
        leg: str,
        *,
        caller_id: str = "",
        caller_token: str = "",
        seconds: int = 30,
        detects_machine: bool = True,
    ) -> str:
        """Calls a person, and returns the vendor's id of the call; empty if only its events will say it. `caller_id` is
        the number that is shown: empty, or refused by the vendor, it is the provider's own.
        """

    def call_in(self, number: str, hotline: str) -> str:
        """Calls somebody who is then the caller of the hotline, for a test: `CAME` follows when they pick up."""

    def move(self, external_id: str, steps: Sequence[CallStep], leg: str = "") -> bool:
        """Gives a live call new steps in place of its own. Returns False if it has ended."""

    def hang_up(self, external_id: str) -> None:
        """Ends a call, or stops a ringing one. What has ended already is no error."""

    def live_state(self, external_id: str) -> LiveState:
        """Returns what the vendor says about a call. A vendor may be seconds behind."""

    def fetch_recording(self, url: str, recording_id: str = "") -> tuple[bytes, str]:
        """Returns a recording and its content type. Only from the vendor's hosts, of limited size and time. By the id,
        a URL that has expired is replaced.
        """

    def delete_recording(self, recording_id: str) -> None:
        """Deletes a recording at the vendor's. What is gone already is no error."""

    def close(self) -> None:
        """Closes the connections."""


class ProviderKind(ABC):
    """A kind of provider, such as `smtp` or `ntfy`: a self-describing module under `notify/integrations`.

    Forms, validation, YAML, the API, the list in the documentation and the conformance test are generated from its
    attributes; its guide is `docs/how-to/providers/<name>.md`. A kind whose vendor sends webhooks is a
    `WebhookProvider`.
    """

    name: str
    label: str
    #: One sentence for the administrator who chooses a provider: what it is and what it requires.
    description: str = ""
    #: The name of a Tabler icon that `scripts/icons.txt` lists.
    icon: str = "send"
    #: The channels it can carry.
    channels: tuple[str, ...]
    #: Its own settings. `settings_of` adds those that every kind has.
    settings: tuple[ProviderSetting, ...]
    #: Returns the sender of one account. Does not connect yet.
    open: Callable[[ProviderAccount], ProviderSender]
    #: The channels on which replies come back to Tocsin: texts, key presses or buttons.
    reply_channels: frozenset[str] = frozenset()
    #: The channels for which the provider sends delivery receipts.
    receipt_channels: frozenset[str] = frozenset()
    #: The maximum number of concurrent sends to one provider.
    max_concurrent_sends: int
    #: Always available, without an account or configuration. Each accepts only addresses of its own format.
    is_built_in: bool = False
    #: Whether its senders are `CallCarrier`s: its vendor's numbers can be hotlines.
    carries_calls: bool = False
    #: Whether each address has its own server, so that the failure of one says nothing about the others.
    has_many_servers: bool = False

    #: The name of a file that an administrator uploads at the vendor's, its label, and where; empty without one.
    package_name: str = ""
    package_type: str = "application/zip"
    package_label: str = ""
    package_help: str = ""

    @abstractmethod
    def accepts(self, channel: str, address: str) -> bool:
        """Returns whether this kind can deliver to the address."""

    def open_calls(self, account: ProviderAccount) -> CallCarrier:
        """Returns the carrier of one account, of a kind that carries calls."""
        carrier = self.open(account)
        if not isinstance(carrier, CallCarrier):
            raise TypeError(f"{self.name} carries no calls")
        return carrier

    def adaptive_card(self, rendered: Rendered) -> dict[str, Any] | None:
        """Returns the Adaptive Card that shows a message, which the sandbox draws; None for a vendor without them."""
        return None

    def build_package(self, account: ProviderAccount, public_url: str) -> bytes:
        """Returns that file, made of the settings; empty without one."""
        return b""


# ---------- provider settings


_NOT_A_COUNTRY_CODE = ReasonType("provider.not_a_country_code", '"{value}" is not a country code such as +41.')

RATE = ProviderSetting(
    "rate",
    translatable("Rate limit (messages/min)"),
    ProviderSettingType.NUMBER,
    help=translatable("Above this, messages fail over or queue. Empty: no limit."),
    max_value=100_000,
)
PREFIXES = ProviderSetting(
    "prefixes",
    translatable("Country codes"),
    help=translatable(
        "Only send to these codes, such as +41 +423; other numbers use the next provider. Empty: all countries."
    ),
)
RECEIPT_TIMEOUT = ProviderSetting(
    "receipt_timeout",
    translatable("Delivery timeout (s)"),
    ProviderSettingType.NUMBER,
    help=translatable(
        "If no delivery receipt arrives in time, the next contact method is used immediately. Empty: 60."
    ),
    min_value=5,
    max_value=3600,
)

DAILY_TEST_AT = ProviderSetting(
    "daily_test_at",
    translatable("Daily test at"),
    ProviderSettingType.TIME,
    help=translatable("In the installation's time zone. Empty: no daily test."),
)
DAILY_TEST_USER = ProviderSetting(
    "daily_test_user",
    translatable("Daily test to"),
    help=translatable("Username of an administrator, who gets a text or call on each channel, and must answer it."),
)


def answerable_phones(kind: ProviderKind) -> frozenset[str]:
    """Returns the kind's channels on which a daily test can be answered: a text, or a key of a call."""
    return phones() & frozenset(kind.channels) & kind.reply_channels


def settings_of(kind: ProviderKind) -> tuple[ProviderSetting, ...]:
    """Returns all settings of a provider of this kind, the kind's own first."""
    common_settings = [RATE]
    if phones().intersection(kind.channels):
        common_settings.append(PREFIXES)
    if kind.receipt_channels:
        common_settings.append(RECEIPT_TIMEOUT)
    if answerable_phones(kind):
        common_settings += [DAILY_TEST_AT, DAILY_TEST_USER]
    kind_setting_names = {setting.name for setting in kind.settings}
    return (*kind.settings, *(setting for setting in common_settings if setting.name not in kind_setting_names))


def prefixes(text: str) -> tuple[str, ...]:
    """Returns the country codes in `text`, such as ("+41", "+423"). Raises Rejected("invalid")."""
    codes = text.replace(",", " ").split()
    for code in codes:
        if not (code.startswith("+") and code[1:].isascii() and code[1:].isdigit() and len(code) <= 8):
            raise Rejected("invalid", _NOT_A_COUNTRY_CODE(value=code[:20]))
    return tuple(dict.fromkeys(codes))


# ---------- webhooks
# The interface for vendor callbacks at `/hooks/{provider}/{what}`. A provider kind knows its vendor's signature and
# format; an `EventReceiver` knows users and alerts. Decides and stores nothing itself.


class InvalidWebhookSignature(Exception):
    """The request has no valid signature of the vendor. The response is 403 and nothing else happens."""


@dataclass(frozen=True, slots=True)
class Callback:
    """One request from a vendor."""

    #: The last part of the path, such as `sms`, `voice` or `status`.
    endpoint: str
    method: str
    #: The URL that the vendor called: the public address with the query. Signatures are computed over it.
    url: str
    #: Keys are in lower case.
    headers: Mapping[str, str] = field(repr=False)
    query: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    at: datetime

    def fields(self) -> dict[str, str]:
        """Returns the fields of a vendor that sends the same in a query, a form or a flat JSON object, and signs them.
        Empty for an unreadable body.
        """
        text = self.body.decode("utf-8", "replace")
        if not text.lstrip().startswith("{"):
            return {**self.query, **dict(parse_qsl(text, keep_blank_values=True))}
        try:
            document = json.loads(text)
        except (ValueError, RecursionError):
            return {}
        return {name: value if isinstance(value, str) else json.dumps(value) for name, value in document.items()}


@dataclass(frozen=True, slots=True)
class CallbackResponse:
    """The HTTP response to the vendor."""

    status: int = 200
    body: str = ""
    content_type: str = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class WebhookEndpoint:
    """A webhook URL that an administrator enters in the vendor's console."""

    name: str
    label: str
    help: str


@dataclass(frozen=True, slots=True)
class Cost:
    """What a vendor charged for a message, in a currency such as USD."""

    amount: Decimal
    currency: str


@dataclass(frozen=True, slots=True)
class Receipt:
    """A delivery receipt. Matched by `key`, the idempotency key that was sent, else by the vendor's message id."""

    state: ReceiptState
    key: str = ""
    external_id: str = ""
    #: Why the message failed or reached nobody; set in these two states.
    reason: Reason = NO_REASON
    #: Whether the account failed, the address, or neither for long; see `vendor_http.VendorError`.
    failure: FailureKind = FailureKind.PERMANENT
    #: None where the vendor does not say.
    cost: Cost | None = None


@dataclass(frozen=True, slots=True)
class InboundText:
    """An inbound text message or chat message."""

    channel: str
    sender: str
    text: str
    #: The vendor's message id. A repeated message gets the same reply and acts once.
    external_id: str = ""
    #: True for STOP, False for START, if the vendor has already classified the message.
    opt_out: bool | None = None
    #: The user, if the provider kind has found them; else the user who has the sender's address.
    user_id: int | None = None


@dataclass(frozen=True, slots=True)
class CallState:
    """The state of a phone call after someone picked up or pressed a key."""

    #: The idempotency key of the message, or empty.
    key: str
    external_id: str = ""
    #: The number that was called.
    number: str = ""
    digits: str = ""
    #: The digit that awaits confirmation by a second press.
    pending_digit: str = ""
    #: Whether a machine answered.
    is_machine: bool = False


@dataclass(frozen=True, slots=True)
class CallPrompt:
    """The next prompt of a call: with `script`, it is spoken and a key press is awaited; without, the call ends."""

    speech: str = ""
    script: CallScript | None = None
    #: A key press is awaited, and this digit confirms.
    pending_digit: str = ""
    language: str = "en-GB"


@dataclass(frozen=True, slots=True)
class ButtonResult:
    """The result of a button: a sentence, also if the command was rejected."""

    #: In English, for a channel that others read too.
    sentence: str
    #: In the language of the user who pressed the button.
    localized_sentence: str
    language: str = ""


class EventReceiver(Protocol):
    """Receives the events that a provider kind has parsed. Each method is one transaction. No method raises because of
    what a user wrote.
    """

    def handle_receipt(self, receipt: Receipt) -> None:
        """Records a delivery receipt and applies its consequences."""

    def handle_text(self, message: InboundText) -> str:
        """Carries out the commands in a text, once. Returns the plain-text reply in the sender's language, for a
        repeated text the one that was stored; empty means no reply.
        """

    def handle_mail(self, raw: bytes) -> str:
        """Carries out the command in a mail reply, once. Returns the outcome as a sentence."""

    def handle_call(self, call_state: CallState) -> CallPrompt:
        """Continues a phone call and returns the next prompt."""

    def handle_hotline(self, event: HotlineEvent) -> Sequence[CallStep]:
        """Continues a call to a hotline. Returns the next steps of the call or leg that the event is about, if it is
        answered with some.
        """

    def handle_button(self, user_id: int, alert_id: int, command: str, via: str, text: str = "") -> ButtonResult:
        """Carries out a button's command for a user whom the provider kind has authenticated. `text` is what was
        entered for it: a note, or for how long to snooze.
        """

    def hasten_poll(self, external_id: str) -> None:
        """Asks the vendor for the receipt of that message as soon as it may be asked. Acts on nothing else."""

    def find_user_id(self, channel: str, address: str) -> int | None:
        """Returns the id of the active user with this address on this channel, or None."""

    def find_directory_user_id(self, tenant: str, object_id: str) -> int | None:
        """Returns the id of the active user whom an identity provider knows by this object id, or None."""

    def save_place(self, bot: str, address: str, place: ChatPlace | None) -> None:
        """Stores the conversation of an address with a bot; None: there is none any more."""


class WebhookProvider(ProviderKind):
    """A provider kind whose vendor calls webhooks."""

    #: The URLs that an administrator enters in the vendor's console. Other callback URLs are sent with each message.
    webhook_endpoints: tuple[WebhookEndpoint, ...]
    #: Whether replies and receipts arrive only by callbacks. If not, Tocsin asks for them, and a callback hastens that.
    needs_callbacks: bool = True

    @abstractmethod
    def handle_webhook(self, account: ProviderAccount, callback: Callback, receiver: EventReceiver) -> CallbackResponse:
        """Verifies the signature, passes the events to `receiver` and returns the reply in the vendor's format.

        Raises InvalidWebhookSignature before doing anything else, and Rejected("not_found") or Rejected("invalid") for
        an unreadable request.
        """
