"""Database models of the state that all nodes share about providers: health, awaited receipts, processed callbacks,
opt-outs and verification codes.
"""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models

from tocsin.core.reasons import Reason, reason_from
from tocsin.core.stored_reason import MAX_CODE_CHARS


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
    error_code = models.CharField(max_length=MAX_CODE_CHARS, default="", db_default="")
    error_data = models.JSONField(default=dict, db_default={})
    #: The time up to which sent messages use up the rate limit (messages per minute).
    free_at = models.DateTimeField(null=True)

    @property
    def error(self) -> Reason:
        return reason_from(self.error_code, self.error_data)


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
