"""Runs know their integration, so that the loop gives each its share; the index of timers begins with it."""

from __future__ import annotations

from django.db import migrations, models

FILL = """
UPDATE escalation_run r SET integration_id = a.integration_id FROM alerts_alert a
WHERE a.id = r.alert_id AND r.due_at IS NOT NULL AND a.integration_id IS NOT NULL
"""


class Migration(migrations.Migration):
    dependencies = [("escalation", "0001_initial"), ("alerts", "0002_initial")]

    operations = [
        migrations.AddField(
            model_name="run",
            name="integration_id",
            field=models.BigIntegerField(null=True),
        ),
        migrations.RunSQL(FILL, migrations.RunSQL.noop),
        migrations.RemoveIndex(model_name="run", name="escalation_run_due"),
        migrations.AddIndex(
            model_name="run",
            index=models.Index(
                fields=["integration_id", "due_at"],
                condition=models.Q(("due_at__isnull", False)),
                name="escalation_run_due",
            ),
        ),
    ]
