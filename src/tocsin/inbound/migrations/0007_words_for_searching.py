"""The words of messages, kept beside them for searching; a loop fills the table."""

from __future__ import annotations

import django.contrib.postgres.indexes
import django.db.models.deletion
from django.db import migrations, models

from tocsin.core.db.trigram_index import AddTextIndex


class Migration(migrations.Migration):
    dependencies = [("inbound", "0006_delays_and_maintenance")]

    operations = [
        migrations.CreateModel(
            name="MessageText",
            fields=[
                (
                    "message",
                    models.OneToOneField(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="texts",
                        serialize=False,
                        to="inbound.inboundmessage",
                    ),
                ),
                ("subject", models.TextField()),
                ("source_id", models.TextField()),
            ],
        ),
        AddTextIndex(
            model_name="messagetext",
            index=django.contrib.postgres.indexes.GinIndex(
                fields=["subject", "source_id"],
                name="inbound_messagetext_parts",
                opclasses=("gin_trgm_ops", "gin_trgm_ops"),
            ),
        ),
    ]
