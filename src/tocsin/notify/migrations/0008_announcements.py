from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("notify", "0007_message_updates")]

    operations = [
        migrations.AddField(
            "clientreport", "announces_maintenance", models.BooleanField(db_default=False, default=False)
        ),
        migrations.CreateModel(
            name="Announced",
            fields=[
                ("subject", models.TextField(primary_key=True, serialize=False)),
                ("state", models.JSONField(db_default={}, default=dict)),
                ("at", models.DateTimeField()),
            ],
        ),
    ]
