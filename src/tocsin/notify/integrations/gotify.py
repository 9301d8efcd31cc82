"""Gotify: the channel of pushes to a user, addressed by the token of an application there, and the provider kind that
publishes messages to a server (https://gotify.net/docs/pushmsg).
"""

from __future__ import annotations

import re
from typing import Any, NoReturn

from tocsin.alerts.states import Priority
from tocsin.core.delivery.circuit_breaker import NoSuchAddress
from tocsin.core.errors import Rejected
from tocsin.core.net.egress import EgressResponse
from tocsin.core.reasons import Reason, sentence, translatable
from tocsin.notify.channels.chat import CompactPushChannel
from tocsin.notify.integrations import vendor_http
from tocsin.notify.integrations.vendor_http import HttpSender
from tocsin.notify.interfaces import (
    ProviderKind,
    ProviderSetting,
    ProviderSettingType,
    Rendered,
)
from tocsin.people import addresses

#: An application's token: since Gotify 3, and before. Tokens of clients cannot send
#: (https://github.com/gotify/server/blob/master/auth/token.go).
_TOKEN = re.compile(r"gtfy_app\.[A-Za-z0-9_-]{43}|A[A-Za-z0-9._-]{14,22}")


class GotifyChannel(CompactPushChannel):
    name = "gotify"
    label = "Gotify"
    nouns = (translatable("Gotify message"), "Gotify messages")
    address_help = translatable("the token of an application, which is kept secret")
    example = "AbCdEfGhIjKlMnO"
    max_chars = 2000
    max_details_chars = 600

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


#: The apps sound from 4 on, and Android shows those from 8 on over other apps.
_PRIORITIES = {Priority.CRITICAL: 10, Priority.HIGH: 8, Priority.MEDIUM: 5, Priority.LOW: 4}
_QUIET, _DEFAULT = 2, 5


class GotifySender(HttpSender):
    """Publishes to one server."""

    def send(self, rendered: Rendered, channel: str, address: str, idempotency_key: str) -> str:
        headers = {"X-Gotify-Key": addresses.decrypt_address(address), "Idempotency-Key": idempotency_key}
        response = self._post_json(f"{self._base}/message", _document(rendered), headers)
        if response.status != 200:
            _fail(response)
        if not (message_id := vendor_http.text(vendor_http.body(response).get("id"))):
            raise vendor_http.no_answer("Gotify")
        return message_id[:100]

    def verify(self) -> Reason:
        response = self._client.request("GET", f"{self._base}/health")
        if response.status != 200:
            vendor_http.raise_for_status(response, "Gotify")
        return sentence("{server} is healthy.", server=self._base)


class GotifyKind(ProviderKind):
    name = "gotify"
    label = "Gotify server"
    description = "Push notifications through your own Gotify server."
    icon = "bell-ringing"
    channels: tuple[str, ...] = ("gotify",)
    max_concurrent_sends = 20
    open = GotifySender
    settings: tuple[ProviderSetting, ...] = (
        ProviderSetting(
            "api_base", "Server", ProviderSettingType.URL, is_required=True, help="URL of the Gotify server."
        ),
    )

    def accepts(self, channel: str, address: str) -> bool:
        return addresses.scheme_of(address) == "gotify"


def _document(rendered: Rendered) -> dict[str, Any]:
    # As plain text: Markdown of a source could load images, and so tell a stranger who reads it. The apps make
    # links of URLs (https://gotify.net/docs/msgextras).
    links = [f"{button.label}: {button.url}" for button in rendered.buttons]
    return {
        "title": rendered.subject,
        "message": "\n".join([rendered.text, *links]),
        "priority": vendor_http.priority_of(rendered, _PRIORITIES, quiet=_QUIET, default=_DEFAULT),
        "extras": {
            "client::display": {"contentType": "text/plain"},
            **({"client::notification": {"click": {"url": rendered.link}}} if rendered.link else {}),
        },
    }


def _fail(response: EgressResponse) -> NoReturn:
    error = vendor_http.body(response)
    message = vendor_http.line(error.get("errorDescription", ""))
    # Gotify's own 401, not that of a proxy before it: the application was deleted, or its token is another.
    if response.status == 401 and error.get("errorCode") == 401:
        raise NoSuchAddress(vendor_http.MESSAGE_REJECTED(server="Gotify", answer=message))
    vendor_http.raise_for_status(response, "Gotify", message)
