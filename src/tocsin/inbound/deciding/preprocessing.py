"""What can be known of a message before its key is locked: its reading, key and delivery. Pure.

It is made where the message arrives, while the batch before it is being committed, and used if the configuration is
still the same when its turn comes.
"""

from __future__ import annotations

import hashlib
from uuid import UUID

import msgspec

from tocsin.core.errors import Rejected
from tocsin.core.ids import key_hash
from tocsin.inbound.config.compiled_integration import CompiledIntegration
from tocsin.inbound.config.normalizer import NormalizedEvent
from tocsin.inbound.config.rules import EventAction
from tocsin.inbound.deciding import fail_open, noise_reduction
from tocsin.inbound.deciding.state import LockScopes
from tocsin.inbound.enums import IntegrationMode
from tocsin.inbound.parsing.decode import Element

#: A delivery as it is looked up: the integration, and the SHA-256 of the sender's own id.
type DeliveryKey = tuple[int, bytes]


class PreprocessedMessage(msgspec.Struct, frozen=True):
    """A message as `door` reads it. `outcome` is None where the door is switched off: nothing is read then."""

    door: CompiledIntegration
    outcome: NormalizedEvent | Rejected | None
    #: SHA-256 of its dedup key.
    key: bytes | None = None
    delivery: DeliveryKey | None = None
    #: What is locked and counted beside the key.
    scopes: LockScopes | None = None


def prepare(
    door: CompiledIntegration,
    element: Element | Rejected,
    message_id: UUID,
    *,
    test_id: str = "",
    is_replay: bool = False,
) -> PreprocessedMessage:
    """Reads one message by its door. A replay has no delivery id; a test never shares a key with real messages."""
    if door.mode is IntegrationMode.DISABLED:
        return PreprocessedMessage(door, None)
    if door.problem is not None:
        return PreprocessedMessage(door, door.problem, fail_open.key_of(door, test_id))
    reading = element if isinstance(element, Rejected) else door.reader.read(element)
    if isinstance(reading, Rejected):
        return PreprocessedMessage(door, reading, fail_open.key_of(door, test_id))
    text = door.dedup_key(reading)
    if text is None:
        # Without a key the message is a problem of its own: nobody else can have this one.
        text = f"{door.source}\x1f\x1f{message_id}"
    key = key_hash(f"\x1ftest\x1f{test_id}\x1f{text}" if test_id else text)
    delivery = None
    if reading.delivery_id is not None and not is_replay:
        delivery = (door.id, hashlib.sha256(reading.delivery_id.encode("utf-8", "surrogatepass")).digest())
    scopes = None
    if door.reader.shaping is not None and reading.intent is EventAction.OPEN and not test_id:
        scopes = noise_reduction.scopes_of(door, reading, key)
    return PreprocessedMessage(door, reading, key, delivery, scopes)
