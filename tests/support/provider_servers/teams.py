"""Microsoft's servers behind the kind `teams`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from tests.doubles.http import Response
from tests.doubles.openid import jwk
from tests.doubles.teams import ALICE, APP_ID, TENANT, teams_double, token_headers
from tests.support.provider_servers.interface import SECRET, ProviderServer, Signing, refusals
from tocsin.identity.oidc_tokens import DOCUMENTS
from tocsin.notify.interfaces import Callback, ChatPlace, ProviderAccount


@contextmanager
def teams_server() -> Iterator[ProviderServer]:
    with teams_double() as double:
        double.secret = SECRET

        def refused(status: int, code: str) -> Response:
            return Response(status, json.dumps({"error": {"code": code, "message": "Refused"}}).encode())

        def answer(how: str) -> None:
            answers = {
                "temporary": Response(502),
                "permanent": refused(400, "BadSyntax"),
                "unknown": Response(hangs_up=True),
            }
            double.answers.append(answers[how])

        def keys() -> list[str]:
            posts = (request for request in double.http.requests if "/activities" in request.path)
            return [request.headers.get("idempotency-key", "") for request in posts]

        account = ProviderAccount(
            "Teams",
            double.settings,
            {"client_secret": SECRET},
            callback_base_url="https://tocsin.example.org/hooks/teams",
            find_place=lambda _bot, _address: ChatPlace(double.service_url, "a:1"),
        )
        answers = {
            "credentials": refused(401, "Unauthorized"),
            "unpaid": refused(402, "PaymentRequired"),
            "sender": refused(403, "BotNotInConversationRoster"),
            "policy": refused(403, "MessageWritesBlocked"),
            "quota": refused(400, "QuotaExceeded"),
        }
        yield ProviderServer(
            account, f"teams:{ALICE}", "chat", answer, keys, lambda: len(double.messages), double.answers.append,
            refuse=refusals(double.answers.append, answers),
        )  # fmt: skip


_BASE = "http://127.0.0.1:9"


def _signed(callback: Callback) -> Mapping[str, str]:
    # No server listens: what it would answer is in the cache.
    DOCUMENTS[f"True {_BASE}/v1/.well-known/openidconfiguration"] = (callback.at, {"jwks_uri": f"{_BASE}/keys"})
    DOCUMENTS[f"True {_BASE}/keys"] = (callback.at, {"keys": [{**jwk("first"), "endorsements": ["msteams"]}]})
    try:
        activity = json.loads(callback.body)
    except (ValueError, RecursionError):
        activity = {}
    named = activity if isinstance(activity, dict) else {}
    return {name.lower(): value for name, value in token_headers(named, callback.at).items()}


_ACTIVITY = {
    "type": "message",
    "id": "1",
    "channelId": "msteams",
    "serviceUrl": _BASE,
    "from": {"id": "29:1", "aadObjectId": ALICE},
    "conversation": {"id": "a:1", "conversationType": "personal", "tenantId": TENANT},
    "channelData": {"tenant": {"id": TENANT}, "channel": {"id": "19:abcdef@thread.tacv2"}},
    "text": "<at>Tocsin</at> on call",
    "value": {"action": {"verb": "acknowledge", "data": {"tocsin": "hold:1", "text": "1h"}}},
    "membersRemoved": [{"id": f"28:{APP_ID}"}],
}

SIGNING = Signing(
    ProviderAccount(
        "Vendor",
        {"api_base": _BASE, "keys_base": _BASE, "client_id": APP_ID, "tenant_id": TENANT},
        {"client_secret": "secret"},
        is_trusted=True,
    ),
    _signed,
    ("messages",),
    (
        _ACTIVITY,
        {**_ACTIVITY, "type": "invoke", "name": "adaptiveCard/action"},
        {**_ACTIVITY, "type": "conversationUpdate"},
        {**_ACTIVITY, "type": "installationUpdate", "action": "add"},
    ),
)
