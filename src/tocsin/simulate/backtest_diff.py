"""Describes how a message's outcome differs between two versions, and totals of a run. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from enum import StrEnum

from tocsin.alerts.change_handlers import PagingConfig, PagingMode
from tocsin.inbound.admin.references import ReferenceNames
from tocsin.inbound.config.compiled_integration import ReferenceDirectory
from tocsin.inbound.enums import MessageStatus
from tocsin.inbound.expressions.fields import FIELDS
from tocsin.inbound.expressions.mapped import MappedFields
from tocsin.simulate.replay_state import ReplayOutcome

#: The hours at which night begins and ends.
NIGHT_BEGINS, NIGHT_ENDS = 22, 7


class DifferenceKind(StrEnum):
    """What differs."""

    OUTCOME = "outcome"  # opened instead of ignored
    KEY = "key"  # belongs to another alert
    PAGING = "paging"  # pages somebody else, or with another priority
    FIELDS = "fields"  # the alert has other contents


@dataclass(frozen=True, slots=True)
class DecisionDifference:
    """One difference: its kind, and a sentence."""

    kind: DifferenceKind
    says: str


@dataclass(slots=True)
class BacktestTotals:
    """The totals of a run. `pages` counts alerts that page somebody, or would without dry run."""

    statuses: Counter[MessageStatus] = field(default_factory=Counter)
    opened: int = 0
    pages: int = 0
    at_night: int = 0

    def add(self, came: ReplayOutcome, at: datetime, zone: tzinfo) -> None:
        """Counts one message that arrived `at`."""
        self.statuses[came.status] += 1
        self.add_opening(came, at, zone)

    def add_opening(self, came: ReplayOutcome, at: datetime, zone: tzinfo) -> None:
        """Counts the alert that a message opened, if any, immediately or after a delay."""
        if came.opening is None:
            return
        self.opened += 1
        if came.opening.paging.mode is not PagingMode.RECORD:
            self.pages += 1
            self.at_night += is_night(at, zone)


def is_night(at: datetime, zone: tzinfo) -> bool:
    """Whether it is night there: from 22:00 to 07:00."""
    hour = at.astimezone(zone).hour
    return hour >= NIGHT_BEGINS or hour < NIGHT_ENDS


@dataclass(frozen=True, slots=True)
class ReferenceLabels:
    """The names of the objects to which decisions refer by id."""

    names: ReferenceNames
    #: Policies by the id of their current version.
    policies: Mapping[int, str]

    @classmethod
    def of(cls, names: ReferenceNames, directory: ReferenceDirectory) -> ReferenceLabels:
        """The labels of a configuration."""
        return cls(names, {entry.version_id: entry.name for entry in directory.policies.values()})

    def policy(self, paging: PagingConfig) -> str:
        """The policy's name."""
        return self.policies.get(paging.version_id or 0, "another version") if paging.version_id else "no policy"

    def recipients(self, paging: PagingConfig) -> str:
        """The recipients who are paged, or in whose groups roles are looked up."""
        groups = [self.names.groups.get(number, f"group {number}") for number in paging.recipient_groups]
        users = [self.names.users.get(number, f"user {number}") for number in paging.recipient_users]
        return ", ".join([*groups, *users]) or "nobody"


def changes(before: ReplayOutcome, after: ReplayOutcome, words: ReferenceLabels) -> tuple[DecisionDifference, ...]:
    """All differences between two outcomes, the most important first."""
    found: list[DecisionDifference] = []
    if before.status is not after.status:
        found.append(
            DecisionDifference(DifferenceKind.OUTCOME, f"{after.status} instead of {before.status}: {after.reason}")
        )
    if before.key != after.key:
        found.append(
            DecisionDifference(
                DifferenceKind.KEY, f"another key: {after.key or 'of its own'} instead of {before.key or 'of its own'}"
            )
        )
    if before.opening is not None and after.opening is not None:
        found += [DecisionDifference(DifferenceKind.PAGING, said) for said in _paging(before, after, words)]
    if names := _fields(before.mapped, after.mapped):
        found.append(DecisionDifference(DifferenceKind.FIELDS, f"reads otherwise: {', '.join(names)}"))
    return tuple(found)


def _paging(before: ReplayOutcome, after: ReplayOutcome, words: ReferenceLabels) -> list[str]:
    assert before.opening is not None
    assert after.opening is not None
    was, is_now = before.opening.paging, after.opening.paging
    said = []
    if was.mode is not is_now.mode:
        said.append(f"{_mode(is_now)} instead of {_mode(was)}")
    pages = is_now.mode is not PagingMode.RECORD
    if pages and was.version_id != is_now.version_id:
        said.append(f"by {words.policy(is_now)} instead of {words.policy(was)}")
    if pages and (was.recipient_groups, was.recipient_users) != (is_now.recipient_groups, is_now.recipient_users):
        said.append(f"pages {words.recipients(is_now)} instead of {words.recipients(was)}")
    if before.opening.alert.priority is not after.opening.alert.priority:
        said.append(f"{after.opening.alert.priority} instead of {before.opening.alert.priority}")
    return said


def _mode(paging: PagingConfig) -> str:
    match paging.mode:
        case PagingMode.PAGE:
            return "pages"
        case PagingMode.DRY_RUN:
            return "would page, but is a dry run"
        case PagingMode.RECORD:
            return "only recorded"


def _fields(before: MappedFields | None, after: MappedFields | None) -> list[str]:
    if before is None or after is None or before == after:
        return []
    found = [FIELDS[n].label for n in FIELDS if before.values.get(n) != after.values.get(n)]
    for was, is_now in ((before.tags, after.tags), (before.custom, after.custom)):
        found += [name for name in {**was, **is_now} if was.get(name) != is_now.get(name)]
    return found
