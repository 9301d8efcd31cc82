"""Signing in by SAML: the whole path, and what a forging provider or a thief of responses achieves: nothing."""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.messages import get_messages
from django.test import Client
from lxml import etree

from tests.doubles.http import Response, http_double
from tests.doubles.saml import (
    ACS_URL,
    ENTITY_ID,
    ISSUER,
    NAMES,
    SSO_URL,
    SamlDouble,
    certificate,
    metadata,
    naively_verifies,
    request_of,
    wrap,
)
from tests.web.conftest import Company
from tocsin.access.audit import COMMAND_LINE
from tocsin.access.models import AuditEntry
from tocsin.core.runtime import clock
from tocsin.identity import commands, oidc_tokens
from tocsin.identity.models import BrowserSession, IdentityProvider, LinkedIdentity
from tocsin.people.models import Membership, User

LOGIN, ACS, LOGIN_PAGE = "/accounts/saml/acme/login/", "/accounts/saml/acme/acs/", "/account/login/"


@pytest.fixture
def idp() -> SamlDouble:
    oidc_tokens.DOCUMENTS.clear()
    attributes = {"username": "ann", "email": "ann@example.org", "name": "Ann", "groups": ["Desk"]}
    return SamlDouble(clock.now, attributes=attributes)


def save(**changes: Any) -> IdentityProvider:
    spec = {
        "name": "Acme",
        "kind": "saml",
        "metadata": metadata(certificate("first")),
        "sign_up": True,
        "allowed_domains": ["example.org"],
        "roles": [
            {"claim": "Desk", "role": "responder", "groups": [{"group": "Night", "on_call_roles": ["primary"]}]},
            {"claim": "Admins", "role": "admin"},
        ],
        **changes,
    }
    spec = {name: value for name, value in spec.items() if value is not None}
    return commands.save_provider(spec, existing=IdentityProvider.objects.first(), actor=COMMAND_LINE, now=clock.now())


def post(response: str, relay_state: str = "") -> str:
    """What a browser posts from another site, without its cookies; returns where it is sent."""
    answer = Client().post(ACS, {"SAMLResponse": response, "RelayState": relay_state})
    assert answer.status_code == 302
    return str(answer["Location"])


def sign_in(idp: SamlDouble, client: Client | None = None, *, query: str = "") -> tuple[Client, Any]:
    client = client or Client()
    begun = client.get(f"{LOGIN}{query}")
    assert begun["Location"].startswith(SSO_URL)
    request_id, relay_state = request_of(begun["Location"])
    return client, client.get(post(idp.respond(request_id), relay_state))


def is_in(client: Client) -> bool:
    return client.get("/me/").status_code == 200


def refused(client: Client, response: Any) -> str:
    """What the sign-in page says, after nobody was signed in."""
    assert response.status_code == 302
    assert response["Location"].startswith(LOGIN_PAGE)
    page = client.get(response["Location"])
    assert not is_in(client)
    assert not User.objects.filter(username="ann").exists()
    return " ".join(str(message) for message in get_messages(page.wsgi_request)) + page.content.decode()


def last_refusal() -> str:
    entry = AuditEntry.objects.filter(action="sign_in_refused").latest("pk")
    return str(entry.after["reason"]["code"])


@pytest.mark.parametrize("signed", [("Assertion",), ("Response",), ("Assertion", "Response")], ids=str)
def test_first_sign_in_creates_the_user_with_what_groups_grant(
    company: Company, idp: SamlDouble, signed: tuple[str, ...]
) -> None:
    save()
    idp.signed = signed
    client, response = sign_in(idp, query="?next=/alerts/%3Fstatus%3Dopen")
    assert response["Location"] == "/alerts/?status=open"
    assert is_in(client)
    ann = User.objects.get(username="ann")
    assert (ann.email, ann.name, ann.role, ann.role_source) == ("ann@example.org", "Ann", "responder", "acme")
    assert not ann.has_usable_password()
    assert Membership.objects.get(user=ann).group == company.night
    identity = LinkedIdentity.objects.get()
    assert (identity.issuer, identity.subject) == (ISSUER, "ann-1")
    signed_in = AuditEntry.objects.get(action="sign_in")
    assert (signed_in.after["provider"], signed_in.after["groups"]) == ("Acme", ["Desk"])
    assert BrowserSession.objects.get().sid == "session-1"


