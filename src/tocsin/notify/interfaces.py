"""The plug-in interfaces of notifications: `Channel`, `ProviderKind` and `ProviderSender`. Sends nothing itself.

A channel defines how a message looks (an e-mail, a text message, …) and validates its addresses. A provider kind
carries one or more channels: it declares its settings and hands a rendered message to its server. Events from vendors
(receipts, replies, key presses, buttons) are in `notify.webhooks`.
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
from tocsin.core.reasons import NO_REASON, Reason
from tocsin.notify.states import Purpose

__all__ = [
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


@dataclass(frozen=True, slots=True)
class AlertContent:
    """The details of one alert for a message. Texts are unmodified source text: each channel must escape
    them itself.
    """

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
    #: Only for a phone call.
    script: CallScript | None = None

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
        }


class Channel(Protocol):
    """A notification channel, such as e-mail or SMS."""

    #: The identifier in contact methods, such as `email`.
    name: str
    #: The display name, such as "E-mail".
    label: str
    #: 0 is the quietest. An all-clear uses the quietest channel on which the user was paged.
    quietness: int
    #: The maximum number of alerts that one message names.
    bundle_limit: int
    #: Whether a message counts the alerts that it does not name ("and 12 more"); if not, they are sent in another
    #: message.
    counts_omitted: bool

    def render(self, message: Message) -> Rendered:
        """Returns the message rendered for this channel. Never raises, whatever the texts contain."""
        ...

    def normalize_address(self, text: str) -> str:
        """Returns the address in canonical form. Raises Rejected("invalid_address") with the reason."""
        ...


class ProviderSettingType(StrEnum):
    TEXT = "text"
    #: Several lines, such as a template.
    LONG_TEXT = "long_text"
    URL = "url"
    #: A hostname or IP address.
    HOST = "host"
    #: An e-mail address, optionally with a display name: Tocsin <tocsin@example.org>.
    MAILBOX = "mailbox"
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
    #: Limits of a number.
    min_value: int = 1
    max_value: int = 65_535


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


@dataclass(frozen=True, slots=True)
class SendReceipt:
    """Confirms that the provider accepted a message, with the provider's message id if it returned one."""

    external_id: str = ""


class ProviderSender(Protocol):
    """An open connection to a provider. Used by many threads at once; keeps its connections between messages."""

    def send(self, rendered: Rendered, channel: str, address: str, idempotency_key: str) -> SendReceipt:
        """Hands one message to the provider. `idempotency_key` is sent along so that the provider can recognise a
        duplicate.

        Raises Temporary (nothing was accepted; retry later), OutcomeUnknown (the message may have been accepted),
        NoSuchAddress (the address does not exist: the only refusal that is final), AddressRejected (not to this address
        for now) or Permanent (a person must act). No error text contains a secret.
        """
        ...

    def verify(self) -> Reason:
        """Checks the address and credentials without sending a message. Returns what worked.
        Raises as `send` does.
        """
        ...

    def close(self) -> None:
        """Closes the connections. `send` must not be called afterwards."""
        ...


class ProviderKind(Protocol):
    """A kind of provider, such as `smtp` or `ntfy`: a self-describing folder or module under `notify/integrations`.

    Forms, validation, YAML, the API and the conformance test are generated from its attributes; its guide is
    `docs/how-to/providers/<name>.md`. Kinds inherit from this class for the defaults. A kind whose vendor sends
    webhooks also inherits from `webhooks.WebhookProvider`.
    """

    name: str
    label: str
    #: One sentence for the administrator who chooses a provider: what it is and what it requires.
    description: str = ""
    #: The name of a Tabler icon that `scripts/icons.txt` lists.
    icon: str = "send"
    #: The channels it can carry.
    channels: tuple[str, ...]
    #: Its own settings. `provider_settings.settings_of` adds those that every kind has.
    settings: tuple[ProviderSetting, ...]
    #: The channels on which replies come back to Tocsin: texts, key presses or buttons.
    reply_channels: frozenset[str] = frozenset()
    #: The channels for which the provider sends delivery receipts.
    receipt_channels: frozenset[str] = frozenset()
    #: The maximum number of concurrent sends to one provider.
    max_concurrent_sends: int
    #: Whether each address has its own server, so that the failure of one says nothing about the others.
    has_many_servers: bool = False

    @abstractmethod
    def accepts(self, channel: str, address: str) -> bool:
        """Returns whether this kind can deliver to the address."""
        ...

    @abstractmethod
    def open(self, account: ProviderAccount) -> ProviderSender:
        """Returns a sender for one provider. Does not connect yet."""
        ...
