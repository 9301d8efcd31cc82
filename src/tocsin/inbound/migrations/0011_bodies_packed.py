"""Larger bodies are packed from now on. Nothing changes in the database: what stands there is read as it is."""

from django.db import migrations

import tocsin.inbound.body_field


class Migration(migrations.Migration):
    dependencies = [("inbound", "0010_a_name_for_keys")]

    operations = [
        migrations.AlterField(
            model_name="inboundmessage", name="raw", field=tocsin.inbound.body_field.BodyField()
        ),
    ]
