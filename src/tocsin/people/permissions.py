"""Permissions of a user on objects and addresses: `access.roles` applied to the user's groups."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from django.db.models import QuerySet

from tocsin.access import roles
from tocsin.access.audit import AuditActor
from tocsin.access.models import AuditEntry
from tocsin.access.roles import EffectiveAccess, Permission, PermissionScope, Role, TokenLimits, narrow
from tocsin.core.config import settings_store
from tocsin.core.errors import Rejected
from tocsin.core.reasons import sentence
from tocsin.people import addresses
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
    #: Names of clients. If not None, the viewer sees only their alerts and reports.
    clients: frozenset[str] | None = None
    #: Whether the viewer sees only what belongs to `group_roles`, even where everyone sees everything.
    is_limited_to_groups: bool = False

    def may(self, action: Permission, group: Group | int | None = None) -> bool:
        """Returns whether the user may take `action` on an object of `group`. Without one, only administrators may."""
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

    def may_respond(self, group_ids: Iterable[int]) -> bool:
        """Returns whether the user may act on a visible alert that belongs to these groups: responders on each alert
        that they see, others on those of the groups in which they are responders."""
        return self.may(Permission.RESPOND) or any(self.may(Permission.RESPOND, group) for group in group_ids)

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
            addresses.display_form(address) if self.can_view_addresses_of(user_id) else addresses.mask(channel, address)
        )

    def group_address(self, group: Group | int, channel: str, address: str) -> str:
        """Returns a group contact's address as this viewer may see it."""
        return (
            addresses.display_form(address)
            if self.may(Permission.VIEW_ADDRESSES, group)
            else addresses.mask(channel, address)
        )


def viewer(user: User, limits: TokenLimits | None) -> Viewer:
    """Loads everything that decides the permissions of `user`, or of a token of theirs with these limits."""
    loaded = viewer_from(user.pk, user.role, user.clients, group_roles(user), limits)
    loaded = replace(loaded, is_active=user.is_active)
    groups = loaded.groups_with(Permission.VIEW_ADDRESSES)
    if loaded.may(Permission.VIEW_ADDRESSES) or not groups:
        return loaded
    memberships = Membership.objects.filter(group__in=groups, shows_addresses=True)
    return replace(loaded, colleagues=frozenset(memberships.values_list("user_id", flat=True)))


def viewer_of(actor: AuditActor) -> Viewer | None:
    """Loads the permissions of whoever gives a command; None if that is no user, such as the command line, which may do
    everything."""
    return viewer(User.accounts.get(pk=actor.user_id), actor.limits) if actor.user_id is not None else None


def viewer_from(
    user_id: int,
    role: str,
    clients: Iterable[str],
    group_roles: Mapping[int, Role],
    limits: TokenLimits | None = None,
) -> Viewer:
    """Returns the viewer of an active user with these roles in groups, or of a token of theirs with these limits."""
    access = EffectiveAccess(Role(role), group_roles)
    if names := frozenset(clients):
        # Whatever else they are, client observers change nothing but their own account.
        access = EffectiveAccess(Role.OBSERVER, clients=names)
    if limits is not None:
        access = narrow(access, limits)
    return Viewer(
        user_id,
        access.role,
        group_roles=access.group_roles,
        allowed=access.allowed,
        clients=access.clients,
        is_limited_to_groups=access.is_limited_to_groups,
    )


def group_roles(user: User) -> dict[int, Role]:
    """Returns the role of `user` in each of their groups, by the group's id; never lower than their own role."""
    role = Role(user.role)
    if user.is_service_account:
        return dict.fromkeys(user.service_groups.values_list("pk", flat=True), role)
    return roles_in_groups(role, Membership.objects.filter(user=user).values_list("group_id", "role"))


def roles_in_groups(role: Role, memberships: Iterable[tuple[int, str]]) -> dict[int, Role]:
    """Returns the role in each group of a user with these memberships (group id, role there)."""
    return {group: roles.higher(role, Role(group_role)) if group_role else role for group, group_role in memberships}


def own_groups(user: User) -> frozenset[int]:
    """Returns the ids of the groups of which `user` is a member, in any role."""
    return frozenset(Membership.objects.filter(user=user).values_list("group_id", flat=True))


def visible_audit_entries(viewer: Viewer) -> QuerySet[AuditEntry]:
    """Returns the entries of the audit log that `viewer` may read: all, or those about objects of their groups."""
    if viewer.may(Permission.READ_AUDIT_LOG):
        return AuditEntry.objects.all()
    return AuditEntry.objects.filter(group_id__in=viewer.groups_with(Permission.READ_AUDIT_LOG))


# ---------- chat servers
# Who may add a chat address at a server of no well-known vendor. Alert texts are sent to that server.


#: Actors with the machine's shell or a configuration file.
_TRUSTED = ("cli", "yaml")


def require_allowed(channel: str, address: str, actor: AuditActor, *, is_group: bool) -> None:
    """Raises `Rejected("own_server")` if `actor` may not add this address. The caller has already checked whether the
    actor may change the user's or group's addresses at all."""
    host = addresses.custom_host(channel, address)
    if not host or actor.via in _TRUSTED:
        return
    allowed = settings_store.get(settings_store.CHAT_SERVERS_BY)
    if allowed == "everybody" or (allowed == "managers" and is_group):
        return
    viewer = viewer_of(actor)
    if viewer is not None and not viewer.may(Permission.ADMINISTER):
        raise Rejected(
            "own_server",
            sentence("{host} is not a well-known chat service. An administrator must add this address.", host=host),
            "address",
        )
