"""The built-in provider for chat and push services: the address is a service's own URL, so no account is needed."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote, urlsplit

from tocsin.alerts.states import Priority
from tocsin.core.errors import Permanent, Rejected, Temporary
from tocsin.core.net.egress import HttpClient
from tocsin.notify.channels import chat_url_policy
from tocsin.notify.integrations import http_status
from tocsin.notify.integrations.apprise.requests_patch import RequestLog, through_client
from tocsin.notify.interfaces import (
    AddressRejected,
    OutcomeUnknown,
    ProviderAccount,
    ProviderKind,
    ProviderSender,
    ProviderSetting,
    Rendered,
    SendReceipt,
)
from tocsin.notify.text import formatting
from tocsin.people import encrypted_addresses

#: Matches `<db01>`, `<!channel>`, `<@4711>`, `@everyone` and Zulip's `@**all**`, but no e-mail address.
_MARKUP = re.compile(r"<(?=[A-Za-z/!?@#&])|(?<![\w.+-])@(?=(?:everyone|here|channel|all)\b|[*_])")

#: A shorter part of a URL is an ordinary word, not a secret.
_MIN_SECRET_CHARS = 6


class ChatServicesKind(ProviderKind):
    name = "chat_services"
    label = "Chat and push services"
    about = "Gotify, Pushover, Teams, Discord, Mattermost, Matrix, Google Chat and a hundred more, by their own URL."
    icon = "messages"
    channels: tuple[str, ...] = ("chat", "push")
    parallel = 20
    has_many_servers = True
    settings: tuple[ProviderSetting, ...] = ()

    def accepts(self, channel: str, address: str) -> bool:
        return encrypted_addresses.is_sealed(address)

    def open(self, account: ProviderAccount) -> ProviderSender:
        return ChatServicesSender()


class ChatServicesSender:
    """Creates an apprise object per message. It keeps no state, and threads share none."""

    def __init__(self) -> None:
        self._client = HttpClient()

    def send(self, rendered: Rendered, channel: str, address: str, idempotency_key: str) -> SendReceipt:
        url = encrypted_addresses.unseal(address)
        try:
            plugin = chat_url_policy.open_plugin(url)
        except Rejected as rejected:
            raise AddressRejected(rejected.detail, "Enter the address again.") from None
        with through_client(self._client, idempotency_key) as carriage:
            is_sent = _notify(plugin, rendered)
        _judge(carriage, is_sent, str(plugin.service_name), secrets_in(url))
        return SendReceipt()

    def verify(self) -> str:
        return "Each person's and group's own address is tried by “Send test”."

    def close(self) -> None:
        self._client.close()


def _notify(plugin: Any, rendered: Rendered) -> bool:
    from apprise import NotifyFormat

    title, body = fit_text(rendered, int(plugin.title_maxlen), int(plugin.body_maxlen))
    try:
        sent = plugin.notify(
            title=title, body=body, notify_type=_kind(rendered), body_format=NotifyFormat.TEXT, overflow="truncate"
        )
    except (Temporary, Permanent):
        # `RequestLog` has recorded the error, whether or not the plugin lets it through.
        return False
    return bool(sent)


def fit_text(rendered: Rendered, longest_title: int, longest_body: int) -> tuple[str, str]:
    """Returns title and text within a service's limits. The text is shortened; the title and links are kept."""
    links = "\n".join(f"{button.label}: {button.url}" for button in rendered.buttons)
    if not links and rendered.link:
        links = rendered.link
    title = formatting.cut(_as_words(rendered.subject), longest_title or 200)
    # A service without a title field puts the title before the text.
    room = longest_body - len(links) - (0 if longest_title else len(title)) - 10
    return title, "\n".join(part for part in (formatting.cut(_as_words(rendered.text), max(0, room)), links) if part)


def _as_words(text: str) -> str:
    """Inserts a zero-width space where a service would read markup, which it strips together with its text, or a
    mention of everyone: the author of a ticket must not be able to ring everyone's phone.
    """
    return _MARKUP.sub("\\g<0>\u200b", text)


def _kind(rendered: Rendered) -> Any:
    from apprise import NotifyType

    if not rendered.buttons:
        return NotifyType.INFO
    return NotifyType.FAILURE if rendered.priority in (Priority.CRITICAL, Priority.HIGH) else NotifyType.WARNING


def _judge(carriage: RequestLog, is_sent: bool, service: str, secrets: list[str]) -> None:
    """Raises Temporary, Permanent or OutcomeUnknown if the message was not accepted."""
    if (problem := carriage.problem) is not None:
        said = _without(problem.detail, secrets)
        if isinstance(problem, OutcomeUnknown):
            raise OutcomeUnknown(said)
        if isinstance(problem, Temporary):
            raise Temporary(said, problem.retry_after)
        raise type(problem)(said, problem.remedy)
    if is_sent:
        return
    # Each address is an account of its own: the failure of one does not count against the others.
    if not carriage.answers:
        raise AddressRejected(
            f"{service} cannot be asked with this address.", "Enter it again, as the service gives it."
        )
    answer = carriage.answers[-1]
    said = _without(http_status.line(_said(http_status.body(answer))), secrets)
    if 200 <= answer.status < 300:
        raise AddressRejected(f"{service} took the request and refused the message{f': {said}' if said else ''}.")
    try:
        http_status.raise_for_status(answer, service, said)
    except Permanent as refused:
        raise AddressRejected(refused.detail, refused.remedy) from None


def _said(body: dict[str, Any]) -> str:
    """Returns the error message from the keys that services use for it."""
    for key in ("error_description", "errorDescription", "description", "message", "error", "detail", "errors"):
        found = body.get(key)
        if isinstance(found, list) and found:
            found = found[0]
        if isinstance(found, dict):
            found = found.get("message") or found.get("error")
        if isinstance(found, str) and found.strip():
            return found
    return ""


def secrets_in(url: str) -> list[str]:
    """Returns every part of a URL that could be a secret, longest first, both as written and decoded."""
    parts = urlsplit(url)
    pieces = re.split(r"[/&=@:?#]", url[len(parts.scheme) :])
    known = {piece for piece in [*pieces, *(unquote(piece) for piece in pieces)] if len(piece) >= _MIN_SECRET_CHARS}
    host = parts.hostname or ""
    # A hostname with a dot is not masked, so that users see which server fails.
    return sorted((piece for piece in known if not ("." in piece and piece.lower() == host)), key=len, reverse=True)


def _without(text: str, secrets: list[str]) -> str:
    for secret in secrets:
        text = re.sub(re.escape(secret), encrypted_addresses.HIDDEN, text, flags=re.IGNORECASE)
    return text
