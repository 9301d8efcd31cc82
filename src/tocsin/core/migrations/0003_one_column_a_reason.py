from django.db import migrations

from tocsin.core.models import merge_reason_columns


class Migration(migrations.Migration):
    dependencies = [("core", "0002_longer_reason_keys")]

    operations = [
        merge_reason_columns("mailboxtrouble", "core_mailboxtrouble", "reason"),
    ]
