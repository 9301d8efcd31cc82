"""What a provider of OpenID Connect answers, and why nobody can sign in by it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.doubles.http import Request, Response, http_double
from tests.support.outbox_harness import allow_loopback
from tocsin.access.roles import Role
from tocsin.core.errors import Rejected
from tocsin.core.reasons import Reason
from tocsin.identity import oidc_tokens, sign_in
from tocsin.identity.oidc import ProviderClient, ProviderSettings
from tocsin.identity.role_mapping import Claims, MappedRoles
from tocsin.identity.sign_in import CandidateUser, ProviderRules

NOW = datetime(2026, 11, 24, 9, 15, tzinfo=UTC)


def rejection(
    monkeypatch: pytest.MonkeyPatch,
    use: Callable[[ProviderClient], Any],
    token: Response | None = None,
    **left_out: None,
) -> Reason:
    """Why `use` fails at a provider that answers the exchange of a code with `token`."""
    allow_loopback(monkeypatch)
    oidc_tokens.DOCUMENTS.clear()
    with http_double() as server:
        endpoints = {name: f"{server.url}/{name}" for name in ("authorization_endpoint", "token_endpoint", "jwks_uri")}
        document = {"issuer": server.url, **endpoints, "userinfo_endpoint": f"{server.url}/userinfo", **left_out}

        def answer(request: Request) -> Response:
            if request.path.endswith("openid-configuration"):
                return Response(200, json.dumps(document).encode())
            return token or Response(404)

        server.answering = answer
        settings = ProviderSettings("Login", server.url, "tocsin", "secret", True)
        with ProviderClient(settings, NOW) as client, pytest.raises(Rejected) as rejected:
            use(client)
    return rejected.value.reason


def exchange(client: ProviderClient) -> None:
    client.exchange("code", code_verifier="v", redirect_uri="https://t.example/back")


def test_missing_endpoint_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    reason = rejection(monkeypatch, ProviderClient.discovery, token_endpoint=None)
    assert (reason.code, reason.data) == (
        "The provider's discovery document has no {name}.",
        {"name": "token_endpoint"},
    )


@pytest.mark.parametrize(
    ("token", "code", "data"),
    [
        (
            Response(400, b'{"error": "invalid_grant"}'),
            "{provider} rejected the sign-in: {error}.",
            {"provider": "Login"},
        ),
        (
            Response(400, b'{"error": "invalid_client"}'),
            "{provider} rejected the client ID or the client secret: {error}. Correct client_secret.",
            {"provider": "Login"},
        ),
        (
            Response(502, b"<html>"),
            "{provider} answered {url} with {status} and no usable document.",
            {"provider": "Login", "status": "502"},
        ),
    ],
)
def test_answer_to_a_code_says_why_it_is_rejected(
    monkeypatch: pytest.MonkeyPatch, token: Response, code: str, data: dict[str, str]
) -> None:
    reason = rejection(monkeypatch, exchange, token)
    assert reason.code == code
    assert reason.data == {**reason.data, **data}


RULES = ProviderRules("Login", "login", {}, True, (), Role.RESPONDER, (), True)
USER = CandidateUser(7, "bot", Role.RESPONDER, "", None, True, False, False, True)
CLAIMS = Claims("https://login.example", "subject")


def test_service_account_cannot_sign_in() -> None:
    reason = sign_in._refuse_identity(CLAIMS, RULES, replace(USER, is_service_account=True), None)
    assert (reason.code, reason.data) == (
        "{user} is a service account, which never signs in.",
        {"user": {"name": "bot", "user": 7}},
    )


def test_role_without_a_claim_is_the_default() -> None:
    reason = sign_in._role_reason(MappedRoles(Role.RESPONDER))
    assert (reason.code, reason.data) == ("role {role}, the default", {"role": {"term": "responder"}})
