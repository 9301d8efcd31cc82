"""The Slack provider kind: chat messages with buttons."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn
from urllib.parse import parse_qs, urlsplit

from tocsin.alerts.states import CommandKind
from tocsin.core.delivery.circuit_breaker import AddressRejected, NoSuchAddress
from tocsin.core.errors import Permanent, Rejected, Temporary
from tocsin.core.reasons import Reason, ReasonType, Text, joined, translatable
from tocsin.notify.channels import chat
from tocsin.notify.channels.chat import Card, CardButton
from tocsin.notify.integrations import vendor_http
from tocsin.notify.integrations.vendor_http import HttpSender, child, items, text
from tocsin.notify.interfaces import (
    Callback,
    CallbackResponse,
    EventReceiver,
    InvalidWebhookSignature,
    ProviderAccount,
    ProviderSetting,
    ProviderSettingType,
    Rendered,
    WebhookEndpoint,
    WebhookProvider,
)
from tocsin.notify.text import formatting
from tocsin.notify.text.formatting import phrase

# ---------- blocks
# Lays out a message for Slack (Block Kit, https://api.slack.com/reference/block-kit). Pure.


#: The maximum length of a section's text.
MAX_SECTION_CHARS = 3000
#: The maximum length of a header, and of the fallback text in notifications.
_MAX_HEADER_CHARS = 150

ACTION = "tocsin_"


def message(card: Card) -> dict[str, Any]:
    """Returns the fallback text and the blocks of a card."""
    title = formatting.cut(card.title, _MAX_HEADER_CHARS)
    blocks = [{"type": "header", "text": _plain(title)}, _section(card.text)]
    if card.state:
        blocks.append(_context(f"*{escaped(card.state)}*"))
    if card.buttons:
        blocks.append({"type": "actions", "elements": [_button(button, card.language) for button in card.buttons]})
    if card.link:
        blocks.append(_context(f"<{card.link}|{card.link_label}>"))
    return {"text": title, "blocks": blocks, "unfurl_links": False, "unfurl_media": False}


def escaped(text: str) -> str:
    """Escapes text (https://api.slack.com/reference/surfaces/formatting#escaping)."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _button(shown: CardButton, language: str) -> dict[str, Any]:
    button: dict[str, Any] = {
        "type": "button",
        "action_id": f"{ACTION}{shown.command}",
        "text": _plain(shown.label),
        "value": shown.data,
    }
    if shown.command is CommandKind.ACKNOWLEDGE:
        button["style"] = "primary"
    if shown.command is CommandKind.CLOSE:
        button["style"] = "danger"
        button["confirm"] = {
            "title": _plain(phrase(language, "Close alert {number}?", number=shown.data.partition(":")[2])),
            "text": _plain(phrase(language, "Paging for it stops.")),
            "confirm": _plain(phrase(language, "Close")),
            "deny": _plain(phrase(language, "Keep it open")),
        }
    return button


def _plain(text: str) -> dict[str, Any]:
    return {"type": "plain_text", "text": text}


def _section(text: str) -> dict[str, Any]:
    shortened = text
    while len(escaped(shortened)) > MAX_SECTION_CHARS:
        shortened = formatting.cut(shortened, len(shortened) * 9 // 10)
    return {"type": "section", "text": {"type": "mrkdwn", "text": escaped(shortened), "verbatim": True}}


def _context(text: str) -> dict[str, Any]:
    return {"type": "context", "elements": [{"type": "mrkdwn", "text": text, "verbatim": True}]}


# ---------- provider
# Sending: https://api.slack.com/methods/chat.postMessage; buttons: https://api.slack.com/interactivity/handling.


API = "https://slack.com/api"
PREFIX = "slack:"


_CREDENTIAL_ERRORS = frozenset({"invalid_auth", "not_authed", "account_inactive", "token_revoked", "token_expired"})
_ADDRESS_ERRORS: Mapping[str, Text] = {
    "channel_not_found": ReasonType(
        "provider.slack_channel_not_found",
        "No such member or channel in Slack, or the app has no access to it ({error}).",
    ),
    "not_in_channel": ReasonType(
        "provider.slack_not_in_channel", "The app is not in that channel. Invite it there ({error})."
    ),
    "is_archived": ReasonType("provider.slack_archived", "That channel is archived ({error})."),
    "user_not_found": ReasonType("provider.slack_user_not_found", "No such member in Slack ({error})."),
    "cannot_dm_bot": ReasonType("provider.slack_bot", "That member is a bot ({error})."),
    "messages_tab_disabled": ReasonType(
        "provider.slack_messages_tab_disabled", "The app accepts no direct messages. Enable its Messages Tab ({error})."
    ),
    "restricted_action": ReasonType(
        "provider.slack_restricted", "The workspace does not permit the app to post there ({error})."
    ),
}
_TOKEN_REJECTED = ReasonType("provider.slack_token_rejected", "Slack rejected the bot token ({error}).")
_INSTALL_AGAIN = ReasonType("provider.slack_install_again", "Install the app again, and enter its new token.")
_NOT_PERMITTED = ReasonType("provider.slack_not_permitted", "Slack does not permit the app to do that ({error}).")
_PERMIT = ReasonType(
    "provider.slack_permit",
    "Give the app the scope usergroups:write and install it again, and let everyone manage user groups in the "
    "workspace's settings.",
)
_CONNECTED = ReasonType("provider.slack_connected", "Connected to the workspace {workspace} as {user}.")
_NO_SIGNING_SECRET = ReasonType(
    "provider.slack_no_signing_secret", "Messages have no buttons without the signing secret."
)
_NO_PUBLIC_ADDRESS = ReasonType("provider.slack_no_public_address", "Messages have no buttons without a public URL.")
_NOT_AN_INTERACTION = ReasonType("provider.slack_not_an_interaction", "This is not a Slack interaction.")
#: Temporary errors. `rate_limited` concerns posting, and `team_added_to_org` a workspace that is being migrated.
_TRANSIENT_ERRORS = frozenset(
    {"ratelimited", "rate_limited", "message_limit_exceeded", "internal_error", "fatal_error", "service_unavailable",
     "request_timeout", "team_added_to_org"}
)  # fmt: skip


class SlackSender(HttpSender):
    """Posts to one workspace, and sets the members of its user groups."""

    api = API

    @property
    def _has_buttons(self) -> bool:
        return bool(self._account.callback_base_url and self._account.secrets.get("signing_secret"))

    def send(self, rendered: Rendered, channel: str, address: str, idempotency_key: str) -> str:
        body = {"channel": address.removeprefix(PREFIX), **self._message(rendered)}
        data = self._call("chat.postMessage", body, {"Idempotency-Key": idempotency_key})
        return f"{data.get('channel', '')}:{data.get('ts', '')}"

    def update(self, rendered: Rendered, channel: str, address: str, external_id: str) -> None:
        place, _, sent_at = external_id.partition(":")
        self._call("chat.update", {"channel": place, "ts": sent_at, **self._message(rendered)}, {})

    def _message(self, rendered: Rendered) -> dict[str, Any]:
        return message(chat.card(rendered, has_answers=self._has_buttons))

    def set_members(self, user_group: str, members: Sequence[str]) -> None:
        """https://docs.slack.dev/reference/methods/usergroups.users.update"""
        users = ",".join(member.removeprefix(PREFIX) for member in members)
        self._call("usergroups.users.update", {"usergroup": user_group.removeprefix(PREFIX), "users": users}, {})

    def verify(self) -> Reason:
        data = self._call("auth.test", {}, {})
        connected = _CONNECTED(workspace=vendor_http.line(data.get("team")), user=vendor_http.line(data.get("user")))
        if self._has_buttons:
            return connected
        missing = _NO_SIGNING_SECRET() if self._account.callback_base_url else _NO_PUBLIC_ADDRESS()
        return joined(connected, missing, separator=" ")

    def _call(self, method: str, body: dict[str, Any], headers: dict[str, str]) -> dict[str, Any]:
        authorization = {
            "Authorization": f"Bearer {self._account.secrets.get('bot_token', '')}",
            "Content-Type": "application/json; charset=utf-8",
        }
        response = self._post_json(f"{self._base}/{method}", body, {**authorization, **headers})
        data = vendor_http.body(response)
        if response.status != 200:
            vendor_http.raise_for_status(response, "Slack", vendor_http.line(data.get("error", "")))
        if "ok" not in data:
            raise vendor_http.no_answer("Slack")
        if data["ok"] is not True:
            _raise_for_error(vendor_http.line(data.get("error", "no reason given")))
        return data


class SlackKind(WebhookProvider):
    name = "slack"
    label = "Slack"
    description = (
        "Messages to members and channels of a Slack workspace, with buttons to acknowledge, assign and close."
    )
    icon = "brand-slack"
    channels: tuple[str, ...] = ("chat",)
    reply_channels: frozenset[str] = frozenset({"chat"})
    max_concurrent_sends = 20
    open = SlackSender
    settings: tuple[ProviderSetting, ...] = (
        ProviderSetting(
            "bot_token", "Bot token", is_required=True, is_secret=True, help="From your Slack app; starts with xoxb-."
        ),
        ProviderSetting(
            "signing_secret", "Signing secret", is_secret=True, help="Under Basic Information. Required for buttons."
        ),
        ProviderSetting("api_base", "API URL", ProviderSettingType.URL, default=API, help="Change only for GovSlack."),
    )
    webhook_endpoints: tuple[WebhookEndpoint, ...] = (
        WebhookEndpoint(
            "interact",
            translatable("Interactivity request URL"),
            translatable("In your app at api.slack.com: turn on Interactivity & Shortcuts."),
        ),
    )

    def accepts(self, channel: str, address: str) -> bool:
        return address.startswith(PREFIX)

    def handle_webhook(self, account: ProviderAccount, callback: Callback, receiver: EventReceiver) -> CallbackResponse:
        _check(account.secrets.get("signing_secret", ""), callback)
        try:
            payload = vendor_http.parsed(parse_qs(callback.body.decode())["payload"][0])
        except (ValueError, KeyError):
            raise Rejected("invalid", _NOT_AN_INTERACTION()) from None
        if payload.get("type") == "block_actions":
            _handle_press(account, payload, receiver)
        return CallbackResponse(200)


def _raise_for_error(error: str) -> NoReturn:
    """Raises the error that Slack reports in the body of a 200 response."""
    if error in _CREDENTIAL_ERRORS:
        raise Permanent(_TOKEN_REJECTED(error=error), _INSTALL_AGAIN())
    if error in ("missing_scope", "permission_denied"):
        raise Permanent(_NOT_PERMITTED(error=error), _PERMIT())
    if error in _ADDRESS_ERRORS:
        kind = NoSuchAddress if error == "user_not_found" else AddressRejected
        raise kind(_ADDRESS_ERRORS[error](error=error))
    if error in _TRANSIENT_ERRORS:
        raise Temporary(vendor_http.SERVER_ERROR(server="Slack", answer=error))
    raise Permanent(vendor_http.MESSAGE_REJECTED(server="Slack", answer=error))


def _check(secret: str, callback: Callback) -> None:
    """Raises InvalidWebhookSignature unless Slack signed the request within five minutes."""
    timestamp = callback.headers.get("x-slack-request-timestamp", "")
    signature = callback.headers.get("x-slack-signature", "")
    if not secret or not vendor_http.is_recent(timestamp, callback.at):
        raise InvalidWebhookSignature
    expected = hmac.new(secret.encode(), f"v0:{timestamp}:".encode() + callback.body, hashlib.sha256).hexdigest()
    if not hmac.compare_digest(f"v0={expected}", signature.encode("ascii", "replace").decode()):
        raise InvalidWebhookSignature


def _handle_press(account: ProviderAccount, payload: dict[str, Any], receiver: EventReceiver) -> None:
    """Handles a button press: runs the command, and answers only the member. Everyone sees the message change."""
    member = text(child(payload, "user").get("id"))
    action: object = next(iter(items(payload.get("actions"))), None)
    parsed = chat.parse_button_data(text(child(action).get("value")))
    if parsed is None:
        return
    command, number = parsed
    address = f"{PREFIX}{member.upper()}"
    user_id = receiver.find_user_id("chat", address)
    if user_id is None:
        _respond(account, payload, chat.unlinked_member_answer(address))
        return
    result = receiver.handle_button(user_id, number, command, "chat")
    _respond(account, payload, result.localized_sentence)


def _respond(account: ProviderAccount, payload: dict[str, Any], answer: str) -> None:
    """Posts an answer to the response URL of the signed request, but only on Slack's own hosts."""
    url = text(payload.get("response_url"))
    api_host = urlsplit(str(account.settings.get("api_base") or API)).hostname or ""
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return
    if host == api_host or host.endswith((".slack.com", ".slack-gov.com")):
        body = {"response_type": "ephemeral", "replace_original": False, "text": escaped(answer)}
        vendor_http.post_json(url, body, is_trusted=account.is_trusted)
