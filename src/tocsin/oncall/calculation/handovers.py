"""When the shifts of a schedule change hands: from whom to whom. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from tocsin.oncall.calculation import final_schedule
from tocsin.oncall.calculation.final_schedule import OnCall
from tocsin.oncall.calculation.group_snapshot import GroupPlan
from tocsin.people.member_roles import MemberRole

#: The longest gap between two shifts after which the first still hands over to the second.
MAX_GAP = timedelta(days=8)


@dataclass(frozen=True, slots=True)
class Handover:
    """At `at` the `incoming` users follow the `outgoing` ones, whose shift began at `since`. Both are never empty.

    A user who changes to another role is in both.
    """

    at: datetime
    since: datetime
    outgoing: tuple[int, ...]
    incoming: tuple[int, ...]


def handovers(plan: GroupPlan, schedule: str, since: datetime, until: datetime) -> tuple[Handover, ...]:
    """Returns the handovers of one schedule from `since` (inclusive) until `until` (exclusive), by time.

    When nobody is on call between two shifts, the handover is at the start of the second. A user who follows
    themselves hands nothing over, nor does one who joins others.
    """
    begin = since - MAX_GAP
    segments = [
        segment for segment in final_schedule.timeline(plan, begin, until).segments if segment.schedule == schedule
    ]
    by_moment: dict[datetime, list[Handover]] = {}
    for role in MemberRole:
        for one in _of_role([segment for segment in segments if segment.role is role], begin):
            if since <= one.at < until:
                by_moment.setdefault(one.at, []).append(one)
    return tuple(_merged(parts) for _at, parts in sorted(by_moment.items()))


def _of_role(segments: Iterable[OnCall], begin: datetime) -> Iterator[Handover]:
    """Yields the handovers of one role. `begin` is where the data begins."""
    spans = [(segment.since or begin, segment.until, segment.user_id) for segment in segments]
    before: frozenset[int] = frozenset()
    before_since = begin
    for moment in sorted({edge for since, until, _user in spans for edge in (since, until) if edge}):
        users = frozenset(user for since, until, user in spans if since <= moment and (until is None or moment < until))
        # Between two shifts nobody is on call, and the last users still are those who hand over.
        if not users or users == before:
            continue
        outgoing, incoming = before - users, users - before
        if outgoing and incoming:
            yield Handover(moment, before_since, tuple(sorted(outgoing)), tuple(sorted(incoming)))
        before, before_since = users, moment


def _merged(parts: list[Handover]) -> Handover:
    return Handover(
        parts[0].at,
        min(part.since for part in parts),
        tuple(sorted({user for part in parts for user in part.outgoing})),
        tuple(sorted({user for part in parts for user in part.incoming})),
    )
