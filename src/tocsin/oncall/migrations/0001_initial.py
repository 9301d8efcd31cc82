import django.contrib.postgres.fields
import django.db.models.deletion
import django.db.models.functions.text
import tocsin.core.validation.name_validator
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ("people", "0001_initial"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="Schedule",
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
                ("time_zone", models.CharField(default="UTC", max_length=64, verbose_name="time zone")),
                ("definition", models.JSONField(default=dict)),
                (
                    "holiday_calendars",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.BigIntegerField(), db_default=[], default=list
                    ),
                ),
                (
                    "handover_notes",
                    models.BooleanField(db_default=True, default=True, verbose_name="handover notes"),
                ),
                (
                    "group",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="schedules", to="people.group"
                    ),
                ),
            ],
            options={
                "ordering": ("name",),
            },
        ),
        migrations.CreateModel(
            name="CalendarImport",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("shift", models.CharField(max_length=100)),
                ("url", models.TextField()),
                ("due_at", models.DateTimeField()),
                ("read_at", models.DateTimeField(null=True)),
                ("error_code", models.CharField(db_default="", default="", max_length=80)),
                ("error_data", models.JSONField(db_default={}, default=dict)),
                ("unknown", models.JSONField(default=list)),
                ("spans", models.JSONField(default=list)),
                (
                    "schedule",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="imports", to="oncall.schedule"
                    ),
                ),
            ],
            options={
                "ordering": ("schedule", "shift"),
            },
        ),
        migrations.CreateModel(
            name="CalendarFeed",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "kind",
                    models.CharField(
                        choices=[("person", "person"), ("group", "group"), ("schedule", "schedule"), ("all", "all")],
                        max_length=10,
                    ),
                ),
                ("token_hash", models.BinaryField(unique=True)),
                ("created_at", models.DateTimeField()),
                ("used_at", models.DateTimeField(null=True)),
                (
                    "group",
                    models.ForeignKey(
                        null=True, on_delete=django.db.models.deletion.CASCADE, related_name="+", to="people.group"
                    ),
                ),
                (
                    "owner",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="calendar_feeds",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "schedule",
                    models.ForeignKey(
                        null=True, on_delete=django.db.models.deletion.CASCADE, related_name="+", to="oncall.schedule"
                    ),
                ),
            ],
            options={
                "ordering": ("id",),
            },
        ),
        migrations.CreateModel(
            name="SupportHours",
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
                ("time_zone", models.CharField(default="UTC", max_length=64, verbose_name="time zone")),
                ("windows", models.JSONField(default=list)),
                (
                    "holiday_calendars",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.BigIntegerField(), db_default=[], default=list
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
                "verbose_name_plural": "support hours",
                "ordering": ("name",),
            },
        ),
        migrations.CreateModel(
            name="SwapRequest",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "role",
                    models.CharField(
                        blank=True,
                        choices=[("primary", "primary"), ("secondary", "secondary"), ("manager", "manager")],
                        max_length=20,
                    ),
                ),
                ("starts_at", models.DateTimeField()),
                ("ends_at", models.DateTimeField()),
                (
                    "return_role",
                    models.CharField(
                        blank=True,
                        choices=[("primary", "primary"), ("secondary", "secondary"), ("manager", "manager")],
                        max_length=20,
                    ),
                ),
                ("return_starts_at", models.DateTimeField(null=True)),
                ("return_ends_at", models.DateTimeField(null=True)),
                ("message", models.CharField(blank=True, max_length=500)),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("asked", "asked"),
                            ("accepted", "accepted"),
                            ("declined", "declined"),
                            ("withdrawn", "withdrawn"),
                        ],
                        default="asked",
                        max_length=10,
                    ),
                ),
                ("created_at", models.DateTimeField()),
                ("answered_at", models.DateTimeField(null=True)),
                (
                    "requested_user",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to=settings.AUTH_USER_MODEL
                    ),
                ),
                (
                    "requester",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to=settings.AUTH_USER_MODEL
                    ),
                ),
                (
                    "schedule",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="swaps", to="oncall.schedule"
                    ),
                ),
            ],
            options={
                "ordering": ("-id",),
            },
        ),
        migrations.CreateModel(
            name="Override",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(blank=True, max_length=100, verbose_name="name")),
                ("shift", models.CharField(blank=True, max_length=100, verbose_name="shift")),
                (
                    "role",
                    models.CharField(
                        blank=True,
                        choices=[("primary", "primary"), ("secondary", "secondary"), ("manager", "manager")],
                        max_length=20,
                        verbose_name="role",
                    ),
                ),
                ("starts_at", models.DateTimeField(verbose_name="from")),
                ("ends_at", models.DateTimeField(verbose_name="to")),
                ("created_at", models.DateTimeField()),
                (
                    "created_by",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "instead_of",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "user",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to=settings.AUTH_USER_MODEL
                    ),
                ),
                (
                    "schedule",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="overrides", to="oncall.schedule"
                    ),
                ),
                (
                    "swap",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="overrides",
                        to="oncall.swaprequest",
                    ),
                ),
            ],
            options={
                "ordering": ("starts_at", "id"),
            },
        ),
        migrations.CreateModel(
            name="PendingNotice",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("reason_code", models.CharField(db_default="", default="", max_length=80)),
                ("reason_data", models.JSONField(db_default={}, default=dict)),
                ("title_code", models.CharField(max_length=80)),
                ("title_data", models.JSONField()),
                ("text_code", models.CharField(max_length=80)),
                ("text_data", models.JSONField()),
                ("created_at", models.DateTimeField()),
                ("sent_at", models.DateTimeField(null=True)),
                (
                    "swap",
                    models.ForeignKey(
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="oncall.swaprequest",
                    ),
                ),
                (
                    "user",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to=settings.AUTH_USER_MODEL
                    ),
                ),
            ],
            options={
                "indexes": [
                    models.Index(condition=models.Q(("sent_at", None)), fields=["id"], name="oncall_pendingnotice_waiting")
                ],
            },
        ),
        migrations.CreateModel(
            name="HandoverNote",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("at", models.DateTimeField()),
                ("since", models.DateTimeField()),
                (
                    "outgoing",
                    django.contrib.postgres.fields.ArrayField(base_field=models.BigIntegerField()),
                ),
                (
                    "incoming",
                    django.contrib.postgres.fields.ArrayField(base_field=models.BigIntegerField()),
                ),
                ("text", models.TextField(db_default="", default="")),
                ("edited_at", models.DateTimeField(null=True)),
                ("sent_at", models.DateTimeField(null=True)),
                ("facts", models.JSONField(db_default=[], default=list)),
                (
                    "edited_by",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "schedule",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="oncall.schedule"
                    ),
                ),
            ],
            options={
                "ordering": ("-at",),
                "constraints": [
                    models.UniqueConstraint(fields=("schedule", "at"), name="oncall_handovernote_once"),
                ],
                "indexes": [
                    models.Index(condition=models.Q(("sent_at", None)), fields=["at"], name="oncall_handovernote_due"),
                ],
            },
        ),
        migrations.CreateModel(
            name="HolidayCalendar",
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
                ("country", models.CharField(blank=True, max_length=2, verbose_name="country")),
                ("region", models.CharField(blank=True, max_length=10, verbose_name="region")),
                ("days", models.JSONField(default=list)),
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
                "constraints": [
                    models.UniqueConstraint(
                        django.db.models.functions.text.Lower("name"), name="oncall_holidaycalendar_name"
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="Reminder",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "role",
                    models.CharField(
                        choices=[("primary", "primary"), ("secondary", "secondary"), ("manager", "manager")],
                        max_length=20,
                    ),
                ),
                ("shift_at", models.DateTimeField()),
                ("before", models.DurationField()),
                ("due_at", models.DateTimeField()),
                ("done_at", models.DateTimeField(null=True)),
                (
                    "group",
                    models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name="+", to="people.group"),
                ),
                (
                    "user",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to=settings.AUTH_USER_MODEL
                    ),
                ),
            ],
            options={
                "indexes": [
                    models.Index(condition=models.Q(("done_at", None)), fields=["due_at"], name="oncall_reminder_due")
                ],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("user", "group", "role", "shift_at", "before"), name="oncall_reminder_once"
                    )
                ],
            },
        ),
        migrations.AddConstraint(
            model_name="schedule",
            constraint=models.UniqueConstraint(
                django.db.models.functions.text.Lower("name"), name="oncall_schedule_name"
            ),
        ),
        migrations.AddIndex(
            model_name="calendarimport",
            index=models.Index(fields=["due_at"], name="oncall_calendarimport_due"),
        ),
        migrations.AddConstraint(
            model_name="calendarimport",
            constraint=models.UniqueConstraint(
                models.F("schedule"), django.db.models.functions.text.Lower("shift"), name="oncall_calendarimport_shift"
            ),
        ),
        migrations.AddConstraint(
            model_name="calendarfeed",
            constraint=models.UniqueConstraint(
                models.F("owner"),
                models.F("kind"),
                models.F("group"),
                models.F("schedule"),
                name="oncall_calendarfeed_once",
                nulls_distinct=False,
            ),
        ),
        migrations.AddConstraint(
            model_name="calendarfeed",
            constraint=models.CheckConstraint(
                condition=models.Q(("kind__in", ["person", "group", "schedule", "all"])),
                name="oncall_calendarfeed_kind",
            ),
        ),
        migrations.AddConstraint(
            model_name="supporthours",
            constraint=models.UniqueConstraint(
                django.db.models.functions.text.Lower("name"), name="oncall_supporthours_name"
            ),
        ),
        migrations.AddConstraint(
            model_name="swaprequest",
            constraint=models.CheckConstraint(
                condition=models.Q(("ends_at__gt", models.F("starts_at"))), name="oncall_swap_span"
            ),
        ),
        migrations.AddConstraint(
            model_name="swaprequest",
            constraint=models.CheckConstraint(
                condition=models.Q(("state__in", ["asked", "accepted", "declined", "withdrawn"])),
                name="oncall_swap_state",
            ),
        ),
        migrations.AddIndex(
            model_name="override",
            index=models.Index(fields=["schedule", "ends_at"], name="oncall_override_current"),
        ),
        migrations.AddConstraint(
            model_name="override",
            constraint=models.CheckConstraint(
                condition=models.Q(("ends_at__gt", models.F("starts_at"))), name="oncall_override_span"
            ),
        ),
    ]
