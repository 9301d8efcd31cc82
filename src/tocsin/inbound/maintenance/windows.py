"""Compiled maintenance windows for the hot path: whether one prevents an alert from opening now. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from tocsin.inbound.enums import WindowAction
from tocsin.inbound.expressions.conditions import CompiledCondition, compile_condition
from tocsin.inbound.expressions.mapped import MappedFields
from tocsin.inbound.maintenance.recurrence import Recurrence, TimeSpan


class WindowClock:
    """Returns whether a window is active, recomputed only when that changes."""

    __slots__ = ("_cached", "recurrence")

    def __init__(self, recurrence: Recurrence) -> None:
        self.recurrence = recurrence
        #: The interval for which the cached answer is valid, and the answer. Replaced as a whole.
        self._cached: tuple[datetime, datetime | None, TimeSpan | None] | None = None

    def occurrence_at(self, now: datetime) -> TimeSpan | None:
        cached = self._cached
        if cached is not None and cached[0] <= now and (cached[1] is None or now < cached[1]):
            return cached[2]
        span = self.recurrence.occurrence_at(now)
        next_span = next(self.recurrence.occurrences_after(now), None)
        boundaries = [
            moment for moment in (span[1] if span else None, next_span[0] if next_span else None) if moment is not None
        ]
        self._cached = (now, min(boundaries, default=None), span)
        return span


@dataclass(frozen=True, slots=True)
class CompiledWindow:
    """One compiled maintenance window. Empty `integrations`, `groups` or `tags` match all."""

    id: int
    name: str
    action: WindowAction
    clock: WindowClock
    integrations: frozenset[int] = frozenset()
    #: Matches alerts with one of these recipient groups.
    groups: frozenset[int] = frozenset()
    #: Matches alerts with all of these tag values; names and values ignore case.
    tags: Mapping[str, str] = field(default_factory=dict)
    condition: object = None
    #: Matches only alerts of this group, which owns the window while boundaries are on; None: alerts of all.
    owner: int | None = None

    def for_integration(
        self, integration_id: int, group_id: int | None, fields: Iterable[str]
    ) -> IntegrationWindow | None:
        """Compiles the window for one integration, whose fields its condition may use; None if it excludes it."""
        if self.integrations and integration_id not in self.integrations:
            return None
        owner = None if self.owner == group_id else self.owner
        return IntegrationWindow(self, compile_condition(self.condition, "when", fields), owner)


@dataclass(frozen=True, slots=True)
class IntegrationWindow:
    window: CompiledWindow
    when: CompiledCondition
    #: The group that an alert must notify, because it does not own the integration; None: any.
    owner: int | None = None

    def applies_to(self, payload: object, mapped: MappedFields, groups: Iterable[int]) -> bool:
        """Returns whether the window applies to such an alert, regardless of the time."""
        window, groups = self.window, frozenset(groups)
        if self.owner is not None and self.owner not in groups:
            return False
        if window.groups and window.groups.isdisjoint(groups):
            return False
        if window.tags:
            tags = {name.casefold(): value.casefold() for name, value in mapped.tags.items()}
            if any(tags.get(name.casefold()) != value.casefold() for name, value in window.tags.items()):
                return False
        return self.when.matches(payload, mapped)


@dataclass(frozen=True, slots=True)
class WindowMatch:
    """The window that an alert would open in, and its occurrence."""

    window: CompiledWindow
    span: TimeSpan


def matching_window(
    windows: Iterable[IntegrationWindow], payload: object, mapped: MappedFields, groups: Iterable[int], now: datetime
) -> WindowMatch | None:
    """Returns the active window that applies to the alert: one that suppresses, else the holding one that ends last."""
    longest: WindowMatch | None = None
    for integration_window in windows:
        span = integration_window.window.clock.occurrence_at(now)
        if span is None or not integration_window.applies_to(payload, mapped, groups):
            continue
        if integration_window.window.action is WindowAction.SUPPRESS:
            return WindowMatch(integration_window.window, span)
        if longest is None or span[1] > longest.span[1]:
            longest = WindowMatch(integration_window.window, span)
    return longest
