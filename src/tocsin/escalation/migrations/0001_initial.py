import django.db.models.deletion
import django.db.models.functions.text
import tocsin.core.validation.name_validator
import tocsin.escalation.run.run_state
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ("alerts", "0001_initial"),
        ("people", "0001_initial"),
    ]

    operations = [
        migrations.CreateModel(
            name="Policy",
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
            name="PolicyVersion",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("number", models.PositiveIntegerField()),
                ("definition", models.JSONField()),
                ("created_at", models.DateTimeField()),
                (
                    "policy",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="versions",
                        to="escalation.policy",
                    ),
                ),
            ],
        ),
        migrations.AddField(
            model_name="policy",
            name="current_version",
            field=models.ForeignKey(
                null=True, on_delete=django.db.models.deletion.PROTECT, related_name="+", to="escalation.policyversion"
            ),
        ),
        migrations.CreateModel(
            name="EscalationRun",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("integration_id", models.BigIntegerField(null=True)),
                ("status", models.TextField()),
                ("mode", models.TextField()),
                ("due_at", models.DateTimeField(null=True)),
                ("reason_code", models.CharField(db_default="", default="", max_length=80)),
                ("reason_data", models.JSONField(db_default={}, default=dict)),
                ("progress", models.JSONField(db_default={}, default=dict)),
                ("recipient_users", models.JSONField(db_default=[], default=list)),
                ("recipient_groups", models.JSONField(db_default=[], default=list)),
                ("priority", models.TextField(db_default="high", default="high")),
                ("started_at", models.DateTimeField()),
                ("failures", models.SmallIntegerField(db_default=0, default=0)),
                ("error", models.TextField(db_default="", default="")),
                (
                    "alert",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="runs",
                        to="alerts.alert",
                    ),
                ),
                (
                    "version",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="escalation.policyversion",
                    ),
                ),
            ],
            options={"db_table": "escalation_run"},
        ),
        migrations.AddConstraint(
            model_name="policyversion",
            constraint=models.UniqueConstraint(fields=("policy", "number"), name="escalation_policyversion_number"),
        ),
        migrations.AddConstraint(
            model_name="policy",
            constraint=models.UniqueConstraint(
                django.db.models.functions.text.Lower("name"), name="escalation_policy_name"
            ),
        ),
        migrations.AddIndex(
            model_name="escalationrun",
            index=models.Index(
                condition=models.Q(("due_at__isnull", False)),
                fields=["integration_id", "due_at"],
                name="escalation_run_due",
            ),
        ),
        migrations.AddIndex(
            model_name="escalationrun",
            index=models.Index(
                condition=models.Q(
                    ("status", tocsin.escalation.run.run_state.RunStatus["EXHAUSTED"]),
                    models.Q(
                        ("due_at__isnull", False),
                        ("progress__is_repeating_last_step", True),
                        ("status", tocsin.escalation.run.run_state.RunStatus["ACTIVE"]),
                    ),
                    _connector="OR",
                ),
                fields=["alert"],
                name="escalation_run_at_its_end",
            ),
        ),
        migrations.AddIndex(
            model_name="escalationrun",
            index=models.Index(fields=["alert", "id"], name="escalation_run_alert"),
        ),
        migrations.AddConstraint(
            model_name="escalationrun",
            constraint=models.UniqueConstraint(
                condition=models.Q(("status", "ended"), _negated=True), fields=("alert",), name="escalation_run_current"
            ),
        ),
    ]
