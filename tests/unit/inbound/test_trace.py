"""The trace matches the production path: same values and results, each step with location and outcome."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.catalogue.kinds import IntegrationKind, Sample, load_kinds
from tocsin.core.errors import Rejected
from tocsin.core.reasons import Term
from tocsin.inbound import inspect
from tocsin.inbound.config.normalizer import IntegrationDefinition, NormalizedEvent, Normalizer, compile_normalizer
from tocsin.inbound.fields import text_of
from tocsin.inbound.inspect import FieldTrace, Trace
from tocsin.inbound.parsing.decode import Element, elements_of

HALO = load_kinds()["haloitsm"]


def explain_body(normalizer: Normalizer, body: bytes, content_type: str | None, **more: Any) -> tuple[Trace, ...]:
    try:
        elements = elements_of(normalizer.kind, body, content_type).elements
    except Rejected as problem:
        return (Trace((), problem.reason),)
    return tuple(inspect.explain(normalizer, element, **more) for element in elements)


def explain(payload: object, definition: IntegrationDefinition | None = None, **more: Any) -> Trace:
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    (trace,) = explain_body(compile_normalizer(HALO, definition or IntegrationDefinition()), body, None, **more)
    return trace


def field(trace: Trace, name: str) -> FieldTrace:
    return next(one for one in trace.fields if one.field == name)


def test_trace_contains_each_mapping_step_of_a_field() -> None:
    trace = field(explain({"object_id": 7, "ticket": {"status_id": 9}, "event": "noted"}), "source_status")
    assert trace.value == "Closed"
    data = {step.source: (step.found, str(step.outcome)) for step in trace.steps}
    assert data["ticket^status^name"] == (None, "no value")
    assert data["ticket^status_id"] == ("9", 'used as "Closed"')
    assert trace.steps[-1].place == "mapping.source_status[3].paths[0]"


def test_trace_explains_ignored_values() -> None:
    trace = field(explain({"id": "0d0c6f1e-2b7a-4d7b-9a3c-000000000001", "ticket": {"id": 7}}), "source_id")
    assert trace.value == "7"
    guid = field(explain({"id": 7, "ticket": {"id": 7}}), "delivery_id")
    assert [(step.found, str(step.outcome)) for step in guid.steps] == [("7", "not used: only guid")]
    priority = field(explain({"id": 7, "priority": "Sofort"}), "priority")
    assert ("Sofort", "not used: invalid priority") in [(step.found, str(step.outcome)) for step in priority.steps]


def test_trace_shows_explicitly_unassigned_owner() -> None:
    trace = field(explain({"object_id": 7, "ticket": {"agent": "Unassigned"}}), "agent")
    assert trace.value is None
    assert trace.steps[-1].outcome.code == "used: no one"


def test_trace_lists_rules_up_to_the_deciding_one() -> None:
    trace = explain({"object_id": 7, "ticket": {"status": "New"}})
    assert [(one.name, one.is_true, one.is_deciding) for one in trace.rules] == [
        ("cancel", False, False),
        ("close", False, False),
        ("open", True, True),
    ]
    assert (trace.intent, str(trace.reason)) == ("open", 'status "New" contains the word New')


def test_trace_lists_filters_vetoes_and_routes() -> None:
    definition = IntegrationDefinition(
        filters={"field": "client", "operator": "equals", "value": "Globex"},
        routes=[
            {"when": {"field": "client", "operator": "exists"}, "during": "Night"},
            {"name": "Rest", "during": {"not": "Night"}},
        ],
    )
    trace = explain({"ticket_id": 7, "client": "Acme"}, definition)
    assert [(one.name, str(one.reason)) for one in trace.opening] == [
        ("filters", 'client "Acme" does not equal Globex')
    ]
    assert [(one.name, one.is_true, str(one.reason)) for one in trace.routes] == [
        ("1", False, 'client "Acme" exists; during Night: no'),
        ("Rest", True, "always; outside Night: yes"),
    ]
    assert explain({"ticket_id": 7, "client": "Acme"}, definition, in_hours=lambda hours: True).routes[0].is_true
    own = explain({"ticket_id": 7, "summary": "(Tocsin #1)"}, definition).opening
    assert [one.name for one in own] == ["veto"]


def test_a_doubled_key_is_noted() -> None:
    notes = explain(b'{"ticket_id": 7, "a": 1, "a": 2}').notes
    assert tuple(map(str, notes)) == ('duplicate key "a" in an object; the last one is used',)


def test_trace_covers_unreadable_bodies() -> None:
    assert str(explain(b"Ticket 7").problem) == "Not JSON: expecting a value, at line 1 column 1"
    without_id = explain({"summary": "VPN"})
    assert without_id.problem is not None
    assert (without_id.problem.code, without_id.problem["id"]) == (
        "no {id} in the message; looked at {sources}",
        Term("ticket id"),
    )
    assert field(without_id, "subject").value == "VPN"
    bad = explain_body(compile_normalizer(HALO, IntegrationDefinition()), b'[{"id": 7}, 8]', None)
    assert [trace.problem is None for trace in bad] == [True, False]


def test_a_trace_is_plain_json() -> None:
    trace = explain({"object_id": 7, "timestamp": "2026-11-24T09:15:02Z", "ticket": {"status": "New"}})
    plain = json.loads(json.dumps(trace.to_json()))
    assert plain["intent"] == "open"
    assert {"field", "label", "value", "steps"} <= plain["fields"][0].keys()
    assert plain["reason"]["text"] == 'status "New" contains the word New'
    assert plain["rules"][-1]["reason"].keys() == {"text", "code", "data"}


def assert_same(reader: Normalizer, body: bytes, content_type: str | None) -> None:
    traces = explain_body(reader, body, content_type)
    try:
        elements = elements_of(reader.kind, body, content_type).elements
    except Rejected as refused:
        elements = (Element(None, body, problem=refused),)
    assert len(traces) == len(elements)
    for element, trace in zip(elements, traces, strict=True):
        event = reader.normalize(element)
        if isinstance(event, Rejected):
            assert trace.problem == event.reason
            continue
        assert isinstance(event, NormalizedEvent)
        data = {one.field: one.value for one in trace.fields if one.value is not None}
        known = {name: text_of(value) for name, value in event.mapped.values.items() if value is not None}
        assert data.keys() == known.keys()
        assert all(data[name] == text if len(text or "") <= 500 else True for name, text in known.items())
        assert {one.field: one.value for one in trace.tags if one.value} == event.mapped.tags
        assert (trace.intent, trace.reason) == (event.action, event.rule_match.reason)
        # What no rule decides opens by the words of its status, or since it is not understood.
        by_rules = reader.rules.classify(element.payload, event.mapped)[1].is_decisive
        assert any(one.is_deciding for one in trace.rules) or event.action == "none" or not by_rules


@pytest.mark.parametrize(
    ("kind", "sample"),
    [(kind, sample) for kind in load_kinds().values() for sample in kind.samples],
    ids=lambda one: one.name,
)
def test_the_trace_of_every_sample_says_what_was_read(kind: IntegrationKind, sample: Sample) -> None:
    assert_same(
        compile_normalizer(kind, IntegrationDefinition(settings=sample.settings)), sample.body, sample.content_type
    )


READERS = [compile_normalizer(kind, IntegrationDefinition()) for kind in load_kinds().values()]
KEYS = [
    "id",
    "object_id",
    "ticket",
    "status",
    "status_id",
    "agent",
    "name",
    "priority",
    "event",
    "summary",
    "timestamp",
]
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 12)
    | st.sampled_from(["New", "Closed", "7", "Unassigned", "P1", "2026-11-24T09:15:02Z", "", " x\n"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=6),
    max_leaves=25,
)


@given(st.sampled_from(READERS), st.dictionaries(st.sampled_from(KEYS), values, max_size=8))
def test_the_trace_of_anything_says_what_was_read(reader: Normalizer, payload: dict[str, object]) -> None:
    assert_same(reader, json.dumps(payload).encode(), None)
