"""Database models: notifications, their deliveries, providers, sandbox messages, push devices, mail replies, the
paging pause and the monthly reports that are mailed.
"""

from __future__ import annotations

from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Case, Q, TextField, Value, When
from django.db.models.functions import Lower, Upper
from django.utils.translation import gettext_lazy as _

from tocsin.access.boundary import BoundedManager
from tocsin.core.models import ReasonField
from tocsin.core.reasons import Reason, reason_from_json
from tocsin.core.validation.name_validator import validate_name
from tocsin.notify.states import STORED_STATES, DeliveryState, DeliveryStatus, Purpose, state_of


class ProviderHealth(models.Model):
    """A provider's recent health, by provider name. The environment's mail server has a row too."""

    name = models.TextField(primary_key=True)
    #: Consecutive failures since the last success.
    failures = models.PositiveIntegerField(default=0, db_default=0)
    #: Whether the circuit breaker is open: the provider is used only if no other is left.
    is_open = models.BooleanField(default=False, db_default=False)
    opened_at = models.DateTimeField(null=True)
    #: When the provider is probed again.
    retry_at = models.DateTimeField(null=True)
    #: Whether the last failed probe since the circuit breaker opened had an error that may pass by itself.
    is_unresponsive = models.BooleanField(default=False, db_default=False)
    #: When the circuit breaker last closed, or the first message was sent after that. Waiting messages are retried from
    #: then on.
    recovered_at = models.DateTimeField(null=True)
    #: How often the circuit breaker has opened in a row, which lengthens the back-off.
    openings = models.PositiveIntegerField(default=0, db_default=0)
    worked_at = models.DateTimeField(null=True)
    failed_at = models.DateTimeField(null=True)
    #: The last error, without secrets or addresses.
    error = ReasonField()
    #: The time up to which sent messages use up the rate limit (messages per minute).
    free_at = models.DateTimeField(null=True)
    #: The vendor's own quota, as last reported: messages in a period, how many are left, and when the next one begins.
    quota_limit = models.PositiveIntegerField(null=True)
    quota_left = models.PositiveIntegerField(null=True)
    quota_resets_at = models.DateTimeField(null=True)


class Bundle(models.Model):
    """The deliveries that were bundled into one message, by the notification id that the vendor received."""

    notification = models.UUIDField(primary_key=True)
    deliveries = ArrayField(models.UUIDField())
    at = models.DateTimeField()

    class Meta:
        # Finds rows old enough to delete.
        indexes = (models.Index(fields=("at",), name="notify_bundle_at"),)


class AwaitedReceipt(models.Model):
    """A page that a provider has accepted and must report as delivered by `due_at`."""

    #: The delivery's id. Not a foreign key, so that the two rows never lock each other.
    delivery = models.UUIDField(primary_key=True)
    due_at = models.DateTimeField()
    #: The receipt timeout, in seconds.
    timeout_seconds = models.PositiveIntegerField()

    class Meta:
        # Finds overdue receipts.
        indexes = (models.Index(fields=("due_at",), name="notify_awaitedreceipt_due"),)


class OpenReceipt(models.Model):
    """A page that its vendor repeats until someone answers, and whose receipt is asked for."""

    #: The first of its deliveries. Not a foreign key, so that the two rows never lock each other.
    delivery = models.UUIDField(primary_key=True)
    #: All deliveries of the message, and those of them that still need an answer: without any, the repeats end.
    deliveries = ArrayField(models.UUIDField())
    standing = ArrayField(models.UUIDField())
    sent_at = models.DateTimeField()
    #: When the vendor is asked next. A node moves it before it asks, so that no other asks meanwhile.
    poll_at = models.DateTimeField()
    polled_at = models.DateTimeField(null=True)
    #: Whether the vendor has ended the repeats. It is asked once more: an answer may have crossed.
    is_stopped = models.BooleanField(default=False, db_default=False)

    class Meta:
        # Finds the receipts that are due.
        indexes = (models.Index(fields=("poll_at",), name="notify_openreceipt_poll"),)


