"""Identifiers: time-ordered, unique and of the stated version."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from tocsin.core.ids import advisory_lock_key, first_uuid7, key_hash, token, token_hash, uuid7, uuid7_clock


def test_uuids_rise_even_within_one_millisecond_and_say_version_7() -> None:
    made = [uuid7() for _ in range(5_000)]
    assert made == sorted(made)
    assert len(set(made)) == len(made)
    assert {(one.version, one.variant) for one in made} == {(7, UUID(int=0x8 << 60).variant)}


def test_uuids_of_several_threads_never_meet() -> None:
    made: list[list[UUID]] = [[] for _ in range(4)]
    threads = [threading.Thread(target=lambda own=own: own.extend(uuid7() for _ in range(2_000))) for own in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({one for own in made for one in own}) == 8_000


def test_a_token_is_32_lower_case_hex_characters() -> None:
    assert re.fullmatch("[0-9a-f]{32}", token())
    assert len(token_hash(token())) == 32


@given(st.text())
def test_any_key_has_hash_and_64_bit_lock_number(text: str) -> None:
    number = advisory_lock_key(key_hash(text))
    assert -(2**63) <= number < 2**63


def test_a_lone_surrogate_in_a_key_is_no_error() -> None:
    assert key_hash("\ud800") != key_hash("\ud801")


def test_a_forked_process_makes_numbers_of_its_own() -> None:
    script = """
import os
from tocsin.core import ids

ids.uuid7()
hears, says = os.pipe()
if os.fork() == 0:
    os.write(says, ids.uuid7().bytes[8:])
    os._exit(0)
assert os.read(hears, 8) != ids.uuid7().bytes[8:]
os.wait()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_uuid7_of_another_clock_is_of_its_time_and_order() -> None:
    newest = uuid7()
    at = datetime(2026, 11, 24, 9, 15, tzinfo=UTC)
    with uuid7_clock(lambda: at):
        made = [uuid7() for _ in range(3)]
    assert first_uuid7(at) <= made[0] < made[1] < made[2] < first_uuid7(at + timedelta(seconds=1))
    assert uuid7() > newest
