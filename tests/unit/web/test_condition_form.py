"""Conditions and mapped fields as form rows: lossless both ways, with errors at their row."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.hypothesis_profiles import examples
from tocsin.core.errors import Rejected
from tocsin.inbound.conditions import Operator, compile_condition
from tocsin.inbound.fields import MappedFields
from tocsin.web.integrations import condition_form
from tocsin.web.integrations.condition_form import (
    ComparisonRow,
    ConditionGroup,
    ErrorPlaces,
    FieldEntry,
    ValueOrigin,
    YamlCondition,
)

WORDS = st.text("abN ", min_size=1, max_size=5).map(str.strip).filter(bool)
COMPARED = st.one_of(
    st.builds(
        lambda f, o, v, m: {"field": f, "operator": o, "value": v, **({"match_case": True} if m else {})},
        st.sampled_from(("source_status", "client", "a^b")),
        st.sampled_from(("contains", "equals", "starts with", "ends with")),
        WORDS | st.lists(WORDS, min_size=2, max_size=3),
        st.booleans(),
    ),
    st.builds(lambda v: {"field": "client", "operator": "contains", "value": v, "words": True}, WORDS),
    st.builds(lambda v: {"field": "client", "operator": "one of", "value": v}, st.lists(WORDS, min_size=1, max_size=3)),
    st.just({"field": "client", "operator": "exists", "not": True}),
)
EXISTS = {"field": "a", "operator": "exists"}
CONDITIONS: st.SearchStrategy[Any] = st.recursive(
    COMPARED | st.booleans(),
    lambda inner: st.one_of(
        st.builds(lambda parts: {"all": parts}, st.lists(inner, max_size=3)),
        st.builds(lambda parts: {"any": parts}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda part: {"not": part}, inner),
    ),
    max_leaves=8,
)
MESSAGES = st.builds(
    lambda status, client, b: ({"a": {"b": b}}, MappedFields({"source_status": status, "client": client}, {}, {})),
    WORDS | st.none(),
    WORDS | st.none(),
    WORDS,
)


def posted(node: Any, prefix: str = "open") -> dict[str, str]:
    """What a browser sends for the rows."""
    match node:
        case ComparisonRow():
            sent = {f"{prefix}.type": "comparison", f"{prefix}.field": node.field, f"{prefix}.op": node.operator}
            sent[f"{prefix}.values"] = node.values.replace("\n", "\r\n")
            switches = {"case": node.match_case, "words": node.words}
            return {**sent, **{f"{prefix}.{name}": "on" for name, is_on in switches.items() if is_on}}
        case YamlCondition():
            return {f"{prefix}.type": "yaml", f"{prefix}.text": node.text}
        case _:
            sent = {f"{prefix}.type": "group", f"{prefix}.join": node.join}
            if node.is_not:
                sent[f"{prefix}.not"] = "on"
            for number, part in enumerate(node.parts):
                sent |= posted(part, f"{prefix}.{number}")
            return sent


@examples(150)
@given(CONDITIONS, MESSAGES)
def test_submitted_rows_mean_the_same_as_their_condition(
    condition: Any, message: tuple[dict[str, Any], MappedFields]
) -> None:
    rows = condition_form.rows_of(condition)
    read = condition_form.read_conditions(posted(rows), "open")
    assert read == rows
    again = condition_form.condition_of(read, "rules.open", "open", ErrorPlaces())
    fields = ("source_status", "client")
    meant = compile_condition(condition, "c", fields).matches(*message)
    assert compile_condition(again, "c", fields).matches(*message) is meant
    assert condition_form.describe_condition(condition, {})


@pytest.mark.parametrize(
    ("condition", "row"),
    [
        ({"field": "a", "operator": "matches", "value": "("}, "open.0"),
        ({"all": [EXISTS, {"field": "b", "operator": "matches", "value": "("}]}, "open.1"),
        ({"any": [{"not": {"all": [{"field": "^", "operator": "exists"}, EXISTS]}}]}, "open.0.0"),
        ({"not": {"field": "b", "operator": "greater than", "value": "x"}}, "open.0"),
    ],
)
def test_an_error_in_a_condition_is_shown_in_its_row(condition: Any, row: str) -> None:
    places = ErrorPlaces()
    again = condition_form.condition_of(condition_form.rows_of(condition), "rules.open", "open", places)
    with pytest.raises(Rejected) as caught:
        compile_condition(again, "rules.open")
    assert places.row(caught.value.field or "") == row


def test_a_condition_reads_as_a_sentence() -> None:
    condition = {
        "all": [
            {"field": "source_status", "operator": "contains", "value": "New"},
            {"any": [
                {"field": "client", "operator": "one of", "value": ["Acme", "Globex", "Initech"]},
                {"not": {"field": "vip", "operator": "exists"}},
            ]},
        ]
    }  # fmt: skip
    text = condition_form.describe_condition(condition, {"source_status": "status"})
    assert text == "status contains New, and (client is one of Acme, Globex or Initech, or vip has no value)"
    assert condition_form.describe_condition(None, {}) == "always"
    by_words = {"field": "source_status", "operator": "contains", "value": "New", "words": True}
    assert condition_form.describe_condition(by_words, {"source_status": "status"}) == "status contains the word New"


def test_words_are_dropped_with_an_operator_that_has_none() -> None:
    row = ComparisonRow("client", "equals", "Acme", words=True)
    assert condition_form.condition_of(ConditionGroup((row,)), "rules.open", "open", ErrorPlaces()) == {
        "field": "client", "operator": "equals", "value": "Acme",
    }  # fmt: skip


def test_buttons_add_and_remove_rows_wherever_they_are() -> None:
    rows = condition_form.change(ConditionGroup(), (), "add")
    rows = condition_form.change(rows, (), "group")
    rows = condition_form.change(rows, (1,), "add")
    assert rows == ConditionGroup((ComparisonRow(), ConditionGroup((ComparisonRow(), ComparisonRow()), "any")))
    assert condition_form.change(rows, (1, 0), "remove") == ConditionGroup(
        (ComparisonRow(), ConditionGroup((ComparisonRow(),), "any"))
    )
    assert condition_form.change(rows, (9, 9), "remove") == rows


def test_more_rows_than_anybody_writes_are_refused() -> None:
    sent = {f"open.{n}.type": "comparison" for n in range(2_000)}
    with pytest.raises(Rejected, match="edit the condition as YAML"):
        condition_form.read_conditions(sent, "open")
    deep = {"open" + ".0" * n + ".type": "group" for n in range(200)}
    with pytest.raises(Rejected):
        condition_form.read_conditions(deep, "open")


def test_every_operator_can_be_chosen_and_inverted() -> None:
    assert {(o, n) for o, n, _ in condition_form.OPERATOR_LABELS.values()} == {
        (o, n) for o in Operator for n in (True, False)
    }


@pytest.mark.parametrize(
    "definition",
    [
        "ticket^summary",
        ["a^b", "c"],
        {"path": "a", "map": {"1": "New", "9": "Closed"}},
        {"paths": ["a", "b"], "map": {"1": "New"}},
        {"template": "<client>:\n<summary>"},
        {"literal": "production", "map": {"production": "live"}},
        {"path": "id", "only": "guid"},
        [{"path": "a", "map": "statuses", "else": ""}, "b"],
        {"literal": 7},
        None,
    ],
)
def test_mapped_field_round_trips_through_its_row(definition: Any) -> None:
    entry = condition_form.entry_of(definition)
    assert condition_form.definition_of(entry, "mapping.subject") == definition
    assert (entry.origin is ValueOrigin.YAML) is any(
        word in str(definition) for word in ("only", "else", "'literal': 7")
    )


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (FieldEntry(ValueOrigin.PATHS, " \r\n "), "enter a path or choose Default"),
        (FieldEntry(ValueOrigin.PATHS, "a", "1 New"), "line 1"),
        (FieldEntry(ValueOrigin.YAML, "a: ["), "Line 1"),
        (FieldEntry(ValueOrigin.TEMPLATE, ""), "enter a path or choose Default"),
    ],
)
def test_a_row_that_says_nothing_is_an_error_beside_it(entry: FieldEntry, message: str) -> None:
    with pytest.raises(Rejected, match=message) as caught:
        condition_form.definition_of(entry, "mapping.subject")
    assert caught.value.field == "mapping.subject"
