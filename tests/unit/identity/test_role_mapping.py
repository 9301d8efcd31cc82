"""What the groups at a provider give: roles, memberships, and nothing where no mapping fits."""

from __future__ import annotations

from typing import Any

import pytest

from tocsin.access.roles import Role
from tocsin.identity.role_mapping import Grants, decide_grants
from tocsin.people.member_roles import MemberRole

DESK: dict[str, Any] = {"group": "Service Desk", "role": "responder", "on_call_roles": ["secondary", "primary"]}
MAPPING: list[dict[str, Any]] = [
    {"claim": "Admins", "role": "admin"},
    {"claim": "Desk", "role": "responder", "groups": [DESK]},
    {"claim": "Leads", "groups": [{"group": "service desk", "role": "manager", "on_call_roles": ["manager"]}]},
    {"claim": "Watchers", "groups": [{"group": "Service Desk"}]},
]


@pytest.mark.parametrize(
    ("groups", "default", "role", "claim"),
    [
        (["Admins", "Desk"], "", Role.ADMIN, "Admins"),
        (["Desk", "Admins"], "observer", Role.ADMIN, "Admins"),
        (["Desk"], "manager", Role.RESPONDER, "Desk"),
        (["Leads"], "observer", Role.OBSERVER, ""),
        (["Other"], "observer", Role.OBSERVER, ""),
        (["admins"], "", None, ""),
        ([], "", None, ""),
    ],
)
def test_highest_mapped_role_counts(groups: list[str], default: str, role: Role | None, claim: str) -> None:
    grants = decide_grants(groups, MAPPING, default)
    assert (grants.role, grants.claim) == (role, claim)


def test_memberships_of_several_mappings_become_one() -> None:
    [membership] = decide_grants(["Watchers", "Leads", "Desk"], MAPPING, "").memberships
    assert membership.group.casefold() == "service desk"
    assert membership.role is Role.MANAGER
    assert membership.on_call_roles == (MemberRole.PRIMARY, MemberRole.SECONDARY, MemberRole.MANAGER)


def test_membership_without_role_keeps_the_users_own() -> None:
    [membership] = decide_grants(["Watchers"], MAPPING, "").memberships
    assert (membership.role, membership.on_call_roles, membership.claim) == (None, (), "Watchers")


def test_unknown_groups_give_nothing() -> None:
    assert decide_grants(["Sales"], MAPPING, "") == Grants(None, "", (), is_mapped=False)
