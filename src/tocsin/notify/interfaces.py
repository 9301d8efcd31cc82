"""What a channel and a kind of provider are: the contract of every plug-in under `channels/`. Sends nothing itself.

A channel says how a message looks (an e-mail, a text message, …) and what its addresses are. A kind of provider carries
one or more channels: it knows which settings it needs, and how to hand a rendered message to its server. What comes
back from a vendor (receipts, replies, keys, buttons) is in `callbacks`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol
from uuid import UUID

from tocsin.alerts.states import Priority
from tocsin.core.errors import Permanent, Temporary
from tocsin.core.net.egress import OutcomeUnknown
from tocsin.notify.states import Purpose

__all__ = [
    "AddressRejected",
    "AlertContent",
    "CallScript",
    "Channel",
    "Message",
    "MessageButton",
    "OutcomeUnknown",
    "Permanent",
    "ProviderAccount",
    "ProviderKind",
    "ProviderSender",
    "ProviderSetting",
    "ProviderSettingType",
    "Rendered",
    "SendReceipt",
    "Temporary",
]


class AddressRejected(Permanent):
    """The provider works and does not carry to this address: no such number, opted out, a country that is off. Says
    nothing against the provider, and another one may carry there."""


@dataclass(frozen=True, slots=True)
class AlertContent:
    """What a message says of one alert. Texts are as the source gave them: every channel makes them safe itself."""

    id: int
    priority: Priority
    subject: str
    #: For text messages and calls; empty: the subject.
    short_text: str = ""
    #: For mails: plain or HTML, not to be trusted.
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
    #: Where the recipient acts on it. Opening it never acts.
    link: str = ""
    #: For an all-clear: "Taken by Alice: VPN down (#42). Nothing to do."
    news: str = ""
    #: Of a text message: what an answer ends with; empty where no code is asked for.
    reply_code: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """One message to one address, before a channel gives it its form."""

    notification_id: UUID
    purpose: Purpose
    #: When it leaves.
    at: datetime
    #: The recipient's name; empty for a group contact.
    recipient: str = ""
    time_zone: str = "UTC"
    #: One, or several that leave bundled; none for a notice or test without one.
    alerts: tuple[AlertContent, ...] = ()
    #: Of a notice.
    title: str = ""
    text: str = ""
    #: Why this person gets it: a sentence.
    reason: str = ""
    #: Tocsin's own page, where no single alert's will do.
    home: str = ""
    #: Whether what the recipient answers on this channel reaches Tocsin.
    can_reply: bool = True
    #: The recipient's, such as "de"; empty: English.
    language: str = ""
    #: How many more alerts it stands for than it names.
    more: int = 0


@dataclass(frozen=True, slots=True)
class MessageButton:
    """A labelled address. Opening it shows a page; it never acts."""

    label: str
    url: str


@dataclass(frozen=True, slots=True)
class CallScript:
    """A phone call in its parts: the greeting, what is wrong (said twice), and the keys. Texts are plain."""

    greeting: str
    said: str
    menu: str
    #: Of all three, such as "en-GB".
    language: str = "en-GB"
    #: The keys that do something, such as "16789".
    keys: str = ""


@dataclass(frozen=True, slots=True)
class Rendered:
    """A message in the form of its channel. Nothing in it can break out of a header or out of HTML."""

    subject: str
    text: str
    html: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    buttons: tuple[MessageButton, ...] = ()
    link: str = ""
    priority: Priority | None = None
    #: The recipient's, such as "de"; empty: English.
    language: str = ""
    #: Of a phone call.
    script: CallScript | None = None

    def content(self) -> dict[str, Any]:
        """What the sandbox keeps of it, as JSON."""
        return {
            "subject": self.subject,
            "text": self.text,
            "html": self.html,
            "headers": dict(self.headers),
            "buttons": [{"label": button.label, "url": button.url} for button in self.buttons],
            "link": self.link,
            "priority": self.priority,
            **({"script": asdict(self.script)} if self.script else {}),
        }


class Channel(Protocol):
    """A way to reach people."""

    #: As contact methods name it, such as `email`.
    name: str
    #: As people read it, such as "E-mail".
    label: str
    #: From the quietest (0) on; an all-clear takes the quietest that a person was paged by.
    quietness: int
    #: So many alerts at most are named in one message.
    bundle_limit: int
    #: Whether a message counts the alerts that it does not name ("and 12 more"); otherwise they leave as another one.
    counts_rest: bool

    def render(self, message: Message) -> Rendered:
        """The message in this channel's form. Never raises for any text in it."""
        ...

    def address(self, text: str) -> str:
        """The address in its one form. Raises Rejected("invalid_address") that says what is wrong."""
        ...


