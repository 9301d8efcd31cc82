"""Creates API tokens by names, as the API, the web interface and the command line do.

The owner of a token may have any role: what the token may do is the intersection of both (`access.roles`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

from django.db.models import Q
from pydantic import Field

from tocsin.access import audit, boundary, tokens
from tocsin.access.audit import AuditActor
from tocsin.access.models import ApiToken
from tocsin.access.roles import DEFAULT_LIFETIME, ROLE_DESCRIPTIONS, Role, TokenLimits, TokenScope
from tocsin.access.tokens import NewToken
from tocsin.core import hooks
from tocsin.core.errors import Rejected
from tocsin.core.reasons import Person, Text, sentence
from tocsin.core.reasons import translatable as _
from tocsin.core.validation.inputs import NO_SUCH_GROUP, raise_all
from tocsin.core.validation.spec import InForm, ListOf, Name, OneOf, Reference, Spec, SpecErrors
from tocsin.people import permissions
from tocsin.people.changes.flat_objects import FlatObject
from tocsin.people.models import Group, ServiceAccount, User

_NOT_A_MEMBER = Text('{user} is not a member of the group "{group}", so a token of theirs cannot act there.')


def create_token(
    owner: User,
    name: str,
    *,
    scope: TokenScope,
    groups: Sequence[str] = (),
    clients: Sequence[str] = (),
    expires_at: datetime | None = None,
    maker: ApiToken | None = None,
    actor: AuditActor,
    now: datetime,
) -> NewToken:
    """Creates a token that acts as `owner`, limited to groups (by name or id) and clients if any are given.

    `maker` is the token that makes it: a leaked token must not outlive itself, nor get more permissions. Raises
    Rejected, naming `name`, `groups[0]`, `clients[0]` or `expires_at`, or `forbidden` for more than `maker` may.
    """
    limits = TokenLimits(scope, frozenset(_group_ids(owner, groups)), frozenset(_client_names(owner, clients)))
    if maker is not None and expires_at is None:
        expires_at = min(now + DEFAULT_LIFETIME, maker.expires_at)
    with boundary.command():
        created = tokens.create(owner, name, limits=limits, expires_at=expires_at, maker=maker, actor=actor, now=now)
        if maker is not None and not _may_create(maker, created.token):
            raise Rejected(
                "forbidden",
                sentence(
                    "A token cannot create one that may do more: use its scope, groups and clients, or narrower ones, "
                    "and no later expiry."
                ),
            )
    return created


def _may_create(maker: ApiToken, token: ApiToken) -> bool:
    return token.expires_at <= maker.expires_at and maker.limits.includes(token.limits)


def group_names(ids: Sequence[int]) -> list[str]:
    """Returns the names of the groups that exist, sorted."""
    return sorted(Group.objects.filter(pk__in=ids).values_list("name", flat=True)) if ids else []


def _group_ids(owner: User, names: Sequence[str]) -> list[int]:
    own = permissions.group_roles(owner)
    problems, ids = [], []
    for index, name in enumerate(names):
        group = _find_group(name)
        if group is None:
            problems.append(Rejected("invalid", NO_SUCH_GROUP(name=name), f"groups[{index}]"))
        elif group.pk not in own and owner.role != Role.ADMIN:
            user = Person(owner.display_name, owner.pk)
            problems.append(Rejected("invalid", _NOT_A_MEMBER(user=user, group=group.name), f"groups[{index}]"))
        else:
            ids.append(group.pk)
    raise_all(problems)
    return ids


def _find_group(name: str) -> Group | None:
    if name.isascii() and name.isdigit() and len(name) < 19:
        return Group.objects.filter(pk=int(name)).first()
    return Group.objects.filter(name__iexact=name).first()


def _client_names(owner: User, names: Sequence[str]) -> list[str]:
    seen = {client.casefold() for client in owner.clients}
    problems = []
    for index, name in enumerate(names):
        if owner.clients and name.casefold() not in seen:
            reason = sentence(
                '{user} does not see the client "{client}".', user=Person(owner.display_name, owner.pk), client=name
            )
            problems.append(Rejected("invalid", reason, f"clients[{index}]"))
    raise_all(problems)
    return [name.strip() for name in names]


# ---------- service accounts
# Changes service accounts, which own API tokens and are nobody: validates, writes the audit log, makes nodes reload.
#
# A service account never signs in, has no e-mail address and no contact methods, and is in no group that could page
# it.


_NAME_TAKEN = Text('There is already a user or service account "{name}".')


class ServiceAccountSpec(Spec):
    """An account for scripts, which owns API tokens. It cannot sign in, and is never on call."""

    username: Annotated[Name, InForm(_("Name"), widget="plain")] = Field(
        alias="name", description="Unique name, also among users."
    )
    role: Annotated[Role, OneOf(), InForm(_("Role"), widget="radio", choices=ROLE_DESCRIPTIONS)] = Field(
        default=Role.OBSERVER, description="Role, which decides what its tokens may do at most."
    )
    service_groups: Annotated[
        ListOf[Name],
        Reference("people.Group", NO_SUCH_GROUP),
        InForm(_("Acts for groups"), _("It is never paged with them."), widget="checkboxes"),
    ] = Field(
        default=(),
        alias="groups",
        description="Groups for which it acts, by name. It is no member of them, and never paged.",
    )
    is_active: Annotated[bool, InForm(_("Active"), _("Tokens of an inactive account are rejected."))] = Field(
        default=True, alias="active", description="Whether its tokens are accepted."
    )


def _check_name(existing: ServiceAccount | None) -> Callable[[ServiceAccountSpec, SpecErrors], None]:
    def check(read: ServiceAccountSpec, errors: SpecErrors) -> None:
        others = User.accounts.exclude(pk=existing.pk) if existing else User.accounts.all()
        if others.filter(Q(username__iexact=read.username) | Q(email__iexact=read.username)).exists():
            errors.add("name", _NAME_TAKEN(name=read.username), "name_taken")

    return check


def _save_account(
    read: ServiceAccountSpec, account: ServiceAccount, /, *, before: Mapping[str, Any] | None, now: datetime
) -> Iterator[None]:
    account.name = read.username
    if before is None:
        account.is_service_account = True
        account.set_unusable_password()
    yield


SERVICE_ACCOUNTS = FlatObject(
    "service_account", ServiceAccount, ServiceAccountSpec, check=_check_name, own_step=_save_account
)
save_service_account, service_account_spec = SERVICE_ACCOUNTS.save, SERVICE_ACCOUNTS.spec


def delete_service_account(account: ServiceAccount, *, actor: AuditActor, now: datetime) -> None:
    """Deletes a service account with its tokens. Its actions stay on record under its name.

    Raises `Rejected("in_use")` while an active alert is assigned to it.
    """
    with boundary.config_command():
        before = service_account_spec(account)
        list(User.accounts.select_for_update().filter(pk=account.pk))
        hooks.reject_if_referenced("user", account.pk, account.username)
        audit.record_config_audit("service_account", account, before, None, actor=actor, now=now)
        account.delete()