class MessageUpdate(models.Model):
    """A sent message whose alert has changed since, and that is to be brought up to date where it is."""

    #: The delivery's id. Not a foreign key, so that the two rows never lock each other.
    delivery = models.UUIDField(primary_key=True)
    #: That of the delivery: one address gets one update at a time.
    address = models.TextField()
    due_at = models.DateTimeField()
    #: When the alert changed. A later change while the update is being made needs another one.
    changed_at = models.DateTimeField()
    attempts = models.PositiveSmallIntegerField(default=0, db_default=0)

    class Meta:
        # Finds due updates.
        indexes = (models.Index(fields=("due_at",), name="notify_messageupdate_due"),)


class ChatConversation(models.Model):
    """A conversation in which a bot may post, as its installation told."""

    pk = models.CompositePrimaryKey("bot", "address")
    #: The bot's id at its vendor. Not the provider's, which may be renamed, or made anew.
    bot = models.TextField()
    #: The contact method's address.
    address = models.TextField()
    #: The server of the vendor's that a verified request named: nothing is sent elsewhere.
    service_url = models.TextField()
    conversation = models.TextField()
    seen_at = models.DateTimeField()


class OptOut(models.Model):
    """An address that opted out of a channel by sending STOP. START removes the row."""

    pk = models.CompositePrimaryKey("channel", "address")
    channel = models.TextField()
    address = models.TextField()
    provider_name = models.TextField()
    at = models.DateTimeField()


class ProcessedCallback(models.Model):
    """A processed vendor callback and its reply. A repeated callback acts only once. Old rows are deleted."""

    #: SHA-256 of the provider and the vendor's id, hexadecimal.
    key = models.CharField(max_length=64, primary_key=True)
    answer = models.TextField(default="", db_default="")
    at = models.DateTimeField()

    class Meta:
        indexes = (models.Index(fields=("at",), name="notify_processedcallback_at"),)


class VerificationCode(models.Model):
    """The latest verification code sent to a contact method's address. Only its HMAC is stored."""

    method = models.OneToOneField("people.ContactMethod", on_delete=models.CASCADE, related_name="code")
    #: The address that the code was sent to. A changed address needs a new code.
    address = models.TextField()
    code_hash = models.TextField()
    sent_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    #: Wrong guesses.
    tries = models.PositiveSmallIntegerField(default=0)
    #: Codes sent since `counted_from`.
    sends = models.PositiveSmallIntegerField(default=1)
    counted_from = models.DateTimeField()


class Provider(models.Model):
    """An account or server that carries one or more channels. Providers are tried in their order."""

    name = models.CharField(_("name"), max_length=100, validators=[validate_name])
    kind = models.CharField(_("kind"), max_length=40)
    channels = ArrayField(models.CharField(max_length=20))
    #: Settings that may be displayed: address, sender, region.
    settings = models.JSONField(default=dict, db_default={})
    #: A Fernet token over the secrets' JSON. Never displayed.
    secrets = models.TextField(default="", db_default="")
    order = models.PositiveSmallIntegerField(_("order"), default=1)
    is_enabled = models.BooleanField(_("enabled"), default=True)

    class Meta:
        ordering = ("order", "name")
        constraints = (models.UniqueConstraint(Lower("name"), name="notify_provider_name"),)

    def __str__(self) -> str:
        return self.name


