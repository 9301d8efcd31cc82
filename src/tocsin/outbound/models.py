"""Outbound integrations with their status, calls, recorded requests and data of the remote system.

Code of this package writes to these tables only, never to another package's.
"""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.db.models.functions import Lower
from django.utils.translation import gettext_lazy as _

from tocsin.access.boundary import BoundedManager
from tocsin.core.models import ReasonField
from tocsin.core.validation.name_validator import validate_name
from tocsin.outbound.states import CallStatus


class OutboundIntegration(models.Model):
    """A connector to another system, or a templated HTTP call."""

    name = models.CharField(_("name"), max_length=100, validators=[validate_name])
    kind = models.CharField(_("kind"), max_length=40)
    group = models.ForeignKey("people.Group", null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    is_enabled = models.BooleanField(_("enabled"), default=True)
    #: Settings that may be displayed: URL, tenant, templates, write-back rules.
    settings = models.JSONField(default=dict, db_default={})
    #: The secrets' JSON as a Fernet token. Never displayed.
    secrets = models.TextField(default="", db_default="")
    created_at = models.DateTimeField()

    objects: ClassVar[models.Manager[OutboundIntegration]] = BoundedManager()

    class Meta:
        ordering = ("name",)
        constraints = (models.UniqueConstraint(Lower("name"), name="outbound_integration_name"),)

    def __str__(self) -> str:
        return self.name


class IntegrationStatus(models.Model):
    """The status of an integration's remote system, written by periodic tasks and read by the web. One row each."""

    integration = models.OneToOneField(
        OutboundIntegration, primary_key=True, on_delete=models.CASCADE, related_name="status"
    )
    #: Consecutive temporary failures, and until when the circuit breaker is open.
    failures = models.IntegerField(default=0, db_default=0)
    open_until = models.DateTimeField(null=True)
    #: Why nothing can be sent until a person acts, since when, and when an automatic retry takes place nevertheless.
    problem = ReasonField()
    problem_at = models.DateTimeField(null=True)
    blocked_until = models.DateTimeField(null=True)
    #: The last temporary failure, and since when failures last.
    last_transient_error = ReasonField()
    last_transient_error_at = models.DateTimeField(null=True)
    #: Rate limit: until when requests have been granted (GCRA's theoretical arrival time), how often in a row the
    #: remote system has rate-limited Tocsin, and until when.
    granted_to = models.DateTimeField(null=True)
    throttled = models.IntegerField(default=0, db_default=0)
    not_before = models.DateTimeField(null=True)
    succeeded_at = models.DateTimeField(null=True)

    #: Polling: the next poll, its lease, the last poll, and up to when changes were read (in the remote system's own
    #: time and format).
    next_poll_at = models.DateTimeField(null=True)
    poll_lease_until = models.DateTimeField(null=True)
    last_polled_at = models.DateTimeField(null=True)
    polled_until = models.TextField(default="", db_default="")
    poll_error = ReasonField()
    ingested_count = models.IntegerField(default=0, db_default=0)
    #: The last poll's findings about the remote webhook: empty, or why it delivers nothing.
    webhook_problem = ReasonField()
    #: State kept between polls: newest note by ticket, tickets missing once, and more.
    poll_state = models.JSONField(default=dict, db_default={})

    objects: ClassVar[models.Manager[IntegrationStatus]] = BoundedManager()


class Webhook(models.Model):
    """The webhook in the remote system that Tocsin set up for an inbound integration."""

    integration = models.ForeignKey(OutboundIntegration, on_delete=models.CASCADE, related_name="webhooks")
    inbound_integration = models.ForeignKey("inbound.Integration", on_delete=models.CASCADE, related_name="+")
    #: Its id in the remote system.
    number = models.TextField()
    #: SHA-256 of its URL; empty if unknown.
    url_hash = models.BinaryField(max_length=32, default=b"", db_default=b"")
    set_up_at = models.DateTimeField()

    objects: ClassVar[models.Manager[Webhook]] = BoundedManager()

    class Meta:
        constraints = (
            models.UniqueConstraint(
                fields=("integration", "inbound_integration"), name="outbound_webhook_inbound_integration"
            ),
        )


class Call(models.Model):
    """One action at a remote system. Queued rows are the outbox; those with the same `order_key` are sent in order."""

    #: In queue order; the alert's lock guarantees it for one alert's calls.
    id = models.BigAutoField(primary_key=True)
    integration = models.ForeignKey(OutboundIntegration, on_delete=models.CASCADE, related_name="+", db_index=False)
    alert = models.ForeignKey("alerts.Alert", null=True, on_delete=models.SET_NULL, related_name="+", db_index=False)
    order_key = models.TextField()
    #: The action, for the connector.
    action = models.TextField()
    #: A description of the action, for people.
    description = ReasonField()
    #: The remote ticket, if known.
    ticket = models.TextField(default="", db_default="")
    content = models.JSONField(default=dict, db_default={})
    #: The steps done so far, for a retry.
    progress = models.JSONField(default=dict, db_default={})
    #: The values it writes, for recognizing their echo: `agent`, `status`, `priority`, `team`.
    wrote = models.JSONField(default=dict, db_default={})
    status = models.TextField(default=CallStatus.QUEUED, db_default="queued")
    attempts = models.SmallIntegerField(default=0, db_default=0)
    #: Whether an attempt may have succeeded without a confirmation.
    is_uncertain = models.BooleanField(default=False, db_default=False)
    error = ReasonField()
    #: What was done.
    result = ReasonField()
    queued_at = models.DateTimeField()
    due_at = models.DateTimeField()
    lease_until = models.DateTimeField(null=True)
    leased_by = models.TextField(default="", db_default="")
    ended_at = models.DateTimeField(null=True)
    #: Whether the written values have come back since.
    is_echoed = models.BooleanField(default=False, db_default=False)

    objects: ClassVar[models.Manager[Call]] = BoundedManager()

    class Meta:
        constraints = (
            models.CheckConstraint(condition=Q(status__in=[str(s) for s in CallStatus]), name="outbound_call_status"),
        )
        indexes = (
            # For claiming due calls.
            models.Index(fields=("integration", "due_at"), condition=Q(status="queued"), name="outbound_call_due"),
            # For finding earlier calls of the same order key.
            models.Index(
                fields=("integration", "order_key", "id"),
                condition=Q(status__in=["queued", "sending"]),
                name="outbound_call_order",
            ),
            # For expired leases.
            models.Index(fields=("lease_until",), condition=Q(status="sending"), name="outbound_call_lease"),
            # The calls of an alert.
            models.Index(fields=("alert", "id"), name="outbound_call_alert"),
            # Writes to a ticket, newest first.
            models.Index(fields=("integration", "ticket", "-id"), condition=~Q(ticket=""), name="outbound_call_ticket"),
            # Dead letters.
            models.Index(fields=("integration", "-id"), condition=Q(status="dead"), name="outbound_call_dead"),
            # The log of an integration, newest first.
            models.Index(fields=("integration", "-id"), name="outbound_call_log"),
        )


class Exchange(models.Model):
    """One request and its response, without secrets. Pruned."""

    id = models.BigAutoField(primary_key=True)
    integration = models.ForeignKey(OutboundIntegration, on_delete=models.CASCADE, related_name="+", db_index=False)
    #: The call it belongs to; NULL for lookups and polling.
    call = models.ForeignKey(Call, null=True, on_delete=models.CASCADE, related_name="exchanges", db_index=False)
    at = models.DateTimeField()
    #: In milliseconds.
    took = models.IntegerField(default=0, db_default=0)
    method = models.TextField()
    url = models.TextField()
    request = models.TextField(default="", db_default="")
    #: NULL: no response.
    status = models.IntegerField(null=True)
    response = models.TextField(default="", db_default="")
    error = models.TextField(default="", db_default="")

    objects: ClassVar[models.Manager[Exchange]] = BoundedManager()

    class Meta:
        indexes = (
            models.Index(fields=("call", "id"), condition=Q(call__isnull=False), name="outbound_exchange_call"),
            models.Index(fields=("integration", "-id"), name="outbound_exchange_log"),
            # The oldest rows, for pruning.
            models.Index(fields=("at",), name="outbound_exchange_at"),
        )


class LookUp(models.Model):
    """One entry of the remote system's lists: a status, team, agent, priority, ticket type or outcome."""

    integration = models.ForeignKey(OutboundIntegration, on_delete=models.CASCADE, related_name="lookups")
    list_name = models.TextField()
    #: The remote system's own id, as text.
    number = models.TextField()
    name = models.TextField()
    #: Further data, such as an agent's `email` or a priority's `sla`.
    data = models.JSONField(default=dict, db_default={})
    refreshed_at = models.DateTimeField()

    objects: ClassVar[models.Manager[LookUp]] = BoundedManager()

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=("integration", "list_name", "number"), name="outbound_lookup_number"),
        )


