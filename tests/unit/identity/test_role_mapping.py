"""Values of the groups claim become roles and memberships."""

from __future__ import annotations

import pytest

from tocsin.access.roles import Role
from tocsin.identity.role_mapping import (
    ExistingMembership,
    Grant,
    MappedRoles,
    MembershipChanges,
    RoleMapping,
    map_roles,
    plan_memberships,
    read_mappings,
)

DESK, NIGHT, OTHER = 1, 2, 3
MAPPINGS = (
    RoleMapping("Desk", Role.RESPONDER, (Grant(DESK, "", ("primary",), "Desk"),)),
    RoleMapping("Leads", Role.MANAGER, (Grant(DESK, "manager", ("secondary",), "Leads"),)),
    RoleMapping("Admins", Role.ADMIN),
)


def test_the_highest_fitting_role_wins_and_memberships_combine() -> None:
    assert map_roles(["Desk", "Leads", "admins"], MAPPINGS, None) == MappedRoles(
        Role.MANAGER, "Leads", (Grant(DESK, "manager", ("primary", "secondary"), "Desk, Leads"),)
    )
    assert map_roles(["Admins", "Desk"], MAPPINGS, None).role is Role.ADMIN


@pytest.mark.parametrize("default", [None, Role.OBSERVER])
def test_the_default_applies_where_no_mapping_fits(default: Role | None) -> None:
    assert map_roles(["unknown"], MAPPINGS, default) == MappedRoles(default)


def test_only_memberships_of_the_same_provider_change() -> None:
    existing = [
        ExistingMembership(DESK, "", ("primary",), "okta"),
        ExistingMembership(NIGHT, "", (), "okta"),
        ExistingMembership(OTHER, "manager", (), ""),
    ]
    desk, other = Grant(DESK, "manager", ("primary",), "Leads"), Grant(OTHER, "", (), "Desk")
    assert plan_memberships(existing, [desk, other], "okta") == MembershipChanges(changed=(desk,), removed=(NIGHT,))
    assert plan_memberships(existing, [desk], "entra") == MembershipChanges()


def test_a_new_grant_adds_a_membership_once() -> None:
    grant = Grant(DESK, "", ("secondary", "primary"), "Desk")
    assert plan_memberships([], [grant], "okta") == MembershipChanges(added=(grant,))
    known = ExistingMembership(DESK, "", ("primary", "secondary"), "okta")
    assert plan_memberships([known], [grant], "okta") == MembershipChanges()


def test_stored_mappings_are_read() -> None:
    stored = [
        {"claim": "Desk", "role": "responder", "groups": [{"group": DESK, "role": "", "on_call_roles": ["primary"]}]}
    ]
    assert read_mappings(stored) == (MAPPINGS[0],)
