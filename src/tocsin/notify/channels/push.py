"""The push channel: a title, a few lines and buttons, for a browser or an app on a phone."""

from __future__ import annotations

from tocsin.core.errors import Rejected
from tocsin.notify.channels import chat_addresses as services
from tocsin.notify.channels import compact_text
from tocsin.notify.interfaces import Message, Rendered


class PushChannel:
    name = "push"
    label = "Push"
    quietness = 1
    bundle_limit = 20
    counts_rest = True

    def render(self, message: Message) -> Rendered:
        return compact_text.render(message, longest=1500, details=300)

    def address(self, text: str) -> str:
        """Returns the address of a user's own devices, a topic, or the encrypted form of a push service's URL, which is
        a secret.
        """
        written = text.strip()
        scheme, mark, _rest = written.partition("://")
        # A topic may be written as a full URL.
        if written.startswith("sealed:") or (mark and scheme.lower() not in ("http", "https")):
            return services.validate_address(written)
        if not written or len(written) > 500 or not written.isprintable():
            raise Rejected("invalid_address", "A push address is one line of at most 500 characters.")
        return written
