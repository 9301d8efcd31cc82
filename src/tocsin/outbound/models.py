"""Outbound integrations, the calls that wait or were made, what was said on the wire, and what is known of the other
side. Tocsin's own rows only: no other room's table is written from here."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.db.models.functions import Lower
from django.utils.translation import gettext_lazy as _

from tocsin.core.validation.name_validator import validate_name
from tocsin.outbound.states import CallStatus


class OutboundIntegration(models.Model):
    """A connector that writes to another system, or a templated HTTP call."""

    name = models.CharField(_("name"), max_length=100, validators=[validate_name])
    kind = models.CharField(_("kind"), max_length=40)
    group = models.ForeignKey("people.Group", null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    is_enabled = models.BooleanField(_("in use"), default=True)
    #: What may be shown: address, tenant, templates, what is written back.
    settings = models.JSONField(default=dict, db_default={})
    #: A Fernet token over the secrets' JSON. Never shown.
    secrets = models.TextField(default="", db_default="")
    created_at = models.DateTimeField()

    class Meta:
        ordering = ("name",)
        constraints = (models.UniqueConstraint(Lower("name"), name="outbound_integration_name"),)

    def __str__(self) -> str:
        return self.name


class IntegrationStatus(models.Model):
    """How the other side of an integration fares: written by loops, read by pages. One row an integration."""

    integration = models.OneToOneField(
        OutboundIntegration, primary_key=True, on_delete=models.CASCADE, related_name="standing"
    )
    #: Failures in a row that may pass; the circuit is open until then.
    failures = models.IntegerField(default=0, db_default=0)
    open_until = models.DateTimeField(null=True)
    #: Why nothing can be sent until a person acts, since when, and when it is tried again all the same.
    problem = models.TextField(default="", db_default="")
    problem_at = models.DateTimeField(null=True)
    blocked_until = models.DateTimeField(null=True)
    #: The last failure that may pass.
    last_transient_error = models.TextField(default="", db_default="")
    last_transient_error_at = models.DateTimeField(null=True)
    #: The rate limit: when the last request that was granted fits into the rate (GCRA's theoretical arrival time), how
    #: often in a row the other side asked for patience, and until when.
    granted_to = models.DateTimeField(null=True)
    throttled = models.IntegerField(default=0, db_default=0)
    not_before = models.DateTimeField(null=True)
    succeeded_at = models.DateTimeField(null=True)

    #: Reading back: when it is next, who does it now, what was read to (in the other side's own time, as it writes it).
    next_poll_at = models.DateTimeField(null=True)
    poll_lease_until = models.DateTimeField(null=True)
    last_polled_at = models.DateTimeField(null=True)
    polled_until = models.TextField(default="", db_default="")
    poll_error = models.TextField(default="", db_default="")
    found = models.IntegerField(default=0, db_default=0)
    #: What the last look knows about the other side's webhook: nothing, or why it brings nothing.
    webhook_problem = models.TextField(default="", db_default="")
    #: What reading back remembers between looks: newest note by ticket, tickets that were gone once.
    poll_state = models.JSONField(default=dict, db_default={})


class Webhook(models.Model):
    """The webhook on the other side that Tocsin set up for an inbound integration."""

    integration = models.ForeignKey(OutboundIntegration, on_delete=models.CASCADE, related_name="webhooks")
    door = models.ForeignKey("inbound.Integration", on_delete=models.CASCADE, related_name="+")
    #: Its id on the other side.
    number = models.TextField()
    #: SHA-256 of the address that it was given; empty where that is not known.
    url_hash = models.BinaryField(max_length=32, default=b"", db_default=b"")
    set_up_at = models.DateTimeField()

    class Meta:
        constraints = (models.UniqueConstraint(fields=("integration", "door"), name="outbound_webhook_door"),)


class Call(models.Model):
    """One thing to do on the other side. Queued rows are the outbox; those of one `order_key` go one after another."""

    #: In the order in which they were queued: of one alert's calls, the alert's lock keeps it right.
    id = models.BigAutoField(primary_key=True)
    integration = models.ForeignKey(OutboundIntegration, on_delete=models.CASCADE, related_name="+", db_index=False)
    alert = models.ForeignKey("alerts.Alert", null=True, on_delete=models.SET_NULL, related_name="+", db_index=False)
    order_key = models.TextField()
    #: What is done, for the connector.
    action = models.TextField()
    #: The same in words, for people.
    said = models.TextField(default="", db_default="")
    #: The ticket on the other side, where it is known.
    ticket = models.TextField(default="", db_default="")
    content = models.JSONField(default=dict, db_default={})
    #: What of it is done already, should it have to be tried again.
    progress = models.JSONField(default=dict, db_default={})
    #: What it writes, so that it is known again when it comes back: `agent`, `status`.
    wrote = models.JSONField(default=dict, db_default={})
    status = models.TextField(default=CallStatus.QUEUED, db_default="queued")
    attempts = models.SmallIntegerField(default=0, db_default=0)
    #: Whether a try may have been carried out although nothing said so.
    is_uncertain = models.BooleanField(default=False, db_default=False)
    error = models.TextField(default="", db_default="")
    #: What came of it, in words.
    result = models.TextField(default="", db_default="")
    queued_at = models.DateTimeField()
    due_at = models.DateTimeField()
    lease_until = models.DateTimeField(null=True)
    leased_by = models.TextField(default="", db_default="")
    ended_at = models.DateTimeField(null=True)
    #: Whether what it wrote has come back since.
    is_echoed = models.BooleanField(default=False, db_default=False)

    class Meta:
        constraints = (
            models.CheckConstraint(condition=Q(status__in=[str(s) for s in CallStatus]), name="outbound_call_status"),
        )
        indexes = (
            # The outbox's claim.
            models.Index(fields=("integration", "due_at"), condition=Q(status="queued"), name="outbound_call_due"),
            # What is before a call in its order.
            models.Index(
                fields=("integration", "order_key", "id"),
                condition=Q(status__in=["queued", "sending"]),
                name="outbound_call_order",
            ),
            # Leases that ran out.
            models.Index(fields=("lease_until",), condition=Q(status="sending"), name="outbound_call_lease"),
            # The calls of an alert.
            models.Index(fields=("alert", "id"), name="outbound_call_alert"),
            # What Tocsin wrote on a ticket, newest first.
            models.Index(fields=("integration", "ticket", "-id"), condition=~Q(ticket=""), name="outbound_call_ticket"),
            # Dead letters.
            models.Index(fields=("integration", "-id"), condition=Q(status="dead"), name="outbound_call_dead"),
            # The log of an integration, newest first.
            models.Index(fields=("integration", "-id"), name="outbound_call_log"),
        )


class Exchange(models.Model):
    """One request and what was answered, without secrets. Pruned."""

    id = models.BigAutoField(primary_key=True)
    integration = models.ForeignKey(OutboundIntegration, on_delete=models.CASCADE, related_name="+", db_index=False)
    #: The call that it was made for; none for look-ups and reading back.
    call = models.ForeignKey(Call, null=True, on_delete=models.CASCADE, related_name="exchanges", db_index=False)
    at = models.DateTimeField()
    #: In milliseconds.
    took = models.IntegerField(default=0, db_default=0)
    method = models.TextField()
    url = models.TextField()
    request = models.TextField(default="", db_default="")
    #: None: no answer came.
    status = models.IntegerField(null=True)
    response = models.TextField(default="", db_default="")
    error = models.TextField(default="", db_default="")

    class Meta:
        indexes = (
            models.Index(fields=("call", "id"), condition=Q(call__isnull=False), name="outbound_exchange_call"),
            models.Index(fields=("integration", "-id"), name="outbound_exchange_log"),
            # The oldest, for pruning.
            models.Index(fields=("at",), name="outbound_exchange_at"),
        )


class LookUp(models.Model):
    """One entry of the other side's lists: a status, team, agent, priority, ticket type or outcome."""

    integration = models.ForeignKey(OutboundIntegration, on_delete=models.CASCADE, related_name="lookups")
    noun = models.TextField()
    #: The other side's own id, as text.
    number = models.TextField()
    name = models.TextField()
    #: What else is of use: an agent's `email`, a priority's `sla`.
    data = models.JSONField(default=dict, db_default={})
    refreshed_at = models.DateTimeField()

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=("integration", "noun", "number"), name="outbound_lookup_number"),
        )


