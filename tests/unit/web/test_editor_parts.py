"""A part of an integration that has the wrong shape, in a form or in YAML, is rejected at its place."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.http import QueryDict

from tocsin.catalogue.kinds import load_kinds
from tocsin.core.errors import Rejected
from tocsin.web.integrations import forms
from tocsin.web.integrations.editor import condition_form, route_form
from tocsin.web.integrations.editor.condition_form import ErrorPlaces
from tocsin.web.integrations.editor.editor_tab import MappingTab, RuleMode, RulesTab

API = load_kinds()["api"]


def posted(**fields: str) -> QueryDict:
    post = QueryDict(mutable=True)
    post.update({name.replace("_", "-"): text for name, text in fields.items()})
    return post


def mapping(*names: str) -> Any:
    """The mapping of a form with custom fields of these names."""
    tab = MappingTab(API)
    fields = {f"c_{number}_name": name for number, name in enumerate(names)}
    fields |= {f"c_{number}_origin": "text" for number in range(len(names))}
    fields |= {f"c_{number}_text": "x" for number in range(len(names))}
    tab.read(posted(**fields))
    tab.is_final = True
    return tab._parts()


def rules_without_condition() -> Any:
    tab = RulesTab(API)
    tab.load({})
    tab.modes["close"] = RuleMode.WHEN
    tab.is_final = True
    return tab._parts()


def too_many_routes() -> Any:
    post = QueryDict(mutable=True)
    post.update({f"routes.{number}.row": "1" for number in range(route_form.MAX_ROUTE_ROWS + 1)})
    return route_form.read_routes(post)


@pytest.mark.parametrize(
    ("use", "code", "place"),
    [
        (lambda: MappingTab(API).load({"mapping": [1]}), "must map fields to value sources", "mapping"),
        (lambda: mapping("host", " host "), "duplicate field name", "mapping.custom. host "),
        (lambda: mapping(""), "enter a name", "mapping.custom."),
        (lambda: RulesTab(API).load({"rules": [1]}), "must be an object with {names}", "rules"),
        (rules_without_condition, "add at least one condition", "rules.close"),
        (lambda: route_form.rows_of({"flapping": 7}), "must be an object with {names}", "flapping"),
        (lambda: route_form.route_rows("x"), "must be a list, each {example}", "routes"),
        (too_many_routes, "More than {limit} rows: edit the routes as YAML.", "routes"),
        (
            lambda: route_form.routes_of([route_form.RouteRow(other_keys="{")], ErrorPlaces()),
            "the settings not shown in the form are invalid",
            "routes[0]",
        ),
        (
            lambda: forms.read_map("a = b\nc", "settings.severities"),
            "line {line}: use the format from = to",
            "settings.severities",
        ),
        (
            lambda: condition_form.read("x" * (condition_form.MAX_YAML_CHARS + 1), "rules"),
            "The text has more than {limit} characters.",
            "rules",
        ),
        (lambda: condition_form.read("[" * 3000, "rules"), "The text is nested too deeply.", "rules"),
    ],
)
def test_part_of_the_wrong_shape_is_rejected_at_its_place(use: Callable[[], Any], code: str, place: str) -> None:
    with pytest.raises(Rejected) as rejected:
        use()
    assert rejected.value.field == place
    assert code in json.dumps({"code": rejected.value.reason.code, "data": rejected.value.reason.data})
