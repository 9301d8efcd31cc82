"""What a provider grants is written and taken back; what was given by hand stays."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from tests.support.audit_log import empty_audit_log
from tests.support.people import make_group, make_user
from tocsin.access.audit import AuditActor
from tocsin.access.models import AuditEntry
from tocsin.core.errors import Rejected
from tocsin.identity.grants import apply_grants, granted_roles
from tocsin.identity.models import IdentityProvider
from tocsin.people.models import Group, Membership, User

pytestmark = pytest.mark.usefixtures("database")

ACTOR = AuditActor(None, "Directory", "scim")


def mapping(desk: Group) -> list[dict[str, Any]]:
    return [
        {"claim": "Admins", "role": "admin", "groups": []},
        {
            "claim": "Desk",
            "role": "responder",
            "groups": [{"group": desk.pk, "role": "manager", "on_call_roles": ["primary"]}],
        },
        {"claim": "Gone", "role": "observer", "groups": [{"group": desk.pk + 1, "role": "", "on_call_roles": []}]},
    ]


@pytest.fixture
def desk_group(now: datetime) -> Group:
    return make_group("Desk", now)


@pytest.fixture
def provider(desk_group: Group) -> IdentityProvider:
    return IdentityProvider.objects.create(
        name="Directory", slug="directory", kind="oidc", issuer="i", roles=mapping(desk_group)
    )


def grant(user: User, provider: IdentityProvider, now: datetime, *groups: str) -> User:
    apply_grants(user, provider, granted_roles(provider, list(groups)), actor=ACTOR, now=now)
    return User.accounts.get(pk=user.pk)


def memberships(user: User) -> list[tuple[str, str, list[str], str]]:
    rows = Membership.objects.filter(user=user).select_related("group")
    return [(one.group.name, one.role, one.roles, one.source) for one in rows]


def provisioned(username: str, now: datetime, **spec: object) -> User:
    user = make_user(username, now, **spec)
    User.objects.filter(pk=user.pk).update(role_source="directory")
    return user


def test_granted_membership_comes_and_goes(now: datetime, provider: IdentityProvider) -> None:
    bob = provisioned("bob", now)
    empty_audit_log()
    assert grant(bob, provider, now, "Desk").role == "responder"
    assert memberships(bob) == [("Desk", "manager", ["primary"], "directory")]
    assert grant(bob, provider, now, "Desk").role == "responder"
    assert [(entry.object_type, entry.via) for entry in AuditEntry.objects.all()] == [("group", "scim")]
    assert grant(bob, provider, now, "Gone").role == "observer"
    assert memberships(bob) == []


def test_what_was_given_by_hand_stays(now: datetime, provider: IdentityProvider) -> None:
    bob = make_user("bob", now, role="manager")
    Membership.objects.create(user=bob, group=Group.objects.get(), roles=["primary"])
    assert grant(bob, provider, now, "Desk", "Admins").role == "manager"
    assert memberships(bob) == [("Desk", "", ["primary"], "")]
    grant(bob, provider, now)
    assert memberships(bob) == [("Desk", "", ["primary"], "")]


def test_last_administrator_is_not_demoted(now: datetime, provider: IdentityProvider) -> None:
    ann = provisioned("ann", now, role="admin")
    with pytest.raises(Rejected) as raised:
        grant(ann, provider, now, "Desk")
    assert raised.value.code == "last_administrator"
    assert User.accounts.get().role == "admin"


@pytest.mark.parametrize("mark", ["is_break_glass", "is_service_account"])
def test_special_accounts_are_never_changed(now: datetime, provider: IdentityProvider, mark: str) -> None:
    bob = provisioned("bob", now, role="manager")
    User.objects.filter(pk=bob.pk).update(**{mark: True})
    assert grant(bob, provider, now, "Desk").role == "manager"
    assert memberships(bob) == []
