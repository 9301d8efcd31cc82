"""The `telegram` provider kind: the installation's own bot, with buttons and text commands
(https://core.telegram.org/bots/api).

The webhook secret is derived from the bot token, so nothing has to be entered at Telegram: the provider test registers
the webhook.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any, NoReturn

from tocsin.core.errors import Permanent, Rejected, Temporary
from tocsin.core.net.egress import EgressResponse, HttpClient
from tocsin.notify.channels import chat_buttons
from tocsin.notify.integrations import background_post, http_status, json_object
from tocsin.notify.integrations.json_object import child, items, text
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
from tocsin.notify.text import formatting
from tocsin.notify.text.phrases import phrase
from tocsin.notify.webhooks import (
    Callback,
    CallbackResponse,
    EventReceiver,
    InboundText,
    InvalidWebhookSignature,
    WebhookEndpoint,
    WebhookProvider,
)

API = "https://api.telegram.org"
PREFIX = "telegram:"
MAX_MESSAGE_CHARS = 4096
#: Telegram's errors for a chat in which the bot may not write.
_MAY_NOT_WRITE = ("not enough rights", "have no rights", "chat_write_forbidden", "peer_id_invalid")
#: The maximum length of the notification after a button press.
_MAX_NOTE_CHARS = 200


class TelegramKind(ProviderKind, WebhookProvider):
    name = "telegram"
    label = "Telegram bot"
    about = "Messages by a Telegram bot, with buttons that acknowledge, take and close, and words as in a text message."
    icon = "send"
    channels: tuple[str, ...] = ("chat",)
    replies: frozenset[str] = frozenset({"chat"})
    parallel = 20
    settings: tuple[ProviderSetting, ...] = (
        ProviderSetting(
            "bot_token", "Bot token", is_required=True, is_secret=True, help="As @BotFather gives it: 123456:ABC…"
        ),
        ProviderSetting(
            "api_base",
            "API address",
            ProviderSettingType.URL,
            default=API,
            help="Another one for a server of your own.",
        ),
    )
    #: Nothing is entered at Telegram: `verify` registers the webhook.
    points: tuple[WebhookEndpoint, ...] = ()

    def accepts(self, channel: str, address: str) -> bool:
        return address.startswith(PREFIX)

    def open(self, account: ProviderAccount) -> ProviderSender:
        return TelegramSender(account)

    def listen(self, account: ProviderAccount, callback: Callback, ears: EventReceiver) -> CallbackResponse:
        given = callback.headers.get("x-telegram-bot-api-secret-token", "").encode("ascii", "replace")
        token = account.secrets.get("bot_token", "")
        if not token or not hmac.compare_digest(secret_of(token).encode(), given):
            raise InvalidWebhookSignature
        try:
            update = json_object.parsed(callback.body)
        except ValueError:
            raise Rejected("invalid", "This is no update of Telegram's.") from None
        if isinstance(update.get("callback_query"), dict):
            return _pressed(account, update["callback_query"], ears)
        if isinstance(update.get("message"), dict):
            return _said(update["message"], text(update.get("update_id")), ears)
        return CallbackResponse(200)


class TelegramSender:
    """Sends as one bot."""

    def __init__(self, account: ProviderAccount) -> None:
        self._account = account
        self._client = HttpClient(trusted=account.is_trusted)
        #: Whether the webhook was registered since this account was opened.
        self._is_told = False

    def send(self, rendered: Rendered, channel: str, address: str, idempotency_key: str) -> SendReceipt:
        body: dict[str, Any] = {
            "chat_id": address.removeprefix(PREFIX),
            "text": text_of(rendered),
            "link_preview_options": {"is_disabled": True},
        }
        if self._account.callbacks and (number := chat_buttons.alert_of(rendered)) is not None:
            body["reply_markup"] = _keyboard(number, rendered.language)
        said = self._send(body, {"Idempotency-Key": idempotency_key})
        if self._account.callbacks and not self._is_told:
            # Registers the webhook even if the provider was never tested. In the background after the message, so that
            # the message does not wait for it.
            self._is_told = True
            background_post.post_json(
                url_of(self._account, "setWebhook"),
                json.dumps(self._webhook()).encode(),
                is_trusted=self._account.is_trusted,
            )
        return SendReceipt(str((said.get("result") or {}).get("message_id", "")))

    def verify(self) -> str:
        said = self._call("getMe", {}, {})
        name = http_status.line((said.get("result") or {}).get("username"))
        if not self._account.callbacks:
            return f"Connected as @{name}. Answers cannot come back: Tocsin has no public address."
        self._call("setWebhook", self._webhook(), {})
        self._is_told = True
        return f"Connected as @{name}; its buttons and words come back here."

    def close(self) -> None:
        self._client.close()

    def _webhook(self) -> dict[str, Any]:
        return {
            "url": f"{self._account.callbacks}/update",
            "secret_token": secret_of(self._account.secrets.get("bot_token", "")),
            "allowed_updates": ["message", "callback_query"],
        }

    def _send(self, body: dict[str, Any], headers: dict[str, str]) -> dict[str, Any]:
        """Sends a message, again with the new chat id if Telegram reports that the group became a supergroup
        (ResponseParameters).
        """
        answer, said = self._ask("sendMessage", body, headers)
        moved = said.get("parameters") if answer.status == 400 else None
        if isinstance(moved, dict) and isinstance(number := moved.get("migrate_to_chat_id"), int):
            answer, said = self._ask("sendMessage", {**body, "chat_id": number}, headers)
        return _taken(answer, said)

    def _call(self, method: str, body: dict[str, Any], headers: dict[str, str]) -> dict[str, Any]:
        return _taken(*self._ask(method, body, headers))

    def _ask(self, method: str, body: dict[str, Any], headers: dict[str, str]) -> tuple[EgressResponse, dict[str, Any]]:
        answer = self._client.request(
            "POST",
            url_of(self._account, method),
            headers={"Content-Type": "application/json", **headers},
            content=json.dumps(body).encode(),
        )
        return answer, http_status.body(answer)


def _taken(answer: EgressResponse, said: dict[str, Any]) -> dict[str, Any]:
    """Returns Telegram's response; raises the error that a rejection means."""
    if answer.status == 200 and "ok" not in said:
        raise http_status.no_answer("Telegram")
    if answer.status != 200 or said["ok"] is not True:
        _fail(answer, said)
    return said


