"""Signing in by a SAML provider of npm, which signs and parses with other libraries than Tocsin."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from tests.support.saml_provider import NpmSamlProvider, npm_saml_provider
from tests.web.conftest import Company
from tocsin.access.audit import COMMAND_LINE
from tocsin.access.models import AuditEntry
from tocsin.core.runtime import clock
from tocsin.identity import commands
from tocsin.identity.models import BrowserSession, LinkedIdentity
from tocsin.identity.saml import own_metadata
from tocsin.people.models import Membership, User

BASE = "/accounts/saml/acme/"


@pytest.fixture
def provider(company: Company, tmp_path: Path) -> Iterator[NpmSamlProvider]:
    base = f"http://localhost:8686{BASE}"
    known = own_metadata(entity_id=f"{base}metadata/", acs_url=f"{base}acs/")
    with npm_saml_provider(tmp_path, known) as provider:
        spec = {
            "name": "Acme",
            "kind": "saml",
            "metadata": provider.metadata,
            "allow_private": True,
            "sign_up": True,
            "allowed_domains": ["example.org"],
            "roles": [
                {"claim": "Desk", "role": "responder", "groups": [{"group": "Night"}]},
                {"claim": "Admins", "role": "admin"},
            ],
        }
        saved = commands.save_provider(spec, actor=COMMAND_LINE, now=clock.now())
        assert Client().get(f"{BASE}metadata/").content.decode() == known
        assert saved.issuer == f"{provider.url}/metadata"
        yield provider


def sign_in(provider: NpmSamlProvider, login: str) -> tuple[Client, Any]:
    client = Client()
    begun = client.get(f"{BASE}login/", {"next": "/alerts/"})
    # Browsers send no cookie with a form that another site posts.
    posted = Client().post(f"{BASE}acs/", provider.sign_in(begun["Location"], login))
    return client, client.get(posted["Location"])


def test_first_sign_in_by_npm_saml_provider_creates_the_user(company: Company, provider: NpmSamlProvider) -> None:
    client, response = sign_in(provider, "ann")
    assert response["Location"] == "/alerts/"
    assert client.get("/me/").status_code == 200
    ann = User.objects.get(username="ann")
    assert (ann.email, ann.name, ann.role) == ("ann@example.org", "Ann", "responder")
    assert Membership.objects.get(user=ann).group == company.night
    assert LinkedIdentity.objects.get().subject == "ann"
    assert BrowserSession.objects.get().sid == "s-ann"


def test_address_of_another_domain_at_npm_saml_provider_is_refused(company: Company, provider: NpmSamlProvider) -> None:
    client, response = sign_in(provider, "eve")
    assert response["Location"].startswith("/account/login/")
    assert client.get("/me/").status_code == 302
    refusal = AuditEntry.objects.get(action="sign_in_refused")
    assert (
        refusal.after["reason"]["code"]
        == 'The provider does not confirm the address {email}: the claim "email_verified" is not true.'
    )
