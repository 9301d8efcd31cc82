from django.apps import AppConfig


class NotifyConfig(AppConfig):
    name = "tocsin.notify"
    label = "notify"
    default_auto_field = "django.db.models.BigAutoField"
