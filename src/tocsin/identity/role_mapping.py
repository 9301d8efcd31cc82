"""What a provider's groups grant: the installation role and memberships. Pure.

What came from the provider follows it; what was given manually stays.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tocsin.access import roles
from tocsin.access.roles import MemberRole, Role
from tocsin.core.errors import Rejected
from tocsin.core.validation.inputs import fold_login, sanitize
from tocsin.identity import reasons


@dataclass(frozen=True, slots=True)
class Grant:
    """A membership that a value of the groups claim grants."""

    group_id: int
    #: The role in the group; empty: the user's own.
    role: str
    on_call_roles: tuple[str, ...]
    #: The value of the claim that caused it.
    claim: str


@dataclass(frozen=True, slots=True)
class RoleMapping:
    """Maps one value of the groups claim to an installation role and memberships."""

    claim: str
    role: Role
    grants: tuple[Grant, ...] = ()


@dataclass(frozen=True, slots=True)
class MappedRoles:
    """What a user's groups grant."""

    #: None: no mapping fits, and there is no default.
    role: Role | None
    #: The value of the claim that caused the role; empty: the default.
    claim: str = ""
    grants: tuple[Grant, ...] = ()


@dataclass(frozen=True, slots=True)
class ExistingMembership:
    group_id: int
    role: str
    on_call_roles: tuple[str, ...]
    #: Slug of the provider that granted it; empty: given manually.
    source: str


@dataclass(frozen=True, slots=True)
class MembershipChanges:
    """What makes the memberships of one provider follow its grants."""

    added: tuple[Grant, ...] = ()
    changed: tuple[Grant, ...] = ()
    #: Ids of the groups that the user leaves.
    removed: tuple[int, ...] = ()


NO_CHANGES = MembershipChanges()


def read_mappings(stored: Iterable[Mapping[str, Any]]) -> tuple[RoleMapping, ...]:
    return tuple(
        RoleMapping(
            entry["claim"],
            Role(entry["role"]),
            tuple(
                Grant(grant["group"], grant["role"], tuple(grant["on_call_roles"]), entry["claim"])
                for grant in entry["groups"]
            ),
        )
        for entry in stored
    )


def map_roles(values: Collection[str], mappings: Iterable[RoleMapping], default_role: Role | None) -> MappedRoles:
    """Returns what the groups `values` grant: the highest role of those that fit, and their memberships together.
    Values are compared exactly: a directory may have groups whose names differ only in case."""
    fitting = [mapping for mapping in mappings if mapping.claim in values]
    if not fitting:
        return MappedRoles(default_role)
    best = fitting[0]
    for mapping in fitting[1:]:
        best = mapping if roles.higher(mapping.role, best.role) is not best.role else best
    grants: dict[int, Grant] = {}
    for grant in (grant for mapping in fitting for grant in mapping.grants):
        known = grants.get(grant.group_id)
        grants[grant.group_id] = _combine(known, grant) if known else grant
    return MappedRoles(best.role, best.claim, tuple(grants.values()))


def plan_memberships(existing: Iterable[ExistingMembership], grants: Iterable[Grant], source: str) -> MembershipChanges:
    """Returns what makes the memberships from `source`, the slug of a provider, follow its grants. A membership given
    manually, or by another provider, stays as it is."""
    by_group = {membership.group_id: membership for membership in existing}
    wanted = {grant.group_id: grant for grant in grants}
    changed = []
    for group_id, grant in wanted.items():
        known = by_group.get(group_id)
        if known is None or known.source != source:
            continue
        if (known.role, _ordered(known.on_call_roles)) != (grant.role, _ordered(grant.on_call_roles)):
            changed.append(grant)
    return MembershipChanges(
        tuple(grant for group_id, grant in wanted.items() if group_id not in by_group),
        tuple(changed),
        tuple(group for group, known in by_group.items() if known.source == source and group not in wanted),
    )


def _combine(first: Grant, second: Grant) -> Grant:
    given = [Role(role) for role in (first.role, second.role) if role]
    role = str(roles.higher(given[0], given[-1])) if given else ""
    claim = first.claim if first.claim == second.claim else f"{first.claim}, {second.claim}"
    return Grant(first.group_id, role, _ordered({*first.on_call_roles, *second.on_call_roles}), claim)


