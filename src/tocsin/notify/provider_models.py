"""What is known of providers beside their configuration: health, receipts that are awaited, what vendors told, and
addresses that want no messages or are still to be confirmed by a code. All rows, shared by the nodes."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models


class ProviderHealth(models.Model):
    """How a provider has done lately, by its name: the environment's mail server has a row too."""

    name = models.TextField(primary_key=True)
    #: Failures on end; none since it last worked.
    failures = models.PositiveIntegerField(default=0, db_default=0)
    #: Out of turn: used only where no other is left.
    is_open = models.BooleanField(default=False, db_default=False)
    opened_at = models.DateTimeField(null=True)
    #: When it is asked again whether it works.
    retry_at = models.DateTimeField(null=True)
    #: Its last probe failed, and may succeed later.
    is_silent = models.BooleanField(default=False, db_default=False)
    #: When its circuit last closed: what waits for it is retried from then on.
    recovered_at = models.DateTimeField(null=True)
    #: How often it has been found failing on end, which makes the waits longer.
    openings = models.PositiveIntegerField(default=0, db_default=0)
    worked_at = models.DateTimeField(null=True)
    failed_at = models.DateTimeField(null=True)
    #: What went wrong last: a sentence, without secrets or addresses.
    error = models.TextField(default="", db_default="")
    #: The moment to which messages sent so far use up what it may be given (the limit of messages a minute).
    free_at = models.DateTimeField(null=True)


class Bundle(models.Model):
    """The deliveries that left as one message, by the notification whose id the vendor knows it by."""

    notification = models.UUIDField(primary_key=True)
    deliveries = ArrayField(models.UUIDField())
    at = models.DateTimeField()

    class Meta:
        # Old ones go.
        indexes = (models.Index(fields=("at",), name="notify_bundle_at"),)


class AwaitedReceipt(models.Model):
    """A page that a provider has accepted and must report as delivered by `due_at`."""

    #: The delivery's id; no foreign key, so that neither waits for the other.
    delivery = models.UUIDField(primary_key=True)
    due_at = models.DateTimeField()
    #: In seconds.
    waited = models.PositiveIntegerField()

    class Meta:
        # Those that are overdue.
        indexes = (models.Index(fields=("due_at",), name="notify_awaitedreceipt_due"),)


class OptOut(models.Model):
    """An address that wants no messages on a channel: somebody wrote STOP from it. START takes it back."""

    pk = models.CompositePrimaryKey("channel", "address")
    channel = models.TextField()
    address = models.TextField()
    provider_name = models.TextField()
    at = models.DateTimeField()


class ProcessedCallback(models.Model):
    """Something a vendor told that acts, with what was answered: told twice, it acts once. Old rows go."""

    #: SHA-256 of provider and the vendor's id, hexadecimal.
    key = models.CharField(max_length=64, primary_key=True)
    answer = models.TextField(default="", db_default="")
    at = models.DateTimeField()

    class Meta:
        indexes = (models.Index(fields=("at",), name="notify_processedcallback_at"),)


class VerificationCode(models.Model):
    """The code that was sent to a contact method's address last. Only its HMAC is kept."""

    method = models.OneToOneField("people.ContactMethod", on_delete=models.CASCADE, related_name="code")
    #: The address that it was sent to: another one needs a code of its own.
    address = models.TextField()
    code_hash = models.TextField()
    sent_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    #: Wrong guesses.
    tries = models.PositiveSmallIntegerField(default=0)
    #: Codes sent since `counted_from`.
    sends = models.PositiveSmallIntegerField(default=1)
    counted_from = models.DateTimeField()
