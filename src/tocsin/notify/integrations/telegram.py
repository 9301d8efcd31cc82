"""The `telegram` provider kind: the installation's own bot, with buttons and text commands
(https://core.telegram.org/bots/api).

The webhook secret is derived from the bot token, so nothing has to be entered at Telegram: the provider test registers
the webhook.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NoReturn

from tocsin.core.delivery.circuit_breaker import AddressRejected, NoSuchAddress
from tocsin.core.errors import Permanent, Rejected, Temporary
from tocsin.core.net.egress import EgressResponse
from tocsin.core.reasons import Reason, ReasonType
from tocsin.notify.channels import chat as chat_buttons
from tocsin.notify.integrations import vendor_http
from tocsin.notify.integrations.vendor_http import HttpSender, child, text
from tocsin.notify.interfaces import (
    Callback,
    CallbackResponse,
    EventReceiver,
    InboundText,
    InvalidWebhookSignature,
    ProviderAccount,
    ProviderSetting,
    ProviderSettingType,
    Rendered,
    WebhookEndpoint,
    WebhookProvider,
)
from tocsin.notify.text import formatting

API = "https://api.telegram.org"
PREFIX = "telegram:"
MAX_MESSAGE_CHARS = 4096
#: Telegram's error for an edit that changes nothing.
_NOT_MODIFIED = "message is not modified"
#: Telegram's errors for a chat in which the bot may not write.
_MAY_NOT_WRITE = ("not enough rights", "have no rights", "chat_write_forbidden", "peer_id_invalid")
#: The maximum length of the notification after a button press.
_MAX_NOTE_CHARS = 200

#: Answers to people who may not be users, so their language is not known.
_UNKNOWN_BUTTON = ReasonType("chat.unknown_button", "Unknown button.")
_CHAT_ADDRESS = ReasonType("chat.address", "The address of this chat in Tocsin is {address}")
_NOT_AN_UPDATE = ReasonType("provider.telegram_not_an_update", "This is not a Telegram update.")
_CONNECTED = ReasonType("provider.telegram_connected", "Connected as @{bot}. Tocsin receives its buttons and commands.")
_CONNECTED_ONE_WAY = ReasonType(
    "provider.telegram_connected_one_way",
    "Connected as @{bot}. Tocsin receives no replies, because it has no public address.",
)
_NO_CHAT = ReasonType(
    "provider.telegram_no_chat", "No such chat in Telegram, or the person has not pressed Start in it yet ({error})."
)
_MAY_NOT_WRITE_THERE = ReasonType("provider.telegram_may_not_write", "The bot may not write in that chat ({error}).")
_BLOCKED = ReasonType("provider.telegram_blocked", "The person or group has blocked the bot ({error}).")
_TOKEN_REJECTED = ReasonType("provider.telegram_token_rejected", "Telegram rejected the bot token ({status}).")
_ENTER_TOKEN = ReasonType("provider.telegram_enter_token", "Enter it again, as @BotFather shows it.")


class TelegramSender(HttpSender):
    """Sends as one bot."""

    def __init__(self, account: ProviderAccount) -> None:
        super().__init__(account)
        #: Whether the webhook was registered since this account was opened.
        self._is_webhook_registered = False

    def send(self, rendered: Rendered, channel: str, address: str, idempotency_key: str) -> str:
        data = self._send(self._message(rendered, address), {"Idempotency-Key": idempotency_key})
        if self._account.callback_base_url and not self._is_webhook_registered:
            # Registers the webhook even if the provider was never tested. In the background after the message, so that
            # the message does not wait for it.
            self._is_webhook_registered = True
            url = url_of(self._account, "setWebhook")
            vendor_http.post_json(url, self._webhook(), is_trusted=self._account.is_trusted)
        return text(child(data, "result").get("message_id"))

    def update(self, rendered: Rendered, channel: str, address: str, external_id: str) -> None:
        body = {**self._message(rendered, address), "message_id": int(external_id)}
        response, data = self._request("editMessageText", body)
        if _NOT_MODIFIED not in text(data.get("description")):
            _require_ok(response, data)

    def _message(self, rendered: Rendered, address: str) -> dict[str, Any]:
        card = chat_buttons.card(rendered, has_answers=bool(self._account.callback_base_url))
        buttons = [{"text": button.label, "callback_data": button.data} for button in card.buttons]
        return {
            "chat_id": address.removeprefix(PREFIX),
            "text": text_of(card),
            "link_preview_options": {"is_disabled": True},
            **({"reply_markup": {"inline_keyboard": [buttons]}} if buttons else {}),
        }

    def verify(self) -> Reason:
        data = _require_ok(*self._request("getMe", {}))
        name = vendor_http.line(child(data, "result").get("username"))
        if not self._account.callback_base_url:
            return _CONNECTED_ONE_WAY(bot=name)
        _require_ok(*self._request("setWebhook", self._webhook()))
        self._is_webhook_registered = True
        return _CONNECTED(bot=name)

    def _webhook(self) -> dict[str, Any]:
        return {
            "url": f"{self._account.callback_base_url}/update",
            "secret_token": secret_of(self._account.secrets.get("bot_token", "")),
            "allowed_updates": ["message", "callback_query"],
        }

    def _send(self, body: dict[str, Any], headers: dict[str, str]) -> dict[str, Any]:
        """Sends a message, again with the new chat id if the group became a supergroup (ResponseParameters)."""
        response, data = self._request("sendMessage", body, headers)
        new_chat_id = child(data, "parameters").get("migrate_to_chat_id") if response.status == 400 else None
        if isinstance(new_chat_id, int):
            response, data = self._request("sendMessage", {**body, "chat_id": new_chat_id}, headers)
        return _require_ok(response, data)

    def _request(
        self, method: str, body: dict[str, Any], headers: Mapping[str, str] = MappingProxyType({})
    ) -> tuple[EgressResponse, dict[str, Any]]:
        response = self._post_json(url_of(self._account, method), body, headers)
        return response, vendor_http.body(response)


class TelegramKind(WebhookProvider):
    name = "telegram"
    label = "Telegram bot"
    description = "Messages from a Telegram bot, with buttons and text commands to acknowledge, assign and close."
    icon = "send"
    channels: tuple[str, ...] = ("chat",)
    reply_channels: frozenset[str] = frozenset({"chat"})
    max_concurrent_sends = 20
    open = TelegramSender
    settings: tuple[ProviderSetting, ...] = (
        ProviderSetting(
            "bot_token", "Bot token", is_required=True, is_secret=True, help="From @BotFather, such as 123456:ABC…"
        ),
        ProviderSetting(
            "api_base", "API URL", ProviderSettingType.URL, default=API, help="Change only for your own server."
        ),
    )
    #: Nothing is entered at Telegram: `verify` registers the webhook.
    webhook_endpoints: tuple[WebhookEndpoint, ...] = ()

    def accepts(self, channel: str, address: str) -> bool:
        return address.startswith(PREFIX)

    def handle_webhook(self, account: ProviderAccount, callback: Callback, receiver: EventReceiver) -> CallbackResponse:
        secret_token = callback.headers.get("x-telegram-bot-api-secret-token", "").encode("ascii", "replace")
        token = account.secrets.get("bot_token", "")
        if not token or not hmac.compare_digest(secret_of(token).encode(), secret_token):
            raise InvalidWebhookSignature
        try:
            update = vendor_http.parsed(callback.body)
        except ValueError:
            raise Rejected("invalid", _NOT_AN_UPDATE()) from None
        if isinstance(update.get("callback_query"), dict):
            return _handle_press(update["callback_query"], receiver)
        if isinstance(update.get("message"), dict):
            return _handle_message(update["message"], text(update.get("update_id")), receiver)
        return CallbackResponse(200)


def _require_ok(response: EgressResponse, data: dict[str, Any]) -> dict[str, Any]:
    """Returns Telegram's response; raises the error that a rejection means."""
    if response.status == 200 and "ok" not in data:
        raise vendor_http.no_answer("Telegram")
    if response.status != 200 or data["ok"] is not True:
        _fail(response, data)
    return data


