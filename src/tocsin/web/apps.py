from django.apps import AppConfig


class WebConfig(AppConfig):
    name = "tocsin.web"
    label = "web"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from allauth.mfa.signals import authenticator_removed

        from tocsin.web.accounts.session_store import end_other_sessions

        # allauth's own views remove authenticators without calling Tocsin, so its signal is the only hook.
        authenticator_removed.connect(end_other_sessions, dispatch_uid="end_others")
