"""Describes how a message's outcome differs between two versions, and totals of a run. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from tocsin.alerts.change_handlers import PagingConfig, PagingMode
from tocsin.core.reasons import Param, Reason, Term, as_reason
from tocsin.inbound.admin.references import ReferenceNames
from tocsin.inbound.config.compiled_integration import ReferenceDirectory
from tocsin.inbound.enums import MessageStatus
from tocsin.inbound.expressions.fields import FIELDS
from tocsin.inbound.expressions.mapped import MappedFields
from tocsin.simulate import reasons
from tocsin.simulate.replay_state import ReplayOutcome


class DifferenceKind(StrEnum):
    """What differs."""

    OUTCOME = "outcome"  # opened instead of ignored
    KEY = "key"  # belongs to another alert
    PAGING = "paging"  # pages somebody else, or with another priority
    FIELDS = "fields"  # the alert has other contents


class PagingEffect(StrEnum):
    """How a difference changes who is paged, the most important first."""

    NO_LONGER_OPENS = "no_longer_opens"
    OPENS = "opens"
    DELAYS = "delays"
    NO_LONGER_PAGES = "no_longer_pages"
    PAGES_OTHERS = "pages_others"
    OTHER = "other"  # closes or updates another alert, or none


_EFFECT_REASONS = {
    PagingEffect.NO_LONGER_OPENS: reasons.NO_LONGER_OPEN,
    PagingEffect.OPENS: reasons.NEWLY_OPEN,
    PagingEffect.DELAYS: reasons.NEWLY_DELAYED,
    PagingEffect.NO_LONGER_PAGES: reasons.NO_LONGER_PAGES,
    PagingEffect.PAGES_OTHERS: reasons.PAGES_OTHERS,
    PagingEffect.OTHER: reasons.OTHER_EFFECT,
}


@dataclass(frozen=True, slots=True)
class DecisionDifference:
    """One difference: its kind, and a description."""

    kind: DifferenceKind
    reason: Reason


@dataclass(slots=True)
class BacktestTotals:
    """The totals of a run. `pages` counts alerts that page somebody, or would without dry run."""

    statuses: Counter[MessageStatus] = field(default_factory=Counter)
    opened: int = 0
    pages: int = 0
    at_night: int = 0

    def add(self, outcome: ReplayOutcome, *, is_night: bool) -> None:
        """Counts one message."""
        self.statuses[outcome.status] += 1
        self.add_opening(outcome, is_night=is_night)

    def add_opening(self, outcome: ReplayOutcome, *, is_night: bool) -> None:
        """Counts the alert that a message opened, if any, immediately or after a delay."""
        if outcome.opening is None:
            return
        self.opened += 1
        if outcome.opening.paging.mode is not PagingMode.LOG_ONLY:
            self.pages += 1
            self.at_night += is_night


@dataclass(frozen=True, slots=True)
class ReferenceLabels:
    """The names of the objects to which decisions refer by id."""

    names: ReferenceNames
    #: Policies by the id of their current version.
    policies: Mapping[int, str]

    @classmethod
    def for_directories(cls, names: ReferenceNames, *directories: ReferenceDirectory) -> ReferenceLabels:
        """The labels of what these configurations refer to."""
        policies = [entry for directory in directories for entry in directory.policies.values()]
        return cls(names, {entry.version_id: entry.name for entry in policies})

    def policy(self, paging: PagingConfig) -> Reason:
        """The policy's name."""
        if not paging.version_id:
            return reasons.NO_POLICY()
        return as_reason(self.policies[paging.version_id])

    def recipients(self, paging: PagingConfig) -> Param:
        """The recipients who are paged, or in whose groups roles are looked up."""
        groups = [self.names.groups.get(object_id, f"group {object_id}") for object_id in paging.recipient_groups]
        users = [self.names.users.get(object_id, f"user {object_id}") for object_id in paging.recipient_users]
        return (*groups, *users) or reasons.NOBODY()


