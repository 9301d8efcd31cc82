"""Gives a user the role and the memberships that an identity provider grants, and takes back what it granted before.

What was given by hand stays: a membership without a source, and a role without one. Each change is in the audit log,
with the value of the groups claim that caused it.
"""

from __future__ import annotations

from datetime import datetime

from django.db.models import Max

from tocsin.access import audit, boundary
from tocsin.access.audit import AuditActor
from tocsin.access.roles import Role
from tocsin.core import hooks
from tocsin.core.config import settings_store
from tocsin.core.db.database import Connection
from tocsin.identity.models import IdentityProvider
from tocsin.identity.role_mapping import (
    NO_CHANGES,
    ExistingMembership,
    Grant,
    MappedRoles,
    MembershipChanges,
    map_roles,
    plan_memberships,
    read_mappings,
)
from tocsin.people.changes import users
from tocsin.people.models import Group, Membership, User
from tocsin.people.sql import join_user

#: The role of a user that the provider created, where neither a mapping nor the default role gives one.
LEAST_ROLE = Role.OBSERVER


# The tenant is part of the issuer of Entra's tokens and assertions. What another provider says does not count.
_USER_BY_OBJECT_ID = f"""
SELECT i.user_id FROM identity_linkedidentity i {join_user("i.user_id")} AND u.is_active
WHERE lower(i.object_id) = lower(%(id)s) AND NOT i.awaits_approval
  AND position(lower(%(tenant)s) IN lower(i.issuer)) > 0
UNION ALL
SELECT s.user_id FROM identity_scimuser s {join_user("s.user_id")} AND u.is_active
JOIN identity_identityprovider p ON p.id = s.provider_id
WHERE lower(s.external_id) = lower(%(id)s) AND position(lower(%(tenant)s) IN lower(p.issuer)) > 0
LIMIT 1
"""


def user_id_by_object_id(connection: Connection, tenant: str, object_id: str) -> int | None:
    """Returns the active user with that object ID in a tenant of Entra, known from a sign-in or from SCIM; or None."""
    if not tenant or not object_id:
        return None
    row = connection.execute(_USER_BY_OBJECT_ID, {"tenant": tenant, "id": object_id}).fetchone()
    return row[0] if row else None


def granted_roles(provider: IdentityProvider, groups: list[str]) -> MappedRoles:
    """Returns what `provider` grants to a member of these groups of its directory."""
    default_role = Role(provider.default_role) if provider.default_role else None
    return map_roles(groups, read_mappings(provider.roles), default_role)


def apply_grants(
    user: User, provider: IdentityProvider, granted: MappedRoles, *, actor: AuditActor, now: datetime
) -> None:
    """Applies what `provider` grants to `user`, whose role it sets only if it gave the present one.

    Break-glass and service accounts are never changed. Raises `Rejected("last_administrator")`.
    """
    with boundary.config_command():
        current = User.accounts.get(pk=user.pk)
        if current.is_break_glass or current.is_service_account:
            return
        role = granted.role or LEAST_ROLE
        if current.role_source == provider.slug and current.role != role:
            users.change_own(current, {"role": str(role)}, actor=actor, now=now)
            User.objects.filter(pk=current.pk).update(role_source=provider.slug)
        changes = plan_memberships(existing_memberships(current), granted.grants, provider.slug)
        write_memberships(current, provider, changes, actor=actor, now=now)


def existing_memberships(user: User) -> tuple[ExistingMembership, ...]:
    return tuple(
        ExistingMembership(one.group_id, one.role, tuple(one.roles), one.source)
        for one in Membership.objects.filter(user=user)
    )


def write_memberships(
    user: User, provider: IdentityProvider, changes: MembershipChanges, *, actor: AuditActor, now: datetime
) -> None:
    """Writes the changes to the memberships that `provider` grants. A group that was deleted is passed over."""
    if changes == NO_CHANGES:
        return
    memberships = Membership.objects.filter(user=user, source=provider.slug)
    groups = Group.objects.in_bulk([grant.group_id for grant in (*changes.added, *changes.changed)])
    for grant in changes.added:
        if group := groups.get(grant.group_id):
            last = Membership.objects.filter(group=group).aggregate(last=Max("position"))["last"]
            Membership.objects.create(
                group=group,
                user=user,
                role=grant.role,
                roles=list(grant.on_call_roles),
                source=provider.slug,
                position=0 if last is None else last + 1,
            )
            _record(user, provider, group, grant, actor, now)
    for grant in changes.changed:
        memberships.filter(group=grant.group_id).update(role=grant.role, roles=list(grant.on_call_roles))
        _record(user, provider, groups[grant.group_id], grant, actor, now)
    for membership in memberships.filter(group__in=changes.removed).select_related("group"):
        membership.delete()
        _record(user, provider, membership.group, None, actor, now)
    settings_store.bump()
    hooks.run_change_hooks("user", user.pk, now)


def _record(
    user: User, provider: IdentityProvider, group: Group, grant: Grant | None, actor: AuditActor, now: datetime
) -> None:
    granted = {"role": grant.role, "roles": list(grant.on_call_roles), "claim": grant.claim} if grant else {}
    after = {"user": user.username, **granted, "provider": provider.name}
    action = "grant" if grant else "revoke"
    audit.record(actor, action, now=now, after=after, group_id=group.pk, **audit.about("group", group))
