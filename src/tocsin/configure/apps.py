from django.apps import AppConfig


class ConfigureConfig(AppConfig):
    name = "tocsin.configure"
    label = "configure"
    default_auto_field = "django.db.models.BigAutoField"
