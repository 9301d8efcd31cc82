"""The usual answers to "Which tickets page?": routes that work, are found again, and leave the others alone."""

from __future__ import annotations

from typing import Any

import pytest

from tocsin.inbound.admin.presets import NAME, Answer, Which, answer_of, routes_with
from tocsin.inbound.config.routes import Action, choose, compile_routes
from tocsin.inbound.expressions.mapped import Mapped

OTHER = {"when": {"field": "client", "operator": "equals", "value": "Globex"}, "priority": "critical"}


@pytest.mark.parametrize(
    ("answer", "values", "in_hours", "action"),
    [
        (Answer(Which.ALL), {"priority": "low"}, True, Action.PAGE),
        (Answer(Which.URGENT), {"priority": "critical"}, True, Action.PAGE),
        (Answer(Which.URGENT), {"priority": "medium"}, True, Action.RECORD),
        (Answer(Which.URGENT), {}, True, Action.PAGE),
        (Answer(Which.OUTSIDE, "Office"), {}, True, Action.RECORD),
        (Answer(Which.OUTSIDE, "Office"), {}, False, Action.PAGE),
        (Answer(Which.THESE, types=("Incident",)), {"ticket_type": "incident"}, True, Action.PAGE),
        (Answer(Which.THESE, clients=("Acme",)), {"ticket_type": "Incident"}, True, Action.RECORD),
        (Answer(Which.THESE, types=("Incident",), clients=("Acme",)), {"client": "Acme"}, True, Action.PAGE),
    ],
)
def test_an_answer_pages_what_it_says_and_is_found_again(
    answer: Answer, values: dict[str, Any], in_hours: bool, action: Action
) -> None:
    routes = routes_with([OTHER], answer)
    assert routes[-1] == OTHER
    compiled = compile_routes(routes, ("priority", "ticket_type", "client"))
    assert choose(compiled, {}, Mapped(values, {}, {}), lambda _hours: in_hours).action is action
    assert answer_of(routes) == answer
    assert routes_with(routes, Answer()) == [OTHER]


def test_a_route_that_somebody_changed_by_hand_is_no_answer() -> None:
    assert answer_of([{"name": NAME, "when": {"field": "client", "operator": "exists"}, "action": "record"}]) is None
    assert answer_of([{"name": NAME, "during": {"not": "Office"}, "action": "record"}]) is None
    assert answer_of("nonsense") == answer_of(None) == Answer()
