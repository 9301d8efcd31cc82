from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("inbound", "0005_one_column_a_reason")]

    operations = [
        migrations.AddField(
            "maintenancewindow",
            "ticket_reference",
            models.CharField(blank=True, db_default="", max_length=100, verbose_name="ticket reference"),
        ),
    ]
