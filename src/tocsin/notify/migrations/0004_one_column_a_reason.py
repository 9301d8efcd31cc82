from django.db import migrations

from tocsin.core.models import merge_reason_columns


class Migration(migrations.Migration):
    dependencies = [("notify", "0003_longer_reason_keys")]

    operations = [
        merge_reason_columns("providerhealth", "notify_providerhealth", "error"),
        merge_reason_columns("notification", "notify_notification", "reason"),
        merge_reason_columns("delivery", "notify_delivery", "reason", "error", "cancel_requested"),
        merge_reason_columns("pushdevice", "notify_pushdevice", "last_error"),
        merge_reason_columns("mailreply", "notify_mailreply", "reason"),
    ]
