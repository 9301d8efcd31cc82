"""Signing in by the certified OpenID provider of npm."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.test import Client

from tests.support.openid_provider import CertifiedProvider, certified_provider
from tests.web.conftest import Company
from tocsin.access.audit import COMMAND_LINE
from tocsin.access.models import AuditEntry
from tocsin.core.runtime import clock
from tocsin.identity import commands, oidc_tokens
from tocsin.identity.models import LinkedIdentity
from tocsin.people.models import Membership, User

LOGIN = "/accounts/oidc/acme/login/"


@pytest.fixture
def provider(company: Company) -> Iterator[CertifiedProvider]:
    oidc_tokens.DOCUMENTS.clear()
    base = "http://localhost:8686/accounts/oidc/acme"
    with certified_provider(
        redirect_uri=f"{base}/login/callback/", logout_uri=f"{base}/backchannel-logout/"
    ) as provider:
        spec = {
            "name": "Acme",
            "issuer": provider.issuer,
            "allow_private": True,
            "client_id": "tocsin",
            "client_secret": "a-client-secret",
            "sign_up": True,
            "allowed_domains": ["example.org"],
            "roles": [
                {"claim": "Desk", "role": "responder", "groups": [{"group": "Night"}]},
                {"claim": "Admins", "role": "admin"},
            ],
        }
        commands.save_provider(spec, actor=COMMAND_LINE, now=clock.now())
        yield provider


def test_first_sign_in_by_certified_provider_creates_the_user(company: Company, provider: CertifiedProvider) -> None:
    client = Client()
    begun = client.get(LOGIN, {"next": "/alerts/"})
    response = client.get(provider.authorize(begun["Location"], "ann"))
    assert response["Location"] == "/alerts/"
    assert client.get("/me/").status_code == 200
    ann = User.objects.get(username="ann")
    assert (ann.email, ann.role) == ("ann@example.org", "responder")
    assert Membership.objects.get(user=ann).group == company.night
    identity = LinkedIdentity.objects.get()
    assert (identity.issuer, identity.subject) == (provider.issuer, "ann")


def test_unverified_address_at_certified_provider_is_refused(company: Company, provider: CertifiedProvider) -> None:
    client = Client()
    begun = client.get(LOGIN)
    response = client.get(provider.authorize(begun["Location"], "eve"))
    assert response["Location"] == "/account/login/"
    assert client.get("/me/").status_code == 302
    refusal = AuditEntry.objects.get(action="sign_in_refused")
    assert (
        refusal.after["reason"]["code"]
        == 'The provider does not confirm the address {email}: the claim "email_verified" is not true.'
    )