def url_of(account: ProviderAccount, method: str) -> str:
    """Returns the URL of a bot method. It contains the token and is never displayed."""
    api = str(account.settings.get("api_base") or API).rstrip("/")
    return f"{api}/bot{account.secrets.get('bot_token', '')}/{method}"


def secret_of(bot_token: str) -> str:
    """Returns the secret that Telegram sends with each update. Only holders of the token can compute it."""
    return hmac.new(bot_token.encode(), b"Tocsin's webhook", hashlib.sha256).hexdigest()


def text_of(card: chat_buttons.Card) -> str:
    """Returns title, text, state and link within Telegram's limit; the text is shortened."""
    ends = [part for part in (card.state, card.link) if part]
    available_chars = MAX_MESSAGE_CHARS - len(card.title) - sum(len(part) + 2 for part in ends) - 4
    text = formatting.cut(card.text, max(0, available_chars))
    return "\n".join(part for part in (card.title, text, *ends) if part)


def _fail(response: EgressResponse, data: dict[str, Any]) -> NoReturn:
    description = vendor_http.line(data.get("description", ""))
    lower = description.lower()
    if response.status == 429:
        raise Temporary(vendor_http.BUSY(server="Telegram", answer=description), response.retry_after)
    if "user is deactivated" in lower:
        raise NoSuchAddress(_NO_CHAT(error=description))
    if "chat not found" in lower:
        # Also before the user has written to the bot.
        raise AddressRejected(_NO_CHAT(error=description))
    if response.status == 400 and any(fragment in lower for fragment in _MAY_NOT_WRITE):
        raise AddressRejected(_MAY_NOT_WRITE_THERE(error=description))
    if response.status == 403 and "bot" in lower:
        raise AddressRejected(_BLOCKED(error=description))
    if response.status in (401, 404):
        # Older servers respond with 404 to an unknown token.
        raise Permanent(_TOKEN_REJECTED(status=str(response.status)), _ENTER_TOKEN())
    vendor_http.raise_for_status(response, "Telegram", description)