def test_metadata_name_the_addresses(company: Company) -> None:
    save()
    answer = Client().get("/accounts/saml/acme/metadata/")
    assert answer["Content-Type"] == "application/samlmetadata+xml"
    root = etree.fromstring(answer.content)
    assert root.get("entityID") == ENTITY_ID
    service = root.find(".//{urn:oasis:names:tc:SAML:2.0:metadata}AssertionConsumerService")
    assert service.get("Location") == ACS_URL
    assert Client().get("/accounts/saml/nobody/metadata/").status_code == 404
    assert Client().get("/accounts/oidc/acme/login/").status_code == 404


FORGED: dict[str, dict[str, Any]] = {
    "wrong audience": {"audience": "https://other.example.org/"},
    "wrong recipient": {"recipient": "https://other.example.org/acs/"},
    "recipient with a suffix": {"recipient": f"{ACS_URL}evil/"},
    "wrong destination": {"destination": "https://other.example.org/acs/"},
    "wrong issuer": {"issuer": "https://evil.example.org/"},
    "another request": {"in_response_to": "_0123456789"},
    "status": {"status": "urn:oasis:names:tc:SAML:2.0:status:Responder"},
    "unsolicited": {"in_response_to": ""},
    "no expiry": {"not_after": ""},
}
TEXTS = {
    "wrong audience": "not meant for this application",
    "wrong recipient": "other.example.org/acs/",
    "recipient with a suffix": "acs/evil/",
    "wrong destination": "other.example.org/acs/",
    "wrong issuer": "evil.example.org",
    "another request": "belongs to another sign-in",
    "status": "Responder",
    "unsolicited": "The sign-in began at Acme",
    "no expiry": "cannot be read",
}


@pytest.mark.parametrize("attack", FORGED)
def test_response_for_something_else_is_refused(company: Company, idp: SamlDouble, attack: str) -> None:
    save()
    idp.changes = FORGED[attack]
    client, response = sign_in(idp)
    assert TEXTS[attack] in refused(client, response)


@pytest.mark.parametrize(("minutes", "text"), [(-10, "has expired"), (10, "not valid yet")])
def test_a_clock_that_is_10_minutes_off_is_refused(company: Company, idp: SamlDouble, minutes: int, text: str) -> None:
    save()
    idp.now = lambda: clock.now() + timedelta(minutes=minutes)
    client, response = sign_in(idp)
    assert text in refused(client, response)


@pytest.mark.parametrize("seconds", [-50, 50])
def test_clocks_may_differ_by_a_minute(company: Company, idp: SamlDouble, seconds: int) -> None:
    save()
    idp.now = lambda: clock.now() + timedelta(seconds=seconds)
    idp.changes = {"not_after": idp.now().isoformat()} if seconds < 0 else {"not_before": idp.now().isoformat()}
    client, _response = sign_in(idp)
    assert is_in(client)


@pytest.mark.parametrize("number", range(1, 9))
def test_signature_wrapping_signs_nobody_in(company: Company, idp: SamlDouble, number: int) -> None:
    save()
    idp.signed = ("Response",) if number <= 2 else ("Assertion",)

    def forge(root: Any) -> Any:
        forged = wrap(number)(root)
        # The signature holds, for what nobody should read; xmlsec itself leaves out what is within the signature.
        holds = naively_verifies(etree.fromstring(etree.tostring(forged)), "first")
        assert holds == (number not in (1, 6, 8))
        return forged

    idp.forge = forge
    client, response = sign_in(idp)
    refused(client, response)
    assert not LinkedIdentity.objects.exists()


def _changed(root: Any) -> Any:
    root.find(".//saml:NameID", NAMES).text = "alice-1"
    return root


def _stripped(root: Any) -> Any:
    signature = root.find(".//ds:Signature", NAMES)
    signature.getparent().remove(signature)
    return root


