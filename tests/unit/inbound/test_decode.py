"""Decoding: every body quickly yields elements or a declared rejection."""

from __future__ import annotations

import contextlib
import json
import time

import pytest

from tocsin.core.errors import Rejected
from tocsin.inbound.parsing.decode import MAX_DEPTH, MAX_ELEMENTS, Decoded, decode

MIB = 1024 * 1024


def read(body: bytes | str, content_type: str | None = "application/json", *, lenient: bool = False) -> Decoded:
    return decode(body.encode() if isinstance(body, str) else body, content_type, lenient=lenient)


def payload(body: bytes | str, *, lenient: bool = False) -> dict[str, object]:
    (element,) = read(body, lenient=lenient).elements
    assert element.problem is None
    assert element.payload is not None
    return element.payload


def refusal(body: bytes | str, content_type: str | None = "application/json", *, lenient: bool = False) -> Rejected:
    with pytest.raises(Rejected) as caught:
        read(body, content_type, lenient=lenient)
    return caught.value


class TestBadJson:
    @pytest.mark.parametrize(
        ("body", "place"),
        [
            ('{"a": 1, "b" 2}', "line 1 column 14"),
            ('{"a": 1,\n "b": tru}', "line 2 column 7"),
            ('{"a": "x\ny"}', "line 1 column 9"),
            ('{"a": [1, 2}', "line 1 column 12"),
            ('{"a": "x', "line 1 column 7"),
            ("hello", "line 1 column 1"),
            ('{"a": 1} x', "line 1 column 10"),
            ('{"a": 01}', "line 1 column 8"),
            ('{"a": NaN}', "line 1 column 7"),
            (b'{"a":\n "\xff"}', "line 2 column 3"),
            ('{"a": "\\q"}', "line 1 column 8"),
        ],
    )
    def test_is_refused_with_line_and_column(self, body: bytes | str, place: str) -> None:
        refused = refusal(body)
        assert refused.code == "invalid_json"
        assert refused.detail.endswith(place)

    @pytest.mark.parametrize("body", [b"", b"  \r\n", b"\x00\x00"])
    def test_empty_body_is_reported(self, body: bytes) -> None:
        assert "empty" in refusal(body).detail

    def test_an_empty_array_holds_no_message(self) -> None:
        assert "no message" in refusal("[]").detail

    @pytest.mark.parametrize(
        ("body", "what"), [("3", "a number"), ('" "', "a text"), ("null", "null"), ("true", "true")]
    )
    def test_a_bare_value_is_named(self, body: str, what: str) -> None:
        assert what in refusal(body).detail

    def test_the_place_is_that_of_the_original_even_after_mending(self) -> None:
        assert refusal('{"a": "x\ny",\n "b": [1,],\n "c": oops}', lenient=True).detail.endswith("line 4 column 7")


class TestQuotedBody:
    @pytest.mark.parametrize(
        ("body", "expected"),
        [
            ('"CRITICAL: db1 is down"', {"message": "CRITICAL: db1 is down"}),
            ('["Pump 2 failed", "site: Nord"]', {"message": "Pump 2 failed\nsite: Nord"}),
            (json.dumps('{"host": "db1"}'), {"host": "db1"}),
            (json.dumps('<?xml version="1.0"?><a><host>db1</host></a>'), {"host": "db1"}),
            (json.dumps("{db1} is down"), {"message": "{db1} is down"}),
        ],
    )
    def test_text_in_json_is_read_as_what_it_holds(self, body: str, expected: dict[str, object]) -> None:
        assert payload(body) == expected

    def test_ticket_is_never_a_bare_text(self) -> None:
        assert "a text" in refusal('"db1 is down"', lenient=True).detail
        assert payload(json.dumps('{"id": 7}'), lenient=True) == {"id": 7}