class Notification(models.Model):
    """One message to one user or group contact about one alert. Its outcome is in its deliveries."""

    #: A UUIDv7; also the idempotency key sent to providers.
    id = models.UUIDField(primary_key=True)
    alert = models.ForeignKey(
        "alerts.Alert", null=True, on_delete=models.CASCADE, related_name="notifications", db_index=False
    )
    run = models.ForeignKey(
        "escalation.EscalationRun", null=True, on_delete=models.SET_NULL, related_name="+", db_index=False
    )
    user = models.ForeignKey(
        "people.User", null=True, on_delete=models.SET_NULL, related_name="notifications", db_index=False
    )
    group_contact = models.ForeignKey(
        "people.GroupContact", null=True, on_delete=models.SET_NULL, related_name="+", db_index=False
    )
    purpose = models.TextField()
    channel = models.TextField()
    #: The contact method's label at the time.
    label = models.TextField(default="", db_default="")
    address = models.TextField()
    #: Why this recipient was notified on this contact method now.
    reason = ReasonField()
    #: What the message needs besides the alert: the step, the pass, the text of a notice.
    data = models.JSONField(default=dict, db_default={})
    created_at = models.DateTimeField()

    objects: ClassVar[models.Manager[Notification]] = BoundedManager()

    class Meta:
        constraints = (
            models.CheckConstraint(
                condition=Q(purpose__in=[str(p) for p in Purpose]), name="notify_notification_purpose"
            ),
        )
        indexes = (
            # Lists the recipients of an alert.
            models.Index(fields=("alert", "id"), name="notify_notification_alert"),
            # Lists a user's own pages.
            models.Index(fields=("user", "id"), name="notify_notification_user"),
        )

    @property
    def title(self) -> Reason:
        """The title of a notice or test."""
        return reason_from_json(self.data.get("title"))


class Delivery(models.Model):
    """The sending of a notification through one provider, with its retries. Queued rows form the outbox."""

    #: A UUIDv7.
    id = models.UUIDField(primary_key=True)
    notification = models.ForeignKey(Notification, on_delete=models.CASCADE, related_name="deliveries")
    alert = models.ForeignKey("alerts.Alert", null=True, on_delete=models.CASCADE, related_name="+", db_index=False)
    user = models.ForeignKey("people.User", null=True, on_delete=models.SET_NULL, related_name="+", db_index=False)
    #: The integration of the alert, for fair queueing; NULL for notices without an alert.
    integration = models.ForeignKey(
        "inbound.Integration", null=True, on_delete=models.SET_NULL, related_name="+", db_index=False
    )
    channel = models.TextField()
    address = models.TextField()
    purpose = models.TextField()
    #: Whether it is the first page of its alert. First pages are sent before others.
    is_first = models.BooleanField(default=False, db_default=False)
    status = models.TextField(default=DeliveryStatus.QUEUED, db_default="queued")
    #: Why it waits, was cancelled, or was sent as it was.
    reason = ReasonField()
    provider = models.ForeignKey(Provider, null=True, on_delete=models.SET_NULL, related_name="+", db_index=False)
    #: The provider's name at the time; `sandbox` if nothing left the machine; empty if no provider was called.
    provider_name = models.TextField(default="", db_default="")
    attempts = models.SmallIntegerField(default=0, db_default=0)
    #: The last error.
    error = ReasonField()
    #: Whether the last attempt was refused: a person must act.
    is_permanent = models.BooleanField(default=False, db_default=False)
    #: Whether it was refused because the address does not exist: the provider is not tried again.
    is_final = models.BooleanField(default=False, db_default=False)
    #: Why it must not be sent again, if it was cancelled while being sent.
    cancel_requested = ReasonField()
    queued_at = models.DateTimeField()
    #: When it is to be sent or retried.
    due_at = models.DateTimeField()
    lease_until = models.DateTimeField(null=True)
    leased_by = models.TextField(default="", db_default="")
    sent_at = models.DateTimeField(null=True)
    delivered_at = models.DateTimeField(null=True)
    #: When an attempt ended with an unknown outcome: the message may or may not have been sent.
    outcome_unknown_at = models.DateTimeField(null=True)
    #: When it was due, once an attempt has failed; NULL before. Copied to the deliveries that follow it.
    late_since = models.DateTimeField(null=True)
    #: Whether the quick retries are used up. Administrators have been notified, and it is retried every few minutes.
    is_exhausted = models.BooleanField(default=False, db_default=False)
    #: Internal failures of Tocsin since a provider last failed.
    own_failures = models.SmallIntegerField(default=0, db_default=0)
    #: When it was cancelled or failed for good.
    ended_at = models.DateTimeField(null=True)
    #: The provider's message id, to match receipts.
    external_id = models.TextField(default="", db_default="")
    #: The provider's latest receipt state, a `ReceiptState`; empty without one.
    receipt = models.TextField(default="", db_default="")
    #: What the vendor charged for it, where its receipts say so; a bundled message is charged to its first delivery.
    cost = models.DecimalField(max_digits=14, decimal_places=6, null=True)
    currency = models.TextField(default="", db_default="")

    objects: ClassVar[models.Manager[Delivery]] = BoundedManager()

    @property
    def state(self) -> DeliveryState:
        """How far it came, as every reader sees it."""
        return state_of(self)

    class Meta:
        constraints = (
            models.CheckConstraint(
                condition=Q(status__in=[str(s) for s in DeliveryStatus]), name="notify_delivery_status"
            ),
        )
        indexes = (
            # Serves the outbox's claim, which is fair across integrations and takes first pages first.
            models.Index(
                fields=("integration", "-is_first", "due_at"),
                condition=Q(status="queued"),
                name="notify_delivery_outbox",
            ),
            # Finds expired leases.
            models.Index(fields=("lease_until",), condition=Q(status="sending"), name="notify_delivery_lease"),
            # Finds what waits for one address, to bundle it.
            models.Index(fields=("address",), condition=Q(status="queued"), name="notify_delivery_waiting"),
            # Finds retries, which are sent as soon as a provider of their channel recovers. Usually empty.
            models.Index(
                fields=("channel", "address"),
                condition=Q(status="queued", late_since__isnull=False),
                name="notify_delivery_late",
            ),
            # Finds failed pages: alerts that reached nobody.
            models.Index(
                fields=("alert",), condition=Q(status="failed", purpose="page"), name="notify_delivery_failed"
            ),
            # Finds pages that a channel without a provider kept: they reached nobody, and leave once it has one.
            models.Index(
                fields=("alert",), condition=Q(status="sandboxed", purpose="page"), name="notify_delivery_sandboxed"
            ),
            # Lists the deliveries of an alert.
            models.Index(fields=("alert", "id"), name="notify_delivery_alert"),
        )


