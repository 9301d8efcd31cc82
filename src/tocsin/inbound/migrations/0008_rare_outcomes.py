"""Indexes of the few messages whose outcome is rare, and of replays, so that the log finds them without reading all."""

from __future__ import annotations

from django.db import migrations, models
from django.db.models import Q

from tocsin.core.db.migration_operations import AddIndexWhileWorking


class Migration(migrations.Migration):
    # Ingest goes on meanwhile.
    atomic = False

    dependencies = [("inbound", "0007_words_for_searching")]

    operations = [
        AddIndexWhileWorking(
            model_name="inboundmessage",
            index=models.Index(
                fields=["status", "id"],
                condition=Q(status__in=["Mapped Updated", "Mapped Closed", "Mapped Ignored"]),
                name="inbound_message_rare",
            ),
        ),
        AddIndexWhileWorking(
            model_name="inboundmessage",
            index=models.Index(
                fields=["replay_of", "id"],
                condition=Q(replay_of__isnull=False),
                name="inbound_message_replay",
            ),
        ),
    ]
