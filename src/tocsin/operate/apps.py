from django.apps import AppConfig


class OperateConfig(AppConfig):
    name = "tocsin.operate"
    label = "operate"
    default_auto_field = "django.db.models.BigAutoField"
