"""The chat channel: a title, a few lines and buttons, for a person's or a group's room."""

from __future__ import annotations

from tocsin.core.errors import Rejected
from tocsin.notify.channels import short_form
from tocsin.notify.channels.contract import Message, Rendered


class ChatChannel:
    name = "chat"
    label = "Chat"
    quietness = 2
    bundle_limit = 30

    def render(self, message: Message) -> Rendered:
        return short_form.render(message, longest=3500, details=1000)

    def address(self, text: str) -> str:
        written = text.strip()
        if not written or len(written) > 500 or not written.isprintable():
            raise Rejected("invalid_address", "A chat address is one line of at most 500 characters.")
        return written
