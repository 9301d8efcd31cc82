"""The Halo ticket of an alert from another source: its status, and its creation on request."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from tocsin.access.audit import AuditActor
from tocsin.alerts.models import Alert
from tocsin.alerts.service import VisibleAlert
from tocsin.catalogue.kinds import family
from tocsin.core.errors import Rejected
from tocsin.core.reasons import ReasonType
from tocsin.outbound.connectors.haloitsm.writeback_settings import KIND
from tocsin.outbound.halo_sync import halo_commands
from tocsin.outbound.models import Call, OutboundIntegration, TicketLink
from tocsin.outbound.states import ENDED

_NO_WRITEBACK = ReasonType(
    "halo.no_writeback",
    "The alert's inbound integration is not connected to HaloITSM, or the alert came from one of its tickets.",
)


@dataclass(frozen=True, slots=True)
class AlertTicket:
    """The Halo to which the alert's integration writes back, and the ticket there."""

    integration: OutboundIntegration
    #: The ticket number, or "".
    number: str
    #: The ticket's URL, or "".
    url: str
    #: Whether the ticket is being created.
    is_pending: bool = False

    @property
    def can_create(self) -> bool:
        return not self.number and not self.is_pending


def ticket_of_alert(alert: Alert) -> AlertTicket | None:
    """The alert's ticket; None if the alert itself is a ticket, is a test or dry run, or has no write-back to an
    enabled Halo."""
    inbound_integration = alert.integration
    if (
        inbound_integration is None
        or inbound_integration.outbound is None
        or inbound_integration.kind in family(KIND)
        or alert.is_test
        or alert.dry_run
    ):
        return None
    halo = inbound_integration.outbound
    if halo.kind != "haloitsm" or not halo.is_enabled:
        return None
    link = TicketLink.objects.filter(integration=halo, alert=alert).first()
    if link is None:
        return AlertTicket(halo, "", "")
    if link.ticket:
        return AlertTicket(halo, link.ticket, f"{halo.settings.get('base_url', '')}/ticket?id={link.ticket}")
    last_call = Call.objects.filter(integration=halo, alert=alert, action="create").order_by("-pk").first()
    return AlertTicket(halo, "", "", is_pending=last_call is not None and last_call.status not in ENDED)


def create_ticket(alert: VisibleAlert, actor: AuditActor, now: datetime) -> int:
    """Queues the ticket's creation and returns the call's id. Raises Rejected("not_possible")."""
    ticket = ticket_of_alert(alert.row)
    if ticket is None:
        raise Rejected("not_possible", _NO_WRITEBACK(), "alert")
    return halo_commands.make_ticket(ticket.integration, alert, actor, now)
