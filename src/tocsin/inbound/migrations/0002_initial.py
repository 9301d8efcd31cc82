import django.db.models.deletion
import django.db.models.functions.text
import tocsin.core.db.queries
from django.conf import settings
from django.db import migrations, models
from tocsin.core.db.partitions import PartitionedTable, partition_statement


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ("alerts", "0002_initial"),
        ("escalation", "0001_initial"),
        ("inbound", "0001_initial"),
        ("outbound", "0001_initial"),
        ("people", "0001_initial"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AddField(
            model_name="integration",
            name="outbound",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="inbound",
                to="outbound.outboundintegration",
            ),
        ),
        migrations.AddField(
            model_name="integration",
            name="policy",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="integrations",
                to="escalation.policy",
            ),
        ),
        migrations.AddField(
            model_name="integration",
            name="recipient_groups",
            field=models.ManyToManyField(blank=True, related_name="+", to="people.group"),
        ),
        migrations.AddField(
            model_name="integration",
            name="recipient_users",
            field=models.ManyToManyField(blank=True, related_name="+", to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddField(
            model_name="delayedalert",
            name="integration",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE, related_name="+", to="inbound.integration"
            ),
        ),
        migrations.CreateModel(
            name="MessageText",
            fields=[
                (
                    "message",
                    models.OneToOneField(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="texts",
                        serialize=False,
                        to="inbound.inboundmessage",
                    ),
                ),
                ("subject", models.TextField()),
                ("source_id", models.TextField()),
            ],
        ),
        migrations.AddField(
            model_name="inboundmessage",
            name="alert",
            field=models.ForeignKey(
                db_constraint=False,
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="+",
                to="alerts.alert",
            ),
        ),
        migrations.AddField(
            model_name="inboundmessage",
            name="integration",
            field=models.ForeignKey(
                db_constraint=False,
                db_index=False,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="+",
                to="inbound.integration",
            ),
        ),
        migrations.AddField(
            model_name="integrationversion",
            name="created_by",
            field=models.ForeignKey(
                null=True, on_delete=django.db.models.deletion.SET_NULL, related_name="+", to=settings.AUTH_USER_MODEL
            ),
        ),
        migrations.AddField(
            model_name="integrationversion",
            name="integration",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE, related_name="versions", to="inbound.integration"
            ),
        ),
        migrations.AddField(
            model_name="integration",
            name="current_version",
            field=models.ForeignKey(
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to="inbound.integrationversion",
            ),
        ),
        migrations.AddField(
            model_name="inboundmessage",
            name="version",
            field=models.ForeignKey(
                db_constraint=False,
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="+",
                to="inbound.integrationversion",
            ),
        ),
        migrations.AddField(
            model_name="groupmember",
            name="alert",
            field=models.ForeignKey(
                db_constraint=False,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="group_members",
                to="alerts.alert",
            ),
        ),
        migrations.AddField(
            model_name="maintenancewindow",
            name="group",
            field=models.ForeignKey(
                blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name="+", to="people.group"
            ),
        ),
        migrations.AddField(
            model_name="delayedalert",
            name="window",
            field=models.ForeignKey(
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="+",
                to="inbound.maintenancewindow",
            ),
        ),
        migrations.CreateModel(
            name="ProcessedDelivery",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "integration_id", "hash", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("hash", models.BinaryField(max_length=32)),
                ("message", models.UUIDField()),
                (
                    "integration",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="inbound.integration",
                    ),
                ),
            ],
        ),
        migrations.AddConstraint(
            model_name="clienttable",
            constraint=models.UniqueConstraint(
                django.db.models.functions.text.Lower("name"), name="inbound_clienttable_name"
            ),
        ),
        migrations.AddIndex(
            model_name="heartbeat",
            index=models.Index(
                condition=models.Q(("due_at__isnull", False)), fields=["due_at"], name="inbound_heartbeat_due"
            ),
        ),
        migrations.AddConstraint(
            model_name="heartbeat",
            constraint=models.CheckConstraint(
                condition=models.Q(("health__in", ["new", "up", "running", "late", "failed"])),
                name="inbound_heartbeat_health",
            ),
        ),
        migrations.AddIndex(
            model_name="messagetext",
            index=tocsin.core.db.queries.TrigramIndex(
                fields=["subject", "source_id"], name="inbound_messagetext_parts"
            ),
        ),
        migrations.AddConstraint(
            model_name="integrationversion",
            constraint=models.UniqueConstraint(
                fields=("integration", "number"), name="inbound_integrationversion_number"
            ),
        ),
        migrations.AddConstraint(
            model_name="integration",
            constraint=models.UniqueConstraint(
                django.db.models.functions.text.Lower("name"), name="inbound_integration_name"
            ),
        ),
        migrations.AddIndex(
            model_name="inboundmessage",
            index=models.Index(fields=["integration", "id"], name="inbound_message_integration"),
        ),
        migrations.AddIndex(
            model_name="inboundmessage",
            index=models.Index(
                condition=models.Q(("alert__isnull", False)), fields=["alert", "id"], name="inbound_message_alert"
            ),
        ),
        migrations.AddIndex(
            model_name="inboundmessage",
            index=models.Index(
                condition=models.Q(("status__in", ["Mapping Failed", "Pending"])),
                fields=["status", "id"],
                name="inbound_message_open",
            ),
        ),
        migrations.AddIndex(
            model_name="inboundmessage",
            index=models.Index(
                condition=models.Q(("status__in", ["Mapped Updated", "Mapped Closed", "Mapped Ignored"])),
                fields=["status", "id"],
                name="inbound_message_rare",
            ),
        ),
        migrations.AddIndex(
            model_name="inboundmessage",
            index=models.Index(condition=models.Q(("test", True)), fields=["id"], name="inbound_message_test"),
        ),
        migrations.AddIndex(
            model_name="inboundmessage",
            index=models.Index(
                condition=models.Q(("reason_code", "message.not_understood")),
                fields=["integration", "id"],
                name="inbound_message_unknown",
            ),
        ),
        migrations.AddIndex(
            model_name="inboundmessage",
            index=models.Index(
                condition=models.Q(("replay_of__isnull", False)),
                fields=["replay_of", "id"],
                name="inbound_message_replay",
            ),
        ),
        migrations.AddIndex(
            model_name="inboundmessage",
            index=models.Index(
                condition=models.Q(("status", "Mapped Delayed")),
                fields=["key_hash", "id"],
                name="inbound_message_delayed",
            ),
        ),
        migrations.AddConstraint(
            model_name="inboundmessage",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    (
                        "status__in",
                        [
                            "Mapped Opened",
                            "Mapped Appended",
                            "Mapped Updated",
                            "Mapped Closed",
                            "Mapped Ignored",
                            "Mapping Failed",
                            "Pending",
                            "Mapped Delayed",
                        ],
                    )
                ),
                name="inbound_message_status",
            ),
        ),
        migrations.AddConstraint(
            model_name="maintenancewindow",
            constraint=models.UniqueConstraint(
                django.db.models.functions.text.Lower("name"), name="inbound_maintenancewindow_name"
            ),
        ),
        migrations.AddIndex(
            model_name="delayedalert",
            index=models.Index(
                condition=models.Q(("due_at__isnull", False)), fields=["due_at"], name="inbound_delayed_due"
            ),
        ),
        migrations.AddIndex(
            model_name="delayedalert",
            index=models.Index(
                condition=models.Q(("scope__isnull", False)), fields=["scope"], name="inbound_delayed_scope"
            ),
        ),
        # Large values stay as they are: compressing them on the way in costs more than the room it saves.
        migrations.RunSQL(
            "ALTER TABLE inbound_inboundmessage ALTER COLUMN raw SET STORAGE EXTERNAL", migrations.RunSQL.noop
        ),
        migrations.RunSQL(partition_statement(PartitionedTable("inbound_inboundmessage", "id")), migrations.RunSQL.noop),
        migrations.RunSQL(partition_statement(PartitionedTable("inbound_messagetext", "message_id")), migrations.RunSQL.noop),
    ]
