"""Maintenance windows as the hot path knows them: whether one says that an alert does not open now. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from tocsin.inbound.enums import WindowAction
from tocsin.inbound.expressions.conditions import CompiledCondition, compile_condition
from tocsin.inbound.expressions.mapped import MappedFields
from tocsin.inbound.maintenance.recurrence import Recurrence, TimeSpan


class WindowClock:
    """Whether a window is in force, worked out again only when that changes."""

    __slots__ = ("_known", "recurrence")

    def __init__(self, recurrence: Recurrence) -> None:
        self.recurrence = recurrence
        #: From when until when the answer holds, and the answer. Replaced as a whole.
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
    """One maintenance window. Empty `integrations`, `groups` or `tags` mean every one."""

    id: int
    name: str
    action: WindowAction
    clock: WindowClock
    integrations: frozenset[int] = frozenset()
    #: The alert is of one of these recipient groups.
    groups: frozenset[int] = frozenset()
    #: Each by name, folded: the alert has that value, whatever its case.
    tags: Mapping[str, str] = field(default_factory=dict)
    condition: object = None

    def for_door(self, integration_id: int, fields: Iterable[str]) -> IntegrationWindow | None:
        """The window for one integration, whose fields its condition may name; None where it is about others."""
        if self.integrations and integration_id not in self.integrations:
            return None
        return IntegrationWindow(self, compile_condition(self.condition, "when", fields))


@dataclass(frozen=True, slots=True)
class IntegrationWindow:
    window: CompiledWindow
    when: CompiledCondition

    def catches(self, payload: object, mapped: MappedFields, groups: Iterable[int]) -> bool:
        """Whether it is about such an alert, whenever it opens."""
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
    """The window that an alert would open in, and the occurrence."""

    window: CompiledWindow
    span: TimeSpan


def caught_by(
    windows: Iterable[IntegrationWindow], payload: object, mapped: MappedFields, groups: Iterable[int], now: datetime
) -> WindowMatch | None:
    """The first window in force that is about the alert; one that suppresses before one that holds."""
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
