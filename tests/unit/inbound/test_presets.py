"""Presets of the question "Which tickets page?": they work, are recognized again, and keep other routes."""

from __future__ import annotations

from typing import Any

import pytest

from tocsin.inbound.admin.simple_rules import NAME, PresetKind, RoutingPreset, preset_of, routes_with_preset
from tocsin.inbound.config.rules import RouteAction, choose, compile_routes
from tocsin.inbound.fields import MappedFields

OTHER = {"when": {"field": "client", "operator": "equals", "value": "Globex"}, "priority": "critical"}


@pytest.mark.parametrize(
    ("answer", "values", "in_hours", "action"),
    [
        (RoutingPreset(PresetKind.ALL), {"priority": "low"}, True, RouteAction.PAGE),
        (RoutingPreset(PresetKind.URGENT), {"priority": "critical"}, True, RouteAction.PAGE),
        (RoutingPreset(PresetKind.URGENT), {"priority": "medium"}, True, RouteAction.LOG_ONLY),
        (RoutingPreset(PresetKind.URGENT), {}, True, RouteAction.PAGE),
        (RoutingPreset(PresetKind.OUTSIDE_SUPPORT_HOURS, "Office"), {}, True, RouteAction.LOG_ONLY),
        (RoutingPreset(PresetKind.OUTSIDE_SUPPORT_HOURS, "Office"), {}, False, RouteAction.PAGE),
        (RoutingPreset(PresetKind.SELECTED, types=("Incident",)), {"ticket_type": "incident"}, True, RouteAction.PAGE),
        (
            RoutingPreset(PresetKind.SELECTED, clients=("Acme",)),
            {"ticket_type": "Incident"},
            True,
            RouteAction.LOG_ONLY,
        ),
        (
            RoutingPreset(PresetKind.SELECTED, types=("Incident",), clients=("Acme",)),
            {"client": "Acme"},
            True,
            RouteAction.PAGE,
        ),
    ],
)
def test_preset_answer_sets_pages_and_is_recognized_again(
    answer: RoutingPreset, values: dict[str, Any], in_hours: bool, action: RouteAction
) -> None:
    routes = routes_with_preset([OTHER], answer)
    assert routes[-1] == OTHER
    compiled = compile_routes(routes, ("priority", "ticket_type", "client"))
    assert choose(compiled, {}, MappedFields(values, {}, {}), lambda _hours: in_hours).action is action
    assert preset_of(routes) == answer
    assert routes_with_preset(routes, RoutingPreset()) == [OTHER]


def test_manually_changed_route_is_no_preset_answer() -> None:
    assert preset_of([{"name": NAME, "when": {"field": "client", "operator": "exists"}, "action": "record"}]) is None
    assert preset_of([{"name": NAME, "during": {"not": "Office"}, "action": "record"}]) is None
    assert preset_of("nonsense") == preset_of(None) == RoutingPreset()
