from django.db import migrations, models

_ROLES = {"choices": [("primary", "primary"), ("secondary", "secondary"), ("lead", "lead")], "max_length": 20}


def _rename_in_schedules(apps, _editor):
    for schedule in apps.get_model("oncall", "Schedule").objects.all():
        for shift in schedule.definition.get("shifts", ()):
            for pattern in (shift.get(kind) for kind in ("rotate", "fixed", "calendar")):
                if pattern and "roles" in pattern:
                    pattern["roles"] = ["lead" if role == "manager" else role for role in pattern["roles"]]
        schedule.save(update_fields=["definition"])


class Migration(migrations.Migration):
    dependencies = [("oncall", "0003_one_column_a_reason")]

    operations = [
        migrations.AlterField("override", "role", models.CharField(blank=True, verbose_name="role", **_ROLES)),
        migrations.AlterField("reminder", "role", models.CharField(**_ROLES)),
        migrations.AlterField("swaprequest", "return_role", models.CharField(blank=True, **_ROLES)),
        migrations.AlterField("swaprequest", "role", models.CharField(blank=True, **_ROLES)),
        *(
            migrations.RunSQL(
                f"UPDATE {table} SET {column} = 'lead' WHERE {column} = 'manager'",
                f"UPDATE {table} SET {column} = 'manager' WHERE {column} = 'lead'",
            )
            for table, column in (
                ("oncall_override", "role"),
                ("oncall_reminder", "role"),
                ("oncall_swaprequest", "role"),
                ("oncall_swaprequest", "return_role"),
            )
        ),
        migrations.RunPython(_rename_in_schedules, migrations.RunPython.noop),
    ]
