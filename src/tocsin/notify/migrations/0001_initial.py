import django.contrib.postgres.fields
import django.db.models.deletion
import django.db.models.functions.text
import tocsin.core.validation.name_validator
import tocsin.notify.states
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ("alerts", "0001_initial"),
        ("escalation", "0001_initial"),
        ("inbound", "0001_initial"),
        ("people", "0001_initial"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="LastSent",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "recipient",
                        "channel",
                        "address",
                        "purpose",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("recipient", models.BigIntegerField()),
                ("channel", models.TextField()),
                ("address", models.TextField()),
                ("purpose", models.TextField()),
                ("last_sent_at", models.DateTimeField()),
            ],
        ),
        migrations.CreateModel(
            name="OptOut",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "channel", "address", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("channel", models.TextField()),
                ("address", models.TextField()),
                ("provider_name", models.TextField()),
                ("at", models.DateTimeField()),
            ],
        ),
        migrations.CreateModel(
            name="ProviderHealth",
            fields=[
                ("name", models.TextField(primary_key=True, serialize=False)),
                ("failures", models.PositiveIntegerField(db_default=0, default=0)),
                ("is_open", models.BooleanField(db_default=False, default=False)),
                ("opened_at", models.DateTimeField(null=True)),
                ("retry_at", models.DateTimeField(null=True)),
                ("is_unresponsive", models.BooleanField(db_default=False, default=False)),
                ("recovered_at", models.DateTimeField(null=True)),
                ("openings", models.PositiveIntegerField(db_default=0, default=0)),
                ("worked_at", models.DateTimeField(null=True)),
                ("failed_at", models.DateTimeField(null=True)),
                ("error_code", models.CharField(db_default="", default="", max_length=80)),
                ("error_data", models.JSONField(db_default={}, default=dict)),
                ("free_at", models.DateTimeField(null=True)),
            ],
        ),
        migrations.CreateModel(
            name="AwaitedReceipt",
            fields=[
                ("delivery", models.UUIDField(primary_key=True, serialize=False)),
                ("due_at", models.DateTimeField()),
                ("timeout_seconds", models.PositiveIntegerField()),
            ],
            options={
                "indexes": [models.Index(fields=["due_at"], name="notify_awaitedreceipt_due")],
            },
        ),
        migrations.CreateModel(
            name="ProcessedCallback",
            fields=[
                ("key", models.CharField(max_length=64, primary_key=True, serialize=False)),
                ("answer", models.TextField(db_default="", default="")),
                ("at", models.DateTimeField()),
            ],
            options={
                "indexes": [models.Index(fields=["at"], name="notify_processedcallback_at")],
            },
        ),
        migrations.CreateModel(
            name="MailReply",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("mail_hash", models.CharField(max_length=64, unique=True)),
                ("received_at", models.DateTimeField()),
                ("provider_name", models.TextField()),
                ("sender", models.TextField()),
                ("subject", models.TextField()),
                ("outcome", models.TextField(db_default="", default="")),
                ("reason_code", models.CharField(db_default="", default="", max_length=80)),
                ("reason_data", models.JSONField(db_default={}, default=dict)),
                (
                    "alert",
                    models.ForeignKey(
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to="alerts.alert",
                    ),
                ),
                (
                    "user",
                    models.ForeignKey(
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "ordering": ("-id",),
            },
        ),
        migrations.CreateModel(
            name="Notification",
            fields=[
                ("id", models.UUIDField(primary_key=True, serialize=False)),
                ("purpose", models.TextField()),
                ("channel", models.TextField()),
                ("label", models.TextField(db_default="", default="")),
                ("address", models.TextField()),
                ("reason_code", models.CharField(db_default="", default="", max_length=80)),
                ("reason_data", models.JSONField(db_default={}, default=dict)),
                ("data", models.JSONField(db_default={}, default=dict)),
                ("created_at", models.DateTimeField()),
                (
                    "alert",
                    models.ForeignKey(
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="notifications",
                        to="alerts.alert",
                    ),
                ),
                (
                    "group_contact",
                    models.ForeignKey(
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to="people.groupcontact",
                    ),
                ),
                (
                    "run",
                    models.ForeignKey(
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to="escalation.escalationrun",
                    ),
                ),
                (
                    "user",
                    models.ForeignKey(
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="notifications",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="Pause",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("reason", models.TextField()),
                ("started_at", models.DateTimeField()),
                ("until", models.DateTimeField()),
                ("ended_at", models.DateTimeField(null=True)),
                (
                    "user",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="Provider",
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
                ("channels", django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=20))),
                ("settings", models.JSONField(db_default={}, default=dict)),
                ("secrets", models.TextField(db_default="", default="")),
                ("order", models.PositiveSmallIntegerField(default=1, verbose_name="order")),
                ("is_enabled", models.BooleanField(default=True, verbose_name="enabled")),
            ],
            options={
                "ordering": ("order", "name"),
                "constraints": [
                    models.UniqueConstraint(django.db.models.functions.text.Lower("name"), name="notify_provider_name")
                ],
            },
        ),
        migrations.CreateModel(
            name="Delivery",
            fields=[
                ("id", models.UUIDField(primary_key=True, serialize=False)),
                ("channel", models.TextField()),
                ("address", models.TextField()),
                ("purpose", models.TextField()),
                ("is_first", models.BooleanField(db_default=False, default=False)),
                (
                    "status",
                    models.TextField(db_default="queued", default=tocsin.notify.states.DeliveryStatus["QUEUED"]),
                ),
                ("provider_name", models.TextField(db_default="", default="")),
                ("attempts", models.SmallIntegerField(db_default=0, default=0)),
                ("error_code", models.CharField(db_default="", default="", max_length=80)),
                ("error_data", models.JSONField(db_default={}, default=dict)),
                ("is_permanent", models.BooleanField(db_default=False, default=False)),
                ("cancel_requested_code", models.CharField(db_default="", default="", max_length=80)),
                ("cancel_requested_data", models.JSONField(db_default={}, default=dict)),
                ("reason_code", models.CharField(db_default="", default="", max_length=80)),
                ("reason_data", models.JSONField(db_default={}, default=dict)),
                ("queued_at", models.DateTimeField()),
                ("due_at", models.DateTimeField()),
                ("lease_until", models.DateTimeField(null=True)),
                ("leased_by", models.TextField(db_default="", default="")),
                ("sent_at", models.DateTimeField(null=True)),
                ("delivered_at", models.DateTimeField(null=True)),
                ("outcome_unknown_at", models.DateTimeField(null=True)),
                ("late_since", models.DateTimeField(null=True)),
                ("is_exhausted", models.BooleanField(db_default=False, default=False)),
                ("own_failures", models.SmallIntegerField(db_default=0, default=0)),
                ("ended_at", models.DateTimeField(null=True)),
                ("external_id", models.TextField(db_default="", default="")),
                ("receipt", models.TextField(db_default="", default="")),
                (
                    "alert",
                    models.ForeignKey(
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="alerts.alert",
                    ),
                ),
                (
                    "integration",
                    models.ForeignKey(
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to="inbound.integration",
                    ),
                ),
                (
                    "user",
                    models.ForeignKey(
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "notification",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="deliveries", to="notify.notification"
                    ),
                ),
                (
                    "provider",
                    models.ForeignKey(
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to="notify.provider",
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="PushDevice",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("address", models.TextField()),
                ("name", models.CharField(max_length=100, verbose_name="name")),
                ("endpoint_hash", models.CharField(max_length=64, unique=True)),
                ("service", models.TextField()),
                ("subscription", models.TextField()),
                ("created_at", models.DateTimeField()),
                ("last_sent_at", models.DateTimeField(null=True)),
                ("last_error_code", models.CharField(db_default="", default="", max_length=80)),
                ("last_error_data", models.JSONField(db_default={}, default=dict)),
                ("gone_at", models.DateTimeField(null=True)),
                (
                    "user",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="push_devices",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "ordering": ("id",),
            },
        ),
        migrations.CreateModel(
            name="PushKey",
            fields=[
                ("id", models.PositiveSmallIntegerField(default=1, primary_key=True, serialize=False)),
                ("public", models.TextField()),
                ("private", models.TextField()),
                ("created_at", models.DateTimeField()),
            ],
            options={
                "constraints": [models.CheckConstraint(condition=models.Q(("id", 1)), name="notify_pushkey_one")],
            },
        ),
        migrations.CreateModel(
            name="SandboxMessage",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("delivery", models.UUIDField(unique=True)),
                ("channel", models.TextField()),
                ("address", models.TextField()),
                ("content", models.JSONField()),
                ("at", models.DateTimeField()),
                (
                    "alert",
                    models.ForeignKey(
                        null=True, on_delete=django.db.models.deletion.CASCADE, related_name="+", to="alerts.alert"
                    ),
                ),
                (
                    "user",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="Bundle",
            fields=[
                ("notification", models.UUIDField(primary_key=True, serialize=False)),
                ("deliveries", django.contrib.postgres.fields.ArrayField(base_field=models.UUIDField())),
                ("at", models.DateTimeField()),
            ],
            options={
                "indexes": [models.Index(fields=["at"], name="notify_bundle_at")],
            },
        ),
        migrations.CreateModel(
            name="VerificationCode",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("address", models.TextField()),
                ("code_hash", models.TextField()),
                ("sent_at", models.DateTimeField()),
                ("expires_at", models.DateTimeField()),
                ("tries", models.PositiveSmallIntegerField(default=0)),
                ("sends", models.PositiveSmallIntegerField(default=1)),
                ("counted_from", models.DateTimeField()),
                (
                    "method",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE, related_name="code", to="people.contactmethod"
                    ),
                ),
            ],
        ),
        migrations.AddIndex(
            model_name="notification",
            index=models.Index(fields=["alert", "id"], name="notify_notification_alert"),
        ),
        migrations.AddIndex(
            model_name="notification",
            index=models.Index(fields=["user", "id"], name="notify_notification_user"),
        ),
        migrations.AddConstraint(
            model_name="notification",
            constraint=models.CheckConstraint(
                condition=models.Q(("purpose__in", ["page", "all_clear", "still_on_it", "notice", "test"])),
                name="notify_notification_purpose",
            ),
        ),
        migrations.AddIndex(
            model_name="delivery",
            index=models.Index(
                condition=models.Q(("status", "queued")),
                fields=["integration", "-is_first", "due_at"],
                name="notify_delivery_outbox",
            ),
        ),
        migrations.AddIndex(
            model_name="delivery",
            index=models.Index(
                condition=models.Q(("status", "sending")), fields=["lease_until"], name="notify_delivery_lease"
            ),
        ),
        migrations.AddIndex(
            model_name="delivery",
            index=models.Index(
                condition=models.Q(("status", "queued")), fields=["address"], name="notify_delivery_waiting"
            ),
        ),
        migrations.AddIndex(
            model_name="delivery",
            index=models.Index(
                condition=models.Q(("late_since__isnull", False), ("status", "queued")),
                fields=["channel", "address"],
                name="notify_delivery_late",
            ),
        ),
        migrations.AddIndex(
            model_name="delivery",
            index=models.Index(
                condition=models.Q(("purpose", "page"), ("status", "failed")),
                fields=["alert"],
                name="notify_delivery_failed",
            ),
        ),
        migrations.AddIndex(
            model_name="delivery",
            index=models.Index(fields=["alert", "id"], name="notify_delivery_alert"),
        ),
        migrations.AddConstraint(
            model_name="delivery",
            constraint=models.CheckConstraint(
                condition=models.Q(("status__in", ["queued", "sending", "sent", "delivered", "failed", "cancelled"])),
                name="notify_delivery_status",
            ),
        ),
        migrations.AddIndex(
            model_name="pushdevice",
            index=models.Index(fields=["address"], name="notify_pushdevice_address"),
        ),
    ]
