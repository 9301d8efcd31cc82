from django.db import migrations

from tocsin.core.models import merge_reason_columns


class Migration(migrations.Migration):
    dependencies = [("alerts", "0003_longer_reason_keys")]

    operations = [
        merge_reason_columns("alertevent", "alerts_alertevent", "reason"),
    ]
