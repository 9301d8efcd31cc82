"""Changes service accounts, which own API tokens and are nobody: validates, writes the audit log, makes nodes reload.

A service account never signs in, has no e-mail address and no contact methods, and is in no group that could page it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

from django.db.models import Q
from pydantic import Field

from tocsin.access import boundary, config_audit
from tocsin.access.audit import AuditActor
from tocsin.access.roles import Role
from tocsin.core import object_hooks
from tocsin.core.config import config_version
from tocsin.core.errors import Rejected
from tocsin.core.reasons import ReasonType
from tocsin.core.validation.field_errors import raise_all
from tocsin.core.validation.spec import Spec
from tocsin.core.validation.spec_types import ListOf, Name, OneOf
from tocsin.people.models import Group, ServiceAccount, User
from tocsin.people.reasons import NO_SUCH_GROUP

_NAME_TAKEN = ReasonType("service_account.name_taken", 'There is already a user or service account "{name}".')


class ServiceAccountSpec(Spec):
    """An account for scripts, which owns API tokens. It cannot sign in, and is never on call."""

    name: Name = Field(description="Unique name, also among users.")
    role: Annotated[Role, OneOf()] = Field(
        default=Role.OBSERVER, description="Role, which decides what its tokens may do at most."
    )
    groups: ListOf[Name] = Field(
        default=(), description="Groups for which it acts, by name. It is no member of them, and never paged."
    )
    is_active: bool = Field(default=True, alias="active", description="Whether its tokens are accepted.")


def service_account_spec(account: ServiceAccount) -> dict[str, Any]:
    """Returns the service account in the form of YAML and the API."""
    spec: dict[str, Any] = {"name": account.username, "role": account.role}
    if groups := sorted(group.name for group in account.service_groups.all()):
        spec["groups"] = groups
    if not account.is_active:
        spec["active"] = False
    return spec


def save_service_account(
    spec: Mapping[str, object], *, existing: ServiceAccount | None = None, actor: AuditActor, now: datetime
) -> ServiceAccount:
    """Creates a service account, or changes `existing` to match the spec. Raises Rejected, naming the field."""
    with boundary.command():
        config_version.lock()
        parsed = ServiceAccountSpec.read(spec)
        groups = _groups(parsed)
        others = User.accounts.exclude(pk=existing.pk) if existing else User.accounts.all()
        if others.filter(Q(username__iexact=parsed.name) | Q(email__iexact=parsed.name)).exists():
            raise Rejected("name_taken", _NAME_TAKEN(name=parsed.name), "name")
        before = service_account_spec(existing) if existing else None
        account = existing or ServiceAccount(is_service_account=True)
        account.username = account.name = parsed.name
        account.role, account.is_active = parsed.role, parsed.is_active
        if existing is None:
            account.set_unusable_password()
        account.save()
        account.service_groups.set(groups)
        after = service_account_spec(ServiceAccount.objects.get(pk=account.pk))
        config_audit.record("service_account", account, before, after, actor=actor, now=now)
    return account


def delete_service_account(account: ServiceAccount, *, actor: AuditActor, now: datetime) -> None:
    """Deletes a service account with its tokens. Its actions stay on record under its name.

    Raises `Rejected("in_use")` while an active alert is assigned to it.
    """
    with boundary.command():
        config_version.lock()
        before = service_account_spec(account)
        list(User.accounts.select_for_update().filter(pk=account.pk))
        object_hooks.reject_if_referenced("user", account.pk, account.username)
        config_audit.record("service_account", account, before, None, actor=actor, now=now)
        account.delete()


def _groups(parsed: ServiceAccountSpec) -> list[Group]:
    """Returns the groups of the spec. Raises Rejected for unknown names."""
    groups = [Group.objects.filter(name__iexact=name).first() for name in parsed.groups]
    raise_all(
        [
            Rejected("not_found", NO_SUCH_GROUP(name=name), f"groups[{index}]")
            for index, (name, group) in enumerate(zip(parsed.groups, groups, strict=True))
            if group is None
        ]
    )
    return [group for group in groups if group is not None]
