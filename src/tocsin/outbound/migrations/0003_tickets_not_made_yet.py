from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('alerts', '0003_long_texts_as_they_are'),
        ('outbound', '0002_webhooks_by_integration'),
    ]

    operations = [
        migrations.AddIndex(
            model_name='ticketlink',
            index=models.Index(condition=models.Q(('ticket', '')), fields=['integration', 'alert'], name='outbound_ticketlink_none'),
        ),
    ]
