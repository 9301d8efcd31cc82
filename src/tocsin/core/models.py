"""Tables of the whole installation: configuration version, settings, clock state and mailbox errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db import models

from tocsin.core.reasons import Reason, reason_from

# ---------- stored reason
# The two columns of a stored reason, as an abstract model, and what raw SQL writes into them.


#: The longest code, or template of a text without a code.
MAX_CODE_CHARS = 2000


class StoredReason(models.Model):
    """Why something happened, as a code and its parameters. Setting `reason` sets both columns."""

    reason_code = models.CharField(max_length=MAX_CODE_CHARS, default="", db_default="")
    reason_data = models.JSONField(default=dict, db_default={})

    class Meta:
        abstract = True

    @property
    def reason(self) -> Reason:
        return reason_from(self.reason_code, self.reason_data)

    @reason.setter
    def reason(self, reason: Reason) -> None:
        self.reason_code, self.reason_data = reason_columns(reason)


def reason_columns(reason: Reason) -> tuple[str, dict[str, Any]]:
    """Returns what the columns `reason_code` and `reason_data` hold for a reason."""
    return reason.code, reason.data


def named_reason(name: str) -> Any:
    """Returns a property for the reason in the columns `NAME_code` and `NAME_data`, for a model with several."""

    def read(row: Any) -> Reason:
        return reason_from(getattr(row, f"{name}_code"), getattr(row, f"{name}_data"))

    def write(row: Any, reason: Reason) -> None:
        for column, value in named_columns(name, reason).items():
            setattr(row, column, value)

    return property(read, write)


def named_columns(name: str, reason: Reason) -> dict[str, Any]:
    """Returns what the columns `NAME_code` and `NAME_data` hold for a reason."""
    return {f"{name}_code": reason.code, f"{name}_data": reason.data}


def reason_in(row: Mapping[str, Any], name: str = "reason") -> Reason:
    """Returns the reason in the columns `NAME_code` and `NAME_data` of a row of raw SQL."""
    return reason_from(row[f"{name}_code"], row[f"{name}_data"])


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
    `core.runtime.clock`."""

    seen_at = models.DateTimeField()
    #: When the clock last jumped, by the clock after the jump, and by how much: negative for a clock rollback.
    jumped_at = models.DateTimeField(null=True)
    jumped_by = models.DurationField(null=True)


class MailboxTrouble(StoredReason):
    """A mailbox that could not be read at the last poll. See `core.net.imap`."""

    pk = models.CompositePrimaryKey("reads", "number")
    reads = models.TextField()
    number = models.BigIntegerField()
    since = models.DateTimeField()
