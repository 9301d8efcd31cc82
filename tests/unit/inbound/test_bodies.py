"""Whatever is kept of a body, the body comes back as it came."""

import os
import zlib

from hypothesis import given
from hypothesis import strategies as st

from tocsin.inbound.body_compression import MARK, MAX_UNPACKED_BYTES, PACKED_FROM, PACKED_TO, body_of, kept

SAID = b'{"summary": "VPN down", "client": "Acme", "details": "The gateway does not answer."}'


@given(st.binary(max_size=3 * PACKED_FROM), st.integers(0, 400))
def test_a_body_comes_back_as_it_came(body: bytes, repeated: int) -> None:
    for one in (body, body + SAID * repeated, MARK + body, kept(SAID * 100) + body):
        assert body_of(kept(one)) == one


def test_a_large_body_takes_a_fraction_and_a_small_one_stands_as_it_came() -> None:
    large = SAID * 400
    assert len(kept(large)) < len(large) / 5
    assert kept(SAID) == SAID


def test_what_becomes_no_smaller_or_takes_long_stands_as_it_came() -> None:
    noise = os.urandom(2 * PACKED_FROM)
    assert kept(noise) == noise
    huge = SAID * (PACKED_TO // len(SAID) + 1)
    assert kept(huge) == huge


def test_a_body_that_begins_like_a_packed_one_is_packed_whatever_its_size() -> None:
    assert kept(MARK) != MARK
    assert body_of(kept(kept(SAID * 400))) == kept(SAID * 400)


def test_what_only_looks_packed_is_taken_as_it_is() -> None:
    assert body_of(MARK + b"never packed") == MARK + b"never packed"


def test_one_that_waits_comes_back_as_it_came_too() -> None:
    for one in (SAID, SAID * 400, MARK, MARK + zlib.compress(SAID)):
        assert body_of(kept(one, is_waiting=True)) == one
    assert kept(SAID * 400, is_waiting=True) == SAID * 400


def test_what_would_become_larger_than_any_body_or_has_more_behind_it_was_not_packed_here() -> None:
    for one in (zlib.compress(bytes(MAX_UNPACKED_BYTES + 1)), zlib.compress(SAID) + b"more", zlib.compress(SAID)[:-1]):
        assert body_of(MARK + one) == MARK + one
    assert len(body_of(MARK + zlib.compress(bytes(MAX_UNPACKED_BYTES)))) == MAX_UNPACKED_BYTES
