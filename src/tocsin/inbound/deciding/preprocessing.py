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
from tocsin.inbound.config.noise_settings import RateScope, scope_hash
from tocsin.inbound.config.normalizer import NormalizedEvent
from tocsin.inbound.config.rules import EventAction
from tocsin.inbound.deciding import fail_open
from tocsin.inbound.deciding.state import LockScopes
from tocsin.inbound.enums import IntegrationMode
from tocsin.inbound.parsing.decode import Element

#: A delivery's lookup key: the integration, and the SHA-256 of the sender's delivery id.
type DeliveryKey = tuple[int, bytes]


class PreprocessedMessage(msgspec.Struct, frozen=True):
    """A message as normalized for `integration`. `outcome` is None if the integration is disabled: nothing is parsed
    then."""

    integration: CompiledIntegration
    outcome: NormalizedEvent | Rejected | None
    #: SHA-256 of the dedup key.
    key_hash: bytes | None = None
    delivery: DeliveryKey | None = None
    #: Scopes to lock and count in addition to the key.
    scopes: LockScopes | None = None


def prepare(
    integration: CompiledIntegration,
    element: Element | Rejected,
    message_id: UUID,
    *,
    test_id: str = "",
    is_replay: bool = False,
) -> PreprocessedMessage:
    """Normalizes one message. A replay has no delivery id; a test never shares a key with real messages."""
    if integration.mode is IntegrationMode.DISABLED:
        return PreprocessedMessage(integration, None)
    if integration.problem is not None:
        return PreprocessedMessage(integration, integration.problem, fail_open.key_of(integration, test_id))
    event = element if isinstance(element, Rejected) else integration.normalizer.normalize(element)
    if isinstance(event, Rejected):
        return PreprocessedMessage(integration, event, fail_open.key_of(integration, test_id))
    key_text = integration.dedup_key(event)
    if key_text is None:
        # Without a dedup key the message is a problem of its own: the message id makes its key unique.
        key_text = f"{integration.source}\x1f\x1f{message_id}"
    dedup_key_hash = key_hash(f"\x1ftest\x1f{test_id}\x1f{key_text}" if test_id else key_text)
    delivery = None
    if event.delivery_id is not None and not is_replay:
        delivery = (integration.id, hashlib.sha256(event.delivery_id.encode("utf-8", "surrogatepass")).digest())
    scopes = None
    if integration.normalizer.noise_settings is not None and event.action is EventAction.OPEN and not test_id:
        scopes = scopes_of(integration, event, dedup_key_hash)
    return PreprocessedMessage(integration, event, dedup_key_hash, delivery, scopes)


def scopes_of(integration: CompiledIntegration, event: NormalizedEvent, dedup_key_hash: bytes) -> LockScopes | None:
    """Returns the lock scopes of a message that may open; None for an integration without noise reduction."""
    noise_settings = integration.normalizer.noise_settings
    if noise_settings is None:
        return None
    group = noise_settings.group_of(event.payload, event.mapped)
    parent_source_id = noise_settings.parent_of(event.payload, event.mapped)
    parent_key_hash = None
    if parent_source_id is not None:
        key_text = (
            parent_source_id
            if integration.normalizer.has_key_template
            else f"{event.source_name}\x1f{parent_source_id}"
        )
        parent_key_hash = key_hash(f"{integration.key_source}\x1f{key_text}")
    return LockScopes(
        group=scope_hash(RateScope.GROUP, integration.id, group) if group is not None else None,
        limit=scope_hash(RateScope.LIMIT, integration.id) if noise_settings.rate_limit is not None else None,
        flapping=scope_hash(RateScope.FLAPPING, integration.id, dedup_key_hash.hex())
        if noise_settings.flapping is not None
        else None,
        alert=scope_hash(RateScope.DELAY, integration.id, dedup_key_hash.hex())
        if noise_settings.counts_alerts
        else None,
        integration=scope_hash(RateScope.DELAY, integration.id) if noise_settings.counts_integration else None,
        parent=parent_key_hash if parent_key_hash != dedup_key_hash else None,
    )