class TestStrangeButGood:
    def test_of_a_doubled_key_the_last_counts(self) -> None:
        assert payload('{"a": 1, "a": 2}') == {"a": 2}

    def test_lone_surrogates_become_the_replacement_character(self) -> None:
        (element,) = read(r'{"a": "x\ud800y", "b": "\ud83d\ude00", "c": "\\ud800"}').elements
        assert element.payload == {"a": "x\ufffdy", "b": "\U0001f600", "c": "\\ud800"}
        assert any(note.code == "json.lone_surrogate" for note in element.notes)

    def test_numbers_beyond_a_float_stay_text(self) -> None:
        assert payload('{"a": 1e400000, "b": -1e999}') == {"a": "1e400000", "b": "-1e999"}

    def test_huge_integers_are_kept(self) -> None:
        digits = "9" * 100_000
        assert payload(f'{{"a": {digits}}}') == {"a": digits}
        assert payload('{"a": 123456789012345678901234567890}') == {"a": 123456789012345678901234567890}

    def test_an_escaped_nul_is_kept_for_the_mapping_to_clean(self) -> None:
        assert payload(r'{"a": "x\u0000y"}') == {"a": "x\x00y"}

    def test_leading_white_space_is_no_matter(self) -> None:
        assert payload(' \r\n\t{"a": 1}') == {"a": 1}

    @pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
    def test_a_byte_order_mark_is_read_and_noted(self, encoding: str) -> None:
        (element,) = read('{"a": "é"}'.encode(encoding)).elements
        assert element.payload == {"a": "é"}
        assert [note.code for note in element.notes] == ["json.byte_order_mark"]

    def test_a_charset_is_respected(self) -> None:
        (element,) = read('{"a": "Zürich"}'.encode("latin-1"), "application/json; charset=ISO-8859-1").elements
        assert element.payload == {"a": "Zürich"}

    @pytest.mark.parametrize("content_type", [None, "", "text/plain", "application/json; charset=hex", "x;;=\x00;é"])
    def test_whatever_the_content_type_says_json_is_json(self, content_type: str | None) -> None:
        assert read('{"a": "é"}', content_type).elements[0].payload == {"a": "é"}

    def test_json_sent_by_curl_as_a_form_is_json(self) -> None:
        assert read('{"a": 1}', "application/x-www-form-urlencoded").elements[0].payload == {"a": 1}

    def test_lines_of_objects_are_one_message_each(self) -> None:
        decoded = read('{"a": 1}\n{"a": 2}\n', "application/x-ndjson")
        assert [(element.payload, element.raw) for element in decoded.elements] == [
            ({"a": 1}, b'{"a": 1}'),
            ({"a": 2}, b'{"a": 2}'),
        ]

    def test_a_text_is_the_message_of_its_object(self) -> None:
        assert read("Disk full", "text/plain").elements[0].payload == {"message": "Disk full"}
        sent_by_curl = read("Disk of db1 is full", "application/x-www-form-urlencoded")
        assert sent_by_curl.elements[0].payload == {"message": "Disk of db1 is full"}
        assert refusal("Disk full", "text/plain", lenient=True).code == "invalid_json"

    @pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded"])
    @pytest.mark.parametrize("body", ["[OK] Disk of db1", "[PROBLEM - db1 is DOWN]\n\nPING - loss = 100%"])
    def test_a_text_may_begin_with_a_bracket(self, body: str, content_type: str) -> None:
        assert read(body, content_type).elements[0].payload == {"message": body}
        assert refusal(body, "application/json").code == "invalid_json"

    def test_a_form_without_encoding_is_a_form(self) -> None:
        sent_by_curl = read("text=Disk is full&host=db1", "application/x-www-form-urlencoded")
        assert sent_by_curl.elements[0].payload == {"text": "Disk is full", "host": "db1"}
        text = "PING of db1 - loss = 100%"
        assert read(text, "application/x-www-form-urlencoded").elements[0].payload == {"message": text}

    def test_a_single_message_keeps_its_own_bytes(self) -> None:
        body = b' {"a" : 1}\n'
        assert read(body).elements[0].raw == body
        assert not read(body).is_array


class TestHostile:
    """Each of these took seconds, memory or a crash in some reader somewhere."""

    @pytest.mark.parametrize("lenient", [False, True])
    @pytest.mark.parametrize(
        "body",
        [
            b"[" * 100_000,
            b'{"a":' * 100_000,
            b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
            b'{"a":' + b"[" * (MAX_DEPTH + 10) + b"]" * (MAX_DEPTH + 10) + b"}",
            b"[" + b"[" * 100_000 + b"]" * 100_000 + b"]",
        ],
        ids=["open lists", "open objects", "closed", "just over the limit", "in an array"],
    )
    def test_what_is_nested_too_deep_is_refused(self, body: bytes, lenient: bool) -> None:
        assert refusal(body, lenient=lenient).code == "too_deep"

    def test_what_is_nested_as_deep_as_allowed_is_read(self) -> None:
        assert payload(b'{"a":' + b"[" * (MAX_DEPTH - 2) + b"]" * (MAX_DEPTH - 2) + b"}")

    def test_wide_but_shallow_brackets_are_parsed(self) -> None:
        assert payload(b'{"a":[' + b"[]," * 5000 + b"[]]}")

    @pytest.mark.parametrize("lenient", [False, True])
    @pytest.mark.parametrize(
        "body",
        [
            b'{"id":"' + b"x" * (5 * MIB) + b'"}',
            b'{"id":"' + b"x" * (5 * MIB) + b'\n"}',
            b'{"a":[' + b"1," * 2_000_000 + b"1]}",
            b"[" + b"1," * 2_000_000 + b"1]",
            b'{"a":"' + b'"' * (5 * MIB),
            b'{"a":"' + b'",' * (2 * MIB) + b'"}',
            b'["' + b'\\"' * (2 * MIB),
            b'{"a":1' + b"," * (5 * MIB) + b"}",
            b'{"a":1' + b",  " * MIB + b"}",
            b'{"a":"' + b"\\" * (5 * MIB),
            b'{"a":"' + b"\xff" * (5 * MIB) + b'"}',
            b"\x00" * (5 * MIB),
            b'{"a":"' + b"\n" * (5 * MIB),
            b'{"a":' + b"9" * (5 * MIB) + b"}",
            b"{" + b",".join(b'"%d":1' % i for i in range(300_000)) + b",}",
        ],
        ids=lambda body: body[:12].decode("latin-1") + f"…{len(body)}",
    )
    def test_five_mebibytes_end_in_time(self, body: bytes, lenient: bool) -> None:
        started = time.perf_counter()
        with contextlib.suppress(Rejected):
            read(body, lenient=lenient)
        assert time.perf_counter() - started < 10  # a quadratic reader takes minutes; this one well under a second


