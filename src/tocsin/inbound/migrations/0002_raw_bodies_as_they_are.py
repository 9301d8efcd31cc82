"""Bodies are stored as they came: compressing 30 kB took longer than everything else that is done with a message."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("inbound", "0001_initial")]

    operations = [
        migrations.RunSQL(
            "ALTER TABLE inbound_inboundmessage ALTER COLUMN raw SET STORAGE EXTERNAL",
            "ALTER TABLE inbound_inboundmessage ALTER COLUMN raw SET STORAGE EXTENDED",
        )
    ]
