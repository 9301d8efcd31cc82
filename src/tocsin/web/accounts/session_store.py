"""Stores sessions under a hash of their key, so that a copy of the table cannot be used to sign in."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any

from allauth.mfa.models import Authenticator
from django.contrib import messages
from django.contrib.auth import update_session_auth_hash
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.tokens import PasswordResetTokenGenerator
from django.contrib.sessions.backends import db
from django.contrib.sessions.base_session import AbstractBaseSession
from django.contrib.sessions.models import Session
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_POST, require_safe

from tocsin.access.audit import AuditActor
from tocsin.core.config import settings_store
from tocsin.core.runtime import clock
from tocsin.identity import commands
from tocsin.identity.models import BrowserSession
from tocsin.people import sign_in_rules
from tocsin.people.models import User
from tocsin.people.sign_in_rules import end_all, may_use_password
from tocsin.web.http.middleware import MACHINE_PATHS
from tocsin.web.http.request import SignedInRequest, address_of, moment_of, render_view
from tocsin.web.push import device_name

#: Key of the moment of the sign-in.
SIGNED_IN_AT = "signed_in_at"

#: The width of the column. A session key has no more entropy than that many hex digits.
_LENGTH = 40


def stored_key(session_key: str) -> str:
    """Return the primary key of the session with the cookie value `session_key`."""
    return hashlib.sha256(session_key.encode()).hexdigest()[:_LENGTH]


class SessionStore(db.SessionStore):
    """Django's database session store. The cookie contains the key; the table contains its hash."""

    def load(self) -> dict[str, Any]:
        return self._decode_row(self._rows().first())

    async def aload(self) -> dict[str, Any]:
        return self._decode_row(await self._rows().afirst())

    def exists(self, session_key: str) -> bool:
        return super().exists(stored_key(session_key))

    async def aexists(self, session_key: str) -> bool:
        return await super().aexists(stored_key(session_key))

    def create_model_instance(self, data: dict[str, Any]) -> AbstractBaseSession:
        return _with_hashed_key(super().create_model_instance(data))

    async def acreate_model_instance(self, data: dict[str, Any]) -> AbstractBaseSession:
        return _with_hashed_key(await super().acreate_model_instance(data))

    def get_expiry_date(self, **kwargs: Any) -> datetime:
        """Return when the session ends: its lifetime counts from the sign-in, not from the last change."""
        signed_in_at = self.get(SIGNED_IN_AT)
        if signed_in_at is None:
            return super().get_expiry_date(**kwargs)
        return datetime.fromisoformat(signed_in_at) + commands.lifetime()

    def get_expiry_age(self, **kwargs: Any) -> int:
        if self.get(SIGNED_IN_AT) is None:
            return super().get_expiry_age(**kwargs)
        return int((self.get_expiry_date() - clock.now()).total_seconds())

    def cycle_key(self) -> None:
        """Keep what "Signed-in devices" shows of the session under its new key."""
        browser = BrowserSession.objects.filter(pk=stored_key(self.session_key or "")).first()
        super().cycle_key()
        if browser is not None:
            browser.session_key = stored_key(self.session_key or "")
            browser.save(force_insert=True)

    def delete(self, session_key: str | None = None) -> None:
        if key := session_key or self.session_key:
            super().delete(stored_key(key))
            BrowserSession.objects.filter(pk=stored_key(key)).delete()

    async def adelete(self, session_key: str | None = None) -> None:
        if key := session_key or self.session_key:
            await super().adelete(stored_key(key))

    def _rows(self) -> QuerySet[Session]:
        return Session.objects.filter(session_key=stored_key(self.session_key or ""), expire_date__gt=clock.now())

    def _decode_row(self, row: Session | None) -> dict[str, Any]:
        if row is None:
            # As in Django, an unknown key is never adopted (session fixation).
            self._session_key = None
            return {}
        return dict(self.decode(row.session_data))


def _with_hashed_key(row: AbstractBaseSession) -> AbstractBaseSession:
    row.session_key = stored_key(row.session_key)
    return row


# ---------- sign in session
# How a session began: by which provider, until when it lasts, and what "Signed-in devices" shows of it.

_SOURCE = "sign_in_source"
_NEEDS_FACTOR = "needs_second_factor"
_SEEN_AT = "seen_at"

#: How often a request updates when the session was last used.
_SEEN_EVERY = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class SignInSource:
    """The identity provider of a sign-in, and the claims that decided."""

    provider_id: int
    subject: str
    sid: str = ""
    claims: dict[str, Any] = field(default_factory=dict)


def remember_source(request: HttpRequest, source: SignInSource) -> None:
    """Store the source in the session, until the stages of the sign-in have passed."""
    request.session[_SOURCE] = asdict(source)


