"""A route's delay as form fields: every type round-trips, and unsupported settings are preserved."""

from __future__ import annotations

from typing import Any

import pytest
from django.http import QueryDict
from django.utils import translation

from tocsin.inbound.config.rules import compile_routes
from tocsin.web.integrations import editor_tab
from tocsin.web.integrations.condition_form import ErrorPlaces

DELAYS: list[tuple[Any, str]] = [
    ({"wait": "5m"}, "after 5m, unless it closes first"),
    ({"alerts": 3}, "after 3 alerts"),
    ({"alerts": 3, "within": "10m", "per": "integration"}, "after 3 alerts of the integration within 10m"),
    ({"every": "30m"}, "at most once every 30m"),
    ({"every": "30m", "per": "integration"}, "at most once every 30m per integration"),
    ({"until": "Office hours"}, "when support hours Office hours begin"),
    ("none", "immediately"),
]


def _posted(row: editor_tab.RouteRow) -> QueryDict:
    post = QueryDict(mutable=True)
    post["routes.0.row"] = "1"
    post["routes.0.name"] = row.name
    post["routes.0.more"] = row.other_keys
    for name, text in row.delay.items():
        post[f"routes.0.delay.{name}"] = text
    return post


@pytest.mark.parametrize(("delay", "message"), DELAYS)
def test_each_delay_type_round_trips_through_form_fields(delay: Any, message: str) -> None:
    (row,) = editor_tab.route_rows([{"name": "Night", "delay": delay}])
    assert row.other_keys == ""
    assert editor_tab.describe_route(row, {}).endswith(f"{message}.")
    (back,) = editor_tab.routes_of(editor_tab.read_routes(_posted(row)), ErrorPlaces())
    assert back == {"name": "Night", "delay": delay}
    if delay != {"until": "Office hours"}:
        compile_routes([back], frozenset())


def test_route_is_described_in_the_readers_language() -> None:
    route = {
        "when": {"field": "client", "operator": "equals", "value": "Globex"},
        "during": {"not": "Bürozeit"},
        "recipients": {"groups": ["Netz"]},
        "priority": "low",
        "delay": {"wait": "5m"},
    }
    (row,) = editor_tab.route_rows([route])
    with translation.override("de"):
        text = editor_tab.describe_route(row, {"client": "Kunde"})
    assert text == (
        "Wenn gilt: Kunde ist gleich Globex, außerhalb von Bürozeit: Priorität niedrig, nach der Richtlinie der "
        "Integration benachrichtigen, an Netz, nach 5m, außer er schließt vorher."
    )


def test_fields_of_other_types_are_ignored_and_empty_ones_rejected() -> None:
    row = editor_tab.RouteRow(delay={"kind": "every", "every": "30m", "wait": "5m", "until": "Office hours"})
    assert editor_tab.routes_of([row], ErrorPlaces())[0]["delay"] == {"every": "30m"}
    assert editor_tab.routes_of([editor_tab.RouteRow(delay={"kind": "wait"})], ErrorPlaces())[0]["delay"] == {
        "wait": ""
    }
    assert "delay" not in editor_tab.routes_of([editor_tab.RouteRow(delay={"wait": "5m"})], ErrorPlaces())[0]


def test_unsupported_delay_definition_is_preserved() -> None:
    odd = {"wait": "5m", "alerts": 3}
    (row,) = editor_tab.route_rows([{"delay": odd}])
    assert not row.delay
    assert editor_tab.routes_of([row], ErrorPlaces()) == [{"delay": odd}]
