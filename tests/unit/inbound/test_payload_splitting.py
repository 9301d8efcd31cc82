"""Bodies with several messages, XML, and errors of a kind's hooks."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.hypothesis_profiles import examples
from tocsin.catalogue.hooks import Headers, KindHooks, Payload
from tocsin.catalogue.kinds import load_kinds
from tocsin.core.errors import Rejected
from tocsin.inbound.parsing import decode
from tocsin.inbound.parsing.decode import decode as decode_decode
from tocsin.inbound.parsing.decode import elements_of
from tocsin.inbound.storage.messages import element_of

KINDS = load_kinds()
GROUP = b'{"receiver": "r", "alerts": [{"fingerprint": "a", "status": "firing"}, {"fingerprint": "b"}, 7]}'


def test_grouped_alerts_become_separately_stored_messages() -> None:
    decoded = elements_of(KINDS["alertmanager"], GROUP, "application/json")
    assert decoded.is_array
    assert [one.payload["alert"] for one in decoded.elements if one.payload] == [
        {"fingerprint": "a", "status": "firing"},
        {"fingerprint": "b"},
        7,
    ]
    for element in decoded.elements:
        stored = element_of(element.raw, "application/json", lenient=False)
        assert not isinstance(stored, Rejected)
        assert stored.payload == element.payload
        assert elements_of(KINDS["alertmanager"], element.raw, "application/json").elements[0].raw == element.raw


@examples(150)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(["alerts", "status", "fingerprint", "labels", "endsAt", "receiver"])
                | st.text(max_size=4),
                inner,
                max_size=5,
            )
        ),
        max_leaves=20,
    ).filter(lambda value: isinstance(value, dict))
)
def test_no_payload_makes_a_kinds_code_fail(payload: Payload) -> None:
    for kind in KINDS.values():
        if kind.kind_hooks.messages is not None:
            assert all(isinstance(one, dict) for one in kind.kind_hooks.messages(payload, {}))


def test_code_that_fails_costs_its_own_message_only() -> None:
    def broken(payload: Payload, headers: Headers) -> list[Payload]:
        raise KeyError("nothing")

    kind = replace(KINDS["alertmanager"], kind_hooks=KindHooks(messages=broken))
    (element,) = elements_of(kind, GROUP, None).elements
    assert element.raw == GROUP
    assert element.problem is not None
    assert element.problem.code == "cannot_be_read"


def test_oversized_alert_group_is_rejected() -> None:
    body = b'{"alerts": [' + b",".join([b"{}"] * 1001) + b"]}"
    with pytest.raises(Rejected, match="at most 1,000"):
        elements_of(KINDS["alertmanager"], body, None)


def test_repeated_group_fields_cannot_fill_memory() -> None:
    body = b'{"groupKey": "%s", "alerts": [%s]}' % (b"k" * 4_000_000, b",".join([b"{}"] * 900))
    (element,) = elements_of(KINDS["alertmanager"], body, None).elements
    assert element.problem is not None
    assert (element.problem.code, element.raw) == ("too_large", body)
    many = b'{"alerts": [' + b"1," * 1_500_000 + b"1]}"
    started_at = time.process_time()
    with pytest.raises(Rejected, match="at most 1,000"):
        elements_of(KINDS["alertmanager"], many, None)
    assert time.process_time() - started_at < 2


# --- XML


def test_xml_reads_as_an_object() -> None:
    body = b"""<?xml version="1.0"?><a:alert xmlns:a="urn:x" id="7"><host>web1</host><note lang="en">down</note>
    <tag>a</tag><tag>b</tag><tag>c</tag>tail</a:alert>"""
    (element,) = decode_decode(body, "application/xml", lenient=False).elements
    assert element.payload == {
        "@id": "7",
        "host": "web1",
        "note": {"@lang": "en", "#text": "down"},
        "tag": ["a", "b", "c"],
        "#text": "tail",
    }
    assert element.raw == body
    (again,) = decode_decode(body, "", lenient=False).elements
    assert again.payload == element.payload


BOMB = b'<!DOCTYPE z [<!ENTITY a "aaaaaaaaaa">' + b"".join(
    b'<!ENTITY %c "&%c;&%c;&%c;">' % (98 + n, 97 + n, 97 + n, 97 + n) for n in range(20)
)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"<?xml version='1.0'?>" + BOMB + b"]><z>&t;</z>", "invalid_xml"),
        (b"<?xml version='1.0'?><!DOCTYPE z SYSTEM 'file:///etc/passwd'><z/>", "invalid_xml"),
        (b"<?xml version='1.0'?><!DOCTYPE z [<!ENTITY x SYSTEM 'http://127.0.0.1/'>]><z>&x;</z>", "invalid_xml"),
        (b"<?xml version='1.0' encoding='made-up'?><z/>", "invalid_xml"),
        (b"<?xml version='1.0'?><a><b></a>", "invalid_xml"),
        (b"<?xml version='1.0'?>", "invalid_xml"),
        (b"<?xml version='1.0'?>" + b"<a>" * 50_000, "too_deep"),
        (b"<?xml version='1.0'?><r>" + b"<a/>" * 200_000 + b"</r>", "too_many"),
        (b"<?xml version='1.0'?><r>" + b"<a b='" + b"x" * 4_000_000, "invalid_xml"),
        (b"<?xml version='1.0'?><r " + b" ".join(b"a%d='1'" % n for n in range(300_000)) + b"/>", "too_many"),
        (b"<?xml version='1.0'?><r " + b" ".join(b"a%d='1'" % n for n in range(90_000)) + b"/>", ""),
        (f"<?xml version='1.0'?><r {' '.join(f"a{n}='1'" for n in range(150_000))}/>".encode("utf-16"), "too_many"),
        (b"<?xml version='1.0'?><r>" + b"x<a/>" * 40_000 + b"</r>", ""),
        (b"\x00<?xml", "invalid_json"),
    ],
)
def test_hostile_xml_ends_quickly_in_a_sentence(body: bytes, code: str) -> None:
    started_at = time.process_time()
    if code:
        with pytest.raises(Rejected) as caught:
            decode_decode(body, "text/xml", lenient=False)
        assert caught.value.code == code
        assert len(caught.value.detail) < 200
    else:
        assert decode_decode(body, "text/xml", lenient=False).elements
    assert time.process_time() - started_at < 2


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_xml_with_a_byte_order_mark_is_xml(encoding: str) -> None:
    body = "<?xml version='1.0'?><alert><host>Zürich</host></alert>".encode(encoding)
    (element,) = decode_decode(body, "text/xml", lenient=False).elements
    assert element.payload == {"host": "Zürich"}


def test_text_alone_is_a_message_too() -> None:
    assert decode.read_xml(b"<?xml version='1.0'?><alert>it burns</alert>") == {"#text": "it burns"}
