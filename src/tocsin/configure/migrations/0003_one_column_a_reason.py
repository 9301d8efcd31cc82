from django.db import migrations

from tocsin.core.models import merge_reason_columns


class Migration(migrations.Migration):
    dependencies = [("configure", "0002_longer_reason_keys")]

    operations = [
        merge_reason_columns("importrun", "configure_importrun", "progress", "problem"),
    ]
