"""ntfy: the channel of pushes to a topic, which needs no account, and the provider kind that publishes messages as JSON
to a server (https://docs.ntfy.sh/publish).
"""

from __future__ import annotations

import re
from typing import Any, NoReturn
from urllib.parse import urlsplit

from tocsin.alerts.states import Priority
from tocsin.core.delivery.circuit_breaker import AddressRejected
from tocsin.core.errors import Permanent, Rejected
from tocsin.core.net import egress
from tocsin.core.net.egress import EgressResponse
from tocsin.core.reasons import Reason, ReasonType, sentence, translatable
from tocsin.notify.channels.chat import CompactPushChannel
from tocsin.notify.integrations import vendor_http
from tocsin.notify.integrations.vendor_http import HttpSender
from tocsin.notify.interfaces import (
    ProviderKind,
    ProviderSetting,
    ProviderSettingType,
    Rendered,
)

#: The server's own rule for topics.
TOPIC = re.compile(r"[-_A-Za-z0-9]{1,64}")


class NtfyChannel(CompactPushChannel):
    name = "ntfy"
    label = "ntfy"
    nouns = (translatable("ntfy message"), "ntfy messages")
    address_help = translatable("a topic, or its full address")
    example = "alice-topic"
    silence_help = translatable(
        "iPhone: not possible. Android: in the phone's settings for ntfy, let notifications of the highest priority "
        "override Do Not Disturb."
    )
    max_chars = 1000
    max_details_chars = 400

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


DEFAULT_SERVER = "https://ntfy.sh"

_PRIORITIES = {Priority.CRITICAL: 5, Priority.HIGH: 4, Priority.MEDIUM: 3, Priority.LOW: 2}
_LOWER, _DEFAULT = 2, 3
MAX_MESSAGE_BYTES = 4_000
#: The maximum number of buttons that the server shows.
_MAX_BUTTONS = 3

_TOPIC_DENIED = ReasonType("provider.ntfy_topic_denied", "{server} denied access to the topic ({answer}).")
_CHECK_TOKEN = ReasonType("provider.ntfy_check_token", "Check the access token.")
_HEALTHY = ReasonType("provider.ntfy_healthy", "{server} is healthy.")
_HEALTHY_WITH_TOKEN = ReasonType(
    "provider.ntfy_healthy_with_token", "{server} is healthy and accepts the access token."
)


class NtfySender(HttpSender):
    """Publishes to topics of the configured server, and of other servers that an address names."""

    api = DEFAULT_SERVER

    def send(self, rendered: Rendered, channel: str, address: str, idempotency_key: str) -> str:
        server, topic = split(address)
        headers = {"Idempotency-Key": idempotency_key, **self._credentials(server)}
        response = self._post_json(server or self._base, _document(rendered, topic, idempotency_key), headers)
        if response.status != 200:
            _fail(response, "ntfy")
        if not (message_id := vendor_http.text(vendor_http.body(response).get("id"))):
            raise vendor_http.no_answer("ntfy")
        return message_id[:100]

    def verify(self) -> Reason:
        credentials = self._credentials("")
        for path, headers in (("health", {}), *((("account", credentials),) if credentials else ())):
            response = self._client.request("GET", f"{self._base}/v1/{path}", headers=headers)
            if response.status != 200:
                _fail(response, self._base)
        return (_HEALTHY_WITH_TOKEN if credentials else _HEALTHY)(server=self._base)

    def _credentials(self, server: str) -> dict[str, str]:
        # The token belongs to the configured server: another server in an address must not receive it.
        token = self._account.secrets.get("token", "")
        return {"Authorization": f"Bearer {token}"} if token and server in ("", self._base) else {}


class NtfyKind(ProviderKind):
    name = "ntfy"
    label = "ntfy server"
    description = "Push notifications through ntfy.sh or your own ntfy server."
    icon = "bell-ringing"
    channels: tuple[str, ...] = ("ntfy", "push")
    max_concurrent_sends = 80
    open = NtfySender
    settings: tuple[ProviderSetting, ...] = (
        ProviderSetting(
            "api_base", "Server", ProviderSettingType.URL, default=DEFAULT_SERVER, help="Server URL, without a topic."
        ),
        ProviderSetting(
            "token", "Access token", is_secret=True, help="Only if the server requires it; starts with tk_."
        ),
    )

    def accepts(self, channel: str, address: str) -> bool:
        try:
            split(address)
        except Rejected:
            return False
        return True


def _document(rendered: Rendered, topic: str, key: str) -> dict[str, Any]:
    """Returns the body of "publish as JSON". A newer server replaces a message with the same `sequence_id`, so that a
    message that is sent twice is shown once; older servers ignore the field.
    """
    return {
        "topic": topic,
        "title": rendered.subject,
        # The server turns a longer message into an attachment.
        "message": rendered.text.encode()[:MAX_MESSAGE_BYTES].decode("utf-8", "ignore"),
        "priority": vendor_http.priority_of(rendered, _PRIORITIES, quiet=_LOWER, default=_DEFAULT),
        "click": rendered.link,
        "actions": [
            {"action": "view", "label": button.label, "url": button.url} for button in rendered.buttons[:_MAX_BUTTONS]
        ],
        "sequence_id": key,
    }


def _fail(response: EgressResponse, server: str) -> NoReturn:
    message = vendor_http.line(vendor_http.body(response).get("error", ""))
    if response.status in (401, 403):
        answer = f"{response.status}: {message}" if message else str(response.status)
        denied = _TOPIC_DENIED(server=server, answer=answer)
        # 403: the token is valid but may not write to this topic, which belongs to someone else.
        kind = Permanent if response.status == 401 else AddressRejected
        raise kind(denied, _CHECK_TOKEN())
    vendor_http.raise_for_status(response, server, message)
