"""The chat channel: a title, a few lines and buttons, for a user or a group's chat room."""

from __future__ import annotations

import re

from tocsin.core.errors import Rejected
from tocsin.core.reasons import ReasonType
from tocsin.notify.channels import chat_addresses as services
from tocsin.notify.channels import compact_text
from tocsin.notify.interfaces import Message, Rendered

#: A member or channel of a Slack workspace by id; a Telegram user or group by number.
_OF_PROVIDERS = re.compile(r"slack:[UWCGD][A-Z0-9]{5,20}|telegram:-?[0-9]{3,20}")

_FORMS = ReasonType(
    "address.chat_forms",
    "A chat address is slack:U012AB3CD, telegram:123456789, or the URL that a chat service shows for its messages.",
)


class ChatChannel:
    name = "chat"
    label = "Chat"
    quietness = 2
    bundle_limit = 30
    counts_omitted = True

    def render(self, message: Message) -> Rendered:
        return compact_text.render(message, max_chars=3500, max_details_chars=1000)

    def normalize_address(self, text: str) -> str:
        """Returns the normalised member or room id, or the encrypted form of a service's URL, which is a secret."""
        entered = text.strip()
        if "://" in entered or entered.startswith("sealed:"):
            return services.validate_address(entered)
        scheme, colon, target = entered.partition(":")
        normalized = f"{scheme.lower()}{colon}{target.strip().upper()}"
        if not _OF_PROVIDERS.fullmatch(normalized):
            raise Rejected("invalid_address", _FORMS())
        return normalized
