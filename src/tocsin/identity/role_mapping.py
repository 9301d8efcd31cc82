"""What a provider's groups grant: the installation role and memberships. Pure.

What came from the provider follows it; what was given manually stays.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tocsin.access import roles
from tocsin.access.roles import Role
from tocsin.people.member_roles import MemberRole


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
    """A membership as it is."""

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
    """Reads `IdentityProvider.roles`."""
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
