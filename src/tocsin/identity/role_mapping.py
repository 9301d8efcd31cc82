"""Decides the roles and memberships that a user's groups at the identity provider give. Pure.

Sign-in passes the values of the groups claim, SCIM the names of the groups in which the provider put the user.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tocsin.access import roles
from tocsin.access.roles import Role
from tocsin.people.member_roles import MemberRole


@dataclass(frozen=True, slots=True)
class GrantedMembership:
    """A membership that a provider gives: the group by name, the role there (None: the user's own), on-call roles."""

    group: str
    role: Role | None
    on_call_roles: tuple[MemberRole, ...]
    #: The value of the mapping that gives it, for the audit log.
    claim: str


@dataclass(frozen=True, slots=True)
class Grants:
    """What a provider gives to one user.

    `role` is None if no mapping names an installation role and there is no default role either.
    """

    role: Role | None
    #: The value of the mapping that gave the role; empty for the default role.
    claim: str
    memberships: tuple[GrantedMembership, ...]
    #: Whether any mapping fits the user's groups.
    is_mapped: bool


def decide_grants(groups: Iterable[str], mapping: Sequence[Mapping[str, Any]], default_role: str) -> Grants:
    """Returns what `mapping`, the `roles` of a provider, gives to a member of these groups at the provider.

    Values are compared exactly, because directories may have groups whose names differ in case. Of several mappings
    that fit, the highest role counts, in the installation as in each group; on-call roles add up.
    """
    values = frozenset(groups)
    fitting = [entry for entry in mapping if entry.get("claim") in values]
    role: Role | None = None
    claim = ""
    memberships: dict[str, GrantedMembership] = {}
    for entry in fitting:
        if entry.get("role"):
            given = Role(entry["role"])
            if role is None or (given is not role and roles.higher(role, given) is given):
                role, claim = given, entry["claim"]
        for group in entry.get("groups") or ():
            _add(memberships, group, entry["claim"])
    if role is None and default_role:
        role = Role(default_role)
    return Grants(role, claim, tuple(memberships.values()), bool(fitting))


def _add(memberships: dict[str, GrantedMembership], entry: Mapping[str, Any], claim: str) -> None:
    name = str(entry["group"])
    known = memberships.get(name.casefold())
    role = Role(entry["role"]) if entry.get("role") else None
    on_call = {MemberRole(value) for value in entry.get("on_call_roles") or ()}
    if known is not None:
        on_call.update(known.on_call_roles)
        if known.role is not None:
            role = known.role if role is None else roles.higher(known.role, role)
        claim = known.claim
    ordered = tuple(value for value in MemberRole if value in on_call)
    memberships[name.casefold()] = GrantedMembership(name, role, ordered, claim)
