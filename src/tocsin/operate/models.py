"""The installation's own state: nodes, the last self-check, and the problems it found."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q

from tocsin.core.models import ReasonField


class Node(models.Model):
    """A running process. Times are the database's own, unaffected by a test clock. Dead nodes are pruned."""

    id = models.UUIDField(primary_key=True)
    name = models.TextField()
    role = models.TextField()
    version = models.TextField()
    started_at = models.DateTimeField()
    seen_at = models.DateTimeField()
    #: By task: `at`, when it last ran, and `every`, its interval in seconds.
    loops = models.JSONField(default=dict)
    #: The fingerprints of the secret keys it knows.
    keys = ArrayField(models.TextField(), default=list, db_default=[])
    #: By provider: the number of sends that hang past their deadline.
    stuck_senders = models.JSONField(default=dict, db_default={})


class Audit(models.Model):
    """A single row: the last self-check, and the last external heartbeat."""

    #: By the database's clock; the node that updates it runs the self-check.
    checked_at = models.DateTimeField()
    #: The name of that node.
    node = models.TextField(default="", db_default="")
    #: When the URL of the heartbeat last accepted a ping, and why the last one failed, if it did.
    heartbeat_at = models.DateTimeField(null=True)
    heartbeat_problem = ReasonField()


class Problem(models.Model):
    """A problem found by a self-check. The row is kept for a while after its end, to limit repeated notices."""

    id = models.TextField(primary_key=True)
    title = ReasonField()
    detail = ReasonField()
    remedy = ReasonField()
    since = models.DateTimeField()
    seen_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)
    #: When administrators were notified of this occurrence, and when they were last notified at all.
    notified_at = models.DateTimeField(null=True)
    last_notified_at = models.DateTimeField(null=True)

    class Meta:
        # Open problems.
        indexes = (models.Index(fields=("since",), condition=Q(ended_at=None), name="operate_problem_open"),)
