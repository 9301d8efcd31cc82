"""Notifications, the tries to deliver them, providers, what the sandbox kept, and the pause of all paging."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.db.models.functions import Lower
from django.utils.translation import gettext_lazy as _

from tocsin.core.validation.name_validator import validate_name
from tocsin.notify.provider_models import (
    AwaitedReceipt,
    Bundle,
    OptOut,
    ProcessedCallback,
    ProviderHealth,
    VerificationCode,
)
from tocsin.notify.states import DeliveryStatus, Purpose

__all__ = [
    "AwaitedReceipt",
    "Bundle",
    "Delivery",
    "LastSent",
    "MailReply",
    "Notification",
    "OptOut",
    "Pause",
    "ProcessedCallback",
    "Provider",
    "ProviderHealth",
    "PushDevice",
    "PushKey",
    "SandboxMessage",
    "VerificationCode",
]


class Provider(models.Model):
    """An account or server that carries one or more channels. Tried in order."""

    name = models.CharField(_("name"), max_length=100, validators=[validate_name])
    kind = models.CharField(_("kind"), max_length=40)
    channels = ArrayField(models.CharField(max_length=20))
    #: What may be shown: address, sender, region.
    settings = models.JSONField(default=dict, db_default={})
    #: A Fernet token over the secrets' JSON. Never shown.
    secrets = models.TextField(default="", db_default="")
    order = models.PositiveSmallIntegerField(_("order"), default=1)
    is_enabled = models.BooleanField(_("in use"), default=True)

    class Meta:
        ordering = ("order", "name")
        constraints = (models.UniqueConstraint(Lower("name"), name="notify_provider_name"),)

    def __str__(self) -> str:
        return self.name


class Notification(models.Model):
    """One message to one person, or group contact, about one alert. What became of it is its deliveries'."""

    #: A UUIDv7; also the idempotency key at providers.
    id = models.UUIDField(primary_key=True)
    alert = models.ForeignKey(
        "alerts.Alert", null=True, on_delete=models.CASCADE, related_name="notifications", db_index=False
    )
    run = models.ForeignKey("escalation.Run", null=True, on_delete=models.SET_NULL, related_name="+", db_index=False)
    user = models.ForeignKey(
        "people.User", null=True, on_delete=models.SET_NULL, related_name="notifications", db_index=False
    )
    group_contact = models.ForeignKey(
        "people.GroupContact", null=True, on_delete=models.SET_NULL, related_name="+", db_index=False
    )
    purpose = models.TextField()
    channel = models.TextField()
    #: The contact method's label, as it was.
    label = models.TextField(default="", db_default="")
    address = models.TextField()
    #: Why this person, by this way, now: a sentence.
    reason = models.TextField(default="", db_default="")
    #: What the message needs besides the alert: step, pass, text of a notice.
    data = models.JSONField(default=dict, db_default={})
    created_at = models.DateTimeField()

    class Meta:
        constraints = (
            models.CheckConstraint(
                condition=Q(purpose__in=[str(p) for p in Purpose]), name="notify_notification_purpose"
            ),
        )
        indexes = (
            # Who was paged about an alert.
            models.Index(fields=("alert", "id"), name="notify_notification_alert"),
            # "My pages".
            models.Index(fields=("user", "id"), name="notify_notification_user"),
        )


class Delivery(models.Model):
    """One try, with its retries, to send a notification through one provider. Queued rows are the outbox."""

    #: A UUIDv7.
    id = models.UUIDField(primary_key=True)
    notification = models.ForeignKey(Notification, on_delete=models.CASCADE, related_name="deliveries")
    alert = models.ForeignKey("alerts.Alert", null=True, on_delete=models.CASCADE, related_name="+", db_index=False)
    user = models.ForeignKey("people.User", null=True, on_delete=models.SET_NULL, related_name="+", db_index=False)
    #: Which integration it belongs to, for fairness; NULL for notices that no alert caused.
    integration = models.ForeignKey(
        "inbound.Integration", null=True, on_delete=models.SET_NULL, related_name="+", db_index=False
    )
    channel = models.TextField()
    address = models.TextField()
    purpose = models.TextField()
    #: The first page of its alert: those leave before others.
    is_first = models.BooleanField(default=False, db_default=False)
    status = models.TextField(default=DeliveryStatus.QUEUED, db_default="queued")
    provider = models.ForeignKey(Provider, null=True, on_delete=models.SET_NULL, related_name="+", db_index=False)
    #: The provider's name as it was; `sandbox` when nothing left the machine; empty where nobody was asked.
    provider_name = models.TextField(default="", db_default="")
    attempts = models.SmallIntegerField(default=0, db_default=0)
    error = models.TextField(default="", db_default="")
    #: Whether its failure is one that only a person can mend.
    is_permanent = models.BooleanField(default=False, db_default=False)
    #: Why it is not to be sent again, when that came up while it was on its way: a sentence.
    cancel_requested = models.TextField(default="", db_default="")
    #: Why it waits, was cancelled, or went as it went: a sentence.
    reason = models.TextField(default="", db_default="")
    queued_at = models.DateTimeField()
    #: When it is to be sent (again).
    due_at = models.DateTimeField()
    lease_until = models.DateTimeField(null=True)
    leased_by = models.TextField(default="", db_default="")
    sent_at = models.DateTimeField(null=True)
    delivered_at = models.DateTimeField(null=True)
    #: When a try ended of which nobody knows whether the message left.
    outcome_unknown_at = models.DateTimeField(null=True)
    #: When it was due, once a try has failed; NULL before. Copied to the deliveries that follow it.
    late_since = models.DateTimeField(null=True)
    #: The quick retries are used up: administrators know, and it is retried every few minutes.
    is_exhausted = models.BooleanField(default=False, db_default=False)
    #: Failures of Tocsin's own since a provider last failed.
    own_failures = models.SmallIntegerField(default=0, db_default=0)
    #: When it was cancelled, or failed for good.
    ended_at = models.DateTimeField(null=True)
    #: The provider's own id of the message, for receipts.
    external_id = models.TextField(default="", db_default="")
    #: The provider's last word on it, as `channels.callbacks.ReceiptState` has them; empty without one.
    receipt = models.TextField(default="", db_default="")

    class Meta:
        constraints = (
            models.CheckConstraint(
                condition=Q(status__in=[str(s) for s in DeliveryStatus]), name="notify_delivery_status"
            ),
        )
        indexes = (
            # The outbox's claim, fairly across integrations: first pages first.
            models.Index(
                fields=("integration", "-is_first", "due_at"),
                condition=Q(status="queued"),
                name="notify_delivery_outbox",
            ),
            # Leases that ran out.
            models.Index(fields=("lease_until",), condition=Q(status="sending"), name="notify_delivery_lease"),
            # What waits for one address, so that it leaves bundled.
            models.Index(fields=("address",), condition=Q(status="queued"), name="notify_delivery_waiting"),
            # What is retried: it leaves as soon as a provider of its channel is back. Hardly ever any.
            models.Index(
                fields=("channel", "address"),
                condition=Q(status="queued", late_since__isnull=False),
                name="notify_delivery_late",
            ),
            # Pages that failed: alerts that reached nobody.
            models.Index(
                fields=("alert",), condition=Q(status="failed", purpose="page"), name="notify_delivery_failed"
            ),
            # The deliveries of an alert.
            models.Index(fields=("alert", "id"), name="notify_delivery_alert"),
        )


