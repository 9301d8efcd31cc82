"""What a user may do, on which objects, and whose addresses they see: `access.roles` with a user's own groups."""

from __future__ import annotations

from dataclasses import dataclass

from tocsin.access import roles
from tocsin.access.roles import Permission, PermissionScope, Role
from tocsin.people import addresses, encrypted_addresses
from tocsin.people.models import Group, Membership, User


@dataclass(frozen=True, slots=True)
class Viewer:
    """A user with their groups, loaded once: for pages that ask about many objects."""

    user_id: int
    role: Role
    is_active: bool = True
    groups: frozenset[int] = frozenset()
    #: The ids of those members of these groups who show their addresses there.
    colleagues: frozenset[int] = frozenset()

    def may(self, action: Permission, group: Group | int | None = None) -> bool:
        """Whether they may take `action` on an object that `group` owns."""
        number = group.pk if isinstance(group, Group) else group
        return self.is_active and roles.may(self.role, action, own_groups=self.groups, group=number)

    def may_somewhere(self, action: Permission) -> bool:
        """Whether there may be any object on which they may take `action`: decides what a menu shows."""
        reach = roles.reach(self.role, action)
        return self.is_active and (
            reach is PermissionScope.ALL or (reach is PermissionScope.OWN_GROUPS and bool(self.groups))
        )

    def sees_addresses_of(self, user_id: int | None) -> bool:
        """Whether they see that user's phone numbers and addresses. None: an address of nobody in particular."""
        if not self.is_active:
            return False
        if user_id is not None and user_id == self.user_id:
            return True
        match roles.reach(self.role, Permission.SEE_ADDRESSES):
            case PermissionScope.ALL:
                return True
            case PermissionScope.OWN_GROUPS:
                return user_id in self.colleagues
            case PermissionScope.NONE:
                return False

    def address(self, user_id: int | None, channel: str, address: str) -> str:
        """That user's address as this viewer may see it: whole, or masked. One that is a secret nobody sees."""
        return (
            encrypted_addresses.shown(address) if self.sees_addresses_of(user_id) else addresses.mask(channel, address)
        )

    def group_address(self, group: Group | int, channel: str, address: str) -> str:
        """A group contact's address as this viewer may see it."""
        return (
            encrypted_addresses.shown(address)
            if self.may(Permission.SEE_ADDRESSES, group)
            else addresses.mask(channel, address)
        )


def viewer(user: User) -> Viewer:
    """`user` with everything that decides what they may do and see."""
    groups = own_groups(user)
    colleagues: frozenset[int] = frozenset()
    if roles.reach(Role(user.role), Permission.SEE_ADDRESSES) is PermissionScope.OWN_GROUPS:
        showing = Membership.objects.filter(group__in=groups, shows_addresses=True)
        colleagues = frozenset(showing.values_list("user_id", flat=True))
    return Viewer(user.pk, Role(user.role), user.is_active, groups, colleagues)


def own_groups(user: User) -> frozenset[int]:
    """The ids of the groups that `user` is a member of, in whatever role."""
    return frozenset(Membership.objects.filter(user=user).values_list("group_id", flat=True))


def may(user: User, action: Permission, group: Group | int | None = None) -> bool:
    """Whether `user` may take `action` on an object that `group` owns; one that no group owns is for administrators."""
    number = group.pk if isinstance(group, Group) else group
    needs_groups = roles.reach(Role(user.role), action) is PermissionScope.OWN_GROUPS
    groups = own_groups(user) if needs_groups else frozenset()
    return user.is_active and roles.may(Role(user.role), action, own_groups=groups, group=number)