def _ordered(names: Collection[str]) -> tuple[str, ...]:
    return tuple(str(role) for role in MemberRole if role in names)


# ---------- claims
# Reads the claims of a token, or the attributes of an assertion, by the names that the provider uses. Pure.


#: A claim is shown and recorded with at most this many of its values.
MAX_SHOWN = 50
_MAX_CHARS = 300
#: The object ID in Microsoft Entra: by OpenID Connect, and by SAML.
_OBJECT_ID_CLAIMS = ("oid", "http://schemas.microsoft.com/identity/claims/objectidentifier")
#: What Entra ID sends by SAML instead of more than 150 groups.
_GROUPS_LINK = "http://schemas.microsoft.com/claims/groups.link"


@dataclass(frozen=True, slots=True)
class Claims:
    """What a provider says about a user."""

    issuer: str
    subject: str
    email: str = ""
    #: None: the provider does not say.
    is_email_verified: bool | None = None
    username: str = ""
    name: str = ""
    #: None: the claim is missing.
    groups: tuple[str, ...] | None = None
    #: Whether the provider sent a link instead of the groups, because there are too many (Entra's overage).
    has_groups_overage: bool = False
    #: In Microsoft Entra; empty elsewhere.
    object_id: str = ""


@dataclass(frozen=True, slots=True)
class VerifiedAnswer:
    """The claims of an answer that was checked."""

    claims: Claims
    #: All claims, for a test.
    raw: Mapping[str, Any]
    #: The provider's session, which a back-channel logout may name; empty: unknown.
    sid: str


def read_claims(raw: Mapping[str, Any], names: Mapping[str, str], *, issuer: str, subject: str) -> Claims:
    """Returns the claims that decide about a sign-in; `names` has the name of each. Raises Rejected."""
    email, username, name = (_text(_find(raw, names[key]), names[key]) for key in ("email", "username", "name"))
    groups = _find(raw, names["groups"])
    return Claims(
        issuer=issuer,
        subject=subject,
        email=fold_login(email),
        is_email_verified=_boolean(raw.get("email_verified")),
        username=username,
        name=name,
        groups=None if groups is None else _texts(groups, names["groups"]),
        has_groups_overage=_has_overage(raw, names["groups"]),
        object_id=next((found for name in _OBJECT_ID_CLAIMS if (found := _text(raw.get(name), name))), "")[:100],
    )


def shown(raw: Mapping[str, Any]) -> dict[str, str]:
    """Returns each claim as a short text, for administrators who test a provider."""
    texts = {}
    for name, value in sorted(raw.items()):
        text = ", ".join(map(_shown, value[:MAX_SHOWN])) if isinstance(value, list) else _shown(value)
        texts[str(name)[:200]] = text if len(text) <= _MAX_CHARS else f"{text[:_MAX_CHARS]}…"
    return texts


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _find(raw: Mapping[str, Any], name: str) -> Any:
    """Returns a claim by its name, or by a path such as `realm_access.roles`."""
    if name in raw:
        return raw[name]
    found: Any = raw
    for part in name.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def storable(value: Any, claim: str) -> str:
    """Returns a text that the database takes, such as a subject. Raises Rejected("invalid_token") for anything else."""
    if not isinstance(value, str) or sanitize(value) != value:
        raise Rejected("invalid_token", reasons.INVALID_CLAIM(claim=claim))
    return value.strip()


def _text(value: Any, claim: str) -> str:
    texts = _texts(value, claim) if value is not None else ()
    return texts[0] if texts else ""


def _texts(value: Any, claim: str) -> tuple[str, ...]:
    values = value if isinstance(value, list) else [value]
    return tuple(dict.fromkeys(text for one in values if (text := storable(one, claim))))


def _boolean(value: Any) -> bool | None:
    """Some providers write the boolean as a text, and SAML has lists of them. Anything else than true is not true."""
    return None if value is None else value is True or value in ("true", ["true"])


def _has_overage(raw: Mapping[str, Any], groups: str) -> bool:
    names = raw.get("_claim_names")
    is_link = isinstance(names, Mapping) and groups in names
    return is_link or raw.get("hasgroups") in (True, "true") or _GROUPS_LINK in raw
