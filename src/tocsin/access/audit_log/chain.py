"""The hash chain of the audit log: each entry's hash covers its values and the previous hash. Pure.

What may name a person is covered by a salted hash of its own. Erasing a person replaces these values and forgets the
salt, so the chain stays whole and nobody can guess the erased values from the hash. An entry `erase` of the log names
each erased entry with the hash of what is left of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

#: The previous hash of the first entry.
GENESIS = bytes(32)

SALT_BYTES = 16


@dataclass(frozen=True, slots=True)
class ChainEntry:
    """The columns of an entry that the chain covers. `before` and `after` are the texts of jsonb."""

    id: int
    at: datetime
    actor_id: int | None
    actor_name: str
    action: str
    object_type: str
    object_id: str
    object_name: str
    group_id: int | None
    before: str | None
    after: str | None
    via: str
    address: str | None


@dataclass(frozen=True, slots=True)
class Link:
    """The place of an entry in the chain. `salt` is None once the entry was erased."""

    sequence: int
    hash: bytes
    content_hash: bytes
    salt: bytes | None


class Damage(StrEnum):
    """What is wrong with an entry of the chain."""

    MISSING = "missing"
    CHANGED = "changed"
    ERASED = "erased"


@dataclass(frozen=True, slots=True)
class BrokenLink:
    """The first place at which the chain is broken. `entry_id` is None for a missing entry."""

    sequence: int
    entry_id: int | None
    damage: Damage


def link_entry(entry: ChainEntry, sequence: int, previous_hash: bytes, salt: bytes) -> Link:
    """Returns the link of an entry that follows `previous_hash`."""
    content_hash = hashlib.sha256(salt + _content(entry)).digest()
    return Link(sequence, _hash(entry, sequence, previous_hash, content_hash), content_hash, salt)


def erased_digest(entry: ChainEntry) -> str:
    """Returns the hash, in hex, of what an erasure left of an entry's content."""
    return hashlib.sha256(_content(entry)).hexdigest()


def find_damage(
    entry: ChainEntry, link: Link, sequence: int, previous_hash: bytes, erased: Mapping[int, str]
) -> BrokenLink | None:
    """Returns what is wrong with the entry that should have `sequence`; None if nothing is.

    `erased` has the digest of each erased entry, by its id.
    """
    if link.sequence != sequence:
        return BrokenLink(sequence, None, Damage.MISSING)
    if _hash(entry, sequence, previous_hash, link.content_hash) != link.hash:
        return BrokenLink(sequence, entry.id, Damage.CHANGED)
    if link.salt is None:
        is_recorded = erased.get(entry.id) == erased_digest(entry)
        return None if is_recorded else BrokenLink(sequence, entry.id, Damage.ERASED)
    if hashlib.sha256(link.salt + _content(entry)).digest() != link.content_hash:
        return BrokenLink(sequence, entry.id, Damage.CHANGED)
    return None


def read_erasures(states: Iterable[Mapping[str, Mapping[str, str]]]) -> dict[int, str]:
    """Returns the digest of each erased entry by its id, from the `after` of all entries `erase`, oldest first."""
    return {int(number): digest for state in states for number, digest in state.get("entries", {}).items()}


def _hash(entry: ChainEntry, sequence: int, previous_hash: bytes, content_hash: bytes) -> bytes:
    at = entry.at.astimezone(UTC).isoformat(timespec="microseconds")
    values = (
        sequence, entry.id, at, entry.actor_id, entry.action, entry.object_type, entry.object_id, entry.group_id,
        entry.via, content_hash.hex(),
    )  # fmt: skip
    return hashlib.sha256(previous_hash + _canonical(values)).digest()


def _content(entry: ChainEntry) -> bytes:
    return _canonical((entry.actor_name, entry.object_name, entry.before, entry.after, entry.address))


def _canonical(values: tuple[object, ...]) -> bytes:
    return json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode()
