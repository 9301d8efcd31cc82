from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("notify", "0001_initial")]

    operations = [
        migrations.AddField(
            model_name="delivery", name="is_final", field=models.BooleanField(db_default=False, default=False)
        ),
    ]
