import datetime
import django.contrib.postgres.fields
import django.db.models.deletion
import django.db.models.functions.text
import django.db.models.manager
import tocsin.access.roles
import tocsin.core.validation.name_validator
import tocsin.people.models
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="UsedCode",
            fields=[
                ("key", models.CharField(max_length=64, primary_key=True, serialize=False)),
                ("at", models.DateTimeField()),
            ],
        ),
        migrations.CreateModel(
            name="User",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("password", models.CharField(max_length=128, verbose_name="password")),
                ("last_login", models.DateTimeField(blank=True, null=True, verbose_name="last login")),
                (
                    "username",
                    models.CharField(
                        max_length=100,
                        validators=[tocsin.core.validation.name_validator.validate_name],
                        verbose_name="username",
                    ),
                ),
                ("name", models.CharField(blank=True, max_length=200, verbose_name="name")),
                ("email", models.EmailField(max_length=254, verbose_name="e-mail")),
                (
                    "role",
                    models.CharField(
                        choices=[
                            ("observer", "observer"),
                            ("responder", "responder"),
                            ("manager", "manager"),
                            ("admin", "admin"),
                        ],
                        default=tocsin.access.roles.Role["RESPONDER"],
                        max_length=12,
                        verbose_name="role",
                    ),
                ),
                ("time_zone", models.CharField(default="UTC", max_length=64, verbose_name="time zone")),
                ("language", models.CharField(blank=True, max_length=10, verbose_name="language")),
                (
                    "theme",
                    models.CharField(
                        blank=True, choices=[("light", "light"), ("dark", "dark")], max_length=5, verbose_name="theme"
                    ),
                ),
                ("is_active", models.BooleanField(default=True, verbose_name="active")),
                (
                    "clients",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(max_length=200), db_default=[], default=list, size=None
                    ),
                ),
                ("is_service_account", models.BooleanField(db_default=False, default=False)),
                ("is_break_glass", models.BooleanField(db_default=False, default=False)),
                ("role_source", models.CharField(blank=True, db_default="", default="", max_length=60)),
                ("notification_rules", models.JSONField(db_default={}, default=dict)),
                ("reminders", models.JSONField(db_default=[], default=list)),
                ("session_stamp", models.CharField(blank=True, db_default="", default="", max_length=16)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(
                        django.db.models.functions.text.Lower("username"), name="people_user_username"
                    ),
                    models.UniqueConstraint(
                        django.db.models.functions.text.Lower("email"),
                        condition=~models.Q(("email", "")),
                        name="people_user_email",
                    ),
                    models.CheckConstraint(
                        condition=~models.Q(("email", "")) | models.Q(("is_service_account", True)),
                        name="people_user_email_of_person",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            (
                                "role__in",
                                [
                                    tocsin.access.roles.Role["OBSERVER"],
                                    tocsin.access.roles.Role["RESPONDER"],
                                    tocsin.access.roles.Role["MANAGER"],
                                    tocsin.access.roles.Role["ADMIN"],
                                ],
                            )
                        ),
                        name="people_user_role",
                    ),
                ],
            },
            managers=[
                ("mentioned", django.db.models.manager.Manager()),
                ("objects", tocsin.people.models.BoundedUserManager()),
            ],
        ),
        migrations.CreateModel(
            name="Group",
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
                ("description", models.TextField(blank=True, verbose_name="description")),
                ("time_zone", models.CharField(default="UTC", max_length=64, verbose_name="time zone")),
            ],
            options={
                "ordering": ("name",),
                "constraints": [
                    models.UniqueConstraint(django.db.models.functions.text.Lower("name"), name="people_group_name")
                ],
            },
            managers=[
                ("mentioned", django.db.models.manager.Manager()),
            ],
        ),
        migrations.AddField(
            model_name="user",
            name="service_groups",
            field=models.ManyToManyField(related_name="service_accounts", to="people.group"),
        ),
        migrations.CreateModel(
            name="ServiceAccount",
            fields=[],
            options={"proxy": True, "indexes": [], "constraints": []},
            bases=("people.user",),
        ),
        migrations.CreateModel(
            name="OutOfOffice",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("starts_at", models.DateTimeField(verbose_name="from")),
                ("ends_at", models.DateTimeField(verbose_name="to")),
                ("note", models.CharField(blank=True, max_length=200, verbose_name="note")),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                (
                    "cover",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "user",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="absences",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "ordering": ("starts_at", "id"),
            },
        ),
        migrations.CreateModel(
            name="OutOfOfficeCover",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "absence",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="covers", to="people.outofoffice"
                    ),
                ),
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
                "ordering": ("id",),
            },
        ),
        migrations.CreateModel(
            name="ContactMethod",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("label", models.CharField(max_length=100, verbose_name="label")),
                ("channel", models.CharField(max_length=20, verbose_name="channel")),
                ("address", models.CharField(max_length=500, verbose_name="address")),
                ("wait", models.DurationField(default=datetime.timedelta, verbose_name="wait")),
                ("repeat_times", models.PositiveSmallIntegerField(default=0, verbose_name="repeats")),
                ("repeat_every", models.DurationField(default=datetime.timedelta, verbose_name="repeat every")),
                ("position", models.PositiveSmallIntegerField(default=0)),
                ("is_enabled", models.BooleanField(default=True, verbose_name="enabled")),
                ("verified_at", models.DateTimeField(blank=True, null=True)),
                ("awaits_code", models.BooleanField(db_default=False, default=False)),
                (
                    "user",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="contact_methods",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "ordering": ("position", "id"),
                "constraints": [
                    models.UniqueConstraint(
                        models.F("user"),
                        django.db.models.functions.text.Lower("label"),
                        name="people_contactmethod_label",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="GroupContact",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("label", models.CharField(max_length=100, verbose_name="label")),
                ("channel", models.CharField(max_length=20, verbose_name="channel")),
                ("address", models.CharField(max_length=500, verbose_name="address")),
                ("position", models.PositiveSmallIntegerField(default=0)),
                (
                    "group",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="contacts", to="people.group"
                    ),
                ),
            ],
            options={
                "ordering": ("position", "id"),
                "constraints": [
                    models.UniqueConstraint(
                        models.F("group"),
                        django.db.models.functions.text.Lower("label"),
                        name="people_groupcontact_label",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="Membership",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "roles",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(
                            choices=[("primary", "primary"), ("secondary", "secondary"), ("manager", "manager")],
                            max_length=20,
                        ),
                        default=list,
                    ),
                ),
                ("position", models.PositiveSmallIntegerField(default=0)),
                (
                    "role",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("observer", "observer"),
                            ("responder", "responder"),
                            ("manager", "manager"),
                            ("admin", "admin"),
                        ],
                        db_default="",
                        default="",
                        max_length=12,
                        verbose_name="role",
                    ),
                ),
                ("source", models.CharField(blank=True, db_default="", default="", max_length=60)),
                ("shows_addresses", models.BooleanField(db_default=True, default=True)),
                (
                    "group",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="memberships", to="people.group"
                    ),
                ),
                (
                    "user",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="memberships",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "ordering": ("position", "id"),
                "constraints": [models.UniqueConstraint(fields=("group", "user"), name="people_membership_once")],
            },
        ),
        migrations.AddIndex(
            model_name="outofoffice",
            index=models.Index(fields=["user", "ends_at"], name="people_outofoffice_current"),
        ),
        migrations.AddConstraint(
            model_name="outofoffice",
            constraint=models.CheckConstraint(
                condition=models.Q(("ends_at__gt", models.F("starts_at"))), name="people_outofoffice_span"
            ),
        ),
        migrations.AddConstraint(
            model_name="outofofficecover",
            constraint=models.UniqueConstraint(fields=("absence", "group"), name="people_outofofficecover_once"),
        ),
    ]
