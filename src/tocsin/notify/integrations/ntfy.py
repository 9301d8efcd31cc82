"""The `ntfy` provider kind: publishes messages as JSON to an ntfy server (https://docs.ntfy.sh/publish)."""

from __future__ import annotations

import json
import re
from typing import NoReturn
from urllib.parse import urlsplit

from tocsin.alerts.states import CommandChannel, Priority
from tocsin.core.delivery.circuit_breaker import AddressRejected
from tocsin.core.errors import Permanent, Rejected
from tocsin.core.net import egress
from tocsin.core.net.egress import EgressResponse, HttpClient
from tocsin.core.reasons import Reason, ReasonType, sentence, translatable
from tocsin.notify.channels import chat
from tocsin.notify.integrations import vendor_http
from tocsin.notify.interfaces import (
    Channel,
    Message,
    ProviderAccount,
    ProviderKind,
    ProviderSender,
    ProviderSetting,
    ProviderSettingType,
    Rendered,
    SendReceipt,
)

# ---------- ntfy
# The ntfy channel: a push to a topic on an ntfy server, which needs no account.


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


class NtfyKind(ProviderKind):
    name = "ntfy"
    label = "ntfy server"
    description = "Push notifications through ntfy.sh or your own ntfy server."
    icon = "bell-ringing"
    channels: tuple[str, ...] = ("ntfy", "push")
    max_concurrent_sends = 80
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

    def open(self, account: ProviderAccount) -> ProviderSender:
        return NtfySender(account)


class NtfySender:
    """Publishes to topics of the configured server, and of other servers that an address names."""

    def __init__(self, account: ProviderAccount) -> None:
        self._server = str(account.settings.get("api_base") or DEFAULT_SERVER).rstrip("/")
        self._token = account.secrets.get("token", "")
        self._client = HttpClient(trusted=account.is_trusted)

    def send(self, rendered: Rendered, channel: str, address: str, idempotency_key: str) -> SendReceipt:
        server, topic = split(address)
        response = self._client.request(
            "POST",
            server or self._server,
            headers={
                "Content-Type": "application/json",
                "Idempotency-Key": idempotency_key,
                **self._credentials(server),
            },
            content=_build_body(rendered, topic, idempotency_key),
        )
        if response.status != 200:
            _fail(response, "ntfy")
        if not (message_id := _id(response)):
            raise vendor_http.no_answer("ntfy")
        return SendReceipt(message_id)

    def verify(self) -> Reason:
        response = self._client.request("GET", f"{self._server}/v1/health")
        if response.status != 200:
            _fail(response, self._server)
        if self._token:
            account = self._client.request("GET", f"{self._server}/v1/account", headers=self._credentials(""))
            if account.status != 200:
                _fail(account, self._server)
            return _HEALTHY_WITH_TOKEN(server=self._server)
        return _HEALTHY(server=self._server)

    def close(self) -> None:
        self._client.close()

    def _credentials(self, server: str) -> dict[str, str]:
        # The token belongs to the configured server: another server in an address must not receive it.
        if not self._token or server not in ("", self._server):
            return {}
        return {"Authorization": f"Bearer {self._token}"}


def _build_body(rendered: Rendered, topic: str, key: str) -> bytes:
    """Returns the body of "publish as JSON". A newer server replaces a message with the same `sequence_id`, so that a
    message that is sent twice is shown once; older servers ignore the field.
    """
    payload = {
        "topic": topic,
        "title": rendered.subject,
        # The server turns a longer message into an attachment.
        "message": rendered.text.encode()[:MAX_MESSAGE_BYTES].decode("utf-8", "ignore"),
        "priority": _priority(rendered),
        "click": rendered.link,
        "actions": [
            {"action": "view", "label": button.label, "url": button.url} for button in rendered.buttons[:_MAX_BUTTONS]
        ],
        "sequence_id": key,
    }
    # The server reads 8192 bytes. Escaped as \uXXXX, a text would take up to three times as many.
    return json.dumps(payload, ensure_ascii=False).encode()


def _priority(rendered: Rendered) -> int:
    """Returns the alert's priority for a message that asks for a response; the server's default or lower
    for any other.
    """
    if rendered.priority is None:
        return _DEFAULT
    return _PRIORITIES[rendered.priority] if rendered.buttons else _LOWER


def _id(response: EgressResponse) -> str:
    try:
        return str(json.loads(response.body)["id"])[:100]
    except (ValueError, KeyError, TypeError):
        return ""


def _fail(response: EgressResponse, server: str) -> NoReturn:
    message = vendor_http.line(vendor_http.body(response).get("error", ""))
    if response.status in (401, 403):
        answer = f"{response.status}: {message}" if message else str(response.status)
        denied = _TOPIC_DENIED(server=server, answer=answer)
        # 403: the token is valid but may not write to this topic, which belongs to someone else.
        kind = Permanent if response.status == 401 else AddressRejected
        raise kind(denied, _CHECK_TOKEN())
    vendor_http.raise_for_status(response, server, message)
