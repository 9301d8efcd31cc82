from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("operate", "0002_next")]

    operations = [
        migrations.RunSQL("CREATE TABLE operate_half (id int)"),
        migrations.RunSQL("SELECT 1 / (SELECT count(*) - count(*) FROM operate_half)"),
    ]
