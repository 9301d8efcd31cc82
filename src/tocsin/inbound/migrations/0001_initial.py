import django.contrib.postgres.fields
import django.db.models.deletion
import tocsin.core.validation.name_validator
import tocsin.inbound.models
import tocsin.inbound.enums
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ("people", "0001_initial"),
    ]

    operations = [
        migrations.CreateModel(
            name="DelayedAlert",
            fields=[
                ("key_hash", models.BinaryField(max_length=32, primary_key=True, serialize=False)),
                ("delay_reason", models.TextField()),
                ("since", models.DateTimeField()),
                ("due_at", models.DateTimeField(null=True)),
                ("reason_code", models.CharField(db_default="", default="", max_length=80)),
                ("reason_data", models.JSONField(db_default={}, default=dict)),
                ("triggered_at", django.contrib.postgres.fields.ArrayField(base_field=models.DateTimeField(), default=list)),
                ("message_count", models.IntegerField(default=1)),
                ("priority", models.TextField(null=True)),
                ("scope", models.BinaryField(max_length=32, null=True)),
                ("released", models.BooleanField(default=False)),
                ("subject", models.TextField(default="")),
                ("source_id", models.TextField(default="")),
            ],
        ),
        migrations.CreateModel(
            name="Integration",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "name",
                    models.CharField(
                        max_length=100,
                        validators=[tocsin.core.validation.name_validator.validate_name],
                        verbose_name="name",
                    ),
                ),
                ("kind", models.CharField(max_length=40, verbose_name="kind")),
                ("source", models.CharField(blank=True, max_length=100, verbose_name="source")),
                ("dedup_namespace", models.CharField(blank=True, db_default="", default="", max_length=200)),
                (
                    "mode",
                    models.CharField(
                        choices=[("page", "page"), ("dry_run", "dry_run"), ("disabled", "disabled")],
                        default=tocsin.inbound.enums.IntegrationMode["PAGE"],
                        max_length=10,
                        verbose_name="mode",
                    ),
                ),
                ("settings", models.JSONField(default=dict)),
                ("created_at", models.DateTimeField()),
                ("token_hash", models.BinaryField(max_length=32, unique=True)),
                ("token", models.TextField()),
                ("old_token_hash", models.BinaryField(max_length=32, null=True, unique=True)),
                ("old_token_until", models.DateTimeField(null=True)),
                ("previous_token_requests", models.IntegerField(default=0)),
                ("credentials", models.TextField(blank=True, default="")),
                (
                    "group",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="people.group",
                    ),
                ),
            ],
            options={
                "ordering": ("name",),
            },
        ),
        migrations.CreateModel(
            name="InboundMessage",
            fields=[
                ("id", models.UUIDField(primary_key=True, serialize=False)),
                ("received_at", models.DateTimeField()),
                ("status", models.TextField()),
                ("reason_code", models.CharField(db_default="", default="", max_length=80)),
                ("reason_data", models.JSONField(db_default={}, default=dict)),
                ("source_id", models.TextField(db_default="", default="")),
                ("source_status", models.TextField(db_default="", default="")),
                ("subject", models.TextField(db_default="", default="")),
                ("raw", tocsin.inbound.models.BodyField()),
                ("content_type", models.TextField(db_default="", default="")),
                ("headers", models.JSONField(db_default={}, default=dict)),
                ("verdict", models.JSONField(db_default={}, default=dict)),
                ("replay_of", models.UUIDField(null=True)),
                ("key_hash", models.BinaryField(max_length=32, null=True)),
                ("test", models.BooleanField(db_default=False, default=False)),
                ("failures", models.SmallIntegerField(db_default=0, default=0)),
            ],
        ),
        migrations.CreateModel(
            name="IntegrationVersion",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("number", models.PositiveIntegerField()),
                ("definition", models.JSONField(default=dict)),
                ("created_at", models.DateTimeField()),
            ],
        ),
        migrations.CreateModel(
            name="GroupMember",
            fields=[
                ("key_hash", models.BinaryField(max_length=32, primary_key=True, serialize=False)),
                ("role", models.TextField()),
                ("subject", models.TextField(default="")),
                ("source_id", models.TextField(default="")),
                ("joined_at", models.DateTimeField()),
                ("left_at", models.DateTimeField(null=True)),
            ],
        ),
        migrations.CreateModel(
            name="DedupKey",
            fields=[
                ("key_hash", models.BinaryField(max_length=32, primary_key=True, serialize=False)),
                ("latest_source_time", models.DateTimeField(null=True)),
                ("last_alert", models.BigIntegerField(null=True)),
                ("touched_at", models.DateTimeField()),
            ],
        ),
        migrations.CreateModel(
            name="MaintenanceWindow",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "name",
                    models.CharField(
                        max_length=100,
                        validators=[tocsin.core.validation.name_validator.validate_name],
                        verbose_name="name",
                    ),
                ),
                ("times", models.JSONField(default=dict)),
                (
                    "action",
                    models.CharField(
                        default=tocsin.inbound.enums.WindowAction["SUPPRESS"],
                        max_length=10,
                        verbose_name="what happens",
                    ),
                ),
                (
                    "integrations",
                    django.contrib.postgres.fields.ArrayField(base_field=models.BigIntegerField(), default=list),
                ),
                (
                    "groups",
                    django.contrib.postgres.fields.ArrayField(base_field=models.BigIntegerField(), default=list),
                ),
                ("tags", models.JSONField(default=dict)),
                ("condition", models.JSONField(null=True)),
                ("created_at", models.DateTimeField()),
            ],
            options={
                "ordering": ("name",),
            },
        ),
        migrations.CreateModel(
            name="RateWindow",
            fields=[
                ("hash", models.BinaryField(max_length=32, primary_key=True, serialize=False)),
                ("alert_id", models.BigIntegerField(null=True)),
                ("until", models.DateTimeField(null=True)),
                ("tokens", models.FloatField(null=True)),
                ("at", models.DateTimeField(null=True)),
                ("times", django.contrib.postgres.fields.ArrayField(base_field=models.DateTimeField(), default=list)),
                ("touched_at", models.DateTimeField()),
            ],
        ),
        migrations.CreateModel(
            name="UnmatchedPost",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("path", models.TextField()),
                ("address", models.TextField()),
                ("requests", models.IntegerField()),
                ("last_at", models.DateTimeField()),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=("path", "address"), name="inbound_unmatchedpost_sender")
                ],
            },
        ),
        migrations.CreateModel(
            name="ClientTable",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "name",
                    models.CharField(
                        max_length=100,
                        validators=[tocsin.core.validation.name_validator.validate_name],
                        verbose_name="name",
                    ),
                ),
                ("clients", models.JSONField(default=list)),
                (
                    "group",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="people.group",
                    ),
                ),
            ],
            options={
                "ordering": ("name",),
            },
        ),
        migrations.CreateModel(
            name="Heartbeat",
            fields=[
                (
                    "integration",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="+",
                        serialize=False,
                        to="inbound.integration",
                    ),
                ),
                ("health", models.TextField(db_default="new", default="new")),
                ("last_at", models.DateTimeField(null=True)),
                ("started_at", models.DateTimeField(null=True)),
                ("due_at", models.DateTimeField(null=True)),
            ],
        ),
        migrations.CreateModel(
            name="PinnedSender",
            fields=[
                (
                    "integration",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="pinned_sender",
                        serialize=False,
                        to="inbound.integration",
                    ),
                ),
                ("sender", models.TextField()),
                ("pinned_at", models.DateTimeField()),
            ],
        ),
    ]