#: `Delivery.state` as a database expression.
STATE_IN_SQL = Case(
    *(
        When(**{f"{column}__in": values for column, values in columns.items()}, then=Value(str(state)))
        for state, columns in STORED_STATES
    ),
    default=Value(str(DeliveryState.FAILED)),
    output_field=TextField(),
)


class LastSent(models.Model):
    """When a message was last sent to a recipient's address: those that follow within seconds are bundled."""

    pk = models.CompositePrimaryKey("recipient", "channel", "address", "purpose")
    #: The user's id, or 0 for a group contact.
    recipient = models.BigIntegerField()
    channel = models.TextField()
    address = models.TextField()
    purpose = models.TextField()
    last_sent_at = models.DateTimeField()


class SandboxMessage(models.Model):
    """A message on a channel without a provider, stored instead of sent. Nothing left the machine."""

    id = models.BigAutoField(primary_key=True)
    delivery = models.UUIDField(unique=True)
    alert = models.ForeignKey("alerts.Alert", null=True, on_delete=models.CASCADE, related_name="+")
    user = models.ForeignKey("people.User", null=True, on_delete=models.SET_NULL, related_name="+")
    channel = models.TextField()
    address = models.TextField()
    #: The rendered message: subject, text, html, headers.
    content = models.JSONField()
    at = models.DateTimeField()

    objects: ClassVar[models.Manager[SandboxMessage]] = BoundedManager()


class Pause(models.Model):
    """A pause of all paging: who paused it, why, and until when. At most one is current."""

    reason = models.TextField()
    started_at = models.DateTimeField()
    until = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)
    user = models.ForeignKey("people.User", null=True, on_delete=models.SET_NULL, related_name="+")


