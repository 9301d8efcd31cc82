import django.db.models.deletion
import django.db.models.functions.text
import tocsin.core.validation.name_validator
import tocsin.outbound.states
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ("alerts", "0001_initial"),
        ("inbound", "0001_initial"),
        ("people", "0001_initial"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="OutboundIntegration",
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
                ("is_enabled", models.BooleanField(default=True, verbose_name="enabled")),
                ("settings", models.JSONField(db_default={}, default=dict)),
                ("secrets", models.TextField(db_default="", default="")),
                ("created_at", models.DateTimeField()),
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
            name="Call",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("order_key", models.TextField()),
                ("action", models.TextField()),
                ("description_code", models.CharField(db_default="", default="", max_length=80)),
                ("description_data", models.JSONField(db_default={}, default=dict)),
                ("ticket", models.TextField(db_default="", default="")),
                ("content", models.JSONField(db_default={}, default=dict)),
                ("progress", models.JSONField(db_default={}, default=dict)),
                ("wrote", models.JSONField(db_default={}, default=dict)),
                ("status", models.TextField(db_default="queued", default=tocsin.outbound.states.CallStatus["QUEUED"])),
                ("attempts", models.SmallIntegerField(db_default=0, default=0)),
                ("is_uncertain", models.BooleanField(db_default=False, default=False)),
                ("error_code", models.CharField(db_default="", default="", max_length=80)),
                ("error_data", models.JSONField(db_default={}, default=dict)),
                ("result_code", models.CharField(db_default="", default="", max_length=80)),
                ("result_data", models.JSONField(db_default={}, default=dict)),
                ("queued_at", models.DateTimeField()),
                ("due_at", models.DateTimeField()),
                ("lease_until", models.DateTimeField(null=True)),
                ("leased_by", models.TextField(db_default="", default="")),
                ("ended_at", models.DateTimeField(null=True)),
                ("is_echoed", models.BooleanField(db_default=False, default=False)),
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
                    "integration",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="outbound.outboundintegration",
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="IntegrationStatus",
            fields=[
                (
                    "integration",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="status",
                        serialize=False,
                        to="outbound.outboundintegration",
                    ),
                ),
                ("failures", models.IntegerField(db_default=0, default=0)),
                ("open_until", models.DateTimeField(null=True)),
                ("problem_code", models.CharField(db_default="", default="", max_length=80)),
                ("problem_data", models.JSONField(db_default={}, default=dict)),
                ("problem_at", models.DateTimeField(null=True)),
                ("blocked_until", models.DateTimeField(null=True)),
                ("last_transient_error_code", models.CharField(db_default="", default="", max_length=80)),
                ("last_transient_error_data", models.JSONField(db_default={}, default=dict)),
                ("last_transient_error_at", models.DateTimeField(null=True)),
                ("granted_to", models.DateTimeField(null=True)),
                ("throttled", models.IntegerField(db_default=0, default=0)),
                ("not_before", models.DateTimeField(null=True)),
                ("succeeded_at", models.DateTimeField(null=True)),
                ("next_poll_at", models.DateTimeField(null=True)),
                ("poll_lease_until", models.DateTimeField(null=True)),
                ("last_polled_at", models.DateTimeField(null=True)),
                ("polled_until", models.TextField(db_default="", default="")),
                ("poll_error_code", models.CharField(db_default="", default="", max_length=80)),
                ("poll_error_data", models.JSONField(db_default={}, default=dict)),
                ("ingested_count", models.IntegerField(db_default=0, default=0)),
                ("webhook_problem_code", models.CharField(db_default="", default="", max_length=80)),
                ("webhook_problem_data", models.JSONField(db_default={}, default=dict)),
                ("poll_state", models.JSONField(db_default={}, default=dict)),
            ],
        ),
        migrations.CreateModel(
            name="LookUp",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("list_name", models.TextField()),
                ("number", models.TextField()),
                ("name", models.TextField()),
                ("data", models.JSONField(db_default={}, default=dict)),
                ("refreshed_at", models.DateTimeField()),
                (
                    "integration",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="lookups",
                        to="outbound.outboundintegration",
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="Exchange",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("at", models.DateTimeField()),
                ("took", models.IntegerField(db_default=0, default=0)),
                ("method", models.TextField()),
                ("url", models.TextField()),
                ("request", models.TextField(db_default="", default="")),
                ("status", models.IntegerField(null=True)),
                ("response", models.TextField(db_default="", default="")),
                ("error", models.TextField(db_default="", default="")),
                (
                    "call",
                    models.ForeignKey(
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="exchanges",
                        to="outbound.call",
                    ),
                ),
                (
                    "integration",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="outbound.outboundintegration",
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="AgentMatch",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("number", models.TextField()),
                (
                    "user",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to=settings.AUTH_USER_MODEL
                    ),
                ),
                (
                    "integration",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="matches",
                        to="outbound.outboundintegration",
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="TicketLink",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("ticket", models.TextField(db_default="", default="")),
                ("made_at", models.DateTimeField(null=True)),
                (
                    "alert",
                    models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name="+", to="alerts.alert"),
                ),
                (
                    "integration",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="outbound.outboundintegration"
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="Webhook",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("number", models.TextField()),
                ("url_hash", models.BinaryField(db_default=b"", default=b"", max_length=32)),
                ("set_up_at", models.DateTimeField()),
                (
                    "inbound_integration",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="inbound.integration"
                    ),
                ),
                (
                    "integration",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="webhooks",
                        to="outbound.outboundintegration",
                    ),
                ),
            ],
        ),
        migrations.AddConstraint(
            model_name="outboundintegration",
            constraint=models.UniqueConstraint(
                django.db.models.functions.text.Lower("name"), name="outbound_integration_name"
            ),
        ),
        migrations.AddConstraint(
            model_name="lookup",
            constraint=models.UniqueConstraint(fields=("integration", "list_name", "number"), name="outbound_lookup_number"),
        ),
        migrations.AddIndex(
            model_name="exchange",
            index=models.Index(
                condition=models.Q(("call__isnull", False)), fields=["call", "id"], name="outbound_exchange_call"
            ),
        ),
        migrations.AddIndex(
            model_name="exchange",
            index=models.Index(fields=["integration", "-id"], name="outbound_exchange_log"),
        ),
        migrations.AddIndex(
            model_name="exchange",
            index=models.Index(fields=["at"], name="outbound_exchange_at"),
        ),
        migrations.AddIndex(
            model_name="call",
            index=models.Index(
                condition=models.Q(("status", "queued")), fields=["integration", "due_at"], name="outbound_call_due"
            ),
        ),
        migrations.AddIndex(
            model_name="call",
            index=models.Index(
                condition=models.Q(("status__in", ["queued", "sending"])),
                fields=["integration", "order_key", "id"],
                name="outbound_call_order",
            ),
        ),
        migrations.AddIndex(
            model_name="call",
            index=models.Index(
                condition=models.Q(("status", "sending")), fields=["lease_until"], name="outbound_call_lease"
            ),
        ),
        migrations.AddIndex(
            model_name="call",
            index=models.Index(fields=["alert", "id"], name="outbound_call_alert"),
        ),
        migrations.AddIndex(
            model_name="call",
            index=models.Index(
                condition=models.Q(("ticket", ""), _negated=True),
                fields=["integration", "ticket", "-id"],
                name="outbound_call_ticket",
            ),
        ),
        migrations.AddIndex(
            model_name="call",
            index=models.Index(
                condition=models.Q(("status", "dead")), fields=["integration", "-id"], name="outbound_call_dead"
            ),
        ),
        migrations.AddIndex(
            model_name="call",
            index=models.Index(fields=["integration", "-id"], name="outbound_call_log"),
        ),
        migrations.AddConstraint(
            model_name="call",
            constraint=models.CheckConstraint(
                condition=models.Q(("status__in", ["queued", "sending", "sent", "dead", "dropped"])),
                name="outbound_call_status",
            ),
        ),
        migrations.AddConstraint(
            model_name="agentmatch",
            constraint=models.UniqueConstraint(fields=("integration", "user"), name="outbound_agentmatch_once"),
        ),
        migrations.AddIndex(
            model_name="ticketlink",
            index=models.Index(
                condition=models.Q(("ticket", ""), _negated=True),
                fields=["integration", "ticket"],
                name="outbound_ticketlink_ticket",
            ),
        ),
        migrations.AddIndex(
            model_name="ticketlink",
            index=models.Index(
                condition=models.Q(("ticket", "")), fields=["integration", "alert"], name="outbound_ticketlink_none"
            ),
        ),
        migrations.AddConstraint(
            model_name="ticketlink",
            constraint=models.UniqueConstraint(fields=("integration", "alert"), name="outbound_ticketlink_once"),
        ),
        migrations.AddConstraint(
            model_name="webhook",
            constraint=models.UniqueConstraint(fields=("integration", "inbound_integration"), name="outbound_webhook_inbound_integration"),
        ),
    ]
