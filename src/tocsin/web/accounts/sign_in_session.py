"""How a session began: by which provider, until when it lasts, and what "Signed-in devices" shows of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any

from allauth.mfa.models import Authenticator
from django.contrib.auth import update_session_auth_hash
from django.http import HttpRequest

from tocsin.core.config import settings_store
from tocsin.identity.models import BrowserSession
from tocsin.people import sessions
from tocsin.people.models import User
from tocsin.web.accounts.session_store import SIGNED_IN_AT, stored_key
from tocsin.web.http.request import address_of, moment_of

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
    sessions.end_all(account)
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
