"""Signing in by an OpenID provider: the whole path, and what a forging or failing provider achieves: nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.messages import get_messages
from django.test import Client

from tests.doubles.http import Response
from tests.doubles.openid import (
    CLIENT_ID,
    CLIENT_SECRET,
    OpenIdDouble,
    jwk,
    openid_double,
    signed_with_public_key,
    unsigned,
)
from tests.web.conftest import PASSWORD, Company, make_user
from tocsin.access.audit import COMMAND_LINE, MAX_PER_ACTOR
from tocsin.access.models import AuditEntry
from tocsin.core.config import settings_store
from tocsin.core.runtime import clock
from tocsin.identity import commands, oidc_tokens
from tocsin.identity.models import IdentityProvider, LinkedIdentity, ScimUser
from tocsin.people.changes import users
from tocsin.people.models import Membership, User

LOGIN, LOGIN_PAGE = "/accounts/oidc/acme/login/", "/account/login/"
ANN = {"sub": "ann-1", "email": "ann@example.org", "email_verified": True, "preferred_username": "ann", "name": "Ann"}


@pytest.fixture
def idp() -> Iterator[OpenIdDouble]:
    oidc_tokens.DOCUMENTS.clear()
    with openid_double() as double:
        double.claims = {**ANN, "groups": ["Desk"]}
        yield double


def save(idp: OpenIdDouble, **changes: Any) -> IdentityProvider:
    spec = {
        "name": "Acme",
        "issuer": idp.issuer,
        "allow_private": True,
        "client_id": CLIENT_ID,
        "client_secret": CLIENT_SECRET,
        "sign_up": True,
        "roles": [
            {"claim": "Desk", "role": "responder", "groups": [{"group": "Night", "on_call_roles": ["primary"]}]},
            {"claim": "Admins", "role": "admin"},
        ],
        **changes,
    }
    return commands.save_provider(spec, existing=IdentityProvider.objects.first(), actor=COMMAND_LINE, now=clock.now())


def sign_in(idp: OpenIdDouble, client: Client | None = None, *, query: str = "", **answer: str) -> tuple[Client, Any]:
    client = client or Client()
    begun = client.get(f"{LOGIN}{query}")
    assert begun.status_code == 302, begun.content
    if not begun["Location"].startswith(idp.issuer):
        return client, begun
    return client, client.get(idp.authorize(begun["Location"], **answer))


def is_in(client: Client) -> bool:
    return client.get("/me/").status_code == 200


def refused(client: Client, response: Any) -> str:
    """What the sign-in page says, after nobody was signed in."""
    assert response.status_code == 302
    assert response["Location"].startswith(LOGIN_PAGE)
    page = client.get(response["Location"])
    assert not is_in(client)
    return " ".join(str(message) for message in get_messages(page.wsgi_request)) + page.content.decode()


def last_refusal() -> str:
    entry = AuditEntry.objects.filter(action="sign_in_refused").latest("pk")
    return str(entry.after["reason"]["code"])


def test_first_sign_in_creates_the_user_with_what_groups_grant(company: Company, idp: OpenIdDouble) -> None:
    save(idp)
    client, response = sign_in(idp)
    assert response["Location"] == "/"
    assert is_in(client)
    ann = User.objects.get(username="ann")
    assert (ann.email, ann.name, ann.role, ann.role_source) == ("ann@example.org", "Ann", "responder", "acme")
    assert not ann.has_usable_password()
    membership = Membership.objects.get(user=ann)
    assert (membership.group, membership.roles, membership.source) == (company.night, ["primary"], "acme")
    granted = AuditEntry.objects.filter(action="grant").order_by("pk")
    assert [(one.object_type, one.after["claim"], one.actor_name) for one in granted] == [
        ("user", "Desk", "Acme"),
        ("group", "Desk", "Acme"),
    ]
    signed_in = AuditEntry.objects.get(action="sign_in")
    assert (signed_in.after["provider"], signed_in.after["groups"]) == ("Acme", ["Desk"])


def test_a_link_in_a_page_leads_back_after_sign_in(company: Company, idp: OpenIdDouble) -> None:
    save(idp)
    _client, response = sign_in(idp, query="?next=/alerts/%3Fstatus%3Dopen")
    assert response["Location"] == "/alerts/?status=open"


@pytest.mark.parametrize(
    "target", ["https://evil.example/", "//evil.example/", "/\\evil.example", "javascript:alert(1)", "evil.example"]
)
def test_next_never_leads_to_another_site(company: Company, idp: OpenIdDouble, target: str) -> None:
    save(idp)
    client = Client()
    begun = client.get(LOGIN, {"next": target})
    assert client.get(idp.authorize(begun["Location"]))["Location"] == "/"


def test_what_the_provider_gave_follows_it_and_the_rest_stays(company: Company, idp: OpenIdDouble) -> None:
    save(idp)
    sign_in(idp)
    ann = User.objects.get(username="ann")
    Membership.objects.create(user=ann, group=company.desk, roles=["lead"])
    idp.claims["groups"] = ["Admins"]
    sign_in(idp)
    ann.refresh_from_db()
    assert ann.role == "admin"
    assert list(Membership.objects.filter(user=ann).values_list("group__name", "source")) == [("Service Desk", "")]
    idp.claims["groups"] = []
    client, response = sign_in(idp)
    refused(client, response)
    assert last_refusal() == "None of your groups at {provider} gives access. Ask an administrator."


def test_role_by_hand_returns_when_the_provider_takes_its_own(company: Company, idp: OpenIdDouble) -> None:
    save(idp, default_role="observer")
    idp.claims |= {"email": "bob@example.org", "groups": ["Admins"]}
    sign_in(idp)
    bob = User.objects.get(username="bob")
    assert (bob.role, bob.role_source) == ("admin", "acme")
    idp.claims["groups"] = []
    sign_in(idp)
    bob.refresh_from_db()
    assert (bob.role, bob.role_source) == ("responder", "")


def test_last_administrator_keeps_the_role(company: Company, idp: OpenIdDouble) -> None:
    save(idp)
    idp.claims["groups"] = ["Admins"]
    sign_in(idp)
    User.objects.filter(username="alice").update(is_active=False)
    idp.claims["groups"] = ["Desk"]
    client, _response = sign_in(idp)
    assert is_in(client)
    assert User.objects.get(username="ann").role == "admin"
    assert (
        AuditEntry.objects.get(action="grant_refused").after["reason"]["code"]
        == "{user} stays administrator, because there would be none left."
    )


def test_verified_address_links_once_then_the_subject_counts(company: Company, idp: OpenIdDouble) -> None:
    save(idp)
    idp.claims["email"] = "Bob@Example.org"
    client, _response = sign_in(idp)
    assert is_in(client)
    assert LinkedIdentity.objects.get().user == company.responder
    idp.claims["email"] = "alice@example.org"
    sign_in(idp)
    assert LinkedIdentity.objects.get().user == company.responder
    assert User.objects.count() == 4


def test_an_account_that_moved_to_another_subject_is_refused(company: Company, idp: OpenIdDouble) -> None:
    save(idp)
    sign_in(idp)
    idp.claims["sub"] = "ann-2"
    client, response = sign_in(idp)
    refused(client, response)
    assert (
        last_refusal() == "{user} is linked to another identity at {provider}. An administrator can remove that link."
    )


@pytest.mark.parametrize("verified", [False, None, "false", 1, "yes"])
def test_unverified_address_of_an_administrator_is_refused(
    company: Company, idp: OpenIdDouble, verified: object
) -> None:
    save(idp)
    idp.claims |= {"email": "alice@example.org", "email_verified": verified}
    client, response = sign_in(idp)
    refused(client, response)
    assert (
        last_refusal() == 'The provider does not confirm the address {email}: the claim "email_verified" is not true.'
    )
    assert not LinkedIdentity.objects.exists()


def test_entra_is_trusted_for_the_allowed_domains_only(company: Company, idp: OpenIdDouble) -> None:
    save(idp, preset="entra", allowed_domains=["example.org"])
    del idp.claims["email_verified"]
    client, _response = sign_in(idp)
    assert is_in(client)
    idp.claims |= {"sub": "eve", "email": "eve@example.com", "preferred_username": "eve"}
    other, response = sign_in(idp)
    refused(other, response)
    assert (
        last_refusal() == 'The provider does not confirm the address {email}: the claim "email_verified" is not true.'
    )


REFUSED_BY_CONFIGURATION = {
    "There is no account for {email}, and {provider} does not create any. Ask an administrator.": {"sign_up": False},
    "Addresses of {domain} may not sign in by {provider}.": {"allowed_domains": ["example.net"]},
    "None of your groups at {provider} gives access. Ask an administrator.": {"roles": []},
}


@pytest.mark.parametrize(("code", "changes"), REFUSED_BY_CONFIGURATION.items(), ids=str)
def test_configuration_refuses(company: Company, idp: OpenIdDouble, code: str, changes: dict[str, Any]) -> None:
    save(idp, **changes)
    client, response = sign_in(idp)
    refused(client, response)
    assert last_refusal() == code
    assert not User.objects.filter(username="ann").exists()


def test_disabled_user_is_refused(company: Company, idp: OpenIdDouble) -> None:
    save(idp)
    sign_in(idp)
    User.objects.filter(username="ann").update(is_active=False)
    client, response = sign_in(idp)
    refused(client, response)
    assert last_refusal() == "This account is deactivated. Contact an administrator."


def test_missing_groups_and_overage_are_said_clearly(company: Company, idp: OpenIdDouble) -> None:
    save(idp)
    del idp.claims["groups"]
    client, response = sign_in(idp)
    refused(client, response)
    assert (
        last_refusal()
        == 'The provider sent no claim "{claim}", so nothing gives access. Configure the provider to send it.'
    )
    idp.claims["_claim_names"] = {"groups": "src1"}
    client, response = sign_in(idp)
    refused(client, response)
    assert (
        last_refusal()
        == "You are in too many groups: {provider} sent a link instead of their names. Have it send only the groups "
        "that are assigned to this application."
    )


def test_more_than_200_groups_are_mapped(company: Company, idp: OpenIdDouble) -> None:
    save(idp)
    idp.claims["groups"] = [*(f"group {number}" for number in range(500)), "Desk"]
    client, _response = sign_in(idp)
    assert is_in(client)


def test_user_information_completes_the_token(company: Company, idp: OpenIdDouble) -> None:
    save(idp)
    idp.userinfo = {"groups": idp.claims.pop("groups"), "name": idp.claims.pop("name")}
    client, _response = sign_in(idp)
    assert is_in(client)
    idp.userinfo["sub"] = "somebody else"
    client, response = sign_in(idp)
    assert "another user than the token" in refused(client, response)


SKEWED = timedelta(minutes=10)


def forged(idp: OpenIdDouble, attack: str) -> Callable[[dict[str, Any]], str]:
    now = idp.now()

    def forge(claims: dict[str, Any]) -> str:
        match attack:
            case "wrong nonce":
                return idp.sign({**claims, "nonce": "another"})
            case "no nonce":
                return idp.sign({name: value for name, value in claims.items() if name != "nonce"})
            case "wrong audience":
                return idp.sign({**claims, "aud": "another"})
            case "audience of several":
                return idp.sign({**claims, "aud": [CLIENT_ID, "another"]})
            case "another party":
                return idp.sign({**claims, "azp": "another"})
            case "wrong issuer":
                return idp.sign({**claims, "iss": "https://evil.example"})
            case "alg none":
                return unsigned(claims)
            case "key confusion":
                return signed_with_public_key(claims, "first")
            case "expired":
                return idp.sign({**claims, "exp": int((now - SKEWED).timestamp())})
            case "no expiry":
                return idp.sign({name: value for name, value in claims.items() if name != "exp"})
            case "not yet valid":
                return idp.sign({**claims, "nbf": int((now + SKEWED).timestamp())})
            case "clock 10 minutes ahead":
                return idp.sign({**claims, "iat": int((now + SKEWED).timestamp())})
            case "unknown key":
                idp.signs_with = "stranger"
                return idp.sign(claims)
            case "stranger's key under the known name":
                idp.signs_with = "stranger"
                return idp.sign(claims, kid="first")
            case "own key in the header":
                idp.signs_with = "stranger"
                return idp.sign(claims, kid="stranger", jwk=jwk("stranger"))
            case "no subject":
                return idp.sign({name: value for name, value in claims.items() if name != "sub"})
            case "logout token":
                return idp.sign(claims, typ="logout+jwt")
        return "not a token"

    return forge


ATTACKS = {
    "wrong nonce": "belongs to another sign-in",
    "no nonce": "belongs to another sign-in",
    "wrong audience": "not meant for this application",
    "audience of several": "not meant for this application",
    "another party": "not meant for this application",
    "wrong issuer": "evil.example",
    "alg none": "none",
    "key confusion": "HS256",
    "expired": "has expired",
    "no expiry": "exp",
    "not yet valid": "not valid yet",
    "clock 10 minutes ahead": "not valid yet",
    "unknown key": "does not publish",
    "stranger's key under the known name": "signature of the provider",
    "own key in the header": "does not publish",
    "no subject": "sub",
    "logout token": "cannot be read",
    "no token at all": "cannot be read",
}


@pytest.mark.parametrize(("attack", "text"), ATTACKS.items(), ids=str)
def test_forged_token_signs_nobody_in(company: Company, idp: OpenIdDouble, attack: str, text: str) -> None:
    save(idp)
    idp.forge = forged(idp, attack)
    client, response = sign_in(idp)
    assert text in refused(client, response)
    assert not User.objects.filter(username="ann").exists()
    assert last_refusal()


@pytest.mark.parametrize("seconds", [-50, 50])
def test_clocks_may_differ_by_a_minute(company: Company, idp: OpenIdDouble, seconds: int) -> None:
    save(idp)
    skew = timedelta(seconds=seconds)
    idp.now = lambda: clock.now() + skew
    idp.forge = lambda claims: idp.sign({**claims, "exp": claims["iat"] + (0 if seconds < 0 else 60)})
    client, _response = sign_in(idp)
    assert is_in(client)


def test_state_of_another_browser_is_refused(company: Company, idp: OpenIdDouble) -> None:
    save(idp)
    begun = Client().get(LOGIN)
    victim = Client()
    assert "not started in this browser" in refused(victim, victim.get(idp.authorize(begun["Location"])))


def test_an_answer_works_once(company: Company, idp: OpenIdDouble) -> None:
    save(idp)
    client = Client()
    path = idp.authorize(client.get(LOGIN)["Location"])
    client.get(path)
    client.post("/account/logout/")
    assert "not started in this browser" in refused(client, client.get(path))


def test_answer_of_another_issuer_is_refused(company: Company, idp: OpenIdDouble) -> None:
    save(idp)
    client, response = sign_in(idp, iss="https://evil.example")
    assert "another issuer" in refused(client, response)


def test_new_keys_of_the_provider_are_followed(company: Company, idp: OpenIdDouble) -> None:
    save(idp)
    sign_in(idp)
    idp.keys, idp.signs_with = ["second"], "second"
    client, response = sign_in(idp)
    assert "does not publish" in refused(client, response), "the keys were loaded this moment"
    oidc_tokens.DOCUMENTS.update(
        {key: (at - timedelta(seconds=11), one) for key, (at, one) in oidc_tokens.DOCUMENTS.items()}
    )
    client, _response = sign_in(idp)
    assert is_in(client)


def test_forged_answers_are_audited_without_filling_the_log(company: Company, idp: OpenIdDouble) -> None:
    save(idp)
    for number in range(MAX_PER_ACTOR + 5):
        Client().get(f"{LOGIN.removesuffix('/')}/callback/?state=forged{number}&code=x")
    assert AuditEntry.objects.filter(action="sign_in_refused").count() == MAX_PER_ACTOR
    assert last_refusal() == "This sign-in was not started in this browser, or took longer than ten minutes. Try again."


def test_cancelling_and_errors_are_said(company: Company, idp: OpenIdDouble) -> None:
    save(idp)
    client, response = sign_in(idp, error="access_denied", code="")
    assert "was cancelled at Acme" in refused(client, response)
    client, response = sign_in(idp, error="temporarily_unavailable", error_description="<b>later", code="")
    assert "temporarily_unavailable: &lt;b&gt;later" in refused(client, response)


def test_provider_that_is_away_says_so_and_passwords_work(company: Company, idp: OpenIdDouble) -> None:
    save(idp)
    idp.http.answering = lambda request: Response(hangs_up=True)
    client = Client()
    assert "Acme does not answer" in refused(client, client.get(LOGIN))
    client.post(LOGIN_PAGE, {"login": "alice", "password": PASSWORD})
    assert is_in(client)


def test_wrong_secret_names_the_field(company: Company, idp: OpenIdDouble) -> None:
    save(idp, client_secret="wrong")
    client, response = sign_in(idp)
    assert "client_secret" in refused(client, response)


def test_discovery_of_another_issuer_is_refused(company: Company, idp: OpenIdDouble) -> None:
    save(idp)
    idp.discovery = {"issuer": "https://evil.example"}
    client = Client()
    assert "evil.example" in refused(client, client.get(LOGIN))


def test_private_address_needs_the_permission(company: Company, idp: OpenIdDouble) -> None:
    provider = save(idp)
    IdentityProvider.objects.filter(pk=provider.pk).update(allow_private=False)
    client = Client()
    assert "private address" in refused(client, client.get(LOGIN))


def test_disabled_provider_signs_nobody_in(company: Company, idp: OpenIdDouble) -> None:
    save(idp)
    client = Client()
    begun = client.get(LOGIN)
    save(idp, enabled=False)
    assert Client().get(LOGIN).status_code == 404
    assert client.get(idp.authorize(begun["Location"])).status_code == 404
    assert not is_in(client)


def test_test_sign_in_shows_claims_and_changes_nothing(
    company: Company, idp: OpenIdDouble, browser_of: Callable[[User], Client]
) -> None:
    save(idp, enabled=False)
    admin = browser_of(company.admin)
    _client, response = sign_in(idp, admin, query="?test")
    page = response.content.decode()
    assert "The user ann is created" in page
    assert "member of Night" in page
    assert "preferred_username" in page
    assert not User.objects.filter(username="ann").exists()
    assert not LinkedIdentity.objects.exists()
    assert admin.get("/system/").status_code == 200, "still signed in as before"


def test_only_administrators_test(company: Company, idp: OpenIdDouble, browser_of: Callable[[User], Client]) -> None:
    save(idp)
    assert Client().get(f"{LOGIN}?test").status_code == 403
    assert browser_of(company.manager).get(f"{LOGIN}?test").status_code == 403


def test_taken_username_gets_a_number(company: Company, idp: OpenIdDouble) -> None:
    save(idp)
    idp.claims["preferred_username"] = "bob"
    sign_in(idp)
    assert User.objects.get(email="ann@example.org").username == "bob-2"


def test_invalid_username_of_a_claim_is_refused(company: Company, idp: OpenIdDouble) -> None:
    save(idp)
    idp.claims["preferred_username"] = "a/b"
    client, response = sign_in(idp)
    refused(client, response)
    assert last_refusal() == "The claims make no valid user: {problem}"


def test_deleted_user_is_a_new_one_afterwards(company: Company, idp: OpenIdDouble) -> None:
    save(idp)
    sign_in(idp)
    first = User.objects.get(username="ann")
    users.delete_user(first, actor=COMMAND_LINE, now=clock.now())
    client, _response = sign_in(idp)
    assert is_in(client)
    assert User.objects.get(username="ann").pk != first.pk


LOGOUT = "/accounts/oidc/acme/backchannel-logout/"


def logout_claims(idp: OpenIdDouble, **changes: Any) -> dict[str, Any]:
    claims = {
        "iss": idp.issuer,
        "aud": CLIENT_ID,
        "iat": int(clock.now().timestamp()),
        "exp": int(clock.now().timestamp()) + 120,
        "jti": "logout-1",
        "sub": "ann-1",
        "sid": "session-1",
        "events": {"http://schemas.openid.net/event/backchannel-logout": {}},
        **changes,
    }
    return {name: value for name, value in claims.items() if value is not None}


def log_out(token: str) -> int:
    return Client().post(LOGOUT, {"logout_token": token}).status_code


def test_backchannel_logout_ends_the_named_sessions(company: Company, idp: OpenIdDouble) -> None:
    save(idp)
    idp.claims["sid"] = "session-1"
    first, _response = sign_in(idp)
    idp.claims["sid"] = "session-2"
    second, _response = sign_in(idp)
    assert log_out(idp.sign(logout_claims(idp), typ="logout+jwt")) == 200
    assert (is_in(first), is_in(second)) == (False, True)
    assert log_out(idp.sign(logout_claims(idp, sid=None, jti="logout-2"))) == 200
    assert not is_in(second)
    assert AuditEntry.objects.filter(action="backchannel_logout").count() == 2


BAD_LOGOUTS: dict[str, dict[str, Any]] = {
    "id token": {"events": None, "nonce": "n"},
    "with nonce": {"nonce": "n"},
    "other issuer": {"iss": "https://evil.example"},
    "other audience": {"aud": "another"},
    "old": {"iat": 0},
    "expired": {"exp": 1},
    "no id": {"jti": None},
    "no one": {"sub": None, "sid": None},
}


@pytest.mark.parametrize("changes", BAD_LOGOUTS.values(), ids=BAD_LOGOUTS)
def test_forged_logout_ends_nothing(company: Company, idp: OpenIdDouble, changes: dict[str, Any]) -> None:
    save(idp)
    idp.claims["sid"] = "session-1"
    client, _response = sign_in(idp)
    assert log_out(idp.sign(logout_claims(idp, **changes))) == 400
    assert log_out(unsigned(logout_claims(idp))) == 400
    assert log_out(signed_with_public_key(logout_claims(idp), "first")) == 400
    assert is_in(client)


def test_a_logout_token_works_once(company: Company, idp: OpenIdDouble) -> None:
    save(idp)
    idp.claims["sid"] = "session-1"
    token = idp.sign(logout_claims(idp))
    assert log_out(token) == 200
    client, _response = sign_in(idp)
    assert log_out(token) == 400
    assert is_in(client)


def test_a_new_user_without_password_may_reach_their_pages(company: Company, idp: OpenIdDouble) -> None:
    save(idp)
    client, _response = sign_in(idp)
    page = client.get("/me/").content.decode()
    assert "/account/password/change/" not in page
    assert "Acme" in client.get("/me/sign-ins/").content.decode()


# Lookalikes and administrators


@pytest.mark.parametrize(
    ("email", "claimed"),
    [
        ("ida@example.org", "\u0131da@example.org"),
        ("sue@example.org", "\u017fue@example.org"),
        ("kim@example.org", "\u212aim@example.org"),
        ("kim@example.org", "kim@example.org".replace("k", "\uff4b")),
    ],
)
def test_lookalike_address_is_nobodys(company: Company, idp: OpenIdDouble, email: str, claimed: str) -> None:
    save(idp)
    make_user(email.partition("@")[0], "admin")
    idp.claims["email"] = claimed
    client, response = sign_in(idp)
    refused(client, response)
    assert not LinkedIdentity.objects.exists()
    assert not User.objects.filter(email=claimed).exists()


def test_domain_beyond_ascii_asks_before_it_links(company: Company, idp: OpenIdDouble) -> None:
    save(idp)
    User.objects.filter(username="bob").update(email="bob@bücher.example")
    idp.claims["email"] = "bob@bücher.example"
    refused(*sign_in(idp))
    assert (
        last_refusal()
        == "This identity is not linked to {user} yet. An administrator has to approve the link, on the user's page."
    )


@pytest.mark.parametrize("mark", [{"role": "admin"}, {"is_break_glass": True}])
def test_administrator_is_linked_only_after_approval(
    company: Company, idp: OpenIdDouble, browser_of: Callable[[User], Client], mark: dict[str, Any]
) -> None:
    save(idp)
    bob = company.responder
    User.objects.filter(pk=bob.pk).update(**mark)
    idp.claims["email"] = "bob@example.org"
    refused(*sign_in(idp))
    assert (
        last_refusal()
        == "This identity is not linked to {user} yet. An administrator has to approve the link, on the user's page."
    )
    link = LinkedIdentity.objects.get(user=bob)
    assert link.awaits_approval
    refused(*sign_in(idp))
    assert LinkedIdentity.objects.get() == link
    assert "awaits approval" in browser_of(company.admin).get(f"/users/{bob.pk}/").content.decode()
    assert browser_of(company.manager).post(f"/me/identities/{link.pk}/approve").status_code == 403
    assert browser_of(company.admin).post(f"/me/identities/{link.pk}/approve").status_code == 302
    client, _response = sign_in(idp)
    assert is_in(client)
    actions = AuditEntry.objects.filter(action__endswith="_identity").order_by("pk").values_list("action", flat=True)
    assert list(actions) == ["ask_identity", "approve_identity"]


def test_another_identity_replaces_what_awaits_approval(
    company: Company, idp: OpenIdDouble, browser_of: Callable[[User], Client]
) -> None:
    save(idp)
    idp.claims["email"] = "alice@example.org"
    sign_in(idp)
    shown = LinkedIdentity.objects.get()
    idp.claims["sub"] = "stranger"
    sign_in(idp)
    assert browser_of(company.admin).post(f"/me/identities/{shown.pk}/approve").status_code == 404
    assert LinkedIdentity.objects.get().awaits_approval


def test_administrator_whom_the_provider_made_needs_no_approval(company: Company, idp: OpenIdDouble) -> None:
    provider = save(idp)
    ida = make_user("ida", "admin")
    ScimUser.objects.create(
        provider=provider, user=ida, scim_id="7", is_created=True, created_at=clock.now(), modified_at=clock.now()
    )
    idp.claims["email"] = ida.email
    client, _response = sign_in(idp)
    assert is_in(client)


def test_refusals_of_a_signed_in_user_are_recorded(
    company: Company, idp: OpenIdDouble, browser_of: Callable[[User], Client]
) -> None:
    settings_store.set("visibility", "groups")
    save(idp)
    client = browser_of(company.responder)
    assert client.get("/accounts/oidc/acme/login/callback/?state=made-up").status_code == 302
    assert last_refusal() == "This sign-in was not started in this browser, or took longer than ten minutes. Try again."
    begun = client.get(LOGIN)
    idp.claims["email"] = "alice@example.org"
    assert client.get(idp.authorize(begun["Location"])).status_code == 302
    assert (
        last_refusal()
        == "This identity is not linked to {user} yet. An administrator has to approve the link, on the user's page."
    )
    assert client.post("/account/reauthenticate/", {"password": "wrong"}).status_code in (200, 422)
    assert AuditEntry.objects.filter(action="sign_in_failed").exists()
    assert client.post("/account/logout/").status_code == 302
    assert AuditEntry.objects.filter(action="sign_out").exists()


def test_weak_key_of_the_provider_is_refused(company: Company, idp: OpenIdDouble) -> None:
    save(idp)
    idp.signs_with = "weak"
    idp.keys = ["weak"]
    refused(*sign_in(idp))
    assert last_refusal() == "The provider signs with an RSA key of {bits} bits; at least {minimum} are needed."


# What a claim must be


@pytest.mark.parametrize(
    ("claim", "value", "code"),
    [
        ("sub", 7, 'The provider sent no claim "{claim}".'),
        (
            "sub",
            "a\0b",
            'The provider sent a value of the claim "{claim}" that is not accepted: names are texts without NUL '
            "characters, times are finite numbers.",
        ),
        (
            "email",
            "a\0nn@example.org",
            'The provider sent a value of the claim "{claim}" that is not accepted: names are texts without NUL '
            "characters, times are finite numbers.",
        ),
        (
            "email",
            7,
            'The provider sent a value of the claim "{claim}" that is not accepted: names are texts without NUL '
            "characters, times are finite numbers.",
        ),
        (
            "name",
            "A\0nn",
            'The provider sent a value of the claim "{claim}" that is not accepted: names are texts without NUL '
            "characters, times are finite numbers.",
        ),
        (
            "preferred_username",
            12345,
            'The provider sent a value of the claim "{claim}" that is not accepted: names are texts without NUL '
            "characters, times are finite numbers.",
        ),
        (
            "preferred_username",
            {"a": 1},
            'The provider sent a value of the claim "{claim}" that is not accepted: names are texts without NUL '
            "characters, times are finite numbers.",
        ),
        (
            "groups",
            [1, 2],
            'The provider sent a value of the claim "{claim}" that is not accepted: names are texts without NUL '
            "characters, times are finite numbers.",
        ),
        (
            "groups",
            ["De\0sk"],
            'The provider sent a value of the claim "{claim}" that is not accepted: names are texts without NUL '
            "characters, times are finite numbers.",
        ),
        (
            "sid",
            "a\0b",
            'The provider sent a value of the claim "{claim}" that is not accepted: names are texts without NUL '
            "characters, times are finite numbers.",
        ),
        (
            "exp",
            float("inf"),
            'The provider sent a value of the claim "{claim}" that is not accepted: names are texts without NUL '
            "characters, times are finite numbers.",
        ),
        (
            "exp",
            float("nan"),
            'The provider sent a value of the claim "{claim}" that is not accepted: names are texts without NUL '
            "characters, times are finite numbers.",
        ),
        (
            "exp",
            10**400,
            'The provider sent a value of the claim "{claim}" that is not accepted: names are texts without NUL '
            "characters, times are finite numbers.",
        ),
        (
            "iat",
            float("nan"),
            'The provider sent a value of the claim "{claim}" that is not accepted: names are texts without NUL '
            "characters, times are finite numbers.",
        ),
        (
            "exp",
            "2026",
            'The provider sent a value of the claim "{claim}" that is not accepted: names are texts without NUL '
            "characters, times are finite numbers.",
        ),
    ],
)
def test_claim_of_another_type_is_refused(
    company: Company, idp: OpenIdDouble, claim: str, value: object, code: str
) -> None:
    save(idp)
    idp.claims[claim] = value
    client, response = sign_in(idp)
    refused(client, response)
    assert last_refusal() == code
