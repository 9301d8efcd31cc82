from django.db import migrations, models

_STATES = ["queued", "sending", "sent", "delivered", "failed", "cancelled", "sandboxed"]


class Migration(migrations.Migration):
    dependencies = [("notify", "0001_initial")]

    operations = [
        migrations.AddField(
            model_name="delivery", name="is_final", field=models.BooleanField(db_default=False, default=False)
        ),
        migrations.RemoveConstraint(model_name="delivery", name="notify_delivery_status"),
        migrations.AddConstraint(
            model_name="delivery",
            constraint=models.CheckConstraint(
                condition=models.Q(("status__in", _STATES)), name="notify_delivery_status"
            ),
        ),
        migrations.AddIndex(
            model_name="delivery",
            index=models.Index(
                condition=models.Q(("purpose", "page"), ("status", "sandboxed")),
                fields=["alert"],
                name="notify_delivery_sandboxed",
            ),
        ),
    ]
