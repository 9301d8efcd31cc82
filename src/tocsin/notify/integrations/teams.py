"""The `teams` provider kind: the installation's own bot in Microsoft Teams, with Adaptive Cards whose buttons work.

Plain HTTP of the Bot Connector API (https://learn.microsoft.com/azure/bot-service/rest-api/bot-framework-rest-connector-api-reference).
A message can only go where the app is installed: each installation tells its conversation, which is stored.
"""

from __future__ import annotations

import io
import json
import logging
import re
import time
import zipfile
from collections.abc import Mapping
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote, urlencode, urlsplit
from uuid import NAMESPACE_URL, uuid5

import jwt

from tocsin import __version__
from tocsin.alerts.states import CommandKind, Priority
from tocsin.core.delivery.circuit_breaker import ENTER_CREDENTIALS, AddressRejected
from tocsin.core.errors import Permanent, Rejected, Temporary
from tocsin.core.net.egress import EgressResponse
from tocsin.core.reasons import Reason, ReasonType, Text, translatable
from tocsin.identity.oidc_tokens import DocumentClient, Expected, UnknownKey, verify_service_token
from tocsin.notify.channels import chat
from tocsin.notify.channels.chat import CardButton
from tocsin.notify.integrations import vendor_http
from tocsin.notify.integrations.vendor_http import HttpSender, child, items, text
from tocsin.notify.interfaces import (
    Callback,
    CallbackResponse,
    ChatPlace,
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
from tocsin.notify.text.formatting import cut, phrase

log = logging.getLogger(__name__)

# ---------- card
# Lays out a card as an Adaptive Card (https://adaptivecards.io/explorer). Texts are runs, in which no Markdown works.


CARD_TYPE = "application/vnd.microsoft.card.adaptive"
#: The part of a button's data that says which button of which alert it is.
DATA_KEY = "tocsin"
_STYLES = {Priority.CRITICAL: "attention", Priority.HIGH: "warning"}
_BUTTON_STYLES = {CommandKind.ACKNOWLEDGE: "positive", CommandKind.CLOSE: "destructive"}
_MAX_TITLE_CHARS, _MAX_LINES = 200, 60


def adaptive_card(rendered: Rendered, *, has_answers: bool) -> dict[str, Any]:
    """Returns the content of an Adaptive Card of the newest version that Teams shows."""
    card = chat.card(rendered, has_answers=has_answers, commands=chat.BUTTONS)
    title = [_line(cut(card.title, _MAX_TITLE_CHARS), weight="Bolder", size="Medium")]
    style = _STYLES.get(card.priority, "emphasis") if card.priority else "good" if card.state else "default"
    body: list[dict[str, Any]] = [{"type": "Container", "style": style, "bleed": True, "items": title}]
    if card.state:
        body.append(_line(card.state, weight="Bolder"))
    body += [_line(line) for line in card.text.splitlines()[:_MAX_LINES] if line.strip()]
    actions = [_action(button, card.language) for button in card.buttons]
    if card.link:
        actions.append({"type": "Action.OpenUrl", "title": card.link_label, "url": card.link})
    return {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.5",
        "body": body,
        "actions": actions,
        "msteams": {"width": "Full"},
    }


def _line(line: str, **style: str) -> dict[str, Any]:
    return {"type": "RichTextBlock", "inlines": [{"type": "TextRun", "text": line, **style}]}


def _action(button: CardButton, language: str) -> dict[str, Any]:
    """Returns a button. One that needs an answer opens a field below the card first."""
    field: dict[str, Any]
    match button.command:
        case CommandKind.HOLD:
            choices = [{"title": phrase(language, label), "value": span} for span, label in chat.SNOOZE_CHOICES]
            field = {"type": "Input.ChoiceSet", "value": choices[0]["value"], "choices": choices}
            label = phrase(language, "For how long?")
        case CommandKind.REPLY:
            field, label = {"type": "Input.Text", "isMultiline": True, "maxLength": 2000}, phrase(language, "Note")
        case _:
            return _execute(button)
    field |= {"id": "text", "label": label, "isRequired": True, "errorMessage": phrase(language, "Enter a value.")}
    asked = {"type": "AdaptiveCard", "version": "1.5", "body": [field], "actions": [_execute(button)]}
    return {"type": "Action.ShowCard", "title": button.label, "card": asked}


def _execute(button: CardButton) -> dict[str, Any]:
    common: dict[str, Any] = {"title": button.label, "data": {DATA_KEY: button.data}}
    if style := _BUTTON_STYLES.get(button.command):
        common["style"] = style
    # Clients that know no Action.Execute send the data as a message.
    fallback = {"type": "Action.Submit", **common}
    return {"type": "Action.Execute", "verb": str(button.command), **common, "fallback": fallback}


# ---------- sending


LOGIN, KEYS = "https://login.microsoftonline.com", "https://login.botframework.com"
ISSUER, SCOPE = "https://api.botframework.com", "https://api.botframework.com/.default"
PREFIX = "teams:"
VENDOR = "Microsoft Teams"
#: A token is renewed so long before it ends.
_EARLY_SECONDS = 300

_CONNECTED = ReasonType(
    "provider.teams_connected", "Signed in to Microsoft as the bot. Install its app in Teams where it is to post."
)
_NOT_INSTALLED = ReasonType(
    "provider.teams_not_installed", "The Tocsin app is not installed there in Teams. Install it for the person or team."
)
_BLOCKED = ReasonType(
    "provider.teams_blocked", "The Tocsin app was blocked or removed there in Teams. Install it again ({error})."
)
_ENTER_SECRET = ReasonType("provider.teams_enter_secret", "Create a new client secret in Entra, and enter it here.")
_NOT_AN_ACTIVITY = ReasonType("provider.teams_not_an_activity", "This is no activity of Microsoft Teams.")
_NOT_OURS = ReasonType(
    "provider.teams_not_ours", "The token does not allow this: another tenant, service or channel ({what})."
)
_NO_PERSON = Text("Microsoft Teams does not say who you are here. Open the alert in Tocsin.")
_WELCOME = Text("Tocsin is connected here. The address of this conversation in Tocsin is {address}")

#: Codes for a conversation in which the bot may no longer write.
_GONE = frozenset({"messagewritesblocked", "botnotinconversationroster", "conversationnotfound", "botdisabledbyadmin"})


class TeamsSender(HttpSender):
    """Posts as one bot."""

    api = LOGIN

    def __init__(self, account: ProviderAccount) -> None:
        super().__init__(account)
        self._token, self._token_ends = "", 0.0

    def send(self, rendered: Rendered, channel: str, address: str, idempotency_key: str) -> str:
        response = self._call("POST", address, "", self._message(rendered), {"Idempotency-Key": idempotency_key})
        if not (external_id := text(vendor_http.body(response).get("id"))):
            raise vendor_http.no_answer(VENDOR)
        return external_id

    def update(self, rendered: Rendered, channel: str, address: str, external_id: str) -> None:
        self._call("PUT", address, f"/{quote(external_id, safe='')}", self._message(rendered), {})

    def reply(self, place: ChatPlace, answer: str) -> None:
        """Answers a message where it was written."""
        self._request("POST", place, "", {"type": "message", "text": answer, "textFormat": "plain"}, {})

    def verify(self) -> Reason:
        self._authorization()
        return self._with_callback_note(_CONNECTED())

    def _message(self, rendered: Rendered) -> dict[str, Any]:
        card = adaptive_card(rendered, has_answers=bool(self._account.callback_base_url))
        attachment = {"contentType": CARD_TYPE, "content": card}
        # The summary is what a notification shows.
        return {"type": "message", "summary": cut(rendered.subject, _MAX_TITLE_CHARS), "attachments": [attachment]}

    def _call(
        self, method: str, address: str, path: str, document: object, headers: Mapping[str, str]
    ) -> EgressResponse:
        # First what says whether the account works: an address that is not known is not its fault.
        self._authorization()
        place = self._account.find_place(bot_of(self._account), address)
        if place is None:
            raise AddressRejected(_NOT_INSTALLED())
        return self._request(method, place, path, document, headers)

    def _request(
        self, method: str, place: ChatPlace, path: str, document: object, headers: Mapping[str, str]
    ) -> EgressResponse:
        url = f"{place.service_url.rstrip('/')}/v3/conversations/{quote(place.conversation, safe='')}/activities{path}"
        all_headers = {"Content-Type": "application/json", **self._authorization(), **headers}
        content = json.dumps(document, ensure_ascii=False).encode("utf-8", "replace")
        response = self._client.request(method, url, headers=all_headers, content=content)
        if not 200 <= response.status < 300:
            self._fail(response)
        return response

    def _authorization(self) -> dict[str, str]:
        """Returns the bot's token, a new one if the last has ended (OAuth 2.0, client credentials)."""
        if time.monotonic() >= self._token_ends:
            settings = self._account.settings
            form = {
                "grant_type": "client_credentials",
                "client_id": bot_of(self._account),
                "client_secret": self._account.secrets.get("client_secret", ""),
                "scope": SCOPE,
            }
            url = f"{self._base}/{quote(str(settings.get('tenant_id', '')), safe='')}/oauth2/v2.0/token"
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            response = self._client.request("POST", url, headers=headers, content=urlencode(form).encode())
            data = vendor_http.body(response)
            if response.status in (400, 401) and data.get("error"):
                answer = f"{response.status}: {vendor_http.line(data['error'])}"
                raise Permanent(vendor_http.CREDENTIALS_REJECTED(server="Microsoft", answer=answer), _ENTER_SECRET())
            if response.status != 200:
                vendor_http.raise_for_status(response, "Microsoft")
            if not (token := text(data.get("access_token"))):
                raise vendor_http.no_answer("Microsoft")
            lifetime = data.get("expires_in")
            seconds = lifetime if isinstance(lifetime, int) else 0
            self._token, self._token_ends = token, time.monotonic() + seconds - _EARLY_SECONDS
        return {"Authorization": f"Bearer {self._token}"}

    def _fail(self, response: EgressResponse) -> NoReturn:
        error = child(vendor_http.body(response), "error")
        code, message = text(error.get("code")), vendor_http.line(text(error.get("message")))
        if response.status == 401:
            self._token_ends = 0.0
            raise Permanent(vendor_http.CREDENTIALS_REJECTED(server=VENDOR, answer="401"), ENTER_CREDENTIALS())
        if response.status in (403, 404) and code.lower() in _GONE:
            raise AddressRejected(_BLOCKED(error=code))
        if response.status == 412 and code:
            # A conversation that is written to faster than it takes.
            raise Temporary(vendor_http.BUSY(server=VENDOR, answer=code), response.retry_after)
        vendor_http.raise_for_status(response, VENDOR, ": ".join(part for part in (code, message) if part))


def bot_of(account: ProviderAccount) -> str:
    """Returns the id of the app, under which Teams knows the bot."""
    return str(account.settings.get("client_id", "")).lower()


class TeamsKind(WebhookProvider):
    name = "teams"
    label = "Microsoft Teams bot"
    description = (
        "Cards from your own Teams bot, with buttons to acknowledge, assign, snooze, close and add a note. They show "
        "each change."
    )
    icon = "brand-teams"
    channels: tuple[str, ...] = ("chat",)
    reply_channels: frozenset[str] = frozenset({"chat"})
    max_concurrent_sends = 20
    open = TeamsSender
    settings: tuple[ProviderSetting, ...] = (
        ProviderSetting(
            "client_id", "Application (client) ID", is_required=True, help="Of the app registration in Entra."
        ),
        ProviderSetting(
            "client_secret", "Client secret", is_required=True, is_secret=True, help="Its value, not its ID."
        ),
        ProviderSetting(
            "tenant_id", "Directory (tenant) ID", is_required=True, help="Messages of other tenants are refused."
        ),
        ProviderSetting(
            "api_base", "Sign-in URL", ProviderSettingType.URL, default=LOGIN, help="Change only for another cloud."
        ),
        ProviderSetting(
            "keys_base", "URL of the keys", ProviderSettingType.URL, default=KEYS, help="Change only for another cloud."
        ),
    )
    webhook_endpoints: tuple[WebhookEndpoint, ...] = (
        WebhookEndpoint(
            "messages", translatable("Messaging endpoint"), translatable("In the Azure Bot, under Configuration.")
        ),
    )

    package_name = "tocsin-teams.zip"
    package_label = translatable("App package")
    package_help = translatable("Upload it in the Teams admin center, under Manage apps.")

    def adaptive_card(self, rendered: Rendered) -> dict[str, Any]:
        return adaptive_card(rendered, has_answers=True)

    def build_package(self, account: ProviderAccount, public_url: str) -> bytes:
        return app_package(account, public_url, __version__)

    def accepts(self, channel: str, address: str) -> bool:
        return address.startswith(PREFIX)

    def handle_webhook(self, account: ProviderAccount, callback: Callback, receiver: EventReceiver) -> CallbackResponse:
        claims, key = _verified(account, callback)
        try:
            activity = vendor_http.parsed(callback.body)
        except ValueError:
            raise Rejected("invalid", _NOT_AN_ACTIVITY()) from None
        _check_activity(account, activity, claims, key)
        match text(activity.get("type")):
            case "invoke" if activity.get("name") == "adaptiveCard/action":
                answer = _press(account, activity, child(activity, "value", "action").get("data"), receiver)
                body = {"statusCode": 200, "type": "application/vnd.microsoft.activity.message", "value": answer}
                return CallbackResponse(200, json.dumps(body), "application/json")
            case "message":
                _answer_message(account, activity, receiver)
            case "installationUpdate" | "conversationUpdate":
                _follow_installation(account, activity, receiver)
        return CallbackResponse(200, "{}", "application/json")


# ---------- tokens
# Every request carries a token of Microsoft's, signed with a key that the discovery document leads to.
# https://learn.microsoft.com/azure/bot-service/rest-api/bot-framework-rest-connector-authentication


#: How far the clocks may differ, as Microsoft's own libraries have it.
MAX_SKEW = timedelta(minutes=5)
#: Keys are loaded again for an unknown one, at most this often.
_MIN_KEYS_AGE = timedelta(minutes=1)
_KEYS_AGE = timedelta(hours=24)
_WELL_KNOWN = "/v1/.well-known/openidconfiguration"


def _verified(account: ProviderAccount, callback: Callback) -> tuple[dict[str, Any], Mapping[str, Any]]:
    """Returns the claims of the request's token and the key that signed it. Raises InvalidWebhookSignature."""
    kind, _, token = callback.headers.get("authorization", "").partition(" ")
    if kind.lower() != "bearer" or not token:
        raise InvalidWebhookSignature
    expected = Expected(ISSUER, bot_of(account), callback.at, MAX_SKEW)
    try:
        with DocumentClient(VENDOR, callback.at, allow_private=account.is_trusted) as client:
            try:
                keys = _keys(client, account, _KEYS_AGE)
                claims = verify_service_token(token, keys, expected)
            except UnknownKey:
                keys = _keys(client, account, _MIN_KEYS_AGE)
                claims = verify_service_token(token, keys, expected)
    except Rejected as rejected:
        log.warning("A request that claims to be of Microsoft Teams was refused: %s", rejected.detail)
        raise InvalidWebhookSignature from None
    named = jwt.get_unverified_header(token).get("kid")
    return claims, next((key for key in keys if key.get("kid") == named), {})


def _keys(client: DocumentClient, account: ProviderAccount, max_age: timedelta) -> list[Mapping[str, Any]]:
    url = f"{str(account.settings.get('keys_base') or KEYS).rstrip('/')}{_WELL_KNOWN}"
    common: Any = {"accept": "application/json", "field": "keys_base"}
    document = client.document(url, _json_object, **common, max_age=_KEYS_AGE)
    found = client.document(text(document.get("jwks_uri")), _json_object, **common, max_age=max_age)
    return [key for key in items(found.get("keys")) if isinstance(key, Mapping)]


def _json_object(body: bytes) -> dict[str, Any] | None:
    try:
        return vendor_http.parsed(body)
    except ValueError:
        return None


def _check_activity(
    account: ProviderAccount, activity: Mapping[str, Any], claims: Mapping[str, Any], key: Mapping[str, Any]
) -> None:
    """Raises Rejected("forbidden") for an activity that the token does not vouch for, or of another tenant."""
    channel = text(activity.get("channelId"))
    tenants = {
        text(found).lower()
        for found in (
            child(activity, "channelData", "tenant").get("id"),
            child(activity, "conversation").get("tenantId"),
        )
        if found
    }
    problems = {
        "serviceUrl": not claims.get("serviceurl") or claims.get("serviceurl") != activity.get("serviceUrl"),
        "channelId": channel not in items(key.get("endorsements")),
        "tenant": tenants != {str(account.settings.get("tenant_id", "")).lower()},
    }
    if found := [name for name, is_problem in problems.items() if is_problem]:
        log.warning("A request of Microsoft Teams was refused because of its %s.", ", ".join(found))
        raise Rejected("forbidden", _NOT_OURS(what=", ".join(found)))


# ---------- receiving


_MENTION = re.compile(r"<at\b[^<>]*>[^<]*</at>", re.IGNORECASE)


def _press(account: ProviderAccount, activity: dict[str, Any], data: object, receiver: EventReceiver) -> str:
    """Handles a button press, also on an old card. Returns the answer to the one who pressed it."""
    parsed = chat.parse_button_data(text(child(data).get(DATA_KEY)))
    address = _person(activity)
    if parsed is None or not address:
        return str(_NO_PERSON())
    user_id = _user_id(account, address, receiver)
    if user_id is None:
        return chat.unlinked_member_answer(address)
    command, number = parsed
    typed = text(child(data).get("text"))
    return receiver.handle_button(user_id, number, command, "chat", typed).localized_sentence


def _answer_message(account: ProviderAccount, activity: dict[str, Any], receiver: EventReceiver) -> None:
    """Handles a message to the bot, or a button of a client that sends presses as messages."""
    if child(activity, "value").get(DATA_KEY):
        answer = _press(account, activity, activity["value"], receiver)
    else:
        # Teams pads a mention with no-break spaces.
        words = " ".join(_MENTION.sub(" ", text(activity.get("text"))).split())
        address = _person(activity)
        user_id = _user_id(account, address, receiver) if address else None
        if not address:
            answer = str(_NO_PERSON())
        elif user_id is None:
            answer = chat.unlinked_member_answer(address)
        else:
            message = InboundText("chat", address, words, text(activity.get("id")), user_id=user_id)
            answer = receiver.handle_text(message)
    if answer:
        _reply(account, activity, answer)


def _follow_installation(account: ProviderAccount, activity: dict[str, Any], receiver: EventReceiver) -> None:
    """Stores the conversation in which the app was installed, or forgets it."""
    bot, address = bot_of(account), _place_address(activity)
    if not address:
        return
    is_removed = text(activity.get("action")).startswith("remove") or any(
        text(child(member).get("id")).lower() == f"28:{bot}" for member in items(activity.get("membersRemoved"))
    )
    if is_removed:
        receiver.save_place(bot, address, None)
        return
    receiver.save_place(bot, address, _place(activity))
    if text(activity.get("type")) == "installationUpdate":
        _reply(account, activity, str(_WELCOME(address=address)))


def _reply(account: ProviderAccount, activity: dict[str, Any], answer: str) -> None:
    sender = TeamsSender(account)
    try:
        sender.reply(_place(activity), answer)
    except (Permanent, Temporary) as error:
        # What was asked for is done; only its confirmation failed.
        log.warning("An answer in Microsoft Teams could not be sent: %s", error.reason)
    finally:
        sender.close()


def _user_id(account: ProviderAccount, address: str, receiver: EventReceiver) -> int | None:
    """Returns the user with that contact method, else the one whom the same directory signs in or provisions."""
    found = receiver.find_user_id("chat", address)
    if found is not None:
        return found
    return receiver.find_directory_user_id(str(account.settings.get("tenant_id", "")), address.removeprefix(PREFIX))


def _person(activity: dict[str, Any]) -> str:
    """Returns the address of the activity's sender, by their object ID in Entra; empty if Teams does not say."""
    object_id = text(child(activity, "from").get("aadObjectId")).lower()
    return f"{PREFIX}{object_id}" if object_id else ""


def _place(activity: dict[str, Any]) -> ChatPlace:
    return ChatPlace(text(activity.get("serviceUrl")), text(child(activity, "conversation").get("id")))


def _place_address(activity: dict[str, Any]) -> str:
    """Returns the address of the conversation: of the person in a personal one, else of the channel or group."""
    conversation = child(activity, "conversation")
    if text(conversation.get("conversationType")) == "personal":
        return _person(activity)
    channel = text(child(activity, "channelData", "channel").get("id")) or text(conversation.get("id"))
    try:
        return chat.ChatChannel().normalize_address(f"{PREFIX}{channel.partition(';')[0]}")
    except Rejected:
        return ""


# ---------- app package
# The zip that is uploaded in Teams (https://learn.microsoft.com/microsoftteams/platform/resources/schema/manifest-schema).


_ICONS = Path(__file__).parents[2] / "web" / "static" / "tocsin" / "icons"
_ICON_FILES = {"color.png": "app-192.png", "outline.png": "outline-32.png"}


def app_package(account: ProviderAccount, public_url: str, version: str) -> bytes:
    """Returns the app package of the bot: the manifest, and the icons in colour and as an outline."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as package:
        document = json.dumps(manifest(account, public_url, version), indent=2)
        # A fixed time, so that equal settings make equal packages.
        for name, content in (("manifest.json", document.encode()), *_icons().items()):
            package.writestr(zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0)), content)
    return made.getvalue()


@cache
def _icons() -> Mapping[str, bytes]:
    return {name: (_ICONS / icon).read_bytes() for name, icon in _ICON_FILES.items()}


def manifest(account: ProviderAccount, public_url: str, version: str) -> dict[str, Any]:
    """Returns the manifest of the app, which Teams shows when it is installed."""
    bot = bot_of(account)
    commands = [
        {"title": "help", "description": "What you can write here"},
        {"title": "on call", "description": "Who is on call now"},
        {"title": "alert", "description": "Create an alert: alert TEXT"},
    ]
    scopes = ["personal", "team", "groupChat"]
    return {
        "$schema": "https://developer.microsoft.com/json-schemas/teams/v1.17/MicrosoftTeams.schema.json",
        "manifestVersion": "1.17",
        "version": version,
        "id": str(uuid5(NAMESPACE_URL, f"{public_url}#{bot}")),
        "developer": {
            "name": "Tocsin",
            "websiteUrl": public_url,
            "privacyUrl": public_url,
            "termsOfUseUrl": public_url,
        },
        "name": {"short": "Tocsin", "full": "Tocsin: alerts and on-call paging"},
        "description": {
            "short": "Pages with buttons, and who is on call.",
            "full": "Tocsin pages the people on call. Each card shows who has acknowledged, taken or closed the alert.",
        },
        "icons": {"color": "color.png", "outline": "outline.png"},
        "accentColor": "#B42318",
        "bots": [
            {
                "botId": bot,
                "scopes": scopes,
                "isNotificationOnly": False,
                "commandLists": [{"scopes": scopes, "commands": commands}],
            }
        ],
        "validDomains": [urlsplit(public_url).hostname or ""],
    }