def url_of(account: ProviderAccount, method: str) -> str:
    """Returns the URL of a bot method. It contains the token and is never displayed."""
    api = str(account.settings.get("api_base") or API).rstrip("/")
    return f"{api}/bot{account.secrets.get('bot_token', '')}/{method}"


def secret_of(bot_token: str) -> str:
    """Returns the secret that Telegram sends with each update. Only holders of the token can compute it."""
    return hmac.new(bot_token.encode(), b"Tocsin's webhook", hashlib.sha256).hexdigest()


def text_of(rendered: Rendered) -> str:
    """Returns title, text and link within Telegram's limit; the text is shortened."""
    link = rendered.link
    room = MAX_MESSAGE_CHARS - len(rendered.subject) - len(link) - 4
    return "\n".join(part for part in (rendered.subject, formatting.cut(rendered.text, max(0, room)), link) if part)


def _fail(answer: EgressResponse, said: dict[str, Any]) -> NoReturn:
    why = http_status.line(said.get("description", ""))
    lower = why.lower()
    if answer.status == 429:
        raise Temporary(f"Telegram takes no more for now ({why}).", answer.retry_after)
    if "chat not found" in lower or "user is deactivated" in lower:
        raise AddressRejected(f"Telegram knows no such chat, or the person has not pressed Start there yet ({why}).")
    if answer.status == 400 and any(said_so in lower for said_so in _MAY_NOT_WRITE):
        raise AddressRejected(f"The bot may not write in that chat ({why}).")
    if answer.status == 403 and "bot" in lower:
        raise AddressRejected(f"The person or room has shut the bot out ({why}).")
    if answer.status in (401, 404):
        # Older servers respond with 404 to an unknown token.
        raise Permanent(f"Telegram refuses the bot token ({answer.status}).", "Enter it again, as @BotFather gives it.")
    http_status.raise_for_status(answer, "Telegram", why)


