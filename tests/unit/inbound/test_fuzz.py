"""Any input: decoding, mapping, rules, filters and routes end in a result or a declared rejection."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from tests.support.hypothesis_profiles import examples
from tocsin.catalogue.kinds import load_kinds
from tocsin.core.errors import Rejected
from tocsin.inbound.config.normalizer import IntegrationDefinition, Normalizer, compile_normalizer
from tocsin.inbound.inspect import explain
from tocsin.inbound.parsing import decode as kinds_elements
from tocsin.inbound.parsing.decode import Element

OWN = IntegrationDefinition(
    mapping={
        "subject": {"template": "<a> of <field:client>: <b^*>"},
        "client": ["a^b", "a^*", {"path": "0^a", "only": "words"}],
        "tags": {"rack": {"path": "b^0", "map": {"1": "one"}, "else": "<value>?"}},
        "mine": "a",
    },
    filters={
        "any": [{"field": "a", "operator": "matches", "value": "^[a-z]+"}, {"field": "mine", "operator": "exists"}]
    },
    routes=[
        {"when": {"field": "^a^b", "operator": "less than", "value": 5}, "during": "Hours"},
        {"when": {"not": {"field": "subject", "operator": "ends with", "value": "x"}}, "action": "record"},
    ],
    dedup_key="<a>/<source_id>",
)
READERS = [compile_normalizer(kind, own) for kind in load_kinds().values() for own in (IntegrationDefinition(), OWN)]
REASON = 300  # bytes that a stored verdict has
CODES = {"invalid_json", "invalid_form", "invalid_xml", "invalid_mail", "too_deep", "too_many", "no_id"}
TYPES = [None, "application/json", "text/plain; charset=utf-16", "application/x-www-form-urlencoded"]
TYPES += ["application/xml", "message/rfc822"]
TYPES += ["multipart/form-data; boundary=b", "application/json; charset=latin-1", "x/y; charset=\x00"]


def elements_of(reader: Normalizer, body: bytes, content_type: str | None) -> tuple[Element, ...] | Rejected:
    try:
        return kinds_elements.elements_of(reader.kind, body, content_type).elements
    except Rejected as refused:
        return refused


def run(reader: Normalizer, body: bytes, content_type: str | None) -> None:
    elements = elements_of(reader, body, content_type)
    if isinstance(elements, Rejected):
        assert elements.code in CODES
        assert elements.detail
        return
    assert elements
    for element in elements:
        event = reader.normalize(element)
        explain(reader, element).to_json()
        if isinstance(event, Rejected):
            assert event.code in CODES
            continue
        reasons: list[object] = [event.rule_match.reason, event.check_filters().reason]
        reasons += [event.choose_route(lambda hours, answer=answer: answer).reason for answer in (True, False)]
        for reason in [*reasons, *event.notes]:
            assert len(str(reason).encode()) < REASON
        for value in event.mapped.values.values():
            if isinstance(value, str):
                assert "\x00" not in value
                value.encode()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["a", "b", "id", "status", "ticket", "agent", "priority", "object_id"]), inner
        )
    ),
    max_leaves=20,
)


@examples(400)
@given(st.sampled_from(READERS), st.binary(max_size=200), st.sampled_from(TYPES))
def test_any_bytes(reader: Normalizer, body: bytes, content_type: str | None) -> None:
    run(reader, body, content_type)


@examples(400)
@given(
    st.sampled_from(READERS), st.text('{}[]",:\\ \n\x00abtrue19.eE-+u\ud800&=%<', max_size=60), st.sampled_from(TYPES)
)
def test_anything_made_of_jsons_own_characters(reader: Normalizer, text: str, content_type: str | None) -> None:
    run(reader, text.encode("utf-8", "surrogatepass"), content_type)


@examples(300)
@given(st.sampled_from(READERS), json_values, st.booleans())
def test_any_json(reader: Normalizer, value: object, is_ascii: bool) -> None:
    run(reader, json.dumps(value, ensure_ascii=is_ascii).encode("utf-8", "surrogatepass"), "application/json")


@examples(300)
@given(st.sampled_from(READERS), st.data())
def test_any_sample_with_a_piece_cut_out_or_put_in(reader: Normalizer, data: st.DataObject) -> None:
    sample = data.draw(st.sampled_from([sample for kind in load_kinds().values() for sample in kind.samples]))
    at = data.draw(st.integers(0, len(sample.body)))
    length = data.draw(st.integers(0, 20))
    piece = data.draw(
        st.binary(max_size=6) | st.sampled_from([b'"', b",", b"\\", b"}", b"[", b"\n", b"1e999", b"\\ud800"])
    )
    run(reader, sample.body[:at] + piece + sample.body[at + length :], sample.content_type)
