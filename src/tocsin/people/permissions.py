"""Permissions of a user on objects and addresses: `access.roles` applied to the user's groups."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from django.db.models import QuerySet

from tocsin.access import roles
from tocsin.access.models import AuditEntry
from tocsin.access.roles import Permission, PermissionScope, Role
from tocsin.access.token_limits import EffectiveAccess, TokenLimits, narrow
from tocsin.people import addresses, encrypted_addresses
from tocsin.people.models import Group, Membership, User


@dataclass(frozen=True, slots=True)
class Viewer:
    """A user or token with their groups, loaded once for requests that check many objects."""

    user_id: int
    role: Role
    is_active: bool = True
    #: The role in each group of which the user is a member, by the group's id; never lower than `role`.
    group_roles: Mapping[int, Role] = roles.NO_GROUPS
    #: Ids of the members of these groups who show their addresses there.
    colleagues: frozenset[int] = frozenset()
    #: The permissions that a role may have: those of a token's scope.
    allowed: frozenset[Permission] = frozenset(Permission)
    #: Whether the viewer sees only what belongs to their groups or clients.
    is_bounded: bool = False
    #: A client observer sees the alerts of these clients only, and changes nothing.
    clients: tuple[str, ...] = ()

    def may(self, action: Permission, group: Group | int | None = None) -> bool:
        """Returns whether the user may take `action` on an object owned by `group`."""
        group_id = group.pk if isinstance(group, Group) else group
        return (
            self.is_active
            and action in self.allowed
            and roles.may(self.role, action, group_roles=self.group_roles, group=group_id)
        )

    @property
    def groups(self) -> frozenset[int]:
        """Ids of the groups of which the user is a member."""
        return frozenset(self.group_roles)

    def groups_with(self, action: Permission) -> frozenset[int]:
        """Returns the ids of the own groups on whose objects the user may take `action`."""
        return frozenset(group for group in self.group_roles if self.may(action, group))

    def may_somewhere(self, action: Permission) -> bool:
        """Returns whether the user may take `action` on any object at all. Decides which menu entries are shown."""
        has_all = action in self.allowed and roles.permission_scope(self.role, action) is PermissionScope.ALL
        return self.is_active and (has_all or bool(self.groups_with(action)))

    def can_view_addresses_of(self, user_id: int | None) -> bool:
        """Returns whether the user sees that user's phone numbers and addresses. None: an address without a user."""
        if not self.is_active:
            return False
        if user_id is not None and user_id == self.user_id:
            return True
        return self.may(Permission.VIEW_ADDRESSES) or user_id in self.colleagues

    def address(self, user_id: int | None, channel: str, address: str) -> str:
        """Returns another user's address as this viewer may see it, in full or masked. Secret ones are
        always masked."""
        return (
            encrypted_addresses.display_form(address)
            if self.can_view_addresses_of(user_id)
            else addresses.mask(channel, address)
        )

    def group_address(self, group: Group | int, channel: str, address: str) -> str:
        """Returns a group contact's address as this viewer may see it."""
        return (
            encrypted_addresses.display_form(address)
            if self.may(Permission.VIEW_ADDRESSES, group)
            else addresses.mask(channel, address)
        )


def viewer(user: User, limits: TokenLimits | None = None) -> Viewer:
    """Loads everything that decides the permissions of `user`, or of a token of theirs with these limits."""
    access = EffectiveAccess(Role(user.role), group_roles(user), clients=frozenset(user.clients) or None)
    if limits is not None:
        access = narrow(access, limits)
    loaded = Viewer(
        # A limited token is not its owner: what the owner was paged about, or owns, may be outside of the limits.
        0 if limits is not None and limits.is_restricted else user.pk,
        access.role,
        user.is_active,
        access.group_roles,
        allowed=access.allowed,
        is_bounded=access.is_bounded,
        clients=tuple(sorted(access.clients or ())),
    )
    groups = loaded.groups_with(Permission.VIEW_ADDRESSES)
    if loaded.may(Permission.VIEW_ADDRESSES) or not groups:
        return loaded
    memberships = Membership.objects.filter(group__in=groups, shows_addresses=True)
    return replace(loaded, colleagues=frozenset(memberships.values_list("user_id", flat=True)))


def group_roles(user: User) -> dict[int, Role]:
    """Returns the role of `user` in each of their groups, by the group's id; never lower than their own role."""
    role = Role(user.role)
    if user.is_service_account:
        return dict.fromkeys(user.service_groups.values_list("pk", flat=True), role)
    memberships = Membership.objects.filter(user=user).values_list("group_id", "role")
    return {group: roles.higher(role, Role(group_role)) if group_role else role for group, group_role in memberships}


def own_groups(user: User) -> frozenset[int]:
    """Returns the ids of the groups of which `user` is a member, in any role."""
    return frozenset(Membership.objects.filter(user=user).values_list("group_id", flat=True))


def may(user: User, action: Permission, group: Group | int | None = None) -> bool:
    """Returns whether `user` may take `action` on an object of `group`. Without a group, only administrators may."""
    if not user.is_active:
        return False
    if roles.may(Role(user.role), action):
        return True
    group_id = group.pk if isinstance(group, Group) else group
    return group_id is not None and roles.may(Role(user.role), action, group_roles=group_roles(user), group=group_id)


def visible_audit_entries(viewer: Viewer) -> QuerySet[AuditEntry]:
    """Returns the entries of the audit log that `viewer` may read: all, or those about objects of their groups."""
    if viewer.may(Permission.READ_AUDIT_LOG):
        return AuditEntry.objects.all()
    return AuditEntry.objects.filter(group_id__in=viewer.groups_with(Permission.READ_AUDIT_LOG))
