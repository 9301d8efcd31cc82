""" "Which tickets page?": the usual answers, each stored as one route of that name before all others. Pure.

A ticket that does not page still becomes an alert (log only). A ticket whose priority was not understood pages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, assert_never

#: The name of the preset's route, by which it is recognised.
NAME = "Which tickets page?"


class PresetKind(StrEnum):
    """The preset answers."""

    ALL = "all"  # all new ones
    URGENT = "urgent"  # critical and high
    OUTSIDE_SUPPORT_HOURS = "outside"  # outside support hours
    SELECTED = "these"  # these types or clients


@dataclass(frozen=True, slots=True)
class RoutingPreset:
    """One answer with its parameters: the name of support hours, or ticket types and clients."""

    kind: PresetKind = PresetKind.ALL
    hours: str = ""
    types: tuple[str, ...] = ()
    clients: tuple[str, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Whether all parameters of the answer are set."""
        match self.kind:
            case PresetKind.ALL | PresetKind.URGENT:
                return True
            case PresetKind.OUTSIDE_SUPPORT_HOURS:
                return bool(self.hours)
            case PresetKind.SELECTED:
                return bool(self.types or self.clients)
            case _:
                assert_never(self.kind)


def preset_of(routes: object) -> RoutingPreset | None:
    """Returns the answer that `routes` (as in a spec) express; None if its route was edited by hand."""
    first = routes[0] if isinstance(routes, Sequence) and not isinstance(routes, str) and routes else None
    if not isinstance(first, Mapping) or first.get("name") != NAME:
        return RoutingPreset()
    hours = first.get("during")
    lists = _lists(first.get("when"))
    for preset in (
        RoutingPreset(PresetKind.URGENT),
        RoutingPreset(PresetKind.OUTSIDE_SUPPORT_HOURS, hours if isinstance(hours, str) else ""),
        RoutingPreset(PresetKind.SELECTED, types=lists.get("ticket_type", ()), clients=lists.get("client", ())),
    ):
        if preset.is_complete and _route(preset) == dict(first):
            return preset
    return None


def routes_with_preset(routes: object, preset: RoutingPreset) -> list[Any]:
    """Returns the routes with this answer's route first, replacing the previous answer's."""
    current_routes = list(routes) if isinstance(routes, Sequence) and not isinstance(routes, str) else []
    other_routes = [route for route in current_routes if not (isinstance(route, Mapping) and route.get("name") == NAME)]
    route = _route(preset)
    return [route, *other_routes] if route is not None else other_routes


def _route(preset: RoutingPreset) -> dict[str, Any] | None:
    match preset.kind:
        case PresetKind.ALL:
            return None
        case PresetKind.URGENT:
            when: Any = {"field": "priority", "operator": "one of", "value": ["medium", "low"]}
        case PresetKind.OUTSIDE_SUPPORT_HOURS:
            return {"name": NAME, "during": preset.hours, "action": "record"}
        case PresetKind.SELECTED:
            values_by_field = (("ticket_type", preset.types), ("client", preset.clients))
            parts = [
                {"field": f, "operator": "one of", "value": list(values)} for f, values in values_by_field if values
            ]
            when = {"not": {"any": parts}}
        case _:
            assert_never(preset.kind)
    return {"name": NAME, "when": when, "action": "record"}


def _lists(when: object) -> dict[str, tuple[str, ...]]:
    """Returns the values by field of a condition `{not: {any: […]}}`."""
    inner = when.get("not") if isinstance(when, Mapping) else None
    parts = inner.get("any") if isinstance(inner, Mapping) else None
    values_by_field = {}
    for part in parts if isinstance(parts, list) else ():
        if isinstance(part, Mapping) and isinstance(part.get("value"), list):
            values_by_field[str(part.get("field"))] = tuple(map(str, part["value"]))
    return values_by_field
