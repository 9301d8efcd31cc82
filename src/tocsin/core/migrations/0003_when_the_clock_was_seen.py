from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("core", "0002_mailbox_troubles"),
    ]

    operations = [
        migrations.CreateModel(
            name="ClockSeen",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("seen_at", models.DateTimeField()),
                ("jumped_at", models.DateTimeField(null=True)),
                ("jumped_by", models.DurationField(null=True)),
            ],
        ),
    ]
