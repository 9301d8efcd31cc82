"""What the installation knows of its own running: its nodes, the last audit, and the problems that audits found."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q


class Node(models.Model):
    """A running process. Its moments are the database's own, which no test clock moves. Gone ones are pruned."""

    id = models.UUIDField(primary_key=True)
    name = models.TextField()
    role = models.TextField()
    version = models.TextField()
    started_at = models.DateTimeField()
    seen_at = models.DateTimeField()
    #: By loop: `at`, the moment of its last turn, and `every`, the seconds within which it should turn again.
    loops = models.JSONField(default=dict)
    #: The fingerprints of the secret keys that it knows.
    keys = ArrayField(models.TextField(), default=list, db_default=[])
    #: By provider: how many of its sends hang past their deadline.
    stuck_senders = models.JSONField(default=dict, db_default={})


class Audit(models.Model):
    """One row: when the installation last checked itself, and told the outside that it lives."""

    #: By the database's clock; whoever makes it newer does the audit.
    checked_at = models.DateTimeField()
    #: The name of the node that did.
    node = models.TextField(default="", db_default="")
    #: When `TOCSIN_HEARTBEAT_URL` last took a ping, and why the last one failed; empty: it did not.
    heartbeat_at = models.DateTimeField(null=True)
    heartbeat_problem = models.TextField(default="", db_default="")


class Problem(models.Model):
    """Something an audit found wrong. The row stays for a while after its end, so that it is not told too often."""

    id = models.TextField(primary_key=True)
    title = models.TextField()
    #: What is wrong, and what to do about it: sentences.
    detail = models.TextField()
    remedy = models.TextField()
    since = models.DateTimeField()
    seen_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)
    #: When administrators were told that it began, this time; and when they last were at all.
    told_at = models.DateTimeField(null=True)
    last_told_at = models.DateTimeField(null=True)

    class Meta:
        # What is wrong now.
        indexes = (models.Index(fields=("since",), condition=Q(ended_at=None), name="operate_problem_open"),)
