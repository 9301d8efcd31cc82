import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('inbound', '0003_outbound_of_an_integration'),
        ('outbound', '0001_outbound_integrations'),
    ]

    operations = [
        migrations.CreateModel(
            name='Webhook',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('number', models.TextField()),
                ('url_hash', models.BinaryField(db_default=b'', default=b'', max_length=32)),
                ('set_up_at', models.DateTimeField()),
                ('door', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='inbound.integration')),
                ('integration', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='webhooks', to='outbound.outboundintegration')),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('integration', 'door'), name='outbound_webhook_door')],
            },
        ),
        # The one that was remembered for a whole Halo is that of its inbound integration, where there is only one; else
        # "Set up the webhook" finds each again by its address.
        migrations.RunSQL(
            """
            INSERT INTO outbound_webhook (integration_id, door_id, number, set_up_at)
            SELECT s.integration_id, min(i.id), s.memory ->> 'webhook_id', coalesce(s.looked_at, clock_timestamp())
            FROM outbound_standing s JOIN inbound_integration i ON i.outbound_id = s.integration_id
            WHERE coalesce(s.memory ->> 'webhook_id', '') <> ''
            GROUP BY s.integration_id, s.memory ->> 'webhook_id', s.looked_at HAVING count(*) = 1;
            UPDATE outbound_standing SET memory = memory - 'webhook_id' - 'missed';
            """,
            migrations.RunSQL.noop,
        ),
    ]
