from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("people", "0002_user_display_name")]

    operations = [
        migrations.AddField(
            model_name="user",
            name="has_compact_list",
            field=models.BooleanField(db_default=False, default=False),
        ),
        migrations.AddField(
            model_name="user",
            name="alert_filters",
            field=models.JSONField(db_default=[], default=list),
        ),
    ]
