"""The push channel: a title, a few lines and buttons, for a browser or an app on a phone."""

from __future__ import annotations

from tocsin.core.errors import Rejected
from tocsin.notify.channels import short_form
from tocsin.notify.channels.contract import Message, Rendered


class PushChannel:
    name = "push"
    label = "Push"
    quietness = 1
    bundle_limit = 20

    def render(self, message: Message) -> Rendered:
        return short_form.render(message, longest=1500, details=300)

    def address(self, text: str) -> str:
        written = text.strip()
        if not written or len(written) > 500 or not written.isprintable():
            raise Rejected("invalid_address", "A push address is one line of at most 500 characters.")
        return written
