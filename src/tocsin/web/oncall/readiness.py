"""Readiness of the users on call: on Home now and next over all groups, on a group's schedule as a matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.core.cache import caches
from django.utils.translation import gettext as _

from tocsin.access import boundary
from tocsin.core.config import config_version
from tocsin.core.db import database
from tocsin.notify.rules import responder_readiness
from tocsin.notify.rules.responder_readiness import ReadinessProblem, ShiftReadiness
from tocsin.operate.coverage import responders
from tocsin.people.member_roles import MemberRole
from tocsin.people.models import Group
from tocsin.web.ui.choices import channel_name

#: Cache lifetime on Home in seconds: a test that has arrived shows after a minute.
_CACHE_SECONDS = 60

#: The columns of the matrix after the channels, each with the problem that it shows.
COLUMNS = (
    ReadinessProblem.NOT_VERIFIED,
    ReadinessProblem.NOT_TESTED,
    ReadinessProblem.QUIET_HOURS,
    ReadinessProblem.SEVERAL_ROLES,
)


@dataclass(frozen=True, slots=True)
class ReadinessRow:
    """A user's shifts with the same problems: the first one, how many follow it, and their roles."""

    group_id: int
    group: str
    first: ShiftReadiness
    following_count: int
    roles: Sequence[MemberRole]
    is_now: bool

    @property
    def channels(self) -> str:
        """The names of the loud channels."""
        return ", ".join(channel_name(channel) for channel in self.first.loud_channels)

    @property
    def problems(self) -> list[str]:
        """Each problem as a sentence."""
        return [reason.localized() for reason in self.first.problems.values()]

    @property
    def cells(self) -> list[tuple[str, bool | None]]:
        """The columns' names, and whether each is fulfilled; None if it does not apply."""
        names = {
            ReadinessProblem.NOT_VERIFIED: _("Verified"),
            ReadinessProblem.NOT_TESTED: _("Tested"),
            ReadinessProblem.QUIET_HOURS: _("Quiet hours"),
            ReadinessProblem.SEVERAL_ROLES: _("One role at a time"),
        }
        return [(names[problem], self._is_met(problem)) for problem in COLUMNS]

    def _is_met(self, problem: ReadinessProblem) -> bool | None:
        if problem in self.first.problems:
            return False
        # Without a loud channel there is nothing to verify, to test or to delay.
        is_several = problem is ReadinessProblem.SEVERAL_ROLES
        applies = not self.first.has_other_roles if is_several else self.first.loud_channels
        return True if applies else None


def on_call_soon(now: datetime) -> list[ReadinessRow]:
    """Return who is on call now and next in each group, those who may not be woken first."""
    with database.transaction() as connection:
        limit = boundary.current()
        viewer = "" if limit is None else limit.user_id
        key = f"readiness:{viewer}:{config_version.current_version(connection)}"
        rows: list[ReadinessRow] | None = caches["process"].get(key)
        if rows is None:
            group_ids = list(Group.objects.filter(memberships__isnull=False).distinct().values_list("pk", flat=True))
            until = now + responders.READINESS_HORIZON
            groups = responders.readiness_of_groups(connection, group_ids, now, now, until)
            rows = []
            for group_id, (plan, shifts) in groups.items():
                # Managers are paged at the end of an escalation, if at all.
                paged = [one for one in shifts if one.shift.role is not MemberRole.MANAGER]
                soon = responder_readiness.now_and_next(paged, now)
                rows += _rows(group_id, plan.name, soon, now, by_role=False)
            rows.sort(key=lambda row: (row.first.is_ready, row.group.casefold(), not row.is_now))
            caches["process"].set(key, rows, _CACHE_SECONDS)
    return rows


def of_group(group: Group, now: datetime) -> list[ReadinessRow]:
    """Return the readiness of the group's shifts of the next days."""
    with database.transaction() as connection:
        until = now + responders.READINESS_HORIZON
        groups = responders.readiness_of_groups(connection, [group.pk], now, now, until)
    return [
        row
        for group_id, (plan, shifts) in groups.items()
        for row in _rows(group_id, plan.name, shifts, now, by_role=True)
    ]


def _rows(
    group_id: int, group: str, shifts: Sequence[ShiftReadiness], now: datetime, *, by_role: bool
) -> list[ReadinessRow]:
    merged: dict[object, list[ShiftReadiness]] = {}
    for one in shifts:
        role = (one.shift.role, one.has_other_roles) if by_role else None
        merged.setdefault((one.shift.user_id, role, frozenset(one.problems)), []).append(one)
    return [
        ReadinessRow(
            group_id,
            group,
            first=same[0],
            following_count=len(same) - 1,
            roles=tuple(dict.fromkeys(one.shift.role for one in same)),
            is_now=same[0].shift.since is None or same[0].shift.since <= now,
        )
        for same in merged.values()
    ]
