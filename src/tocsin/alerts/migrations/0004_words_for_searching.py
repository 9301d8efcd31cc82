"""The words of alerts, kept beside them for searching; a loop fills the table."""

from __future__ import annotations

import django.contrib.postgres.indexes
import django.db.models.deletion
from django.db import migrations, models

from tocsin.core.db.trigram_index import AddTextIndex


class Migration(migrations.Migration):
    dependencies = [("alerts", "0003_long_texts_as_they_are")]

    operations = [
        migrations.CreateModel(
            name="AlertText",
            fields=[
                (
                    "alert",
                    models.OneToOneField(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="texts",
                        serialize=False,
                        to="alerts.alert",
                    ),
                ),
                ("subject", models.TextField()),
                ("client", models.TextField()),
                ("source_id", models.TextField()),
                ("tags", models.TextField()),
            ],
        ),
        AddTextIndex(
            model_name="alerttext",
            index=django.contrib.postgres.indexes.GinIndex(
                fields=["subject", "client", "source_id", "tags"],
                name="alerts_text_parts",
                opclasses=("gin_trgm_ops", "gin_trgm_ops", "gin_trgm_ops", "gin_trgm_ops"),
            ),
        ),
    ]