class TestArrays:
    def test_each_element_has_its_own_bytes(self) -> None:
        decoded = read('[ {"a": 1},\n{"b" : [2, {}]} ]')
        assert decoded.is_array
        assert [element.raw for element in decoded.elements] == [b'{"a": 1}', b'{"b" : [2, {}]}']

    def test_an_element_that_is_no_object_fails_alone(self) -> None:
        first, second, third, fourth = read('[{"a": 1}, 7, [1], {"b": 2}]').elements
        assert (first.payload, fourth.payload) == ({"a": 1}, {"b": 2})
        assert second.problem is not None
        assert "a number" in second.problem.detail
        assert third.problem is not None
        assert (second.raw, third.raw) == (b"7", b"[1]")

    def test_an_element_nested_too_deep_fails_alone(self) -> None:
        good, deep = read(b'[{"a": 1}, {"b":' + b"[" * 600 + b"]" * 600 + b"}]").elements
        assert good.problem is None
        assert deep.problem is not None
        assert deep.problem.code == "too_deep"

    def test_a_thousand_elements_are_read_and_one_more_is_refused(self) -> None:
        assert len(read("[" + ",".join(["{}"] * MAX_ELEMENTS) + "]").elements) == MAX_ELEMENTS
        assert refusal("[" + ",".join(["{}"] * (MAX_ELEMENTS + 1)) + "]").code == "too_many"
        broken = ",".join(['{"a": "x\n"}'] * (MAX_ELEMENTS + 1))
        assert refusal(f"[{broken}]", lenient=True).code == "too_many"

    def test_a_broken_array_is_refused_whole_by_a_strict_kind(self) -> None:
        assert refusal('[{"a": 1}, {"b": "x\ny"}]').detail.endswith("line 1 column 20")

    def test_strange_elements_of_a_strict_kind_are_read(self) -> None:
        decoded = read(r'[{"a": "\ud800"}, {"b": 1e400000}, {"c": 1}]')
        assert [element.payload for element in decoded.elements] == [{"a": "\ufffd"}, {"b": "1e400000"}, {"c": 1}]
        assert decoded.elements[1].raw == b'{"b": 1e400000}'

    def test_a_lenient_kind_mends_each_element_and_keeps_its_bytes(self) -> None:
        decoded = read('[{"a": "x\ny"}, {"b": 1,}, {"c": oops}, {"d": "]"},]', lenient=True)
        assert [element.payload for element in decoded.elements] == [{"a": "x\ny"}, {"b": 1}, None, {"d": "]"}]
        assert [element.raw for element in decoded.elements][1] == b'{"b": 1,}'
        assert decoded.elements[2].problem is not None
        assert decoded.elements[2].problem.code == "invalid_json"

    def test_bad_bytes_in_one_element_do_not_stop_the_others(self) -> None:
        decoded = read(b'[{"a": "\xff"}, {"b": 2}]', lenient=True)
        assert [element.payload for element in decoded.elements] == [{"a": "\ufffd"}, {"b": 2}]


