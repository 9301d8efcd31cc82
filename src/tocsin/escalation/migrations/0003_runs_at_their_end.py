"""An index of the few runs that have nobody further to notify, so that Home finds them without reading all."""

from __future__ import annotations

from django.db import migrations, models
from django.db.models import Q

from tocsin.core.db.migration_operations import AddIndexWhileWorking


class Migration(migrations.Migration):
    # Ingest goes on meanwhile.
    atomic = False

    dependencies = [("escalation", "0002_a_share_for_each_integration")]

    operations = [
        AddIndexWhileWorking(
            model_name="run",
            index=models.Index(
                fields=["alert"],
                condition=Q(status="finished")
                | Q(status="active", due_at__isnull=False, progress__keeping=True),
                name="escalation_run_at_its_end",
            ),
        ),
    ]
