from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("people", "0005_a_stamp_for_sessions")]

    operations = [
        migrations.CreateModel(
            name="UsedCode",
            fields=[
                ("key", models.CharField(max_length=64, primary_key=True, serialize=False)),
                ("at", models.DateTimeField()),
            ],
        ),
    ]
