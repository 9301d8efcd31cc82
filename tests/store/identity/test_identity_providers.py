"""Identity providers as configuration: what is stored, what is rejected, and where the problem is."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.doubles.saml import ISSUER, SSO_URL, certificate, metadata
from tocsin.access.audit import COMMAND_LINE
from tocsin.access.models import AuditEntry
from tocsin.core.errors import Rejected, RejectedAll
from tocsin.core.validation.inputs import AT_PATH
from tocsin.identity import commands, sign_in
from tocsin.identity.models import IdentityProvider
from tocsin.identity.role_mapping import MembershipChanges
from tocsin.identity.scim import documents
from tocsin.operate.checks import machine
from tocsin.people.changes import groups, users
from tocsin.people.models import Group, Membership, User
from tocsin.resources import registry

SPEC: dict[str, Any] = {
    "name": "Acme Login",
    "preset": "keycloak",
    "issuer": "https://sso.example.org/realms/acme",
    "client_id": "tocsin",
    "client_secret": "a secret",
    "allowed_domains": ["example.org"],
    "default_role": "observer",
    "roles": [
        {"claim": "Admins", "role": "admin"},
        {"claim": "Desk", "role": "responder", "groups": [{"group": "Desk", "on_call_roles": ["primary"]}]},
    ],
}


@pytest.fixture
def desk_group(database: str, now: datetime) -> None:
    groups.save_group({"name": "Desk"}, actor=COMMAND_LINE, now=now)


def save(now: datetime, existing: IdentityProvider | None = None, **changes: Any) -> IdentityProvider:
    spec = {key: value for key, value in {**SPEC, **changes}.items() if value is not None}
    return commands.save_provider(spec, existing=existing, actor=COMMAND_LINE, now=now)


def test_a_provider_is_written_as_given_without_its_secret(desk_group: None, now: datetime) -> None:
    provider = save(now)
    spec = commands.provider_spec(provider)
    assert spec == {**{key: value for key, value in SPEC.items() if key != "client_secret"}, "kind": "oidc"}
    assert commands.provider_spec(provider, with_secrets=True)["client_secret"] == "a secret"
    assert "a secret" not in provider.client_secret
    entry = AuditEntry.objects.get(object_type="identity_provider")
    assert entry.after["secrets_changed"] == ["client_secret"]
    assert "a secret" not in str(entry.after)


def test_the_redirect_uri_survives_renaming_and_groups_follow_theirs(desk_group: None, now: datetime) -> None:
    provider = save(now)
    save(now, provider, name="Other", client_secret=None)
    provider.refresh_from_db()
    assert (provider.slug, commands.stored_secret(provider)) == ("acme-login", "a secret")
    group = Group.objects.get()
    groups.save_group({"name": "Service Desk"}, existing=group, actor=COMMAND_LINE, now=now)
    assert commands.provider_spec(provider)["roles"][1]["groups"][0]["group"] == "Service Desk"


def test_scim_is_turned_on_and_off_and_otherwise_unchanged(desk_group: None, now: datetime) -> None:
    provider = save(now, scim=True)
    assert commands.provider_spec(provider)["scim"] is True
    secret = documents.rotate_token(provider, actor=COMMAND_LINE, now=now)
    for scim in (None, True):
        assert commands.provider_spec(save(now, provider, scim=scim))["scim"] is True
        assert documents.verify_token(secret) == provider
    assert "scim" not in commands.provider_spec(save(now, provider, scim=False))
    assert documents.verify_token(secret) is None


BAD: dict[str, dict[str, Any]] = {
    "issuer": {"issuer": "http://sso.example.org/realms/acme"},
    "client_id": {"client_id": None},
    "preset": {"preset": "acme"},
    "kind": {"kind": "ldap"},
    "allowed_domains[0]": {"allowed_domains": ["example"]},
    "allowed_domains": {"preset": "entra", "allowed_domains": []},
    "default_role": {"default_role": "root"},
    "roles[0].role": {"roles": [{"claim": "x", "role": "root"}]},
    "roles[1].claim": {"roles": [{"claim": "x", "role": "admin"}, {"claim": "X", "role": "admin"}]},
    "roles[0].groups[0].group": {"roles": [{"claim": "x", "role": "admin", "groups": [{"group": "Nobody"}]}]},
    "roles[0].groups[0].role": {
        "roles": [{"claim": "x", "role": "admin", "groups": [{"group": "Desk", "role": "admin"}]}]
    },
    "scopes[0]": {"scopes": ["open id"]},
    "unknown": {"unknown": 1},
}


@pytest.mark.parametrize(("place", "changes"), BAD.items(), ids=str)
def test_bad_input_is_named_by_its_place(desk_group: None, now: datetime, place: str, changes: dict[str, Any]) -> None:
    with pytest.raises(Rejected) as caught:
        save(now, **changes)
    problems = caught.value.problems if isinstance(caught.value, RejectedAll) else (caught.value,)
    assert place in [problem.field for problem in problems]


SAML: dict[str, Any] = {
    "name": "Acme Login",
    "kind": "saml",
    "issuer": ISSUER,
    "sso_url": SSO_URL,
    "certificates": [certificate("first"), certificate("second")],
    "allowed_domains": ["example.org"],
    "default_role": "observer",
}
_EXPIRED = certificate("old", days=30)

BAD_SAML: dict[str, dict[str, Any]] = {
    "issuer": {"issuer": None},
    "sso_url": {"sso_url": "http://idp.example.org/sso"},
    "certificates": {"certificates": [_EXPIRED]},
    "certificates[1]": {"certificates": [certificate("first"), "nothing"]},
    "metadata": {"metadata": "<html/>"},
    "metadata_url": {"metadata_url": "nowhere", "sso_url": None},
    "allowed_domains": {"allowed_domains": []},
    "client_id": {"client_id": "tocsin"},
}


def save_saml(now: datetime, existing: IdentityProvider | None = None, **changes: Any) -> IdentityProvider:
    spec = {key: value for key, value in {**SAML, **changes}.items() if value is not None}
    return commands.save_provider(spec, existing=existing, actor=COMMAND_LINE, now=now)


def test_a_saml_provider_is_written_as_given(database: str, now: datetime) -> None:
    assert commands.provider_spec(save_saml(now)) == {**SAML, "preset": "generic"}


def test_metadata_become_issuer_address_and_certificates(database: str, now: datetime) -> None:
    given = metadata(certificate("first"), _EXPIRED)
    provider = save_saml(now, issuer=None, sso_url=None, certificates=None, metadata=given)
    spec = commands.provider_spec(provider)
    assert (spec["issuer"], spec["sso_url"]) == (ISSUER, SSO_URL)
    assert spec["certificates"] == [certificate("first"), _EXPIRED]
    save_saml(now, provider, issuer=None, sso_url=None, certificates=None, metadata=given)
    assert commands.provider_spec(provider) == spec, "YAML may be applied again"


@pytest.mark.parametrize(("place", "changes"), BAD_SAML.items(), ids=BAD_SAML)
def test_bad_saml_input_is_named_by_its_place(
    database: str, now: datetime, place: str, changes: dict[str, Any]
) -> None:
    with pytest.raises(Rejected) as caught:
        save_saml(now, **changes)
    problems = caught.value.problems if isinstance(caught.value, RejectedAll) else (caught.value,)
    assert [problem.field for problem in problems] == [place]


METADATA = {
    "are not the SAML metadata of an identity provider.": metadata(certificate("first")).replace(
        "IDPSSODescriptor", "SPSSODescriptor"
    ),
    'are of "{found}", and not of "{expected}": correct the issuer.': metadata(
        certificate("first"), entity_id="https://other.example.org/"
    ),
    "name no address for single sign-on with the HTTP-Redirect binding.": metadata(certificate("first")).replace(
        "HTTP-Redirect", "HTTP-POST"
    ),
    "have no certificate to check signatures with.": metadata(),
    "expired {at}.": metadata(certificate("first"), valid_until="2020-01-01T00:00:00Z"),
    "have no certificate that is valid now: the last one ends {at}. Enter the new one.": metadata(_EXPIRED),
    "must begin with https://, unless private addresses are allowed for this provider.": metadata(
        certificate("first"), sso_url="http://idp.example.org/sso"
    ),
    "is not an X.509 certificate in PEM form.": metadata("-\nbm90aGluZw==\n-"),
    "name several identity providers: enter the issuer.": (
        '<md:EntitiesDescriptor xmlns:md="urn:oasis:names:tc:SAML:2.0:metadata">'
        f"{metadata(certificate('first'))}{metadata(certificate('first'), entity_id='https://other.example.org/')}"
        "</md:EntitiesDescriptor>"
    ),
}


@pytest.mark.parametrize(("code", "given"), METADATA.items(), ids=METADATA)
def test_unusable_metadata_say_why(database: str, now: datetime, code: str, given: str) -> None:
    issuer = None if code == "name several identity providers: enter the issuer." else ISSUER
    with pytest.raises(Rejected) as caught:
        save_saml(now, issuer=issuer, sso_url=None, certificates=None, metadata=given)
    assert (caught.value.field, caught.value.reason.code) == ("metadata", AT_PATH.code)
    problem: Any = caught.value.reason
    assert problem["problem"].code == code


def test_metadata_come_from_one_place(database: str, now: datetime) -> None:
    given = {"metadata": metadata(certificate("first")), "metadata_url": "https://idp.example.org/metadata"}
    with pytest.raises(RejectedAll) as caught:
        save_saml(now, **given)
    assert [problem.field for problem in caught.value.problems] == ["sso_url", "metadata"]


def test_saml_without_its_packages_is_rejected(database: str, now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tocsin.identity.saml.find_spec", lambda name: None)
    with pytest.raises(Rejected) as caught:
        save_saml(now)
    assert caught.value.field == "kind"
    assert "tocsin[saml]" in str(caught.value)


def test_doctor_names_certificates_that_end_soon(database: str, now: datetime) -> None:
    save_saml(now, certificates=[certificate("soon", begin=now - timedelta(days=1), days=20)])
    [finding] = machine.check_certificates(now)
    assert (finding.id, finding.about) == ("identity.certificate_ends", "Acme Login")
    save_saml(now, IdentityProvider.objects.get())
    assert list(machine.check_certificates(now)) == []


def test_the_kind_of_a_provider_never_changes(desk_group: None, now: datetime) -> None:
    provider = save(now)
    with pytest.raises(Rejected) as caught:
        save_saml(now, provider)
    assert caught.value.field == "kind"


def test_placeholders_of_a_preset_are_rejected(desk_group: None, now: datetime) -> None:
    with pytest.raises(Rejected) as caught:
        save(now, preset="entra", issuer="https://login.microsoftonline.com/TENANT/v2.0")
    assert caught.value.field == "issuer"


def test_a_secret_never_goes_to_another_server(desk_group: None, now: datetime) -> None:
    provider = save(now)
    with pytest.raises(Rejected) as caught:
        save(now, provider, issuer="https://evil.example/realms/acme", client_secret=None)
    assert caught.value.field == "client_secret"


def test_names_with_one_redirect_uri_are_rejected(desk_group: None, now: datetime) -> None:
    save(now)
    for name in ("acme login", "Acme-Login"):
        with pytest.raises(Rejected) as caught:
            save(now, name=name)
        assert (caught.value.code, caught.value.field) == ("name_taken", "name")


def test_a_mapped_group_cannot_be_deleted(desk_group: None, now: datetime) -> None:
    save(now)
    with pytest.raises(Rejected) as caught:
        registry.GROUPS.delete(Group.objects.get(), actor=COMMAND_LINE, now=now)
    assert caught.value.code == "in_use"


def test_what_a_deleted_provider_granted_stays_by_hand(desk_group: None, now: datetime) -> None:
    provider = save(now)
    spec = {"username": "ann", "email": "ann@example.org", "role": "admin"}
    ann = users.save_user(spec, actor=COMMAND_LINE, now=now)
    User.objects.update(role_source=provider.slug)
    Membership.objects.create(user=ann, group=Group.objects.get(), source=provider.slug)
    commands.delete_provider(provider, actor=COMMAND_LINE, now=now)
    assert User.objects.get().role_source == ""
    assert Membership.objects.get().source == ""


def test_a_role_changed_by_hand_is_by_hand(desk_group: None, now: datetime) -> None:
    spec = {"username": "ann", "email": "ann@example.org", "role": "manager"}
    ann = users.save_user(spec, actor=COMMAND_LINE, now=now)
    User.objects.update(role_source="acme-login")
    ann.refresh_from_db()
    users.save_user({**spec, "name": "Ann"}, existing=ann, actor=COMMAND_LINE, now=now)
    assert User.objects.get().role_source == "acme-login"
    users.save_user({**spec, "role": "observer"}, existing=ann, actor=COMMAND_LINE, now=now)
    assert User.objects.get().role_source == ""


def test_sign_in_that_ends_a_membership_names_the_group(desk_group: None) -> None:
    left = MembershipChanges(removed=(Group.objects.get().pk,))
    assert [reason.code for reason in sign_in.describe_memberships(left)] == ["no longer member of {group}"]
