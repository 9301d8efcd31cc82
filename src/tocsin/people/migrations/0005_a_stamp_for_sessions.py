from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("people", "0004_contact_methods_that_await_a_code")]

    operations = [
        migrations.AddField(
            model_name="user",
            name="session_stamp",
            field=models.CharField(blank=True, db_default="", default="", max_length=16),
        ),
    ]