class ClientReport(models.Model):
    """An address outside of Tocsin that gets the monthly report on a client, and announcements of maintenance."""

    client = models.CharField(max_length=200)
    address = models.EmailField(max_length=254)
    language = models.CharField(max_length=10, default="en", db_default="en")
    is_enabled = models.BooleanField(default=True, db_default=True)
    #: Whether it is mailed the maintenance windows that are announced to the client.
    announces_maintenance = models.BooleanField(default=False, db_default=False)
    #: The first day of the first month that is not reported yet.
    next_month = models.DateField()

    class Meta:
        ordering = ("client",)
        constraints = (models.UniqueConstraint(Upper("client"), name="notify_clientreport_client"),)

    def __str__(self) -> str:
        return self.client

    @property
    def name(self) -> str:
        """Its name in the audit log."""
        return self.client


class Announced(models.Model):
    """What was announced last about a subject, such as who is on call in a group: see `notify.notices`."""

    subject = models.TextField(primary_key=True)
    state = models.JSONField(default=dict, db_default={})
    #: Until when everything is announced; of a user group, when it may be changed next.
    at = models.DateTimeField()


class PushKey(models.Model):
    """The key pair that identifies this installation to push services (VAPID, RFC 8292). Created once, a single row."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    #: Base64url of the uncompressed point, the format that browsers expect.
    public = models.TextField()
    #: A Fernet token over the private number, base64url.
    private = models.TextField()
    created_at = models.DateTimeField()

    class Meta:
        constraints = (models.CheckConstraint(condition=Q(id=1), name="notify_pushkey_one"),)


class PushDevice(models.Model):
    """A user's browser that is subscribed to push notifications, or was."""

    id = models.BigAutoField(primary_key=True)
    user = models.ForeignKey("people.User", on_delete=models.CASCADE, related_name="push_devices")
    #: The address of the user's push contact method. All devices of a user share it.
    address = models.TextField()
    name = models.CharField(_("name"), max_length=100)
    #: SHA-256 of the endpoint, hexadecimal. A browser that subscribes again is the same device.
    endpoint_hash = models.CharField(max_length=64, unique=True)
    #: The push service's hostname, such as fcm.googleapis.com.
    service = models.TextField()
    #: A Fernet token over the subscription's JSON; empty once the subscription is gone.
    subscription = models.TextField()
    created_at = models.DateTimeField()
    last_sent_at = models.DateTimeField(null=True)
    #: The push service's last rejection and its reason.
    last_error = ReasonField()
    #: When the push service reported that the subscription has ended.
    gone_at = models.DateTimeField(null=True)

    objects: ClassVar[models.Manager[PushDevice]] = BoundedManager()

    class Meta:
        ordering = ("id",)
        # Finds the devices of a contact method when a push is sent.
        indexes = (models.Index(fields=("address",), name="notify_pushdevice_address"),)

    def __str__(self) -> str:
        return self.name


class MailReply(models.Model):
    """An inbound mail reply and its outcome, so that none is processed twice, and to show why it was ignored."""

    id = models.BigAutoField(primary_key=True)
    #: SHA-256 of the Message-ID, or of the whole mail if it has none, hexadecimal.
    mail_hash = models.CharField(max_length=64, unique=True)
    received_at = models.DateTimeField()
    provider_name = models.TextField()
    sender = models.TextField()
    subject = models.TextField()
    alert = models.ForeignKey("alerts.Alert", null=True, on_delete=models.SET_NULL, related_name="+", db_index=False)
    user = models.ForeignKey("people.User", null=True, on_delete=models.SET_NULL, related_name="+", db_index=False)
    #: `acted`, `refused` or `ignored`.
    outcome = models.TextField(default="", db_default="")
    #: The outcome, or why the mail was ignored.
    reason = ReasonField()

    objects: ClassVar[models.Manager[MailReply]] = BoundedManager()

    class Meta:
        ordering = ("-id",)
