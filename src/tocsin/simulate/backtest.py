"""Replays an integration's last messages with another version of its mapping, rules or routes and lists the
differences.

Uses the stored bytes and the live decision code, in order. Stores and sends nothing. Alerts opened before the first of
these messages, and responses of people, are unknown to both versions.
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
from tocsin.inbound.body_compression import decompress
from tocsin.inbound.config.compiled_integration import CompiledIntegration
from tocsin.inbound.models import Integration
from tocsin.inbound.storage.stored_messages import element_of
from tocsin.simulate.backtest_diff import BacktestTotals, DecisionDifference, DifferenceKind, ReferenceLabels, changes
from tocsin.simulate.replay_state import ReplayedMessage, ReplayOutcome, ReplayState

#: The default and maximum number of messages.
DEFAULT_MESSAGES, MAX_MESSAGES = 1_000, 10_000

#: Differences kept; further ones are only counted.
MAX_DIFFERENCES = 500

_CHUNK = 100

#: Called after each chunk with the number of messages done and the total.
type BacktestProgress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class BacktestDifference:
    """One message with a different outcome."""

    message_id: UUID
    received_at: datetime
    subject: str
    source_id: str
    before: ReplayOutcome
    after: ReplayOutcome
    changes: tuple[DecisionDifference, ...]


@dataclass(slots=True)
class Backtest:
    """The differences, newest first, and the totals of both versions."""

    before: BacktestTotals = field(default_factory=BacktestTotals)
    after: BacktestTotals = field(default_factory=BacktestTotals)
    differences: list[BacktestDifference] = field(default_factory=list)
    #: The number of differing messages by kind, which may exceed `differences`.
    counts: dict[DifferenceKind, int] = field(default_factory=dict)
    differing: int = 0
    looked_at: int = 0
    first_at: datetime | None = None
    last_at: datetime | None = None
    #: In seconds.
    took: float = 0.0
    #: Why there is nothing to compare with: the current version is unusable.
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
    """Replays the last `limit` messages (those after `since`) with the current version and with the edited `parts`.

    Raises Rejected or RejectedAll for parts that could not be saved.
    """
    names = specs.names()
    after = drafts.compile_draft(integration, parts, names)
    return compare(integration, drafts.compile_stored(integration), after, limit=limit, since=since, progress=progress)


def compare(
    integration: Integration,
    before: CompiledIntegration,
    after: CompiledIntegration,
    *,
    limit: int = DEFAULT_MESSAGES,
    since: datetime | None = None,
    progress: BacktestProgress | None = None,
) -> Backtest:
    """Like `backtest`, for two compiled integrations."""
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
    """The totals of the messages after `since`, for each of the compiled integrations."""
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
    """Counts delayed alerts that opened by `until`."""
    for at, came in world.due(until):
        counted.add_opening(came, at, zone)


def has_more_than(number: int, integration: Integration, since: datetime) -> bool:
    """Whether more than `number` messages came after `since`, so that counting them takes a while."""
    return len(_ids(integration.pk, number + 1, since)) > number


def zone_of(integration: Integration) -> tzinfo:
    """The time zone for night hours: that of the first recipient group."""
    group = integration.recipient_groups.order_by("pk").first()
    return ZoneInfo(group.time_zone) if group is not None else UTC


def messages(
    integration: Integration, door: CompiledIntegration, since: datetime, *, limit: int = MAX_MESSAGES
) -> Iterator[ReplayedMessage]:
    """The decoded messages after `since`, oldest first, without samples and replays."""
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
        # The newest are shown, so the oldest are dropped.
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
    """The ids of the newest messages, oldest first."""
    parameters = {
        "integration": integration_id,
        "since": first_uuid7(since) if since is not None else _NIL,
        "limit": limit,
    }
    with database.transaction() as connection:
        return [row["id"] for row in database.rows(connection, _IDS, parameters)][::-1]


def _arrived(ids: Sequence[UUID], door: CompiledIntegration) -> Iterator[tuple[ReplayedMessage, str, str]]:
    """The messages with the subject and source id of their rows. Loads only a chunk at a time."""
    lenient = door.reader.kind.lenient
    for start in range(0, len(ids), _CHUNK):
        with database.transaction() as connection:
            rows = database.rows(connection, _RAW, (list(ids[start : start + _CHUNK]),))
        for row in rows:
            raw = decompress(row["raw"])
            element = element_of(raw, row["content_type"], lenient=lenient)
            yield ReplayedMessage(row["id"], row["received_at"], raw, element), row["subject"], row["source_id"]
