from django.db import migrations, models

from tocsin.core.models import merge_reason_columns


class Migration(migrations.Migration):
    dependencies = [("inbound", "0004_longer_reason_keys")]

    operations = [
        migrations.RemoveIndex("inboundmessage", "inbound_message_unknown"),
        merge_reason_columns("inboundmessage", "inbound_inboundmessage", "reason"),
        merge_reason_columns("delayedalert", "inbound_delayedalert", "reason"),
        merge_reason_columns("refusedsender", "inbound_refusedsender", "reason"),
        migrations.AddIndex(
            "inboundmessage",
            models.Index(
                fields=["integration", "id"],
                condition=models.Q(reason__code="message.not_understood"),
                name="inbound_message_unknown",
            ),
        ),
        # As `partition_statement` names the indexes of the default partition.
        migrations.RunSQL(
            "ALTER INDEX IF EXISTS inbound_inboundmessage_default_integration_id_id_idx "
            "RENAME TO inbound_message_unknown_default"
        ),
    ]
