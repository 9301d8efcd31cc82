from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("people", "0003_alert_list")]

    operations = [
        migrations.AddField("group", "announcements", models.JSONField(db_default=[], default=list)),
    ]
