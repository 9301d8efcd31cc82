"""The registry of all channels and provider kinds. A new one is a module under `channels/` or `integrations/` and a
line here.
"""

from __future__ import annotations

from collections.abc import Mapping

from tocsin.core.errors import Rejected
from tocsin.core.reasons import Reason, Text
from tocsin.notify.channels.chat import ChatChannel
from tocsin.notify.channels.email import EmailChannel
from tocsin.notify.channels.ntfy import NtfyChannel
from tocsin.notify.channels.push import PushChannel
from tocsin.notify.channels.sms import SmsChannel
from tocsin.notify.channels.voice import VoiceChannel
from tocsin.notify.integrations.apprise import ChatServicesKind
from tocsin.notify.integrations.http_gateway import HttpGatewayKind
from tocsin.notify.integrations.mail_replies import MailRepliesKind
from tocsin.notify.integrations.ntfy import NtfyKind
from tocsin.notify.integrations.slack import SlackKind
from tocsin.notify.integrations.smtp import SmtpKind
from tocsin.notify.integrations.telegram import TelegramKind
from tocsin.notify.integrations.telnyx import TelnyxKind
from tocsin.notify.integrations.twilio import TwilioKind
from tocsin.notify.integrations.web_push import WebPushKind
from tocsin.notify.interfaces import Channel, ProviderKind

_ALL: tuple[Channel, ...] = (EmailChannel(), PushChannel(), NtfyChannel(), ChatChannel(), SmsChannel(), VoiceChannel())
_KINDS: tuple[ProviderKind, ...] = (
    SmtpKind(),
    NtfyKind(),
    SlackKind(),
    TelegramKind(),
    TwilioKind(),
    TelnyxKind(),
    HttpGatewayKind(),
    MailRepliesKind(),
)

#: Always available: they need no account or configuration. Each accepts only addresses of its own format.
BUILT_IN: tuple[ProviderKind, ...] = (WebPushKind(), ChatServicesKind())

#: By name, from the quietest to the loudest.
CHANNELS: Mapping[str, Channel] = {channel.name: channel for channel in _ALL}
KINDS: Mapping[str, ProviderKind] = {kind.name: kind for kind in _KINDS}


_UNKNOWN_CHANNEL = Text('Unknown channel "{name}". Choose one of: {channels}.')


def channel(name: str) -> Channel:
    """Returns the channel of that name. Raises Rejected("unknown_channel")."""
    try:
        return CHANNELS[name]
    except KeyError:
        reason = _UNKNOWN_CHANNEL(name=name, channels=", ".join(CHANNELS))
        raise Rejected("unknown_channel", reason, "channel") from None


def address_problem(name: str, address: str) -> Reason | None:
    """Returns why `address` is invalid on that channel; None if it is valid."""
    try:
        channel(name).normalize_address(address)
    except Rejected as problem:
        return problem.reason
    return None


def quietest_channel(names: set[str]) -> str:
    """Returns the quietest of the named channels. An unknown channel counts as the loudest."""
    return min(names, key=lambda name: (CHANNELS[name].quietness if name in CHANNELS else 99, name))
