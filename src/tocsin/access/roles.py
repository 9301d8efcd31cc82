"""Who may do what: the one table of roles and actions, and the question `may`. Pure."""

from __future__ import annotations

from enum import StrEnum


class Role(StrEnum):
    """What a user is to the installation. Each may do what the one before may, and more."""

    OBSERVER = "observer"
    RESPONDER = "responder"
    MANAGER = "manager"
    ADMIN = "admin"

    @classmethod
    def choices(cls) -> list[tuple[str, str]]:
        """Value and label, as Django's fields want them."""
        return [(role.value, role.value) for role in cls]


class Permission(StrEnum):
    """One row of the table below."""

    SEE = "see alerts, who is on call, and the Inbound Log"
    ACT = "act on alerts, and open one by hand"
    OWN = "change one's own contact methods, absence and shifts"
    SEE_ADDRESSES = "see phone numbers and addresses of others"
    TEAMS = "change groups, schedules, overrides and policies"
    ROUTING = "change integrations, routes, workflows, outbound and maintenance"
    TRY_OUT = "replay, test and send a sample"
    ADMINISTER = "change users, providers, security and settings, and read the audit log"


class PermissionScope(StrEnum):
    """On which objects a role may take an action."""

    NONE = "none"
    OWN_GROUPS = "own groups"
    ALL = "all"


_N, _G, _A = PermissionScope.NONE, PermissionScope.OWN_GROUPS, PermissionScope.ALL

#:                          observer, responder, manager, admin
TABLE: dict[Permission, tuple[PermissionScope, PermissionScope, PermissionScope, PermissionScope]] = {
    Permission.SEE: (_A, _A, _A, _A),
    Permission.ACT: (_N, _A, _A, _A),
    Permission.OWN: (_A, _A, _A, _A),
    Permission.SEE_ADDRESSES: (_N, _G, _G, _A),
    Permission.TEAMS: (_N, _N, _G, _A),
    Permission.ROUTING: (_N, _N, _G, _A),
    Permission.TRY_OUT: (_N, _N, _G, _A),
    Permission.ADMINISTER: (_N, _N, _N, _A),
}

_COLUMN = {role: number for number, role in enumerate(Role)}


def reach(role: Role, action: Permission) -> PermissionScope:
    """On which objects `role` may take `action`."""
    return TABLE[action][_COLUMN[role]]


def may(role: Role, action: Permission, *, own_groups: frozenset[int] = frozenset(), group: int | None = None) -> bool:
    """Whether somebody with `role`, a member of `own_groups`, may take `action` on an object that `group` owns.

    An object without a group is changed by administrators only. For the address of a person, ask with each group
    of that person: one that both are in is enough.
    """
    match reach(role, action):
        case PermissionScope.ALL:
            return True
        case PermissionScope.OWN_GROUPS:
            return group is not None and group in own_groups
        case PermissionScope.NONE:
            return False
