"""The `ntfy` kind of provider: publishes messages as JSON to an ntfy server (https://docs.ntfy.sh/publish)."""

from __future__ import annotations

import json
from typing import NoReturn

from tocsin.alerts.states import Priority
from tocsin.core.errors import Permanent, Rejected, Temporary
from tocsin.core.net.egress import EgressResponse, HttpClient
from tocsin.notify.channels.ntfy import split
from tocsin.notify.integrations import http_status
from tocsin.notify.interfaces import (
    AddressRejected,
    ProviderAccount,
    ProviderKind,
    ProviderSender,
    ProviderSetting,
    ProviderSettingType,
    Rendered,
    SendReceipt,
)

DEFAULT_SERVER = "https://ntfy.sh"

_PRIORITIES = {Priority.CRITICAL: 5, Priority.HIGH: 4, Priority.MEDIUM: 3, Priority.LOW: 2}
_LOWER, _DEFAULT = 2, 3
MAX_MESSAGE_BYTES = 4_000
#: The server shows so many buttons.
_MAX_BUTTONS = 3


class NtfyKind(ProviderKind):
    name = "ntfy"
    label = "ntfy server"
    about = "Pushes to phones by ntfy.sh, or by a server of your own."
    icon = "bell-ringing"
    channels: tuple[str, ...] = ("ntfy", "push")
    parallel = 80
    settings: tuple[ProviderSetting, ...] = (
        ProviderSetting(
            "api_base", "Server", ProviderSettingType.URL, default=DEFAULT_SERVER, help="Its address, without a topic."
        ),
        ProviderSetting(
            "token", "Access token", is_secret=True, help="Only where the server asks for one; begins with tk_."
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
    """Publishes to topics of one server, and of others where an address names them."""

    def __init__(self, account: ProviderAccount) -> None:
        self._server = str(account.settings.get("api_base") or DEFAULT_SERVER).rstrip("/")
        self._token = account.secrets.get("token", "")
        self._client = HttpClient(trusted=account.is_trusted)

    def send(self, rendered: Rendered, channel: str, address: str, idempotency_key: str) -> SendReceipt:
        server, topic = split(address)
        answer = self._client.request(
            "POST",
            server or self._server,
            headers={
                "Content-Type": "application/json",
                "Idempotency-Key": idempotency_key,
                **self._credentials(server),
            },
            content=_published(rendered, topic, idempotency_key),
        )
        if answer.status != 200:
            _fail(answer, "ntfy")
        if not (found := _id(answer)):
            raise http_status.no_answer("ntfy")
        return SendReceipt(found)

    def verify(self) -> str:
        answer = self._client.request("GET", f"{self._server}/v1/health")
        if answer.status != 200:
            _fail(answer, self._server)
        if self._token:
            account = self._client.request("GET", f"{self._server}/v1/account", headers=self._credentials(""))
            if account.status != 200:
                _fail(account, self._server)
            return f"{self._server} is healthy and knows the access token."
        return f"{self._server} is healthy."

    def close(self) -> None:
        self._client.close()

    def _credentials(self, server: str) -> dict[str, str]:
        # The token is this provider's: another server that an address names must not see it.
        if not self._token or server not in ("", self._server):
            return {}
        return {"Authorization": f"Bearer {self._token}"}


def _published(rendered: Rendered, topic: str, key: str) -> bytes:
    """The body of "publish as JSON". With the same `sequence_id` a newer server replaces what it has, so that a message
    which is sent twice is seen once; older servers ignore it."""
    says = {
        "topic": topic,
        "title": rendered.subject,
        # Of more bytes than it takes, the server would make an attachment.
        "message": rendered.text.encode()[:MAX_MESSAGE_BYTES].decode("utf-8", "ignore"),
        "priority": _priority(rendered),
        "click": rendered.link,
        "actions": [
            {"action": "view", "label": button.label, "url": button.url} for button in rendered.buttons[:_MAX_BUTTONS]
        ],
        "sequence_id": key,
    }
    # The server reads 8192 bytes. Written as \uXXXX, a text takes up to three times as many.
    return json.dumps(says, ensure_ascii=False).encode()


def _priority(rendered: Rendered) -> int:
    """As loud as the alert is, where it is to be answered; the server's default or less for everything else."""
    if rendered.priority is None:
        return _DEFAULT
    return _PRIORITIES[rendered.priority] if rendered.buttons else _LOWER


def _id(answer: EgressResponse) -> str:
    try:
        return str(json.loads(answer.body)["id"])[:100]
    except (ValueError, KeyError, TypeError):
        return ""


def _fail(answer: EgressResponse, server: str) -> NoReturn:
    said = _error(answer)
    match answer.status:
        case 401:
            raise Permanent(f"{server} refuses access to the topic (401{said}).", "Check the access token.")
        case 403:
            # Whoever the token is may not write there: another's topic.
            raise AddressRejected(f"{server} refuses access to the topic (403{said}).", "Check the access token.")
        case 408 | 425 | 429 | 507:
            raise Temporary(f"{server} takes no more for now ({answer.status}{said}).", answer.retry_after)
        case status if status >= 500:
            raise Temporary(f"{server} has trouble of its own ({status}{said}).", answer.retry_after)
        case status if status in range(300, 400):
            raise Permanent(f"{server} points elsewhere ({status}).", "Enter the address where the server really is.")
        case status:
            raise Permanent(f"{server} refuses the message ({status}{said}).")


def _error(answer: EgressResponse) -> str:
    """What the server says is wrong, from its JSON; never a page of HTML."""
    try:
        said = json.loads(answer.body)["error"]
    except (ValueError, KeyError, TypeError):
        return ""
    return f": {' '.join(str(said).split())[:150]}"
