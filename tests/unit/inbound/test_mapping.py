"""Mappings: each way to define a field, rejections with locations, and application without exceptions."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.core.errors import Rejected
from tocsin.inbound.fields import MAX_CUSTOM, Attachment, MappedFields, Value
from tocsin.inbound.mapping.mapping import MAX_ALTERNATIVES, MAX_MAP, compile_mapping
from tocsin.inbound.mapping.templates import MAX_TEMPLATE

TICKET = {
    "ticket": {
        "id": 20817.0,
        "summary": "VPN down",
        "status_id": "9",
        "status": {"name": ""},
        "client": {"id": 3, "name": "Acme"},
        "agent": {"id": 1, "name": "unassigned"},
        "tags": ["a", "b", None],
        "vip": False,
        "closed": "1900-01-01T00:00:00",
    },
    "id": "0d0c6f1e-2b7a-4d7b-9a3c-000000000001",
}


def value(definition: object, payload: object = TICKET, field: str = "subject", **settings: object) -> Value:
    return compile_mapping({field: definition}, settings).apply(payload).values.get(field, "(absent)")


@pytest.mark.parametrize(
    ("definition", "found"),
    [
        ("ticket^summary", "VPN down"),
        (["ticket^title", "ticket^status^name", "ticket^summary"], "VPN down"),
        ({"path": "ticket^id"}, "20817"),
        ({"paths": ["nothing", "ticket^client^name"]}, "Acme"),
        ({"literal": "Fixed"}, "Fixed"),
        ({"literal": 7.0}, "7"),
        ({"template": "<ticket^client^name>: <ticket^summary>"}, "Acme: VPN down"),
        ({"template": "<nothing>: <ticket^summary>"}, "VPN down"),
        ({"template": "<ticket^client^name>: <ticket^summary> is <nothing>"}, "Acme: VPN down"),
        ({"template": "<nothing> and <neither>"}, "(absent)"),
        ({"template": "a << b, 1 < 2 > 1, <ticket^id>"}, "a < b, 1 < 2 > 1, 20817"),
        ({"template": "no reference"}, "no reference"),
        ({"path": "ticket^status_id", "map": {9: "Closed"}}, "Closed"),
        ({"path": "ticket^id", "map": {"20817": "It"}}, "It"),
        ({"path": "ticket^summary", "map": {"vpn DOWN": "Mapped"}}, "Mapped"),
        ({"path": "ticket^vip", "map": {False: "Ordinary"}}, "Ordinary"),
        ({"path": "ticket^status_id", "map": {"1": "New"}}, "9"),
        ({"path": "ticket^status_id", "map": {"1": "New"}, "else": ""}, "(absent)"),
        ({"path": "ticket^status_id", "map": {"1": "New"}, "else": "Status <value>"}, "Status 9"),
        ({"path": "ticket^client", "only": "text"}, "(absent)"),
        ({"path": "ticket^vip", "only": "text"}, "(absent)"),
        ({"path": "ticket^status_id", "only": "words"}, "(absent)"),
        ({"path": "ticket^summary", "only": "words"}, "VPN down"),
        ({"path": "ticket^summary", "only": "number"}, "(absent)"),
        ({"path": "ticket^status_id", "only": "number"}, "9"),
        ({"path": "ticket^id", "only": "positive"}, "20817"),
        ({"path": "id", "only": "integer"}, "(absent)"),
        ({"path": "id", "only": "guid"}, "0d0c6f1e-2b7a-4d7b-9a3c-000000000001"),
        ({"path": "ticket^summary", "only": "guid"}, "(absent)"),
        ({"path": "ticket^closed", "only": "date"}, "(absent)"),
        ({"path": "ticket^summary", "only": "email"}, "(absent)"),
        ({"path": "ticket^agent^name", "nobody": "Unassigned"}, None),
        (["ticket^nothing", {"path": "ticket^agent^id", "nobody": [0, 1]}, "ticket^summary"], None),
        ({"literal": "Over", "when": {"field": "ticket^vip", "operator": "equals", "value": False}}, "Over"),
        ({"path": "ticket^summary", "when": {"field": "ticket^vip", "operator": "equals", "value": True}}, "(absent)"),
        ("ticket^tags", "a, b"),
        ("ticket^tags^*", "a, b"),
        ("ticket^client", '{"id":3,"name":"Acme"}'),
    ],
)
def test_mapped_field_is_extracted(definition: object, found: Value) -> None:
    assert value(definition) == found


@pytest.mark.parametrize(
    ("given", "number"), [(7, "7"), ("7", "7"), (7.0, "7"), ("7.0", "7"), (" 007 ", "7"), ("7.5", None), ("x", None)]
)
def test_a_whole_number_is_the_same_in_every_form(given: object, number: str | None) -> None:
    assert value({"path": "n", "only": "integer"}, {"n": given}) == (number or "(absent)")


@pytest.mark.parametrize("given", [0, -1, "0", "-5"])
def test_an_id_is_above_zero(given: object) -> None:
    assert value({"path": "n", "only": "positive"}, {"n": given}) == "(absent)"


def test_a_map_can_be_a_setting() -> None:
    definition = {"path": "ticket^status_id", "map": "statuses", "else": "Status <value>"}
    assert value(definition, statuses={"9": "Done"}) == "Done"
    assert value(definition) == "Status 9"


def test_a_template_may_use_settings_and_mapped_fields() -> None:
    definition = {
        "source_url": {"template": "<setting:address>/ticket?id=<field:source_id>"},
        "source_id": "ticket^id",
        "short_text": {"template": "<field:source_url>"},
    }
    mapped = compile_mapping(definition, {"address": "https://acme.example"}).apply(TICKET)
    assert mapped.text("short_text") == mapped.text("source_url") == "https://acme.example/ticket?id=20817"
    assert compile_mapping(definition, {}).apply(TICKET).text("source_url") is None


def test_every_kind_of_field_has_its_own_sort_of_value() -> None:
    mapped = compile_mapping(
        {
            "source_time": "at",
            "vip": "vip",
            "recipient_users": "users",
            "attachments": "files",
            "priority": "priority",
            "respond_by": "unset",
            "tags": {"environment": "env", "rack": "rack"},
            "custom": {"Order no.": "order"},
            "affected": "affected",
        }
    ).apply(
        {
            "at": "2026-11-24T09:15:02.1234567Z",
            "vip": 1,
            "users": "alice; bob",
            "files": ["https://x.example/a.png"],
            "priority": "P2",
            "unset": "0001-01-01T00:00:00",
            "env": "production",
            "order": 4711,
            "affected": "40\nusers",
        }
    )
    assert mapped.moment("source_time") == datetime(2026, 11, 24, 9, 15, 2, 123456, tzinfo=UTC)
    assert mapped.flag("vip") is True
    assert mapped.names("recipient_users") == ("alice", "bob")
    assert mapped.attachments() == (Attachment("https://x.example/a.png", "a.png"),)
    assert mapped.text("priority") == "high"
    assert "respond_by" not in mapped.values
    assert mapped.tags == {"environment": "production"}
    assert mapped.custom == {"Order no.": "4711", "affected": "40\nusers"}
    assert mapped.notes == ()


def test_empty_text_means_unassigned_only_where_configured() -> None:
    templated = compile_mapping({"agent": [{"path": "agent", "nobody": [""]}, {"literal": "Somebody"}]})
    assert templated.apply({"agent": ""}).is_nobody("agent")
    assert templated.apply({"agent": "  "}).is_nobody("agent")
    assert templated.apply({"agent": "Noor"}).values["agent"] == "Noor"
    assert templated.apply({}).values["agent"] == "Somebody"
    other = compile_mapping({"agent": {"path": "agent", "nobody": ["Unassigned"]}})
    assert not other.apply({"agent": ""}).is_nobody("agent")


def test_unassigned_is_distinguished_from_missing() -> None:
    mapping = compile_mapping({"agent": {"path": "agent", "nobody": ["Unassigned"]}})
    assert mapping.apply({"agent": "Unassigned"}).is_nobody("agent")
    assert not mapping.apply({}).is_nobody("agent")
    assert mapping.apply({"agent": "Ana"}).text("agent") == "Ana"


def test_what_is_there_and_not_understood_gets_a_note() -> None:
    mapping = compile_mapping({"priority": ["a", "b"], "source_time": "at"})
    mapped = mapping.apply({"b": "Sofort", "at": "24/11/2026 09:14"})
    assert mapped.values == {}
    assert [note.code for note in mapped.notes] == [
        '{field} "{value}" is not a time that Tocsin can read',
        '{field} "{value}" is not mapped to critical, high, medium or low',
    ]
    assert [str(note) for note in mapped.notes] == [
        'source time "24/11/2026 09:14" is not a time that Tocsin can read',
        'priority "Sofort" is not mapped to critical, high, medium or low',
    ]


def test_null_leaves_a_field_out() -> None:
    assert compile_mapping({"subject": None, "client": "c"}).names == {"client"}


@pytest.mark.parametrize(
    ("definition", "place", "problem"),
    [
        ([], "mapping", "must map fields to"),
        ({"subject": ""}, "mapping.subject", "empty"),
        ({"subject": "a^"}, "mapping.subject", "ends with ^"),
        ({"subject": ["a", "^b"]}, "mapping.subject[1]", "begins with ^"),
        ({"subject": []}, "mapping.subject", "at least one"),
        ({"subject": [["a"]]}, "mapping.subject[0]", "list in a list"),
        ({"subject": 7}, "mapping.subject", "give a path"),
        ({"subject": {}}, "mapping.subject", "exactly one of"),
        ({"subject": {"path": "a", "literal": "b"}}, "mapping.subject", "exactly one of"),
        ({"subject": {"path": "a", "mapp": {}}}, "mapping.subject.mapp", "unknown key"),
        ({"subject": {"path": 7}}, "mapping.subject.path", "a path is text"),
        ({"subject": {"paths": "a"}}, "mapping.subject.paths", "list of paths"),
        ({"subject": {"paths": ["a", "b^"]}}, "mapping.subject.paths[1]", "ends with ^"),
        ({"subject": {"template": ""}}, "mapping.subject.template", "a template is text"),
        ({"subject": {"template": "<a^>"}}, "mapping.subject.template", "ends with ^"),
        ({"subject": {"template": "<field:client>"}}, "mapping.subject.template", "not mapped"),
        ({"subject": {"template": "<field:subject>"}}, "mapping.subject", "circular reference"),
        ({"subject": {"literal": ""}}, "mapping.subject.literal", "a literal is"),
        ({"subject": {"literal": {}}}, "mapping.subject.literal", "a literal is"),
        ({"subject": {"path": "a", "only": "words!"}}, "mapping.subject.only", "unknown type"),
        ({"subject": {"path": "a", "map": [1]}}, "mapping.subject.map", "value map"),
        ({"subject": {"path": "a", "map": {"1": ""}}}, "mapping.subject.map.1", "non-empty text"),
        ({"subject": {"path": "a", "map": {"1": ["x"]}}}, "mapping.subject.map.1", "non-empty text"),
        ({"subject": {"path": "a", "else": 7}}, "mapping.subject.else", "must be text"),
        ({"subject": {"path": "a", "nobody": []}}, "mapping.subject.nobody", "nobody"),
        (
            {"subject": {"path": "a", "when": {"field": "x", "operator": "is"}}},
            "mapping.subject.when.operator",
            "unknown",
        ),
        ({"tags": "a"}, "mapping.tags", "must map names to"),
        ({"tags": {"subject": "a"}}, "mapping.tags.subject", "standard field"),
        ({"tags": {"x": "a"}, "x": "b"}, "mapping.x", "unique"),
        ({"tags": {f"t{i}": "a" for i in range(60)}}, "mapping", "at most 50 tags"),
        ({"": "a"}, "mapping", "1 to 100"),
        ({7: "a"}, "mapping", "1 to 100"),
    ],
)
def test_a_bad_mapping_is_refused_at_its_place(definition: object, place: str, problem: str) -> None:
    with pytest.raises(Rejected) as caught:
        compile_mapping(definition)
    assert caught.value.field == place
    assert caught.value.detail.startswith(f"{place}: ")
    assert problem in caught.value.detail


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "A", "b", "c", "0"]) | st.text(max_size=2), inner, max_size=5)
    ),
    max_leaves=20,
)

ENTRIES: list[object] = [
    "a",
    "a^b",
    "a^0",
    "b^*",
    {"path": "a", "only": "integer"},
    {"path": "c", "only": "words", "map": {"x": "y"}, "else": "<value>!"},
    {"path": "b", "nobody": ["", 1, "a"]},
    {"template": "<a>-<b^c>"},
    {"literal": "z", "when": {"field": "a", "operator": "exists"}},
]
FIELDS = ["subject", "source_id", "source_time", "priority", "vip", "recipient_users", "attachments", "details", "mine"]


@given(
    st.dictionaries(st.sampled_from(FIELDS), st.lists(st.sampled_from(ENTRIES), min_size=1, max_size=4), min_size=1),
    st.lists(json_values, min_size=1, max_size=4),
)
def test_applying_never_raises_and_a_remembered_shape_changes_nothing(
    definition: dict[str, object], payloads: list[object]
) -> None:
    warm = compile_mapping(definition)
    for payload in payloads:
        warm.apply(payload)
    for payload in payloads:
        mapped_fields: MappedFields = warm.apply(payload)
        assert repr(sorted(mapped_fields.values.items())) == repr(
            sorted(compile_mapping(definition).apply(payload).values.items())
        )


def test_each_key_is_visited_once_regardless_of_path_count() -> None:
    looks = 0

    class Key(str):
        def casefold(self) -> str:
            nonlocal looks
            looks += 1
            return super().casefold()

    mapping = compile_mapping({f"field_{n}": [f"missing_{n}", "SUBJECT"] for n in range(50)})
    payload: dict[str, object] = {Key(f"k{n}"): n for n in range(5_000)}
    payload[Key("Subject")] = "VPN down"
    assert mapping.apply(payload).custom["field_49"] == "VPN down"
    assert looks <= 2 * len(payload), "once to read them, and once to plan for others of their shape"


@pytest.mark.parametrize(
    ("definition", "code"),
    [
        ({"subject": ["ticket^id"] * (MAX_ALTERNATIVES + 1)}, "at most {maximum} alternatives"),
        ({"subject": {"template": "x" * (MAX_TEMPLATE + 1)}}, "a template has at most {maximum} characters"),
        (
            {"custom": {f"field{n}": "ticket^id" for n in range(MAX_CUSTOM + 1)}},
            "at most {maximum} custom fields; these are {length}",
        ),
        (
            {"subject": {"path": "ticket^id", "map": {str(n): "x" for n in range(MAX_MAP + 1)}}},
            "a value map has at most {maximum} rows",
        ),
    ],
)
def test_mapping_beyond_a_limit_is_rejected(definition: dict[str, object], code: str) -> None:
    with pytest.raises(Rejected) as caught:
        compile_mapping(definition)
    assert code in f"{caught.value.reason.code} {caught.value.reason.data}"
