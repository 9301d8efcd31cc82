"""The push channel: a title, a few lines and buttons, for a browser or an app on a phone."""

from __future__ import annotations

from tocsin.alerts.states import CommandChannel
from tocsin.core.errors import Rejected
from tocsin.core.reasons import sentence, translatable
from tocsin.notify.channels import chat
from tocsin.notify.channels import chat_addresses as services
from tocsin.notify.interfaces import Channel, Message, Rendered


class PushChannel(Channel):
    name = "push"
    label = "Push"
    nouns = (translatable("push message"), "push messages")
    address_help = translatable("the URL of a push service, which is kept secret")
    example = "alice-topic"
    quietness = 1
    bundle_limit = 20
    is_push = True
    command_channel = CommandChannel.PUSH

    def render(self, message: Message) -> Rendered:
        return chat.render(message, max_chars=1500, max_details_chars=300)

    def normalize_address(self, text: str) -> str:
        """Returns the address of a user's own devices, a topic, or the encrypted form of a push service's URL, which is
        a secret.
        """
        entered = text.strip()
        scheme, mark, _path = entered.partition("://")
        # A topic may be written as a full URL.
        if entered.startswith("sealed:") or (mark and scheme.lower() not in ("http", "https")):
            return services.validate_address(entered)
        if not entered or len(entered) > 500 or not entered.isprintable():
            raise Rejected("invalid_address", sentence("A push address is one line of at most 500 characters."))
        return entered

    def custom_host(self, address: str) -> str:
        return services.own_server(address)
