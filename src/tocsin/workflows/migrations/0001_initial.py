import django.db.models.deletion
import django.db.models.functions.text
import tocsin.core.validation.name_validator
import tocsin.workflows.definition
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ("alerts", "0001_initial"),
        ("people", "0001_initial"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="Workflow",
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
                ("is_enabled", models.BooleanField(default=True, verbose_name="enabled")),
                ("position", models.IntegerField(db_default=0, default=0)),
                ("trigger", models.TextField()),
                ("definition", models.JSONField()),
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
                "ordering": ("position", "name"),
            },
        ),
        migrations.CreateModel(
            name="Origin",
            fields=[
                (
                    "alert",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="+",
                        serialize=False,
                        to="alerts.alert",
                    ),
                ),
                ("depth", models.SmallIntegerField(db_default=0, default=0)),
                ("paging_depth", models.SmallIntegerField(db_default=0, default=0)),
            ],
        ),
        migrations.CreateModel(
            name="Limit",
            fields=[
                (
                    "workflow",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="+",
                        serialize=False,
                        to="workflows.workflow",
                    ),
                ),
                ("since", models.DateTimeField()),
                ("used", models.IntegerField(db_default=0, default=0)),
                ("refused", models.IntegerField(db_default=0, default=0)),
                ("refused_at", models.DateTimeField(null=True)),
            ],
        ),
        migrations.CreateModel(
            name="WorkflowRun",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                (
                    "status",
                    models.TextField(
                        db_default="waiting", default=tocsin.workflows.definition.WorkflowRunStatus["WAITING"]
                    ),
                ),
                ("cause_code", models.CharField(db_default="", default="", max_length=80)),
                ("cause_data", models.JSONField(db_default={}, default=dict)),
                ("depth", models.SmallIntegerField(db_default=0, default=0)),
                ("user_name", models.TextField(db_default="", default="")),
                ("via", models.TextField(db_default="", default="")),
                ("started_at", models.DateTimeField(null=True)),
                ("step", models.SmallIntegerField(db_default=0, default=0)),
                ("steps", models.JSONField(db_default=[], default=list)),
                ("moment", models.DateTimeField(null=True)),
                ("reason_code", models.CharField(db_default="", default="", max_length=80)),
                ("reason_data", models.JSONField(db_default={}, default=dict)),
                ("created_at", models.DateTimeField()),
                ("due_at", models.DateTimeField(null=True)),
                ("ended_at", models.DateTimeField(null=True)),
                ("failures", models.SmallIntegerField(db_default=0, default=0)),
                ("error", models.TextField(db_default="", default="")),
                (
                    "alert",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
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
                (
                    "workflow",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="runs",
                        to="workflows.workflow",
                    ),
                ),
            ],
            options={"db_table": "workflows_run"},
        ),
        migrations.AddConstraint(
            model_name="workflow",
            constraint=models.UniqueConstraint(
                django.db.models.functions.text.Lower("name"), name="workflows_workflow_name"
            ),
        ),
        migrations.AddIndex(
            model_name="workflowrun",
            index=models.Index(
                condition=models.Q(("due_at__isnull", False)), fields=["due_at"], name="workflows_run_due"
            ),
        ),
        migrations.AddIndex(
            model_name="workflowrun",
            index=models.Index(fields=["alert", "workflow", "id"], name="workflows_run_alert"),
        ),
        migrations.AddIndex(
            model_name="workflowrun",
            index=models.Index(fields=["workflow", "-id"], name="workflows_run_log"),
        ),
        migrations.AddIndex(
            model_name="workflowrun",
            index=models.Index(condition=models.Q(("status", "stuck")), fields=["-id"], name="workflows_run_stuck"),
        ),
        migrations.AddIndex(
            model_name="workflowrun",
            index=models.Index(
                condition=models.Q(("ended_at__isnull", False)), fields=["ended_at"], name="workflows_run_ended"
            ),
        ),
        migrations.AddConstraint(
            model_name="workflowrun",
            constraint=models.CheckConstraint(
                condition=models.Q(("status__in", ["waiting", "done", "skipped", "stopped", "stuck"])),
                name="workflows_run_status",
            ),
        ),
    ]
