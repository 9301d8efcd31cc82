"""What a next version may do while nodes of this one run: a column with a default, a table."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("operate", "0003_one_column_a_reason")]

    operations = [
        migrations.RunSQL("ALTER TABLE alerts_alert ADD COLUMN next_version text NOT NULL DEFAULT 'upgraded'"),
        migrations.RunSQL("CREATE TABLE operate_next AS SELECT count(*) AS alerts FROM alerts_alert"),
    ]
