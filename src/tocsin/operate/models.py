"""What the installation knows of its own running: its nodes and their loops."""

from __future__ import annotations

from django.db import models


class Node(models.Model):
    """A running process: when each of its loops last turned. Rows of nodes that are gone are pruned."""

    id = models.UUIDField(primary_key=True)
    name = models.TextField()
    role = models.TextField()
    version = models.TextField()
    started_at = models.DateTimeField()
    seen_at = models.DateTimeField()
    #: The moment of each loop's last turn, by loop.
    loops = models.JSONField(default=dict)