def _emptied(root: Any) -> Any:
    signature = root.find(".//ds:Signature", NAMES)
    for child in list(signature):
        signature.remove(child)
    return root


def _second_reference(root: Any) -> Any:
    info = root.find(".//ds:SignedInfo", NAMES)
    info.append(etree.fromstring(etree.tostring(info.find("ds:Reference", NAMES))))
    return root


def _transform(root: Any) -> Any:
    transform = root.find(".//ds:Transform", NAMES)
    transform.set("Algorithm", "http://www.w3.org/TR/1999/REC-xslt-19991116")
    return root


def _same_id(root: Any) -> Any:
    root.set("ID", root.find("saml:Assertion", NAMES).get("ID"))
    return root


def _entities(root: Any) -> bytes:
    entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 12))
    document = etree.tostring(root).decode().replace("ann-1", "&e11;")
    return f'<!DOCTYPE r [<!ENTITY e0 "aaaaaaaaaa">{entities}]>{document}'.encode()


def _outside_entity(root: Any) -> bytes:
    document = etree.tostring(root).decode().replace("ann-1", "&x;")
    return f'<!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/passwd">]>{document}'.encode()


TAMPERED = {
    "changed": (_changed, "signature of the provider"),
    "unsigned": (_stripped, "is not signed"),
    "empty signature": (_emptied, "signature of the provider"),
    "second reference": (_second_reference, "signature of the provider"),
    "another transform": (_transform, "xslt"),
    "same id twice": (_same_id, "signature of the provider"),
    "entity expansion": (_entities, "cannot be read"),
    "outside entity": (_outside_entity, "cannot be read"),
    "no XML": (lambda root: b"nothing", "cannot be read"),
    "nothing": (lambda root: b"", "cannot be read"),
    "another element": (lambda root: b"<Response/>", "cannot be read"),
}


@pytest.mark.parametrize("attack", TAMPERED)
def test_tampered_response_is_refused(company: Company, idp: SamlDouble, attack: str) -> None:
    save()
    idp.forge, text = TAMPERED[attack]
    client, response = sign_in(idp)
    assert text in refused(client, response)
    assert last_refusal()


ALGORITHMS = {
    "SHA-1": ("http://www.w3.org/2000/09/xmldsig#rsa-sha1", "http://www.w3.org/2001/04/xmlenc#sha256"),
    "SHA-1 digest": (
        "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256",
        "http://www.w3.org/2000/09/xmldsig#sha1",
    ),
    "HMAC": ("http://www.w3.org/2001/04/xmldsig-more#hmac-sha256", "http://www.w3.org/2001/04/xmlenc#sha256"),
}


@pytest.mark.parametrize("name", ALGORITHMS)
def test_weak_and_symmetric_algorithms_are_refused(company: Company, idp: SamlDouble, name: str) -> None:
    save()
    idp.signature_method, idp.digest_method = ALGORITHMS[name]
    client, response = sign_in(idp)
    assert "which is not accepted" in refused(client, response)


def test_a_strangers_key_is_refused(company: Company, idp: SamlDouble) -> None:
    save()
    idp.signs_with = "stranger"
    client, response = sign_in(idp)
    assert "signature of the provider" in refused(client, response)


def test_a_comment_in_the_subject_changes_nothing(company: Company, idp: SamlDouble) -> None:
    """A provider signs `alice<!---->.evil`; elsewhere, only the part before the comment was read."""
    save()
    idp.subject = "alice-1<!-- -->.evil"
    idp.attributes["email"] = "ann@example.org"
    client, _response = sign_in(idp)
    assert is_in(client)
    assert LinkedIdentity.objects.get().subject == "alice-1.evil"

    def insert(root: Any) -> bytes:
        return etree.tostring(root).replace(b"alice-1.evil", b"alice-1<!-- -->.evil")

    idp.subject, idp.forge = "alice-1.evil", insert
    other, _response = sign_in(idp)
    assert is_in(other)
    assert LinkedIdentity.objects.count() == 1


