"""The Gotify channel: a push to a user of a Gotify server, addressed by the token of an application there."""

from __future__ import annotations

import re

from tocsin.alerts.states import CommandChannel
from tocsin.core.errors import Rejected
from tocsin.core.reasons import sentence, translatable
from tocsin.notify.channels import chat
from tocsin.notify.interfaces import Channel, Message, Rendered
from tocsin.people import addresses

#: An application's token: since Gotify 3, and before. Tokens of clients cannot send
#: (https://github.com/gotify/server/blob/master/auth/token.go).
_TOKEN = re.compile(r"gtfy_app\.[A-Za-z0-9_-]{43}|A[A-Za-z0-9._-]{14,22}")


class GotifyChannel(Channel):
    name = "gotify"
    label = "Gotify"
    nouns = (translatable("Gotify message"), "Gotify messages")
    address_help = translatable("the token of an application, which is kept secret")
    example = "AbCdEfGhIjKlMnO"
    quietness = 1
    bundle_limit = 20
    is_push = True
    command_channel = CommandChannel.PUSH

    def render(self, message: Message) -> Rendered:
        return chat.render(message, max_chars=2000, max_details_chars=600)

    def normalize_address(self, text: str) -> str:
        """Returns the encrypted form of a token: whoever knows it can send. Encrypted or masked, it is unchanged."""
        entered = text.strip()
        if addresses.is_masked(entered) or addresses.scheme_of(entered) == self.name:
            return entered
        if not _TOKEN.fullmatch(entered):
            problem = sentence(
                "This is no application's token. At Gotify, add an application under Apps, and copy its token."
            )
            raise Rejected("invalid_address", problem)
        return addresses.encrypt_address(self.name, entered)
