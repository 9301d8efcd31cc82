from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="ImportRun",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("product", models.TextField()),
                ("source", models.TextField()),
                ("started_by", models.TextField()),
                ("started_at", models.DateTimeField()),
                ("state", models.TextField()),
                ("progress_code", models.CharField(db_default="", default="", max_length=80)),
                ("progress_data", models.JSONField(db_default={}, default=dict)),
                ("beat_at", models.DateTimeField()),
                ("problem_code", models.CharField(db_default="", default="", max_length=80)),
                ("problem_data", models.JSONField(db_default={}, default=dict)),
                ("configuration", models.TextField(db_default="", default="")),
                ("counts", models.JSONField(default=dict)),
                ("findings", models.JSONField(default=list)),
                ("plan", models.JSONField(default=list)),
                ("refusals", models.JSONField(default=list)),
            ],
            options={
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("state__in", ["reading", "ready", "applying", "applied", "failed"])),
                        name="import_state_is_known",
                    )
                ],
            },
        ),
    ]
