"""Decides whether an active alert that has paged nobody starts paging when another opening message arrives. Pure.

An alert that was only recorded or a dry run holds its key. Were messages merely counted on it, nobody would hear of its
problem any more, whatever the rules have come to say since.
"""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from tocsin.alerts.change_handlers import PagingConfig, PagingMode, PagingStart
from tocsin.alerts.states import AlertStatus
from tocsin.core.reasons import Reason, as_reason
from tocsin.inbound.config.compiled_integration import CompiledIntegration
from tocsin.inbound.config.normalizer import NormalizedEvent
from tocsin.inbound.deciding import noise_reduction, reasons
from tocsin.inbound.deciding.alert_creation import build_paging_config
from tocsin.inbound.deciding.state import ActiveAlert, MessageContext


class PagingChange(Struct, frozen=True):
    """The remark on the message, and the paging configuration to start with; without `paging_start`, nobody is
    paged."""

    remark: Reason
    paging: PagingConfig | None = None
    paging_start: PagingStart | None = None


def start_paging(
    integration: CompiledIntegration,
    context: MessageContext,
    event: NormalizedEvent,
    active_alert: ActiveAlert,
    now: datetime,
) -> PagingChange | None:
    """Applies the current rules as if this message opened the alert. A delay with an end counts from the alert's
    opening; one that waits for other alerts does not apply.

    Returns None if the alert pages already, or if this message would open nothing that pages.
    """
    if active_alert.is_paging or not context.may_page or active_alert.state.status is AlertStatus.MERGED:
        return None
    filter_match = event.check_filters()
    if not filter_match.is_true:
        return PagingChange(reasons.COUNTED_ONLY(why=reasons.FILTERED(why=filter_match.reason)))
    paging, route = build_paging_config(integration, context, event, now)
    if paging.mode is not PagingMode.PAGE:
        return None
    restriction = noise_reduction.find_paging_restriction(
        integration, context, event, route, paging.recipient_groups, active_alert.state.opened_at, now
    )
    if restriction.suppression_reason:
        return PagingChange(reasons.COUNTED_ONLY(why=restriction.suppression_reason))
    start_reason = reasons.PAGING_STARTED(source=integration.display_source, paging=as_reason(paging.reason))
    remark = reasons.STARTS_PAGING(when=restriction.reason or reasons.FROM_NOW_ON())
    return PagingChange(remark, paging, PagingStart(start_reason, restriction.until, restriction.reason))
