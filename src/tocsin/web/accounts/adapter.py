"""django-allauth adapters: no self-registration, links with the public address, audited sign-ins, account mail."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from allauth.account.adapter import DefaultAccountAdapter
from allauth.account.internal.flows.login import get_authentication_records
from allauth.core.internal.ratelimit import RateLimitUsage
from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.mfa.models import Authenticator
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import AnonymousUser
from django.core.mail import EmailMessage, EmailMultiAlternatives
from django.core.mail.backends.base import BaseEmailBackend
from django.db import connections
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import translation
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from tocsin.access import audit
from tocsin.access.roles import Role
from tocsin.core import ids
from tocsin.core.config import crypto, environment
from tocsin.core.db import database
from tocsin.core.errors import Permanent, Temporary, TocsinError
from tocsin.core.net.egress import OutcomeUnknown
from tocsin.core.runtime import clock
from tocsin.identity.models import IdentityProvider
from tocsin.notify.interfaces import Rendered
from tocsin.notify.models import SandboxMessage
from tocsin.notify.providers.pool import ActiveProvider, ProviderPool
from tocsin.people.models import User
from tocsin.people.sign_in_rules import requires_single_sign_on
from tocsin.web.accounts import signin
from tocsin.web.accounts.session_store import begin_session
from tocsin.web.accounts.signin import device_of, find_account, remember, typed_name
from tocsin.web.http.request import address_of, moment_of

log = logging.getLogger(__name__)

_REAUTHENTICATION_LABELS = {
    "reauthenticate": _("Use your password"),
    "mfa_reauthenticate": _("Use a code"),
    "mfa_reauthenticate:webauthn": _("Use a passkey or security key"),
}

#: Also helps a user with the right password who is blocked because a stranger guessed too often.
_MISMATCH = _("Incorrect username, email or password. After several failed attempts, wait five minutes.")


class AccountAdapter(DefaultAccountAdapter):
    error_messages = {
        **DefaultAccountAdapter.error_messages,
        "username_password_mismatch": _MISMATCH,
        "email_password_mismatch": _MISMATCH,
        "too_many_login_attempts": _("Too many attempts. Wait five minutes, then try again."),
        "account_inactive": _("This account is deactivated. Contact an administrator."),
        "incorrect_code": _("Incorrect code. Codes change every 30 seconds."),
        "incorrect_password": _("Incorrect password."),
        "enter_current_password": _("Incorrect password."),
    }

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        """Return False: users are invited by administrators."""
        return False

    def get_reset_password_from_key_url(self, key: str) -> str:
        """Return the password reset link on the public address, regardless of the request's Host header."""
        return public_url(reverse("account_reset_password_from_key", kwargs={"uidb36": "UID", "key": "KEY"})).replace(
            "UID-KEY", key
        )

    def send_mail(self, template_prefix: str, email: str, context: dict[str, Any]) -> None:
        """Render and send the e-mail in a separate thread. The response time or a mail server error would otherwise
        reveal whether an account with that address exists."""
        full_context = {**context, "public_url": environment.current().public_url}
        thread_args = (self, template_prefix, email, full_context, translation.get_language())
        threading.Thread(target=_render_and_send, args=thread_args, name="account mail", daemon=True).start()

    def set_password(self, user: AbstractBaseUser, password: str) -> None:
        """Save only the password, so that a concurrent change of the user's role is not overwritten."""
        user.set_password(password)
        user.save(update_fields=["password"])

    def login(self, request: HttpRequest, user: AbstractBaseUser) -> None:
        super().login(request, user)
        assert isinstance(user, User)
        source = begin_session(request, user)
        provider = IdentityProvider.objects.filter(pk=source.provider_id).first() if source else None
        claims = {"provider": provider.name, **source.claims} if source and provider else {}
        audit.record_sign_in(
            user,
            user.username,
            succeeded=True,
            address=address_of(request),
            now=moment_of(request),
            details={**_method(request, user), **claims},
        )
        if user.is_break_glass and source is None:
            self._announce_break_glass(request, user)

    def _announce_break_glass(self, request: HttpRequest, user: User) -> None:
        """Record the use of a break-glass account, and e-mail it to every administrator."""
        address, now = address_of(request), moment_of(request)
        audit_actor = audit.AuditActor.from_user(user, "web", address, limits=None)
        audit.record(audit_actor, "break_glass", now=now, object_type="user", object_id=user.pk)
        context = {"user": user, "at": now, "address": address or ""}
        for email in User.objects.filter(role=Role.ADMIN, is_active=True).values_list("email", flat=True):
            self.send_mail("account/email/break_glass", email, context)

    def get_reauthentication_methods(self, user: AbstractBaseUser | AnonymousUser) -> list[dict[str, Any]]:
        """Return the reauthentication methods with Tocsin's descriptions."""
        methods: list[dict[str, Any]] = super().get_reauthentication_methods(user)
        return [
            {**method, "description": _REAUTHENTICATION_LABELS.get(method["id"], method["description"])}
            for method in methods
        ]

    def logout(self, request: HttpRequest) -> None:
        if request.user.is_authenticated:
            audit.record_sign_out(request.user, address=address_of(request), now=moment_of(request))
        super().logout(request)

    def authentication_failed(self, request: HttpRequest, **credentials: Any) -> None:
        super().authentication_failed(request, **credentials)
        login_name = str(credentials.get("username") or credentials.get("email") or "")[:200]
        audit.record_sign_in(None, login_name, succeeded=False, address=address_of(request), now=moment_of(request))

    def pre_authenticate(self, request: HttpRequest, **credentials: Any) -> None:
        """Count the attempt against the rate limits, without revealing whether the account exists.

        The limit by typed name is reported as such, because it applies to any name. The limit of the account, which has
        two names, is reported as a wrong password and takes as long as one.
        """
        name = typed_name(credentials)
        user = find_account(name)
        typed_usage = None
        if device_of(request, user) is None:
            typed_usage = signin.count_typed(request, name)
            if typed_usage is None:
                raise self.validation_error("too_many_login_attempts")
        account_usage = signin.count(request, user, name)
        if account_usage is None:
            if typed_usage is None:
                raise self.validation_error("too_many_login_attempts")
            make_password(str(credentials.get("password", "")))
            self.authentication_failed(request, **credentials)
            raise self.validation_error("username_password_mismatch")
        if requires_single_sign_on() and not (user and user.is_break_glass):
            # As a wrong password, also for an unknown name: the answer reveals no break-glass account.
            make_password(str(credentials.get("password", "")))
            self.authentication_failed(request, **credentials)
            raise self.validation_error("username_password_mismatch")
        self._login_failed_rl_usage = RateLimitUsage(
            [*(typed_usage.usage if typed_usage else ()), *account_usage.usage]
        )

    def get_client_ip(self, request: HttpRequest) -> str:
        """Return the key for allauth's limits by address: the user's known device, else the client address.

        Behind an untrusted proxy or a shared line, unrelated clients share one address.
        """
        user = request.user if isinstance(request.user, User) else None
        login_name = str(request.POST.get("login") or request.POST.get("email") or "").strip()
        device = device_of(request, user or (find_account(login_name) if login_name else None))
        return f"device {device}" if device else str(super().get_client_ip(request))

    def post_login(self, request: HttpRequest, user: AbstractBaseUser, **kwargs: Any) -> HttpResponse:
        response: HttpResponse = super().post_login(request, user, **kwargs)
        assert isinstance(user, User)
        remember(request, response, user)
        return response


