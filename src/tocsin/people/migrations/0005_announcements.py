from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("people", "0004_rings_silenced")]

    operations = [
        migrations.AddField("group", "announcements", models.JSONField(db_default=[], default=list)),
    ]
