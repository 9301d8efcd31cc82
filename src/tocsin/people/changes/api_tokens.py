"""Creates API tokens by names, as the API, the web interface and the command line do.

The owner of a token may have any role: what the token may do is the intersection of both (`access.token_limits`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from tocsin.access import boundary, tokens
from tocsin.access.audit import AuditActor
from tocsin.access.models import ApiToken
from tocsin.access.roles import Role
from tocsin.access.token_limits import DEFAULT_LIFETIME, TokenLimits, TokenScope
from tocsin.access.tokens import NewToken
from tocsin.core.errors import Rejected
from tocsin.core.reasons import Person, ReasonType
from tocsin.core.validation.field_errors import raise_all
from tocsin.people import permissions
from tocsin.people.models import Group, User
from tocsin.people.reasons import NO_SUCH_GROUP

_NOT_A_MEMBER = ReasonType(
    "token.not_a_member", '{user} is not a member of the group "{group}", so a token of theirs cannot act there.'
)
_NOT_A_CLIENT = ReasonType("token.not_a_client", '{user} does not see the client "{client}".')
_WIDER = ReasonType(
    "token.wider",
    "A token cannot create one that may do more: use its scope, groups and clients, or narrower ones, and no later "
    "expiry.",
)


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
            raise Rejected("forbidden", _WIDER())
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
            reason = _NOT_A_CLIENT(user=Person(owner.display_name, owner.pk), client=name)
            problems.append(Rejected("invalid", reason, f"clients[{index}]"))
    raise_all(problems)
    return [name.strip() for name in names]