def _keyboard(number: int, language: str) -> dict[str, Any]:
    labels = chat_buttons.LABELS.items()
    row = [
        {"text": phrase(language, label), "callback_data": chat_buttons.written(kind, number)} for kind, label in labels
    ]
    return {"inline_keyboard": [row]}


def _left(shown: dict[str, Any], pressed: str, number: int) -> dict[str, Any]:
    """Returns the buttons of a message that are still useful after one was pressed, in their existing language."""
    stay = {chat_buttons.written(kind, number) for kind in chat_buttons.left_after(pressed)}
    rows = items(child(shown, "reply_markup").get("inline_keyboard"))
    left = [one for row in rows for one in items(row) if text(child(one).get("callback_data")) in stay]
    return {"inline_keyboard": [left] if left else []}


def _pressed(account: ProviderAccount, query: dict[str, Any], ears: EventReceiver) -> CallbackResponse:
    """Handles a button press: the callback response shows the result, and the message is updated in the background."""
    asked = chat_buttons.read(text(query.get("data")))
    sender = text(child(query, "from").get("id"))
    if asked is None:
        return _note(query, "This button is not known here.")
    command, number = asked
    user_id = ears.user_of("chat", f"{PREFIX}{sender}")
    if user_id is None:
        return _note(query, chat_buttons.unknown(f"{PREFIX}{sender}"))
    pressed = ears.button(user_id, number, command, "chat")
    is_alone = child(query, "message", "chat").get("type") == "private"
    _redraw(account, query, command, number, pressed.told if is_alone else pressed.sentence)
    return _note(query, pressed.told)


def _redraw(account: ProviderAccount, query: dict[str, Any], command: str, number: int, sentence: str) -> None:
    shown = child(query, "message")
    name = http_status.line(text(child(query, "from").get("first_name")), 60)
    body = {
        "chat_id": child(shown, "chat").get("id"),
        "message_id": shown.get("message_id"),
        "text": formatting.cut(text(shown.get("text")), MAX_MESSAGE_CHARS - 400) + f"\n\n{name}: {sentence}",
        "link_preview_options": {"is_disabled": True},
        "reply_markup": _left(shown, command, number),
    }
    url = url_of(account, "editMessageText")
    background_post.post_json(url, json.dumps(body).encode(), is_trusted=account.is_trusted)


def _note(query: dict[str, Any], note: str) -> CallbackResponse:
    return _method(
        "answerCallbackQuery",
        callback_query_id=text(query.get("id")),
        text=formatting.cut(note, _MAX_NOTE_CHARS),
        show_alert=True,
    )


def _said(message: dict[str, Any], update: str, ears: EventReceiver) -> CallbackResponse:
    """Handles a message to the bot: a command from a user, or /start during setup."""
    chat, said = child(message, "chat"), text(message.get("text")).strip()
    room, sender = f"{PREFIX}{text(chat.get('id'))}", f"{PREFIX}{text(child(message, 'from').get('id'))}"
    if said.partition(" ")[0].partition("@")[0] in ("/start", "/id"):
        return _answer(chat, f"The address of this chat in Tocsin is {room}")
    if chat.get("type") != "private" or not said:
        return CallbackResponse(200)
    if ears.user_of("chat", sender) is None:
        return _answer(chat, chat_buttons.unknown(sender))
    answer = ears.text(InboundText("chat", sender, said.removeprefix("/"), update))
    return _answer(chat, answer) if answer else CallbackResponse(200)


def _answer(chat: dict[str, Any], answer: str) -> CallbackResponse:
    return _method("sendMessage", chat_id=chat.get("id"), text=answer)


def _method(name: str, **values: Any) -> CallbackResponse:
    """Returns a bot API call in the response to an update
    (https://core.telegram.org/bots/api#making-requests-when-getting-updates).
    """
    return CallbackResponse(200, json.dumps({"method": name, **values}), "application/json")
