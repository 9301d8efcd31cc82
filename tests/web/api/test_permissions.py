"""Permissions over the API: every endpoint and role matches the table of roles."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.doubles.ntfy import NtfyDouble
from tests.support.api_examples import ALWAYS_OWNED, ANSWERED_ELSEWHERE, EXAMPLES, NARROWED, NEVER_OWN, ApiObjects
from tests.web.api.conftest import Api, ApiResponse, Company
from tests.web.api.test_errors import refused
from tocsin.access.roles import Permission, PermissionScope, Role, permission_scope
from tocsin.api.application import api
from tocsin.api.framework.auth import ApiAuth
from tocsin.people.models import Group, Membership, User


def operations() -> Iterator[tuple[str, str, list[object]]]:
    """Every operation that the API has: method, path below /api/v1/, and what guards it."""
    for router in api._get_bound_routers():
        for path, view in router.path_operations.items():
            for operation in view.operations:
                for method in operation.methods:
                    yield method, f"{router.prefix}{path}".strip("/"), list(operation.auth_callbacks)


OPERATIONS = {f"{method} {path}": guards for method, path, guards in operations()}
_numbers = itertools.count()
NOUNS = sorted({name.partition(" ")[2].partition("/")[0] for name in OPERATIONS})


def test_no_address_is_without_a_declared_action() -> None:
    assert len(OPERATIONS) > 60
    for name, guards in OPERATIONS.items():
        assert [type(guard) for guard in guards] == [ApiAuth], name
        assert isinstance(guards[0].action, Permission), name


def test_every_address_has_an_example_that_is_walked_over() -> None:
    assert set(OPERATIONS) == set(EXAMPLES)


@pytest.mark.parametrize("noun", NOUNS)
def test_every_role_gets_what_the_table_says(
    noun: str, company: Company, caller: Callable[[User], Api], open_alert: Callable[..., int], ntfy: NtfyDouble
) -> None:
    roles = {
        Role.OBSERVER: company.olga,
        Role.RESPONDER: company.bob,
        Role.MANAGER: company.mia,
        Role.ADMIN: company.alice,
    }
    askers = {role: caller(user) for role, user in roles.items()}
    for name in [n for n in OPERATIONS if n.partition(" ")[2].partition("/")[0] == noun]:
        gate = OPERATIONS[name][0]
        assert isinstance(gate, ApiAuth)

        def request(user: User, group: Group | None, name: str = name) -> tuple[str, Any]:
            return EXAMPLES[name](ApiObjects(company, user, group, open_alert, ntfy.url))

        def ask(asker: Api, path: str, body: Any, name: str = name) -> ApiResponse:
            return asker.send(name.partition(" ")[0], path, body)

        # Who is refused without a look at the object leaves it as it was.
        untouched = request(company.alice, _own(company))
        refused(ask(Api(), *untouched), 401, "not_authenticated")
        for role, asker in askers.items():
            user = roles[role]
            match permission_scope(role, gate.action):
                case PermissionScope.NONE:
                    refused(ask(asker, *untouched), 403, "forbidden")
                case PermissionScope.ALL:
                    _works(name, role, ask(asker, *request(user, _own(company))))
                case PermissionScope.OWN_GROUPS:
                    if name not in NEVER_OWN:
                        _works(name, role, ask(asker, *request(user, _own(company))))
                    if name in NARROWED:
                        continue
                    refused(ask(asker, *request(user, _foreign())), 403, "forbidden")
                    if noun not in ALWAYS_OWNED:
                        refused(ask(asker, *request(user, None)), 403, "forbidden")


def _own(company: Company) -> Group:
    """A group of those who ask, made anew, since a request may delete it."""
    group = Group.objects.create(name=f"Own {next(_numbers)}")
    members = (company.mia, company.bob, company.olga)
    Membership.objects.bulk_create(Membership(group=group, user=user, roles=["primary"]) for user in members)
    return group


def _foreign() -> Group:
    return Group.objects.create(name=f"Foreign {next(_numbers)}")


def _works(name: str, role: Role, answer: ApiResponse) -> None:
    if name in ANSWERED_ELSEWHERE:
        refused(answer, *ANSWERED_ELSEWHERE[name])
    else:
        assert 200 <= answer.status < 300, (name, role, answer)


# --- what the table does not say by itself


def test_objects_cannot_be_moved_between_groups_without_permission(company: Company, admin: Api, manager: Api) -> None:
    for noun, spec in (
        ("support-hours", {"windows": [{"days": ["mon"], "from": "08:00", "to": "18:00"}]}),
        ("escalation-policies", {"steps": [{"notify": {"users": ["bob"]}}]}),
        ("integrations", {"kind": "api", "mode": "dry_run"}),
    ):
        own = manager.post(noun, {**spec, "name": "Own", "group": "Service Desk"})
        assert own.status == 201, own
        admin.post(noun, {**spec, "name": "Theirs", "group": "Network"})
        refused(manager.patch(f"{noun}/Own", {"group": "Network"}), 403, "forbidden")
        refused(manager.patch(f"{noun}/Own", {"group": None}), 403, "forbidden")
        refused(manager.patch(f"{noun}/Theirs", {"group": "Service Desk"}), 403, "forbidden")
        refused(manager.put(f"{noun}/Theirs", {**spec, "name": "Theirs", "group": "Service Desk"}), 403, "forbidden")
        assert admin.get(f"{noun}/Own").body["group"] == "Service Desk"
        assert admin.get(f"{noun}/Theirs").body["group"] == "Network"


def test_a_manager_cannot_make_a_group_by_being_its_member(company: Company, manager: Api) -> None:
    body = {"name": "Mine", "members": [{"user": "mia", "roles": ["lead"]}]}
    refused(manager.post("groups", body), 403, "forbidden")
    assert not Group.objects.filter(name="Mine").exists()


def test_only_an_administrator_changes_contact_methods_and_tokens_of_others(
    company: Company, admin: Api, manager: Api
) -> None:
    bobs = company.bob.contact_methods.get(label="Email-Official").pk
    method = {"label": "Second", "channel": "email", "address": "second@example.org"}
    refused(manager.post("contact-methods", {**method, "user": "bob"}), 403, "forbidden")
    refused(manager.put(f"contact-methods/{bobs}", method), 403, "forbidden")
    refused(manager.patch(f"contact-methods/{bobs}", {"wait": "3m"}), 403, "forbidden")
    refused(manager.delete(f"contact-methods/{bobs}"), 403, "forbidden")
    refused(manager.post("tokens", {"name": "for bob", "user": "bob"}), 403, "forbidden")
    assert admin.post("contact-methods", {**method, "user": "bob"}).body["user"] == "bob"
    assert admin.patch(f"contact-methods/{bobs}", {"wait": "3m"}).body["wait"] == "3m"
    made = admin.post("tokens", {"name": "for bob", "user": "bob"}).body
    assert made["user"] == "bob"
    assert made["id"] not in [token["id"] for token in manager.get("tokens").body["items"]]
    refused(manager.get(f"tokens/{made['id']}"), 404, "not_found")
    refused(manager.delete(f"tokens/{made['id']}"), 404, "not_found")


@pytest.mark.parametrize(
    ("who", "bob", "nadia"),
    [("olga", False, False), ("bob", True, False), ("mia", True, False), ("alice", True, True), ("nadia", False, True)],
)
def test_addresses_are_masked_without_permission(
    company: Company, caller: Callable[[User], Api], who: str, bob: bool, nadia: bool
) -> None:
    asker = caller(getattr(company, who))
    for name, seen in (("bob", bob), ("nadia", nadia)):
        user = asker.get(f"users/{name}").body
        listed = next(one for one in asker.get("users").body["items"] if one["username"] == name)
        methods = asker.get("contact-methods", user=name).body["items"]
        assert user == listed
        number = "+41790000003" if name == "bob" else "+41790000005"
        addresses = [user["email"], *(method["address"] for method in (*user["contact_methods"], *methods))]
        assert all((address in (f"{name}@example.org", number)) == seen for address in addresses)
        assert any("•" in address for address in addresses) != seen
        # Nor can one ask whether somebody has an address.
        assert bool(asker.get("users", email=f"{name}@example.org").body["items"]) == seen


def test_a_groups_contacts_are_masked_for_others(company: Company, admin: Api, manager: Api) -> None:
    assert admin.get("groups/Network").body["contacts"][0]["address"] == "network@example.org"
    assert "•" in manager.get("groups/Network").body["contacts"][0]["address"]


def test_deliveries_and_notifications_mask_addresses_too(
    company: Company, admin: Api, responder: Api, observer: Api, open_alert: Callable[..., int]
) -> None:
    owned = ApiObjects(company, company.alice, company.desk, open_alert)
    for noun in ("notifications", "deliveries"):
        path, _ = EXAMPLES[f"GET {noun}/{{id}}"](owned)
        assert observer.get(path).body["address"] == "b•••@example.org"
        assert observer.get(noun).body["items"][0]["address"] == "b•••@example.org"
        assert responder.get(path).body["address"] == "bob@example.org"
        assert admin.get(noun).body["items"][0]["address"] == "bob@example.org"


def test_webhook_url_is_shown_only_with_change_permission(
    company: Company, admin: Api, manager: Api, responder: Api
) -> None:
    for name, group in (("Own", "Service Desk"), ("Theirs", "Network"), ("Free", None)):
        admin.post("integrations", {"name": name, "kind": "api", "mode": "dry_run", "group": group})

    def urls(asker: Api) -> dict[str, bool]:
        return {one["name"]: one["url"] is not None for one in asker.get("integrations").body["items"]}

    assert urls(admin) == {"Own": True, "Theirs": True, "Free": True}
    assert urls(manager) == {"Own": True, "Theirs": False, "Free": False}
    assert urls(responder) == {"Own": False, "Theirs": False, "Free": False}
    assert "token" not in manager.get("integrations/Own").body


def test_sandbox_messages_of_others_are_for_administrators(
    company: Company, admin: Api, responder: Api, open_alert: Callable[..., int]
) -> None:
    path, _ = EXAMPLES["GET sandbox-messages/{int:id}"](ApiObjects(company, company.mia, None, open_alert))
    refused(responder.get(path), 404, "not_found")
    assert responder.get("sandbox-messages").body["items"] == []
    assert len(admin.get("sandbox-messages").body["items"]) == 1


# --- the session of a page


def test_a_signed_in_page_may_ask_without_a_token(company: Company) -> None:
    page = Api()
    page.client.force_login(company.bob)
    assert page.get("alerts").status == 200


def test_a_signed_in_page_changes_nothing_without_its_csrf_token(
    company: Company, open_alert: Callable[..., int]
) -> None:
    number = open_alert()
    page = Api()
    page.client.handler.enforce_csrf_checks = True
    page.client.force_login(company.bob)
    refused(page.post(f"alerts/{number}/acknowledge"), 403, "csrf")
    page.client.cookies["tocsin_csrf"] = "a" * 32
    refused(page.post(f"alerts/{number}/acknowledge", None, **{"X-CSRFToken": "b" * 32}), 403, "csrf")
    answer = page.post(f"alerts/{number}/acknowledge", None, **{"X-CSRFToken": "a" * 32})
    assert answer.status == 200, answer
    event = page.get(f"alerts/{number}/events", kind="acknowledged").body["items"][0]
    assert (event["via"], event["actor_kind"]) == ("web", "user")


def test_a_token_needs_no_csrf_token(responder: Api, open_alert: Callable[..., int]) -> None:
    responder.client.handler.enforce_csrf_checks = True
    assert responder.post(f"alerts/{open_alert()}/acknowledge").status == 200


def test_another_groups_outbound_data_is_unreachable_through_own(
    company: Company, admin: Api, manager: Api, observer: Api
) -> None:
    halo = {"kind": "haloitsm", "client_id": "id", "client_secret": "secret", "base_url": "https://x.haloitsm.com"}
    integration = {"kind": "haloitsm", "mode": "dry_run"}
    hook = {"kind": "http", "url": "https://chat.example.org/services/T0KEN", "headers": {"X-Key": "K3Y"}}
    for body in (
        {"name": "Ours", "group": "Service Desk", **halo},
        {"name": "Theirs", "group": "Network", **halo},
        {"name": "Chat", "group": "Network", **hook},
    ):
        assert admin.post("outbound-integrations", body).status == 201
    assert (
        admin.post("integrations", {"name": "Door", "group": "Network", "outbound": "Ours", **integration}).status
        == 201
    )

    set_up = manager.post("outbound-integrations/Ours/set-up-webhook", {"integration": "Door"})
    refused(set_up, 403, "forbidden")
    own = {"name": "Mine", "group": "Service Desk", "source": "Our Halo", **integration}
    refused(manager.post("integrations", {**own, "outbound": "Theirs"}), 403, "forbidden")
    assert manager.post("integrations", {**own, "outbound": "Ours"}).status == 201
    refused(manager.patch("integrations/Mine", {"outbound": "Theirs"}), 403, "forbidden")
    assert manager.get("integrations/Mine").body["outbound"] == "Ours"
    for reader in (manager, observer):
        shown = f"{reader.get('outbound-integrations').body} {reader.get('outbound-integrations/Chat').body}"
        assert "T0KEN" not in shown
        assert "K3Y" not in shown
    assert admin.get("outbound-integrations/Chat").body["url"] == "https://chat.example.org/…"