def _handle_press(query: dict[str, Any], receiver: EventReceiver) -> CallbackResponse:
    """Handles a button press. The response shows the result to the member; everyone sees the message change."""
    parsed = chat_buttons.parse_button_data(text(query.get("data")))
    sender = text(child(query, "from").get("id"))
    if parsed is None:
        return _answer_query(query, str(_UNKNOWN_BUTTON()))
    command, number = parsed
    user_id = receiver.find_user_id("chat", f"{PREFIX}{sender}")
    if user_id is None:
        return _answer_query(query, chat_buttons.unlinked_member_answer(f"{PREFIX}{sender}"))
    result = receiver.handle_button(user_id, number, command, "chat")
    return _answer_query(query, result.localized_sentence)


def _answer_query(query: dict[str, Any], sentence: str) -> CallbackResponse:
    return _method(
        "answerCallbackQuery",
        callback_query_id=text(query.get("id")),
        text=formatting.cut(sentence, _MAX_NOTE_CHARS),
        show_alert=True,
    )


def _handle_message(message: dict[str, Any], update_id: str, receiver: EventReceiver) -> CallbackResponse:
    """Handles a message to the bot: a command from a user, or /start during setup."""
    chat, command_text = child(message, "chat"), text(message.get("text")).strip()
    chat_address, sender = f"{PREFIX}{text(chat.get('id'))}", f"{PREFIX}{text(child(message, 'from').get('id'))}"
    if command_text.partition(" ")[0].partition("@")[0] in ("/start", "/id"):
        return _send_message(chat, str(_CHAT_ADDRESS(address=chat_address)))
    if chat.get("type") != "private" or not command_text:
        return CallbackResponse(200)
    if receiver.find_user_id("chat", sender) is None:
        return _send_message(chat, chat_buttons.unlinked_member_answer(sender))
    reply = receiver.handle_text(InboundText("chat", sender, command_text.removeprefix("/"), update_id))
    return _send_message(chat, reply) if reply else CallbackResponse(200)


def _send_message(chat: dict[str, Any], reply: str) -> CallbackResponse:
    return _method("sendMessage", chat_id=chat.get("id"), text=reply)


def _method(name: str, **values: Any) -> CallbackResponse:
    """A bot API call in the response (https://core.telegram.org/bots/api#making-requests-when-getting-updates)."""
    return CallbackResponse(200, json.dumps({"method": name, **values}), "application/json")
