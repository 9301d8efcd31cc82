"""Computes what is known of a message before its key is locked: event, key and delivery id. Pure.

Done on arrival, while the previous batch is being committed. The result is used if the configuration is still the same
when the message is decided.
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

#: A delivery's lookup key: the integration, and the SHA-256 of the sender's delivery id.
type DeliveryKey = tuple[int, bytes]


class PreprocessedMessage(msgspec.Struct, frozen=True):
    """A message as normalized for `door`. `outcome` is None if the integration is disabled: nothing is parsed then."""

    door: CompiledIntegration
    outcome: NormalizedEvent | Rejected | None
    #: SHA-256 of the dedup key.
    key: bytes | None = None
    delivery: DeliveryKey | None = None
    #: Scopes to lock and count in addition to the key.
    scopes: LockScopes | None = None


def prepare(
    door: CompiledIntegration,
    element: Element | Rejected,
    message_id: UUID,
    *,
    test_id: str = "",
    is_replay: bool = False,
) -> PreprocessedMessage:
    """Normalizes one message. A replay has no delivery id; a test never shares a key with real messages."""
    if door.mode is IntegrationMode.DISABLED:
        return PreprocessedMessage(door, None)
    if door.problem is not None:
        return PreprocessedMessage(door, door.problem, fail_open.key_of(door, test_id))
    reading = element if isinstance(element, Rejected) else door.reader.read(element)
    if isinstance(reading, Rejected):
        return PreprocessedMessage(door, reading, fail_open.key_of(door, test_id))
    text = door.dedup_key(reading)
    if text is None:
        # Without a dedup key the message is a problem of its own: the message id makes its key unique.
        text = f"{door.source}\x1f\x1f{message_id}"
    key = key_hash(f"\x1ftest\x1f{test_id}\x1f{text}" if test_id else text)
    delivery = None
    if reading.delivery_id is not None and not is_replay:
        delivery = (door.id, hashlib.sha256(reading.delivery_id.encode("utf-8", "surrogatepass")).digest())
    scopes = None
    if door.reader.shaping is not None and reading.intent is EventAction.OPEN and not test_id:
        scopes = noise_reduction.scopes_of(door, reading, key)
    return PreprocessedMessage(door, reading, key, delivery, scopes)
