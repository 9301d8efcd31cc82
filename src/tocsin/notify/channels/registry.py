"""Every channel and every kind of provider there is. A new one is a folder under `channels/` and a line here."""

from __future__ import annotations

from collections.abc import Mapping

from tocsin.core.errors import Rejected
from tocsin.notify.channels.chat.channel import ChatChannel
from tocsin.notify.channels.chat_services.sender import ChatServicesKind
from tocsin.notify.channels.contract import Channel, ProviderKind
from tocsin.notify.channels.email.channel import EmailChannel
from tocsin.notify.channels.email.smtp import SmtpKind
from tocsin.notify.channels.http_gateway.kind import HttpGatewayKind
from tocsin.notify.channels.ntfy.channel import NtfyChannel
from tocsin.notify.channels.ntfy.server import NtfyKind
from tocsin.notify.channels.push.channel import PushChannel
from tocsin.notify.channels.slack.kind import SlackKind
from tocsin.notify.channels.sms.channel import SmsChannel
from tocsin.notify.channels.telegram.kind import TelegramKind
from tocsin.notify.channels.telnyx.kind import TelnyxKind
from tocsin.notify.channels.twilio.kind import TwilioKind
from tocsin.notify.channels.voice.channel import VoiceChannel
from tocsin.notify.channels.web_push.sender import WebPushKind
from tocsin.notify.mail_replies.kind import MailRepliesKind

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

#: There without being configured: what they carry needs no account. Each takes only addresses that are its own.
BUILT_IN: tuple[ProviderKind, ...] = (WebPushKind(), ChatServicesKind())

#: By name, from the quietest on.
CHANNELS: Mapping[str, Channel] = {channel.name: channel for channel in _ALL}
KINDS: Mapping[str, ProviderKind] = {kind.name: kind for kind in _KINDS}


def channel(name: str) -> Channel:
    """The channel of that name. Raises Rejected("unknown_channel")."""
    try:
        return CHANNELS[name]
    except KeyError:
        known = ", ".join(CHANNELS)
        raise Rejected("unknown_channel", f'"{name}" is not a channel; there are {known}.', "channel") from None


def address_problem(name: str, address: str) -> str | None:
    """The sentence that says why nobody can be reached at `address` on that channel; None where it can be used."""
    try:
        channel(name).address(address)
    except Rejected as problem:
        return problem.detail
    return None


def quietest(names: set[str]) -> str:
    """The quietest of the channels named; one that is not known counts as the loudest."""
    return min(names, key=lambda name: (CHANNELS[name].quietness if name in CHANNELS else 99, name))
