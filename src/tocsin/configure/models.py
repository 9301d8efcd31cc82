"""An import from another product, from its start until it is applied, discarded or replaced."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum

from django.db import models
from django.db.models import Q

from tocsin.core.hooks import Expiry
from tocsin.core.models import ReasonField


class ImportState(StrEnum):
    """The state of an import."""

    READING = "reading"
    #: Read and converted; waiting to be applied.
    READY = "ready"
    APPLYING = "applying"
    APPLIED = "applied"
    FAILED = "failed"


class ImportRun(models.Model):
    """An import; at most one is in progress. The other product's API key is never stored."""

    product = models.TextField()
    #: The API's URL, or the name of the file.
    source = models.TextField()
    started_by = models.TextField()
    started_at = models.DateTimeField()
    state = models.TextField()
    #: The current step, and the time of the last sign of life, because the thread may be gone.
    progress = ReasonField()
    beat_at = models.DateTimeField()
    #: Why it failed.
    problem = ReasonField()
    #: The encrypted YAML: it contains phone numbers, and possibly senders' keys. Empty once applied.
    configuration = models.TextField(default="", db_default="")
    counts = models.JSONField(default=dict)
    findings = models.JSONField(default=list)
    #: The lines of the plan, and the reasons why it cannot be applied, if so.
    plan = models.JSONField(default=list)
    refusals = models.JSONField(default=list)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(state__in=[str(state) for state in ImportState]), name="import_state_is_known"
            )
        ]


# ---------- retention


# Imported data contains phone numbers, and possibly senders' keys. After this time it is outdated as well.
_OLD_IMPORTS = """
UPDATE configure_importrun SET configuration = '', state = 'failed', progress = '{}',
  plan = '[]', problem = '{"code": "import.expired", "data": {}}'
WHERE beat_at < %(before)s AND configuration <> ''
"""

#: How long an import is kept that was not applied.
UNAPPLIED_RETENTION = timedelta(days=7)

EXPIRIES = (Expiry(_OLD_IMPORTS, UNAPPLIED_RETENTION),)
