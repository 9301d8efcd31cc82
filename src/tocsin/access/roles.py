"""The table of roles and permissions, and `may`, which evaluates it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

from tocsin.core.reasons import translatable
from tocsin.core.stored_enum import StoredEnum


class Role(StoredEnum):
    """A user's role in the installation. Each role may do everything that the previous one may."""

    OBSERVER = translatable("observer")
    RESPONDER = translatable("responder")
    MANAGER = translatable("manager")
    ADMIN = translatable("admin")


class Permission(StrEnum):
    """A row of the permission table below."""

    VIEW_ALERTS = "see alerts, who is on call, and the Inbound Log"
    RESPOND = "act on alerts, and open one by hand"
    VIEW_SELF = "see one's own settings, devices and tokens"
    MANAGE_SELF = "change one's own contact methods, absence and shifts"
    VIEW_ADDRESSES = "see phone numbers and addresses of others"
    MANAGE_TEAMS = "change groups, schedules, overrides and policies"
    MANAGE_ROUTING = "change integrations, routes, workflows, outbound and maintenance"
    TEST_INTEGRATIONS = "replay, test and send a sample"
    READ_AUDIT_LOG = "read the audit log"
    ADMINISTER = "change users, providers, security and settings"


class PermissionScope(StrEnum):
    """The objects on which a role has a permission."""

    NONE = "none"
    OWN_GROUPS = "own groups"
    ALL = "all"


_N, _G, _A = PermissionScope.NONE, PermissionScope.OWN_GROUPS, PermissionScope.ALL

#:                          observer, responder, manager, admin
TABLE: dict[Permission, tuple[PermissionScope, PermissionScope, PermissionScope, PermissionScope]] = {
    Permission.VIEW_ALERTS: (_A, _A, _A, _A),
    Permission.RESPOND: (_N, _A, _A, _A),
    Permission.VIEW_SELF: (_A, _A, _A, _A),
    Permission.MANAGE_SELF: (_A, _A, _A, _A),
    Permission.VIEW_ADDRESSES: (_N, _G, _G, _A),
    Permission.MANAGE_TEAMS: (_N, _N, _G, _A),
    Permission.MANAGE_ROUTING: (_N, _N, _G, _A),
    Permission.TEST_INTEGRATIONS: (_N, _N, _G, _A),
    Permission.READ_AUDIT_LOG: (_N, _N, _G, _A),
    Permission.ADMINISTER: (_N, _N, _N, _A),
}

#: A user who is a member of no group.
NO_GROUPS: Mapping[int, Role] = MappingProxyType({})

_COLUMN = {role: number for number, role in enumerate(Role)}


def permission_scope(role: Role, action: Permission) -> PermissionScope:
    """Returns the objects on which `role` has the permission `action`."""
    return TABLE[action][_COLUMN[role]]


def higher(first: Role, second: Role) -> Role:
    """Returns the role that may do more."""
    return max(first, second, key=_COLUMN.__getitem__)


def lower(first: Role, second: Role) -> Role:
    """Returns the role that may do less."""
    return min(first, second, key=_COLUMN.__getitem__)


def may(
    role: Role, action: Permission, *, group_roles: Mapping[int, Role] = NO_GROUPS, group: int | None = None
) -> bool:
    """Returns whether a user may take `action` on an object owned by `group`.

    `role` is the role in the installation; `group_roles` are the roles in the groups of which the user is a member,
    none of them lower than `role`. Only administrators change an object without a group. For a person's address, call
    it for each group of that person: one common group is enough.
    """
    if permission_scope(role, action) is PermissionScope.ALL:
        return True
    group_role = group_roles.get(group) if group is not None else None
    return group_role is not None and permission_scope(group_role, action) is not PermissionScope.NONE
