"""Decides whether an active alert that has paged nobody starts paging when another opening message arrives. Pure.

An alert that was only recorded or a dry run holds its key. Were messages merely counted on it, nobody would hear of its
problem any more, whatever the rules have come to say since.
"""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from tocsin.alerts.change_handlers import PagingConfig, PagingMode, PagingStart
from tocsin.alerts.states import AlertStatus
from tocsin.core.reasons import NO_REASON, Reason, as_reason
from tocsin.inbound.config.noise_settings import DelayKind
from tocsin.inbound.config.normalizer import NormalizedEvent
from tocsin.inbound.config.routes import RouteChoice
from tocsin.inbound.deciding import reasons
from tocsin.inbound.deciding.alert_creation import build_paging_config
from tocsin.inbound.deciding.state import ActiveAlert, MessageContext
from tocsin.inbound.enums import WindowAction
from tocsin.inbound.maintenance.windows import matching_window


class PagingChange(Struct, frozen=True):
    """The remark on the message, and the paging configuration to start with; without `paging_start`, nobody is
    paged."""

    remark: Reason
    paging: PagingConfig | None = None
    paging_start: PagingStart | None = None


class _PagingRestriction(Struct, frozen=True):
    """What holds back paging for an already active alert: for good (`suppression_reason`), or until a time."""

    suppression_reason: Reason = NO_REASON
    until: datetime | None = None
    #: When it pages, as the end of a sentence.
    reason: Reason = NO_REASON


_UNRESTRICTED = _PagingRestriction()


def start_paging(context: MessageContext, event: NormalizedEvent, active_alert: ActiveAlert) -> PagingChange | None:
    """Applies the current rules as if this message opened the alert. A delay with an end counts from the alert's
    opening; one that waits for other alerts does not apply.

    Returns None if the alert pages already, or if this message would open nothing that pages.
    """
    if active_alert.is_paging or not context.may_page or active_alert.state.status is AlertStatus.MERGED:
        return None
    filter_match = event.check_filters()
    if not filter_match.is_true:
        return PagingChange(reasons.COUNTED_ONLY(why=reasons.FILTERED(why=filter_match.reason)))
    paging, route = build_paging_config(context, event)
    if paging.mode is not PagingMode.PAGE:
        return None
    restriction = _find_restriction(context, event, route, paging, active_alert.state.opened_at)
    if restriction.suppression_reason:
        return PagingChange(reasons.COUNTED_ONLY(why=restriction.suppression_reason))
    source = context.integration.display_source
    start_reason = reasons.PAGING_STARTED(source=source, paging=as_reason(paging.reason))
    remark = reasons.STARTS_PAGING(when=restriction.reason or reasons.FROM_NOW_ON())
    return PagingChange(remark, paging, PagingStart(start_reason, restriction.until, restriction.reason))


def _find_restriction(
    context: MessageContext, event: NormalizedEvent, route: RouteChoice, paging: PagingConfig, since: datetime
) -> _PagingRestriction:
    """Returns whether an alert that is active since `since`, and has paged nobody, may start paging.

    Delays that count alerts, and rate limits, do not apply: they decide how many alerts exist, and this one does.
    """
    integration, now = context.integration, context.now
    if not integration.has_noise_reduction:
        return _UNRESTRICTED
    groups = paging.recipient_groups
    window_match = matching_window(integration.windows, event.payload, event.mapped, groups, now)
    if window_match is not None:
        name, (_, end) = window_match.window.name, window_match.span
        if window_match.window.action is WindowAction.SUPPRESS:
            return _PagingRestriction(suppression_reason=reasons.IN_MAINTENANCE(window=name, until=end))
        return _PagingRestriction(until=end, reason=reasons.AFTER_MAINTENANCE(window=name))
    noise_settings = integration.normalizer.noise_settings
    delay = None if noise_settings is None else route.delay if route.has_delay else noise_settings.delay
    if delay is None or context.replay_of is not None:
        return _UNRESTRICTED
    until = None
    if delay.kind is DelayKind.WAIT:
        until = since + delay.duration
    elif delay.kind is DelayKind.HOURS and delay.hours is not None:
        until = integration.next_hours(delay.hours, now)
    return (
        _PagingRestriction(until=until, reason=delay.describe()) if until is not None and until > now else _UNRESTRICTED
    )
