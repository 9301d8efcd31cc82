"""Try before saving: the last messages of an integration through another version of its mapping, rules or routes.

Reads the bytes that were kept, decides them in order by the live code, and lists what would differ. Stores and sends
nothing. Alerts that were open before the first of these messages, and what people did, are not known to either version.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from tocsin.core.db import database
from tocsin.core.ids import first_uuid7
from tocsin.core.runtime import clock
from tocsin.inbound.admin import drafts, specs
from tocsin.inbound.body_compression import body_of
from tocsin.inbound.config.compiled_integration import CompiledIntegration
from tocsin.inbound.models import Integration
from tocsin.inbound.storage.stored_messages import element_of
from tocsin.simulate.backtest_diff import BacktestTotals, DecisionDifference, DifferenceKind, ReferenceLabels, changes
from tocsin.simulate.replay_state import ReplayedMessage, ReplayOutcome, ReplayState

#: So many messages, unless somebody asks for another number; and at most.
DEFAULT_MESSAGES, MAX_MESSAGES = 1_000, 10_000

#: So many differences are kept; the others are only counted.
MAX_DIFFERENCES = 500

_CHUNK = 100

#: Told after each chunk: how many messages are done, and how many there are.
type BacktestProgress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class BacktestDifference:
    """One message that would come to something else."""

    message_id: UUID
    received_at: datetime
    subject: str
    source_id: str
    before: ReplayOutcome
    after: ReplayOutcome
    changes: tuple[DecisionDifference, ...]


@dataclass(slots=True)
class Backtest:
    """What would differ, newest first, and what both versions come to."""

    before: BacktestTotals = field(default_factory=BacktestTotals)
    after: BacktestTotals = field(default_factory=BacktestTotals)
    differences: list[BacktestDifference] = field(default_factory=list)
    #: How many messages differ, by kind: more than `differences` holds, perhaps.
    counts: dict[DifferenceKind, int] = field(default_factory=dict)
    differing: int = 0
    looked_at: int = 0
    first_at: datetime | None = None
    last_at: datetime | None = None
    #: Seconds.
    took: float = 0.0
    #: Why there is nothing to compare with: the version in force cannot be used.
    problem: str = ""
    zone: tzinfo = UTC


def backtest(
    integration: Integration,
    parts: Mapping[str, Any],
    *,
    limit: int = DEFAULT_MESSAGES,
    since: datetime | None = None,
    progress: BacktestProgress | None = None,
) -> Backtest:
    """The last `limit` messages (those after `since`) by the version in force and by the edited `parts`.

    Raises Rejected, or RejectedAll, for parts that could not be saved.
    """
    names = specs.names()
    after = drafts.drafted(integration, parts, names)
    return compare(integration, drafts.door_of(integration), after, limit=limit, since=since, progress=progress)


def compare(
    integration: Integration,
    before: CompiledIntegration,
    after: CompiledIntegration,
    *,
    limit: int = DEFAULT_MESSAGES,
    since: datetime | None = None,
    progress: BacktestProgress | None = None,
) -> Backtest:
    """As `backtest`, for two doors."""
    began = time.monotonic()
    words = ReferenceLabels.of(specs.names(), after.directory)
    found = Backtest(zone=zone_of(integration), problem=before.problem.detail if before.problem else "")
    worlds = ReplayState(before), ReplayState(after)
    ids = _ids(integration.pk, min(max(limit, 0), MAX_MESSAGES), since)
    for arrived, subject, source_id in _arrived(ids, after):
        _compare(found, worlds, words, arrived, subject, source_id)
        if progress is not None and (found.looked_at % _CHUNK == 0 or found.looked_at == len(ids)):
            progress(found.looked_at, len(ids))
    for world, counted in zip(worlds, (found.before, found.after), strict=True):
        _open_due(world, counted, clock.now(), found.zone)
    found.differences.reverse()
    del found.differences[MAX_DIFFERENCES:]
    found.took = time.monotonic() - began
    return found


def tally(
    integration: Integration, doors: Sequence[CompiledIntegration], since: datetime, *, limit: int = MAX_MESSAGES
) -> list[BacktestTotals]:
    """What the messages after `since` come to by each of the doors."""
    zone = zone_of(integration)
    worlds = [ReplayState(door) for door in doors]
    tallies = [BacktestTotals() for _ in doors]
    for arrived, _subject, _source_id in _arrived(_ids(integration.pk, limit, since), doors[0]):
        for world, counted in zip(worlds, tallies, strict=True):
            _open_due(world, counted, arrived.received_at, zone)
            counted.add(world.take(arrived), arrived.received_at, zone)
    for world, counted in zip(worlds, tallies, strict=True):
        _open_due(world, counted, clock.now(), zone)
    return tallies


def _open_due(world: ReplayState, counted: BacktestTotals, until: datetime, zone: tzinfo) -> None:
    """Counts the alerts that waited and opened by then."""
    for at, came in world.due(until):
        counted.add_opening(came, at, zone)


def has_more_than(number: int, integration: Integration, since: datetime) -> bool:
    """Whether more messages than that came after `since`: then counting them takes a while."""
    return len(_ids(integration.pk, number + 1, since)) > number


def zone_of(integration: Integration) -> tzinfo:
    """Whose night counts: that of the first group that is paged."""
    group = integration.recipient_groups.order_by("pk").first()
    return ZoneInfo(group.time_zone) if group is not None else UTC


def messages(
    integration: Integration, door: CompiledIntegration, since: datetime, *, limit: int = MAX_MESSAGES
) -> Iterator[ReplayedMessage]:
    """The messages after `since`, decoded, oldest first; samples and replays left out."""
    for arrived, _subject, _source_id in _arrived(_ids(integration.pk, limit, since), door):
        yield arrived


def _compare(
    found: Backtest,
    worlds: tuple[ReplayState, ReplayState],
    words: ReferenceLabels,
    arrived: ReplayedMessage,
    subject: str,
    source_id: str,
) -> None:
    at = arrived.received_at
    for world, counted in zip(worlds, (found.before, found.after), strict=True):
        _open_due(world, counted, at, found.zone)
    was, is_now = (world.take(arrived) for world in worlds)
    found.before.add(was, at, found.zone)
    found.after.add(is_now, at, found.zone)
    found.looked_at += 1
    found.first_at, found.last_at = found.first_at or at, at
    differing = changes(was, is_now, words)
    if not differing:
        return
    found.differing += 1
    for kind in {one.kind for one in differing}:
        found.counts[kind] = found.counts.get(kind, 0) + 1
    found.differences.append(BacktestDifference(arrived.id, at, subject, source_id, was, is_now, differing))
    if len(found.differences) > 2 * MAX_DIFFERENCES:
        # The newest are shown: the oldest go.
        del found.differences[:MAX_DIFFERENCES]


_IDS = """
SELECT id FROM inbound_inboundmessage
WHERE integration_id = %(integration)s AND id >= %(since)s AND NOT test AND replay_of IS NULL
ORDER BY id DESC LIMIT %(limit)s
"""

_RAW = """
SELECT id, received_at, raw, content_type, subject, source_id FROM inbound_inboundmessage
WHERE id = ANY(%s) ORDER BY id
"""

_NIL = UUID(int=0)


def _ids(integration_id: int, limit: int, since: datetime | None) -> list[UUID]:
    """The newest messages' ids, oldest first."""
    parameters = {
        "integration": integration_id,
        "since": first_uuid7(since) if since is not None else _NIL,
        "limit": limit,
    }
    with database.transaction() as connection:
        return [row["id"] for row in database.rows(connection, _IDS, parameters)][::-1]


def _arrived(ids: Sequence[UUID], door: CompiledIntegration) -> Iterator[tuple[ReplayedMessage, str, str]]:
    """The messages with subject and source id, as their rows have them. A few are in memory at a time."""
    lenient = door.reader.kind.lenient
    for start in range(0, len(ids), _CHUNK):
        with database.transaction() as connection:
            rows = database.rows(connection, _RAW, (list(ids[start : start + _CHUNK]),))
        for row in rows:
            raw = body_of(row["raw"])
            element = element_of(raw, row["content_type"], lenient=lenient)
            yield ReplayedMessage(row["id"], row["received_at"], raw, element), row["subject"], row["source_id"]
