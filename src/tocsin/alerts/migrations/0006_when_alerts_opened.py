"""An index of when alerts opened, for reports. It knows of each stretch of the table the first and the last moment, so
that an alert that opens costs no more."""

from __future__ import annotations

from django.contrib.postgres.indexes import BrinIndex
from django.db import migrations

from tocsin.core.db.migration_operations import AddIndexWhileWorking


class Migration(migrations.Migration):
    # Alerts open and close meanwhile.
    atomic = False

    dependencies = [("alerts", "0005_priorities_of_what_is_over")]

    operations = [
        AddIndexWhileWorking(
            model_name="alert",
            index=BrinIndex(fields=["opened_at"], autosummarize=True, pages_per_range=32, name="alerts_alert_opened"),
        ),
    ]
