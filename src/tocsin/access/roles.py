"""Who may do what: the one table of roles and actions, and the question `may`. Pure."""

from __future__ import annotations

from enum import StrEnum


class Role(StrEnum):
    """What a user is to the installation. Each may do what the one before may, and more."""

    OBSERVER = "observer"
    RESPONDER = "responder"
    MANAGER = "manager"
    ADMIN = "admin"

    @classmethod
    def choices(cls) -> list[tuple[str, str]]:
        """Value and label, as Django's fields want them."""
        return [(role.value, role.value) for role in cls]


class Action(StrEnum):
    """One row of the table below."""

    SEE = "see alerts, who is on call, and the Inbound Log"
    ACT = "act on alerts, and open one by hand"
    OWN = "change one's own contact methods, absence and shifts"
    SEE_ADDRESSES = "see phone numbers and addresses of others"
    TEAMS = "change groups, schedules, overrides and policies"
    ROUTING = "change integrations, routes, workflows, outbound and maintenance"
    TRY_OUT = "replay, test and send a sample"
    ADMINISTER = "change users, providers, security and settings, and read the audit log"


class Reach(StrEnum):
    """On which objects a role may take an action."""

    NONE = "none"
    OWN_GROUPS = "own groups"
    ALL = "all"


_N, _G, _A = Reach.NONE, Reach.OWN_GROUPS, Reach.ALL

#:                          observer, responder, manager, admin
TABLE: dict[Action, tuple[Reach, Reach, Reach, Reach]] = {
    Action.SEE: (_A, _A, _A, _A),
    Action.ACT: (_N, _A, _A, _A),
    Action.OWN: (_A, _A, _A, _A),
    Action.SEE_ADDRESSES: (_N, _G, _G, _A),
    Action.TEAMS: (_N, _N, _G, _A),
    Action.ROUTING: (_N, _N, _G, _A),
    Action.TRY_OUT: (_N, _N, _G, _A),
    Action.ADMINISTER: (_N, _N, _N, _A),
}

_COLUMN = {role: number for number, role in enumerate(Role)}


def reach(role: Role, action: Action) -> Reach:
    """On which objects `role` may take `action`."""
    return TABLE[action][_COLUMN[role]]


def may(role: Role, action: Action, *, own_groups: frozenset[int] = frozenset(), group: int | None = None) -> bool:
    """Whether somebody with `role`, a member of `own_groups`, may take `action` on an object that `group` owns.

    An object without a group is changed by administrators only. For the address of a person, ask with each group
    of that person: one that both are in is enough.
    """
    match reach(role, action):
        case Reach.ALL:
            return True
        case Reach.OWN_GROUPS:
            return group is not None and group in own_groups
        case Reach.NONE:
            return False
