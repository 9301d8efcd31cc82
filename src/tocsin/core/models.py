"""Tables of the whole installation: configuration version, settings, clock state and mailbox errors."""

from __future__ import annotations

from django.db import models

from tocsin.core.stored_reason import StoredReason


class ConfigVersion(models.Model):
    """A single row. `version` rises with every configuration change, so that nodes know when to reload."""

    version = models.BigIntegerField(default=0)


class Setting(models.Model):
    """An installation-wide setting. A setting without a row has its default: see `core.config.settings_store`."""

    name = models.CharField(max_length=100, primary_key=True)
    value = models.JSONField()


class ClockOffset(models.Model):
    """A single row: the seconds by which the test clock has jumped. Used only with `TOCSIN_TEST_CLOCK=1`."""

    seconds = models.FloatField(default=0)


class ClockSeen(models.Model):
    """A single row: the database clock at the last check, by which a clock jump is detected. See
    `core.runtime.clock_jump`."""

    seen_at = models.DateTimeField()
    #: When the clock last jumped, by the clock after the jump, and by how much: negative for a clock rollback.
    jumped_at = models.DateTimeField(null=True)
    jumped_by = models.DurationField(null=True)


class MailboxTrouble(StoredReason):
    """A mailbox that could not be read at the last poll. See `core.net.mailbox_errors`."""

    pk = models.CompositePrimaryKey("reads", "number")
    reads = models.TextField()
    number = models.BigIntegerField()
    since = models.DateTimeField()
