"""What a token may do: never more than its owner, nor than its limits."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tocsin.access import roles
from tocsin.access.roles import (
    MIN_SCOPES,
    EffectiveAccess,
    Permission,
    Role,
    TokenLimits,
    TokenScope,
    narrow,
    permissions_of,
)

# The machine may be busy.
_PATIENT = settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)

groups = st.frozensets(st.integers(1, 4))
names = st.frozensets(st.sampled_from(["Acme", "Beta", "Gamma"]))
limits = st.builds(TokenLimits, st.sampled_from(TokenScope), groups, names)
# A role in a group is never lower than the installation's.
owners = st.sampled_from(Role).flatmap(
    lambda role: st.builds(
        EffectiveAccess,
        st.just(role),
        st.dictionaries(st.integers(1, 4), st.sampled_from(Role).map(lambda one: roles.higher(role, one))),
        clients=st.none() | names,
    )
)


def may(access: EffectiveAccess, action: Permission, group: int | None) -> bool:
    return action in access.allowed and roles.may(access.role, action, group_roles=access.group_roles, group=group)


def test_each_scope_includes_the_previous_ones() -> None:
    sizes = [permissions_of(scope) for scope in TokenScope]
    assert all(first < second for first, second in pairwise(sizes))
    assert set(MIN_SCOPES) == set(Permission)
    assert permissions_of(TokenScope.ADMIN) == set(Permission)


@_PATIENT
@given(owners, limits, st.sampled_from(Permission), st.none() | st.integers(1, 5))
def test_a_token_never_does_more_than_owner_and_limits(
    owner: EffectiveAccess, limit: TokenLimits, action: Permission, group: int | None
) -> None:
    access = narrow(owner, limit)
    if may(access, action, group):
        assert may(owner, action, group)
        assert action in permissions_of(limit.scope)
        if action is not Permission.VIEW_ALERTS and (limit.groups or limit.clients):
            assert group in limit.groups
    if limit.groups:
        assert set(access.group_roles) <= limit.groups
        assert access.is_limited_to_groups
    if limit.clients:
        assert access.clients is not None
        assert access.clients <= limit.clients
        assert not (limit.groups and access.clients)
    if access.clients is not None:
        assert access.allowed <= {Permission.VIEW_ALERTS}
        assert owner.clients is None or access.clients <= owner.clients


@_PATIENT
@given(limits, limits, owners, st.sampled_from(Permission), st.none() | st.integers(1, 5))
def test_included_limits_permit_nothing_more(
    wide: TokenLimits, small: TokenLimits, owner: EffectiveAccess, action: Permission, group: int | None
) -> None:
    if wide.includes(small) and may(narrow(owner, small), action, group):
        assert may(narrow(owner, wide), action, group)


@pytest.mark.parametrize(
    ("scope", "action"),
    [
        (TokenScope.READ, Permission.RESPOND),
        (TokenScope.READ, Permission.VIEW_ADDRESSES),
        (TokenScope.RESPOND, Permission.MANAGE_SELF),
        (TokenScope.RESPOND, Permission.MANAGE_ROUTING),
        (TokenScope.CONFIGURE, Permission.ADMINISTER),
    ],
)
def test_an_administrators_token_is_held_to_its_scope(scope: TokenScope, action: Permission) -> None:
    assert not may(narrow(EffectiveAccess(Role.ADMIN), TokenLimits(scope)), action, 1)


def test_an_administrators_limited_token_manages_only_these_groups() -> None:
    access = narrow(EffectiveAccess(Role.ADMIN), TokenLimits(TokenScope.ADMIN, frozenset({1})))
    assert may(access, Permission.MANAGE_ROUTING, 1)
    assert not may(access, Permission.MANAGE_ROUTING, 2)
    assert not may(access, Permission.MANAGE_ROUTING, None)
    assert not may(access, Permission.ADMINISTER, 1)
    assert not may(access, Permission.MANAGE_SELF, None)


def test_client_names_are_compared_without_case() -> None:
    owner = EffectiveAccess(Role.OBSERVER, clients=frozenset({"Acme Corp"}))
    assert narrow(owner, TokenLimits(TokenScope.READ, clients=frozenset({"ACME CORP"}))).clients == {"Acme Corp"}
    assert narrow(owner, TokenLimits(TokenScope.READ, clients=frozenset({"Beta"}))).clients == frozenset()
