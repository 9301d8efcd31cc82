import django.contrib.postgres.fields
import django.db.models.deletion
import django.db.models.functions.datetime
import tocsin.alerts.states
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="Alert",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("status", models.TextField(default=tocsin.alerts.states.AlertStatus["OPEN"])),
                ("priority", models.TextField(default=tocsin.alerts.states.Priority["HIGH"])),
                ("subject", models.TextField()),
                ("short_text", models.TextField(db_default="", default="")),
                ("long_text", models.TextField(db_default="", default="")),
                ("source", models.TextField(db_default="", default="")),
                ("source_name", models.TextField(db_default="", default="")),
                ("source_id", models.TextField(db_default="", default="")),
                ("source_url", models.TextField(db_default="", default="")),
                ("source_status", models.TextField(db_default="", default="")),
                ("source_priority", models.TextField(db_default="", default="")),
                ("source_agent", models.TextField(db_default="", default="")),
                ("client", models.TextField(db_default="", default="")),
                ("site", models.TextField(db_default="", default="")),
                ("team", models.TextField(db_default="", default="")),
                ("requester", models.TextField(db_default="", default="")),
                ("requester_phone", models.TextField(db_default="", default="")),
                ("tags", models.JSONField(db_default={}, default=dict)),
                ("custom", models.JSONField(db_default={}, default=dict)),
                ("key_hash", models.BinaryField(max_length=32, null=True)),
                ("holds_key", models.BooleanField(db_default=False, default=False)),
                ("count", models.IntegerField(db_default=1, default=1)),
                ("opened_at", models.DateTimeField()),
                ("last_message_at", models.DateTimeField()),
                ("owner_name", models.TextField(db_default="", default="")),
                ("hold_until", models.DateTimeField(null=True)),
                ("closed_at", models.DateTimeField(null=True)),
                ("dry_run", models.BooleanField(db_default=False, default=False)),
                ("is_test", models.BooleanField(db_default=False, default=False)),
                (
                    "group_ids",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.BigIntegerField(), db_default=[], default=list, size=None
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="AlertEvent",
            fields=[
                ("reason_code", models.CharField(db_default="", default="", max_length=80)),
                ("reason_data", models.JSONField(db_default={}, default=dict)),
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("at", models.DateTimeField()),
                ("kind", models.TextField()),
                ("actor_kind", models.TextField(db_default="system", default="system")),
                ("actor_name", models.TextField(db_default="", default="")),
                ("via", models.TextField(db_default="", default="")),
                ("data", models.JSONField(db_default={}, default=dict)),
            ],
        ),
        migrations.CreateModel(
            name="Acknowledgement",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                (
                    "user",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="AlertText",
            fields=[
                (
                    "alert",
                    models.OneToOneField(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="texts",
                        serialize=False,
                        to="alerts.alert",
                    ),
                ),
                ("subject", models.TextField()),
                ("client", models.TextField()),
                ("source_id", models.TextField()),
                ("tags", models.TextField()),
            ],
        ),
    ]
