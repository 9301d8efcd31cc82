"""Rows that belong to the whole installation: the configuration's version, settings, the test clock's jump."""

from __future__ import annotations

from django.db import models


class ConfigVersion(models.Model):
    """One row. Its number rises with every change of configuration, so that nodes know when to load again."""

    version = models.BigIntegerField(default=0)


class Setting(models.Model):
    """One setting of the installation, by name. What is not here has its default: see `core.config.settings_store`."""

    name = models.CharField(max_length=100, primary_key=True)
    value = models.JSONField()


class ClockOffset(models.Model):
    """One row: by how many seconds the test clock has jumped. Honoured only under `TOCSIN_TEST_CLOCK=1`."""

    seconds = models.FloatField(default=0)


class ClockSeen(models.Model):
    """One row: what the clock of the database showed when a node last looked, so that one that was set is noticed. See
    `clock_seen`."""

    seen_at = models.DateTimeField()
    #: When it last jumped, by the clock after that, and by how much: less than nothing where it was set back.
    jumped_at = models.DateTimeField(null=True)
    jumped_by = models.DurationField(null=True)


class MailboxTrouble(models.Model):
    """A mailbox that could not be read when it was last looked at. See `mailbox_troubles`."""

    pk = models.CompositePrimaryKey("reads", "number")
    reads = models.TextField()
    number = models.BigIntegerField()
    since = models.DateTimeField()
    error = models.TextField()
