"""Microsoft's servers of a Teams bot on loopback: token server, keys, and the Bot Connector API, with its refusals; and
the activities that Teams posts, signed as Microsoft signs them.
https://learn.microsoft.com/azure/bot-service/rest-api/bot-framework-rest-connector-authentication
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, unquote

import jwt

from tests.doubles.http import HttpDouble, Request, Response, http_double
from tests.doubles.openid import jwk, rsa_key

APP_ID = "11111111-2222-4333-8444-555555555555"
TENANT = "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"
ALICE = "0a0a0a0a-0000-4000-8000-00000000a11c"
_ACTIVITIES = re.compile(r"/v3/conversations/([^/]+)/activities(?:/([^/]+))?")
_ACTIONS = {"Action.Execute", "Action.ShowCard", "Action.OpenUrl"}


@dataclass
class TeamsDouble:
    """`answers` are given to the next messages instead of taking them."""

    http: HttpDouble
    secret: str = "client-secret"
    keys: list[str] = field(default_factory=lambda: ["first"])
    endorsements: tuple[str, ...] = ("msteams", "webchat")
    messages: list[dict[str, Any]] = field(default_factory=list)
    updates: list[dict[str, Any]] = field(default_factory=list)
    answers: list[Response] = field(default_factory=list)

    @property
    def settings(self) -> dict[str, str]:
        return {
            "client_id": APP_ID,
            "tenant_id": TENANT,
            "api_base": f"{self.http.url}/login",
            "keys_base": f"{self.http.url}/keys",
        }

    @property
    def service_url(self) -> str:
        return f"{self.http.url}/emea/"

    def answer(self, request: Request) -> Response:
        if request.path == f"/login/{TENANT}/oauth2/v2.0/token":
            return self._token(request)
        if request.path == "/keys/v1/.well-known/openidconfiguration":
            return _json(
                {
                    "issuer": "https://api.botframework.com",
                    "jwks_uri": f"{self.http.url}/keys/v1/.well-known/keys",
                    "id_token_signing_alg_values_supported": ["RS256"],
                }
            )
        if request.path == "/keys/v1/.well-known/keys":
            return _json({"keys": [{**jwk(name), "endorsements": list(self.endorsements)} for name in self.keys]})
        if request.headers.get("authorization") != "Bearer bot-token":
            return _error(401, "Unauthorized")
        match = _ACTIVITIES.fullmatch(request.path.removeprefix("/emea"))
        if match is None:
            return _error(404, "NotFound")
        if self.answers:
            return self.answers.pop(0)
        activity = {**request.json(), "conversation": unquote(match[1]), "id": unquote(match[2] or "")}
        if problem := _problem(activity):
            return _error(400, problem)
        if request.method == "PUT":
            self.updates.append(activity)
            return _json({"id": activity["id"]})
        self.messages.append(activity)
        return _json({"id": f"1:{len(self.messages)}"}, 201)

    def _token(self, request: Request) -> Response:
        form = {name: values[0] for name, values in parse_qs(request.body.decode()).items()}
        if (form["grant_type"], form["scope"]) != ("client_credentials", "https://api.botframework.com/.default"):
            return _json({"error": "invalid_request"}, 400)
        if (form["client_id"], form["client_secret"]) != (APP_ID, self.secret):
            return _json({"error": "invalid_client", "error_description": "AADSTS7000215"}, 401)
        return _json({"token_type": "Bearer", "expires_in": 3599, "access_token": "bot-token"})

    def signed(self, activity: Mapping[str, Any], at: datetime, key: str = "first", **claims: Any) -> dict[str, str]:
        """The headers of a request in which Microsoft posts the activity."""
        return token_headers(activity, at, key, **claims)

    def activity(self, kind: str, sender: str = ALICE, **values: Any) -> dict[str, Any]:
        """An activity in the personal chat of somebody with the bot."""
        return {
            "type": kind,
            "id": "f:1",
            "channelId": "msteams",
            "serviceUrl": self.service_url,
            "from": {"id": f"29:{sender[:8]}", "aadObjectId": sender, "name": "Alice"},
            "recipient": {"id": f"28:{APP_ID}", "name": "Tocsin"},
            "conversation": {"id": f"a:{sender[:8]}", "conversationType": "personal", "tenantId": TENANT},
            "channelData": {"tenant": {"id": TENANT}},
            **values,
        }

    def press(self, message: Mapping[str, Any], command: str, sender: str = ALICE, **inputs: str) -> dict[str, Any]:
        """The activity that tells of a pressed button of a card, with what was entered."""
        action = next(one for one in executes(message) if one["verb"] == command)
        value = {
            "action": {"type": "Action.Execute", "verb": command, "data": {**action["data"], **inputs}},
            "trigger": "manual",
        }
        return self.activity("invoke", sender, name="adaptiveCard/action", value=value)


def executes(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The buttons of a message's card that carry out a command, those behind a field included."""
    found = []
    for action in message["attachments"][0]["content"]["actions"]:
        found += action["card"]["actions"] if action["type"] == "Action.ShowCard" else [action]
    return [action for action in found if action["type"] == "Action.Execute"]


def token_headers(activity: Mapping[str, Any], at: datetime, key: str = "first", **claims: Any) -> dict[str, str]:
    right = {
        "serviceurl": activity.get("serviceUrl"),
        "iss": "https://api.botframework.com",
        "aud": APP_ID,
        "nbf": int(at.timestamp()) - 60,
        "exp": int((at + timedelta(hours=1)).timestamp()),
        **claims,
    }
    token = jwt.encode(right, rsa_key(key), algorithm="RS256", headers={"kid": key})
    return {"Authorization": f"Bearer {token}"}


def _problem(activity: Mapping[str, Any]) -> str:
    """What Teams would refuse a message for."""
    if len(json.dumps(activity, ensure_ascii=False).encode()) > 28_000:
        return "MessageSizeTooBig"
    for attachment in activity.get("attachments", []):
        card = attachment["content"]
        if (attachment["contentType"], card["type"]) != ("application/vnd.microsoft.card.adaptive", "AdaptiveCard"):
            return "BadSyntax"
        if len(card["actions"]) > 6 or not {action["type"] for action in card["actions"]} <= _ACTIONS:
            return "BadArgument"
    return "" if activity.get("attachments") or activity.get("text") else "BadSyntax"


def _json(document: Mapping[str, Any], status: int = 200) -> Response:
    return Response(status, json.dumps(document).encode())


def _error(status: int, code: str) -> Response:
    return _json({"error": {"code": code, "message": f"{code}."}}, status)


@contextmanager
def teams_double() -> Iterator[TeamsDouble]:
    """Running servers."""
    with http_double() as http:
        double = TeamsDouble(http)
        http.answering = double.answer
        yield double