def test_a_response_works_once(company: Company, idp: SamlDouble) -> None:
    save()
    client = Client()
    request_id, relay_state = request_of(client.get(LOGIN)["Location"])
    stolen = idp.respond(request_id)
    ticket = post(stolen, relay_state)
    # The thief's request comes first to the node, the victim's browser second.
    thief = Client()
    assert "not started in this browser" in refused(thief, thief.get(ticket))
    assert "not started in this browser" in refused(client, client.get(ticket)), "a ticket works once"
    assert "used before" in refused(client, client.get(post(stolen, relay_state)))


def test_response_in_another_browser_is_refused(company: Company, idp: SamlDouble) -> None:
    save()
    request_id, relay_state = request_of(Client().get(LOGIN)["Location"])
    victim = Client()
    response = victim.get(post(idp.respond(request_id), relay_state))
    assert "not started in this browser" in refused(victim, response)


def test_sign_in_from_the_provider_needs_the_option(company: Company, idp: SamlDouble) -> None:
    save(idp_initiated=True)
    idp.changes = {"in_response_to": ""}
    client = Client()
    response = client.get(post(idp.respond(""), "https://evil.example/"))
    assert response["Location"] == "/"
    assert is_in(client)


@pytest.mark.parametrize(
    "target", ["https://evil.example/", "//evil.example/", "/\\evil.example", "javascript:alert(1)"]
)
def test_relay_state_never_leads_to_another_site(company: Company, idp: SamlDouble, target: str) -> None:
    save()
    client = Client()
    request_id, relay_state = request_of(client.get(LOGIN, {"next": target})["Location"])
    assert client.get(post(idp.respond(request_id), relay_state))["Location"] == "/"
    other = Client()
    request_id, _relay_state = request_of(other.get(LOGIN)["Location"])
    assert other.get(post(idp.respond(request_id), target))["Location"].startswith(LOGIN_PAGE)


def test_address_of_an_administrator_needs_its_domain(company: Company, idp: SamlDouble) -> None:
    save(allowed_domains=["example.net"])
    idp.attributes["email"] = "alice@example.org"
    client, response = sign_in(idp)
    refused(client, response)
    assert (
        last_refusal() == 'The provider does not confirm the address {email}: the claim "email_verified" is not true.'
    )
    save()
    idp.attributes["email_verified"] = "false"
    client, response = sign_in(idp)
    refused(client, response)
    assert (
        last_refusal() == 'The provider does not confirm the address {email}: the claim "email_verified" is not true.'
    )
    assert not LinkedIdentity.objects.exists()


def test_transient_subjects_are_refused(company: Company, idp: SamlDouble) -> None:
    save()
    idp.name_id_format = "urn:oasis:names:tc:SAML:2.0:nameid-format:transient"
    client, response = sign_in(idp)
    assert "changes at each sign-in" in refused(client, response)


def test_two_certificates_are_accepted_while_they_roll_over(company: Company, idp: SamlDouble) -> None:
    provider = save(certificates=[certificate("second")])
    assert commands.provider_spec(provider)["certificates"] == [certificate("first"), certificate("second")]
    for key in ("first", "second"):
        idp.signs_with = key
        client, _response = sign_in(idp)
        assert is_in(client)


def test_expired_certificate_is_named(company: Company, idp: SamlDouble) -> None:
    provider = save()
    old = certificate("first", begin=datetime(2019, 1, 1, tzinfo=UTC), days=365)
    IdentityProvider.objects.filter(pk=provider.pk).update(saml={"sso_url": SSO_URL, "certificates": [old]})
    client, response = sign_in(idp)
    assert "no certificate that is valid now" in refused(client, response)


