"""Rules: their order, requirements, and the reasons of ignored messages."""

from __future__ import annotations

import pytest

from tocsin.core.errors import Rejected
from tocsin.inbound.config.rules import EventAction, compile_rules
from tocsin.inbound.mapping.mapping import compile_mapping

MAPPING = compile_mapping({"source_status": "status", "event": "event", "subject": "subject"})


def has(field: str, value: str) -> dict[str, object]:
    return {"field": field, "operator": "contains", "value": value}


RULES: dict[str, object] = {
    "cancel": has("event", "deleted"),
    "close": has("source_status", "Closed"),
    "open": has("source_status", "New"),
    "ignore": [{"when": has("event", "changed"), "reason": "says too little"}],
    "update": True,
    "veto": [{"when": has("subject", "(Tocsin #"), "reason": "from Tocsin's own mail"}],
}


def classify(payload: dict[str, object], rules: object = RULES) -> tuple[EventAction, str]:
    intent, verdict = compile_rules(rules, None, MAPPING.names).classify(payload, MAPPING.apply(payload))
    return intent, str(verdict.reason)


@pytest.mark.parametrize(
    ("payload", "intent", "reason"),
    [
        ({"status": "New"}, EventAction.OPEN, 'status "New" contains New'),
        ({"status": "Closed"}, EventAction.CLOSE, 'status "Closed" contains Closed'),
        ({"status": "New, was Closed"}, EventAction.CLOSE, 'status "New, was Closed" contains Closed'),
        (
            {"status": "Closed", "event": "Ticket Deleted"},
            EventAction.CANCEL,
            'event "Ticket Deleted" contains deleted',
        ),
        ({"status": "New", "event": "changed"}, EventAction.OPEN, 'status "New" contains New'),
        ({"event": "changed"}, EventAction.NONE, "says too little"),
        ({"status": "In Progress"}, EventAction.UPDATE, 'status "In Progress": neither opens nor closes'),
        ({"event": "noted"}, EventAction.UPDATE, 'no status, event "noted": neither opens nor closes'),
        ({}, EventAction.UPDATE, "no status: neither opens nor closes"),
    ],
)
def test_the_first_rule_that_matches_decides(payload: dict[str, object], intent: EventAction, reason: str) -> None:
    assert classify(payload) == (intent, reason)


def test_a_rule_that_is_not_given_never_matches() -> None:
    assert classify({"status": "New"}, {}) == (EventAction.NONE, 'status "New": no rule matches')
    assert (
        classify({"status": "New"}, {"open": None, "close": False, "update": has("source_status", "x")})[0]
        is EventAction.NONE
    )
    assert classify({}, None) == (EventAction.NONE, "no status: no rule matches")


def test_an_update_rule_of_ones_own_says_why() -> None:
    assert classify({"status": "Noted"}, {"update": has("source_status", "note")}) == (
        EventAction.UPDATE,
        'status "Noted" contains note',
    )


def test_vetoes_precede_filters_and_both_give_reasons() -> None:
    filters = {"not": has("subject", "Project")}
    rules = compile_rules(RULES, filters, MAPPING.names)

    def may_open(subject: str) -> tuple[bool, str]:
        payload = {"subject": subject}
        verdict = rules.may_open(payload, MAPPING.apply(payload))
        return verdict.is_true, str(verdict.reason)

    assert may_open("Project (Tocsin #42)") == (False, "from Tocsin's own mail")
    assert may_open("Project X") == (False, 'subject "Project X" contains Project')
    assert may_open("VPN") == (True, 'subject "VPN" does not contain Project')
    assert compile_rules({}).may_open({}, MAPPING.apply({})).is_true


@pytest.mark.parametrize(
    ("rules", "filters", "place"),
    [
        ([], None, "rules"),
        ({"opens": True}, None, "rules.opens"),
        ({"open": "New"}, None, "rules.open"),
        ({"open": 0}, None, "rules.open"),
        ({}, 1, "filters"),
        ({"close": {"all": [has("a", "b"), {"field": "c", "operator": "is"}]}}, None, "rules.close.all[1].operator"),
        ({"ignore": {}}, None, "rules.ignore"),
        ({"ignore": [{"when": True}]}, None, "rules.ignore[0].reason"),
        ({"veto": [{"when": {"field": "a"}, "reason": "x"}]}, None, "rules.veto[0].when.operator"),
        ({}, {"field": "a"}, "filters.operator"),
    ],
)
def test_a_bad_rule_is_refused_at_its_place(rules: object, filters: object, place: str) -> None:
    with pytest.raises(Rejected) as caught:
        compile_rules(rules, filters)
    assert caught.value.field == place
