"""The table of roles and permissions, and `may`, which evaluates it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from types import MappingProxyType

from tocsin.core.reasons import translatable

# ---------- stored enum
# Enumerations whose values a column stores. Pure.


class StoredEnum(StrEnum):
    """The values of a column."""

    @classmethod
    def choices(cls) -> list[tuple[str, str]]:
        """Returns value and label pairs for Django's fields."""
        return [(member.value, member.value) for member in cls]


class Role(StoredEnum):
    """A user's role in the installation. Each role may do everything that the previous one may."""

    OBSERVER = translatable("observer")
    RESPONDER = translatable("responder")
    MANAGER = translatable("manager")
    ADMIN = translatable("admin")


#: What each role may do, for those who give it.
ROLE_DESCRIPTIONS = {
    Role.OBSERVER: translatable("Observer: can view alerts, the log and who is on call"),
    Role.RESPONDER: translatable("Responder: can also respond to alerts"),
    Role.MANAGER: translatable("Manager: can also edit resources their groups own"),
    Role.ADMIN: translatable("Administrator: full access"),
}


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


# ---------- token limits
# What a token may do: its scope, and the groups and clients to which it is limited. Pure.
#
# A token never does more than its owner. `narrow` intersects the access of both, and is the only place that does.


class TokenScope(StoredEnum):
    """The kinds of permissions of a token. Each scope includes the previous ones."""

    READ = translatable("read")
    RESPOND = translatable("respond")
    CONFIGURE = translatable("configure")
    ADMIN = translatable("admin")


#: The smallest scope with each permission.
MIN_SCOPES: Mapping[Permission, TokenScope] = {
    Permission.VIEW_ALERTS: TokenScope.READ,
    Permission.VIEW_SELF: TokenScope.READ,
    Permission.READ_AUDIT_LOG: TokenScope.READ,
    Permission.RESPOND: TokenScope.RESPOND,
    Permission.MANAGE_SELF: TokenScope.CONFIGURE,
    # A script that only reads seldom needs phone numbers, and its token is often kept carelessly.
    Permission.VIEW_ADDRESSES: TokenScope.CONFIGURE,
    Permission.MANAGE_TEAMS: TokenScope.CONFIGURE,
    Permission.MANAGE_ROUTING: TokenScope.CONFIGURE,
    Permission.TEST_INTEGRATIONS: TokenScope.CONFIGURE,
    Permission.ADMINISTER: TokenScope.ADMIN,
}

_ORDER = {scope: number for number, scope in enumerate(TokenScope)}

#: The lifetime of a token without another one.
DEFAULT_LIFETIME = timedelta(days=365)
MAX_LIFETIME = timedelta(days=3 * 366)
#: How long before its end the owner is warned.
WARN_BEFORE = timedelta(days=14)


def permissions_of(scope: TokenScope) -> frozenset[Permission]:
    """Returns the permissions that a token of this scope may have."""
    return frozenset(action for action, needed in MIN_SCOPES.items() if _ORDER[needed] <= _ORDER[scope])


@dataclass(frozen=True, slots=True)
class TokenLimits:
    scope: TokenScope
    #: Ids of groups. Empty: not limited to groups.
    groups: frozenset[int] = frozenset()
    #: Names of clients. Empty: not limited to clients.
    clients: frozenset[str] = frozenset()

    def includes(self, other: TokenLimits) -> bool:
        """Returns whether a token with the limits `other` can do nothing that one with these cannot."""
        return (
            _ORDER[other.scope] <= _ORDER[self.scope]
            and _is_within(other.groups, self.groups)
            and _is_within(_folded(other.clients), _folded(self.clients))
        )


#: A token that may do all that its owner may.
UNLIMITED = TokenLimits(TokenScope.ADMIN)


@dataclass(frozen=True, slots=True)
class EffectiveAccess:
    """The permissions of a user or token: what `people.permissions.Viewer` evaluates."""

    role: Role
    #: The role in each group of which the user is a member, by the group's id.
    group_roles: Mapping[int, Role] = NO_GROUPS
    #: The permissions that the role may have at all.
    allowed: frozenset[Permission] = frozenset(Permission)
    #: Names of clients; None: not limited to clients.
    clients: frozenset[str] | None = None
    #: Whether only objects of `group_roles` may be seen, whatever the installation's visibility is.
    is_limited_to_groups: bool = False


def narrow(owner: EffectiveAccess, limits: TokenLimits) -> EffectiveAccess:
    """Returns the access of a token: that of its owner, within the limits."""
    access = replace(owner, allowed=owner.allowed & permissions_of(limits.scope))
    if limits.groups:
        access = _narrow_to_groups(access, limits.groups)
    if limits.clients or access.clients is not None:
        access = _narrow_to_clients(access, limits)
    return access


def _narrow_to_clients(access: EffectiveAccess, limits: TokenLimits) -> EffectiveAccess:
    """Leaves the alerts of clients, read only. Groups and clients together leave nothing: no token has both."""
    clients = frozenset() if limits.groups else _common(access.clients, limits.clients)
    return replace(
        access,
        role=Role.OBSERVER,
        group_roles=NO_GROUPS,
        allowed=access.allowed & {Permission.VIEW_ALERTS},
        clients=clients,
    )


def _narrow_to_groups(access: EffectiveAccess, groups: frozenset[int]) -> EffectiveAccess:
    """Leaves the roles in these groups. An administrator, who acts in every group, is a manager in them."""
    group_roles = {group: access.group_roles[group] for group in groups if group in access.group_roles}
    if access.role is Role.ADMIN:
        group_roles = dict.fromkeys(groups, Role.MANAGER)
    return replace(
        access,
        role=Role.OBSERVER,
        group_roles={group: lower(role, Role.MANAGER) for group, role in group_roles.items()},
        allowed=access.allowed - {Permission.ADMINISTER, Permission.VIEW_SELF, Permission.MANAGE_SELF},
        is_limited_to_groups=True,
    )


def _is_within(names: frozenset[object], limit: frozenset[object]) -> bool:
    return not limit or (bool(names) and names <= limit)


def _common(owners: frozenset[str] | None, tokens: frozenset[str]) -> frozenset[str]:
    """Returns the clients of both the owner and the token; None and an empty set limit nothing."""
    if owners is None or not tokens:
        return tokens if owners is None else owners
    folded = _folded(tokens)
    return frozenset(name for name in owners if name.casefold() in folded)


def _folded(names: frozenset[str]) -> frozenset[str]:
    return frozenset(name.casefold() for name in names)


# ---------- member roles
# The roles of a member in a group, in the order in which they are paged.


class MemberRole(StoredEnum):
    PRIMARY = translatable("primary")
    SECONDARY = translatable("secondary")
    LEAD = translatable("lead")

    @classmethod
    def _missing_(cls, value: object) -> MemberRole | None:
        return cls.LEAD if value == "manager" else None  # its former name, which stays readable
