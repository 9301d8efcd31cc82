"""Compressed bodies: gzip and deflate are restored, and a decompression bomb stops at its limit."""

from __future__ import annotations

import gzip
import time
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.core.errors import Rejected
from tocsin.inbound.parsing.decode import decompress, is_compressed

MAX_BYTES = 5 * 1024 * 1024


def _raw(body: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(body) + packer.flush()


@given(st.binary(max_size=2000))
def test_what_was_packed_comes_out_as_it_was(body: bytes) -> None:
    assert decompress(gzip.compress(body), "gzip", MAX_BYTES) == body
    assert decompress(gzip.compress(body), " X-GZIP ", MAX_BYTES) == body
    assert decompress(gzip.compress(body) + gzip.compress(b"more"), "gzip", MAX_BYTES) == body + b"more"
    assert decompress(zlib.compress(body), "deflate", MAX_BYTES) == body
    assert decompress(_raw(body), "deflate", MAX_BYTES) == body


@given(st.binary(max_size=200), st.sampled_from(["gzip", "deflate", "br", "zstd", "gzip, gzip", "\x00"]))
def test_whatever_comes_the_end_is_bytes_or_a_declared_refusal(body: bytes, encoding: str) -> None:
    code = ""
    try:
        found_body = decompress(body, encoding, MAX_BYTES)
    except Rejected as rejected:
        code = rejected.code
    else:
        assert isinstance(found_body, bytes)
    assert code in ("", "unknown_encoding", "invalid_encoding", "too_large")


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress, _raw])
def test_decompression_bomb_stops_at_limit_within_bounded_memory(pack) -> None:  # type: ignore[no-untyped-def]
    bomb = pack(b"\0" * (48 * 1024 * 1024))
    assert len(bomb) < 1024 * 1024
    tracemalloc.start()
    try:
        with pytest.raises(Rejected) as caught:
            decompress(bomb, "gzip" if pack is gzip.compress else "deflate", MAX_BYTES)
        assert tracemalloc.get_traced_memory()[1] < 4 * MAX_BYTES
    finally:
        tracemalloc.stop()
    assert caught.value.code == "too_large"


def test_gzip_members_form_one_body_with_one_limit() -> None:
    with pytest.raises(Rejected, match="exceeds 5 MiB"):
        decompress(gzip.compress(b"\0" * 2**20) * 6, "gzip", MAX_BYTES)


def test_the_limit_itself_may_be_reached() -> None:
    assert len(decompress(gzip.compress(b"\0" * MAX_BYTES), "gzip", MAX_BYTES)) == MAX_BYTES


@pytest.mark.parametrize(
    "body", [gzip.compress(b"{}", mtime=0)[:-3], b"{}", b"", gzip.compress(b"{}", mtime=0) + b"rest"]
)
def test_bytes_not_matching_their_encoding_are_rejected_with_reason(body: bytes) -> None:
    with pytest.raises(Rejected, match="not valid gzip, or is truncated") as caught:
        decompress(body, "gzip", MAX_BYTES)
    assert caught.value.code == "invalid_encoding"


def test_nothing_and_identity_are_not_packed() -> None:
    assert [is_compressed(one) for one in ("", "identity", "Identity ", "gzip")] == [False, False, False, True]


def test_excessive_gzip_members_are_rejected_quickly() -> None:
    member = gzip.compress(b"x")
    assert decompress(member * 1_000, "gzip", MAX_BYTES) == b"x" * 1_000
    began = time.process_time()
    with pytest.raises(Rejected, match="more than 1,000 members"):
        decompress(member * 200_000, "gzip", MAX_BYTES)
    assert time.process_time() - began < 5
