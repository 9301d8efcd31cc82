from django.db import migrations

from tocsin.core.models import merge_reason_columns


class Migration(migrations.Migration):
    dependencies = [("outbound", "0002_longer_reason_keys")]

    operations = [
        merge_reason_columns("integrationstatus", "outbound_integrationstatus", "problem", "last_transient_error", "poll_error", "webhook_problem"),
        merge_reason_columns("call", "outbound_call", "description", "error", "result"),
    ]
