"""The complete table of roles and permissions, cell by cell."""

from __future__ import annotations

import pytest

from tocsin.access.roles import TABLE, Permission, PermissionScope, Role, higher, may

OWN, OTHER = 1, 2
NEVER, OWN_GROUPS, ALWAYS = "never", "own groups", "always"

#: As people read it: observer, responder, manager, admin.
EXPECTED = {
    Permission.VIEW_ALERTS: (ALWAYS, ALWAYS, ALWAYS, ALWAYS),
    Permission.RESPOND: (NEVER, ALWAYS, ALWAYS, ALWAYS),
    Permission.VIEW_SELF: (ALWAYS, ALWAYS, ALWAYS, ALWAYS),
    Permission.MANAGE_SELF: (ALWAYS, ALWAYS, ALWAYS, ALWAYS),
    Permission.VIEW_ADDRESSES: (NEVER, OWN_GROUPS, OWN_GROUPS, ALWAYS),
    Permission.MANAGE_TEAMS: (NEVER, NEVER, OWN_GROUPS, ALWAYS),
    Permission.MANAGE_ROUTING: (NEVER, NEVER, OWN_GROUPS, ALWAYS),
    Permission.TEST_INTEGRATIONS: (NEVER, NEVER, OWN_GROUPS, ALWAYS),
    Permission.READ_AUDIT_LOG: (NEVER, NEVER, OWN_GROUPS, ALWAYS),
    Permission.ADMINISTER: (NEVER, NEVER, NEVER, ALWAYS),
}
CELLS = [
    (role, action, expected)
    for action, row in EXPECTED.items()
    for role, expected in zip(("observer", "responder", "manager", "admin"), row, strict=True)
]


@pytest.mark.parametrize(("role", "action", "expected"), CELLS)
def test_each_role_has_exactly_the_documented_permissions(role: str, action: Permission, expected: str) -> None:
    answers = [
        may(Role(role), action, group_roles={OWN: Role(role)}, group=OWN),
        may(Role(role), action, group_roles={OWN: Role(role)}, group=OTHER),
        may(Role(role), action, group_roles={OWN: Role(role)}, group=None),
        may(Role(role), action, group=OWN),
    ]
    assert answers == {NEVER: [False] * 4, OWN_GROUPS: [True, False, False, False], ALWAYS: [True] * 4}[expected]


def test_the_table_has_every_action_for_every_role() -> None:
    assert set(TABLE) == set(Permission) == set(EXPECTED)
    assert all(len(row) == len(Role) for row in TABLE.values())


def test_each_role_may_do_what_the_one_before_it_may() -> None:
    order = [PermissionScope.NONE, PermissionScope.OWN_GROUPS, PermissionScope.ALL]
    for row in TABLE.values():
        assert sorted(row, key=order.index) == list(row)


def test_a_higher_role_in_a_group_counts_there_only() -> None:
    group_roles = {OWN: Role.MANAGER, OTHER: Role.OBSERVER}
    for action in (Permission.RESPOND, Permission.MANAGE_TEAMS):
        assert may(Role.OBSERVER, action, group_roles=group_roles, group=OWN)
        assert not may(Role.OBSERVER, action, group_roles=group_roles, group=OTHER)
        assert not may(Role.OBSERVER, action, group_roles=group_roles)
    assert not may(Role.OBSERVER, Permission.ADMINISTER, group_roles=group_roles, group=OWN)


def test_the_higher_role_is_the_one_that_may_do_more() -> None:
    assert higher(Role.OBSERVER, Role.MANAGER) is higher(Role.MANAGER, Role.RESPONDER) is Role.MANAGER