class ProviderSettingType(StrEnum):
    TEXT = "text"
    #: Several lines, such as a template.
    LONG_TEXT = "long_text"
    URL = "url"
    #: A server's name or IP address.
    HOST = "host"
    #: An e-mail address, also with a name before it: Tocsin <tocsin@example.org>.
    MAILBOX = "mailbox"
    NUMBER = "number"
    CHOICE = "choice"
    FLAG = "flag"


@dataclass(frozen=True, slots=True)
class ProviderSetting:
    """One thing a kind of provider needs to know. Forms, YAML, the API and validation are made from it."""

    name: str
    label: str
    kind: ProviderSettingType = ProviderSettingType.TEXT
    is_required: bool = False
    is_secret: bool = False
    default: str | int | bool = ""
    choices: tuple[str, ...] = ()
    help: str = ""
    #: Of a number.
    least: int = 1
    most: int = 65_535


@dataclass(frozen=True, slots=True)
class ProviderAccount:
    """A provider as its kind sees it: settings and secrets by name."""

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    #: Given by the environment: its addresses need no allowance.
    is_trusted: bool = False
    #: The public address below which the vendor calls back, such as "https://tocsin.example.org/hooks/twilio"; empty
    #: where nobody outside could reach it.
    callbacks: str = ""


@dataclass(frozen=True, slots=True)
class SendReceipt:
    """That the provider accepted a message, under its own id of it if it gave one."""

    external_id: str = ""


class ProviderSender(Protocol):
    """An open provider: used by many threads at once, and keeps its connections."""

    def send(self, rendered: Rendered, channel: str, address: str, idempotency_key: str) -> SendReceipt:
        """Hands one message to the provider. `idempotency_key` is carried along, so that a second one is recognised.

        Raises Temporary (nothing was accepted; again later), OutcomeUnknown (it may have been accepted), AddressRefused
        (not to this address), or Permanent (a person must act). No text of an error holds a secret.
        """
        ...

    def verify(self) -> str:
        """Tries address and credentials, sending nothing; a sentence that says what worked. Raises as `send` does."""
        ...

    def close(self) -> None:
        """Closes the connections. Nothing is sent any more."""
        ...


class ProviderKind(Protocol):
    """A kind of provider, such as `smtp` or `ntfy`: a folder or module that describes itself. Forms, validation, YAML,
    the API and the conformance test are made from what it says here; its guide is `docs/providers/<name>.md`.

    Kinds inherit from this class for its defaults. One whose vendor calls back is a `callbacks.Listener` as well.
    """

    name: str
    label: str
    #: One sentence for whoever chooses: what it is, and what it needs.
    about: str = ""
    #: Of Tabler's icons, one that `scripts/icons.txt` lists.
    icon: str = "send"
    #: The channels it can carry.
    channels: tuple[str, ...]
    #: Its own. Those that every kind has are added by `common.settings_of`.
    settings: tuple[ProviderSetting, ...]
    #: The channels on which answers come back to Tocsin: texts, keys or buttons.
    replies: frozenset[str] = frozenset()
    #: The channels on which the provider tells later whether a message arrived.
    receipts: frozenset[str] = frozenset()
    #: So many messages at most are on their way to one provider at a time.
    parallel: int
    #: Whether each address has a server of its own, so that one which fails says nothing of the others.
    has_many_servers: bool = False

    @abstractmethod
    def accepts(self, channel: str, address: str) -> bool:
        """Whether it can carry to this address."""
        ...

    @abstractmethod
    def open(self, account: ProviderAccount) -> ProviderSender:
        """A sender for one provider. Connects to nothing yet."""
        ...
