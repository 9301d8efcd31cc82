"""A part of an integration that has the wrong shape, in a form or in YAML, is rejected at its place."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.http import QueryDict

from tocsin.catalogue.kinds import load_kinds
from tocsin.core.errors import Rejected
from tocsin.web import outbound_forms
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
        (lambda: MappingTab(API).load({"mapping": [1]}), "mapping.not_an_object", "mapping"),
        (lambda: mapping("host", " host "), "mapping.duplicate_row", "mapping.custom. host "),
        (lambda: mapping(""), "mapping.row_without_name", "mapping.custom."),
        (lambda: RulesTab(API).load({"rules": [1]}), "rule.not_an_object", "rules"),
        (rules_without_condition, "rule.no_condition", "rules.close"),
        (lambda: route_form.rows_of({"flapping": 7}), "noise.not_an_object", "flapping"),
        (lambda: route_form.route_rows("x"), "route.not_a_list", "routes"),
        (too_many_routes, "route.too_many_rows", "routes"),
        (
            lambda: route_form.routes_of([route_form.RouteRow(other_keys="{")], ErrorPlaces()),
            "route.unreadable_rest",
            "routes[0]",
        ),
        (lambda: forms.read_map("a = b\nc", "settings.severities"), "setting.not_a_pair", "settings.severities"),
        (lambda: outbound_forms._pairs("a: b\n: c", ":", "headers"), "outbound.not_a_pair", "headers"),
        (
            lambda: condition_form.read("x" * (condition_form.MAX_YAML_CHARS + 1), "rules"),
            "config.text_too_long",
            "rules",
        ),
        (lambda: condition_form.read("[" * 3000, "rules"), "config.nested_too_deeply", "rules"),
    ],
)
def test_part_of_the_wrong_shape_is_rejected_at_its_place(use: Callable[[], Any], code: str, place: str) -> None:
    with pytest.raises(Rejected) as rejected:
        use()
    assert rejected.value.field == place
    assert code in json.dumps({"code": rejected.value.reason.code, "data": rejected.value.reason.data})
