import django.contrib.postgres.fields
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("people", "0005_announcements")]

    operations = [
        migrations.AlterField(
            "membership",
            "roles",
            django.contrib.postgres.fields.ArrayField(
                models.CharField(
                    choices=[("primary", "primary"), ("secondary", "secondary"), ("lead", "lead")], max_length=20
                ),
                default=list,
            ),
        ),
        migrations.RunSQL(
            "UPDATE people_membership SET roles = array_replace(roles, 'manager', 'lead') WHERE 'manager' = ANY (roles)",
            "UPDATE people_membership SET roles = array_replace(roles, 'lead', 'manager') WHERE 'lead' = ANY (roles)",
        ),
    ]
