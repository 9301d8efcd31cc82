from django.db import migrations

from tocsin.core.models import merge_reason_columns


class Migration(migrations.Migration):
    dependencies = [("oncall", "0002_longer_reason_keys")]

    operations = [
        merge_reason_columns("pendingnotice", "oncall_pendingnotice", "title", "text", "reason"),
        merge_reason_columns("calendarimport", "oncall_calendarimport", "error"),
    ]
