"""Long texts are stored as they are: compressing them took longer than everything else that opening an alert takes."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("alerts", "0002_initial")]

    operations = [
        migrations.RunSQL(
            "ALTER TABLE alerts_alert ALTER COLUMN long_text SET STORAGE EXTERNAL",
            "ALTER TABLE alerts_alert ALTER COLUMN long_text SET STORAGE EXTENDED",
        )
    ]
