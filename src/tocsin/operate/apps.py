from django.apps import AppConfig
from django.db.models.signals import post_migrate

from tocsin.resources import row_security


class OperateConfig(AppConfig):
    name = "tocsin.operate"
    label = "operate"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        # The policies follow the tables that a migration has changed.
        post_migrate.connect(row_security.enable, sender=self)