class AgentMatch(models.Model):
    """The agent on the other side that a user is, chosen by hand where the e-mail address does not tell."""

    integration = models.ForeignKey(OutboundIntegration, on_delete=models.CASCADE, related_name="matches")
    user = models.ForeignKey("people.User", on_delete=models.CASCADE, related_name="+")
    number = models.TextField()

    class Meta:
        constraints = (models.UniqueConstraint(fields=("integration", "user"), name="outbound_agentmatch_once"),)


class TicketLink(models.Model):
    """The ticket that was made on the other side for an alert which came from elsewhere: at most one."""

    integration = models.ForeignKey(OutboundIntegration, on_delete=models.CASCADE, related_name="+")
    alert = models.ForeignKey("alerts.Alert", on_delete=models.CASCADE, related_name="+")
    #: Empty until it is made.
    ticket = models.TextField(default="", db_default="")
    made_at = models.DateTimeField(null=True)

    class Meta:
        constraints = (models.UniqueConstraint(fields=("integration", "alert"), name="outbound_ticketlink_once"),)
        indexes = (
            models.Index(fields=("integration", "ticket"), condition=~Q(ticket=""), name="outbound_ticketlink_ticket"),
            # Those that were not made yet.
            models.Index(fields=("integration", "alert"), condition=Q(ticket=""), name="outbound_ticketlink_none"),
        )
