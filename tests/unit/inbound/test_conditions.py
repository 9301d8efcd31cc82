"""Conditions: operators, missing values, nesting, reasons, and rejections with locations."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.core.errors import Rejected
from tocsin.core.reasons import as_reason
from tocsin.inbound.conditions import MAX_VALUES, Operator, compile_condition
from tocsin.inbound.fields import MappedFields
from tocsin.inbound.mapping.mapping import compile_mapping

MAPPING = compile_mapping(
    {
        "source_status": "status",
        "client": "client",
        "vip": "vip",
        "recipient_users": "users",
        "source_time": "at",
        "tags": {"environment": "env"},
        "affected": "affected",
    }
)
PAYLOAD: dict[str, Any] = {
    "status": "In Progress",
    "vip": True,
    "users": ["alice", "bob"],
    "at": "2026-11-24T09:15:02Z",
    "env": "Production",
    "affected": 40,
    "labels": {
        "host": "db01",
        "count": "7.5",
        "empty": "",
        "blank": "  ",
        "nothing": None,
        "list": ["x", "Yes"],
        "no": [],
    },
    "client": "Acme",
    "mail": "Straße",
}


def ask(definition: object, payload: object = PAYLOAD) -> tuple[bool, str]:
    condition = compile_condition(definition, "rules.open", MAPPING.names)
    mapped = MAPPING.apply(payload)
    verdict = condition.evaluate(payload, mapped)
    assert verdict.is_true is condition.matches(payload, mapped)
    return verdict.is_true, str(verdict.reason)


def leaf(field: str, operator: str, value: object = None, **more: object) -> dict[str, object]:
    return {"field": field, "operator": operator, **({} if value is None else {"value": value}), **more}


@pytest.mark.parametrize(
    ("definition", "is_true", "reason"),
    [
        (leaf("source_status", "contains", "progress"), True, 'status "In Progress" contains progress'),
        (leaf("source_status", "contains", "New"), False, 'status "In Progress" does not contain New'),
        (leaf("source_status", "contains", ["New", "Prog"]), True, 'status "In Progress" contains Prog'),
        (leaf("source_status", "contains", ["a", "b"]), False, 'status "In Progress" does not contain any of a, b'),
        (leaf("source_status", "contains", "progress", match_case=True), False, None),
        (leaf("source_status", "contains", "Progress", match_case=True), True, None),
        (leaf("source_status", "equals", "in progress"), True, 'status "In Progress" equals in progress'),
        (leaf("source_status", "equals", "in progress", match_case=True), False, None),
        (leaf("affected", "equals", 40), True, 'affected "40" equals 40'),
        (leaf("affected", "equals", 40.0), True, None),
        (leaf("vip", "equals", True), True, 'VIP "true" equals true'),
        (leaf("source_status", "starts with", "IN "), True, 'status "In Progress" starts with IN '),
        (leaf("source_status", "ends_with", ["x", "ress"]), True, 'status "In Progress" ends with ress'),
        (leaf("source_status", "matches", "^in.*SS$"), True, 'status "In Progress" matches regex ^in.*SS$'),
        (
            leaf("source_status", "matches", "^in", match_case=True),
            False,
            'status "In Progress" does not match regex ^in',
        ),
        (
            leaf("source_status", "one of", ["New", "in progress"]),
            True,
            'status "In Progress" is one of New, in progress',
        ),
        (leaf("client", "One Of", ["Globex"]), False, 'client "Acme" is not one of Globex'),
        (leaf("client", "exists"), True, 'client "Acme" exists'),
        (leaf("affected", "greater than", 39), True, 'affected "40" is greater than 39'),
        (leaf("affected", "greater than", "40"), False, 'affected "40" is not greater than 40'),
        (leaf("labels^count", "less than", 7.51), True, 'labels^count "7.5" is less than 7.51'),
        (leaf("client", "greater than", 1), False, 'client "Acme" is not greater than 1'),
        (leaf("source_time", "greater than", "2026-11-24"), True, None),
        (leaf("source_time", "less than", "2026-11-24T10:15:02+01:00"), False, None),
        (leaf("environment", "equals", "production"), True, 'environment "Production" equals production'),
        (leaf("recipient_users", "equals", "bob"), True, 'recipient users "bob" equals bob'),
        (leaf("recipient_users", "equals", "carol"), False, 'recipient users "alice, bob" does not equal carol'),
        (leaf("labels^host", "equals", "DB01"), True, 'labels^host "db01" equals DB01'),
        (leaf("LABELS^Host", "exists"), True, None),
        (leaf("labels^list", "equals", "yes"), True, 'labels^list "Yes" equals yes'),
        (leaf("^status", "equals", "In Progress"), True, 'status "In Progress" equals In Progress'),
        (leaf("mail", "contains", "STRASSE"), True, None),
        ({}, True, "always"),
        (None, True, "always"),
        (True, True, "always"),
        (False, False, "never"),
        ({"all": []}, True, "always"),
        (
            {"all": [leaf("client", "equals", "Acme"), leaf("affected", "exists")]},
            True,
            'client "Acme" equals Acme and affected "40" exists',
        ),
        ({"all": [leaf("client", "exists"), leaf("client", "equals", "x")]}, False, 'client "Acme" does not equal x'),
        ({"any": [leaf("client", "equals", "x"), leaf("affected", "equals", 40)]}, True, 'affected "40" equals 40'),
        (
            {"any": [leaf("client", "equals", "x"), leaf("nowhere", "exists")]},
            False,
            'client "Acme" does not equal x and no value at nowhere',
        ),
        ({"not": leaf("client", "equals", "Acme")}, False, 'client "Acme" equals Acme'),
        ({"not": {"not": leaf("client", "equals", "Acme")}}, True, None),
        (leaf("client", "equals", "Acme", **{"not": True}), False, 'client "Acme" equals Acme'),
    ],
)
def test_a_condition_answers_with_its_reason(definition: object, is_true: bool, reason: str | None) -> None:
    answer = ask(definition)
    assert answer[0] is is_true
    if reason is not None:
        assert answer[1] == reason


@pytest.mark.parametrize(
    "field", ["nowhere", "labels^nowhere", "labels^empty", "labels^blank", "labels^nothing", "labels^no"]
)
@pytest.mark.parametrize("operator", list(Operator))
def test_without_a_value_every_operator_is_false_and_not_inverts(field: str, operator: Operator) -> None:
    value = {Operator.EXISTS: None, Operator.ONE_OF: ["a"], Operator.GREATER_THAN: 1, Operator.LESS_THAN: 1}.get(
        operator, "a"
    )
    assert ask(leaf(field, operator, value)) == (False, f"no value at {field}")
    assert ask(leaf(field, operator, value, **{"not": True})) == (True, f"no value at {field}")


def test_mapped_field_without_value_never_falls_back_to_path() -> None:
    assert ask(leaf("source_status", "exists"), {"source_status": "there"}) == (False, "no value at status")
    assert ask(leaf("^source_status", "exists"), {"source_status": "there"})[0]


def test_a_name_that_is_not_mapped_is_a_path() -> None:
    assert ask(leaf("site", "equals", "Zürich"), {"site": "Zürich"})[0]


def test_path_starting_with_literal_caret_can_be_escaped() -> None:
    assert ask(leaf("^^x", "exists"), {"^x": 1})[0]
    assert ask(leaf("^^^x", "exists"), {"^x": 1})[0]


@pytest.mark.parametrize(
    ("definition", "place", "problem"),
    [
        ([], "rules.open", "a condition is"),
        ("x", "rules.open", "a condition is"),
        ({"feild": "a"}, "rules.open.feild", 'did you mean "field"?'),
        ({"all": [], "any": []}, "rules.open", "cannot be combined"),
        ({"all": {}}, "rules.open.all", "must be a list"),
        ({"any": []}, "rules.open.any", "at least one"),
        (
            {"all": [leaf("a", "exists"), leaf("b", "contain", "x")]},
            "rules.open.all[1].operator",
            'unknown operator "contain"',
        ),
        ({"not": {"any": [leaf("a", "")]}}, "rules.open.not.any[0].operator", "unknown operator"),
        (leaf("a", "contains"), "rules.open.value", "enter text or a number"),
        (leaf("a", "contains", ""), "rules.open.value", "enter text or a number"),
        (leaf("a", "contains", {"x": 1}), "rules.open.value", "enter text or a number"),
        (leaf("a", "one of", "x"), "rules.open.value", "takes a list"),
        (leaf("a", "one of", []), "rules.open.value", "at least one"),
        (leaf("a", "one of", ["x", None]), "rules.open.value[1]", "enter text or a number"),
        (leaf("a", "exists", "x"), "rules.open.value", "takes no value"),
        (leaf("a", "greater than", "many"), "rules.open.value", "takes a number"),
        (leaf("a", "matches", "(abc"), "rules.open.value", "missing ): (abc"),
        (leaf("a", "matches", "a{1001}"), "rules.open.value", "repetition"),
        (leaf("a", "matches", r"(a)\1"), "rules.open.value", "invalid escape"),
        (leaf("a", "matches", "x" * 3000), "rules.open.value", "at most 2,000"),
        (leaf("a^", "exists"), "rules.open.field", "ends with ^"),
        (leaf("", "exists"), "rules.open.field", "give the name"),
        ({"field": 7, "operator": "exists"}, "rules.open.field", "give the name"),
        ({"field": "a"}, "rules.open.operator", "is required"),
        (leaf("a", "exists", match_case="yes"), "rules.open.match_case", "true or false"),
        (leaf("a", "exists", **{"not": 1}), "rules.open.not", "true or false"),
        (leaf("a", "exists", values=["x"]), "rules.open.values", "unknown key"),
    ],
)
def test_a_bad_condition_is_refused_at_its_place(definition: object, place: str, problem: str) -> None:
    with pytest.raises(Rejected) as caught:
        compile_condition(definition, "rules.open", MAPPING.names)
    assert caught.value.field == place
    assert caught.value.detail.startswith(f"{place}: ")
    assert problem in caught.value.detail


def test_an_unknown_operator_lists_those_there_are() -> None:
    with pytest.raises(Rejected, match=r'did you mean "contains".*one of contains, equals, starts with'):
        compile_condition(leaf("a", "contain", "x"), "rules.open")


def test_conditions_nested_too_deep_are_refused() -> None:
    definition: dict[str, object] = leaf("a", "exists")
    for _ in range(5000):
        definition = {"not": definition}
    with pytest.raises(Rejected, match="nest at most"):
        compile_condition(definition)


def test_excessive_comparisons_are_rejected() -> None:
    with pytest.raises(Rejected, match="at most 500"):
        compile_condition({"any": [leaf("a", "exists")] * 501})


def test_a_reason_is_short_whatever_the_values_are() -> None:
    payload = {f"k{i}": "ü" * 10_000 + "\n" for i in range(50)}
    reason = ask({"all": [leaf(f"k{i}", "exists") for i in range(50)]}, payload)[1]
    assert len(reason.encode()) <= 260
    assert "\n" not in reason


def test_a_pattern_that_backtracks_elsewhere_answers_at_once() -> None:
    assert not ask(leaf("long", "matches", "(a+)+$"), {"long": "a" * 100_000 + "b"})[0]


def test_strange_texts_do_not_break_a_pattern() -> None:
    assert ask(leaf("x", "matches", "b$"), {"x": "a\x00\ud800b"})[0]
    assert ask(leaf("x", "contains", "b"), {"x": {"deep": ["b"]}})[0]


leaves = st.builds(
    lambda field, operator, text, case, inverted: leaf(
        field,
        operator,
        {Operator.EXISTS: None, Operator.ONE_OF: [text], Operator.GREATER_THAN: 5, Operator.LESS_THAN: 5}.get(
            operator, text
        ),
        match_case=case,
        **{"not": inverted},
    ),
    st.sampled_from(["a", "b", "client", "a^b", "^client"]),
    st.sampled_from([o for o in Operator if o is not Operator.MATCHES]),
    st.sampled_from(["x", "X", "5", "xy"]),
    st.booleans(),
    st.booleans(),
)
conditions = st.recursive(
    leaves,
    lambda inner: (
        st.builds(lambda c: {"not": c}, inner)
        | st.builds(lambda c: {"all": c}, st.lists(inner, max_size=3))
        | st.builds(lambda c: {"any": c}, st.lists(inner, min_size=1, max_size=3))
    ),
    max_leaves=6,
)
payloads = st.dictionaries(
    st.sampled_from(["a", "b", "client"]),
    st.none() | st.integers(0, 9) | st.sampled_from(["x", "xY", "", " ", "7"]) | st.lists(st.sampled_from(["x", "9"])),
)


@given(conditions, payloads)
def test_not_always_inverts_and_gives_the_same_reason(
    definition: dict[str, object], payload: dict[str, object]
) -> None:
    plain, inverted = ask(definition, payload), ask({"not": definition}, payload)
    assert plain[0] is not inverted[0]
    assert plain[1] == inverted[1]
    if "field" in definition:
        assert ask({**definition, "not": not definition["not"]}, payload)[0] is not plain[0]


@given(conditions, conditions, payloads)
def test_all_and_any_are_and_and_or(one: dict[str, object], two: dict[str, object], payload: dict[str, object]) -> None:
    first, second = ask(one, payload)[0], ask(two, payload)[0]
    assert ask({"all": [one, two]}, payload)[0] is (first and second)
    assert ask({"any": [one, two]}, payload)[0] is (first or second)


def test_a_condition_keeps_its_definition() -> None:
    definition = leaf("a", "exists")
    assert compile_condition(definition).definition is definition
    assert compile_condition(None).matches({}, MappedFields({}, {}, {}))


@pytest.mark.parametrize(
    ("operator", "code"),
    [
        (Operator.CONTAINS, '{field} "{value}" does not contain any of {expected}'),
        (Operator.EQUALS, '{field} "{value}" does not equal any of {expected}'),
        (Operator.STARTS_WITH, '{field} "{value}" does not start with any of {expected}'),
        (Operator.ENDS_WITH, '{field} "{value}" does not end with any of {expected}'),
        (Operator.ONE_OF, '{field} "{value}" is not one of {expected}'),
    ],
)
def test_fact_about_several_values_names_them_all(operator: Operator, code: str) -> None:
    condition = compile_condition(leaf("client", operator, ["Globex", "Initech"]), "rules.open", MAPPING.names)
    verdict = condition.evaluate(PAYLOAD, MAPPING.apply(PAYLOAD))
    assert (verdict.is_true, as_reason(verdict.reason).code) == (False, code)


def test_more_values_than_allowed_are_rejected() -> None:
    with pytest.raises(Rejected) as caught:
        compile_condition(leaf("client", Operator.ONE_OF, ["x"] * (MAX_VALUES + 1)), "rules.open", MAPPING.names)
    assert "give at most {maximum} values" in f"{caught.value.reason.code} {caught.value.reason.data}"


@pytest.mark.parametrize(
    ("status", "word", "is_true"),
    [
        ("New", "New", True),
        ("newly logged", "New", True),
        ("New - 1st line", "New", True),
        ("No response - new", "New", True),
        ("NewTicket", "New", True),
        ("Neues Ticket", "Neu", True),
        ("Closed by client", "Closed", True),
        ("Closed - no response", "Closed", True),
        ("Waiting, in progress", "In Progress", True),
        ("⚠ high", "⚠", True),
        ("Renewal sent", "New", False),
        ("Neustart", "Neu", False),
        ("Not New", "New", False),
        ("No longer new", "New", False),
        ("Unclosed", "Closed", False),
        ("To be closed", "Closed", False),
        ("Isn’t closed", "Closed", False),
        ("Non-closed", "Closed", False),
        ("Noch nicht geschlossen", "Geschlossen", False),
        ("Awaiting new part", "New", False),
        ("In - Progress", "Progress made", False),
    ],
)
def test_words_are_found_unless_negated(status: str, word: str, is_true: bool) -> None:
    definition = leaf("source_status", "contains", word, words=True)
    assert ask(definition, {"status": status})[0] is is_true


def test_fact_about_words_names_the_word() -> None:
    both = leaf("source_status", "contains", ["Closed", "New"], words=True)
    assert ask(both, {"status": "New"})[1] == 'status "New" contains the word New'
    assert ask(both, {"status": "Renewal"})[1] == 'status "Renewal" contains none of the words Closed, New'
    assert ask(leaf("source_status", "contains", "New", words=True, match_case=True), {"status": "NEW"})[0] is False


def test_only_contains_looks_for_words() -> None:
    with pytest.raises(Rejected) as rejected:
        compile_condition(leaf("x", "equals", "New", words=True), "rules.open")
    assert rejected.value.field == "rules.open.words"
