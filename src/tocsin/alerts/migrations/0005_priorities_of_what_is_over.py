"""An index of the alerts that are over by their priority, so that whoever asks for a rare one does not read all others."""

from __future__ import annotations

from django.db import migrations, models

from tocsin.core.db.migration_operations import AddIndexWhileWorking


class Migration(migrations.Migration):
    # Alerts open and close meanwhile.
    atomic = False

    dependencies = [("alerts", "0004_words_for_searching")]

    operations = [
        AddIndexWhileWorking(
            model_name="alert",
            index=models.Index(
                fields=["priority", "id"],
                condition=models.Q(status__in=["cancelled", "closed", "merged"]),
                name="alerts_alert_priority",
            ),
        ),
    ]
