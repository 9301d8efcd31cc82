"""An index of the few messages of tests, so that whoever asks for them does not read all the others."""

from __future__ import annotations

from django.db import migrations, models

from tocsin.core.db.migration_operations import AddIndexWhileWorking


class Migration(migrations.Migration):
    # Ingest goes on meanwhile.
    atomic = False

    dependencies = [("inbound", "0008_rare_outcomes")]

    operations = [
        AddIndexWhileWorking(
            model_name="inboundmessage",
            index=models.Index(fields=["id"], condition=models.Q(test=True), name="inbound_message_test"),
        ),
    ]
