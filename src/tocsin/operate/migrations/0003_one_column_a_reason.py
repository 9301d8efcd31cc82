from django.db import migrations

from tocsin.core.models import merge_reason_columns


class Migration(migrations.Migration):
    dependencies = [("operate", "0002_longer_reason_keys")]

    operations = [
        merge_reason_columns("audit", "operate_audit", "heartbeat_problem"),
        merge_reason_columns("problem", "operate_problem", "title", "detail", "remedy"),
    ]
