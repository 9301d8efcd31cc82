"""Paths: each notation, no exceptions, and invalid paths rejected with their location."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.core.errors import Rejected
from tocsin.core.validation.inputs import MAX_PATH, MISSING, compile_path, join_path, split_path
from tocsin.inbound.mapping.templates import Extraction

PAYLOAD = {
    "ticket": {
        "status": {"name": "New"},
        "Summary": "VPN",
        "7": "seven",
        "list": [{"name": "a"}, {"name": "b"}, {}, 3],
    },
    "alerts": [{"labels": {"host": "one"}}, {"labels": {"host": "two"}, "tags": ["x", "y"]}],
    "a^b": {"c^": 1, "^d": 2},
    "null": None,
    "": "empty",
    "name": "lower",
    "NAME": "upper",
    "hosts": {"web1": {"up": True}, "web2": {"up": False}},
    "star": {"*": "literal"},
    "Straße": "street",
}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("ticket^status^name", "New"),
        ("TICKET^Status^NAME", "New"),
        ("ticket^summary", "VPN"),
        ("name", "lower"),
        ("NAME", "upper"),
        ("Name", "lower"),
        ("STRASSE", "street"),
        ("ticket^7", "seven"),
        ("alerts^0^labels^host", "one"),
        ("alerts^1^tags^1", "y"),
        ("alerts^00^labels^host", "one"),
        ("alerts^*^labels^host", ["one", "two"]),
        ("alerts^*^tags^*", ["x", "y"]),
        ("alerts^*^tags", [["x", "y"]]),
        ("ticket^list^*^name", ["a", "b"]),
        ("hosts^*^up", [True, False]),
        ("star^*", "literal"),
        ("a^^b^c^^", 1),
        ("null", None),
    ],
)
def test_a_path_reads(path: str, value: object) -> None:
    found = compile_path(path).read(PAYLOAD)
    assert found == ([value] if path == "star^*" else value)


@pytest.mark.parametrize(
    "path",
    [
        "nothing",
        "ticket^nothing^deeper",
        "ticket^summary^deeper",
        "alerts^2",
        "alerts^-1",
        "alerts^99999999999999999999",
        "alerts^²",
        "alerts^name",
        "null^deeper",
        "alerts^*^nothing",
        "name^*",
        "a^^b^^^d",
    ],
)
def test_a_missing_path_is_no_value(path: str) -> None:
    assert compile_path(path).read(PAYLOAD) is MISSING


@pytest.mark.parametrize("payload", [None, 3, "text", [], {}, True, [1, [2]]])
def test_a_path_into_anything_else_is_no_value(payload: object) -> None:
    assert compile_path("a^b").read(payload) is MISSING


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("", "empty"),
        ("  ", "empty"),
        ("^a", "begins with ^"),
        ("a^", "ends with ^"),
        ("a^b^^^", "ends with ^"),
        ("x" * (MAX_PATH + 1), "at most"),
        ("^".join("x" * 60), "segments"),
    ],
)
def test_a_bad_path_is_refused_at_its_place(path: str, problem: str) -> None:
    with pytest.raises(Rejected) as caught:
        compile_path(path, "mapping.subject")
    assert problem in caught.value.detail
    assert caught.value.field == "mapping.subject"
    assert caught.value.detail.startswith("mapping.subject: ")


def test_doubled_separator_is_reserved_as_a_literal() -> None:
    assert split_path("a^^b") == ("a^b",)


def test_a_star_stops_collecting_in_time() -> None:
    wide = {"a": [{"b": [1] * 5000}] * 5000}
    found = compile_path("a^*^b^*").read(wide)
    assert isinstance(found, list)
    assert len(found) == 1000


keys = st.text(min_size=1, max_size=8).filter(lambda key: key != "*")


@given(st.lists(keys, min_size=1, max_size=5), st.integers())
def test_every_writable_key_path_reads_back_its_value(parts: list[str], value: int) -> None:
    payload: object = value
    for key in reversed(parts):
        payload = {key: payload}
    path = join_path(parts)
    if path is None:
        assert any(key.startswith("^") for key in parts[1:])
    elif path.strip():
        assert split_path(path) == tuple(parts)
        assert compile_path(path).read(payload) == value


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["a", "A", "b", "1", "c^", "*"]) | st.text(max_size=3), inner, max_size=5)
    ),
    max_leaves=30,
)
path_texts = st.lists(st.sampled_from(["a", "A", "b", "B", "0", "1", "c^^", "*", "zz"]), min_size=1, max_size=4).map(
    "^".join
)


@given(st.lists(path_texts, min_size=1, max_size=8), st.lists(json_values, min_size=1, max_size=4))
def test_combined_path_search_equals_individual_searches(paths: list[str], payloads: list[object]) -> None:
    extraction = Extraction()
    slots = [(path, extraction.slot(path, "here")) for path in paths]
    extraction.freeze()
    for payload in [*payloads, *payloads]:
        results = extraction.read(payload)
        for path, slot in slots:
            alone = compile_path(path).read(payload)
            assert repr(results[slot]) == repr(None if alone is MISSING else alone)


def test_shapes_are_remembered_within_bounds() -> None:
    extraction = Extraction()
    slot = extraction.slot("wanted", "here")
    extraction.freeze()
    for i in range(1000):
        assert extraction.read({f"key{i}": 0, "Wanted": i})[slot] == i
    assert len(extraction._root.shapes) <= 64
    assert extraction.read({**{f"k{i}": 0 for i in range(5000)}, "WANTED": 1})[slot] == 1
    assert all(len(shape) < 5000 for shape in extraction._root.shapes)