def changes(before: ReplayOutcome, after: ReplayOutcome, labels: ReferenceLabels) -> tuple[DecisionDifference, ...]:
    """All differences between two outcomes, the most important first."""
    differences: list[DecisionDifference] = []
    if before.status is not after.status:
        outcome = reasons.OTHER_OUTCOME(after=Term(after.status), before=Term(before.status), reason=after.reason)
        differences.append(DecisionDifference(DifferenceKind.OUTCOME, outcome))
    if before.key != after.key:
        key = reasons.OTHER_KEY(after=after.key or reasons.OWN_KEY(), before=before.key or reasons.OWN_KEY())
        differences.append(DecisionDifference(DifferenceKind.KEY, key))
    if before.opening is not None and after.opening is not None:
        differences += [DecisionDifference(DifferenceKind.PAGING, reason) for reason in _paging(before, after, labels)]
    if names := _fields(before.mapped, after.mapped):
        fields = tuple(Term(name) for name in names)
        differences.append(DecisionDifference(DifferenceKind.FIELDS, reasons.OTHER_FIELDS(fields=fields)))
    return tuple(differences)


def paging_effect(
    before: ReplayOutcome, after: ReplayOutcome, differences: Iterable[DecisionDifference]
) -> PagingEffect | None:
    """How the differences between two outcomes change who is paged; None if only an alert's fields or key change.

    A key that changes which alert a message belongs to also changes outcomes.
    """
    kinds = {difference.kind for difference in differences}
    if kinds.isdisjoint({DifferenceKind.OUTCOME, DifferenceKind.PAGING}):
        return None
    if after.status is MessageStatus.DELAYED and before.status is not MessageStatus.DELAYED:
        return PagingEffect.DELAYS
    if before.opening is not None and after.opening is None:
        return PagingEffect.NO_LONGER_OPENS
    if before.opening is None and after.opening is not None:
        return PagingEffect.OPENS
    if _pages(before) and not _pages(after):
        return PagingEffect.NO_LONGER_PAGES
    return PagingEffect.PAGES_OTHERS if DifferenceKind.PAGING in kinds else PagingEffect.OTHER


def _pages(outcome: ReplayOutcome) -> bool:
    paging = outcome.paging
    return paging is not None and paging.mode is not PagingMode.LOG_ONLY


def describe_effects(counts: Mapping[PagingEffect, int]) -> tuple[Reason, ...]:
    """A sentence for each effect with its number of messages, the most important first."""
    return tuple(reason(count=counts[effect]) for effect, reason in _EFFECT_REASONS.items() if counts.get(effect))


def _paging(before: ReplayOutcome, after: ReplayOutcome, labels: ReferenceLabels) -> list[Reason]:
    assert before.opening is not None
    assert after.opening is not None
    old_paging, new_paging = before.opening.paging, after.opening.paging
    differences = []
    if old_paging.mode is not new_paging.mode:
        differences.append(reasons.OTHER_MODE(after=_mode(new_paging), before=_mode(old_paging)))
    is_paging = new_paging.mode is not PagingMode.LOG_ONLY
    if is_paging and old_paging.version_id != new_paging.version_id:
        differences.append(reasons.OTHER_POLICY(after=labels.policy(new_paging), before=labels.policy(old_paging)))
    if is_paging and (old_paging.recipient_groups, old_paging.recipient_users) != (
        new_paging.recipient_groups,
        new_paging.recipient_users,
    ):
        after_names, before_names = labels.recipients(new_paging), labels.recipients(old_paging)
        differences.append(reasons.OTHER_RECIPIENTS(after=after_names, before=before_names))
    new_priority, old_priority = after.opening.alert.priority, before.opening.alert.priority
    if old_priority is not new_priority:
        differences.append(reasons.OTHER_PRIORITY(after=Term(new_priority), before=Term(old_priority)))
    return differences


def _mode(paging: PagingConfig) -> Reason:
    match paging.mode:
        case PagingMode.PAGE:
            return reasons.PAGES()
        case PagingMode.DRY_RUN:
            return reasons.DRY_RUN_MODE()
        case PagingMode.LOG_ONLY:
            return reasons.LOG_ONLY()


def _fields(before: MappedFields | None, after: MappedFields | None) -> list[str]:
    if before is None or after is None or before == after:
        return []
    field_labels = [FIELDS[n].label for n in FIELDS if before.values.get(n) != after.values.get(n)]
    for old_values, new_values in ((before.tags, after.tags), (before.custom, after.custom)):
        field_labels += [name for name in {**old_values, **new_values} if old_values.get(name) != new_values.get(name)]
    return field_labels