def test_new_certificates_in_the_metadata_are_followed(company: Company, idp: SamlDouble) -> None:
    with http_double() as http:
        http.answering = lambda request: Response(body=metadata(certificate("first")).encode())
        save(metadata=None, metadata_url=f"{http.url}/metadata", allow_private=True)
        client, _response = sign_in(idp)
        assert is_in(client)
        http.answering = lambda request: Response(body=metadata(certificate("second")).encode())
        idp.signs_with = "second"
        oidc_tokens.DOCUMENTS.update(
            {key: (at - timedelta(seconds=11), one) for key, (at, one) in oidc_tokens.DOCUMENTS.items()}
        )
        client, _response = sign_in(idp)
        assert is_in(client)
        http.answering = lambda request: Response(hangs_up=True)
        oidc_tokens.DOCUMENTS.clear()
        client = Client()
        page = client.get(client.get(LOGIN)["Location"])
        assert "Acme does not answer" in page.content.decode()


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"<html/>", "are not the SAML metadata"),
        (metadata(certificate("first"), valid_until="2020-01-01T00:00:00Z").encode(), "expired"),
        (metadata().encode(), "no certificate"),
        (metadata(certificate("weak")).encode(), "have an RSA key of 1,024 bits"),
    ],
    ids=["no metadata", "expired", "no certificate", "weak key"],
)
def test_bad_metadata_are_said(company: Company, body: bytes, text: str) -> None:
    oidc_tokens.DOCUMENTS.clear()
    with http_double() as http:
        http.answering = lambda request: Response(body=body)
        save(metadata=None, metadata_url=f"{http.url}/metadata", allow_private=True)
        client = Client()
        page = client.get(client.get(LOGIN)["Location"])
        assert text in page.content.decode()


def test_disabled_provider_signs_nobody_in(company: Company, idp: SamlDouble) -> None:
    save()
    client = Client()
    request_id, relay_state = request_of(client.get(LOGIN)["Location"])
    save(enabled=False)
    assert Client().get(LOGIN).status_code == 404
    assert client.get(post(idp.respond(request_id), relay_state)).status_code == 404
    assert not is_in(client)


def test_test_sign_in_shows_attributes_and_changes_nothing(
    company: Company, idp: SamlDouble, browser_of: Callable[[User], Client]
) -> None:
    save(enabled=False)
    admin = browser_of(company.admin)
    _client, response = sign_in(idp, admin, query="?test")
    page = response.content.decode()
    assert "The user ann is created" in page
    assert "member of Night" in page
    assert "NameID" in page
    assert not User.objects.filter(username="ann").exists()
    idp.signed = ()
    _client, response = sign_in(idp, admin, query="?test")
    assert "is not signed" in response.content.decode()
    assert admin.get("/system/").status_code == 200, "still signed in as before"


def test_only_administrators_test(company: Company, idp: SamlDouble, browser_of: Callable[[User], Client]) -> None:
    save()
    assert Client().get(f"{LOGIN}?test").status_code == 403
    assert browser_of(company.manager).get(f"{LOGIN}?test").status_code == 403


def test_entra_link_instead_of_groups_is_said(company: Company, idp: SamlDouble) -> None:
    save()
    del idp.attributes["groups"]
    idp.attributes["http://schemas.microsoft.com/claims/groups.link"] = "https://graph.example.org/"
    client, response = sign_in(idp)
    refused(client, response)
    assert (
        last_refusal()
        == "You are in too many groups: {provider} sent a link instead of their names. Have it send only the groups "
        "that are assigned to this application."
    )


def test_encrypted_assertion_is_said(company: Company, idp: SamlDouble) -> None:
    save()

    def encrypt(root: Any) -> Any:
        root.replace(root.find("saml:Assertion", NAMES), etree.Element(f"{{{NAMES['saml']}}}EncryptedAssertion"))
        return root

    idp.forge = encrypt
    client, response = sign_in(idp)
    assert "is encrypted" in refused(client, response)


def test_sign_in_without_the_packages_says_what_to_install(
    company: Company, idp: SamlDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    save()
    monkeypatch.setattr("tocsin.identity.saml.find_spec", lambda name: None)
    client = Client()
    page = client.get(client.get(LOGIN)["Location"])
    assert "tocsin[saml]" in page.content.decode()


def test_garbage_is_refused(company: Company) -> None:
    save()
    for response in ("", "§", "x" * 600_000, base64.b64encode(b"\xff\xfe").decode()):
        client = Client()
        assert "cannot be read" in refused(client, client.get(post(response)))
    assert Client().get(ACS).status_code == 302
