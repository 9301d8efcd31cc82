"""Presets of the question "Which tickets page?": they work, are recognized again, and keep other routes."""

from __future__ import annotations

from typing import Any

import pytest

from tocsin.inbound.admin.presets import NAME, PresetKind, RoutingPreset, answer_of, routes_with
from tocsin.inbound.config.routes import RouteAction, choose, compile_routes
from tocsin.inbound.expressions.mapped import MappedFields

OTHER = {"when": {"field": "client", "operator": "equals", "value": "Globex"}, "priority": "critical"}


@pytest.mark.parametrize(
    ("answer", "values", "in_hours", "action"),
    [
        (RoutingPreset(PresetKind.ALL), {"priority": "low"}, True, RouteAction.PAGE),
        (RoutingPreset(PresetKind.URGENT), {"priority": "critical"}, True, RouteAction.PAGE),
        (RoutingPreset(PresetKind.URGENT), {"priority": "medium"}, True, RouteAction.RECORD),
        (RoutingPreset(PresetKind.URGENT), {}, True, RouteAction.PAGE),
        (RoutingPreset(PresetKind.OUTSIDE, "Office"), {}, True, RouteAction.RECORD),
        (RoutingPreset(PresetKind.OUTSIDE, "Office"), {}, False, RouteAction.PAGE),
        (RoutingPreset(PresetKind.THESE, types=("Incident",)), {"ticket_type": "incident"}, True, RouteAction.PAGE),
        (RoutingPreset(PresetKind.THESE, clients=("Acme",)), {"ticket_type": "Incident"}, True, RouteAction.RECORD),
        (
            RoutingPreset(PresetKind.THESE, types=("Incident",), clients=("Acme",)),
            {"client": "Acme"},
            True,
            RouteAction.PAGE,
        ),
    ],
)
def test_preset_answer_sets_pages_and_is_recognized_again(
    answer: RoutingPreset, values: dict[str, Any], in_hours: bool, action: RouteAction
) -> None:
    routes = routes_with([OTHER], answer)
    assert routes[-1] == OTHER
    compiled = compile_routes(routes, ("priority", "ticket_type", "client"))
    assert choose(compiled, {}, MappedFields(values, {}, {}), lambda _hours: in_hours).action is action
    assert answer_of(routes) == answer
    assert routes_with(routes, RoutingPreset()) == [OTHER]


def test_manually_changed_route_is_no_preset_answer() -> None:
    assert answer_of([{"name": NAME, "when": {"field": "client", "operator": "exists"}, "action": "record"}]) is None
    assert answer_of([{"name": NAME, "during": {"not": "Office"}, "action": "record"}]) is None
    assert answer_of("nonsense") == answer_of(None) == RoutingPreset()
