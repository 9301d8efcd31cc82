"""By which name an integration's dedup keys are made has a column of its own; it stood among the settings."""

from __future__ import annotations

from django.db import migrations, models

_MOVE = """
UPDATE inbound_integration
SET keyed_as = coalesce(settings ->> 'keyed_as', ''), settings = settings - 'keyed_as'
WHERE settings ? 'keyed_as'
"""


class Migration(migrations.Migration):
    dependencies = [("inbound", "0009_messages_of_tests")]

    operations = [
        migrations.AddField(
            model_name="integration",
            name="keyed_as",
            field=models.CharField(blank=True, db_default="", default="", max_length=200),
        ),
        migrations.RunSQL(_MOVE, migrations.RunSQL.noop),
    ]
