"""An import from another product, from its start until it is applied, thrown away or followed by another."""

from __future__ import annotations

from enum import StrEnum

from django.db import models
from django.db.models import Q


class ImportState(StrEnum):
    """How far an import is."""

    READING = "reading"
    #: Read and translated: waits for somebody to apply it.
    READY = "ready"
    APPLYING = "applying"
    APPLIED = "applied"
    FAILED = "failed"


class ImportRun(models.Model):
    """One row at most that is not over. The key of the other product is never in it."""

    product = models.TextField()
    #: The address, or the name of the file.
    source = models.TextField()
    started_by = models.TextField()
    started_at = models.DateTimeField()
    state = models.TextField()
    #: What is being done now; and when it was last heard of, since the thread that does it may be gone.
    progress = models.TextField(default="", db_default="")
    beat_at = models.DateTimeField()
    #: Why it failed: a sentence.
    problem = models.TextField(default="", db_default="")
    #: The YAML, encrypted: numbers of people stand in it, and may keys of senders. Empty once it is applied.
    configuration = models.TextField(default="", db_default="")
    counts = models.JSONField(default=dict)
    findings = models.JSONField(default=list)
    #: The lines of the plan; and why it cannot be applied, if it cannot.
    plan = models.JSONField(default=list)
    refusals = models.JSONField(default=list)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(state__in=[str(state) for state in ImportState]), name="import_state_is_known"
            )
        ]
