"""The ntfy channel: a push to a topic on an ntfy server, which needs no account."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from tocsin.alerts.states import CommandChannel
from tocsin.core.errors import Permanent, Rejected
from tocsin.core.net import egress
from tocsin.core.reasons import sentence, translatable
from tocsin.notify.channels import chat
from tocsin.notify.interfaces import Channel, Message, Rendered

#: The server's own rule for topics.
TOPIC = re.compile(r"[-_A-Za-z0-9]{1,64}")


class NtfyChannel(Channel):
    name = "ntfy"
    label = "ntfy"
    nouns = (translatable("ntfy message"), "ntfy messages")
    address_help = translatable("a topic, or its full address")
    example = "alice-topic"
    quietness = 1
    bundle_limit = 20
    is_push = True
    command_channel = CommandChannel.PUSH

    def render(self, message: Message) -> Rendered:
        return chat.render(message, max_chars=1000, max_details_chars=400)

    def normalize_address(self, text: str) -> str:
        """Returns a topic, or the full URL of a topic on the user's own server."""
        entered = text.strip().rstrip("/")
        if not TOPIC.fullmatch(entered):
            split(entered)
        return entered


def split(address: str) -> tuple[str, str]:
    """Returns the server and topic of a full URL; the server is empty for a topic alone.

    Raises Rejected("invalid_address").
    """
    if TOPIC.fullmatch(address):
        return "", address
    problem = sentence(
        '"{address}" is not a topic. Use letters, digits, - and _, or its full address.', address=address[:100]
    )
    try:
        egress.check_url(address)
    except Permanent as error:
        raise Rejected("invalid_address", problem if "://" not in address else error.full_reason) from None
    parts = urlsplit(address)
    path, _, topic = parts.path.rstrip("/").rpartition("/")
    if not TOPIC.fullmatch(topic) or parts.query or parts.fragment:
        raise Rejected("invalid_address", problem)
    return f"{parts.scheme}://{parts.netloc}{path}", topic
