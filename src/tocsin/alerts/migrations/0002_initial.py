import django.contrib.postgres.indexes
import django.db.models.deletion
import tocsin.alerts.states
import tocsin.core.db.queries
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ("alerts", "0001_initial"),
        ("inbound", "0001_initial"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AddField(
            model_name="alert",
            name="integration",
            field=models.ForeignKey(
                db_constraint=False,
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="+",
                to="inbound.integration",
            ),
        ),
        migrations.AddField(
            model_name="alert",
            name="merged_into",
            field=models.ForeignKey(
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="merged",
                to="alerts.alert",
            ),
        ),
        migrations.AddField(
            model_name="alert",
            name="owner",
            field=models.ForeignKey(
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="+",
                to=settings.AUTH_USER_MODEL,
            ),
        ),
        migrations.AddField(
            model_name="alert",
            name="previous_alert",
            field=models.ForeignKey(
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="+",
                to="alerts.alert",
            ),
        ),
        migrations.AddField(
            model_name="acknowledgement",
            name="alert",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="acknowledgements",
                to="alerts.alert",
            ),
        ),
        migrations.AddField(
            model_name="alertevent",
            name="actor",
            field=models.ForeignKey(
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="+",
                to=settings.AUTH_USER_MODEL,
            ),
        ),
        migrations.AddField(
            model_name="alertevent",
            name="alert",
            field=models.ForeignKey(
                db_constraint=False,
                db_index=False,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="events",
                to="alerts.alert",
            ),
        ),
        migrations.AddIndex(
            model_name="alerttext",
            index=tocsin.core.db.queries.TrigramIndex(
                fields=["subject", "client", "source_id", "tags"], name="alerts_text_parts"
            ),
        ),
        migrations.AddIndex(
            model_name="alert",
            index=models.Index(
                condition=models.Q(
                    (
                        "status__in",
                        [
                            tocsin.alerts.states.AlertStatus["ASSIGNED"],
                            tocsin.alerts.states.AlertStatus["ON_HOLD"],
                            tocsin.alerts.states.AlertStatus["OPEN"],
                        ],
                    )
                ),
                fields=["status", "id"],
                name="alerts_alert_live",
            ),
        ),
        migrations.AddIndex(
            model_name="alert",
            index=models.Index(
                condition=models.Q(("merged_into__isnull", False)),
                fields=["merged_into"],
                name="alerts_alert_merged_into",
            ),
        ),
        migrations.AddIndex(
            model_name="alert",
            index=models.Index(fields=["integration", "id"], name="alerts_alert_integration"),
        ),
        migrations.AddIndex(
            model_name="alert",
            index=models.Index(
                condition=models.Q(
                    (
                        "status__in",
                        [
                            tocsin.alerts.states.AlertStatus["CANCELLED"],
                            tocsin.alerts.states.AlertStatus["CLOSED"],
                            tocsin.alerts.states.AlertStatus["MERGED"],
                        ],
                    )
                ),
                fields=["priority", "id"],
                name="alerts_alert_priority",
            ),
        ),
        migrations.AddIndex(
            model_name="alert",
            index=django.contrib.postgres.indexes.BrinIndex(
                autosummarize=True, fields=["opened_at"], name="alerts_alert_opened", pages_per_range=32
            ),
        ),
        migrations.AddIndex(
            model_name="alertevent",
            index=models.Index(
                condition=models.Q(("kind__in", ["acknowledged", "assigned"])),
                fields=["alert"],
                include=("at", "kind"),
                name="alerts_event_response",
            ),
        ),
        migrations.AddConstraint(
            model_name="alert",
            constraint=models.UniqueConstraint(
                condition=models.Q(("holds_key", True)), fields=("key_hash",), name="alerts_alert_live_key"
            ),
        ),
        migrations.AddConstraint(
            model_name="alert",
            constraint=models.CheckConstraint(
                condition=models.Q(("status__in", ["open", "assigned", "on_hold", "closed", "cancelled", "merged"])),
                name="alerts_alert_status",
            ),
        ),
        migrations.AddConstraint(
            model_name="alert",
            constraint=models.CheckConstraint(
                condition=models.Q(("priority__in", ["critical", "high", "medium", "low"])),
                name="alerts_alert_priority",
            ),
        ),
        migrations.AddConstraint(
            model_name="acknowledgement",
            constraint=models.UniqueConstraint(fields=("alert", "user"), name="alerts_acknowledgement_once"),
        ),
        # Events are only looked up by their alert: one index for each row less.
        migrations.RunSQL(
            "ALTER TABLE alerts_alertevent DROP CONSTRAINT alerts_alertevent_pkey, "
            "ADD CONSTRAINT alerts_alertevent_pkey PRIMARY KEY (alert_id, id)",
            "ALTER TABLE alerts_alertevent DROP CONSTRAINT alerts_alertevent_pkey, "
            "ADD CONSTRAINT alerts_alertevent_pkey PRIMARY KEY (id)",
        ),
        # Large values stay as they are: compressing them on the way in costs more than the room it saves.
        migrations.RunSQL(
            "ALTER TABLE alerts_alert ALTER COLUMN long_text SET STORAGE EXTERNAL", migrations.RunSQL.noop
        ),
    ]
