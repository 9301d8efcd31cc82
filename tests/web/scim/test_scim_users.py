"""Users by SCIM: what a provider creates and changes, and what it may not."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from allauth.account.models import EmailAddress
from django.test import Client as Browser

from tests.support.company import PASSWORD, Company, make_user
from tests.support.scim import ScimClient, scim_client, user_body
from tocsin.access import tokens as api_tokens
from tocsin.access.audit import COMMAND_LINE
from tocsin.access.models import AuditEntry
from tocsin.access.roles import UNLIMITED
from tocsin.core.runtime import clock
from tocsin.identity.models import ScimUser
from tocsin.identity.scim import documents
from tocsin.oncall.changes import commands as oncall
from tocsin.people.changes import groups
from tocsin.people.models import User

ENTERPRISE = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"


@pytest.fixture
def client(company: Company) -> ScimClient:
    return scim_client()


def replace(path: str, value: object) -> dict[str, Any]:
    return {"op": "replace", "path": path, "value": value}


# Access


def test_requests_need_the_token_of_an_enabled_provider(client: ScimClient) -> None:
    assert client.get("/Users").status == 200
    for token in ("", "wrong", client.token.upper()):
        assert ScimClient(client.provider, token).get("/Users").error == (401, "")
    client.provider.is_enabled = False
    client.provider.save()
    assert client.get("/Users").error == (401, "")


def test_token_of_a_user_opens_nothing(client: ScimClient, company: Company) -> None:
    secret = api_tokens.create(company.admin, "script", limits=UNLIMITED, actor=COMMAND_LINE, now=clock.now()).secret
    assert ScimClient(client.provider, secret).get("/Users").error == (401, "")


def test_rotation_ends_the_earlier_token(client: ScimClient) -> None:
    secret = documents.rotate_token(client.provider, actor=COMMAND_LINE, now=clock.now())
    assert client.get("/Users").status == 401
    rotated = ScimClient(client.provider, secret)
    assert rotated.get("/Users").status == 200
    assert documents.turn_off(client.provider, actor=COMMAND_LINE, now=clock.now())
    assert not documents.turn_off(client.provider, actor=COMMAND_LINE, now=clock.now())
    assert rotated.get("/Users").status == 401
    actions = list(AuditEntry.objects.filter(object_type="identity_provider").values_list("action", flat=True))
    assert actions == ["create_scim_token", "rotate_scim_token", "revoke_scim_token"]
    assert secret not in str(list(AuditEntry.objects.values()))


def test_administrators_make_and_revoke_the_token_on_its_page(
    client: ScimClient, company: Company, browser_of: Callable[[User], Browser]
) -> None:
    path = f"/settings/sign-in/{client.provider.pk}/provisioning/"
    assert browser_of(company.manager).get(path).status_code == 403
    browser = browser_of(company.admin)
    assert browser.get(path).status_code == 302, "asks for the password again"
    browser.post("/account/reauthenticate/", {"password": PASSWORD})
    assert client.token[:6] in browser.get(path).content.decode()
    page = browser.post(path, {"create": ""})
    client.provider.refresh_from_db()
    found = re.search(rf'value="({client.provider.scim_token_prefix}[0-9a-f]{{26}})"', page.content.decode())
    assert found is not None
    assert "no-store" in page["Cache-Control"]
    renewed = ScimClient(client.provider, found[1])
    assert (client.get("/Users").status, renewed.get("/Users").status) == (401, 200)
    assert browser.post(path, {"revoke": ""}).status_code == 302
    assert renewed.get("/Users").status == 401


# Creating


def test_created_user_has_what_the_provider_wrote(client: ScimClient) -> None:
    client.provider.default_role = "responder"
    client.provider.save()
    body = user_body(
        "carl",
        externalId="c-1",
        name={"givenName": "Carl", "familyName": "Clark", "middleName": "X"},
        phoneNumbers=[{"value": "nothing", "type": "mobile"}, {"value": "tel:+41 79 000 00 09", "type": "work"}],
        locale="de-CH",
        timezone="Europe/Zurich",
        **{ENTERPRISE: {"department": "IT"}},
    )
    answer = client.send("POST", "/Users", body)
    assert (answer.status, answer.headers["Location"]) == (201, answer.body["meta"]["location"])
    assert answer.body["name"] == {"givenName": "Carl", "familyName": "Clark"}
    assert (answer.body["externalId"], answer.body["active"]) == ("c-1", True)
    user = User.objects.get(username="carl")
    assert (user.name, user.email, user.role, user.role_source) == (
        "Carl Clark",
        "carl@example.org",
        "responder",
        "directory",
    )
    assert (user.language, user.time_zone, user.has_usable_password()) == ("de", "Europe/Zurich", False)
    methods = [(one.channel, one.address, one.awaits_code) for one in user.contact_methods.all()]
    assert methods == [("email", "carl@example.org", False), ("sms", "+41790000009", True)]
    entry = AuditEntry.objects.get(object_type="user", object_id=str(user.pk), action="create")
    assert (entry.actor_name, entry.via, entry.address) == ("Directory", "scim", "127.0.0.1")


def test_user_without_default_role_gets_the_least(client: ScimClient) -> None:
    client.create("carl")
    assert User.objects.get(username="carl").role == "observer"


def test_username_serves_as_missing_email(client: ScimClient) -> None:
    answer = client.send("POST", "/Users", {"userName": "Carl@Example.org"})
    assert answer.status == 201
    assert User.objects.get(username="Carl@Example.org").email == "carl@example.org"


@pytest.mark.parametrize(
    ("change", "scim_type", "place"),
    [
        ({"userName": None}, "invalidValue", "userName"),
        ({"userName": "a/b"}, "invalidValue", "username"),
        ({"userName": 7}, "invalidValue", "userName"),
        ({"emails": []}, "invalidValue", "emails"),
        ({"emails": [{"type": "work"}]}, "invalidValue", "emails[0].value"),
        ({"emails": [{"value": "no address"}]}, "invalidValue", "email"),
        ({"emails": [{"value": f"{n}@x.example", "primary": True} for n in "ab"]}, "invalidValue", "emails"),
        ({"active": "maybe"}, "invalidValue", "active"),
        ({"name": "Carl"}, "invalidValue", "name"),
        ({"displayName": "x" * 1001}, "invalidValue", "displayName"),
        ({"displayName": "a\x00b"}, "invalidValue", "NUL"),
        ({"phoneNumbers": [{"value": str(n)} for n in range(21)]}, "invalidValue", "phoneNumbers"),
        ({"userName": "BOB"}, "uniqueness", "already"),
        ({"emails": [{"value": "Bob@example.org"}]}, "uniqueness", "already"),
    ],
)
def test_bad_user_is_refused_with_the_place(
    client: ScimClient, change: dict[str, object], scim_type: str, place: str
) -> None:
    answer = client.send("POST", "/Users", user_body("carl", **change))
    assert answer.error == (409 if scim_type == "uniqueness" else 400, scim_type)
    assert place in answer.body["detail"]
    assert not ScimUser.objects.exists()


def test_email_must_be_of_an_allowed_domain(client: ScimClient) -> None:
    client.provider.allowed_domains = ["example.org"]
    client.provider.save()
    carl = client.create("carl")
    other = [{"value": "dora@evil.example"}]
    assert client.send("POST", "/Users", user_body("dora", emails=other)).error == (400, "invalidValue")
    assert client.patch(f"/Users/{carl['id']}", replace("emails", other)).error == (400, "invalidValue")


# Changing


def test_patch_as_entra_id_sends_it(client: ScimClient) -> None:
    carl = client.create("carl", name={"givenName": "Carl"})
    answer = client.patch(
        f"/Users/{carl['id']}",
        {"op": "Add", "path": 'phoneNumbers[type eq "mobile"].value', "value": "+41790000009"},
        {"op": "Replace", "path": 'emails[type eq "work"].value', "value": "Carl.Clark@example.org"},
        {"op": "Replace", "path": f"{ENTERPRISE}:department", "value": "IT"},
        {"op": "Add", "value": {"name.familyName": "Clark", "active": "False", f"{ENTERPRISE}:manager": "9"}},
        {"op": "Replace", "path": "title", "value": "Engineer"},
    )
    assert answer.status == 200, answer.body
    assert answer.body["name"] == {"givenName": "Carl", "familyName": "Clark"}
    assert answer.body["phoneNumbers"] == [{"type": "mobile", "value": "+41790000009"}]
    assert answer.body["emails"] == [{"value": "Carl.Clark@example.org", "type": "work", "primary": True}]
    user = User.objects.get(username="carl")
    assert (user.name, user.email, user.is_active) == ("Carl Clark", "carl.clark@example.org", False)
    methods = [(one.channel, one.address, one.awaits_code) for one in user.contact_methods.all()]
    assert methods == [("email", "carl.clark@example.org", False), ("sms", "+41790000009", True)]


@pytest.mark.parametrize(
    ("operation", "scim_type"),
    [
        (replace("shoeSize", 44), "invalidPath"),
        (replace("name.shoeSize", 44), "invalidPath"),
        (replace('emails[type eq "work"', "x"), "invalidPath"),
        (replace('emails[type foo "work"].value', "x"), "invalidFilter"),
        (replace('displayName[type eq "work"]', "x"), "invalidPath"),
        (replace('emails[type eq "home"].value', "a@x.example"), "noTarget"),
        (replace("groups", []), "mutability"),
        (replace("id", "7"), "mutability"),
        ({"op": "remove", "path": "userName"}, "mutability"),
        ({"op": "remove", "path": "active"}, "mutability"),
        ({"op": "remove", "path": "emails"}, "mutability"),
        ({"op": "remove"}, "noTarget"),
        ({"op": "move", "path": "userName", "value": "x"}, "invalidSyntax"),
        ({"op": "add", "value": "x"}, "invalidValue"),
        ({"op": "add", "path": 7, "value": "x"}, "invalidPath"),
        (replace("userName", "bob"), "uniqueness"),
    ],
)
def test_bad_patch_changes_nothing(client: ScimClient, operation: dict[str, Any], scim_type: str) -> None:
    carl = client.create("carl")
    answer = client.patch(f"/Users/{carl['id']}", replace("displayName", "Changed"), operation)
    assert answer.error == (409 if scim_type == "uniqueness" else 400, scim_type)
    assert client.get(f"/Users/{carl['id']}").body == carl


@pytest.mark.parametrize("body", [[], {}, {"Operations": []}, {"Operations": ["x"]}, b"{", b"[" * 100_000, b"\xff"])
def test_unreadable_patch_is_refused(client: ScimClient, body: object) -> None:
    carl = client.create("carl")
    assert client.send("PATCH", f"/Users/{carl['id']}", body).error == (400, "invalidSyntax")


def test_deeply_nested_text_is_refused(client: ScimClient) -> None:
    assert client.send("POST", "/Users", b"[" * 2000 + b'"\\u0041"' + b"]" * 2000).error == (400, "invalidSyntax")


def test_large_body_is_refused(client: ScimClient) -> None:
    assert client.send("POST", "/Users", b" " * (2 * 1024 * 1024 + 1)).error == (413, "")


def test_put_replaces_all_but_the_state(client: ScimClient) -> None:
    carl = client.create("carl", displayName="Carl", externalId="c", active=False)
    answer = client.send("PUT", f"/Users/{carl['id']}", user_body("carl2"))
    assert (answer.status, answer.body["userName"], answer.body["active"]) == (200, "carl2", False)
    assert "displayName" not in answer.body
    assert "externalId" not in answer.body


def test_own_choice_of_language_stays(client: ScimClient) -> None:
    carl = client.create("carl", locale="de-DE", timezone="W. Europe Standard Time")
    User.objects.filter(username="carl").update(language="en")
    answer = client.send("PUT", f"/Users/{carl['id']}", user_body("carl", locale="de-DE", displayName="C"))
    assert answer.body["locale"] == "de-DE"
    assert User.objects.get(username="carl").language == "en"


def test_answer_shows_what_was_changed_here(client: ScimClient) -> None:
    carl = client.create("carl", name={"formatted": "Carl Clark"})
    User.objects.filter(username="carl").update(name="Carl C.", email="c@example.org", is_active=False)
    shown = client.get(f"/Users/{carl['id']}").body
    assert (shown["displayName"], shown["emails"][0]["value"], shown["active"]) == ("Carl C.", "c@example.org", False)
    assert shown["meta"]["version"] != carl["meta"]["version"]


def test_changes_need_the_current_version(client: ScimClient) -> None:
    carl = client.create("carl")
    path, version = f"/Users/{carl['id']}", carl["meta"]["version"]
    found = client.get(path)
    assert found.headers["ETag"] == version
    assert client.get(path, **{"If-None-Match": version}).status == 304
    assert client.patch(path, replace("displayName", "C"), **{"If-Match": 'W/"old"'}).error == (412, "")
    assert client.patch(path, replace("displayName", "C"), **{"If-Match": version}).status == 200
    assert client.send("DELETE", path, **{"If-Match": version}).error == (412, "")


# Who may be seen and changed


def test_provider_sees_only_its_own_users(client: ScimClient, company: Company) -> None:
    carl = client.create("carl")
    other = scim_client("Other")
    assert other.get("/Users").body["totalResults"] == 0
    for path in (f"/Users/{carl['id']}", f"/Users/{company.responder.pk}", "/Users/x", "/Users/7.forged"):
        assert other.get(path).error == (404, "")
        assert other.patch(path, replace("active", False)).error == (404, "")
        assert other.send("DELETE", path).error == (404, "")
    assert other.find('userName eq "carl"') == []


def test_existing_user_is_found_by_exact_filter_and_linked(client: ScimClient, company: Company) -> None:
    assert client.send("POST", "/Users", user_body("bob")).error == (409, "uniqueness")
    assert client.find('userName sw "bob"') == []
    [bob] = client.find('userName eq "BOB"')
    assert not ScimUser.objects.exists()
    answer = client.patch(f"/Users/{bob['id']}", replace("externalId", "b-1"))
    assert (answer.status, answer.body["id"]) == (200, bob["id"])
    assert ScimUser.objects.get().user == company.responder
    assert AuditEntry.objects.filter(action="link_scim", object_id=str(company.responder.pk)).count() == 1
    assert User.objects.get(username="bob").role == "responder"
    assert scim_client("Other").find('userName eq "bob"') == []
    assert scim_client("Third").get(f"/Users/{bob['id']}").status == 404


@pytest.mark.parametrize("is_verified", [True, False])
def test_only_a_verified_email_finds_a_user(client: ScimClient, company: Company, is_verified: bool) -> None:
    EmailAddress.objects.filter(user=company.responder).update(verified=is_verified)
    for text in ('emails[type eq "work" and value eq "bob@example.org"]', 'userName eq "bob@example.org"'):
        assert len(client.find(text)) == is_verified


@pytest.mark.parametrize("name", ["\u0131da", "\u017fue", "\u212aim"])
def test_lookalike_name_finds_and_creates_nobody(client: ScimClient, company: Company, name: str) -> None:
    for login in ("ida", "sue", "kim"):
        make_user(login, "responder")
    assert client.find(f'userName eq "{name}"') == client.find(f'userName eq "{name}@example.org"') == []
    assert client.send("POST", "/Users", user_body(name)).status in (400, 409)


@pytest.mark.parametrize("mark", ["is_break_glass", "is_service_account"])
def test_special_accounts_are_not_found(client: ScimClient, company: Company, mark: str) -> None:
    User.objects.filter(username="bob").update(**{mark: True})
    assert client.find('userName eq "bob"') == []


def test_linked_administrator_keeps_username_and_email(client: ScimClient, company: Company) -> None:
    [alice] = client.find('userName eq "alice"')
    for operation in (replace("userName", "mallory"), replace("emails", [{"value": "mallory@evil.example"}])):
        assert client.patch(f"/Users/{alice['id']}", operation).error == (400, "mutability")
    assert client.send("DELETE", f"/Users/{alice['id']}").error == (404, "")
    assert client.patch(f"/Users/{alice['id']}", replace("displayName", "Alice A.")).status == 200
    make_user("ada", "admin")
    assert client.send("DELETE", f"/Users/{alice['id']}").error == (400, "mutability")
    alice_now = User.objects.get(username="alice")
    assert (alice_now.email, alice_now.name) == ("alice@example.org", "Alice A.")


def test_administrator_of_others_is_not_deactivated(client: ScimClient, company: Company) -> None:
    make_user("ada", "admin")
    [alice] = client.find('userName eq "alice"')
    path = f"/Users/{alice['id']}"
    assert client.patch(path, replace("active", False)).error == (400, "mutability")
    assert User.objects.get(username="alice").is_active
    entry = AuditEntry.objects.get(action="provisioning_refused")
    assert (entry.object_name, entry.after["reason"]["code"]) == (
        "alice",
        "{user} is an administrator whom this provider did not create: it may deactivate the user only if they have "
        "a verified email address in its allowed domains.",
    )
    allow_domains(client, "example.org")
    assert client.patch(path, replace("active", False)).status == 200


def test_address_of_local_user_needs_a_verified_one(client: ScimClient, company: Company) -> None:
    [bob] = client.find('userName eq "bob"')
    path, operation = f"/Users/{bob['id']}", replace("emails", [{"value": "mallory@example.org", "primary": True}])
    assert client.patch(path, operation).error == (400, "mutability")
    allow_domains(client, "example.org")
    EmailAddress.objects.filter(user=company.responder).update(verified=False)
    assert client.patch(path, operation).error == (400, "mutability")
    assert User.objects.get(username="bob").email == "bob@example.org"
    codes = [entry.after["reason"]["code"] for entry in AuditEntry.objects.filter(action="provisioning_refused")]
    assert (
        codes
        == [
            "{user} was not created by this provider: it may change the email address for sign-in only if the "
            "present one is verified and in its allowed domains."
        ]
        * 2
    )
    EmailAddress.objects.filter(user=company.responder).update(verified=True)
    assert client.patch(path, operation).status == 200


def allow_domains(client: ScimClient, *domains: str) -> None:
    client.provider.allowed_domains = list(domains)
    client.provider.save()


def test_created_administrator_may_be_renamed(client: ScimClient) -> None:
    carl = client.create("carl")
    User.objects.filter(username="carl").update(role="admin")
    assert client.patch(f"/Users/{carl['id']}", replace("userName", "carl2")).status == 200


def test_last_administrator_cannot_be_deactivated(client: ScimClient) -> None:
    allow_domains(client, "example.org")
    [alice] = client.find('userName eq "alice"')
    assert client.patch(f"/Users/{alice['id']}", replace("active", False)).error == (409, "")
    make_user("ada", "admin")
    assert client.patch(f"/Users/{alice['id']}", replace("active", False)).status == 200


def test_break_glass_account_cannot_be_changed(client: ScimClient) -> None:
    carl = client.create("carl")
    User.objects.filter(username="carl").update(is_break_glass=True)
    path = f"/Users/{carl['id']}"
    assert client.patch(path, replace("active", False)).error == (400, "mutability")
    assert client.patch(path, replace("emails", [{"value": "x@evil.example"}])).error == (400, "mutability")
    assert client.send("DELETE", path).error == (400, "mutability")
    assert User.objects.get(username="carl").is_active


# Leaving


def test_deactivation_ends_sessions_and_tokens(
    client: ScimClient, company: Company, browser_of: Callable[[User], Browser]
) -> None:
    browser = browser_of(company.responder)
    secret = api_tokens.create(
        company.responder, "script", limits=UNLIMITED, actor=COMMAND_LINE, now=clock.now()
    ).secret
    assert browser.get("/alerts/").status_code == 200
    [bob] = client.find('userName eq "bob"')
    assert client.patch(f"/Users/{bob['id']}", {"op": "Replace", "value": {"active": "False"}}).status == 200
    assert browser.get("/alerts/").status_code == 302
    assert api_tokens.verify(secret, now=clock.now()) is None
    assert client.patch(f"/Users/{bob['id']}", replace("active", True)).status == 200
    assert browser.get("/alerts/").status_code == 302


def test_delete_erases_the_user(client: ScimClient) -> None:
    carl = client.create("carl")
    assert client.send("DELETE", f"/Users/{carl['id']}").status == 204
    assert client.get(f"/Users/{carl['id']}").error == (404, "")
    assert not User.objects.filter(username="carl").exists()
    assert "carl@example.org" not in str(list(AuditEntry.objects.values("before", "after")))


def test_user_in_use_is_deactivated_instead_of_deleted(client: ScimClient, company: Company) -> None:
    carl = client.create("carl")
    members = [{"user": "carl", "roles": ["primary"]}]
    groups.save_group({"name": "Desk", "members": members}, actor=COMMAND_LINE, now=clock.now())
    shift = {"name": "Week", "start": "2026-01-05", "rotate": {"every": "1w", "at": "09:00", "users": ["carl"]}}
    spec = {"name": "Plan", "group": "Desk", "shifts": [shift]}
    oncall.save_schedule(spec, actor=COMMAND_LINE, now=clock.now())
    assert client.send("DELETE", f"/Users/{carl['id']}").error == (409, "")
    assert not User.objects.get(username="carl").is_active


# Lists


def test_lists_have_pages_order_and_chosen_attributes(client: ScimClient) -> None:
    for name in ("carl", "dora", "emil"):
        client.create(name, displayName=name.title())
    whole = client.get("/Users").body
    assert (whole["totalResults"], whole["startIndex"], whole["itemsPerPage"]) == (3, 1, 3)
    query = "?sortBy=displayName&sortOrder=descending&startIndex=2&count=1&attributes=userName,emails.value"
    page = client.get(f"/Users{query}").body
    assert (page["totalResults"], page["itemsPerPage"]) == (3, 1)
    [dora] = page["Resources"]
    assert dora == {
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"],
        "id": dora["id"],
        "userName": "dora",
        "emails": [{"value": "dora@example.org"}],
    }
    assert client.get("/Users?count=0").body["Resources"] == []
    assert "emails" not in client.get("/Users?excludedAttributes=emails").body["Resources"][0]
    assert client.get("/Users?count=many").error == (400, "invalidValue")
    assert client.get("/Users?attributes=id&excludedAttributes=id").error == (400, "invalidValue")
    assert client.get("/Users?sortBy=shoeSize").error == (400, "invalidPath")


@pytest.mark.parametrize("path", ["/Bulk", "/Me", "/.search"])
def test_what_is_not_supported_says_so(client: ScimClient, path: str) -> None:
    assert client.send("POST", path, {}).error == (501, "")
    assert client.get("/ServiceProviderConfig").body["bulk"]["supported"] is False


@pytest.mark.parametrize("path", ["/", "/Nothing", "/Users/1/2", "/Schemas/x", "/ResourceTypes/x", "/Users/%00"])
def test_unknown_address_answers_in_scims_form(client: ScimClient, path: str) -> None:
    assert client.get(path).error == (404, "")


def test_wrong_method_is_refused(client: ScimClient) -> None:
    assert client.send("DELETE", "/Users").error == (405, "")
