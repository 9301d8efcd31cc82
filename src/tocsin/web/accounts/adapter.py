"""How django-allauth fits Tocsin: nobody signs up, links carry the public address, sign-ins are recorded."""

from __future__ import annotations

import logging
import threading
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from allauth.account.adapter import DefaultAccountAdapter
from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.mfa.models import Authenticator
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser
from django.core.mail import EmailMessage
from django.db import connections
from django.db.models import Q
from django.http import HttpRequest
from django.urls import reverse
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from tocsin.access import audit
from tocsin.core import config, crypto
from tocsin.core.errors import TocsinError
from tocsin.people.models import User

log = logging.getLogger(__name__)

_AGAIN = {
    "reauthenticate": _("Use the password"),
    "mfa_reauthenticate": _("Use a code"),
    "mfa_reauthenticate:webauthn": _("Use a key"),
}


class AccountAdapter(DefaultAccountAdapter):
    """Sign-in, sign-out and passwords."""

    error_messages = {
        **DefaultAccountAdapter.error_messages,
        "username_password_mismatch": _("That name or e-mail address and that password do not fit together."),
        "email_password_mismatch": _("That name or e-mail address and that password do not fit together."),
        "too_many_login_attempts": _("Too many tries. Wait five minutes, then try again."),
        "account_inactive": _("This user is switched off. Ask an administrator."),
        "incorrect_code": _("That code is not right. Codes change every 30 seconds."),
        "incorrect_password": _("That password is not right."),
        "enter_current_password": _("That password is not right."),
    }

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        """Never: administrators invite people."""
        return False

    def get_reset_password_from_key_url(self, key: str) -> str:
        """The link in the mail, on the public address, whatever host the request named."""
        return public_url(reverse("account_reset_password_from_key", kwargs={"uidb36": "UID", "key": "KEY"})).replace(
            "UID-KEY", key
        )

    def send_mail(self, template_prefix: str, email: str, context: dict[str, Any]) -> None:
        """Has the mail leave by itself: what the mail server says, and how long it takes, would tell whoever asks for a
        new password whether somebody has that address."""
        message = self.render_mail(template_prefix, email, {**context, "public_url": config.current().public_url})
        threading.Thread(target=_leave, args=(message,), name="account mail", daemon=True).start()

    def set_password(self, user: AbstractBaseUser, password: str) -> None:
        """The password alone is saved: a role that was taken from them since this request began stays taken."""
        user.set_password(password)
        user.save(update_fields=["password"])

    def login(self, request: HttpRequest, user: AbstractBaseUser) -> None:
        super().login(request, user)
        assert isinstance(user, User)
        audit.record_sign_in(user, user.username, succeeded=True, address=address_of(request), now=moment_of(request))

    def get_reauthentication_methods(self, user: AbstractBaseUser | AnonymousUser) -> list[dict[str, Any]]:
        """The ways to show that it is still oneself, in our words."""
        found: list[dict[str, Any]] = super().get_reauthentication_methods(user)
        return [{**one, "description": _AGAIN.get(one["id"], one["description"])} for one in found]

    def logout(self, request: HttpRequest) -> None:
        if request.user.is_authenticated:
            audit.record_sign_out(request.user, address=address_of(request), now=moment_of(request))
        super().logout(request)

    def authentication_failed(self, request: HttpRequest, **credentials: Any) -> None:
        super().authentication_failed(request, **credentials)
        tried = str(credentials.get("username") or credentials.get("email") or "")[:200]
        audit.record_sign_in(None, tried, succeeded=False, address=address_of(request), now=moment_of(request))

    def _get_login_attempts_cache_key(self, request: HttpRequest, **credentials: Any) -> str:
        # By the person alone, whom the database finds by more names than one: each, and each host that a request
        # names, would give everybody fresh tries.
        name = str(credentials.get("email", credentials.get("username", "")))
        found = User.objects.filter(Q(username__iexact=name) | Q(email__iexact=name)).order_by("pk").first()
        return name.lower() if found is None else f"user {found.pk}"


class SecondFactorAdapter(DefaultMFAAdapter):
    """Authenticator apps and passkeys."""

    def encrypt(self, text: str) -> str:
        return crypto.encrypt(text)

    def decrypt(self, encrypted_text: str) -> str:
        return crypto.decrypt(encrypted_text)

    def generate_authenticator_name(self, user: AbstractBaseUser, type: Authenticator.Type) -> str:
        """What a key is called until its owner names it."""
        number = 1 + Authenticator.objects.filter(user_id=user.pk, type=type).count()
        return gettext("Key %(number)s") % {"number": number}

    def get_public_key_credential_rp_entity(self) -> dict[str, str]:
        """A passkey belongs to the public address' host."""
        if config.current().base_url is None:
            entity: dict[str, str] = super().get_public_key_credential_rp_entity()
            return {**entity, "name": "Tocsin"}
        return {"id": urlsplit(config.current().public_url).hostname or "localhost", "name": "Tocsin"}


def _leave(message: EmailMessage) -> None:
    try:
        message.send()
    except TocsinError as error:
        log.warning("A mail for a new password was not sent: %s", error)
    finally:
        connections.close_all()


def public_url(path: str) -> str:
    """The full address of a path, as people outside reach it."""
    return config.current().public_url + path


def address_of(request: HttpRequest) -> str | None:
    """Where a request came from, as the front door worked it out."""
    return request.META.get("REMOTE_ADDR") or None


def moment_of(request: HttpRequest) -> datetime:
    """When a request came: read once, by the middleware."""
    now: datetime = request.now  # type: ignore[attr-defined]
    return now
