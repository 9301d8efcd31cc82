"""Notification rule definitions: parsed, rejected with locations, and updated on renamed contact methods."""

from __future__ import annotations

from typing import Any

import pytest

from tocsin.core.errors import Rejected
from tocsin.core.validation.spec import SpecErrors
from tocsin.people.notification_rules import NotificationRules, add_unknown_labels, load, rename_method, write

WHOLE: dict[str, Any] = {
    "by_priority": {
        "critical": [{"method": "Push"}, {"method": "SMS", "wait": "2m", "repeat": {"times": 2, "every": "5m"}}],
        "low": [{"method": "Mail"}],
    },
    "quiet_hours": [
        {"days": ["mon", "sun"], "from": "22:00", "to": "07:00", "methods": ["SMS"], "let_through": "critical"},
        {"from": "12:00", "to": "13:00"},
    ],
    "most_per_hour": 20,
}


def test_rules_come_back_as_they_were_written() -> None:
    assert write(load(WHOLE)) == WHOLE
    assert write(NotificationRules()) == {}
    assert load({"by_priority": 7}) == NotificationRules(), "what cannot be read must not stop a page"


@pytest.mark.parametrize(
    ("rules", "place"),
    [
        ({"by_priority": {"urgent": []}}, "by_priority.urgent"),
        ({"by_priority": {"low": []}}, "by_priority.low"),
        ({"by_priority": {"low": [{"wait": "1m"}]}}, "by_priority.low[0].method"),
        ({"by_priority": {"low": [{"method": "Mail", "repeat": {"times": 1}}]}}, "by_priority.low[0].repeat.every"),
        ({"quiet_hours": [{"from": "25:00", "to": "07:00"}]}, "quiet_hours[0].from"),
        ({"quiet_hours": [{"from": "22:00"}]}, "quiet_hours[0].to"),
        ({"quiet_hours": [{"from": "22:00", "to": "07:00", "days": ["someday"]}]}, "quiet_hours[0].days[0]"),
        ({"quiet_hours": [{"from": "22:00", "to": "07:00", "let_through": "none"}]}, "quiet_hours[0].let_through"),
        ({"most_per_hour": -1}, "most_per_hour"),
        ({"most": 3}, "most"),
    ],
)
def test_bad_rules_are_refused_with_their_place(rules: dict[str, Any], place: str) -> None:
    with pytest.raises(Rejected) as refused:
        NotificationRules.read(rules)
    assert place in refused.value.fields


def test_unknown_contact_methods_in_rules_are_named() -> None:
    errors = SpecErrors()
    add_unknown_labels(errors, load(WHOLE), ["push", "mail"])
    with pytest.raises(Rejected) as refused:
        errors.raise_all()
    assert set(refused.value.fields) == {"by_priority.critical[1].method", "quiet_hours[0].methods[0]"}


def test_rules_follow_a_label_and_lose_a_method_that_goes() -> None:
    other = write(rename_method(load(WHOLE), "sms", "Text"))
    assert other["by_priority"]["critical"][1]["method"] == "Text"
    assert other["quiet_hours"][0]["methods"] == ["Text"]
    without = write(rename_method(rename_method(load(WHOLE), "Mail", None), "SMS", None))
    assert without["by_priority"] == {"critical": [{"method": "Push"}]}
    assert without["quiet_hours"] == WHOLE["quiet_hours"][1:], "hours of one method never become hours of all"
