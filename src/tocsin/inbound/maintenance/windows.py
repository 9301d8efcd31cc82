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

    __slots__ = ("_known", "recurrence")

    def __init__(self, recurrence: Recurrence) -> None:
        self.recurrence = recurrence
        #: The interval for which the cached answer is valid, and the answer. Replaced as a whole.
        self._known: tuple[datetime, datetime | None, TimeSpan | None] | None = None

    def at(self, now: datetime) -> TimeSpan | None:
        known = self._known
        if known is not None and known[0] <= now and (known[1] is None or now < known[1]):
            return known[2]
        span = self.recurrence.at(now)
        coming = next(self.recurrence.after(now), None)
        ends = [moment for moment in (span[1] if span else None, coming[0] if coming else None) if moment is not None]
        self._known = (now, min(ends, default=None), span)
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

    def for_door(self, integration_id: int, fields: Iterable[str]) -> IntegrationWindow | None:
        """Compiles the window for one integration, whose fields its condition may use; None if it excludes it."""
        if self.integrations and integration_id not in self.integrations:
            return None
        return IntegrationWindow(self, compile_condition(self.condition, "when", fields))


@dataclass(frozen=True, slots=True)
class IntegrationWindow:
    window: CompiledWindow
    when: CompiledCondition

    def catches(self, payload: object, mapped: MappedFields, groups: Iterable[int]) -> bool:
        """Returns whether the window applies to such an alert, regardless of the time."""
        window = self.window
        if window.groups and window.groups.isdisjoint(groups):
            return False
        if window.tags:
            tags = {name.casefold(): value.casefold() for name, value in mapped.tags.items()}
            if any(tags.get(name.casefold()) != value.casefold() for name, value in window.tags.items()):
                return False
        return self.when.holds(payload, mapped)


@dataclass(frozen=True, slots=True)
class WindowMatch:
    """The window that an alert would open in, and its occurrence."""

    window: CompiledWindow
    span: TimeSpan


def matching_window(
    windows: Iterable[IntegrationWindow], payload: object, mapped: MappedFields, groups: Iterable[int], now: datetime
) -> WindowMatch | None:
    """Returns the active window that applies to the alert: one that suppresses, else the holding one that ends last."""
    found: WindowMatch | None = None
    for one in windows:
        span = one.window.clock.at(now)
        if span is None or not one.catches(payload, mapped, groups):
            continue
        if one.window.action is WindowAction.SUPPRESS:
            return WindowMatch(one.window, span)
        if found is None or span[1] > found.span[1]:
            found = WindowMatch(one.window, span)
    return found