class SecondFactorAdapter(DefaultMFAAdapter):
    def encrypt(self, text: str) -> str:
        return crypto.encrypt(text)

    def decrypt(self, encrypted_text: str) -> str:
        return crypto.decrypt(encrypted_text)

    def generate_authenticator_name(self, user: AbstractBaseUser, type: Authenticator.Type) -> str:
        number = 1 + Authenticator.objects.filter(user_id=user.pk, type=type).count()
        return gettext("Key %(number)s") % {"number": number}

    def get_public_key_credential_rp_entity(self) -> dict[str, str]:
        """Bind passkeys to the host of the public address."""
        if environment.current().base_url is None:
            entity: dict[str, str] = super().get_public_key_credential_rp_entity()
            return {**entity, "name": "Tocsin"}
        return {"id": urlsplit(environment.current().public_url).hostname or "localhost", "name": "Tocsin"}


def _render_and_send(
    adapter: AccountAdapter, template_prefix: str, email: str, context: dict[str, Any], language: str | None
) -> None:
    try:
        with translation.override(language):
            adapter.render_mail(template_prefix, email, context).send()
    except TocsinError as error:
        log.warning("A mail for a new password was not sent: %s", error)
    finally:
        connections.close_all()


def _method(request: HttpRequest, user: User) -> dict[str, object]:
    """Return how the user has just signed in, such as `password + totp`, for the audit log; empty for a link."""
    records = get_authentication_records(request, user)
    methods = [str(record.get("type") or record["method"]) for record in records if not record.get("reauthenticated")]
    return {"method": " + ".join(methods)} if methods else {}


def public_url(path: str) -> str:
    """Return the absolute URL of a path on the public address."""
    return environment.current().public_url + path


# ---------- account mail
# Sends account e-mail (invitations, password resets) through the first e-mail provider that accepts it.
#
# Without an e-mail provider the message goes to the sandbox.

CHANNEL = "email"

_providers = ProviderPool()


def is_sent_outside() -> bool:
    """Return whether an e-mail provider is configured, so that account mail is sent to a real server."""
    _refresh()
    return _providers.has_provider(CHANNEL)


class AccountMailBackend(BaseEmailBackend):
    """Django e-mail backend that sends through Tocsin's e-mail providers."""

    def send_messages(self, email_messages: Sequence[EmailMessage]) -> int:
        """Send each message to each recipient and return the number of messages sent.

        If every provider fails, raises the last provider's Temporary, Permanent or OutcomeUnknown.
        """
        _refresh()
        for message in email_messages:
            for address in message.recipients():
                _send(message, address)
        return len(email_messages)


def _send(message: EmailMessage, address: str) -> None:
    rendered = Rendered(str(message.subject), str(message.body), _html(message))
    providers = _providers.providers_for(CHANNEL, address)
    if not providers:
        SandboxMessage.objects.create(
            delivery=ids.uuid7(), channel=CHANNEL, address=address, content=rendered.content(), at=clock.now()
        )
        return
    _send_with_failover(rendered, address, providers)


def _send_with_failover(rendered: Rendered, address: str, providers: Sequence[ActiveProvider]) -> None:
    key = str(ids.uuid7())
    failure: Exception | None = None
    for provider in providers:
        try:
            provider.sender.send(rendered, CHANNEL, address, key)
        except (Temporary, Permanent, OutcomeUnknown) as error:
            failure = error
        else:
            return
    assert failure is not None
    raise failure


def _html(message: EmailMessage) -> str:
    if not isinstance(message, EmailMultiAlternatives):
        return ""
    return next((str(content) for content, kind in message.alternatives if kind == "text/html"), "")


def _refresh() -> None:
    with database.transaction() as connection:
        _providers.refresh(connection)