class TestLenient:
    @pytest.mark.parametrize(
        ("body", "value", "note"),
        [
            ('{"a": "x\r\n\r\ny"}', "x\r\n\r\ny", "a raw line break in a string at line 1"),
            ('{\n"b": 1,\n"a": "x\ty\x01"}', "x\ty\x01", "a raw control character in a string at line 3"),
            ('{"a": "x",\n}', "x", "a trailing comma at line 1"),
            ('{"a": [1, 2,]}', [1, 2], "a trailing comma at line 1"),
            ('{"b": ,"a": "x"}', "x", "a missing value at line 1"),
            (b'{"a": "x\xffy"}', "x\ufffdy", "bytes that are not UTF-8 at line 1"),
            (
                '{"a": "C:\\Program Files\\x"}',
                "C:\\Program Files\\x",
                "an invalid escape sequence in a string at line 1",
            ),
            ('{"a": "he said "no" twice", "b": 1}', 'he said "no" twice', "a quote inside a string at line 1"),
            ('{"a": NaN}', None, "NaN, which is not a JSON value, at line 1"),
        ],
    )
    def test_template_damaged_json_is_repaired_and_reported(self, body: bytes | str, value: object, note: str) -> None:
        (element,) = read(body, lenient=True).elements
        assert element.payload is not None
        assert element.payload["a"] == value
        assert f"parsed leniently: {note}" in [str(one) for one in element.notes]

    def test_several_repairs_are_all_reported(self) -> None:
        body = b'\xef\xbb\xbf{"a": "one\ntwo \xff",\n"b": ["x",],\n}'
        (element,) = read(body, lenient=True).elements
        assert element.payload == {"a": "one\ntwo \ufffd", "b": ["x"]}
        assert len(element.notes) == 4
        assert element.raw == body

    def test_a_comma_in_brackets_inside_a_string_is_left_alone(self) -> None:
        assert payload('{"a": "[1,]\n", "b": ":,"}', lenient=True) == {"a": "[1,]\n", "b": ":,"}

    def test_good_json_is_never_touched(self) -> None:
        body = json.dumps({"a": 'say "hi", or ",}"', "b": ["\\", "\\\\", "x\n"]})
        (element,) = read(body, lenient=True).elements
        assert element.payload == json.loads(body)
        assert element.notes == ()

    @pytest.mark.parametrize(
        ("body", "code"),
        [
            ('{"a": "\\x"}', "invalid escape sequence"),
            ('{"a": "\n"}', "a raw control character in a string"),
            ('{"a": "x', "unterminated string"),
            ('{"a": 1} x', "extra text after the end"),
            ('{"a": }', "expecting a value"),
        ],
    )
    def test_problem_of_json_has_its_code(self, body: str, code: str) -> None:
        assert code in str(refusal(body).reason.data)

    def test_what_cannot_be_mended_is_refused_with_its_place(self) -> None:
        assert refusal('{"a": "x\ny", oops}', lenient=True).detail.endswith("line 2 column 5")


class TestForms:
    FORM = "application/x-www-form-urlencoded"

    def test_fields_become_an_object_and_repeated_ones_a_list(self) -> None:
        decoded = read("a=1&b=Z%C3%BCrich+x&a=2&c=", self.FORM)
        assert decoded.elements[0].payload == {"a": ["1", "2"], "b": "Zürich x", "c": ""}

    def test_bad_escapes_and_bytes_are_replaced(self) -> None:
        assert read(b"a=%FF&b=\xff&%zz=1", self.FORM).elements[0].payload == {"a": "\ufffd", "b": "\ufffd", "%zz": "1"}

    def test_excessive_fields_are_rejected(self) -> None:
        assert refusal("&".join(["a=1"] * 20_000), self.FORM).code == "invalid_form"

    def test_an_empty_form_is_refused(self) -> None:
        assert refusal("", self.FORM).code == "invalid_form"

    def test_a_multipart_form_is_read(self) -> None:
        body = (
            b'preamble\r\n--XX\r\nContent-Disposition: form-data; name="a"\r\n\r\nline one\r\nline two\r\n'
            b"--XX\r\nContent-Type: text/plain\r\nContent-Disposition: form-data; name=b\r\n\r\nZ\xc3\xbcrich\r\n"
            b'--XX\r\nContent-Disposition: form-data; name="f"; filename="x.png"\r\n\r\n\x89PNG\r\n--XX--\r\n'
        )
        assert read(body, "multipart/form-data; boundary=XX").elements[0].payload == {
            "a": "line one\r\nline two",
            "b": "Zürich",
            "f": {"filename": "x.png", "size": 4},
        }

    @pytest.mark.parametrize(
        ("body", "content_type"),
        [
            (b"--XX--\r\n", "multipart/form-data"),
            (b"--XX--\r\n", "multipart/form-data; boundary=XX"),
            (b"nothing", "multipart/form-data; boundary=XX"),
            (b'--XX\r\nContent-Disposition: form-data; name="a"\r\n\r\ncut', "multipart/form-data; boundary=XX"),
            (b"--XX\r\nX: y\r\n\r\nvalue\r\n--XX--", "multipart/form-data; boundary=XX"),
            (b"--XX\r\n\r\n" * 5000 + b"--XX--", "multipart/form-data; boundary=XX"),
        ],
    )
    def test_a_broken_multipart_form_is_refused(self, body: bytes, content_type: str) -> None:
        assert refusal(body, content_type).code == "invalid_form"
