"""YAML 1.2 core schema with line numbers; invalid configuration is rejected with its location."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.configure import plan, yaml_loader
from tocsin.configure.yaml_loader import YamlDocument
from tocsin.core.errors import Rejected


def parse(text: bytes | str) -> YamlDocument:
    return yaml_loader.parse(text, "f.yaml", Path())


BOMB = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + level)}: &{chr(98 + level)} [{','.join([f'*{chr(97 + level)}'] * 10)}]\n" for level in range(8)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", 'f.yaml:3: the key "a" is there twice'),
        ("a:\n  ? [1]\n  : 2", "f.yaml:2: a key must be text"),
        ("a: 1\nb: [", "f.yaml:2: is not YAML"),
        ("a:\n\t- b", "f.yaml:2: is not YAML"),
        ("a: 1\nb: !secret x", 'f.yaml:2: the tag "!secret" is not known'),
        ("a: !!python/object:os.system x", "f.yaml:1: the tag"),
        ("---\na: 1\n---\nb: 1\n", "f.yaml:3: is not YAML: expected a single document"),
        ("a: *nobody", "f.yaml:1: is not YAML"),
        ("a:\n%YAML 9.9\n  b: 1", "f.yaml: the version of its %YAML line is not known"),
        ("[" * 5000, "nested too deeply"),
        ("a: &x [*x]", "nested too deeply"),
        (BOMB, "more than 500,000 values"),
        (b"a: 1\nb: \xff", "f.yaml:2: is not UTF-8"),
        ("a: \x00", "is not YAML"),
    ],
)
def test_what_is_no_configuration_is_refused_with_its_line(text: bytes | str, message: str) -> None:
    with pytest.raises(Rejected) as raised:
        parse(text)
    assert message in raised.value.detail
    assert "\n" not in raised.value.detail


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("on", "on"),
        ("no", "no"),
        ("off", "off"),
        ("yes", "yes"),
        ("2026-01-05", "2026-01-05"),
        ("09:00", "09:00"),
        ("1_000", "1_000"),
        ("<<", "<<"),
        ("=", "="),
        ("true", True),
        ("False", False),
        ("~", None),
        ("null", None),
        ("", None),
        ("5", 5),
        ("-5", -5),
        ("017", 17),
        ("0o17", 15),
        ("0xff", 255),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        (".inf", ".inf"),
        ("'5'", "5"),
        ('"true"', "true"),
        ("!!str 5", "5"),
        ("9" * 60, "9" * 60),
    ],
)
def test_a_plain_value_is_what_the_core_schema_says(written: str, value: object) -> None:
    read = parse(f"key: {written}\n").value["key"]
    assert read == value
    assert type(read) is type(value)


def test_every_key_is_read_as_text() -> None:
    assert parse("{1: New, on: x, true: y}").value == {"1": "New", "on": "x", "true": "y"}


def test_a_byte_order_mark_is_no_part_of_the_text() -> None:
    assert parse(b"\xef\xbb\xbfa: 1").value == {"a": 1}


TEXT = """\
users:
  - username: alice
    contact_methods:
      - label: Mail
        channel: email
      - {label: SMS, channel: sms}
  - username: bob
    custom:
      a.b: 1
"""


@pytest.mark.parametrize(
    ("base", "place", "line"),
    [
        ((), None, 1),
        (("users", 0), None, 2),
        (("users", 0), "username", 2),
        (("users", 0), "contact_methods[0].channel", 5),
        (("users", 0), "contact_methods[1].channel", 6),
        (("users", 0), "contact_methods[1].address", 6),
        (("users", 0), "contact_methods[7]", 3),
        (("users", 0), "email", 2),
        (("users", 1), "custom.a.b", 9),
        (("users", 1), "nothing.at[3].all", 7),
    ],
)
def test_path_has_its_line_or_that_of_nearest_ancestor(base: Any, place: str | None, line: int) -> None:
    assert parse(TEXT).line(base, place) == line


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(Rejected, match="cannot be read"):
            yaml_loader.read(path)


@given(st.text(max_size=300) | st.binary(max_size=300))
def test_nothing_but_the_declared_refusal_comes_out(text: bytes | str) -> None:
    with suppress(Rejected):
        parse(text)


WORDS = st.text(st.characters(exclude_categories=["Cs", "Cc"]) | st.just("\n"), max_size=20) | st.sampled_from(
    [
        "on",
        "no",
        "null",
        "true",
        "~",
        "1",
        "0x1",
        "1e3",
        "09:00",
        "2026-01-05",
        "<<",
        "=",
        "",
        " ",
        "a: b",
        "# x",
        "- x",
    ]
)
VALUES = st.recursive(
    WORDS | st.booleans() | st.integers(-(10**9), 10**9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS.filter(bool), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.sampled_from(["users", "groups", "settings"]), VALUES, min_size=1))
def test_what_is_exported_reads_back_the_same(value: dict[str, Any]) -> None:
    assert parse(plan.write(value)).value == value


@pytest.mark.parametrize("word", ["? x", "?", ":fire:", ":a_", "a\x85b", "a\u2028b", "\ufeffx", "a\n\x85"])
def test_ambiguous_yaml_words_are_exported_in_quotes_everywhere(word: str) -> None:
    condition = {"field": word, "operator": "contains", "value": [word]}
    value = {"users": [word, {"name": word, word: {word: word}}], "groups": {"when": condition, "tags": {word: word}}}
    assert parse(plan.write(value)).value == value


def test_too_large_file_is_rejected_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml_loader, "MAX_FILE_BYTES", 1024 * 1024)
    (tmp_path / "all.yaml").write_bytes(b"#" * (1024 * 1024 + 1))
    with pytest.raises(Rejected, match=r"all\.yaml: is larger than 1 MiB"):
        yaml_loader.read(tmp_path / "all.yaml")
