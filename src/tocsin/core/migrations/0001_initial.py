from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="ClockOffset",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("seconds", models.FloatField(default=0)),
            ],
        ),
        migrations.CreateModel(
            name="ClockSeen",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("seen_at", models.DateTimeField()),
                ("jumped_at", models.DateTimeField(null=True)),
                ("jumped_by", models.DurationField(null=True)),
            ],
        ),
        migrations.CreateModel(
            name="ConfigVersion",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("version", models.BigIntegerField(default=0)),
            ],
        ),
        migrations.CreateModel(
            name="MailboxTrouble",
            fields=[
                ("reason_code", models.CharField(db_default="", default="", max_length=80)),
                ("reason_data", models.JSONField(db_default={}, default=dict)),
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "reads", "number", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("reads", models.TextField()),
                ("number", models.BigIntegerField()),
                ("since", models.DateTimeField()),
            ],
        ),
        migrations.CreateModel(
            name="Setting",
            fields=[
                ("name", models.CharField(max_length=100, primary_key=True, serialize=False)),
                ("value", models.JSONField()),
            ],
        ),
    ]
