"""Who is on call in each group: now, in the following steps, and after the current shift. Reads only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.oncall import loader
from tocsin.oncall.calculation.final_schedule import OnCall
from tocsin.people.member_roles import MemberRole
from tocsin.people.models import Group


@dataclass(frozen=True, slots=True)
class GroupDuty:
    """The users on call in one group: the primary, the users whom the next steps page, and the primary's successor."""

    group: Group
    now: Sequence[OnCall]
    next: Sequence[OnCall]
    #: End of the primary's shift, if it has one, and the display name of the primary from then on.
    until: datetime | None = None
    next_primary: str = ""


def duties(now: datetime) -> list[GroupDuty]:
    """Return every group with members and who is on call in it. Without a shift for a role, the group's member order
    applies."""
    groups = list(Group.objects.filter(memberships__isnull=False).distinct())
    with database.transaction() as connection:
        on_call_by_group = loader.on_call(connection, [group.pk for group in groups], now)
        return [_duty(connection, group, on_call_by_group.get(group.pk, ())) for group in groups]


def _duty(connection: Connection, group: Group, people: Sequence[OnCall]) -> GroupDuty:
    first = [person for person in people if person.role is MemberRole.PRIMARY][:1]
    other_people = [person for person in people if person not in first and person.role is not MemberRole.MANAGER]
    until = first[0].until if first else None
    if until is None:
        return GroupDuty(group, first, other_people[:3])
    next_on_call = loader.on_call(connection, [group.pk], until).get(group.pk, ())
    next_primary = next((person.name for person in next_on_call if person.role is MemberRole.PRIMARY), "")
    return GroupDuty(group, first, other_people[:3], until, next_primary)
