"""The two columns of a stored reason, as an abstract model, and what raw SQL writes into them."""

from __future__ import annotations

from typing import Any

from django.db import models

from tocsin.core.reasons import Reason, reason_from

#: The longest code; a test compares it with every defined one.
MAX_CODE_CHARS = 80


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