class AgentMatch(models.Model):
    """The remote agent of a user, matched by hand where the e-mail address does not identify one."""

    integration = models.ForeignKey(OutboundIntegration, on_delete=models.CASCADE, related_name="matches")
    user = models.ForeignKey("people.User", on_delete=models.CASCADE, related_name="+")
    number = models.TextField()

    objects: ClassVar[models.Manager[AgentMatch]] = BoundedManager()

    class Meta:
        constraints = (models.UniqueConstraint(fields=("integration", "user"), name="outbound_agentmatch_once"),)


class TicketLink(models.Model):
    """The remote ticket created for an alert from another source: at most one."""

    integration = models.ForeignKey(OutboundIntegration, on_delete=models.CASCADE, related_name="+")
    alert = models.ForeignKey("alerts.Alert", on_delete=models.CASCADE, related_name="+")
    #: Empty until it is created.
    ticket = models.TextField(default="", db_default="")
    made_at = models.DateTimeField(null=True)

    objects: ClassVar[models.Manager[TicketLink]] = BoundedManager()

    class Meta:
        constraints = (models.UniqueConstraint(fields=("integration", "alert"), name="outbound_ticketlink_once"),)
        indexes = (
            models.Index(fields=("integration", "ticket"), condition=~Q(ticket=""), name="outbound_ticketlink_ticket"),
            # Tickets not created yet.
            models.Index(fields=("integration", "alert"), condition=Q(ticket=""), name="outbound_ticketlink_none"),
        )
