"""Gives a user the role and the memberships that an identity provider grants, and takes back what it granted before.

What was given by hand stays: a membership without a source, and a role without one.
"""

from __future__ import annotations

from datetime import datetime

from django.db import transaction
from django.db.models import Max

from tocsin.access import config_audit
from tocsin.access.audit import AuditActor
from tocsin.access.roles import Role
from tocsin.core.config import config_version
from tocsin.identity.models import IdentityProvider
from tocsin.identity.role_mapping import GrantedMembership, Grants
from tocsin.people.changes import users
from tocsin.people.changes.groups import group_spec
from tocsin.people.models import Group, Membership, User

#: The role of a user that the provider created, where neither a mapping nor the default role gives one.
LEAST_ROLE = Role.OBSERVER


def apply_grants(user: User, provider: IdentityProvider, grants: Grants, *, actor: AuditActor, now: datetime) -> None:
    """Applies what `provider` gives to `user`. A group that does not exist is passed over.

    Break-glass and service accounts are never changed. Raises `Rejected("last_administrator")`.
    """
    with transaction.atomic():
        config_version.lock()
        current = User.accounts.get(pk=user.pk)
        if current.is_break_glass or current.is_service_account:
            return
        role = grants.role or LEAST_ROLE
        if current.role_source == provider.slug and current.role != role:
            users.change_own(current, {"role": str(role)}, actor=actor, now=now)
            User.objects.filter(pk=current.pk).update(role_source=provider.slug)
        _apply_memberships(current, provider, grants.memberships, actor, now)


def _apply_memberships(
    user: User,
    provider: IdentityProvider,
    granted: tuple[GrantedMembership, ...],
    actor: AuditActor,
    now: datetime,
) -> None:
    wanted: dict[int, tuple[Group, GrantedMembership]] = {}
    for one in granted:
        group = Group.objects.filter(name__iexact=one.group).first()
        if group is not None:
            wanted[group.pk] = group, one
    known = {one.group_id: one for one in Membership.objects.filter(user=user).select_related("group")}
    for group, grant in wanted.values():
        membership = known.get(group.pk)
        if membership is None:
            last = Membership.objects.filter(group=group).aggregate(last=Max("position"))["last"]
            membership = Membership(
                group=group, user=user, source=provider.slug, position=0 if last is None else last + 1
            )
        elif membership.source != provider.slug:
            continue
        _write(membership, str(grant.role or ""), [str(role) for role in grant.on_call_roles], actor, now)
    for membership in known.values():
        if membership.source == provider.slug and membership.group_id not in wanted:
            before = _spec(membership.group)
            membership.delete()
            config_audit.record("group", membership.group, before, _spec(membership.group), actor=actor, now=now)


def _write(membership: Membership, role: str, on_call_roles: list[str], actor: AuditActor, now: datetime) -> None:
    if not membership._state.adding and (membership.role, membership.roles) == (role, on_call_roles):
        return
    before = _spec(membership.group)
    membership.role, membership.roles = role, on_call_roles
    membership.save()
    config_audit.record("group", membership.group, before, _spec(membership.group), actor=actor, now=now)


def _spec(group: Group) -> dict[str, object]:
    return group_spec(Group.objects.get(pk=group.pk))
