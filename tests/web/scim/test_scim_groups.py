"""Groups by SCIM: their members, and the roles and memberships that the mapping gives to them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.company import Company, make_user
from tests.support.scim import ScimClient, scim_client
from tocsin.access.audit import COMMAND_LINE
from tocsin.access.models import AuditEntry
from tocsin.core.runtime import clock
from tocsin.identity import commands
from tocsin.identity.models import ScimGroup
from tocsin.identity.scim.provisioned_groups import directory_groups
from tocsin.people.models import Membership, User


def mapping(company: Company) -> list[dict[str, Any]]:
    return [
        {"claim": "Admins", "role": "admin", "groups": []},
        {
            "claim": "Desk",
            "role": "responder",
            "groups": [{"group": company.desk.pk, "role": "manager", "on_call_roles": ["secondary"]}],
        },
    ]


@pytest.fixture
def client(company: Company) -> ScimClient:
    return scim_client(roles=mapping(company))


def member_operation(op: str, *ids: str) -> dict[str, Any]:
    return {"op": op, "path": "members", "value": [{"value": one} for one in ids]}


def members_of(client: ScimClient, group: dict[str, Any]) -> list[str]:
    return [one["value"] for one in client.get(f"/Groups/{group['id']}").body.get("members", [])]


def role_of(username: str) -> str:
    return User.objects.get(username=username).role


def test_members_come_and_go_as_providers_write_them(client: ScimClient) -> None:
    ids = [client.create(name)["id"] for name in ("carl", "dora", "emil", "fred")]
    group = client.create_group("Staff", ids[0])
    path = f"/Groups/{group['id']}"
    assert members_of(client, group) == ids[:1]
    assert client.patch(path, member_operation("Add", *ids[:3]), member_operation("add", ids[3])).status == 200
    assert members_of(client, group) == ids
    assert client.patch(path, {"op": "remove", "path": f'members[value eq "{ids[1]}"]'}).status == 200
    # Entra ID's form, and one who has left already.
    assert client.patch(path, member_operation("Remove", ids[2], ids[1])).status == 200
    assert members_of(client, group) == [ids[0], ids[3]]
    assert client.get(f"/Users/{ids[0]}").body["groups"][0]["display"] == "Staff"
    assert client.patch(path, member_operation("replace", ids[2])).status == 200
    assert members_of(client, group) == [ids[2]]
    assert client.patch(path, {"op": "remove", "path": "members"}).status == 200
    assert members_of(client, group) == []
    renamed = client.patch(path, {"op": "replace", "value": {"id": group["id"], "displayName": "Everybody"}})
    assert renamed.body["displayName"] == "Everybody"
    written = client.send("PUT", path, {"displayName": "Staff", "externalId": "s", "members": [{"value": ids[0]}]})
    assert (written.body["externalId"], members_of(client, group)) == ("s", ids[:1])


def test_unknown_member_changes_nothing(client: ScimClient, company: Company) -> None:
    carl = client.create("carl")["id"]
    group = client.create_group("Staff", carl)
    for other in ("x", str(company.responder.pk), f"{company.responder.pk}.forged"):
        answer = client.patch(f"/Groups/{group['id']}", member_operation("add", other))
        assert answer.error == (400, "invalidValue")
        assert "members[1].value" in answer.body["detail"]
    assert members_of(client, group) == [carl]


def test_member_found_by_filter_is_linked(client: ScimClient) -> None:
    [bob] = client.find('userName eq "bob"')
    group = client.create_group("Staff", bob["id"])
    assert members_of(client, group) == [bob["id"]]
    assert client.get(f"/Users/{bob['id']}").status == 200


def test_mapped_group_gives_and_takes_roles(client: ScimClient, company: Company) -> None:
    carl = client.create("carl")["id"]
    assert role_of("carl") == "observer"
    group = client.create_group("Desk", carl)
    assert role_of("carl") == "responder"
    membership = Membership.objects.get(user__username="carl")
    assert (membership.group, membership.role, membership.roles) == (company.desk, "manager", ["secondary"])
    assert membership.source == "directory"
    entry = AuditEntry.objects.get(object_type="group", via="scim")
    assert (entry.actor_name, entry.action, entry.after["claim"]) == ("Directory", "grant", "Desk")
    assert client.patch(f"/Groups/{group['id']}", {"op": "replace", "path": "displayName", "value": "X"}).status == 200
    assert (role_of("carl"), Membership.objects.filter(user__username="carl").count()) == ("observer", 0)
    assert (
        client.patch(f"/Groups/{group['id']}", {"op": "replace", "path": "displayName", "value": "Desk"}).status == 200
    )
    assert role_of("carl") == "responder"
    assert client.send("DELETE", f"/Groups/{group['id']}").status == 204
    assert (role_of("carl"), Membership.objects.filter(user__username="carl").count()) == ("observer", 0)


def test_last_administrator_stays_in_the_group(client: ScimClient, company: Company) -> None:
    carl = client.create("carl")["id"]
    group = client.create_group("Admins", carl)
    assert role_of("carl") == "admin"
    User.objects.filter(username="alice").update(role="manager")
    assert client.patch(f"/Groups/{group['id']}", {"op": "remove", "path": "members"}).error == (409, "")
    assert client.send("DELETE", f"/Groups/{group['id']}").error == (409, "")
    assert (role_of("carl"), members_of(client, group)) == ("admin", [carl])
    make_user("ada", "admin")
    assert client.send("DELETE", f"/Groups/{group['id']}").status == 204
    assert role_of("carl") == "observer"


def test_changed_mapping_applies_to_pushed_groups_at_once(client: ScimClient) -> None:
    client.provider.default_role = "observer"
    client.provider.save()
    client.create_group("Staff", client.create("carl")["id"])
    spec = commands.provider_spec(client.provider)
    roles = [{"claim": "Staff", "role": "manager"}]
    spec |= {"issuer": "https://login.example.org", "client_id": "x", "roles": roles}
    commands.save_provider(spec, existing=client.provider, actor=COMMAND_LINE, now=clock.now())
    assert role_of("carl") == "manager"


def test_linked_user_keeps_the_role_given_by_hand(client: ScimClient) -> None:
    [bob] = client.find('userName eq "bob"')
    client.create_group("Admins", bob["id"])
    assert role_of("bob") == "responder"


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({}, (400, "invalidValue")),
        ({"displayName": " "}, (400, "invalidValue")),
        ({"displayName": "x" * 301}, (400, "invalidValue")),
        ({"displayName": "STAFF"}, (409, "uniqueness")),
        ({"displayName": "Y", "members": [{"value": "x"}]}, (400, "invalidValue")),
        ({"displayName": "Y", "members": [[]]}, (400, "invalidValue")),
        ("Y", (400, "invalidSyntax")),
    ],
)
def test_bad_group_is_refused(client: ScimClient, body: object, error: tuple[int, str]) -> None:
    client.create_group("Staff")
    assert client.send("POST", "/Groups", body).error == error
    assert ScimGroup.objects.count() == 1


def test_groups_are_found_as_providers_ask(client: ScimClient) -> None:
    ids = [client.create(name)["id"] for name in ("carl", "dora")]
    group = client.create_group("Staff", *ids)
    other = client.create_group("Other", ids[0])
    assert [one["id"] for one in client.find('displayName eq "staff"', "Groups")] == [group["id"]]
    entra = f'id eq "{group["id"]}" and members eq "{ids[1]}"'
    assert [one["id"] for one in client.find(entra, "Groups")] == [group["id"]]
    assert client.find(f'id eq "{other["id"]}" and members[value eq "{ids[1]}"]', "Groups") == []
    assert client.find('id eq "x"', "Groups") == []
    listed = client.get("/Groups?excludedAttributes=members").body["Resources"]
    assert [("members" in one, one["displayName"]) for one in listed] == [(False, "Staff"), (False, "Other")]
    version = client.get(f"/Groups/{group['id']}?excludedAttributes=members").headers["ETag"]
    assert version == client.get(f"/Groups/{group['id']}").headers["ETag"]
    client.send("DELETE", f"/Users/{ids[1]}")
    assert version != client.get(f"/Groups/{group['id']}").headers["ETag"]


def test_provider_sees_only_its_own_groups(client: ScimClient) -> None:
    group = client.create_group("Staff")
    other = scim_client("Other")
    path = f"/Groups/{group['id']}"
    assert other.get("/Groups").body["totalResults"] == 0
    assert other.get(path).error == other.send("DELETE", path).error == (404, "")
    assert other.patch(path, member_operation("add")).error == (404, "")
    other.create_group("Staff")


def test_pushed_groups_decide_instead_of_claims(client: ScimClient) -> None:
    client.create("carl")
    carl = User.objects.get(username="carl")
    assert directory_groups(carl, client.provider) is None
    client.create_group("Desk")
    assert directory_groups(carl, client.provider) == []
    client.create_group("Staff", carl.scim_user.scim_id)
    assert directory_groups(carl, client.provider) == ["Staff"]
