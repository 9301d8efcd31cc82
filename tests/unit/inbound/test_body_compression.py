"""Stored bodies decompress to the received body."""

import os
import zlib

from hypothesis import given
from hypothesis import strategies as st

from tocsin.inbound.models import (
    COMPRESSED_PREFIX,
    MAX_COMPRESSED_BYTES,
    MAX_DECOMPRESSED_BYTES,
    MIN_COMPRESSED_BYTES,
    compress,
    decompress,
)

SAID = b'{"summary": "VPN down", "client": "Acme", "details": "The gateway does not answer."}'


@given(st.binary(max_size=3 * MIN_COMPRESSED_BYTES), st.integers(0, 400))
def test_a_body_comes_back_as_it_came(body: bytes, repeated: int) -> None:
    for one in (body, body + SAID * repeated, COMPRESSED_PREFIX + body, compress(SAID * 100) + body):
        assert decompress(compress(one)) == one


def test_large_body_is_compressed_and_small_body_is_unchanged() -> None:
    large = SAID * 400
    assert len(compress(large)) < len(large) / 5
    assert compress(SAID) == SAID


def test_incompressible_or_slow_body_is_stored_unchanged() -> None:
    noise = os.urandom(2 * MIN_COMPRESSED_BYTES)
    assert compress(noise) == noise
    huge = SAID * (MAX_COMPRESSED_BYTES // len(SAID) + 1)
    assert compress(huge) == huge


def test_body_with_compression_prefix_is_always_compressed() -> None:
    assert compress(COMPRESSED_PREFIX) != COMPRESSED_PREFIX
    assert decompress(compress(compress(SAID * 400))) == compress(SAID * 400)


def test_uncompressed_lookalike_is_read_unchanged() -> None:
    assert decompress(COMPRESSED_PREFIX + b"never packed") == COMPRESSED_PREFIX + b"never packed"


def test_one_that_waits_comes_back_as_it_came_too() -> None:
    for one in (SAID, SAID * 400, COMPRESSED_PREFIX, COMPRESSED_PREFIX + zlib.compress(SAID)):
        assert decompress(compress(one, is_pending=True)) == one
    assert compress(SAID * 400, is_pending=True) == SAID * 400


def test_oversized_or_trailing_compressed_data_is_not_ours() -> None:
    for one in (
        zlib.compress(bytes(MAX_DECOMPRESSED_BYTES + 1)),
        zlib.compress(SAID) + b"more",
        zlib.compress(SAID)[:-1],
    ):
        assert decompress(COMPRESSED_PREFIX + one) == COMPRESSED_PREFIX + one
    assert len(decompress(COMPRESSED_PREFIX + zlib.compress(bytes(MAX_DECOMPRESSED_BYTES)))) == MAX_DECOMPRESSED_BYTES
