"""Signing in by LemonLDAP::NG, whose users are in OpenLDAP: by SAML, and by OpenID Connect."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client

from tests.support.lemonldap import CLIENT_SECRET, LemonLdap, lemonldap
from tests.web.conftest import Company
from tocsin.access.audit import COMMAND_LINE
from tocsin.access.models import AuditEntry
from tocsin.core.runtime import clock
from tocsin.identity import commands, oidc_tokens
from tocsin.identity.models import LinkedIdentity
from tocsin.identity.saml import own_metadata
from tocsin.people.models import Membership, User

pytestmark = pytest.mark.long

_BASE = "http://localhost:8686/accounts"
_ROLES = [{"claim": "Desk", "role": "responder", "groups": [{"group": "Night"}]}]


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LemonLdap]:
    known = own_metadata(entity_id=f"{_BASE}/saml/acme/metadata/", acs_url=f"{_BASE}/saml/acme/acs/")
    folder = tmp_path_factory.mktemp("lemonldap")
    with lemonldap(folder, saml_metadata=known, redirect_uri=f"{_BASE}/oidc/acme/login/callback/") as running:
        yield running


def save(**values: Any) -> None:
    oidc_tokens.DOCUMENTS.clear()
    common = {"name": "Acme", "allow_private": True, "sign_up": True, "allowed_domains": ["example.org"]}
    commands.save_provider({**common, "roles": _ROLES, **values}, actor=COMMAND_LINE, now=clock.now())


def check_ann(company: Company, client: Client, response: Any) -> None:
    assert response["Location"] == "/alerts/", str(AuditEntry.objects.latest("pk").after)
    assert client.get("/me/").status_code == 200
    ann = User.objects.get(username="ann")
    assert (ann.email, ann.name, ann.role) == ("ann@example.org", "Ann Andersson", "responder")
    assert Membership.objects.get(user=ann).group == company.night


def sign_in_by_saml(provider: LemonLdap, login: str) -> tuple[Client, Any]:
    client = Client()
    begun = client.get("/accounts/saml/acme/login/", {"next": "/alerts/"})
    target, form = provider.sign_in(begun["Location"], login)
    assert target == f"{_BASE}/saml/acme/acs/", form
    posted = Client().post("/accounts/saml/acme/acs/", form)
    return client, client.get(posted["Location"])


def test_saml_of_lemonldap_signs_in(company: Company, provider: LemonLdap) -> None:
    save(kind="saml", metadata_url=f"{provider.url}/saml/metadata")
    client, response = sign_in_by_saml(provider, "ann")
    check_ann(company, client, response)
    subject = LinkedIdentity.objects.get().subject
    sign_in_by_saml(provider, "ann")
    assert LinkedIdentity.objects.get().subject == subject
    other, response = sign_in_by_saml(provider, "eve")
    assert other.get("/me/").status_code == 302
    refusal = AuditEntry.objects.get(action="sign_in_refused")
    assert refusal.after["reason"]["code"] in (
        "None of your groups at {provider} gives access. Ask an administrator.",
        'The provider sent no claim "{claim}", so nothing gives access. Configure the provider to send it.',
    )


def test_openid_connect_of_lemonldap_signs_in(company: Company, provider: LemonLdap) -> None:
    save(issuer=f"{provider.url}/", client_id="tocsin", client_secret=CLIENT_SECRET)
    client = Client()
    begun = client.get("/accounts/oidc/acme/login/", {"next": "/alerts/"})
    target, _form = provider.sign_in(begun["Location"], "ann")
    check_ann(company, client, client.get(target.removeprefix("http://localhost:8686")))