def begin_session(request: HttpRequest, user: User) -> SignInSource | None:
    """Limit the new session of `user` to its lifetime, and list it among the signed-in devices. Return its source; None
    for a password or passkey."""
    now, stored = moment_of(request), request.session.pop(_SOURCE, None)
    source = SignInSource(**stored) if stored else None
    request.session.set_expiry(None)
    request.session[SIGNED_IN_AT] = now.isoformat()
    request.session[_NEEDS_FACTOR] = source is None and is_second_factor_missing(user)
    if request.session.session_key is None:
        request.session.create()
    BrowserSession.objects.update_or_create(
        session_key=stored_key(request.session.session_key or ""),
        defaults={
            "user": user,
            "provider_id": source.provider_id if source else None,
            "subject": source.subject if source else "",
            "sid": source.sid if source else "",
            "address": address_of(request),
            "user_agent": request.headers.get("User-Agent", "")[:300],
            "created_at": now,
            "seen_at": now,
        },
    )
    return source


def is_second_factor_missing(user: User) -> bool:
    """Return whether `user` must have a second factor by the setting `require_mfa`, and has none."""
    if user.role not in settings_store.get(settings_store.REQUIRE_MFA):
        return False
    factors = (Authenticator.Type.TOTP, Authenticator.Type.WEBAUTHN)
    return not Authenticator.objects.filter(user=user, type__in=factors).exists()


def must_add_factor(request: HttpRequest) -> bool:
    """Return whether the session is only for adding a second factor, after a sign-in with a password."""
    if not request.session.get(_NEEDS_FACTOR):
        return False
    assert isinstance(request.user, User)
    if is_second_factor_missing(request.user):
        return True
    del request.session[_NEEDS_FACTOR]
    return False


def end_other_sessions(request: HttpRequest, user: User, **_kwargs: Any) -> None:
    """Signal handler for the removal of one of the user's second factors: end the user's other sessions, and have this
    one add a factor again if one is required."""
    account = User.objects.get(pk=user.pk)
    sign_in_rules.end_all(account)
    update_session_auth_hash(request, account)
    request.session[_NEEDS_FACTOR] = is_second_factor_missing(account)


def note_use(request: HttpRequest) -> None:
    """Update when the session was last used, at most once an hour."""
    now = moment_of(request)
    seen_at = request.session.get(_SEEN_AT)
    if seen_at is None or now - datetime.fromisoformat(seen_at) >= _SEEN_EVERY:
        request.session[_SEEN_AT] = now.isoformat()
        key = stored_key(request.session.session_key or "")
        BrowserSession.objects.filter(pk=key).update(seen_at=now, address=address_of(request))


class ResetTokenGenerator(PasswordResetTokenGenerator):
    """Django's token, which a new password or e-mail address invalidates. A new session stamp invalidates it too."""

    def check_token(self, user: AbstractBaseUser | None, token: str | None) -> bool:
        """Return whether the token is valid, and its user may have a password."""
        return isinstance(user, User) and may_use_password(user) and super().check_token(user, token)

    def _make_hash_value(self, user: User, timestamp: int) -> str:
        return f"{super()._make_hash_value(user, timestamp)}{user.session_stamp}"


# ---------- session middleware
# Notes when a session was last used, and leads users who need a second factor to the page where they add one.

#: What can be done before a second factor is added: adding one, and signing out.
_ALLOWED = ("/account/", "/service-worker.js", "/offline/")


class SignedInMiddleware:
    """Follows Django's middlewares of sessions and authentication."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        # A token of the API has no session, and is not asked for a user here.
        if not request.session.get(SIGNED_IN_AT) or not request.user.is_authenticated:
            return self.get_response(request)
        note_use(request)
        path = request.path_info
        if path.startswith(_ALLOWED) or not must_add_factor(request):
            return self.get_response(request)
        if path.startswith(MACHINE_PATHS) or request.method != "GET":
            return HttpResponse(status=403)
        messages.warning(request, _("Your role requires a second factor. Add an authenticator app or a passkey."))
        return redirect("mfa_index")


# ---------- browser sessions


@require_safe
def browser_sessions(request: SignedInRequest) -> HttpResponse:
    """Render the user's sessions, the last used first."""
    current = stored_key(request.session.session_key or "")
    rows = [
        (row, device_name(row.user_agent), row.session_key == current)
        for row in commands.active_sessions(request.user, request.now)
    ]
    return render_view(request, "me/sign_ins.html", {"rows": rows})


@require_POST
def end_session(request: SignedInRequest) -> HttpResponse:
    rows = commands.active_sessions(request.user, request.now).filter(pk=request.POST.get("session", ""))
    if commands.end(rows):
        _record(request, 1)
        messages.success(request, _("Signed out there."))
    return redirect("browser_sessions")


@require_POST
def end_all_sessions(request: SignedInRequest) -> HttpResponse:
    """Sign the user out everywhere else: sessions that are not listed end too."""
    current = stored_key(request.session.session_key or "")
    count = commands.end(commands.active_sessions(request.user, request.now).exclude(pk=current))
    end_all(request.user)
    update_session_auth_hash(request, request.user)
    _record(request, count)
    text = ngettext("Signed out on %(count)s other device.", "Signed out on %(count)s other devices.", count)
    messages.success(request, text % {"count": count})
    return redirect("browser_sessions")


def _record(request: SignedInRequest, count: int) -> None:
    actor = AuditActor.from_user(request.user, "web", address_of(request), limits=None)
    commands.record_end(request.user, count, actor=actor, now=request.now)
