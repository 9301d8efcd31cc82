"""Sends one message: renders it, hands it to its provider and returns the result. Runs in a worker thread and holds no
database connection.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from tocsin.core.delivery.failure import AttemptFailed, FailureKind, failure_of
from tocsin.core.delivery.lease import LeaseLost
from tocsin.core.errors import Permanent, Rejected, Temporary
from tocsin.core.reasons import as_reason, replace_texts
from tocsin.core.runtime import tracing
from tocsin.core.runtime.tracing import Span, SpanExporter, SpanKind
from tocsin.core.validation.text_sanitizing import sanitize
from tocsin.notify.dispatch import sandbox
from tocsin.notify.dispatch.claim import DeliveryJob
from tocsin.notify.dispatch.sent_journal import SentDelivery
from tocsin.notify.interfaces import Rendered
from tocsin.notify.registry import channel
from tocsin.notify.states import DeliveryStatus, Purpose
from tocsin.notify.text.render import compose
from tocsin.people import addresses

log = logging.getLogger(__name__)

MAX_SEND_ERROR_CHARS = 500

#: A shorter address, such as the topic "a", would match in the middle of words.
_MIN_ADDRESS_CHARS = 4


@dataclass(frozen=True, slots=True)
class Accepted:
    """The provider accepted the message, or the sandbox stores it (`content`)."""

    external_id: str = ""
    content: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class SendResult:
    """The result of a job and its time."""

    job: DeliveryJob
    outcome: Accepted | AttemptFailed
    at: datetime
    #: When the attempt began; None if unknown.
    began_at: datetime | None = None


def status_of(result: SendResult) -> DeliveryStatus:
    """Returns the status of the deliveries after this attempt; a failed one may be retried."""
    if not isinstance(result.outcome, Accepted):
        return DeliveryStatus.FAILED
    is_sandboxed = result.outcome.content is not None and not sandbox.counts_as_sent
    return DeliveryStatus.SANDBOXED if is_sandboxed else DeliveryStatus.SENT


def sent_deliveries(result: SendResult) -> list[SentDelivery]:
    """Returns the deliveries of a sent message; none of a failed one, or of one that the sandbox keeps."""
    if not isinstance(result.outcome, Accepted) or status_of(result) is not DeliveryStatus.SENT:
        return []
    provider, channel = result.job.active_provider, result.job.bundle.lead.channel
    timeout = provider.receipt_timeout if provider and channel in provider.receipt_channels else None
    return [
        SentDelivery(
            due.id,
            result.outcome.external_id,
            result.at,
            timeout if due.purpose is Purpose.PAGE and due.user_id is not None else None,
        )
        for due in result.job.bundle.members
    ]


def send(job: DeliveryJob, now: Callable[[], datetime], check_lease: Callable[[], None]) -> SendResult:
    """Sends the message and returns the result. `now` is called before rendering and after sending, `check_lease` just
    before sending. Raises only its LeaseLost.
    """
    began_at = now()
    result = SendResult(job, _outcome(job, began_at, check_lease), now(), began_at)
    _log(result)
    if tracing.exporter is not None:
        _export_spans(tracing.exporter, result, began_at)
    return result


def _log(result: SendResult) -> None:
    """Logs the attempt for each alert, without addresses."""
    job, outcome = result.job, result.outcome
    for due in job.bundle.members:
        ids = {"delivery_id": due.id, "alert_id": due.alert.id if due.alert is not None else None}
        provider = job.provider or "no provider"
        if isinstance(outcome, Accepted):
            log.info("Delivery %s was sent by %s, %s.", due.id, provider, due.channel, extra=ids)
        else:
            why = outcome.error
            log.warning("Delivery %s was not sent by %s, %s: %s", due.id, provider, due.channel, why, extra=ids)


def _export_spans(exporter: SpanExporter, result: SendResult, began_at: datetime) -> None:
    """Exports the attempt as a span of each alert's trace, by OpenTelemetry's conventions for messaging."""
    job, outcome = result.job, result.outcome
    for due in job.bundle.members:
        if due.alert is None:
            continue
        attributes: dict[str, str | int] = {
            "messaging.system": due.channel,
            "messaging.operation.name": "send",
            "messaging.operation.type": "send",
            "messaging.destination.name": job.provider,
            "messaging.message.id": str(due.id),
            "tocsin.alert.id": due.alert.id,
            "tocsin.purpose": due.purpose.value,
            "tocsin.attempt": due.attempts + 1,
        }
        error = outcome.kind.value if isinstance(outcome, AttemptFailed) else ""
        trace = tracing.trace_of_alert(due.alert.id)
        name = f"send {due.channel}"
        exporter.export(Span(name, SpanKind.CLIENT, trace, began_at, result.at, attributes, error=error))


def _outcome(job: DeliveryJob, now: datetime, check_lease: Callable[[], None]) -> Accepted | AttemptFailed:
    try:
        return _send(job, now, check_lease)
    except LeaseLost:
        raise
    except (Temporary, Permanent, Rejected) as error:
        return _failed(job, failure_of(error))
    except Exception as error:  # one failing delivery must not stop the others
        log.exception("The delivery %s broke.", job.bundle.lead.id, extra={"delivery_id": job.bundle.lead.id})
        reason = as_reason(f"{type(error).__name__}: {error}")
        return _failed(job, AttemptFailed(FailureKind.INTERNAL_ERROR, reason))


def _send(job: DeliveryJob, now: datetime, check_lease: Callable[[], None]) -> Accepted:
    if job.problem:
        raise Permanent(job.problem)
    lead = job.bundle.lead
    message_channel = channel(lead.channel)
    can_reply = job.reply_address is not None if lead.channel == "email" else _can_reply(job)
    # The sandbox shows the message as a provider with replies would send it.
    rendered = compose(
        job.bundle,
        message_channel,
        now,
        can_reply=can_reply,
        content_level=job.content_level,
        has_reply_codes=job.has_reply_codes,
    )
    if job.reply_address is not None:
        rendered = replace(rendered, headers={**rendered.headers, **job.reply_address.headers(rendered.link)})
    if job.active_provider is None:
        return Accepted(content=sandbox.content(rendered))
    check_lease()
    return _hand_over(job, rendered)


def _can_reply(job: DeliveryJob) -> bool:
    return job.bundle.lead.channel in job.active_provider.reply_channels if job.active_provider else True


def _hand_over(job: DeliveryJob, rendered: Rendered) -> Accepted:
    assert job.active_provider is not None
    lead = job.bundle.lead
    receipt = job.active_provider.sender.send(rendered, lead.channel, lead.address, str(lead.notification_id))
    return Accepted(sanitize(receipt.external_id)[:200])


def _failed(job: DeliveryJob, failure: AttemptFailed) -> AttemptFailed:
    """Masks secrets and the address in the error, which a server may have repeated."""
    lead = job.bundle.lead

    def clean(text: str) -> str:
        # The separator of joined reasons stays.
        if not text.strip():
            return text
        masked = job.active_provider.mask_secrets(text) if job.active_provider else text
        masked = redact_address(masked, lead.channel, lead.address)
        return " ".join(sanitize(masked).split())[:MAX_SEND_ERROR_CHARS]

    return replace(failure, error=replace_texts(failure.error, clean))


def redact_address(text: str, channel: str, address: str) -> str:
    """Masks the address in a server's error message: servers repeat the rejected address, and everyone who can see the
    alert reads the error.
    """
    if len(address) < _MIN_ADDRESS_CHARS:
        return text
    masked = addresses.mask(channel, address)
    # A gateway may repeat a phone number without its plus.
    pattern = rf"\+?{re.escape(address[1:])}" if address.startswith("+") else re.escape(address)
    return re.sub(pattern, lambda _: masked, text, flags=re.IGNORECASE)
