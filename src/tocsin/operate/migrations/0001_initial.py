import django.contrib.postgres.fields
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Audit",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("checked_at", models.DateTimeField()),
                ("node", models.TextField(db_default="", default="")),
                ("heartbeat_at", models.DateTimeField(null=True)),
                ("heartbeat_problem_code", models.CharField(db_default="", default="", max_length=80)),
                ("heartbeat_problem_data", models.JSONField(db_default={}, default=dict)),
            ],
        ),
        migrations.CreateModel(
            name="Node",
            fields=[
                ("id", models.UUIDField(primary_key=True, serialize=False)),
                ("name", models.TextField()),
                ("role", models.TextField()),
                ("version", models.TextField()),
                ("started_at", models.DateTimeField()),
                ("seen_at", models.DateTimeField()),
                ("loops", models.JSONField(default=dict)),
                (
                    "keys",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.TextField(), db_default=[], default=list
                    ),
                ),
                ("stuck_senders", models.JSONField(db_default={}, default=dict)),
            ],
        ),
        migrations.CreateModel(
            name="Problem",
            fields=[
                ("id", models.TextField(primary_key=True, serialize=False)),
                ("title_code", models.CharField(max_length=80)),
                ("title_data", models.JSONField(default=dict)),
                ("detail_code", models.CharField(max_length=80)),
                ("detail_data", models.JSONField(default=dict)),
                ("remedy_code", models.CharField(max_length=80)),
                ("remedy_data", models.JSONField(default=dict)),
                ("since", models.DateTimeField()),
                ("seen_at", models.DateTimeField()),
                ("ended_at", models.DateTimeField(null=True)),
                ("notified_at", models.DateTimeField(null=True)),
                ("last_notified_at", models.DateTimeField(null=True)),
            ],
            options={
                "indexes": [
                    models.Index(condition=models.Q(("ended_at", None)), fields=["since"], name="operate_problem_open")
                ],
            },
        ),
    ]
