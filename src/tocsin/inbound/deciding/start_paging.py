"""A message that opens, and meets a live alert that has paged nobody: whether that one pages from now on. Pure.

An alert that was only recorded or a dry run holds its key. Were messages merely counted on it, nobody would hear of its
problem any more, whatever the rules have come to say since.
"""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from tocsin.alerts.change_handlers import PagingConfig, PagingMode, PagingStart
from tocsin.alerts.states import AlertStatus
from tocsin.inbound.config.compiled_integration import CompiledIntegration
from tocsin.inbound.config.normalizer import NormalizedEvent
from tocsin.inbound.deciding import noise_reduction
from tocsin.inbound.deciding.alert_creation import why_it_pages
from tocsin.inbound.deciding.state import ActiveAlert, MessageContext


class PagingChange(Struct, frozen=True):
    """What the message says of it, and by what the alert pages from now on; without `waking` still nobody is paged."""

    said: str
    paging: PagingConfig | None = None
    waking: PagingStart | None = None


def wake(
    door: CompiledIntegration, arrival: MessageContext, reading: NormalizedEvent, live: ActiveAlert, now: datetime
) -> PagingChange | None:
    """By the rules of now, as if the alert opened with this message; what delays it has a time, or counts as waited
    for. None: it pages already, or this message would open nothing that pages."""
    if live.pages or not arrival.may_page or live.state.status is AlertStatus.MERGED:
        return None
    allowed = reading.filter_verdict()
    if not allowed.is_true:
        return PagingChange(f"counted, nobody is paged: filter: {allowed.reason}")
    paging, route = why_it_pages(door, arrival, reading, now)
    if paging.mode is not PagingMode.PAGE:
        return None
    held = noise_reduction.holds_back(door, arrival, reading, route, paging.recipient_groups, live.state.opened_at, now)
    if held.suppressed:
        return PagingChange(f"counted, nobody is paged: {held.suppressed}")
    why = f"{door.shown_source} opened it again, and so far nobody was paged about it; {paging.reason}"
    said = f"so far nobody was paged about it, and it pages {held.why or 'from now on'}"
    return PagingChange(said, paging, PagingStart(why, held.until, held.why))
