"""Permissions of a user on objects and addresses: `access.roles` applied to the user's groups."""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import QuerySet

from tocsin.access import roles
from tocsin.access.models import AuditEntry
from tocsin.access.roles import Permission, PermissionScope, Role
from tocsin.people import addresses, encrypted_addresses
from tocsin.people.models import Group, Membership, User


@dataclass(frozen=True, slots=True)
class Viewer:
    """A user with their groups, loaded once for requests that check many objects."""

    user_id: int
    role: Role
    is_active: bool = True
    groups: frozenset[int] = frozenset()
    #: Ids of the members of these groups who show their addresses there.
    colleagues: frozenset[int] = frozenset()

    def may(self, action: Permission, group: Group | int | None = None) -> bool:
        """Returns whether the user may take `action` on an object owned by `group`."""
        group_id = group.pk if isinstance(group, Group) else group
        return self.is_active and roles.may(self.role, action, own_groups=self.groups, group=group_id)

    def may_somewhere(self, action: Permission) -> bool:
        """Returns whether the user may take `action` on any object at all. Decides which menu entries are shown."""
        scope = roles.permission_scope(self.role, action)
        return self.is_active and (
            scope is PermissionScope.ALL or (scope is PermissionScope.OWN_GROUPS and bool(self.groups))
        )

    def can_view_addresses_of(self, user_id: int | None) -> bool:
        """Returns whether the user sees that user's phone numbers and addresses. None: an address without a user."""
        if not self.is_active:
            return False
        if user_id is not None and user_id == self.user_id:
            return True
        match roles.permission_scope(self.role, Permission.VIEW_ADDRESSES):
            case PermissionScope.ALL:
                return True
            case PermissionScope.OWN_GROUPS:
                return user_id in self.colleagues
            case PermissionScope.NONE:
                return False

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


def viewer(user: User) -> Viewer:
    """Loads everything that decides the permissions of `user`."""
    groups = own_groups(user)
    colleagues: frozenset[int] = frozenset()
    if roles.permission_scope(Role(user.role), Permission.VIEW_ADDRESSES) is PermissionScope.OWN_GROUPS:
        memberships = Membership.objects.filter(group__in=groups, shows_addresses=True)
        colleagues = frozenset(memberships.values_list("user_id", flat=True))
    return Viewer(user.pk, Role(user.role), user.is_active, groups, colleagues)


def own_groups(user: User) -> frozenset[int]:
    """Returns the ids of the groups of which `user` is a member, in any role."""
    return frozenset(Membership.objects.filter(user=user).values_list("group_id", flat=True))


def may(user: User, action: Permission, group: Group | int | None = None) -> bool:
    """Returns whether `user` may take `action` on an object of `group`. Without a group, only administrators may."""
    group_id = group.pk if isinstance(group, Group) else group
    needs_groups = roles.permission_scope(Role(user.role), action) is PermissionScope.OWN_GROUPS
    groups = own_groups(user) if needs_groups else frozenset()
    return user.is_active and roles.may(Role(user.role), action, own_groups=groups, group=group_id)


def visible_audit_entries(user: User) -> QuerySet[AuditEntry]:
    """Returns the entries of the audit log that `user` may read: all, or those about objects that their groups own."""
    match roles.permission_scope(Role(user.role), Permission.READ_AUDIT_LOG):
        case PermissionScope.ALL:
            return AuditEntry.objects.all()
        case PermissionScope.OWN_GROUPS:
            return AuditEntry.objects.filter(group_id__in=own_groups(user))
        case PermissionScope.NONE:
            return AuditEntry.objects.none()
