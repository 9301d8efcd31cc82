"""Permissions of a user on objects and addresses: `access.roles` applied to the user's groups."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

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
    #: The role in each group of which the user is a member, by the group's id; never lower than `role`.
    group_roles: Mapping[int, Role] = roles.NO_GROUPS
    #: Ids of the members of these groups who show their addresses there.
    colleagues: frozenset[int] = frozenset()
    #: Whether the user sees only their groups or clients, whatever the setting `visibility`: see
    #: `resources.visibility`.
    is_bounded: bool = False
    #: A client observer sees the alerts of these clients only, and changes nothing.
    clients: tuple[str, ...] = ()

    def may(self, action: Permission, group: Group | int | None = None) -> bool:
        """Returns whether the user may take `action` on an object owned by `group`."""
        group_id = group.pk if isinstance(group, Group) else group
        return self.is_active and roles.may(self.role, action, group_roles=self.group_roles, group=group_id)

    @property
    def groups(self) -> frozenset[int]:
        """Ids of the groups of which the user is a member."""
        return frozenset(self.group_roles)

    def groups_with(self, action: Permission) -> frozenset[int]:
        """Returns the ids of the own groups on whose objects the user may take `action`."""
        return frozenset(group for group in self.group_roles if self.may(action, group))

    def may_respond(self, group_ids: Iterable[int]) -> bool:
        """Returns whether the user may act on a visible alert that belongs to these groups: responders on each alert
        that they see, others on those of the groups in which they are responders."""
        return self.may(Permission.RESPOND) or any(self.may(Permission.RESPOND, group) for group in group_ids)

    def may_somewhere(self, action: Permission) -> bool:
        """Returns whether the user may take `action` on any object at all. Decides which menu entries are shown."""
        has_all = roles.permission_scope(self.role, action) is PermissionScope.ALL
        return self.is_active and (has_all or bool(self.groups_with(action)))

    def can_view_addresses_of(self, user_id: int | None) -> bool:
        """Returns whether the user sees that user's phone numbers and addresses. None: an address without a user."""
        if not self.is_active:
            return False
        if user_id is not None and user_id == self.user_id:
            return True
        return roles.may(self.role, Permission.VIEW_ADDRESSES) or user_id in self.colleagues

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
    loaded = viewer_from(user.pk, user.role, user.clients, _memberships(user))
    loaded = replace(loaded, is_active=user.is_active)
    groups = loaded.groups_with(Permission.VIEW_ADDRESSES)
    if roles.may(loaded.role, Permission.VIEW_ADDRESSES) or not groups:
        return loaded
    memberships = Membership.objects.filter(group__in=groups, shows_addresses=True)
    return replace(loaded, colleagues=frozenset(memberships.values_list("user_id", flat=True)))


def viewer_from(
    user_id: int, role: str, clients: Sequence[str], memberships: Iterable[tuple[int, str]], *, is_bounded: bool = False
) -> Viewer:
    """Returns the viewer of an active user with these memberships (group id, role there)."""
    if clients:
        # Whatever else they are, client observers change nothing.
        return Viewer(user_id, Role.OBSERVER, is_bounded=True, clients=tuple(clients))
    return Viewer(user_id, Role(role), group_roles=_group_roles(Role(role), memberships), is_bounded=is_bounded)


def group_roles(user: User) -> dict[int, Role]:
    """Returns the role of `user` in each of their groups, by the group's id; never lower than their own role."""
    return _group_roles(Role(user.role), _memberships(user))


def _group_roles(role: Role, memberships: Iterable[tuple[int, str]]) -> dict[int, Role]:
    return {group: roles.higher(role, Role(group_role)) if group_role else role for group, group_role in memberships}


def _memberships(user: User) -> QuerySet[Membership, tuple[int, str]]:
    return Membership.objects.filter(user=user).values_list("group_id", "role")


def own_groups(user: User) -> frozenset[int]:
    """Returns the ids of the groups of which `user` is a member, in any role."""
    return frozenset(Membership.objects.filter(user=user).values_list("group_id", flat=True))


def may(user: User, action: Permission, group: Group | int | None = None) -> bool:
    """Returns whether `user` may take `action` on an object of `group`. Without a group, only administrators may."""
    if not user.is_active:
        return False
    if user.clients:
        return viewer(user).may(action)
    if roles.may(Role(user.role), action):
        return True
    group_id = group.pk if isinstance(group, Group) else group
    return group_id is not None and roles.may(Role(user.role), action, group_roles=group_roles(user), group=group_id)


def visible_audit_entries(user: User) -> QuerySet[AuditEntry]:
    """Returns the entries of the audit log that `user` may read: all, or those about objects that their groups own."""
    if not user.clients and roles.may(Role(user.role), Permission.READ_AUDIT_LOG):
        return AuditEntry.objects.all()
    return AuditEntry.objects.filter(group_id__in=viewer(user).groups_with(Permission.READ_AUDIT_LOG))