class LastSent(models.Model):
    """When something last left for somebody at an address: what follows within seconds leaves bundled. Old rows go."""

    pk = models.CompositePrimaryKey("recipient", "channel", "address", "purpose")
    #: The user's id, or 0 for a group contact.
    recipient = models.BigIntegerField()
    channel = models.TextField()
    address = models.TextField()
    purpose = models.TextField()
    left_at = models.DateTimeField()


class SandboxMessage(models.Model):
    """What would have been sent, for channels that have no provider. Nothing left the machine."""

    id = models.BigAutoField(primary_key=True)
    delivery = models.UUIDField(unique=True)
    alert = models.ForeignKey("alerts.Alert", null=True, on_delete=models.CASCADE, related_name="+")
    user = models.ForeignKey("people.User", null=True, on_delete=models.SET_NULL, related_name="+")
    channel = models.TextField()
    address = models.TextField()
    #: As the channel rendered it: subject, text, html, headers.
    content = models.JSONField()
    at = models.DateTimeField()


class Pause(models.Model):
    """A pause of all paging: by whom, why, until when. At most one is current."""

    reason = models.TextField()
    started_at = models.DateTimeField()
    until = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)
    user = models.ForeignKey("people.User", null=True, on_delete=models.SET_NULL, related_name="+")


class PushKey(models.Model):
    """The key pair by which push services know this installation (VAPID, RFC 8292): made once, one row."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    #: Base64url of the uncompressed point, as browsers want it.
    public = models.TextField()
    #: A Fernet token over the private number, base64url.
    private = models.TextField()
    created_at = models.DateTimeField()

    class Meta:
        constraints = (models.CheckConstraint(condition=Q(id=1), name="notify_pushkey_one"),)


class PushDevice(models.Model):
    """A browser on a device of somebody's that takes pushes, or took them once."""

    id = models.BigAutoField(primary_key=True)
    user = models.ForeignKey("people.User", on_delete=models.CASCADE, related_name="push_devices")
    #: The address of its person's contact method: all of their devices have the same.
    address = models.TextField()
    name = models.CharField(_("name"), max_length=100)
    #: SHA-256 of the endpoint, hexadecimal: a browser that subscribes again is the same device.
    endpoint_hash = models.CharField(max_length=64, unique=True)
    #: The push service's name, such as fcm.googleapis.com.
    service = models.TextField()
    #: A Fernet token over the subscription's JSON; empty once it is gone.
    subscription = models.TextField()
    created_at = models.DateTimeField()
    last_sent_at = models.DateTimeField(null=True)
    #: What the push service last refused, and why: a sentence.
    last_error = models.TextField(default="", db_default="")
    #: When the push service said that the browser takes no pushes any more.
    gone_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ("id",)
        # The devices behind a contact method, when a push leaves.
        indexes = (models.Index(fields=("address",), name="notify_pushdevice_address"),)

    def __str__(self) -> str:
        return self.name


class MailReply(models.Model):
    """A mail that came as an answer, and what became of it: kept so that none counts twice, and to see why."""

    id = models.BigAutoField(primary_key=True)
    #: SHA-256 of the Message-ID, or of the whole mail without one, hexadecimal.
    mail_hash = models.CharField(max_length=64, unique=True)
    received_at = models.DateTimeField()
    provider_name = models.TextField()
    sender = models.TextField()
    subject = models.TextField()
    alert = models.ForeignKey("alerts.Alert", null=True, on_delete=models.SET_NULL, related_name="+", db_index=False)
    user = models.ForeignKey("people.User", null=True, on_delete=models.SET_NULL, related_name="+", db_index=False)
    #: `acted`, `refused` or `ignored`; empty while it is being worked on.
    outcome = models.TextField(default="", db_default="")
    #: What became of it, or why it did not count: a sentence.
    reason = models.TextField(default="", db_default="")

    class Meta:
        ordering = ("-id",)
