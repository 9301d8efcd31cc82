"""One message of a batch: as normalized, as decided, and as the row and result that follow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tocsin.core.errors import Rejected
from tocsin.inbound.config.compiled_integration import CompiledIntegration
from tocsin.inbound.config.normalizer import NormalizedEvent
from tocsin.inbound.config.registry import IntegrationRegistry
from tocsin.inbound.config.rules import EventAction
from tocsin.inbound.deciding import echo_suppression, reasons
from tocsin.inbound.deciding.preprocessing import DeliveryKey, prepare
from tocsin.inbound.deciding.state import Decision, LockScopes
from tocsin.inbound.enums import MessageStatus
from tocsin.inbound.storage.messages import IncomingMessage, MessageResult, MessageRow


@dataclass(slots=True)
class BatchItem:
    """A message with its integration and key. Without a decision it stays Pending."""

    incoming: IncomingMessage
    integration: CompiledIntegration
    #: None: the integration is disabled.
    event: NormalizedEvent | Rejected | None
    key_hash: bytes | None
    delivery: DeliveryKey | None
    scopes: LockScopes | None
    decision: Decision | None = None
    #: Whether its ticket is fetched before it is decided.
    needs_ticket_fetch: bool = False

    @property
    def may_open(self) -> bool:
        """Whether deciding the message may need the id of a new alert."""
        event = self.event
        return event is not None and (isinstance(event, Rejected) or event.action is EventAction.OPEN)

    @property
    def may_end_another(self) -> bool:
        """Whether it ends something, and maybe an alert that has another id."""
        event, incoming = self.event, self.incoming
        is_real = incoming.test_user_id is None and incoming.replay_of is None
        return is_real and isinstance(event, NormalizedEvent) and event.is_ending_unknown

    @property
    def ticket(self) -> tuple[int, str] | None:
        """The outbound integration and ticket that own writes are known by."""
        outbound_id, event = self.integration.outbound_id, self.event
        if outbound_id is None or not isinstance(event, NormalizedEvent) or not event.source_id:
            return None
        return outbound_id, event.source_id


def normalize(registry: IntegrationRegistry, incoming: IncomingMessage) -> BatchItem:
    """Returns the message as preprocessed on arrival, or anew if its integration has changed since."""
    integration = registry.get(incoming.integration_id)
    prepared = incoming.preprocessed
    if prepared is None or prepared.integration is not integration:
        is_replay = incoming.replay_of is not None
        prepared = prepare(integration, incoming.element, incoming.id, test_id=incoming.test_id, is_replay=is_replay)
    return BatchItem(incoming, integration, prepared.outcome, prepared.key_hash, prepared.delivery, prepared.scopes)


def needs_ticket_fetch(item: BatchItem, *, is_draining: bool) -> bool:
    """Returns whether the message waits for its ticket to be fetched: at most once, and never for a replay."""
    incoming = item.incoming
    if (
        not isinstance(item.event, NormalizedEvent)
        or incoming.replay_of is not None
        or incoming.test_user_id is not None
    ):
        return False
    if is_draining:
        return incoming.is_awaiting_ticket
    return echo_suppression.needs_ticket_fetch(item.integration, item.event)


def result_of(item: BatchItem) -> MessageResult:
    """Returns the message's result for its sender and its row."""
    decision = item.decision
    if decision is None:
        reason = reasons.FETCHING_TICKET() if item.needs_ticket_fetch else reasons.PENDING()
        return MessageResult(MessageStatus.PENDING, reason)
    is_failed = decision.status is MessageStatus.FAILED
    code = item.event.code if is_failed and isinstance(item.event, Rejected) else None
    return MessageResult(decision.status, decision.reason, decision.alert_id, code)


def row_of(item: BatchItem, result: MessageResult) -> MessageRow:
    """Returns the message's row."""
    incoming, event = item.incoming, item.event
    verdict: Mapping[str, object] = item.decision.verdict if item.decision is not None else incoming.pending_context
    if item.needs_ticket_fetch:
        verdict = {**verdict, echo_suppression.TICKET_FETCH: echo_suppression.FETCH_REQUESTED}
    if result.status is MessageStatus.DELAYED and incoming.pending_context:
        verdict = {**verdict, **incoming.pending_context}
    key_hash = item.key_hash if result.status in (MessageStatus.PENDING, MessageStatus.DELAYED) else None
    version_id = item.integration.version_id
    if not isinstance(event, NormalizedEvent):
        return MessageRow(incoming, result, version_id=version_id, verdict=verdict, key_hash=key_hash)
    text = event.mapped.text
    return MessageRow(
        incoming,
        result,
        event.source_id or "",
        text("source_status") or "",
        text("subject") or "",
        version_id,
        verdict,
        key_hash,
    )
