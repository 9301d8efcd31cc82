"""Routes: the first with a true condition and matching hours is selected, with a reason."""

from __future__ import annotations

import pytest

from tocsin.core.errors import Rejected
from tocsin.inbound.config.rules import (
    NO_ROUTE_MATCHES,
    NO_ROUTES,
    RouteAction,
    RouteChoice,
    RouteReference,
    choose,
    compile_routes,
)
from tocsin.inbound.mapping.mapping import compile_mapping

MAPPING = compile_mapping({"client": "client", "priority": "priority"})
ROUTES = [
    {"when": {"field": "priority", "operator": "one of", "value": ["low"]}, "action": "record"},
    {
        "name": "Globex at night",
        "when": {"field": "client", "operator": "equals", "value": "Globex"},
        "during": {"not": "Office hours"},
        "escalation_policy": "Night",
        "recipients": {"users": ["alice"], "groups": ["Night desk", 7]},
        "priority": "critical",
    },
    {"when": {"field": "client", "operator": "equals", "value": "Globex"}, "during": 3, "escalation_policy": 12},
]


def take(payload: dict[str, object], *, office_hours: bool = False, routes: object = ROUTES) -> RouteChoice:
    def in_hours(hours: RouteReference) -> bool:
        assert hours in ("Office hours", 3)
        return office_hours

    compiled = compile_routes(routes, MAPPING.names, hours_names={3: "Day"})
    return choose(compiled, payload, MAPPING.apply(payload), in_hours)


def test_first_matching_route_is_selected() -> None:
    choice = take({"client": "Globex", "priority": "Low"})
    assert (choice.index, choice.name, choice.action) == (0, "1", RouteAction.LOG_ONLY)
    assert str(choice.reason) == 'route 1: priority "low" is one of low'


def test_night_route_is_selected_outside_support_hours() -> None:
    choice = take({"client": "Globex"})
    assert str(choice.reason) == 'route Globex at night: client "Globex" equals Globex, outside Office hours'
    assert (choice.reason.code, choice.reason["route"]) == ("route {route}: {why}", "Globex at night")
    assert choice == RouteChoice(
        index=1,
        name="Globex at night",
        reason=choice.reason,
        policy="Night",
        users=("alice",),
        groups=("Night desk", 7),
        priority="critical",
        action=RouteAction.PAGE,
    )


def test_support_hours_select_the_matching_route_and_are_named() -> None:
    choice = take({"client": "Globex"}, office_hours=True)
    assert (choice.index, choice.policy, choice.users, choice.groups) == (2, 12, None, None)
    assert str(choice.reason) == 'route 3: client "Globex" equals Globex, during Day'


def test_with_no_route_everything_is_the_integrations_own() -> None:
    assert take({"client": "Acme"}) == RouteChoice(None, "", NO_ROUTE_MATCHES())
    assert take({}, routes=[]).reason == take({}, routes=None).reason == NO_ROUTES()


def test_a_route_without_a_condition_always_matches() -> None:
    assert str(take({}, routes=[{"priority": "low"}]).reason) == "route 1: always"


def test_an_empty_list_of_recipients_is_not_the_integrations_own() -> None:
    assert take({}, routes=[{"recipients": {"users": []}}]).users == ()


@pytest.mark.parametrize(
    ("routes", "place"),
    [
        ({}, "routes"),
        ([7], "routes[0]"),
        ([{}, {"then": 1}], "routes[1].then"),
        ([{"escalation_policy": True}], "routes[0].escalation_policy"),
        ([{"recipients": ["alice"]}], "routes[0].recipients"),
        ([{"recipients": {"teams": []}}], "routes[0].recipients.teams"),
        ([{"recipients": {"users": "alice"}}], "routes[0].recipients.users"),
        ([{"recipients": {"groups": ["a", {}]}}], "routes[0].recipients.groups[1]"),
        ([{"priority": "urgent"}], "routes[0].priority"),
        ([{"action": "drop"}], "routes[0].action"),
        ([{"during": {"not": "x", "in": "y"}}], "routes[0].during.in"),
        ([{"during": ["x"]}], "routes[0].during"),
        ([{"name": "x" * 101}], "routes[0].name"),
        ([{"when": {"field": "a", "operator": "is"}}], "routes[0].when.operator"),
        ([{}] * 201, "routes"),
    ],
)
def test_a_bad_route_is_refused_at_its_place(routes: object, place: str) -> None:
    with pytest.raises(Rejected) as caught:
        compile_routes(routes)
    assert caught.value.field == place
    assert caught.value.detail.startswith(f"{place}: ")
